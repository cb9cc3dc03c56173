//! Bad input: each gets a clear error, none gets through, nothing is lost.

use cedargate::sample_coolify::Behaviour;
use cedargate_tests::System;
use reqwest::{Method, StatusCode};
use serde_json::json;

journeys![
    bad_bodies,
    bad_commands,
    paths_stay_paths,
    upstream_troubles
];

async fn bad_bodies(system: System) -> anyhow::Result<()> {
    let agent = system
        .create_agent(json!({"name": "sloppy", "allowed_mcps": ["coolify"]}))
        .await?;
    let post = |path: &str, body: &[u8]| {
        system
            .gateway(Method::POST, path)
            .header("x-agent-id", &agent)
            .header("content-type", "application/json")
            .body(body.to_vec())
    };
    let large = format!(
        "{{\"command\": \"/mcp-coolify servers list {}\"}}",
        "x".repeat(2 * 1024 * 1024)
    );
    let nested = format!(
        "{{\"command\": {}1{}}}",
        "[".repeat(5_000),
        "]".repeat(5_000)
    );
    let cases: &[(&str, &[u8], u16)] = &[
        ("not JSON", b"/mcp-coolify servers list", 400),
        ("empty", b"", 400),
        ("half", b"{\"command\": \"/mcp-coolify", 400),
        ("an array", b"[{\"command\": \"/mcp-coolify servers list\"}]", 400),
        ("a number", b"{\"command\": 5}", 400),
        ("null", b"{\"command\": null}", 400),
        ("no command", b"{}", 400),
        ("duplicate keys", b"{\"command\": \"/mcp-coolify servers list\", \"command\": \"/mcp-coolify applications list\"}", 400),
        ("colliding keys", b"{\"command\": \"/mcp-coolify servers list\", \"Command\": \"x\"}", 400),
        ("trailing data", b"{\"command\": \"/mcp-coolify servers list\"} {}", 400),
        ("not UTF-8", b"{\"command\": \"/mcp-coolify \xff\"}", 400),
        ("too large", large.as_bytes(), 413),
        ("too deep", nested.as_bytes(), 400),
    ];
    for path in ["/execute", "/mcp/execute"] {
        for (name, body, status) in cases {
            let reply = system.send(post(path, body)).await?;
            assert_eq!(reply.status.as_u16(), *status, "{path}, {name}: {reply:?}");
            assert!(
                reply.body["error"]["message"].is_string(),
                "{path}, {name}: {reply:?}"
            );
        }
    }
    assert!(system.coolify.count() == 0);
    assert_eq!(
        system
            .execute(&agent, "/mcp-coolify servers list")
            .await?
            .status,
        StatusCode::OK,
        "and life goes on"
    );
    Ok(())
}

async fn bad_commands(system: System) -> anyhow::Result<()> {
    let agent = system
        .create_agent(json!({"name": "typist", "allowed_mcps": ["coolify"]}))
        .await?;
    let cases = [
        (
            "unterminated quote",
            "/mcp-coolify applications get \"app",
            400,
            -32009,
        ),
        ("no slash", "coolify servers list", 400, -32009),
        ("empty", "", 400, -32009),
        ("unknown service", "/mcp-colify servers list", 404, -32000),
        (
            "unknown operation",
            "/mcp-coolify servers lsit",
            404,
            -32002,
        ),
        (
            "missing argument",
            "/mcp-coolify applications get",
            400,
            -32009,
        ),
        (
            "unknown argument",
            "/mcp-coolify servers list --colour red",
            400,
            -32009,
        ),
        (
            "wrong type",
            "/mcp-coolify applications logs app1 --lines many",
            400,
            -32009,
        ),
    ];
    for (name, command, status, code) in cases {
        let reply = system.execute(&agent, command).await?;
        assert_eq!(
            (reply.status.as_u16(), reply.body["error"]["code"].as_i64()),
            (status, Some(code)),
            "{name}: {reply:?}"
        );
    }
    let typo = system.execute(&agent, "/mcp-coolify servers lsit").await?;
    assert!(
        typo.body["error"].to_string().contains("list-servers"),
        "the nearest is named: {typo:?}"
    );
    assert!(system.coolify.count() == 0);
    let inbox = system.admin_get("/api/approvals?all=true").await?;
    assert_eq!(
        inbox.body.as_array().map(Vec::len),
        Some(0),
        "nobody is asked to approve a typo"
    );
    Ok(())
}

async fn paths_stay_paths(system: System) -> anyhow::Result<()> {
    let agent = system
        .create_agent(json!({"name": "tricky", "allowed_mcps": ["coolify"]}))
        .await?;
    for trick in [
        "x/../../databases/y",
        "..",
        ".",
        "%2e%2e",
        "a?b=c",
        "a#b",
        "a\\b",
        "a b",
        "ä",
        "x\u{0}y",
        "x%00y",
    ] {
        let body =
            json!({"service": "coolify", "operation": "get-application", "args": {"uuid": trick}});
        let reply = system
            .send(
                system
                    .gateway(Method::POST, "/execute")
                    .header("x-agent-id", &agent)
                    .json(&body),
            )
            .await?;
        assert!(
            matches!(reply.status.as_u16(), 400 | 404),
            "{trick:?}: {reply:?}"
        );
    }
    for request in system.coolify.arrived() {
        let segments: Vec<&str> = request
            .path
            .split(['?'])
            .next()
            .unwrap()
            .split('/')
            .collect();
        assert_eq!(segments.len(), 5, "one segment stays one: {}", request.path);
        assert_eq!(
            &segments[..4],
            ["", "api", "v1", "applications"],
            "{}",
            request.path
        );
        assert!(!matches!(segments[4], "." | ".." | ""), "{}", request.path);
    }
    Ok(())
}

async fn upstream_troubles(system: System) -> anyhow::Result<()> {
    let agent = system
        .create_agent(json!({"name": "unlucky", "allowed_mcps": ["coolify"]}))
        .await?;
    let secret = cedargate_tests::system::COOLIFY_TOKEN.to_owned();
    system.coolify.behave(Behaviour::Fail);
    let reply = system.execute(&agent, "/mcp-coolify servers list").await?;
    assert_eq!(reply.status, StatusCode::BAD_GATEWAY, "{reply:?}");
    assert!(
        !reply.body.to_string().contains(&secret),
        "the upstream's 500 holds our token; the answer must not"
    );
    system.coolify.behave(Behaviour::Answer);
    let reply = system
        .execute(&agent, "/mcp-coolify applications get nosuchapp")
        .await?;
    assert_eq!(reply.status, StatusCode::NOT_FOUND, "{reply:?}");
    assert!(!system.gateway.log().contains(&secret));
    let journal = crate::recorded::journal_text(&system)?;
    assert!(!journal.contains(&secret));
    for secret in [&system.admin, &secret] {
        assert!(
            !system.control_plane().log().contains(secret.as_str()),
            "no token in a log"
        );
    }
    Ok(())
}
