//! What goes wrong with a service, and how agents hear of it.

use super::*;

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
    let condition = catalog.condition(&"coolify".parse().unwrap()).unwrap();
    assert_eq!(condition.breaker, Some(crate::catalog::Breaker::Open));
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
