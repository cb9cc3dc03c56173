//! How often things happen: counters for charts, kept as journal lines are stored.

use std::{collections::BTreeMap, time::Duration};

use authz::time::Timestamp;
use sqlx::AssertSqlSafe;

use crate::{
    Store, StoreError,
    audit::JournalRow,
    column::statements,
    database::{on, within},
    write::Write,
};

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Measure {
    /// Decisions, by outcome: `permitted`, `refused`, `pending`, `rejected`.
    Decision,
    /// Refusals, by policy.
    RefusedPolicy,
    /// Refusals, by agent.
    RefusedAgent,
    /// Refusals, by command.
    RefusedCommand,
    /// Decisions, by the least of [`BOUNDS`] that they took no longer than.
    DecisionTime,
    /// Commands, by the least of [`BOUNDS`] that they took no longer than.
    CommandTime,
}

impl Measure {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Decision => "decision",
            Self::RefusedPolicy => "refused_policy",
            Self::RefusedAgent => "refused_agent",
            Self::RefusedCommand => "refused_command",
            Self::DecisionTime => "decision_time",
            Self::CommandTime => "command_time",
        }
    }
}

/// Limits of how long something takes, in microseconds. A time is counted under the least
/// that it does not exceed, or else under the last.
pub const BOUNDS: [i64; 25] = [
    1,
    2,
    5,
    10,
    20,
    50,
    100,
    200,
    500,
    1_000,
    2_000,
    5_000,
    10_000,
    20_000,
    50_000,
    100_000,
    200_000,
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    20_000_000,
    50_000_000,
    100_000_000,
];

/// Under which name a time is counted.
#[must_use]
pub fn bound(micros: i64) -> String {
    let last = BOUNDS.last().copied().unwrap_or(i64::MAX);
    let bound = BOUNDS.into_iter().find(|bound| micros <= *bound);
    bound.unwrap_or(last).to_string()
}

/// How finely times are kept apart, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slots {
    /// Minutes, of the last two hours.
    Minute,
    /// Ten minutes, of the last two days.
    TenMinutes,
    /// Hours, of the last two weeks.
    Hour,
}

impl Slots {
    const ALL: [Self; 3] = [Self::Minute, Self::TenMinutes, Self::Hour];

    /// How long one is, in milliseconds.
    #[must_use]
    pub const fn millis(self) -> i64 {
        match self {
            Self::Minute => 60_000,
            Self::TenMinutes => 600_000,
            Self::Hour => 3_600_000,
        }
    }

    /// When the one begins that `at` lies in.
    #[must_use]
    pub const fn begin(self, at: Timestamp) -> Timestamp {
        let millis = at.as_millis();
        Timestamp::from_millis(millis - millis.rem_euclid(self.millis()))
    }

    const fn kept(self) -> Duration {
        match self {
            Self::Minute => Duration::from_hours(2),
            Self::TenMinutes => Duration::from_hours(48),
            Self::Hour => Duration::from_hours(14 * 24),
        }
    }
}

/// How often something happened in one slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    /// When the slot begins.
    pub begins: Timestamp,
    /// Of what: an outcome, a policy, an agent, a command, a bound.
    pub name: String,
    /// So often.
    pub times: u64,
}

statements! {
    SLOTS = "
        SELECT begins, name, times FROM activity
        WHERE measure = $1 AND slot = $2 AND begins >= $3 AND begins < $4 ORDER BY begins, name";
    TOP = "
        SELECT name, CAST(SUM(times) AS BIGINT) AS total FROM activity
        WHERE measure = $1 AND slot = $2 AND begins >= $3 AND begins < $4
        GROUP BY name ORDER BY total DESC, name LIMIT $5";
    FORGET = "DELETE FROM activity WHERE slot = $1 AND begins < $2";
    WAITS = "
        SELECT decided - opened FROM approvals
        WHERE decided >= $1 AND decided < $2 AND status IN ('approved', 'rejected')
        ORDER BY decided DESC LIMIT $3";
    WAITING = "SELECT COUNT(*) FROM approvals WHERE status = 'pending' AND expires > $1";
}

/// So many counters are written by one statement: each has five parameters, and SQLite
/// takes some thousands.
const ROWS_AT_ONCE: usize = 200;

/// Adds what journal lines say to the counters.
pub(crate) async fn count(write: &mut Write, rows: &[&JournalRow]) -> Result<(), StoreError> {
    let mut counts: BTreeMap<(&'static str, i64, i64, &str), i64> = BTreeMap::new();
    for row in rows {
        for (measure, name) in &row.counts {
            for slots in Slots::ALL {
                let begins = slots.begin(row.at).as_millis();
                *counts
                    .entry((measure.as_str(), slots.millis(), begins, name))
                    .or_default() += 1;
            }
        }
    }
    let counts: Vec<_> = counts.into_iter().collect();
    for some in counts.chunks(ROWS_AT_ONCE) {
        let sql = add(some.len());
        within!(write, |c| {
            // Of as many kinds as there are lengths: not worth keeping prepared.
            let mut query = sqlx::query(AssertSqlSafe(sql)).persistent(false);
            for ((measure, slot, begins, name), times) in some {
                query = query
                    .bind(*measure)
                    .bind(*slot)
                    .bind(*begins)
                    .bind(*name)
                    .bind(*times);
            }
            query.execute(c).await.map(drop)?;
        });
    }
    Ok(())
}

/// The statement that adds to so many counters.
fn add(rows: usize) -> String {
    let values: Vec<_> = (0..rows)
        .map(|row| {
            let places: Vec<_> = (1..=5)
                .map(|place| format!("${}", row * 5 + place))
                .collect();
            format!("({})", places.join(", "))
        })
        .collect();
    format!(
        "INSERT INTO activity (measure, slot, begins, name, times) VALUES {}
         ON CONFLICT (measure, slot, begins, name)
            DO UPDATE SET times = activity.times + excluded.times",
        values.join(", ")
    )
}

/// Drops what is kept no longer. `now` is the orchestrator's time: a gateway whose clock
/// is ahead must not make us forget.
pub(crate) async fn forget(write: &mut Write, now: Timestamp) -> Result<(), StoreError> {
    for slots in Slots::ALL {
        let oldest = now.minus(slots.kept()).as_millis();
        within!(write, |c| sqlx::query(FORGET)
            .bind(slots.millis())
            .bind(oldest)
            .execute(c)
            .await
            .map(drop)?);
    }
    Ok(())
}

impl Store {
    /// What was counted in each slot that begins from `from` on and before `until`.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn activity(
        &self,
        measure: Measure,
        slots: Slots,
        from: Timestamp,
        until: Timestamp,
    ) -> Result<Vec<Count>, StoreError> {
        let rows: Vec<(i64, String, i64)> = on!(self, |pool| sqlx::query_as(SLOTS)
            .bind(measure.as_str())
            .bind(slots.millis())
            .bind(from.as_millis())
            .bind(until.as_millis())
            .fetch_all(pool)
            .await?);
        Ok(rows
            .into_iter()
            .map(|(begins, name, times)| Count {
                begins: Timestamp::from_millis(begins),
                name,
                times: u64::try_from(times).unwrap_or(0),
            })
            .collect())
    }

    /// What was counted most, most first.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn activity_top(
        &self,
        measure: Measure,
        slots: Slots,
        from: Timestamp,
        until: Timestamp,
        limit: u32,
    ) -> Result<Vec<(String, u64)>, StoreError> {
        let rows: Vec<(String, i64)> = on!(self, |pool| sqlx::query_as(TOP)
            .bind(measure.as_str())
            .bind(slots.millis())
            .bind(from.as_millis())
            .bind(until.as_millis())
            .bind(i64::from(limit))
            .fetch_all(pool)
            .await?);
        Ok(rows
            .into_iter()
            .map(|(name, times)| (name, u64::try_from(times).unwrap_or(0)))
            .collect())
    }

    /// How long people took over the requests that they decided from `from` on and before
    /// `until`: the newest, at most `limit`.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn approval_waits(
        &self,
        from: Timestamp,
        until: Timestamp,
        limit: u32,
    ) -> Result<Vec<Duration>, StoreError> {
        let rows: Vec<(i64,)> = on!(self, |pool| sqlx::query_as(WAITS)
            .bind(from.as_millis())
            .bind(until.as_millis())
            .bind(i64::from(limit))
            .fetch_all(pool)
            .await?);
        Ok(rows
            .into_iter()
            .map(|(millis,)| Duration::from_millis(u64::try_from(millis).unwrap_or(0)))
            .collect())
    }

    /// How many requests wait for people.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn approvals_waiting(&self, now: Timestamp) -> Result<u64, StoreError> {
        let (waiting,): (i64,) = on!(self, |pool| sqlx::query_as(WAITING)
            .bind(now.as_millis())
            .fetch_one(pool)
            .await?);
        Ok(u64::try_from(waiting).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests;
