//! Approval requests and verdicts.
//!
//! `open.rs` has how a request begins, `decide.rs` how people end it, `close.rs` how it
//! ends without them, `read.rs` how it is read.

mod close;
mod decide;
mod open;
mod read;

use std::{net::IpAddr, time::Duration};

use authz::{
    ApprovalRequestId, Facts, Grant, GrantId, PolicySetVersion, Session, UserId,
    approval::{Ask, Reach},
    time::Timestamp,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use self::decide::Decision;

use crate::{StoreError, zones::ZoneAssignments};

/// Where a request stands, as stored; a pending one past its expiry is expired,
/// whether or not a sweeper has said so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Waiting for people.
    Pending,
    /// A grant was given.
    Approved,
    /// Someone said no.
    Rejected,
    /// Nobody decided in time.
    Expired,
    /// Taken back.
    Withdrawn,
}

/// What opens a request.
#[derive(Clone, Debug)]
pub struct NewApproval {
    /// Names it, unless it joins another.
    pub id: ApprovalRequestId,
    /// Who asks for what: agent as of now, command, digest, approvals needed; nobody has approved.
    pub ask: Ask,
    /// The arguments as people may see them.
    pub arguments: Map<String, Value>,
    /// In the agent's words.
    pub reason: String,
    /// The policies that refused.
    pub policies: Vec<String>,
    /// Their advice.
    pub advice: Vec<String>,
    /// `@workflow` of what would be lifted.
    pub workflow: Option<String>,
    /// The policy set that refused.
    pub policy_set: PolicySetVersion,
    /// When it expires.
    pub expires: Timestamp,
}

/// What a request is bound to besides [`NewApproval`].
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// What deciding the call again needs, if it is known.
    pub asked: Option<Asked>,
    /// Whether the store itself refuses verdicts of the agent's owner, as it always does
    /// those of the requester. For where policy keeps owners from deciding.
    pub bars_owner: bool,
}

/// A call as it was asked: enough to decide it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// The arguments, whole, but for secrets.
    pub arguments: Map<String, Value>,
    /// From where the agent called, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<IpAddr>,
    /// The agent's session when it asked, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Session>,
}

/// A request as stored.
#[derive(Clone, Debug)]
pub struct StoredApproval {
    /// As opened; `ask.approved_by` holds who approved since, and counts: while a request
    /// is pending, whoever is no longer active does not.
    pub new: NewApproval,
    /// Where it stands.
    pub status: Status,
    /// When it was opened.
    pub opened: Timestamp,
    /// When it was decided.
    pub decided: Option<Timestamp>,
    /// Rejected: not to be asked again before this instant.
    pub retry_at: Option<Timestamp>,
    /// How often it was joined.
    pub joined: u64,
    /// The grant, if approved.
    pub grant: Option<GrantId>,
    /// Verdicts, oldest first.
    pub verdicts: Vec<Verdict>,
    /// Who took it back, if it is withdrawn.
    pub withdrawn: Option<Withdrawn>,
    /// What deciding the call again needs, if it is known.
    pub asked: Option<Asked>,
}

/// How a request was taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Withdrawn {
    /// The person; absent when the agent did it itself.
    pub by: Option<UserId>,
    /// Why.
    pub reason: String,
}

/// What one person decided.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// Who.
    pub user: UserId,
    /// How far and how long, if they approved.
    pub approved: Option<(Reach, Duration)>,
    /// Why.
    pub reason: String,
    /// When.
    pub at: Timestamp,
    /// How: `ui`, `cli`, `api`, `webhook`; empty if it is not known.
    pub via: String,
    /// Under which policy set, if it is known.
    pub policy_set: Option<PolicySetVersion>,
    /// Whether it counts: the person is active.
    pub counts: bool,
}

/// What a person is about to decide, as it stands under the lock.
#[derive(Debug)]
pub struct Proposal<'a> {
    /// The request.
    pub approval: &'a StoredApproval,
    /// The agent as it is now, with its live grants; the request has it as it was.
    pub facts: &'a Facts,
    /// Zones that people put services and commands into, as they are now.
    pub zones: &'a ZoneAssignments,
    /// The grant that would come out, for an approval. While [`Proposal::complete`] is
    /// false a second person is still missing from it.
    pub grant: Option<&'a Grant>,
    /// Whether this approval would be the last one needed.
    pub complete: bool,
}

/// What a saved approval led to.
#[derive(Clone, Debug)]
pub enum Approved {
    /// Another person must approve too.
    Advanced(StoredApproval),
    /// A grant was given.
    Granted(StoredApproval, Grant),
}

const WHAT: &str = "approval request";

impl Status {
    fn parse(text: &str) -> Result<Self, StoreError> {
        Ok(match text {
            "pending" => Self::Pending,
            "approved" => Self::Approved,
            "rejected" => Self::Rejected,
            "expired" => Self::Expired,
            "withdrawn" => Self::Withdrawn,
            other => {
                let why = format!("`{other}` is not a status");
                return Err(StoreError::Corrupt { what: WHAT, why });
            }
        })
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::Withdrawn => "withdrawn",
        }
    }
}

fn not_found(id: ApprovalRequestId) -> StoreError {
    StoreError::NotFound(format!("approval request `{id}`"))
}

/// Every statement about requests, by the module that has it.
#[cfg(test)]
pub(crate) const STATEMENTS: [(&str, &[(&str, &str)]); 4] = [
    ("approvals::close", close::STATEMENTS),
    ("approvals::decide", decide::STATEMENTS),
    ("approvals::open", open::STATEMENTS),
    ("approvals::read", read::STATEMENTS),
];

#[cfg(test)]
mod tests;
