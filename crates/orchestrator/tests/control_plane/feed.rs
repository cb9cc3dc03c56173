//! The feed: every change in order, none skipped.

use contract::{
    agents::CreateToken,
    feed::{Change, FeedEvent},
};
use futures_util::{Stream, StreamExt};
use tokio_util::sync::CancellationToken;

use crate::plane::{Plane, no_arguments, refused};

async fn take(
    feed: &mut (impl Stream<Item = Result<Option<FeedEvent>, contract::Error>> + Unpin),
    wanted: usize,
) -> Vec<FeedEvent> {
    let mut events = Vec::new();
    while events.len() < wanted {
        if let Some(event) = feed.next().await.expect("the feed goes on").unwrap() {
            events.push(event);
        }
    }
    events
}

#[tokio::test]
async fn a_follower_sees_everything_once_and_resumes_without_a_gap() {
    let plane = Plane::new().await;
    let mut live = plane.gateway.follow(None).await.unwrap();
    let names: Vec<_> = (0..20).map(|n| format!("agent-{n}")).collect();
    let create = futures_util::future::join_all(names.iter().map(|name| plane.agent(name, None)));
    let (agents, seen) = tokio::join!(create, take(&mut live, 20));
    let mut ids: Vec<_> = agents.iter().map(|view| view.agent.id).collect();
    let mut seen_agents: Vec<_> = seen
        .iter()
        .filter_map(|event| event.change.agent())
        .collect();
    ids.sort();
    seen_agents.sort();
    assert_eq!(ids, seen_agents, "each agent once");
    let first = seen[0].sequence;
    let sequences: Vec<_> = seen.iter().map(|event| event.sequence).collect();
    assert_eq!(sequences, (first..first + 20).collect::<Vec<_>>());

    let mut resumed = plane.gateway.follow(Some(seen[6].sequence)).await.unwrap();
    assert_eq!(take(&mut resumed, 13).await, seen[7..]);
    let mut all = plane.gateway.follow(Some(0)).await.unwrap();
    assert_eq!(take(&mut all, 1).await[0].sequence, 1);
}

#[tokio::test]
async fn an_idle_feed_says_that_it_lives_and_a_stopping_orchestrator_ends_it() {
    let plane = Plane::new().await;
    let mut feed = plane.gateway.follow(None).await.unwrap();
    assert!(feed.next().await.unwrap().unwrap().is_none(), "at once");
    assert!(
        feed.next().await.unwrap().unwrap().is_none(),
        "and while idle"
    );
    let stop = CancellationToken::new();
    stop.cancel();
    plane.orchestrator.run(stop).await;
    while let Some(item) = feed.next().await {
        item.unwrap();
    }
}

#[tokio::test]
async fn whose_credential_ends_reads_no_further() {
    let plane = Plane::new().await;
    plane.person("viewer", &["viewer"]).await;
    let id = "viewer".parse().unwrap();
    let created = plane
        .admin
        .create_user_token(&id, &CreateToken::default())
        .await
        .unwrap();
    let viewer = plane.client(&created.token);
    let mut feed = viewer.follow(None).await.unwrap();
    let agent = plane.agent("test-agent", None).await.agent;
    assert_eq!(
        take(&mut feed, 1).await[0].change,
        Change::AgentChanged { agent: agent.id }
    );

    let revoked = created.view.id;
    let answer = plane
        .call(
            "DELETE",
            &format!("/api/users/viewer/tokens/{revoked}"),
            Some(&plane.admin_token),
            None,
        )
        .await;
    assert_eq!(answer.status, 204, "{}", answer.body);
    plane
        .gateway
        .open_approval(&refused(&plane, agent.id, no_arguments()).await)
        .await
        .unwrap();
    let rest: Vec<_> = feed.collect().await;
    assert!(
        rest.iter().all(|item| matches!(item, Ok(None))),
        "nothing after the revocation: {rest:?}"
    );
}
