//! The feed: everything that changed in the control plane, in order.

use authz::{AgentId, ApprovalRequestId, GrantId, PolicySetVersion, ServiceName, time::Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One change. `GET /api/feed?after=N` sends each as a server-sent event whose `id` is
/// the sequence and whose `data` is this as JSON; a comment every second while idle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FeedEvent {
    /// Its place: one more than the one before.
    pub sequence: i64,
    /// When.
    pub at: Timestamp,
    /// What.
    #[serde(flatten)]
    pub change: Change,
}

/// What changed. A reader drops what it holds about the agents named here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum Change {
    /// An agent was created or changed, or one of its credentials was.
    AgentChanged {
        /// Which.
        agent: AgentId,
    },
    /// A user was created or changed, or one of their credentials was.
    UserChanged {
        /// Which.
        user: authz::UserId,
    },
    /// A request was opened.
    ApprovalOpened {
        /// Which.
        approval: ApprovalRequestId,
        /// Whose.
        agent: AgentId,
    },
    /// A first of two people approved.
    ApprovalAdvanced {
        /// Which.
        approval: ApprovalRequestId,
        /// Whose.
        agent: AgentId,
    },
    /// A request was approved, and yielded a grant.
    ApprovalApproved {
        /// Which.
        approval: ApprovalRequestId,
        /// Whose.
        agent: AgentId,
        /// What it yielded.
        grant: GrantId,
    },
    /// A request was rejected.
    ApprovalRejected {
        /// Which.
        approval: ApprovalRequestId,
        /// Whose.
        agent: AgentId,
    },
    /// A request expired or was withdrawn.
    ApprovalClosed {
        /// Which.
        approval: ApprovalRequestId,
        /// Whose.
        agent: AgentId,
    },
    /// A grant was revoked, or spent by its single use.
    GrantEnded {
        /// Which.
        grant: GrantId,
        /// Whose.
        agent: AgentId,
    },
    /// Another policy set is in force.
    PolicySetActivated {
        /// Which.
        version: PolicySetVersion,
    },
    /// Another policy set, or none, is evaluated beside the one in force.
    PolicySetShadowed {
        /// Which.
        version: Option<PolicySetVersion>,
    },
    /// Definitions of a service's tools were reviewed, or a review was withdrawn.
    ToolsReviewed {
        /// Which service.
        service: ServiceName,
    },
    /// A service or a command was put into a zone, or taken out of one.
    ZonesChanged {
        /// How often zones were changed by now.
        revision: i64,
    },
}

impl Change {
    /// The agent whose facts this makes stale.
    #[must_use]
    pub fn agent(&self) -> Option<AgentId> {
        match self {
            Self::AgentChanged { agent }
            | Self::ApprovalOpened { agent, .. }
            | Self::ApprovalAdvanced { agent, .. }
            | Self::ApprovalApproved { agent, .. }
            | Self::ApprovalRejected { agent, .. }
            | Self::ApprovalClosed { agent, .. }
            | Self::GrantEnded { agent, .. } => Some(*agent),
            Self::UserChanged { .. }
            | Self::PolicySetActivated { .. }
            | Self::PolicySetShadowed { .. }
            | Self::ToolsReviewed { .. }
            | Self::ZonesChanged { .. } => None,
        }
    }
}
