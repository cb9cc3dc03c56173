//! Resilience: how many requests may be under way, and when a service is left alone.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::Instant,
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
    places: Semaphore,
    breaker: Mutex<Breaker>,
}

#[derive(Debug, Default)]
struct Breaker {
    /// In a row.
    failures: u32,
    rest: Option<Rest>,
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
pub(crate) struct Pass<'a> {
    gate: &'a Gate,
    _place: SemaphorePermit<'a>,
    probe: bool,
    told: bool,
}

impl Gate {
    pub(crate) fn new(max_concurrent: usize) -> Self {
        Self {
            places: Semaphore::new(max_concurrent.clamp(1, Semaphore::MAX_PERMITS)),
            breaker: Mutex::default(),
        }
    }

    /// A place, waited for no longer than `patience`.
    pub(crate) async fn enter(&self, patience: Duration) -> Result<Pass<'_>, Closed> {
        // Before and after the wait: a queue in front of a broken service is let go.
        self.breaker(|breaker| breaker.rest_left(Instant::now()))
            .map_or(Ok(()), |left| Err(Closed::Resting(left)))?;
        let place = tokio::time::timeout(patience, self.places.acquire())
            .await
            .ok()
            .and_then(Result::ok)
            .ok_or(Closed::Full)?;
        let probe = self.breaker(|breaker| breaker.begin(Instant::now()))?;
        Ok(Pass {
            gate: self,
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

    fn ended(&mut self, well: bool, now: Instant) {
        if well {
            *self = Self::default();
            return;
        }
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

impl Pass<'_> {
    /// Whether the service answered, whatever it said.
    pub(crate) fn ended(mut self, well: bool) {
        self.told = true;
        self.gate
            .breaker(|breaker| breaker.ended(well, Instant::now()));
    }
}

impl Drop for Pass<'_> {
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
            breaker.ended(false, now);
        }
        breaker.ended(true, now);
        assert_eq!(breaker.failures, 0, "failures in a row count");

        for _ in 0..FAILURES {
            assert_eq!(breaker.begin(now), Ok(false));
            breaker.ended(false, now);
        }
        let Err(Closed::Resting(left)) = breaker.begin(now) else {
            panic!("it rests");
        };
        assert!(left >= FIRST_REST && left <= FIRST_REST + Duration::from_secs(1));

        now += left;
        assert_eq!(breaker.begin(now), Ok(true), "one finds out");
        assert!(breaker.begin(now).is_err(), "one is enough");
        breaker.ended(false, now);
        let Err(Closed::Resting(longer)) = breaker.begin(now) else {
            panic!("it rests");
        };
        assert!(longer >= FIRST_REST * 2, "{longer:?}");
        now += longer;
        assert_eq!(breaker.begin(now), Ok(true));
        breaker.ended(true, now);
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
        gate.enter(Duration::ZERO).await.unwrap().ended(true);
        assert_eq!(gate.condition(), Condition::Well);
    }

    #[tokio::test]
    async fn no_more_than_so_many_are_under_way() {
        let gate = Gate::new(1);
        let first = gate.enter(Duration::from_secs(3)).await.unwrap();
        let full = gate.enter(Duration::from_millis(1)).await;
        assert_eq!(full.map(drop).unwrap_err(), Closed::Full);
        first.ended(true);
        assert!(gate.enter(Duration::from_secs(3)).await.is_ok());
    }
}
