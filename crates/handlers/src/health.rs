//! How services are, for those who keep an eye on them.

use std::time::Duration;

/// How a service is, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It answers, or was not asked yet.
    Healthy,
    /// Its last commands failed, or it is left alone for a while. It is asked again by
    /// itself.
    Degraded,
    /// It cannot be asked before somebody sets something.
    Unconfigured,
}

/// What keeps commands from a service that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Breaker {
    /// Nothing: commands go through.
    Closed,
    /// The service is left alone.
    Open,
    /// One command, or the next, finds out whether it is well again.
    HalfOpen,
}

/// How a service is, and what is known of why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// In a word.
    pub state: State,
    /// How long it has been so; absent when it never was otherwise, or nobody noted it.
    pub lasting: Option<Duration>,
    /// Of services that have one.
    pub breaker: Option<Breaker>,
    /// How many commands failed in a row.
    pub failures: u32,
    /// How the last of them failed: `unreachable`, `timeout`, `broken`, `failed`.
    pub last_error: Option<&'static str>,
    /// How long until it is tried again.
    pub retry_in: Option<Duration>,
    /// How many requests are under way, where that is limited.
    pub in_flight: Option<usize>,
    /// What to set, or what is wrong.
    pub reason: Option<String>,
}

impl Condition {
    /// One of which nothing more is known.
    pub(crate) const fn of(state: State) -> Self {
        Self {
            state,
            lasting: None,
            breaker: None,
            failures: 0,
            last_error: None,
            retry_in: None,
            in_flight: None,
            reason: None,
        }
    }

    /// That of a service that cannot be asked: `reason` says what to set.
    pub(crate) fn unconfigured(reason: String) -> Self {
        Self {
            reason: Some(reason),
            ..Self::of(State::Unconfigured)
        }
    }

    /// Whether commands have a good chance: neither unconfigured nor left alone.
    #[must_use]
    pub fn is_up(&self) -> bool {
        match self.state {
            State::Healthy => true,
            State::Unconfigured => false,
            // A few failures in a row close nothing yet.
            State::Degraded => self.breaker == Some(Breaker::Closed),
        }
    }
}

impl State {
    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Unconfigured => "unconfigured",
        }
    }
}

impl Breaker {
    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}
