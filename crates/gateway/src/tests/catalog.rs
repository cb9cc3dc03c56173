//! What agents and strangers see of services.

use super::*;

#[tokio::test]
async fn the_catalog_shows_what_an_agent_may_list() {
    let world = World::new().await;
    let answered = world.get("/mcp/catalog", &[]).await;
    assert_eq!(answered.status, StatusCode::OK);
    let services = answered.body["services"].as_array().unwrap();
    let coolify = services
        .iter()
        .find(|service| service["name"] == "coolify")
        .unwrap();
    assert_eq!(
        (&coolify["version"], &coolify["status"]),
        (&json!("1.0.0"), &json!("active"))
    );
    assert!(
        coolify["capabilities"]
            .as_array()
            .unwrap()
            .contains(&json!("list-servers"))
    );
    assert!(coolify["handler"]["capabilities"][0]["parameters"].is_array());

    let service = world.get("/mcp/service/coolify", &[]).await;
    assert_eq!(service.body["service"]["name"], "coolify");
    assert_eq!(
        case(&world.get("/mcp/service/nothing", &[]).await),
        (404, -32000)
    );

    let rpc = |method: &str, params: Value| {
        json!({"jsonrpc": "2.0", "method": method, "params": params, "id": 1}).to_string()
    };
    let listed = world
        .post("/mcp/rpc", "local", &rpc("mcp.listServices", json!({})))
        .await;
    assert_eq!(listed.body["result"]["data"][0]["name"], "coolify");
    let capabilities = world
        .post(
            "/mcp/rpc",
            "local",
            &rpc("mcp.getCapabilities", json!({"service": "coolify"})),
        )
        .await;
    assert!(
        capabilities.body["result"]["data"]
            .as_array()
            .unwrap()
            .len()
            > 50
    );
    let statistics = world
        .post("/mcp/rpc", "local", &rpc("mcp.getStatistics", json!({})))
        .await;
    assert_eq!(statistics.body["result"]["data"]["active"], 1);
    let help = world.execute("local", "/mcp-coolify help").await;
    assert_eq!(help.body["result"]["data"]["operation"], "help");

    // A suspended agent may list nothing, so for it there is nothing.
    world.orchestrator.change(
        Change::AgentChanged {
            agent: BOT.parse().unwrap(),
        },
        |known| {
            known
                .agents
                .get_mut(&BOT.parse().unwrap())
                .unwrap()
                .agent
                .suspended = true;
        },
    );
    world
        .monotonic
        .fetch_add(10, std::sync::atomic::Ordering::SeqCst);
    let nothing = world.get("/mcp/catalog", &[("x-agent-id", BOT)]).await;
    assert_eq!(nothing.body["services"], json!([]));
    assert_eq!(
        case(
            &world
                .get("/mcp/service/coolify", &[("x-agent-id", BOT)])
                .await
        ),
        (404, -32000)
    );
}

#[tokio::test]
async fn a_stranger_is_told_which_services_there_are_and_no_more() {
    let world = World::with(|config| {
        config.gateway_token = Some(secrecy::SecretString::from(world::GATEWAY_TOKEN));
    })
    .await;
    let listed = world.get("/mcp/catalog", &[]).await;
    assert_eq!(listed.status, StatusCode::OK, "{listed:?}");
    assert_eq!(
        listed.body["services"],
        json!([{"name": "coolify", "version": "1.0.0", "status": "active"}])
    );
    let text = listed.body.to_string();
    assert!(
        !text.contains("server") && !text.contains("COOLIFY"),
        "{text}"
    );
    // Whoever shows an identity, a wrong one too, is no stranger.
    for header in [
        ("x-agent-id", "bot"),
        ("authorization", "Bearer nothing"),
        ("x-mcp-key", "nothing"),
        ("origin", "http://evil.example"),
    ] {
        let answered = world.get("/mcp/catalog", &[header]).await;
        assert_eq!(answered.status, StatusCode::UNAUTHORIZED, "{header:?}");
    }
    for path in ["/mcp/service/coolify", "/approvals/x"] {
        let answered = world.get(path, &[]).await;
        assert_eq!(answered.status, StatusCode::UNAUTHORIZED, "{path}");
    }
}

#[tokio::test]
async fn a_service_is_tested_under_policy() {
    let world = World::new().await;
    let tested = world.post("/mcp/test/coolify", "local", "").await;
    assert_eq!(tested.status, StatusCode::OK, "{tested:?}");
    assert_eq!(tested.body["status"], "success");
    assert_eq!(
        world.post("/mcp/test/coolify", BOT, "").await.status,
        StatusCode::FORBIDDEN
    );
    assert_eq!(
        case(&world.post("/mcp/test/nothing", "local", "").await),
        (404, -32000)
    );
}
