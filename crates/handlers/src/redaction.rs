//! Redaction: by name, in arguments and in answers.

use authz::redact::{REDACTED, is_secret};
use serde_json::{Map, Value};

/// Which fields and arguments nobody gets to see.
#[derive(Clone, Debug)]
pub(crate) struct Redaction {
    /// Fields of answers, and of what is inside arguments.
    secret: Vec<String>,
    /// Arguments of one command.
    arguments: Vec<String>,
    /// Names that sound secret and are not.
    public: Vec<String>,
}

impl Redaction {
    pub(crate) fn new(secret: &[String], arguments: Vec<String>, public: &[String]) -> Self {
        Self {
            secret: secret.to_vec(),
            arguments,
            public: public.to_vec(),
        }
    }

    /// Hides what is secret in an answer.
    pub(crate) fn answer(&self, value: &mut Value) {
        match value {
            Value::Array(items) => items.iter_mut().for_each(|item| self.answer(item)),
            Value::Object(fields) => {
                for (name, value) in fields {
                    if self.secret.contains(name) || self.sounds_secret(name) {
                        hide(value);
                    } else {
                        self.answer(value);
                    }
                }
            }
            _ => {}
        }
    }

    /// Hides what is secret in a command's arguments. A text such as a compose file, hidden
    /// in answers, is shown when it is what someone has to approve.
    pub(crate) fn arguments(&self, values: &mut Map<String, Value>) {
        for (name, value) in values {
            if self.hides_argument(name) {
                hide(value);
            } else {
                self.answer(value);
            }
        }
    }

    /// Whether an argument's value is secret.
    pub(crate) fn hides_argument(&self, name: &str) -> bool {
        self.arguments.iter().any(|other| other == name) || self.sounds_secret(name)
    }

    /// Names that end in `_id` or `_uuid` only point to a secret.
    fn sounds_secret(&self, name: &str) -> bool {
        is_secret(name)
            && !self.public.iter().any(|other| other == name)
            && !name.ends_with("_id")
            && !name.ends_with("_uuid")
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
