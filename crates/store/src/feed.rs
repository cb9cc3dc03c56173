//! The feed: every change, in order.

use authz::{AgentId, ApprovalRequestId, GrantId, PolicySetVersion, UserId, time::Timestamp};
use serde::{Deserialize, Serialize};

use crate::{Store, StoreError};

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its place: one more than the one before.
    pub sequence: i64,
    /// When.
    pub at: Timestamp,
    /// What.
    pub change: Change,
}

/// What changed: stored as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
#[allow(missing_docs, reason = "the fields are the ids of what the variant names")]
pub enum Change {
    /// An agent or one of its credentials.
    AgentChanged { agent: AgentId },
    /// A user or one of their credentials.
    UserChanged { user: UserId },
    /// A request was opened.
    ApprovalOpened { approval: ApprovalRequestId, agent: AgentId },
    /// A first of two people approved.
    ApprovalAdvanced { approval: ApprovalRequestId, agent: AgentId },
    /// A request yielded a grant.
    ApprovalApproved { approval: ApprovalRequestId, agent: AgentId, grant: GrantId },
    /// A request was rejected.
    ApprovalRejected { approval: ApprovalRequestId, agent: AgentId },
    /// A request expired or was withdrawn.
    ApprovalClosed { approval: ApprovalRequestId, agent: AgentId },
    /// A grant was revoked or spent.
    GrantEnded { grant: GrantId, agent: AgentId },
    /// Another policy set is in force.
    PolicySetActivated { version: PolicySetVersion },
}

impl Store {
    /// Changes after `after`, oldest first, at most `limit`. Never skips one.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn feed_after(&self, after: i64, limit: u32) -> Result<Vec<Event>, StoreError> {
        let _ = (after, limit);
        todo!()
    }

    /// The sequence of the newest change; 0 before the first.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn feed_head(&self) -> Result<i64, StoreError> {
        todo!()
    }
}
