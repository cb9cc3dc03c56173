//! The index: which policies can matter, by action and resource.
//!
//! Cedar evaluates every policy of the set that it is given, about a microsecond
//! each. A policy whose scope is certainly false can neither decide nor fail, so
//! leaving it out changes nothing: not the decision, not the reasons, not the errors.
//! When that is not certain, the policy stays in.

use std::collections::HashMap;

use cedar_policy::{
    ActionConstraint, EntityTypeName, EntityUid, Policy, PolicySet, PrincipalConstraint,
    ResourceConstraint, Schema,
};

use crate::entities::{self, Malformed, TYPES, malformed};

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
    by_action: HashMap<EntityUid, ByResource>,
}

/// The policies that can match one action, as positions.
#[derive(Debug, Default)]
struct ByResource {
    /// Whatever the resource.
    any: Vec<usize>,
    /// `resource == this`.
    equal: HashMap<EntityUid, Vec<usize>>,
    /// `resource in this`.
    within: HashMap<EntityUid, Vec<usize>>,
}

impl Index {
    /// Indexes by the actions of the schema, as the schema groups them.
    pub(super) fn new(policies: Vec<Policy>, schema: &Schema) -> Result<Self, Malformed> {
        let groups = schema.action_entities().map_err(malformed)?;
        let mut by_action = HashMap::new();
        for (name, principal_type, resource_type) in actions() {
            let action = entities::action_uid(name);
            let ancestors: Vec<&EntityUid> =
                groups.ancestors(&action).into_iter().flatten().collect();
            let mut index = ByResource::default();
            for (at, policy) in policies.iter().enumerate() {
                let acts = match policy.action_constraint() {
                    ActionConstraint::Any => true,
                    ActionConstraint::Eq(other) => other == action,
                    ActionConstraint::In(others) => others
                        .iter()
                        .any(|other| *other == action || ancestors.contains(&other)),
                };
                let by_such = match policy.principal_constraint() {
                    PrincipalConstraint::Any | PrincipalConstraint::In(_) => true,
                    PrincipalConstraint::Eq(who) => who.type_name() == principal_type,
                    PrincipalConstraint::Is(kind) | PrincipalConstraint::IsIn(kind, _) => {
                        kind == *principal_type
                    }
                };
                if acts && by_such {
                    index.add(at, policy.resource_constraint(), resource_type);
                }
            }
            by_action.insert(action, index);
        }
        Ok(Self {
            policies,
            by_action,
        })
    }

    /// The policies that can match `action` on a resource that is `resource` and lies
    /// in `ancestors` and nothing else.
    pub(super) fn slice(
        &self,
        action: &EntityUid,
        resource: &EntityUid,
        ancestors: &[EntityUid],
    ) -> Result<PolicySet, Malformed> {
        let mut set = PolicySet::new();
        let Some(index) = self.by_action.get(action) else {
            return Err(Malformed(format!("the schema has no action {action}")));
        };
        let equal = index.equal.get(resource);
        let within = ancestors
            .iter()
            .chain([resource])
            .filter_map(|entity| index.within.get(entity));
        for at in index
            .any
            .iter()
            .chain(equal.into_iter().flatten())
            .chain(within.flatten())
        {
            if let Some(policy) = self.policies.get(*at) {
                set.add(policy.clone()).map_err(malformed)?;
            }
        }
        Ok(set)
    }

    /// Every policy that can match `action`, whatever the resource.
    pub(super) fn all(&self, action: &EntityUid) -> Result<PolicySet, Malformed> {
        let mut set = PolicySet::new();
        if let Some(index) = self.by_action.get(action) {
            let rest = index.equal.values().chain(index.within.values()).flatten();
            for at in index.any.iter().chain(rest) {
                if let Some(policy) = self.policies.get(*at) {
                    set.add(policy.clone()).map_err(malformed)?;
                }
            }
        }
        Ok(set)
    }

    /// Every policy.
    pub(super) fn policies(&self) -> &[Policy] {
        &self.policies
    }
}

impl ByResource {
    fn add(&mut self, at: usize, scope: ResourceConstraint, kind: &EntityTypeName) {
        match scope {
            ResourceConstraint::Any => self.any.push(at),
            ResourceConstraint::Is(other) if other == *kind => self.any.push(at),
            ResourceConstraint::IsIn(other, entity) if other == *kind => {
                self.within.entry(entity).or_default().push(at);
            }
            ResourceConstraint::In(entity) => self.within.entry(entity).or_default().push(at),
            ResourceConstraint::Eq(entity) => self.equal.entry(entity).or_default().push(at),
            ResourceConstraint::Is(_) | ResourceConstraint::IsIn(..) => {}
        }
    }
}
