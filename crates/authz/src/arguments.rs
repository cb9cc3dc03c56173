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

/// One value as policies are told it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// In `text`.
    Text(String),
    /// In `number`.
    Number(i64),
    /// In `flag`.
    Flag(bool),
    /// In `list`. A set to policies: order and repetition do not matter.
    List(Vec<String>),
}

/// What policies are told of these arguments, under which name each; no name is there
/// twice. There may be more than [`MAX_VALUES`]: then the command is refused.
#[must_use]
pub fn told(arguments: &Arguments) -> Vec<(String, Told)> {
    let mut values = Vec::new();
    object("", arguments.values(), 1, &mut values);
    values
}

/// The names of the four argument entities: text, number, flag, list. They are the
/// same for every call, as a decision is about one.
pub(crate) fn uids() -> [EntityUid; 4] {
    [&TYPES.texts, &TYPES.numbers, &TYPES.flags, &TYPES.lists]
        .map(|kind| entities::uid(kind, "call"))
}

/// Of the four argument entities those that hold something, in the order of [`uids`].
pub(crate) fn entities(arguments: &Arguments) -> Result<Vec<Entity>, Malformed> {
    let told = told(arguments);
    if told.len() > MAX_VALUES {
        return Err(Malformed::misfit(format!(
            "the command has {} arguments, and policies can be told {MAX_VALUES}",
            told.len()
        )));
    }
    let (mut texts, mut numbers, mut flags, mut lists) = (vec![], vec![], vec![], vec![]);
    for (name, value) in told {
        match value {
            Told::Text(text) => texts.push((name, RestrictedExpression::new_string(text))),
            Told::Number(number) => numbers.push((name, RestrictedExpression::new_long(number))),
            Told::Flag(flag) => flags.push((name, RestrictedExpression::new_bool(flag))),
            Told::List(items) => {
                let items = items.into_iter().map(RestrictedExpression::new_string);
                lists.push((name, RestrictedExpression::new_set(items)));
            }
        }
    }
    // Of an entity that is not there, `hasTag` is false, as it is of one without tags.
    uids()
        .into_iter()
        .zip([texts, numbers, flags, lists])
        .filter(|(_, tags)| !tags.is_empty())
        .map(|(uid, tags)| entities::tags(uid, tags))
        .collect()
}

/// Adds the members of an object that stands at `path`, itself at `depth`.
fn object(
    path: &str,
    members: &Map<String, Value>,
    depth: usize,
    values: &mut Vec<(String, Told)>,
) {
    for (name, value) in members {
        let name = name.replace('\\', "\\\\").replace('.', "\\.");
        let path = if depth == 1 {
            name
        } else {
            format!("{path}.{name}")
        };
        match value {
            Value::Object(members) if !members.is_empty() && depth < MAX_DEPTH => {
                object(&path, members, depth + 1, values);
            }
            value => values.push((path, one(value))),
        }
    }
}

/// A value that is not taken apart.
fn one(value: &Value) -> Told {
    let as_json = || Told::Text(Canonical(value).to_string());
    match value {
        Value::String(text) => Told::Text(text.clone()),
        Value::Bool(flag) => Told::Flag(*flag),
        Value::Number(number) => number.as_i64().map_or_else(as_json, Told::Number),
        Value::Array(items) => items
            .iter()
            .map(|item| item.as_str().map(str::to_owned))
            .collect::<Option<_>>()
            .map_or_else(as_json, Told::List),
        Value::Null | Value::Object(_) => as_json(),
    }
}

#[cfg(test)]
mod tests {
    use cedar_policy::EvalResult;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::{Risk, fixtures::*};

    /// The four maps as `kind name=value`, sorted.
    fn maps(arguments: Value) -> Vec<String> {
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
            maps(arguments),
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
            maps(arguments),
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
        let told = maps(arguments);
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
            maps(nested(MAX_DEPTH)),
            [format!("TextArgs {}=\"x\"", path(MAX_DEPTH))]
        );
        let told = maps(nested(MAX_DEPTH + 2));
        assert_eq!(
            told,
            [format!(
                "TextArgs {}=\"{{\\\"a\\\":{{\\\"a\\\":\\\"x\\\"}}}}\"",
                path(MAX_DEPTH)
            )]
        );
    }

    /// The cells of the documentation's tables, and the policies between its tables.
    const MANUAL: &str = include_str!("../../../docs/arguments.md");

    #[test]
    fn the_table_in_the_manual_is_true() {
        let mut rows = 0;
        for line in MANUAL.lines().filter(|line| line.starts_with("| `{")) {
            let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
            let [arguments, map, name, value] = cells[..] else {
                panic!("four cells: {line}")
            };
            let code = |cell: &str| cell.trim_matches('`').to_owned();
            let values: Map<String, Value> = serde_json::from_str(&code(arguments)).unwrap();
            let told = maps(values.into());
            let kind = match map {
                "text" => "TextArgs",
                "number" => "NumberArgs",
                "flag" => "FlagArgs",
                "list" => "ListArgs",
                other => panic!("{other}"),
            };
            let expected = format!("{kind} {}={}", code(name), code(value));
            assert!(told.contains(&expected), "{line}: {told:?}");
            rows += 1;
        }
        assert_eq!(rows, 30);
    }

    #[test]
    fn the_policies_in_the_manual_load_and_refuse_what_they_say() {
        let snippets = |language: &str| -> Vec<&str> {
            MANUAL
                .split(&format!("```{language}\n"))
                .skip(1)
                .map(|rest| rest.split("```").next().unwrap())
                .collect()
        };
        let mut sources = shipped_sources();
        let (schema, policies) = (snippets("cedarschema"), snippets("cedar"));
        assert_eq!((schema.len(), policies.len()), (1, 3));
        sources.schema.text.push_str(schema[0]);
        sources.policies.push(crate::Source {
            name: "policies/manual.cedar".to_owned(),
            text: policies.join("\n"),
        });
        let policies = load(&sources);
        let mut allowed = agent();
        allowed.allowed_mcps = ["github", "stripe", "coolify"]
            .map(|name| name.parse().unwrap())
            .into();
        let bot = principal(allowed, Vec::new());
        let repo = "github.only-our-repositories";
        let refund = "stripe.small-refunds";
        for (key, arguments, refusing) in [
            ("github/create-issue", json!({"repo": "acme/web"}), None),
            (
                "github/create-issue",
                json!({"repo": "evil/web"}),
                Some(repo),
            ),
            (
                "github/create-issue",
                json!({"repo": ["acme/web"]}),
                Some(repo),
            ),
            ("github/create-issue", json!({}), Some(repo)),
            ("stripe/create-refund", json!({"amount": 10_000}), None),
            (
                "stripe/create-refund",
                json!({"amount": 10_001}),
                Some(refund),
            ),
            ("stripe/create-refund", json!({"amount": 1.0}), Some(refund)),
            (
                "stripe/create-refund",
                json!({"amount": u64::MAX}),
                Some(refund),
            ),
            ("stripe/create-refund", json!({"amount": "1"}), Some(refund)),
            ("stripe/create-refund", json!({}), Some(refund)),
            ("coolify/deploy", json!({"uuid": "a", "force": false}), None),
            (
                "coolify/deploy",
                json!({"uuid": "a", "force": true}),
                Some("coolify.no-forced-deployment"),
            ),
        ] {
            let shown = arguments.to_string();
            let command = command(target(key, Risk::Write), arguments);
            let decision = decided(&policies, &bot, &command, NOON);
            match refusing {
                None => drop(permit(decision)),
                Some(policy) => assert_eq!(refusal(decision).policies, [policy], "{shown}"),
            }
        }
    }

    /// Any JSON, odd on purpose.
    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            text().prop_map(Value::from),
        ];
        leaf.prop_recursive(20, 60, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec(text().prop_map(Value::from), 0..4).prop_map(Value::from),
                prop::collection::hash_map(text(), inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    fn text() -> impl Strategy<Value = String> {
        prop_oneof![
            Just("__entity".to_owned()),
            Just("__extn".to_owned()),
            Just("__expr".to_owned()),
            Just("type".to_owned()),
            Just("fn".to_owned()),
            Just("Role::\"admin\"".to_owned()),
            "[a.\\\\]{0,3}",
            any::<String>(),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

        #[test]
        fn any_arguments_become_the_documented_tags_and_nothing_else(
            values in prop::collection::hash_map(text(), json(), 0..6)
        ) {
            let arguments = Arguments::new(values.into_iter().collect());
            let told = told(&arguments);
            let entities = entities(&arguments).unwrap();
            let mut found = 0;
            for entity in &entities {
                let kind = entity.uid().type_name().to_string();
                let kind = kind.as_str();
                prop_assert!(uids().contains(&entity.uid()));
                prop_assert!(entity.tags().count() > 0);
                prop_assert_eq!(entity.attrs().count(), 0);
                for (name, value) in entity.tags() {
                    let of_name: Vec<&Told> = told
                        .iter()
                        .filter(|(other, _)| other == name)
                        .map(|(_, told)| told)
                        .collect();
                    prop_assert_eq!(of_name.len(), 1, "{:?} is told once", name);
                    let as_cedar = match (kind, value.unwrap()) {
                        ("TextArgs", EvalResult::String(text)) => Told::Text(text),
                        ("NumberArgs", EvalResult::Long(number)) => Told::Number(number),
                        ("FlagArgs", EvalResult::Bool(flag)) => Told::Flag(flag),
                        ("ListArgs", EvalResult::Set(items)) => Told::List(
                            items
                                .iter()
                                .map(|item| match item {
                                    EvalResult::String(text) => text.clone(),
                                    other => panic!("{other}"),
                                })
                                .collect(),
                        ),
                        (kind, other) => panic!("{kind} {other}"),
                    };
                    let as_set = |told: &Told| match told {
                        Told::List(items) => {
                            let mut items = items.clone();
                            items.sort();
                            items.dedup();
                            Told::List(items)
                        }
                        other => other.clone(),
                    };
                    prop_assert_eq!(as_set(of_name[0]), as_set(&as_cedar));
                    found += 1;
                }
            }
            prop_assert_eq!(found, told.len());
        }
    }
}
