//! How much in a day: calls and bytes, by days of UTC.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use authz::{AgentId, Timestamp};
use contract::budgets::Day;
use dashmap::DashMap;
use handlers::{HandlerError, limits::Allowance};

/// What is used of one budget.
#[derive(Debug, Default)]
pub(super) struct Counter(Mutex<Count>);

/// What is used of one budget on one day.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Count {
    pub(super) day: Day,
    /// Here, since this gateway was started.
    pub(super) calls: u64,
    pub(super) bytes: u64,
    /// Elsewhere and before, as the orchestrator said.
    elsewhere_calls: u64,
    elsewhere_bytes: u64,
    /// What was allowed when something was taken last.
    pub(super) calls_limit: Option<u64>,
    pub(super) bytes_limit: Option<u64>,
    /// Whether the orchestrator does not know it yet.
    pub(super) news: bool,
}

impl Counter {
    fn of(&self, day: Day) -> MutexGuard<'_, Count> {
        // Nothing panics while holding it, and nothing is waited for.
        let mut count = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if count.day < day {
            *count = Count {
                day,
                ..Count::default()
            };
        }
        count
    }

    /// What the orchestrator was not told of yet; it counts as told.
    pub(super) fn news(&self, day: Day) -> Option<Count> {
        let mut count = self.of(day);
        let news = count.day == day && std::mem::take(&mut count.news);
        news.then_some(*count)
    }

    /// It was not told after all.
    pub(super) fn untold(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).news = true;
    }

    /// Takes over what went through others.
    pub(super) fn hear(&self, day: Day, calls: u64, bytes: u64) {
        let mut count = self.of(day);
        if count.day == day {
            count.elsewhere_calls = calls;
            count.elsewhere_bytes = bytes;
        }
    }

    fn is_old(&self, day: Day) -> bool {
        let count = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        count.day < day
    }
}

/// A day's budget: one for all, or one for each agent.
#[derive(Clone, Debug)]
pub(super) enum Budget {
    All(Arc<Counter>),
    Each(Arc<DashMap<AgentId, Arc<Counter>>>),
}

/// What of a budget is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spent {
    Calls { limit: u64, resets: Timestamp },
    Bytes { limit: u64, resets: Timestamp },
}

impl Budget {
    pub(super) fn counter(&self, agent: AgentId) -> Arc<Counter> {
        match self {
            Self::All(counter) => Arc::clone(counter),
            Self::Each(counters) => {
                if let Some(counter) = counters.get(&agent) {
                    return Arc::clone(&counter);
                }
                Arc::clone(&counters.entry(agent).or_default())
            }
        }
    }

    /// Every counter, with its agent if it is one's.
    pub(super) fn counters(&self) -> Vec<(Option<AgentId>, Arc<Counter>)> {
        match self {
            Self::All(counter) => vec![(None, Arc::clone(counter))],
            Self::Each(counters) => counters
                .iter()
                .map(|entry| (Some(*entry.key()), Arc::clone(entry.value())))
                .collect(),
        }
    }

    /// Forgets what was counted on earlier days.
    pub(super) fn sweep(&self, now: Timestamp) {
        if let Self::Each(counters) = self {
            let today = Day::of(now);
            counters.retain(|_, counter| !counter.is_old(today));
            counters.shrink_to_fit();
        }
    }
}

/// What one command takes of budgets. It is given back unless the command leaves.
#[derive(Debug)]
#[must_use]
pub(crate) struct Charge {
    day: Day,
    taken: Vec<(Arc<Counter>, bool)>,
    left: bool,
    /// Of arguments and answers, so far.
    bytes: u64,
}

impl Charge {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            day: Day::of(now),
            taken: Vec::new(),
            left: false,
            bytes: 0,
        }
    }

    /// Takes one call of a budget.
    ///
    /// # Errors
    ///
    /// When nothing is left. How many bytes a command will take nobody knows: it goes if
    /// there is one left.
    pub(super) fn take(
        &mut self,
        budget: &Budget,
        allowance: &Allowance,
        agent: AgentId,
    ) -> Result<(), Spent> {
        let counter = budget.counter(agent);
        {
            let mut count = counter.of(self.day);
            let resets = self.day.end();
            let calls = count.calls.saturating_add(count.elsewhere_calls);
            let bytes = count.bytes.saturating_add(count.elsewhere_bytes);
            if let Some(limit) = allowance.calls_per_day.filter(|limit| calls >= *limit) {
                return Err(Spent::Calls { limit, resets });
            }
            if let Some(limit) = allowance.bytes_per_day.filter(|limit| bytes >= *limit) {
                return Err(Spent::Bytes { limit, resets });
            }
            if count.day == self.day {
                count.calls += 1;
                count.news = true;
                count.calls_limit = allowance.calls_per_day;
                count.bytes_limit = allowance.bytes_per_day;
            }
        }
        self.taken
            .push((counter, allowance.bytes_per_day.is_some()));
        Ok(())
    }

    /// The command leaves: what was taken stays taken.
    pub(crate) fn leave(&mut self) {
        self.left = true;
    }

    /// Ends it with what came of the command: what never arrived is given back.
    pub(crate) fn settle<T>(&mut self, outcome: &Result<T, HandlerError>) {
        if let Err(
            HandlerError::NotConfigured { .. }
            | HandlerError::Unreachable { .. }
            | HandlerError::TooMany { .. },
        ) = outcome
        {
            self.left = false;
        }
    }

    /// Whether anybody counts bytes.
    pub(crate) fn counts_bytes(&self) -> bool {
        self.taken.iter().any(|(_, bytes)| *bytes)
    }

    /// Notes bytes, of arguments or of an answer. They count when it ends.
    pub(crate) fn saw(&mut self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        for (counter, counts_bytes) in &self.taken {
            let mut count = counter.of(self.day);
            if count.day != self.day {
                continue;
            }
            if !self.left {
                count.calls = count.calls.saturating_sub(1);
            } else if *counts_bytes {
                count.bytes = count.bytes.saturating_add(self.bytes);
            } else {
                continue;
            }
            count.news = true;
        }
    }
}
