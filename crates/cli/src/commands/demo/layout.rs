//! How the demo lays out JSON: what fits stands on one line, what is long is cut.

use serde_json::{Value, json};

/// What is longer is broken into lines.
const WIDTH: usize = 96;

/// Longer texts are cut.
const MAX_TEXT_CHARS: usize = 200;

/// Of longer lists the beginning is shown.
const MAX_ITEMS: usize = 2;

/// The value as JSON that a person can read; still valid, but for what was cut.
pub(super) fn lay_out(value: &Value) -> String {
    let mut text = String::new();
    write(&shortened(value), 0, 0, &mut text);
    text
}

/// Writes `value`, which begins after `before` characters and indents its lines by `indent`.
fn write(value: &Value, before: usize, indent: usize, text: &mut String) {
    let line = one_line(value);
    if before + line.chars().count() <= WIDTH {
        text.push_str(&line);
        return;
    }
    let inner = indent + 2;
    match value {
        Value::Object(members) if !members.is_empty() => {
            text.push('{');
            for (number, (name, value)) in members.iter().enumerate() {
                let name = format!("{}: ", json!(name));
                new_line(number, inner, text);
                text.push_str(&name);
                write(value, inner + name.chars().count(), inner, text);
            }
            text.push_str(&format_args!("\n{}}}", " ".repeat(indent)).to_string());
        }
        Value::Array(items) if !items.is_empty() => {
            text.push('[');
            for (number, item) in items.iter().enumerate() {
                new_line(number, inner, text);
                write(item, inner, inner, text);
            }
            text.push_str(&format_args!("\n{}]", " ".repeat(indent)).to_string());
        }
        _ => text.push_str(&line),
    }
}

fn new_line(number: usize, indent: usize, text: &mut String) {
    text.push_str(if number == 0 { "\n" } else { ",\n" });
    text.push_str(&" ".repeat(indent));
}

fn one_line(value: &Value) -> String {
    match value {
        Value::Object(members) if !members.is_empty() => {
            let members: Vec<_> = members
                .iter()
                .map(|(name, value)| format!("{}: {}", json!(name), one_line(value)))
                .collect();
            format!("{{ {} }}", members.join(", "))
        }
        Value::Array(items) if !items.is_empty() => {
            format!(
                "[{}]",
                items.iter().map(one_line).collect::<Vec<_>>().join(", ")
            )
        }
        other => other.to_string(),
    }
}

fn shortened(value: &Value) -> Value {
    match value {
        Value::String(text) if text.chars().count() > MAX_TEXT_CHARS => {
            let start: String = text.chars().take(MAX_TEXT_CHARS).collect();
            json!(format!("{start}…"))
        }
        Value::Array(items) => {
            let mut shown: Vec<Value> = items.iter().take(MAX_ITEMS).map(shortened).collect();
            if items.len() > MAX_ITEMS {
                shown.push(json!(format!("… {} more", items.len() - MAX_ITEMS)));
            }
            Value::Array(shown)
        }
        Value::Object(members) => members
            .iter()
            .map(|(name, value)| (name.clone(), shortened(value)))
            .collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_stands_on_one_line_and_what_does_not_is_still_the_same() {
        let short = json!({"a": [1, 2], "b": "text", "c": {}, "d": []});
        assert_eq!(
            lay_out(&short),
            r#"{ "a": [1, 2], "b": "text", "c": {}, "d": [] }"#
        );
        let long =
            json!({"inner": {"one": "x".repeat(60), "two": ["y".repeat(60), "z"]}, "after": 1});
        let text = lay_out(&long);
        assert!(
            text.lines().all(|line| line.chars().count() <= WIDTH),
            "{text}"
        );
        assert_eq!(text.lines().count(), 7, "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), long);
    }

    #[test]
    fn long_answers_are_cut() {
        let text = lay_out(&json!({"a": [1, 2, 3, 4], "b": "x".repeat(1_000)}));
        assert!(text.contains(r#"[1, 2, "… 2 more"]"#), "{text}");
        assert!(text.chars().count() < 300, "{text}");
    }
}
