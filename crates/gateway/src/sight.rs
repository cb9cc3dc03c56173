//! What agents may see, remembered: a list asks policy once for each thing on it.
//!
//! This is the one place where decisions are kept and not only facts, and it is exact. A
//! decision about `list` is a function of four things: the policy set, the agent's facts,
//! the command as the catalog and the zones have it, and the context, which holds nothing
//! but the time. What is kept is kept under the first three, and it is not kept at all
//! where a policy that can match looks at the context ([`Slice::looks_at_context`]). So
//! nothing is invalidated: what changes has another key, and is decided anew.
//!
//! To be seen is no right either: what is called is decided when it is called.
//!
//! [`Slice::looks_at_context`]: authz::Slice::looks_at_context

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use authz::{AgentId, Principal, Target, Timestamp, decide};
use handlers::catalog::CommandInfo;
use moka::sync::Cache;

use crate::{policy::Active, zones::Known};

/// So many agents' views are kept in memory.
const MAX_AGENTS: u64 = 1_000;

/// What an agent that asks for no lists may see is forgotten.
const IDLE: Duration = Duration::from_mins(10);

/// So many decisions are kept of each agent; further ones are made when they are needed.
const MAX_DECISIONS: usize = 4_096;

/// What the agents that were active lately may see.
#[derive(Debug)]
pub(crate) struct Sights(Cache<AgentId, Arc<Sight>>);

/// What one agent may see by one policy set, in the zones that are known.
#[derive(Debug)]
pub(crate) struct Sight {
    policies: Arc<Active>,
    zones: Arc<Known>,
    principal: Arc<Principal>,
    decided: RwLock<HashMap<ByAddress, bool>>,
}

/// A command as the catalog has it: the same one is at the same place in memory, and while
/// this is held no other can be there.
#[derive(Clone, Debug)]
struct ByAddress(Arc<Target>);

impl PartialEq for ByAddress {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for ByAddress {}

impl std::hash::Hash for ByAddress {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}

impl Sights {
    pub(crate) fn new() -> Self {
        Self(
            Cache::builder()
                .max_capacity(MAX_AGENTS)
                .time_to_idle(IDLE)
                .build(),
        )
    }

    /// What an agent of these facts may see.
    pub(crate) fn of(
        &self,
        policies: &Arc<Active>,
        zones: &Arc<Known>,
        principal: &Arc<Principal>,
    ) -> Arc<Sight> {
        let agent = principal.agent().id;
        if let Some(sight) = self.0.get(&agent)
            && Arc::ptr_eq(&sight.policies, policies)
            && Arc::ptr_eq(&sight.zones, zones)
            && same(&sight.principal, principal)
        {
            return sight;
        }
        let sight = Arc::new(Sight {
            policies: Arc::clone(policies),
            zones: Arc::clone(zones),
            principal: Arc::clone(principal),
            decided: RwLock::default(),
        });
        self.0.insert(agent, Arc::clone(&sight));
        sight
    }
}

/// Whether policies are told the same of both. Facts are fetched every few seconds, and are
/// the same nearly always; their version is that of everything that the control plane knows.
fn same(one: &Arc<Principal>, other: &Arc<Principal>) -> bool {
    let (facts, others) = (one.facts(), other.facts());
    Arc::ptr_eq(one, other) || (facts.agent == others.agent && facts.grants == others.grants)
}

impl Sight {
    /// Whether the agent may see a command of the catalog.
    pub(crate) fn sees(&self, target: &Arc<Target>, now: Timestamp) -> bool {
        let target = ByAddress(Arc::clone(target));
        // What is kept is whole even if another thread panicked meanwhile.
        let known = self.decided.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(seen) = known.get(&target) {
            return *seen;
        }
        drop(known);
        let slices = self.policies.slices(&self.zones.place(&target.0));
        let seen = decide::may_list(slices.list(), &self.principal, now);
        if !slices.list().looks_at_context() {
            let mut known = self.decided.write().unwrap_or_else(PoisonError::into_inner);
            if known.len() < MAX_DECISIONS {
                known.insert(target, seen);
            }
        }
        seen
    }

    /// Which commands of a service the agent may see: their places in the list.
    pub(crate) fn seen(&self, commands: &[CommandInfo], now: Timestamp) -> Vec<usize> {
        let places = commands.iter().enumerate();
        places
            .filter(|(_, command)| self.sees(&command.target, now))
            .map(|(place, _)| place)
            .collect()
    }

    /// How many decisions are kept.
    #[cfg(test)]
    fn kept(&self) -> usize {
        self.decided.read().unwrap().len()
    }
}

#[cfg(test)]
mod tests;
