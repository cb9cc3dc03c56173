//! Calls that wait for people, requests that are taken back, outcomes that nobody knows.

use std::sync::atomic::Ordering;

use authz::ApprovalRequestId;

use super::*;

const LIST: &str = r#"{"command": "/mcp-coolify servers list"}"#;

fn waiting_call(wait: &'static str) -> Request<http_body_util::Full<Bytes>> {
    let headers = [
        ("content-type", "application/json"),
        ("x-agent-id", BOT),
        ("prefer", wait),
    ];
    World::request(Method::POST, "/execute", &headers, LIST)
}

/// The one request that there is.
fn opened(world: &World) -> ApprovalRequestId {
    world.orchestrator.known.lock().unwrap().approvals[0].1.id
}

/// Approves the one request, as people do: summary, grant and event at once.
fn approve(world: &World) {
    let given = grant(command_scope("coolify/list-servers"), Risk::Read, 60, false);
    let change = Change::ApprovalApproved {
        approval: opened(world),
        agent: given.agent,
        grant: given.id,
    };
    world.orchestrator.change(change, |known| {
        known.approvals[0].1.status = ApprovalStatus::Approved;
        let facts = known.agents.get_mut(&given.agent).unwrap();
        facts.grants.push(given);
    });
}

fn close(world: &World, status: ApprovalStatus) {
    let (approval, agent) = (opened(world), BOT.parse().unwrap());
    let change = match status {
        ApprovalStatus::Rejected => Change::ApprovalRejected { approval, agent },
        _ => Change::ApprovalClosed { approval, agent },
    };
    world.orchestrator.change(change, |known| {
        let summary = &mut known.approvals[0].1;
        summary.status = status;
        summary.note = Some("not today".to_owned());
        summary.retry_at = (status == ApprovalStatus::Rejected)
            .then(|| authz::Timestamp::from_millis(world::NOON + 900_000));
    });
}

/// Until the request is open and the call waits for people.
async fn waits(world: &World) {
    world
        .until("it waits", || {
            !world.orchestrator.opened().is_empty() && world.gateway.under_way.is_empty()
        })
        .await;
}

#[tokio::test]
async fn a_call_that_waits_is_completed_upon_approval() {
    let world = World::new().await;
    let call = world.send(LOOPBACK, waiting_call("wait=12"));
    let people = async {
        waits(&world).await;
        assert!(world.reached().is_empty());
        approve(&world);
    };
    let (answered, ()) = tokio::join!(call, people);
    assert_eq!(answered.status, StatusCode::OK, "{answered:?}");
    assert_eq!(answered.headers["preference-applied"], "wait=12");
    assert_eq!(answered.body["result"]["status"], "success");
    assert_eq!(world.reached(), ["GET /api/v1/servers"]);
    let journal = world.end().await;
    let kinds: Vec<_> = journal
        .iter()
        .map(|line| line["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["start", "refusal", "intent", "outcome"]);
    assert_ne!(journal[1]["decision"], journal[2]["decision"]);
}

#[tokio::test]
async fn a_call_that_waits_hears_a_no() {
    for (status, outcome) in [
        (ApprovalStatus::Rejected, "rejected"),
        (ApprovalStatus::Withdrawn, "refused"),
        (ApprovalStatus::Expired, "refused"),
    ] {
        let world = World::new().await;
        let call = world.send(LOOPBACK, waiting_call("wait=12"));
        let people = async {
            waits(&world).await;
            close(&world, status);
        };
        let (answered, ()) = tokio::join!(call, people);
        assert_eq!(answered.status, StatusCode::FORBIDDEN, "{answered:?}");
        assert_eq!(answered.data()["outcome"], outcome);
        assert_eq!(answered.data()["approval"]["status"], status.as_str());
        assert!(world.reached().is_empty());
        if status == ApprovalStatus::Rejected {
            assert_eq!(answered.headers["retry-after"], "900");
            assert!(answered.message().contains("not today"));
        }
    }
}

#[tokio::test]
async fn an_agent_finds_its_open_requests_and_no_other() {
    let world = World::new().await;
    let own = [("x-agent-id", BOT)];
    let listed = world.get("/approvals", &own).await;
    assert_eq!(listed.status, StatusCode::OK, "{listed:?}");
    assert_eq!(listed.body, json!({"approvals": []}));

    world.execute(BOT, "/mcp-coolify servers list").await;
    let listed = world.get("/approvals", &own).await;
    let approvals = listed.body["approvals"].as_array().unwrap();
    assert_eq!(approvals.len(), 1, "{listed:?}");
    assert_eq!(approvals[0]["id"], opened(&world).to_string());
    assert_eq!(approvals[0]["command"], "coolify/list-servers");
    let page = approvals[0]["url"].as_str().unwrap();
    assert!(page.ends_with(&format!("/approvals/{}", opened(&world))));

    let others = world.get("/approvals", &[]).await;
    assert_eq!(others.body, json!({"approvals": []}));
    close(&world, ApprovalStatus::Withdrawn);
    let listed = world.get("/approvals", &own).await;
    assert_eq!(listed.body, json!({"approvals": []}));
}

#[tokio::test]
async fn the_description_is_open_to_everyone() {
    let world = World::new().await;
    let request = World::request(Method::GET, "/openapi.json", &[], "");
    let answered = world.send("192.0.2.1:5000", request).await;
    assert_eq!(answered.status, StatusCode::OK);
    assert_eq!(answered.headers["content-type"], "application/json");
    assert_eq!(answered.body["openapi"], "3.1.0");
    assert!(answered.body["paths"]["/approvals/{id}"]["delete"].is_object());
}

#[tokio::test]
async fn who_waits_in_vain_is_told_where_it_stands() {
    let world = World::new().await;
    let answered = world.send(LOOPBACK, waiting_call("wait=0")).await;
    assert_eq!(answered.data()["outcome"], "pending", "{answered:?}");
    assert_eq!(answered.headers["preference-applied"], "wait=0");
    assert_eq!(answered.headers["retry-after"], "5");
    // Nothing to wait for: a wall, and a call that is permitted.
    let wall = World::request(
        Method::POST,
        "/execute",
        &[
            ("content-type", "application/json"),
            ("x-agent-id", "local"),
            ("prefer", "wait=20"),
        ],
        LIST,
    );
    let permitted = world.send(LOOPBACK, wall).await;
    assert_eq!(permitted.status, StatusCode::OK, "{permitted:?}");
    // An odd preference is none.
    let answered = world.send(LOOPBACK, waiting_call("wait=soon")).await;
    assert!(!answered.headers.contains_key("preference-applied"));
    assert_eq!(answered.data()["outcome"], "pending");
}

#[tokio::test]
async fn no_longer_than_half_of_the_deadline_is_waited_and_only_while_there_is_room() {
    let world = World::with(|config| {
        config.deadline = Duration::from_secs(4);
        config.max_concurrent = 2;
    })
    .await;
    let mut first = std::pin::pin!(world.send(LOOPBACK, waiting_call("wait=3600")));
    world
        .until("the first waits", || {
            assert!(first.as_mut().now_or_never().is_none());
            !world.orchestrator.opened().is_empty() && world.gateway.under_way.is_empty()
        })
        .await;
    let second = world.send(LOOPBACK, waiting_call("wait=3600")).await;
    assert_eq!(second.data()["outcome"], "pending", "at once: {second:?}");
    assert!(!second.headers.contains_key("preference-applied"));
    approve(&world);
    let first = first.await;
    assert_eq!(first.status, StatusCode::OK, "{first:?}");
    assert_eq!(first.headers["preference-applied"], "wait=2");
}

#[tokio::test]
async fn for_a_client_that_hangs_up_while_it_waits_nothing_is_executed() {
    let world = World::new().await;
    {
        let mut call = std::pin::pin!(world.send(LOOPBACK, waiting_call("wait=20")));
        tokio::select! {
            answered = &mut call => panic!("answered {answered:?}"),
            () = waits(&world) => {}
        }
        // Dropped here, as a connection that ends drops it.
    }
    assert_eq!(
        world.gateway.waits.available_permits(),
        16,
        "its place is free"
    );
    let generation = world.gateway.authorizer.facts.generations().total();
    approve(&world);
    world
        .until("the approval arrives", || {
            world.gateway.authorizer.facts.generations().total() != generation
        })
        .await;
    let journal = world.end().await;
    let kinds: Vec<_> = journal
        .iter()
        .map(|line| line["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["start", "refusal"]);
}

#[tokio::test]
async fn a_right_lost_while_waiting_is_lost() {
    let world = World::new().await;
    let call = world.send(LOOPBACK, waiting_call("wait=12"));
    let people = async {
        waits(&world).await;
        // Approved, and unregistered before the gateway looks again.
        let id = opened(&world);
        let change = Change::ApprovalApproved {
            approval: id,
            agent: BOT.parse().unwrap(),
            grant: authz::GrantId::generate(authz::Timestamp::from_millis(world::NOON)),
        };
        world.orchestrator.change(change, |known| {
            known.approvals[0].1.status = ApprovalStatus::Approved;
            known.agents.remove(&BOT.parse().unwrap());
        });
    };
    let (answered, ()) = tokio::join!(call, people);
    assert!(answered.status.is_client_error(), "{answered:?}");
    assert_ne!(answered.status, StatusCode::FORBIDDEN, "{answered:?}");
    assert!(world.reached().is_empty());
}

#[tokio::test]
async fn agents_take_their_own_requests_back() {
    let world = World::new().await;
    world.execute(BOT, "/mcp-coolify servers list").await;
    let path = format!("/approvals/{}", opened(&world));
    let delete =
        |path: &str, agent| World::request(Method::DELETE, path, &[("x-agent-id", agent)], "");
    let foreign = world.send(LOOPBACK, delete(&path, OTHER)).await;
    assert_eq!(foreign.status, StatusCode::NOT_FOUND);
    let unknown = world.send(LOOPBACK, delete("/approvals/apr_1", BOT)).await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
    for _ in 0..2 {
        let own = world.send(LOOPBACK, delete(&path, BOT)).await;
        assert_eq!(own.status, StatusCode::OK, "{own:?}");
        assert_eq!(own.body["status"], "withdrawn");
    }
    approve(&world);
    let late = world.send(LOOPBACK, delete(&path, BOT)).await;
    assert_eq!((late.status, late.code()), (StatusCode::CONFLICT, -32008));
}

#[tokio::test]
async fn an_agent_with_too_many_open_requests_is_told_what_to_do() {
    let world = World::new().await;
    world
        .orchestrator
        .approvals_full
        .store(true, Ordering::SeqCst);
    let refused = world.execute(BOT, "/mcp-coolify servers list").await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    let data = refused.data();
    for (name, expected) in [
        ("outcome", json!("refused")),
        ("reason", json!("too_many_requests")),
        ("asking_helps", json!(true)),
        ("retryable", json!(true)),
        ("retry_after_seconds", json!(30)),
    ] {
        assert_eq!(data[name], expected, "{name} of {data}");
    }
    assert_eq!(refused.headers["retry-after"], "30");
    assert!(
        refused.message().contains("Nobody has been asked"),
        "{refused:?}"
    );
    assert!(
        data["message"]
            .as_str()
            .unwrap()
            .contains("DELETE /approvals/")
    );
    let journal = world.end().await;
    assert_eq!(journal[1]["reason"], "too_many_requests");
}

#[tokio::test]
async fn a_grant_for_one_use_stays_spent_when_nobody_knows_the_outcome() {
    let mut world = World::new().await;
    world.upstream.gated.store(true, Ordering::SeqCst);
    world
        .give(grant(
            command_scope("coolify/start-application"),
            Risk::Write,
            60,
            true,
        ))
        .await;
    let start = r#"{"command": "/mcp-coolify start-application app1"}"#;
    // The service takes the call, and does not answer within its time.
    let answered = world.post("/execute", BOT, start).await;
    world.arrivals.recv().await.unwrap();
    assert_eq!(answered.data()["outcome"], "unknown", "{answered:?}");
    assert_eq!(answered.data()["retryable"], false);
    assert!(
        answered.data()["message"]
            .as_str()
            .unwrap()
            .contains("Do not assume")
    );
    let again = world.post("/execute", BOT, start).await;
    assert_eq!(
        again.status,
        StatusCode::FORBIDDEN,
        "it is spent: {again:?}"
    );
    assert_eq!(world.reached().len(), 1);
    let journal = world.end().await;
    let outcome = journal
        .iter()
        .find(|line| line["kind"] == "outcome")
        .unwrap();
    assert_eq!(outcome["status"], "unknown");
}

#[tokio::test]
async fn a_clock_that_goes_back_revives_no_grant_from_memory() {
    let world = World::new().await;
    let given = grant(command_scope("coolify/list-servers"), Risk::Read, 1, false);
    world.give(given).await;
    assert_eq!(
        world.execute(BOT, "/mcp-coolify list-servers").await.status,
        StatusCode::OK
    );
    // The minute passes; somebody else calls; the orchestrator marks what expired, and
    // the feed is late.
    let minutes = 5 * 60_000;
    world.now.fetch_add(minutes, Ordering::SeqCst);
    world.execute("local", "/mcp-coolify list-servers").await;
    let bot = BOT.parse().unwrap();
    world
        .orchestrator
        .known
        .lock()
        .unwrap()
        .agents
        .get_mut(&bot)
        .unwrap()
        .grants
        .clear();
    world.now.fetch_sub(minutes, Ordering::SeqCst);
    let refused = world.execute(BOT, "/mcp-coolify list-servers").await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{refused:?}");
    // The record keeps what the decision rested on, and not what was believed before.
    let journal = world.end().await;
    let refusal = journal.iter().rfind(|line| line["agent"] == BOT).unwrap();
    assert_eq!(refusal["kind"], "refusal", "{refusal}");
    assert!(refusal["facts"]["trust"].is_number(), "{refusal}");
    assert!(refusal["facts"]["grants"].is_null(), "{refusal}");
}
