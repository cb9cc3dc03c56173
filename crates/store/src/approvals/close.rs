//! Requests that end without a verdict: taken back, or past their time.

use authz::{AgentId, ApprovalRequestId, CommandKey, UserId};
use serde_json::json;

use super::{Status, StoredApproval, WHAT, Withdrawn, decide::pending, read::find};
use crate::{
    Actor, Store, StoreError,
    column::{parsed, prose, statements},
    database::{on, within},
    feed::Change,
    write::{Record, Write},
};

statements! {
    COUNT_OVERDUE = "SELECT COUNT(*) FROM approvals WHERE status = 'pending' AND expires <= $1";
    EXPIRE = "
        UPDATE approvals SET status = 'expired', decided = expires
        WHERE status = 'pending' AND expires <= $1
        RETURNING id, agent, command";
    EXPIRE_OF_AGENT = "
        UPDATE approvals SET status = 'expired', decided = expires
        WHERE agent = $1 AND status = 'pending' AND expires <= $2
        RETURNING id, agent, command";
    WITHDRAW = "
        UPDATE approvals SET status = 'withdrawn', decided = $2, withdrawn_by = $3, withdrawn_reason = $4
        WHERE id = $1 AND status = 'pending' AND $2 < expires";
}

/// Marks what is overdue of one agent's, and says so.
pub(super) async fn expire_of_agent(write: &mut Write, agent: AgentId) -> Result<(), StoreError> {
    let at = write.at().as_millis();
    let overdue: Vec<(String, String, String)> =
        within!(write, |c| sqlx::query_as(EXPIRE_OF_AGENT)
            .bind(agent.to_string())
            .bind(at)
            .fetch_all(c)
            .await?);
    announce_expired(write, overdue).await.map(drop)
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
    /// Takes a request back: for the person of `actor`, or, without one, for the agent
    /// itself. `permitted` is asked under the lock. Event: `ApprovalClosed`.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`]; [`StoreError::Conflict`] when it is not pending at
    /// `actor.at`; or what `permitted` said.
    pub async fn withdraw_approval<E: From<StoreError> + Send>(
        &self,
        id: ApprovalRequestId,
        reason: &str,
        actor: &Actor,
        permitted: impl FnOnce(&StoredApproval) -> Result<(), E> + Send,
    ) -> Result<StoredApproval, E> {
        let mut write = self.write(actor).await?;
        let approval = find(&mut write, id).await?;
        // First, so that strangers are not told where it stands.
        permitted(&approval)?;
        pending(&approval)?;
        let withdrawn = Withdrawn {
            by: actor.user.clone(),
            reason: prose(reason),
        };
        Ok(withdraw(write, approval, withdrawn).await?)
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

async fn withdraw(
    mut write: Write,
    mut approval: StoredApproval,
    withdrawn: Withdrawn,
) -> Result<StoredApproval, StoreError> {
    let at = write.at();
    let (id, agent) = (approval.new.id, approval.new.ask.agent.id);
    let command = approval.new.ask.target.key.clone();
    let closed = within!(write, |c| sqlx::query(WITHDRAW)
        .bind(id.to_string())
        .bind(at.as_millis())
        .bind(withdrawn.by.as_ref().map(UserId::as_str))
        .bind(&withdrawn.reason)
        .execute(c)
        .await?
        .rows_affected());
    if closed != 1 {
        return Err(StoreError::Conflict(format!(
            "approval request `{id}` is no longer pending"
        )));
    }
    write
        .announce(&Change::ApprovalClosed {
            approval: id,
            agent,
        })
        .await?;
    let details = json!({ "approval": id, "reason": withdrawn.reason });
    write
        .record(Record {
            kind: "withdrawn",
            agent: Some(agent),
            command: Some(&command),
            details,
        })
        .await?;
    write.commit().await?;
    approval.status = Status::Withdrawn;
    approval.decided = Some(at);
    approval.withdrawn = Some(withdrawn);
    Ok(approval)
}
