//! Templates: values with `{argument}` in them.

use serde_json::{Map, Value};

/// A part of a template's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TemplatePart<'a> {
    Text(&'a str),
    /// Of an argument, or `agent.id`.
    Named(&'a str),
}

/// Takes a text apart. Braces that hold no name are text.
pub(crate) fn template_parts(text: &str) -> impl Iterator<Item = TemplatePart<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let named = rest.strip_prefix('{').and_then(|after| {
            let (name, after) = after.split_once('}')?;
            let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
            (!name.is_empty() && name.chars().all(is_name)).then_some((name, after))
        });
        if let Some((name, after)) = named {
            rest = after;
            return Some(TemplatePart::Named(name));
        }
        let end = rest
            .char_indices()
            .skip(1)
            .find(|&(_, c)| c == '{')
            .map_or(rest.len(), |(at, _)| at);
        let (part, after) = rest.split_at(end);
        rest = after;
        Some(TemplatePart::Text(part))
    })
}

/// The template with values in it; none when what it is made of was not given.
pub(crate) fn filled(template: &Value, values: &dyn Fn(&str) -> Option<Value>) -> Option<Value> {
    match template {
        Value::String(text) => filled_text(text, values),
        Value::Array(items) => Some(Value::Array(
            items
                .iter()
                .filter_map(|item| filled(item, values))
                .collect(),
        )),
        Value::Object(fields) => {
            let filled: Map<String, Value> = fields
                .iter()
                .filter_map(|(name, value)| Some((name.clone(), filled(value, values)?)))
                .collect();
            // An object of which nothing was given was not given.
            (fields.is_empty() || !filled.is_empty()).then_some(Value::Object(filled))
        }
        other => Some(other.clone()),
    }
}

fn filled_text(text: &str, values: &dyn Fn(&str) -> Option<Value>) -> Option<Value> {
    let mut parts = template_parts(text);
    match (parts.next(), parts.next()) {
        (Some(TemplatePart::Named(name)), None) => return values(name),
        (None, _) => return Some(Value::String(String::new())),
        _ => {}
    }
    let mut filled = String::new();
    for part in template_parts(text) {
        match part {
            TemplatePart::Text(text) => filled.push_str(text),
            TemplatePart::Named(name) => match values(name)? {
                Value::String(text) => filled.push_str(&text),
                other => filled.push_str(&other.to_string()),
            },
        }
    }
    Some(Value::String(filled))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_not_given_is_left_out() {
        let given = json!({"a": 1, "b": {"c": [true]}, "t": "x"});
        let values = |name: &str| given.get(name).cloned();
        let cases = [
            (json!("{a}"), Some(json!(1))),
            (json!("{b}"), Some(json!({"c": [true]}))),
            (json!("{missing}"), None),
            (json!("is {a} of {t}"), Some(json!("is 1 of x"))),
            (json!("is {missing}"), None),
            (json!({"x": "{a}", "y": "{missing}"}), Some(json!({"x": 1}))),
            (json!({"y": "{missing}"}), None),
            (json!({}), Some(json!({}))),
            (json!(["{missing}", "{t}", 2]), Some(json!(["x", 2]))),
            (json!("{not a name} {"), Some(json!("{not a name} {"))),
            (json!(""), Some(json!(""))),
        ];
        for (template, expected) in cases {
            assert_eq!(filled(&template, &values), expected, "{template}");
        }
    }
}
