//! `cedargate policy prove`, with the real cvc5.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::{repository, run, snippets};

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &to);
        } else {
            fs::copy(&path, to).unwrap();
        }
    }
}

/// A copy of the shipped policies, with invariants and fixtures, to break.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let schema = "schema.cedarschema";
        fs::copy(repository().join(schema), folder.path().join(schema)).unwrap();
        copy(
            &repository().join("policies"),
            &folder.path().join("policies"),
        );
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Says something otherwise in a file of policies.
    fn edit(&self, name: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.path(name)).unwrap();
        assert!(text.contains(from), "{name}: {from}");
        self.write(name, &text.replace(from, to));
    }

    /// `cedargate policy …`, with nothing in the environment but this.
    fn run_in(&self, environment: &[(&str, &str)], arguments: &[&str]) -> (i32, String, String) {
        run(self.0.path(), environment, arguments)
    }

    fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let path = std::env::var("PATH").unwrap();
        self.run_in(&[("PATH", &path)], arguments)
    }

    fn prove(&self, arguments: &[&str]) -> (i32, String, String) {
        self.run(&[&["prove", "policies"], arguments].concat())
    }

    /// What came of each claim: its name and the word for it.
    fn results(&self, arguments: &[&str]) -> (i32, Vec<(String, String)>, Value) {
        let (code, out, err) = self.prove(&[arguments, &["--json"]].concat());
        let report: Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}{err}"));
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let results = report["claims"]
            .as_array()
            .unwrap()
            .iter()
            .map(|claim| (text(&claim["claim"]), text(&claim["result"])))
            .collect();
        (code, results, report)
    }
}

fn solver_on_path() -> &'static str {
    let path = std::env::var("PATH").unwrap();
    let found = std::env::split_paths(&path).any(|folder| folder.join("cvc5").is_file());
    assert!(found, "cvc5 is needed: apt-get install cvc5");
    "cvc5"
}

#[test]
fn everything_is_proved_of_the_shipped_policies() {
    solver_on_path();
    let folder = Folder::new();
    let (code, results, report) = folder.results(&[]);
    assert_eq!(code, 0, "{report:#}");
    assert!(
        results.iter().all(|(_, word)| word == "proved"),
        "{results:?}"
    );
    for claim in [
        "wall.destroy-needs-two can always be evaluated",
        "never.suspended-agents",
        "never.destroy-without-two-people",
        "always.owners-take-back",
    ] {
        assert!(
            results.iter().any(|(name, _)| name == claim),
            "{claim}: {results:?}"
        );
    }
    assert_eq!(report["not_proved"], 0);
    assert_eq!(report["proved"].as_u64().unwrap(), results.len() as u64);
    assert!(
        report["solver"]["version"]
            .as_str()
            .unwrap()
            .starts_with("cvc5 ")
    );
}

/// Breaks the shipped policies; the counterexamples' tests must fail on what is broken and
/// pass on what is not.
fn round_trip(name: &str, breaking: impl Fn(&Folder), claims: &[&str], least: usize) {
    solver_on_path();
    let sound = Folder::new();
    let broken = Folder::new();
    breaking(&broken);
    let (code, results, report) = broken.results(&["--write-tests", "found", "--filter", name]);
    let wrong: Vec<&str> = results
        .iter()
        .filter(|(_, word)| word == "false")
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!((code, wrong.as_slice()), (1, claims), "{report:#}");

    let tests: Vec<PathBuf> = fs::read_dir(broken.path("found"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().ends_with(".test.yaml"))
        .collect();
    assert!(tests.len() >= least, "{tests:?}\n{report:#}");
    for test in tests {
        let text = fs::read_to_string(&test).unwrap();
        for (folder, expected) in [(&broken, 1), (&sound, 0)] {
            let file = folder.path("policies/found.test.yaml");
            fs::write(&file, &text).unwrap();
            let (code, out, err) =
                folder.run(&["test", "policies/found.test.yaml", "--policies", "policies"]);
            assert_eq!(code, expected, "{text}\n{out}{err}");
            fs::remove_file(file).unwrap();
        }
    }
}

#[test]
fn a_hole_in_a_wall_is_found_and_told_as_a_test() {
    // The second may be the first.
    let hole = |folder: &Folder| {
        let text = fs::read_to_string(folder.path("policies/walls.cedar")).unwrap();
        let from = text
            .find(" &&\n   principal.getTag(context.callKey).second")
            .unwrap();
        let to = from + text[from..].find(".first)").unwrap() + ".first".len();
        folder.write(
            "policies/walls.cedar",
            &format!("{}{}", &text[..from], &text[to..]),
        );
    };
    round_trip(
        "never.destroy-without-two-people",
        hole,
        &["never.destroy-without-two-people"],
        1,
    );
}

#[test]
fn a_wall_that_a_tainted_session_gets_round_is_found() {
    let hole = |folder: &Folder| {
        folder.edit(
            "policies/walls.cedar",
            "when { context.session.tainted }",
            "when { context.session.tainted && context.session.calls < 3 && context.session.startedAt < context.now }",
        );
    };
    round_trip(
        "never.changes-on-untrusted-advice",
        hole,
        &["never.changes-on-untrusted-advice"],
        1,
    );
}

#[test]
fn a_guard_that_is_gone_is_found_for_sending_seeing_and_asking() {
    let gone = |folder: &Folder| {
        folder.edit(
            "policies/guards.cedar",
            "when { principal.suspended }",
            "when { principal.suspended && principal.trust > 1 }",
        );
        folder.edit("policies/escalation.cedar", "!principal.suspended && ", "");
        folder.edit(
            "policies/standing.cedar",
            "when { !principal.suspended }",
            "when { principal.trust >= 0 }",
        );
    };
    round_trip(
        "never.suspended-agents",
        gone,
        &["never.suspended-agents"],
        4,
    );
}

#[test]
fn what_people_may_not_do_is_told_as_a_test_too() {
    let wider = |folder: &Folder| {
        folder.edit(
            "policies/approval.cedar",
            "when { resource.approvedBy.contains(principal) }",
            "when { resource.approvedBy.contains(principal) && resource.approvals > 1 }",
        );
        folder.edit(
            "policies/approval.cedar",
            "when { resource.duration <= duration(\"24h\") }",
            "when { resource.duration <= duration(\"25h\") }",
        );
        folder.edit(
            "policies/approval.cedar",
            "when { resource has owner && resource.owner == principal }",
            "when { resource has owner && resource.owner == principal && !resource.suspended }",
        );
        folder.edit("policies/administration.cedar", "principal in Role::\"viewer\",\n  action in Action::\"view\"", "principal in Role::\"viewer\",\n  action in [Action::\"view\", Action::\"managePolicies\"]");
    };
    let claims = [
        "never.judges-in-their-own-cause",
        "never.grants-beyond-a-day",
        "never.policies-managed-by-others",
        "always.owners-take-back",
    ];
    // Approving and rejecting, and one each.
    round_trip("", wider, &claims, 5);
}

#[test]
fn a_forbid_that_can_fail_is_told_with_the_arguments_that_make_it() {
    let failing = |folder: &Folder| {
        folder.write(
            "policies/own.cedar",
            "@id(\"own.sum\")\nforbid (principal is Agent, action in Action::\"write\", resource == Command::\"stripe/create-refund\")\nwhen { context.args.number.hasTag(\"amount\") && context.args.number.getTag(\"amount\") * 100 > 5000 };\n",
        );
    };
    round_trip("own.sum", failing, &["own.sum can always be evaluated"], 1);
}

#[test]
fn what_is_permitted_anew_is_found() {
    solver_on_path();
    let (new, old) = (Folder::new(), Folder::new());
    let before = old.path("policies");
    let against = [
        "--against",
        before.to_str().unwrap(),
        "--filter",
        "not before",
    ];
    let (code, out, err) = new.prove(&against);
    assert_eq!(code, 0, "{out}{err}");
    // Fewer are no more.
    fs::remove_file(new.path("policies/standing.cedar")).unwrap();
    new.edit(
        "policies/grants.cedar",
        "duration(\"24h\")",
        "duration(\"4h\")",
    );
    let (code, out, err) = new.prove(&against);
    assert_eq!(code, 0, "{out}{err}");

    let new = Folder::new();
    new.edit(
        "policies/standing.cedar",
        "when { principal.trust >= 1 && resource.pinned }",
        "when { resource.pinned }",
    );
    let (code, out, err) = new.prove(&against);
    assert_eq!(code, 1, "{out}{err}");
    for part in [
        "✘ nothing is permitted that was not before",
        "not so for Agent read Command: permitted, by standing.reader",
        "trust: 0",
        "roles: [reader]",
        "expect: refuse",
    ] {
        assert!(out.contains(part), "`{part}` is not in\n{out}");
    }

    // The old ones must fit the schema of the new.
    old.write(
        "policies/own.cedar",
        "@id(\"own\") permit (principal, action in Action::\"fly\", resource);",
    );
    let (code, _, err) = new.prove(&against);
    assert!(
        code == 2 && err.contains("fly") && err.contains("do not fit the schema"),
        "{err}"
    );
    let (code, _, err) = new.prove(&["--against", "nowhere"]);
    assert!(code == 2 && err.contains("no folder `nowhere`"), "{err}");
}

#[test]
fn results_are_told_to_people_scripts_and_github() {
    solver_on_path();
    let folder = Folder::new();
    folder.edit(
        "policies/administration.cedar",
        "Action::\"managePolicies\"]",
        "Action::\"managePolicies\", Action::\"manageUsers\"]",
    );
    let filter = ["--filter", "never.people"];
    let (code, out, err) = folder.prove(&filter);
    assert_eq!(code, 1, "{err}");
    for part in [
        "✔ every invariant can be evaluated   2 policies",
        "✔ never.people-who-left   approve, manageAgents, managePolicies, manageUsers, reject, revoke and 1 more",
        "✘ never.people-managed-by-others\n  --> policies/invariants/people.cedar:",
        "Only administrators create and change people.",
        "not so for User manageUsers ControlPlane: permitted, by administer.security",
        "        may: manage-users\n",
        "3 proved, 1 FALSE · ",
    ] {
        assert!(out.contains(part), "`{part}` is not in\n{out}");
    }
    let (code, out, _) = folder.prove(&[&filter[..], &["--format", "github"]].concat());
    assert_eq!(code, 1);
    assert!(
        out.starts_with("::error file=policies/invariants/people.cedar,line=")
            && out.contains(",title=never.people-managed-by-others::")
            && out.contains("%0A"),
        "{out}"
    );
    let (_, _, report) = folder.results(&filter);
    let claim = report["claims"]
        .as_array()
        .unwrap()
        .iter()
        .find(|claim| claim["result"] == "false")
        .unwrap();
    let environment = &claim["environments"][0];
    assert_eq!(environment["environment"], "User manageUsers ControlPlane");
    assert_eq!(environment["counterexample"]["permitted"], true);
    assert!(
        environment["test"]
            .as_str()
            .unwrap()
            .contains("may: manage-users"),
        "{claim:#}"
    );

    // The form of Cedar's own tool says what should come, and so fails as well.
    let official = Value::Array(vec![environment["official_test"].clone()]);
    folder.write("policies/found.test.json", &official.to_string());
    let (code, out, err) =
        folder.run(&["test", "policies/found.test.json", "--policies", "policies"]);
    assert!(
        code == 1 && out.contains("expected deny, came allow"),
        "{code} {out}{err}"
    );
}

#[test]
fn an_invariant_with_a_slip_is_refused_and_one_that_says_nothing_is_told() {
    solver_on_path();
    let folder = Folder::new();
    for (invariant, expected) in [
        (
            "@id(\"a\") forbid (principal is Agent, action in Action::\"wirte\", resource);",
            "wirte",
        ),
        (
            "@id(\"a\") forbid (principal is Agent, action in Action::\"write\", resource) when { principal.trsut < 1 };",
            "trsut",
        ),
        (
            "forbid (principal, action, resource);",
            "the policy has no id",
        ),
        (
            "@id(\"a\") forbid (principal, action, resource",
            "is never closed",
        ),
    ] {
        folder.write("policies/invariants/own.cedar", invariant);
        let (code, _, err) = folder.prove(&[]);
        assert!(
            code == 2 && err.contains("invariants/own.cedar:1:") && err.contains(expected),
            "{code} {err}"
        );
    }
    folder.write(
        "policies/invariants/own.cedar",
        "@id(\"never.own\") forbid (principal is Agent, action in Action::\"write\", resource is Command) when { resource.risk == 2 };",
    );
    let (code, out, err) = folder.prove(&["--filter", "never.own"]);
    assert!(
        code == 1 && out.contains("✘ never.own\n") && out.contains("it matches nothing"),
        "{out}{err}"
    );
    let (_, results, _) = folder.results(&["--filter", "never.own"]);
    assert!(
        results.contains(&("never.own".to_owned(), "vacuous".to_owned())),
        "{results:?}"
    );
}

#[test]
fn folders_as_people_break_them() {
    solver_on_path();
    let folder = Folder::new();
    fs::create_dir(folder.path("empty")).unwrap();
    for (arguments, expected) in [
        (&["prove", "nowhere"][..], "there is no such folder"),
        (&["prove", "empty"], "no `*.cedar` file"),
        (
            &["prove", "empty", "--schema", "schema.cedarschema"],
            "no `*.cedar` file",
        ),
        (
            &["prove", "policies", "--invariants", "nowhere"],
            "no folder `nowhere`",
        ),
        (
            &["prove", "policies", "--invariants", "empty"],
            "the folder of invariants holds no",
        ),
        (
            &["prove", "policies", "--against", "empty"],
            "no `*.cedar` file",
        ),
        (
            &["prove", "policies", "--filter", "no such"],
            "no claim has `no such` in its name",
        ),
        (&["prove", "policies", "--time-limit", "0"], "--time-limit"),
    ] {
        let (code, out, err) = folder.run(arguments);
        assert!(
            code == 2 && err.contains(expected),
            "{arguments:?}: {code} {out}{err}"
        );
    }
    folder.edit("schema.cedarschema", "entity Team in [Team];", "entity {");
    let (code, _, err) = folder.prove(&[]);
    assert!(code == 2 && err.contains("schema.cedarschema:"), "{err}");
}

/// A program of this text.
#[cfg(unix)]
fn program(folder: &Folder, name: &str, text: &str) -> String {
    use std::os::unix::fs::PermissionsExt;
    folder.write(name, text);
    let path = folder.path(name);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
#[cfg(unix)]
fn without_a_solver_nothing_is_proved() {
    let folder = Folder::new();
    let (code, out, err) = folder.run_in(&[], &["prove", "policies"]);
    assert!(
        code == 5 && out.is_empty() && err.contains("apt-get install cvc5"),
        "{code} {out}{err}"
    );
    for (solver, expected) in [
        ("/bin/true".to_owned(), "is no solver"),
        ("/bin/false".to_owned(), "is no solver"),
        ("/bin/cat".to_owned(), "is no solver"),
        ("/nowhere/cvc5".to_owned(), "does not start"),
        (
            folder.path("policies").to_str().unwrap().to_owned(),
            "does not start",
        ),
        // To which everything is proved, or nothing.
        (
            program(&folder, "unsat", "#!/bin/sh\necho unsat\n"),
            "said `unsat`",
        ),
        (
            program(&folder, "sat", "#!/bin/sh\necho sat\n"),
            "said `sat`",
        ),
    ] {
        for (environment, arguments) in [
            (
                vec![],
                vec!["prove", "policies", "--solver", solver.as_str()],
            ),
            (vec![("CVC5", solver.as_str())], vec!["prove", "policies"]),
        ] {
            let (code, out, err) = folder.run_in(&environment, &arguments);
            assert!(
                code == 5 && out.is_empty() && err.contains(expected) && err.contains("apt-get"),
                "{solver}: {code} {out}{err}"
            );
        }
    }
}

/// cvc5, except for questions about policies.
#[cfg(unix)]
fn spoilt(folder: &Folder, name: &str, instead: &str) -> String {
    let text = format!(
        "#!/bin/sh\nquestion=$(cat)\ncase $question in\n*'(declare-const x Int)'*|*get-info*) printf '%s\\n' \"$question\" | {} \"$@\"; exit ;;\nesac\n{instead}\n",
        solver_on_path()
    );
    program(folder, name, &text)
}

#[test]
#[cfg(unix)]
fn a_solver_that_fails_on_the_way_proves_nothing() {
    let folder = Folder::new();
    for (name, instead, why) in [
        ("dies", "kill -9 $$", "the solver failed"),
        ("fails", "echo unsat; exit 3", "the solver failed"),
        ("does-not-know", "echo unknown", "does not know"),
        ("says-nothing", "", "said nothing"),
        (
            "says-more",
            "echo unsat; echo '(error \"no\")'",
            "not understood",
        ),
        (
            "makes-things-up",
            "echo sat; echo '('; echo ')'",
            "not proved for",
        ),
        ("is-slow", "exec sleep 600", "did not answer within 1 s"),
    ] {
        let solver = spoilt(&folder, name, instead);
        let arguments = [
            "--solver",
            &solver,
            "--time-limit",
            "1",
            "--filter",
            "never.people-managed-by-others",
        ];
        let (code, out, err) = folder.prove(&arguments);
        assert!(
            code == 6 && out.contains("? never.people-managed-by-others") && out.contains(why),
            "{name}: {code} {out}{err}"
        );
        assert!(!out.contains("✔ never"), "{name}: {out}");
    }
}

#[test]
fn invariants_are_not_enforced() {
    let folder = Folder::new();
    let (code, out, err) = folder.run(&["check", "policies", "--json"]);
    let before: Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{err}"));
    assert_eq!(code, 0, "{err}");
    folder.write("policies/invariants/own.cedar", "no policy at all");
    let (code, out, _) = folder.run(&["check", "policies", "--json"]);
    let after: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &after), (0, &before));
    // Only the folder's own: elsewhere it is a name like others.
    folder.write("policies/team/invariants/own.cedar", "no policy at all");
    let (code, ..) = folder.run(&["check", "policies"]);
    assert_eq!(code, 1);
}

#[test]
fn what_the_documentation_shows_works() {
    solver_on_path();
    let [invariant, hole] = &snippets("cedar", Some("Prove "))[..] else {
        panic!("an invariant and a hole")
    };
    let [test] = &snippets("yaml", Some("Prove "))[..] else {
        panic!("a test")
    };
    let folder = Folder::new();
    folder.write("policies/invariants/coolify.cedar", invariant);
    // Its commands end well, also with its invariant.
    let commands = snippets("console", Some("Prove "));
    assert_eq!(commands.len(), 2);
    for block in commands {
        let command = block.strip_prefix("$ cedargate policy ").unwrap();
        let arguments: Vec<&str> = command
            .split('\'')
            .enumerate()
            .flat_map(|(number, part)| {
                if number % 2 == 1 {
                    vec![part]
                } else {
                    part.split_whitespace().collect()
                }
            })
            .collect();
        let (code, out, err) = folder.run(&arguments);
        assert_eq!(code, 0, "{command}\n{out}{err}");
    }
    // What it puts into CI proves the folder, too.
    let ci = snippets("text", Some("Prove ")).concat();
    let steps: Vec<&str> = ci
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- run: cedargate policy "))
        .collect();
    assert_eq!(steps.len(), 1, "{ci}");
    for step in steps {
        let (code, out, err) = folder.run(&step.split_whitespace().collect::<Vec<_>>());
        assert_eq!(code, 0, "{step}\n{out}{err}");
    }
    // Its test passes, and fails with its hole.
    folder.write("policies/night-shift.test.yaml", test);
    let tests = ["test", "policies/night-shift.test.yaml"];
    assert_eq!(folder.run(&tests).0, 0);
    folder.write("policies/night-shift.cedar", hole);
    assert_eq!(folder.run(&tests).0, 1);
    let (code, results, _) = folder.results(&["--filter", "never.changes-without-consent"]);
    assert_eq!(code, 1, "{results:?}");
}
