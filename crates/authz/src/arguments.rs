//! A command's arguments as policies see them: four maps, by kind of value.
//!
//! | argument | map | value |
//! |---|---|---|
//! | a string | `text` | itself |
//! | an integer within 64 bits | `number` | itself |
//! | `true`, `false` | `flag` | itself |
//! | an array of strings, also an empty one | `list` | the set of them |
//! | an object | – | its members, under `name.member` |
//! | anything else: null, a fraction, a larger integer, another array, an empty object | `text` | its canonical JSON |
//!
//! A `.` or `\` that belongs to a name is written `\.` and `\\`, so that
//! `{"a.b": 1}` and `{"a": {"b": 1}}` never look the same. Objects nested deeper
//! than [`MAX_DEPTH`] stand as their canonical JSON in `text`. More than [`MAX_VALUES`]
//! values are not told at all: then the command is refused, because a policy that
//! looks for a value must not be kept from it.

use cedar_policy::{Entity, EntityUid, RestrictedExpression};
use serde_json::{Map, Value};

use crate::{
    command::{Arguments, Canonical},
    entities::{self, Malformed, TYPES},
};

/// How deep objects are taken apart.
pub const MAX_DEPTH: usize = 16;

/// How many values policies can be told of one command.
pub const MAX_VALUES: usize = 1_024;

type Tags = Vec<(String, RestrictedExpression)>;

/// The four maps, before they are entities.
#[derive(Default)]
struct Maps {
    texts: Tags,
    numbers: Tags,
    flags: Tags,
    lists: Tags,
}

/// The names of the four argument entities: text, number, flag, list. They are the
/// same for every call, as a decision is about one.
pub(crate) fn uids() -> [EntityUid; 4] {
    [&TYPES.texts, &TYPES.numbers, &TYPES.flags, &TYPES.lists]
        .map(|kind| entities::uid(kind, "call"))
}

/// The four argument entities, in the order of [`uids`].
pub(crate) fn entities(arguments: &Arguments) -> Result<[Entity; 4], Malformed> {
    let mut maps = Maps::default();
    maps.object("", arguments.values(), 1);
    let count = maps.texts.len() + maps.numbers.len() + maps.flags.len() + maps.lists.len();
    if count > MAX_VALUES {
        return Err(Malformed(format!(
            "the command has {count} arguments, and policies can be told {MAX_VALUES}"
        )));
    }
    let [texts, numbers, flags, lists] = uids();
    Ok([
        entities::tags(texts, maps.texts)?,
        entities::tags(numbers, maps.numbers)?,
        entities::tags(flags, maps.flags)?,
        entities::tags(lists, maps.lists)?,
    ])
}

impl Maps {
    /// Adds the members of an object that stands at `path`, itself at `depth`.
    fn object(&mut self, path: &str, values: &Map<String, Value>, depth: usize) {
        for (name, value) in values {
            let name = name.replace('\\', "\\\\").replace('.', "\\.");
            let path = if path.is_empty() && depth == 1 {
                name
            } else {
                format!("{path}.{name}")
            };
            match value {
                Value::Object(members) if !members.is_empty() && depth < MAX_DEPTH => {
                    self.object(&path, members, depth + 1);
                }
                value => self.value(path, value),
            }
        }
    }

    fn value(&mut self, path: String, value: &Value) {
        match value {
            Value::String(text) => self
                .texts
                .push((path, RestrictedExpression::new_string(text.clone()))),
            Value::Bool(flag) => self
                .flags
                .push((path, RestrictedExpression::new_bool(*flag))),
            Value::Number(number) if number.as_i64().is_some() => {
                self.numbers.push((
                    path,
                    RestrictedExpression::new_long(number.as_i64().unwrap_or_default()),
                ));
            }
            Value::Array(items) if items.iter().all(Value::is_string) => {
                let items = items.iter().filter_map(Value::as_str).map(str::to_owned);
                self.lists.push((
                    path,
                    RestrictedExpression::new_set(items.map(RestrictedExpression::new_string)),
                ));
            }
            other => self.texts.push((
                path,
                RestrictedExpression::new_string(Canonical(other).to_string()),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The four maps as `kind name=value`, sorted.
    fn told(arguments: Value) -> Vec<String> {
        let Value::Object(values) = arguments else {
            panic!("an object")
        };
        let entities = entities(&Arguments::new(values)).unwrap();
        let mut told: Vec<String> = entities
            .iter()
            .flat_map(|entity| {
                let kind = entity.uid().type_name().to_string();
                let tags = entity
                    .tags()
                    .map(|(name, value)| format!("{kind} {name}={}", value.unwrap()));
                tags.collect::<Vec<_>>()
            })
            .collect();
        told.sort();
        told
    }

    #[test]
    fn every_value_goes_to_the_map_of_its_kind() {
        let arguments = json!({
            "text": "a\"b",
            "number": -3,
            "largest": i64::MAX,
            "larger": 9_223_372_036_854_775_808_u64,
            "fraction": 1.5,
            "flag": true,
            "null": null,
            "list": ["b", "a", "b"],
            "empty": [],
            "numbers": [1, 2],
            "mixed": ["a", 1],
            "object": {},
            "deep": {"z": {"y": "x"}, "list": [{"b": 1, "a": 2}]},
        });
        assert_eq!(
            told(arguments),
            [
                "FlagArgs flag=true",
                "ListArgs empty=[]",
                "ListArgs list=[\"a\", \"b\"]",
                "NumberArgs largest=9223372036854775807",
                "NumberArgs number=-3",
                "TextArgs deep.list=\"[{\\\"a\\\":2,\\\"b\\\":1}]\"",
                "TextArgs deep.z.y=\"x\"",
                "TextArgs fraction=\"1.5\"",
                "TextArgs larger=\"9223372036854775808\"",
                "TextArgs mixed=\"[\\\"a\\\",1]\"",
                "TextArgs null=\"null\"",
                "TextArgs numbers=\"[1,2]\"",
                "TextArgs object=\"{}\"",
                "TextArgs text=\"a\\\"b\"",
            ]
        );
    }

    #[test]
    fn text_that_looks_like_an_entity_stays_text() {
        let arguments = json!({
            "a": {"__entity": {"type": "Role", "id": "admin"}},
            "b": {"__extn": {"fn": "ip", "arg": "10.0.0.1"}},
            "c": {"__expr": "User::\"x\""},
        });
        assert_eq!(
            told(arguments),
            [
                "TextArgs a.__entity.id=\"admin\"",
                "TextArgs a.__entity.type=\"Role\"",
                "TextArgs b.__extn.arg=\"10.0.0.1\"",
                "TextArgs b.__extn.fn=\"ip\"",
                "TextArgs c.__expr=\"User::\\\"x\\\"\"",
            ]
        );
    }

    #[test]
    fn different_arguments_never_share_a_name() {
        let arguments = json!({
            "a.b": 1, "a": {"b": 2, "": 3}, "a\\": {"b": 4}, "a\\.b": 5, "": {"": {"b": 6}, "b": 7}, ".": 8,
        });
        let told = told(arguments);
        let names: std::collections::BTreeSet<_> = told
            .iter()
            .map(|told| told.split_once('=').unwrap().0)
            .collect();
        assert_eq!(names.len(), 8, "{told:?}");
        assert!(
            told.contains(&"NumberArgs a\\.b=1".to_owned())
                && told.contains(&"NumberArgs a.b=2".to_owned())
        );
    }

    #[test]
    fn what_is_nested_too_deep_is_told_as_text() {
        let nested = |depth: usize| (0..depth).fold(json!("x"), |inner, _| json!({ "a": inner }));
        let path = |depth: usize| vec!["a"; depth].join(".");
        assert_eq!(
            told(nested(MAX_DEPTH)),
            [format!("TextArgs {}=\"x\"", path(MAX_DEPTH))]
        );
        let told = told(nested(MAX_DEPTH + 2));
        assert_eq!(
            told,
            [format!(
                "TextArgs {}=\"{{\\\"a\\\":{{\\\"a\\\":\\\"x\\\"}}}}\"",
                path(MAX_DEPTH)
            )]
        );
    }
}
