//! Calls that wait for people.

use std::time::Duration;

use authz::{Risk, Scope};
use contract::{approvals::ApprovalStatus, feed::Change};

use super::*;
use crate::tests::world::grant;

/// Waits at most so long, and says so often.
async fn patient(hold: Duration) -> House {
    House::with(|config| {
        config.mcp.hold = hold;
        config.mcp.tick = Duration::from_millis(20);
    })
    .await
}

/// The same call through the door of its server, and through that of all.
const DOORS: [(&str, &str); 2] = [("/mcp/everything", "look"), ("/mcp", "everything__look")];

fn through(path: &str, mut request: Request<Full<Bytes>>) -> Request<Full<Bytes>> {
    *request.uri_mut() = path.parse().unwrap();
    request
}

/// What reached the server of calls, whoever made them.
fn calls(house: &House) -> Vec<Seen> {
    let seen = house.server.seen.lock().unwrap();
    let calls = seen.iter().filter(|seen| seen.name() == "tools/call");
    calls.cloned().collect()
}

const LONG: Duration = Duration::from_secs(50);

fn opened(house: &House) -> authz::ApprovalRequestId {
    house.world.orchestrator.known.lock().unwrap().approvals[0]
        .1
        .id
}

/// Approves the one request, as people do: summary, grant and event at once.
fn approve(house: &House) {
    let scope = Scope::Command {
        command: "everything/look".parse().unwrap(),
    };
    let given = grant(scope, Risk::Read, 60, true);
    let change = Change::ApprovalApproved {
        approval: opened(house),
        agent: given.agent,
        grant: given.id,
    };
    house.world.orchestrator.change(change, |known| {
        known.approvals[0].1.status = ApprovalStatus::Approved;
        known
            .agents
            .get_mut(&given.agent)
            .unwrap()
            .grants
            .push(given);
    });
}

fn reject(house: &House) {
    let (approval, agent) = (opened(house), BOT.parse().unwrap());
    house
        .world
        .orchestrator
        .change(Change::ApprovalRejected { approval, agent }, |known| {
            let summary = &mut known.approvals[0].1;
            summary.status = ApprovalStatus::Rejected;
            summary.note = Some("not today".to_owned());
        });
}

async fn first(body: &mut Body) -> String {
    let frame = body.frame().await.unwrap().unwrap();
    String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap()
}

async fn rest(body: Body) -> String {
    String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

const TOLD: &str = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"look","_meta":{"progressToken":"t"}}}"#;

#[tokio::test]
async fn nobody_waits_unless_it_is_wanted() {
    let house = House::new().await;
    let response = house
        .open(House::legacy(BOT, &[], &call("look", "{}")))
        .await;
    assert_eq!(response.headers()["content-type"], "application/json");
    let waiting = House::legacy(BOT, &[("prefer", "wait=50")], &call("look", "{}"));
    let response = house.open(waiting).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let house = patient(LONG).await;
    let not = House::legacy(BOT, &[("prefer", "wait=0")], &call("look", "{}"));
    let response = house.open(not).await;
    assert_eq!(response.headers()["content-type"], "application/json");
}

#[tokio::test]
async fn an_approval_while_it_waits_goes_on_in_the_same_stream() {
    for (path, tool) in DOORS {
        approved_while_it_waits(path, tool).await;
    }
}

async fn approved_while_it_waits(path: &str, tool: &str) {
    let house = patient(LONG).await;
    let mut body = house
        .open(through(path, House::legacy(BOT, &[], &call(tool, "{}"))))
        .await
        .into_body();
    assert!(
        first(&mut body)
            .await
            .starts_with(": waiting for approval apr_")
    );
    assert!(house.seen().is_empty());
    approve(&house);
    let text = rest(body).await;
    let answers = events(&text);
    assert_eq!(answers.len(), 1, "{text}");
    assert_eq!(answers[0]["result"]["content"][0]["text"], "done");
    assert_eq!(answers[0]["id"], 7);
    assert_eq!(calls(&house).len(), 1);
    let journal = house.world.end().await;
    let kinds: Vec<_> = journal
        .iter()
        .map(|line| line["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["start", "refusal", "intent", "outcome"]);
}

#[tokio::test]
async fn progress_grows_also_when_the_servers_own_begins() {
    let house = patient(LONG).await;
    house.script(|seen| {
        let progress = |progress: &str| format!(r#"data: {{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":"t","progress":{progress}}}}}"#);
        let done = format!(r#"data: {{"jsonrpc":"2.0","id":{},"result":{{"content":[]}}}}"#, seen.json()["id"]);
        let body = [progress("0"), progress("0.0001"), progress("1"), progress("2"), done].join("\n\n") + "\n\n";
        Some(ok("text/event-stream", body))
    });
    let mut body = house.open(House::legacy(BOT, &[], TOLD)).await.into_body();
    let mut text = first(&mut body).await;
    text += &first(&mut body).await;
    approve(&house);
    text += &rest(body).await;
    let events = events(&text);
    let progress: Vec<f64> = events
        .iter()
        .filter_map(|event| event["params"]["progress"].as_f64())
        .collect();
    assert!(progress.len() >= 4, "{text}");
    assert!(
        progress.windows(2).all(|pair| pair[0] < pair[1]),
        "{progress:?}"
    );
    assert!(progress.ends_with(&[1.0, 2.0]), "{progress:?}");
    assert_eq!(events[0]["params"]["progressToken"], "t");
    assert!(events.last().unwrap()["result"].is_object());
}

#[tokio::test]
async fn a_no_while_it_waits_is_heard() {
    for (path, tool) in DOORS {
        rejected_while_it_waits(path, tool).await;
    }
}

async fn rejected_while_it_waits(path: &str, tool: &str) {
    let house = patient(LONG).await;
    let mut body = house
        .open(through(path, House::legacy(BOT, &[], &call(tool, "{}"))))
        .await
        .into_body();
    first(&mut body).await;
    reject(&house);
    let answers = events(&rest(body).await);
    let result = &answers.last().unwrap()["result"];
    assert_eq!(result["isError"], true);
    assert!(
        result["content"][0]["text"]
            .as_str()
            .unwrap()
            .contains("not today"),
        "{result}"
    );
    assert_eq!(
        result["_meta"]["dev.cedargate/decision"]["outcome"],
        "rejected"
    );
    assert!(house.seen().is_empty());
}

#[tokio::test]
async fn when_nobody_decides_in_time_it_says_where_it_stands() {
    let house = patient(Duration::from_millis(50)).await;
    for (path, tool) in DOORS {
        let request = through(path, House::legacy(BOT, &[], &call(tool, "{}")));
        let answers = house.send(request).await.events();
        assert_eq!(answers.len(), 1, "{answers:?}");
        let text = answers[0]["result"]["content"][0]["text"].as_str().unwrap();
        assert!(text.contains("NEEDS APPROVAL"), "{text}");
    }
    // So does a read, as an error.
    let answered = house
        .send(House::legacy(
            BOT,
            &[],
            &ask("resources/read", r#"{"uri":"a:b"}"#),
        ))
        .await;
    assert_eq!(answered.events()[0]["error"]["code"], 40_301);
}

#[tokio::test]
async fn who_leaves_or_calls_it_off_while_waiting_has_nothing_executed() {
    for ((path, tool), cancels) in DOORS
        .into_iter()
        .flat_map(|door| [(door, false), (door, true)])
    {
        let house = patient(LONG).await;
        let mut body = house
            .open(through(path, House::legacy(BOT, &[], &call(tool, "{}"))))
            .await
            .into_body();
        first(&mut body).await;
        if cancels {
            let cancel = |id: &str| {
                format!(
                    r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#
                )
            };
            // Another agent's is another request.
            for agent in ["local", BOT] {
                assert_eq!(house.world.gateway.mcp.waiting(), 1, "{agent} may");
                let cancel = through(path, House::legacy(agent, &[], &cancel("7")));
                assert_eq!(house.send(cancel).await.status, StatusCode::ACCEPTED);
            }
            rest(body).await;
        } else {
            drop(body);
        }
        house
            .world
            .until("it waits no more", || {
                house.world.gateway.mcp.waiting() == 0
            })
            .await;
        assert!(calls(&house).is_empty());
        approve(&house);
        house
            .world
            .until("the change arrives", || {
                house.world.gateway.authorizer.facts.generations().total() > 0
            })
            .await;
        // The approval is there for the next try.
        let answered = house
            .send(House::legacy(
                BOT,
                &[("prefer", "wait=0")],
                &call("look", "{}"),
            ))
            .await;
        assert_eq!(answered.tool_text(), "done", "{answered:?}");
        assert_eq!(calls(&house).len(), 1);
    }
}

#[tokio::test]
async fn a_newer_client_comes_again_with_a_state_that_the_server_never_sees() {
    for (path, tool) in DOORS {
        comes_again(path, tool).await;
    }
}

async fn comes_again(path: &str, tool: &str) {
    let house = patient(Duration::from_hours(1)).await;
    let gateway = &house.world.gateway;
    let agent = BOT.parse().unwrap();
    let service = gateway.catalog.mcp("everything").unwrap();
    let command = authz::Command {
        target: service.target("look").unwrap(),
        arguments: authz::Arguments::new(serde_json::Map::new()),
    };
    let state = |round| {
        gateway
            .mcp
            .seal
            .close(agent, &command, round, gateway.clock.now())
    };
    let again = |state: &str| {
        let params = json!({"name": tool, "requestState": state, "arguments": {}});
        through(path, House::modern("bot", "tools/call", params, &[]))
    };
    // In the middle of eight rounds it waits; after the last, or with a state of somebody
    // else's making, it does not.
    for (state, waits) in [
        (state(3), true),
        (state(8), false),
        ("gw1.0.99999999999999.AAAA".to_owned(), false),
    ] {
        let response = house.open(again(&state)).await;
        let kind = response.headers()["content-type"]
            .to_str()
            .unwrap()
            .to_owned();
        assert_eq!(kind == "text/event-stream", waits, "{state} {kind}");
    }
    let mut body = house.open(again(&state(3))).await.into_body();
    first(&mut body).await;
    approve(&house);
    let answers = events(&rest(body).await);
    assert_eq!(
        answers.last().unwrap()["result"]["content"][0]["text"],
        "done"
    );
    let sent = calls(&house)[0].json();
    assert!(sent["params"].get("requestState").is_none(), "{sent}");
    assert_eq!(sent["params"]["name"], "look");
}

#[tokio::test]
async fn a_round_that_ends_tells_a_newer_client_to_come_again() {
    for (path, tool) in DOORS {
        round_ends(path, tool).await;
    }
}

async fn round_ends(path: &str, tool: &str) {
    let house = House::with(|config| {
        config.mcp.hold = Duration::from_millis(90);
        config.mcp.round = Duration::from_millis(60);
    })
    .await;
    let send = |params: Value| {
        house.send(through(
            path,
            House::modern("bot", "tools/call", params, &[]),
        ))
    };
    let answered = send(json!({"name": tool, "arguments": {}})).await;
    let answers = answered.events();
    let result = &answers.last().unwrap()["result"];
    assert_eq!(result["resultType"], "input_required", "{answered:?}");
    let state = result["requestState"].as_str().unwrap();
    assert!(state.starts_with("gw1.1."), "{state}");
    // Half a round is left; then it says where it stands.
    let params = json!({"name": tool, "arguments": {}, "requestState": state});
    let answered = send(params).await;
    let answers = answered.events();
    let result = &answers.last().unwrap()["result"];
    assert_eq!(result["isError"], true, "{answered:?}");
    assert!(house.seen().is_empty());
}

#[tokio::test]
async fn a_gateway_that_ends_keeps_nobody_waiting() {
    let house = patient(LONG).await;
    let mut body = house
        .open(House::legacy(BOT, &[], &call("look", "{}")))
        .await
        .into_body();
    first(&mut body).await;
    house.world.gateway.mcp.closing.cancel();
    let answers = events(&rest(body).await);
    let text = &answers.last().unwrap()["result"]["content"][0]["text"];
    assert!(text.as_str().unwrap().contains("NEEDS APPROVAL"), "{text}");
}
