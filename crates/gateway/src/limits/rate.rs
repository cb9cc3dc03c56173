//! How fast: GCRA, as the crate `governor` has it, by our own clock.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use authz::AgentId;
use governor::{
    Quota, RateLimiter,
    clock::Clock,
    middleware::NoOpMiddleware,
    nanos::Nanos,
    state::{
        InMemoryState, NotKeyed, StateStore,
        keyed::{DashMapStateStore, ShrinkableKeyedStateStore},
    },
};
use handlers::limits::Pace;

use super::Standing;
use crate::facts::Monotonic;

impl Clock for Monotonic {
    type Instant = Duration;

    fn now(&self) -> Duration {
        // Zero means that nothing was ever taken.
        Self::now(self).saturating_add(Duration::from_nanos(1))
    }
}

/// What was taken by each agent. Shared with its rate limiter, so that it can be looked at
/// without taking.
#[derive(Clone, Debug, Default)]
struct Each(Arc<DashMapStateStore<AgentId>>);

impl StateStore for Each {
    type Key = AgentId;

    fn measure_and_replace<T, F, E>(&self, key: &AgentId, with: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        self.0.measure_and_replace(key, with)
    }
}

impl ShrinkableKeyedStateStore<AgentId> for Each {
    fn retain_recent(&self, drop_below: Nanos) {
        ShrinkableKeyedStateStore::retain_recent(&*self.0, drop_below);
    }

    fn shrink_to_fit(&self) {
        ShrinkableKeyedStateStore::shrink_to_fit(&*self.0);
    }

    fn len(&self) -> usize {
        ShrinkableKeyedStateStore::len(&*self.0)
    }

    fn is_empty(&self) -> bool {
        ShrinkableKeyedStateStore::is_empty(&*self.0)
    }
}

/// One limit of how fast.
#[derive(Debug)]
pub(super) struct Rate {
    pub(super) pace: Pace,
    monotonic: Monotonic,
    /// When it began, which governor counts from.
    began: Duration,
    limiter: Limiter,
}

type Limit<K, S> = RateLimiter<K, S, Monotonic, NoOpMiddleware<Duration>>;

#[derive(Debug)]
enum Limiter {
    /// All agents together: one number.
    All(Box<Limit<NotKeyed, InMemoryState>>),
    Each(Box<Limit<AgentId, Each>>, Each),
}

/// How long one call's worth takes to come back.
fn interval(pace: &Pace) -> Duration {
    let window = Duration::from_millis(pace.window_ms.max(1));
    (window / pace.calls.max(1)).max(Duration::from_nanos(1))
}

fn quota(pace: &Pace) -> Quota {
    let burst = NonZeroU32::new(pace.burst).unwrap_or(NonZeroU32::MIN);
    Quota::with_period(interval(pace))
        .unwrap_or(Quota::per_hour(NonZeroU32::MIN))
        .allow_burst(burst)
}

impl Rate {
    /// One that all agents share.
    pub(super) fn all(pace: Pace, monotonic: &Monotonic) -> Self {
        let limiter = RateLimiter::new(quota(&pace), InMemoryState::default(), monotonic.clone());
        Self::of(pace, monotonic, Limiter::All(Box::new(limiter)))
    }

    /// One of which each agent has as much.
    pub(super) fn each(pace: Pace, monotonic: &Monotonic) -> Self {
        let taken = Each::default();
        let limiter = RateLimiter::new(quota(&pace), taken.clone(), monotonic.clone());
        Self::of(pace, monotonic, Limiter::Each(Box::new(limiter), taken))
    }

    fn of(pace: Pace, monotonic: &Monotonic, limiter: Limiter) -> Self {
        Self {
            pace,
            began: Clock::now(monotonic),
            monotonic: monotonic.clone(),
            limiter,
        }
    }

    /// Takes one call.
    ///
    /// # Errors
    ///
    /// How long until there is one.
    pub(super) fn take(&self, agent: AgentId) -> Result<(), Duration> {
        let taken = match &self.limiter {
            Limiter::All(limiter) => limiter.check(),
            Limiter::Each(limiter, _) => limiter.check_key(&agent),
        };
        taken.map_err(|not_until| not_until.wait_time_from(Clock::now(&self.monotonic)))
    }

    /// Where an agent stands; nothing is taken. For what all share there is no answer: what
    /// one agent sees of it, others could have taken.
    pub(super) fn standing(&self, agent: AgentId) -> Option<Standing> {
        let Limiter::Each(_, taken) = &self.limiter else {
            return None;
        };
        let now = Clock::now(&self.monotonic).saturating_sub(self.began);
        // When all would be back: what governor calls the theoretical arrival time.
        let back = if taken.0.contains_key(&agent) {
            let seen = taken.measure_and_replace(&agent, Err::<((), Nanos), _>);
            seen.err().flatten().map(Duration::from).unwrap_or_default()
        } else {
            Duration::ZERO
        };
        let resets = back.saturating_sub(now);
        let used = resets.as_nanos().div_ceil(interval(&self.pace).as_nanos());
        let used = u32::try_from(used).unwrap_or(u32::MAX);
        Some(Standing {
            pace: self.pace,
            remaining: self.pace.burst.saturating_sub(used),
            resets,
        })
    }

    /// Forgets agents who have all of it again.
    pub(super) fn sweep(&self) {
        if let Limiter::Each(limiter, _) = &self.limiter {
            limiter.retain_recent();
            limiter.shrink_to_fit();
        }
    }

    /// How many agents are remembered.
    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        match &self.limiter {
            Limiter::All(_) => 0,
            Limiter::Each(limiter, _) => limiter.len(),
        }
    }
}
