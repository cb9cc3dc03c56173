//! Budgets: how much of a day's calls and bytes is used.
//!
//! Each gateway counts what went through it, tells the orchestrator, and is told what went
//! through the others.

use authz::{AgentId, AgentName, CommandName, ServiceName, time::Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A report holds at most so many budgets; what is more comes with the next.
pub const MAX_REPORTED: usize = 1_000;

const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

/// A day of UTC, counted from 1970-01-01.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    ToSchema,
)]
#[serde(transparent)]
pub struct Day(pub i64);

impl Day {
    /// The one that `at` lies in.
    #[must_use]
    pub const fn of(at: Timestamp) -> Self {
        Self(at.as_millis().div_euclid(DAY_MS))
    }

    /// When it ends, and budgets come back.
    #[must_use]
    pub const fn end(self) -> Timestamp {
        Timestamp::from_millis(self.0.saturating_add(1).saturating_mul(DAY_MS))
    }
}

/// What a budget is for. Without service: an agent's, over all services.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
pub struct BudgetKey {
    /// A service, if it is of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceName>,
    /// One command of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<CommandName>,
    /// One agent; absent where all share it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentId>,
}

/// How much of a budget is used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BudgetUse {
    /// Which.
    #[serde(flatten)]
    pub key: BudgetKey,
    /// So many calls.
    pub calls: u64,
    /// So many bytes of arguments and answers.
    pub bytes: u64,
    /// Of so many calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls_limit: Option<u64>,
    /// Of so many bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_limit: Option<u64>,
}

/// `POST /api/gateway/budgets`: what went through a gateway since it was started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReportBudgets {
    /// The gateway, as its journal names it.
    pub gateway: String,
    /// Names this run of it: what an earlier one counted stays.
    pub run: String,
    /// The day.
    pub day: Day,
    /// What changed since the last report: the whole of each, not what was added. At most
    /// [`MAX_REPORTED`].
    pub used: Vec<BudgetUse>,
    /// What it was told last ([`BudgetsElsewhere::told`]); absent: nothing yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
}

/// The answer: what went through others, and through earlier runs, on that day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BudgetsElsewhere {
    /// As of when, by the orchestrator's clock.
    pub told: Timestamp,
    /// Budgets of which something changed since: the whole of each.
    pub elsewhere: Vec<BudgetUse>,
}

/// One line of `GET /api/budgets`: a budget of today that something was used of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BudgetView {
    /// Which, and how much over all gateways.
    #[serde(flatten)]
    pub used: BudgetUse,
    /// The agent's name, if there is one and it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_name: Option<AgentName>,
    /// Whether nothing is left of it.
    pub spent: bool,
    /// When it is whole again.
    pub resets: Timestamp,
}

impl BudgetUse {
    /// Whether nothing is left.
    #[must_use]
    pub fn is_spent(&self) -> bool {
        self.calls_limit.is_some_and(|limit| self.calls >= limit)
            || self.bytes_limit.is_some_and(|limit| self.bytes >= limit)
    }
}

impl std::fmt::Display for BudgetKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.service, &self.command) {
            (Some(service), Some(command)) => write!(f, "{service}/{command}"),
            (Some(service), None) => write!(f, "{service}"),
            (None, _) => f.write_str("all services"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn days_are_of_utc() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let day = Day::of(at("2026-11-22T23:59:59.999Z"));
        assert_eq!(day, Day::of(at("2026-11-22T00:00:00Z")));
        assert_eq!(day.end(), at("2026-11-23T00:00:00Z"));
        assert_eq!(Day::of(day.end()), Day(day.0 + 1));
    }

    #[test]
    fn a_budget_is_written_flat() {
        let used = BudgetUse {
            key: BudgetKey {
                service: Some("coolify".parse().unwrap()),
                ..BudgetKey::default()
            },
            calls: 5,
            bytes: 0,
            calls_limit: Some(5),
            bytes_limit: None,
        };
        assert!(used.is_spent());
        let written = json!({"service": "coolify", "calls": 5, "bytes": 0, "calls_limit": 5});
        assert_eq!(serde_json::to_value(&used).unwrap(), written);
        assert_eq!(serde_json::from_value::<BudgetUse>(written).unwrap(), used);
    }
}
