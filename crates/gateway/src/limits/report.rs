//! What the orchestrator is told of budgets, and what it says of other gateways.

use std::{sync::Arc, time::Duration};

use authz::Timestamp;
use contract::budgets::{BudgetUse, Day, MAX_REPORTED, ReportBudgets};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::{Limits, SWEEP};

/// How often it is told, where there are budgets.
const INTERVAL: Duration = Duration::from_secs(5);

/// So many reports at most, one after the other, when there is more to say than one holds.
const MAX_REPORTS: usize = 100;

/// What was heard last.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// As of when; absent until something was heard.
    since: Mutex<Option<Timestamp>>,
    /// Whether anything was.
    any: std::sync::atomic::AtomicBool,
}

/// Tells the orchestrator.
#[derive(Clone, Debug)]
pub(crate) struct Reporter {
    limits: Arc<Limits>,
    orchestrator: contract::Client,
    /// This gateway, as its journal names it.
    gateway: String,
    /// Names this run.
    run: String,
}

impl Reporter {
    pub(crate) fn new(
        limits: &Arc<Limits>,
        orchestrator: &contract::Client,
        gateway: &str,
    ) -> Self {
        Self {
            limits: Arc::clone(limits),
            orchestrator: orchestrator.clone(),
            gateway: gateway.to_owned(),
            run: uuid::Uuid::new_v4().to_string(),
        }
    }

    /// Tells it every few seconds, and forgets what is not needed, until `stop`; then once
    /// more.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut since_sweep = Duration::ZERO;
        loop {
            if let Err(error) = self.once().await {
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "the orchestrator cannot be told of budgets"
                );
            }
            tokio::select! {
                () = tokio::time::sleep(INTERVAL) => {}
                () = stop.cancelled() => break,
            }
            since_sweep += INTERVAL;
            if since_sweep >= SWEEP {
                since_sweep = Duration::ZERO;
                self.limits.sweep();
            }
        }
        if let Err(error) = self.once().await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the orchestrator was not told of what was used of budgets last"
            );
        }
    }

    /// Waits until what was used before this run, and elsewhere, is known: before that no
    /// budget means anything. It costs nothing afterwards, or without budgets.
    ///
    /// # Errors
    ///
    /// When the orchestrator does not say.
    pub(crate) async fn ready(&self) -> Result<(), contract::Error> {
        let told = &self.limits.told.any;
        if told.load(std::sync::atomic::Ordering::Acquire)
            || !self.limits.rules.load().has_budgets()
        {
            return Ok(());
        }
        self.once().await
    }

    /// Says what is new, and hears what is.
    pub(crate) async fn once(&self) -> Result<(), contract::Error> {
        let limits = &self.limits;
        if !limits.rules.load().has_budgets() {
            return Ok(());
        }
        // One at a time, so that an older answer is not heard after a newer.
        let mut since = limits.told.since.lock().await;
        for _ in 0..MAX_REPORTS {
            let rules = limits.rules.load_full();
            let day = Day::of(limits.clock.now());
            let mut told = Vec::new();
            let mut used = Vec::new();
            for (key, counter) in rules.counters() {
                if used.len() == MAX_REPORTED {
                    break;
                }
                if let Some(count) = counter.news(day) {
                    used.push(BudgetUse {
                        key,
                        calls: count.calls,
                        bytes: count.bytes,
                        calls_limit: count.calls_limit,
                        bytes_limit: count.bytes_limit,
                    });
                    told.push(counter);
                }
            }
            let more = used.len() == MAX_REPORTED;
            let report = ReportBudgets {
                gateway: self.gateway.clone(),
                run: self.run.clone(),
                day,
                used,
                since: *since,
            };
            let answer = match self.orchestrator.report_budgets(&report).await {
                Ok(answer) => answer,
                Err(error) if contract::client::is_not_found(&error) => {
                    // An older one, which keeps no budgets: each gateway is on its own.
                    limits
                        .told
                        .any
                        .store(true, std::sync::atomic::Ordering::Release);
                    return Ok(());
                }
                Err(error) => {
                    for counter in told {
                        counter.untold();
                    }
                    return Err(error);
                }
            };
            for other in answer.elsewhere {
                let Some(rule) = rules.budget(&other.key) else {
                    continue;
                };
                if let Some(budget) = &rule.budget {
                    let agent = other.key.agent.unwrap_or(authz::AgentId::LOCAL);
                    budget.counter(agent).hear(day, other.calls, other.bytes);
                }
            }
            *since = Some(answer.told);
            limits
                .told
                .any
                .store(true, std::sync::atomic::Ordering::Release);
            if !more {
                break;
            }
        }
        Ok(())
    }
}
