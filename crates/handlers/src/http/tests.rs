//! The engine against services that misbehave, on real sockets.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::*;
use crate::{Catalog, Parsed};

const TOKEN: &str = "7|s3cr3t-t0ken-of-ours";
const UUID: &str = "dg0ksw4ow8k4cs0wkk4kscwo";

/// What reached a service: request line, headers in lower case, body.
#[derive(Clone, Debug, Default)]
struct Seen {
    line: String,
    headers: Vec<String>,
    body: String,
}

/// A service that answers each request with the next of `answers`, bytes as they are, and
/// then closes. What it saw is kept.
#[derive(Clone)]
struct Raw {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Raw {
    async fn start(answers: Vec<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let raw = Self {
            address: listener.local_addr().unwrap(),
            seen: Arc::default(),
        };
        let seen = Arc::clone(&raw.seen);
        tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let request = read_request(&mut stream).await;
                seen.lock().unwrap().push(request);
                stream.write_all(answer.as_bytes()).await.unwrap();
                stream.shutdown().await.unwrap();
            }
        });
        raw
    }

    async fn json(status: &str, body: &Value) -> Self {
        Self::start(vec![answer(
            status,
            "content-type: application/json",
            &body.to_string(),
        )])
        .await
    }

    fn lines(&self) -> Vec<String> {
        self.seen
            .lock()
            .unwrap()
            .iter()
            .map(|seen| seen.line.clone())
            .collect()
    }

    fn last(&self) -> Seen {
        self.seen
            .lock()
            .unwrap()
            .last()
            .cloned()
            .unwrap_or_default()
    }
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\n{headers}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

async fn read_request(stream: &mut TcpStream) -> Seen {
    let mut bytes = Vec::new();
    let head = loop {
        assert_ne!(
            stream.read_buf(&mut bytes).await.unwrap(),
            0,
            "the request ended early"
        );
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
    };
    let text = String::from_utf8(bytes[..head].to_vec()).unwrap();
    let mut lines = text.split("\r\n").map(str::to_owned);
    let line = lines.next().unwrap();
    let headers: Vec<String> = lines.map(|line| line.to_lowercase()).collect();
    let length = headers
        .iter()
        .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok())
        .unwrap_or(0);
    while bytes.len() < head + 4 + length {
        assert_ne!(
            stream.read_buf(&mut bytes).await.unwrap(),
            0,
            "the body ended early"
        );
    }
    Seen {
        line,
        headers,
        body: String::from_utf8(bytes[head + 4..].to_vec()).unwrap(),
    }
}

fn coolify(address: SocketAddr, timeout: &str) -> Catalog {
    Catalog::load(&|name| match name {
        "COOLIFY_API_URL" => Some(format!("http://{address}")),
        "COOLIFY_API_TOKEN" => Some(TOKEN.to_owned()),
        "HTTP_TIMEOUT_MS" => Some(timeout.to_owned()),
        _ => None,
    })
    .unwrap()
}

async fn send(catalog: &Catalog, line: &str) -> Result<Value, HandlerError> {
    match catalog.parse_slash(line) {
        Ok(Parsed::Command(command)) => catalog.carry_out(&command).await.map(|answer| answer.data),
        other => panic!("{line}: {other:?}"),
    }
}

async fn ask(raw: &Raw, line: &str) -> Result<Value, HandlerError> {
    send(
        &coolify(raw.address, "10000"),
        &format!("/mcp-coolify {line}"),
    )
    .await
}

#[tokio::test]
async fn servers_are_listed_with_what_the_next_command_needs() {
    let raw = Raw::json(
        "200 OK",
        &json!([{
            "uuid": UUID, "name": "localhost", "ip": "host.docker.internal", "port": 22, "user": "root",
            "settings": {"is_reachable": true, "is_usable": true, "sentinel_token": "x"}, "validation_logs": "…"
        }]),
    )
    .await;
    let data = ask(&raw, "servers list").await.unwrap();
    assert_eq!(
        data,
        json!({"operation": "list_servers", "count": 1, "servers": [{
            "uuid": UUID, "name": "localhost", "ip": "host.docker.internal", "port": 22, "user": "root",
            "is_reachable": true, "is_usable": true,
        }]})
    );
    let seen = raw.last();
    assert_eq!(seen.line, "GET /api/v1/servers HTTP/1.1");
    assert!(
        seen.headers
            .contains(&format!("authorization: bearer {TOKEN}")),
        "{:?}",
        seen.headers
    );
    assert!(
        seen.headers
            .contains(&"accept: application/json".to_owned()),
        "{:?}",
        seen.headers
    );
}
