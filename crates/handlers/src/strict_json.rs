//! JSON that every parser reads alike: what two could read differently is refused.

use std::fmt;

use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::jsonrpc::PRIVATE;

/// How deep arrays and objects may nest.
pub const MAX_DEPTH: usize = 64;

/// From here on a double no longer holds every integer.
const EXACT_INTEGERS: f64 = 9_007_199_254_740_992.0;

/// Why bytes are not strict JSON.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StrictJsonError {
    /// Not UTF-8.
    #[error("invalid UTF-8 after byte {valid_up_to}")]
    Utf8 {
        /// So many bytes were valid.
        valid_up_to: usize,
    },
    /// Not JSON, or JSON that parsers disagree about.
    #[error("{reason}")]
    Json {
        /// What is wrong, with line and column.
        reason: String,
    },
}

/// Reads one JSON value.
///
/// # Errors
///
/// Beyond what is not JSON at all: a key that occurs twice in one object, at any level, or by
/// which `serde_json` hands itself values;
/// nesting deeper than [`MAX_DEPTH`]; an integer that cannot be kept exactly; data after
/// the value; bytes that are not UTF-8.
pub fn parse(bytes: &[u8]) -> Result<Value, StrictJsonError> {
    let text = std::str::from_utf8(bytes).map_err(|error| StrictJsonError::Utf8 {
        valid_up_to: error.valid_up_to(),
    })?;
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = Strict { depth: 0 }
        .deserialize(&mut reader)
        .map_err(refused)?;
    reader.end().map_err(refused)?;
    Ok(value)
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "it is the argument of `map_err`"
)]
fn refused(error: serde_json::Error) -> StrictJsonError {
    StrictJsonError::Json {
        reason: error.to_string(),
    }
}

#[derive(Clone, Copy)]
struct Strict {
    depth: usize,
}

impl Strict {
    fn deeper<E: de::Error>(self) -> Result<Self, E> {
        if self.depth == MAX_DEPTH {
            return Err(E::custom(format_args!(
                "nested deeper than {MAX_DEPTH} levels"
            )));
        }
        Ok(Self {
            depth: self.depth + 1,
        })
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        // An integer too large for 64 bits arrives here rounded.
        if value.fract() == 0.0 && value.abs() >= EXACT_INTEGERS {
            return Err(E::custom("a number too large to be kept exactly"));
        }
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("a number out of range"))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::String(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::String(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inside = self.deeper()?;
        let mut values = Vec::new();
        while let Some(value) = items.next_element_seed(inside)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let inside = self.deeper()?;
        let mut values = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let private = key.starts_with(PRIVATE);
            if private || values.contains_key(&key) {
                let shown: String = key
                    .chars()
                    .take(64)
                    .flat_map(char::escape_default)
                    .collect();
                let what = if private {
                    "has a meaning of its own to some parsers"
                } else {
                    "occurs twice"
                };
                return Err(de::Error::custom(format_args!("key `{shown}` {what}")));
            }
            let value = entries.next_value_seed(inside)?;
            values.insert(key, value);
        }
        Ok(Value::Object(values))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            (-1.0e15..1.0e15).prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(6, 48, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map(any::<String>(), inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_serde_json_writes_is_read_back(value in json(), pretty in any::<bool>()) {
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
            let ours = parse(text.as_bytes());
            let theirs: Value = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(ours, Ok(theirs));
        }

        #[test]
        fn whatever_it_accepts_serde_json_reads_alike(bytes in "[\\[\\]{}\",:0-9a-c\\\\ .eE+-]{0,24}") {
            if let Ok(ours) = parse(bytes.as_bytes()) {
                let theirs: Value = serde_json::from_str(&bytes).unwrap();
                prop_assert_eq!(ours, theirs);
            }
        }
    }

    #[test]
    fn what_parsers_read_differently_is_refused() {
        let deep = format!("{}{}", "[".repeat(65), "]".repeat(65));
        let cases: &[(&str, &[u8])] = &[
            ("occurs twice", br#"{"a":1,"a":2}"#),
            ("occurs twice", br#"[{"x":{"a":1,"b":2,"\u0061":3}}]"#),
            (
                "meaning of its own",
                br#"[{"a":{"$serde_json::private::RawValue":"1"}}]"#,
            ),
            (
                "meaning of its own",
                br#"{"\u0024serde_json::private::Number":"1"}"#,
            ),
            ("trailing", br#"{"a":1} {"a":2}"#),
            ("trailing", b"1 2"),
            ("invalid UTF-8", b"{\"a\":\"\xff\"}"),
            ("invalid UTF-8", b"\xed\xa0\x80"),
            ("hex escape", br#""\ud800""#),
            ("nested deeper", deep.as_bytes()),
            ("kept exactly", b"18446744073709551617"),
            ("out of range", b"1e999"),
            ("control character", b"\"a\nb\""),
            ("EOF", b""),
            ("EOF", b"{\"a\":"),
            ("key must be a string", b"{'a':1}"),
            ("expected", b"NaN"),
            ("expected", b"\xef\xbb\xbf{}"),
        ];
        for (expected, bytes) in cases {
            let error = parse(bytes).expect_err(expected).to_string();
            assert!(error.contains(expected), "{error} does not say {expected}");
        }
    }

    #[test]
    fn sixty_four_levels_are_read() {
        assert!(parse(format!("{}{}", "[".repeat(64), "]".repeat(64)).as_bytes()).is_ok());
    }

    #[test]
    fn the_same_key_in_two_objects_is_no_duplicate() {
        assert!(parse(br#"{"a":{"a":1},"b":[{"a":2},{"a":3}]}"#).is_ok());
    }
}
