//! The deployment checklist's tests, as an operator types them.

use cedargate::sample_coolify::Behaviour;
use cedargate_tests::{System, websocket::Socket};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

journeys![
    health_and_catalog,
    permission_flow,
    without_an_agent_id,
    websocket,
    websocket_for_others,
    metrics_and_logs
];

/// 1.5 and 2.5.
async fn health_and_catalog(system: System) -> anyhow::Result<()> {
    let health = system.send(system.gateway(Method::GET, "/health")).await?;
    assert_eq!(
        (health.status, &health.body["status"]),
        (StatusCode::OK, &json!("healthy"))
    );

    let catalog = system
        .send(system.gateway(Method::GET, "/mcp/catalog"))
        .await?;
    let services = catalog.body["services"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let coolify = services
        .iter()
        .find(|service| service["name"] == "coolify")
        .expect("the catalog holds coolify");
    assert_eq!(
        (&coolify["version"], &coolify["status"]),
        (&json!("1.0.0"), &json!("active"))
    );

    let health = system
        .send(system.orchestrator(Method::GET, "/health"))
        .await?;
    assert_eq!(
        (health.status, &health.body["status"]),
        (StatusCode::OK, &json!("healthy"))
    );
    let unknown = system
        .send(system.orchestrator(Method::GET, "/api/agent/test/mcp-permissions"))
        .await?;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
    Ok(())
}

/// Test 1, steps 1 to 5.
async fn permission_flow(system: System) -> anyhow::Result<()> {
    let agent = system
        .create_agent(json!({"name": "test-agent", "allowed_mcps": ["github"]}))
        .await?;

    let refused = system.execute(&agent, "/mcp-coolify servers list").await?;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{refused:?}");
    let error = &refused.body["error"];
    assert_eq!(error["code"], -32004);
    let message = error["message"].as_str().unwrap();
    assert!(
        message.starts_with("Permission denied")
            && message.contains("'coolify'")
            && message.contains("orchestrator"),
        "{message}"
    );
    let data = &error["data"];
    let request = data["request_id"]
        .as_str()
        .expect("the refusal names its request")
        .to_owned();
    assert_eq!(
        (&data["service"], &data["asking_helps"], &data["retryable"]),
        (&json!("coolify"), &json!(true), &json!(true))
    );
    assert!(
        data["policies"].is_array() && data["retry_after_seconds"].as_u64() > Some(0),
        "{data}"
    );
    assert!(refused.headers.contains_key("retry-after"));
    assert!(system.coolify.count() == 0, "nothing reached Coolify");

    // Repeating the refused call joins the same request, in every spelling.
    for command in [
        "/mcp-coolify servers list",
        "/mcp-coolify list_servers",
        "/mcp-coolify list-servers",
    ] {
        let again = system.execute(&agent, command).await?;
        assert_eq!(
            again.body["error"]["data"]["request_id"], request,
            "{command}"
        );
    }
    let inbox = system.admin_get("/api/approvals").await?;
    assert_eq!(inbox.body.as_array().map(Vec::len), Some(1), "{inbox:?}");

    system
        .control_plane()
        .line(&["mcp_permission_request", &request])
        .await?;

    let responded = system.respond(&request, true).await?;
    assert_eq!(responded.status, StatusCode::OK, "{responded:?}");
    assert_eq!(
        (
            &responded.body["status"],
            &responded.body["request_id"],
            &responded.body["approved"],
            &responded.body["message"]
        ),
        (
            &json!("success"),
            &json!(request),
            &json!(true),
            &json!("Permission granted")
        )
    );

    // At once: no cache stands between.
    let permitted = system.execute(&agent, "/mcp-coolify servers list").await?;
    assert_eq!(permitted.status, StatusCode::OK, "{permitted:?}");
    let result = &permitted.body["result"];
    assert_eq!(
        (&result["status"], &result["data"]["operation"]),
        (&json!("success"), &json!("list_servers"))
    );
    assert_eq!(
        result["data"]["count"].as_u64(),
        result["data"]["servers"]
            .as_array()
            .map(|servers| servers.len() as u64)
    );
    assert!(result["data"]["count"].as_u64() > Some(0));
    assert_eq!(
        (
            &result["metadata"]["service"],
            &result["metadata"]["operation"]
        ),
        (&json!("coolify"), &json!("list-servers"))
    );
    assert_eq!(system.coolify.count(), 1);

    // The approval was for this call, and no other.
    let other = system
        .execute(&agent, "/mcp-coolify applications list")
        .await?;
    assert_eq!(other.status, StatusCode::FORBIDDEN, "{other:?}");
    Ok(())
}

/// Test 2.
async fn without_an_agent_id(system: System) -> anyhow::Result<()> {
    for (command, list) in [
        ("/mcp-coolify servers list", "servers"),
        ("/mcp-coolify applications list", "applications"),
    ] {
        let reply = system
            .send(
                system
                    .gateway(Method::POST, "/execute")
                    .json(&json!({"command": command})),
            )
            .await?;
        assert_eq!(reply.status, StatusCode::OK, "{reply:?}");
        assert!(reply.body["result"]["data"][list].is_array(), "{reply:?}");
    }
    // `local` is under policy: what only two people may allow, it may not do.
    let command = json!({"command": "/mcp-coolify applications delete sampleapp000000000000001"});
    let reply = system
        .send(system.gateway(Method::POST, "/execute").json(&command))
        .await?;
    assert_eq!(reply.status, StatusCode::FORBIDDEN, "{reply:?}");
    assert_eq!(
        reply.body["error"]["data"]["approval"]["approvals_needed"], 2,
        "{reply:?}"
    );
    Ok(())
}

/// Test 3, and what it is for.
async fn websocket(system: System) -> anyhow::Result<()> {
    // As the browser of the checklist does: no credential, so no events.
    let mut anyone = Socket::connect(&system.orchestrator_url, "", &[]).await?;
    let hello = anyone.next().await?;
    assert_eq!(
        (&hello["type"], &hello["message"]),
        (
            &json!("connection_established"),
            &json!("Connected to Orchestrator Backend")
        )
    );
    assert!(hello["client_id"].as_str().unwrap().starts_with("client_"));

    let mut socket = system.socket("").await?;
    let hello = socket.event("connection_established").await?;
    let before = hello["sequence"].as_i64().expect("the feed's head");

    let agent = system
        .create_agent(json!({"name": "watched", "allowed_mcps": ["github"]}))
        .await?;
    let request = system
        .approve_refused(&agent, "/mcp-coolify servers list")
        .await?;
    let asked = socket.event("mcp_permission_request").await?;
    assert_eq!(
        (
            &asked["request_id"],
            &asked["agent_id"],
            &asked["agent_name"],
            &asked["service_name"]
        ),
        (
            &json!(request),
            &json!(agent),
            &json!("watched"),
            &json!("coolify")
        )
    );
    assert!(
        asked["reason"].is_string() && asked["timestamp"].is_string(),
        "{asked}"
    );
    let answered = socket.event("mcp_permission_response").await?;
    assert_eq!(
        (
            &answered["request_id"],
            &answered["agent_id"],
            &answered["service_name"],
            &answered["approved"],
            &answered["reason"]
        ),
        (
            &json!(request),
            &json!(agent),
            &json!("coolify"),
            &json!(true),
            &json!("Testing approved")
        )
    );
    assert!(answered["timestamp"].is_number(), "{answered}");
    drop(socket);

    // While it was away, more happened; it misses nothing and sees nothing twice.
    let second = system
        .approve_refused(&agent, "/mcp-coolify applications list")
        .await?;
    let last = answered["sequence"].as_i64().unwrap();
    let mut socket = system.socket(&format!("?after={last}")).await?;
    let asked = socket.event("mcp_permission_request").await?;
    assert_eq!(asked["request_id"], second);
    assert!(asked["sequence"].as_i64().unwrap() > last);
    assert_eq!(
        socket.event("mcp_permission_response").await?["request_id"],
        second
    );

    let mut socket = system.socket(&format!("?after={before}")).await?;
    let mut seen = Vec::new();
    while seen.len() < 4 {
        let event = socket.next().await?;
        if event["request_id"].is_string() {
            seen.push(event);
        }
    }
    let ids: Vec<&Value> = seen.iter().map(|event| &event["request_id"]).collect();
    assert_eq!(
        ids,
        [
            &json!(request),
            &json!(request),
            &json!(second),
            &json!(second)
        ]
    );
    Ok(())
}

/// Who is told nothing: without a credential, from another origin, with an agent's token.
async fn websocket_for_others(system: System) -> anyhow::Result<()> {
    let mut anyone = Socket::connect(&system.orchestrator_url, "", &[]).await?;
    assert_eq!(anyone.next().await?["type"], "connection_established");
    let agent = system.create_agent(json!({"name": "unwatched"})).await?;
    system
        .approve_refused(&agent, "/mcp-coolify servers list")
        .await?;

    // The unauthenticated one was told nothing of all this; it may still prove itself.
    anyone.authenticate(&system.admin).await?;
    assert_eq!(anyone.next().await?["type"], "authenticated");

    let elsewhere = Socket::connect(
        &system.orchestrator_url,
        "",
        &[("origin", "https://evil.example")],
    )
    .await;
    assert!(
        elsewhere
            .err()
            .expect("another origin is refused")
            .to_string()
            .contains("403")
    );
    let agents_token = format!("Bearer {}", system.create_agent_token(&agent).await?);
    let agents_socket = Socket::connect(
        &system.orchestrator_url,
        "",
        &[("authorization", &agents_token)],
    )
    .await;
    if let Ok(mut socket) = agents_socket {
        assert_eq!(socket.next().await?["authenticated"], false);
    }
    Ok(())
}

/// What the checklist tells an operator to watch.
async fn metrics_and_logs(system: System) -> anyhow::Result<()> {
    let agent = system
        .create_agent(json!({"name": "measured", "allowed_mcps": ["coolify"]}))
        .await?;
    assert_eq!(
        system
            .execute(&agent, "/mcp-coolify servers list")
            .await?
            .status,
        StatusCode::OK
    );
    system.coolify.behave(Behaviour::Fail);
    assert_eq!(
        system
            .execute(&agent, "/mcp-coolify servers list")
            .await?
            .status,
        StatusCode::BAD_GATEWAY
    );
    system.coolify.behave(Behaviour::Answer);
    let refused = system.create_agent(json!({"name": "unlucky"})).await?;
    assert_eq!(
        system
            .execute(&refused, "/mcp-coolify servers list")
            .await?
            .status,
        StatusCode::FORBIDDEN
    );

    let metrics = reqwest::get(format!("{}/metrics", system.metrics_url))
        .await?
        .text()
        .await?;
    let sample = |name: &str, label: &str| -> f64 {
        metrics
            .lines()
            .filter(|line| line.split(['{', ' ']).next() == Some(name) && line.contains(label))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    };
    let coolify = "service=\"coolify\"";
    assert!(sample("mcp_operation_total", coolify) >= 2.0, "{metrics}");
    assert!(sample("mcp_operation_errors", coolify) >= 1.0, "{metrics}");
    assert!(
        sample("mcp_permission_denied_total", "") >= 1.0,
        "{metrics}"
    );
    assert!(sample("mcp_operations_total", coolify) >= 2.0, "{metrics}");
    assert!(
        sample("mcp_gateway_http_requests_total", "") >= 3.0,
        "{metrics}"
    );

    let line = system
        .gateway
        .line(&["coolify/list-servers", "permit", &agent])
        .await?;
    assert!(line.contains("duration_ms"), "{line}");
    Ok(())
}
