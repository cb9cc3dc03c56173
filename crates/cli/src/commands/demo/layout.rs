//! How the demo lays out JSON: what fits stands on one line, what is long is cut.

use serde_json::{Value, json};

/// What is longer is broken into lines.
const WIDTH: usize = 96;

/// Longer texts are cut.
const MAX_TEXT_CHARS: usize = 200;

/// Of longer lists the beginning is shown.
const MAX_ITEMS: usize = 2;

/// The value as JSON that a person can read: lines are filled before they are broken.
/// Still valid JSON, but for what was cut.
pub(super) fn lay_out(value: &Value) -> String {
    let mut page = Page {
        text: String::new(),
        column: 0,
    };
    page.write(&shortened(value), 0);
    page.text
}

struct Page {
    text: String,
    /// How many characters the last line has.
    column: usize,
}

impl Page {
    fn put(&mut self, text: &str) {
        self.text.push_str(text);
        self.column += text.chars().count();
    }

    fn new_line(&mut self, indent: usize) {
        self.text.push('\n');
        self.text.push_str(&" ".repeat(indent));
        self.column = indent;
    }

    fn fits(&self, text: &str) -> bool {
        // Two more for the comma or bracket that follows.
        self.column + text.chars().count() + 2 <= WIDTH
    }

    /// Writes `value`; its further lines begin after `indent`.
    fn write(&mut self, value: &Value, indent: usize) {
        let line = one_line(value);
        if self.fits(&line) {
            return self.put(&line);
        }
        match value {
            Value::Object(members) if !members.is_empty() => {
                let members = members
                    .iter()
                    .map(|(name, value)| (format!("{}: ", json!(name)), value));
                self.write_all("{ ", members.collect(), " }", indent);
            }
            Value::Array(items) if !items.is_empty() => {
                self.write_all(
                    "[",
                    items.iter().map(|item| (String::new(), item)).collect(),
                    "]",
                    indent,
                );
            }
            _ => self.put(&line),
        }
    }

    fn write_all(&mut self, open: &str, items: Vec<(String, &Value)>, close: &str, indent: usize) {
        let inner = indent + 2;
        self.put(open);
        let mut apart = false;
        for (number, (name, value)) in items.into_iter().enumerate() {
            let line = format!("{name}{}", one_line(value));
            if number > 0 {
                self.put(",");
                // What takes several lines stands apart from what follows it.
                if apart || !self.fits(&format!(" {line}")) {
                    self.new_line(inner);
                } else {
                    self.put(" ");
                }
            }
            apart = !self.fits(&line);
            self.put(&name);
            self.write(value, inner);
        }
        self.put(close);
    }
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
    fn lines_are_filled_and_the_value_stays_the_same() {
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
        assert_eq!(text.lines().count(), 3, "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), long);
    }

    #[test]
    fn long_answers_are_cut() {
        let text = lay_out(&json!({"a": [1, 2, 3, 4], "b": "x".repeat(1_000)}));
        assert!(text.contains(r#"[1, 2, "… 2 more"]"#), "{text}");
        assert!(text.chars().count() < 300, "{text}");
    }
}
