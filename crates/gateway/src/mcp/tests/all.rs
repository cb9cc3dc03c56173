//! `/mcp`: every service as tools.

use http::Method;
use serde_json::{Value, json};

use super::*;

fn all(mut request: Request<Full<Bytes>>) -> Request<Full<Bytes>> {
    *request.uri_mut() = "/mcp".parse().unwrap();
    request
}

async fn post(house: &House, agent: &str, body: &str) -> Answered {
    house.send(all(House::legacy(agent, &[], body))).await
}

#[tokio::test]
async fn every_command_that_an_agent_may_see_is_a_tool() {
    let house = House::new().await;
    let listed = post(&house, BOT, &ask("tools/list", "{}")).await;
    let tools = listed.json()["result"]["tools"].as_array().unwrap().clone();
    let tool = |name: &str| tools.iter().find(|tool| tool["name"] == name).cloned();
    let servers = tool("coolify__list-servers").unwrap();
    assert_eq!(servers["inputSchema"]["type"], "object");
    assert_eq!(
        servers["annotations"],
        json!({"readOnlyHint": true, "destructiveHint": false})
    );
    let look = tool("everything__look").unwrap();
    assert_eq!((&look["title"], &look["x"]), (&json!("Look"), &json!(1.10)));
    assert!(tool("everything__secret").is_none(), "hidden");
    assert!(listed.json()["result"].get("ttlMs").is_none());

    let modern = all(House::modern(BOT, "tools/list", json!({}), &[]));
    let modern = house.send(modern).await.json();
    assert_eq!(modern["result"]["tools"], Value::from(tools));
    assert_eq!(
        (
            &modern["result"]["resultType"],
            &modern["result"]["cacheScope"]
        ),
        (&json!("complete"), &json!("private"))
    );
}

#[tokio::test]
async fn either_era_connects_and_nothing_else_is_offered() {
    let house = House::new().await;
    let opened = post(
        &house,
        BOT,
        &ask("initialize", r#"{"protocolVersion":"2025-06-18"}"#),
    )
    .await;
    assert_eq!(opened.json()["result"]["protocolVersion"], "2025-06-18");
    assert!(
        opened.headers.get("mcp-session-id").is_none(),
        "there are no sessions"
    );
    let newest = post(
        &house,
        BOT,
        &ask("initialize", r#"{"protocolVersion":"2031-01-01"}"#),
    )
    .await;
    assert_eq!(newest.json()["result"]["protocolVersion"], "2025-11-25");
    let told = post(
        &house,
        BOT,
        r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
    )
    .await;
    assert_eq!(told.status, StatusCode::ACCEPTED);
    let discovered = house
        .send(all(House::modern(BOT, "server/discover", json!({}), &[])))
        .await;
    assert_eq!(
        discovered.json()["result"]["supportedVersions"],
        json!(["2026-07-28"])
    );
    for (method, code) in [("resources/list", -32601), ("ping", 0)] {
        assert_eq!(
            post(&house, BOT, &ask(method, "{}")).await.code(),
            code,
            "{method}"
        );
    }
    let delete = all(House::request(Method::DELETE, &[("x-agent-id", BOT)], ""));
    assert_eq!(
        house.send(delete).await.status,
        StatusCode::METHOD_NOT_ALLOWED
    );
    let batch = post(&house, BOT, "[]").await;
    assert_eq!(
        (batch.status, batch.code()),
        (StatusCode::BAD_REQUEST, -32600)
    );
}

#[tokio::test]
async fn a_call_goes_the_way_of_every_command() {
    let house = House::new().await;
    house.script(|seen| {
        (seen.name() == "tools/call").then(|| {
            result(seen, r#"{"resultType":"complete","content":[{"type":"text","text":"seen"}],"structuredContent":{"n":1}}"#)
        })
    });
    let looked = post(&house, "local", &call("everything__look", r#"{"at":"x"}"#)).await;
    let result = &looked.json()["result"];
    assert_eq!(
        (&result["content"][0]["text"], &result["structuredContent"]),
        (&json!("seen"), &json!({"n": 1})),
        "{}",
        looked.text()
    );
    assert!(result["_meta"]["dev.cedargate/decision"]["id"].is_string());
    // Arguments are checked before anything is decided, and told to the model.
    let wrong = post(&house, "local", &call("everything__look", r#"{"at":1}"#)).await;
    assert_eq!(wrong.json()["result"]["isError"], true);
    assert!(wrong.tool_text().contains("`at`"), "{}", wrong.tool_text());
    for name in [
        "everything__secret",
        "everything__nothing",
        "nothing__look",
        "look",
        "__",
    ] {
        let unknown = post(&house, "local", &call(name, "{}")).await;
        assert_eq!(unknown.code(), -32602, "{name}: {}", unknown.text());
    }
}

/// The same call through three doors: one decision, one digest, one approval request.
#[tokio::test]
async fn three_doors_lead_to_one_approval_request() {
    let house = House::new().await;
    let approval = |answered: &Answered| {
        answered.json()["result"]["_meta"]["dev.cedargate/approval"]["id"].clone()
    };
    let one = house.call(BOT, "write", r#"{"region":"eu","n":1}"#).await;
    let two = post(
        &house,
        BOT,
        &call("everything__write", r#"{"n":1,"region":"eu"}"#),
    )
    .await;
    assert!(approval(&one).is_string(), "{}", one.text());
    assert_eq!(approval(&one), approval(&two), "{}", two.text());
    let mut execute = House::request(
        Method::POST,
        &[("content-type", "application/json"), ("x-agent-id", BOT)],
        r#"{"command": "/mcp-everything write --region eu --n 1"}"#,
    );
    *execute.uri_mut() = "/execute".parse().unwrap();
    let three = house.send(execute).await;
    assert_eq!(
        three.json()["error"]["data"]["approval"]["id"],
        approval(&one),
        "{}",
        three.text()
    );
    assert!(
        !house.reached().contains(&"tools/call".to_owned()),
        "nothing left"
    );
    let journal = house.world.end().await;
    let refusals = journal.iter().filter(|line| line["kind"] == "refusal");
    let told: Vec<_> = refusals
        .map(|line| {
            [
                "agent",
                "command",
                "risk",
                "digest",
                "arguments",
                "reason",
                "outcome",
                "policies",
                "permitted_by_approval",
                "policy_set",
                "approval",
            ]
            .map(|member| line[member].clone())
        })
        .collect();
    assert_eq!(told.len(), 3);
    assert!(
        told[0][3].is_string() && told[0][10].is_string(),
        "{told:?}"
    );
    assert!(told.iter().all(|line| *line == told[0]), "{told:#?}");
}

/// And so when it is permitted.
#[tokio::test]
async fn three_doors_lead_to_one_permit() {
    let house = House::new().await;
    let arguments = r#"{"at":"x"}"#;
    house.call("local", "look", arguments).await;
    post(&house, "local", &call("everything__look", arguments)).await;
    let mut execute = House::request(
        Method::POST,
        &[
            ("content-type", "application/json"),
            ("x-agent-id", "local"),
        ],
        r#"{"command": "/mcp-everything look --at x"}"#,
    );
    *execute.uri_mut() = "/execute".parse().unwrap();
    house.send(execute).await;
    let journal = house.world.end().await;
    let intents = journal.iter().filter(|line| line["kind"] == "intent");
    let told: Vec<_> = intents
        .map(|line| {
            [
                "agent",
                "command",
                "risk",
                "digest",
                "arguments",
                "policies",
                "policy_set",
            ]
            .map(|member| line[member].clone())
        })
        .collect();
    assert_eq!(told.len(), 3);
    assert!(told[0][3].is_string(), "{told:?}");
    assert!(told.iter().all(|line| *line == told[0]), "{told:#?}");
}

#[tokio::test]
async fn an_unreviewed_tool_is_refused_at_every_door() {
    let house = House::new().await;
    let service = house.world.gateway.catalog.mcp("everything").unwrap();
    service.review(&BTreeMap::new());
    let one = house.call(BOT, "look", "{}").await;
    let two = post(&house, BOT, &call("everything__look", "{}")).await;
    for refused in [one, two] {
        assert!(
            refused.tool_text().contains("guard.unpinned-command"),
            "{}",
            refused.text()
        );
        assert_eq!(refused.json()["result"]["isError"], true);
    }
    assert!(!house.reached().contains(&"tools/call".to_owned()));
}
