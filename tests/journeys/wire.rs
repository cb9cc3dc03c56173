//! Every row of the wire contract inherited from the system that we replace.

use cedargate_tests::System;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

journeys![
    information,
    execute_in_every_form,
    rpc,
    rpc_errors,
    legacy_permissions
];

async fn information(system: System) -> anyhow::Result<()> {
    let ready = system.send(system.gateway(Method::GET, "/ready")).await?;
    assert_eq!(
        (ready.status, &ready.body["status"]),
        (StatusCode::OK, &json!("ready")),
        "{ready:?}"
    );
    let info = system.send(system.gateway(Method::GET, "/info")).await?;
    assert_eq!(info.status, StatusCode::OK);
    assert!(
        info.body["name"].is_string() && info.body["version"].is_string(),
        "{info:?}"
    );
    assert!(
        info.body.get("memory").is_none() && info.body.get("nodeVersion").is_none(),
        "{info:?}"
    );

    let catalog = system
        .send(system.gateway(Method::GET, "/mcp/catalog"))
        .await?;
    assert!(
        catalog.body["statistics"]["total"].is_u64() && catalog.body["timestamp"].is_string(),
        "{catalog:?}"
    );
    let service = system
        .send(system.gateway(Method::GET, "/mcp/service/coolify"))
        .await?;
    assert_eq!(
        (service.status, &service.body["service"]["name"]),
        (StatusCode::OK, &json!("coolify")),
        "{service:?}"
    );
    assert!(service.body["service"]["capabilities"].is_array());
    let unknown = system
        .send(system.gateway(Method::GET, "/mcp/service/nothing"))
        .await?;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND, "{unknown:?}");
    for (method, path, status) in [
        (Method::GET, "/nothing", 404),
        (Method::GET, "/../etc/passwd", 404),
        (Method::GET, "/execute", 405),
        (Method::DELETE, "/mcp/rpc", 405),
        (Method::POST, "/health", 405),
    ] {
        let reply = system.send(system.gateway(method.clone(), path)).await?;
        assert_eq!(reply.status.as_u16(), status, "{method} {path}: {reply:?}");
    }
    let unknown = system
        .send(system.orchestrator(Method::GET, "/api/nothing"))
        .await?;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
    Ok(())
}

async fn execute_in_every_form(system: System) -> anyhow::Result<()> {
    let agent = system
        .create_agent(json!({"name": "polyglot", "allowed_mcps": ["coolify"]}))
        .await?;
    let slash = [
        "/mcp-coolify servers list",
        "/mcp-coolify list servers",
        "/mcp-coolify list-servers",
        "/mcp-coolify list_servers",
        "/mcp-COOLIFY servers list",
        "  /mcp-coolify   servers   list  ",
    ];
    for path in ["/execute", "/mcp/execute"] {
        for command in slash {
            let body = json!({"command": command, "id": "abc"});
            let reply = system
                .send(
                    system
                        .gateway(Method::POST, path)
                        .header("x-agent-id", &agent)
                        .json(&body),
                )
                .await?;
            assert_eq!(reply.status, StatusCode::OK, "{path} {command}: {reply:?}");
            assert_eq!(
                (&reply.body["jsonrpc"], &reply.body["id"]),
                (&json!("2.0"), &json!("abc"))
            );
            assert_eq!(
                reply.body["result"]["data"]["operation"], "list_servers",
                "{command}"
            );
            let metadata = &reply.body["result"]["metadata"];
            assert!(
                metadata["executionTime"].is_u64() && metadata["timestamp"].is_string(),
                "{metadata}"
            );
        }
        for body in [
            json!({"service": "coolify", "operation": "list-servers", "args": {}}),
            json!({"service": "coolify", "operation": "list_servers", "args": []}),
            json!({"service": "coolify", "operation": "list-servers"}),
        ] {
            let reply = system
                .send(
                    system
                        .gateway(Method::POST, path)
                        .header("x-agent-id", &agent)
                        .json(&body),
                )
                .await?;
            assert_eq!(reply.status, StatusCode::OK, "{path} {body}: {reply:?}");
        }
    }
    // By position and by name, quoted or not, it is the same call.
    for command in [
        "/mcp-coolify applications get sampleapp000000000000001",
        "/mcp-coolify applications get --uuid sampleapp000000000000001",
        "/mcp-coolify get-application --uuid=sampleapp000000000000001",
        "/mcp-coolify get_application 'sampleapp000000000000001'",
        "/mcp-coolify get application {\"uuid\": \"sampleapp000000000000001\"}",
    ] {
        let reply = system.execute(&agent, command).await?;
        assert_eq!(reply.status, StatusCode::OK, "{command}: {reply:?}");
        let arrived = system.coolify.arrived().pop().unwrap();
        assert_eq!(
            (arrived.method.as_str(), arrived.path.as_str()),
            ("GET", "/api/v1/applications/sampleapp000000000000001"),
            "{command}"
        );
    }
    for command in ["/mcp-coolify", "/mcp-coolify help"] {
        let reply = system.execute(&agent, command).await?;
        assert_eq!(reply.status, StatusCode::OK, "{command}: {reply:?}");
        assert!(
            reply.body["result"].to_string().contains("servers list"),
            "{reply:?}"
        );
    }
    Ok(())
}

async fn call(
    system: &System,
    agent: &str,
    body: &Value,
) -> anyhow::Result<cedargate_tests::system::Reply> {
    system
        .send(
            system
                .gateway(Method::POST, "/mcp/rpc")
                .header("x-agent-id", agent)
                .json(body),
        )
        .await
}

async fn rpc(system: System) -> anyhow::Result<()> {
    let agent = system
        .create_agent(json!({"name": "remote", "allowed_mcps": ["coolify"]}))
        .await?;
    let request = |method: &str, params: Value| json!({"jsonrpc": "2.0", "id": 0, "method": method, "params": params});
    let reply = call(
        &system,
        &agent,
        &request(
            "mcp.execute",
            json!({"service": "coolify", "operation": "list-servers"}),
        ),
    )
    .await?;
    assert_eq!(
        (reply.status, &reply.body["id"]),
        (StatusCode::OK, &json!(0)),
        "id 0 is an id: {reply:?}"
    );
    assert_eq!(reply.body["result"]["data"]["operation"], "list_servers");
    for args in [
        json!({"uuid": "sampleapp000000000000001"}),
        json!(["sampleapp000000000000001"]),
    ] {
        let params = json!({"service": "coolify", "operation": "get-application", "args": args});
        let reply = call(&system, &agent, &request("mcp.execute", params)).await?;
        assert_eq!(reply.status, StatusCode::OK, "{reply:?}");
    }
    let list = call(&system, &agent, &request("mcp.listServices", json!({}))).await?;
    assert!(
        list.body["result"]["data"]
            .as_array()
            .unwrap()
            .iter()
            .any(|service| service["name"] == "coolify"),
        "{list:?}"
    );
    let capabilities = call(
        &system,
        &agent,
        &request("mcp.getCapabilities", json!({"service": "coolify"})),
    )
    .await?;
    let names: Vec<&str> = capabilities.body["result"]["data"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|one| one["name"].as_str())
        .collect();
    assert!(names.contains(&"list-servers"), "{names:?}");
    let statistics = call(&system, &agent, &request("mcp.getStatistics", json!({}))).await?;
    assert!(
        statistics.body["result"]["data"]["total"].as_u64() >= Some(1),
        "{statistics:?}"
    );
    Ok(())
}

async fn rpc_errors(system: System) -> anyhow::Result<()> {
    let agent = system
        .create_agent(json!({"name": "wrong", "allowed_mcps": ["coolify"]}))
        .await?;
    let execute = |params: Value| json!({"jsonrpc": "2.0", "id": 1, "method": "mcp.execute", "params": params});
    let cases = [
        (
            "version",
            json!({"jsonrpc": "1.0", "id": 1, "method": "mcp.listServices"}),
            400,
            -32600,
        ),
        ("no method", json!({"jsonrpc": "2.0", "id": 1}), 400, -32600),
        (
            "no id",
            json!({"jsonrpc": "2.0", "method": "mcp.listServices"}),
            400,
            -32600,
        ),
        (
            "a batch",
            json!([{"jsonrpc": "2.0", "id": 1, "method": "mcp.listServices"}]),
            400,
            -32600,
        ),
        (
            "unknown method",
            json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}),
            404,
            -32601,
        ),
        (
            "no params",
            json!({"jsonrpc": "2.0", "id": 1, "method": "mcp.execute"}),
            400,
            -32602,
        ),
        (
            "unknown service",
            execute(json!({"service": "nothing", "operation": "x"})),
            404,
            -32000,
        ),
        (
            "unknown operation",
            execute(json!({"service": "coolify", "operation": "x"})),
            404,
            -32002,
        ),
        (
            "bad arguments",
            execute(json!({"service": "coolify", "operation": "get-application", "args": {}})),
            400,
            -32009,
        ),
        (
            "args of no kind",
            execute(json!({"service": "coolify", "operation": "list-servers", "args": 5})),
            400,
            -32602,
        ),
    ];
    for (name, body, status, code) in cases {
        let reply = call(&system, &agent, &body).await?;
        assert_eq!(
            (reply.status.as_u16(), reply.body["error"]["code"].as_i64()),
            (status, Some(code)),
            "{name}: {reply:?}"
        );
    }
    let none = system.create_agent(json!({"name": "without"})).await?;
    let refused = call(
        &system,
        &none,
        &execute(json!({"service": "coolify", "operation": "list-servers"})),
    )
    .await?;
    assert_eq!(
        (
            refused.status,
            &refused.body["error"]["code"],
            &refused.body["id"]
        ),
        (StatusCode::FORBIDDEN, &json!(-32004), &json!(1))
    );
    assert!(
        refused.body["error"]["data"]["request_id"].is_string(),
        "{refused:?}"
    );
    Ok(())
}

#[expect(
    clippy::too_many_lines,
    reason = "the three calls, one after the other"
)]
async fn legacy_permissions(system: System) -> anyhow::Result<()> {
    let agent = system
        .create_agent(json!({"name": "legacy", "allowed_mcps": ["github"]}))
        .await?;
    for reference in [agent.as_str(), "legacy"] {
        let permissions = system
            .admin_get(&format!("/api/agent/{reference}/mcp-permissions"))
            .await?;
        assert_eq!(permissions.status, StatusCode::OK, "{permissions:?}");
        assert_eq!(
            (
                &permissions.body["status"],
                &permissions.body["agent_name"],
                &permissions.body["allowed_mcps"]
            ),
            (&json!("success"), &json!("legacy"), &json!(["github"]))
        );
    }
    for unknown in [
        "nobody",
        "9b2f6c1e-58c5-4a7e-9a59-0d1f4c1f9d11",
        "denied%2F..%2Fallowed",
    ] {
        let reply = system
            .admin_get(&format!("/api/agent/{unknown}/mcp-permissions"))
            .await?;
        assert_eq!(reply.status, StatusCode::NOT_FOUND, "{unknown}: {reply:?}");
    }

    let body = json!({"agent_id": agent, "service_name": "coolify", "reason": "asked by hand", "timestamp": "2026-11-22T10:00:00.000Z"});
    let asked = system
        .admin(Method::POST, "/api/mcp/permission-request", body.clone())
        .await?;
    assert_eq!(
        (asked.status, &asked.body["status"]),
        (StatusCode::OK, &json!("success")),
        "{asked:?}"
    );
    let id = asked.body["request_id"].as_str().unwrap().to_owned();
    let again = system
        .admin(Method::POST, "/api/mcp/permission-request", body)
        .await?;
    assert_eq!(again.body["request_id"], id);
    let own = system.respond(&id, true).await?;
    assert_eq!(
        own.status,
        StatusCode::FORBIDDEN,
        "who asks does not answer"
    );
    let other = system.create_user("sam", &["approver"]).await?;
    let respond = system
        .orchestrator(Method::POST, "/api/mcp/permission-respond")
        .bearer_auth(other)
        .json(&json!({"request_id": id, "approved": true}));
    assert_eq!(system.send(respond).await?.status, StatusCode::OK);
    let permissions = system
        .admin_get(&format!("/api/agent/{agent}/mcp-permissions"))
        .await?;
    assert_eq!(
        permissions.body["allowed_mcps"],
        json!(["coolify", "github"])
    );
    assert_eq!(
        system
            .execute(&agent, "/mcp-coolify servers list")
            .await?
            .status,
        StatusCode::OK
    );
    assert_eq!(
        system
            .execute(
                &agent,
                "/mcp-coolify applications get sampleapp000000000000001"
            )
            .await?
            .status,
        StatusCode::OK
    );
    let delete = system
        .execute(
            &agent,
            "/mcp-coolify applications delete sampleapp000000000000001",
        )
        .await?;
    assert_eq!(
        delete.status,
        StatusCode::FORBIDDEN,
        "what destroys is not part of it"
    );

    let unknown = json!({"agent_id": "nobody", "service_name": "coolify", "reason": "x", "timestamp": "2026-11-22T10:00:00.000Z"});
    assert_eq!(
        system
            .admin(Method::POST, "/api/mcp/permission-request", unknown)
            .await?
            .status,
        StatusCode::NOT_FOUND
    );
    let short = system
        .admin(
            Method::POST,
            "/api/mcp/permission-request",
            json!({"agent_id": agent}),
        )
        .await?;
    assert_eq!(short.status, StatusCode::BAD_REQUEST, "{short:?}");
    Ok(())
}
