//! Searching the trail: newest first, by what was asked for, with bounded work.
//!
//! One part of a filter leads: it has an index that gives its lines by time. What else the
//! filter wants is looked for among the newest so many of those; where that is not
//! enough, the page ends there and the next one goes on.

use std::fmt::Write as _;

use authz::{AgentId, time::Timestamp};
use sqlx::AssertSqlSafe;

use super::{AuditRow, Line};
use crate::{Store, StoreError, column::is_exact, database::on};

/// So many lines are looked through for one page, at most.
const LOOKED_THROUGH: i64 = 20_000;

/// Which lines; what is absent restricts nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Of this agent.
    pub agent: Option<AgentId>,
    /// Of this command: `service/name`.
    pub command: Option<String>,
    /// Of this service.
    pub service: Option<String>,
    /// Of this person.
    pub user: Option<String>,
    /// Of this kind.
    pub kind: Option<String>,
    /// With this outcome.
    pub outcome: Option<String>,
    /// Of this decision.
    pub decision: Option<String>,
    /// Of this gateway's journal.
    pub gateway: Option<String>,
    /// From when on.
    pub from: Option<Timestamp>,
    /// Before when.
    pub until: Option<Timestamp>,
    /// Holding this text, in any case of its ASCII letters.
    pub text: Option<String>,
}

/// A line's place when the trail is read by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// When it happened.
    pub at: Timestamp,
    /// Its id: of what happened at once, the later line has the higher one.
    pub id: i64,
}

/// One page, newest first.
#[derive(Clone, Debug)]
pub struct AuditPage {
    /// The lines.
    pub rows: Vec<AuditRow>,
    /// Before which place the next page begins; none at the end. A page may have fewer
    /// lines than asked for, or none, and yet not be the last: so far the search came.
    pub next: Option<Place>,
}

/// A value for a placeholder.
enum Bind<'a> {
    Text(&'a str),
    Owned(String),
    Number(i64),
}

/// Columns, as [`Line`] names them.
const COLUMNS: &str =
    "id, happened, source, gateway, kind, agent, user_id, command, decision, outcome, entry";

/// SQL with its values.
#[derive(Default)]
struct Conditions<'a> {
    sql: String,
    binds: Vec<Bind<'a>>,
}

impl<'a> Conditions<'a> {
    fn add(&mut self, condition: &str, bind: Bind<'a>) {
        self.binds.push(bind);
        let place = format!("${}", self.binds.len());
        self.and(&condition.replace('?', &place));
    }

    fn and(&mut self, condition: &str) {
        let joint = if self.sql.is_empty() { "" } else { " AND " };
        // Writing to a string cannot fail.
        let _ = write!(self.sql, "{joint}{condition}");
    }
}

/// A part of a filter: the column, its value, and what its index wants said besides.
type Part<'a> = (&'static str, &'a str, &'static str);

/// The parts of a filter, the most telling first; those without an index last.
fn parts<'a>(filter: &'a AuditFilter, agent: Option<&'a str>) -> Vec<Part<'a>> {
    const COMMON: [&str; 2] = ["permitted", "success"];
    const RARE: &str = "outcome <> 'permitted' AND outcome <> 'success'";
    const JOURNAL: [&str; 4] = ["intent", "outcome", "refusal", "start"];

    let rare_outcome = |outcome: &&String| !COMMON.contains(&outcome.as_str());
    let rare_kind = |kind: &&String| !JOURNAL.contains(&kind.as_str());
    let (outcome, kind) = (filter.outcome.as_ref(), filter.kind.as_ref());
    [
        ("decision", filter.decision.as_deref(), ""),
        ("user_id", filter.user.as_deref(), ""),
        ("agent", agent, ""),
        (
            "kind",
            kind.filter(rare_kind).map(String::as_str),
            "source = 'orchestrator'",
        ),
        (
            "outcome",
            outcome.filter(rare_outcome).map(String::as_str),
            RARE,
        ),
        ("command", filter.command.as_deref(), ""),
        ("service", filter.service.as_deref(), ""),
        ("", None, ""),
        (
            "kind",
            kind.filter(|kind| !rare_kind(kind)).map(String::as_str),
            "",
        ),
        (
            "outcome",
            outcome
                .filter(|outcome| !rare_outcome(outcome))
                .map(String::as_str),
            "",
        ),
        ("gateway", filter.gateway.as_deref(), ""),
    ]
    .into_iter()
    .filter_map(|(column, value, besides)| Some((column, value?, besides)))
    .collect()
}

/// Whether a column's index gives its lines by time.
fn leads((column, _, besides): &Part<'_>) -> bool {
    !besides.is_empty()
        || matches!(
            *column,
            "decision" | "user_id" | "agent" | "command" | "service"
        )
}

/// A text as a pattern that holds it and has no other magic.
fn pattern(text: &str) -> String {
    let mut pattern = String::from("%");
    for letter in text.to_ascii_lowercase().chars() {
        if matches!(letter, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    pattern.push('%');
    pattern
}

impl Store {
    /// The lines that a filter wants, newest first, before `before` or from the end; at
    /// most `limit`.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn audit_search(
        &self,
        filter: &AuditFilter,
        before: Option<Place>,
        limit: u32,
    ) -> Result<AuditPage, StoreError> {
        let agent = filter.agent.map(|agent| agent.to_string());
        let mut parts = parts(filter, agent.as_deref());
        let exact = parts.iter().all(|(_, value, _)| is_exact(value))
            && filter.text.as_deref().is_none_or(is_exact);
        if !exact {
            // No line holds NUL.
            return Ok(AuditPage {
                rows: Vec::new(),
                next: None,
            });
        }

        let mut first = Conditions::default();
        if parts.first().is_some_and(leads) {
            let (column, value, besides) = parts.remove(0);
            first.add(&format!("{column} = ?"), Bind::Text(value));
            if !besides.is_empty() {
                first.and(besides);
            }
        }
        let until = filter.until.map(|at| Place { at, id: 0 });
        let end = match (before, until) {
            (Some(before), Some(until)) => Some(before.min(until)),
            (before, until) => before.or(until),
        };
        if let Some(Place { at, id }) = end {
            first.add("(happened, id) < (?, ", Bind::Number(at.as_millis()));
            first.binds.push(Bind::Number(id));
            let _ = write!(first.sql, "${})", first.binds.len());
        }
        if let Some(from) = filter.from {
            first.add("happened >= ?", Bind::Number(from.as_millis()));
        }
        let filtered = !parts.is_empty() || filter.text.is_some();
        let wanted = i64::from(limit.max(1)) + 1;
        let looked = if filtered { LOOKED_THROUGH } else { wanted };
        let condition = if first.sql.is_empty() {
            String::new()
        } else {
            format!(" WHERE {}", first.sql)
        };
        let looked_at = |columns: &str, tail: &str| {
            format!("SELECT {columns} FROM audit{condition} ORDER BY happened DESC, id DESC {tail}")
        };

        let mut rows: Vec<Line> = if filtered {
            let mut rest = Conditions {
                sql: String::new(),
                binds: first.binds,
            };
            for (column, value, _) in parts {
                rest.add(&format!("{column} = ?"), Bind::Text(value));
            }
            if let Some(text) = &filter.text {
                rest.add(
                    r"LOWER(entry) LIKE ? ESCAPE '\'",
                    Bind::Owned(pattern(text)),
                );
            }
            let sql = format!(
                "SELECT {COLUMNS} FROM ({}) AS looked WHERE {} ORDER BY happened DESC, id DESC LIMIT {wanted}",
                looked_at(&format!("{COLUMNS}, service"), &format!("LIMIT {looked}")),
                rest.sql
            );
            let rows = self.fetch(sql, &rest.binds).await?;
            first.binds = rest.binds;
            rows
        } else {
            self.fetch(looked_at(COLUMNS, &format!("LIMIT {looked}")), &first.binds)
                .await?
        };

        let kept = usize::try_from(wanted - 1).unwrap_or(usize::MAX);
        let more = rows.len() > kept;
        rows.truncate(kept);
        let next = if more {
            rows.last().map(|row| Place {
                at: Timestamp::from_millis(row.happened),
                id: row.id,
            })
        } else if filtered {
            // Were there more to look through?
            let sql = looked_at("happened, id", &format!("LIMIT 1 OFFSET {}", looked - 1));
            let places = placeholders(&first.sql);
            let last: Option<(i64, i64)> = self
                .fetch(sql, first.binds.get(..places).unwrap_or_default())
                .await?
                .pop();
            last.map(|(at, id)| Place {
                at: Timestamp::from_millis(at),
                id,
            })
        } else {
            None
        };
        Ok(AuditPage {
            rows: rows
                .into_iter()
                .map(AuditRow::try_from)
                .collect::<Result<_, _>>()?,
            next,
        })
    }

    async fn fetch<T>(&self, sql: String, binds: &[Bind<'_>]) -> Result<Vec<T>, StoreError>
    where
        T: for<'r> sqlx::FromRow<'r, sqlx::postgres::PgRow>
            + for<'r> sqlx::FromRow<'r, sqlx::sqlite::SqliteRow>
            + Send
            + Unpin,
    {
        // Made of our own words and numbers; what people wrote is bound.
        let sql = AssertSqlSafe(sql);
        Ok(on!(self, |pool| {
            let mut query = sqlx::query_as(sql);
            for bind in binds {
                query = match bind {
                    Bind::Text(text) => query.bind(*text),
                    Bind::Owned(text) => query.bind(text.as_str()),
                    Bind::Number(number) => query.bind(*number),
                };
            }
            query.fetch_all(pool).await?
        }))
    }
}

fn placeholders(sql: &str) -> usize {
    sql.matches('$').count()
}

#[cfg(test)]
mod tests;
