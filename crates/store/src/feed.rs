//! The feed: every change, in order.

use authz::{
    AgentId, ApprovalRequestId, GrantId, PolicySetVersion, ServiceName, UserId, time::Timestamp,
};
use serde::{Deserialize, Serialize};

use sqlx::postgres::PgListener;
use tokio::sync::watch;

use crate::{
    Store, StoreError,
    column::{from_json, statements},
    database::{Database, on},
    write::CHANNEL,
};

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
#[allow(
    missing_docs,
    reason = "the fields are the ids of what the variant names"
)]
pub enum Change {
    /// An agent or one of its credentials.
    AgentChanged { agent: AgentId },
    /// A user or one of their credentials.
    UserChanged { user: UserId },
    /// A request was opened.
    ApprovalOpened {
        approval: ApprovalRequestId,
        agent: AgentId,
    },
    /// A first of two people approved.
    ApprovalAdvanced {
        approval: ApprovalRequestId,
        agent: AgentId,
    },
    /// A request yielded a grant.
    ApprovalApproved {
        approval: ApprovalRequestId,
        agent: AgentId,
        grant: GrantId,
    },
    /// A request was rejected.
    ApprovalRejected {
        approval: ApprovalRequestId,
        agent: AgentId,
    },
    /// A request expired or was withdrawn.
    ApprovalClosed {
        approval: ApprovalRequestId,
        agent: AgentId,
    },
    /// A grant was revoked or spent, or has expired.
    GrantEnded { grant: GrantId, agent: AgentId },
    /// Another policy set is in force.
    PolicySetActivated { version: PolicySetVersion },
    /// Another policy set, or none, is evaluated beside the one in force.
    PolicySetShadowed { version: Option<PolicySetVersion> },
    /// Definitions of a service's tools were reviewed, or a review was withdrawn.
    ToolsReviewed { service: ServiceName },
    /// A service or a command was put into a zone, or taken out of one.
    ZonesChanged { revision: i64 },
}

statements! {
    HEAD = "SELECT sequence FROM feed_head WHERE id = 1";
    AFTER = "
        SELECT sequence, happened, change FROM feed
        WHERE sequence > $1 ORDER BY sequence LIMIT $2";
}

impl Store {
    /// Changes after `after`, oldest first, at most `limit`. Never skips one.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn feed_after(&self, after: i64, limit: u32) -> Result<Vec<Event>, StoreError> {
        // Writers hold the head until they commit, so numbers become visible in order.
        let rows: Vec<(i64, i64, String)> = on!(self, |pool| sqlx::query_as(AFTER)
            .bind(after)
            .bind(i64::from(limit))
            .fetch_all(pool)
            .await?);
        rows.into_iter()
            .map(|(sequence, at, change)| {
                let change = from_json("change", &change)?;
                Ok(Event {
                    sequence,
                    at: Timestamp::from_millis(at),
                    change,
                })
            })
            .collect()
    }

    /// The sequence of the newest change; 0 before the first.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn feed_head(&self) -> Result<i64, StoreError> {
        let (sequence,) = on!(self, |pool| sqlx::query_as(HEAD).fetch_one(pool).await?);
        Ok(sequence)
    }

    /// Hears of the changes that other processes commit, and wakes who waits on
    /// [`Store::feed_changes`]. SQLite does not tell, so this waits for ever there.
    ///
    /// It keeps a connection for itself until it ends.
    ///
    /// # Errors
    ///
    /// When the database is out of reach, or the store is closed.
    pub async fn listen(&self) -> Result<(), StoreError> {
        let Database::Postgres(pool) = &self.database else {
            std::future::pending::<()>().await;
            return Ok(());
        };
        let mut listener = PgListener::connect_with(pool).await?;
        listener.listen(CHANNEL).await?;
        loop {
            let told = listener.recv().await?;
            let Ok(sequence) = told.payload().parse::<i64>() else {
                continue;
            };
            self.head.send_if_modified(|head| {
                let newer = sequence > *head;
                *head = sequence.max(*head);
                newer
            });
        }
    }

    /// Wakes when this process committed a change, or heard of one, so that followers
    /// need not wait for their next poll. Not every change of another process is heard
    /// of: poll too.
    #[must_use]
    pub fn feed_changes(&self) -> watch::Receiver<i64> {
        self.head.subscribe()
    }
}

#[cfg(test)]
mod tests;
