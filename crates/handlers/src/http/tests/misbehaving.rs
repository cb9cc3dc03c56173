//! Vendors that send an agent elsewhere, or answer with what is none: pages, bombs, halves,
//! too much, too slowly.

use serde_json::json;

use super::*;

/// Sees whether anybody connects.
async fn trap() -> (TcpListener, SocketAddr) {
    let trap = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = trap.local_addr().unwrap();
    (trap, address)
}

fn nobody_came(trap: &TcpListener) -> bool {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    trap.poll_accept(&mut context).is_pending()
}

#[tokio::test]
async fn no_redirect_is_followed_wherever_it_leads() {
    let (trap, address) = trap().await;
    let places = [
        format!("http://{address}/"),
        format!("http://127.1:{}/", address.port()),
        format!("http://2130706433:{}/", address.port()),
        format!("http://[::ffff:127.0.0.1]:{}/", address.port()),
        format!("http://localhost:{}/hunter2", address.port()),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        "http://10.0.0.1/".to_owned(),
        "http://[fe80::1]/".to_owned(),
        "https://elsewhere.example/hunter2".to_owned(),
        "//elsewhere.example/".to_owned(),
        // Even to itself: what was decided is one request.
        "/api/v1/applications".to_owned(),
        "file:///etc/passwd".to_owned(),
        "\u{1}".to_owned(),
    ];
    let statuses = [
        "301 Moved Permanently",
        "302 Found",
        "303 See Other",
        "307 Temporary Redirect",
        "308 Permanent Redirect",
        "300 Multiple Choices",
    ];
    for (at, place) in places.iter().enumerate() {
        let status = statuses[at % statuses.len()];
        for line in [
            "servers list".to_owned(),
            format!("applications start {UUID}"),
        ] {
            let headers = format!("location: {place}\r\nrefresh: 0; url=http://{address}/");
            let raw = Raw::start(vec![answer(status, &headers, "<html>hunter2")]).await;
            let error = ask(&raw, &line).await.unwrap_err();
            let shown = format!("{error} {error:?}");
            if place == "\u{1}" {
                assert!(matches!(error, HandlerError::Broken { .. }), "{shown}");
            } else {
                assert!(matches!(error, HandlerError::Failed { .. }), "{shown}");
                assert!(shown.contains("redirects"), "{place}: {shown}");
            }
            assert!(
                !shown.contains("hunter2") && !shown.contains("elsewhere"),
                "{shown}"
            );
            assert_eq!(raw.lines().len(), 1, "{place}");
        }
    }
    assert!(nobody_came(&trap));
}

/// 300 kB of spaces between brackets: a list without items, if somebody unpacks it.
const BOMB: &str = "1f8b0800000000000203edc1010d00000c02a02aefe5debf863d1c90030000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000080215fc1dbfbe9e2930400";

#[tokio::test]
async fn nothing_is_unpacked() {
    let bomb = hex::decode(BOMB).unwrap();
    let packed = |headers: &str| {
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{headers}content-length: {}\r\n\r\n",
            bomb.len()
        );
        [head.as_bytes(), &bomb].concat()
    };
    let chunked = |encoding: &str| {
        let head = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: {encoding}\r\n\r\n");
        let size = format!("{:x}\r\n", bomb.len());
        [head.as_bytes(), size.as_bytes(), &bomb, b"\r\n0\r\n\r\n"].concat()
    };
    let cases = [
        (packed("content-encoding: gzip\r\n"), "compressed"),
        (packed("Content-Encoding: x-gzip\r\n"), "compressed"),
        (packed("content-encoding: GZIP, identity\r\n"), "compressed"),
        (packed("content-encoding: br\r\n"), "compressed"),
        (packed("content-encoding: deflate\r\n"), "compressed"),
        (packed("content-encoding: zstd\r\n"), "compressed"),
        // It may also not say so.
        (packed(""), "not JSON"),
        (packed("x-content-encoding: gzip\r\n"), "not JSON"),
        (chunked("gzip, chunked"), "not JSON"),
    ];
    for (bytes, says) in cases {
        let raw = Raw::bytes(vec![bytes]).await;
        let error = ask(&raw, "servers list").await.unwrap_err();
        assert!(
            matches!(&error, HandlerError::Failed { message, .. } if message.contains(says)),
            "{says}: {error:?}"
        );
    }
    // Also not of what explains a failure.
    let refusal = [
        b"HTTP/1.1 404 Not Found\r\ncontent-encoding: gzip\r\nconnection: close\r\n\r\n".as_slice(),
        &bomb,
    ];
    let raw = Raw::bytes(vec![refusal.concat()]).await;
    let error = ask(&raw, "servers list").await.unwrap_err();
    assert!(error.to_string().contains("compressed"), "{error:?}");
}

#[tokio::test]
async fn of_a_page_nothing_is_passed_on() {
    let page = "<!DOCTYPE html><title>Sign in</title><p>hunter2</p>";
    let statuses = [
        "200 OK",
        "400 Bad Request",
        "401 Unauthorized",
        "403 Forbidden",
        "404 Not Found",
        "409 Conflict",
        "418 Teapot",
        "422 Unprocessable Content",
        "500 Internal Server Error",
        "502 Bad Gateway",
    ];
    for status in statuses {
        for kind in ["text/html", "application/json", "application/xhtml+xml"] {
            let headers = format!("content-type: {kind}");
            let raw = Raw::start(vec![answer(status, &headers, page); 3]).await;
            let error = ask(&raw, "servers list").await.unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(
                !shown.contains("hunter2") && !shown.contains("Sign in"),
                "{shown}"
            );
        }
    }
    // A command that answers text gets none of it either, and one that changes something
    // does not take it for a confirmation.
    for line in ["get-version".to_owned(), format!("servers cleanup {UUID}")] {
        let raw = Raw::start(vec![answer("200 OK", "x-a: b", &format!("\n \t{page}"))]).await;
        let error = ask(&raw, &line).await.unwrap_err();
        assert!(error.to_string().contains("web page"), "{line}: {error}");
    }
}

#[tokio::test]
async fn too_much_is_given_up() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
    let json = |body: &str| answer("200 OK", "content-type: application/json", body);
    let cases: [(Vec<u8>, &str); 9] = [
        (
            format!("{head}content-length: 9223372036854775807\r\n\r\n[").into(),
            "longer than",
        ),
        (
            format!("{head}content-length: 99999999999999999999\r\n\r\n[").into(),
            "no answer",
        ),
        (
            format!("{head}content-length: 2\r\ncontent-length: 3\r\n\r\n[]").into(),
            "no answer",
        ),
        (
            format!("{head}transfer-encoding: chunked\r\n\r\nffffffffffffffff\r\n[").into(),
            "ended early",
        ),
        (
            format!("{head}x: {}\r\n\r\n[]", "y".repeat(2 << 20)).into(),
            "no answer",
        ),
        (
            format!("{head}{}\r\n[]", "x: y\r\n".repeat(10_000)).into(),
            "no answer",
        ),
        (
            format!("{head}connection: close\r\n\r\n{}", " ".repeat(5 << 20)).into(),
            "longer than",
        ),
        // Deep enough to overflow a stack that follows it.
        (json(&"[".repeat(1 << 20)).into(), "not JSON"),
        (
            json(&format!(
                "{}1{}",
                "{\"a\":".repeat(1_000),
                "}".repeat(1_000)
            ))
            .into(),
            "not JSON",
        ),
    ];
    for (bytes, says) in cases {
        let raw = Raw::bytes(vec![bytes]).await;
        let error = ask(&raw, "servers list").await.unwrap_err();
        assert!(error.to_string().contains(says), "{says}: {error:?}");
    }
    // What explains a failure is no longer than an answer.
    let raw = Raw::start(vec![answer(
        "404 Not Found",
        "x-a: b",
        &" ".repeat(5 << 20),
    )])
    .await;
    let error = ask(&raw, "servers list").await.unwrap_err();
    assert!(error.to_string().contains("longer than"), "{error:?}");
    // And what it says is one line.
    let long = json!({"message": format!("no\r\nX-Injected: y\u{1b}[2J{}", "z".repeat(1 << 20))});
    let raw = Raw::json("400 Bad Request", &long).await;
    let error = ask(&raw, "servers list").await.unwrap_err();
    let HandlerError::Rejected { message, .. } = &error else {
        panic!("{error:?}")
    };
    assert!(
        message.chars().count() <= 600 && !message.contains(char::is_control),
        "{message}"
    );
}

/// Sends `head` and then `piece` again and again until nobody listens.
async fn endless(head: &'static str, piece: &'static str) -> SocketAddr {
    let (listener, address) = trap().await;
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_request(&mut stream).await;
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut pace = tokio::time::interval(Duration::from_millis(5));
        while stream.write_all(piece.as_bytes()).await.is_ok() {
            pace.tick().await;
        }
    });
    address
}

#[tokio::test]
async fn who_is_slow_is_given_up_however_busy_it_looks() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
    let cases = [
        // Every piece comes in time, and the whole never does.
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            "1\r\n \r\n",
        ),
        ("HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n", " "),
        ("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n", " "),
        ("HTTP/1.1 200 OK\r\nx: ", "y"),
        (head, "x: y\r\n"),
        (
            "HTTP/1.1 103 Early Hints\r\n\r\n",
            "HTTP/1.1 100 Continue\r\n\r\n",
        ),
        ("", "H"),
    ];
    for (head, piece) in cases {
        let catalog = coolify(endless(head, piece).await, "120");
        let begun = std::time::Instant::now();
        let error = send(&catalog, "/mcp-coolify servers list")
            .await
            .unwrap_err();
        // Whoever writes no HTTP at all may be found out before.
        let found_out = matches!(error, HandlerError::Broken { .. }) && !head.contains("200");
        assert!(
            found_out || matches!(error, HandlerError::Timeout { .. }),
            "{head:?}: {error:?}"
        );
        assert!(begun.elapsed() < Duration::from_secs(20), "{head:?}");
    }
}

#[tokio::test]
async fn half_an_answer_is_none() {
    let whole = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n2\r\n[]\r\n0\r\n\r\n";
    let raw = Raw::start(vec![whole.to_owned()]).await;
    assert_eq!(ask(&raw, "servers list").await.unwrap()["count"], json!(0));
    // Wherever it ends before its end, the command is not taken for done.
    for end in 0..whole.len() - 1 {
        let raw = Raw::start(vec![whole[..end].to_owned()]).await;
        let error = ask(&raw, "servers list").await.unwrap_err();
        assert!(
            matches!(error, HandlerError::Broken { .. }),
            "{:?}: {error:?}",
            &whole[..end]
        );
    }
    // Nor is it sent again: nobody knows what was done.
    let raw = Raw::start(vec![whole[..whole.len() - 9].to_owned(); 3]).await;
    let error = ask(&raw, &format!("applications start {UUID}"))
        .await
        .unwrap_err();
    assert!(matches!(error, HandlerError::Broken { .. }), "{error:?}");
    assert_eq!(raw.lines().len(), 1);
}
