//! Slices: the few policies that can matter to one command.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use cedar_policy::EntityUid;

use crate::{
    command::Target,
    entities::{self, Malformed},
    internals::{Complete, Shared},
    policy_set::{Candidates, PolicySet},
    session::Parts,
};

/// What a decision about one command under one action evaluates: only the policies
/// whose scope can match, and the command's own entities, built once.
///
/// It gives the same decision, reasons and errors as the whole set. Of its policies,
/// those about a principal who is not the agent, nor any of its teams and roles, are
/// left out of the decision as well; what is left for agents of the same teams and
/// roles is found once and kept.
#[derive(Debug)]
pub struct Slice {
    target: Arc<Target>,
    action: Action,
    policies: Arc<PolicySet>,
    /// An error refuses whatever is asked.
    cedar: Result<Prepared, Malformed>,
}

/// The Cedar side of a slice.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each says something else about its policies, and is asked for by itself"
)]
pub(crate) struct Prepared {
    policies: Policies,
    /// The command's service and zones.
    ancestors: Vec<EntityUid>,
    pub(crate) action: EntityUid,
    pub(crate) resource: EntityUid,
    /// The command, its service, and the action with its groups.
    pub(crate) entities: Complete,
    /// Whether one of the policies forbids and looks at grants.
    has_walls: bool,
    /// Whether one of them permits, looks at grants, and may do so without any.
    has_loose_permits: bool,
    /// Whether the schema gives the action's context a session.
    declares_session: bool,
    /// What one of the policies may look at of it.
    looks_at_session: Parts,
    /// Whether one of them looks at the context.
    looks_at_context: bool,
}

/// The policies of a slice.
#[derive(Debug)]
enum Policies {
    /// Those that can match, by who acts.
    Candidates {
        /// How many, whoever acts.
        count: usize,
        /// Those about nobody in particular.
        common: Arc<cedar_policy::PolicySet>,
        /// Those about nobody in particular, together with those about certain teams,
        /// roles and agents: what agents who are in just these need.
        narrowed: RwLock<HashMap<Vec<EntityUid>, Arc<cedar_policy::PolicySet>>>,
    },
    /// Every policy of the set.
    Whole(Arc<cedar_policy::PolicySet>),
}

/// How many combinations of teams, roles and agents a slice remembers; beyond that it
/// begins anew.
const MAX_NARROWED: usize = 1_024;

/// The Cedar actions about a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// To send it: the action is the command's risk (`read`, `write`, `destroy`).
    Invoke,
    /// To see that it exists.
    List,
    /// To ask people for it.
    Escalate,
}

impl Action {
    /// The name of the Cedar action, for a command.
    fn name(self, target: &Target) -> &'static str {
        match self {
            Self::Invoke => target.risk.as_str(),
            Self::List => "list",
            Self::Escalate => "escalate",
        }
    }
}

impl Slice {
    /// Picks the policies that can match `action` on `target`. Costs one look into
    /// the index; keep the result for as long as the policy set lives.
    #[must_use]
    pub fn new(policies: &Arc<PolicySet>, target: &Arc<Target>, action: Action) -> Self {
        let cedar = prepare(policies, target, action);
        Self {
            target: Arc::clone(target),
            action,
            policies: Arc::clone(policies),
            cedar,
        }
    }

    /// The command.
    #[must_use]
    pub fn target(&self) -> &Arc<Target> {
        &self.target
    }

    /// The policy set that it is a slice of.
    #[must_use]
    pub fn policy_set(&self) -> &Arc<PolicySet> {
        &self.policies
    }

    /// The action.
    #[must_use]
    pub fn action(&self) -> Action {
        self.action
    }

    /// How many policies can match, whoever the agent is.
    #[must_use]
    pub fn len(&self) -> usize {
        self.cedar
            .as_ref()
            .map_or(0, |cedar| match &cedar.policies {
                Policies::Candidates { count, .. } => *count,
                Policies::Whole(policies) => policies.num_of_policies(),
            })
    }

    /// Whether no policy can match; then the answer is no.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn cedar(&self) -> Result<&Prepared, Malformed> {
        self.cedar.as_ref().map_err(Clone::clone)
    }

    /// Whether what these policies permit does not rest on any grant: one of them does not
    /// look at grants, and neither does any that forbids. False where that is not certain.
    pub(crate) fn permits_without_grants(&self, permitting: &[String]) -> bool {
        self.cedar.as_ref().is_ok_and(|cedar| !cedar.has_walls)
            && permitting.iter().any(|id| {
                self.policies
                    .notes(id)
                    .is_some_and(|notes| !notes.forbids && !notes.looks_at_grants)
            })
    }

    /// Whether what these policies, and no others, permit would not be permitted without
    /// the grants for the command: each of them demands one, and no other could take their
    /// place. False where that is not certain.
    pub(crate) fn permits_only_with_grants(&self, permitting: &[String]) -> bool {
        self.cedar
            .as_ref()
            .is_ok_and(|cedar| !cedar.has_loose_permits)
            && permitting.iter().all(|id| {
                self.policies
                    .notes(id)
                    .is_some_and(|notes| !notes.forbids && notes.needs_own_grant)
            })
    }

    /// What the schema gives the context of this action of a session: all or nothing.
    pub(crate) fn declares_session(&self) -> Parts {
        match &self.cedar {
            Ok(cedar) if cedar.declares_session => Parts::ALL,
            _ => Parts::NONE,
        }
    }

    /// What a decision has to tell of the session: some policy may look at it.
    pub(crate) fn looks_at_session(&self) -> Parts {
        self.cedar
            .as_ref()
            .map_or(Parts::NONE, |cedar| cedar.looks_at_session)
    }

    /// Whether what these policies say may depend on anything but the agent and the command:
    /// on when, from where, and how the command is sent. Where none of them looks at the
    /// context it does not, because nothing else tells them of it, and Cedar's functions give
    /// the same for the same. True where that is not certain.
    #[must_use]
    pub fn looks_at_context(&self) -> bool {
        self.cedar
            .as_ref()
            .map_or(true, |cedar| cedar.looks_at_context)
    }

    /// What a decision about this agent evaluates; `about_agent` holds its entity.
    pub(crate) fn policies_for(
        &self,
        agent: &EntityUid,
        about_agent: &Shared,
    ) -> Result<Arc<cedar_policy::PolicySet>, Malformed> {
        let cedar = self.cedar()?;
        let (common, narrowed) = match &cedar.policies {
            Policies::Whole(policies) => return Ok(Arc::clone(policies)),
            Policies::Candidates {
                common, narrowed, ..
            } => (common, narrowed),
        };
        let candidates = cedar.candidates(&self.policies)?;
        let mut mentioned: Vec<EntityUid> = about_agent
            .ancestors()
            .chain([agent.clone()])
            .filter(|who| candidates.mention(who))
            .collect();
        if mentioned.is_empty() {
            return Ok(Arc::clone(common));
        }
        mentioned.sort();
        // What is kept is whole even if another thread panicked meanwhile.
        let known = narrowed.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(policies) = known.get(&mentioned) {
            return Ok(Arc::clone(policies));
        }
        drop(known);
        let policies = Arc::new(candidates.of(&mentioned)?);
        let mut known = narrowed.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_NARROWED {
            known.clear();
        }
        known.insert(mentioned, Arc::clone(&policies));
        Ok(policies)
    }

    /// Every policy that can match, whoever acts.
    pub(crate) fn for_anyone(&self) -> Result<Arc<cedar_policy::PolicySet>, Malformed> {
        let cedar = self.cedar()?;
        match &cedar.policies {
            Policies::Whole(policies) => Ok(Arc::clone(policies)),
            Policies::Candidates { .. } => cedar.candidates(&self.policies)?.all().map(Arc::new),
        }
    }

    /// The policies that can match, whoever the agent is; none where it cannot be judged.
    #[must_use]
    pub fn ids(&self) -> Vec<String> {
        let policies = self.for_anyone();
        let policies = policies.iter().flat_map(|policies| policies.policies());
        policies.map(|policy| policy.id().to_string()).collect()
    }

    /// Whether another slice has the same policies about the same command, and so decides
    /// whatever is asked as this one does.
    #[must_use]
    pub fn same(&self, other: &Self) -> bool {
        let typed = |slice: &Self| slice.policies.typed(&slice.target.key).cloned();
        let (Ok(own), Ok(others)) = (self.cedar(), other.cedar()) else {
            return false;
        };
        self.action == other.action
            && self.target == other.target
            && own.action == others.action
            && own.entities.same(&others.entities)
            && own.looks_at_session == others.looks_at_session
            && typed(self) == typed(other)
            && match (self.for_anyone(), other.for_anyone()) {
                (Ok(own), Ok(others)) => own == others,
                _ => false,
            }
    }

    /// The same, but with every policy of the set: the same answers, later. For
    /// benchmarks and fuzzing, which compare the two.
    #[must_use]
    pub fn whole(policies: &Arc<PolicySet>, target: &Arc<Target>, action: Action) -> Self {
        let mut slice = Self::new(policies, target, action);
        slice.cedar = slice.cedar.and_then(|cedar| {
            Ok(Prepared {
                policies: Policies::Whole(policies.whole()?.into()),
                ..cedar
            })
        });
        slice
    }
}

impl Prepared {
    fn candidates<'a>(&self, policies: &'a PolicySet) -> Result<Candidates<'a>, Malformed> {
        policies.candidates(&self.action, &self.resource, &self.ancestors)
    }
}

fn prepare(policies: &PolicySet, target: &Target, action: Action) -> Result<Prepared, Malformed> {
    let typed = policies
        .typed(&target.key)
        .filter(|_| action == Action::Invoke);
    let name = match typed {
        None => action.name(target).to_owned(),
        Some(typed) if typed.risk == target.risk => target.key.to_string(),
        // Its policies were written for a command of another risk.
        Some(typed) => {
            return Err(Malformed::new(format!(
                "the schema declares the typed action of `{}` in `{}`, and the command's risk is `{}`",
                target.key, typed.risk, target.risk
            )));
        }
    };
    let declares_session = match typed {
        Some(typed) => typed.session,
        None => policies.declares_session(&name),
    };
    let action = entities::action_uid(&name);
    let resource = entities::command_uid(&target.key);
    let zones = target
        .zones
        .iter()
        .chain(&target.service.zones)
        .map(entities::zone_uid);
    let mut ancestors: Vec<EntityUid> = zones
        .chain([entities::service_uid(&target.service.name)])
        .collect();
    // A zone may be the command's and its service's: no policy is to be there twice.
    ancestors.sort();
    ancestors.dedup();
    let entities = Complete::new([
        entities::command(target)?,
        entities::service(&target.service)?,
        policies.action(&name)?.clone(),
    ])?;
    let candidates = policies.candidates(&action, &resource, &ancestors)?;
    Ok(Prepared {
        has_walls: candidates.have_walls(),
        has_loose_permits: candidates.have_loose_permits(),
        declares_session,
        // What the schema does not declare was not checked at load, and is not told.
        looks_at_session: if declares_session {
            candidates.look_at_session()
        } else {
            Parts::NONE
        },
        looks_at_context: candidates.look_at_context(),
        policies: Policies::Candidates {
            count: candidates.len(),
            common: candidates.of(&[])?.into(),
            narrowed: RwLock::default(),
        },
        ancestors,
        action,
        resource,
        entities,
    })
}

#[cfg(test)]
mod tests;
