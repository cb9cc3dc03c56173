//! The engine against services that misbehave, on real sockets.

mod misbehaving;
mod places;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::*;
use crate::{Catalog, Parsed};

const TOKEN: &str = "7|s3cr3t-t0ken-of-ours";
const UUID: &str = "dg0ksw4ow8k4cs0wkk4kscwo";

/// What reached a service: request line, headers in lower case, body.
#[derive(Clone, Debug, Default)]
struct Seen {
    line: String,
    headers: Vec<String>,
    body: String,
}

/// A service that answers each request with the next of `answers`, bytes as they are, and
/// then closes. What it saw is kept.
#[derive(Clone)]
struct Raw {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Raw {
    async fn start(answers: Vec<String>) -> Self {
        Self::bytes(answers.into_iter().map(String::into_bytes).collect()).await
    }

    async fn bytes(answers: Vec<Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let raw = Self {
            address: listener.local_addr().unwrap(),
            seen: Arc::default(),
        };
        let seen = Arc::clone(&raw.seen);
        tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let request = read_request(&mut stream).await;
                seen.lock().unwrap().push(request);
                // Who has heard enough may have gone.
                let _ = stream.write_all(&answer).await;
                let _ = stream.shutdown().await;
            }
        });
        raw
    }

    async fn json(status: &str, body: &Value) -> Self {
        Self::start(vec![answer(
            status,
            "content-type: application/json",
            &body.to_string(),
        )])
        .await
    }

    fn lines(&self) -> Vec<String> {
        self.seen
            .lock()
            .unwrap()
            .iter()
            .map(|seen| seen.line.clone())
            .collect()
    }

    fn last(&self) -> Seen {
        self.seen
            .lock()
            .unwrap()
            .last()
            .cloned()
            .unwrap_or_default()
    }
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\n{headers}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

async fn read_request(stream: &mut TcpStream) -> Seen {
    let mut bytes = Vec::new();
    let head = loop {
        assert_ne!(
            stream.read_buf(&mut bytes).await.unwrap(),
            0,
            "the request ended early"
        );
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
    };
    let text = String::from_utf8(bytes[..head].to_vec()).unwrap();
    let mut lines = text.split("\r\n").map(str::to_owned);
    let line = lines.next().unwrap();
    let headers: Vec<String> = lines.map(|line| line.to_lowercase()).collect();
    let length = headers
        .iter()
        .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok())
        .unwrap_or(0);
    while bytes.len() < head + 4 + length {
        assert_ne!(
            stream.read_buf(&mut bytes).await.unwrap(),
            0,
            "the body ended early"
        );
    }
    Seen {
        line,
        headers,
        body: String::from_utf8(bytes[head + 4..].to_vec()).unwrap(),
    }
}

fn coolify(address: SocketAddr, timeout: &str) -> Catalog {
    Catalog::load(&|name| match name {
        "COOLIFY_API_URL" => Some(format!("http://{address}")),
        "COOLIFY_API_TOKEN" => Some(TOKEN.to_owned()),
        "HTTP_TIMEOUT_MS" => Some(timeout.to_owned()),
        _ => None,
    })
    .unwrap()
}

async fn send(catalog: &Catalog, line: &str) -> Result<Value, HandlerError> {
    match catalog.parse_slash(line) {
        Ok(Parsed::Command(command)) => catalog.carry_out(&command).await.map(|answer| answer.data),
        other => panic!("{line}: {other:?}"),
    }
}

async fn ask(raw: &Raw, line: &str) -> Result<Value, HandlerError> {
    send(
        &coolify(raw.address, "10000"),
        &format!("/mcp-coolify {line}"),
    )
    .await
}

#[tokio::test]
async fn servers_are_listed_with_what_the_next_command_needs() {
    let raw = Raw::json(
        "200 OK",
        &json!([{
            "uuid": UUID, "name": "localhost", "ip": "host.docker.internal", "port": 22, "user": "root",
            "settings": {"is_reachable": true, "is_usable": true, "sentinel_token": "x"}, "validation_logs": "…"
        }]),
    )
    .await;
    let data = ask(&raw, "servers list").await.unwrap();
    assert_eq!(
        data,
        json!({"operation": "list_servers", "count": 1, "servers": [{
            "uuid": UUID, "name": "localhost", "ip": "host.docker.internal", "port": 22, "user": "root",
            "is_reachable": true, "is_usable": true,
        }]})
    );
    let first = data.as_object().and_then(|data| data.keys().next());
    assert_eq!(
        first.map(String::as_str),
        Some("operation"),
        "it comes first"
    );
    let seen = raw.last();
    assert_eq!(seen.line, "GET /api/v1/servers HTTP/1.1");
    assert!(
        seen.headers
            .contains(&format!("authorization: bearer {TOKEN}")),
        "{:?}",
        seen.headers
    );
    assert!(
        seen.headers
            .contains(&"accept: application/json".to_owned()),
        "{:?}",
        seen.headers
    );
}

#[tokio::test]
async fn an_argument_stays_in_its_place() {
    // A service without patterns: the engine alone must hold.
    const PLAIN: &str = r#"
        name = "plain"
        version = "1"
        kind = "http"
        description = "For tests."
        address = { variable = "PLAIN_URL" }
        [[commands]]
        name = "stop-thing"
        phrase = "things stop"
        summary = "Stops a thing"
        risk = "destroy"
        request = "POST /things/{id}/stop"
        arguments = [{ name = "id", description = "Which" }, { name = "q", in = "query", description = "Any" }, { name = "b", description = "Any" }]
        answer = { merge = true }
    "#;
    let cases = [
        (
            "x/../../databases/y",
            "/api/things/x%2F..%2F..%2Fdatabases%2Fy/stop",
        ),
        ("...", "/api/things/.../stop"),
        ("a b?c=d#e", "/api/things/a%20b%3Fc%3Dd%23e/stop"),
        ("%2e%2e", "/api/things/%252e%252e/stop"),
        ("%2F", "/api/things/%252F/stop"),
        ("..\\\\x", "/api/things/..%5Cx/stop"),
        ("a;b&c@d:e", "/api/things/a%3Bb%26c%40d%3Ae/stop"),
        (
            "ü\u{0}\r\nHost: x",
            "/api/things/%C3%BC%00%0D%0AHost%3A%20x/stop",
        ),
    ];
    for (id, path) in cases {
        let id = id.replace("\\\\", "\\");
        let raw = Raw::json(
            "200 OK",
            &json!({"message": "stopped", "operation": "theirs"}),
        )
        .await;
        let catalog = Catalog::from_descriptions(&[("plain.toml", PLAIN)], &|name| {
            (name == "PLAIN_URL").then(|| format!("http://{}/api/", raw.address))
        });
        let arguments = json!({"id": id, "q": "1&x=2", "b": "\"}"});
        let Ok(Parsed::Command(command)) =
            catalog
                .as_ref()
                .unwrap()
                .command("plain", "stop-thing", arguments)
        else {
            panic!()
        };
        let data = catalog.unwrap().carry_out(&command).await.unwrap().data;
        assert_eq!(
            data,
            json!({"operation": "stop_thing", "message": "stopped"})
        );
        let seen = raw.last();
        assert_eq!(seen.line, format!("POST {path}?q=1%26x%3D2 HTTP/1.1"));
        assert_eq!(seen.body, r#"{"b":"\"}"}"#);
    }
    let catalog = Catalog::from_descriptions(&[("plain.toml", PLAIN)], &|name| {
        (name == "PLAIN_URL").then(|| "http://127.0.0.1:9".to_owned())
    })
    .unwrap();
    for id in [".", ".."] {
        let Ok(Parsed::Command(command)) = catalog.command("plain", "stop-thing", json!([id]))
        else {
            panic!()
        };
        let error = catalog.carry_out(&command).await.unwrap_err();
        assert!(
            matches!(error, HandlerError::Rejected { status: 400, .. }),
            "{id}: {error}"
        );
    }
}

#[tokio::test]
async fn actions_keep_what_the_service_says_of_them() {
    let raw = Raw::json(
        "200 OK",
        &json!({"message": "Restart request queued.", "deployment_uuid": "d1"}),
    )
    .await;
    let data = ask(&raw, &format!("applications restart {UUID}"))
        .await
        .unwrap();
    assert_eq!(
        data,
        json!({"operation": "restart_application", "application_id": UUID, "message": "Restart request queued.", "deployment_uuid": "d1"})
    );
    assert_eq!(
        raw.last().line,
        format!("POST /api/v1/applications/{UUID}/restart HTTP/1.1")
    );
}

#[tokio::test]
async fn data_is_kept_unless_its_deletion_is_asked_for() {
    let raw = Raw::json(
        "200 OK",
        &json!({"message": "Application deletion request queued."}),
    )
    .await;
    ask(&raw, &format!("applications delete {UUID}"))
        .await
        .unwrap();
    assert_eq!(
        raw.last().line,
        format!(
            "DELETE /api/v1/applications/{UUID}?delete_volumes=false&delete_configurations=false\
             &delete_connected_networks=false&docker_cleanup=false HTTP/1.1"
        )
    );
    let raw = Raw::json("200 OK", &json!({})).await;
    ask(
        &raw,
        &format!("applications delete {UUID} --delete-volumes"),
    )
    .await
    .unwrap();
    assert!(
        raw.last().line.contains("delete_volumes=true&"),
        "{:?}",
        raw.lines()
    );
}

#[tokio::test]
async fn deploying_is_a_post_with_a_query() {
    let raw = Raw::json("200 OK", &json!({"deployments": [{"message": "queued", "resource_uuid": UUID, "deployment_uuid": "d1"}]})).await;
    let data = ask(&raw, &format!("deploy-application {UUID} --force"))
        .await
        .unwrap();
    assert_eq!(data["deployments"][0]["deployment_uuid"], json!("d1"));
    assert_eq!(data["count"], json!(1));
    assert_eq!(
        raw.last().line,
        format!("POST /api/v1/deploy?uuid={UUID}&force=true HTTP/1.1")
    );
}

#[tokio::test]
async fn an_older_version_is_asked_by_its_own_method() {
    let gone = answer(
        "405 Method Not Allowed",
        "allow: GET",
        r#"{"message":"no"}"#,
    );
    let raw = Raw::start(vec![
        gone.clone(),
        answer("200 OK", "x-a: b", r#"{"message":"Validation started."}"#),
    ])
    .await;
    let data = ask(&raw, &format!("servers validate {UUID}"))
        .await
        .unwrap();
    assert_eq!(
        data,
        json!({"operation": "validate_server", "server_id": UUID, "message": "Validation started."})
    );
    let line = |method: &str| format!("{method} /api/v1/servers/{UUID}/validate HTTP/1.1");
    assert_eq!(raw.lines(), [line("POST"), line("GET")]);

    // Without another method in the description, 405 is the answer.
    let raw = Raw::start(vec![gone]).await;
    let error = ask(&raw, &format!("applications start {UUID}"))
        .await
        .unwrap_err();
    assert!(
        matches!(error, HandlerError::Rejected { status: 405, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn a_variable_is_set_whether_it_is_new_or_not() {
    let raw = Raw::start(vec![
        answer(
            "404 Not Found",
            "x-a: b",
            r#"{"message":"Environment variable not found."}"#,
        ),
        answer("201 Created", "x-a: b", r#"{"uuid":"e1"}"#),
    ])
    .await;
    let data = ask(&raw, &format!("applications envs set {UUID} MODE 'a b'"))
        .await
        .unwrap();
    assert_eq!(
        data,
        json!({"operation": "set_application_env", "application_id": UUID, "uuid": "e1"})
    );
    assert_eq!(
        raw.lines()
            .iter()
            .map(|line| line.split(' ').next().unwrap())
            .collect::<Vec<_>>(),
        ["PATCH", "POST"]
    );
    assert_eq!(raw.last().body, r#"{"key":"MODE","value":"a b"}"#);
}

#[tokio::test]
async fn secrets_in_answers_are_hidden() {
    let raw = Raw::json(
        "200 OK",
        &json!([{"uuid": "e1", "key": "DB_PASSWORD", "value": "hunter2", "real_value": "'hunter2'", "is_literal": true}]),
    )
    .await;
    let data = ask(&raw, &format!("applications envs list {UUID}"))
        .await
        .unwrap();
    assert_eq!(
        data["envs"],
        json!([{"uuid": "e1", "key": "DB_PASSWORD", "value": "[redacted]", "real_value": "[redacted]", "is_literal": true}])
    );

    let body = json!({"uuid": UUID, "postgres_password": "hunter2", "internal_db_url": "postgres://u:hunter2@h", "private_key_id": 7,
        "note": format!("Bearer {TOKEN}"), "git_full_url": "https://u:hunter2@git.example.com/x", "destination": {"server": {"settings": {"sentinel_token": "hunter2"}}}});
    let raw = Raw::json("200 OK", &body).await;
    let text = ask(&raw, &format!("databases get {UUID}"))
        .await
        .unwrap()
        .to_string();
    assert!(
        !text.contains("hunter2") && !text.contains("s3cr3t"),
        "{text}"
    );
    assert!(text.contains(r#""private_key_id":7"#), "{text}");

    let raw = Raw::json(
        "200 OK",
        &json!({"logs": "start\nDB_PASSWORD=hunter2\nready"}),
    )
    .await;
    let data = ask(&raw, &format!("applications logs {UUID} 5"))
        .await
        .unwrap();
    assert_eq!(data["logs"], json!("start\nDB_PASSWORD=[redacted]\nready"));
}

#[tokio::test]
async fn plain_text_and_numbered_objects_are_understood() {
    let raw = Raw::start(vec![answer(
        "200 OK",
        "content-type: text/html",
        "4.0.0-beta.441",
    )])
    .await;
    assert_eq!(
        ask(&raw, "get-version").await.unwrap(),
        json!({"operation": "get_version", "version": "4.0.0-beta.441"})
    );

    let raw = Raw::json("200 OK", &json!({"10": {"deployment_uuid": "c"}, "1": {"deployment_uuid": "a"}, "2": {"deployment_uuid": "b"}})).await;
    let data = ask(&raw, "deployments list").await.unwrap();
    assert_eq!(
        data["deployments"],
        json!([{"deployment_uuid": "a"}, {"deployment_uuid": "b"}, {"deployment_uuid": "c"}])
    );

    let raw = Raw::json(
        "200 OK",
        &json!({"count": 31, "deployments": [{"deployment_uuid": "a"}]}),
    )
    .await;
    let data = ask(&raw, &format!("deployments history {UUID}"))
        .await
        .unwrap();
    assert_eq!(
        (
            &data["count"],
            data["deployments"].as_array().unwrap().len()
        ),
        (&json!(1), 1)
    );

    let raw = Raw::start(vec![answer("204 No Content", "x-a: b", "")]).await;
    assert_eq!(
        ask(&raw, &format!("projects delete {UUID}")).await.unwrap()["project_id"],
        json!(UUID)
    );
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
async fn refusals_are_told_apart_and_hold_no_secret() {
    let leak = format!(
        "the token {TOKEN} and {} are known",
        TOKEN.replace('|', "%7C")
    );
    let cases = [
        (
            "401 Unauthorized",
            json!({"message": "Unauthenticated."}),
            "Credential",
            "COOLIFY_API_TOKEN",
        ),
        (
            "400 Bad Request",
            json!({"message": "Invalid token."}),
            "Credential",
            "COOLIFY_API_TOKEN",
        ),
        (
            "403 Forbidden",
            json!({"message": "Missing required permissions: deploy"}),
            "Credential",
            "permissions: deploy",
        ),
        (
            "403 Forbidden",
            json!({"success": true, "message": "API is disabled."}),
            "Credential",
            "switch it on",
        ),
        (
            "403 Forbidden",
            json!({"success": true, "message": "You are not allowed to access the API."}),
            "Credential",
            "address",
        ),
        (
            "401 Unauthorized",
            json!({"message": "hunter2 is not the token, s3cr3t is"}),
            "Credential",
            "is wrong, expired or revoked",
        ),
        (
            "403 Forbidden",
            json!({"message": "DB_PASSWORD=hunter2 lacks a permission"}),
            "Credential",
            "DB_PASSWORD=[redacted]",
        ),
        (
            "422 Unprocessable Content",
            json!({"message": "Validation failed.", "errors": {"api_key": ["hunter2 is taken"]}}),
            "Rejected",
            "api_key: [redacted]",
        ),
        (
            "403 Forbidden",
            json!({}),
            "Credential",
            "it gave no reason",
        ),
        (
            "404 Not Found",
            json!({"message": "Application not found."}),
            "NotFound",
            "Application not found",
        ),
        (
            "400 Bad Request",
            json!({"message": "Application is not running."}),
            "Rejected",
            "not running",
        ),
        (
            "409 Conflict",
            json!({"message": "Domain conflicts", "warning": "in use", "conflicts": []}),
            "Rejected",
            "Domain conflicts; in use",
        ),
        (
            "422 Unprocessable Content",
            json!({"message": "Validation failed.", "errors": {"name": ["The name is taken."]}}),
            "Rejected",
            "name: The name is taken",
        ),
        (
            "400 Bad Request",
            json!({"message": leak}),
            "Rejected",
            "[redacted]",
        ),
        ("418 Teapot", json!("a\nb"), "Rejected", "no reason"),
        (
            "500 Internal Server Error",
            json!({"message": leak, "exception": "at /var/www DB_PASSWORD=hunter2"}),
            "Failed",
            "status 500",
        ),
        (
            "503 Service Unavailable",
            json!({"message": "hunter2"}),
            "Failed",
            "status 503",
        ),
    ];
    for (status, body, kind, says) in cases {
        let raw = Raw::json(status, &body).await;
        let error = ask(&raw, &format!("applications start {UUID}"))
            .await
            .unwrap_err();
        let (shown, debug) = (error.to_string(), format!("{error:?}"));
        assert!(debug.starts_with(kind), "{status} {body}: {debug}");
        assert!(shown.contains(says), "{status} {body}: {shown}");
        for secret in ["s3cr3t", "hunter2", "/var/www"] {
            assert!(!debug.contains(secret), "{debug}");
        }
    }
}

#[tokio::test]
async fn a_secret_argument_is_not_repeated_by_an_error() {
    let raw = Raw::json(
        "422 Unprocessable Content",
        &json!({"message": "value hunter2-hunter2 is bad"}),
    )
    .await;
    let error = ask(
        &raw,
        &format!("applications envs set {UUID} A hunter2-hunter2"),
    )
    .await
    .unwrap_err();
    assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
}

#[tokio::test]
async fn patience_is_passed_on() {
    for (header, expected) in [
        ("retry-after: 60", Some(Duration::from_mins(1))),
        ("retry-after: 999999999", Some(Duration::from_hours(1))),
        ("retry-after: Wed, 21 Oct 2026 07:28:00 GMT", None),
        ("x-a: b", None),
    ] {
        let raw = Raw::start(vec![answer(
            "429 Too Many Requests",
            header,
            r#"{"message":"queue full"}"#,
        )])
        .await;
        let error = ask(&raw, &format!("applications start {UUID}"))
            .await
            .unwrap_err();
        assert_eq!(
            error,
            HandlerError::TooMany {
                service: "coolify".to_owned(),
                retry_after: expected
            }
        );
    }
}

#[tokio::test]
async fn answers_that_are_no_answers_are_failures() {
    let page = "<!doctype html><title>Login</title> hunter2";
    let huge = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", 5 << 20);
    let chunk = format!("100000\r\n{}\r\n", "a".repeat(1 << 20));
    let endless = format!(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{}",
        chunk.repeat(5)
    );
    let cases = [
        (
            answer("200 OK", "content-type: text/html", page),
            "web page",
        ),
        (
            answer("200 OK", "content-type: application/json", "{\"a\":"),
            "not JSON",
        ),
        (
            answer("200 OK", "content-type: application/json", "{\"a\":1}"),
            "not a list",
        ),
        (
            answer("200 OK", "content-type: application/json", "\"x\""),
            "not a list",
        ),
        (
            answer(
                "302 Found",
                "location: https://elsewhere.example/?hunter2",
                page,
            ),
            "redirects",
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n[{\"uuid\":".to_owned(),
            "ended early",
        ),
        ("HTTP/1.1 200 OK\r\ncontent-le".to_owned(), "no answer"),
        ("220 smtp ready hunter2\r\n".to_owned(), "no answer"),
        (huge, "longer than"),
        (endless, "longer than"),
    ];
    for (bytes, says) in cases {
        let raw = Raw::start(vec![bytes]).await;
        let error = ask(&raw, "servers list").await.unwrap_err();
        // Without a whole answer nobody knows whether it was done.
        let broken = says == "ended early" || says == "no answer";
        assert_eq!(
            matches!(error, HandlerError::Broken { .. }),
            broken,
            "{says}: {error:?}"
        );
        assert_eq!(
            matches!(error, HandlerError::Failed { .. }),
            !broken,
            "{says}: {error:?}"
        );
        assert!(error.to_string().contains(says), "{says}: {error}");
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }
}

#[tokio::test]
async fn a_change_that_was_made_is_no_failure_whatever_is_said_of_it() {
    let cases = [
        ("applications start", "[1]", json!([1])),
        ("applications tags list", "{\"a\":1}", Value::Null),
        ("servers cleanup", "done", Value::Null),
    ];
    for (command, body, result) in cases {
        let raw = Raw::start(vec![answer("200 OK", "x-a: b", body)]).await;
        match ask(&raw, &format!("{command} {UUID}")).await {
            Ok(data) if command == "servers cleanup" => assert_eq!(data["message"], json!("done")),
            Ok(data) => assert_eq!(data["result"], result),
            // Reading is another thing: there the answer is what was asked for.
            Err(error) => assert!(command.ends_with("list"), "{command}: {error}"),
        }
    }
}

#[tokio::test]
async fn silence_is_a_timeout_and_is_not_tried_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let catalog = coolify(listener.local_addr().unwrap(), "150");
    // It accepts, reads, and never says anything; a second connection would be seen.
    let silent = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_request(&mut stream).await;
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap_or_default();
        listener
    });
    let error = send(&catalog, "/mcp-coolify servers list")
        .await
        .unwrap_err();
    assert_eq!(
        error,
        HandlerError::Timeout {
            service: "coolify".to_owned(),
            after: Duration::from_millis(150)
        }
    );
    let listener = silent.await.unwrap();
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(listener.poll_accept(&mut context).is_pending());
}

#[tokio::test]
async fn a_body_that_never_ends_is_a_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let catalog = coolify(listener.local_addr().unwrap(), "150");
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_request(&mut stream).await;
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n[")
            .await
            .unwrap();
        std::future::pending::<()>().await;
    });
    let error = send(&catalog, "/mcp-coolify servers list")
        .await
        .unwrap_err();
    assert!(matches!(error, HandlerError::Timeout { .. }), "{error:?}");
}

#[tokio::test]
async fn nobody_listening_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    for line in ["/mcp-coolify servers list", "/mcp-coolify create-project x"] {
        let error = send(&coolify(address, "5000"), line).await.unwrap_err();
        assert!(
            matches!(error, HandlerError::Unreachable { .. }),
            "{error:?}"
        );
        assert!(error.to_string().contains("`COOLIFY_API_URL`"), "{error}");
    }
}

#[tokio::test]
async fn a_read_is_tried_again_while_no_connection_opens() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let catalog = coolify(listener.local_addr().unwrap(), "5000");
    drop(listener);
    let begun = std::time::Instant::now();
    send(&catalog, "/mcp-coolify servers list")
        .await
        .unwrap_err();
    // The two pauses last at least so long; a single attempt is refused at once.
    assert!(
        begun.elapsed() >= Duration::from_millis(150),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test]
async fn without_settings_nothing_is_sent() {
    let catalog = Catalog::load(&|_| None).unwrap();
    let error = send(&catalog, "/mcp-coolify servers list")
        .await
        .unwrap_err();
    assert!(
        matches!(&error, HandlerError::NotConfigured { .. }),
        "{error:?}"
    );
    assert!(error.to_string().contains("`COOLIFY_API_TOKEN`"), "{error}");
}

#[test]
fn the_address_may_end_as_it_likes() {
    let with_suffix = |given: &str, suffix: &str| base(given, suffix).map(|(base, _)| base);
    for given in [
        "http://c:8000",
        "http://c:8000/",
        "http://c:8000/api/v1",
        "http://c:8000/api/v1/",
        " http://c:8000/api/v1 ",
    ] {
        assert_eq!(
            with_suffix(given.trim(), "/api/v1").as_deref(),
            Ok("http://c:8000/api/v1"),
            "{given}"
        );
    }
    assert_eq!(
        with_suffix("https://c/sub", "/api/v1").as_deref(),
        Ok("https://c/sub/api/v1")
    );
    assert_eq!(
        with_suffix("https://c/v4", "").as_deref(),
        Ok("https://c/v4")
    );
}

#[tokio::test]
async fn what_was_compressed_unasked_is_not_unpacked() {
    let raw = Raw::start(vec![answer(
        "200 OK",
        "content-type: application/json\r\ncontent-encoding: gzip",
        "[]",
    )])
    .await;
    let error = ask(&raw, "servers list").await.unwrap_err();
    assert!(
        matches!(&error, HandlerError::Failed { message, .. } if message.contains("compressed")),
        "{error:?}"
    );
    let said = raw.last().headers;
    assert!(!said.iter().any(|line| line.starts_with("accept-encoding")));
}

#[tokio::test]
async fn a_busy_service_is_asked_again_and_only_for_what_may_be_sent_twice() {
    let busy = || answer("503 Service Unavailable", "retry-after: 0", "{}");
    let fine = answer("200 OK", "content-type: application/json", "[]");
    let raw = Raw::start(vec![busy(), busy(), fine]).await;
    assert_eq!(ask(&raw, "servers list").await.unwrap()["count"], json!(0));
    assert_eq!(raw.lines().len(), 3);

    let raw = Raw::start(vec![busy(), busy()]).await;
    let error = ask(&raw, &format!("servers validate {UUID}"))
        .await
        .unwrap_err();
    assert!(matches!(error, HandlerError::Failed { .. }), "{error:?}");
    assert_eq!(raw.lines().len(), 1, "nobody knows what the first did");
}

#[tokio::test]
async fn a_service_that_keeps_failing_is_left_alone() {
    let failure = || {
        answer(
            "500 Internal Server Error",
            "content-type: application/json",
            "{}",
        )
    };
    let raw = Raw::start((0..8).map(|_| failure()).collect()).await;
    let catalog = coolify(raw.address, "10000");
    for _ in 0..5 {
        let error = send(&catalog, "/mcp-coolify servers list")
            .await
            .unwrap_err();
        assert!(matches!(error, HandlerError::Failed { .. }), "{error:?}");
    }
    let error = send(&catalog, "/mcp-coolify servers list")
        .await
        .unwrap_err();
    assert!(
        matches!(&error, HandlerError::Unreachable { reason, .. } if reason.contains("tried again in")),
        "{error:?}"
    );
    assert_eq!(raw.lines().len(), 5, "it was not asked");
    let health = catalog
        .health()
        .find(|(name, _)| name.as_str() == "coolify");
    assert_eq!(health.unwrap().1, crate::catalog::Health::Resting);
}

#[tokio::test]
async fn credentials_are_read_again_without_a_restart() {
    let fine = || answer("200 OK", "content-type: application/json", "[]");
    let raw = Raw::start(vec![fine(), fine()]).await;
    let address = raw.address;
    let with = |token: &'static str| {
        move |name: &str| match name {
            "COOLIFY_API_URL" => Some(format!("http://{address}")),
            "COOLIFY_API_TOKEN" => Some(token.to_owned()).filter(|token| !token.is_empty()),
            _ => None,
        }
    };
    let catalog = Catalog::load(&with("")).unwrap();
    assert!(send(&catalog, "/mcp-coolify servers list").await.is_err());
    for token in ["1|first-of-them", "2|second-of-them"] {
        let changed = catalog.refresh(&with(token));
        assert_eq!(changed.len(), 1, "{changed:?}");
        assert!(catalog.refresh(&with(token)).is_empty(), "nothing changed");
        send(&catalog, "/mcp-coolify servers list").await.unwrap();
        let expected = format!("authorization: bearer {token}");
        assert!(
            raw.last().headers.contains(&expected),
            "{:?}",
            raw.last().headers
        );
    }
}

/// One command of kind `http`, with these keys.
fn sample(address: SocketAddr, keys: &str) -> Catalog {
    let text = format!(
        "name = \"sample\"\nversion = \"1\"\nkind = \"http\"\ndescription = \"For tests\"\naddress = {{ variable = \"SAMPLE_URL\" }}\n\n[[commands]]\nname = \"do-it\"\nphrase = \"it do\"\nsummary = \"Does it\"\nrisk = \"read\"\n{keys}\n"
    );
    Catalog::from_descriptions(&[("sample.toml", &text)], &|name| {
        (name == "SAMPLE_URL").then(|| format!("http://{address}"))
    })
    .unwrap()
}

#[tokio::test]
async fn lists_are_written_as_the_service_reads_them() {
    let answers = (0..8).map(|_| answer("200 OK", "content-type: application/json", "{}"));
    let raw = Raw::start(answers.collect()).await;
    let argument = |more: &str| {
        sample(
            raw.address,
            &format!(
                "request = \"GET /x\"\nanswer = {{ merge = true }}\narguments = [{{ name = \"a\", description = \"It\", {more} }}]"
            ),
        )
    };
    let cases = [
        (
            "type = \"array\"",
            r#"["x y", 1]"#,
            "GET /x?a%5B0%5D=x%20y&a%5B1%5D=1 ",
        ),
        (
            "type = \"array\", written = \"repeated\"",
            r#"["x", 1]"#,
            "GET /x?a=x&a=1 ",
        ),
        (
            "type = \"array\", written = \"commas\"",
            r#"["x", true]"#,
            "GET /x?a=x%2Ctrue ",
        ),
        (
            "type = \"array\", written = \"spaces\"",
            r#"["x", "y"]"#,
            "GET /x?a=x%20y ",
        ),
        (
            "type = \"array\", written = \"pipes\"",
            r#"["x", "y"]"#,
            "GET /x?a=x%7Cy ",
        ),
        (
            "type = \"object\", written = \"json\"",
            r#"{"b": [1]}"#,
            "GET /x?a=%7B%22b%22%3A%5B1%5D%7D ",
        ),
        (
            "type = \"any\", written = \"repeated\"",
            r#"'"x"'"#,
            "GET /x?a=x ",
        ),
        ("type = \"any\"", "7", "GET /x?a=7 "),
    ];
    for (more, value, expected) in cases {
        let line = format!("/mcp-sample do-it --a {value}");
        send(&argument(more), &line).await.unwrap();
        let seen = raw.last().line;
        assert!(seen.starts_with(expected), "{more}: {seen}");
    }
    // An item would become two.
    let catalog = argument("type = \"array\", written = \"commas\"");
    let error = send(&catalog, r#"/mcp-sample do-it --a ["x,y"]"#).await;
    assert!(
        matches!(error, Err(HandlerError::Rejected { .. })),
        "{error:?}"
    );
}

#[tokio::test]
async fn what_is_inside_an_argument_is_checked_and_null_is_sent_where_it_may_be() {
    let answers = (0..4).map(|_| answer("200 OK", "content-type: application/json", "{}"));
    let raw = Raw::start(answers.collect()).await;
    let catalog = sample(
        raw.address,
        r#"request = "POST /x"
answer = { merge = true }
arguments = [
    { name = "tree", type = "object", description = "It", schema = { required = ["a"], properties = { a = { type = "integer" } }, additionalProperties = false } },
    { name = "kind", nullable = true, options = ["x"], description = "Or none" },
]"#,
    );
    for (line, expected) in [
        (r#"do-it --tree {"a": 1}"#, r#"{"tree":{"a":1}}"#),
        (r#"do-it {"kind": null}"#, r#"{"kind":null}"#),
        ("do-it --kind x", r#"{"kind":"x"}"#),
    ] {
        send(&catalog, &format!("/mcp-sample {line}"))
            .await
            .unwrap();
        assert_eq!(raw.last().body, expected, "{line}");
    }
    for line in [
        r#"do-it --tree {"a": "1"}"#,
        r#"do-it --tree {"a": 1, "b": 2}"#,
        "do-it --tree {}",
        r#"do-it {"tree": null}"#,
        "do-it --kind y",
    ] {
        assert!(
            catalog.parse_slash(&format!("/mcp-sample {line}")).is_err(),
            "{line}"
        );
    }
    // A body that is one argument is none without it.
    let whole = sample(
        raw.address,
        "request = \"POST /x\"\nanswer = { merge = true }\nbody = \"{body}\"\narguments = [{ name = \"body\", type = \"any\", description = \"It\" }]",
    );
    send(&whole, "/mcp-sample do-it").await.unwrap();
    assert_eq!(raw.last().body, "");
}

#[tokio::test]
async fn a_command_may_have_limits_of_its_own() {
    let body = json!([{"name": "x".repeat(200)}, {"name": "y".repeat(200)}]).to_string();
    let answers = (0..2).map(|_| answer("200 OK", "content-type: application/json", &body));
    let raw = Raw::start(answers.collect()).await;
    let limited = |keys: &str| {
        sample(
            raw.address,
            &format!("request = \"GET /x\"\nanswer = {{ list = \"things\" }}\n{keys}"),
        )
    };
    let data = send(&limited("max_result_bytes = 400"), "/mcp-sample do-it")
        .await
        .unwrap();
    assert_eq!(
        (&data["truncated"], &data["count"]),
        (&json!(true), &json!(1))
    );
    let error = send(&limited("max_answer_bytes = 100"), "/mcp-sample do-it").await;
    assert!(
        matches!(&error, Err(HandlerError::Failed { message, .. }) if message.contains("100 bytes")),
        "{error:?}"
    );
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let catalog = sample(
        silent.local_addr().unwrap(),
        "request = \"POST /x\"\nanswer = { merge = true }\ntimeout_ms = 50",
    );
    let error = send(&catalog, "/mcp-sample do-it").await;
    assert!(
        matches!(&error, Err(HandlerError::Timeout { after, .. }) if after.as_millis() == 50),
        "{error:?}"
    );
}
