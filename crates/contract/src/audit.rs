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
    /// Everything else. Of a command: its `risk`, `digest` and `arguments` (redacted; of too
    /// long ones `arguments_bytes` alone), `policies` and `policy_set`, and the `grant` that
    /// it used. Of the agent: the `facts` that the decision rested on
    /// ([`authz::facts::Basis`]), the `ip` that the call came from, the `session` as it was,
    /// and `identity`: by what the agent was known to be who it is. Of a refusal: `reason`,
    /// `outcome`, `approval` and what would be `permitted_by_approval`. Of an outcome:
    /// `status`, `error` and `duration_ms`. Where they apply: `decision_us`, which deciding
    /// took; whether the answer is `untrusted` content; how many limited calls before it are
    /// `unrecorded`; and, where a shadow policy set would have decided otherwise, `shadow`
    /// with its `version`, `decision` and `policies`.
    #[serde(flatten)]
    pub details: serde_json::Map<String, Value>,
}

/// One line of the audit trail: `GET /api/audit`.
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

/// Which lines of the audit trail: the query of `GET /api/audit?order=newest` and of
/// `GET /api/audit/export`. What is absent restricts nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AuditFilter {
    /// The agent's id or name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// A command: `coolify/list-servers`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// A service: all of its commands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The person who acted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// What kind of event: `intent`, `refusal`, `approved`, …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// What was decided (`permitted`, `refused`, `pending`, `rejected`), or how it ended
    /// (`success`, `error`, `unknown`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// One decision's id: its lines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<String>,
    /// Lines of one gateway's journal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// From when on, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Timestamp>,
    /// Before when, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// A text that the line holds, in any case of its ASCII letters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// How far the stored lines of one gateway's journal were checked:
/// `GET /api/audit/verification`; `POST` begins to check all of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Verification {
    /// The gateway.
    pub gateway: String,
    /// The newest line stored when the check began.
    pub stored: i64,
    /// Every line up to here is what the gateway wrote, in its order.
    pub verified: i64,
    /// Whether it still goes on.
    pub running: bool,
    /// The first line that is not, and what is wrong with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broken: Option<BrokenLine>,
    /// When the check began.
    pub began: Timestamp,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
}

/// Where a chain breaks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BrokenLine {
    /// The line's place in the gateway's chain, from 1.
    pub sequence: i64,
    /// What is wrong.
    pub reason: String,
}
