//! The gateway's door for MCP on standard input and output, for clients that only start
//! programs.
//!
//! A line that the client writes becomes a POST, and whatever the gateway answers, in
//! however many events, becomes lines. What HTTP wants besides the message comes from the
//! message: the session and version of the older revisions, the headers of the newest.
//! Messages pass as they are; one is made up only where the gateway gave none.

mod exchange;
mod headers;
mod stream;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context;
use handlers::jsonrpc::{self, Kind};
use http::HeaderValue;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    sync::mpsc,
    task::{AbortHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;

pub(crate) use self::exchange::Way;
use self::headers::Mirrored;

/// The longest message, in bytes, either way.
const MAX_MESSAGE_BYTES: usize = 64 << 20;

/// How long what is under way may take once the client has hung up.
const LINGER: Duration = Duration::from_secs(2);

/// Carries messages between a client and the gateway.
pub(crate) struct Bridge {
    way: Way,
    state: Mutex<State>,
    /// One session is opened at a time.
    opening: tokio::sync::Mutex<()>,
    lines: mpsc::Sender<Vec<u8>>,
}

/// What a client of the older revisions opened, and what is under way.
#[derive(Default)]
struct State {
    /// The message that opened the session.
    opened_by: Option<Vec<u8>>,
    session: Option<HeaderValue>,
    version: Option<HeaderValue>,
    /// The stream of what the server says by itself.
    listening: Option<AbortHandle>,
    /// By the exact text of their ids.
    running: HashMap<String, AbortHandle>,
    mirrored: Mirrored,
}

/// Carries messages until the client hangs up or `ended` says so.
///
/// # Errors
///
/// When input or output break in another way than by being closed.
pub(crate) async fn run(
    way: Way,
    input: impl AsyncRead + Unpin,
    output: impl AsyncWrite + Unpin + Send + 'static,
    ended: CancellationToken,
) -> anyhow::Result<()> {
    let (lines, written) = mpsc::channel(64);
    let writing = tokio::spawn(write(output, written, ended.clone()));
    let bridge = Arc::new(Bridge {
        way,
        state: Mutex::default(),
        opening: tokio::sync::Mutex::default(),
        lines,
    });
    let mut tasks = JoinSet::new();
    let read = bridge.read(input, &mut tasks, &ended).await;
    let finish = async { while tasks.join_next().await.is_some() {} };
    tokio::select! {
        () = finish => {}
        () = tokio::time::sleep(LINGER) => {}
        () = ended.cancelled() => {}
    }
    tasks.shutdown().await;
    bridge.close().await;
    drop(bridge);
    read?;
    writing.await?
}

/// Writes lines until there are no more.
async fn write(
    mut output: impl AsyncWrite + Unpin,
    mut lines: mpsc::Receiver<Vec<u8>>,
    ended: CancellationToken,
) -> anyhow::Result<()> {
    while let Some(line) = lines.recv().await {
        let written = async {
            output.write_all(&line).await?;
            output.flush().await
        };
        match written.await {
            Ok(()) => {}
            // The client is gone, and with it all reason to go on.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {
                ended.cancel();
                return Ok(());
            }
            Err(error) => {
                ended.cancel();
                return Err(error).context("standard output");
            }
        }
    }
    Ok(())
}

impl Bridge {
    async fn read(
        self: &Arc<Self>,
        input: impl AsyncRead + Unpin,
        tasks: &mut JoinSet<()>,
        ended: &CancellationToken,
    ) -> anyhow::Result<()> {
        let mut input = BufReader::new(input);
        let mut line = Vec::new();
        loop {
            line.clear();
            let mut limited = (&mut input).take(MAX_MESSAGE_BYTES as u64 + 1);
            let read = tokio::select! {
                read = limited.read_until(b'\n', &mut line) => read.context("standard input")?,
                () = ended.cancelled() => return Ok(()),
            };
            if read == 0 {
                return Ok(());
            }
            anyhow::ensure!(
                line.len() <= MAX_MESSAGE_BYTES,
                "a message is longer than {MAX_MESSAGE_BYTES} bytes"
            );
            while tasks.try_join_next().is_some() {}
            let message = line.trim_ascii();
            if !message.is_empty() {
                tokio::select! {
                    () = self.take(message, tasks) => {}
                    () = ended.cancelled() => return Ok(()),
                }
            }
        }
    }

    /// Takes one message of the client.
    async fn take(self: &Arc<Self>, message: &[u8], tasks: &mut JoinSet<()>) {
        let scanned = match jsonrpc::scan(message) {
            Ok(scanned) => scanned,
            Err(error) => {
                let code = if error.is_syntax() { -32700 } else { -32600 };
                self.say_error("null", code, &error.to_string()).await;
                return;
            }
        };
        match &scanned.kind {
            Kind::Request { .. } => {
                let id = scanned.id.unwrap_or("null").to_owned();
                let bridge = Arc::clone(self);
                let message = message.to_vec();
                let known = id.clone();
                let task = tasks.spawn(async move {
                    bridge.request(&message, &known).await;
                    bridge.state().running.remove(&known);
                });
                self.state().running.insert(id, task);
            }
            Kind::Notification { method } => {
                if method == "notifications/cancelled" && self.state().opened_by.is_none() {
                    // In the newest revision, hanging up is how HTTP cancels.
                    let cancelled = scanned.params.raw("requestId").unwrap_or_default();
                    if let Some(task) = self.state().running.remove(cancelled) {
                        task.abort();
                    }
                    return;
                }
                self.notify(message).await;
                if method == "notifications/initialized" {
                    self.listen();
                }
            }
            Kind::Response { .. } => self.notify(message).await,
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A message for the client, on a line of its own.
    async fn say(&self, message: &[u8]) {
        let mut line: Vec<u8> = message
            .iter()
            // Between the values of a text, a line's end is but a space; inside of one it
            // cannot be.
            .map(|&byte| {
                if matches!(byte, b'\n' | b'\r') {
                    b' '
                } else {
                    byte
                }
            })
            .collect();
        line.push(b'\n');
        // Nobody reads any more: the end is near anyway.
        let _ = self.lines.send(line).await;
    }

    /// An answer that the gateway did not give; `id` is the exact text of one.
    async fn say_error(&self, id: &str, code: i32, message: &str) {
        let message = serde_json::Value::from(message);
        let error = format!(
            r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":{message}}}}}"#
        );
        self.say(error.as_bytes()).await;
    }
}
