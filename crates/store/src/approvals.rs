//! Approval requests and verdicts.

use std::time::Duration;

use authz::{
    AgentId, ApprovalRequestId, Grant, GrantId, PolicySetVersion, UserId,
    approval::{Ask, Reach},
    command::ArgumentsDigest,
    time::Timestamp,
};
use serde_json::{Map, Value};

use crate::{Actor, Store, StoreError};

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

/// A request as stored.
#[derive(Clone, Debug)]
pub struct StoredApproval {
    /// As opened; `ask.approved_by` holds who approved since.
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
}

/// What a saved approval led to.
#[derive(Clone, Debug)]
pub enum Approved {
    /// Another person must approve too.
    Advanced(StoredApproval),
    /// A grant was given.
    Granted(StoredApproval, Grant),
}

impl Store {
    /// Opens a request; or joins the pending one of the same agent, command, digest and
    /// policy set; or gives back the rejected one of the same call whose cool-down lasts
    /// still. Says whether it opened one. Event when opened: `ApprovalOpened`.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`] for an unknown agent; [`StoreError::Conflict`] when the
    /// agent has `open_limit` pending requests already.
    pub async fn open_approval(
        &self,
        new: NewApproval,
        open_limit: u32,
        actor: &Actor,
    ) -> Result<(StoredApproval, bool), StoreError> {
        let _ = (new, open_limit, actor);
        todo!()
    }

    /// One request, as it stands at `now`.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`].
    pub async fn approval(&self, id: ApprovalRequestId, now: Timestamp) -> Result<StoredApproval, StoreError> {
        let _ = (id, now);
        todo!()
    }

    /// Requests as they stand at `now`, newest first, at most `limit`: pending ones, or all.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn approvals(&self, all: bool, limit: u32, now: Timestamp) -> Result<Vec<StoredApproval>, StoreError> {
        let _ = (all, limit, now);
        todo!()
    }

    /// Saves an approval of one person, and the grant when it is the last one needed, all
    /// in one transaction. `permitted` is asked under the lock, with the request as it
    /// stands then, and its error is given back. The grant reaches no further and lives no
    /// longer than every approver said. Events: `ApprovalAdvanced` or `ApprovalApproved`.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`]; [`StoreError::Conflict`] when it is not pending at
    /// `actor.at`, or this person has approved it already; or what `permitted` said.
    pub async fn approve<E: From<StoreError> + Send>(
        &self,
        id: ApprovalRequestId,
        by: &UserId,
        reach: Reach,
        duration: Duration,
        reason: &str,
        actor: &Actor,
        permitted: impl FnOnce(&StoredApproval) -> Result<(), E> + Send,
    ) -> Result<Approved, E> {
        let _ = (id, by, reach, duration, reason, actor, permitted);
        todo!()
    }

    /// Saves a rejection, in the same way. Event: `ApprovalRejected`.
    ///
    /// # Errors
    ///
    /// As [`Store::approve`].
    pub async fn reject<E: From<StoreError> + Send>(
        &self,
        id: ApprovalRequestId,
        by: &UserId,
        reason: &str,
        retry_at: Timestamp,
        actor: &Actor,
        permitted: impl FnOnce(&StoredApproval) -> Result<(), E> + Send,
    ) -> Result<StoredApproval, E> {
        let _ = (id, by, reason, retry_at, actor, permitted);
        todo!()
    }

    /// Marks pending requests past their expiry, and says which. Event each:
    /// `ApprovalClosed`. Nothing depends on its being called.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn expire_approvals(&self, actor: &Actor) -> Result<Vec<(ApprovalRequestId, AgentId)>, StoreError> {
        let _ = actor;
        todo!()
    }

    /// Whether the agent's same call was rejected and its cool-down lasts at `now`.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn cooling_down(
        &self,
        agent: AgentId,
        command: &authz::CommandKey,
        digest: &ArgumentsDigest,
        now: Timestamp,
    ) -> Result<Option<StoredApproval>, StoreError> {
        let _ = (agent, command, digest, now);
        todo!()
    }
}
