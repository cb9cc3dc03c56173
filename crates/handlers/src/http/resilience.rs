//! Resilience: how many requests may be under way, and when a service is left alone.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use crate::{
    HandlerError,
    catalog::{Breaker as BreakerState, State},
};

/// So many failures in a row, and the service is left alone.
const FAILURES: u32 = 5;

/// How long it is left alone first; twice as long each time that it still fails.
const FIRST_REST: Duration = Duration::from_secs(5);

/// The longest rest.
const LONGEST_REST: Duration = Duration::from_mins(1);

/// Stands before a service.
#[derive(Debug)]
pub(crate) struct Gate {
    places: Arc<Semaphore>,
    capacity: usize,
    breaker: Mutex<Breaker>,
}

#[derive(Debug, Default)]
struct Breaker {
    /// In a row.
    failures: u32,
    /// How the last of them failed.
    last_error: Option<&'static str>,
    rest: Option<Rest>,
    /// Since when it fails, or works again; absent when it never failed.
    since: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Rest {
    until: Instant,
    length: Duration,
    /// One command finds out whether it is over.
    probing: bool,
}

/// Why a command may not go through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closed {
    /// Too many are under way.
    Full,
    /// The service failed too often; it is tried again after so long.
    Resting(Duration),
}

/// How a service is, as far as its last commands showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// It answers, or nothing was sent yet.
    Well,
    /// Its last commands failed.
    Failing,
    /// It is left alone.
    Resting,
}

/// A command's place; what becomes of it must be told, or it counts as nothing.
#[derive(Debug)]
pub(crate) struct Pass {
    gate: Arc<Gate>,
    _place: OwnedSemaphorePermit,
    probe: bool,
    told: bool,
}

impl Closed {
    /// What the agent is told.
    pub(crate) fn told(self, service: &str) -> HandlerError {
        let service = service.to_owned();
        match self {
            Self::Full => HandlerError::TooMany {
                service,
                retry_after: Some(Duration::from_secs(1)),
            },
            Self::Resting(left) => HandlerError::Unreachable {
                service,
                reason: format!(
                    "it failed several times in a row and is tried again in {} s",
                    left.as_secs() + 1
                ),
            },
        }
    }
}

/// What an outcome says of the service: that it answered, whatever it said, or in one word
/// how it failed.
pub(crate) fn answered<T>(outcome: &Result<T, HandlerError>) -> Result<(), &'static str> {
    let trouble = outcome.as_ref().err().and_then(HandlerError::trouble);
    trouble.map_or(Ok(()), Err)
}

impl Gate {
    pub(crate) fn new(max_concurrent: usize) -> Arc<Self> {
        let capacity = max_concurrent.clamp(1, Semaphore::MAX_PERMITS);
        Arc::new(Self {
            places: Arc::new(Semaphore::new(capacity)),
            capacity,
            breaker: Mutex::default(),
        })
    }

    /// A place, waited for no longer than `patience`.
    pub(crate) async fn enter(self: &Arc<Self>, patience: Duration) -> Result<Pass, Closed> {
        // Before and after the wait: a queue in front of a broken service is let go.
        self.breaker(|breaker| breaker.rest_left(Instant::now()))
            .map_or(Ok(()), |left| Err(Closed::Resting(left)))?;
        let place = match Arc::clone(&self.places).try_acquire_owned() {
            Ok(place) => place,
            // Only who has to wait needs a clock for it.
            Err(_) => tokio::time::timeout(patience, Arc::clone(&self.places).acquire_owned())
                .await
                .ok()
                .and_then(Result::ok)
                .ok_or(Closed::Full)?,
        };
        let probe = self.breaker(|breaker| breaker.begin(Instant::now()))?;
        Ok(Pass {
            gate: Arc::clone(self),
            _place: place,
            probe,
            told: false,
        })
    }

    pub(crate) fn condition(&self) -> Condition {
        self.breaker(|breaker| match breaker {
            Breaker { rest: Some(_), .. } => Condition::Resting,
            Breaker { failures: 0, .. } => Condition::Well,
            Breaker { .. } => Condition::Failing,
        })
    }

    /// How the service is, and what is known of why.
    pub(crate) fn report(&self) -> crate::catalog::Condition {
        self.report_at(Instant::now())
    }

    fn report_at(&self, now: Instant) -> crate::catalog::Condition {
        let (breaker, failures, last_error, since, retry_in) = self.breaker(|breaker| {
            let state = match breaker.rest {
                None => BreakerState::Closed,
                Some(rest) if rest.probing || rest.until <= now => BreakerState::HalfOpen,
                Some(_) => BreakerState::Open,
            };
            let left = breaker
                .rest
                .map(|rest| rest.until.saturating_duration_since(now));
            (
                state,
                breaker.failures,
                breaker.last_error,
                breaker.since,
                left,
            )
        });
        let failing = failures > 0 || breaker != BreakerState::Closed;
        crate::catalog::Condition {
            state: if failing {
                State::Degraded
            } else {
                State::Healthy
            },
            lasting: since.map(|since| now.saturating_duration_since(since)),
            breaker: Some(breaker),
            failures,
            last_error: last_error.filter(|_| failing),
            retry_in,
            in_flight: Some(
                self.capacity
                    .saturating_sub(self.places.available_permits()),
            ),
            reason: None,
        }
    }

    fn breaker<T>(&self, with: impl FnOnce(&mut Breaker) -> T) -> T {
        with(&mut self.breaker.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Breaker {
    fn rest_left(&self, now: Instant) -> Option<Duration> {
        let rest = self.rest?;
        if rest.probing {
            return Some(
                rest.until
                    .saturating_duration_since(now)
                    .max(Duration::from_secs(1)),
            );
        }
        (now < rest.until).then(|| rest.until.duration_since(now))
    }

    /// Whether the command is the one that finds out.
    fn begin(&mut self, now: Instant) -> Result<bool, Closed> {
        if let Some(left) = self.rest_left(now) {
            return Err(Closed::Resting(left));
        }
        Ok(match &mut self.rest {
            Some(rest) => {
                rest.probing = true;
                true
            }
            None => false,
        })
    }

    fn ended(&mut self, outcome: Result<(), &'static str>, now: Instant) {
        let Err(class) = outcome else {
            let since = if self.failures > 0 {
                Some(now)
            } else {
                self.since
            };
            *self = Self {
                since,
                ..Self::default()
            };
            return;
        };
        if self.failures == 0 {
            self.since = Some(now);
        }
        self.last_error = Some(class);
        self.failures = self.failures.saturating_add(1);
        let length = match self.rest {
            Some(rest) => (rest.length * 2).min(LONGEST_REST),
            None if self.failures >= FAILURES => FIRST_REST,
            None => return,
        };
        // Not in step with other gateways.
        let jitter = Duration::from_millis(rand::random_range(0..1000));
        self.rest = Some(Rest {
            until: now + length + jitter,
            length,
            probing: false,
        });
    }
}

impl Pass {
    /// Whether the service answered, whatever it said; if not, what went wrong in one word.
    pub(crate) fn ended(mut self, outcome: Result<(), &'static str>) {
        self.told = true;
        self.gate
            .breaker(|breaker| breaker.ended(outcome, Instant::now()));
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        // A probe that was given up found nothing out; the next may.
        if self.probe && !self.told {
            self.gate.breaker(|breaker| {
                if let Some(rest) = &mut breaker.rest {
                    rest.probing = false;
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_that_fails_is_left_alone_and_tried_by_one() {
        let mut breaker = Breaker::default();
        let mut now = Instant::now();
        for _ in 1..FAILURES {
            assert_eq!(breaker.begin(now), Ok(false));
            breaker.ended(Err("timeout"), now);
        }
        breaker.ended(Ok(()), now);
        assert_eq!(breaker.failures, 0, "failures in a row count");

        for _ in 0..FAILURES {
            assert_eq!(breaker.begin(now), Ok(false));
            breaker.ended(Err("timeout"), now);
        }
        let Err(Closed::Resting(left)) = breaker.begin(now) else {
            panic!("it rests");
        };
        assert!(left >= FIRST_REST && left <= FIRST_REST + Duration::from_secs(1));

        now += left;
        assert_eq!(breaker.begin(now), Ok(true), "one finds out");
        assert!(breaker.begin(now).is_err(), "one is enough");
        breaker.ended(Err("timeout"), now);
        let Err(Closed::Resting(longer)) = breaker.begin(now) else {
            panic!("it rests");
        };
        assert!(longer >= FIRST_REST * 2, "{longer:?}");
        now += longer;
        assert_eq!(breaker.begin(now), Ok(true));
        breaker.ended(Ok(()), now);
        assert_eq!(breaker.begin(now), Ok(false));
    }

    #[tokio::test]
    async fn a_probe_that_is_given_up_is_not_the_last() {
        let gate = Gate::new(4);
        gate.breaker(|breaker| {
            breaker.rest = Some(Rest {
                until: Instant::now(),
                length: FIRST_REST,
                probing: false,
            });
        });
        assert_eq!(gate.condition(), Condition::Resting);
        let probe = gate.enter(Duration::ZERO).await.unwrap();
        assert!(gate.enter(Duration::ZERO).await.is_err());
        drop(probe);
        gate.enter(Duration::ZERO).await.unwrap().ended(Ok(()));
        assert_eq!(gate.condition(), Condition::Well);
    }

    #[test]
    fn what_is_known_of_a_service_is_told() {
        let gate = Gate::new(4);
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let end = |outcome, now| gate.breaker(|breaker| breaker.ended(outcome, now));
        let report = gate.report_at(start);
        assert_eq!(
            (report.state, report.lasting, report.in_flight),
            (State::Healthy, None, Some(0))
        );
        end(Err("timeout"), start);
        let report = gate.report_at(at(3));
        assert_eq!(
            (report.state, report.breaker),
            (State::Degraded, Some(BreakerState::Closed))
        );
        assert_eq!((report.failures, report.last_error), (1, Some("timeout")));
        assert_eq!(report.lasting, Some(Duration::from_secs(3)));
        assert!(report.is_up(), "one failure closes nothing");
        for _ in 1..FAILURES {
            end(Err("unreachable"), at(3));
        }
        let report = gate.report_at(at(4));
        assert_eq!(
            (report.breaker, report.last_error),
            (Some(BreakerState::Open), Some("unreachable"))
        );
        assert!(
            !report.is_up()
                && report.retry_in.unwrap() >= FIRST_REST.saturating_sub(Duration::from_secs(1))
        );
        assert_eq!(
            report.lasting,
            Some(Duration::from_secs(4)),
            "since the first failure"
        );
        assert_eq!(gate.report_at(at(20)).breaker, Some(BreakerState::HalfOpen));
        assert_eq!(gate.breaker(|breaker| breaker.begin(at(20))), Ok(true));
        assert_eq!(gate.report_at(at(20)).breaker, Some(BreakerState::HalfOpen));
        end(Ok(()), at(21));
        let report = gate.report_at(at(28));
        assert_eq!(
            (report.state, report.breaker),
            (State::Healthy, Some(BreakerState::Closed))
        );
        assert_eq!(
            (report.failures, report.last_error, report.retry_in),
            (0, None, None)
        );
        assert_eq!(
            report.lasting,
            Some(Duration::from_secs(7)),
            "since it works again"
        );
    }

    #[tokio::test]
    async fn no_more_than_so_many_are_under_way() {
        let gate = Gate::new(1);
        let first = gate.enter(Duration::from_secs(3)).await.unwrap();
        let full = gate.enter(Duration::from_millis(1)).await;
        assert_eq!(full.map(drop).unwrap_err(), Closed::Full);
        first.ended(Ok(()));
        assert!(gate.enter(Duration::from_secs(3)).await.is_ok());
    }
}
