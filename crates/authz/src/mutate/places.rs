//! Where the parts of a policy stand in its text: Cedar's JSON form does not say.

/// Lines of a scope's parts, from 1.
pub(super) struct Scope {
    pub(super) principal: u32,
    pub(super) action: u32,
    pub(super) resource: u32,
}

/// A `when` or `unless`, and what is in it.
#[derive(Debug)]
pub(super) struct Condition {
    /// Of the word.
    pub(super) line: u32,
    /// Of the first token in it.
    pub(super) body: u32,
    /// In the order of the text.
    pub(super) operators: Vec<Operator>,
}

/// One of `&& || == != < <= > >=`.
#[derive(Debug)]
pub(super) struct Operator {
    /// The line of the token after it.
    pub(super) next: u32,
}

/// A token that matters here, with its line.
struct Token<'a> {
    text: &'a str,
    line: u32,
}

/// Words, strings, operators and single characters; no white space, no comments.
fn tokens(text: &str, first_line: u32) -> Vec<Token<'_>> {
    let bytes = text.as_bytes();
    let byte = |at: usize| bytes.get(at).copied();
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80;
    let (mut at, mut line) = (0, first_line);
    let mut tokens = Vec::new();
    while let Some(this) = byte(at) {
        let start = at;
        let began = line;
        at += 1;
        match this {
            b'\n' => {
                line += 1;
                continue;
            }
            b' ' | b'\t' | b'\r' => continue,
            b'/' if byte(at) == Some(b'/') => {
                while byte(at).is_some_and(|byte| byte != b'\n') {
                    at += 1;
                }
                continue;
            }
            b'"' => {
                while let Some(inner) = byte(at) {
                    at += 1;
                    match inner {
                        b'"' => break,
                        b'\\' => at += 1,
                        b'\n' => line += 1,
                        _ => {}
                    }
                }
            }
            b'&' | b'|' | b'=' | b'!' | b'<' | b'>' => {
                let pair = text.get(start..start + 2).unwrap_or_default();
                if matches!(pair, "&&" | "||" | "==" | "!=" | "<=" | ">=") {
                    at += 1;
                }
            }
            word if is_word(word) => {
                while byte(at).is_some_and(is_word) {
                    at += 1;
                }
            }
            _ => {}
        }
        tokens.push(Token {
            text: text.get(start..at).unwrap_or_default(),
            line: began,
        });
    }
    tokens
}

/// The parts of the scope: the first of each word after the effect.
pub(super) fn scope(text: &str, first_line: u32) -> Scope {
    let tokens = tokens(text, first_line);
    let scope = tokens
        .iter()
        .skip_while(|token| !matches!(token.text, "permit" | "forbid"));
    let line = |word| {
        let found = scope.clone().find(|token| token.text == word);
        found.map_or(first_line, |token| token.line)
    };
    Scope {
        principal: line("principal"),
        action: line("action"),
        resource: line("resource"),
    }
}

/// The conditions, in their order.
pub(super) fn conditions(text: &str, first_line: u32) -> Vec<Condition> {
    let tokens = tokens(text, first_line);
    let mut conditions: Vec<Condition> = Vec::new();
    let mut depth = 0_u32;
    for (at, token) in tokens.iter().enumerate() {
        let next = |ahead: usize| {
            tokens
                .get(at + ahead)
                .map_or(token.line, |token| token.line)
        };
        match token.text {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => depth = depth.saturating_sub(1),
            "when" | "unless" if depth == 0 => conditions.push(Condition {
                line: token.line,
                body: next(2),
                operators: Vec::new(),
            }),
            "&&" | "||" | "==" | "!=" | "<" | "<=" | ">" | ">=" => {
                if let Some(condition) = conditions.last_mut() {
                    condition.operators.push(Operator { next: next(1) });
                }
            }
            _ => {}
        }
    }
    conditions
}
