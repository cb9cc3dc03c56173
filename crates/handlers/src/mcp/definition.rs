//! Definitions: what an upstream says of one of its tools.

use authz::{Arguments, CommandName, Risk, command::ArgumentsDigest};
use serde_json::{Map, Value};

use crate::strict_json;

/// A longer definition makes its tool unusable, in bytes of JSON.
pub const MAX_DEFINITION_BYTES: usize = 256 << 10;

/// What an upstream says of one of its tools, read strictly: parsers that disagree about a
/// definition would show one thing to the reviewer and another to the model.
#[derive(Clone, Debug, PartialEq)]
pub struct Definition {
    name: CommandName,
    value: Map<String, Value>,
    digest: ArgumentsDigest,
}

impl Definition {
    /// Reads the JSON of one tool of a `tools/list`.
    ///
    /// # Errors
    ///
    /// A reason, when it is too long, not strict JSON, not an object, or its name is none
    /// that a command may have.
    pub fn read(json: &str) -> Result<Self, String> {
        if json.len() > MAX_DEFINITION_BYTES {
            return Err(format!("it is longer than {MAX_DEFINITION_BYTES} bytes"));
        }
        let value = strict_json::parse(json.as_bytes()).map_err(|error| error.to_string())?;
        let Value::Object(value) = value else {
            return Err("it is not an object".to_owned());
        };
        let name = value
            .get("name")
            .and_then(Value::as_str)
            .ok_or("it has no name")?
            .parse()
            .map_err(|error: authz::id::InvalidId| error.to_string())?;
        // The digest of canonical JSON, the same that binds approvals to arguments.
        let read = Arguments::new(value);
        Ok(Self {
            name,
            digest: read.digest().clone(),
            value: read.values().clone(),
        })
    }

    /// Its name, as the upstream spells it.
    #[must_use]
    pub fn name(&self) -> &CommandName {
        &self.name
    }

    /// All of it.
    #[must_use]
    pub fn value(&self) -> &Map<String, Value> {
        &self.value
    }

    /// SHA-256 of its canonical JSON: what a review binds.
    #[must_use]
    pub fn digest(&self) -> &ArgumentsDigest {
        &self.digest
    }

    /// The JSON Schema of its arguments; of an object, when it says none.
    #[must_use]
    pub fn input_schema(&self) -> Value {
        match self.value.get("inputSchema") {
            Some(schema @ Value::Object(_)) => schema.clone(),
            _ => serde_json::json!({"type": "object"}),
        }
    }

    /// What it does, as the upstream tells it; may be empty.
    #[must_use]
    pub fn description(&self) -> &str {
        self.text("description").unwrap_or_default()
    }

    /// What it is called for people, if anything.
    #[must_use]
    pub fn title(&self) -> Option<&str> {
        let annotated = || self.annotation("title").and_then(Value::as_str);
        self.text("title").or_else(annotated)
    }

    /// The risk that the upstream's own hints ask for, if any. They only ever raise what
    /// the operator says: that a tool calls itself harmless is worth nothing.
    #[must_use]
    pub fn hinted(&self) -> Option<Risk> {
        (self.annotation("destructiveHint") == Some(&Value::Bool(true))).then_some(Risk::Destroy)
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.value.get(key).and_then(Value::as_str)
    }

    fn annotation(&self, key: &str) -> Option<&Value> {
        self.value.get("annotations")?.get(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_names_what_is_said_and_not_how() {
        let one = Definition::read(r#"{"name":"echo","inputSchema":{"type":"object","x":1}}"#);
        let same = Definition::read(
            r#" { "inputSchema": {"x": 1, "type": "object"}, "name": "\u0065cho" } "#,
        );
        let other = Definition::read(r#"{"name":"echo","inputSchema":{"type":"object","x":2}}"#);
        let (one, same, other) = (one.unwrap(), same.unwrap(), other.unwrap());
        assert_eq!(one.digest(), same.digest());
        assert_ne!(one.digest(), other.digest());
    }

    #[test]
    fn what_parsers_read_differently_is_no_definition() {
        for (text, expected) in [
            (r#"{"name":"a","name":"b"}"#, "twice"),
            (r#"["name"]"#, "not an object"),
            (r#"{"title":"x"}"#, "no name"),
            (r#"{"name":"a/b"}"#, "is not"),
            (r#"{"name":"a","x":9007199254740993.0}"#, "exactly"),
        ] {
            let error = Definition::read(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
        let long = format!(
            r#"{{"name":"a","x":"{}"}}"#,
            "y".repeat(MAX_DEFINITION_BYTES)
        );
        assert!(Definition::read(&long).unwrap_err().contains("longer"));
    }

    #[test]
    fn hints_may_only_ask_for_more() {
        let risk = |annotations: &str| {
            Definition::read(&format!(r#"{{"name":"a","annotations":{annotations}}}"#))
                .unwrap()
                .hinted()
        };
        assert_eq!(risk(r#"{"destructiveHint":true}"#), Some(Risk::Destroy));
        assert_eq!(
            risk(r#"{"readOnlyHint":true,"destructiveHint":true}"#),
            Some(Risk::Destroy)
        );
        for nothing in [
            r#"{"readOnlyHint":true}"#,
            r#"{"destructiveHint":"true"}"#,
            "null",
        ] {
            assert_eq!(risk(nothing), None, "{nothing}");
        }
    }
}
