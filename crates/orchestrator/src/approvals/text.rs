//! Free text and arguments: how long they may be, and how people get to see them.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use crate::error::Error;

/// Reasons and notes are at most so many characters.
pub(crate) const MAX_REASON_CHARS: usize = 2_000;

/// A shown argument is at most so many characters; the digest covers the whole.
const MAX_SHOWN_CHARS: usize = 4_000;

/// A reason of a person's or an agent's.
pub(super) fn check_reason(reason: &str) -> Result<(), Error> {
    check_text("reason", reason, MAX_REASON_CHARS)
}

/// Free text of a caller's: short, and of printable characters.
pub(crate) fn check_text(field: &str, text: &str, max_chars: usize) -> Result<(), Error> {
    if text.chars().count() > max_chars {
        return Err(Error::field(
            field,
            format!("at most {max_chars} characters"),
        ));
    }
    if text
        .chars()
        .any(|letter| letter.is_control() && !matches!(letter, '\n' | '\r' | '\t'))
    {
        return Err(Error::field(field, "control characters are not text"));
    }
    Ok(())
}

/// The arguments, long ones shortened: people read them, and the digest covers the rest.
pub(super) fn shown(arguments: &Map<String, Value>) -> Map<String, Value> {
    arguments
        .iter()
        .map(|(name, value)| (visible(name), shorten(value)))
        .collect()
}

/// A text as people who decide about it must see it: nothing in it hides, or turns round
/// what stands beside it.
pub(crate) fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len().min(MAX_SHOWN_CHARS));
    for letter in text.chars().take(MAX_SHOWN_CHARS) {
        if is_deceptive(letter) {
            shown.extend(letter.escape_unicode());
        } else {
            shown.push(letter);
        }
    }
    let more = text.chars().skip(MAX_SHOWN_CHARS).count();
    if more > 0 {
        // Writing to a string cannot fail.
        let _ = write!(shown, "… [{more} characters more]");
    }
    shown
}

/// Controls, marks of the direction of writing, and letters without a shape.
pub(crate) fn is_deceptive(letter: char) -> bool {
    letter.is_control() && !matches!(letter, '\n' | '\t')
        || matches!(
            letter,
            '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

fn shorten(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::String(visible(text)),
        Value::Array(items) => Value::Array(items.iter().map(shorten).collect()),
        Value::Object(values) => Value::Object(shown(values)),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn long_arguments_are_shown_short_at_every_depth() {
        let Value::Object(arguments) = json!({"a": ["x".repeat(5_000)], "b": {"c": "y"}, "d": 1})
        else {
            panic!()
        };
        let shown = Value::Object(shown(&arguments));
        let text = shown["a"][0].as_str().unwrap();
        assert!(
            text.ends_with("… [1000 characters more]") && text.len() < 4_100,
            "{}",
            text.len()
        );
        assert_eq!(shown["b"], json!({"c": "y"}));
    }

    #[test]
    fn nothing_in_arguments_hides_from_people() {
        let Value::Object(arguments) =
            json!({"na\u{202e}me": ["two\nlines", "a\u{202e}b\u{200b}\u{7}\u{e0041}", "ä 🚀"]})
        else {
            panic!()
        };
        let shown = Value::Object(shown(&arguments));
        assert_eq!(
            shown,
            json!({"na\\u{202e}me": ["two\nlines", "a\\u{202e}b\\u{200b}\\u{7}\\u{e0041}", "ä 🚀"]})
        );
    }

    #[test]
    fn free_text_has_limits() {
        for (text, valid) in [
            (String::new(), true),
            ("two\nlines, <b>marked</b>".to_owned(), true),
            ("ä".repeat(2_000), true),
            ("ä".repeat(2_001), false),
            ("escape \u{1b}[31m".to_owned(), false),
        ] {
            assert_eq!(check_reason(&text).is_ok(), valid, "{text:?}");
        }
    }
}
