//! Shapes: what looks like a token of a well-known service, whoever's it is.

use std::sync::LazyLock;

use aho_corasick::AhoCorasick;
use authz::redact::REDACTED;

/// How such a token begins, and how many letters follow at least.
const PREFIXES: &[(&str, usize)] = &[
    ("ghp_", 30),
    ("gho_", 30),
    ("ghu_", 30),
    ("ghs_", 30),
    ("ghr_", 30),
    ("github_pat_", 30),
    ("glpat-", 20),
    ("sk_live_", 16),
    ("sk_test_", 16),
    ("rk_live_", 16),
    ("rk_test_", 16),
    ("whsec_", 24),
    ("sk-ant-", 24),
    ("sk-proj-", 24),
    ("xoxb-", 24),
    ("xoxp-", 24),
    ("xapp-", 24),
    ("npm_", 36),
    ("pypi-", 60),
    ("hf_", 30),
    ("AKIA", 16),
    ("ASIA", 16),
    ("AIza", 35),
    ("ya29.", 24),
    ("dop_v1_", 48),
    ("ctx7sk", 24),
    ("cgt_", 43),
    ("cgu_", 43),
    ("eyJ", 40),
];

/// The begin and the end of a private key.
const KEY: (&str, &str) = ("-----BEGIN ", "-----END ");

/// What every private key's first line ends with.
const KEY_LABEL: &str = "PRIVATE KEY-----";

/// No token is shorter, with its beginning. Nor is the first line of a private key.
const SHORTEST: usize = 20;

/// All that such a text has one of, looked for in one pass. There are few enough that no
/// automaton of theirs is too large; should one ever be, every text is looked at closely.
static SIGNS: LazyLock<Option<AhoCorasick>> = LazyLock::new(|| {
    let signs = PREFIXES.iter().map(|(prefix, _)| *prefix);
    AhoCorasick::new(signs.chain([KEY_LABEL])).ok()
});

/// The text without such tokens; none when there are none.
pub(super) fn masked(text: &str) -> Option<String> {
    let innocent = |signs: &AhoCorasick| !signs.is_match(text);
    if text.len() < SHORTEST || SIGNS.as_ref().is_some_and(innocent) {
        return None;
    }
    let mut clean: Option<String> = None;
    for &(prefix, least) in PREFIXES {
        let seen = clean.as_deref().unwrap_or(text);
        if seen.contains(prefix)
            && let Some(next) = without(seen, prefix, least)
        {
            clean = Some(next);
        }
    }
    let seen = clean.as_deref().unwrap_or(text);
    if seen.contains(KEY_LABEL)
        && let Some(next) = without_keys(seen)
    {
        clean = Some(next);
    }
    clean
}

fn is_letter(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-')
}

/// A JWT has two dots; no other token has one.
fn token_length(rest: &str, prefix: &str) -> Option<usize> {
    let dots = prefix == "eyJ" || prefix.ends_with('.');
    let length = rest
        .find(|c: char| !(is_letter(c) || dots && c == '.'))
        .unwrap_or(rest.len());
    let token = rest.get(..length)?.trim_end_matches(['.', '-']);
    (prefix != "eyJ" || token.matches('.').count() >= 2).then_some(token.len())
}

fn without(text: &str, prefix: &str, least: usize) -> Option<String> {
    let mut clean = String::new();
    let mut rest = text;
    let mut any = false;
    while let Some((before, after)) = rest.split_once(prefix) {
        clean.push_str(before);
        // Inside a longer word it is no beginning.
        let begins = !before
            .chars()
            .next_back()
            .is_some_and(|c| c.is_ascii_alphanumeric());
        match token_length(after, prefix) {
            Some(length) if begins && length >= least => {
                clean.push_str(REDACTED);
                rest = after.get(length..).unwrap_or_default();
                any = true;
            }
            _ => {
                clean.push_str(prefix);
                rest = after;
            }
        }
    }
    clean.push_str(rest);
    any.then_some(clean)
}

fn without_keys(text: &str) -> Option<String> {
    let mut clean = String::new();
    let mut rest = text;
    let mut any = false;
    while let Some((before, after)) = rest.split_once(KEY.0) {
        clean.push_str(before);
        let label_end = after.find("-----").unwrap_or(0);
        let private = after
            .get(..label_end)
            .is_some_and(|label| label.ends_with("PRIVATE KEY"));
        if !private {
            clean.push_str(KEY.0);
            rest = after;
            continue;
        }
        clean.push_str(REDACTED);
        any = true;
        // A key whose end is missing was cut: nothing of it is kept.
        rest = after
            .split_once(KEY.1)
            .and_then(|(_, end)| end.split_once("-----"))
            .map_or("", |(_, rest)| rest);
    }
    clean.push_str(rest);
    any.then_some(clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_masked_is_shorter_than_what_is_looked_at() {
        for (prefix, least) in PREFIXES {
            assert!(prefix.len() + least >= SHORTEST, "{prefix}");
        }
        assert!(KEY.0.len() + KEY_LABEL.len() >= SHORTEST);
    }

    #[test]
    fn tokens_are_masked_and_words_are_not() {
        let letters = "aB3".repeat(20);
        let cases = [
            (
                format!("use ghp_{letters}, please"),
                "use [redacted], please",
            ),
            (format!("sk_live_{letters}"), "[redacted]"),
            (format!("(AKIA{})", "Q".repeat(16)), "([redacted])"),
            (format!("eyJ{letters}.{letters}.{letters}."), "[redacted]."),
            (
                format!(
                    "a\n-----BEGIN RSA PRIVATE KEY-----\n{letters}\n-----END RSA PRIVATE KEY-----\nb"
                ),
                "a\n[redacted]\nb",
            ),
            (
                format!("-----BEGIN PRIVATE KEY-----\n{letters}"),
                "[redacted]",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(masked(&text).as_deref(), Some(expected), "{text}");
        }
        for innocent in [
            "ghp_short",
            "eyJ without dots, however long it may be, is none",
            "SLAKIAQQQQQQQQQQQQQQQQQQQQQQ",
            "-----BEGIN CERTIFICATE-----\nabc\n-----END CERTIFICATE-----",
            "the npm_config_registry variable",
            "",
        ] {
            assert_eq!(masked(innocent), None, "{innocent}");
        }
    }
}
