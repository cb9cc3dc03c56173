//! The audit trail: gateways' journals, and what people did.

mod search;

pub use self::search::{AuditFilter, AuditPage, Place};

use authz::{AgentId, time::Timestamp};
use serde_json::Value;

use crate::{
    Actor, Store, StoreError,
    activity::{self, Measure},
    column::{is_exact, parsed, row, statements},
    database::{on, within},
    write::Write,
};

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
    /// What: `service/name`.
    pub command: Option<String>,
    /// The decision that it belongs to.
    pub decision: Option<String>,
    /// What was decided (`permitted`, `refused`, `pending`, `rejected`), or how it ended
    /// (`success`, `error`, `unknown`).
    pub outcome: Option<String>,
    /// What it adds to the counters.
    pub counts: Vec<(Measure, String)>,
}

impl JournalRow {
    /// The command's service.
    fn service(&self) -> Option<&str> {
        let (service, _) = self.command.as_deref()?.split_once('/')?;
        Some(service)
    }

    /// Every text that is kept as it is.
    fn texts(&self) -> impl Iterator<Item = &String> {
        [&self.text, &self.hash, &self.kind]
            .into_iter()
            .chain(&self.command)
            .chain(&self.decision)
            .chain(&self.outcome)
            .chain(self.counts.iter().map(|(_, name)| name))
    }
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
    /// The decision that a journal's line belongs to.
    pub decision: Option<String>,
    /// What was decided, or how it ended.
    pub outcome: Option<String>,
    /// The whole line or event.
    pub entry: Value,
}

statements! {
    JOURNAL_HEAD = "
        SELECT gateway_sequence, hash FROM audit WHERE gateway = $1
        ORDER BY gateway_sequence DESC LIMIT 1";
    JOURNAL_HEADS = "
        SELECT audit.gateway, audit.gateway_sequence, audit.hash
        FROM audit JOIN (
            SELECT gateway, MAX(gateway_sequence) AS newest FROM audit
            WHERE gateway IS NOT NULL GROUP BY gateway
        ) AS heads ON heads.gateway = audit.gateway AND heads.newest = audit.gateway_sequence
        ORDER BY audit.gateway";
    JOURNAL_SEQUENCE = "
        SELECT gateway_sequence FROM audit WHERE gateway = $1
        ORDER BY gateway_sequence DESC LIMIT 1";
    JOURNAL_LINE = "SELECT entry FROM audit WHERE gateway = $1 AND gateway_sequence = $2";
    INSERT_LINE = "
        INSERT INTO audit (id, happened, source, gateway, gateway_sequence, hash, kind, agent, command,
            entry, service, decision, outcome)
        VALUES ($1, $2, 'gateway', $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";
    AFTER = "
        SELECT id, happened, source, gateway, kind, agent, user_id, command, decision, outcome, entry
        FROM audit WHERE id > $1 ORDER BY id LIMIT $2";
    AFTER_OF_AGENT = "
        SELECT id, happened, source, gateway, kind, agent, user_id, command, decision, outcome, entry
        FROM audit WHERE agent = $3 AND id > $1 ORDER BY id LIMIT $2";
    AFTER_OF_COMMAND = "
        SELECT id, happened, source, gateway, kind, agent, user_id, command, decision, outcome, entry
        FROM audit WHERE command = $3 AND id > $1 ORDER BY id LIMIT $2";
    AFTER_OF_BOTH = "
        SELECT id, happened, source, gateway, kind, agent, user_id, command, decision, outcome, entry
        FROM audit WHERE agent = $3 AND command = $4 AND id > $1 ORDER BY id LIMIT $2";
    ENTRY = "
        SELECT id, happened, source, gateway, kind, agent, user_id, command, decision, outcome, entry
        FROM audit WHERE id = $1";
    LINES = "
        SELECT gateway_sequence, entry FROM audit
        WHERE gateway = $1 AND gateway_sequence > $2 ORDER BY gateway_sequence LIMIT $3";
}

/// The hash before a chain's first line.
const NO_HASH: &str = "0000000000000000000000000000000000000000000000000000000000000000";

row! {
    /// A line of the trail.
    Line {
        id: i64,
        happened: i64,
        source: String,
        gateway: Option<String>,
        kind: String,
        agent: Option<String>,
        user_id: Option<String>,
        command: Option<String>,
        decision: Option<String>,
        outcome: Option<String>,
        entry: String,
    }
}

impl TryFrom<Line> for AuditRow {
    type Error = StoreError;

    fn try_from(row: Line) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.id,
            at: Timestamp::from_millis(row.happened),
            source: row.source,
            gateway: row.gateway,
            kind: row.kind,
            agent: row
                .agent
                .map(|agent| parsed("audit entry", &agent))
                .transpose()?,
            user: row.user_id,
            command: row.command,
            decision: row.decision,
            outcome: row.outcome,
            // Kept as it came, so shown as it came: one odd line must not hide the rest.
            entry: serde_json::from_str(&row.entry).unwrap_or(Value::String(row.entry)),
        })
    }
}

/// The text stored for a place in a gateway's chain.
async fn stored_line(
    write: &mut Write,
    gateway: &str,
    sequence: i64,
) -> Result<Option<String>, StoreError> {
    let line: Option<(String,)> = within!(write, |c| sqlx::query_as(JOURNAL_LINE)
        .bind(gateway)
        .bind(sequence)
        .fetch_optional(c)
        .await?);
    Ok(line.map(|(text,)| text))
}

async fn insert_line(write: &mut Write, gateway: &str, row: &JournalRow) -> Result<(), StoreError> {
    let id = write.next_audit();
    within!(write, |c| sqlx::query(INSERT_LINE)
        .bind(id)
        .bind(row.at.as_millis())
        .bind(gateway)
        .bind(row.sequence)
        .bind(&row.hash)
        .bind(&row.kind)
        .bind(row.agent.map(|agent| agent.to_string()))
        .bind(row.command.as_deref())
        .bind(&row.text)
        .bind(row.service())
        .bind(row.decision.as_deref())
        .bind(row.outcome.as_deref())
        .execute(c)
        .await
        .map(drop))
    .map_err(|error| StoreError::taken(error, || contradiction(gateway, row.sequence)))
}

fn contradiction(gateway: &str, sequence: i64) -> String {
    format!("line {sequence} of gateway `{gateway}` is not the one stored before")
}

impl Store {
    /// Stores journal lines of one gateway, each once, and only those that continue its
    /// chain; gives back the last sequence stored. No feed event.
    ///
    /// # Errors
    ///
    /// [`StoreError::Conflict`] when a line contradicts a stored one of the same sequence.
    pub async fn store_journal(
        &self,
        gateway: &str,
        rows: &[JournalRow],
    ) -> Result<i64, StoreError> {
        if !is_exact(gateway) {
            return Err(StoreError::Conflict(
                "a gateway's name cannot hold NUL".to_owned(),
            ));
        }
        if let Some(row) = rows
            .iter()
            .find(|row| !row.texts().all(|text| is_exact(text)))
        {
            // Keeping it otherwise than it was would break the chain.
            return Err(StoreError::Conflict(format!(
                "line {} holds NUL, which no journal does",
                row.sequence
            )));
        }
        let Some(newest) = rows.iter().map(|row| row.at).max() else {
            return Ok(self.journal_head(gateway).await?.0);
        };

        let mut write = self.write(&Actor::itself("gateway", newest)).await?;
        let head: Option<(i64,)> = within!(write, |c| sqlx::query_as(JOURNAL_SEQUENCE)
            .bind(gateway)
            .fetch_optional(c)
            .await?);
        let before = head.map_or(0, |(sequence,)| sequence);
        let mut through = before;
        let mut new = Vec::new();
        for row in rows {
            if row.sequence <= through {
                let stored = stored_line(&mut write, gateway, row.sequence).await?;
                if stored.as_deref() != Some(row.text.as_str()) {
                    return Err(StoreError::Conflict(contradiction(gateway, row.sequence)));
                }
            } else if row.sequence == through + 1 {
                insert_line(&mut write, gateway, row).await?;
                through = row.sequence;
                new.push(row);
            } else {
                // A gap: what is behind it comes again once the gap is filled.
                break;
            }
        }
        if through == before {
            write.abandon().await?;
        } else {
            // In the same transaction, so that each line counts once however often it comes.
            activity::count(&mut write, &new).await?;
            write.commit().await?;
        }
        Ok(through)
    }

    /// The last sequence and hash stored for a gateway; (0, 64 zeros) if none.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn journal_head(&self, gateway: &str) -> Result<(i64, String), StoreError> {
        let head: Option<(i64, String)> = if is_exact(gateway) {
            on!(self, |pool| sqlx::query_as(JOURNAL_HEAD)
                .bind(gateway)
                .fetch_optional(pool)
                .await?)
        } else {
            None
        };
        Ok(head.unwrap_or_else(|| (0, NO_HASH.to_owned())))
    }

    /// The gateways that sent a journal, each with the last sequence and hash stored.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn journal_heads(&self) -> Result<Vec<(String, i64, String)>, StoreError> {
        Ok(on!(self, |pool| sqlx::query_as(JOURNAL_HEADS)
            .fetch_all(pool)
            .await?))
    }

    /// The trail after `after`, oldest first, at most `limit`, of one agent or all.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn audit(
        &self,
        after: i64,
        limit: u32,
        agent: Option<AgentId>,
    ) -> Result<Vec<AuditRow>, StoreError> {
        self.audit_of(after, limit, agent, None).await
    }

    /// As [`Store::audit`], of one command or all.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn audit_of(
        &self,
        after: i64,
        limit: u32,
        agent: Option<AgentId>,
        command: Option<&str>,
    ) -> Result<Vec<AuditRow>, StoreError> {
        if command.is_some_and(|command| !is_exact(command)) {
            return Ok(Vec::new());
        }
        let limit = i64::from(limit);
        let agent = agent.map(|agent| agent.to_string());
        let statement = match (&agent, command) {
            (None, None) => AFTER,
            (Some(_), None) => AFTER_OF_AGENT,
            (None, Some(_)) => AFTER_OF_COMMAND,
            (Some(_), Some(_)) => AFTER_OF_BOTH,
        };
        let rows: Vec<Line> = on!(self, |pool| {
            let mut query = sqlx::query_as(statement).bind(after).bind(limit);
            for text in agent.as_deref().into_iter().chain(command) {
                query = query.bind(text);
            }
            query.fetch_all(pool).await?
        });
        rows.into_iter().map(AuditRow::try_from).collect()
    }

    /// One line of the trail.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`].
    pub async fn audit_entry(&self, id: i64) -> Result<AuditRow, StoreError> {
        let row: Option<Line> = on!(self, |pool| sqlx::query_as(ENTRY)
            .bind(id)
            .fetch_optional(pool)
            .await?);
        row.ok_or_else(|| StoreError::NotFound(format!("entry {id} of the audit trail")))?
            .try_into()
    }

    /// The stored lines of one gateway's journal after `after`, in order, as they came:
    /// place and text. At most `limit`.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn journal_lines(
        &self,
        gateway: &str,
        after: i64,
        limit: u32,
    ) -> Result<Vec<(i64, String)>, StoreError> {
        if !is_exact(gateway) {
            return Ok(Vec::new());
        }
        Ok(on!(self, |pool| sqlx::query_as(LINES)
            .bind(gateway)
            .bind(after)
            .bind(i64::from(limit))
            .fetch_all(pool)
            .await?))
    }
}

#[cfg(test)]
mod tests;
