//! Writing: one transaction, which begins by taking the head of the feed.

use std::sync::Arc;

use serde_json::{Map, Value};
use tokio::sync::watch;

use authz::{AgentId, CommandKey, ServiceName, time::Timestamp};

use crate::{
    Actor, Store, StoreError,
    column::{statements, to_json},
    database::{Open, within},
    feed::Change,
};

statements! {
    TAKE_HEAD = "UPDATE feed_head SET sequence = sequence + 1 WHERE id = 1 RETURNING sequence, audit";
    SET_HEAD = "UPDATE feed_head SET sequence = $1, audit = $2 WHERE id = 1";
    INSERT_CHANGE = "INSERT INTO feed (sequence, happened, change) VALUES ($1, $2, $3)";
    INSERT_RECORD = "
        INSERT INTO audit (id, happened, source, kind, agent, user_id, command, entry, service)
        VALUES ($1, $2, 'orchestrator', $3, $4, $5, $6, $7, $8)";
}

/// Followers on PostgreSQL may listen to this; the payload is the head's sequence.
/// Nothing depends on it, since followers poll as well.
pub(crate) const CHANNEL: &str = "cedargate_feed";

/// PostgreSQL only. Delivered when the transaction commits, and not otherwise.
const NOTIFY: &str = "SELECT pg_notify($1, $2)";

/// A write under way: it holds the head of the feed, so there is no other, and what it
/// reads stays true until it ends. Dropped, it leaves nothing.
#[derive(Debug)]
pub(crate) struct Write {
    pub(crate) open: Open,
    /// Where the next change goes.
    next: i64,
    /// The number that the head holds within this transaction.
    held: i64,
    /// The last line of the audit trail, and whether this write added to it.
    pub(crate) audit: i64,
    audited: bool,
    announced: bool,
    actor: Actor,
    head: Arc<watch::Sender<i64>>,
}

/// One line for the audit trail.
#[derive(Debug)]
pub(crate) struct Record<'a> {
    /// What happened: `approved`, `agent_created`, …
    pub(crate) kind: &'static str,
    /// The agent concerned.
    pub(crate) agent: Option<AgentId>,
    /// The command concerned.
    pub(crate) command: Option<&'a CommandKey>,
    /// Everything else, never a secret: an object, to which who and how is added.
    pub(crate) details: Value,
}

impl Store {
    /// Begins a write: waits for the one before to end.
    pub(crate) async fn write(&self, actor: &Actor) -> Result<Write, StoreError> {
        let open = self.database.begin().await?;
        let head = Arc::clone(&self.head);
        let actor = actor.clone();
        let mut write = Write {
            open,
            next: 0,
            held: 0,
            audit: 0,
            audited: false,
            announced: false,
            actor,
            head,
        };
        let (sequence, audit): (i64, i64) =
            within!(write, |c| sqlx::query_as(TAKE_HEAD).fetch_one(c).await?);
        write.next = sequence;
        write.held = sequence;
        write.audit = audit;
        Ok(write)
    }
}

impl Write {
    /// When the actor acts.
    pub(crate) fn at(&self) -> Timestamp {
        self.actor.at
    }

    /// The person, or how.
    pub(crate) fn by(&self) -> &str {
        self.actor
            .user
            .as_ref()
            .map_or(self.actor.via, |user| user.as_str())
    }

    /// How.
    pub(crate) fn via(&self) -> &'static str {
        self.actor.via
    }

    /// Adds a change to the feed.
    pub(crate) async fn announce(&mut self, change: &Change) -> Result<(), StoreError> {
        let text = to_json("change", change)?;
        let (sequence, at) = (self.next, self.at().as_millis());
        within!(self, |c| sqlx::query(INSERT_CHANGE)
            .bind(sequence)
            .bind(at)
            .bind(text)
            .execute(c)
            .await
            .map(drop)?);
        self.next += 1;
        self.announced = true;
        Ok(())
    }

    /// The head of the feed before this write.
    pub(crate) fn before(&self) -> i64 {
        self.held - 1
    }

    /// The next place in the audit trail.
    pub(crate) fn next_audit(&mut self) -> i64 {
        self.audit += 1;
        self.audited = true;
        self.audit
    }

    /// Adds a line to the audit trail.
    pub(crate) async fn record(&mut self, record: Record<'_>) -> Result<(), StoreError> {
        let service = record.command.map(|command| &command.service);
        self.record_of(service, record).await
    }

    /// Adds a line that is about no agent and no command.
    pub(crate) async fn note(
        &mut self,
        kind: &'static str,
        details: Value,
    ) -> Result<(), StoreError> {
        self.record(Record {
            kind,
            agent: None,
            command: None,
            details,
        })
        .await
    }

    /// The same as [`Self::record`], found by this service.
    pub(crate) async fn record_of(
        &mut self,
        service: Option<&ServiceName>,
        record: Record<'_>,
    ) -> Result<(), StoreError> {
        let Record {
            kind,
            agent,
            command,
            details,
        } = record;
        let mut entry = match details {
            Value::Object(entry) => entry,
            Value::Null => Map::new(),
            other => Map::from_iter([("details".to_owned(), other)]),
        };
        entry.insert("kind".to_owned(), kind.into());
        entry.insert("at".to_owned(), self.at().to_string().into());
        entry.insert("via".to_owned(), self.actor.via.into());
        if let Some(from) = self.actor.from {
            entry.insert("from".to_owned(), from.to_string().into());
        }
        if let Some(user) = &self.actor.user {
            entry.insert("user".to_owned(), user.as_str().into());
        }
        if let Some(agent) = agent {
            entry.insert("agent".to_owned(), agent.to_string().into());
        }
        if let Some(command) = command {
            entry.insert("command".to_owned(), command.to_string().into());
        }
        let entry = to_json("audit entry", &entry)?;
        let (id, at) = (self.next_audit(), self.at().as_millis());
        let user = self.actor.user.as_ref().map(ToString::to_string);
        within!(self, |c| sqlx::query(INSERT_RECORD)
            .bind(id)
            .bind(at)
            .bind(kind)
            .bind(agent.map(|agent| agent.to_string()))
            .bind(user)
            .bind(command.map(ToString::to_string))
            .bind(entry)
            .bind(service.map(ToString::to_string))
            .execute(c)
            .await
            .map(drop)?);
        Ok(())
    }

    /// Makes it last, and tells followers. Without an announced change the feed stays
    /// as it was: nobody else can have seen the number that this write held.
    pub(crate) async fn commit(mut self) -> Result<(), StoreError> {
        let (sequence, audit) = (self.next - 1, self.audit);
        if self.held != sequence || self.audited {
            within!(self, |c| sqlx::query(SET_HEAD)
                .bind(sequence)
                .bind(audit)
                .execute(c)
                .await
                .map(drop)?);
        }
        if let (true, Open::Postgres(transaction)) = (self.announced, &mut self.open) {
            sqlx::query(NOTIFY)
                .bind(CHANNEL)
                .bind(sequence.to_string())
                .execute(&mut **transaction)
                .await?;
        }
        self.open.commit().await?;
        if self.announced {
            // Two commits may come here in the other order; the head never goes back.
            self.head.send_if_modified(|head| {
                let newer = sequence > *head;
                *head = sequence.max(*head);
                newer
            });
        }
        Ok(())
    }

    /// Leaves everything as it was.
    pub(crate) async fn abandon(self) -> Result<(), StoreError> {
        self.open.rollback().await
    }
}
