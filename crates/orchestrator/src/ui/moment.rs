//! Times and lengths of time, as people read them.

use std::time::Duration;

use authz::Timestamp;

/// A point in time beside its distance from now.
#[derive(Clone, Debug)]
pub(crate) struct Moment {
    pub(crate) at: Timestamp,
    /// `just now`, `3 min ago`, or for what is to come `2 h 5 min`.
    pub(crate) text: String,
}

impl Moment {
    /// What has happened.
    pub(crate) fn past(at: Timestamp, now: Timestamp) -> Self {
        let since = now.since(at);
        let text = if since < Duration::from_secs(5) {
            "just now".to_owned()
        } else {
            format!("{} ago", span(since))
        };
        Self { at, text }
    }

    /// What is to come.
    pub(crate) fn until(at: Timestamp, now: Timestamp) -> Self {
        Self {
            at,
            text: span(at.since(now)),
        }
    }

    /// The time itself, to the second.
    pub(crate) fn exact(&self) -> String {
        let text = self.at.to_string();
        match (text.get(..10), text.get(11..19)) {
            (Some(date), Some(time)) => format!("{date} {time} UTC"),
            _ => text,
        }
    }
}

/// A length of time in its two largest units.
pub(crate) fn span(length: Duration) -> String {
    let seconds = length.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    let two = |large: u64, unit: &str, small: u64, rest: &str| {
        if small == 0 {
            format!("{large} {unit}")
        } else {
            format!("{large} {unit} {small} {rest}")
        }
    };
    if minutes == 0 {
        format!("{seconds} s")
    } else if hours == 0 {
        format!("{minutes} min")
    } else if hours < 48 {
        two(hours, "h", minutes % 60, "min")
    } else {
        two(days, "d", hours % 24, "h")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_short() {
        for (seconds, expected) in [
            (0, "0 s"),
            (59, "59 s"),
            (900, "15 min"),
            (3_600, "1 h"),
            (86_399, "23 h 59 min"),
            (86_400, "24 h"),
            (200_000, "2 d 7 h"),
        ] {
            assert_eq!(span(Duration::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn a_moment_says_how_far_and_when() {
        let now = Timestamp::from_millis(1_780_000_000_000);
        let past = Moment::past(now.minus(Duration::from_mins(3)), now);
        assert_eq!(past.text, "3 min ago");
        assert_eq!(Moment::past(now, now).text, "just now");
        let exact = Moment::until(now.plus(Duration::from_hours(1)), now).exact();
        assert!(exact.ends_with(" UTC") && exact.len() == 23, "{exact}");
    }
}
