//! Agents and their credentials, as people administer them.

use std::collections::BTreeSet;

use authz::{
    Agent, AgentName, Grant, RoleName, ServiceName, TeamName, TokenId, UserId,
    command::Environment, time::Timestamp,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `POST /api/agents`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateAgent {
    /// Unique.
    pub name: AgentName,
    /// The person who answers for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<UserId>,
    /// Teams.
    #[serde(default)]
    pub teams: BTreeSet<TeamName>,
    /// Roles.
    #[serde(default)]
    pub roles: BTreeSet<RoleName>,
    /// Where it runs.
    #[serde(default)]
    pub env: Environment,
    /// How far it is trusted.
    #[serde(default = "authz::agent::default_trust")]
    pub trust: u8,
    /// Services that it may use without asking.
    #[serde(default)]
    pub allowed_mcps: BTreeSet<ServiceName>,
}

/// `PATCH /api/agents/{id}`: what is absent stays as it is. Replacing `teams`, `roles` or
/// `allowed_mcps` whole needs `If-Match`; to add or remove one member there are routes of
/// their own.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeAgent {
    /// The person who answers for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<UserId>,
    /// All of its teams.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teams: Option<BTreeSet<TeamName>>,
    /// All of its roles.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roles: Option<BTreeSet<RoleName>>,
    /// Where it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<Environment>,
    /// How far it is trusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust: Option<u8>,
    /// Whether it is stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspended: Option<bool>,
    /// All services that it may use without asking.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_mcps: Option<BTreeSet<ServiceName>>,
}

/// `GET /api/agents/{id}`, by id or name.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AgentView {
    /// The agent.
    #[serde(flatten)]
    pub agent: Agent,
    /// When it was created.
    pub created: Timestamp,
    /// How often it was changed, from 1: `ETag` says it, `If-Match` asks for it.
    #[serde(default)]
    pub revision: i64,
    /// Its live grants, oldest first.
    pub grants: Vec<Grant>,
}

/// `POST /api/agents/{id}/suspend` and `POST /api/agents/{id}/resume`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Suspend {
    /// Why, for the audit trail.
    #[schema(max_length = 2000)]
    pub reason: String,
}

/// A set of an agent's, of which single members are added and removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Member {
    /// `…/allowed-services/{service}`: standing access.
    Service(ServiceName),
    /// `…/roles/{role}`.
    Role(RoleName),
    /// `…/teams/{team}`.
    Team(TeamName),
}

impl std::fmt::Display for Member {
    /// Its path below the agent's.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Service(service) => write!(f, "allowed-services/{service}"),
            Self::Role(role) => write!(f, "roles/{role}"),
            Self::Team(team) => write!(f, "teams/{team}"),
        }
    }
}

/// `POST /api/agents/{id}/tokens` and `POST /api/users/{id}/tokens`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateToken {
    /// What it is for.
    #[serde(default)]
    #[schema(max_length = 200)]
    pub label: String,
    /// How long it lives, at most ten years; absent: until revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub expires_in_seconds: Option<u64>,
}

/// The answer: the one time that the credential is shown.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct CreatedToken {
    /// The credential. Keep it; it cannot be shown again.
    pub token: String,
    /// About it.
    #[serde(flatten)]
    pub view: TokenView,
}

/// About a credential; never the credential.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TokenView {
    /// Names it.
    pub id: TokenId,
    /// What it is for.
    pub label: String,
    /// When it was made.
    pub created: Timestamp,
    /// Not from this instant on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// Revoked then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<Timestamp>,
    /// Last seen; accurate to a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used: Option<Timestamp>,
}

/// A live or past grant, as people see it: `GET /api/grants?agent=&all=`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct GrantView {
    /// The grant.
    #[serde(flatten)]
    pub grant: Grant,
    /// The agent's name.
    pub agent_name: AgentName,
    /// `live`, `expired`, `revoked` or `spent`.
    pub state: String,
}

/// `POST /api/grants/{id}/revoke`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Revoke {
    /// Why.
    #[serde(default)]
    #[schema(max_length = 2000)]
    pub reason: String,
}
