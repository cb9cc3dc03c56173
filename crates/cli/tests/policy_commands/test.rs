//! `cedargate policy test|coverage|matrix|explain|fmt|diff`, as a security team uses them.

use std::fs;

use super::{cedargate, folder, json, snippets, without_tests};

/// Only a file of tests, beside the shipped policies.
fn with_tests(text: &str) -> tempfile::TempDir {
    let folder = without_tests();
    fs::write(folder.path().join("policies/own.test.yaml"), text).unwrap();
    folder
}

#[test]
fn the_shipped_policies_pass_their_tests_and_decide_each_in_one() {
    let folder = folder();
    let (code, out, err) = cedargate(folder.path(), &["test", "policies", "--json"]);
    assert_eq!(code, 0, "{out}{err}");
    let report = json(&out);
    let tests = report["tests"].as_array().unwrap();
    assert_eq!(tests.len() as u64, report["passed"].as_u64().unwrap());
    let mut decided: Vec<&str> = tests
        .iter()
        .flat_map(|test| test["came"]["policies"].as_array().unwrap())
        .map(|id| id.as_str().unwrap())
        .collect();
    decided.sort_unstable();
    decided.dedup();
    // What only lets an agent ask decides together with what refuses: coverage tries it.
    let other = ["escalate.default"];
    assert_eq!(
        decided.len() + other.len(),
        usize::try_from(report["policies"].as_u64().unwrap()).unwrap(),
        "{decided:?}"
    );
}

#[test]
fn a_failure_says_what_was_expected_what_came_and_what_nearly_applied() {
    let folder = with_tests(
        "include: [fixtures.yaml]\ntests:\n  - name: the untrusted read\n    agent: untrusted-bot\n    call: /mcp-coolify servers list\n    expect: {permit: [standing.reader]}\n",
    );
    let (code, out, _) = cedargate(folder.path(), &["test", "policies"]);
    assert_eq!(code, 1, "{out}");
    for part in [
        "FAILED  the untrusted read",
        "policies/own.test.yaml:3",
        "expected permit, came escalate",
        "nearest: standing.reader (standing.cedar:5) would permit",
        "not so: principal.trust >= 1",
        "principal.trust = 0",
        "0 passed, 1 FAILED",
    ] {
        assert!(out.contains(part), "`{part}` is not in\n{out}");
    }

    let (code, out, _) = cedargate(folder.path(), &["test", "policies", "--format", "github"]);
    assert_eq!(code, 1);
    assert!(
        out.starts_with("::error file=policies/own.test.yaml,line=3,title=the untrusted read::expected permit, came escalate%0A"),
        "{out}"
    );
    let (code, out, _) = cedargate(folder.path(), &["test", "policies", "--format", "junit"]);
    assert_eq!(code, 1);
    assert!(
        out.starts_with("<?xml") && out.contains("failures=\"1\"") && out.contains("<failure"),
        "{out}"
    );
    let (code, out, _) = cedargate(folder.path(), &["test", "policies", "--format", "json"]);
    let report = json(&out);
    assert_eq!((code, report["failed"].as_u64()), (1, Some(1)));
    assert_eq!(report["tests"][0]["came"]["verdict"], "escalate");
}

#[test]
fn a_filter_leaves_out_the_rest_and_must_leave_something() {
    let folder = folder();
    let (code, out, _) = cedargate(
        folder.path(),
        &["test", "policies", "--filter", "longer than a day"],
    );
    assert_eq!(code, 0);
    assert!(out.starts_with("3 passed, "), "{out}");
    let (code, _, err) = cedargate(folder.path(), &["test", "policies", "--filter", "no such"]);
    assert_eq!(code, 2, "{err}");
}

#[test]
fn what_is_wrong_with_a_test_file_is_told_with_its_place() {
    let test =
        |body: &str| format!("include: [fixtures.yaml]\ntests:\n  - agent: reader-bot\n{body}");
    let call = "    call: /mcp-coolify servers list\n";
    let cases = [
        ("a slip in a key", test(&format!("{call}    expcet: permit\n")), vec!["unknown key `expcet`", "did you mean `expect`?", "own.test.yaml:5:"]),
        ("a slip within", test(&format!("{call}    expect: {{permit: {{polices: []}}}}\n")), vec!["unknown key `polices`", "did you mean `policies`?"]),
        ("a slip in an answer", test(&format!("{call}    expect: permitt\n")), vec!["`permitt`", "did you mean `permit`?", "own.test.yaml:5:"]),
        ("a slip in an agent", "include: [fixtures.yaml]\ntests:\n  - agent: raeder-bot\n    call: /mcp-coolify servers list\n    expect: permit\n".to_owned(), vec!["no agent `raeder-bot`", "did you mean `reader-bot`?", "own.test.yaml:3:"]),
        ("a slip in a command", test("    call: /mcp-coolify servers lst\n    expect: permit\n"), vec!["list-servers", "own.test.yaml:4:"]),
        ("arguments that do not fit", test("    call: /mcp-coolify applications restart\n    expect: permit\n"), vec!["uuid"]),
        ("a service that is not there", test(&format!("{call}    expect: permit\n    with: {{agents: {{reader-bot: {{allowed: [colify]}}}}}}\n")), vec!["no service `colify`", "did you mean `coolify`?"]),
        ("an environment that the schema has not", test(&format!("{call}    expect: permit\n    with: {{agents: {{reader-bot: {{env: qa}}}}}}\n")), vec!["`qa`", "prod"]),
        ("a grant by nobody", test(&format!("{call}    expect: permit\n    grants: [{{call: this, by: [], for: 1h}}]\n")), vec!["one person or two"]),
        ("a grant by a stranger", test(&format!("{call}    expect: permit\n    grants: [{{call: this, by: [dna], for: 1h}}]\n")), vec!["no user `dna`"]),
        ("yes is no boolean", test(&format!("{call}    expect: permit\n    with: {{agents: {{reader-bot: {{suspended: yes}}}}}}\n")), vec!["own.test.yaml:6:"]),
        ("a slip in a session", test(&format!("{call}    expect: permit\n    session: {{taintd: true}}\n")), vec!["unknown key `taintd`", "did you mean `tainted`?", "own.test.yaml:6:"]),
        ("a session of no length", test(&format!("{call}    expect: permit\n    session: {{began: yesterday}}\n")), vec!["`yesterday` is not a span"]),
        ("fewer calls than none", test(&format!("{call}    expect: permit\n    session: {{calls: -1}}\n")), vec!["own.test.yaml:6:"]),
        ("nothing expected", test(call), vec!["expects nothing"]),
        ("not YAML", "tests: [".to_owned(), vec!["own.test.yaml:1"]),
        ("empty", "\n".to_owned(), vec!["empty"]),
        ("no tests", "agents: {a: {}}\n".to_owned(), vec!["no tests"]),
        ("a file that is not there", "include: [nowhere.yaml]\ntests: []\n".to_owned(), vec!["no file", "nowhere.yaml", "own.test.yaml:1:"]),
        ("a circle", "include: [own.test.yaml]\ntests: []\n".to_owned(), vec!["circle"]),
    ];
    for (name, text, parts) in cases {
        let folder = with_tests(&text);
        let (code, out, err) = cedargate(folder.path(), &["test", "policies"]);
        assert_eq!((code, out.as_str()), (2, ""), "{name}: {err}");
        for part in parts {
            assert!(err.contains(part), "{name}: `{part}` is not in\n{err}");
        }
    }
}

#[test]
fn folders_as_people_break_them() {
    let policies = folder();
    let (code, _, err) = cedargate(policies.path(), &["test", "nowhere"]);
    assert!(code == 2 && err.contains("nowhere"), "{code} {err}");

    fs::create_dir(policies.path().join("empty")).unwrap();
    let (code, _, err) = cedargate(policies.path(), &["test", "empty"]);
    assert_eq!(code, 2, "{err}");

    let schema = policies.path().join("schema.cedarschema");
    let good = fs::read_to_string(&schema).unwrap();
    fs::write(&schema, "entity {").unwrap();
    let (code, _, err) = cedargate(policies.path(), &["test", "policies"]);
    assert!(
        code == 2 && err.contains("schema.cedarschema:1:"),
        "{code} {err}"
    );
    // Policies that speak of what this schema has not.
    fs::write(&schema, good.replace("  trust: Long,", "  trust?: Long,")).unwrap();
    let (code, _, err) = cedargate(policies.path(), &["test", "policies"]);
    assert!(code == 2 && err.contains("trust"), "{code} {err}");
}

#[test]
fn a_policy_that_is_edited_fails_the_test_that_knows_it() {
    let folder = folder();
    let path = folder.path().join("policies/walls.cedar");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace(" has second", " has id")).unwrap();
    // Without a second person there is no attribute to read.
    let (code, _, err) = cedargate(folder.path(), &["test", "policies"]);
    assert_eq!(code, 2, "{err}");
    fs::write(&path, text.replacen("forbid (", "permit (", 1)).unwrap();
    let (code, out, _) = cedargate(folder.path(), &["test", "policies"]);
    assert!(
        code == 1 && out.contains("destroying takes two people"),
        "{out}"
    );
}

#[test]
fn faults_that_no_test_notices_are_listed_with_their_place() {
    let folder = with_tests(
        "include: [fixtures.yaml]\ntests:\n  - name: a reader reads\n    agent: reader-bot\n    call: /mcp-coolify servers list\n    expect: {permit: [standing.reader]}\n",
    );
    // A set small enough to try all of it.
    for entry in fs::read_dir(folder.path().join("policies")).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| extension == "cedar")
        {
            fs::remove_file(path).unwrap();
        }
    }
    fs::write(
        folder.path().join("policies/own.cedar"),
        "@id(\"standing.reader\")\npermit (\n  principal in Role::\"reader\",\n  action in Action::\"read\",\n  resource is Command\n)\nwhen { principal.trust >= 1 };\n",
    )
    .unwrap();
    let (code, out, err) = cedargate(folder.path(), &["coverage", "policies", "--json"]);
    assert_eq!(code, 0, "{err}");
    let report = json(&out);
    let unnoticed: Vec<(u64, &str)> = report["unnoticed"]
        .as_array()
        .unwrap()
        .iter()
        .map(|fault| {
            (
                fault["line"].as_u64().unwrap(),
                fault["what"].as_str().unwrap(),
            )
        })
        .collect();
    assert!(unnoticed.contains(&(7, "`when` removed")), "{unnoticed:?}");
    assert!(
        !unnoticed.iter().any(|(_, what)| *what == "policy dropped"),
        "{unnoticed:?}"
    );
    let (code, out, err) = cedargate(
        folder.path(),
        &["coverage", "policies", "--min-score", "100"],
    );
    assert!(
        code == 1 && out.contains("unnoticed  own.cedar:7  standing.reader: `when` removed"),
        "{out}{err}"
    );
    let (code, ..) = cedargate(
        folder.path(),
        &["test", "policies", "--coverage", "--min-score", "10"],
    );
    assert_eq!(code, 0);
}

#[test]
fn the_matrix_is_compared_with_its_golden_file() {
    let folder = folder();
    let golden = "policies/matrix.golden.txt";
    let (code, out, err) = cedargate(
        folder.path(),
        &["matrix", "--policies", "policies", "--check", golden],
    );
    assert_eq!(code, 0, "{out}{err}");
    let path = folder.path().join("policies/standing.cedar");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen("trust >= 1", "trust >= 0", 1)).unwrap();
    let (code, out, err) = cedargate(
        folder.path(),
        &["matrix", "--policies", "policies", "--check", golden],
    );
    assert_eq!(code, 1);
    assert!(
        out.contains("- coolify/list-servers") && out.contains("+ coolify/list-servers"),
        "{out}"
    );
    assert!(err.contains("--write policies/matrix.golden.txt"), "{err}");
    let written = cedargate(
        folder.path(),
        &["matrix", "--policies", "policies", "--write", golden],
    );
    assert_eq!(written.0, 0);
    let again = cedargate(
        folder.path(),
        &["matrix", "--policies", "policies", "--check", golden],
    );
    assert_eq!(again.0, 0);
    let nowhere = cedargate(
        folder.path(),
        &["matrix", "--policies", "policies", "--check", "nowhere"],
    );
    assert_eq!(nowhere.0, 2);
    let no_fixtures = cedargate(
        folder.path(),
        &["matrix", "--policies", "policies", "--fixtures", "nowhere"],
    );
    assert!(
        no_fixtures.0 == 2 && no_fixtures.2.contains("nowhere"),
        "{}",
        no_fixtures.2
    );
}

#[test]
fn what_changes_between_two_folders_is_listed() {
    let (before, after) = (folder(), folder());
    let name =
        |folder: &tempfile::TempDir| folder.path().join("policies").to_str().unwrap().to_owned();
    let same = cedargate(after.path(), &["diff", &name(&before), &name(&after)]);
    assert!(
        same.0 == 0 && same.1.starts_with("0 of "),
        "{}{}",
        same.1,
        same.2
    );
    let path = after.path().join("policies/standing.cedar");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen("trust >= 1", "trust >= 0", 1)).unwrap();
    let (code, out, _) = cedargate(
        after.path(),
        &["diff", &name(&before), &name(&after), "--json"],
    );
    let changes = json(&out);
    assert_eq!(code, 0);
    let first = &changes["changes"][0];
    assert_eq!(
        (
            first["agent"].as_str(),
            first["before"].as_str(),
            first["after"].as_str()
        ),
        (Some("untrusted-bot"), Some("?1"), Some("✔")),
        "{changes}"
    );
}

#[test]
fn an_explanation_shows_each_condition_and_what_would_change_the_answer() {
    let folder = folder();
    let explain = |agent, call| {
        cedargate(
            folder.path(),
            &[
                "explain",
                "--policies",
                "policies",
                "--agent",
                agent,
                "--call",
                call,
            ],
        )
    };
    let (code, out, err) = explain("reader-bot", "/mcp-coolify servers list");
    assert_eq!(code, 0, "{err}");
    for part in [
        "reader-bot · coolify/list-servers (read)\npermit",
        "PERMITS  standing.reader",
        "✔ principal.trust >= 1",
        "principal.trust = 1",
        "without standing.reader",
    ] {
        assert!(out.contains(part), "`{part}` is not in\n{out}");
    }
    let (_, out, _) = explain("newcomer", "/mcp-coolify applications delete web");
    for part in [
        "escalate, by 2 approvals, workflow two-person",
        "FORBIDS  wall.destroy-needs-two",
        "if wall.destroy-needs-two did not apply",
    ] {
        assert!(out.contains(part), "`{part}` is not in\n{out}");
    }
    let (code, _, err) = explain("reeder-bot", "/mcp-coolify servers list");
    assert!(code == 2 && err.contains("reader-bot"), "{err}");
}

#[test]
fn an_explanation_may_be_of_any_session() {
    let folder = folder();
    let explain = |more: &[&str]| {
        let call = [
            "--agent",
            "coolify-bot",
            "--call",
            "/mcp-coolify applications restart web",
        ];
        let start = ["explain", "--policies", "policies"];
        cedargate(folder.path(), &[&start[..], &call, more].concat())
    };
    let (code, out, err) = explain(&[]);
    assert!(code == 0 && out.contains("\npermit"), "{out}{err}");
    let (code, out, err) = explain(&["--session", "{tainted: true, calls: 3, began: 20m}"]);
    assert_eq!(code, 0, "{err}");
    for part in [
        "escalate, by 1 approval, workflow owner",
        "FORBIDS  wall.tainted-session",
        "context.session.tainted = true",
    ] {
        assert!(out.contains(part), "`{part}` is not in\n{out}");
    }
    let (code, _, err) = explain(&["--session", "{taint: true}"]);
    assert!(
        code == 2 && err.contains("did you mean `tainted`?"),
        "{err}"
    );
}

/// What a row says of a session goes before what the test says, and that before the file.
#[test]
fn sessions_are_laid_over_key_by_key() {
    let folder = folder();
    let own = folder.path().join("own");
    fs::create_dir(&own).unwrap();
    fs::write(
        own.join("a.cedar"),
        "@id(\"early\")\n@advice(\"x\")\npermit (principal is Agent, action in Action::\"read\", resource is Command)\nwhen { context.session.calls == 7 && !context.session.tainted && context.now.durationSince(context.session.startedAt) == duration(\"1h\") };\n",
    )
    .unwrap();
    fs::write(
        own.join("a.test.yaml"),
        "session: {began: 1h, tainted: true, calls: 1}\nagents: {bot: {}}\ntests:\n  - name: x\n    agent: bot\n    call: /mcp-coolify servers list\n    session: {tainted: false}\n    table:\n      - {session: {calls: 7}, expect: permit}\n      - {session: {calls: 7, tainted: true}, expect: refuse}\n      - {session: {calls: 7, began: 2h}, expect: refuse}\n      - {expect: refuse}\n",
    )
    .unwrap();
    let (code, out, err) = cedargate(folder.path(), &["test", "own"]);
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.starts_with("4 passed"), "{out}");
}

#[test]
fn layout_keeps_comments_and_check_changes_nothing() {
    let folder = folder();
    let (code, out, err) = cedargate(folder.path(), &["fmt", "--check", "policies"]);
    assert_eq!(code, 0, "the shipped policies are laid out: {out}{err}");
    let path = folder.path().join("policies/own.cedar");
    let text = "// why\n@id(\"own\") permit(principal,action,resource) when {false}; // end\n";
    fs::write(&path, text).unwrap();
    let (code, out, _) = cedargate(folder.path(), &["fmt", "--check", "policies"]);
    assert!(code == 1 && out.contains("own.cedar"), "{out}");
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
    let (code, ..) = cedargate(folder.path(), &["fmt", "policies"]);
    let after = fs::read_to_string(&path).unwrap();
    assert!(
        code == 0 && after.contains("// why") && after.contains("// end") && after != text,
        "{after}"
    );
    fs::write(&path, "permit (").unwrap();
    let (code, _, err) = cedargate(folder.path(), &["fmt", "policies"]);
    assert!(code == 2 && err.contains("own.cedar:1:"), "{err}");
}

#[test]
fn what_the_documentation_shows_works() {
    // Its policies are valid beside the shipped ones.
    let valid = folder();
    for (number, policy) in snippets("cedar", None).iter().enumerate() {
        let text = if policy.contains("@id(") {
            policy.clone()
        } else {
            format!("@id(\"documentation.{number}\")\n{policy}")
        };
        fs::write(
            valid.path().join(format!("policies/doc-{number}.cedar")),
            text,
        )
        .unwrap();
    }
    let (code, out, err) = cedargate(valid.path(), &["check", "policies"]);
    assert_eq!(code, 0, "{out}{err}");

    // Its tests pass.
    for test in snippets("yaml", None) {
        let folder = with_tests(&test);
        let (code, out, err) = cedargate(folder.path(), &["test", "policies"]);
        assert_eq!(code, 0, "{out}{err}\n{test}");
    }

    // Those of Cedar's own tool, too.
    for test in snippets("json", None) {
        let folder = folder();
        fs::write(folder.path().join("policies/own.test.json"), &test).unwrap();
        let arguments = ["test", "policies/own.test.json"];
        let (code, out, err) = cedargate(folder.path(), &arguments);
        assert_eq!(code, 0, "{out}{err}\n{test}");
    }

    // Its commands end well. prove.rs has proofs, a journey those that ask an orchestrator
    // (`console live`), and `tests/run` the one for coverage.
    let folder = folder();
    for block in snippets("console", None) {
        for line in block.lines() {
            let command = line.strip_prefix("$ cedargate policy ").unwrap();
            if command.starts_with("coverage") || command.starts_with("prove") {
                continue;
            }
            let mut arguments: Vec<&str> = Vec::new();
            for (number, part) in command.split('\'').enumerate() {
                if number % 2 == 1 {
                    arguments.push(part);
                } else {
                    arguments.extend(part.split_whitespace());
                }
            }
            let (code, out, err) = cedargate(folder.path(), &arguments);
            assert_eq!(code, 0, "{line}\n{out}{err}");
        }
    }
}
