//! Who gets what of a rate that all share, once somebody wanted more than there was.
//!
//! As long as there is enough, everybody takes what they want. When somebody goes without,
//! then for one window each agent who took or wanted some lately may have an equal part and
//! no more. So an agent that is quick or persistent cannot keep others from theirs, and one
//! that is alone has everything.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use authz::AgentId;
use dashmap::DashMap;
use handlers::limits::Pace;

/// A window is long enough for so many calls, so that there is something to divide.
const CALLS: u32 = 20;

/// The shortest and the longest window.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_hours(1);

/// How a rate is divided.
#[derive(Debug)]
pub(super) struct Share {
    window: Duration,
    /// Calls in a window.
    calls: u64,
    agents: DashMap<AgentId, Used>,
    /// Until when it is divided, in nanoseconds.
    scarce_until: AtomicU64,
    /// How many agents wanted some: in `number`, and in that or the one before.
    current: AtomicU64,
    either: AtomicU64,
    number: AtomicU64,
}

/// What an agent took.
#[derive(Clone, Copy, Debug, Default)]
struct Used {
    /// In this window.
    number: u64,
    now: u64,
    /// In the one before it.
    before: u64,
}

impl Share {
    pub(super) fn new(pace: &Pace) -> Self {
        let wanted = Duration::from_millis(pace.window_ms) / pace.calls.max(1)
            * pace.burst.clamp(CALLS, CALLS * 50);
        let window = wanted.clamp(SHORTEST, LONGEST);
        let calls = window.as_millis() * u128::from(pace.calls) / u128::from(pace.window_ms.max(1));
        Self {
            window,
            calls: u64::try_from(calls).unwrap_or(u64::MAX).max(1),
            agents: DashMap::new(),
            scarce_until: AtomicU64::new(0),
            current: AtomicU64::new(0),
            either: AtomicU64::new(0),
            // Windows are counted from 2, so that an agent that was never seen was not in
            // the one before the first.
            number: AtomicU64::new(0),
        }
    }

    /// Notes that an agent wants one; whether it may try.
    ///
    /// # Errors
    ///
    /// When it had its share: how long until it may have another.
    pub(super) fn ask(&self, agent: AgentId, now: Duration) -> Result<(), Duration> {
        let number = self.number(now);
        self.turn(number);
        let mut used = self.agents.entry(agent).or_default();
        if used.number != number {
            let was_before = used.number + 1 == number;
            *used = Used {
                number,
                now: 0,
                before: if was_before { used.now } else { 0 },
            };
            self.current.fetch_add(1, Ordering::AcqRel);
            if !was_before {
                self.either.fetch_add(1, Ordering::AcqRel);
            }
        }
        let used = *used;
        if nanos(now) >= self.scarce_until.load(Ordering::Acquire) {
            return Ok(());
        }
        let agents = self.either.load(Ordering::Acquire).max(1);
        if agents == 1 {
            return Ok(());
        }
        let part = (self.calls / agents).max(1);
        // Of the window before, what the last window's length still covers.
        let into = nanos(now) % nanos(self.window);
        let left = nanos(self.window) - into;
        let before = u128::from(used.before) * u128::from(left) / u128::from(nanos(self.window));
        let before = u64::try_from(before).unwrap_or(u64::MAX);
        if used.now + before < part {
            return Ok(());
        }
        // When enough of it is long ago.
        let wait = if used.now >= part {
            left
        } else {
            let each = nanos(self.window) / used.before.max(1);
            each.min(left)
        };
        Err(Duration::from_nanos(wait.max(1)))
    }

    /// Notes that it took one.
    pub(super) fn took(&self, agent: AgentId) {
        if let Some(mut used) = self.agents.get_mut(&agent) {
            used.now += 1;
        }
    }

    /// Notes that somebody went without.
    pub(super) fn is_scarce(&self, now: Duration) {
        let until = nanos(now.saturating_add(self.window));
        self.scarce_until.fetch_max(until, Ordering::AcqRel);
    }

    /// Forgets agents who wanted nothing lately.
    pub(super) fn sweep(&self, now: Duration) {
        let number = self.number(now);
        self.agents.retain(|_, used| used.number + 1 >= number);
        self.agents.shrink_to_fit();
    }

    fn number(&self, now: Duration) -> u64 {
        nanos(now) / nanos(self.window) + 2
    }

    /// Begins a window, once.
    fn turn(&self, number: u64) {
        let last = self.number.load(Ordering::Acquire);
        if number <= last
            || self
                .number
                .compare_exchange(last, number, Ordering::AcqRel, Ordering::Acquire)
                .is_err()
        {
            return;
        }
        // Who was in the one that ended is in "either" already. A call that comes in between
        // may be counted for the one before: then the next window sets it right.
        let ended = self.current.swap(0, Ordering::AcqRel);
        let still = if last + 1 == number { ended } else { 0 };
        self.either.store(still, Ordering::Release);
    }

    /// How many agents are remembered.
    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        self.agents.len()
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}
