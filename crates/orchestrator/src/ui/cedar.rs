//! Cedar's source, coloured: pieces of text, each with what it is. No more than colours:
//! what it means is for the parser to say.

/// What a piece of source is; the name of its class in `console.css`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Plain,
    Comment,
    Text,
    Number,
    Keyword,
    /// `permit`, `forbid`.
    Effect,
    /// `principal`, `action`, `resource`, `context`.
    Variable,
    /// The name of an entity's type: what stands before `::`.
    Type,
    /// `@id` and the like.
    Annotation,
}

impl Kind {
    pub(crate) const fn class(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Comment => "c",
            Self::Text => "s",
            Self::Number => "n",
            Self::Keyword => "k",
            Self::Effect => "e",
            Self::Variable => "v",
            Self::Type => "t",
            Self::Annotation => "a",
        }
    }
}

/// A piece of one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) kind: Kind,
    pub(crate) text: String,
}

/// One line.
pub(crate) type Line = Vec<Piece>;

const KEYWORDS: [&str; 20] = [
    "when",
    "unless",
    "if",
    "then",
    "else",
    "in",
    "has",
    "like",
    "is",
    "true",
    "false",
    // Of schemas.
    "namespace",
    "entity",
    "type",
    "appliesTo",
    "tags",
    "enum",
    "Set",
    "attributes",
    "required",
];

/// The first `limit` lines of a source, and whether there are more.
pub(crate) fn lines(source: &str, limit: usize) -> (Vec<Line>, bool) {
    let mut all = source.lines();
    let shown: Vec<_> = all.by_ref().take(limit).map(line).collect();
    (shown, all.next().is_some())
}

/// One line in pieces. No token of Cedar goes over the end of a line but for text with a
/// line feed in it, which is coloured as if it ended there.
pub(crate) fn line(text: &str) -> Line {
    let mut pieces: Line = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (kind, length) = token(rest, first);
        let (token, after) = rest.split_at(length.min(rest.len()).max(first.len_utf8()));
        match pieces.last_mut() {
            Some(last) if last.kind == kind => last.text.push_str(token),
            _ => pieces.push(Piece {
                kind,
                text: token.to_owned(),
            }),
        }
        rest = after;
    }
    pieces
}

/// The token at the beginning of `rest`: what it is, and how many bytes it has.
fn token(rest: &str, first: char) -> (Kind, usize) {
    let name_from = |text: &str| {
        text.find(|letter: char| !letter.is_alphanumeric() && letter != '_')
            .unwrap_or(text.len())
    };
    match first {
        '/' if rest.starts_with("//") => (Kind::Comment, rest.len()),
        '"' => (Kind::Text, text_length(rest)),
        '@' => {
            let after = rest.get(1..).unwrap_or_default();
            (Kind::Annotation, 1 + name_from(after))
        }
        digit if digit.is_ascii_digit() => (
            Kind::Number,
            rest.find(|letter: char| !letter.is_ascii_digit())
                .unwrap_or(rest.len()),
        ),
        letter if letter.is_alphabetic() || letter == '_' => {
            let length = name_from(rest);
            let name = rest.get(..length).unwrap_or_default();
            let after = rest.get(length..).unwrap_or_default();
            let kind = match name {
                "permit" | "forbid" => Kind::Effect,
                "principal" | "action" | "resource" | "context" => Kind::Variable,
                _ if after.starts_with("::") => Kind::Type,
                _ if KEYWORDS.contains(&name) => Kind::Keyword,
                _ => Kind::Plain,
            };
            (kind, length)
        }
        other => (Kind::Plain, other.len_utf8()),
    }
}

/// How many bytes a text in quotes has, from quote to quote, or to the end.
fn text_length(rest: &str) -> usize {
    let mut escaped = false;
    for (at, letter) in rest.char_indices().skip(1) {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn coloured(text: &str) -> Vec<(Kind, String)> {
        line(text)
            .into_iter()
            .filter(|piece| piece.kind != Kind::Plain)
            .map(|piece| (piece.kind, piece.text))
            .collect()
    }

    #[test]
    fn a_policy_is_coloured() {
        let found = coloured(
            r#"@id("a.b") forbid (principal in Role::"x\"y", action, resource) when { context.now > 10 && like }; // why "not""#,
        );
        let found: Vec<_> = found
            .iter()
            .map(|(kind, text)| (*kind, text.as_str()))
            .collect();
        assert_eq!(
            found,
            [
                (Kind::Annotation, "@id"),
                (Kind::Text, "\"a.b\""),
                (Kind::Effect, "forbid"),
                (Kind::Variable, "principal"),
                (Kind::Keyword, "in"),
                (Kind::Type, "Role"),
                (Kind::Text, "\"x\\\"y\""),
                (Kind::Variable, "action"),
                (Kind::Variable, "resource"),
                (Kind::Keyword, "when"),
                (Kind::Variable, "context"),
                (Kind::Number, "10"),
                (Kind::Keyword, "like"),
                (Kind::Comment, "// why \"not\""),
            ]
        );
    }

    #[test]
    fn nothing_is_lost_whatever_it_is() {
        for text in [
            "",
            "\"",
            "\"\\",
            "@",
            "@\u{202e}",
            "ünïcode::\"日本\" 🚀 //",
            "<script>alert('x')</script>",
            "\t\u{1b}[31m",
            "1.5e10::x_1",
        ] {
            let whole: String = line(text).into_iter().map(|piece| piece.text).collect();
            assert_eq!(whole, text);
        }
        let (shown, more) = lines("a\nb\nc", 2);
        assert_eq!((shown.len(), more), (2, true));
        assert!(!lines("a\nb\n", 2).1);
    }
}
