//! Definitions as people read and compare them: a line for each value, with nothing hidden.

use std::time::Duration;

use serde_json::Value;
use similar::{ChangeTag, TextDiff};

/// Looking for the smallest difference ends then; what is shown is right even so.
const PATIENCE: Duration = Duration::from_secs(1);

/// Around each difference, so many lines that are the same.
const AROUND: usize = 3;

/// From one definition to the other; each line begins with `+`, `-` or a space, then a space.
pub(super) fn difference(before: Option<&Value>, after: Option<&Value>) -> Vec<String> {
    let before = before.map(lines).unwrap_or_default();
    let after = after.map(lines).unwrap_or_default();
    let (before, after) = (before.join("\n") + "\n", after.join("\n") + "\n");
    let compared = TextDiff::configure()
        .timeout(PATIENCE)
        .diff_lines(&before, &after);
    let mut told = Vec::new();
    let groups = compared.grouped_ops(AROUND);
    for (place, group) in groups.iter().enumerate() {
        if place > 0 {
            told.push("  …".to_owned());
        }
        for change in group.iter().flat_map(|part| compared.iter_changes(part)) {
            let line = change.value().trim_end_matches('\n');
            let sign = match change.tag() {
                ChangeTag::Insert => '+',
                ChangeTag::Delete => '-',
                ChangeTag::Equal => ' ',
            };
            if !line.is_empty() {
                told.push(format!("{sign} {line}"));
            }
        }
    }
    told
}

/// `place: value` for each value, by place. Text of several lines goes on in lines that
/// begin with `|`, so that it cannot look like another value.
pub(super) fn lines(definition: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    every_value(definition, "", &mut |place, value| {
        let text = match value {
            Value::String(text) => text,
            other => {
                lines.push(format!("{place}: {other}"));
                return;
            }
        };
        let mut parts = text.split('\n');
        let first = parts.next().unwrap_or_default();
        lines.push(format!("{}: \"{}\"", shown(place), shown(first)));
        lines.extend(parts.map(|part| format!("  | {}", shown(part))));
    });
    lines
}

/// Calls `with` for each value that holds no others, with its place, in the order of names.
pub(super) fn every_value<'a>(
    value: &'a Value,
    place: &str,
    with: &mut dyn FnMut(&str, &'a Value),
) {
    let within = |name: &str| {
        if place.is_empty() {
            name.to_owned()
        } else {
            format!("{place}.{name}")
        }
    };
    match value {
        Value::Object(members) if !members.is_empty() => {
            let mut names: Vec<&String> = members.keys().collect();
            names.sort_unstable();
            for name in names {
                if let Some(member) = members.get(name) {
                    every_value(member, &within(name), with);
                }
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (index, item) in items.iter().enumerate() {
                every_value(item, &format!("{place}[{index}]"), with);
            }
        }
        value => with(place, value),
    }
}

/// With everything that cannot be seen, or changes how the rest is seen, written out.
pub(super) fn shown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        if is_hidden(letter) || letter.is_control() {
            shown.extend(letter.escape_unicode());
        } else {
            shown.push(letter);
        }
    }
    shown
}

/// Characters that nobody sees, and models read: of no width, tags, fillers, variation
/// selectors of the supplement, and those that turn the order of others round.
pub(super) const fn is_hidden(letter: char) -> bool {
    matches!(
        letter,
        '\u{ad}'
            | '\u{34f}'
            | '\u{61c}'
            | '\u{115f}'
            | '\u{1160}'
            | '\u{17b4}'
            | '\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0e}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}'
            | '\u{e000}'..='\u{f8ff}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{10ffff}'
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_difference_shows_what_cannot_be_seen() {
        let before = json!({"name": "read", "description": "Reads.\nA file.", "inputSchema": {"type": "object", "required": ["path"]}});
        let mut after = before.clone();
        after["description"] = json!("Reads.\nA fi\u{200b}le.\nname: \"write\"");
        after["inputSchema"]["required"] = json!([]);
        assert_eq!(
            difference(Some(&before), Some(&after)),
            [
                "  description: \"Reads.\"",
                "-   | A file.",
                "- inputSchema.required[0]: \"path\"",
                "+   | A fi\\u{200b}le.",
                "+   | name: \"write\"",
                "+ inputSchema.required: []",
                "  inputSchema.type: \"object\"",
                "  name: \"read\"",
            ]
        );
        assert!(difference(Some(&before), Some(&before)).is_empty());
        let new = difference(None, Some(&json!({"name": "x"})));
        assert_eq!(new, ["+ name: \"x\""]);
    }
}
