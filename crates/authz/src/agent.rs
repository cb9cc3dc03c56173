//! Agents: who sends commands.

use std::{collections::BTreeSet, fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    command::Environment,
    id::{AgentId, AgentName, InvalidId, RoleName, ServiceName, TeamName, UserId},
    schema::{self, described},
};

/// What the orchestrator knows of one agent, apart from its grants and credentials.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Agent {
    /// Never reused.
    pub id: AgentId,
    /// Unique among agents.
    pub name: AgentName,
    /// The person who answers for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<UserId>,
    /// Teams that it belongs to.
    #[serde(default)]
    pub teams: BTreeSet<TeamName>,
    /// Roles that policies give access to.
    #[serde(default)]
    pub roles: BTreeSet<RoleName>,
    /// Where it runs; walls keep it there.
    #[serde(default)]
    pub env: Environment,
    /// How far it is trusted, from 0 (not at all); policies say what that means.
    #[serde(default = "default_trust")]
    pub trust: u8,
    /// A suspended agent may do nothing.
    #[serde(default)]
    pub suspended: bool,
    /// Services that it may use without asking.
    #[serde(default)]
    pub allowed_mcps: BTreeSet<ServiceName>,
}

/// Trust of a new agent: ordinary.
#[must_use]
pub const fn default_trust() -> u8 {
    1
}

/// How a caller names an agent: `X-Agent-Id` takes either.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AgentRef {
    /// By its id.
    Id(AgentId),
    /// By its registered name.
    Name(AgentName),
}

described! {
    AgentRef => schema::text(
        "An agent's id, a UUID, or its registered name.",
        "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
    );
}

impl FromStr for AgentRef {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse() {
            Ok(id) => Ok(Self::Id(id)),
            Err(_) => text.parse().map(Self::Name),
        }
    }
}

impl fmt::Display for AgentRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}
