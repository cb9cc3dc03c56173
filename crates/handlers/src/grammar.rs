//! The grammar of slash commands: a line becomes a service and words.
//!
//! Quoting is that of a POSIX shell without its expansions: nothing is lost inside quotes,
//! `$`, `*`, `;`, `|` and `#` mean themselves. A word that begins with an unquoted `{` or
//! `[` is one JSON value, to its own end.

use serde::de::IgnoredAny;
use serde_json::Value;

use crate::{CommandError, strict_json};

/// The longest line that is read, in bytes.
pub const MAX_LINE_BYTES: usize = 256 << 10;

/// A line, taken apart.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Line {
    /// As sent.
    pub(crate) service: String,
    pub(crate) words: Vec<Word>,
}

/// One word, its quotes removed.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Word {
    pub(crate) text: String,
    /// Some of it was quoted.
    pub(crate) quoted: bool,
    /// The unquoted JSON array or object that it is, or that follows its `=`.
    pub(crate) json: Option<Value>,
    /// Where it begins in the line, in bytes.
    pub(crate) at: usize,
}

/// Takes `/mcp-<service> …` apart.
pub(crate) fn split(text: &str) -> Result<Line, CommandError> {
    if text.len() > MAX_LINE_BYTES {
        return Err(grammar(format!(
            "a command of {} bytes, more than {MAX_LINE_BYTES}",
            text.len()
        )));
    }
    let start = text.trim_start();
    let Some(rest) = start.strip_prefix("/mcp-") else {
        return Err(grammar("a command begins with `/mcp-`".to_owned()));
    };
    let end = rest.find(is_space).unwrap_or(rest.len());
    let (service, rest) = rest.split_at(end);
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if service.is_empty() || service.len() > 64 || !service.chars().all(is_name) {
        return Err(grammar("no service name follows `/mcp-`".to_owned()));
    }
    let words = Splitter {
        text,
        at: text.len() - rest.len(),
    }
    .words()?;
    Ok(Line {
        service: service.to_owned(),
        words,
    })
}

fn grammar(reason: String) -> CommandError {
    CommandError::Grammar { reason }
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

struct Splitter<'a> {
    text: &'a str,
    /// In bytes, always between characters.
    at: usize,
}

impl Splitter<'_> {
    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    /// People count characters, from one.
    fn error(&self, at: usize, what: &str) -> CommandError {
        let position = self.text.get(..at).unwrap_or_default().chars().count() + 1;
        grammar(format!("{what} at character {position}"))
    }

    fn words(mut self) -> Result<Vec<Word>, CommandError> {
        let mut words = Vec::new();
        loop {
            while self.peek().is_some_and(is_space) {
                self.next();
            }
            if self.peek().is_none() {
                return Ok(words);
            }
            let at = self.at;
            if let Some(word) = self.word()? {
                words.push(Word { at, ..word });
            }
        }
    }

    /// One word; none when there was only a continued line.
    fn word(&mut self) -> Result<Option<Word>, CommandError> {
        let mut word = Word::default();
        let mut any = false;
        while let Some(c) = self.peek() {
            let at = self.at;
            let value_begins = !word.quoted && is_option_name(&word.text);
            match c {
                _ if is_space(c) => break,
                '{' | '[' if !any || value_begins => {
                    self.json(&mut word)?;
                    return Ok(Some(word));
                }
                '\'' => {
                    self.next();
                    word.quoted = true;
                    self.single_quoted(at, &mut word.text)?;
                }
                '"' => {
                    self.next();
                    word.quoted = true;
                    self.double_quoted(at, &mut word.text)?;
                }
                '\\' => {
                    self.next();
                    match self.next() {
                        // A continued line.
                        Some('\n') => continue,
                        Some(escaped) => {
                            word.quoted = true;
                            word.text.push(escaped);
                        }
                        None => return Err(self.error(at, "a backslash that escapes nothing")),
                    }
                }
                _ if c.is_control() => return Err(self.error(at, "an unquoted control character")),
                _ => {
                    self.next();
                    word.text.push(c);
                }
            }
            any = true;
        }
        Ok(any.then_some(word))
    }

    fn single_quoted(&mut self, opened: usize, text: &mut String) -> Result<(), CommandError> {
        loop {
            match self.next() {
                Some('\'') => return Ok(()),
                Some(c) => text.push(c),
                None => return Err(self.error(opened, "a single quote that is never closed")),
            }
        }
    }

    fn double_quoted(&mut self, opened: usize, text: &mut String) -> Result<(), CommandError> {
        let unclosed = "a double quote that is never closed";
        loop {
            match self.next() {
                Some('"') => return Ok(()),
                Some('\\') => match self.next() {
                    Some('\n') => {}
                    Some(c @ ('$' | '`' | '"' | '\\')) => text.push(c),
                    Some(c) => {
                        text.push('\\');
                        text.push(c);
                    }
                    None => return Err(self.error(opened, unclosed)),
                },
                Some(c) => text.push(c),
                None => return Err(self.error(opened, unclosed)),
            }
        }
    }

    fn json(&mut self, word: &mut Word) -> Result<(), CommandError> {
        let start = self.at;
        let mut values = serde_json::Deserializer::from_str(self.rest()).into_iter::<IgnoredAny>();
        let read = values.next();
        let length = values.byte_offset();
        if !matches!(read, Some(Ok(_))) {
            return Err(self.error(
                start,
                "JSON that is not valid (quote it to send it as text)",
            ));
        }
        let raw = self.rest().get(..length).unwrap_or_default().to_owned();
        match strict_json::parse(raw.as_bytes()) {
            Ok(value) => word.json = Some(value),
            Err(error) => return Err(self.error(start, &format!("JSON that is refused ({error})"))),
        }
        word.text.push_str(&raw);
        self.at += length;
        match self.peek() {
            Some(c) if !is_space(c) => {
                Err(self.error(self.at, "text that follows JSON without a space"))
            }
            _ => Ok(()),
        }
    }
}

/// Whether the text is `--key=`: a value comes next.
fn is_option_name(text: &str) -> bool {
    text.strip_prefix("--")
        .and_then(|rest| rest.strip_suffix('='))
        .is_some_and(|key| !key.is_empty() && !key.contains('='))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn texts(line: &str) -> Vec<String> {
        split(&format!("/mcp-x {line}"))
            .unwrap()
            .words
            .into_iter()
            .map(|word| word.text)
            .collect()
    }

    fn error(line: &str) -> String {
        split(line).expect_err(line).to_string()
    }

    #[test]
    fn words_are_those_of_a_shell() {
        let cases: &[(&str, &[&str])] = &[
            ("a  b\t c\n d", &["a", "b", "c", "d"]),
            ("'a   b'", &["a   b"]),
            ("\"a   b\nc\"", &["a   b\nc"]),
            (r#"a"b c"'d e'f"#, &["ab cd ef"]),
            (r"'it'\''s'", &["it's"]),
            (r#""a\"b\\c\$d\`e\nf""#, &["a\"b\\c$d`e\\nf"]),
            (r"'a\b'", &[r"a\b"]),
            (r"a\ b", &["a b"]),
            ("a\\\nb", &["ab"]),
            ("a \\\n b", &["a", "b"]),
            ("\"a\\\nb\"", &["ab"]),
            ("'' \"\"", &["", ""]),
            (
                "$HOME *.rs a;b #c ~ `d`",
                &["$HOME", "*.rs", "a;b", "#c", "~", "`d`"],
            ),
            ("'\u{1}\u{0}\u{7f}'", &["\u{1}\u{0}\u{7f}"]),
            ("ü 名前 '🦀 x'", &["ü", "名前", "🦀 x"]),
            ("--a=\"b c\"", &["--a=b c"]),
        ];
        for (line, expected) in cases {
            assert_eq!(texts(line), *expected, "{line}");
        }
    }

    #[test]
    fn unquoted_json_is_one_word_and_keeps_its_quotes() {
        let line = split(
            r#"/mcp-x {"name": "a b", "list": [1, {"x": "}"}]} [1, 2] --filter={"a": "b c"} y{z}"#,
        )
        .unwrap();
        let values: Vec<_> = line.words.iter().map(|word| word.json.clone()).collect();
        assert_eq!(
            values,
            [
                Some(json!({"name": "a b", "list": [1, {"x": "}"}]})),
                Some(json!([1, 2])),
                Some(json!({"a": "b c"})),
                None
            ]
        );
        assert_eq!(line.words[3].text, "y{z}");
    }

    #[test]
    fn quoted_json_is_text() {
        let line = split(r#"/mcp-x '{"name": "a b"}' "--x={1}""#).unwrap();
        assert!(
            line.words
                .iter()
                .all(|word| word.json.is_none() && word.quoted)
        );
        assert_eq!(line.words[0].text, r#"{"name": "a b"}"#);
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        let cases = [
            (
                "/mcp-x 'abc",
                "a single quote that is never closed at character 8",
            ),
            (
                "/mcp-x a \"b c",
                "a double quote that is never closed at character 10",
            ),
            ("/mcp-ü x", "no service name"),
            ("/mcp-x ü \"b\\", "never closed at character 10"),
            (
                "/mcp-x a\\",
                "a backslash that escapes nothing at character 9",
            ),
            (
                "/mcp-x a\u{0}b",
                "an unquoted control character at character 9",
            ),
            ("/mcp-x {\"a\":1", "JSON that is not valid"),
            ("/mcp-x [a-z]*", "JSON that is not valid"),
            ("/mcp-x {\"a\":1,\"a\":2}", "occurs twice"),
            (
                "/mcp-x {\"a\":1}b",
                "follows JSON without a space at character 15",
            ),
            ("/mcp-", "no service name"),
            ("/mcp- x", "no service name"),
            ("/mcp-a/../b x", "no service name"),
            ("", "begins with `/mcp-`"),
            ("mcp-x list", "begins with `/mcp-`"),
            ("/MCP-x list", "begins with `/mcp-`"),
        ];
        for (line, expected) in cases {
            assert!(error(line).contains(expected), "{line}: {}", error(line));
        }
        assert!(
            error(&format!("/mcp-x {}", "a".repeat(MAX_LINE_BYTES))).contains("more than 262144")
        );
    }

    fn single(word: &str) -> String {
        format!("'{}'", word.replace('\'', r"'\''"))
    }

    fn double(word: &str) -> String {
        let escaped: String = word
            .chars()
            .flat_map(|c| {
                matches!(c, '$' | '`' | '"' | '\\')
                    .then_some('\\')
                    .into_iter()
                    .chain([c])
            })
            .collect();
        format!("\"{escaped}\"")
    }

    proptest! {
        #[test]
        fn whatever_is_quoted_arrives(words in prop::collection::vec((any::<String>(), any::<bool>()), 0..6)) {
            let line: Vec<_> = words.iter().map(|(word, with)| if *with { single(word) } else { double(word) }).collect();
            let expected: Vec<_> = words.into_iter().map(|(word, _)| word).collect();
            prop_assert_eq!(texts(&line.join(" ")), expected);
        }

        #[test]
        fn nothing_makes_it_fall_over(line in any::<String>(), tail in "[\\\\'\"{}\\[\\]= a-]{0,16}") {
            let _ = split(&line);
            let _ = split(&format!("/mcp-x {line}{tail}"));
        }
    }
}
