//! Differences over recorded calls.

use std::{fmt::Write as _, fs, path::Path, time::Instant};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{cedargate, edit, folder, json as parsed};

/// A journal's file with these lines, chained as the documentation of a line says.
fn journal(path: &Path, entries: &[Value]) {
    let mut text = String::new();
    let mut previous = "0".repeat(64);
    for (index, entry) in entries.iter().enumerate() {
        let mut line = json!({"sequence": index + 1, "previous": previous});
        for (key, value) in entry.as_object().unwrap() {
            line[key] = value.clone();
        }
        let body = line.to_string();
        previous = hex::encode(Sha256::digest(&body));
        let open = body.strip_suffix('}').unwrap();
        writeln!(text, "{open},\"hash\":\"{previous}\"}}").unwrap();
    }
    fs::write(path, text).unwrap();
}

fn digest(arguments: &Value) -> String {
    let Value::Object(values) = arguments else {
        panic!()
    };
    authz::Arguments::new(values.clone()).digest().to_string()
}

/// A call as the gateway records it.
fn call(kind: &str, agent: &str, command: &str, risk: &str, arguments: &Value) -> Value {
    json!({
        "at": "2026-11-20T09:00:00.000Z", "gateway": "gateway-1", "kind": kind,
        "decision": "dec_0193a7f2c0d07000800000000000002a",
        "agent": "6f1b8a52-9f0d-4a4e-8f11-1d2c3b4a5e6f", "agent_name": agent, "command": command,
        "risk": risk, "digest": digest(arguments), "arguments": arguments,
    })
}

fn with(mut entry: Value, more: &Value) -> Value {
    for (key, value) in more.as_object().unwrap() {
        entry[key] = value.clone();
    }
    entry
}

fn session(tainted: bool, calls: u32) -> Value {
    json!({
        "id": "ses_0193a7f2c0d07000800000000000002a", "started": "2026-11-20T08:00:00.000Z",
        "calls": calls, "tainted": tainted,
    })
}

const LIST: &str = "coolify/list-servers";
const RESTART: &str = "coolify/restart-application";

#[test]
#[expect(clippy::too_many_lines, reason = "one journal, seen from all sides")]
fn recorded_calls_are_decided_again_and_nothing_is_left_out_in_silence() {
    let (before, after) = (folder(), folder());
    // Readers must be trusted more.
    edit(
        after.path(),
        "policies/standing.cedar",
        "trust >= 1",
        "trust >= 2",
    );
    let none = json!({});
    let reader = |trust: u8| json!({"facts": {"roles": ["reader"], "env": "prod", "trust": trust}, "ip": "10.0.0.7", "session": session(false, 0)});
    let web = json!({"uuid": "web"});
    let grant = json!({
        "id": "grant_0193a7f2c0d07000800000000000002a", "agent": "6f1b8a52-9f0d-4a4e-8f11-1d2c3b4a5e6f",
        "scope": {"kind": "call", "command": RESTART, "digest": digest(&web)}, "risk": "write",
        "issued": "2026-11-20T08:30:00.000Z", "expires": "2026-11-20T09:30:00.000Z", "first": "dan",
        "approval": "apr_0193a7f2c0d07000800000000000002a",
    });
    let granted = json!({"facts": {"env": "prod", "trust": 1, "grants": [grant]}, "ip": "10.0.0.7", "session": session(true, 3)});
    let secret = json!({"uuid": "web", "token": "t0p"});
    let mut redacted = call("intent", "reader", LIST, "read", &secret);
    redacted["arguments"]["token"] = json!("[redacted]");
    let lines = [
        json!({"at": "2026-11-20T09:00:00.000Z", "gateway": "gateway-1", "kind": "start", "version": "0.1.0"}),
        with(call("intent", "reader", LIST, "read", &none), &reader(1)),
        with(
            call("outcome", "reader", LIST, "read", &none),
            &json!({"status": "success"}),
        ),
        with(call("intent", "reader", LIST, "read", &none), &reader(2)),
        with(redacted, &reader(1)),
        with(call("intent", "helper", RESTART, "write", &web), &granted),
        with(
            call("refusal", "helper", LIST, "read", &none),
            &json!({"reason": "policy", "outcome": "pending", "policies": [], "facts": {"env": "prod", "trust": 1}, "ip": "::1"}),
        ),
        // Of gateways that did not keep facts; the one before did not know of sessions.
        call("intent", "reader-bot", LIST, "read", &none),
        call("intent", "unheard-of", LIST, "read", &none),
        with(
            call("intent", "reader", "gone/list", "read", &none),
            &reader(1),
        ),
    ];
    let file = after.path().join("journal-00000000000000000001.jsonl");
    journal(&file, &lines);

    let name = before.path().join("policies");
    let name = name.to_str().unwrap();
    let arguments = ["diff", name, "policies", "--journal"];
    let run = |journal: &str, more: &[&str]| {
        cedargate(after.path(), &[&arguments[..], &[journal], more].concat())
    };
    let (code, out, err) = run(".", &["--json"]);
    assert_eq!(code, 0, "{out}{err}");
    let report = parsed(&out);
    let recorded = &report["recorded"];
    assert_eq!(recorded["calls"], 7, "{recorded}");
    assert_eq!(
        recorded["without"],
        json!({"arguments": 1, "facts": 1, "session": 1, "command": 1})
    );
    let why =
        "the record has no facts of `unheard-of`, and the fixtures have no agent of that name";
    assert_eq!(recorded["left_out"], json!({why: 1}));
    assert_eq!(recorded["damaged"], json!([]));
    let changes = recorded["changes"].as_array().unwrap();
    let lines: Vec<&str> = changes
        .iter()
        .map(|change| {
            change["place"]
                .as_str()
                .unwrap()
                .rsplit(':')
                .next()
                .unwrap()
        })
        .collect();
    assert_eq!(lines, ["2", "5", "8", "10"], "{recorded}");
    let first = &changes[0];
    assert_eq!(
        (
            &first["then"],
            &first["before"]["verdict"],
            &first["after"]["verdict"]
        ),
        (&json!("permit"), &json!("permit"), &json!("escalate")),
        "{first}"
    );
    assert_eq!(changes[1]["without"], json!(["arguments"]));

    let (code, out, _) = run(".", &[]);
    assert_eq!(code, 0);
    for part in [
        "4 of 7 recorded calls change",
        "4 of the 7 were decided on less than the gateway knew, 3 of those that change",
        "1 without the values of arguments",
        "1 calls not decided again: the record has no facts of `unheard-of`",
        "permit  ",
        "escalate (1)",
    ] {
        assert!(out.contains(part), "`{part}` is not in\n{out}");
    }
    assert!(!out.contains("t0p"), "{out}");

    // A damaged line is named, the others count, and the exit code says so.
    let text = fs::read_to_string(&file).unwrap();
    let damaged = text.replacen(
        "\"reader\",\"command\":\"coolify/list-servers\"",
        "\"reader\",\"command\":\"coolify/list-serverx\"",
        1,
    );
    assert_ne!(text, damaged);
    fs::write(&file, format!("{damaged}{{\"sequence\":11,")).unwrap();
    let (code, out, err) = run("journal-00000000000000000001.jsonl", &[]);
    assert_eq!(code, 1, "{out}{err}");
    for part in [
        "3 of 6 recorded calls change",
        "2 damaged lines:",
        "journal-00000000000000000001.jsonl:2: it was changed",
        "journal-00000000000000000001.jsonl:11: it is not finished",
    ] {
        assert!(out.contains(part), "`{part}` is not in\n{out}");
    }
    // The same policies change nothing, and are not evaluated for it.
    let (code, out, _) = cedargate(
        after.path(),
        &["diff", "policies", "policies", "--journal", "."],
    );
    assert!(
        code == 1 && out.contains("0 of 6 recorded calls change"),
        "{out}"
    );
}

#[test]
fn many_recorded_calls_take_seconds() {
    let (before, after) = (folder(), folder());
    // It concerns one command: every other call is known to be the same without deciding it.
    fs::write(
        after.path().join("policies/freeze.cedar"),
        "@id(\"guard.freeze\")\nforbid (principal is Agent, action in Action::\"write\", resource == Command::\"coolify/restart-application\");\n",
    )
    .unwrap();
    let none = json!({});
    let facts = json!({"facts": {"roles": ["reader"], "env": "prod", "trust": 1, "allowed_mcps": ["coolify"]}, "ip": "10.0.0.7"});
    let list = with(call("intent", "reader", LIST, "read", &none), &facts);
    let mut lines = vec![list; 4_000];
    let restart = with(
        call(
            "intent",
            "reader",
            RESTART,
            "write",
            &json!({"uuid": "web"}),
        ),
        &facts,
    );
    for at in [17, 400, 3_999] {
        lines[at] = restart.clone();
    }
    journal(&after.path().join("calls.jsonl"), &lines);
    let name = before.path().join("policies");
    let began = Instant::now();
    let (code, out, err) = cedargate(
        after.path(),
        &[
            "diff",
            name.to_str().unwrap(),
            "policies",
            "--journal",
            "calls.jsonl",
        ],
    );
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("3 of 4,000 recorded calls change"), "{out}");
    assert!(out.contains("guard.freeze"), "{out}");
    // Without optimisation, and on a machine that does other things; to decide them all
    // would take several times as long.
    assert!(began.elapsed().as_secs() < 60, "{:?}", began.elapsed());
}

#[test]
fn what_cannot_be_compared_is_told() {
    let folder = folder();
    fs::create_dir(folder.path().join("empty")).unwrap();
    fs::write(folder.path().join("none.jsonl"), "").unwrap();
    fs::remove_file(folder.path().join("policies/fixtures.yaml")).unwrap();
    for (name, arguments, expected) in [
        (
            "no fixtures",
            vec!["diff", "policies", "policies"],
            (2, "--fixtures"),
        ),
        (
            "no journal",
            vec!["diff", "policies", "policies", "--journal", "nowhere"],
            (2, "nowhere"),
        ),
        (
            "a folder without journal",
            vec!["diff", "policies", "policies", "--journal", "empty"],
            (2, "no journal in it"),
        ),
        (
            "no call",
            vec!["diff", "policies", "policies", "--journal", "none.jsonl"],
            (2, "no recorded call"),
        ),
        (
            "neither folder nor version",
            vec!["diff", "policies", "polices"],
            (2, "neither a folder nor a version"),
        ),
        (
            "no such folder",
            vec!["diff", "./nowhere/policies", "policies"],
            (2, "no folder `./nowhere/policies`"),
        ),
        (
            "nobody to ask",
            vec![
                "diff",
                "active",
                "policies",
                "--audit",
                "--url",
                "http://127.0.0.1:9",
            ],
            (1, "no answer"),
        ),
    ] {
        let (code, out, err) = cedargate(folder.path(), &arguments);
        assert_eq!((code, out.as_str()), (expected.0, ""), "{name}: {err}");
        assert!(err.contains(expected.1), "{name}: {err}");
    }
}

/// A call is decided again in the session that it was sent in.
#[test]
fn recorded_calls_belong_to_their_sessions() {
    let (before, after) = (folder(), folder());
    edit(
        after.path(),
        "policies/walls.cedar",
        "context.session.tainted",
        "context.session.calls > 3",
    );
    let web = json!({"uuid": "web"});
    let facts = json!({"facts": {"env": "prod", "trust": 1, "allowed_mcps": ["coolify"]}, "ip": "10.0.0.7"});
    let restart = |session: Value| {
        let restart = with(call("intent", "helper", RESTART, "write", &web), &facts);
        with(restart, &json!({"session": session}))
    };
    let old = with(call("intent", "helper", RESTART, "write", &web), &facts);
    let lines = [
        restart(session(true, 3)),
        restart(session(false, 4)),
        restart(session(false, 3)),
        old,
        restart(json!({"tainted": true})),
    ];
    let file = after.path().join("journal-00000000000000000001.jsonl");
    journal(&file, &lines);
    let name = before.path().join("policies");
    let (code, out, err) = cedargate(
        after.path(),
        &[
            "diff",
            name.to_str().unwrap(),
            "policies",
            "--journal",
            ".",
            "--json",
        ],
    );
    assert_eq!(code, 1, "{out}{err}");
    let report = parsed(&out);
    let recorded = &report["recorded"];
    assert_eq!(recorded["calls"], 4, "{recorded}");
    assert_eq!(recorded["without"], json!({"session": 1}));
    let damaged = recorded["damaged"].as_array().unwrap();
    assert!(
        damaged.len() == 1 && damaged[0].as_str().unwrap().contains("no session"),
        "{damaged:?}"
    );
    let changes: Vec<_> = recorded["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|change| (&change["before"]["verdict"], &change["after"]["verdict"]))
        .collect();
    assert_eq!(
        changes,
        [
            (&json!("escalate"), &json!("permit")),
            (&json!("permit"), &json!("escalate")),
        ]
    );
}
