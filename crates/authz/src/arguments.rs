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
