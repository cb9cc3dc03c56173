//! What waits to be sent to people, and what became of it.
//!
//! One process at a time plans and sends: it holds the one row of `notification_sender`
//! for some seconds at a time. What it plans is one transaction with how far it has
//! planned, so nothing is planned twice, or not at all; what it sends may arrive twice,
//! if it ends in between, and then has the same id.

use authz::{ApprovalRequestId, MessageId, TargetName, time::Timestamp};
use serde_json::{Value, json};

use crate::{
    Actor, Store, StoreError,
    column::{from_json, millis, parsed, row, statements, time, to_json},
    database::{on, within},
    write::Write,
};

/// A message holds so many items at most; then another is begun.
const MAX_ITEMS: usize = 200;

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageStatus {
    /// Not sent yet, or to be sent again.
    Waiting,
    /// It arrived.
    Delivered,
    /// What it was to say had passed before it was sent.
    Dropped,
    /// It failed for good.
    Dead,
}

impl MessageStatus {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Delivered => "delivered",
            Self::Dropped => "dropped",
            Self::Dead => "dead",
        }
    }

    fn parse(text: &str) -> Result<Self, StoreError> {
        [Self::Waiting, Self::Delivered, Self::Dropped, Self::Dead]
            .into_iter()
            .find(|status| status.as_str() == text)
            .ok_or_else(|| StoreError::Corrupt {
                what: WHAT,
                why: format!("`{text}` is not a status"),
            })
    }
}

/// A message as stored.
#[derive(Clone, Debug)]
pub struct StoredMessage {
    /// Names it, at every attempt.
    pub id: MessageId,
    /// Where it goes.
    pub target: TargetName,
    /// What it says: at least one.
    pub items: Vec<Value>,
    /// Exactly what is sent, once it was first tried.
    pub body: Option<String>,
    /// When it was begun.
    pub created: Timestamp,
    /// Not sent before this instant.
    pub due: Timestamp,
    /// How often it was tried.
    pub attempts: u32,
    /// What became of it.
    pub status: MessageStatus,
    /// Why the last attempt failed.
    pub last_error: Option<String>,
    /// When it was delivered, dropped or given up.
    pub ended: Option<Timestamp>,
}

/// One thing to tell one target.
#[derive(Clone, Debug)]
pub struct Planned {
    /// Which.
    pub target: TargetName,
    /// It joins the message that has the same bucket and was not tried yet; empty: a
    /// message of its own.
    pub bucket: String,
    /// When a message that is begun for it is sent.
    pub due: Timestamp,
    /// What to tell.
    pub item: Value,
}

/// What a sender has worked out.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// How far in the feed it had planned before.
    pub from: i64,
    /// How far it has now.
    pub to: i64,
    /// What to tell.
    pub planned: Vec<Planned>,
    /// What is not to be said again: set, or with nothing, removed.
    pub marks: Vec<(String, Option<String>)>,
}

/// What a sender holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// How far in the feed everything is planned.
    pub planned: i64,
    /// Until when no other process plans or sends.
    pub until: Timestamp,
}

/// How an attempt ended.
#[derive(Clone, Debug)]
pub enum Attempt {
    /// It arrived.
    Delivered,
    /// It did not.
    Failed {
        /// Why; never what the other side said.
        error: String,
        /// When to try again; never, if absent.
        retry_at: Option<Timestamp>,
        /// The target is left alone until then, if it fails repeatedly.
        open_until: Option<Timestamp>,
        /// The target said that it is gone for good.
        disable: bool,
    },
}

statements! {
    HELD = "SELECT holder, held_until, planned FROM notification_sender WHERE id = 1";
    HOLD = "
        UPDATE notification_sender SET holder = $1, held_until = $2
        WHERE id = 1 AND (holder = $1 OR held_until <= $3)
        RETURNING planned";
    ADVANCE = "
        UPDATE notification_sender SET planned = $3
        WHERE id = 1 AND holder = $1 AND planned = $2";
    OPEN = "
        SELECT id, items FROM notification_messages
        WHERE target = $1 AND bucket = $2 AND status = 'waiting' AND attempts = 0 AND body IS NULL
        ORDER BY place DESC LIMIT 1";
    ADD = "UPDATE notification_messages SET items = $2 WHERE id = $1";
    BEGIN = "
        INSERT INTO notification_messages (id, target, bucket, items, created, due, attempts, status, place)
        VALUES ($1, $2, $3, $4, $5, $6, 0, 'waiting',
            (SELECT COALESCE(MAX(place), 0) + 1 FROM notification_messages))";
    MARK = "
        INSERT INTO notification_marks (name, value, marked) VALUES ($1, $2, $3)
        ON CONFLICT (name) DO UPDATE SET value = excluded.value, marked = excluded.marked";
    UNMARK = "DELETE FROM notification_marks WHERE name = $1";
    MARKED = "SELECT value FROM notification_marks WHERE name = $1";
    // Of each target the one that has been due longest, so that none holds up another.
    DUE = "
        SELECT m.id, m.target, m.items, m.body, m.created, m.due, m.attempts, m.status,
            m.last_error, m.ended
        FROM notification_messages m JOIN notification_targets t ON t.name = m.target
        WHERE m.status = 'waiting' AND m.due <= $1 AND t.enabled = 1
            AND (t.open_until IS NULL OR t.open_until <= $1)
            AND NOT EXISTS (
                SELECT 1 FROM notification_messages e
                WHERE e.target = m.target AND e.status = 'waiting'
                    AND (e.due < m.due OR (e.due = m.due AND e.place < m.place)))
        ORDER BY m.due, m.place";
    FREEZE = "
        UPDATE notification_messages SET body = $2
        WHERE id = $1 AND status = 'waiting' AND body IS NULL";
    BY_ID = "
        SELECT id, target, items, body, created, due, attempts, status, last_error, ended
        FROM notification_messages WHERE id = $1";
    LIST = "
        SELECT id, target, items, body, created, due, attempts, status, last_error, ended
        FROM notification_messages
        WHERE (CAST($1 AS TEXT) IS NULL OR target = CAST($1 AS TEXT))
            AND (CAST($2 AS TEXT) IS NULL OR status = CAST($2 AS TEXT))
        ORDER BY place DESC LIMIT $3";
    DELIVERED = "
        UPDATE notification_messages
        SET status = 'delivered', attempts = attempts + 1, last_error = NULL, ended = $2
        WHERE id = $1 AND status = 'waiting'";
    TARGET_WELL = "
        UPDATE notification_targets
        SET failures = 0, open_until = NULL, last_error = NULL, last_delivered = $2
        WHERE name = $1";
    RETRY = "
        UPDATE notification_messages SET attempts = attempts + 1, last_error = $2, due = $3
        WHERE id = $1 AND status = 'waiting'";
    DIE = "
        UPDATE notification_messages
        SET status = 'dead', attempts = attempts + 1, last_error = $2, ended = $3
        WHERE id = $1 AND status = 'waiting'";
    TARGET_ILL = "
        UPDATE notification_targets
        SET failures = failures + 1, last_error = $2, open_until = $3, enabled = enabled * $4
        WHERE name = $1";
    DROP_MESSAGE = "
        UPDATE notification_messages SET status = 'dropped', ended = $2
        WHERE id = $1 AND status = 'waiting'";
    REVIVE = "
        UPDATE notification_messages
        SET status = 'waiting', attempts = 0, due = $2, ended = NULL
        WHERE id = $1 AND status IN ('dead', 'delivered')";
    TRY_TARGET = "UPDATE notification_targets SET open_until = NULL WHERE name = $1";
    EXPIRING = "
        SELECT id FROM approvals
        WHERE status = 'pending' AND $1 < expires AND expires <= $2
            AND NOT EXISTS (SELECT 1 FROM notification_marks WHERE name = 'expiring:' || approvals.id)
        ORDER BY expires, id LIMIT 100";
    FORGET_ENDED = "
        DELETE FROM notification_messages
        WHERE (status IN ('delivered', 'dropped') AND ended < $1) OR (status = 'dead' AND ended < $2)";
    FORGET_MARKS = "DELETE FROM notification_marks WHERE name LIKE 'expiring:%' AND marked < $1";
}

row! {
    /// A message.
    MessageRow {
        id: String,
        target: String,
        items: String,
        body: Option<String>,
        created: i64,
        due: i64,
        attempts: i64,
        status: String,
        last_error: Option<String>,
        ended: Option<i64>,
    }
}

const WHAT: &str = "notification";

impl MessageRow {
    fn message(self) -> Result<StoredMessage, StoreError> {
        Ok(StoredMessage {
            id: parsed(WHAT, &self.id)?,
            target: parsed(WHAT, &self.target)?,
            items: from_json(WHAT, &self.items)?,
            body: self.body,
            created: Timestamp::from_millis(self.created),
            due: Timestamp::from_millis(self.due),
            attempts: u32::try_from(self.attempts).unwrap_or(u32::MAX),
            status: MessageStatus::parse(&self.status)?,
            last_error: self.last_error,
            ended: time(self.ended),
        })
    }
}

fn not_found(id: MessageId) -> StoreError {
    StoreError::NotFound(format!("notification `{id}`"))
}

/// Adds to the message that waits in that bucket, or begins one.
async fn put(write: &mut Write, planned: Planned) -> Result<(), StoreError> {
    if !planned.bucket.is_empty() {
        let open: Option<(String, String)> = within!(write, |c| sqlx::query_as(OPEN)
            .bind(planned.target.as_str())
            .bind(&planned.bucket)
            .fetch_optional(c)
            .await?);
        if let Some((id, items)) = open {
            let mut items: Vec<Value> = from_json(WHAT, &items)?;
            if items.len() < MAX_ITEMS {
                items.push(planned.item);
                let items = to_json(WHAT, &items)?;
                within!(write, |c| sqlx::query(ADD)
                    .bind(id)
                    .bind(items)
                    .execute(c)
                    .await
                    .map(drop)?);
                return Ok(());
            }
        }
    }
    let at = write.at();
    let items = to_json(WHAT, &[planned.item])?;
    within!(write, |c| sqlx::query(BEGIN)
        .bind(MessageId::generate(at).to_string())
        .bind(planned.target.as_str())
        .bind(&planned.bucket)
        .bind(items)
        .bind(at.as_millis())
        .bind(planned.due.as_millis())
        .execute(c)
        .await
        .map(drop)?);
    Ok(())
}

impl Store {
    /// Who holds the outbox now, if anybody, and how far is planned. Only reads.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn outbox_holder(&self) -> Result<(String, Held), StoreError> {
        let (holder, until, planned): (String, i64, i64) =
            on!(self, |pool| sqlx::query_as(HELD).fetch_one(pool).await?);
        let until = Timestamp::from_millis(until);
        Ok((holder, Held { planned, until }))
    }

    /// Holds the outbox until `until`, if nobody else does at `actor.at`.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn hold_outbox(
        &self,
        holder: &str,
        until: Timestamp,
        actor: &Actor,
    ) -> Result<Option<Held>, StoreError> {
        let mut write = self.write(actor).await?;
        let now = write.at().as_millis();
        let held: Option<(i64,)> = within!(write, |c| sqlx::query_as(HOLD)
            .bind(holder)
            .bind(until.as_millis())
            .bind(now)
            .fetch_optional(c)
            .await?);
        write.commit().await?;
        Ok(held.map(|(planned,)| Held { planned, until }))
    }

    /// Saves what is to be told and how far that was worked out, together. Says whether it
    /// did: not if another process did meanwhile.
    ///
    /// # Errors
    ///
    /// When the database fails; then nothing is saved.
    pub async fn plan_notifications(
        &self,
        holder: &str,
        plan: Plan,
        actor: &Actor,
    ) -> Result<bool, StoreError> {
        let mut write = self.write(actor).await?;
        let advanced = within!(write, |c| sqlx::query(ADVANCE)
            .bind(holder)
            .bind(plan.from)
            .bind(plan.to)
            .execute(c)
            .await?
            .rows_affected());
        if advanced != 1 {
            write.abandon().await?;
            return Ok(false);
        }
        for planned in plan.planned {
            put(&mut write, planned).await?;
        }
        let at = write.at().as_millis();
        for (name, value) in plan.marks {
            within!(write, |c| match value {
                Some(value) => sqlx::query(MARK)
                    .bind(name)
                    .bind(value)
                    .bind(at)
                    .execute(c)
                    .await
                    .map(drop)?,
                None => sqlx::query(UNMARK).bind(name).execute(c).await.map(drop)?,
            });
        }
        write.commit().await?;
        Ok(true)
    }

    /// What was marked under this name.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn notification_mark(&self, name: &str) -> Result<Option<String>, StoreError> {
        let mark: Option<(String,)> = on!(self, |pool| sqlx::query_as(MARKED)
            .bind(name)
            .fetch_optional(pool)
            .await?);
        Ok(mark.map(|(value,)| value))
    }

    /// Pending requests that expire after `now` and by `by`, and are not marked as told of:
    /// `expiring:` and their id. At most 100, the most urgent first.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn approvals_expiring(
        &self,
        now: Timestamp,
        by: Timestamp,
    ) -> Result<Vec<ApprovalRequestId>, StoreError> {
        let rows: Vec<(String,)> = on!(self, |pool| sqlx::query_as(EXPIRING)
            .bind(now.as_millis())
            .bind(by.as_millis())
            .fetch_all(pool)
            .await?);
        rows.iter().map(|(id,)| parsed(WHAT, id)).collect()
    }

    /// What is to be sent at `now`: of each target that is enabled and not left alone, the
    /// message that has been due longest.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn due_notifications(
        &self,
        now: Timestamp,
    ) -> Result<Vec<StoredMessage>, StoreError> {
        let rows: Vec<MessageRow> = on!(self, |pool| sqlx::query_as(DUE)
            .bind(now.as_millis())
            .fetch_all(pool)
            .await?);
        rows.into_iter().map(MessageRow::message).collect()
    }

    /// Settles what is sent, before it first is; nothing is added to the message from here
    /// on. Gives back what was settled, which may be what another process settled before.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`]; [`StoreError::Conflict`] when it is not waiting any more.
    pub async fn settle_notification(
        &self,
        id: MessageId,
        body: &str,
        actor: &Actor,
    ) -> Result<String, StoreError> {
        let mut write = self.write(actor).await?;
        within!(write, |c| sqlx::query(FREEZE)
            .bind(id.to_string())
            .bind(body)
            .execute(c)
            .await
            .map(drop)?);
        let row: Option<MessageRow> = within!(write, |c| sqlx::query_as(BY_ID)
            .bind(id.to_string())
            .fetch_optional(c)
            .await?);
        let message = row.ok_or_else(|| not_found(id))?.message()?;
        write.commit().await?;
        match (message.status, message.body) {
            (MessageStatus::Waiting, Some(body)) => Ok(body),
            _ => Err(StoreError::Conflict(format!(
                "notification `{id}` is not waiting any more"
            ))),
        }
    }

    /// Keeps how an attempt ended, of the message and of its target.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn notification_tried(
        &self,
        message: MessageId,
        target: &TargetName,
        attempt: &Attempt,
        actor: &Actor,
    ) -> Result<(), StoreError> {
        let id = message.to_string();
        let mut write = self.write(actor).await?;
        let at = write.at().as_millis();
        match attempt {
            Attempt::Delivered => {
                for (statement, name) in [(DELIVERED, id.as_str()), (TARGET_WELL, target.as_str())]
                {
                    within!(write, |c| sqlx::query(statement)
                        .bind(name)
                        .bind(at)
                        .execute(c)
                        .await
                        .map(drop)?);
                }
            }
            Attempt::Failed {
                error,
                retry_at,
                open_until,
                disable,
            } => {
                let (statement, when) = match retry_at {
                    Some(retry_at) => (RETRY, retry_at.as_millis()),
                    None => (DIE, at),
                };
                within!(write, |c| sqlx::query(statement)
                    .bind(&id)
                    .bind(error)
                    .bind(when)
                    .execute(c)
                    .await
                    .map(drop)?);
                within!(write, |c| sqlx::query(TARGET_ILL)
                    .bind(target.as_str())
                    .bind(error)
                    .bind(millis(*open_until))
                    .bind(i64::from(!disable))
                    .execute(c)
                    .await
                    .map(drop)?);
                if retry_at.is_none() || *disable {
                    let details = json!({
                        "target": target,
                        "message": message,
                        "error": error,
                        "target_disabled": disable,
                    });
                    write.note("notification_failed", details).await?;
                }
            }
        }
        write.commit().await
    }

    /// Gives a message up because what it was to say has passed.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn drop_notification(&self, id: MessageId, actor: &Actor) -> Result<(), StoreError> {
        let mut write = self.write(actor).await?;
        let at = write.at().as_millis();
        within!(write, |c| sqlx::query(DROP_MESSAGE)
            .bind(id.to_string())
            .bind(at)
            .execute(c)
            .await
            .map(drop)?);
        write.commit().await
    }

    /// One message.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`].
    pub async fn notification(&self, id: MessageId) -> Result<StoredMessage, StoreError> {
        let row: Option<MessageRow> = on!(self, |pool| sqlx::query_as(BY_ID)
            .bind(id.to_string())
            .fetch_optional(pool)
            .await?);
        row.ok_or_else(|| not_found(id))?.message()
    }

    /// Messages, newest first, at most `limit`: of one target, of one status, or all.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn notifications(
        &self,
        target: Option<&TargetName>,
        status: Option<MessageStatus>,
        limit: u32,
    ) -> Result<Vec<StoredMessage>, StoreError> {
        let rows: Vec<MessageRow> = on!(self, |pool| sqlx::query_as(LIST)
            .bind(target.map(TargetName::as_str))
            .bind(status.map(MessageStatus::as_str))
            .bind(i64::from(limit))
            .fetch_all(pool)
            .await?);
        rows.into_iter().map(MessageRow::message).collect()
    }

    /// Has a message sent once more, now, with the same id and the same body.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`]; [`StoreError::Conflict`] when it waits already, or was dropped.
    pub async fn redeliver_notification(
        &self,
        id: MessageId,
        actor: &Actor,
    ) -> Result<StoredMessage, StoreError> {
        let mut write = self.write(actor).await?;
        let at = write.at().as_millis();
        let revived = within!(write, |c| sqlx::query(REVIVE)
            .bind(id.to_string())
            .bind(at)
            .execute(c)
            .await?
            .rows_affected());
        let row: Option<MessageRow> = within!(write, |c| sqlx::query_as(BY_ID)
            .bind(id.to_string())
            .fetch_optional(c)
            .await?);
        let message = row.ok_or_else(|| not_found(id))?.message()?;
        if revived == 0 {
            return Err(StoreError::Conflict(format!(
                "notification `{id}` is {}: only what was delivered or given up is sent again",
                message.status.as_str()
            )));
        }
        within!(write, |c| sqlx::query(TRY_TARGET)
            .bind(message.target.as_str())
            .execute(c)
            .await
            .map(drop)?);
        write
            .note(
                "notification_redelivered",
                json!({ "target": message.target, "message": id }),
            )
            .await?;
        write.commit().await?;
        Ok(message)
    }

    /// Forgets what arrived before `delivered`, what was given up before `dead`, and what
    /// was marked for requests that are long over.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn tidy_notifications(
        &self,
        delivered: Timestamp,
        dead: Timestamp,
        actor: &Actor,
    ) -> Result<(), StoreError> {
        let mut write = self.write(actor).await?;
        within!(write, |c| sqlx::query(FORGET_ENDED)
            .bind(delivered.as_millis())
            .bind(dead.as_millis())
            .execute(c)
            .await
            .map(drop)?);
        within!(write, |c| sqlx::query(FORGET_MARKS)
            .bind(dead.as_millis())
            .execute(c)
            .await
            .map(drop)?);
        write.commit().await
    }
}

#[cfg(test)]
mod tests;
