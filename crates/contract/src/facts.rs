//! What a gateway asks about an agent.

use authz::{AgentId, TokenId, time::Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use authz::Facts;

/// `POST /api/gateway/credentials`: whose credential has this digest?
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct CredentialQuery {
    /// SHA-256 of the credential in hexadecimal: the credential itself never travels on.
    pub digest: String,
}

/// The answer: a credential that is neither expired nor revoked.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Credential {
    /// Whose it is.
    pub agent: AgentId,
    /// Names it.
    pub token: TokenId,
    /// Not from this instant on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
}

/// `POST /api/gateway/grants/{id}/spend`: use up a grant for one use.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct SpendGrant {
    /// The decision that rests on it.
    pub decision: authz::DecisionId,
}

/// `GET /api/agent/{id}/mcp-permissions`: the shape of the system that we replace.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct McpPermissions {
    /// `success`.
    pub status: String,
    /// As asked.
    pub agent_id: String,
    /// Its name.
    pub agent_name: String,
    /// Standing access and services that a live grant covers whole.
    pub allowed_mcps: Vec<String>,
}
