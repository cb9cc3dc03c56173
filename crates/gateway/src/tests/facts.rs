//! Facts: fresh enough, or nothing is permitted.

use super::*;

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
