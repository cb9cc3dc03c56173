//! How values are read.

use std::time::Duration;

use authz::{approval::Reach, command::Environment as Env};
use contract::overview::Range;

/// One item of a list, or the empty text that stands for an empty list.
pub type Item<T> = Option<T>;

pub(super) fn or_none<T: std::str::FromStr>(text: &str) -> Result<Item<T>, T::Err> {
    if text.is_empty() {
        Ok(None)
    } else {
        text.parse().map(Some)
    }
}

pub(super) fn environment(text: &str) -> Result<Env, String> {
    match text {
        "dev" => Ok(Env::Dev),
        "staging" => Ok(Env::Staging),
        "prod" => Ok(Env::Prod),
        _ => Err("expected dev, staging or prod".to_owned()),
    }
}

pub(super) fn reach(text: &str) -> Result<Reach, String> {
    Reach::ALL
        .into_iter()
        .find(|reach| reach.as_str() == text)
        .ok_or_else(|| "expected once, call, command or service".to_owned())
}

pub(super) fn range(text: &str) -> Result<Range, String> {
    Range::ALL
        .into_iter()
        .find(|range| range.as_str() == text)
        .ok_or_else(|| "expected 1h, 24h or 7d".to_owned())
}

/// `90s`, `15m`, `8h`, `30d`.
pub(super) fn span(text: &str) -> Result<Duration, String> {
    let wrong = || "expected a time such as 90s, 15m, 8h or 30d".to_owned();
    let unit = text.chars().last().ok_or_else(wrong)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let number: u64 = text.trim_end_matches(unit).parse().map_err(|_| wrong())?;
    number
        .checked_mul(seconds)
        .filter(|&seconds| seconds > 0)
        .map(Duration::from_secs)
        .ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (text, expected) in [
            ("90s", Some(90)),
            ("15m", Some(900)),
            ("8h", Some(28_800)),
            ("1d", Some(86_400)),
        ] {
            assert_eq!(span(text).ok().map(|span| span.as_secs()), expected);
        }
        for text in [
            "",
            "h",
            "0s",
            "1w",
            "-1h",
            "1.5h",
            "99999999999999999999d",
            "1hx",
        ] {
            assert!(span(text).is_err(), "{text}");
        }
    }
}
