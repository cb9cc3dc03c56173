//! How much of the day's budgets went through gateways.

use authz::{AgentId, CommandName, ServiceName, time::Timestamp};

use crate::{
    Actor, Store, StoreError,
    column::{is_exact, parsed, row, statements},
    database::{on, within},
};

/// What is kept so many days is forgotten.
const KEPT_DAYS: i64 = 7;

/// An agent has at most so many budgets shown, and so has a service.
pub const MAX_SHOWN: u32 = 1_000;

/// What a budget is for: all services, one, or one command of it; all agents, or one.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct BudgetKey {
    /// The service.
    pub service: Option<ServiceName>,
    /// One command of it.
    pub command: Option<CommandName>,
    /// The agent.
    pub agent: Option<AgentId>,
}

/// How much of it is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BudgetUse {
    /// Which.
    pub key: BudgetKey,
    /// So many calls.
    pub calls: i64,
    /// So many bytes.
    pub bytes: i64,
    /// Of so many calls.
    pub calls_limit: Option<i64>,
    /// Of so many bytes.
    pub bytes_limit: Option<i64>,
}

/// Which run of which gateway, on which day of UTC since 1970-01-01.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// The gateway.
    pub gateway: &'a str,
    /// Its run.
    pub run: &'a str,
    /// The day.
    pub day: i64,
}

statements! {
    SAY = "
        INSERT INTO budget_use
            (day, gateway, run, service, command, agent, calls, bytes, calls_limit, bytes_limit, said)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
        ON CONFLICT (day, gateway, run, service, command, agent) DO UPDATE SET
            calls = excluded.calls, bytes = excluded.bytes,
            calls_limit = excluded.calls_limit, bytes_limit = excluded.bytes_limit,
            said = excluded.said";
    FORGET = "DELETE FROM budget_use WHERE day < $1";
    ELSEWHERE = "
        SELECT service, command, agent,
            CAST(SUM(calls) AS BIGINT) AS calls, CAST(SUM(bytes) AS BIGINT) AS bytes,
            MAX(calls_limit) AS calls_limit, MAX(bytes_limit) AS bytes_limit
        FROM budget_use
        WHERE day = $1 AND NOT (gateway = $2 AND run = $3)
        GROUP BY service, command, agent
        HAVING MAX(said) >= $4
        ORDER BY service, command, agent";
    OF_AGENT = "
        SELECT service, command, agent,
            CAST(SUM(calls) AS BIGINT) AS calls, CAST(SUM(bytes) AS BIGINT) AS bytes,
            MAX(calls_limit) AS calls_limit, MAX(bytes_limit) AS bytes_limit
        FROM budget_use
        WHERE day = $1 AND agent = $2
        GROUP BY service, command, agent
        ORDER BY calls DESC, service, command
        LIMIT $3";
    OF_SERVICE = "
        SELECT service, command, agent,
            CAST(SUM(calls) AS BIGINT) AS calls, CAST(SUM(bytes) AS BIGINT) AS bytes,
            MAX(calls_limit) AS calls_limit, MAX(bytes_limit) AS bytes_limit
        FROM budget_use
        WHERE day = $1 AND service = $2
        GROUP BY service, command, agent
        ORDER BY calls DESC, command, agent
        LIMIT $3";
    OF_ALL = "
        SELECT service, command, agent,
            CAST(SUM(calls) AS BIGINT) AS calls, CAST(SUM(bytes) AS BIGINT) AS bytes,
            MAX(calls_limit) AS calls_limit, MAX(bytes_limit) AS bytes_limit
        FROM budget_use
        WHERE day = $1
        GROUP BY service, command, agent
        ORDER BY calls DESC, service, command, agent
        LIMIT $2";
}

row! {
    /// A budget, summed over gateways.
    BudgetRow {
        service: String,
        command: String,
        agent: String,
        calls: i64,
        bytes: i64,
        calls_limit: Option<i64>,
        bytes_limit: Option<i64>,
    }
}

impl TryFrom<BudgetRow> for BudgetUse {
    type Error = StoreError;

    fn try_from(row: BudgetRow) -> Result<Self, StoreError> {
        fn named<T: std::str::FromStr<Err: std::fmt::Display>>(
            text: &str,
        ) -> Result<Option<T>, StoreError> {
            let given = Some(text).filter(|text| !text.is_empty());
            given.map(|text| parsed("budget", text)).transpose()
        }
        Ok(Self {
            key: BudgetKey {
                service: named(&row.service)?,
                command: named(&row.command)?,
                agent: named(&row.agent)?,
            },
            calls: row.calls,
            bytes: row.bytes,
            calls_limit: row.calls_limit,
            bytes_limit: row.bytes_limit,
        })
    }
}

fn gather(rows: Vec<BudgetRow>) -> Result<Vec<BudgetUse>, StoreError> {
    rows.into_iter().map(BudgetUse::try_from).collect()
}

/// As it stands in a column.
fn text<T: ToString>(name: Option<&T>) -> String {
    name.map(ToString::to_string).unwrap_or_default()
}

impl Store {
    /// Keeps what a run of a gateway used of budgets: the whole of each that is named.
    /// Forgets days that are long over. No event, and nothing in the audit trail: it is said
    /// every few seconds.
    ///
    /// # Errors
    ///
    /// [`StoreError::Conflict`] for a name that cannot be kept.
    pub async fn keep_budget_use(
        &self,
        run: Run<'_>,
        used: &[BudgetUse],
        actor: &Actor,
    ) -> Result<(), StoreError> {
        if !is_exact(run.gateway) || !is_exact(run.run) {
            return Err(StoreError::Conflict(
                "a gateway's name cannot hold NUL".to_owned(),
            ));
        }
        let mut write = self.write(actor).await?;
        let said = write.at().as_millis();
        for one in used {
            within!(write, |c| sqlx::query(SAY)
                .bind(run.day)
                .bind(run.gateway)
                .bind(run.run)
                .bind(text(one.key.service.as_ref()))
                .bind(text(one.key.command.as_ref()))
                .bind(text(one.key.agent.as_ref()))
                .bind(one.calls.max(0))
                .bind(one.bytes.max(0))
                .bind(one.calls_limit)
                .bind(one.bytes_limit)
                .bind(said)
                .execute(c)
                .await
                .map(drop)?);
        }
        let today = said.div_euclid(24 * 60 * 60 * 1_000);
        within!(write, |c| sqlx::query(FORGET)
            .bind(today - KEPT_DAYS)
            .execute(c)
            .await
            .map(drop)?);
        write.commit().await
    }

    /// What went through others, and through earlier runs, on that day: budgets of which
    /// something was said at `since` or later, each as a whole.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn budget_use_elsewhere(
        &self,
        run: Run<'_>,
        since: Timestamp,
    ) -> Result<Vec<BudgetUse>, StoreError> {
        let rows: Vec<BudgetRow> = on!(self, |pool| sqlx::query_as(ELSEWHERE)
            .bind(run.day)
            .bind(run.gateway)
            .bind(run.run)
            .bind(since.as_millis())
            .fetch_all(pool)
            .await?);
        gather(rows)
    }

    /// What was used on that day, over all gateways: of one agent, of one service, or of
    /// everything; at most [`MAX_SHOWN`], most first.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn budget_use(
        &self,
        day: i64,
        agent: Option<AgentId>,
        service: Option<&ServiceName>,
    ) -> Result<Vec<BudgetUse>, StoreError> {
        let limit = i64::from(MAX_SHOWN);
        let rows: Vec<BudgetRow> = match (agent, service) {
            (Some(agent), _) => on!(self, |pool| sqlx::query_as(OF_AGENT)
                .bind(day)
                .bind(agent.to_string())
                .bind(limit)
                .fetch_all(pool)
                .await?),
            (None, Some(service)) => on!(self, |pool| sqlx::query_as(OF_SERVICE)
                .bind(day)
                .bind(service.to_string())
                .bind(limit)
                .fetch_all(pool)
                .await?),
            (None, None) => on!(self, |pool| sqlx::query_as(OF_ALL)
                .bind(day)
                .bind(limit)
                .fetch_all(pool)
                .await?),
        };
        let mut used = gather(rows)?;
        if agent.is_some()
            && let Some(service) = service
        {
            used.retain(|one| one.key.service.as_ref() == Some(service));
        }
        Ok(used)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{after, at, on_both_engines};

    fn used(service: &str, agent: Option<AgentId>, calls: i64) -> BudgetUse {
        BudgetUse {
            key: BudgetKey {
                service: Some(service.parse().unwrap()),
                command: None,
                agent,
            },
            calls,
            bytes: calls * 10,
            calls_limit: Some(100),
            bytes_limit: None,
        }
    }

    on_both_engines! {
        async fn what_gateways_used_is_summed_and_forgotten(fixture) {
            let store = &fixture.store;
            let head = store.feed_head().await.unwrap();
            let today = after(0).as_millis().div_euclid(86_400_000);
            let run = |gateway, run| Run { gateway, run, day: today };
            let bot = AgentId::LOCAL;
            let keep = |run, used: Vec<BudgetUse>, second| {
                let actor = at(after(second));
                async move { store.keep_budget_use(run, &used, &actor).await.unwrap() }
            };
            keep(run("a", "1"), vec![used("coolify", None, 3), used("coolify", Some(bot), 2)], 0).await;
            keep(run("a", "2"), vec![used("coolify", None, 4)], 1).await;
            keep(run("b", "1"), vec![used("coolify", None, 10), used("github", None, 1)], 2).await;
            // The whole of it, not what was added.
            keep(run("b", "1"), vec![used("coolify", None, 11)], 3).await;
            keep(run("b", "1"), Vec::new(), 4).await;

            let elsewhere = store.budget_use_elsewhere(run("b", "1"), after(0)).await.unwrap();
            assert_eq!(elsewhere, [used("coolify", None, 7), used("coolify", Some(bot), 2)]);
            let news = store.budget_use_elsewhere(run("b", "1"), after(1)).await.unwrap();
            assert_eq!(news, [used("coolify", None, 7)], "each as a whole");
            assert!(store.budget_use_elsewhere(run("b", "1"), after(2)).await.unwrap().is_empty());

            let all = store.budget_use(today, None, None).await.unwrap();
            assert_eq!(all, [used("coolify", None, 18), used("coolify", Some(bot), 2), used("github", None, 1)]);
            let github = "github".parse().unwrap();
            assert_eq!(store.budget_use(today, None, Some(&github)).await.unwrap().len(), 1);
            assert_eq!(store.budget_use(today, Some(bot), None).await.unwrap(), [used("coolify", Some(bot), 2)]);
            assert!(store.budget_use(today, Some(bot), Some(&github)).await.unwrap().is_empty());
            assert!(store.budget_use(today + 1, None, None).await.unwrap().is_empty());
            assert_eq!(store.feed_head().await.unwrap(), head, "nothing to follow");

            let day = 24 * 60 * 60;
            keep(run("b", "2"), Vec::new(), 7 * day).await;
            assert_eq!(store.budget_use(today, None, None).await.unwrap().len(), 3);
            keep(run("b", "2"), Vec::new(), 8 * day).await;
            assert!(store.budget_use(today, None, None).await.unwrap().is_empty());
            assert!(matches!(store.keep_budget_use(run("a\0", "1"), &[], &at(after(1))).await, Err(StoreError::Conflict(_))));
        }
    }
}
