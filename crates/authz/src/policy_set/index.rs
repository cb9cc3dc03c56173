//! The index: which policies can matter, by action, resource and principal.
//!
//! Cedar evaluates every policy of the set that it is given, about a microsecond
//! each. A policy whose scope is certainly false can neither decide nor fail, so
//! leaving it out changes nothing: not the decision, not the reasons, not the errors.
//! When that is not certain, the policy stays in.

use std::collections::HashMap;

use cedar_policy::{
    ActionConstraint, Effect, EntityTypeName, EntityUid, Policy, PolicySet, PrincipalConstraint,
    ResourceConstraint, Schema,
};

use super::Read;
use crate::{
    command::CommandKey,
    entities::{self, Malformed, TYPES, malformed},
    session::Parts,
};

/// What the gateway and the orchestrator ask about, with the types of who acts on what.
pub(crate) fn actions() -> [(
    &'static str,
    &'static EntityTypeName,
    &'static EntityTypeName,
); 12] {
    let types = &*TYPES;
    [
        ("read", &types.agent, &types.command),
        ("write", &types.agent, &types.command),
        ("destroy", &types.agent, &types.command),
        ("list", &types.agent, &types.command),
        ("escalate", &types.agent, &types.command),
        ("approve", &types.user, &types.escalation),
        ("reject", &types.user, &types.escalation),
        ("revoke", &types.user, &types.agent),
        ("view", &types.user, &types.control_plane),
        ("manageAgents", &types.user, &types.control_plane),
        ("manageUsers", &types.user, &types.control_plane),
        ("managePolicies", &types.user, &types.control_plane),
    ]
}

/// All policies, and where to find those that can matter.
#[derive(Debug)]
pub(super) struct Index {
    policies: Vec<Policy>,
    /// The same without their scopes, for where these match for certain.
    conditions: Vec<Policy>,
    by_action: HashMap<EntityUid, ByResource>,
}

/// The policies that can match one action, as positions.
#[derive(Debug, Default)]
struct ByResource {
    /// Whatever the resource.
    any: ByPrincipal,
    /// `resource == this`.
    equal: HashMap<EntityUid, ByPrincipal>,
    /// `resource in this`.
    within: HashMap<EntityUid, ByPrincipal>,
}

/// Some of them, by who must act.
#[derive(Debug, Default)]
struct ByPrincipal {
    /// Whoever it is.
    any: Vec<usize>,
    /// `principal == this`, or `principal in this`.
    of: HashMap<EntityUid, Vec<usize>>,
    /// Whether one of them forbids and looks at grants.
    has_walls: bool,
    /// Whether one of them permits, looks at grants, and may do so without any.
    has_loose_permits: bool,
    /// What one of them may look at of the session.
    looks_at_session: Parts,
    /// Whether one of them looks at the context.
    looks_at_context: bool,
}

/// What matters of a policy to those who decide.
#[derive(Debug)]
struct Kind {
    is_wall: bool,
    is_loose: bool,
    looks_at_session: Parts,
    looks_at_context: bool,
}

impl Index {
    /// Indexes by the actions of the schema, as the schema groups them.
    pub(super) fn new<'a>(
        policies: Vec<Read>,
        schema: &Schema,
        typed: impl Iterator<Item = &'a CommandKey>,
    ) -> Result<Self, Malformed> {
        let groups = schema.action_entities().map_err(malformed)?;
        let conditions = policies
            .iter()
            .map(|read| read.syntax.without_scope(read.policy.id()))
            .collect::<Result<_, _>>()?;
        let kinds: Vec<Kind> = policies
            .iter()
            .map(|read| {
                let forbids = read.policy.effect() == Effect::Forbid;
                let looks = read.syntax.looks_at_grants();
                Kind {
                    is_wall: looks && forbids,
                    is_loose: looks && !forbids && !read.syntax.needs_own_grant(),
                    looks_at_session: read.syntax.looks_at_session(),
                    looks_at_context: read.syntax.looks_at_context(),
                }
            })
            .collect();
        let policies: Vec<Policy> = policies.into_iter().map(|read| read.policy).collect();
        let scopes: Vec<_> = policies
            .iter()
            .map(|policy| {
                (
                    policy.principal_constraint(),
                    policy.action_constraint(),
                    policy.resource_constraint(),
                )
            })
            .collect();
        let mut by_action = HashMap::new();
        let typed = typed.map(|key| (key.to_string(), &TYPES.agent, &TYPES.command));
        let all = actions().map(|(name, who, what)| (name.to_owned(), who, what));
        for (name, principal_type, resource_type) in all.into_iter().chain(typed) {
            let action = entities::action_uid(&name);
            let ancestors: Vec<&EntityUid> =
                groups.ancestors(&action).into_iter().flatten().collect();
            let mut index = ByResource::default();
            for ((at, (principal, acts, resource)), kind) in scopes.iter().enumerate().zip(&kinds) {
                let acts = match acts {
                    ActionConstraint::Any => true,
                    ActionConstraint::Eq(other) => *other == action,
                    ActionConstraint::In(others) => others
                        .iter()
                        .any(|other| *other == action || ancestors.contains(&other)),
                };
                if acts && let Some(place) = index.place(resource, resource_type) {
                    place.add(at, principal, principal_type);
                    place.has_walls |= kind.is_wall;
                    place.has_loose_permits |= kind.is_loose;
                    place.looks_at_session = place.looks_at_session.and(kind.looks_at_session);
                    place.looks_at_context |= kind.looks_at_context;
                }
            }
            by_action.insert(action, index);
        }
        Ok(Self {
            policies,
            conditions,
            by_action,
        })
    }

    /// The policies that can match `action` on a resource that is `resource` and lies
    /// in `ancestors` and nothing else.
    pub(super) fn candidates<'a>(
        &'a self,
        action: &EntityUid,
        resource: &EntityUid,
        ancestors: &[EntityUid],
    ) -> Result<Candidates<'a>, Malformed> {
        let Some(index) = self.by_action.get(action) else {
            return Err(Malformed::new(format!("the schema has no action {action}")));
        };
        let equal = index.equal.get(resource);
        let within = ancestors
            .iter()
            .chain([resource])
            .filter_map(|entity| index.within.get(entity));
        Ok(Candidates {
            index: self,
            parts: [&index.any]
                .into_iter()
                .chain(equal)
                .chain(within)
                .collect(),
        })
    }

    /// Every policy that can match `action`, whatever the resource and whoever acts.
    pub(super) fn all(&self, action: &EntityUid) -> Result<PolicySet, Malformed> {
        let parts = self.by_action.get(action).map(|index| {
            let rest = index.equal.values().chain(index.within.values());
            [&index.any].into_iter().chain(rest).collect()
        });
        Candidates {
            index: self,
            parts: parts.unwrap_or_default(),
        }
        .all()
    }

    /// Every policy.
    pub(super) fn policies(&self) -> &[Policy] {
        &self.policies
    }
}

/// The policies that can match one action on one resource.
#[derive(Debug)]
pub(crate) struct Candidates<'a> {
    index: &'a Index,
    parts: Vec<&'a ByPrincipal>,
}

impl Candidates<'_> {
    /// How many they are.
    pub(crate) fn len(&self) -> usize {
        self.parts.iter().map(|part| part.positions().count()).sum()
    }

    /// Whether some of them are about this principal, or about those in it, only.
    pub(crate) fn mention(&self, principal: &EntityUid) -> bool {
        self.parts
            .iter()
            .any(|part| part.of.contains_key(principal))
    }

    /// Those that can match somebody who is one of `principals` and in all the others,
    /// and nowhere else: their scopes match, so they are left out.
    pub(crate) fn of(&self, principals: &[EntityUid]) -> Result<PolicySet, Malformed> {
        let positions = self.parts.iter().flat_map(|part| {
            let of = principals.iter().filter_map(|who| part.of.get(who));
            part.any.iter().chain(of.flatten())
        });
        collect(&self.index.conditions, positions)
    }

    /// All of them, whoever acts.
    pub(crate) fn all(&self) -> Result<PolicySet, Malformed> {
        collect(&self.index.policies, self.positions())
    }

    /// Whether one of them may forbid and looks at grants, whoever acts.
    pub(crate) fn have_walls(&self) -> bool {
        self.parts.iter().any(|part| part.has_walls)
    }

    /// Whether one of them may permit because of what grants there are not, whoever acts.
    pub(crate) fn have_loose_permits(&self) -> bool {
        self.parts.iter().any(|part| part.has_loose_permits)
    }

    /// What one of them may look at of the session, whoever acts.
    pub(crate) fn look_at_session(&self) -> Parts {
        let looks = self.parts.iter().map(|part| part.looks_at_session);
        looks.fold(Parts::NONE, Parts::and)
    }

    /// Whether one of them looks at the context, whoever acts.
    pub(crate) fn look_at_context(&self) -> bool {
        self.parts.iter().any(|part| part.looks_at_context)
    }

    fn positions(&self) -> impl Iterator<Item = &usize> {
        self.parts.iter().flat_map(|part| part.positions())
    }
}

fn collect<'a>(
    policies: &[Policy],
    positions: impl Iterator<Item = &'a usize>,
) -> Result<PolicySet, Malformed> {
    let mut set = PolicySet::new();
    for at in positions {
        if let Some(policy) = policies.get(*at) {
            set.add(policy.clone()).map_err(malformed)?;
        }
    }
    Ok(set)
}

impl ByResource {
    /// Where a policy about such a resource belongs, if it can match one of this kind.
    fn place(
        &mut self,
        scope: &ResourceConstraint,
        kind: &EntityTypeName,
    ) -> Option<&mut ByPrincipal> {
        match scope {
            ResourceConstraint::Any => Some(&mut self.any),
            ResourceConstraint::Is(other) => (other == kind).then_some(&mut self.any),
            ResourceConstraint::IsIn(other, entity) => {
                (other == kind).then(|| self.within.entry(entity.clone()).or_default())
            }
            ResourceConstraint::In(entity) => Some(self.within.entry(entity.clone()).or_default()),
            ResourceConstraint::Eq(entity) => Some(self.equal.entry(entity.clone()).or_default()),
        }
    }
}

impl ByPrincipal {
    fn add(&mut self, at: usize, scope: &PrincipalConstraint, kind: &EntityTypeName) {
        match scope {
            PrincipalConstraint::Any => self.any.push(at),
            PrincipalConstraint::Is(other) if other == kind => self.any.push(at),
            PrincipalConstraint::In(who) => self.of.entry(who.clone()).or_default().push(at),
            PrincipalConstraint::IsIn(other, who) if other == kind => {
                self.of.entry(who.clone()).or_default().push(at);
            }
            PrincipalConstraint::Eq(who) if who.type_name() == kind => {
                self.of.entry(who.clone()).or_default().push(at);
            }
            PrincipalConstraint::Is(_)
            | PrincipalConstraint::IsIn(..)
            | PrincipalConstraint::Eq(_) => {}
        }
    }

    fn positions(&self) -> impl Iterator<Item = &usize> {
        self.any.iter().chain(self.of.values().flatten())
    }
}
