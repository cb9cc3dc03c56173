//! Sessions of agents, from the header to the record.

use std::sync::atomic::Ordering;

use authz::Session;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::world::{Answered, BOT, LOOPBACK, NOON, OTHER, World, around};

const LOGS: &str = "/mcp-coolify applications logs web";
const RESTART: &str = "/mcp-coolify applications restart web";
const LIST: &str = "/mcp-coolify servers list";

async fn within(world: &World, agent: &str, sessions: &[&str], command: &str) -> Answered {
    let mut headers = vec![("content-type", "application/json"), ("x-agent-id", agent)];
    headers.extend(sessions.iter().map(|session| ("x-session-id", *session)));
    let body = json!({"command": command}).to_string();
    let request = World::request(Method::POST, "/execute", &headers, &body);
    world.send(LOOPBACK, request).await
}

/// The sessions of the decisions about a command, in their order.
fn recorded(journal: &[Value], command: &str) -> Vec<Session> {
    let lines = journal
        .iter()
        .filter(|line| line["command"] == command && line["kind"] != "outcome");
    lines
        .map(|line| serde_json::from_value(line["session"].clone()).unwrap())
        .collect()
}

#[tokio::test]
async fn who_reads_untrusted_content_is_tainted_in_all_its_sessions() {
    let world = World::new().await;
    let restart = async |session| within(&world, OTHER, &[session], RESTART).await;
    let before = restart("one").await;
    assert_eq!(before.status, StatusCode::OK, "{before:?}");
    assert_eq!(before.body["result"]["metadata"]["untrusted"], Value::Null);

    let read = within(&world, OTHER, &["one"], LOGS).await;
    assert_eq!(read.status, StatusCode::OK, "{read:?}");
    assert_eq!(read.body["result"]["metadata"]["untrusted"], true);

    for session in ["one", "another", "and-another"] {
        let refused = restart(session).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{session}");
        let data = refused.data();
        assert_eq!(data["policies"], json!(["wall.tainted-session"]));
        assert_eq!(data["outcome"], "pending");
        assert!(data["advice"][0].as_str().unwrap().contains("anybody"));
    }
    // Reading goes on, and nobody else is concerned.
    assert_eq!(world.execute(OTHER, LIST).await.status, StatusCode::OK);
    let unconcerned = world.execute("local", LIST).await;
    assert_eq!(unconcerned.status, StatusCode::OK);

    // The people who decide it decide it for the session that asked.
    let opened = world.orchestrator.opened();
    let session = opened.last().unwrap().session.unwrap();
    assert!(session.tainted);

    // When all its sessions have ended, it begins anew.
    world.monotonic.fetch_add(1_800, Ordering::SeqCst);
    let after = restart("one").await;
    assert_eq!(after.status, StatusCode::OK, "{after:?}");

    let journal = world.end().await;
    let of_logs = journal.iter().find(|line| line["untrusted"] == true);
    let of_logs = of_logs.unwrap();
    assert_eq!(
        (&of_logs["kind"], &of_logs["command"]),
        (&json!("intent"), &json!("coolify/get-application-logs"))
    );
    let restarts = recorded(&journal, "coolify/restart-application");
    let tainted: Vec<bool> = restarts.iter().map(|session| session.tainted).collect();
    assert_eq!(tainted, [false, true, true, true, false]);
    assert_eq!(restarts[0].id, restarts[1].id);
    assert_ne!(restarts[1].id, restarts[2].id);
    assert_ne!(restarts[0].id, restarts[4].id, "it had ended");
    assert_eq!(restarts[1].calls, 2, "one restart and one look at the logs");
    assert!(restarts[1..4].contains(&session));
    let of_local = recorded(&journal, "coolify/list-servers");
    assert!(of_local[0].tainted && !of_local[1].tainted);
}

#[tokio::test]
async fn what_a_service_says_of_a_failure_is_its_content_too() {
    let world = World::new().await;
    *world.upstream.status.lock().unwrap() = StatusCode::UNPROCESSABLE_ENTITY;
    let failed = within(&world, OTHER, &[], LOGS).await;
    assert_ne!(failed.status, StatusCode::OK);
    *world.upstream.status.lock().unwrap() = StatusCode::OK;
    let refused = within(&world, OTHER, &[], RESTART).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{refused:?}");
    world.end().await;
}

#[tokio::test]
async fn what_was_refused_was_not_read() {
    let world = World::new().await;
    // It may not read logs, nor anything else.
    let refused = within(&world, BOT, &[], LOGS).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    let refused = within(&world, BOT, &[], RESTART).await;
    assert_eq!(refused.data()["policies"], json!([]));
    let journal = world.end().await;
    let sessions = recorded(&journal, "coolify/restart-application");
    assert!(!sessions[0].tainted);
    assert_eq!(sessions[0].calls, 0, "what was refused is not counted");
}

#[tokio::test]
async fn sessions_are_named_by_a_header_or_are_one() {
    let world = World::new().await;
    for sessions in [&[][..], &["a"], &[], &["a"], &["b"]] {
        let answered = within(&world, OTHER, sessions, LIST).await;
        assert_eq!(answered.status, StatusCode::OK);
    }
    // Another agent's session of that name is another.
    let answered = within(&world, "local", &["a"], LIST).await;
    assert_eq!(answered.status, StatusCode::OK);
    let long = "x".repeat(129);
    for wrong in [&["a", "a"][..], &[""], &["a b"], &[&long]] {
        let refused = within(&world, OTHER, wrong, LIST).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{wrong:?}");
        assert_eq!(refused.code(), -32600, "{wrong:?}");
        let message = refused.message();
        assert!(message.contains("x-session-id"), "{message}");
        assert!(!message.contains(&long), "{message}");
    }
    let journal = world.end().await;
    let sessions = recorded(&journal, "coolify/list-servers");
    let counted: Vec<_> = sessions.iter().map(|session| session.calls).collect();
    assert_eq!(counted, [0, 0, 1, 1, 0, 0]);
    let ids: Vec<_> = sessions.iter().map(|session| session.id).collect();
    assert_eq!((ids[0], ids[1]), (ids[2], ids[3]));
    let distinct: std::collections::BTreeSet<_> = ids.iter().collect();
    assert_eq!(distinct.len(), 4);
    assert!(
        !journal
            .iter()
            .any(|line| line.to_string().contains("x-session-id"))
    );
    assert!(
        sessions
            .iter()
            .all(|session| session.started.as_millis() == NOON)
    );
}

#[tokio::test]
async fn a_restart_does_not_wash_a_taint_off() {
    let world = World::new().await;
    assert_eq!(
        within(&world, OTHER, &[], LOGS).await.status,
        StatusCode::OK
    );
    // As it is at this moment, should the gateway be killed.
    let killed = tempfile::tempdir().unwrap();
    copy_journal(world.folder.path(), killed.path());
    world.end().await;

    let tainted_after = async |seconds: i64| {
        let around = around().await;
        around.advance(seconds * 1_000);
        let folder = tempfile::tempdir().unwrap();
        copy_journal(killed.path(), folder.path());
        let journal = folder.path().to_owned();
        let world = World::over(around, |config| config.journal = journal);
        world
            .until("it is ready", || {
                world.gateway.ready().status() == StatusCode::OK
            })
            .await;
        let restarted = within(&world, OTHER, &["new"], RESTART).await;
        let other = within(&world, "local", &[], LIST).await;
        assert_eq!(other.status, StatusCode::OK);
        restarted.status == StatusCode::FORBIDDEN
    };
    assert!(tainted_after(60).await);
    // The answer may have been on its way for as long as a request may take.
    assert!(tainted_after(1_800 + 29).await);
    assert!(!tainted_after(1_800 + 31).await);
}

fn copy_journal(from: &std::path::Path, to: &std::path::Path) {
    let mut copied = 0;
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| extension == "jsonl")
        {
            std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
            copied += 1;
        }
    }
    assert!(copied > 0);
}
