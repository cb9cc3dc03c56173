//! Points in time, and where they come from.

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

/// A point in time, in whole milliseconds since 1970-01-01T00:00:00Z.
///
/// Written as RFC 3339 with exactly three fractional digits and `Z`; stored as
/// the integer, which sorts the same on every database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// 9999-12-30T21:59:59.999Z: the latest time that can be written in every time zone
/// with a year of four digits.
const MAX_MILLIS: i64 = 253_402_207_199_999;

impl Timestamp {
    /// The time that many milliseconds after the Unix epoch, kept within years 1970–9999.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        if millis < 0 {
            Self(0)
        } else if millis > MAX_MILLIS {
            Self(MAX_MILLIS)
        } else {
            Self(millis)
        }
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// This time plus `span`, at most the end of year 9999.
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        let millis = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        Self::from_millis(self.0.saturating_add(millis))
    }

    /// This time minus `span`, at least the Unix epoch.
    #[must_use]
    pub fn minus(self, span: Duration) -> Self {
        let millis = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        Self::from_millis(self.0.saturating_sub(millis))
    }

    /// How long after `earlier` this is; zero if it is not after it.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(time) => write!(f, "{time:.3}"),
            Err(_) => write!(f, "{}ms", self.0),
        }
    }
}

/// Why a text is not a [`Timestamp`].
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not an RFC 3339 time such as 2026-11-22T10:00:00Z")]
pub struct InvalidTimestamp(String);

crate::schema::described! {
    Timestamp => crate::schema::formatted("An RFC 3339 time in UTC, to the millisecond.", "date-time");
}

impl FromStr for Timestamp {
    type Err = InvalidTimestamp;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse::<jiff::Timestamp>()
            .map(|time| Self::from_millis(time.as_millisecond()))
            .map_err(|_| InvalidTimestamp(text.to_owned()))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Where the time comes from. The binary hands one out; tests hand out their own.
///
/// Nothing in this crate asks it: decisions take a [`Timestamp`].
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl Clock {
    /// A clock that reads `now`.
    pub fn new(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_three_fractional_digits_and_reads_them_back() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (1_730_891_400_120, "2024-11-06T11:10:00.120Z"),
            (MAX_MILLIS, "9999-12-30T21:59:59.999Z"),
        ] {
            let time = Timestamp::from_millis(millis);
            assert_eq!(time.to_string(), text);
            assert_eq!(text.parse::<Timestamp>().unwrap(), time);
        }
        assert!("yesterday".parse::<Timestamp>().is_err());
    }

    #[test]
    fn stays_in_range() {
        assert_eq!(Timestamp::from_millis(i64::MAX).as_millis(), MAX_MILLIS);
        assert_eq!(
            Timestamp::default()
                .minus(Duration::from_secs(1))
                .as_millis(),
            0
        );
        let later = Timestamp::from_millis(5).plus(Duration::MAX);
        assert_eq!(later.as_millis(), MAX_MILLIS);
        assert_eq!(Timestamp::from_millis(5).since(later), Duration::ZERO);
    }
}
