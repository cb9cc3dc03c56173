//! The description's text, as a person would have written it.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::{
    answer::Answer,
    argument::{Argument, In},
    body::Written,
    credential::{Credential, Place},
    operation::Draft,
    pages::Pages,
};

/// What stands at the top.
pub(super) struct Head<'a> {
    pub(super) name: &'a str,
    pub(super) replaces: bool,
    /// What the document is called, and which of its versions it is.
    pub(super) title: &'a str,
    pub(super) version: &'a str,
    pub(super) about: &'a str,
    pub(super) address: Address,
    pub(super) credentials: &'a [Credential],
    pub(super) idempotency_key: Option<&'a str>,
}

/// Where the service is.
#[derive(Clone, Debug, Default)]
pub(super) struct Address {
    pub(super) variable: String,
    pub(super) default: Option<String>,
    pub(super) suffix: String,
    /// Other endings, by name.
    pub(super) others: Vec<(String, String)>,
}

pub(super) fn head(head: &Head<'_>) -> String {
    let mut text = String::new();
    let from = [head.title, head.version].join(" ");
    let from = from.trim();
    let _ = writeln!(
        text,
        "# Made by `cedargate services import` of an OpenAPI document{}{from}.\n# Read it before agents use it: risk follows from methods and words, and everything here\n# may be changed.\n",
        if from.is_empty() { "" } else { ": " }
    );
    let mut line = |key: &str, value: &Value| {
        let _ = writeln!(text, "{key} = {}", toml(value));
    };
    line("name", &json!(head.name));
    if head.replaces {
        line("replaces", &json!(true));
    }
    let version = if head.version.is_empty() {
        "1"
    } else {
        head.version
    };
    line("version", &json!(version));
    line("kind", &json!("http"));
    line("description", &json!(head.about));
    text.push_str("# Its answers may hold what anybody has written. Take this away where that is not so.\nuntrusted = true\n\n");
    let mut address = Map::new();
    address.insert("variable".to_owned(), json!(head.address.variable));
    if let Some(default) = &head.address.default {
        address.insert("default".to_owned(), json!(default));
    }
    if !head.address.suffix.is_empty() {
        address.insert("suffix".to_owned(), json!(head.address.suffix));
    }
    if !head.address.others.is_empty() {
        let others: Map<String, Value> = head
            .address
            .others
            .iter()
            .map(|(name, suffix)| (name.clone(), json!(suffix)))
            .collect();
        address.insert("others".to_owned(), Value::Object(others));
    }
    let mut line = |key: &str, value: &Value| {
        let _ = writeln!(text, "{key} = {}", toml(value));
    };
    line("address", &Value::Object(address));
    match head.credentials {
        [] => {}
        [one] => line("credential", &credential(one)),
        several => line("credentials", &several.iter().map(credential).collect()),
    }
    if let Some(key) = head.idempotency_key {
        line("idempotency_key", &json!(key));
    }
    text
}

fn credential(credential: &Credential) -> Value {
    let mut value = Map::new();
    value.insert("variable".to_owned(), json!(credential.variable));
    match &credential.place {
        Place::Header { name, prefix } => {
            value.insert("header".to_owned(), json!(name));
            if !prefix.is_empty() {
                value.insert("prefix".to_owned(), json!(prefix));
            }
        }
        Place::Query(name) => {
            value.insert("query".to_owned(), json!(name));
        }
        Place::Basic { user } => {
            value.insert("basic_user_variable".to_owned(), json!(user));
        }
    }
    if credential.optional {
        value.insert("optional".to_owned(), json!(true));
    }
    Value::Object(value)
}

/// One command. Without `key`, which the service sends for all of them.
pub(super) fn command(draft: &Draft, key: bool) -> String {
    let mut text = "\n[[commands]]\n".to_owned();
    let mut line = |name: &str, value: &Value| {
        let _ = writeln!(text, "{name} = {}", toml(value));
    };
    line("name", &json!(draft.called.name));
    line("phrase", &json!(draft.called.phrase));
    line("summary", &json!(draft.summary));
    line("risk", &json!(draft.risk));
    line("request", &json!(draft.request));
    if let Some(address) = &draft.address {
        line("address", &json!(address));
    }
    if draft.without_credential {
        line("without_credential", &json!(true));
    }
    match draft.written {
        Written::Json => {}
        Written::MergePatch => line("body_format", &json!("merge-patch")),
        Written::Form => line("body_format", &json!("form")),
    }
    if let Some(idempotent) = draft.idempotent {
        line("idempotent", &json!(idempotent));
    }
    if let Some(pages) = &draft.pages {
        line("pages", &pages_value(pages));
    }
    if let Some(name) = &draft.whole_body {
        line("body", &json!(format!("{{{name}}}")));
    }
    let arguments: Vec<&Argument> = draft
        .arguments
        .iter()
        .filter(|argument| key || !argument.is_key())
        .collect();
    if !arguments.is_empty() {
        text.push_str("arguments = [\n");
        for given in arguments {
            let _ = writeln!(text, "    {},", toml(&argument(given, draft.method)));
        }
        text.push_str("]\n");
    }
    let mut line = |name: &str, value: &Value| {
        let _ = writeln!(text, "{name} = {}", toml(value));
    };
    if !draft.at_least_one.is_empty() {
        line("at_least_one", &json!(draft.at_least_one));
    }
    line("answer", &answer(&draft.answer));
    if !draft.example.is_empty() {
        line("example", &Value::Object(draft.example.clone()));
    }
    text
}

fn pages_value(pages: &Pages) -> Value {
    let mut value = Map::new();
    value.insert("by".to_owned(), json!(pages.by));
    value.insert("parameter".to_owned(), json!(pages.parameter));
    if let Some(size) = &pages.size {
        value.insert("size".to_owned(), json!(size));
    }
    if pages.size_max != 100 {
        value.insert("size_max".to_owned(), json!(pages.size_max));
        // Thirty are fetched unless the agent says, which must be possible.
        if pages.size_max < 6 {
            value.insert("default".to_owned(), json!(pages.size_max));
        }
    }
    if let Some(first) = pages.first {
        value.insert("first".to_owned(), json!(first));
    }
    if let Some(next) = pages.next {
        value.insert("next".to_owned(), json!(next));
    }
    if let Some(more) = pages.more {
        value.insert("more".to_owned(), json!(more));
    }
    if pages.link {
        value.insert("link".to_owned(), json!(true));
    }
    Value::Object(value)
}

fn argument(argument: &Argument, method: &str) -> Value {
    let mut value = Map::new();
    value.insert("name".to_owned(), json!(argument.name));
    if argument.wire != argument.name {
        value.insert("as".to_owned(), json!(argument.wire));
    }
    if argument.kind != "string" {
        value.insert("type".to_owned(), json!(argument.kind));
    }
    let usual = match (argument.place, method) {
        (In::Path, _) => true,
        (In::Query, method) => matches!(method, "GET" | "DELETE"),
        (In::Body, method) => !matches!(method, "GET" | "DELETE"),
        (In::Header, _) => false,
    };
    if !usual {
        value.insert("in".to_owned(), json!(argument.place.as_str()));
    }
    if argument.required && argument.place != In::Path {
        value.insert("required".to_owned(), json!(true));
    }
    if argument.nullable {
        value.insert("nullable".to_owned(), json!(true));
    }
    if argument.secret {
        value.insert("secret".to_owned(), json!(true));
    }
    if let Some(written) = argument.written {
        value.insert("written".to_owned(), json!(written));
    }
    value.extend(argument.keys.clone());
    if !argument.schema.is_empty() {
        value.insert("schema".to_owned(), Value::Object(argument.schema.clone()));
    }
    value.insert("description".to_owned(), json!(argument.description));
    Value::Object(value)
}

fn answer(answer: &Answer) -> Value {
    match answer {
        Answer::List { name, at: None } => json!({"list": name}),
        Answer::List { name, at: Some(at) } => json!({"list": name, "at": at}),
        Answer::Object { name } => json!({"object": name, "list_as": "items"}),
        Answer::Any => json!({"merge": true, "list_as": "items"}),
        Answer::Text => json!({"text": "text"}),
    }
}

/// A value as TOML has it in one line. Null, which TOML has not, is left away.
pub(super) fn toml(value: &Value) -> String {
    let mut text = String::new();
    write_value(value, &mut text);
    text
}

fn write_value(value: &Value, text: &mut String) {
    match value {
        Value::Null => text.push_str("\"\""),
        Value::Bool(value) => {
            let _ = write!(text, "{value}");
        }
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(number), _) => {
                let _ = write!(text, "{number}");
            }
            (None, Some(number)) => {
                // A number of TOML has a point or an exponent unless it is whole.
                let _ = write!(text, "{number:?}");
            }
            (None, None) => text.push('0'),
        },
        Value::String(given) => write_text(given, text),
        Value::Array(items) => {
            text.push('[');
            let mut first = true;
            for item in items.iter().filter(|item| !item.is_null()) {
                if !std::mem::take(&mut first) {
                    text.push_str(", ");
                }
                write_value(item, text);
            }
            text.push(']');
        }
        Value::Object(fields) => {
            let mut first = true;
            text.push('{');
            for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
                text.push_str(if std::mem::take(&mut first) {
                    " "
                } else {
                    ", "
                });
                let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
                if !name.is_empty() && name.chars().all(bare) {
                    text.push_str(name);
                } else {
                    write_text(name, text);
                }
                text.push_str(" = ");
                write_value(value, text);
            }
            text.push_str(if first { "}" } else { " }" });
        }
    }
}

fn write_text(given: &str, text: &mut String) {
    text.push('"');
    for letter in given.chars() {
        match letter {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\t' => text.push_str("\\t"),
            '\r' => text.push_str("\\r"),
            letter if letter.is_control() => {
                let _ = write!(text, "\\u{:04x}", u32::from(letter));
            }
            letter => text.push(letter),
        }
    }
    text.push('"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_reads_back(text in any::<String>(), key in any::<String>(), whole in any::<i64>(), number in any::<f64>().prop_filter("finite", |number| number.is_finite())) {
            let given = json!({key: [text, {"whole": whole, "number": number, "flag": true, "": []}]});
            let read: toml::Table = toml::from_str(&format!("value = {}", toml(&given))).unwrap();
            let read = serde_json::to_value(&read["value"]).unwrap();
            prop_assert_eq!(read, given);
        }
    }
}
