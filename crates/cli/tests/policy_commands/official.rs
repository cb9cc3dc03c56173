//! The form of Cedar's own tool: what it writes is taken, and what we write it takes.

use std::fs;

use serde_json::{Value, json};

use crate::{cedargate, folder, json as parsed, without_tests};

/// The shipped tests in that form.
fn exported() -> Vec<Value> {
    let folder = folder();
    let (code, out, err) = cedargate(folder.path(), &["export", "policies"]);
    assert_eq!(code, 0, "{err}");
    let Value::Array(tests) = parsed(&out) else {
        panic!("{out}")
    };
    assert!(
        err.starts_with(&format!("{} tests written; ", tests.len())),
        "{err}"
    );
    tests
}

#[test]
fn what_is_written_reads_back_and_notices_what_changes() {
    let tests = exported();
    let request = &tests[0]["request"];
    for (member, kind) in [
        ("principal", "::\""),
        ("action", "Action::\""),
        ("resource", "::\""),
    ] {
        assert!(
            request[member].as_str().unwrap().contains(kind),
            "{request}"
        );
    }
    assert!(request["context"]["now"].is_object(), "{request}");
    assert!(tests.iter().any(|test| test["decision"] == "allow"));
    assert!(tests.iter().any(|test| test["decision"] == "deny"));

    // Beside the policies it is found by what it is; another JSON file is left alone.
    let folder = without_tests();
    let own = folder.path().join("policies/moved.json");
    fs::write(&own, serde_json::to_string_pretty(&tests).unwrap()).unwrap();
    fs::write(folder.path().join("policies/other.json"), "{\"a\": [1]}").unwrap();
    let (code, out, err) = cedargate(folder.path(), &["test", "policies"]);
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.starts_with(&format!("{} passed", tests.len())), "{out}");

    // Each thing that a test says is looked at.
    let allowed = tests
        .iter()
        .find(|test| test["decision"] == "allow" && test["reason"][0].is_string());
    let allowed = allowed.unwrap();
    let mut other = vec![
        allowed.clone(),
        allowed.clone(),
        allowed.clone(),
        allowed.clone(),
    ];
    other[0]["decision"] = json!("deny");
    other[1]["reason"] = json!(["wall.destroy-needs-two"]);
    other[2]["num_errors"] = json!(1);
    other[3]["reason"] = json!([]);
    other[3].as_object_mut().unwrap().remove("name");
    other[3]["whatever"] = json!("is left alone, as Cedar's tool does");
    fs::write(&own, serde_json::to_string_pretty(&other).unwrap()).unwrap();
    let (code, out, _) = cedargate(folder.path(), &["test", "policies/moved.json", "--json"]);
    let report = parsed(&out);
    assert_eq!((code, report["failed"].as_u64()), (1, Some(3)), "{report}");
    let wrong = |at: usize| report["tests"][at]["wrong"].to_string();
    assert!(
        wrong(0).contains("expected deny, came allow"),
        "{}",
        wrong(0)
    );
    assert!(wrong(1).contains("wall.destroy-needs-two"), "{}", wrong(1));
    assert!(
        wrong(2).contains("expected 1 policies to fail"),
        "{}",
        wrong(2)
    );
    assert_eq!(
        report["tests"][3]["passed"], true,
        "a reason may be left out"
    );
    let line = report["tests"][1]["line"].as_u64().unwrap();
    let text = fs::read_to_string(&own).unwrap();
    let nth = text
        .lines()
        .nth(usize::try_from(line).unwrap() - 1)
        .unwrap();
    assert_eq!(nth.trim(), "{", "line {line}");
}

#[test]
fn a_test_by_hand_takes_its_entities_from_a_file_beside_it() {
    let folder = without_tests();
    let path = |name: &str| folder.path().join("policies").join(name);
    let user = json!({"uid": {"type": "User", "id": "vic"}, "attrs": {"active": true}, "parents": [{"type": "Role", "id": "viewer"}]});
    fs::write(path("people.json"), json!([user]).to_string()).unwrap();
    fs::write(
        folder.path().join("outside.json"),
        json!([user]).to_string(),
    )
    .unwrap();
    let test = |entities: Value| {
        json!([{
            "name": "viewers look",
            "request": {
                "principal": "User::\"vic\"", "action": "Action::\"view\"",
                "resource": "ControlPlane::\"cedargate\"",
                "context": {"now": {"__extn": {"fn": "datetime", "arg": "2026-11-22T12:00:00Z"}}},
            },
            "entities": entities, "decision": "allow", "reason": [], "num_errors": 0,
        }])
    };
    let run = |test: &Value| {
        fs::write(path("by-hand.test.json"), test.to_string()).unwrap();
        cedargate(folder.path(), &["test", "policies/by-hand.test.json"])
    };
    for entities in [json!("people.json"), json!([user])] {
        let (code, out, err) = run(&test(entities));
        assert_eq!(code, 0, "{out}{err}");
    }

    let mut slip = test(json!([]));
    let members = slip[0].as_object_mut().unwrap();
    let errors = members.remove("num_errors").unwrap();
    members.insert("num_error".to_owned(), errors);
    let mut within = test(json!([]));
    let request = within[0]["request"].as_object_mut().unwrap();
    let action = request.remove("action").unwrap();
    request.insert("acton".to_owned(), action);
    let mut decision = test(json!([]));
    decision[0]["decision"] = json!("permit");
    let mut context = test(json!([]));
    context[0]["request"]["context"] =
        json!({"now": {"__extn": {"fn": "datetime", "arg": "2026-11-22T12:00:00Z"}}, "nwo": 1});
    let mut action = test(json!([]));
    action[0]["request"]["action"] = json!("Action::\"viwe\"");
    let mut entity = user.clone();
    entity["attrs"]["active"] = json!("yes");
    for (name, test, parts) in [
        (
            "a slip in a key",
            slip,
            vec!["has no `num_errors`", "is `num_error` meant to be"],
        ),
        (
            "a slip in the request",
            within,
            vec!["has no `action`", "is `acton` meant to be"],
        ),
        ("an unknown decision", decision, vec!["permit", "allow"]),
        (
            "a context that contradicts the schema",
            context,
            vec!["the context does not fit the schema", "nwo"],
        ),
        ("an action that the schema has not", action, vec!["viwe"]),
        (
            "an entity that contradicts the schema",
            test(json!([entity])),
            vec!["the entities do not fit the schema", "active"],
        ),
        (
            "entities from elsewhere",
            test(json!("../outside.json")),
            vec!["outside of the folder"],
        ),
        (
            "entities from nowhere",
            test(json!("nowhere.json")),
            vec!["nowhere.json"],
        ),
        ("no list", json!({"name": "x"}), vec!["are a list"]),
        ("nothing", json!([]), vec!["no tests"]),
    ] {
        let (code, out, err) = run(&test);
        assert_eq!((code, out.as_str()), (2, ""), "{name}: {err}");
        for part in [vec!["by-hand.test.json:1"], parts].concat() {
            assert!(err.contains(part), "{name}: `{part}` is not in\n{err}");
        }
    }
}

#[test]
fn only_tests_that_pass_are_written() {
    let folder = folder();
    let path = folder.path().join("policies/own.test.yaml");
    fs::write(
        path,
        "include: [fixtures.yaml]\ntests:\n  - {agent: newcomer, call: /mcp-coolify servers list, expect: permit}\n",
    )
    .unwrap();
    let arguments = ["export", "policies/own.test.yaml", "--write", "tests.json"];
    let (code, out, err) = cedargate(folder.path(), &arguments);
    assert_eq!(code, 1, "{out}{err}");
    assert!(
        out.contains("FAILED") && err.contains("tests that pass"),
        "{out}{err}"
    );
    assert!(!folder.path().join("tests.json").exists());
}
