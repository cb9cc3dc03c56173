//! What is checked in a file's text before Cedar's parser sees it.
//!
//! Cedar's parser and what follows it recurse: a few hundred nested brackets, or a
//! chain of many thousand operators, overflow the stack, and that ends the process.
//! So text is measured first, by a scanner that knows strings, comments and
//! brackets exactly as Cedar's lexer does, and nothing else of the language.

use super::finding::Finding;

/// Bytes of all files together.
pub(super) const MAX_TOTAL: usize = 16 * 1024 * 1024;

/// Bytes of one file.
pub(super) const MAX_FILE: usize = 4 * 1024 * 1024;

/// How deep brackets may nest.
pub(super) const MAX_NESTING: usize = 64;

/// How many operators that chain (`&&`, `.`, `+`, `if`, …) one policy may hold. It
/// keeps the parser within its stack; how deep an expression may be is checked on
/// the parsed policy.
const MAX_CHAIN: usize = 4_000;

/// How many annotations one policy may have: Cedar compares each with all the others.
const MAX_ANNOTATIONS: usize = 64;

/// How many declarations a schema may hold: Cedar's work grows with their square.
const MAX_DECLARATIONS: usize = 2_000;

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Language {
    Schema,
    Policies,
}

/// A file whose text may be given to Cedar.
#[derive(Debug)]
pub(super) struct Scanned<'a> {
    pub(super) name: &'a str,
    /// Without byte order mark.
    pub(super) text: &'a str,
    /// Where each statement begins, in bytes.
    pub(super) statements: Vec<usize>,
    /// How many operators that chain each statement holds.
    pub(super) chains: Vec<usize>,
}

/// Measures a file; the error is what forbids giving it to Cedar.
pub(super) fn scan<'a>(
    name: &'a str,
    text: &'a str,
    language: Language,
) -> Result<Scanned<'a>, Box<Finding>> {
    if text.len() > MAX_FILE {
        let message = format!("the file has {} bytes, and may have {MAX_FILE}", text.len());
        return Err(Box::new(
            Finding::error(name, message).help("split it into several files"),
        ));
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if let Some((offset, letter)) = text.char_indices().find(|&(_, letter)| is_odd(letter)) {
        let message = format!("the character U+{:04X} is not allowed", u32::from(letter));
        let help = "it is invisible, so what is read would differ from what is enforced; in a string, write it as an escape";
        return Err(Box::new(
            Finding::error(name, message).help(help).at(text, offset),
        ));
    }
    let mut scanner = Scanner {
        text,
        language,
        open: Vec::new(),
        chain: 0,
        annotations: 0,
        begun: None,
        statements: Vec::new(),
        chains: Vec::new(),
    };
    if let Err(fault) = scanner.run() {
        return Err(Box::new(
            Finding::error(name, fault.message).at(text, fault.at),
        ));
    }
    Ok(Scanned {
        name,
        text,
        statements: scanner.statements,
        chains: scanner.chains,
    })
}

/// Control characters, and those that make text run the other way.
fn is_odd(letter: char) -> bool {
    (letter.is_control() && !matches!(letter, '\t' | '\n' | '\r'))
        || matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// What the scanner does not let through, and where.
struct Fault {
    message: String,
    at: usize,
}

fn fault(message: impl Into<String>, at: usize) -> Fault {
    Fault {
        message: message.into(),
        at,
    }
}

struct Scanner<'a> {
    text: &'a str,
    language: Language,
    /// Open brackets, and where they are.
    open: Vec<(u8, usize)>,
    /// Chaining operators in this statement.
    chain: usize,
    /// Annotations of this statement.
    annotations: usize,
    /// Where this statement began.
    begun: Option<usize>,
    statements: Vec<usize>,
    chains: Vec<usize>,
}

impl Scanner<'_> {
    fn run(&mut self) -> Result<(), Fault> {
        let bytes = self.text.as_bytes();
        let byte = |at: usize| bytes.get(at).copied();
        let mut at = 0;
        while let Some(this) = byte(at) {
            let start = at;
            at += 1;
            match this {
                b' ' | b'\t' | b'\n' | b'\r' => continue,
                b'/' if byte(at) == Some(b'/') => {
                    while byte(at).is_some_and(|byte| byte != b'\n' && byte != b'\r') {
                        at += 1;
                    }
                    continue;
                }
                b'"' => {
                    self.begin(start)?;
                    at = self.string_end(start)?;
                    continue;
                }
                _ => self.begin(start)?,
            }
            match this {
                b'(' | b'[' | b'{' => self.open(this, start)?,
                b'<' if self.language == Language::Schema => self.open(this, start)?,
                b')' | b']' | b'}' => self.close(this, start)?,
                b'>' if self.language == Language::Schema => self.close(this, start)?,
                b';' if self.open.is_empty() => {
                    self.begun = None;
                    self.chain = 0;
                    self.annotations = 0;
                }
                b'@' => {
                    self.annotations += 1;
                    if self.annotations > MAX_ANNOTATIONS {
                        let message = format!("there are more than {MAX_ANNOTATIONS} annotations");
                        return Err(fault(message, start));
                    }
                }
                b'.' | b'+' | b'-' | b'*' | b'!' => self.link(start)?,
                b'&' | b'|' if byte(at) == Some(this) => {
                    at += 1;
                    self.link(start)?;
                }
                _ if is_word(this) => {
                    while byte(at).is_some_and(is_word) {
                        at += 1;
                    }
                    if matches!(self.text.get(start..at), Some("if" | "when" | "unless")) {
                        self.link(start)?;
                    }
                }
                _ => {}
            }
        }
        match self.open.last() {
            Some(&(bracket, at)) => Err(fault(
                format!("`{}` is never closed", char::from(bracket)),
                at,
            )),
            None => Ok(()),
        }
    }

    fn begin(&mut self, at: usize) -> Result<(), Fault> {
        if self.begun.is_none() {
            self.begun = Some(at);
            self.statements.push(at);
            self.chains.push(0);
            if self.language == Language::Schema && self.statements.len() > MAX_DECLARATIONS {
                return Err(fault(
                    format!("the schema has more than {MAX_DECLARATIONS} declarations"),
                    at,
                ));
            }
        }
        Ok(())
    }

    /// The place after the string that begins at `start`.
    fn string_end(&self, start: usize) -> Result<usize, Fault> {
        let mut rest = self.text.bytes().enumerate().skip(start + 1);
        while let Some((at, byte)) = rest.next() {
            match byte {
                b'\\' => {
                    rest.next();
                }
                b'"' => return Ok(at + 1),
                _ => {}
            }
        }
        Err(fault("the string is never closed", start))
    }

    fn open(&mut self, bracket: u8, at: usize) -> Result<(), Fault> {
        if self.open.len() >= MAX_NESTING {
            return Err(fault(
                format!("brackets are nested deeper than {MAX_NESTING}"),
                at,
            ));
        }
        // `a[…][…]` is a chain too.
        if bracket == b'[' {
            self.link(at)?;
        }
        self.open.push((bracket, at));
        Ok(())
    }

    fn close(&mut self, bracket: u8, at: usize) -> Result<(), Fault> {
        let opened = match bracket {
            b')' => b'(',
            b']' => b'[',
            b'}' => b'{',
            _ => b'<',
        };
        match self.open.pop() {
            Some((open, _)) if open == opened => Ok(()),
            Some((open, _)) => {
                let message = format!(
                    "`{}` does not close `{}`",
                    char::from(bracket),
                    char::from(open)
                );
                Err(fault(message, at))
            }
            None => Err(fault(
                format!("`{}` closes nothing", char::from(bracket)),
                at,
            )),
        }
    }

    fn link(&mut self, at: usize) -> Result<(), Fault> {
        self.chain += 1;
        if let Some(chain) = self.chains.last_mut() {
            *chain = self.chain;
        }
        if self.chain > MAX_CHAIN {
            let message = format!("the statement has more than {MAX_CHAIN} operators");
            return Err(fault(message, at));
        }
        Ok(())
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policies(text: &str) -> Result<Vec<usize>, String> {
        scan("a.cedar", text, Language::Policies)
            .map(|scanned| scanned.statements)
            .map_err(|found| found.message)
    }

    #[test]
    fn statements_begin_where_their_text_does() {
        let text = "\u{feff}// one; two\npermit (a);\r\n\r\n@id(\"x;(\\\"\")\nforbid (b) when { c; }; // end (\n";
        let starts = policies(text).unwrap();
        let text = &text[3..];
        assert_eq!(
            starts,
            [text.find("permit").unwrap(), text.find("@id").unwrap()]
        );
    }

    #[test]
    fn nesting_is_counted_outside_strings_and_comments_only() {
        let cases = [
            ("(".repeat(64) + &")".repeat(64), Ok(vec![0])),
            (
                "(".repeat(65) + &")".repeat(65),
                Err("brackets are nested deeper than 64".to_owned()),
            ),
            (format!("\"{}\"", "(".repeat(1_000)), Ok(vec![0])),
            (format!("// {}\n", "(".repeat(1_000)), Ok(vec![])),
            // A comment ends at a carriage return, too, for Cedar.
            (
                format!("// \r{}", "(".repeat(1_000)),
                Err("brackets are nested deeper than 64".to_owned()),
            ),
            (
                "\"a\\\\\"(".to_owned(),
                Err("`(` is never closed".to_owned()),
            ),
            ("\"a\\\"(\"".to_owned(), Ok(vec![0])),
            (
                "\"abc".to_owned(),
                Err("the string is never closed".to_owned()),
            ),
            (
                "\"abc\\".to_owned(),
                Err("the string is never closed".to_owned()),
            ),
            ("(]".to_owned(), Err("`]` does not close `(`".to_owned())),
            (")".to_owned(), Err("`)` closes nothing".to_owned())),
            ("a < b".to_owned(), Ok(vec![0])),
        ];
        for (text, expected) in cases {
            assert_eq!(policies(&text), expected, "{}", &text[..text.len().min(40)]);
        }
        let schema = |text: &str| {
            scan("s", text, Language::Schema)
                .map(|_| ())
                .map_err(|found| found.message)
        };
        assert_eq!(schema("type A = Set<Set<String>>;"), Ok(()));
        assert_eq!(
            schema(&"Set<".repeat(100)),
            Err("brackets are nested deeper than 64".to_owned())
        );
    }

    #[test]
    fn chains_are_bounded_per_statement() {
        let policy = format!("permit (a) when {{ {} }};", vec!["b"; 3_000].join(" && "));
        assert_eq!(policies(&format!("{policy}{policy}")).unwrap().len(), 2);
        let policy = format!("permit (a) when {{ {} }};", vec!["b"; 5_000].join(" && "));
        assert_eq!(
            policies(&policy).unwrap_err(),
            "the statement has more than 4000 operators"
        );
    }

    #[test]
    fn what_people_cannot_see_is_refused() {
        for text in [
            "permit\0",
            "// \u{202e}evil",
            "\u{1b}[31m",
            "a\u{feff}\u{7f}",
        ] {
            assert!(
                policies(text).unwrap_err().ends_with("is not allowed"),
                "{text:?}"
            );
        }
        assert!(
            policies(&" ".repeat(MAX_FILE + 1))
                .unwrap_err()
                .contains("bytes")
        );
    }
}
