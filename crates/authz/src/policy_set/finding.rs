//! Findings: what is wrong with a policy set, and where.

use std::fmt;

use cedar_policy::ffi::DetailedError;
use serde::{Deserialize, Serialize};

/// How bad a [`Finding`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The set is not used.
    Error,
    /// The set is used, and someone should look.
    Warning,
}

/// Something wrong with a policy set, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Finding {
    /// How bad.
    pub severity: Severity,
    /// The file.
    pub file: String,
    /// From 1; absent when the finding has no place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// From 1, in characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
    /// The policy's id, when it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// What is wrong, lower case and without full stop.
    pub message: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// The line at fault and a caret under the place, as two lines of text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub excerpt: Option<String>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{severity}: {}", self.message)?;
        write!(f, "\n  --> {}", self.file)?;
        if let (Some(line), Some(column)) = (self.line, self.column) {
            write!(f, ":{line}:{column}")?;
        }
        if let Some(policy) = &self.policy {
            write!(f, " (policy `{policy}`)")?;
        }
        for line in self.excerpt.iter().flat_map(|excerpt| excerpt.lines()) {
            write!(f, "\n   | {line}")?;
        }
        if let Some(help) = &self.help {
            write!(f, "\n  help: {help}")?;
        }
        Ok(())
    }
}

/// How much of a line an excerpt shows before and after the place, in characters.
const BEFORE: usize = 80;
const AFTER: usize = 60;

impl Finding {
    /// An error in a file as a whole.
    pub(crate) fn error(file: &str, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            file: file.to_owned(),
            line: None,
            column: None,
            policy: None,
            message: message.into(),
            help: None,
            excerpt: None,
        }
    }

    pub(super) fn warning(self) -> Self {
        Self {
            severity: Severity::Warning,
            ..self
        }
    }

    /// A warning that nobody may pass over.
    #[cfg(feature = "prove")]
    pub(crate) fn into_error(self) -> Self {
        Self {
            severity: Severity::Error,
            ..self
        }
    }

    pub(super) fn help(self, help: impl Into<String>) -> Self {
        Self {
            help: Some(help.into()),
            ..self
        }
    }

    pub(super) fn policy(self, id: &str) -> Self {
        Self {
            policy: Some(id.to_owned()),
            ..self
        }
    }

    /// Places it at a byte of the file's text.
    pub(super) fn at(self, text: &str, offset: usize) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let number = |count: usize| u32::try_from(count + 1).unwrap_or(u32::MAX);
        let line = text
            .get(start..)
            .unwrap_or_default()
            .lines()
            .next()
            .unwrap_or_default();
        let column = before.get(start..).unwrap_or_default().chars().count();
        Self {
            line: Some(number(before.matches('\n').count())),
            column: Some(number(column)),
            excerpt: Some(excerpt(line, column)),
            ..self
        }
    }

    /// What Cedar says, with all that it says beside it.
    pub(super) fn from_cedar(error: &DetailedError, file: &str, text: &str) -> Vec<Self> {
        let mut found = Self::error(file, clean(&error.message));
        if let Some(place) = error.source_locations.first() {
            found = found.at(text, place.loc.start);
            if let Some(label) = &place.label {
                found.message = format!("{}: {label}", found.message);
            }
        }
        found.help.clone_from(&error.help);
        let related = error
            .related
            .iter()
            .flat_map(|error| Self::from_cedar(error, file, text));
        std::iter::once(found).chain(related).collect()
    }
}

/// Cedar's message as one line of ours: without the policy's id, which stands
/// beside it, and without full stop.
fn clean(message: &str) -> String {
    let of_policy = message.strip_prefix("for policy `");
    let message = of_policy
        .and_then(|rest| rest.split_once('`'))
        .map_or(message, |(_, rest)| {
            rest.trim_start_matches([',', ':', ' '])
        });
    let message: String = message
        .chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect();
    message.trim_end_matches('.').to_owned()
}

/// The line, or what is around the place of a long one, and a caret below the place.
fn excerpt(line: &str, column: usize) -> String {
    let skipped = column.saturating_sub(BEFORE);
    let shown: String = line
        .chars()
        .skip(skipped)
        .take(BEFORE + AFTER)
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect();
    let shown = shown.trim_end();
    let caret = " ".repeat(column - skipped);
    format!("{shown}\n{caret}^")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_is_counted_in_lines_and_characters() {
        let text = "first\r\nüber\tx\r\nlast";
        let place = |needle: &str| {
            let found = Finding::error("a.cedar", "odd").at(text, text.find(needle).unwrap());
            (
                found.line.unwrap(),
                found.column.unwrap(),
                found.excerpt.unwrap(),
            )
        };
        assert_eq!(place("first"), (1, 1, "first\n^".to_owned()));
        assert_eq!(place("x"), (2, 6, "über x\n     ^".to_owned()));
        assert_eq!(place("last"), (3, 1, "last\n^".to_owned()));
    }

    #[test]
    fn a_place_beyond_the_text_is_its_end() {
        let found = Finding::error("a.cedar", "odd").at("ab\ncd", 99);
        assert_eq!((found.line, found.column), (Some(2), Some(3)));
    }

    #[test]
    fn a_long_line_is_shown_around_the_place() {
        let text = format!("{}X{}", "a".repeat(10_000), "b".repeat(10_000));
        let excerpt = Finding::error("a.cedar", "odd")
            .at(&text, 10_000)
            .excerpt
            .unwrap();
        let (line, caret) = excerpt.split_once('\n').unwrap();
        assert_eq!(line.len(), BEFORE + AFTER);
        assert_eq!(line.find('X'), caret.find('^'));
    }

    #[test]
    fn it_reads_like_a_compiler_s() {
        let found = Finding::error("policies/a.cedar", "odd")
            .policy("a.b")
            .help("make it even")
            .at("x y", 2);
        assert_eq!(
            found.to_string(),
            "error: odd\n  --> policies/a.cedar:1:3 (policy `a.b`)\n   | x y\n   |   ^\n  help: make it even"
        );
    }
}
