//! Bodies: of properties that become arguments, or one argument as a whole.

use serde_json::{Map, Value, json};

use super::{
    document::{Document, is_true, items, members, reference},
    operation::Operation,
    schema::Inliner,
};

/// How deep `allOf` may be nested.
const DEEPEST: usize = 8;

/// Further conditions are left to the service.
const MOST_CLAUSES: usize = 16;

/// How a body is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Written {
    #[default]
    Json,
    /// JSON that says what is to change.
    MergePatch,
    Form,
}

/// The body of an operation.
pub(super) enum Body<'a> {
    None,
    /// An object: each property is an argument.
    Properties {
        properties: Vec<(&'a String, &'a Value)>,
        required: Vec<&'a str>,
        /// Of each of these sets one must be given.
        at_least_one: Vec<Vec<String>>,
        written: Written,
    },
    /// Anything else: one argument.
    Whole {
        schema: &'a Value,
        required: bool,
        written: Written,
    },
}

pub(super) fn body<'a>(
    document: &'a Document,
    operation: Operation<'a>,
) -> Result<Body<'a>, String> {
    let Some(body) = operation.value.get("requestBody") else {
        return Ok(Body::None);
    };
    let body = document
        .follow(body)
        .map_err(|bad| format!("has a body that {}", bad.why()))?;
    let required = is_true(body, "required");
    if operation.method == "GET" {
        return if required {
            Err("is a GET request with a body".to_owned())
        } else {
            Ok(Body::None)
        };
    }
    let Some((written, media)) = media(body) else {
        let mut kinds: Vec<String> = members(body.get("content"))
            .map(|(kind, _)| super::document::line(kind, 60))
            .collect();
        kinds.sort();
        return if required {
            Err(format!(
                "is sent {}, not JSON, a merge patch or a form",
                kinds.join(" or ")
            ))
        } else {
            Ok(Body::None)
        };
    };
    let Some(schema) = media.get("schema") else {
        return Ok(Body::Whole {
            schema: media,
            required,
            written,
        });
    };
    let mut shape = Shape::default();
    if !shape.add(document, schema, 0) || shape.properties.is_empty() {
        return Ok(Body::Whole {
            schema,
            required,
            written,
        });
    }
    let readable = Inliner::new(document);
    let properties: Vec<(&String, &Value)> = shape
        .properties
        .into_iter()
        .filter(|(_, property)| !readable.is_read_only(property))
        .collect();
    if properties.is_empty() {
        return Ok(Body::None);
    }
    let is_there = |name: &str| properties.iter().any(|(known, _)| *known == name);
    // What an optional body needs if it is sent is not needed.
    let all: Vec<&str> = shape
        .required
        .into_iter()
        .filter(|name| is_there(name))
        .collect();
    let mut at_least_one = Vec::new();
    for mut sets in shape.one_of {
        for set in &mut sets {
            set.retain(|name| !all.contains(&name.as_str()));
        }
        // Nobody can give what is no property.
        sets.retain(|set| set.iter().all(|name| is_there(name)));
        at_least_one.extend(clauses(&sets));
    }
    if shape.not_empty && all.is_empty() {
        at_least_one.push(properties.iter().map(|(name, _)| (*name).clone()).collect());
    }
    Ok(Body::Properties {
        properties,
        required: all,
        at_least_one,
        written,
    })
}

/// JSON before a patch, and that before forms.
fn media(body: &Value) -> Option<(Written, &Value)> {
    let kind = |wanted: &dyn Fn(&str) -> bool| {
        members(body.get("content")).find_map(|(kind, media)| {
            let kind = kind.split(';').next().unwrap_or_default().trim();
            wanted(&kind.to_ascii_lowercase()).then_some(media)
        })
    };
    let json = kind(&|kind| kind == "application/json")
        .or_else(|| kind(&|kind| kind == "*/*" || kind == "application/*"));
    let patch = || kind(&|kind| kind == "application/merge-patch+json");
    let form = || kind(&|kind| kind == "application/x-www-form-urlencoded");
    json.map(|media| (Written::Json, media))
        .or_else(|| Some((Written::MergePatch, patch()?)))
        .or_else(|| Some((Written::Form, form()?)))
}

/// What the properties of an object are, however its schema is put together.
#[derive(Default)]
struct Shape<'a> {
    properties: Vec<(&'a String, &'a Value)>,
    required: Vec<&'a str>,
    /// Of each of these one set must be given.
    one_of: Vec<Vec<Vec<String>>>,
    not_empty: bool,
}

impl<'a> Shape<'a> {
    /// Whether it is an object of named properties alone.
    fn add(&mut self, document: &'a Document, schema: &'a Value, depth: usize) -> bool {
        if depth > DEEPEST {
            return false;
        }
        let schema = if reference(schema).is_some() {
            match document.follow(schema) {
                Ok(schema) => schema,
                Err(_) => return false,
            }
        } else {
            schema
        };
        let object = match schema.get("type") {
            None => true,
            Some(Value::String(kind)) => kind == "object",
            Some(Value::Array(kinds)) => kinds.contains(&json!("object")),
            Some(_) => false,
        };
        // Names that agents may choose stand beside those that we know: all of it is one.
        let open = schema
            .get("additionalProperties")
            .is_some_and(Value::is_object)
            || schema.get("patternProperties").is_some();
        if !object || open {
            return false;
        }
        for (name, property) in members(schema.get("properties")) {
            if let Some(known) = self.properties.iter_mut().find(|(known, _)| *known == name) {
                known.1 = property;
            } else {
                self.properties.push((name, property));
            }
        }
        for name in items(schema.get("required")).filter_map(Value::as_str) {
            if !self.required.contains(&name) {
                self.required.push(name);
            }
        }
        self.not_empty |= schema
            .get("minProperties")
            .and_then(Value::as_u64)
            .is_some_and(|least| least > 0);
        if !items(schema.get("allOf")).all(|part| self.add(document, part, depth + 1)) {
            return false;
        }
        ["anyOf", "oneOf"].iter().all(|key| {
            let parts: Vec<&Value> = items(schema.get(*key)).collect();
            if parts.is_empty() {
                return true;
            }
            match alternatives(document, &parts) {
                Some(sets) => {
                    self.one_of.push(sets);
                    !self.properties.is_empty()
                }
                None => false,
            }
        })
    }
}

/// Alternatives that only say which properties must be there; none if they say more.
fn alternatives(document: &Document, parts: &[&Value]) -> Option<Vec<Vec<String>>> {
    let sets = parts.iter().map(|part| {
        let part: &Map<String, Value> = document.follow(part).ok()?.as_object()?;
        let only = part.iter().all(|(key, value)| {
            matches!(key.as_str(), "required" | "title" | "description")
                || key == "type" && *value == json!("object")
        });
        let names = items(part.get("required")).filter_map(Value::as_str);
        only.then(|| names.map(str::to_owned).collect())
    });
    sets.collect()
}

/// `a, or b and c` as `a or b, and a or c`: of each set one must be given.
fn clauses(sets: &[Vec<String>]) -> Vec<Vec<String>> {
    let mut clauses: Vec<Vec<String>> = vec![Vec::new()];
    for set in sets {
        if clauses.len() * set.len() > MOST_CLAUSES {
            return Vec::new();
        }
        clauses = clauses
            .iter()
            .flat_map(|clause| {
                set.iter().map(|name| {
                    let mut clause = clause.clone();
                    if !clause.contains(name) {
                        clause.push(name.clone());
                    }
                    clause
                })
            })
            .collect();
    }
    clauses.retain(|clause| !clause.is_empty());
    clauses.sort();
    clauses.dedup();
    clauses
}
