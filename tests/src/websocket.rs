//! A WebSocket client that waits for events.

use anyhow::Context;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream,
    tungstenite::{Message, client::IntoClientRequest, http::HeaderValue},
};

/// One connection to `/ws`.
pub struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Socket {
    /// Connects. `base` is the orchestrator's `http://…` address; `query` may be empty.
    ///
    /// # Errors
    ///
    /// When the orchestrator refuses the upgrade; the error names its status.
    pub async fn connect(
        base: &str,
        query: &str,
        headers: &[(&'static str, &str)],
    ) -> anyhow::Result<Self> {
        let url = format!("{}/ws{query}", base.replacen("http", "ws", 1));
        let mut request = url.into_client_request()?;
        for (name, value) in headers {
            request
                .headers_mut()
                .insert(*name, HeaderValue::from_str(value)?);
        }
        let (stream, _) = crate::soon(
            "the WebSocket opens",
            tokio_tungstenite::connect_async(request),
        )
        .await??;
        Ok(Self { stream })
    }

    /// The next event.
    ///
    /// # Errors
    ///
    /// When the connection ends, or nothing comes.
    pub async fn next(&mut self) -> anyhow::Result<Value> {
        loop {
            let message = crate::soon("a WebSocket event", self.stream.next())
                .await?
                .context("the WebSocket ended")??;
            if let Message::Text(text) = message {
                return Ok(serde_json::from_str(&text)?);
            }
        }
    }

    /// The next event of this type, passing over others.
    ///
    /// # Errors
    ///
    /// As [`Socket::next`].
    pub async fn event(&mut self, kind: &str) -> anyhow::Result<Value> {
        loop {
            let event = self.next().await?;
            if event["type"] == kind {
                return Ok(event);
            }
        }
    }

    /// Sends a credential as the first frame.
    ///
    /// # Errors
    ///
    /// When the connection broke.
    pub async fn authenticate(&mut self, token: &str) -> anyhow::Result<()> {
        let frame = json!({"type": "authenticate", "token": token}).to_string();
        Ok(self.stream.send(Message::text(frame)).await?)
    }
}
