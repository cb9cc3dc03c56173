//! What people decide: verdict, grant, event and trail in one transaction.

use std::time::Duration;

use authz::{
    ApprovalRequestId, Grant, GrantId, PolicySetVersion, UserId, approval::Reach, time::Timestamp,
};
use serde_json::{Value, json};

use super::{Approved, Proposal, Status, StoredApproval, Verdict, read::find};
use crate::{
    Actor, Store, StoreError, agents,
    column::{prose, statements},
    database::within,
    feed::Change,
    grants, users,
    write::{Record, Write},
    zones,
};

statements! {
    // The request's own columns, so that the table's rules about who may not decide hold.
    INSERT_VERDICT = "
        INSERT INTO verdicts (approval, user_id, place, reach, duration, reason, decided,
            requester, owner, via, policy_set)
        SELECT id, $2, $3, $4, $5, $6, $7, requester, owner, $8, $9 FROM approvals WHERE id = $1";
    APPROVE = "
        UPDATE approvals SET status = 'approved', decided = $2, grant_id = $3
        WHERE id = $1 AND status = 'pending' AND $2 < expires";
    REJECT = "
        UPDATE approvals SET status = 'rejected', decided = $2, retry_at = $3
        WHERE id = $1 AND status = 'pending' AND $2 < expires";
}

/// That it is still to be decided.
pub(super) fn pending(approval: &StoredApproval) -> Result<(), StoreError> {
    if approval.status == Status::Pending {
        return Ok(());
    }
    let (id, status) = (approval.new.id, approval.status.as_str());
    Err(StoreError::Conflict(format!(
        "approval request `{id}` is {status} already"
    )))
}

/// The request, if `by` may still decide about it as far as the store knows.
async fn undecided(
    write: &mut Write,
    id: ApprovalRequestId,
    by: &UserId,
) -> Result<StoredApproval, StoreError> {
    let approval = find(write, id).await?;
    pending(&approval)?;
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

pub(super) async fn insert_verdict(
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
    let policy_set = verdict
        .policy_set
        .as_ref()
        .map_or("", PolicySetVersion::as_str);
    let inserted = within!(write, |c| sqlx::query(INSERT_VERDICT)
        .bind(id.to_string())
        .bind(verdict.user.as_str())
        .bind(place)
        .bind(reach)
        .bind(duration)
        .bind(&verdict.reason)
        .bind(verdict.at.as_millis())
        .bind(&verdict.via)
        .bind(policy_set)
        .execute(c)
        .await
        .map(|done| done.rows_affected()));
    let user = &verdict.user;
    match inserted {
        Ok(1) => {}
        Ok(_) => return Err(super::not_found(id)),
        Err(sqlx::Error::Database(error)) if error.is_check_violation() => {
            return Err(StoreError::Conflict(format!(
                "`{user}` may not decide about request `{id}`: somebody else must"
            )));
        }
        Err(error) => {
            return Err(StoreError::taken(error, || {
                format!("`{user}` has decided about request `{id}` already")
            }));
        }
    }
    if verdict.approved.is_some() {
        approval.new.ask.approved_by.push(verdict.user.clone());
    }
    approval.verdicts.push(verdict);
    Ok(())
}

/// What verdicts amount to.
struct Sum {
    grant: Grant,
    reach: Reach,
    duration: Duration,
    /// Whether there are as many as are needed.
    complete: bool,
}

/// The grant that the approvals which count amount to, together with `verdict`: no wider
/// and no longer than any of them said.
fn sum(approval: &StoredApproval, verdict: &Verdict, at: Timestamp) -> Option<Sum> {
    let ask = &approval.new.ask;
    let approved: Vec<_> = approval
        .verdicts
        .iter()
        .chain([verdict])
        .filter(|verdict| verdict.counts)
        .filter_map(|verdict| Some((&verdict.user, verdict.approved?)))
        .collect();
    let reach = approved.iter().map(|(_, (reach, _))| *reach).min()?;
    let duration = approved.iter().map(|(_, (_, duration))| *duration).min()?;
    let mut people = approved.iter().map(|(user, _)| (*user).clone());
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
    let complete = approved.len() >= usize::from(ask.approvals);
    Some(Sum {
        grant,
        reach,
        duration,
        complete,
    })
}

/// A person's decision, and how they came to make it.
#[derive(Clone, Copy, Debug)]
pub struct Decision<'a> {
    /// Who.
    pub by: &'a UserId,
    /// Why.
    pub reason: &'a str,
    /// Under which policy set it was judged.
    pub policy_set: Option<&'a PolicySetVersion>,
}

impl Decision<'_> {
    fn verdict(self, approved: Option<(Reach, Duration)>, actor: &Actor) -> Verdict {
        Verdict {
            user: self.by.clone(),
            approved,
            reason: prose(self.reason),
            at: actor.at,
            via: actor.via.to_owned(),
            policy_set: self.policy_set.cloned(),
            counts: true,
        }
    }
}

impl Store {
    /// Saves an approval of one person, and the grant when it is the last one needed, all
    /// in one transaction. `permitted` is asked under the lock, with everything as it
    /// stands then, and its error is given back. The grant reaches no further and lives no
    /// longer than every approver said, and whoever is no longer active does not count.
    /// Events: `ApprovalAdvanced` or `ApprovalApproved`.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`]; [`StoreError::Conflict`] when it is not pending at
    /// `actor.at`, or this person has approved it already or may not; or what `permitted`
    /// said.
    pub async fn approve<E: From<StoreError> + Send>(
        &self,
        id: ApprovalRequestId,
        decision: Decision<'_>,
        (reach, duration): (Reach, Duration),
        actor: &Actor,
        permitted: impl FnOnce(&Proposal<'_>) -> Result<(), E> + Send,
    ) -> Result<Approved, E> {
        let mut write = self.write(actor).await?;
        let approval = undecided(&mut write, id, decision.by).await?;
        if duration.is_zero() {
            return Err(StoreError::Conflict("a grant cannot live for no time".to_owned()).into());
        }
        let verdict = decision.verdict(Some((reach, duration)), actor);
        let sum = sum(&approval, &verdict, actor.at).ok_or_else(|| {
            StoreError::Conflict("an approval must say how far and how long".to_owned())
        })?;
        let facts = agents::facts(&mut write, approval.new.ask.agent.id).await?;
        let zones = zones::find(&mut write).await?;
        permitted(&Proposal {
            approval: &approval,
            facts: &facts,
            zones: &zones,
            grant: Some(&sum.grant),
            complete: sum.complete,
        })?;
        Ok(save_approval(write, approval, verdict, sum).await?)
    }

    /// Saves a rejection, in the same way. Event: `ApprovalRejected`.
    ///
    /// # Errors
    ///
    /// As [`Store::approve`].
    pub async fn reject<E: From<StoreError> + Send>(
        &self,
        id: ApprovalRequestId,
        decision: Decision<'_>,
        retry_at: Timestamp,
        actor: &Actor,
        permitted: impl FnOnce(&Proposal<'_>) -> Result<(), E> + Send,
    ) -> Result<StoredApproval, E> {
        let mut write = self.write(actor).await?;
        let approval = undecided(&mut write, id, decision.by).await?;
        let facts = agents::facts(&mut write, approval.new.ask.agent.id).await?;
        let zones = zones::find(&mut write).await?;
        permitted(&Proposal {
            approval: &approval,
            facts: &facts,
            zones: &zones,
            grant: None,
            complete: true,
        })?;
        let verdict = decision.verdict(None, actor);
        Ok(save_rejection(write, approval, verdict, retry_at).await?)
    }
}

/// What the trail says of every verdict.
fn details(approval: &StoredApproval, verdict: &Verdict) -> Value {
    json!({
        "approval": approval.new.id,
        "reason": verdict.reason,
        "digest": approval.new.ask.digest,
        "asked_under": approval.new.policy_set,
        "policy_set": verdict.policy_set,
    })
}

fn put(details: &mut Value, name: &str, value: impl serde::Serialize) {
    if let Value::Object(details) = details {
        details.insert(name.to_owned(), json!(value));
    }
}

/// Saves one person's approval, and the grant if it was the last one needed.
async fn save_approval(
    mut write: Write,
    mut approval: StoredApproval,
    verdict: Verdict,
    sum: Sum,
) -> Result<Approved, StoreError> {
    let at = write.at();
    let id = approval.new.id;
    let agent = approval.new.ask.agent.id;
    let command = approval.new.ask.target.key.clone();
    let mut details = details(&approval, &verdict);
    if let Some((reach, duration)) = verdict.approved {
        put(&mut details, "reach", reach);
        put(&mut details, "duration_seconds", duration.as_secs());
    }
    insert_verdict(&mut write, &mut approval, verdict).await?;

    let Sum {
        grant,
        reach,
        duration,
        complete,
    } = sum;
    if !complete {
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
    }

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
    put(&mut details, "grant", &grant);
    put(&mut details, "granted_reach", reach);
    put(&mut details, "granted_seconds", duration.as_secs());
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
    let mut details = details(&approval, &verdict);
    put(&mut details, "retry_at", retry_at);
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
