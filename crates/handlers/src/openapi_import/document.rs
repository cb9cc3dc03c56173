//! The document: JSON or YAML, one of the versions that we know, and its references.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::ImportError;

/// The longest document that is read, in bytes. GitHub's has 13 MB.
pub const MAX_DOCUMENT_BYTES: usize = 32 << 20;

/// How often one reference may lead to another.
const LONGEST_CHAIN: usize = 32;

/// How deep a document may be nested: as deep as JSON may be for our parser.
const DEEPEST: usize = 128;

/// Why a reference cannot be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadReference {
    /// It leads to another file or address.
    External,
    /// Nothing is there.
    Dangling,
    /// It leads back to itself.
    Endless,
}

impl BadReference {
    pub(super) const fn why(self) -> &'static str {
        match self {
            Self::External => {
                "refers to another file, which is not read: bundle the document into one file first"
            }
            Self::Dangling => "refers to what is not in the document",
            Self::Endless => "refers to itself",
        }
    }
}

/// A document of a version that we know.
#[derive(Debug)]
pub(super) struct Document {
    root: Value,
}

impl Document {
    pub(super) fn read(text: &str) -> Result<Self, ImportError> {
        if text.len() > MAX_DOCUMENT_BYTES {
            return Err(ImportError::TooLong { bytes: text.len() });
        }
        let text = text.trim_start_matches('\u{feff}').trim_start();
        let root = match text.chars().next() {
            None => return Err(ImportError::NotOpenApi("it is empty".to_owned())),
            Some('<') => return Err(ImportError::WebPage),
            Some('{') => serde_json::from_str(text).map_err(|error| ImportError::Syntax {
                format: "JSON",
                problem: error.to_string(),
            })?,
            Some(_) => yaml(text)?,
        };
        let document = Self { root };
        document.check_version()?;
        Ok(document)
    }

    fn check_version(&self) -> Result<(), ImportError> {
        let Value::Object(root) = &self.root else {
            let kind = "it is no object with `openapi`, `info` and `paths`";
            return Err(ImportError::NotOpenApi(kind.to_owned()));
        };
        if root.contains_key("swagger") {
            return Err(ImportError::Swagger);
        }
        let version = match root.get("openapi") {
            Some(Value::String(version)) => version.clone(),
            // `openapi: 3.1`, without quotes, is a number in YAML.
            Some(Value::Number(version)) => version.to_string(),
            Some(_) => "of an unknown kind".to_owned(),
            None => {
                let missing = "it has no `openapi`, which says the version";
                return Err(ImportError::NotOpenApi(missing.to_owned()));
            }
        };
        let known = ["3.0", "3.1"]
            .iter()
            .any(|known| version == *known || version.starts_with(&format!("{known}.")));
        if !known {
            return Err(ImportError::Version {
                version: version
                    .chars()
                    .take(32)
                    .flat_map(char::escape_debug)
                    .collect(),
            });
        }
        if !root.get("paths").is_some_and(Value::is_object) {
            let missing = "it has no `paths`";
            return Err(ImportError::NotOpenApi(missing.to_owned()));
        }
        Ok(())
    }

    pub(super) fn into_value(self) -> Value {
        self.root
    }

    /// A member of the document itself.
    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.root.get(key)
    }

    /// A text below `info`.
    pub(super) fn info(&self, key: &str) -> &str {
        self.get("info")
            .and_then(|info| info.get(key))
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    pub(super) fn paths(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.get("paths")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
    }

    /// The value itself, or what it refers to.
    pub(super) fn follow<'a>(&'a self, value: &'a Value) -> Result<&'a Value, BadReference> {
        let mut value = value;
        for _ in 0..LONGEST_CHAIN {
            let Some(reference) = reference(value) else {
                return Ok(value);
            };
            value = self.target(reference)?;
        }
        Err(BadReference::Endless)
    }

    /// What a reference leads to.
    pub(super) fn target(&self, reference: &str) -> Result<&Value, BadReference> {
        let Some(pointer) = reference.strip_prefix('#') else {
            return Err(BadReference::External);
        };
        let pointer = percent_encoding::percent_decode_str(pointer)
            .decode_utf8()
            .unwrap_or(Cow::Borrowed(pointer));
        if !pointer.is_empty() && !pointer.starts_with('/') {
            return Err(BadReference::Dangling);
        }
        self.root.pointer(&pointer).ok_or(BadReference::Dangling)
    }
}

/// Where a value refers to, if it does.
pub(super) fn reference(value: &Value) -> Option<&str> {
    value.get("$ref").and_then(Value::as_str)
}

/// The members of an object, if it is one.
pub(super) fn members(value: Option<&Value>) -> impl Iterator<Item = (&String, &Value)> {
    value.and_then(Value::as_object).into_iter().flatten()
}

/// The items of a list, if it is one.
pub(super) fn items(value: Option<&Value>) -> impl Iterator<Item = &Value> {
    value.and_then(Value::as_array).into_iter().flatten()
}

pub(super) fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key).and_then(Value::as_str)
}

pub(super) fn is_true(value: &Value, key: &str) -> bool {
    value.get(key) == Some(&Value::Bool(true))
}

fn yaml(text: &str) -> Result<Value, ImportError> {
    let mut options = serde_saphyr::options! {
        with_snippet: false,
    };
    if let Some(budget) = &mut options.budget {
        // Bounded by its length already; aliases keep the limits that they have.
        budget.max_events = 8_000_000;
        budget.max_nodes = 4_000_000;
        budget.max_depth = DEEPEST;
    }
    let value: Value = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let error = error.without_snippet().to_string();
        ImportError::Syntax {
            format: "YAML",
            problem: error.lines().next().unwrap_or_default().to_owned(),
        }
    })?;
    match value {
        Value::Object(_) | Value::Array(_) => Ok(value),
        // Any text at all is a value of YAML.
        _ => Err(ImportError::NotOpenApi(
            "it is neither JSON nor YAML with `openapi`, `info` and `paths`".to_owned(),
        )),
    }
}

/// One line of what the document's author wrote, with nothing that cannot be seen; at most
/// `most` characters and an ellipsis.
pub(super) fn line(text: &str, most: usize) -> String {
    let mut line = String::new();
    let mut count = 0;
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()) {
        let word: String = word.chars().filter(|&c| !is_invisible(c)).collect();
        if word.is_empty() {
            continue;
        }
        let length = word.chars().count();
        if count > 0 && count + 1 + length > most || length > most {
            if count > 0 {
                line.push(' ');
            }
            line.push('…');
            break;
        }
        if count > 0 {
            line.push(' ');
            count += 1;
        }
        line.push_str(&word);
        count += length;
    }
    line
}

/// Marks of direction, joiners, tags: what can hide words from whoever reads them.
const fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}'
            | '\u{34f}'
            | '\u{61c}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

/// Without members that are null, which TOML cannot say.
pub(super) fn without_null(value: &Value) -> Option<Value> {
    match value {
        Value::Null => None,
        Value::Array(items) => Some(Value::Array(
            items.iter().filter_map(without_null).collect(),
        )),
        Value::Object(fields) => {
            let kept = fields
                .iter()
                .filter_map(|(name, value)| Some((name.clone(), without_null(value)?)));
            Some(Value::Object(kept.collect::<Map<_, _>>()))
        }
        other => Some(other.clone()),
    }
}
