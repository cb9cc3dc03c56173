//! The gateway as agents meet it, between an orchestrator and a service that behave, or not.

mod limits;
mod policies;
mod sessions;
mod waiting;
pub(crate) mod world;
mod zones;

use authz::{Risk, Scope};
use contract::{approvals::ApprovalStatus, feed::Change};
use futures_util::FutureExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tower::ServiceExt;

use self::world::{Answered, Around, BOT, LOOPBACK, OTHER, World, around, config, grant};
use super::*;

fn command_scope(command: &str) -> Scope {
    Scope::Command {
        command: command.parse().unwrap(),
    }
}

#[tokio::test]
async fn a_permitted_command_is_carried_out_and_recorded() {
    let world = World::new().await;
    for command in ["/mcp-coolify servers list", "/mcp-coolify list-servers"] {
        let answered = world.execute("local", command).await;
        assert_eq!(answered.status, StatusCode::OK, "{answered:?}");
        let result = &answered.body["result"];
        assert_eq!(result["status"], "success");
        assert_eq!(result["data"]["servers"][0]["name"], "localhost");
        let metadata = &result["metadata"];
        assert_eq!(metadata["operation"], "list-servers");
        assert_eq!(metadata["service"], "coolify");
        assert!(metadata["executionTime"].is_u64() && metadata["timestamp"].is_string());
        // What cannot be known is estimated from what is there, and says so.
        let tokens = result["data"].to_string().len().div_ceil(4);
        assert_eq!(metadata["tokensUsed"], tokens);
        let cost = metadata["cost"].as_f64().unwrap();
        assert!(
            (cost * 1e6 - f64::from(u32::try_from(tokens * 3).unwrap())).abs() < 1e-6,
            "{cost}"
        );
        assert_eq!(metadata["estimated"], json!(["tokensUsed", "cost"]));
        assert!(
            answered.body["id"].is_string(),
            "an id is made when none is given"
        );
    }
    assert_eq!(
        world.reached(),
        ["GET /api/v1/servers", "GET /api/v1/servers"]
    );

    let journal = world.end().await;
    let kinds: Vec<_> = journal
        .iter()
        .map(|line| line["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["start", "intent", "outcome", "intent", "outcome"]);
    assert_eq!(journal[1]["agent_name"], "local");
    assert_eq!(journal[1]["command"], "coolify/list-servers");
    assert_eq!(journal[1]["policies"], json!(["standing.reader"]));
    assert_eq!(
        journal[1]["policy_set"],
        world::sources().version().as_str()
    );
    assert_eq!(journal[2]["status"], "success");
    assert_eq!(journal[1]["decision"], journal[2]["decision"]);
}

#[tokio::test]
async fn a_permit_with_fresh_facts_asks_the_orchestrator_nothing() {
    let world = World::new().await;
    world.execute("local", "/mcp-coolify list-servers").await;
    let asked = world
        .orchestrator
        .facts_asked
        .load(std::sync::atomic::Ordering::SeqCst);
    world
        .orchestrator
        .down
        .store(true, std::sync::atomic::Ordering::SeqCst);
    for _ in 0..10 {
        assert_eq!(
            world
                .execute("local", "/mcp-coolify list-servers")
                .await
                .status,
            StatusCode::OK
        );
    }
    assert_eq!(
        world
            .orchestrator
            .facts_asked
            .load(std::sync::atomic::Ordering::SeqCst),
        asked
    );
    world
        .orchestrator
        .down
        .store(false, std::sync::atomic::Ordering::SeqCst);
    world.end().await;
}

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
async fn a_refusal_from_memory_is_decided_again_on_fresh_facts() {
    let world = World::new().await;
    assert_eq!(
        world.execute(BOT, "/mcp-coolify list-servers").await.status,
        StatusCode::FORBIDDEN
    );
    // The feed says nothing of it, and the facts in memory are young.
    let given = grant(command_scope("coolify/list-servers"), Risk::Read, 60, false);
    world
        .orchestrator
        .known
        .lock()
        .unwrap()
        .agents
        .get_mut(&given.agent)
        .unwrap()
        .grants
        .push(given);
    world
        .monotonic
        .fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(
        world.execute(BOT, "/mcp-coolify list-servers").await.status,
        StatusCode::OK
    );
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
async fn a_revocation_that_the_feed_loses_takes_effect_after_max_staleness() {
    let world = World::new().await;
    let given = grant(command_scope("coolify/list-servers"), Risk::Read, 60, false);
    world.give(given.clone()).await;
    assert_eq!(
        world.execute(BOT, "/mcp-coolify list-servers").await.status,
        StatusCode::OK
    );
    world
        .orchestrator
        .known
        .lock()
        .unwrap()
        .agents
        .get_mut(&given.agent)
        .unwrap()
        .grants
        .clear();
    world
        .monotonic
        .fetch_add(5, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(
        world.execute(BOT, "/mcp-coolify list-servers").await.status,
        StatusCode::OK,
        "five seconds"
    );
    world
        .monotonic
        .fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(
        world.execute(BOT, "/mcp-coolify list-servers").await.status,
        StatusCode::FORBIDDEN,
        "six"
    );
}

type SlowBody = http_body_util::StreamBody<
    futures_util::stream::BoxStream<'static, Result<http_body::Frame<Bytes>, BoxError>>,
>;

/// A body that comes when it is let.
fn slow_body(text: String) -> (tokio::sync::oneshot::Sender<()>, SlowBody) {
    let (go, wait) = tokio::sync::oneshot::channel();
    let stream = futures_util::stream::once(async move {
        wait.await?;
        Ok(http_body::Frame::data(Bytes::from(text)))
    });
    (go, http_body_util::StreamBody::new(Box::pin(stream)))
}

#[tokio::test]
async fn a_right_that_is_lost_while_the_body_comes_is_lost() {
    for feed in [true, false] {
        let world = World::new().await;
        let given = grant(command_scope("coolify/list-servers"), Risk::Read, 60, false);
        world.give(given.clone()).await;
        let list = "/mcp-coolify list-servers";
        assert_eq!(world.execute(BOT, list).await.status, StatusCode::OK);

        let (go, body) = slow_body(json!({"command": list}).to_string());
        let mut request = Request::post("/execute")
            .header("content-type", "application/json")
            .header("x-agent-id", BOT)
            .body(body)
            .unwrap();
        request
            .extensions_mut()
            .insert(authenticate::Peer(world::LOOPBACK.parse().unwrap()));
        let mut answer = std::pin::pin!(service::stack(&world.gateway).oneshot(request));
        assert!(
            futures_util::poll!(&mut answer).is_pending(),
            "the body has not come"
        );

        let generation = world.gateway.authorizer.facts.generations().total();
        let take = |known: &mut world::Known| {
            known.agents.get_mut(&given.agent).unwrap().grants.clear();
        };
        if feed {
            let ended = Change::GrantEnded {
                grant: given.id,
                agent: given.agent,
            };
            world.orchestrator.change(ended, take);
            world
                .until("the revocation arrives", || {
                    world.gateway.authorizer.facts.generations().total() != generation
                })
                .await;
        } else {
            take(&mut world.orchestrator.known.lock().unwrap());
            world
                .monotonic
                .fetch_add(6, std::sync::atomic::Ordering::SeqCst);
        }
        go.send(()).unwrap();
        let answered = answer.await.unwrap();
        assert_eq!(answered.status(), StatusCode::FORBIDDEN, "feed: {feed}");
        assert_eq!(world.reached().len(), 1, "feed: {feed}");
    }
}

#[tokio::test]
async fn a_feed_with_a_gap_is_followed_anew_and_nothing_from_before_is_believed() {
    let world = World::new().await;
    let change = || Change::UserChanged {
        user: "dan".parse().unwrap(),
    };
    world.orchestrator.change(change(), |_| {});
    world.execute("local", "/mcp-coolify list-servers").await;
    let total = || world.gateway.authorizer.facts.generations().total();
    let before = total();
    world.orchestrator.skip(change());
    world.until("the gap is seen", || total() != before).await;
    world
        .until("it follows again", || world.gateway.connected.get())
        .await;
    let asked = world
        .orchestrator
        .facts_asked
        .load(std::sync::atomic::Ordering::SeqCst);
    world.execute("local", "/mcp-coolify list-servers").await;
    assert_eq!(
        world
            .orchestrator
            .facts_asked
            .load(std::sync::atomic::Ordering::SeqCst),
        asked + 1
    );
}

#[tokio::test]
async fn what_is_under_way_at_shutdown_is_answered_and_recorded() {
    let Around {
        client,
        catalog,
        clock,
        upstream,
        mut arrivals,
        ..
    } = around().await;
    upstream
        .gated
        .store(true, std::sync::atomic::Ordering::SeqCst);
    let folder = tempfile::tempdir().unwrap();
    let shutdown = CancellationToken::new();
    let running = start(
        config(folder.path()),
        client,
        catalog,
        clock,
        shutdown.clone(),
    )
    .await
    .unwrap();
    let body = "{\"command\": \"/mcp-coolify list-servers\"}";
    let request = format!(
        "POST /execute HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    // Until the policy set is there, commands are refused with 503.
    let call = tokio::spawn(async move {
        loop {
            let answer = raw(running.address, request.as_bytes()).await;
            if !answer.starts_with("HTTP/1.1 503") {
                return answer;
            }
        }
    });
    arrivals.recv().await.unwrap();
    shutdown.cancel();
    upstream.gate.add_permits(1);
    assert!(call.await.unwrap().starts_with("HTTP/1.1 200"));
    running.finished.await.unwrap();
    let last = journal::entries(folder.path())
        .unwrap()
        .last()
        .unwrap()
        .unwrap();
    assert_eq!(
        (last.kind.as_str(), &last.details["status"]),
        ("outcome", &json!("success"))
    );
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

#[tokio::test]
async fn the_orchestrator_down_or_slow_refuses_once_facts_are_old() {
    use std::sync::atomic::Ordering::SeqCst;
    let world = World::new().await;
    assert_eq!(
        world
            .execute("local", "/mcp-coolify list-servers")
            .await
            .status,
        StatusCode::OK
    );
    for flag in [&world.orchestrator.down, &world.orchestrator.slow] {
        flag.store(true, SeqCst);
        world.monotonic.fetch_add(6, SeqCst);
        let answered = world.execute("local", "/mcp-coolify list-servers").await;
        assert_eq!(
            answered.status,
            StatusCode::SERVICE_UNAVAILABLE,
            "{answered:?}"
        );
        assert_eq!(answered.code(), -32001);
        assert_eq!(answered.data()["service"], "orchestrator");
        assert!(answered.headers.contains_key("retry-after"));
        flag.store(false, SeqCst);
        assert_eq!(
            world
                .execute("local", "/mcp-coolify list-servers")
                .await
                .status,
            StatusCode::OK,
            "it is back"
        );
    }
    assert_eq!(world.reached().len(), 3);
}

#[tokio::test]
async fn without_a_policy_set_nothing_is_permitted_and_a_broken_one_changes_nothing() {
    let world = World::new().await;
    let broken = {
        let mut sources = world::sources();
        sources.policies.push(authz::Source {
            name: "policies/x.cedar".to_owned(),
            text: "permit (".to_owned(),
        });
        sources
    };
    let before = world.gateway.policies.current().unwrap();
    for bundle in [
        world::bundle(broken.clone()),
        // Sources that are not those that the version names.
        contract::policy_sets::PolicySetBundle {
            sources: broken,
            ..world::bundle(world::sources())
        },
    ] {
        let version = bundle.version.clone();
        if version == world::sources().version() {
            // What is in force already is not loaded again.
            assert!(world.gateway.policies.put_in_force(bundle).await.is_ok());
        } else {
            assert!(world.gateway.policies.put_in_force(bundle).await.is_err());
        }
        assert!(Arc::ptr_eq(
            &before,
            &world.gateway.policies.current().unwrap()
        ));
    }
    let mut forged = world::sources();
    forged.policies.clear();
    let forged = contract::policy_sets::PolicySetBundle {
        version: world::bundle(forged).version,
        ..world::bundle(world::sources())
    };
    assert!(world.gateway.policies.put_in_force(forged).await.is_err());

    // Another set is fetched and swapped in when the feed says so.
    let mut other = world::sources();
    other
        .policies
        .retain(|source| source.name != "policies/standing.cedar");
    let version = other.version();
    world.orchestrator.change(
        Change::PolicySetActivated {
            version: version.clone(),
        },
        |known| {
            known.policy_set = Some(world::bundle(other));
        },
    );
    world
        .until("the other set is in force", || {
            !Arc::ptr_eq(&before, &world.gateway.policies.current().unwrap())
        })
        .await;
    let answered = world.execute("local", "/mcp-coolify list-servers").await;
    assert_eq!(answered.status, StatusCode::FORBIDDEN, "{answered:?}");
    assert_eq!(answered.data()["policy_set"], version.short());
}

#[tokio::test]
async fn what_services_do_wrong_is_told_without_their_words() {
    let world = World::new().await;
    for (status, expected, code) in [
        (
            StatusCode::INTERNAL_SERVER_ERROR,
            StatusCode::BAD_GATEWAY,
            -32001,
        ),
        (StatusCode::UNAUTHORIZED, StatusCode::BAD_GATEWAY, -32001),
        (StatusCode::NOT_FOUND, StatusCode::NOT_FOUND, -32007),
        (StatusCode::CONFLICT, StatusCode::CONFLICT, -32008),
        (
            StatusCode::UNPROCESSABLE_ENTITY,
            StatusCode::BAD_REQUEST,
            -32009,
        ),
        (
            StatusCode::TOO_MANY_REQUESTS,
            StatusCode::TOO_MANY_REQUESTS,
            -32005,
        ),
    ] {
        *world.upstream.status.lock().unwrap() = status;
        let answered = world.execute("local", "/mcp-coolify get-server srv1").await;
        assert_eq!(
            (answered.status, answered.code()),
            (expected, code),
            "{status}: {answered:?}"
        );
        let text = answered.body.to_string();
        assert!(!text.contains("coolify-credential"), "{text}");
        assert!(!text.contains("hunter2-upstream-secret"), "{text}");
    }
    *world.upstream.status.lock().unwrap() = StatusCode::OK;
    world
        .upstream
        .gated
        .store(true, std::sync::atomic::Ordering::SeqCst);
    let answered = world.execute("local", "/mcp-coolify get-server srv1").await;
    assert_eq!(
        (answered.status, answered.code()),
        (StatusCode::GATEWAY_TIMEOUT, -32006),
        "{answered:?}"
    );

    let journal = world.end().await;
    let text = serde_json::to_string(&journal).unwrap();
    assert!(!text.contains("coolify-credential"), "{text}");
    let last = journal.last().unwrap();
    assert_eq!(
        (&last["kind"], &last["status"]),
        (&json!("outcome"), &json!("unknown"))
    );
}

#[tokio::test]
async fn a_full_disk_stops_every_command_until_there_is_room() {
    let world = World::new().await;
    world.execute("local", "/mcp-coolify list-servers").await;
    world.gateway.journal.faults.fill(100);
    for (agent, command) in [
        ("local", "/mcp-coolify list-servers"),
        (OTHER, "/mcp-coolify start-application app1"),
        (BOT, "/mcp-coolify list-servers"),
    ] {
        let answered = world.execute(agent, command).await;
        assert_eq!(
            (answered.status, answered.code()),
            (StatusCode::SERVICE_UNAVAILABLE, -32603),
            "{command}: {answered:?}"
        );
    }
    assert_eq!(
        world.gateway.ready().status(),
        StatusCode::SERVICE_UNAVAILABLE
    );
    assert_eq!(world.reached().len(), 1);
    world.gateway.journal.faults.clear();
    assert_eq!(
        world
            .execute("local", "/mcp-coolify list-servers")
            .await
            .status,
        StatusCode::OK
    );
    assert_eq!(world.gateway.ready().status(), StatusCode::OK);
    world.end().await;
}

#[tokio::test]
async fn a_client_that_hangs_up_leaves_its_outcome_recorded() {
    let mut world = World::new().await;
    world
        .upstream
        .gated
        .store(true, std::sync::atomic::Ordering::SeqCst);
    {
        let mut call = std::pin::pin!(world.execute(OTHER, "/mcp-coolify start-application app1"));
        let arrived = std::pin::pin!(world.upstream.seen.lock().unwrap().len());
        assert_eq!(*arrived, 0);
        tokio::select! {
            answered = &mut call => panic!("answered {answered:?}"),
            () = world.until("it reaches the service", || !world.reached().is_empty()) => {}
        }
        // Dropped here: the agent is gone.
    }
    assert_eq!(
        world.arrivals.recv().await.unwrap(),
        "POST /api/v1/applications/app1/start"
    );
    world.upstream.gate.add_permits(1);
    world
        .until("it ends", || world.gateway.under_way.is_empty())
        .await;
    let journal = world.end().await;
    let last = journal.last().unwrap();
    assert_eq!(
        (&last["kind"], &last["status"]),
        (&json!("outcome"), &json!("success"))
    );
}

#[tokio::test]
async fn too_many_at_once_are_told_so() {
    let world = World::with(|config| config.max_concurrent = 1).await;
    world
        .upstream
        .gated
        .store(true, std::sync::atomic::Ordering::SeqCst);
    let stack = service::stack::<http_body_util::Full<Bytes>>(&world.gateway);
    let request = || {
        let headers = [
            ("content-type", "application/json"),
            ("x-agent-id", "local"),
        ];
        let mut request = World::request(
            Method::POST,
            "/execute",
            &headers,
            "{\"command\": \"/mcp-coolify list-servers\"}",
        );
        request
            .extensions_mut()
            .insert(authenticate::Peer(LOOPBACK.parse().unwrap()));
        request
    };
    let mut first = std::pin::pin!(tower::ServiceExt::oneshot(stack.clone(), request()));
    assert!(futures_util::poll!(&mut first).is_pending());
    let second = tower::ServiceExt::oneshot(stack.clone(), request())
        .await
        .unwrap();
    assert_eq!(second.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(second.headers().contains_key("retry-after"));
    world.upstream.gate.add_permits(1);
    assert_eq!(first.await.unwrap().status(), StatusCode::OK);
}

fn case(answered: &Answered) -> (u16, i64) {
    (answered.status.as_u16(), answered.code())
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
async fn bad_bodies_get_clear_errors_and_nothing_gets_through() {
    let world = World::new().await;
    let big = format!("{{\"command\": \"{}\"}}", "x".repeat(2 * 1024 * 1024));
    let cases: Vec<(&str, &str, (u16, i64), &str)> = vec![
        (
            "/execute",
            "{\"command\": \"/mcp-coolify",
            (400, -32700),
            "not valid JSON",
        ),
        ("/execute", "", (400, -32700), "not valid JSON"),
        (
            "/execute",
            "[{\"command\": \"/mcp-coolify list-servers\"}]",
            (400, -32600),
            "batches",
        ),
        ("/execute", "\"x\"", (400, -32600), "must be a JSON object"),
        ("/execute", "{}", (400, -32600), "Command is required"),
        (
            "/execute",
            "{\"command\": 5}",
            (400, -32600),
            "`command` must be a string",
        ),
        ("/execute", "{\"command\": \"\"}", (400, -32009), "expected"),
        (
            "/execute",
            "{\"command\": \"servers list\"}",
            (400, -32009),
            "expected",
        ),
        (
            "/execute",
            "{\"command\": \"/mcp-coolify servers list\", \"command\": \"/mcp-coolify delete-server x\"}",
            (400, -32700),
            "occurs twice",
        ),
        (
            "/execute",
            "{\"command\": \"/mcp-coolify servers list\", \"Command\": \"/mcp-coolify delete-server x\"}",
            (400, -32600),
            "did you mean `command`",
        ),
        (
            "/execute",
            "{\"command\": \"/mcp-coolify servers list\", \"service\": \"coolify\"}",
            (400, -32600),
            "not a member",
        ),
        (
            "/execute",
            "{\"service\": \"coolify\"}",
            (400, -32600),
            "Command is required",
        ),
        (
            "/execute",
            "{\"service\": \"coolify\", \"operation\": \"list-servers\", \"args\": [], \"arguments\": {}}",
            (400, -32600),
            "not both",
        ),
        (
            "/execute",
            "{\"service\": \"coolify\", \"operation\": \"get-server\", \"args\": 5}",
            (400, -32600),
            "object or an array",
        ),
        (
            "/execute",
            "{\"command\": \"/mcp-coolify servers list\", \"id\": {}}",
            (400, -32600),
            "`id` must be",
        ),
        (
            "/execute",
            "{\"command\": \"/mcp-coolify servers list\", \"options\": 5}",
            (400, -32600),
            "`options` must be",
        ),
        (
            "/execute",
            "{\"command\": \"/mcp-coolify get-server 'srv\"}",
            (400, -32009),
            "quote",
        ),
        (
            "/execute",
            "{\"command\": \"/mcp-nothing x\"}",
            (404, -32000),
            "not found",
        ),
        (
            "/execute",
            "{\"command\": \"/mcp-coolify explode\"}",
            (404, -32002),
            "not supported",
        ),
        (
            "/execute",
            "{\"command\": \"/mcp-coolify get-server\"}",
            (400, -32009),
            "not valid",
        ),
        (
            "/execute",
            "{\"command\": \"/mcp-coolify servers list\"} {}",
            (400, -32700),
            "trailing",
        ),
        (
            "/execute",
            "{\"command\": \"\\ud800\"}",
            (400, -32700),
            "not valid JSON",
        ),
        ("/execute", &big, (413, -32600), "larger than"),
        (
            "/mcp/rpc",
            "{\"jsonrpc\": \"1.0\", \"method\": \"mcp.execute\", \"id\": 1}",
            (400, -32600),
            "version",
        ),
        (
            "/mcp/rpc",
            "{\"jsonrpc\": \"2.0\", \"id\": 1}",
            (400, -32600),
            "Method is required",
        ),
        (
            "/mcp/rpc",
            "{\"jsonrpc\": \"2.0\", \"method\": \"mcp.listServices\"}",
            (400, -32600),
            "Request ID is required",
        ),
        (
            "/mcp/rpc",
            "{\"jsonrpc\": \"2.0\", \"method\": \"mcp.listServices\", \"id\": null}",
            (400, -32600),
            "Request ID is required",
        ),
        (
            "/mcp/rpc",
            "{\"jsonrpc\": \"2.0\", \"method\": \"mcp.listServices\", \"id\": [1]}",
            (400, -32600),
            "`id` must be",
        ),
        (
            "/mcp/rpc",
            "[{\"jsonrpc\": \"2.0\", \"method\": \"mcp.listServices\", \"id\": 1}]",
            (400, -32600),
            "batches",
        ),
        (
            "/mcp/rpc",
            "{\"jsonrpc\": \"2.0\", \"method\": \"tools/list\", \"id\": 1}",
            (404, -32601),
            "not found",
        ),
        (
            "/mcp/rpc",
            "{\"jsonrpc\": \"2.0\", \"method\": \"mcp.execute\", \"id\": 1}",
            (400, -32602),
            "required",
        ),
        (
            "/mcp/rpc",
            "{\"jsonrpc\": \"2.0\", \"method\": \"mcp.execute\", \"params\": {}, \"id\": 1}",
            (400, -32602),
            "`params.service` is required",
        ),
        (
            "/mcp/rpc",
            "{\"jsonrpc\": \"2.0\", \"method\": \"mcp.execute\", \"params\": [], \"id\": 1}",
            (400, -32602),
            "must be an object",
        ),
        (
            "/mcp/rpc",
            "{\"jsonrpc\": \"2.0\", \"method\": \"mcp.getCapabilities\", \"params\": {\"service\": \"nothing\"}, \"id\": 1}",
            (404, -32000),
            "not found",
        ),
        (
            "/mcp/rpc",
            "{\"jsonrpc\": \"2.0\", \"method\": \"mcp.listServices\", \"id\": 1, \"ID\": 2}",
            (400, -32600),
            "did you mean `id`",
        ),
    ];
    for (path, body, expected, message) in cases {
        let answered = world.post(path, "local", body).await;
        let shown: String = body.chars().take(120).collect();
        assert_eq!(case(&answered), expected, "{shown}: {answered:?}");
        assert!(
            answered.message().contains(message),
            "{shown}: `{}` lacks `{message}`",
            answered.message()
        );
    }
    let no_type = World::request(
        Method::POST,
        "/execute",
        &[],
        "{\"command\": \"/mcp-coolify list-servers\"}",
    );
    assert_eq!(case(&world.send(LOOPBACK, no_type).await), (415, -32600));
    let form = World::request(
        Method::POST,
        "/execute",
        &[("content-type", "text/plain")],
        "{\"command\": \"/mcp-coolify list-servers\"}",
    );
    assert_eq!(case(&world.send(LOOPBACK, form).await), (415, -32600));
    assert!(world.reached().is_empty());
    assert!(
        world.orchestrator.opened().is_empty(),
        "nobody is asked to approve a typo"
    );
}

#[tokio::test]
async fn ids_are_echoed_on_success_and_on_error() {
    let world = World::new().await;
    for id in [json!(0), json!("a"), json!(1.5), json!(-7)] {
        let rpc = |service: &str| {
            json!({"jsonrpc": "2.0", "method": "mcp.execute", "id": id, "params": {"service": service, "operation": "list_servers"}}).to_string()
        };
        let answered = world.post("/mcp/rpc", "local", &rpc("coolify")).await;
        assert_eq!(
            (answered.status, &answered.body["id"]),
            (StatusCode::OK, &id),
            "{answered:?}"
        );
        let answered = world.post("/mcp/rpc", "local", &rpc("nothing")).await;
        assert_eq!(
            (answered.status, &answered.body["id"]),
            (StatusCode::NOT_FOUND, &id)
        );
        let execute =
            json!({"service": "coolify", "operation": "servers list", "args": {}, "id": id})
                .to_string();
        let answered = world.post("/mcp/execute", BOT, &execute).await;
        assert_eq!(
            (answered.status, &answered.body["id"]),
            (StatusCode::FORBIDDEN, &id)
        );
    }
}

#[tokio::test]
async fn the_catalog_shows_what_an_agent_may_list() {
    let world = World::new().await;
    let answered = world.get("/mcp/catalog", &[]).await;
    assert_eq!(answered.status, StatusCode::OK);
    let services = answered.body["services"].as_array().unwrap();
    let coolify = services
        .iter()
        .find(|service| service["name"] == "coolify")
        .unwrap();
    assert_eq!(
        (&coolify["version"], &coolify["status"]),
        (&json!("1.0.0"), &json!("active"))
    );
    assert!(
        coolify["capabilities"]
            .as_array()
            .unwrap()
            .contains(&json!("list-servers"))
    );
    assert!(coolify["handler"]["capabilities"][0]["parameters"].is_array());

    let service = world.get("/mcp/service/coolify", &[]).await;
    assert_eq!(service.body["service"]["name"], "coolify");
    assert_eq!(
        case(&world.get("/mcp/service/nothing", &[]).await),
        (404, -32000)
    );

    let rpc = |method: &str, params: Value| {
        json!({"jsonrpc": "2.0", "method": method, "params": params, "id": 1}).to_string()
    };
    let listed = world
        .post("/mcp/rpc", "local", &rpc("mcp.listServices", json!({})))
        .await;
    assert_eq!(listed.body["result"]["data"][0]["name"], "coolify");
    let capabilities = world
        .post(
            "/mcp/rpc",
            "local",
            &rpc("mcp.getCapabilities", json!({"service": "coolify"})),
        )
        .await;
    assert!(
        capabilities.body["result"]["data"]
            .as_array()
            .unwrap()
            .len()
            > 50
    );
    let statistics = world
        .post("/mcp/rpc", "local", &rpc("mcp.getStatistics", json!({})))
        .await;
    assert_eq!(statistics.body["result"]["data"]["active"], 1);
    let help = world.execute("local", "/mcp-coolify help").await;
    assert_eq!(help.body["result"]["data"]["operation"], "help");

    // A suspended agent may list nothing, so for it there is nothing.
    world.orchestrator.change(
        Change::AgentChanged {
            agent: BOT.parse().unwrap(),
        },
        |known| {
            known
                .agents
                .get_mut(&BOT.parse().unwrap())
                .unwrap()
                .agent
                .suspended = true;
        },
    );
    world
        .monotonic
        .fetch_add(10, std::sync::atomic::Ordering::SeqCst);
    let nothing = world.get("/mcp/catalog", &[("x-agent-id", BOT)]).await;
    assert_eq!(nothing.body["services"], json!([]));
    assert_eq!(
        case(
            &world
                .get("/mcp/service/coolify", &[("x-agent-id", BOT)])
                .await
        ),
        (404, -32000)
    );
}

#[tokio::test]
async fn a_stranger_is_told_which_services_there_are_and_no_more() {
    let world = World::with(|config| {
        config.gateway_token = Some(secrecy::SecretString::from(world::GATEWAY_TOKEN));
    })
    .await;
    let listed = world.get("/mcp/catalog", &[]).await;
    assert_eq!(listed.status, StatusCode::OK, "{listed:?}");
    assert_eq!(
        listed.body["services"],
        json!([{"name": "coolify", "version": "1.0.0", "status": "active"}])
    );
    let text = listed.body.to_string();
    assert!(
        !text.contains("server") && !text.contains("COOLIFY"),
        "{text}"
    );
    // Whoever shows an identity, a wrong one too, is no stranger.
    for header in [
        ("x-agent-id", "bot"),
        ("authorization", "Bearer nothing"),
        ("x-mcp-key", "nothing"),
        ("origin", "http://evil.example"),
    ] {
        let answered = world.get("/mcp/catalog", &[header]).await;
        assert_eq!(answered.status, StatusCode::UNAUTHORIZED, "{header:?}");
    }
    for path in ["/mcp/service/coolify", "/approvals/x"] {
        let answered = world.get(path, &[]).await;
        assert_eq!(answered.status, StatusCode::UNAUTHORIZED, "{path}");
    }
}

#[tokio::test]
async fn a_service_is_tested_under_policy() {
    let world = World::new().await;
    let tested = world.post("/mcp/test/coolify", "local", "").await;
    assert_eq!(tested.status, StatusCode::OK, "{tested:?}");
    assert_eq!(tested.body["status"], "success");
    assert_eq!(
        world.post("/mcp/test/coolify", BOT, "").await.status,
        StatusCode::FORBIDDEN
    );
    assert_eq!(
        case(&world.post("/mcp/test/nothing", "local", "").await),
        (404, -32000)
    );
}

#[tokio::test]
async fn secrets_in_arguments_are_not_recorded() {
    let world = World::new().await;
    let body = json!({"service": "coolify", "operation": "set-application-env", "args": {"uuid": "app1", "key": "DB", "value": "hunter2-argument"}});
    assert_eq!(
        world.post("/execute", BOT, &body.to_string()).await.status,
        StatusCode::FORBIDDEN
    );
    assert_eq!(
        world
            .post("/execute", OTHER, &body.to_string())
            .await
            .status,
        StatusCode::OK
    );
    let asked = serde_json::to_string(&world.orchestrator.opened()).unwrap();
    assert!(
        asked.contains("[redacted]") && !asked.contains("hunter2"),
        "{asked}"
    );
    let journal = serde_json::to_string(&world.end().await).unwrap();
    assert!(
        journal.contains("[redacted]") && !journal.contains("hunter2"),
        "{journal}"
    );
}

#[test]
fn unsafe_settings_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let with = |change: &dyn Fn(&mut Config)| {
        let mut config = config(folder.path());
        change(&mut config);
        config.check()
    };
    let everywhere = |config: &mut Config| config.listen = "0.0.0.0:8100".parse().unwrap();
    assert!(with(&|_| {}).is_ok());
    assert!(with(&|config| config.listen = "[::1]:8100".parse().unwrap()).is_ok());
    let error = with(&everywhere).unwrap_err().to_string();
    assert!(
        error.contains("MCP_GATEWAY_TOKEN") && error.contains("--trust-agent-header"),
        "{error}"
    );
    assert!(
        with(&|config| {
            everywhere(config);
            config.trust_agent_header = true;
        })
        .is_ok()
    );
    assert!(
        with(&|config| {
            everywhere(config);
            config.gateway_token = Some(world::GATEWAY_TOKEN.into());
        })
        .is_ok()
    );
    assert!(
        with(&|config| {
            config.trust_agent_header = true;
            config.gateway_token = Some(world::GATEWAY_TOKEN.into());
        })
        .is_err()
    );
    assert!(with(&|config| config.gateway_token = Some("short".into())).is_err());
    assert!(with(&|config| config.name = "a b".to_owned()).is_err());
}

/// Sends raw bytes and reads until the gateway closes.
async fn raw(address: std::net::SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn on_a_real_port_it_answers_and_ends_in_order() {
    let Around {
        client,
        catalog,
        clock,
        upstream: _upstream,
        ..
    } = around().await;
    let folder = tempfile::tempdir().unwrap();
    let shutdown = CancellationToken::new();
    let running = start(
        config(folder.path()),
        client,
        catalog,
        clock,
        shutdown.clone(),
    )
    .await
    .unwrap();
    let request = |line: &str, headers: &str| {
        format!("{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n")
    };
    for (line, headers, expected) in [
        ("GET /health", String::new(), "200 OK"),
        ("GET /info", String::new(), "200 OK"),
        ("GET /nothing", String::new(), "404 Not Found"),
        ("GET /execute", String::new(), "405 Method Not Allowed"),
        (
            "GET /mcp/catalog",
            "X-Agent-Id: \r\n".to_owned(),
            "400 Bad Request",
        ),
        (
            "GET /mcp/catalog",
            "X-Agent-Id: a\r\nX-Agent-Id: b\r\n".to_owned(),
            "400 Bad Request",
        ),
        (
            "GET /mcp/catalog",
            "X-Agent-Id: a\n b\r\n".to_owned(),
            "400 Bad Request",
        ),
        (
            "GET /mcp/catalog",
            format!("X-Agent-Id: {}\r\n", "a".repeat(10_000)),
            "400 Bad Request",
        ),
        (
            "GET /mcp/catalog",
            format!("X-Agent-Id: {}\r\n", "a".repeat(100_000)),
            "431 Request Header",
        ),
        (
            "GET /mcp/catalog",
            "x: y\r\n".repeat(100),
            "431 Request Header",
        ),
    ] {
        let answer = raw(running.address, request(line, &headers).as_bytes()).await;
        let shown: String = headers.chars().take(60).collect();
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {expected}")),
            "{line} {shown}: {answer}"
        );
    }
    let wrong = raw(running.address, request("PUT /mcp/catalog", "").as_bytes()).await;
    assert!(wrong.to_lowercase().contains("allow: get, head"), "{wrong}");
    let big = "x".repeat(2 * 1024 * 1024);
    let headers = format!(
        "Content-Type: application/json\r\nContent-Length: {}\r\n",
        big.len()
    );
    let answer = raw(
        running.address,
        format!("{}{big}", request("POST /execute", &headers)).as_bytes(),
    )
    .await;
    // The policy set may not be loaded yet, which does not matter for a body like this.
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");

    let metrics = raw(running.metrics, request("GET /metrics", "").as_bytes()).await;
    assert!(
        metrics.contains(
            "mcp_gateway_http_requests_total{method=\"GET\",route=\"/health\",status=\"200\"} 1"
        ),
        "{metrics}"
    );
    assert!(
        metrics.contains("route=\"unknown\",status=\"404\""),
        "{metrics}"
    );
    assert!(
        raw(running.metrics, request("GET /", "").as_bytes())
            .await
            .starts_with("HTTP/1.1 404")
    );

    shutdown.cancel();
    running.finished.await.unwrap();
    assert!(TcpStream::connect(running.address).await.is_err());
    journal::verify(folder.path(), None).unwrap();
}
