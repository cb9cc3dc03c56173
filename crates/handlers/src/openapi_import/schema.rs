//! Schemas: an OpenAPI schema becomes JSON Schema that refers to nothing.
//!
//! What is not understood is left away, so the result accepts at least what the document
//! does: the service itself checks the rest.

use serde_json::{Map, Number, Value, json};

use super::document::{BadReference, Document, is_true, items, line, members, reference, text};

/// How deep one argument's schema may be.
const DEEPEST: usize = 8;

/// How many schemas one argument's may be made of.
const LARGEST: usize = 250;

/// Longer patterns are programs, not formats; in bytes. As descriptions have it.
const LONGEST_PATTERN: usize = 512;

/// What was cut off a schema.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "any of them may be so")]
pub(super) struct Cut {
    pub(super) cycle: bool,
    pub(super) size: bool,
    pub(super) pattern: bool,
    pub(super) external: bool,
}

/// Writes one schema out.
pub(super) struct Inliner<'a> {
    document: &'a Document,
    /// References that lead to where we are.
    open: Vec<&'a str>,
    left: usize,
    pub(super) cut: Cut,
}

impl<'a> Inliner<'a> {
    pub(super) fn new(document: &'a Document) -> Self {
        Self {
            document,
            open: Vec::new(),
            left: LARGEST,
            cut: Cut::default(),
        }
    }

    /// The schema of what is sent.
    pub(super) fn inlined(&mut self, schema: &'a Value) -> Map<String, Value> {
        self.at(schema, 0)
    }

    fn at(&mut self, schema: &'a Value, depth: usize) -> Map<String, Value> {
        if depth > DEEPEST || self.left == 0 {
            self.cut.size = true;
            return Map::new();
        }
        self.left -= 1;
        let mut plain = Map::new();
        if let Some(reference) = reference(schema) {
            if self.open.contains(&reference) {
                self.cut.cycle = true;
                return plain;
            }
            match self.document.target(reference) {
                Ok(target) => {
                    self.open.push(reference);
                    plain = self.at(target, depth);
                    self.open.pop();
                }
                Err(bad) => self.cut.external |= bad == BadReference::External,
            }
        }
        let own = self.own(schema, depth);
        merge(&mut plain, own);
        plain
    }

    /// What stands in a schema itself.
    fn own(&mut self, schema: &'a Value, depth: usize) -> Map<String, Value> {
        let mut plain = Map::new();
        let Value::Object(given) = schema else {
            return plain;
        };
        if let Some(kind) = kind(schema) {
            plain.insert("type".to_owned(), kind);
        }
        if let Some(text) = text(schema, "description").map(|text| line(text, 160))
            && !text.is_empty()
        {
            plain.insert("description".to_owned(), json!(text));
        }
        for key in ["format", "writeOnly"] {
            if let Some(value @ (Value::String(_) | Value::Bool(true))) = given.get(key) {
                plain.insert(key.to_owned(), value.clone());
            }
        }
        for (key, value) in members(Some(schema)) {
            match key.as_str() {
                "minLength" | "maxLength" | "minItems" | "maxItems" | "minProperties"
                | "maxProperties"
                    if value.is_u64() =>
                {
                    plain.insert(key.clone(), value.clone());
                }
                "minimum" | "maximum" if value.is_number() => {
                    // Of version 3.0: whether the bound itself is excluded stands beside it.
                    let beside = if key == "minimum" {
                        "exclusiveMinimum"
                    } else {
                        "exclusiveMaximum"
                    };
                    let key = if is_true(schema, beside) { beside } else { key };
                    plain.insert(key.to_owned(), value.clone());
                }
                "exclusiveMinimum" | "exclusiveMaximum" if value.is_number() => {
                    plain.insert(key.clone(), value.clone());
                }
                "multipleOf" if value.as_f64().is_some_and(|number| number > 0.0) => {
                    plain.insert(key.clone(), value.clone());
                }
                "uniqueItems" if *value == Value::Bool(true) => {
                    plain.insert(key.clone(), value.clone());
                }
                "pattern" => match value.as_str() {
                    Some(pattern) if usable(pattern) => {
                        plain.insert(key.clone(), value.clone());
                    }
                    _ => self.cut.pattern = true,
                },
                "enum" => {
                    // That it may be null is said by the type.
                    let options: Vec<Value> = items(Some(value))
                        .filter(|option| !option.is_null())
                        .cloned()
                        .collect();
                    if !options.is_empty() && options.iter().all(has_no_null) {
                        plain.insert(key.clone(), Value::Array(options));
                    }
                }
                "const" if !value.is_null() && has_no_null(value) => {
                    plain.insert("enum".to_owned(), json!([value]));
                }
                "items" if value.is_object() => {
                    let inner = self.at(value, depth + 1);
                    plain.insert(key.clone(), Value::Object(inner));
                }
                "additionalProperties" => {
                    let inner = match value {
                        Value::Bool(false) => Some(Value::Bool(false)),
                        Value::Object(_) => Some(Value::Object(self.at(value, depth + 1))),
                        _ => None,
                    };
                    plain.extend(inner.map(|inner| (key.clone(), inner)));
                }
                _ => {}
            }
        }
        self.properties(schema, depth, &mut plain);
        for part in items(given.get("allOf")) {
            let part = self.at(part, depth + 1);
            merge(&mut plain, part);
        }
        // What is left away of two alternatives might make them one: whichever fits will do.
        for key in ["anyOf", "oneOf"] {
            let alternatives: Vec<Value> = items(given.get(key))
                .map(|part| Value::Object(self.at(part, depth + 1)))
                .collect();
            let nothing = |part: &Value| part.as_object().is_none_or(Map::is_empty);
            if !alternatives.is_empty() && !alternatives.iter().any(nothing) {
                let only = Map::from_iter([("anyOf".to_owned(), Value::Array(alternatives))]);
                merge(&mut plain, only);
            }
        }
        plain
    }

    fn properties(&mut self, schema: &'a Value, depth: usize, plain: &mut Map<String, Value>) {
        let mut properties = Map::new();
        for (name, property) in members(schema.get("properties")) {
            if !self.is_read_only(property) {
                let inner = self.at(property, depth + 1);
                properties.insert(name.clone(), Value::Object(inner));
            }
        }
        if !properties.is_empty() {
            plain.insert("properties".to_owned(), Value::Object(properties));
        }
        let required: Vec<&Value> = items(schema.get("required"))
            .filter(|name| {
                let property = name
                    .as_str()
                    .and_then(|name| schema.get("properties")?.get(name));
                name.is_string() && !property.is_some_and(|property| self.is_read_only(property))
            })
            .collect();
        if !required.is_empty() {
            plain.insert("required".to_owned(), json!(required));
        }
    }

    /// Only the service says it.
    pub(super) fn is_read_only(&self, property: &Value) -> bool {
        is_true(property, "readOnly")
            || self
                .document
                .follow(property)
                .is_ok_and(|property| is_true(property, "readOnly"))
    }
}

/// Adds what must hold as well. Of what both say, what was there first stays.
fn merge(plain: &mut Map<String, Value>, further: Map<String, Value>) {
    for (key, value) in further {
        match (key.as_str(), plain.get_mut(&key), value) {
            (_, None, value) => {
                plain.insert(key, value);
            }
            ("properties", Some(Value::Object(known)), Value::Object(more)) => {
                for (name, schema) in more {
                    known.entry(name).or_insert(schema);
                }
            }
            ("required", Some(Value::Array(known)), Value::Array(more)) => {
                for name in more {
                    if !known.contains(&name) {
                        known.push(name);
                    }
                }
            }
            // A member without extra fields would refuse those of the other.
            ("additionalProperties", Some(known @ Value::Bool(false)), Value::Bool(false)) => {
                *known = Value::Bool(false);
            }
            // What is said beside a reference is said of this use of it.
            ("description", Some(known), value) => *known = value,
            _ => {}
        }
    }
}

/// The type, or the types; that it may be null, as both versions say it.
fn kind(schema: &Value) -> Option<Value> {
    const KNOWN: [&str; 7] = [
        "string", "integer", "number", "boolean", "array", "object", "null",
    ];
    let mut kinds: Vec<&str> = match schema.get("type") {
        Some(Value::String(kind)) => vec![kind],
        Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if kinds.is_empty() || kinds.iter().any(|kind| !KNOWN.contains(kind)) {
        return None;
    }
    if is_true(schema, "nullable") {
        kinds.push("null");
    }
    let mut known: Vec<&str> = Vec::new();
    for kind in kinds {
        if !known.contains(&kind) {
            known.push(kind);
        }
    }
    match known.as_slice() {
        [kind] => Some(json!(kind)),
        kinds => Some(json!(kinds)),
    }
}

fn usable(pattern: &str) -> bool {
    pattern.len() <= LONGEST_PATTERN
        && crate::arguments::Validators::default()
            .of(&json!({"type": "string", "pattern": pattern}))
            .is_ok()
}

fn has_no_null(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Array(items) => items.iter().all(has_no_null),
        Value::Object(fields) => fields.values().all(has_no_null),
        _ => true,
    }
}

/// The types that a plain schema names, and whether null is one of them.
pub(super) fn kinds(plain: &Map<String, Value>) -> (Vec<&str>, bool) {
    let mut kinds: Vec<&str> = match plain.get("type") {
        Some(Value::String(kind)) => vec![kind],
        Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let nullable = kinds.contains(&"null");
    kinds.retain(|kind| *kind != "null");
    (kinds, nullable)
}

/// A number of JSON as TOML can say it.
pub(super) fn as_i64(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| {
        let number = value.as_number().and_then(Number::as_f64)?;
        // Whole, and small enough to be exact.
        #[expect(
            clippy::cast_possible_truncation,
            reason = "it is whole and below 2^53"
        )]
        (number.fract() == 0.0 && number.abs() < 9e15).then_some(number as i64)
    })
}
