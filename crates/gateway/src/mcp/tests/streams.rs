//! Answers that stream, clients that leave, servers that break off.

use std::sync::atomic::{AtomicBool, Ordering};

use contract::feed::Change;
use futures_util::{StreamExt, stream};
use tokio::sync::mpsc;

use super::*;

/// An answer that is sent piece by piece; the flag says that nobody listens any more.
pub(super) fn piecewise() -> (mpsc::UnboundedSender<&'static str>, Arc<AtomicBool>, Script) {
    struct Gone(Arc<AtomicBool>);
    impl Drop for Gone {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let (sender, receiver) = mpsc::unbounded_channel::<&'static str>();
    let gone = Arc::new(AtomicBool::new(false));
    let receiver = Mutex::new(Some((receiver, Gone(Arc::clone(&gone)))));
    let script = move |_: &Seen| {
        let state = receiver.lock().unwrap().take()?;
        let pieces = stream::unfold(state, |(mut receiver, gone)| async move {
            let piece = receiver.recv().await?;
            let piece = if piece == "BREAK" {
                Err(std::io::Error::other("broken"))
            } else {
                Ok(piece)
            };
            Some((piece, (receiver, gone)))
        });
        Some(ok(
            "text/event-stream",
            AxumBody::from_stream(pieces.boxed()),
        ))
    };
    (sender, gone, Box::new(script))
}

const PROGRESS: &str = ": one\n\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{\"progressToken\":1,\"progress\":1}}\n\n";
const DONE: &str = "data: {\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{\"content\":[]}}\n\n";

async fn next(body: &mut Body) -> Option<Bytes> {
    let frame = body.frame().await?;
    Some(frame.unwrap().into_data().unwrap())
}

#[tokio::test]
async fn a_stream_passes_frame_by_frame_before_it_ends() {
    let house = House::new().await;
    let (pieces, _, script) = piecewise();
    *house.server.script.lock().unwrap() = script;
    let response = house
        .open(House::legacy("local", &[], &call("look", "{}")))
        .await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    assert_eq!(response.headers()["x-accel-buffering"], "no");
    let mut body = response.into_body();
    pieces.send(PROGRESS).unwrap();
    assert_eq!(next(&mut body).await.unwrap(), PROGRESS);
    pieces.send(DONE).unwrap();
    assert_eq!(next(&mut body).await.unwrap(), DONE);
    drop(pieces);
    assert_eq!(next(&mut body).await, None);
    drop(body);
    let journal = house.world.end().await;
    assert_eq!(journal.last().unwrap()["status"], "success");
}

#[tokio::test]
async fn an_older_client_that_leaves_does_not_stop_what_it_asked_for() {
    let house = House::new().await;
    let (pieces, gone, script) = piecewise();
    *house.server.script.lock().unwrap() = script;
    let mut body = house
        .open(House::legacy("local", &[], &call("look", "{}")))
        .await
        .into_body();
    pieces.send(PROGRESS).unwrap();
    next(&mut body).await.unwrap();
    drop(body);
    pieces.send(DONE).unwrap();
    assert!(!gone.load(Ordering::SeqCst));
    drop(pieces);
    house
        .world
        .until("it is read to its end", || gone.load(Ordering::SeqCst))
        .await;
    let journal = house.world.end().await;
    assert_eq!(journal.last().unwrap()["status"], "success");
}

#[tokio::test]
async fn closing_the_stream_cancels_in_the_newer_protocol() {
    let house = House::new().await;
    let (pieces, gone, script) = piecewise();
    *house.server.script.lock().unwrap() = script;
    let request = House::modern("local", "tools/call", json!({"name": "look"}), &[]);
    let mut body = house.open(request).await.into_body();
    pieces.send(PROGRESS).unwrap();
    next(&mut body).await.unwrap();
    drop(body);
    house
        .world
        .until("the server hears of it", || {
            let _ = pieces.send(": still there?\n\n");
            gone.load(Ordering::SeqCst)
        })
        .await;
    let journal = house.world.end().await;
    assert_eq!(journal.last().unwrap()["status"], "unknown");
}

#[tokio::test]
async fn a_stream_that_breaks_off_is_no_whole_answer_and_its_outcome_is_not_known() {
    let house = House::new().await;
    let (pieces, _, script) = piecewise();
    *house.server.script.lock().unwrap() = script;
    let mut body = house
        .open(House::legacy("local", &[], &call("look", "{}")))
        .await
        .into_body();
    pieces.send(PROGRESS).unwrap();
    next(&mut body).await.unwrap();
    pieces.send("BREAK").unwrap();
    assert!(body.frame().await.unwrap().is_err());
    drop(body);
    let journal = house.world.end().await;
    assert_eq!(journal.last().unwrap()["status"], "unknown");
}

fn listening(session: &str, agent: &str) -> Request<Full<Bytes>> {
    let headers = [
        ("x-agent-id", agent),
        ("accept", "text/event-stream"),
        ("mcp-session-id", session),
        ("last-event-id", "e7"),
    ];
    House::request(Method::GET, &headers, "")
}

#[tokio::test]
async fn the_stream_of_a_session_passes_and_shows_no_more_than_a_list_would() {
    let house = House::new().await;
    house.review(r#"[{"name":"secret"},{"name":"look"}]"#);
    let answered = house.post(BOT, &ask("initialize", "{}")).await;
    let session = answered.headers["mcp-session-id"]
        .to_str()
        .unwrap()
        .to_owned();
    let (pieces, gone, script) = piecewise();
    *house.server.script.lock().unwrap() = script;
    let mut body = house.open(listening(&session, BOT)).await.into_body();
    assert_eq!(house.seen()[1].headers["last-event-id"], "e7");
    let asked = "id: e8\ndata: {\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"elicitation/create\",\"params\":{\"message\":\"?\"}}\n\n";
    pieces.send(asked).unwrap();
    assert_eq!(next(&mut body).await.unwrap(), asked);
    pieces.send("data: {\"jsonrpc\":\"2.0\",\"id\":5,\"result\":{\"tools\":[{\"name\":\"secret\"},{\"name\":\"look\"}]}}\n\n").unwrap();
    assert_eq!(
        next(&mut body).await.unwrap(),
        "data: {\"jsonrpc\":\"2.0\",\"id\":5,\"result\":{\"tools\":[{\"name\":\"look\"}]}}\n\n"
    );
    // Who is suspended meanwhile hears no more.
    let agent = BOT.parse().unwrap();
    house
        .world
        .orchestrator
        .change(Change::AgentChanged { agent }, |known| {
            known.agents.get_mut(&agent).unwrap().agent.suspended = true;
        });
    assert_eq!(next(&mut body).await, None);
    drop(body);
    house
        .world
        .until("the server hears of it", || {
            let _ = pieces.send(": ?\n\n");
            gone.load(Ordering::SeqCst)
        })
        .await;
}

#[tokio::test]
async fn subscriptions_are_governed_and_stay_open() {
    let house = House::new().await;
    let listen = |agent: &str| {
        let params = json!({"notifications": {"resourceSubscriptions": ["file:///a"], "toolsListChanged": true}});
        House::modern(agent, "subscriptions/listen", params, &[])
    };
    let refused = house.send(listen("bot")).await;
    assert_eq!(refused.code(), 40_301, "{refused:?}");
    assert_eq!(
        json!(house.world.orchestrator.opened()[0].arguments),
        json!({"notifications": {"resourceSubscriptions": ["file:///a"], "toolsListChanged": true}})
    );
    let (pieces, _, script) = piecewise();
    *house.server.script.lock().unwrap() = script;
    let mut body = house.open(listen("local")).await.into_body();
    pieces.send(PROGRESS).unwrap();
    assert_eq!(next(&mut body).await.unwrap(), PROGRESS);
    let agent = authz::AgentId::LOCAL;
    house
        .world
        .orchestrator
        .change(Change::AgentChanged { agent }, |known| {
            known.agents.get_mut(&agent).unwrap().agent.suspended = true;
        });
    assert_eq!(next(&mut body).await, None);
}

#[tokio::test]
async fn an_endless_line_is_not_kept() {
    let house = House::new().await;
    house.script(|_| {
        let pieces = stream::repeat_with(|| Ok::<_, std::io::Error>("x".repeat(1024 * 1024)));
        Some(ok("text/event-stream", AxumBody::from_stream(pieces)))
    });
    let response = house
        .open(House::legacy("local", &[], &ask("tools/list", "{}")))
        .await;
    assert!(response.into_body().collect().await.is_err());
}
