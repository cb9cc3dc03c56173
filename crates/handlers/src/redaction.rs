//! Redaction: by name, in arguments and in answers.

use authz::redact::{REDACTED, is_secret};
use serde_json::Value;

/// Which fields and arguments nobody gets to see.
#[derive(Debug)]
pub(crate) struct Redaction {
    secret: Vec<String>,
    public: Vec<String>,
}

impl Redaction {
    pub(crate) fn new(secret: &[String], public: &[String]) -> Self {
        Self {
            secret: secret.to_vec(),
            public: public.to_vec(),
        }
    }

    /// Whether the values of this name are hidden: by the description, or because it sounds
    /// secret. Names that end in `_id` or `_uuid` only point to a secret.
    pub(crate) fn hides(&self, name: &str) -> bool {
        let listed = |names: &[String]| names.iter().any(|other| other == name);
        listed(&self.secret)
            || (is_secret(name)
                && !listed(&self.public)
                && !name.ends_with("_id")
                && !name.ends_with("_uuid"))
    }

    pub(crate) fn apply(&self, value: &mut Value) {
        match value {
            Value::Array(items) => items.iter_mut().for_each(|item| self.apply(item)),
            Value::Object(fields) => {
                for (name, value) in fields {
                    if self.hides(name) {
                        hide(value);
                    } else {
                        self.apply(value);
                    }
                }
            }
            _ => {}
        }
    }
}

/// That there is a secret may be known; an empty value, a yes or a no is none.
fn hide(value: &mut Value) {
    let empty = match &*value {
        Value::Null | Value::Bool(_) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Number(_) => false,
    };
    if !empty {
        *value = Value::String(REDACTED.to_owned());
    }
}

impl Redaction {
    /// Hides one argument, or what is secret inside it.
    pub(crate) fn apply_named(&self, name: &str, value: &mut Value) {
        if self.hides(name) {
            hide(value)
        } else {
            self.apply(value)
        }
    }
}
