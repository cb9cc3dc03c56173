//! Requests, read with their verdicts.

use std::time::Duration;

use authz::{AgentId, ApprovalRequestId, time::Timestamp};

use super::{NewApproval, Status, StoredApproval, Verdict, WHAT, Withdrawn, not_found};
use crate::{
    Store, StoreError,
    column::{from_json, from_word, parsed, row, statements, time},
    database::{on, within},
    write::Write,
};

/// Requests and their verdicts are one statement, so that they are of one moment.
macro_rules! with_verdicts {
    ($requests:literal) => {
        concat!(
            "
        SELECT p.id, p.ask, p.arguments, p.reason, p.policies, p.advice, p.workflow, p.policy_set,
            p.opened, p.expires, p.status, p.decided, p.retry_at, p.joined, p.grant_id,
            p.withdrawn_by, p.withdrawn_reason, p.asked,
            v.user_id, v.reach, v.duration, v.reason AS verdict_reason, v.decided AS verdict_decided,
            v.via, v.policy_set AS verdict_policy_set, u.active
        FROM (",
            $requests,
            ") p
        LEFT JOIN verdicts v ON v.approval = p.id
        LEFT JOIN users u ON u.id = v.user_id
        ORDER BY p.opened DESC, p.id DESC, v.place"
        )
    };
}

statements! {
    BY_ID = with_verdicts!("SELECT * FROM approvals WHERE id = $1");
    NEWEST = with_verdicts!("SELECT * FROM approvals ORDER BY opened DESC, id DESC LIMIT $1");
    NEWEST_PENDING = with_verdicts!("
            SELECT * FROM approvals WHERE status = 'pending' AND $2 < expires
            ORDER BY opened DESC, id DESC LIMIT $1");
    OF_AGENT = with_verdicts!("
            SELECT * FROM approvals WHERE agent = $2
            ORDER BY opened DESC, id DESC LIMIT $1");
    OF_AGENT_PENDING = with_verdicts!("
            SELECT * FROM approvals WHERE agent = $2 AND status = 'pending' AND $3 < expires
            ORDER BY opened DESC, id DESC LIMIT $1");
    COOLING_DOWN = with_verdicts!("
            SELECT * FROM approvals
            WHERE agent = $1 AND command = $2 AND digest = $3 AND status = 'rejected' AND $4 < retry_at
            ORDER BY retry_at DESC, id DESC LIMIT 1");
}

row! {
    /// A request beside one of its verdicts, if it has any.
    ApprovalRow {
        id: String,
        ask: String,
        arguments: String,
        reason: String,
        policies: String,
        advice: String,
        workflow: Option<String>,
        policy_set: String,
        opened: i64,
        expires: i64,
        status: String,
        decided: Option<i64>,
        retry_at: Option<i64>,
        joined: i64,
        grant_id: Option<String>,
        withdrawn_by: Option<String>,
        withdrawn_reason: Option<String>,
        asked: Option<String>,
        user_id: Option<String>,
        reach: Option<String>,
        duration: Option<i64>,
        verdict_reason: Option<String>,
        verdict_decided: Option<i64>,
        via: Option<String>,
        verdict_policy_set: Option<String>,
        active: Option<i64>,
    }
}

impl ApprovalRow {
    fn verdict(&mut self) -> Result<Option<Verdict>, StoreError> {
        let Some(user) = self.user_id.take() else {
            return Ok(None);
        };
        let approved = match (self.reach.take(), self.duration) {
            (Some(reach), Some(millis)) => {
                let millis = u64::try_from(millis).map_err(|error| StoreError::Corrupt {
                    what: WHAT,
                    why: error.to_string(),
                })?;
                Some((from_word(WHAT, reach)?, Duration::from_millis(millis)))
            }
            _ => None,
        };
        Ok(Some(Verdict {
            user: parsed(WHAT, &user)?,
            approved,
            reason: self.verdict_reason.take().unwrap_or_default(),
            at: Timestamp::from_millis(self.verdict_decided.unwrap_or_default()),
            via: self.via.take().unwrap_or_default(),
            policy_set: self
                .verdict_policy_set
                .take()
                .filter(|version| !version.is_empty())
                .map(|version| from_word(WHAT, version))
                .transpose()?,
            counts: self.active.unwrap_or_default() != 0,
        }))
    }

    /// The request without verdicts, as it stands at `now`.
    fn approval(self, now: Timestamp) -> Result<StoredApproval, StoreError> {
        let expires = Timestamp::from_millis(self.expires);
        let (status, decided) = match Status::parse(&self.status)? {
            Status::Pending if now >= expires => (Status::Expired, Some(expires)),
            status => (status, time(self.decided)),
        };
        let withdrawn = match self.withdrawn_reason {
            Some(reason) => Some(Withdrawn {
                by: self
                    .withdrawn_by
                    .map(|user| parsed(WHAT, &user))
                    .transpose()?,
                reason,
            }),
            None => None,
        };
        Ok(StoredApproval {
            new: NewApproval {
                id: parsed(WHAT, &self.id)?,
                ask: from_json(WHAT, &self.ask)?,
                arguments: from_json(WHAT, &self.arguments)?,
                reason: self.reason,
                policies: from_json(WHAT, &self.policies)?,
                advice: from_json(WHAT, &self.advice)?,
                workflow: self.workflow,
                policy_set: from_word(WHAT, self.policy_set)?,
                expires,
            },
            status,
            opened: Timestamp::from_millis(self.opened),
            decided,
            retry_at: time(self.retry_at),
            joined: u64::try_from(self.joined).unwrap_or(0),
            grant: self
                .grant_id
                .map(|grant| parsed(WHAT, &grant))
                .transpose()?,
            verdicts: Vec::new(),
            withdrawn,
            asked: self
                .asked
                .map(|asked| from_json(WHAT, &asked))
                .transpose()?,
        })
    }
}

/// Puts requests together from rows that are sorted by request, then by verdict.
fn gather(rows: Vec<ApprovalRow>, now: Timestamp) -> Result<Vec<StoredApproval>, StoreError> {
    let mut approvals: Vec<StoredApproval> = Vec::new();
    let mut last = String::new();
    for mut row in rows {
        let verdict = row.verdict()?;
        if row.id != last {
            last.clone_from(&row.id);
            approvals.push(row.approval(now)?);
        }
        if let (Some(approval), Some(verdict)) = (approvals.last_mut(), verdict) {
            // What is decided stays so; only an open question is put to who is here.
            let counts = verdict.counts || approval.status != Status::Pending;
            if verdict.approved.is_some() && counts {
                approval.new.ask.approved_by.push(verdict.user.clone());
            }
            approval.verdicts.push(verdict);
        }
    }
    Ok(approvals)
}

/// The request as it stands, read within a write.
pub(super) async fn find(
    write: &mut Write,
    id: ApprovalRequestId,
) -> Result<StoredApproval, StoreError> {
    let rows: Vec<ApprovalRow> = within!(write, |c| sqlx::query_as(BY_ID)
        .bind(id.to_string())
        .fetch_all(c)
        .await?);
    gather(rows, write.at())?.pop().ok_or_else(|| not_found(id))
}

/// The rejected request of the same call whose cool-down lasts still.
pub(super) async fn cooling_down(
    write: &mut Write,
    agent: &str,
    command: &str,
    digest: &str,
) -> Result<Option<StoredApproval>, StoreError> {
    let at = write.at();
    let rows: Vec<ApprovalRow> = within!(write, |c| sqlx::query_as(COOLING_DOWN)
        .bind(agent)
        .bind(command)
        .bind(digest)
        .bind(at.as_millis())
        .fetch_all(c)
        .await?);
    Ok(gather(rows, at)?.pop())
}

impl Store {
    /// One request, as it stands at `now`.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`].
    pub async fn approval(
        &self,
        id: ApprovalRequestId,
        now: Timestamp,
    ) -> Result<StoredApproval, StoreError> {
        let rows: Vec<ApprovalRow> = on!(self, |pool| sqlx::query_as(BY_ID)
            .bind(id.to_string())
            .fetch_all(pool)
            .await?);
        gather(rows, now)?.pop().ok_or_else(|| not_found(id))
    }

    /// Requests as they stand at `now`, newest first, at most `limit`: pending ones, or all.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn approvals(
        &self,
        all: bool,
        limit: u32,
        now: Timestamp,
    ) -> Result<Vec<StoredApproval>, StoreError> {
        let limit = i64::from(limit);
        let rows: Vec<ApprovalRow> = if all {
            on!(self, |pool| sqlx::query_as(NEWEST)
                .bind(limit)
                .fetch_all(pool)
                .await?)
        } else {
            on!(self, |pool| sqlx::query_as(NEWEST_PENDING)
                .bind(limit)
                .bind(now.as_millis())
                .fetch_all(pool)
                .await?)
        };
        gather(rows, now)
    }

    /// Requests of one agent, as [`Store::approvals`].
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn approvals_of(
        &self,
        agent: AgentId,
        all: bool,
        limit: u32,
        now: Timestamp,
    ) -> Result<Vec<StoredApproval>, StoreError> {
        let limit = i64::from(limit);
        let rows: Vec<ApprovalRow> = if all {
            on!(self, |pool| sqlx::query_as(OF_AGENT)
                .bind(limit)
                .bind(agent.to_string())
                .fetch_all(pool)
                .await?)
        } else {
            on!(self, |pool| sqlx::query_as(OF_AGENT_PENDING)
                .bind(limit)
                .bind(agent.to_string())
                .bind(now.as_millis())
                .fetch_all(pool)
                .await?)
        };
        gather(rows, now)
    }
}
