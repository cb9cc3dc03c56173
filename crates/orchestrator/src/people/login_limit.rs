//! How often somebody may be wrong at the door, by where they come from.
//!
//! Only failures count, and only against the place that they come from, so that nobody
//! locks anybody else out: a person with a session stays in, and logs in from elsewhere.
//! Kept in memory: each process counts for itself. Tokens have 256 random bits, so this is
//! not what keeps them from being guessed, however many processes there are; it keeps a
//! flood from the database, and in the database it would be one write more per try. Codes
//! of second factors, which could be guessed, are counted there (`store::second_factors`).

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use authz::Timestamp;

/// So many failures at once cost nothing.
const BURST: u32 = 10;

/// After those, one try in so long.
const REFILL: Duration = Duration::from_secs(6);

/// Places remembered at once; beyond that, those that failed least lately are forgotten.
const MAX_PLACES: usize = 10_000;

/// Failures written to the audit trail: so many at once, and one a second. A flood of
/// them from everywhere must not fill the database.
const RECORDED_BURST: u32 = 60;
const RECORDED_REFILL: Duration = Duration::from_secs(1);

/// A bucket of tokens.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    taken: u32,
    since: Timestamp,
}

impl Bucket {
    /// The bucket as of now: what was taken comes back with time.
    fn refilled(self, now: Timestamp, refill: Duration) -> Self {
        let millis = refill.as_millis().max(1);
        let back = now.since(self.since).as_millis() / millis;
        let back = u32::try_from(back).unwrap_or(u32::MAX);
        if back >= self.taken {
            Self {
                taken: 0,
                since: now,
            }
        } else {
            Self {
                taken: self.taken - back,
                since: self.since.plus(refill * back),
            }
        }
    }
}

/// Counts failures.
#[derive(Debug, Default)]
pub(crate) struct LoginLimit {
    places: Mutex<HashMap<IpAddr, Bucket>>,
    /// Of the audit trail, and how many failures it does not have.
    recorded: Mutex<(Option<Bucket>, u64)>,
}

impl LoginLimit {
    /// Whether somebody from there may try now.
    ///
    /// # Errors
    ///
    /// How long to wait.
    pub(crate) fn check(&self, from: Option<IpAddr>, now: Timestamp) -> Result<(), Duration> {
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        match places
            .get(&place(from))
            .map(|bucket| bucket.refilled(now, REFILL))
        {
            Some(bucket) if bucket.taken >= BURST => {
                Err(REFILL.saturating_sub(now.since(bucket.since)))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Counts a failure from there.
    pub(crate) fn failed(&self, from: Option<IpAddr>, now: Timestamp) {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let place = place(from);
        if places.len() >= MAX_PLACES && !places.contains_key(&place) {
            places.retain(|_, bucket| bucket.refilled(now, REFILL).taken > 0);
            if places.len() >= MAX_PLACES {
                let oldest = places
                    .iter()
                    .min_by_key(|(_, bucket)| bucket.since)
                    .map(|(place, _)| *place);
                oldest.and_then(|oldest| places.remove(&oldest));
            }
        }
        let bucket = places.entry(place).or_insert(Bucket {
            taken: 0,
            since: now,
        });
        *bucket = bucket.refilled(now, REFILL);
        bucket.taken = (bucket.taken + 1).min(BURST);
    }

    /// Whether a failure is to be written to the audit trail, and if so how many before
    /// it were not.
    pub(crate) fn record(&self, now: Timestamp) -> Option<u64> {
        let mut recorded = self.recorded.lock().unwrap_or_else(PoisonError::into_inner);
        let (bucket, left_out) = &mut *recorded;
        let mut current = bucket
            .unwrap_or(Bucket {
                taken: 0,
                since: now,
            })
            .refilled(now, RECORDED_REFILL);
        if current.taken >= RECORDED_BURST {
            *bucket = Some(current);
            *left_out += 1;
            return None;
        }
        current.taken += 1;
        *bucket = Some(current);
        Some(std::mem::take(left_out))
    }
}

/// Where somebody comes from: whoever has one IPv6 address has the 2^64 beside it.
fn place(from: Option<IpAddr>) -> IpAddr {
    match from.map(|address| address.to_canonical()) {
        Some(IpAddr::V6(address)) => {
            let network = address.to_bits() >> 64 << 64;
            IpAddr::V6(Ipv6Addr::from_bits(network))
        }
        Some(address @ IpAddr::V4(_)) => address,
        None => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Timestamp = Timestamp::from_millis(1_790_000_000_000);

    #[allow(clippy::unnecessary_wraps, reason = "an address is not always known")]
    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn ten_failures_are_free_and_then_one_in_six_seconds() {
        let limit = LoginLimit::default();
        let here = address("192.0.2.1");
        for _ in 0..10 {
            assert!(limit.check(here, NOON).is_ok());
            limit.failed(here, NOON);
        }
        assert_eq!(limit.check(here, NOON), Err(REFILL));
        let soon = NOON.plus(Duration::from_secs(2));
        assert_eq!(limit.check(here, soon), Err(Duration::from_secs(4)));
        assert!(
            limit.check(address("192.0.2.2"), soon).is_ok(),
            "elsewhere is elsewhere"
        );
        let later = NOON.plus(REFILL);
        assert!(limit.check(here, later).is_ok());
        limit.failed(here, later);
        assert!(limit.check(here, later).is_err());
        let rested = NOON.plus(Duration::from_mins(5));
        for _ in 0..10 {
            assert!(limit.check(here, rested).is_ok());
            limit.failed(here, rested);
        }
        assert!(limit.check(here, rested).is_err());
        // A clock that goes back opens nothing, and ends nothing for ever.
        assert!(limit.check(here, NOON).is_err());
    }

    #[test]
    fn one_network_is_one_place() {
        let limit = LoginLimit::default();
        for number in 0..10 {
            limit.failed(address(&format!("2001:db8::{number}")), NOON);
        }
        assert!(limit.check(address("2001:db8::ffff"), NOON).is_err());
        assert!(limit.check(address("2001:db8:0:1::1"), NOON).is_ok());
        for _ in 0..10 {
            limit.failed(address("::ffff:192.0.2.9"), NOON);
        }
        assert!(limit.check(address("192.0.2.9"), NOON).is_err());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let limit = LoginLimit::default();
        for number in 0..20_000_u32 {
            let from = Some(IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + number)));
            limit.failed(from, NOON.plus(Duration::from_millis(number.into())));
        }
        assert!(limit.places.lock().unwrap().len() <= MAX_PLACES);
    }

    #[test]
    fn a_flood_is_counted_and_not_written() {
        let limit = LoginLimit::default();
        let written = (0..1_000).filter(|_| limit.record(NOON).is_some()).count();
        assert_eq!(written, 60);
        assert_eq!(limit.record(NOON.plus(Duration::from_secs(1))), Some(940));
        assert_eq!(limit.record(NOON.plus(Duration::from_secs(2))), Some(0));
    }
}
