//! What people lift a refusal for, once or for a while.

use super::*;

#[tokio::test]
async fn a_refusal_explains_itself_and_an_approval_works_at_the_next_try() {
    let world = World::new().await;
    let first = world.execute(BOT, "/mcp-coolify servers list").await;
    assert_eq!(first.status, StatusCode::FORBIDDEN, "{first:?}");
    assert_eq!(first.code(), -32004);
    assert_eq!(
        first.message(),
        "Permission denied: Agent does not have access to service 'coolify'. A permission request has been sent to the orchestrator."
    );
    assert!(first.headers.contains_key("retry-after"));
    let data = first.data();
    for (name, expected) in [
        ("service", json!("coolify")),
        ("operation", json!("list-servers")),
        ("agentId", json!(BOT)),
        ("outcome", json!("pending")),
        ("retryable", json!(true)),
        ("asking_helps", json!(true)),
        ("policies", json!([])),
        ("permitted_by_approval", json!(["grant.call"])),
        ("retry_after_seconds", json!(5)),
    ] {
        assert_eq!(data[name], expected, "{name} of {data}");
    }
    let id = data["request_id"].as_str().unwrap();
    assert_eq!(
        data["approval"]["url"],
        format!("http://orchestrator.example/approvals/{id}")
    );
    assert_eq!(data["approval"]["approvals_needed"], 1);
    assert!(data["decision_id"].as_str().unwrap().starts_with("dec_"));

    let again = world.execute("bot", "/mcp-coolify servers list").await;
    assert_eq!(again.data()["request_id"], id, "joined");
    assert_eq!(world.orchestrator.opened().len(), 1);
    assert!(world.reached().is_empty());

    world
        .give(grant(
            command_scope("coolify/list-servers"),
            Risk::Read,
            60,
            false,
        ))
        .await;
    let permitted = world.execute(BOT, "/mcp-coolify servers list").await;
    assert_eq!(permitted.status, StatusCode::OK, "{permitted:?}");
    assert_eq!(world.reached().len(), 1);

    let journal = world.end().await;
    let kinds: Vec<_> = journal
        .iter()
        .map(|line| line["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["start", "refusal", "refusal", "intent", "outcome"]);
    assert_eq!(journal[1]["approval"], id);
    assert!(journal[3]["grant"].as_str().unwrap().starts_with("grant_"));
}

#[tokio::test]
async fn a_reason_reaches_people_as_plain_text() {
    let world = World::new().await;
    let body = json!({
        "command": "/mcp-coolify servers list",
        "reason": format!("for\u{1b}[31m you\u{202e}\n{}", "x".repeat(5_000)),
    });
    let refused = world.post("/execute", BOT, &body.to_string()).await;
    assert_eq!(refused.data()["outcome"], "pending", "{refused:?}");
    let reason = &world.orchestrator.opened()[0].reason;
    assert!(reason.starts_with("for [31m you \nxxx"), "{reason:?}");
    assert_eq!(reason.chars().count(), 1_000);
}

#[tokio::test]
async fn expired_and_revoked_grants_permit_nothing() {
    let world = World::new().await;
    let given = grant(command_scope("coolify/list-servers"), Risk::Read, 10, false);
    world.give(given.clone()).await;
    let try_it = async || world.execute(BOT, "/mcp-coolify list-servers").await.status;
    assert_eq!(try_it().await, StatusCode::OK);
    // To the millisecond, and on facts from memory.
    world.now.store(
        given.expires.as_millis() - 1,
        std::sync::atomic::Ordering::SeqCst,
    );
    assert_eq!(try_it().await, StatusCode::OK);
    world.now.store(
        given.expires.as_millis(),
        std::sync::atomic::Ordering::SeqCst,
    );
    assert_eq!(try_it().await, StatusCode::FORBIDDEN);

    world
        .now
        .store(world::NOON, std::sync::atomic::Ordering::SeqCst);
    let other = grant(command_scope("coolify/list-servers"), Risk::Read, 30, false);
    world.give(other.clone()).await;
    assert_eq!(try_it().await, StatusCode::OK);
    let before = world.gateway.authorizer.facts.generations().total();
    world.orchestrator.change(
        Change::GrantEnded {
            grant: other.id,
            agent: other.agent,
        },
        |known| {
            known.agents.get_mut(&other.agent).unwrap().grants.clear();
        },
    );
    world
        .until("the revocation arrives", || {
            world.gateway.authorizer.facts.generations().total() != before
        })
        .await;
    assert_eq!(try_it().await, StatusCode::FORBIDDEN);
    assert_eq!(world.reached().len(), 3);
}

#[tokio::test]
async fn a_grant_for_one_use_is_used_once_however_many_try() {
    let world = World::new().await;
    world
        .give(grant(
            command_scope("coolify/list-servers"),
            Risk::Read,
            60,
            true,
        ))
        .await;
    let tries = (0..8).map(|_| world.execute(BOT, "/mcp-coolify list-servers"));
    let answers = futures_util::future::join_all(tries).await;
    let permitted = answers
        .iter()
        .filter(|answered| answered.status == StatusCode::OK)
        .count();
    let refused = answers
        .iter()
        .filter(|answered| answered.status == StatusCode::FORBIDDEN)
        .count();
    assert_eq!((permitted, refused), (1, 7), "{answers:?}");
    assert_eq!(world.reached().len(), 1);
}

#[tokio::test]
async fn a_destructive_command_needs_two_people_and_a_suspended_agent_cannot_ask() {
    let world = World::new().await;
    let answered = world
        .execute(OTHER, "/mcp-coolify delete-server srv1")
        .await;
    assert_eq!(answered.status, StatusCode::FORBIDDEN);
    assert_eq!(
        answered.data()["approval"]["approvals_needed"],
        2,
        "{answered:?}"
    );
    assert_eq!(
        answered.data()["policies"],
        json!(["wall.destroy-needs-two"])
    );
    assert_eq!(
        answered.data()["advice"],
        json!(["Destructive commands need the approval of two people."])
    );

    world.orchestrator.change(
        Change::AgentChanged {
            agent: OTHER.parse().unwrap(),
        },
        |known| {
            known
                .agents
                .get_mut(&OTHER.parse().unwrap())
                .unwrap()
                .agent
                .suspended = true;
        },
    );
    world
        .monotonic
        .fetch_add(10, std::sync::atomic::Ordering::SeqCst);
    let hard = world.execute(OTHER, "/mcp-coolify list-servers").await;
    assert_eq!(hard.status, StatusCode::FORBIDDEN);
    assert_eq!(hard.data()["outcome"], "refused");
    assert_eq!(hard.data()["asking_helps"], false);
    assert_eq!(hard.data()["permitted_by_approval"], json!([]));
    assert_eq!(hard.data()["retryable"], false);
    assert!(!hard.headers.contains_key("retry-after"));
    assert!(hard.message().contains("suspended"), "{hard:?}");
    assert!(!hard.message().contains("has been sent"), "{hard:?}");
    assert_eq!(
        world.orchestrator.opened().len(),
        1,
        "nobody was asked about the second"
    );
    assert!(world.reached().is_empty());
}

#[tokio::test]
async fn a_rejected_request_says_why_and_when() {
    let world = World::new().await;
    world.execute(BOT, "/mcp-coolify list-servers").await;
    {
        let mut known = world.orchestrator.known.lock().unwrap();
        let (_, summary) = &mut known.approvals[0];
        summary.status = ApprovalStatus::Rejected;
        summary.note = Some("use staging".to_owned());
        summary.retry_at = Some(authz::Timestamp::from_millis(world::NOON + 90_500));
    }
    let rejected = world.execute(BOT, "/mcp-coolify list-servers").await;
    assert_eq!(rejected.data()["outcome"], "rejected");
    assert_eq!(rejected.data()["asking_helps"], false);
    assert_eq!(rejected.data()["retry_after_seconds"], 91);
    assert_eq!(rejected.headers["retry-after"], "91");
    assert!(rejected.message().contains("use staging"));
}

#[tokio::test]
async fn a_request_that_could_not_be_sent_is_not_said_to_be() {
    let world = World::new().await;
    world
        .orchestrator
        .approvals_fail
        .store(true, std::sync::atomic::Ordering::SeqCst);
    let answered = world.execute(BOT, "/mcp-coolify list-servers").await;
    assert_eq!(answered.status, StatusCode::FORBIDDEN);
    assert!(
        !answered.message().contains("has been sent"),
        "{answered:?}"
    );
    assert_eq!(answered.data()["retryable"], true);
    assert!(answered.data().get("request_id").is_none());
}

#[tokio::test]
async fn agents_follow_their_own_requests_only_and_may_wait() {
    let world = World::new().await;
    let refused = world.execute(BOT, "/mcp-coolify list-servers").await;
    let id = refused.data()["request_id"].as_str().unwrap().to_owned();
    let path = format!("/approvals/{id}");
    let own = world.get(&path, &[("x-agent-id", BOT)]).await;
    assert_eq!(own.status, StatusCode::OK);
    assert_eq!(own.body["status"], "pending");
    assert_eq!(own.headers["retry-after"], "5");
    assert_eq!(
        world.get(&path, &[("x-agent-id", OTHER)]).await.status,
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        world.get("/approvals/apr_1", &[]).await.status,
        StatusCode::NOT_FOUND
    );

    let headers = [("x-agent-id", BOT), ("prefer", "respond-async, wait=20")];
    let mut waiting = std::pin::pin!(world.get(&path, &headers));
    assert!(futures_util::poll!(&mut waiting).is_pending());
    let change = Change::ApprovalRejected {
        approval: id.parse().unwrap(),
        agent: BOT.parse().unwrap(),
    };
    let decide = async {
        // The waiting request listens before it looks.
        world
            .until("it listens", || world.gateway.changes.receiver_count() > 0)
            .await;
        world.orchestrator.change(change, |known| {
            known.approvals[0].1.status = ApprovalStatus::Rejected;
        });
    };
    let (decided, ()) = tokio::join!(waiting, decide);
    assert_eq!(decided.body["status"], "rejected");
}

#[tokio::test]
async fn those_who_wait_leave_room_for_commands() {
    // Two may be under way, so one may wait.
    let world = World::with(|config| config.max_concurrent = 2).await;
    let refused = world.execute(BOT, "/mcp-coolify servers list").await;
    let path = format!(
        "/approvals/{}",
        refused.data()["request_id"].as_str().unwrap()
    );
    let wait = || world.get(&path, &[("x-agent-id", BOT), ("prefer", "wait=30")]);
    let mut first = std::pin::pin!(wait());
    world
        .until("the first waits", || {
            assert!(first.as_mut().now_or_never().is_none());
            world.gateway.waits.available_permits() == 0
        })
        .await;
    let second = wait().await;
    assert_eq!(second.body["status"], "pending", "at once: {second:?}");
    assert_eq!(
        world
            .execute("local", "/mcp-coolify servers list")
            .await
            .status,
        StatusCode::OK
    );
}
