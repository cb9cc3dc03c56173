//! Agents as people look for them among many, and what the trail says of one.

use authz::{AgentId, AgentRef, time::Timestamp};
use serde_json::Value;

use crate::{
    Store, StoreError,
    agents::StoredAgent,
    audit::AuditRow,
    column::{parsed, row, statements},
    database::on,
    inbox::{Page, anywhere},
};

/// Which agents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Which {
    /// All of them.
    #[default]
    All,
    /// Those that may do something.
    Active,
    /// Those that are stopped.
    Suspended,
}

/// An agent, and what people look for beside it.
#[derive(Clone, Debug)]
pub struct Listed {
    /// The agent.
    pub stored: StoredAgent,
    /// Its live grants.
    pub grants: u64,
    /// Its pending requests.
    pub pending: u64,
}

statements! {
    AGENTS = "
        SELECT a.id,
            (SELECT COUNT(*) FROM grants g
                WHERE g.agent = a.id AND $1 < g.expires AND g.revoked IS NULL AND g.spent IS NULL) AS grants,
            (SELECT COUNT(*) FROM approvals p
                WHERE p.agent = a.id AND p.status = 'pending' AND $1 < p.expires) AS pending
        FROM agents a
        WHERE ($2 < 0 OR a.suspended = $2)
            AND ($3 = '' OR LOWER(a.name) LIKE $3 ESCAPE '\\' OR LOWER(a.teams) LIKE $3 ESCAPE '\\'
                OR LOWER(a.roles) LIKE $3 ESCAPE '\\' OR LOWER(a.owner) LIKE $3 ESCAPE '\\'
                OR LOWER(a.allowed_mcps) LIKE $3 ESCAPE '\\' OR a.id LIKE $3 ESCAPE '\\')
        ORDER BY a.name LIMIT $4 OFFSET $5";
    COUNT = "SELECT COUNT(*) FROM agents";
    NEWEST_OF_AGENT = "
        SELECT id, happened, source, gateway, kind, agent, user_id, command, entry
        FROM audit WHERE agent = $1 ORDER BY id DESC LIMIT $2";
}

row! {
    /// An agent's id and what is counted.
    CountedRow {
        id: String,
        grants: i64,
        pending: i64,
    }
}

row! {
    /// A line of the trail.
    LineRow {
        id: i64,
        happened: i64,
        source: String,
        gateway: Option<String>,
        kind: String,
        agent: Option<String>,
        user_id: Option<String>,
        command: Option<String>,
        entry: String,
    }
}

impl Store {
    /// How many agents there are.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn count_agents(&self) -> Result<u64, StoreError> {
        let (count,): (i64,) = on!(self, |pool| sqlx::query_as(COUNT).fetch_one(pool).await?);
        Ok(u64::try_from(count).unwrap_or(0))
    }

    /// Agents by name, and whether there is another page: those with `text` in their name,
    /// id, owner, teams, roles or services.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn roster(
        &self,
        text: &str,
        which: Which,
        page: Page,
        now: Timestamp,
    ) -> Result<(Vec<Listed>, bool), StoreError> {
        let suspended: i64 = match which {
            Which::All => -1,
            Which::Active => 0,
            Which::Suspended => 1,
        };
        let rows: Vec<CountedRow> = on!(self, |pool| sqlx::query_as(AGENTS)
            .bind(now.as_millis())
            .bind(suspended)
            .bind(anywhere(text))
            .bind(page.limit())
            .bind(page.offset())
            .fetch_all(pool)
            .await?);
        let (rows, more) = page.cut(rows);
        let mut listed = Vec::with_capacity(rows.len());
        for row in rows {
            let id: AgentId = parsed("agent", &row.id)?;
            listed.push(Listed {
                stored: self.agent(&AgentRef::Id(id)).await?,
                grants: u64::try_from(row.grants).unwrap_or(0),
                pending: u64::try_from(row.pending).unwrap_or(0),
            });
        }
        Ok((listed, more))
    }

    /// The newest `limit` lines of the trail about this agent, the newest first.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn recent_audit(
        &self,
        agent: AgentId,
        limit: u32,
    ) -> Result<Vec<AuditRow>, StoreError> {
        let rows: Vec<LineRow> = on!(self, |pool| sqlx::query_as(NEWEST_OF_AGENT)
            .bind(agent.to_string())
            .bind(i64::from(limit))
            .fetch_all(pool)
            .await?);
        let row = |row: LineRow| {
            Ok(AuditRow {
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
                entry: serde_json::from_str(&row.entry).unwrap_or(Value::String(row.entry)),
            })
        };
        rows.into_iter().map(row).collect()
    }
}

#[cfg(test)]
mod tests;
