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

#[cfg(test)]
mod tests;
