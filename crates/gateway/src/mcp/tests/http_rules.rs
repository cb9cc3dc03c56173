//! The rules of HTTP: each is one that the protocol says a server must keep.

use super::*;
use crate::tests::world::{BOT_TOKEN, ELSEWHERE, GATEWAY_TOKEN};

const PING: &str = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;

#[tokio::test]
async fn origin_and_host_are_validated() {
    let house = House::new().await;
    let with = |more: &[(&str, &str)]| House::legacy("local", more, PING);
    for (more, status) in [
        (vec![("origin", "http://evil.example")], 403),
        (vec![("origin", "null")], 403),
        (vec![("origin", "http://localhost:3000")], 200),
        (vec![("origin", "http://127.0.0.1")], 200),
        (vec![("host", "evil.example")], 403),
        (vec![("host", "localhost:8100")], 200),
        (vec![("host", "[::1]:8100")], 200),
    ] {
        let answered = house.send(with(&more)).await;
        assert_eq!(answered.status.as_u16(), status, "{more:?} {answered:?}");
        if status == 403 {
            assert!(answered.json().get("id").is_none());
        }
    }
    assert_eq!(house.reached(), ["ping"; 4]);
    let house = House::with(|config| {
        config.mcp.origins = vec!["https://console.example".to_owned()];
        config.mcp.hosts = vec!["gateway.example".to_owned()];
    })
    .await;
    let token = format!("Bearer {BOT_TOKEN}");
    for (origin, host, status) in [
        ("https://console.example", "gateway.example:443", 200),
        ("https://console.example", "other.example", 403),
        ("https://console.example.evil", "gateway.example", 403),
    ] {
        let headers = [
            ("content-type", "application/json"),
            ("accept", BOTH),
            ("authorization", token.as_str()),
            ("origin", origin),
            ("host", host),
        ];
        let answered = house
            .send(House::request(Method::POST, &headers, PING))
            .await;
        assert_eq!(
            answered.status.as_u16(),
            status,
            "{origin} {host} {answered:?}"
        );
    }
}

#[tokio::test]
async fn a_token_alone_is_enough_and_no_discovery_is_offered() {
    let house = House::new().await;
    let token = format!("Bearer {BOT_TOKEN}");
    let send = async |headers: &[(&str, &str)], peer: &str| {
        let mut all = vec![("content-type", "application/json"), ("accept", BOTH)];
        all.extend_from_slice(headers);
        let mut request = House::request(Method::POST, &all, PING);
        let peer: SocketAddr = peer.parse().unwrap();
        request.extensions_mut().insert(Peer(peer));
        stack(&house.world.gateway).oneshot(request).await.unwrap()
    };
    let answered = send(&[("authorization", &token)], ELSEWHERE).await;
    assert_eq!(answered.status(), StatusCode::OK);
    let answered = send(
        &[("authorization", &token), ("x-agent-id", "bot")],
        ELSEWHERE,
    )
    .await;
    assert_eq!(answered.status(), StatusCode::OK);
    for (headers, challenge) in [
        (vec![], "Bearer realm=\"cedargate\""),
        (vec![("x-agent-id", BOT)], "Bearer realm=\"cedargate\""),
        (
            vec![(
                "authorization",
                "Bearer cgt_1111111111111111111111111111111111111111111",
            )],
            "Bearer realm=\"cedargate\", error=\"invalid_token\"",
        ),
        (
            vec![("authorization", token.as_str()), ("x-agent-id", OTHER)],
            "Bearer realm=\"cedargate\", error=\"invalid_token\"",
        ),
    ] {
        let answered = send(&headers, ELSEWHERE).await;
        assert_eq!(answered.status(), StatusCode::UNAUTHORIZED, "{headers:?}");
        assert_eq!(answered.headers()["www-authenticate"], challenge);
    }
    for path in [
        "/.well-known/oauth-protected-resource/mcp/everything",
        "/.well-known/oauth-protected-resource",
        "/.well-known/oauth-authorization-server",
        "/.well-known/openid-configuration",
    ] {
        let answered = house.world.get(path, &[]).await;
        assert_eq!(answered.status, StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn the_token_of_the_client_never_reaches_the_server() {
    let house = House::with(|config| {
        config.gateway_token = Some(GATEWAY_TOKEN.to_owned().into());
    })
    .await;
    let token = format!("Bearer {GATEWAY_TOKEN}");
    let headers = [
        ("content-type", "application/json"),
        ("accept", BOTH),
        ("authorization", token.as_str()),
        ("x-agent-id", "local"),
        ("cookie", "a=b"),
        ("x-mcp-key", GATEWAY_TOKEN),
        ("mcp-param-unknown", "kept"),
        ("x-forwarded-for", "10.1.2.3"),
    ];
    let answered = house
        .send(House::request(Method::POST, &headers, PING))
        .await;
    assert_eq!(answered.status, StatusCode::OK, "{answered:?}");
    let seen = &house.seen()[0];
    assert_eq!(seen.headers["authorization"], "Bearer our-own-credential");
    assert_eq!(seen.headers["mcp-param-unknown"], "kept");
    for name in ["x-agent-id", "cookie", "x-mcp-key", "x-forwarded-for"] {
        assert!(!seen.headers.contains_key(name), "{name}");
    }
    assert!(!format!("{seen:?}").contains(GATEWAY_TOKEN));
}

#[tokio::test]
async fn accept_and_content_type_must_be_those_of_the_protocol() {
    let house = House::new().await;
    for (kind, accept, status) in [
        ("application/json", BOTH, 200),
        ("application/json; charset=utf-8", "*/*", 200),
        (
            "application/json",
            "application/*, text/event-stream;q=0.5",
            200,
        ),
        ("text/plain", BOTH, 415),
        ("", BOTH, 415),
        ("application/json", "application/json", 406),
        ("application/json", "text/event-stream", 406),
        (
            "application/json",
            "application/json, text/event-stream;q=0",
            406,
        ),
    ] {
        let headers = [
            ("content-type", kind),
            ("accept", accept),
            ("x-agent-id", "local"),
        ];
        let headers: Vec<_> = headers
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .collect();
        let answered = house
            .send(House::request(Method::POST, &headers, PING))
            .await;
        assert_eq!(
            answered.status.as_u16(),
            status,
            "{kind} {accept} {answered:?}"
        );
    }
    assert_eq!(house.seen().len(), 3);
}

#[tokio::test]
async fn a_body_is_exactly_one_message() {
    let house = House::new().await;
    for (body, status, code) in [
        ("", 400, -32700),
        ("{", 400, -32700),
        ("[]", 400, -32600),
        (r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#, 400, -32600),
        (r#"{"jsonrpc":"2.0","id":1,"method":"ping"}{}"#, 400, -32700),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"ping","Method":"tools/call"}"#,
            400,
            -32600,
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"look","name":"delete"}}"#,
            400,
            -32600,
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"look","arguments":{"at":{"$serde_json::private::RawValue":"\"home\""}}}}"#,
            400,
            -32600,
        ),
        (
            r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#,
            400,
            -32600,
        ),
        (
            r#"{"jsonrpc":"2.0","method":"notifications/unknown"}"#,
            400,
            -32600,
        ),
        (
            r#"{"jsonrpc":"2.0","method":"tools/call","params":{"name":"look"}}"#,
            400,
            -32600,
        ),
    ] {
        let answered = house.post("local", body).await;
        assert_eq!(answered.status.as_u16(), status, "{body} {answered:?}");
        assert_eq!(answered.code(), code, "{body}");
    }
    let large = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"{}"}}"#,
        "x".repeat(2_000_000)
    );
    let answered = house.post("local", &large).await;
    assert_eq!(answered.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(house.seen().is_empty());
}

#[tokio::test]
async fn a_notification_is_accepted_without_a_body() {
    let house = House::new().await;
    let body = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
    let answered = house.post("local", body).await;
    assert_eq!(answered.status, StatusCode::ACCEPTED, "{answered:?}");
    assert!(answered.bytes.is_empty());
    assert_eq!(house.seen()[0].body, body.as_bytes());
}

#[tokio::test]
async fn the_version_header_equals_the_body_and_is_one_that_there_is() {
    let house = House::new().await;
    let modern = |more: &[(&str, &str)]| House::modern("local", "server/discover", json!({}), more);
    for (more, status, code) in [
        (vec![], 200, 0),
        (vec![("mcp-protocol-version", "")], 400, -32020),
        (vec![("mcp-protocol-version", "2025-11-25")], 400, -32020),
        (vec![("mcp-protocol-version", "2026-07-29")], 400, -32020),
    ] {
        let answered = house.send(modern(&more)).await;
        assert_eq!(answered.status.as_u16(), status, "{more:?} {answered:?}");
        assert_eq!(answered.code(), code);
        if status == 400 {
            assert_eq!(answered.json()["id"], 9);
        }
    }
    let future = r#"{"jsonrpc":"2.0","id":1,"method":"server/discover","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2099-01-01","io.modelcontextprotocol/clientCapabilities":{}}}}"#;
    let more = [
        ("mcp-protocol-version", "2099-01-01"),
        ("mcp-method", "server/discover"),
    ];
    let answered = house.send(House::legacy("local", &more, future)).await;
    assert_eq!((answered.status.as_u16(), answered.code()), (400, -32022));
    assert_eq!(answered.json()["error"]["data"]["requested"], "2099-01-01");
    assert_eq!(
        answered.json()["error"]["data"]["supported"][0],
        "2026-07-28"
    );
    // Older clients name what was negotiated, or nothing.
    for (version, status) in [
        ("2025-03-26", 200),
        ("2025-06-18", 200),
        ("2025-11-25", 200),
        ("1.0", 400),
    ] {
        let more = [("mcp-protocol-version", version)];
        let answered = house.send(House::legacy("local", &more, PING)).await;
        assert_eq!(answered.status.as_u16(), status, "{version} {answered:?}");
    }
    // A newer client that leaves out what every request must say.
    for meta in [
        "{}",
        r#"{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}"#,
    ] {
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{{"_meta":{meta}}}}}"#
        );
        let more = [
            ("mcp-protocol-version", "2026-07-28"),
            ("mcp-method", "tools/list"),
        ];
        let answered = house.send(House::legacy("local", &more, &body)).await;
        assert_eq!(
            (answered.status.as_u16(), answered.code()),
            (400, -32602),
            "{meta}"
        );
    }
}

#[tokio::test]
async fn method_and_name_headers_equal_the_body() {
    let house = House::new().await;
    let look = || json!({"name": "look", "arguments": {}});
    for (more, status) in [
        (vec![], 200),
        (vec![("mcp-name", "=?base64?bG9vaw==?=")], 200),
        (vec![("mcp-method", "")], 400),
        (vec![("mcp-method", "tools/list")], 400),
        (vec![("mcp-method", "Tools/call")], 400),
        (vec![("mcp-name", "")], 400),
        (vec![("mcp-name", "delete")], 400),
        (vec![("mcp-name", "Look")], 400),
        (vec![("mcp-name", "=?base64?%%?=")], 400),
    ] {
        let answered = house
            .send(House::modern("local", "tools/call", look(), &more))
            .await;
        assert_eq!(answered.status.as_u16(), status, "{more:?} {answered:?}");
        if status == 400 {
            assert_eq!(answered.code(), -32020, "{more:?}");
        }
    }
    for (method, params) in [
        ("resources/read", json!({"uri": "file:///a"})),
        ("prompts/get", json!({"name": "p"})),
    ] {
        let more = [("mcp-name", "other")];
        let answered = house
            .send(House::modern("local", method, params.clone(), &more))
            .await;
        assert_eq!(answered.code(), -32020, "{method}");
        let answered = house
            .send(House::modern("local", method, params, &[]))
            .await;
        assert_eq!(answered.status, StatusCode::OK);
    }
    for method in ["tasks/get", "tasks/update", "tasks/cancel"] {
        let more = [("mcp-name", "another-task")];
        let task = json!({"taskId": "task-1"});
        let answered = house
            .send(House::modern("local", method, task, &more))
            .await;
        assert_eq!(answered.code(), -32020, "{method}");
    }
    assert_eq!(
        house.reached(),
        ["tools/call", "tools/call", "resources/read", "prompts/get"]
    );
}

#[tokio::test]
async fn parameter_headers_that_a_schema_wants_equal_the_arguments_and_others_are_passed_on() {
    let house = House::new().await;
    house
        .world
        .give(crate::tests::world::grant(
            authz::Scope::Command {
                command: "everything/write".parse().unwrap(),
            },
            authz::Risk::Write,
            60,
            false,
        ))
        .await;
    let write = |arguments: Value, more: &[(&str, &str)]| {
        House::modern(
            "bot",
            "tools/call",
            json!({"name": "write", "arguments": arguments}),
            more,
        )
    };
    for (arguments, more, status) in [
        (
            json!({"region": "eu"}),
            vec![("mcp-param-region", "eu")],
            200,
        ),
        (
            json!({"region": "é"}),
            vec![("mcp-param-region", "=?base64?w6k=?=")],
            200,
        ),
        (json!({"n": 42}), vec![("mcp-param-n", "42.0")], 200),
        (json!({"region": null}), vec![("mcp-param-other", "x")], 200),
        (json!({"region": "eu"}), vec![], 400),
        (
            json!({"region": "eu"}),
            vec![("mcp-param-region", "us")],
            400,
        ),
        (json!({}), vec![("mcp-param-region", "eu")], 400),
        (json!({"n": 42}), vec![("mcp-param-n", "43")], 400),
        (
            json!({"region": "eu"}),
            vec![("mcp-param-region", "eu"), ("mcp-param-region", "eu")],
            400,
        ),
    ] {
        let answered = house.send(write(arguments.clone(), &more)).await;
        assert_eq!(
            answered.status.as_u16(),
            status,
            "{arguments} {more:?} {answered:?}"
        );
        if status == 400 {
            assert_eq!(answered.code(), -32020);
        }
    }
    assert_eq!(house.seen().len(), 4);
    assert_eq!(house.seen()[3].headers["mcp-param-other"], "x");
}

#[tokio::test]
async fn an_unknown_method_is_refused_before_anything_is_sent() {
    let house = House::new().await;
    let answered = house.post("local", &ask("tools/everything", "{}")).await;
    assert_eq!((answered.status.as_u16(), answered.code()), (200, -32601));
    let answered = house
        .send(House::modern("local", "ping", json!({}), &[]))
        .await;
    assert_eq!((answered.status.as_u16(), answered.code()), (404, -32601));
    assert!(house.seen().is_empty());
}

#[tokio::test]
async fn an_unknown_server_is_not_found_and_other_methods_of_http_are_not_allowed() {
    let house = House::new().await;
    for (method, path, status) in [
        (Method::POST, "/mcp/nothing", 404),
        (Method::POST, "/mcp/coolify", 404),
        (Method::PUT, "/mcp/everything", 405),
        (Method::OPTIONS, "/mcp/everything", 405),
    ] {
        let headers = [("content-type", "application/json"), ("accept", BOTH)];
        let request = World::request(method, path, &headers, PING);
        let answered = house.world.send(LOOPBACK, request).await;
        assert_eq!(answered.status.as_u16(), status, "{path}");
    }
    assert!(house.seen().is_empty());
}

#[tokio::test]
async fn get_and_delete_are_of_the_older_protocol_only() {
    let house = House::new().await;
    for (method, more, status) in [
        (Method::GET, vec![("accept", "text/event-stream")], 405),
        (Method::GET, vec![("accept", "application/json")], 406),
        (
            Method::GET,
            vec![
                ("accept", "text/event-stream"),
                ("mcp-protocol-version", "2026-07-28"),
            ],
            405,
        ),
        (Method::DELETE, vec![], 400),
        (
            Method::DELETE,
            vec![("mcp-protocol-version", "2026-07-28")],
            405,
        ),
        (Method::DELETE, vec![("mcp-session-id", "foreign")], 404),
    ] {
        let mut headers = vec![("x-agent-id", "local")];
        headers.extend_from_slice(&more);
        let answered = house.send(House::request(method, &headers, "")).await;
        assert_eq!(answered.status.as_u16(), status, "{more:?} {answered:?}");
    }
    // Only the first asked the server, which has no such stream.
    assert_eq!(house.seen().len(), 1);
}

#[tokio::test]
async fn a_session_is_of_the_agent_that_made_it() {
    let house = House::new().await;
    let init = ask(
        "initialize",
        r#"{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"c","version":"1"}}"#,
    );
    let answered = house.post("local", &init).await;
    assert_eq!(answered.status, StatusCode::OK, "{answered:?}");
    let session = answered.headers["mcp-session-id"]
        .to_str()
        .unwrap()
        .to_owned();
    let more = [("mcp-session-id", session.as_str())];
    let answered = house.send(House::legacy("local", &more, PING)).await;
    assert_eq!(answered.status, StatusCode::OK);
    assert_eq!(house.seen()[1].headers["mcp-session-id"], session.as_str());
    for (agent, id, status) in [
        (BOT, session.as_str(), 404),
        ("local", "invented", 404),
        ("local", "", 400),
        ("local", "white space", 400),
    ] {
        let more = [("mcp-session-id", id)];
        let answered = house.send(House::legacy(agent, &more, PING)).await;
        assert_eq!(
            answered.status.as_u16(),
            status,
            "{agent} {id} {answered:?}"
        );
    }
    for method in [Method::GET, Method::DELETE] {
        let headers = [
            ("x-agent-id", BOT),
            ("accept", BOTH),
            ("mcp-session-id", session.as_str()),
        ];
        let answered = house.send(House::request(method, &headers, "")).await;
        assert_eq!(answered.status, StatusCode::NOT_FOUND);
    }
    assert_eq!(house.seen().len(), 2);
    // Whoever else is given the same id by the server does not share the session.
    house.script(|seen| {
        let mut response = result(seen, "{}");
        response
            .headers_mut()
            .insert("mcp-session-id", "session-0".parse().unwrap());
        Some(response)
    });
    let answered = house.post(BOT, &init).await;
    assert!(!answered.headers.contains_key("mcp-session-id"));
    // One that the server ended is ended.
    house.script(|seen| (seen.name() == "ping").then(|| StatusCode::NOT_FOUND.into_response()));
    let answered = house.send(House::legacy("local", &more, PING)).await;
    assert_eq!(answered.status, StatusCode::NOT_FOUND);
    house.script(|_| None);
    let answered = house.send(House::legacy("local", &more, PING)).await;
    assert_eq!(answered.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_deleted_session_is_gone() {
    let house = House::new().await;
    let answered = house.post("local", &ask("initialize", "{}")).await;
    let session = answered.headers["mcp-session-id"]
        .to_str()
        .unwrap()
        .to_owned();
    let headers = [
        ("x-agent-id", "local"),
        ("mcp-session-id", session.as_str()),
    ];
    let deleted = house
        .send(House::request(Method::DELETE, &headers, ""))
        .await;
    assert_eq!(deleted.status, StatusCode::OK, "{deleted:?}");
    let answered = house
        .send(House::legacy("local", &headers[1..], PING))
        .await;
    assert_eq!(answered.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_session_means_nothing_in_the_newer_protocol() {
    let house = House::new().await;
    let more = [("mcp-session-id", "another-agents"), ("last-event-id", "7")];
    let answered = house
        .send(House::modern("local", "tools/list", json!({}), &more))
        .await;
    assert_eq!(answered.status, StatusCode::OK, "{answered:?}");
    let seen = &house.seen()[0];
    assert!(!seen.headers.contains_key("mcp-session-id"));
    assert!(!seen.headers.contains_key("last-event-id"));
    let more = [("mcp-protocol-version", "2026-07-28")];
    let response = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;
    let answered = house.send(House::legacy("local", &more, response)).await;
    // Only older clients answer; this one says that it is none.
    assert_eq!(answered.status, StatusCode::BAD_REQUEST, "{answered:?}");
}
