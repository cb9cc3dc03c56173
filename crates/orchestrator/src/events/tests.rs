//! Followers near the head, far behind it, before the beginning, beyond the end, many, and
//! such as never read.

use std::sync::atomic::Ordering;

use axum::{body::Body, http::Request};
use futures_util::StreamExt;
use http_body_util::BodyExt;
use tower::ServiceExt;

use super::*;
use crate::testing::{self, actor, admin, agent};

async fn write(store: &Store, count: usize) {
    for _ in 0..count {
        let name = format!("agent-{:032x}", rand::random::<u128>());
        store.create_agent(&agent(&name), &actor()).await.unwrap();
    }
}

async fn take(follower: &mut Follower, count: usize) -> Vec<i64> {
    let mut seen = Vec::new();
    while seen.len() < count {
        seen.push(follower.next().await.unwrap().sequence());
    }
    seen
}

#[tokio::test]
async fn places_before_and_beyond_the_feed_are_its_ends() {
    let (orchestrator, _folder) = testing::orchestrator().await;
    write(orchestrator.store(), 3).await;
    let head = orchestrator.store().feed_head().await.unwrap();
    let mut followers = Vec::new();
    for (after, place) in [
        (None, head),
        (Some(i64::MAX), head),
        (Some(head + 1), head),
        (Some(head), head),
        (Some(0), 0),
        (Some(-1), 0),
        (Some(i64::MIN), 0),
    ] {
        let follower = Follower::new(&orchestrator, after).await.unwrap();
        assert_eq!(follower.after(), place, "{after:?}");
        followers.push(follower);
    }
    write(orchestrator.store(), 2).await;
    for mut follower in followers {
        let rest: Vec<_> = (follower.after() + 1..=head + 2).collect();
        assert_eq!(take(&mut follower, rest.len()).await, rest);
    }
}

#[tokio::test]
async fn who_falls_behind_reads_the_store_and_misses_nothing() {
    let (orchestrator, folder) = testing::orchestrator().await;
    let mut slow = Follower::new(&orchestrator, None).await.unwrap();
    let first = slow.after() + 1;
    write(orchestrator.store(), 1).await;
    assert_eq!(take(&mut slow, 1).await, [first]);
    // More than is kept in memory, and some of it by another process.
    let another = testing::open(&folder).await;
    write(orchestrator.store(), RECENT / 2).await;
    write(&another, RECENT / 2 + 300).await;
    let head = another.feed_head().await.unwrap();
    let mut near = Follower::new(&orchestrator, Some(head - 1)).await.unwrap();
    assert_eq!(take(&mut near, 1).await, [head]);
    {
        let recent = orchestrator.inner.feed.shared.recent.read().unwrap();
        assert!(
            recent.len() <= RECENT,
            "memory is bounded: {}",
            recent.len()
        );
        assert!(
            recent[0].sequence() > first + 1,
            "the slow one is not in it"
        );
    }
    let rest: Vec<_> = (first + 1..=head).collect();
    assert_eq!(take(&mut slow, rest.len()).await, rest);
}

#[tokio::test]
async fn a_thousand_followers_share_what_is_read() {
    let (orchestrator, _folder) = testing::orchestrator().await;
    let mut followers = Vec::new();
    for _ in 0..1_000 {
        followers.push(Follower::new(&orchestrator, None).await.unwrap());
    }
    write(orchestrator.store(), 5).await;
    let mut events = Vec::new();
    for follower in &mut followers {
        let mut seen = Vec::new();
        for _ in 0..5 {
            seen.push(follower.next().await.unwrap());
        }
        events.push(seen);
    }
    for seen in &events[1..] {
        for (mine, first) in seen.iter().zip(&events[0]) {
            assert!(Arc::ptr_eq(mine, first), "the same in memory");
        }
    }
}

#[tokio::test]
async fn a_failing_store_is_told_and_the_place_is_kept() {
    let (orchestrator, _folder) = testing::orchestrator().await;
    let mut follower = Follower::new(&orchestrator, None).await.unwrap();
    let place = follower.after();
    orchestrator.store().close().await;
    follower.next().await.unwrap_err();
    assert_eq!(follower.after(), place);
}

#[tokio::test]
async fn a_stream_that_nobody_reads_holds_nobody_up() {
    let (orchestrator, _folder) = testing::orchestrator().await;
    let token = admin(&orchestrator).await;
    let open = async |query: &str| {
        let request = Request::get(format!("/api/v1/feed{query}"))
            .header("authorization", format!("Bearer {token}"))
            .body(Body::empty())
            .unwrap();
        orchestrator.router().oneshot(request).await.unwrap()
    };
    let unread = open("").await;
    assert_eq!(unread.status(), 200);
    let read = open("").await;
    assert_eq!(orchestrator.inner.streams.load(Ordering::Relaxed), 2);
    write(orchestrator.store(), 300).await;
    let head = orchestrator.store().feed_head().await.unwrap();
    let mut last = 0;
    let mut body = read.into_body().into_data_stream();
    while last < head {
        let text = String::from_utf8(body.next().await.unwrap().unwrap().to_vec()).unwrap();
        for id in text.lines().filter_map(|line| line.strip_prefix("id: ")) {
            let id: i64 = id.parse().unwrap();
            assert!(last == 0 || id == last + 1, "{id} after {last}");
            last = id;
        }
    }
    drop((unread, body));
    assert_eq!(orchestrator.inner.streams.load(Ordering::Relaxed), 0);

    for garbage in [
        "?after=x",
        "?after=1e3",
        "?after=99999999999999999999",
        "?before=1",
    ] {
        let refused = open(garbage).await;
        assert_eq!(refused.status(), 400, "{garbage}");
        let body = refused.into_body().collect().await.unwrap().to_bytes();
        assert!(body.starts_with(b"{\"detail\""), "{garbage}");
    }
}

#[tokio::test]
async fn a_restart_resumes_where_the_reader_was() {
    let (orchestrator, folder) = testing::orchestrator().await;
    write(orchestrator.store(), 10).await;
    let mut follower = Follower::new(&orchestrator, Some(0)).await.unwrap();
    take(&mut follower, 5).await;
    let place = follower.after();
    drop((follower, orchestrator));
    let orchestrator = testing::orchestrator_on(testing::open(&folder).await).await;
    let mut follower = Follower::new(&orchestrator, Some(place)).await.unwrap();
    write(orchestrator.store(), 1).await;
    let head = orchestrator.store().feed_head().await.unwrap();
    let count = usize::try_from(head - place).unwrap();
    assert_eq!(
        take(&mut follower, count).await,
        (place + 1..=head).collect::<Vec<_>>()
    );
}
