//! Sessions: what policies are told of the conversation that a call belongs to.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{id::AgentSessionId, time::Timestamp};

/// A run of calls of one agent: `context.session`.
///
/// The gateway keeps them. Whoever decides without one, because a call is only imagined or
/// its record is older than sessions, takes a [`fresh`](Self::fresh) one and says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Session {
    /// Names it. Given by the gateway, never by the agent.
    pub id: AgentSessionId,
    /// When its first call came.
    pub started: Timestamp,
    /// How many of its commands were permitted before this one.
    pub calls: u32,
    /// Whether the agent has read content that anybody may have written.
    pub tainted: bool,
}

impl Session {
    /// A session that begins with this call, in which nothing was read yet: what is assumed
    /// where none is known.
    #[must_use]
    pub const fn fresh(now: Timestamp) -> Self {
        Self {
            id: AgentSessionId::NONE,
            started: now,
            calls: 0,
            tainted: false,
        }
    }
}

/// Some attributes of `context.session`: those that policies may look at. What none of them
/// looks at is not told, and costs nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Parts(u8);

impl Parts {
    pub(crate) const NONE: Self = Self(0);
    pub(crate) const ID: Self = Self(1);
    pub(crate) const STARTED: Self = Self(2);
    pub(crate) const CALLS: Self = Self(4);
    pub(crate) const TAINTED: Self = Self(8);
    pub(crate) const ALL: Self = Self(15);

    /// The one that policies call so; all of them if there is none.
    pub(crate) fn named(attribute: &str) -> Self {
        match attribute {
            "id" => Self::ID,
            "startedAt" => Self::STARTED,
            "calls" => Self::CALLS,
            "tainted" => Self::TAINTED,
            _ => Self::ALL,
        }
    }

    /// Both.
    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether some of `wanted` are among these.
    pub(crate) const fn hold(self, wanted: Self) -> bool {
        self.0 & wanted.0 != 0
    }
}

#[cfg(test)]
mod tests;
