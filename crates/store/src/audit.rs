//! The audit trail: gateways' journals, and what people did.

use authz::{AgentId, time::Timestamp};
use serde_json::Value;

use crate::{Store, StoreError};

/// A line of a gateway's journal, checked by the caller.
#[derive(Clone, Debug)]
pub struct JournalRow {
    /// Its place in the gateway's chain, from 1.
    pub sequence: i64,
    /// The whole line.
    pub text: String,
    /// Its hash.
    pub hash: String,
    /// When.
    pub at: Timestamp,
    /// `intent`, `outcome`, `refusal`, `start`.
    pub kind: String,
    /// Who.
    pub agent: Option<AgentId>,
    /// What.
    pub command: Option<String>,
}

/// One line of the trail.
#[derive(Clone, Debug)]
pub struct AuditRow {
    /// Its place.
    pub id: i64,
    /// When.
    pub at: Timestamp,
    /// `gateway` or `orchestrator`.
    pub source: String,
    /// The gateway.
    pub gateway: Option<String>,
    /// What kind of event.
    pub kind: String,
    /// The agent concerned.
    pub agent: Option<AgentId>,
    /// The person who acted.
    pub user: Option<String>,
    /// The command concerned.
    pub command: Option<String>,
    /// The whole line or event.
    pub entry: Value,
}

impl Store {
    /// Stores journal lines of one gateway, each once, and only those that continue its
    /// chain; gives back the last sequence stored. No feed event.
    ///
    /// # Errors
    ///
    /// [`StoreError::Conflict`] when a line contradicts a stored one of the same sequence.
    pub async fn store_journal(&self, gateway: &str, rows: &[JournalRow]) -> Result<i64, StoreError> {
        let _ = (gateway, rows);
        todo!()
    }

    /// The last sequence and hash stored for a gateway; (0, 64 zeros) if none.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn journal_head(&self, gateway: &str) -> Result<(i64, String), StoreError> {
        let _ = gateway;
        todo!()
    }

    /// The trail after `after`, oldest first, at most `limit`, of one agent or all.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn audit(&self, after: i64, limit: u32, agent: Option<AgentId>) -> Result<Vec<AuditRow>, StoreError> {
        let _ = (after, limit, agent);
        todo!()
    }
}
