//! A server of bytes: it answers as it is told, and keeps what it was sent.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// What reached a service: request line, headers in lower case, body.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) line: String,
    pub(super) headers: Vec<String>,
    pub(super) body: String,
}

/// A service that answers each request with the next of `answers`, bytes as they are, and
/// then closes. What it saw is kept.
#[derive(Clone)]
pub(super) struct Raw {
    pub(super) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Raw {
    pub(super) async fn start(answers: Vec<String>) -> Self {
        Self::bytes(answers.into_iter().map(String::into_bytes).collect()).await
    }

    pub(super) async fn bytes(answers: Vec<Vec<u8>>) -> Self {
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
                // Who has heard enough may have gone.
                let _ = stream.write_all(&answer).await;
                let _ = stream.shutdown().await;
            }
        });
        raw
    }

    pub(super) async fn json(status: &str, body: &Value) -> Self {
        Self::start(vec![answer(
            status,
            "content-type: application/json",
            &body.to_string(),
        )])
        .await
    }

    pub(super) fn lines(&self) -> Vec<String> {
        self.seen
            .lock()
            .unwrap()
            .iter()
            .map(|seen| seen.line.clone())
            .collect()
    }

    pub(super) fn last(&self) -> Seen {
        self.seen
            .lock()
            .unwrap()
            .last()
            .cloned()
            .unwrap_or_default()
    }
}

pub(super) fn answer(status: &str, headers: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\n{headers}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

pub(super) async fn read_request(stream: &mut TcpStream) -> Seen {
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
