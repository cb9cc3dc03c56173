//! What goes to standard output: tables for people, JSON for scripts, and in neither
//! anything that a terminal would take for a command.

use std::{
    fmt::Write as _,
    io::{self, IsTerminal, Write},
};

use authz::Timestamp;
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

/// How to print.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// JSON instead of tables.
    pub json: bool,
    /// A person is looking: tables have lines and fit the width.
    pub terminal: bool,
}

impl Output {
    /// For the standard output that there is.
    #[must_use]
    pub fn new(json: bool) -> Self {
        Self {
            json,
            terminal: io::stdout().is_terminal(),
        }
    }

    /// Prints `value` as JSON, or what `text` makes of it.
    ///
    /// # Errors
    ///
    /// When standard output cannot be written.
    pub fn print(
        self,
        value: &impl Serialize,
        text: impl FnOnce(Self) -> String,
    ) -> anyhow::Result<()> {
        let text = if self.json { json(value)? } else { text(self) };
        write_line(&text)
    }

    /// A table. Cells may hold anything; line breaks in them are shown as `\n`.
    #[must_use]
    pub fn table(self, header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
        let mut table = Table::new();
        if self.terminal {
            table
                .load_style(presets::UTF8_HORIZONTAL_ONLY)
                .set_content_arrangement(ContentArrangement::Dynamic);
        } else {
            table
                .load_style(presets::NOTHING)
                .set_content_arrangement(ContentArrangement::Disabled)
                .force_no_tty();
        }
        table.set_header(header.iter().map(|name| name.to_uppercase()));
        for row in rows {
            table.add_row(row.iter().map(|cell| printable(cell)));
        }
        if !self.terminal {
            table.column_iter_mut().for_each(|column| {
                column.set_padding((0, 2));
            });
        }
        table.trim_fmt()
    }

    /// Names and values below each other; values that are empty are left out.
    #[must_use]
    pub fn fields(self, fields: &[(&str, String)]) -> String {
        let width = fields
            .iter()
            .map(|(name, _)| name.chars().count())
            .max()
            .unwrap_or(0);
        fields
            .iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| format!("{name:width$}  {}", printable(value)))
            .collect::<Vec<_>>()
            .join("\n")
    }
}

/// Writes to standard output. A reader that has gone (`| head`) is not an error.
///
/// # Errors
///
/// When it cannot be written otherwise.
pub fn write_line(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    let written = writeln!(out, "{text}").and_then(|()| out.flush());
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// As indented JSON that holds no control character, not even those that JSON permits.
///
/// # Errors
///
/// When the value cannot be written as JSON.
pub fn json(value: &impl Serialize) -> anyhow::Result<String> {
    Ok(escape_json(&serde_json::to_string_pretty(value)?))
}

/// As [`json`], on one line.
///
/// # Errors
///
/// When the value cannot be written as JSON.
pub fn json_line(value: &impl Serialize) -> anyhow::Result<String> {
    Ok(escape_json(&serde_json::to_string(value)?))
}

fn escape_json(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        // JSON itself has escaped the lower control characters; line feeds are its layout.
        if letter != '\n' && is_hostile(letter) {
            for unit in letter.encode_utf16(&mut [0; 2]) {
                // Writing to a string cannot fail.
                let _ = write!(escaped, "\\u{unit:04x}");
            }
        } else {
            escaped.push(letter);
        }
    }
    escaped
}

/// Whether a terminal would act on it, or show text in another order than it stands.
fn is_hostile(letter: char) -> bool {
    letter.is_control()
        || matches!(
            letter,
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{61c}'
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
        )
}

/// The text with everything that a terminal would act on written out, on one line.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|letter| {
            let plain = (!is_hostile(letter)).then_some(letter);
            let escaped = is_hostile(letter)
                .then(|| letter.escape_default())
                .into_iter()
                .flatten();
            plain.into_iter().chain(escaped)
        })
        .collect()
}

/// As [`printable`], keeping line breaks.
#[must_use]
pub fn printable_lines(text: &str) -> String {
    text.lines().map(printable).collect::<Vec<_>>().join("\n")
}

/// A time as people read it: to the second, in UTC.
#[must_use]
pub fn time(at: Timestamp) -> String {
    let text = at.to_string();
    let seconds = text.get(..19).unwrap_or(&text);
    format!("{}Z", seconds.replace('T', " "))
}

/// A span as people read it: its two largest units.
#[must_use]
pub fn span(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, minutes) => format!("{minutes}m"),
        (0, hours, 0) => format!("{hours}h"),
        (0, hours, minutes) => format!("{hours}h{minutes}m"),
        (days, 0, _) => format!("{days}d"),
        (days, hours, _) => format!("{days}d{hours}h"),
    }
}

/// A number as people read it: `40,318`.
#[must_use]
pub fn number(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The items between commas, or a dash.
#[must_use]
pub fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    if items.is_empty() {
        "-".to_owned()
    } else {
        items.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Colours, a title, C1's CSI, a reordering, an invisible, a line that pretends.
    const HOSTILE: &str =
        "a\u{1b}[31mred\u{1b}]0;title\u{7}\u{9b}2J\u{202e}drawkcab\u{200b}\nroot# \u{7f}ä✔";

    #[test]
    fn nothing_that_a_terminal_acts_on_is_printed() {
        let shown = printable(HOSTILE);
        assert_eq!(
            shown,
            "a\\u{1b}[31mred\\u{1b}]0;title\\u{7}\\u{9b}2J\\u{202e}drawkcab\\u{200b}\\nroot# \\u{7f}ä✔"
        );
        for terminal in [true, false] {
            let output = Output {
                json: false,
                terminal,
            };
            let table = output.table(
                &["name", "reason"],
                [vec!["x".to_owned(), HOSTILE.to_owned()]],
            );
            let fields = output.fields(&[("reason", HOSTILE.to_owned()), ("empty", String::new())]);
            for text in [table, fields] {
                assert!(
                    !text
                        .chars()
                        .any(|letter| letter != '\n' && is_hostile(letter)),
                    "{text:?}"
                );
            }
        }
        let text = json(&json!({HOSTILE: HOSTILE, "tag": "\u{e0041}"})).unwrap();
        assert!(
            !text
                .chars()
                .any(|letter| letter != '\n' && is_hostile(letter)),
            "{text:?}"
        );
        let back: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(back[HOSTILE], HOSTILE, "still the same value");
        assert_eq!(back["tag"], "\u{e0041}");
    }

    #[test]
    fn a_plain_table_has_one_line_per_row_however_long() {
        let output = Output {
            json: false,
            terminal: false,
        };
        let rows = (0..3).map(|row| vec![format!("name-{row}"), "long ".repeat(100)]);
        let table = output.table(&["name", "what"], rows);
        assert_eq!(table.lines().count(), 4, "{table}");
        assert!(
            table.starts_with(" NAME") || table.starts_with("NAME"),
            "{table}"
        );
    }

    #[test]
    fn numbers() {
        for (plain, expected) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (1_040_318, "1,040,318"),
        ] {
            assert_eq!(number(plain), expected);
        }
    }

    #[test]
    fn spans() {
        for (seconds, expected) in [
            (5, "5s"),
            (60, "1m"),
            (3_600, "1h"),
            (5_400, "1h30m"),
            (86_400, "1d"),
            (90_000, "1d1h"),
        ] {
            assert_eq!(span(seconds), expected);
        }
    }
}
