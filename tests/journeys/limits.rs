//! Limits and budgets, and how services are: through the real binary, in both layouts.

use cedargate_tests::{Layout, System, soon};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

const LIST: &str = "/mcp-coolify servers list";

/// A system with a file of limits, which stays where it is.
async fn limited(layout: Layout, text: &str) -> anyhow::Result<(System, tempfile::TempDir)> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("limits.toml");
    std::fs::write(&file, text)?;
    let file = file.display().to_string();
    let system = System::start_with(layout, &[("CEDARGATE_LIMITS", &file)]).await?;
    Ok((system, folder))
}

/// What is used of the service's budget, as the orchestrator knows.
async fn used(system: &System) -> anyhow::Result<i64> {
    let budgets = system.admin_get("/api/budgets?service=coolify").await?;
    assert_eq!(budgets.status, StatusCode::OK, "{budgets:?}");
    Ok(budgets.body[0]["calls"].as_i64().unwrap_or_default())
}

async fn a_budget_survives_a_restart_and_is_shared(layout: Layout) -> anyhow::Result<()> {
    let text = "services.coolify.all = { calls_per_day = 3 }\n";
    let (mut system, folder) = limited(layout, text).await?;
    let agent = json!({"name": "lister", "allowed_mcps": ["coolify"]});
    let agent = system.create_agent(agent).await?;
    let token = system.create_agent_token(&agent).await?;
    for _ in 0..2 {
        let answered = system.execute("lister", LIST).await?;
        assert_eq!(answered.status, StatusCode::OK, "{answered:?}");
    }
    soon("the orchestrator is told", async {
        while used(&system).await? < 2 {}
        anyhow::Ok(())
    })
    .await??;

    system.kill_and_restart_gateway().await?;
    let third = system.execute("lister", LIST).await?;
    assert_eq!(third.status, StatusCode::OK, "{third:?}");
    let spent = system.execute("lister", LIST).await?;
    assert_eq!(spent.status, StatusCode::TOO_MANY_REQUESTS, "{spent:?}");
    assert_eq!(spent.body["error"]["code"], -32005);
    let data = &spent.body["error"]["data"];
    assert_eq!(
        (&data["reason"], &data["limit"]),
        (&json!("calls"), &json!(3))
    );
    assert!(
        data["resets_at"]
            .as_str()
            .is_some_and(|at| at.ends_with("T00:00:00.000Z")),
        "{data}"
    );
    assert!(spent.headers.contains_key("retry-after"));

    // Another gateway has nothing left either, once the first has told of it.
    soon("the orchestrator is told", async {
        while used(&system).await? < 3 {}
        anyhow::Ok(())
    })
    .await??;
    let second = system.second_gateway().await?;
    let client = reqwest::Client::builder().no_proxy().build()?;
    let request = client
        .post(format!("{}/execute", second.url))
        .bearer_auth(&token)
        .json(&json!({"command": LIST}));
    let elsewhere = system.send(request).await?;
    assert_eq!(
        elsewhere.status,
        StatusCode::TOO_MANY_REQUESTS,
        "{elsewhere:?}"
    );

    let shown = system
        .cli(&["budgets", "--service", "coolify", "--json"])
        .await?;
    let shown: Value = serde_json::from_slice(&shown.stdout)?;
    assert_eq!(
        (&shown[0]["calls"], &shown[0]["spent"]),
        (&json!(3), &json!(true))
    );
    let table = system.cli(&["budgets"]).await?;
    let table = String::from_utf8(table.stdout)?;
    assert!(
        table.contains("3 of 3") && table.contains("spent"),
        "{table}"
    );

    // A file that is wrong changes nothing; one that is right is taken up by itself.
    std::fs::write(
        folder.path().join("limits.toml"),
        "services.coolifi.all = {}",
    )?;
    system
        .gateway
        .line(&["the file of limits is wrong"])
        .await?;
    let still = system.execute("lister", LIST).await?;
    assert_eq!(still.status, StatusCode::TOO_MANY_REQUESTS);
    std::fs::write(
        folder.path().join("limits.toml"),
        "services.coolify.all = { calls_per_day = 4 }",
    )?;
    soon("more is allowed", async {
        while system.execute("lister", LIST).await?.status != StatusCode::OK {}
        anyhow::Ok(())
    })
    .await??;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_survives_a_restart_in_one_process() -> anyhow::Result<()> {
    a_budget_survives_a_restart_and_is_shared(Layout::OneProcess).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_survives_a_restart_in_two_processes() -> anyhow::Result<()> {
    a_budget_survives_a_restart_and_is_shared(Layout::TwoProcesses).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_origins_variables_limit_each_agent() -> anyhow::Result<()> {
    let variables = [
        ("RATE_LIMIT_MAX_REQUESTS", "3"),
        ("RATE_LIMIT_WINDOW_MS", "3600000"),
    ];
    let system = System::start_with(Layout::OneProcess, &variables).await?;
    for name in ["one", "two"] {
        let agent = json!({"name": name, "allowed_mcps": ["coolify"]});
        system.create_agent(agent).await?;
        let mut statuses = Vec::new();
        for _ in 0..4 {
            let answered = system.execute(name, LIST).await?;
            statuses.push(answered.status.as_u16());
            if answered.status != StatusCode::OK {
                assert_eq!(
                    answered.body["error"]["message"],
                    format!(
                        "Rate limit exceeded. Maximum 3 requests per 3600 seconds, for agent '{name}'."
                    )
                );
                assert_eq!(answered.headers["ratelimit-policy"], "3;w=3600");
            }
        }
        assert_eq!(statuses, [200, 200, 200, 429]);
    }
    let metrics = system
        .send(reqwest::Client::new().get(format!("{}/metrics", system.metrics_url)))
        .await?;
    let text = metrics.body.to_string();
    assert!(
        text.contains("mcp_rate_limit_hits_total") && text.contains("cedargate_service_up"),
        "{text}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_that_are_wrong_keep_the_gateway_from_starting() -> anyhow::Result<()> {
    for (text, expected) in [
        (
            "services.coolifi.all = { per_second = 1 }",
            "did you mean `coolify`?",
        ),
        (
            "each_agent = { per_minut = 1 }",
            "did you mean `per_minute`?",
        ),
    ] {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("limits.toml");
        std::fs::write(&file, text)?;
        let output = tokio::process::Command::new(cedargate_tests::process::binary()?)
            .arg("serve")
            .env_clear()
            .env("CEDARGATE_DATA", folder.path().join("data"))
            .env("CEDARGATE_LIMITS", &file)
            .env("PORT", "0")
            .env("METRICS_PORT", "0")
            .env("BACKEND_PORT", "0")
            .kill_on_drop(true)
            .output();
        let output = soon("it ends", output).await??;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            !output.status.success() && said.contains(expected),
            "{said}"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_is_away_is_shown_everywhere() -> anyhow::Result<()> {
    // Nobody listens there.
    let away = [("COOLIFY_API_URL", "http://127.0.0.1:9")];
    let system = System::start_with(Layout::TwoProcesses, &away).await?;
    let agent = json!({"name": "lister", "allowed_mcps": ["coolify"]});
    system.create_agent(agent).await?;
    for _ in 0..5 {
        let failed = system.execute("lister", LIST).await?;
        assert_eq!(failed.status, StatusCode::SERVICE_UNAVAILABLE, "{failed:?}");
    }
    let ready = system.send(system.gateway(Method::GET, "/ready")).await?;
    assert_eq!(ready.status, StatusCode::OK, "{ready:?}");
    let services = &ready.body["checks"]["services"];
    assert_eq!(services["unwell"][0]["name"], "coolify", "{services}");
    assert_eq!(services["unwell"][0]["last_error"], "unreachable");
    soon("the orchestrator hears of it", async {
        loop {
            let shown = system.admin_get("/api/services/coolify").await?;
            let health = &shown.body["gateways"][0]["health"];
            if health["state"] == "degraded" && health["last_error"] == "unreachable" {
                return anyhow::Ok(());
            }
        }
    })
    .await??;
    let listed = system.cli(&["services", "list", "--live"]).await?;
    let listed = String::from_utf8(listed.stdout)?;
    assert!(
        listed.contains("degraded since") && listed.contains("last: unreachable"),
        "{listed}"
    );
    let catalog = system
        .gateway(Method::GET, "/mcp/catalog")
        .header("X-Agent-Id", "lister");
    let catalog = system.send(catalog).await?.body;
    let services = catalog["services"].as_array().cloned().unwrap_or_default();
    let coolify = services.iter().find(|service| service["name"] == "coolify");
    assert_eq!(coolify.unwrap()["health"]["state"], "degraded");
    Ok(())
}
