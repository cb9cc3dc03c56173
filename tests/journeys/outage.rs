//! Parts that are gone or slow: what was permitted a moment ago may go on for
//! `max_staleness`; then everything is refused, and nothing recorded is lost.

use std::time::Duration;

use cedargate::sample_coolify::Behaviour;
use cedargate_tests::{Layout, System};
use reqwest::{Method, StatusCode};
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upstream_down() -> anyhow::Result<()> {
    let closed = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let system = System::start_with(
        Layout::OneProcess,
        &[("COOLIFY_API_URL", &format!("http://{closed}"))],
    )
    .await?;
    let agent = system
        .create_agent(json!({"name": "stranded", "allowed_mcps": ["coolify"]}))
        .await?;
    let reply = system.execute(&agent, "/mcp-coolify servers list").await?;
    assert_eq!(
        (reply.status, &reply.body["error"]["code"]),
        (StatusCode::SERVICE_UNAVAILABLE, &json!(-32001)),
        "{reply:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upstream_slow() -> anyhow::Result<()> {
    let system = System::start_with(Layout::OneProcess, &[("HTTP_TIMEOUT_MS", "300")]).await?;
    let agent = system
        .create_agent(json!({"name": "waiting", "allowed_mcps": ["coolify"]}))
        .await?;
    system.coolify.behave(Behaviour::Hold);
    let reply = system.execute(&agent, "/mcp-coolify servers list").await?;
    assert_eq!(
        (reply.status, &reply.body["error"]["code"]),
        (StatusCode::GATEWAY_TIMEOUT, &json!(-32006)),
        "{reply:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orchestrator_down() -> anyhow::Result<()> {
    let mut system = System::start_with(
        Layout::TwoProcesses,
        &[("CEDARGATE_MAX_STALENESS_MS", "300")],
    )
    .await?;
    let agent = system
        .create_agent(json!({"name": "orphan", "allowed_mcps": ["coolify"]}))
        .await?;
    assert_eq!(
        system
            .execute(&agent, "/mcp-coolify servers list")
            .await?
            .status,
        StatusCode::OK
    );
    system.orchestrator.as_mut().unwrap().kill().await?;

    // Permits may go on for 300 ms; then nothing runs, and the answer says why.
    let refused = cedargate_tests::soon("staleness ends", async {
        loop {
            let reply = system.execute(&agent, "/mcp-coolify servers list").await?;
            if reply.status != StatusCode::OK {
                return anyhow::Ok(reply);
            }
        }
    })
    .await??;
    assert_eq!(
        refused.status,
        StatusCode::SERVICE_UNAVAILABLE,
        "{refused:?}"
    );
    assert!(
        refused.body["error"]["message"]
            .as_str()
            .unwrap()
            .contains("orchestrator"),
        "{refused:?}"
    );
    assert!(refused.headers.contains_key("retry-after"));
    let before = system.coolify.count();
    assert_eq!(
        system
            .execute(&agent, "/mcp-coolify servers list")
            .await?
            .status,
        StatusCode::SERVICE_UNAVAILABLE
    );
    assert_eq!(system.coolify.count(), before);
    let ready = system.send(system.gateway(Method::GET, "/ready")).await?;
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE, "{ready:?}");
    let alive = system.send(system.gateway(Method::GET, "/health")).await?;
    assert_eq!(alive.status, StatusCode::OK);

    // It comes back; the agent goes on, and the trail is whole.
    system.start_orchestrator_again().await?;
    cedargate_tests::soon("the gateway finds it again", async {
        while system
            .execute(&agent, "/mcp-coolify servers list")
            .await?
            .status
            != StatusCode::OK
        {}
        anyhow::Ok(())
    })
    .await??;
    let served = usize::try_from(system.coolify.count())?;
    cedargate_tests::soon("every call of the outage arrives in the trail", async {
        loop {
            let trail = system
                .admin_get(&format!("/api/audit?limit=1000&agent={agent}"))
                .await?;
            let entries = trail.body.as_array().cloned().unwrap_or_default();
            let outcomes = entries
                .iter()
                .filter(|entry| entry["kind"] == "outcome")
                .count();
            if outcomes >= served {
                assert_eq!(outcomes, served, "each once");
                return anyhow::Ok(());
            }
        }
    })
    .await??;
    Ok(())
}

/// An orchestrator that accepts connections and never answers is as good as down.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orchestrator_slow() -> anyhow::Result<()> {
    let mut system = System::start_with(
        Layout::TwoProcesses,
        &[
            ("CEDARGATE_MAX_STALENESS_MS", "0"),
            ("CEDARGATE_ORCHESTRATOR_TIMEOUT_MS", "3000"),
        ],
    )
    .await?;
    let agent = system
        .create_agent(json!({"name": "hung", "allowed_mcps": ["coolify"]}))
        .await?;
    system.orchestrator.as_mut().unwrap().pause(true).await?;
    let started = std::time::Instant::now();
    let reply = system.execute(&agent, "/mcp-coolify servers list").await?;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE, "{reply:?}");
    assert!(
        started.elapsed() < Duration::from_secs(30),
        "the wait is bounded"
    );
    assert!(system.coolify.count() == 0);
    system.orchestrator.as_mut().unwrap().pause(false).await?;
    cedargate_tests::soon("it answers again", async {
        while system
            .execute(&agent, "/mcp-coolify servers list")
            .await?
            .status
            != StatusCode::OK
        {}
        anyhow::Ok(())
    })
    .await??;
    Ok(())
}
