//! `PUT /execute?command=…`: a command that comes with content, as a body that streams.
//!
//! The command stands in the query and the body is the content, whatever it is. Who asks is
//! known, and the command decided and recorded, before a byte of the body is read; a client
//! that says `Expect: 100-continue` (as curl does) sends none of what is refused. The body
//! goes to the handler as it comes, so that nobody holds all of it; while people are waited
//! for, it stays with the client. A page in a browser
//! cannot send this elsewhere without asking first, which nobody here answers.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use handlers::{Content, ContentError, Parsed};
use http::{Response, StatusCode, header};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::time::Instant;
use tower::BoxError;

use crate::{
    Gateway,
    answer::{self, Body},
    authenticate::{AgentRequest, Peer},
    parse,
    refusal::Refusal,
    service::{DRAINED_BYTES, RequestId},
};

/// A body that brings nothing for so long is given up.
const PATIENCE: Duration = Duration::from_secs(30);

/// No body may take longer, however steadily it comes.
const LONGEST: Duration = Duration::from_hours(2);

/// What is left of the body of a refused command is read for so long: a client that is still
/// sending would otherwise see a broken connection and not the answer.
const DRAINING: Duration = Duration::from_secs(5);

/// What the query says.
struct Asked {
    command: String,
    reason: String,
}

/// What comes with a command, if anything does: handed out once, when it is permitted.
/// However often it is decided until then, none of it is read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unread(Option<Arc<Mutex<Option<Content>>>>);

impl Unread {
    fn new(content: Content) -> Self {
        Self(Some(Arc::new(Mutex::new(Some(content)))))
    }

    pub(crate) fn take(&self) -> Option<Content> {
        let content = self.0.as_ref()?;
        content
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

impl Gateway {
    pub(crate) async fn upload<B>(
        self: &Arc<Self>,
        request: AgentRequest<B>,
    ) -> Result<Response<Body>, Refusal>
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        let AgentRequest { caller, http } = request;
        let peer = http.extensions().get::<Peer>().copied();
        let peer = peer.ok_or(Refusal::Internal)?;
        let headers = http.headers().clone();
        let id = http.extensions().get::<RequestId>();
        let id = id.map_or(Value::Null, |id| Value::from(&*id.0));
        let waits = headers.contains_key(header::EXPECT);
        let asked = Asked::read(http.uri().query().unwrap_or_default());
        let command = asked.and_then(|asked| match self.catalog.parse_slash(&asked.command) {
            Ok(Parsed::Command(command)) if self.catalog.takes_content(&command) => {
                Ok((command, asked.reason))
            }
            Ok(Parsed::Command(command)) => Err(Refusal::invalid(format!(
                "`{}` takes no body: send it with POST",
                command.target.key
            ))),
            Ok(Parsed::Help { .. }) => Err(Refusal::invalid("this is no command")),
            Err(error) => Err(Refusal::Command(error)),
        });
        // Whoever takes the body holds one end, so that what is refused can be read away.
        let (hand, body) = tokio::sync::oneshot::channel();
        let mut length = None;
        let mut patience = None;
        let result = match command {
            Ok((command, reason)) => {
                let body = http.into_body();
                length = body.size_hint().exact();
                let content = Unread::new(content(body, length, hand));
                patience = self.patience(&headers);
                let again = (patience.as_ref(), &headers, peer);
                self.execute(caller, command, reason, content, again).await
            }
            Err(refusal) => {
                tracing::info!(agent.id = %caller.held.principal.agent().id, reason = %refusal, "not a command");
                let _ = hand.send(http.into_body());
                Err(self.admits(&caller).err().unwrap_or(refusal))
            }
        };
        if result.is_err() && !waits && length.is_none_or(|length| length <= DRAINED_BYTES as u64) {
            let _ = tokio::time::timeout(DRAINING, drain(body)).await;
        }
        let mut response = match result {
            Ok(result) => answer::json(
                StatusCode::OK,
                &json!({"jsonrpc": "2.0", "result": result, "id": id}),
            ),
            Err(refusal) => refusal.into_response(&id),
        };
        if let Some(patience) = patience {
            patience.applied(&mut response);
        }
        Ok(response)
    }
}

impl Asked {
    /// Reads `command=…&reason=…`, percent-encoded as forms are.
    fn read(query: &str) -> Result<Self, Refusal> {
        let mut members = BTreeMap::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (Some(name), Some(value)) = (decoded(name), decoded(value)) else {
                return Err(Refusal::invalid("the query is not percent-encoded UTF-8"));
            };
            if !matches!(name.as_str(), "command" | "reason") {
                return Err(Refusal::invalid(
                    "the query may have `command` and `reason` only",
                ));
            }
            if members.insert(name, value).is_some() {
                return Err(Refusal::invalid("the query says the same thing twice"));
            }
        }
        let command = members.remove("command").ok_or_else(|| {
            Refusal::invalid(
                "Command is required: send the body to /execute?command=<percent-encoded /mcp-… command>",
            )
        })?;
        let reason = members.remove("reason").unwrap_or_default();
        Ok(Self {
            command,
            reason: parse::readable(&reason),
        })
    }
}

/// The text, if it is one.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                let (high, low) = (digit(rest.next())?, digit(rest.next())?);
                u8::try_from(high * 16 + low).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

/// The body as it comes. What is left of it when nobody wants more goes to `left`.
fn content<B>(body: B, length: Option<u64>, left: tokio::sync::oneshot::Sender<B>) -> Content
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    let body = Coming {
        body: Some(body),
        left: Some(left),
        until: Instant::now() + LONGEST,
    };
    let chunks = futures_util::stream::unfold(body, |mut body| async move {
        let chunk = body.next().await.transpose()?;
        Some((chunk, body))
    });
    Content::new(length, chunks)
}

struct Coming<B> {
    body: Option<B>,
    left: Option<tokio::sync::oneshot::Sender<B>>,
    until: Instant,
}

impl<B> Coming<B>
where
    B: http_body::Body<Data = Bytes> + Send + Unpin,
{
    async fn next(&mut self) -> Result<Option<Bytes>, ContentError> {
        let until = self.until.min(Instant::now() + PATIENCE);
        loop {
            let Some(body) = &mut self.body else {
                return Ok(None);
            };
            match tokio::time::timeout_at(until, body.frame()).await {
                Err(_) => return Err(ContentError::Slow),
                Ok(None) => return Ok(None),
                Ok(Some(Err(_))) => return Err(ContentError::Broken),
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }
}

impl<B> Drop for Coming<B> {
    fn drop(&mut self) {
        if let (Some(body), Some(left)) = (self.body.take(), self.left.take()) {
            let _ = left.send(body);
        }
    }
}

/// Reads what is left and throws it away.
async fn drain<B>(body: tokio::sync::oneshot::Receiver<B>)
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let Ok(mut body) = body.await else {
        return;
    };
    let mut drained = 0;
    while let Some(Ok(frame)) = body.frame().await {
        drained += frame.data_ref().map_or(0, Bytes::len);
        if drained > DRAINED_BYTES {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use http_body::Frame;
    use http_body_util::{Full, StreamBody};

    use super::*;

    #[tokio::test]
    async fn a_body_that_brings_nothing_is_given_up() {
        let nothing = stream::pending::<Result<Frame<Bytes>, std::io::Error>>();
        let mut silent = Coming {
            body: Some(StreamBody::new(Box::pin(nothing))),
            left: None,
            until: Instant::now(),
        };
        assert_eq!(silent.next().await, Err(ContentError::Slow));
        let broken = stream::iter([Err::<Frame<Bytes>, _>(std::io::Error::other("gone"))]);
        let mut broken = Coming {
            body: Some(StreamBody::new(broken)),
            left: None,
            until: Instant::now() + LONGEST,
        };
        assert_eq!(broken.next().await, Err(ContentError::Broken));
    }

    #[tokio::test]
    async fn what_nobody_wanted_is_there_to_be_read_away() {
        let (hand, left) = tokio::sync::oneshot::channel();
        let mut wanted = content(Full::new(Bytes::from_static(b"all of it")), Some(9), hand);
        assert_eq!(wanted.length(), Some(9));
        let first = wanted.next().await.unwrap();
        assert_eq!(first.as_deref(), Some(&b"all of it"[..]));
        drop(wanted);
        drain(left).await;
    }

    #[test]
    fn the_query_is_read_strictly() {
        let read = |query: &str| Asked::read(query).map(|asked| (asked.command, asked.reason));
        assert_eq!(
            read("command=%2Fmcp-x+put%20a%2Bb+%C3%BC&reason=why").unwrap(),
            ("/mcp-x put a+b \u{fc}".to_owned(), "why".to_owned())
        );
        for wrong in [
            "",
            "reason=x",
            "command=a&command=b",
            "command=a&Command=b",
            "command=%ff",
            "command=%2",
            "command=%zz",
            "command=a&other=b",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
