//! Limits: how fast agents, services and commands may be used, and how much in a day.
//!
//! Every request of an agent first takes from the agent's own rate ([`Limits::admit`]),
//! whatever becomes of it, so a flood of refused calls is limited as well. What is left is
//! taken when policy permits a command ([`Limits::charge`]), before it is recorded and
//! leaves: a refused call uses nothing of a service's.
//!
//! `rate.rs` is how fast, `share.rs` how a service's rate is divided among agents who want
//! more of it than there is, `budget.rs` how much in a day, `rules.rs` which of them a call
//! meets. All of it is in memory; `report.rs` tells the orchestrator of budgets, and hears
//! what other gateways used.

mod budget;
mod rate;
mod report;
mod rules;
mod share;

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use authz::{Agent, AgentId, Clock, CommandKey, Timestamp};
use dashmap::DashMap;
use handlers::{
    Catalog,
    limits::{Allowance, Limits as Settings, Pace},
};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use serde_json::{Value, json};

pub(crate) use self::{budget::Charge, report::Reporter};
use self::{
    budget::Spent,
    rate::Rate,
    rules::{Rule, Rules},
};
use crate::{facts::Monotonic, metrics::Metrics, refusal::seconds};

/// So many limited calls of an agent are recorded one by one; of more, one a second.
const RECORDED: Allowance = Allowance {
    per_second: Some(1),
    per_minute: None,
    per_hour: None,
    burst: Some(10),
    calls_per_day: None,
    bytes_per_day: None,
    paced: None,
};

/// How often what is not needed any more is forgotten.
pub(crate) const SWEEP: Duration = Duration::from_mins(1);

/// Every limit, and how far each is used.
#[derive(Debug)]
pub(crate) struct Limits {
    rules: ArcSwap<Rules>,
    catalog: Arc<Catalog>,
    monotonic: Monotonic,
    clock: Clock,
    metrics: Arc<Metrics>,
    /// Which limited calls are recorded.
    recorded: Option<Rate>,
    /// How many of an agent's were not, since one was.
    unrecorded: DashMap<AgentId, u64>,
    told: report::Told,
}

/// Why a call may not go through now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Limited {
    /// What the limit is of: `agent 'ci-bot'`, `service 'coolify'`.
    pub(crate) of: String,
    pub(crate) why: Why,
    /// When it is worth another try.
    pub(crate) retry_after: Duration,
    /// The command, if it is one.
    pub(crate) command: Option<CommandKey>,
    /// Whether it stands in the journal and the log.
    pub(crate) recorded: bool,
}

/// Which kind of limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// Too fast.
    Rate(Pace),
    /// Others want some of it, too.
    Share(Pace),
    /// The day's calls are used.
    Calls { limit: u64, resets: Timestamp },
    /// The day's bytes are used.
    Bytes { limit: u64, resets: Timestamp },
}

/// Where an agent stands with its own rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) pace: Pace,
    pub(crate) remaining: u32,
    /// Until all of it is there again.
    pub(crate) resets: Duration,
}

impl Limits {
    /// # Errors
    ///
    /// When `settings` names what is not there.
    pub(crate) fn new(
        settings: &Settings,
        catalog: Arc<Catalog>,
        (monotonic, clock): (Monotonic, Clock),
        metrics: Arc<Metrics>,
    ) -> Result<Self, String> {
        let rules = Rules::new(settings, &catalog, &monotonic, None)?;
        Ok(Self {
            recorded: RECORDED.pace().map(|pace| Rate::each(pace, &monotonic)),
            rules: ArcSwap::from_pointee(rules),
            catalog,
            monotonic,
            clock,
            metrics,
            unrecorded: DashMap::new(),
            told: report::Told::default(),
        })
    }

    /// Puts other limits in force. What was counted under a limit that stays, stays; budgets
    /// stay in any case.
    ///
    /// # Errors
    ///
    /// When `settings` names what is not there; then nothing changes.
    pub(crate) fn set(&self, settings: &Settings) -> Result<(), String> {
        let before = self.rules.load();
        let rules = Rules::new(settings, &self.catalog, &self.monotonic, Some(&before))?;
        self.rules.store(Arc::new(rules));
        Ok(())
    }

    /// Takes a request from the agent's own rate.
    ///
    /// # Errors
    ///
    /// When it is too fast.
    pub(crate) fn admit(
        &self,
        agent: &Agent,
        command: Option<&CommandKey>,
    ) -> Result<(), Box<Limited>> {
        let rules = self.rules.load();
        let Some(rule) = rules.agent(agent) else {
            return Ok(());
        };
        rule.take_rate(agent.id).map_err(|(why, retry_after)| {
            Box::new(self.limited(rule, agent, command, why, retry_after))
        })
    }

    /// Takes a permitted command from every limit that it meets. What is returned holds the
    /// budgets' part, and gives it back when the command does not leave.
    ///
    /// # Errors
    ///
    /// The first limit that has nothing left.
    pub(crate) fn charge(
        &self,
        agent: &Agent,
        command: &CommandKey,
    ) -> Result<Charge, Box<Limited>> {
        let rules = self.rules.load();
        let now = self.clock.now();
        let of_agent = rules.agent(agent);
        let met = || of_agent.into_iter().chain(rules.of_command(command));
        let limited = |rule: &Rule, (why, after)| {
            Box::new(self.limited(rule, agent, Some(command), why, after))
        };
        // Budgets first, because what was taken of them can be given back.
        let mut charge = Charge::new(now);
        for rule in met() {
            if let Some(budget) = &rule.budget {
                let taken = charge.take(budget, &rule.allowance, agent.id);
                taken.map_err(|spent| {
                    let (why, resets) = match spent {
                        Spent::Calls { limit, resets } => (Why::Calls { limit, resets }, resets),
                        Spent::Bytes { limit, resets } => (Why::Bytes { limit, resets }, resets),
                    };
                    limited(rule, (why, resets.since(now)))
                })?;
            }
        }
        // The narrowest first: an agent that is too fast takes nothing of what all share. Its
        // own rate was taken from before.
        for rule in rules.of_command(command) {
            rule.take_rate(agent.id)
                .map_err(|refused| limited(rule, refused))?;
        }
        Ok(charge)
    }

    fn limited(
        &self,
        rule: &Rule,
        agent: &Agent,
        command: Option<&CommandKey>,
        why: Why,
        retry_after: Duration,
    ) -> Limited {
        let service = command.map_or("", |command| command.service.as_str());
        self.metrics.limited(service, rule.kind(), why.word());
        Limited {
            of: rule.name(agent),
            why,
            retry_after,
            command: command.cloned(),
            recorded: false,
        }
    }

    /// Whether a limited call of this agent's is recorded; then, how many before it were not.
    pub(crate) fn recorded(&self, agent: AgentId) -> Option<u64> {
        let recorded = self
            .recorded
            .as_ref()
            .is_none_or(|rate| rate.take(agent).is_ok());
        if recorded {
            return Some(self.unrecorded.remove(&agent).map_or(0, |(_, count)| count));
        }
        *self.unrecorded.entry(agent).or_default() += 1;
        None
    }

    /// Where an agent stands with its own rate, if it has one.
    pub(crate) fn standing(&self, agent: &Agent) -> Option<Standing> {
        let rules = self.rules.load();
        rules.agent(agent)?.rate.as_ref()?.standing(agent.id)
    }

    /// Forgets what makes no difference any more.
    pub(crate) fn sweep(&self) {
        self.rules.load().sweep(self.clock.now());
        if let Some(recorded) = &self.recorded {
            recorded.sweep();
        }
        self.unrecorded.shrink_to_fit();
    }
}

/// Until all of a rate is there again, and so on: what clients may go by.
const LIMIT: [HeaderName; 4] = [
    HeaderName::from_static("ratelimit-policy"),
    HeaderName::from_static("ratelimit-limit"),
    HeaderName::from_static("ratelimit-remaining"),
    HeaderName::from_static("ratelimit-reset"),
];

impl Standing {
    /// Says it in an answer, unless it says so already.
    pub(crate) fn put_headers(&self, headers: &mut HeaderMap) {
        put_headers(headers, &self.pace, self.remaining, self.resets);
    }
}

fn put_headers(headers: &mut HeaderMap, pace: &Pace, remaining: u32, resets: Duration) {
    let window = Duration::from_millis(pace.window_ms);
    let policy = format!("{};w={}", pace.calls, seconds(window));
    let values = [
        policy,
        pace.calls.to_string(),
        remaining.to_string(),
        seconds(resets).to_string(),
    ];
    for (name, value) in LIMIT.iter().zip(values) {
        if let Ok(value) = HeaderValue::try_from(value)
            && !headers.contains_key(name)
        {
            headers.insert(name, value);
        }
    }
}

impl Why {
    /// In a word, for metrics.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Rate(_) => "rate",
            Self::Share(_) => "share",
            Self::Calls { .. } => "calls",
            Self::Bytes { .. } => "bytes",
        }
    }
}

impl Limited {
    /// Why, for the journal.
    pub(crate) const fn kind(&self) -> &'static str {
        match self.why {
            Why::Rate(_) => "rate_limit",
            Why::Share(_) => "fair_share",
            Why::Calls { .. } | Why::Bytes { .. } => "budget",
        }
    }

    pub(crate) fn message(&self) -> String {
        let of = &self.of;
        match self.why {
            Why::Rate(pace) => format!(
                "Rate limit exceeded. Maximum {} requests per {} seconds, for {of}.",
                pace.calls,
                seconds(Duration::from_millis(pace.window_ms))
            ),
            Why::Share(pace) => format!(
                "Rate limit exceeded. Maximum {} requests per {} seconds, for {of}; other agents want some of them, and this one has had its share.",
                pace.calls,
                seconds(Duration::from_millis(pace.window_ms))
            ),
            Why::Calls { limit, resets } => format!(
                "Budget spent: {limit} calls in a day, for {of}. It comes back at {resets}."
            ),
            Why::Bytes { limit, resets } => format!(
                "Budget spent: {limit} bytes in a day, for {of}. It comes back at {resets}."
            ),
        }
    }

    pub(crate) fn data(&self) -> Value {
        let mut data = json!({
            "outcome": "refused",
            "retryable": true,
            "asking_helps": false,
            "identifier": self.of,
            "reason": self.why.word(),
            "retry_after_seconds": seconds(self.retry_after).max(1),
            "message": "Nothing was executed. Wait so long before the same call is sent again.",
        });
        let more = match self.why {
            Why::Rate(pace) | Why::Share(pace) => {
                json!({"limit": pace.calls, "windowMs": pace.window_ms})
            }
            Why::Calls { limit, resets } | Why::Bytes { limit, resets } => {
                json!({"limit": limit, "resets_at": resets})
            }
        };
        let command = match &self.command {
            Some(command) => json!({"service": command.service, "operation": command.name}),
            None => json!({}),
        };
        if let Value::Object(data) = &mut data {
            for members in [more, command] {
                if let Value::Object(members) = members {
                    data.extend(members);
                }
            }
        }
        data
    }

    /// Says when to come again.
    pub(crate) fn put_headers(&self, headers: &mut HeaderMap) {
        let after = seconds(self.retry_after).max(1);
        headers.insert(header::RETRY_AFTER, HeaderValue::from(after));
        match self.why {
            Why::Rate(pace) | Why::Share(pace) => {
                put_headers(headers, &pace, 0, self.retry_after);
            }
            Why::Calls { limit, .. } | Why::Bytes { limit, .. } => {
                let values = [
                    format!("{limit};w=86400"),
                    limit.to_string(),
                    "0".to_owned(),
                    after.to_string(),
                ];
                for (name, value) in LIMIT.iter().zip(values) {
                    if let Ok(value) = HeaderValue::try_from(value) {
                        headers.insert(name, value);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
