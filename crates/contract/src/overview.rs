//! What happened lately, in numbers.

use authz::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How far back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = OverviewRange)]
pub enum Range {
    /// An hour, by minutes.
    #[default]
    #[serde(rename = "1h")]
    Hour,
    /// A day, by ten minutes.
    #[serde(rename = "24h")]
    Day,
    /// A week, by hours.
    #[serde(rename = "7d")]
    Week,
}

impl Range {
    /// Shortest first.
    pub const ALL: [Self; 3] = [Self::Hour, Self::Day, Self::Week];

    /// `1h`, `24h` or `7d`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "1h",
            Self::Day => "24h",
            Self::Week => "7d",
        }
    }
}

/// `GET /api/overview?range=`: counted as journals arrive, so as quick to read after a
/// million decisions as after one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Overview {
    /// How far back.
    pub range: Range,
    /// From when on; the first slot begins here.
    pub from: Timestamp,
    /// Until when.
    pub until: Timestamp,
    /// Each slot is so long, in seconds.
    pub slot_seconds: u64,
    /// Decisions of the whole range.
    pub total: Decisions,
    /// Every slot, oldest first, those without decisions included.
    pub slots: Vec<Slot>,
    /// The policies that refused most; a refusal may name several, or none.
    pub refused_by_policy: Vec<Ranked>,
    /// The agents that were refused most: by id, with their names.
    pub refused_agents: Vec<Ranked>,
    /// The commands that were refused most.
    pub refused_commands: Vec<Ranked>,
    /// How long people took from a request to its verdict.
    pub waits: Durations,
    /// How long decisions took.
    pub decision_times: Durations,
    /// How long services took to carry commands out.
    pub command_times: Durations,
    /// How many approval requests wait now.
    pub waiting: u64,
}

/// How many decisions of each outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Decisions {
    /// Carried out.
    pub permitted: u64,
    /// Refused for good.
    pub refused: u64,
    /// Put before people.
    pub pending: u64,
    /// Refused because people had said no.
    pub rejected: u64,
}

impl Decisions {
    /// All of them.
    #[must_use]
    pub const fn all(self) -> u64 {
        self.permitted
            .saturating_add(self.refused)
            .saturating_add(self.pending)
            .saturating_add(self.rejected)
    }
}

/// One slot of time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Slot {
    /// When it begins.
    pub at: Timestamp,
    /// What was decided in it.
    #[serde(flatten)]
    pub decisions: Decisions,
    /// How long commands took, of those that ended in it.
    pub command_times: Durations,
    /// How long its decisions took.
    pub decision_times: Durations,
}

/// One place of a ranking.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Ranked {
    /// What: a policy's id, an agent's id, a command.
    pub key: String,
    /// What people call it, where that is something else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// How often.
    pub count: u64,
}

/// How long something took: half of the times within `p50`, 95 of 100 within `p95`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Durations {
    /// So many were measured.
    pub count: u64,
    /// In milliseconds; absent if nothing was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p50_ms: Option<f64>,
    /// In milliseconds; absent if nothing was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p95_ms: Option<f64>,
}
