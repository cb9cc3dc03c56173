use serde_json::json;

use super::*;
use crate::grammar;

fn words(set: &ArgumentSet, text: &str) -> Result<Value, Vec<String>> {
    let line = grammar::split(&format!("/mcp-x {text}")).unwrap();
    set.read_words(&line.words, Map::new()).map(Value::Object)
}

#[test]
fn a_tools_arguments_are_typed_by_its_schema() {
    let schema = json!({
        "type": "object",
        "properties": {
            "head": {"type": ["integer", "null"], "minimum": 1},
            "path": {"type": "string"},
            "all": {"type": "boolean"},
            "mode": {"enum": ["a", "b"]},
            "edits": {"type": "array", "items": {"type": "object"}},
            "any": {},
        },
        "required": ["path"],
        "additionalProperties": false,
    });
    let set = ArgumentSet::of_tool(&schema, true);
    assert_eq!(
        set.usage(),
        " <path> [--head <integer>] [--all] [--mode <string>] [--edits <array>] [--any <object>]"
    );
    assert_eq!(
        words(
            &set,
            "/tmp/x --head 3 --all --mode b --edits [{\"a\":1}] --any '\"t\"'"
        ),
        Ok(
            json!({"path": "/tmp/x", "head": 3, "all": true, "mode": "b", "edits": [{"a": 1}], "any": "t"})
        )
    );
    let cases = [
        ("--head 3", "`path` is missing"),
        ("x --head 0", "`head`: value is less than"),
        ("x --mode c", "`mode`: value is not one of"),
        ("x --tail 3", "no argument is called `tail`"),
        ("x y", "takes only 1"),
    ];
    for (text, expected) in cases {
        let problems = words(&set, text).unwrap_err().join("; ");
        assert!(problems.contains(expected), "{text}: {problems}");
    }
    assert!(
        set.read_value(json!({"path": "x", "more": 1}), Map::new())
            .is_err()
    );
}

#[test]
fn what_goes_to_a_tool_is_what_was_sent() {
    let schema = json!({
        "type": "object",
        "properties": {"a_b": {"type": "integer", "default": 7}},
    });
    for reviewed in [true, false] {
        let arguments = ArgumentSet::of_tool(&schema, reviewed);
        let sent = json!({"a-b": 1, "other": [1]});
        assert_eq!(
            arguments
                .read_value(sent.clone(), Map::new())
                .map(Value::Object),
            Ok(sent)
        );
        assert_eq!(
            arguments
                .read_value(json!({}), Map::new())
                .map(Value::Object),
            Ok(json!({}))
        );
    }
}

/// A schema may come from anybody: it neither fetches, nor runs for ever, nor overflows.
#[test]
fn a_hostile_schema_does_no_harm() {
    for schema in [
        json!({"$ref": "#"}),
        json!({"allOf": [{"$ref": "#"}]}),
        json!({"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/b"}]}, "b": {"not": {"$ref": "#/$defs/a"}}}}),
        json!({"$ref": "https://schemas.example/x.json"}),
        json!({"$ref": "#a", "$defs": {"a": {"$anchor": "a", "$ref": "#a"}}}),
        json!({"properties": {"a": {"$id": "b", "$ref": "#"}}}),
        json!({"properties": {"a": {"pattern": "(((("}}}),
    ] {
        let set = ArgumentSet::of_tool(&schema, true);
        let problems = set.read_value(json!({"a": "x"}), Map::new()).unwrap_err();
        assert!(
            problems[0].contains("cannot be used"),
            "{schema}: {problems:?}"
        );
        // Before the review nobody runs it.
        assert!(
            ArgumentSet::of_tool(&schema, false)
                .read_value(json!({"a": 1}), Map::new())
                .is_ok()
        );
    }
    // Going deeper ends where the value does.
    let tree = json!({"properties": {"a": {"$ref": "#"}}, "additionalProperties": false});
    let set = ArgumentSet::of_tool(&tree, true);
    assert!(
        set.read_value(json!({"a": {"a": {"a": {}}}}), Map::new())
            .is_ok()
    );
    assert!(set.read_value(json!({"a": {"b": 1}}), Map::new()).is_err());
    let slow = json!({"properties": {"a": {"type": "string", "pattern": "^(a|a?)+(?=x)$"}}});
    let set = ArgumentSet::of_tool(&slow, true);
    assert!(
        set.read_value(json!({"a": "a".repeat(64)}), Map::new())
            .is_err()
    );
}
