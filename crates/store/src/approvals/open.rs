//! How a request begins, or is joined.

use authz::{ApprovalRequestId, UserId, time::Timestamp};
use serde_json::json;

use super::{
    NewApproval, Status, StoredApproval, Terms, WHAT,
    close::expire_of_agent,
    read::{cooling_down, find},
};
use crate::{
    Actor, Store, StoreError, agents,
    column::{is_exact, parsed, prose, statements, to_json},
    database::{Database, queued, within},
    feed::Change,
    write::{Record, Write},
};

statements! {
    INSERT = "
        INSERT INTO approvals (id, agent, command, digest, policy_set, ask, arguments, reason, policies,
            advice, workflow, opened, expires, status, joined, requester, owner, asked, risk)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, 'pending', 0, $14, $15, $16, $17)";
    JOIN_PENDING = "
        UPDATE approvals SET joined = joined + $6
        WHERE agent = $1 AND command = $2 AND digest = $3 AND policy_set = $4 AND status = 'pending'
            AND $5 < expires
        RETURNING id";
    COUNT_PENDING = "SELECT COUNT(*) FROM approvals WHERE agent = $1 AND status = 'pending'";
}

/// What makes two calls one request.
struct Key {
    agent: String,
    command: String,
    digest: String,
    policy_set: String,
}

impl Key {
    fn of(new: &NewApproval) -> Self {
        Self {
            agent: new.ask.agent.id.to_string(),
            command: new.ask.target.key.to_string(),
            digest: new.ask.digest.as_str().to_owned(),
            policy_set: new.policy_set.as_str().to_owned(),
        }
    }
}

pub(super) async fn insert(
    write: &mut Write,
    new: &NewApproval,
    terms: &Terms,
) -> Result<(), StoreError> {
    let ask = to_json(WHAT, &new.ask)?;
    let arguments = to_json(WHAT, &new.arguments)?;
    let policies = to_json(WHAT, &new.policies)?;
    let advice = to_json(WHAT, &new.advice)?;
    let asked = terms
        .asked
        .as_ref()
        .map(|asked| to_json(WHAT, asked))
        .transpose()?;
    let barred = |user: Option<&UserId>| user.map_or(String::new(), ToString::to_string);
    let owner = new.ask.agent.owner.as_ref().filter(|_| terms.bars_owner);
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
        .bind(barred(new.ask.requester.as_ref()))
        .bind(barred(owner))
        .bind(asked)
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

impl Store {
    /// As [`Store::open_approval_on`], on no particular terms.
    ///
    /// # Errors
    ///
    /// See [`Store::open_approval_on`].
    pub async fn open_approval(
        &self,
        new: NewApproval,
        open_limit: u32,
        actor: &Actor,
    ) -> Result<(StoredApproval, bool), StoreError> {
        self.open_approval_on(new, Terms::default(), open_limit, actor)
            .await
    }

    /// Opens a request; or joins the pending one of the same agent, command, digest and
    /// policy set; or gives back the rejected one of the same call whose cool-down lasts
    /// still. Says whether it opened one. Event when opened: `ApprovalOpened`.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`] for an unknown agent; [`StoreError::TooMany`] when the
    /// agent has `open_limit` pending requests already.
    pub async fn open_approval_on(
        &self,
        new: NewApproval,
        terms: Terms,
        open_limit: u32,
        actor: &Actor,
    ) -> Result<(StoredApproval, bool), StoreError> {
        if !is_exact(new.policy_set.as_str()) {
            return Err(StoreError::Conflict(
                "a policy set version cannot hold NUL".to_owned(),
            ));
        }
        if let Some(pending) = self.join_approval(&new, 1, actor.at).await? {
            return Ok((pending, false));
        }
        let key = Key::of(&new);

        let mut new = new;
        new.reason = prose(&new.reason);
        new.workflow = new.workflow.as_deref().map(prose);
        new.ask.approved_by.clear();
        let agent = new.ask.agent.id;
        let mut write = self.write(actor).await?;
        agents::find(&mut write, &authz::AgentRef::Id(agent)).await?;
        expire_of_agent(&mut write, agent).await?;

        // Once more, under the lock: another may have opened it meanwhile.
        let joined: Option<(String,)> = within!(write, |c| sqlx::query_as(JOIN_PENDING)
            .bind(&key.agent)
            .bind(&key.command)
            .bind(&key.digest)
            .bind(&key.policy_set)
            .bind(actor.at.as_millis())
            .bind(1_i64)
            .fetch_optional(c)
            .await?);
        if let Some((pending,)) = joined {
            let approval = find(&mut write, parsed(WHAT, &pending)?).await?;
            write.commit().await?;
            return Ok((approval, false));
        }
        let rejected = cooling_down(&mut write, &key.agent, &key.command, &key.digest).await?;
        if let Some(approval) = rejected {
            write.commit().await?;
            return Ok((approval, false));
        }
        let (pending,): (i64,) = within!(write, |c| sqlx::query_as(COUNT_PENDING)
            .bind(&key.agent)
            .fetch_one(c)
            .await?);
        if pending >= i64::from(open_limit) {
            let name = &new.ask.agent.name;
            return Err(StoreError::TooMany(format!(
                "agent `{name}` has {pending} pending approval requests, which is as many as it may"
            )));
        }
        open(write, new, terms).await.map(|opened| (opened, true))
    }

    /// Joins the pending request of the same call, if there is one, as so many calls: one
    /// statement of its own, without the head of the feed. However often a looping agent
    /// asks, nobody else waits for it.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn join_approval(
        &self,
        new: &NewApproval,
        calls: u64,
        at: Timestamp,
    ) -> Result<Option<StoredApproval>, StoreError> {
        let key = Key::of(new);
        let times = i64::try_from(calls).unwrap_or(i64::MAX);
        let joined: Option<(String,)> = match &self.database {
            Database::Postgres(pool) => {
                sqlx::query_as(JOIN_PENDING)
                    .bind(&key.agent)
                    .bind(&key.command)
                    .bind(&key.digest)
                    .bind(&key.policy_set)
                    .bind(at.as_millis())
                    .bind(times)
                    .fetch_optional(pool)
                    .await?
            }
            Database::Sqlite { writer, .. } => sqlx::query_as(JOIN_PENDING)
                .bind(&key.agent)
                .bind(&key.command)
                .bind(&key.digest)
                .bind(&key.policy_set)
                .bind(at.as_millis())
                .bind(times)
                .fetch_optional(writer)
                .await
                .map_err(queued)?,
        };
        let Some((pending,)) = joined else {
            return Ok(None);
        };
        // It may be decided by now; then that is the answer.
        let id: ApprovalRequestId = parsed(WHAT, &pending)?;
        self.approval(id, at).await.map(Some)
    }
}

async fn open(
    mut write: Write,
    new: NewApproval,
    terms: Terms,
) -> Result<StoredApproval, StoreError> {
    let (agent, command) = (new.ask.agent.id, new.ask.target.key.clone());
    let opened = write.at();
    insert(&mut write, &new, &terms).await?;
    write
        .announce(&Change::ApprovalOpened {
            approval: new.id,
            agent,
        })
        .await?;
    let mut details = json!({
        "approval": new.id,
        "risk": new.ask.target.risk,
        "digest": new.ask.digest,
        "arguments": new.arguments,
        "reason": new.reason,
        "policies": new.policies,
        "approvals_needed": new.ask.approvals,
        "policy_set": new.policy_set,
        "expires": new.expires,
    });
    if let (Some(details), Some(requester)) = (details.as_object_mut(), &new.ask.requester) {
        details.insert("requester".to_owned(), json!(requester));
    }
    write
        .record(Record {
            kind: "approval_opened",
            agent: Some(agent),
            command: Some(&command),
            details,
        })
        .await?;
    write.commit().await?;
    Ok(StoredApproval {
        new,
        status: Status::Pending,
        opened,
        decided: None,
        retry_at: None,
        joined: 0,
        grant: None,
        verdicts: Vec::new(),
        withdrawn: None,
        asked: terms.asked,
    })
}
