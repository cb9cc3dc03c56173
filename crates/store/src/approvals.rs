//! Approval requests and verdicts.

use std::time::Duration;

use authz::{
    AgentId, AgentRef, ApprovalRequestId, CommandKey, Grant, GrantId, PolicySetVersion, UserId,
    approval::{Ask, Reach},
    time::Timestamp,
};
use serde_json::{Map, Value, json};

use crate::{
    Actor, Store, StoreError, agents,
    column::{from_json, from_word, is_exact, parsed, prose, row, statements, time, to_json},
    database::{on, within},
    feed::Change,
    grants, users,
    write::{Record, Write},
};

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

statements! {
    INSERT = "
        INSERT INTO approvals (id, agent, command, digest, policy_set, ask, arguments, reason, policies,
            advice, workflow, opened, expires, risk, status, joined)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, 'pending', 0)";
    // A request with its verdicts is one statement, so that they are of one moment.
    BY_ID = "
        SELECT p.id, p.ask, p.arguments, p.reason, p.policies, p.advice, p.workflow, p.policy_set,
            p.opened, p.expires, p.status, p.decided, p.retry_at, p.joined, p.grant_id,
            v.user_id, v.reach, v.duration, v.reason AS verdict_reason, v.decided AS verdict_decided
        FROM (SELECT * FROM approvals WHERE id = $1) p
        LEFT JOIN verdicts v ON v.approval = p.id
        ORDER BY p.opened DESC, p.id DESC, v.place";
    NEWEST = "
        SELECT p.id, p.ask, p.arguments, p.reason, p.policies, p.advice, p.workflow, p.policy_set,
            p.opened, p.expires, p.status, p.decided, p.retry_at, p.joined, p.grant_id,
            v.user_id, v.reach, v.duration, v.reason AS verdict_reason, v.decided AS verdict_decided
        FROM (SELECT * FROM approvals ORDER BY opened DESC, id DESC LIMIT $1) p
        LEFT JOIN verdicts v ON v.approval = p.id
        ORDER BY p.opened DESC, p.id DESC, v.place";
    NEWEST_PENDING = "
        SELECT p.id, p.ask, p.arguments, p.reason, p.policies, p.advice, p.workflow, p.policy_set,
            p.opened, p.expires, p.status, p.decided, p.retry_at, p.joined, p.grant_id,
            v.user_id, v.reach, v.duration, v.reason AS verdict_reason, v.decided AS verdict_decided
        FROM (
            SELECT * FROM approvals WHERE status = 'pending' AND $2 < expires
            ORDER BY opened DESC, id DESC LIMIT $1
        ) p
        LEFT JOIN verdicts v ON v.approval = p.id
        ORDER BY p.opened DESC, p.id DESC, v.place";
    COOLING_DOWN = "
        SELECT p.id, p.ask, p.arguments, p.reason, p.policies, p.advice, p.workflow, p.policy_set,
            p.opened, p.expires, p.status, p.decided, p.retry_at, p.joined, p.grant_id,
            v.user_id, v.reach, v.duration, v.reason AS verdict_reason, v.decided AS verdict_decided
        FROM (
            SELECT * FROM approvals
            WHERE agent = $1 AND command = $2 AND digest = $3 AND status = 'rejected' AND $4 < retry_at
            ORDER BY retry_at DESC, id DESC LIMIT 1
        ) p
        LEFT JOIN verdicts v ON v.approval = p.id
        ORDER BY p.opened DESC, p.id DESC, v.place";
    JOIN_PENDING = "
        UPDATE approvals SET joined = joined + 1
        WHERE agent = $1 AND command = $2 AND digest = $3 AND policy_set = $4 AND status = 'pending'
        RETURNING id";
    COUNT_PENDING = "SELECT COUNT(*) FROM approvals WHERE agent = $1 AND status = 'pending'";
    EXPIRE_OF_AGENT = "
        UPDATE approvals SET status = 'expired', decided = expires
        WHERE agent = $1 AND status = 'pending' AND expires <= $2
        RETURNING id, agent, command";
    COUNT_OVERDUE = "SELECT COUNT(*) FROM approvals WHERE status = 'pending' AND expires <= $1";
    EXPIRE = "
        UPDATE approvals SET status = 'expired', decided = expires
        WHERE status = 'pending' AND expires <= $1
        RETURNING id, agent, command";
    INSERT_VERDICT = "
        INSERT INTO verdicts (approval, user_id, place, reach, duration, reason, decided)
        VALUES ($1, $2, $3, $4, $5, $6, $7)";
    APPROVE = "
        UPDATE approvals SET status = 'approved', decided = $2, grant_id = $3
        WHERE id = $1 AND status = 'pending' AND $2 < expires";
    REJECT = "
        UPDATE approvals SET status = 'rejected', decided = $2, retry_at = $3
        WHERE id = $1 AND status = 'pending' AND $2 < expires";
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
        user_id: Option<String>,
        reach: Option<String>,
        duration: Option<i64>,
        verdict_reason: Option<String>,
        verdict_decided: Option<i64>,
    }
}

const WHAT: &str = "approval request";

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
        }))
    }

    /// The request without verdicts, as it stands at `now`.
    fn approval(self, now: Timestamp) -> Result<StoredApproval, StoreError> {
        let expires = Timestamp::from_millis(self.expires);
        let (status, decided) = match Status::parse(&self.status)? {
            Status::Pending if now >= expires => (Status::Expired, Some(expires)),
            status => (status, time(self.decided)),
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
        })
    }
}

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
            if verdict.approved.is_some() {
                approval.new.ask.approved_by.push(verdict.user.clone());
            }
            approval.verdicts.push(verdict);
        }
    }
    Ok(approvals)
}

fn not_found(id: ApprovalRequestId) -> StoreError {
    StoreError::NotFound(format!("approval request `{id}`"))
}

/// The request as it stands, read within a write.
async fn find(write: &mut Write, id: ApprovalRequestId) -> Result<StoredApproval, StoreError> {
    let rows: Vec<ApprovalRow> = within!(write, |c| sqlx::query_as(BY_ID)
        .bind(id.to_string())
        .fetch_all(c)
        .await?);
    gather(rows, write.at())?.pop().ok_or_else(|| not_found(id))
}

/// The request, if `by` may still decide about it as far as the store knows.
async fn undecided(
    write: &mut Write,
    id: ApprovalRequestId,
    by: &UserId,
) -> Result<StoredApproval, StoreError> {
    let approval = find(write, id).await?;
    if approval.status != Status::Pending {
        let status = approval.status.as_str();
        return Err(StoreError::Conflict(format!(
            "approval request `{id}` is {status} already"
        )));
    }
    if approval.verdicts.iter().any(|verdict| verdict.user == *by) {
        return Err(StoreError::Conflict(format!(
            "`{by}` has approved request `{id}` already"
        )));
    }
    // They were when they logged in; they must be now.
    if !users::find(write, by).await?.user.active {
        return Err(StoreError::NotFound(format!("an active user `{by}`")));
    }
    Ok(approval)
}

async fn insert_verdict(
    write: &mut Write,
    approval: &mut StoredApproval,
    verdict: Verdict,
) -> Result<(), StoreError> {
    let id = approval.new.id;
    let (reach, duration) = match verdict.approved {
        Some((reach, duration)) => {
            let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
            (Some(reach.as_str()), Some(millis))
        }
        None => (None, None),
    };
    let place = i64::try_from(approval.verdicts.len())
        .unwrap_or(i64::MAX)
        .saturating_add(1);
    within!(write, |c| sqlx::query(INSERT_VERDICT)
        .bind(id.to_string())
        .bind(verdict.user.as_str())
        .bind(place)
        .bind(reach)
        .bind(duration)
        .bind(&verdict.reason)
        .bind(verdict.at.as_millis())
        .execute(c)
        .await
        .map(drop))
    .map_err(|error| {
        StoreError::taken(error, || {
            format!(
                "`{}` has decided about request `{id}` already",
                verdict.user
            )
        })
    })?;
    if verdict.approved.is_some() {
        approval.new.ask.approved_by.push(verdict.user.clone());
    }
    approval.verdicts.push(verdict);
    Ok(())
}

/// The grant that the verdicts amount to, once there are enough: no wider and no longer
/// than any of them said.
fn grant(approval: &StoredApproval, at: Timestamp) -> Option<(Grant, Reach, Duration)> {
    let ask = &approval.new.ask;
    let approved = || {
        approval
            .verdicts
            .iter()
            .filter_map(|verdict| Some((&verdict.user, verdict.approved?)))
    };
    if approved().count() < usize::from(ask.approvals) {
        return None;
    }
    let reach = approved().map(|(_, (reach, _))| reach).min()?;
    let duration = approved().map(|(_, (_, duration))| duration).min()?;
    let mut people = approved().map(|(user, _)| user.clone());
    let (scope, risk, single_use) = ask.scope(reach);
    let grant = Grant {
        id: GrantId::generate(at),
        agent: ask.agent.id,
        scope,
        risk,
        issued: at,
        expires: at.plus(duration),
        first: people.next()?,
        second: people.next(),
        single_use,
        approval: approval.new.id,
    };
    Some((grant, reach, duration))
}

/// Saves one person's approval, and the grant if it was the last one needed.
async fn save_approval(
    mut write: Write,
    mut approval: StoredApproval,
    verdict: Verdict,
) -> Result<Approved, StoreError> {
    let at = write.at();
    let id = approval.new.id;
    let agent = approval.new.ask.agent.id;
    let command = approval.new.ask.target.key.clone();
    let mut details = json!({
        "approval": id,
        "reach": verdict.approved.map(|(reach, _)| reach),
        "duration_seconds": verdict.approved.map(|(_, duration)| duration.as_secs()),
        "reason": verdict.reason,
    });
    insert_verdict(&mut write, &mut approval, verdict).await?;

    let Some((grant, reach, duration)) = grant(&approval, at) else {
        write
            .announce(&Change::ApprovalAdvanced {
                approval: id,
                agent,
            })
            .await?;
        write
            .record(Record {
                kind: "approval_advanced",
                agent: Some(agent),
                command: Some(&command),
                details,
            })
            .await?;
        write.commit().await?;
        return Ok(Approved::Advanced(approval));
    };

    let approved = within!(write, |c| sqlx::query(APPROVE)
        .bind(id.to_string())
        .bind(at.as_millis())
        .bind(grant.id.to_string())
        .execute(c)
        .await?
        .rows_affected());
    if approved != 1 {
        return Err(StoreError::Conflict(format!(
            "approval request `{id}` is no longer pending"
        )));
    }
    grants::insert(&mut write, &grant).await?;
    approval.status = Status::Approved;
    approval.decided = Some(at);
    approval.grant = Some(grant.id);

    write
        .announce(&Change::ApprovalApproved {
            approval: id,
            agent,
            grant: grant.id,
        })
        .await?;
    if let Some(details) = details.as_object_mut() {
        details.insert("grant".to_owned(), json!(grant));
        details.insert("granted_reach".to_owned(), json!(reach));
        details.insert("granted_seconds".to_owned(), json!(duration.as_secs()));
    }
    write
        .record(Record {
            kind: "approved",
            agent: Some(agent),
            command: Some(&command),
            details,
        })
        .await?;
    write.commit().await?;
    Ok(Approved::Granted(approval, grant))
}

/// Saves one person's rejection.
async fn save_rejection(
    mut write: Write,
    mut approval: StoredApproval,
    verdict: Verdict,
    retry_at: Timestamp,
) -> Result<StoredApproval, StoreError> {
    let at = write.at();
    let id = approval.new.id;
    let agent = approval.new.ask.agent.id;
    let command = approval.new.ask.target.key.clone();
    let details = json!({ "approval": id, "reason": verdict.reason, "retry_at": retry_at });
    insert_verdict(&mut write, &mut approval, verdict).await?;

    let rejected = within!(write, |c| sqlx::query(REJECT)
        .bind(id.to_string())
        .bind(at.as_millis())
        .bind(retry_at.as_millis())
        .execute(c)
        .await?
        .rows_affected());
    if rejected != 1 {
        return Err(StoreError::Conflict(format!(
            "approval request `{id}` is no longer pending"
        )));
    }
    approval.status = Status::Rejected;
    approval.decided = Some(at);
    approval.retry_at = Some(retry_at);

    write
        .announce(&Change::ApprovalRejected {
            approval: id,
            agent,
        })
        .await?;
    write
        .record(Record {
            kind: "rejected",
            agent: Some(agent),
            command: Some(&command),
            details,
        })
        .await?;
    write.commit().await?;
    Ok(approval)
}

async fn insert(write: &mut Write, new: &NewApproval) -> Result<(), StoreError> {
    let ask = to_json(WHAT, &new.ask)?;
    let arguments = to_json(WHAT, &new.arguments)?;
    let policies = to_json(WHAT, &new.policies)?;
    let advice = to_json(WHAT, &new.advice)?;
    let opened = write.at().as_millis();
    within!(write, |c| sqlx::query(INSERT)
        .bind(new.id.to_string())
        .bind(new.ask.agent.id.to_string())
        .bind(new.ask.target.key.to_string())
        .bind(new.ask.digest.as_str())
        .bind(new.policy_set.as_str())
        .bind(ask)
        .bind(arguments)
        .bind(&new.reason)
        .bind(policies)
        .bind(advice)
        .bind(new.workflow.as_deref())
        .bind(opened)
        .bind(new.expires.as_millis())
        .bind(new.ask.target.risk.as_str())
        .execute(c)
        .await
        .map(drop))
    .map_err(|error| {
        StoreError::taken(error, || {
            format!(
                "there is such a pending approval request as `{}` already",
                new.id
            )
        })
    })
}

/// Tells the feed and the trail of requests that were found to have expired.
async fn announce_expired(
    write: &mut Write,
    rows: Vec<(String, String, String)>,
) -> Result<Vec<(ApprovalRequestId, AgentId)>, StoreError> {
    let mut expired = Vec::with_capacity(rows.len());
    for (id, agent, command) in rows {
        expired.push((
            parsed::<ApprovalRequestId>(WHAT, &id)?,
            parsed::<AgentId>(WHAT, &agent)?,
            parsed::<CommandKey>(WHAT, &command)?,
        ));
    }
    // RETURNING has no order of its own.
    expired.sort();
    for (approval, agent, command) in &expired {
        let (approval, agent) = (*approval, *agent);
        write
            .announce(&Change::ApprovalClosed { approval, agent })
            .await?;
        let details = json!({ "approval": approval });
        write
            .record(Record {
                kind: "expired",
                agent: Some(agent),
                command: Some(command),
                details,
            })
            .await?;
    }
    Ok(expired
        .into_iter()
        .map(|(approval, agent, _)| (approval, agent))
        .collect())
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
        if !is_exact(new.policy_set.as_str()) {
            return Err(StoreError::Conflict(
                "a policy set version cannot hold NUL".to_owned(),
            ));
        }
        let mut new = new;
        new.reason = prose(&new.reason);
        new.workflow = new.workflow.as_deref().map(prose);
        new.ask.approved_by.clear();
        let agent = new.ask.agent.id;
        let (id, command, digest) = (
            agent.to_string(),
            new.ask.target.key.clone(),
            new.ask.digest.clone(),
        );

        let mut write = self.write(actor).await?;
        agents::find(&mut write, &AgentRef::Id(agent)).await?;
        let overdue: Vec<(String, String, String)> =
            within!(write, |c| sqlx::query_as(EXPIRE_OF_AGENT)
                .bind(&id)
                .bind(actor.at.as_millis())
                .fetch_all(c)
                .await?);
        announce_expired(&mut write, overdue).await?;

        let joined: Option<(String,)> = within!(write, |c| sqlx::query_as(JOIN_PENDING)
            .bind(&id)
            .bind(command.to_string())
            .bind(digest.as_str())
            .bind(new.policy_set.as_str())
            .fetch_optional(c)
            .await?);
        if let Some((pending,)) = joined {
            let approval = find(&mut write, parsed(WHAT, &pending)?).await?;
            write.commit().await?;
            return Ok((approval, false));
        }

        let rejected: Vec<ApprovalRow> = within!(write, |c| sqlx::query_as(COOLING_DOWN)
            .bind(&id)
            .bind(command.to_string())
            .bind(digest.as_str())
            .bind(actor.at.as_millis())
            .fetch_all(c)
            .await?);
        if let Some(approval) = gather(rejected, actor.at)?.pop() {
            write.commit().await?;
            return Ok((approval, false));
        }

        let (pending,): (i64,) = within!(write, |c| sqlx::query_as(COUNT_PENDING)
            .bind(&id)
            .fetch_one(c)
            .await?);
        if pending >= i64::from(open_limit) {
            let name = &new.ask.agent.name;
            return Err(StoreError::Conflict(format!(
                "agent `{name}` has {pending} pending approval requests, which is as many as it may"
            )));
        }

        insert(&mut write, &new).await?;
        write
            .announce(&Change::ApprovalOpened {
                approval: new.id,
                agent,
            })
            .await?;
        let details = json!({
            "approval": new.id,
            "risk": new.ask.target.risk,
            "digest": digest,
            "arguments": new.arguments,
            "reason": new.reason,
            "policies": new.policies,
            "approvals_needed": new.ask.approvals,
            "policy_set": new.policy_set,
            "expires": new.expires,
        });
        write
            .record(Record {
                kind: "approval_opened",
                agent: Some(agent),
                command: Some(&command),
                details,
            })
            .await?;
        write.commit().await?;
        let approval = StoredApproval {
            new,
            status: Status::Pending,
            opened: actor.at,
            decided: None,
            retry_at: None,
            joined: 0,
            grant: None,
            verdicts: Vec::new(),
        };
        Ok((approval, true))
    }

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

    /// Saves an approval of one person, and the grant when it is the last one needed, all
    /// in one transaction. `permitted` is asked under the lock, with the request as it
    /// stands then, and its error is given back. The grant reaches no further and lives no
    /// longer than every approver said. Events: `ApprovalAdvanced` or `ApprovalApproved`.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`]; [`StoreError::Conflict`] when it is not pending at
    /// `actor.at`, or this person has approved it already; or what `permitted` said.
    #[allow(
        clippy::too_many_arguments,
        reason = "each is one part of what a person decided, and of another type"
    )]
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
        let mut write = self.write(actor).await?;
        let approval = undecided(&mut write, id, by).await?;
        if duration.is_zero() {
            return Err(StoreError::Conflict("a grant cannot live for no time".to_owned()).into());
        }
        permitted(&approval)?;
        let verdict = Verdict {
            user: by.clone(),
            approved: Some((reach, duration)),
            reason: prose(reason),
            at: actor.at,
        };
        Ok(save_approval(write, approval, verdict).await?)
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
        let mut write = self.write(actor).await?;
        let approval = undecided(&mut write, id, by).await?;
        permitted(&approval)?;
        let verdict = Verdict {
            user: by.clone(),
            approved: None,
            reason: prose(reason),
            at: actor.at,
        };
        Ok(save_rejection(write, approval, verdict, retry_at).await?)
    }

    /// Marks pending requests past their expiry, and says which. Event each:
    /// `ApprovalClosed`. Nothing depends on its being called.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn expire_approvals(
        &self,
        actor: &Actor,
    ) -> Result<Vec<(ApprovalRequestId, AgentId)>, StoreError> {
        let (overdue,): (i64,) = on!(self, |pool| sqlx::query_as(COUNT_OVERDUE)
            .bind(actor.at.as_millis())
            .fetch_one(pool)
            .await?);
        // The sweeper comes often and mostly for nothing: no need to stop writers then.
        if overdue == 0 {
            return Ok(Vec::new());
        }
        let mut write = self.write(actor).await?;
        let rows: Vec<(String, String, String)> = within!(write, |c| sqlx::query_as(EXPIRE)
            .bind(actor.at.as_millis())
            .fetch_all(c)
            .await?);
        let expired = announce_expired(&mut write, rows).await?;
        if expired.is_empty() {
            write.abandon().await?;
        } else {
            write.commit().await?;
        }
        Ok(expired)
    }
}

#[cfg(test)]
mod tests;
