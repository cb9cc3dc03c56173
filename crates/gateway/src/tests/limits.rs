//! Limits as agents meet them, at every door but those of MCP servers.

use authz::Timestamp;
use contract::budgets::{BudgetUse, Day};
use handlers::limits::Limits;

use super::{world::NOON, *};

fn limits(text: &str) -> Limits {
    Limits::read("limits.toml", text).unwrap()
}

async fn limited(text: &str) -> World {
    World::with(|config| config.limits = limits(text)).await
}

const LIST: &str = "/mcp-coolify list-servers";

#[tokio::test]
async fn a_limited_call_is_refused_alike_at_every_door_and_recorded() {
    let world = limited("each_agent = { per_minute = 6, burst = 2 }").await;
    let first = world.execute("local", LIST).await;
    assert_eq!(first.status, StatusCode::OK, "{first:?}");
    assert_eq!(first.headers["ratelimit-policy"], "6;w=60");
    assert_eq!(first.headers["ratelimit-limit"], "6");
    assert_eq!(first.headers["ratelimit-remaining"], "1");
    assert_eq!(first.headers["ratelimit-reset"], "10");
    world.execute("local", LIST).await;

    let rpc = json!({"jsonrpc": "2.0", "id": 7, "method": "mcp.execute", "params": {"service": "coolify", "operation": "list-servers"}});
    let command = json!({"command": LIST, "id": 7});
    for (path, body) in [
        ("/execute", &command),
        ("/mcp/execute", &command),
        ("/mcp/rpc", &rpc),
    ] {
        let refused = world.post(path, "local", &body.to_string()).await;
        assert_eq!(
            refused.status,
            StatusCode::TOO_MANY_REQUESTS,
            "{path} {refused:?}"
        );
        assert_eq!(refused.code(), -32005);
        assert_eq!(refused.body["id"], 7);
        assert_eq!(
            refused.message(),
            "Rate limit exceeded. Maximum 6 requests per 60 seconds, for agent 'local'."
        );
        for (name, expected) in [
            ("limit", json!(6)),
            ("windowMs", json!(60_000)),
            ("identifier", json!("agent 'local'")),
            ("service", json!("coolify")),
            ("operation", json!("list-servers")),
            ("outcome", json!("refused")),
            ("reason", json!("rate")),
            ("retryable", json!(true)),
            ("retry_after_seconds", json!(10)),
        ] {
            assert_eq!(refused.data()[name], expected, "{path} {name}");
        }
        for (name, expected) in [
            ("retry-after", "10"),
            ("ratelimit-policy", "6;w=60"),
            ("ratelimit-remaining", "0"),
        ] {
            assert_eq!(refused.headers[name], expected, "{path} {name}");
        }
    }
    let message = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "coolify__list-servers", "arguments": {}}});
    let headers = [
        ("content-type", "application/json"),
        ("accept", "application/json, text/event-stream"),
        ("x-agent-id", "local"),
    ];
    let mcp =
        |message: &Value| World::request(Method::POST, "/mcp", &headers, &message.to_string());
    let tool = world.send(LOOPBACK, mcp(&message)).await;
    assert_eq!(
        tool.status,
        StatusCode::OK,
        "an error of HTTP would end sessions"
    );
    assert_eq!(tool.headers["retry-after"], "10");
    let result = &tool.body["result"];
    assert_eq!(result["isError"], true, "{tool:?}");
    let text = result["content"][0]["text"].as_str().unwrap();
    assert!(
        text.contains("Rate limit exceeded") && text.contains("Nothing was executed"),
        "{text}"
    );
    let decision = &result["_meta"]["dev.cedargate/decision"];
    assert_eq!(decision["retry_after_seconds"], 10);
    assert_eq!(decision["reason"], "rate");
    let list = json!({"jsonrpc": "2.0", "id": 2, "method": "tools/list"});
    let listed = world.send(LOOPBACK, mcp(&list)).await;
    assert_eq!(listed.body["error"]["data"]["reason"], "rate", "{listed:?}");
    // What is no command is taken from the same.
    let asked = world.get("/mcp/catalog", &[("x-agent-id", "local")]).await;
    assert_eq!(asked.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(asked.code(), -32005);
    // Others are not touched.
    assert_eq!(world.execute(OTHER, LIST).await.status, StatusCode::OK);
    world
        .monotonic
        .fetch_add(10, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(world.execute("local", LIST).await.status, StatusCode::OK);
    assert_eq!(world.reached().len(), 4);

    counted_and_recorded(world).await;
}

/// What operators see of the four limited commands, and of two other requests.
async fn counted_and_recorded(world: World) {
    let text = String::from_utf8(world.gateway.metrics_text().unwrap()).unwrap();
    for series in [
        r#"mcp_rate_limit_hits_total{limit="agent",reason="rate",service="coolify"} 4"#,
        r#"mcp_rate_limit_hits_total{limit="agent",reason="rate",service=""} 2"#,
        r#"cedargate_service_up{service="coolify"} 1"#,
        r#"cedargate_service_breaker{service="coolify"} 0"#,
        r#"cedargate_service_in_flight{service="coolify"} 0"#,
    ] {
        assert!(text.contains(series), "{series} is not in\n{text}");
    }
    let journal = world.end().await;
    let refusals: Vec<_> = journal
        .iter()
        .filter(|line| line["kind"] == "refusal")
        .collect();
    assert_eq!(refusals.len(), 4);
    for refusal in refusals {
        assert_eq!(refusal["reason"], "rate_limit");
        assert_eq!(refusal["outcome"], "refused");
        assert_eq!(refusal["command"], "coolify/list-servers");
        assert_eq!(refusal["agent_name"], "local");
    }
}

#[tokio::test]
async fn a_flood_of_refused_calls_is_limited_and_does_not_fill_the_journal() {
    let world = limited("each_agent = { per_minute = 60, burst = 5 }").await;
    let mut statuses = std::collections::BTreeMap::new();
    for _ in 0..200 {
        let answered = world
            .execute(BOT, "/mcp-coolify restart-application x")
            .await;
        *statuses.entry(answered.status.as_u16()).or_insert(0) += 1;
    }
    assert_eq!(statuses, [(403, 5), (429, 195)].into());
    assert_eq!(world.orchestrator.opened().len(), 1);
    // Nonsense is limited, too.
    let nonsense = world.execute(BOT, "/mcp-nothing at all").await;
    assert_eq!(nonsense.status, StatusCode::TOO_MANY_REQUESTS);
    world
        .monotonic
        .fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    world
        .execute(BOT, "/mcp-coolify restart-application x")
        .await;
    world
        .execute(BOT, "/mcp-coolify restart-application x")
        .await;
    let journal = world.end().await;
    let of = |reason: &str| {
        let lines = journal.iter().filter(|line| line["reason"] == reason);
        lines.cloned().collect::<Vec<_>>()
    };
    assert_eq!(of("policy").len(), 6);
    let limited = of("rate_limit");
    assert_eq!(limited.len(), 11, "ten, and one a second");
    assert_eq!(limited[10]["unrecorded"], 185);
    assert!(limited[0].get("unrecorded").is_none());
}

#[tokio::test]
async fn what_policy_refuses_uses_nothing_of_a_service_and_a_limited_call_spends_no_grant() {
    let world = limited("services.coolify.all = { calls_per_day = 2, per_hour = 100 }").await;
    for _ in 0..5 {
        assert_eq!(world.execute(BOT, LIST).await.status, StatusCode::FORBIDDEN);
    }
    world
        .give(grant(
            command_scope("coolify/list-servers"),
            Risk::Read,
            60,
            true,
        ))
        .await;
    assert_eq!(world.execute("local", LIST).await.status, StatusCode::OK);
    assert_eq!(world.execute(OTHER, LIST).await.status, StatusCode::OK);
    let spent = world.execute(BOT, LIST).await;
    assert_eq!(spent.status, StatusCode::TOO_MANY_REQUESTS, "{spent:?}");
    assert_eq!(spent.code(), -32005);
    let midnight = Day::of(Timestamp::from_millis(NOON)).end();
    assert_eq!(
        spent.message(),
        format!(
            "Budget spent: 2 calls in a day, for service 'coolify'. It comes back at {midnight}."
        )
    );
    assert_eq!(spent.data()["resets_at"], json!(midnight));
    assert_eq!(spent.data()["reason"], "calls");
    assert!(
        world.orchestrator.known.lock().unwrap().spent.is_empty(),
        "the grant for one use is there still"
    );
    let after = midnight.since(Timestamp::from_millis(NOON)).as_secs();
    assert_eq!(spent.headers["retry-after"], after.to_string().as_str());
    assert_eq!(spent.headers["ratelimit-policy"], "2;w=86400");
    let journal = world.end().await;
    let refused = journal.iter().filter(|line| line["reason"] == "budget");
    assert_eq!(refused.count(), 1);
}

#[tokio::test]
async fn what_does_not_arrive_is_given_back_and_bytes_are_counted() {
    let world = limited(
        "each_agent = { calls_per_day = 3 }\nservices.coolify.each_agent = { bytes_per_day = 40 }",
    )
    .await;
    let answered = world.execute(OTHER, LIST).await;
    assert_eq!(answered.status, StatusCode::OK);
    // Its answer was longer than 40 bytes: it went through, the next does not.
    let spent = world.execute(OTHER, LIST).await;
    assert_eq!(spent.status, StatusCode::TOO_MANY_REQUESTS, "{spent:?}");
    assert_eq!(spent.data()["reason"], "bytes");
    assert_eq!(spent.data()["limit"], 40);
    let used = |name: &str| {
        let report = world.orchestrator.known.lock().unwrap();
        report
            .budgets
            .iter()
            .flat_map(|report| report.used.clone())
            .rfind(|used| used.key.service.as_ref().map_or("", |name| name.as_str()) == name)
    };
    world.gateway.budgets.once().await.unwrap();
    let told: BudgetUse = used("coolify").unwrap();
    assert_eq!(told.calls, 1);
    assert!(told.bytes > 40, "{told:?}");
    assert_eq!((told.calls_limit, told.bytes_limit), (None, Some(40)));
    assert_eq!(told.key.agent, Some(OTHER.parse().unwrap()));
    let told = used("").unwrap();
    assert_eq!((told.calls, told.calls_limit), (1, Some(3)));
    world.end().await;
}

#[tokio::test]
async fn what_went_through_others_and_before_counts() {
    let around = around().await;
    let orchestrator = Arc::clone(&around.orchestrator);
    let elsewhere = |calls| BudgetUse {
        key: contract::budgets::BudgetKey {
            service: Some("coolify".parse().unwrap()),
            ..Default::default()
        },
        calls,
        bytes: 0,
        calls_limit: Some(3),
        bytes_limit: None,
    };
    orchestrator.known.lock().unwrap().elsewhere = vec![elsewhere(1)];
    let world = World::over(around, |config| {
        config.limits = limits("services.coolify.all = { calls_per_day = 3 }");
    });
    world
        .until("it is ready", || {
            world.gateway.ready().status() == StatusCode::OK
        })
        .await;
    assert_eq!(world.execute("local", LIST).await.status, StatusCode::OK);
    assert_eq!(world.execute("local", LIST).await.status, StatusCode::OK);
    let spent = world.execute("local", LIST).await;
    assert_eq!(
        spent.status,
        StatusCode::TOO_MANY_REQUESTS,
        "one of three before: {spent:?}"
    );
    // Another gateway's clock may let more through than there is: it is heard all the same.
    orchestrator.known.lock().unwrap().elsewhere = vec![elsewhere(0)];
    world.gateway.budgets.once().await.unwrap();
    assert_eq!(world.execute("local", LIST).await.status, StatusCode::OK);
    let reports = orchestrator.known.lock().unwrap().budgets.clone();
    assert!(reports.iter().any(|report| report.since.is_none()));
    assert_eq!(
        reports.last().unwrap().since,
        Some(Timestamp::from_millis(NOON))
    );
    // At its end it tells the rest.
    world.end().await;
    let reports = orchestrator.known.lock().unwrap().budgets.clone();
    assert_eq!(reports.last().unwrap().used[0].calls, 3);
}

#[tokio::test]
async fn without_knowing_what_was_used_nothing_with_a_budget_runs() {
    let around = around().await;
    let orchestrator = Arc::clone(&around.orchestrator);
    orchestrator
        .budgets_fail
        .store(true, std::sync::atomic::Ordering::SeqCst);
    let world = World::over(around, |config| {
        config.limits = limits("services.coolify.all = { calls_per_day = 3 }");
    });
    world
        .until("it is ready", || {
            world.gateway.ready().status() == StatusCode::OK
        })
        .await;
    let refused = world.execute("local", LIST).await;
    assert_eq!(
        refused.status,
        StatusCode::SERVICE_UNAVAILABLE,
        "{refused:?}"
    );
    assert!(world.reached().is_empty());
    orchestrator
        .budgets_fail
        .store(false, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(world.execute("local", LIST).await.status, StatusCode::OK);
    // Once it was known, it may be away.
    orchestrator
        .budgets_fail
        .store(true, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(world.execute("local", LIST).await.status, StatusCode::OK);
    world.end().await;
}

#[tokio::test]
async fn a_gateway_with_limits_of_nothing_does_not_start() {
    let around = around().await;
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path());
    config.limits = limits("services.coolifi.all = { per_second = 1 }");
    let opened = Gateway::open(
        config,
        around.client.clone(),
        Arc::clone(&around.catalog),
        around.clock.clone(),
        Monotonic::system(),
    );
    let error = opened.err().unwrap().to_string();
    assert!(error.contains("did you mean `coolify`?"), "{error}");
}

#[tokio::test]
async fn a_service_that_fails_is_shown_to_agents_operators_and_the_orchestrator() {
    let world = World::new().await;
    let health = |answered: &Answered| answered.body["services"][0]["health"].clone();
    let seen = world.get("/mcp/catalog", &[("x-agent-id", "local")]).await;
    assert_eq!(health(&seen)["state"], "healthy");
    assert_eq!(health(&seen)["breaker"], "closed");
    let ready = world.get("/ready", &[]).await;
    let services = &ready.body["checks"]["services"];
    assert_eq!(services["status"], "ok");
    assert_eq!(services["decides_readiness"], false);
    assert_eq!(services["healthy"], 1);

    *world.upstream.status.lock().unwrap() = StatusCode::INTERNAL_SERVER_ERROR;
    for _ in 0..5 {
        let failed = world.execute("local", LIST).await;
        assert_eq!(failed.status, StatusCode::BAD_GATEWAY, "{failed:?}");
    }
    let rested = world.execute("local", LIST).await;
    assert_eq!(rested.status, StatusCode::SERVICE_UNAVAILABLE, "{rested:?}");
    let seen = world.get("/mcp/catalog", &[("x-agent-id", "local")]).await;
    assert_eq!(health(&seen)["state"], "degraded");
    assert_eq!(health(&seen)["breaker"], "open");
    assert_eq!(health(&seen)["last_error"], "failed");
    assert!(health(&seen)["since"].is_string() && health(&seen)["retry_at"].is_string());
    let one = world
        .get("/mcp/service/coolify", &[("x-agent-id", "local")])
        .await;
    assert_eq!(one.body["service"]["health"]["state"], "degraded");
    let ready = world.get("/ready", &[]).await;
    assert_eq!(
        ready.status,
        StatusCode::OK,
        "it decides and records all the same"
    );
    let services = &ready.body["checks"]["services"];
    assert_eq!(services["status"], "degraded");
    assert_eq!(services["unwell"][0]["name"], "coolify");
    assert_eq!(services["unwell"][0]["breaker"], "open");
    let text = String::from_utf8(world.gateway.metrics_text().unwrap()).unwrap();
    for series in [
        r#"cedargate_service_up{service="coolify"} 0"#,
        r#"cedargate_service_breaker{service="coolify"} 2"#,
    ] {
        assert!(text.contains(series), "{series} is not in\n{text}");
    }
    world
        .until("the orchestrator hears of it", || {
            let known = world.orchestrator.known.lock().unwrap();
            let last = known.statuses.last();
            last.and_then(|status| status.services.first())
                .is_some_and(|health| {
                    health.breaker.as_deref() == Some("open") && health.failures == 5
                })
        })
        .await;
    world.end().await;
}
