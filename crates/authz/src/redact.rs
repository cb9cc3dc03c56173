//! What people and records see of arguments: never a secret, whatever the digest covers.

use serde_json::{Map, Value};

/// What stands in place of a secret.
pub const REDACTED: &str = "[redacted]";

/// Parts of an argument's name that mark its value as secret, compared without
/// case and without `-`, `_` and spaces.
const SECRET_NAMES: &[&str] = &[
    "token",
    "password",
    "passwd",
    "passphrase",
    "secret",
    "apikey",
    "privatekey",
    "accesskey",
    "sshkey",
    "deploykey",
    "signingkey",
    "encryptionkey",
    "masterkey",
    "credential",
    "authorization",
    "cookie",
    "pem",
];

/// The arguments with the values of secret names replaced, at every depth.
///
/// `also` names further arguments of this command whose values are secret.
#[must_use]
pub fn arguments(values: &Map<String, Value>, also: &[String]) -> Map<String, Value> {
    values
        .iter()
        .map(|(name, value)| {
            let value = if is_secret(name) || also.iter().any(|other| other == name) {
                Value::String(REDACTED.to_owned())
            } else {
                within(value, also)
            };
            (name.clone(), value)
        })
        .collect()
}

fn within(value: &Value, also: &[String]) -> Value {
    match value {
        Value::Object(values) => Value::Object(arguments(values, also)),
        Value::Array(items) => Value::Array(items.iter().map(|item| within(item, also)).collect()),
        other => other.clone(),
    }
}

/// Whether a value of this name is secret by rule.
#[must_use]
pub fn is_secret(name: &str) -> bool {
    let folded: String = name
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|letter| letter.to_ascii_lowercase())
        .collect();
    folded == "key" || folded == "pwd" || SECRET_NAMES.iter().any(|secret| folded.contains(secret))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_are_replaced_at_every_depth_and_nothing_else_is() {
        let Value::Object(values) = json!({
            "name": "web", "API_Key": "k", "private-key": "p", "nested": [{"db_password": "x", "port": 1}],
            "value": "v", "monkey": "banana", "ssh_key": "s",
        }) else {
            panic!()
        };
        let shown = arguments(&values, &["value".to_owned()]);
        assert_eq!(
            Value::Object(shown),
            json!({
                "name": "web", "API_Key": REDACTED, "private-key": REDACTED,
                "nested": [{"db_password": REDACTED, "port": 1}], "value": REDACTED, "monkey": "banana", "ssh_key": REDACTED,
            })
        );
    }
}
