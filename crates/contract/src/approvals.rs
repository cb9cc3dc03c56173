//! Approval requests: what gateways open, agents follow and people decide.

use std::net::IpAddr;

use authz::{
    AgentId, AgentName, ApprovalRequestId, CommandKey, GrantId, PolicySetVersion, Risk,
    ServiceName, Session, UserId,
    approval::{Choice, Reach},
    command::{ArgumentsDigest, Target},
    time::Timestamp,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

/// `POST /api/gateway/approvals`: opens a request, or joins the pending one of the same
/// agent, command, arguments and policy set.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct OpenApproval {
    /// Who asks.
    pub agent: AgentId,
    /// For what.
    pub target: Target,
    /// The arguments as people may see them.
    #[schema(value_type = Object)]
    pub arguments: Map<String, Value>,
    /// Of the exact ones.
    pub digest: ArgumentsDigest,
    /// Why, in the agent's words; may be empty.
    #[serde(default)]
    pub reason: String,
    /// The policies that refused; empty when nothing permits it.
    pub policies: Vec<String>,
    /// Their advice.
    pub advice: Vec<String>,
    /// `@workflow` of what would be lifted.
    #[serde(default)]
    pub workflow: Option<String>,
    /// How many people must approve: 1 or 2.
    pub approvals: u8,
    /// The policy set that refused.
    pub policy_set: PolicySetVersion,
    /// From where the agent called, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub ip: Option<IpAddr>,
    /// The session that the call belonged to, as it was then. [default: not known]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Session>,
}

/// Where a request stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ApprovalStatus {
    /// Waiting for people.
    Pending,
    /// A grant was given.
    Approved,
    /// Someone said no.
    Rejected,
    /// Nobody decided in time.
    Expired,
    /// The agent or its owner took it back.
    Withdrawn,
}

impl ApprovalStatus {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::Withdrawn => "withdrawn",
        }
    }
}

/// What an agent may know of its request: nothing that could approve it.
/// `GET /api/gateway/approvals/{id}?agent=…`, and the answer to [`OpenApproval`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApprovalSummary {
    /// Names it.
    pub id: ApprovalRequestId,
    /// Whose it is.
    pub agent: AgentId,
    /// For what.
    pub command: CommandKey,
    /// Where it stands.
    pub status: ApprovalStatus,
    /// How many people must approve.
    pub approvals_needed: u8,
    /// How many have.
    pub approvals_given: u8,
    /// When it was opened.
    pub opened: Timestamp,
    /// When it expires if nobody decides.
    pub expires: Timestamp,
    /// Rejected: not to be asked again before this instant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<Timestamp>,
    /// Rejected or withdrawn: why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// What a person sees of a request: `GET /api/approvals`, `GET /api/approvals/{id}`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ApprovalView {
    /// As the agent sees it.
    #[serde(flatten)]
    pub summary: ApprovalSummary,
    /// The agent's name.
    pub agent_name: AgentName,
    /// The service.
    pub service: ServiceName,
    /// What the command may do.
    pub risk: Risk,
    /// The arguments, secrets redacted.
    #[schema(value_type = Object)]
    pub arguments: Map<String, Value>,
    /// Of the exact ones.
    pub digest: ArgumentsDigest,
    /// Why, in the agent's words.
    pub reason: String,
    /// The policies that refused.
    pub policies: Vec<String>,
    /// Their advice.
    pub advice: Vec<String>,
    /// The policy set that refused.
    pub policy_set: PolicySetVersion,
    /// How often the refused call was repeated while it was pending.
    pub joined: u64,
    /// What people decided so far, oldest first.
    pub verdicts: Vec<VerdictView>,
    /// The grant, if approved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<GrantId>,
    /// What the person who asks may choose, narrowest first. Who approves second may not
    /// choose more than the first did.
    pub choices: Vec<Choice>,
    /// Whether they must prove a second factor before some of it: `POST /api/me/step-up`.
    #[serde(default)]
    pub step_up: bool,
    /// Whether the person who asks may take it back.
    #[serde(default)]
    pub withdrawable: bool,
    /// Withdrawn: by whom, if it was not the agent itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withdrawn_by: Option<UserId>,
    /// Why no approval would help any more: policy or the agent changed since it was asked.
    /// Only where one request is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub obstacle: Option<String>,
}

/// What one person decided.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct VerdictView {
    /// Who.
    pub user: UserId,
    /// Whether they approved.
    pub approved: bool,
    /// How far, if they approved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reach: Option<Reach>,
    /// For how long, if they approved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_seconds: Option<u64>,
    /// Why.
    pub reason: String,
    /// When.
    pub at: Timestamp,
    /// How: `ui`, `cli`, `api`, `webhook`; empty if it is not known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub via: String,
    /// Under which policy set, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_set: Option<PolicySetVersion>,
    /// Whether it counts: the person is active.
    #[serde(default = "yes")]
    pub counts: bool,
}

const fn yes() -> bool {
    true
}

/// `POST /api/approvals/{id}/approve`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Approve {
    /// How much the grant covers; this call if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reach: Option<Reach>,
    /// How long it lives; one hour, or less if this person may give only less, if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_seconds: Option<u64>,
    /// Why.
    #[serde(default)]
    pub reason: String,
}

/// `POST /api/approvals/{id}/reject`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Reject {
    /// Why; the agent is told.
    #[serde(default)]
    pub reason: String,
}

/// `POST /api/approvals/{id}/withdraw`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Withdraw {
    /// Why; the agent is told.
    #[serde(default)]
    pub reason: String,
}

/// `POST /api/mcp/permission-request`: the shape of the system that we replace.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PermissionRequest {
    /// Who asks.
    pub agent_id: String,
    /// For which service.
    pub service_name: String,
    /// Why.
    pub reason: String,
    /// When, by the caller's clock; recorded, not believed.
    pub timestamp: String,
}

/// The answer to [`PermissionRequest`].
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PermissionRequested {
    /// `success`.
    pub status: String,
    /// Names the request.
    pub request_id: ApprovalRequestId,
    /// For people.
    pub message: String,
}

/// `POST /api/mcp/permission-respond`: the shape of the system that we replace, and
/// optionally how far and how long.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PermissionRespond {
    /// Names the request.
    pub request_id: String,
    /// Yes or no.
    pub approved: bool,
    /// Why.
    #[serde(default)]
    pub reason: Option<String>,
    /// As in [`Approve`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reach: Option<Reach>,
    /// As in [`Approve`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_seconds: Option<u64>,
}

/// The answer to [`PermissionRespond`].
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PermissionResponded {
    /// `success`.
    pub status: String,
    /// As asked.
    pub request_id: String,
    /// As asked.
    pub approved: bool,
    /// For people.
    pub message: String,
}
