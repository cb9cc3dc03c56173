//! Slices: the few policies that can matter to one command.

use std::sync::Arc;

use cedar_policy::{Entity, EntityUid};

use crate::{
    command::Target,
    entities::{self, Malformed},
    policy_set::PolicySet,
};

/// What a decision about one command under one action evaluates: only the policies
/// whose scope can match, and the command's own entities, built once.
///
/// It gives the same decision, reasons and errors as the whole set.
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
pub(crate) struct Prepared {
    pub(crate) policies: cedar_policy::PolicySet,
    pub(crate) action: EntityUid,
    pub(crate) resource: EntityUid,
    /// The command, its service, and the action with its groups.
    pub(crate) entities: [Entity; 3],
}

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

    /// How many policies it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.cedar
            .as_ref()
            .map_or(0, |cedar| cedar.policies.num_of_policies())
    }

    /// Whether no policy can match; then the answer is no.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn cedar(&self) -> Result<&Prepared, Malformed> {
        self.cedar.as_ref().map_err(Clone::clone)
    }

    /// The same, but with every policy of the set.
    #[cfg(test)]
    pub(crate) fn whole(policies: &Arc<PolicySet>, target: &Arc<Target>, action: Action) -> Self {
        let mut slice = Self::new(policies, target, action);
        slice.cedar.as_mut().unwrap().policies = policies.whole();
        slice
    }
}

fn prepare(policies: &PolicySet, target: &Target, action: Action) -> Result<Prepared, Malformed> {
    let name = action.name(target);
    let action = entities::action_uid(name);
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
    let entities = [
        entities::command(target)?,
        entities::service(&target.service)?,
        policies.action(name)?.clone(),
    ];
    Ok(Prepared {
        policies: policies.slice(&action, &resource, &ancestors)?,
        action,
        resource,
        entities,
    })
}
