//! The sessions of agents: which calls belong together, and what was read in them.
//!
//! A session belongs to one agent at one gateway. The agent says by a header which calls
//! belong together; calls without one share a session, too. A session ends when nothing was
//! called in it for a while. All of it is in memory, and bounded.
//!
//! An agent chooses the header itself, so it must not matter for what protects against the
//! agent: **a taint is the agent's, not the session's**. Once an agent has read what anybody
//! may have written, all its sessions here are tainted, new ones as well, until all of them
//! have ended. Where memory does not suffice to remember whether an agent is tainted, it is;
//! after a restart the journal says who was ([`Sessions::remember`]).

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use authz::{AgentId, AgentSessionId, Session, Timestamp};
use http::HeaderName;

use crate::facts::Monotonic;

/// Names the session of a call to `/execute` and `/mcp/rpc`.
pub(crate) const X_SESSION_ID: HeaderName = HeaderName::from_static("x-session-id");

/// How long a name of a session may be, in characters.
const MAX_NAME: usize = 128;

/// So many agents are kept in memory.
const MAX_AGENTS: usize = 100_000;

/// So many sessions of one agent are told apart; of more, the one that rested longest is
/// begun anew.
const MAX_SESSIONS: usize = 64;

/// Agents are spread over so many locks.
const SHARDS: usize = 64;

/// What an agent calls a session: 1 to 128 characters of visible ASCII, as MCP has them.
/// It means nothing to anybody else, and is kept nowhere but here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SessionName(Arc<str>);

impl SessionName {
    /// # Errors
    ///
    /// What is wrong with it, without repeating it.
    pub(crate) fn new(text: &str) -> Result<Self, String> {
        let visible = text.bytes().all(|byte| byte.is_ascii_graphic());
        if (1..=MAX_NAME).contains(&text.len()) && visible {
            Ok(Self(text.into()))
        } else {
            Err(format!(
                "a session's name is 1 to {MAX_NAME} characters of visible ASCII, without spaces"
            ))
        }
    }
}

/// The sessions of all agents.
#[derive(Debug)]
pub(crate) struct Sessions {
    shards: Vec<Mutex<HashMap<AgentId, OfAgent>>>,
    hasher: RandomState,
    /// A session ends when nothing was called in it for so long.
    idle: Duration,
    /// How many agents each shard keeps.
    room: usize,
    monotonic: Monotonic,
    /// Until when, in milliseconds of `monotonic`, an agent that is not known may be one that
    /// was forgotten, or that a run before this one knew.
    doubtful_until: AtomicU64,
}

/// One agent's sessions.
#[derive(Debug)]
struct OfAgent {
    tainted: bool,
    /// When it last called.
    seen: Duration,
    sessions: Vec<Kept>,
}

#[derive(Debug)]
struct Kept {
    name: Option<SessionName>,
    id: AgentSessionId,
    started: Timestamp,
    calls: u32,
    seen: Duration,
}

impl Sessions {
    pub(crate) fn new(idle: Duration, monotonic: Monotonic) -> Self {
        Self::with_room(idle, monotonic, MAX_AGENTS / SHARDS)
    }

    fn with_room(idle: Duration, monotonic: Monotonic, room: usize) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            idle,
            room,
            monotonic,
            doubtful_until: AtomicU64::new(0),
        }
    }

    /// The session that a call belongs to, which begins with it if there is none. A session
    /// without a name is that of all calls without one.
    pub(crate) fn enter(
        &self,
        agent: AgentId,
        name: Option<&SessionName>,
        now: Timestamp,
    ) -> Session {
        let moment = self.monotonic.now();
        let mut shard = self.shard(agent);
        let of_agent = self.of_agent(&mut shard, agent, moment);
        of_agent.seen = moment;
        let tainted = of_agent.tainted;
        let kept = of_agent.session(name, moment, self.idle, now);
        Session {
            id: kept.id,
            started: kept.started,
            calls: kept.calls,
            tainted,
        }
    }

    /// Counts a command of this session that was permitted.
    pub(crate) fn permitted(&self, agent: AgentId, session: AgentSessionId) {
        let mut shard = self.shard(agent);
        let kept = shard.get_mut(&agent).and_then(|of_agent| {
            let mut sessions = of_agent.sessions.iter_mut();
            sessions.find(|kept| kept.id == session)
        });
        // A session that ended meanwhile counts no more.
        if let Some(kept) = kept {
            kept.calls = kept.calls.saturating_add(1);
        }
    }

    /// Taints an agent: it is about to get what anybody may have written. Called before the
    /// answer leaves, so that whatever the agent does because of it is decided afterwards.
    pub(crate) fn taint(&self, agent: AgentId) {
        let moment = self.monotonic.now();
        let mut shard = self.shard(agent);
        let of_agent = self.of_agent(&mut shard, agent, moment);
        of_agent.seen = moment;
        of_agent.tainted = true;
    }

    /// Taints the agents that were tainted when the gateway ended, as its journal has them;
    /// or every agent, if that cannot be read.
    pub(crate) fn remember(&self, tainted: Result<Vec<AgentId>, std::io::Error>) {
        match tainted {
            Ok(agents) => agents.into_iter().for_each(|agent| self.taint(agent)),
            Err(error) => {
                tracing::error!(%error, "the journal does not tell who read untrusted content before the start: for a while, all agents are taken to have");
                self.doubt(self.monotonic.now());
            }
        }
    }

    /// Takes every agent that is not known for tainted, until each session of before would
    /// have ended.
    fn doubt(&self, moment: Duration) {
        let until = millis(moment.saturating_add(self.idle)).saturating_add(1);
        self.doubtful_until.fetch_max(until, Ordering::AcqRel);
    }

    fn shard(&self, agent: AgentId) -> MutexGuard<'_, HashMap<AgentId, OfAgent>> {
        let at = usize::try_from(self.hasher.hash_one(agent) % SHARDS as u64).unwrap_or(0);
        #[allow(
            clippy::indexing_slicing,
            reason = "there are as many shards as the remainder has values"
        )]
        let shard = &self.shards[at];
        // No change of it is left half done by a panic.
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of an agent, all of whose sessions may have ended.
    fn of_agent<'a>(
        &self,
        shard: &'a mut HashMap<AgentId, OfAgent>,
        agent: AgentId,
        moment: Duration,
    ) -> &'a mut OfAgent {
        if !shard.contains_key(&agent) {
            self.make_room(shard, moment);
        }
        let of_agent = shard.entry(agent).or_insert_with(|| OfAgent {
            tainted: millis(moment) < self.doubtful_until.load(Ordering::Acquire),
            seen: moment,
            sessions: Vec::new(),
        });
        if ended(of_agent.seen, moment, self.idle) {
            of_agent.tainted = false;
            of_agent.sessions.clear();
        }
        of_agent
    }

    fn make_room(&self, shard: &mut HashMap<AgentId, OfAgent>, moment: Duration) {
        if shard.len() < self.room {
            return;
        }
        shard.retain(|_, of_agent| !ended(of_agent.seen, moment, self.idle));
        while shard.len() >= self.room {
            let longest = shard.iter().min_by_key(|(_, of_agent)| of_agent.seen);
            let Some((agent, tainted)) = longest.map(|(agent, kept)| (*agent, kept.tainted)) else {
                return;
            };
            shard.remove(&agent);
            if tainted {
                // It may be back at once, and is not to be clean then.
                self.doubt(moment);
            }
        }
    }
}

impl OfAgent {
    fn session(
        &mut self,
        name: Option<&SessionName>,
        moment: Duration,
        idle: Duration,
        now: Timestamp,
    ) -> &mut Kept {
        let begin = || Kept {
            name: name.cloned(),
            id: AgentSessionId::generate(now),
            started: now,
            calls: 0,
            seen: moment,
        };
        let known = self
            .sessions
            .iter()
            .position(|kept| kept.name.as_ref() == name);
        let at = match known {
            Some(at) => at,
            None if self.sessions.len() < MAX_SESSIONS => {
                self.sessions.push(begin());
                self.sessions.len() - 1
            }
            // The one that rested longest, which may have ended.
            None => {
                let sessions = self.sessions.iter_mut().enumerate();
                let longest = sessions.min_by_key(|(_, kept)| kept.seen);
                longest.map_or(0, |(at, kept)| {
                    *kept = begin();
                    at
                })
            }
        };
        #[allow(clippy::indexing_slicing, reason = "a place that was just found")]
        let kept = &mut self.sessions[at];
        if ended(kept.seen, moment, idle) {
            *kept = begin();
        }
        kept.seen = moment;
        kept
    }
}

fn ended(seen: Duration, moment: Duration, idle: Duration) -> bool {
    moment.saturating_sub(seen) >= idle
}

fn millis(span: Duration) -> u64 {
    crate::service::millis(span)
}

#[cfg(test)]
mod tests;
