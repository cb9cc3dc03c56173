//! Who an agent is: tokens, the gateway token, loopback, and every odd `X-Agent-Id`.

use cedargate_tests::{Layout, System};
use reqwest::{Method, StatusCode, header::HeaderValue};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

journeys![odd_agent_ids, line_breaks, agent_tokens, suspended];

async fn odd_agent_ids(system: System) -> anyhow::Result<()> {
    let agent = system
        .create_agent(json!({"name": "allowed", "allowed_mcps": ["coolify"]}))
        .await?;
    let body = json!({"command": "/mcp-coolify servers list"});
    let long = "x".repeat(10_000);
    let odd: &[(&str, &[u8])] = &[
        ("empty", b""),
        ("path", b"denied/../allowed"),
        ("encoded path", b"denied%2f..%2fallowed"),
        ("long", long.as_bytes()),
        ("not text", b"\xff\xfe"),
        ("two in one", b"allowed, allowed"),
        ("braces", b"{00000000-0000-4000-8000-000000000001}"),
    ];
    for (name, value) in odd {
        let request = system
            .gateway(Method::POST, "/execute")
            .header("x-agent-id", HeaderValue::from_bytes(value)?);
        let reply = system.send(request.json(&body)).await?;
        assert!(
            matches!(reply.status.as_u16(), 400 | 431),
            "{name}: {reply:?}"
        );
    }
    let repeated = system
        .gateway(Method::POST, "/execute")
        .header("x-agent-id", &agent)
        .header("x-agent-id", &agent);
    assert_eq!(
        system.send(repeated.json(&body)).await?.status,
        StatusCode::BAD_REQUEST
    );
    for unknown in ["nobody", "9b2f6c1e-58c5-4a7e-9a59-0d1f4c1f9d11"] {
        let reply = system.execute(unknown, "/mcp-coolify servers list").await?;
        assert_eq!(
            reply.status,
            StatusCode::UNAUTHORIZED,
            "{unknown}: {reply:?}"
        );
    }
    assert!(system.coolify.count() == 0);

    // By name or by id, it is the same agent.
    for reference in ["allowed", agent.as_str()] {
        assert_eq!(
            system
                .execute(reference, "/mcp-coolify servers list")
                .await?
                .status,
            StatusCode::OK,
            "{reference}"
        );
    }
    Ok(())
}

/// What no HTTP client would send: line breaks within the header.
async fn line_breaks(system: System) -> anyhow::Result<()> {
    let agent = system
        .create_agent(json!({"name": "broken", "allowed_mcps": ["coolify"]}))
        .await?;
    let address = system.gateway_url.trim_start_matches("http://").to_owned();
    let body = json!({"command": "/mcp-coolify servers list"}).to_string();
    for value in [
        format!("{agent}\nX-Other: 1\n x"),
        format!("nobody\r\n {agent}"),
        format!("\u{b}{agent}"),
        format!("{agent}\0"),
    ] {
        let request = format!(
            "POST /execute HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\nX-Agent-Id: {value}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = tokio::net::TcpStream::connect(&address).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        cedargate_tests::soon("an answer", stream.read_to_end(&mut answer)).await??;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.starts_with("HTTP/1.1 400 "), "{value:?}: {answer}");
    }
    assert!(system.coolify.count() == 0);
    Ok(())
}

async fn agent_tokens(system: System) -> anyhow::Result<()> {
    let agent = system
        .create_agent(json!({"name": "mine", "allowed_mcps": ["coolify"]}))
        .await?;
    let other = system
        .create_agent(json!({"name": "other", "allowed_mcps": ["coolify"]}))
        .await?;
    let token = system.create_agent_token(&agent).await?;
    assert!(token.starts_with("cgt_"));
    let body = json!({"command": "/mcp-coolify servers list"});
    let call = || system.gateway(Method::POST, "/execute").json(&body);

    assert_eq!(
        system.send(call().bearer_auth(&token)).await?.status,
        StatusCode::OK
    );
    assert_eq!(
        system
            .send(call().header("x-mcp-key", &token))
            .await?
            .status,
        StatusCode::OK
    );
    assert_eq!(
        system
            .send(call().bearer_auth(&token).header("x-agent-id", &agent))
            .await?
            .status,
        StatusCode::OK
    );
    let foreign = system
        .send(call().bearer_auth(&token).header("x-agent-id", &other))
        .await?;
    assert!(matches!(foreign.status.as_u16(), 401 | 403), "{foreign:?}");
    for wrong in ["cgt_wrong", "", &token[..token.len() - 1], &system.admin] {
        let reply = system
            .send(call().header("authorization", format!("Bearer {wrong}")))
            .await?;
        assert_eq!(
            reply.status,
            StatusCode::UNAUTHORIZED,
            "`{wrong}` {reply:?}"
        );
    }

    let tokens = system
        .admin_get(&format!("/api/agents/{agent}/tokens"))
        .await?;
    assert!(
        !tokens.body.to_string().contains(&token),
        "a credential is shown once"
    );
    let id = tokens.body[0]["id"].as_str().unwrap();
    let revoked = system
        .admin(
            Method::DELETE,
            &format!("/api/agents/{agent}/tokens/{id}"),
            json!(null),
        )
        .await?;
    assert!(revoked.status.is_success(), "{revoked:?}");
    cedargate_tests::soon("the credential is refused", async {
        while system.send(call().bearer_auth(&token)).await?.status == StatusCode::OK {}
        anyhow::Ok(())
    })
    .await??;
    Ok(())
}

async fn suspended(system: System) -> anyhow::Result<()> {
    let agent = system
        .create_agent(json!({"name": "stopped", "allowed_mcps": ["coolify"]}))
        .await?;
    assert_eq!(
        system
            .execute(&agent, "/mcp-coolify servers list")
            .await?
            .status,
        StatusCode::OK
    );
    let changed = system
        .admin(
            Method::PATCH,
            &format!("/api/agents/{agent}"),
            json!({"suspended": true}),
        )
        .await?;
    assert_eq!(changed.status, StatusCode::OK, "{changed:?}");
    let refused = cedargate_tests::soon("the suspension is in force", async {
        loop {
            let reply = system.execute(&agent, "/mcp-coolify servers list").await?;
            if reply.status != StatusCode::OK {
                return anyhow::Ok(reply);
            }
        }
    })
    .await??;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    let data = &refused.body["error"]["data"];
    assert_eq!(
        (&data["asking_helps"], &data["retryable"]),
        (&json!(false), &json!(false)),
        "{data}"
    );
    assert!(
        data["request_id"].is_null(),
        "nobody is asked about what nobody may allow: {data}"
    );
    Ok(())
}

/// Two gateways, each with an orchestrator of its own on one database. Facts are believed for
/// ten minutes, so only the feed can tell the gateways in time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn suspended_everywhere() -> anyhow::Result<()> {
    let staleness = [("CEDARGATE_MAX_STALENESS_MS", "600000")];
    let system = System::start_with(Layout::TwoProcesses, &staleness).await?;
    let second = system.second_pair().await?;
    let agent = system
        .create_agent(json!({"name": "runaway", "allowed_mcps": ["coolify"]}))
        .await?;
    let token = system.create_agent_token(&agent).await?;
    let client = reqwest::Client::builder().no_proxy().build()?;
    let send = async |gateway: &str| {
        let request = client
            .post(format!("{gateway}/execute"))
            .bearer_auth(&token)
            .json(&json!({"command": "/mcp-coolify servers list"}));
        anyhow::Ok(request.send().await?.status())
    };
    let gateways = [&system.gateway_url, &second.gateway_url];
    for gateway in gateways {
        assert_eq!(send(gateway).await?, StatusCode::OK, "{gateway}");
    }

    for (arguments, wanted) in [
        (
            ["agents", "suspend", "runaway", "--reason", "it runs away"].as_slice(),
            StatusCode::FORBIDDEN,
        ),
        (&["agents", "resume", "runaway"], StatusCode::OK),
    ] {
        let done = system.cli(arguments).await?;
        assert!(
            done.status.success(),
            "{}",
            String::from_utf8_lossy(&done.stderr)
        );
        for gateway in gateways {
            cedargate_tests::soon("it is in force at both gateways", async {
                while send(gateway).await? != wanted {}
                anyhow::Ok(())
            })
            .await??;
        }
    }
    Ok(())
}

/// With a gateway token, loopback proves nothing; the token does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateway_token() -> anyhow::Result<()> {
    let token = "gateway-token-of-a-trusted-caller-0123456789";
    let system = System::start_with(Layout::OneProcess, &[("MCP_GATEWAY_TOKEN", token)]).await?;
    let agent = system
        .create_agent(json!({"name": "spoken-for", "allowed_mcps": ["coolify"]}))
        .await?;
    let body = json!({"command": "/mcp-coolify servers list"});
    let call = || system.gateway(Method::POST, "/execute").json(&body);
    for request in [
        call(),
        call().header("x-agent-id", &agent),
        call().bearer_auth("wrong").header("x-agent-id", &agent),
    ] {
        let reply = system.send(request).await?;
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "{reply:?}");
    }
    assert!(system.coolify.count() == 0);
    assert_eq!(
        system
            .send(call().bearer_auth(token).header("x-agent-id", &agent))
            .await?
            .status,
        StatusCode::OK
    );
    let nameless = system.send(call().bearer_auth(token)).await?;
    assert!(
        matches!(nameless.status.as_u16(), 400 | 401),
        "a trusted caller says for whom: {nameless:?}"
    );
    let own = system.create_agent_token(&agent).await?;
    assert_eq!(
        system.send(call().bearer_auth(own)).await?.status,
        StatusCode::OK
    );
    let forwarded = call()
        .header("x-forwarded-for", "127.0.0.1")
        .header("x-agent-id", &agent);
    assert_eq!(
        system.send(forwarded).await?.status,
        StatusCode::UNAUTHORIZED
    );
    Ok(())
}

/// Test 2's other half: from another address there is no loopback.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_address() -> anyhow::Result<()> {
    let Some(address) = own_address().await? else {
        anyhow::bail!("this machine has no address besides loopback to call from");
    };
    // Agents' own tokens work from anywhere; the header alone does not.
    let token = "gateway-token-of-a-trusted-caller-0123456789";
    let system = System::start_with(
        Layout::OneProcess,
        &[("HOST", "0.0.0.0"), ("MCP_GATEWAY_TOKEN", token)],
    )
    .await?;
    let agent = system
        .create_agent(json!({"name": "far", "allowed_mcps": ["coolify"]}))
        .await?;
    let port = system.gateway_url.rsplit(':').next().unwrap();
    let url = format!("http://{address}:{port}/execute");
    let client = reqwest::Client::builder().no_proxy().build()?;
    let body = json!({"command": "/mcp-coolify servers list"});
    for request in [
        client.post(&url),
        client.post(&url).header("x-agent-id", &agent),
    ] {
        assert_eq!(
            system.send(request.json(&body)).await?.status,
            StatusCode::UNAUTHORIZED
        );
    }
    let own = system.create_agent_token(&agent).await?;
    assert_eq!(
        system
            .send(client.post(&url).bearer_auth(own).json(&body))
            .await?
            .status,
        StatusCode::OK
    );
    Ok(())
}

/// An address of this machine that is not loopback; no packet is sent to find it.
async fn own_address() -> anyhow::Result<Option<std::net::IpAddr>> {
    let output = tokio::process::Command::new("hostname")
        .arg("-I")
        .output()
        .await?;
    let addresses = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(addresses
        .split_whitespace()
        .filter_map(|text| text.parse().ok())
        .find(std::net::IpAddr::is_ipv4))
}
