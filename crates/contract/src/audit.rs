//! The journal on its way to the orchestrator, and the audit trail that it becomes there.

use authz::{AgentId, CommandKey, time::Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// `POST /api/gateway/journal`: lines of one gateway's journal, in order, each exactly
/// as on its disk (without the line feed). Sent at least once; stored once.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ShipJournal {
    /// The gateway.
    pub gateway: String,
    /// The lines.
    pub lines: Vec<JournalLine>,
}

/// One line on its way.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct JournalLine {
    /// Its place in the gateway's chain, from 1.
    pub sequence: i64,
    /// Its text, which the hashes cover.
    pub text: String,
}

/// The answer to [`ShipJournal`].
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct JournalStored {
    /// Everything up to here is stored.
    pub through: i64,
}

/// The newest line that the orchestrator has of one gateway's journal: what is cut off a
/// journal on its own disk is still known here. `GET /api/audit/journals` lists them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JournalHead {
    /// The gateway.
    pub gateway: String,
    /// The line's place in the gateway's chain, from 1.
    pub sequence: i64,
    /// Its hash, in hexadecimal.
    pub hash: String,
}

/// The fields of a journal line that readers may rely on. A line is this as JSON, then
/// `"hash"`: SHA-256 in hexadecimal of the line's text without its `hash` member, where
/// `previous` is the hash of the line before (64 zeros for the first).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JournalEntry {
    /// Its place in the gateway's chain, from 1.
    pub sequence: i64,
    /// The hash of the line before.
    pub previous: String,
    /// When.
    pub at: Timestamp,
    /// The gateway.
    pub gateway: String,
    /// `intent`, `outcome`, `refusal` or `start`.
    pub kind: String,
    /// The decision that the line belongs to; a `start` has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<String>,
    /// Who.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentId>,
    /// Their name then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_name: Option<String>,
    /// What.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<CommandKey>,
    /// Everything else: policies, policy set, grant, approval, arguments (redacted),
    /// digest, status, error, duration; and, where a shadow policy set would have decided
    /// otherwise, `shadow` with its `version`, `decision` and `policies`.
    #[serde(flatten)]
    pub details: serde_json::Map<String, Value>,
}

/// One line of the audit trail: `GET /api/audit?after=&limit=&agent=&command=`.
/// Verdicts, logins and changes by people stand beside the gateways' decisions.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AuditEntry {
    /// Its place in the orchestrator's trail.
    pub id: i64,
    /// When it happened.
    pub at: Timestamp,
    /// `gateway` or `orchestrator`.
    pub source: String,
    /// The gateway, for its journal's lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// `intent`, `outcome`, `refusal`, `approval_opened`, `approved`, `rejected`, `revoked`, …
    pub kind: String,
    /// The agent concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentId>,
    /// The person who acted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The command concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// The whole line or event.
    pub entry: Value,
}
