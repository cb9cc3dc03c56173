//! Samples: a value that fits a schema, for examples.

use serde_json::{Map, Value, json};

/// How deep a sample may be.
const DEEPEST: usize = 12;

/// Texts of formats that patterns are written for.
const TEXTS: &[&str] = &[
    "example",
    "a",
    "A",
    "1",
    "12",
    "Example",
    "EXAMPLE",
    "abc123",
    "example-1",
    "example_1",
    "example/example",
    "1.0.0",
    "v1.0.0",
    "2026-01-31",
    "2026-01-31T12:00:00Z",
    "12:00",
    "12:00:00",
    "0123456789abcdef0123456789abcdef01234567",
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    "0b6ccf5e-8d0c-4b2c-9d5e-1f2a3b4c5d6e",
    "someone@example.com",
    "https://example.com/",
    "https://example.com",
    "/example",
    "example.com",
    "192.0.2.1",
    "192.0.2.0/24",
    "#aabbcc",
    "aabbcc",
    "en",
    "en-US",
    "US",
    "USD",
    "+15555550100",
    "ssh-rsa AAAA",
];

/// A value that fits the schema, if one is found. What the document gives as an example goes
/// first, if it fits.
#[must_use]
pub fn sample(schema: &Value) -> Option<Value> {
    let value = made(schema, 0)?;
    fits(schema, &value).then_some(value)
}

pub(super) fn fits(schema: &Value, value: &Value) -> bool {
    jsonschema::options()
        .with_pattern_options(
            jsonschema::PatternOptions::fancy_regex()
                .size_limit(1 << 20)
                .backtrack_limit(100_000),
        )
        .build(schema)
        .is_ok_and(|validator| validator.is_valid(value))
}

fn made(schema: &Value, depth: usize) -> Option<Value> {
    if depth > DEEPEST {
        return None;
    }
    let Value::Object(schema) = schema else {
        return Some(json!({}));
    };
    for key in ["examples", "enum"] {
        if let Some(first) = schema.get(key).and_then(|list| list.get(0))
            && !first.is_null()
        {
            return Some(first.clone());
        }
    }
    let kind = match schema.get("type") {
        Some(Value::String(kind)) => Some(kind.as_str()),
        Some(Value::Array(kinds)) => kinds
            .iter()
            .filter_map(Value::as_str)
            .find(|kind| *kind != "null"),
        _ => None,
    };
    let alternative = schema.get("anyOf").and_then(Value::as_array);
    match kind {
        None | Some("object") if alternative.is_some() => {
            let made = alternative?.iter().filter_map(|part| {
                let mut both = schema.clone();
                both.remove("anyOf");
                if let Value::Object(part) = part {
                    together(&mut both, part);
                }
                let both = Value::Object(both);
                made(&both, depth + 1).filter(|value| fits(&both, value))
            });
            // What says something rather than what merely fits.
            let made: Vec<Value> = made.take(8).collect();
            let empty = json!({});
            let full = made.iter().find(|value| **value != empty);
            full.or(made.first()).cloned()
        }
        Some("object") => object(schema, depth),
        Some("array") => {
            let count = schema.get("minItems").and_then(Value::as_u64).unwrap_or(1);
            let item = match schema.get("items") {
                Some(item) => made(item, depth + 1)?,
                None => json!("example"),
            };
            let count = usize::try_from(count.clamp(1, 64)).ok()?;
            Some(Value::Array(vec![item; count]))
        }
        Some("integer" | "number") => number(schema),
        Some("boolean") => Some(json!(true)),
        None if schema.contains_key("properties") => object(schema, depth),
        None if schema.contains_key("items") => {
            Some(json!([made(schema.get("items")?, depth + 1)?]))
        }
        _ => text(schema),
    }
}

/// What is said of one and the same value in two places.
fn together(both: &mut Map<String, Value>, part: &Map<String, Value>) {
    for (key, value) in part {
        match (both.get_mut(key), value) {
            (Some(Value::Object(known)), Value::Object(more)) => known.extend(more.clone()),
            (Some(Value::Array(known)), Value::Array(more)) if key == "required" => {
                known.extend(more.iter().cloned());
            }
            _ => {
                both.insert(key.clone(), value.clone());
            }
        }
    }
}

fn object(schema: &Map<String, Value>, depth: usize) -> Option<Value> {
    let properties = schema.get("properties").and_then(Value::as_object);
    let mut made_of = Map::new();
    let required = schema.get("required").and_then(Value::as_array);
    for name in required.into_iter().flatten().filter_map(Value::as_str) {
        let value = match properties.and_then(|properties| properties.get(name)) {
            Some(property) => made(property, depth + 1)?,
            None => json!("example"),
        };
        made_of.insert(name.to_owned(), value);
    }
    let least = schema
        .get("minProperties")
        .and_then(Value::as_u64)
        .unwrap_or(0);
    for (name, property) in properties.into_iter().flatten() {
        if made_of.len() as u64 >= least {
            break;
        }
        if !made_of.contains_key(name) {
            made_of.insert(name.clone(), made(property, depth + 1)?);
        }
    }
    if (made_of.len() as u64) < least {
        let inner = match schema.get("additionalProperties") {
            Some(inner @ Value::Object(_)) => made(inner, depth + 1)?,
            _ => json!("example"),
        };
        made_of.insert("example".to_owned(), inner);
    }
    Some(Value::Object(made_of))
}

fn number(schema: &Map<String, Value>) -> Option<Value> {
    let bound = |key: &str| schema.get(key).and_then(Value::as_f64);
    let candidates = [
        Some(1.0),
        bound("minimum"),
        bound("maximum"),
        bound("exclusiveMinimum").map(|bound| bound + 1.0),
        bound("exclusiveMaximum").map(|bound| bound - 1.0),
        bound("multipleOf"),
        Some(0.0),
        Some(10.0),
    ];
    let whole = Value::Object(schema.clone());
    candidates.into_iter().flatten().find_map(|number| {
        #[expect(clippy::cast_possible_truncation, reason = "it is whole and small")]
        let value = if number.fract() == 0.0 && number.abs() < 9e15 {
            json!(number as i64)
        } else {
            json!(number)
        };
        fits(&whole, &value).then_some(value)
    })
}

fn text(schema: &Map<String, Value>) -> Option<Value> {
    let of_format = match schema
        .get("format")
        .and_then(Value::as_str)
        .unwrap_or_default()
    {
        "date-time" => "2026-01-31T12:00:00Z",
        "date" => "2026-01-31",
        "time" => "12:00:00Z",
        "uuid" => "0b6ccf5e-8d0c-4b2c-9d5e-1f2a3b4c5d6e",
        "email" | "idn-email" => "someone@example.com",
        "uri" | "url" | "iri" | "uri-reference" => "https://example.com/",
        "hostname" => "example.com",
        "ipv4" | "ip" => "192.0.2.1",
        "ipv6" => "2001:db8::1",
        "byte" => "ZXhhbXBsZQ==",
        _ => "example",
    };
    if !schema.contains_key("pattern") {
        // Lengths alone are met at once.
        let bound = |key: &str| {
            let length = schema.get(key).and_then(Value::as_u64)?;
            usize::try_from(length).ok()
        };
        let least = bound("minLength").unwrap_or(0).min(4096);
        let most = bound("maxLength").unwrap_or(usize::MAX);
        let mut text = of_format.to_owned();
        while text.len() < least {
            text.push('e');
        }
        return Some(json!(text.chars().take(most).collect::<String>()));
    }
    let whole = Value::Object(schema.clone());
    std::iter::once(of_format)
        .chain(TEXTS.iter().copied())
        .map(|text| json!(text))
        .find(|text| fits(&whole, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_fit() {
        let cases = [
            json!({"type": "string"}),
            json!({"type": "string", "minLength": 12, "maxLength": 13}),
            json!({"type": "string", "maxLength": 2}),
            json!({"type": "string", "pattern": "^[0-9a-f]{40}$"}),
            json!({"type": "string", "enum": ["x", "y"]}),
            json!({"type": "integer", "minimum": 5, "maximum": 9}),
            json!({"type": "integer", "exclusiveMaximum": 0}),
            json!({"type": "number", "multipleOf": 2.5}),
            json!({"type": ["integer", "null"]}),
            json!({"type": "array", "items": {"type": "boolean"}, "minItems": 3}),
            json!({"type": "object", "required": ["a", "b"], "properties": {"a": {"type": "integer"}}}),
            json!({"type": "object", "minProperties": 2, "properties": {"a": {"type": "integer"}, "b": {}}}),
            json!({"anyOf": [{"type": "string", "pattern": "^never$"}, {"type": "integer"}]}),
            json!({"type": "object", "properties": {"a": {"type": "string"}}, "anyOf": [{"required": ["a"]}]}),
            json!({}),
        ];
        for schema in cases {
            assert!(sample(&schema).is_some(), "{schema}");
        }
        assert_eq!(
            sample(&json!({"type": "string", "pattern": "^q{99}$"})),
            None
        );
        assert_eq!(
            sample(&json!({"type": "string", "examples": ["given"]})),
            Some(json!("given"))
        );
    }
}
