//! Real ports: what is answered on them, and how they end.

use super::*;

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
