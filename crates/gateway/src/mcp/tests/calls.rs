//! Tools and everything else that policy decides as a command.

use authz::{Risk, Scope};

use super::*;
use crate::tests::world::grant;

fn of(command: &str) -> Scope {
    Scope::Command {
        command: command.parse().unwrap(),
    }
}

#[tokio::test]
async fn a_permitted_call_passes_unchanged_and_is_recorded() {
    let house = House::new().await;
    let body = " {\"jsonrpc\":\"2.0\",\n\"id\":\"a\\u0062\",\"method\":\"tools/call\",\"params\":{\"name\":\"look\",\"arguments\":{\"at\":\"x\",\"n\":1.10},\"_meta\":{\"x\":1}}} ";
    let answered = house.post("local", body).await;
    assert_eq!(answered.status, StatusCode::OK, "{answered:?}");
    assert_eq!(
        answered.text(),
        r#"{"jsonrpc":"2.0","id":"ab","result":{"content":[{"type":"text","text":"done"}],"n":1.10}}"#
    );
    assert_eq!(answered.headers["cache-control"], "no-store");
    assert_eq!(house.seen()[0].body, body.as_bytes());
    let journal = house.world.end().await;
    let kinds: Vec<_> = journal
        .iter()
        .map(|line| line["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["start", "intent", "outcome"]);
    assert_eq!(journal[1]["command"], "everything/look");
    assert_eq!(journal[1]["arguments"], json!({"at": "x", "n": 1.10}));
    assert_eq!(journal[1]["decision"], journal[2]["decision"]);
    assert_eq!(journal[2]["status"], "success");
}

#[tokio::test]
async fn a_refused_call_is_a_result_that_explains_itself() {
    let house = House::new().await;
    // Nobody reviewed this tool, which no approval lifts.
    let answered = house.call("local", "unheard-of", "{}").await;
    assert_eq!(answered.status, StatusCode::OK, "{answered:?}");
    let result = &answered.json()["result"];
    assert_eq!(answered.json()["id"], 7);
    assert_eq!(result["isError"], true);
    assert!(result.get("structuredContent").is_none());
    assert!(
        result.get("resultType").is_none(),
        "an older client does not know it"
    );
    let text = answered.tool_text();
    for part in [
        "DENIED by policy guard.unpinned-command",
        "Nothing was executed",
        "(ref dec_",
    ] {
        assert!(text.contains(part), "{text}");
    }
    let decision = &result["_meta"]["dev.cedargate/decision"];
    assert_eq!(decision["outcome"], "refused");
    assert_eq!(decision["retryable"], false);
    assert_eq!(decision["policies"], json!(["guard.unpinned-command"]));
    // A tool that the operator hides is one that the server never had.
    let hidden = house.call("local", "secret", "{}").await;
    assert_eq!(
        hidden.json()["error"],
        json!({"code": -32602, "message": "Unknown tool: secret"})
    );
    assert!(house.seen().is_empty());
    let modern = House::modern("local", "tools/call", json!({"name": "unheard-of"}), &[]);
    let answered = house.send(modern).await;
    assert_eq!(answered.json()["result"]["resultType"], "complete");
}

#[tokio::test]
async fn a_call_that_needs_approval_says_so_once_and_passes_once_when_approved() {
    let house = House::new().await;
    let first = house.call(BOT, "look", r#"{"at":"a","b":1}"#).await;
    let text = first.tool_text();
    for part in [
        "NEEDS APPROVAL apr_",
        "Nothing has been executed",
        "exactly the same arguments",
        "http://orchestrator.example/approvals/apr_",
    ] {
        assert!(text.contains(part), "{text}");
    }
    let meta = &first.json()["result"]["_meta"];
    assert_eq!(meta["dev.cedargate/decision"]["outcome"], "pending");
    assert_eq!(meta["dev.cedargate/approval"]["status"], "pending");
    assert_eq!(meta["dev.cedargate/approval"]["retryAfterMs"], 5_000);
    // The same call in another order of words is the same request; another call is not.
    let same = house.call(BOT, "look", r#"{ "b": 1, "at": "a" }"#).await;
    let id = |answered: &Answered| {
        answered.json()["result"]["_meta"]["dev.cedargate/approval"]["id"].clone()
    };
    assert_eq!(id(&first), id(&same));
    let other = house.call(BOT, "look", r#"{"at":"b","b":1}"#).await;
    assert_ne!(id(&first), id(&other));
    assert!(house.seen().is_empty());

    let open = house.world.orchestrator.opened();
    let scope = Scope::Call {
        command: "everything/look".parse().unwrap(),
        digest: open[0].digest.clone(),
    };
    house.world.give(grant(scope, Risk::Read, 60, true)).await;
    let answered = house.call(BOT, "look", r#"{"at":"a","b":1}"#).await;
    assert_eq!(answered.tool_text(), "done", "{answered:?}");
    let again = house.call(BOT, "look", r#"{"at":"a","b":1}"#).await;
    assert!(again.tool_text().contains("NEEDS APPROVAL"));
    assert_eq!(house.reached(), ["tools/call"]);
}

#[tokio::test]
async fn the_same_call_through_execute_is_the_same_decision_digest_and_request() {
    let house = House::new().await;
    let through_door = house.call(BOT, "look", r#"{"at":"a"}"#).await;
    let body = json!({"service": "everything", "operation": "look", "args": {"at": "a"}});
    let executed = house.world.post("/execute", BOT, &body.to_string()).await;
    let here = &through_door.json()["result"]["_meta"]["dev.cedargate/decision"];
    let there = executed.data();
    for member in [
        "outcome",
        "request_id",
        "policies",
        "permitted_by_approval",
        "service",
        "operation",
        "agentId",
        "approval",
        "message",
        "policy_set",
    ] {
        assert_eq!(here[member], there[member], "{member}");
        assert!(!here[member].is_null(), "{member}");
    }
    assert_eq!(house.world.orchestrator.opened().len(), 1);
    let journal = house.world.end().await;
    let lines: Vec<_> = journal
        .iter()
        .filter(|line| line["kind"] == "refusal")
        .collect();
    assert_eq!(lines.len(), 2);
    for member in [
        "digest",
        "command",
        "agent",
        "risk",
        "arguments",
        "policies",
        "outcome",
        "approval",
    ] {
        assert_eq!(lines[0][member], lines[1][member], "{member}");
        assert!(!lines[0][member].is_null(), "{member}");
    }
}

#[tokio::test]
async fn what_is_no_tool_is_governed_as_well() {
    let house = House::new().await;
    for (method, params, command) in [
        (
            "resources/read",
            r#"{"uri":"file:///a"}"#,
            "mcp.resources.read",
        ),
        (
            "resources/subscribe",
            r#"{"uri":"file:///a"}"#,
            "mcp.resources.subscribe",
        ),
        (
            "resources/unsubscribe",
            r#"{"uri":"file:///a"}"#,
            "mcp.resources.unsubscribe",
        ),
        (
            "prompts/get",
            r#"{"name":"p","arguments":{"x":"1"}}"#,
            "mcp.prompts.get",
        ),
        (
            "completion/complete",
            r#"{"ref":{"type":"ref/prompt","name":"p"},"argument":{"name":"x","value":"1"}}"#,
            "mcp.complete",
        ),
    ] {
        let refused = house.post(BOT, &ask(method, params)).await;
        assert_eq!(refused.status, StatusCode::OK);
        assert_eq!(refused.code(), 40_301, "{method} {refused:?}");
        let error = &refused.json()["error"];
        assert_eq!(error["data"]["operation"], command);
        assert_eq!(error["data"]["outcome"], "pending");
        assert!(
            error["message"]
                .as_str()
                .unwrap()
                .contains("NEEDS APPROVAL")
        );
        let opened = house.world.orchestrator.opened();
        assert_eq!(opened.last().unwrap().target.key.name.as_str(), command);
    }
    let opened = house.world.orchestrator.opened();
    assert_eq!(json!(opened[0].arguments), json!({"uri": "file:///a"}));
    assert_eq!(
        json!(opened[3].arguments),
        json!({"name": "p", "arguments": {"x": "1"}})
    );
    assert!(house.seen().is_empty());
    let answered = house
        .post("local", &ask("resources/read", r#"{"uri":"file:///a"}"#))
        .await;
    assert_eq!(answered.status, StatusCode::OK);
    assert_eq!(house.reached(), ["resources/read"]);
    for (method, params) in [
        ("resources/read", "{}"),
        ("resources/read", r#"{"uri":1}"#),
        ("tools/call", "{}"),
        ("tools/call", r#"{"name":"look","arguments":"x"}"#),
    ] {
        let answered = house.post("local", &ask(method, params)).await;
        assert_eq!(answered.code(), -32602, "{method} {params}");
    }
    assert_eq!(house.seen().len(), 1);
}

#[tokio::test]
async fn an_answer_to_the_server_is_data_that_leaves() {
    let house = House::new().await;
    let body = r#"{"jsonrpc":"2.0","id":3,"result":{"action":"accept","content":{"name":"x"}}}"#;
    let answered = house.post("local", body).await;
    assert_eq!(answered.status, StatusCode::ACCEPTED, "{answered:?}");
    assert_eq!(house.seen()[0].body, body.as_bytes());
    // One that may not leave is refused, and the server waits no longer.
    let answered = house.post(BOT, body).await;
    assert_eq!(answered.status, StatusCode::BAD_REQUEST, "{answered:?}");
    house
        .world
        .until("the server is told", || house.seen().len() == 2)
        .await;
    let told = house.seen()[1].json();
    assert_eq!(told["id"], 3);
    assert!(
        told.get("result").is_none() && told["error"]["code"] == -1,
        "{told}"
    );
    // In the newer protocol it comes with the request that asks again.
    let params = json!({"name": "look", "requestState": "theirs", "inputResponses": {"q": {"action": "accept"}}});
    let answered = house
        .send(House::modern("local", "tools/call", params.clone(), &[]))
        .await;
    assert_eq!(answered.tool_text(), "done");
    assert_eq!(house.seen()[2].json()["params"]["requestState"], "theirs");
    house
        .world
        .give(grant(of("everything/look"), Risk::Read, 60, false))
        .await;
    let answered = house
        .send(House::modern("bot", "tools/call", params, &[]))
        .await;
    assert!(
        answered.tool_text().contains("`everything/mcp.answer`"),
        "{answered:?}"
    );
    assert_eq!(house.seen().len(), 3);
    let journal = house.world.end().await;
    let answers: Vec<_> = journal
        .iter()
        .filter(|line| line["command"] == "everything/mcp.answer")
        .collect();
    assert_eq!(answers[0]["arguments"]["content"], json!({"name": "x"}));
}

#[tokio::test]
async fn a_task_is_of_the_agent_that_made_it() {
    let house = House::new().await;
    house
        .world
        .give(grant(
            Scope::Service {
                service: "everything".parse().unwrap(),
            },
            Risk::Write,
            60,
            false,
        ))
        .await;
    house.script(|seen| match seen.name().as_str() {
        "tools/call" if seen.json()["params"]["task"].is_null() => {
            let data = format!(
                r#"{{"jsonrpc":"2.0","id":{},"result":{{"resultType":"task","taskId":"t2"}}}}"#,
                seen.json()["id"]
            );
            Some(ok(
                "text/event-stream",
                format!(": hello\n\nid: 1\ndata: {data}\n\n"),
            ))
        }
        "tools/call" => Some(result(
            seen,
            r#"{"task":{"taskId":"t1","status":"working"}}"#,
        )),
        "tasks/list" => Some(result(
            seen,
            r#"{"tasks":[{"taskId":"t0"},{"taskId":"t1"}]}"#,
        )),
        _ => None,
    });
    let body = ask("tools/call", r#"{"name":"look","task":{"ttl":60000}}"#);
    let answered = house.post(BOT, &body).await;
    assert!(answered.text().contains("t1"), "{answered:?}");
    let params = json!({"name": "look", "_meta": {"io.modelcontextprotocol/clientCapabilities": {"extensions": {"io.modelcontextprotocol/tasks": {}}}}});
    let answered = house
        .send(House::modern("bot", "tools/call", params, &[]))
        .await;
    assert!(
        answered.text().starts_with(": hello\n\nid: 1\ndata: "),
        "{answered:?}"
    );
    for (agent, task, code) in [
        (BOT, "t1", 0),
        (BOT, "t2", 0),
        (BOT, "t0", -32602),
        ("local", "t1", -32602),
    ] {
        let params = format!(r#"{{"taskId":"{task}"}}"#);
        for method in ["tasks/get", "tasks/result"] {
            let answered = house.post(agent, &ask(method, &params)).await;
            assert_eq!(answered.code(), code, "{agent} {task} {answered:?}");
        }
    }
    let answered = house.post(BOT, &ask("tasks/list", "{}")).await;
    assert_eq!(
        answered.json()["result"]["tasks"],
        json!([{"taskId": "t1"}])
    );
    let answered = house.post("local", &ask("tasks/list", "{}")).await;
    assert_eq!(answered.json()["result"]["tasks"], json!([]));
}

#[tokio::test]
async fn a_write_does_not_leave_before_its_record_and_nothing_leaves_without() {
    let house = House::new().await;
    house
        .world
        .give(grant(of("everything/write"), Risk::Write, 60, false))
        .await;
    let answered = house.call(BOT, "write", "{}").await;
    assert_eq!(answered.tool_text(), "done", "{answered:?}");
    house.world.gateway.journal.faults.fill(0);
    let answered = house.call(BOT, "write", "{}").await;
    assert_eq!(answered.json()["result"]["isError"], true, "{answered:?}");
    assert!(
        answered
            .tool_text()
            .contains("the journal cannot be written")
    );
    assert_eq!(house.seen().len(), 1);
    house.world.gateway.journal.faults.clear();
}

#[tokio::test]
async fn a_server_that_fails_is_told_as_what_is_known() {
    let house = House::new().await;
    for (status, part) in [
        (401, "refused the gateway's credential"),
        (500, "failed"),
        (302, "redirect"),
        (429, "too many"),
    ] {
        house.script(move |_| {
            let mut response = StatusCode::from_u16(status).unwrap().into_response();
            response
                .headers_mut()
                .insert("location", "http://10.0.0.1/".parse().unwrap());
            response.headers_mut().insert(
                "www-authenticate",
                "Bearer realm=\"theirs\"".parse().unwrap(),
            );
            Some(response)
        });
        let answered = house.call("local", "look", "{}").await;
        assert_eq!(answered.status, StatusCode::OK, "{status} {answered:?}");
        assert!(
            answered.tool_text().contains(part),
            "{status} {}",
            answered.tool_text()
        );
        assert!(!answered.headers.contains_key("www-authenticate"));
        let listed = house.post("local", &ask("tools/list", "{}")).await;
        assert!(listed.code() > 40_000, "{status} {listed:?}");
    }
    // What the protocol itself says is passed on.
    house.script(|_| {
        let body = r#"{"jsonrpc":"2.0","id":7,"error":{"code":-32602,"message":"no such tool"}}"#;
        Some(
            (
                StatusCode::BAD_REQUEST,
                [("content-type", "application/json")],
                body,
            )
                .into_response(),
        )
    });
    let answered = house.call("local", "look", "{}").await;
    assert_eq!((answered.status.as_u16(), answered.code()), (400, -32602));
    let journal = house.world.end().await;
    let last = journal.last().unwrap();
    assert_eq!(last["status"], "error");
}

fn limits(text: &str) -> handlers::limits::Limits {
    handlers::limits::Limits::read("limits.toml", text).unwrap()
}

#[tokio::test]
async fn a_limited_call_is_a_result_and_what_is_no_call_is_limited_too() {
    let house =
        House::with(|config| config.limits = limits("each_agent = { per_minute = 6, burst = 1 }"))
            .await;
    let first = house.call("local", "look", "{}").await;
    assert!(first.json()["result"].get("isError").is_none(), "{first:?}");
    let limited = house.call("local", "look", "{}").await;
    assert_eq!(limited.status, StatusCode::OK);
    assert_eq!(limited.headers["retry-after"], "10");
    assert_eq!(limited.headers["ratelimit-remaining"], "0");
    assert_eq!(limited.json()["result"]["isError"], true);
    assert!(limited.tool_text().contains("Rate limit exceeded"));
    let decision = &limited.json()["result"]["_meta"]["dev.cedargate/decision"];
    assert_eq!(decision["identifier"], "agent 'local'");
    assert_eq!(decision["operation"], "look");
    let listed = house.post("local", &ask("tools/list", "{}")).await;
    assert_eq!(listed.status, StatusCode::OK);
    assert_eq!(listed.json()["error"]["data"]["retry_after_seconds"], 10);
    let told = house
        .post(
            "local",
            r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
        )
        .await;
    assert_eq!(told.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(told.headers["retry-after"], "10");
    assert_eq!(house.seen().len(), 1, "nothing of it reached the server");
    let journal = house.world.end().await;
    let refused = journal.iter().filter(|line| line["reason"] == "rate_limit");
    assert_eq!(refused.count(), 1);
}

#[tokio::test]
async fn what_streams_through_is_taken_from_a_budget_of_bytes() {
    let house = House::with(|config| {
        config.limits = limits("services.everything.each_agent = { bytes_per_day = 60 }");
    })
    .await;
    let first = house.call("local", "look", "{}").await;
    assert!(first.json()["result"].get("isError").is_none(), "{first:?}");
    let spent = house.call("local", "look", "{}").await;
    let decision = &spent.json()["result"]["_meta"]["dev.cedargate/decision"];
    assert_eq!(decision["reason"], "bytes", "{spent:?}");
    assert_eq!(house.seen().len(), 1);
    house.world.end().await;
}

/// What a tool says of itself is in the record: that it was sent and answered is not all.
#[tokio::test]
async fn a_tool_that_says_that_it_failed_is_recorded_so() {
    const FAILED: &str =
        r#"{"content":[{"type":"text","text":"no such file: secret"}],"isError":true}"#;
    const QUOTED: &str =
        r#"{"content":[{"type":"text","text":"{\"isError\":true}"}],"isError":false}"#;
    for (answered, events, status) in [
        (FAILED, false, "error"),
        (FAILED, true, "error"),
        (QUOTED, false, "success"),
        (QUOTED, true, "success"),
    ] {
        let house = House::new().await;
        house.script(move |seen| {
            if !events {
                return Some(result(seen, answered));
            }
            let id = &seen.json()["id"];
            let message = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{answered}}}"#);
            let text = format!(": isError\n\ndata: {message}\n\n");
            Some(ok("text/event-stream", text))
        });
        let seen = house.call("local", "look", "{}").await;
        assert!(seen.text().contains(answered), "{}", seen.text());
        let journal = house.world.end().await;
        let outcome = journal.last().unwrap();
        assert_eq!(outcome["status"], status, "{answered} {outcome}");
        assert!(!outcome.to_string().contains("secret"), "{outcome}");
    }
}

/// Whatever door the calls come through, a server that fails is left alone.
#[tokio::test]
async fn a_server_that_fails_is_left_alone_for_a_while() {
    let house = House::new().await;
    house.script(|seen| {
        (seen.name() == "tools/call")
            .then(|| (StatusCode::INTERNAL_SERVER_ERROR, "broken").into_response())
    });
    for _ in 0..5 {
        let answered = house.call("local", "look", "{}").await;
        assert!(answered.tool_text().contains("failed"), "{answered:?}");
    }
    let answered = house.call("local", "look", "{}").await;
    assert!(
        answered.tool_text().contains("tried again in"),
        "{answered:?}"
    );
    assert_eq!(house.reached().len(), 5);
    // Its lists are still asked for.
    house.script(|_| None);
    let listed = house.post("local", &ask("tools/list", "{}")).await;
    assert!(listed.text().contains("look"), "{listed:?}");
}
