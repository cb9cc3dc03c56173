//! What waits for people and what they decided, as the inbox shows it: in groups, page by
//! page, read from indexes whatever the number.

use authz::{AgentId, ApprovalRequestId, CommandKey, GrantId, time::Timestamp};

use crate::{
    Store, StoreError,
    approvals::StoredApproval,
    column::{parsed, row, statements, time},
    database::on,
};

/// Which part of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// So many entries at most.
    pub size: u32,
    /// So many pages before it.
    pub number: u32,
}

impl Page {
    /// One entry more than the page has, to know whether there is another page.
    pub(crate) fn limit(self) -> i64 {
        i64::from(self.size).saturating_add(1)
    }

    pub(crate) fn offset(self) -> i64 {
        i64::from(self.size).saturating_mul(i64::from(self.number))
    }

    /// The page itself, and whether there is another.
    pub(crate) fn cut<T>(self, mut rows: Vec<T>) -> (Vec<T>, bool) {
        let size = usize::try_from(self.size).unwrap_or(usize::MAX);
        let more = rows.len() > size;
        rows.truncate(size);
        (rows, more)
    }
}

/// Which pending requests.
#[derive(Clone, Debug, Default)]
pub struct Waiting<'a> {
    /// In the agent's name or the command; everything if empty.
    pub text: &'a str,
    /// `read`, `write` or `destroy`; all if empty.
    pub risk: &'a str,
    /// Whoever waits longest first, instead of last.
    pub oldest_first: bool,
}

/// Pending requests of one agent for one command, each with other arguments.
#[derive(Clone, Debug)]
pub struct Group {
    /// Whose.
    pub agent: AgentId,
    /// For what.
    pub command: CommandKey,
    /// How many.
    pub count: u64,
    /// Those that wait longest, oldest first.
    pub oldest: Vec<StoredApproval>,
}

/// What became of an agent's earlier requests for a command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// So many were approved.
    pub approved: u64,
    /// So many were rejected.
    pub rejected: u64,
    /// So many found nobody in time.
    pub expired: u64,
    /// So many were taken back.
    pub withdrawn: u64,
    /// When one was last approved or rejected, and whether it was approved.
    pub last: Option<(Timestamp, bool)>,
}

impl History {
    /// How many there were.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.approved + self.rejected + self.expired + self.withdrawn
    }
}

/// A command that went through by a grant.
#[derive(Clone, Debug)]
pub struct Use {
    /// When.
    pub at: Timestamp,
    /// `intent`, `outcome` or `spent`, as in the audit trail.
    pub kind: String,
    /// The command.
    pub command: Option<String>,
}

/// An agent's lines of the trail that are looked through for uses of a grant.
const LINES_LOOKED_THROUGH: i64 = 5_000;

statements! {
    COUNT_PENDING = "SELECT COUNT(*) FROM approvals WHERE status = 'pending' AND $1 < expires";
    NEWEST_GROUPS = "
        SELECT agent, command, COUNT(*) AS asks, MAX(opened) AS newest FROM approvals
        WHERE status = 'pending' AND $1 < expires AND ($2 = '' OR risk = $2)
            AND ($3 = '' OR LOWER(command) LIKE $3 ESCAPE '\\'
                OR agent IN (SELECT id FROM agents WHERE LOWER(name) LIKE $3 ESCAPE '\\'))
        GROUP BY agent, command ORDER BY newest DESC, agent, command LIMIT $4 OFFSET $5";
    OLDEST_GROUPS = "
        SELECT agent, command, COUNT(*) AS asks, MIN(opened) AS newest FROM approvals
        WHERE status = 'pending' AND $1 < expires AND ($2 = '' OR risk = $2)
            AND ($3 = '' OR LOWER(command) LIKE $3 ESCAPE '\\'
                OR agent IN (SELECT id FROM agents WHERE LOWER(name) LIKE $3 ESCAPE '\\'))
        GROUP BY agent, command ORDER BY newest, agent, command LIMIT $4 OFFSET $5";
    OLDEST_OF_GROUP = "
        SELECT id FROM approvals
        WHERE status = 'pending' AND agent = $1 AND command = $2 AND $3 < expires
        ORDER BY opened, expires, risk, id LIMIT $4";
    OF_AGENT = "
        SELECT id FROM approvals WHERE status = 'pending' AND agent = $1 AND $2 < expires
        ORDER BY command, opened, id LIMIT $3";
    HISTORY = "
        SELECT status, COUNT(*) AS asks, MAX(decided) AS newest FROM approvals
        WHERE agent = $1 AND command = $2 AND status <> 'pending' GROUP BY status";
    DECIDED = "
        SELECT id FROM approvals
        WHERE status <> 'pending'
            AND ($1 = '' OR LOWER(command) LIKE $1 ESCAPE '\\'
                OR agent IN (SELECT id FROM agents WHERE LOWER(name) LIKE $1 ESCAPE '\\'))
        ORDER BY decided DESC, id DESC LIMIT $2 OFFSET $3";
    ENDED = "
        SELECT id FROM approvals
        WHERE status = $4
            AND ($1 = '' OR LOWER(command) LIKE $1 ESCAPE '\\'
                OR agent IN (SELECT id FROM agents WHERE LOWER(name) LIKE $1 ESCAPE '\\'))
        ORDER BY decided DESC, id DESC LIMIT $2 OFFSET $3";
    FIRST_LINE_SINCE = "SELECT id FROM audit WHERE happened >= $1 ORDER BY happened, id LIMIT 1";
    USES = "
        SELECT happened, kind, command FROM (
            SELECT id, happened, kind, command, entry FROM audit
            WHERE agent = $1 AND id >= $2 ORDER BY id LIMIT $3
        ) lines
        WHERE kind IN ('intent', 'spent') AND entry LIKE $4
        ORDER BY happened, id LIMIT $5";
}

row! {
    /// A group without its requests.
    GroupRow {
        agent: String,
        command: String,
        asks: i64,
    }
}

row! {
    /// How many ended in one way, and when the last did.
    HistoryRow {
        status: String,
        asks: i64,
        newest: Option<i64>,
    }
}

row! {
    /// A line of the trail that names a grant.
    UseRow {
        happened: i64,
        kind: String,
        command: Option<String>,
    }
}

/// `text` anywhere, for `LIKE … ESCAPE '\'` against lower case; empty stays empty.
pub(crate) fn anywhere(text: &str) -> String {
    let text = text.trim();
    if text.is_empty() || text.contains('\0') {
        return String::new();
    }
    let mut pattern = String::from("%");
    for letter in text.to_lowercase().chars() {
        if matches!(letter, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    pattern.push('%');
    pattern
}

impl Store {
    /// How many requests are pending at `now`.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn count_pending(&self, now: Timestamp) -> Result<u64, StoreError> {
        let (count,): (i64,) = on!(self, |pool| sqlx::query_as(COUNT_PENDING)
            .bind(now.as_millis())
            .fetch_one(pool)
            .await?);
        Ok(u64::try_from(count).unwrap_or(0))
    }

    /// What is pending at `now`, by agent and command, and whether there is another page.
    /// Of each group only the oldest `shown` are read.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn waiting(
        &self,
        waiting: &Waiting<'_>,
        page: Page,
        shown: u32,
        now: Timestamp,
    ) -> Result<(Vec<Group>, bool), StoreError> {
        let sql = if waiting.oldest_first {
            OLDEST_GROUPS
        } else {
            NEWEST_GROUPS
        };
        let rows: Vec<GroupRow> = on!(self, |pool| sqlx::query_as(sql)
            .bind(now.as_millis())
            .bind(waiting.risk)
            .bind(anywhere(waiting.text))
            .bind(page.limit())
            .bind(page.offset())
            .fetch_all(pool)
            .await?);
        let (rows, more) = page.cut(rows);
        let mut groups = Vec::with_capacity(rows.len());
        for row in rows {
            let ids: Vec<(String,)> = on!(self, |pool| sqlx::query_as(OLDEST_OF_GROUP)
                .bind(&row.agent)
                .bind(&row.command)
                .bind(now.as_millis())
                .bind(i64::from(shown))
                .fetch_all(pool)
                .await?);
            let oldest = self.each(ids, now).await?;
            // Decided in the meantime.
            if oldest.is_empty() {
                continue;
            }
            groups.push(Group {
                agent: parsed("approval request", &row.agent)?,
                command: parsed("approval request", &row.command)?,
                count: u64::try_from(row.asks).unwrap_or(0),
                oldest,
            });
        }
        Ok((groups, more))
    }

    /// What this agent waits for at `now`, by command, the oldest first, at most `limit`.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn waiting_of(
        &self,
        agent: AgentId,
        limit: u32,
        now: Timestamp,
    ) -> Result<Vec<StoredApproval>, StoreError> {
        let ids: Vec<(String,)> = on!(self, |pool| sqlx::query_as(OF_AGENT)
            .bind(agent.to_string())
            .bind(now.as_millis())
            .bind(i64::from(limit))
            .fetch_all(pool)
            .await?);
        self.each(ids, now).await
    }

    /// What became of this agent's earlier requests for this command.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn history(
        &self,
        agent: AgentId,
        command: &CommandKey,
    ) -> Result<History, StoreError> {
        let rows: Vec<HistoryRow> = on!(self, |pool| sqlx::query_as(HISTORY)
            .bind(agent.to_string())
            .bind(command.to_string())
            .fetch_all(pool)
            .await?);
        let mut history = History::default();
        for row in rows {
            let count = u64::try_from(row.asks).unwrap_or(0);
            match row.status.as_str() {
                "approved" => history.approved = count,
                "rejected" => history.rejected = count,
                "withdrawn" => history.withdrawn = count,
                _ => history.expired += count,
            }
            let approved = row.status == "approved";
            if let (true, Some(at)) = (approved || row.status == "rejected", time(row.newest)) {
                history.last = history.last.max(Some((at, approved)));
            }
        }
        Ok(history)
    }

    /// What was decided, expired or withdrawn, the latest first, and whether there is
    /// another page: of all or of one status, with `text` in the agent's name or the command.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn decided(
        &self,
        text: &str,
        status: &str,
        page: Page,
        now: Timestamp,
    ) -> Result<(Vec<StoredApproval>, bool), StoreError> {
        let text = anywhere(text);
        let ids: Vec<(String,)> = if status.is_empty() {
            on!(self, |pool| sqlx::query_as(DECIDED)
                .bind(text)
                .bind(page.limit())
                .bind(page.offset())
                .fetch_all(pool)
                .await?)
        } else {
            on!(self, |pool| sqlx::query_as(ENDED)
                .bind(text)
                .bind(page.limit())
                .bind(page.offset())
                .bind(status)
                .fetch_all(pool)
                .await?)
        };
        let (ids, more) = page.cut(ids);
        Ok((self.each(ids, now).await?, more))
    }

    /// When this grant let something through, the first `limit` times; found among the
    /// agent's first few thousand lines of the trail since it was issued.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn uses(
        &self,
        grant: GrantId,
        agent: AgentId,
        issued: Timestamp,
        limit: u32,
    ) -> Result<Vec<Use>, StoreError> {
        let first: Option<(i64,)> = on!(self, |pool| sqlx::query_as(FIRST_LINE_SINCE)
            .bind(issued.as_millis())
            .fetch_optional(pool)
            .await?);
        let Some((first,)) = first else {
            return Ok(Vec::new());
        };
        let rows: Vec<UseRow> = on!(self, |pool| sqlx::query_as(USES)
            .bind(agent.to_string())
            .bind(first)
            .bind(LINES_LOOKED_THROUGH)
            .bind(format!("%\"{grant}\"%"))
            .bind(i64::from(limit))
            .fetch_all(pool)
            .await?);
        let uses = rows.into_iter().map(|row| Use {
            at: Timestamp::from_millis(row.happened),
            kind: row.kind,
            command: row.command,
        });
        Ok(uses.collect())
    }

    /// These requests, in this order.
    async fn each(
        &self,
        ids: Vec<(String,)>,
        now: Timestamp,
    ) -> Result<Vec<StoredApproval>, StoreError> {
        let mut approvals = Vec::with_capacity(ids.len());
        for (id,) in ids {
            let id: ApprovalRequestId = parsed("approval request", &id)?;
            approvals.push(self.approval(id, now).await?);
        }
        Ok(approvals)
    }
}

#[cfg(test)]
mod tests;
