//! Servers that answer what was not asked, too much, or only half.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::{StreamExt, stream};

use super::{streams::piecewise, *};

const MIB: usize = 1024 * 1024;

/// Two tools, of which agents may see one.
const TWO: &str = r#"[{"name":"secret"},{"name":"look"}]"#;

fn list() -> Request<Full<Bytes>> {
    House::legacy("local", &[], &ask("tools/list", "{}"))
}

/// Whomever an answer says that it is for, a list is a list; and so is the second.
#[tokio::test]
async fn a_list_is_filtered_under_whichever_id_and_however_often_it_comes() {
    let house = House::new().await;
    house.review(TWO);
    for id in ["8", "\"7\"", "null"] {
        let answer = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"tools":{TWO}}}}}"#);
        let json = answer.clone();
        house.script(move |_| Some(ok("application/json", json.clone())));
        let seen = house.send(list()).await;
        assert!(
            seen.text().contains("look") && !seen.text().contains("secret"),
            "{id}: {}",
            seen.text()
        );
        let first = r#"{"jsonrpc":"2.0","id":7,"result":{"tools":[{"name":"look"}]}}"#;
        let events = format!("data: {first}\n\ndata: {answer}\n\ndata: {answer}\n\n");
        house.script(move |_| Some(ok("text/event-stream", events.clone())));
        let seen = house.send(list()).await;
        assert_eq!(seen.events().len(), 3, "{}", seen.text());
        assert!(!seen.text().contains("secret"), "{id}: {}", seen.text());
    }
}

/// Of an event that never ends nothing is seen: what must not be may stand in it.
#[tokio::test]
async fn a_list_that_breaks_off_in_the_middle_shows_no_half_of_it() {
    for broken in [true, false] {
        let house = House::new().await;
        let (pieces, _, script) = piecewise();
        *house.server.script.lock().unwrap() = script;
        let mut body = house.open(list()).await.into_body();
        pieces.send(": still here\n\n").unwrap();
        let first = body.frame().await.unwrap().unwrap();
        assert_eq!(first.into_data().unwrap(), ": still here\n\n");
        pieces
            .send(
                "data: {\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{\"tools\":[{\"name\":\"secret\"},",
            )
            .unwrap();
        if broken {
            pieces.send("BREAK").unwrap();
        }
        drop(pieces);
        match body.frame().await {
            None => assert!(!broken, "the client must see that it is not whole"),
            Some(Err(_)) => assert!(broken),
            Some(Ok(frame)) => panic!("{frame:?}"),
        }
    }
}

/// A server that says `piece` again and again, and how often it could.
fn endless(kind: &'static str, piece: Bytes, most: usize) -> (Script, Arc<AtomicUsize>) {
    let said = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&said);
    let script = move |_: &Seen| {
        let (count, piece) = (Arc::clone(&count), piece.clone());
        let pieces = stream::iter(0..most).map(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            Ok::<_, std::io::Error>(piece.clone())
        });
        Some(ok(kind, AxumBody::from_stream(pieces)))
    };
    (Box::new(script), said)
}

/// An answer without end that is no stream is cut, and so is the connection: the server
/// cannot say the rest.
#[tokio::test]
async fn an_answer_of_a_gigabyte_is_cut_where_it_is_too_long() {
    for (method, params) in [("tools/call", r#"{"name":"look"}"#), ("tools/list", "{}")] {
        let house = House::new().await;
        let (script, said) = endless("application/json", vec![b' '; MIB].into(), 1024);
        *house.server.script.lock().unwrap() = script;
        let request = House::legacy("local", &[], &ask(method, params));
        let (parts, mut body) = house.open(request).await.into_parts();
        let mut read = 0;
        let whole = loop {
            match body.frame().await {
                None => break true,
                Some(Err(_)) => break false,
                Some(Ok(frame)) => read += frame.into_data().unwrap().len(),
            }
        };
        assert!(read <= 16 * MIB, "{method}: {read}");
        if method == "tools/list" {
            assert!(
                whole && read < MIB,
                "{parts:?}: it is an error that is whole"
            );
        } else {
            assert!(!whole, "the client must see that it is not whole");
            drop(body);
            let journal = house.world.end().await;
            assert_eq!(journal.last().unwrap()["status"], "error", "{journal:?}");
        }
        assert!(said.load(Ordering::SeqCst) < 100, "{method}: {said:?} MiB");
    }
}

/// A stream may be as long as it likes: it passes no faster than it is read, so that no
/// more than what lies in sockets is ever kept.
#[tokio::test]
async fn events_wait_for_whoever_reads_them() {
    /// Much more than sockets hold.
    const MANY: usize = 96;
    let house = House::new().await;
    let mut event =
        b"data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{\"data\":\""
            .to_vec();
    event.resize(MIB - 5, b'x');
    event.extend_from_slice(b"\"}}\n\n");
    let (script, said) = endless("text/event-stream", event.into(), MANY);
    *house.server.script.lock().unwrap() = script;
    let request = House::legacy("local", &[], &call("look", "{}"));
    let mut body = house.open(request).await.into_body();
    let (mut read, mut most) = (0, 0);
    while let Some(frame) = body.frame().await {
        read += frame.unwrap().into_data().unwrap().len();
        // The server may go on now, as far as it gets.
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        most = most.max(said.load(Ordering::SeqCst) * MIB - read);
    }
    assert_eq!(read, MANY * MIB);
    assert!(most < 32 * MIB, "{most} bytes were between the two");
}

/// A redirect is not followed, wherever it leads: not even by what the gateway itself asks.
#[tokio::test]
async fn a_redirect_leads_nowhere() {
    let private = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = private.local_addr().unwrap();
    for status in [301, 302, 303, 307, 308] {
        // A new one each time: who fails too often is left alone.
        let house = House::new().await;
        house.script(move |_| {
            let location = [("location", format!("http://{address}/latest/meta-data"))];
            Some((StatusCode::from_u16(status).unwrap(), location).into_response())
        });
        let requests = [
            House::legacy("local", &[], &call("look", "{}")),
            list(),
            House::legacy("local", &[], &ask("initialize", "{}")),
            House::modern("local", "tools/call", json!({"name": "look"}), &[]),
        ];
        for request in requests {
            let answered = house.send(request).await;
            assert!(
                answered.text().contains("redirect"),
                "{status} {answered:?}"
            );
            assert!(!answered.headers.contains_key("location"));
            assert!(!answered.text().contains("meta-data"), "{answered:?}");
        }
        let executed = json!({"command": "/mcp-everything look"}).to_string();
        let headers = [
            ("content-type", "application/json"),
            ("x-agent-id", "local"),
        ];
        let request = World::request(Method::POST, "/execute", &headers, &executed);
        let answered = house.world.send(LOOPBACK, request).await;
        assert!(
            answered.body.to_string().contains("redirect"),
            "{answered:?}"
        );
    }
    let followed = futures_util::FutureExt::now_or_never(private.accept());
    assert!(followed.is_none(), "somebody came: {followed:?}");
}

/// What a server says that is no message of the protocol reaches the client as it is, and
/// no list is made of it; the journal says that it ended.
#[tokio::test]
async fn frames_that_are_no_messages_pass_and_mean_nothing() {
    let house = House::new().await;
    for body in [
        "{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":",
        "null",
        "[]",
        "\u{0}\u{1}",
        "{\"jsonrpc\":\"1.0\"}",
    ] {
        house.script(move |_| Some(ok("application/json", body)));
        let answered = house.call("local", "look", "{}").await;
        assert_eq!((answered.status, answered.text()), (StatusCode::OK, body));
        let events = format!("data: {body}\n\nid\n\n:\n\n\u{feff}data\n\n");
        let expected = events.clone();
        house.script(move |_| Some(ok("text/event-stream", events.clone())));
        let answered = house.call("local", "look", "{}").await;
        assert_eq!(answered.text(), expected);
    }
}

/// Clients may take for a stream what is none by its name, and skip what stands before it.
#[tokio::test]
async fn no_other_name_or_mark_hides_a_list() {
    let house = House::new().await;
    house.review(TWO);
    let answer = format!(r#"{{"jsonrpc":"2.0","id":7,"result":{{"tools":{TWO}}}}}"#);
    let opened = house.post("local", &ask("initialize", "{}")).await;
    let session = opened.headers["mcp-session-id"].to_str().unwrap();
    for (kind, mark) in [
        ("text/event-stream", "\u{feff}"),
        ("text/event-stream", "\u{feff}\u{feff}"),
        ("text/event-stream", "\u{ef}\u{bb}\u{bf}"),
        ("text/event-stream; charset=utf-16", ""),
        ("application/json; text/event-stream", ""),
        ("text/plain", ""),
        ("", ""),
    ] {
        let events = format!("{mark}data: {answer}\n\n");
        house.script(move |_| Some(ok(kind, events.clone())));
        let listening = [
            ("x-agent-id", "local"),
            ("accept", "text/event-stream"),
            ("mcp-session-id", session),
        ];
        for request in [list(), House::request(Method::GET, &listening, "")] {
            let method = request.method().clone();
            let body = house.open(request).await.into_body();
            let seen = read_all(body).await;
            assert!(
                !seen.contains("secret"),
                "{method} {kind:?} {mark:?}: {seen}"
            );
            assert_eq!(
                seen.contains("look"),
                kind == "text/event-stream",
                "{method} {kind:?} {mark:?}: {seen}"
            );
        }
    }
}

async fn read_all(mut body: Body) -> String {
    let mut seen = String::new();
    while let Some(Ok(frame)) = body.frame().await {
        seen += std::str::from_utf8(&frame.into_data().unwrap()).unwrap();
    }
    seen
}
