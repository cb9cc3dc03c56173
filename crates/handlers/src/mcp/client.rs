//! Our own client: asks an upstream for its tools and calls them, in either era.
//!
//! It begins with `server/discover` of 2026-07-28; a server that does not know it gets
//! `initialize` and a session of ours. It offers nothing: neither sampling nor elicitation.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use authz::CommandName;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use serde::Deserialize;
use serde_json::{Map, Value, json, value::RawValue};
use tokio::sync::Mutex;

use super::{
    events::Events,
    tools::{MAX_BYTES, MAX_TOOLS, Tool},
    upstream::{Body, Upstream},
};
use crate::HandlerError;

/// The revision of the protocol without sessions.
const MODERN: &str = "2026-07-28";

/// Those with sessions, newest first.
const LEGACY: [&str; 3] = ["2025-11-25", "2025-06-18", "2025-03-26"];

/// A list of tools has at most so many pages.
const MAX_PAGES: usize = 64;

const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
const METHOD: HeaderName = HeaderName::from_static("mcp-method");
const NAME: HeaderName = HeaderName::from_static("mcp-name");

/// A tool as it stands in a list.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) name: String,
    pub(super) written: Box<RawValue>,
}

/// Our side of the conversation with one upstream.
#[derive(Debug)]
pub(super) struct Client {
    service: String,
    /// How long one exchange may take, to its end.
    timeout: Duration,
    /// Longer answers are an error, in bytes.
    limit: usize,
    connection: ArcSwapOption<Connection>,
    /// Held by the one who connects.
    connecting: Mutex<()>,
    next: AtomicU64,
}

/// How an upstream wants to be spoken to.
#[derive(Debug)]
enum Connection {
    Modern,
    Legacy {
        version: &'static str,
        session: Option<HeaderValue>,
    },
}

/// Why there is no result.
#[derive(Debug)]
enum Failure {
    /// No answer, or none of the protocol.
    Handler(HandlerError),
    /// An error of the protocol.
    Protocol { code: i64, message: String },
    /// An answer that is none of the protocol's: what an older server says to a newer client.
    Status(StatusCode),
}

impl From<HandlerError> for Failure {
    fn from(error: HandlerError) -> Self {
        Self::Handler(error)
    }
}

/// What an upstream may send.
#[derive(Deserialize)]
struct Message {
    id: Option<Value>,
    method: Option<String>,
    result: Option<Box<RawValue>>,
    error: Option<ProtocolError>,
}

#[derive(Deserialize)]
struct ProtocolError {
    #[serde(default)]
    code: i64,
    #[serde(default)]
    message: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    tools: Vec<Box<RawValue>>,
    next_cursor: Option<String>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

/// One request of ours.
struct Asked<'a> {
    method: &'static str,
    /// What `Mcp-Name` repeats.
    name: Option<&'a str>,
    params: Map<String, Value>,
    /// `Mcp-Param-…`.
    mirrored: Vec<(HeaderName, HeaderValue)>,
}

impl Asked<'_> {
    fn new(method: &'static str, params: Value) -> Self {
        let params = match params {
            Value::Object(params) => params,
            _ => Map::new(),
        };
        Self {
            method,
            name: None,
            params,
            mirrored: Vec::new(),
        }
    }
}

impl Client {
    pub(super) fn new(service: &str, timeout: Duration, limit: usize) -> Self {
        Self {
            service: service.to_owned(),
            timeout,
            limit,
            connection: ArcSwapOption::empty(),
            connecting: Mutex::new(()),
            next: AtomicU64::new(1),
        }
    }

    /// Every tool, on however many pages.
    pub(super) async fn list(&self, upstream: &Upstream) -> Result<Vec<Listed>, HandlerError> {
        let mut tools: Vec<Listed> = Vec::new();
        let mut cursor: Option<String> = None;
        for _ in 0..MAX_PAGES {
            let params = cursor
                .as_ref()
                .map_or(json!({}), |cursor| json!({"cursor": cursor}));
            let result = self.ask(upstream, Asked::new("tools/list", params)).await?;
            let page: Page = serde_json::from_str(result.get())
                .map_err(|_| self.failed("its list of tools cannot be read"))?;
            for written in page.tools {
                // One without a name is none; the others are.
                if let Ok(Named { name }) = serde_json::from_str(written.get()) {
                    tools.push(Listed { name, written });
                }
            }
            let bytes: usize = tools.iter().map(|tool| tool.written.get().len()).sum();
            if tools.len() > MAX_TOOLS || bytes > MAX_BYTES {
                return Err(self.failed(&format!(
                    "it has more than {MAX_TOOLS} tools, or {MAX_BYTES} bytes of them"
                )));
            }
            match page.next_cursor {
                None => return Ok(tools),
                same if same == cursor => break,
                next => cursor = next,
            }
        }
        Err(self.failed("its list of tools does not end"))
    }

    /// The result of one tool.
    pub(super) async fn call(
        &self,
        upstream: &Upstream,
        name: &CommandName,
        tool: Option<&Tool>,
        arguments: &Map<String, Value>,
    ) -> Result<Map<String, Value>, HandlerError> {
        let schema = tool.and_then(|tool| tool.definition.value().get("inputSchema"));
        let asked = Asked {
            name: Some(name.as_str()),
            mirrored: schema
                .map(|schema| mirrored(schema, arguments))
                .unwrap_or_default(),
            ..Asked::new("tools/call", json!({"name": name, "arguments": arguments}))
        };
        let result = self.ask(upstream, asked).await?;
        serde_json::from_str(result.get()).map_err(|_| self.failed("its result cannot be read"))
    }

    async fn ask(
        &self,
        upstream: &Upstream,
        asked: Asked<'_>,
    ) -> Result<Box<RawValue>, HandlerError> {
        let exchange = async {
            let connection = self.connected(upstream).await?;
            match self.exchange(upstream, &connection, &asked).await {
                // Our session has ended: nothing was done, so it is asked again in a new one.
                Err(Failure::Status(StatusCode::NOT_FOUND))
                    if matches!(
                        &*connection,
                        Connection::Legacy {
                            session: Some(_),
                            ..
                        }
                    ) =>
                {
                    self.leave(&connection);
                    let connection = self.connected(upstream).await?;
                    self.exchange(upstream, &connection, &asked).await
                }
                // It may be another server by now.
                Err(failure @ (Failure::Status(_) | Failure::Protocol { code: -32022, .. })) => {
                    self.leave(&connection);
                    Err(failure)
                }
                other => other,
            }
        };
        match tokio::time::timeout(self.timeout, exchange).await {
            Ok(result) => result.map_err(|failure| self.told(failure)),
            Err(_) => Err(HandlerError::Timeout {
                service: self.service.clone(),
                after: self.timeout,
            }),
        }
    }

    /// Forgets how the upstream was spoken to: it may be another one.
    pub(super) fn begin_anew(&self) {
        self.connection.store(None);
    }

    fn leave(&self, connection: &Arc<Connection>) {
        let current = self.connection.load_full();
        if current.is_some_and(|current| Arc::ptr_eq(&current, connection)) {
            self.connection.store(None);
        }
    }

    async fn connected(&self, upstream: &Upstream) -> Result<Arc<Connection>, Failure> {
        if let Some(connection) = self.connection.load_full() {
            return Ok(connection);
        }
        let _connecting = self.connecting.lock().await;
        if let Some(connection) = self.connection.load_full() {
            return Ok(connection);
        }
        let connection = Arc::new(self.connect(upstream).await?);
        self.connection.store(Some(Arc::clone(&connection)));
        Ok(connection)
    }

    async fn connect(&self, upstream: &Upstream) -> Result<Connection, Failure> {
        let discover = Asked::new("server/discover", json!({}));
        match self
            .exchange(upstream, &Connection::Modern, &discover)
            .await
        {
            Ok(result) => {
                let told: Value = serde_json::from_str(result.get()).unwrap_or_default();
                let supported = told.get("supportedVersions").and_then(Value::as_array);
                if supported.is_some_and(|versions| versions.iter().any(|one| one == MODERN)) {
                    return Ok(Connection::Modern);
                }
            }
            Err(Failure::Handler(error)) => return Err(error.into()),
            Err(Failure::Protocol { .. } | Failure::Status(_)) => {}
        }
        let [newest, ..] = LEGACY;
        let initialize = Asked::new(
            "initialize",
            json!({
                "protocolVersion": newest,
                "capabilities": {},
                "clientInfo": client_info(),
            }),
        );
        let opening = Connection::Legacy {
            version: newest,
            session: None,
        };
        let (result, session) = self
            .exchange_with_session(upstream, &opening, &initialize)
            .await?;
        let told: Value = serde_json::from_str(result.get()).unwrap_or_default();
        let version = told
            .get("protocolVersion")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let Some(version) = LEGACY.into_iter().find(|known| *known == version) else {
            return Err(self
                .failed("it speaks no revision of the protocol that we do")
                .into());
        };
        let connection = Connection::Legacy { version, session };
        let initialized = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        let request = self.request(
            &connection,
            &initialized,
            "notifications/initialized",
            None,
            &[],
        )?;
        let response = upstream.send(None, request).await?;
        if !response.status().is_success() {
            return Err(Failure::Status(response.status()));
        }
        Ok(connection)
    }

    async fn exchange(
        &self,
        upstream: &Upstream,
        connection: &Connection,
        asked: &Asked<'_>,
    ) -> Result<Box<RawValue>, Failure> {
        let exchange = self.exchange_with_session(upstream, connection, asked);
        exchange.await.map(|(result, _)| result)
    }

    /// One request and its answer, with the session that it was answered in.
    async fn exchange_with_session(
        &self,
        upstream: &Upstream,
        connection: &Connection,
        asked: &Asked<'_>,
    ) -> Result<(Box<RawValue>, Option<HeaderValue>), Failure> {
        // No id of a client's, should anybody ever look for whose a message was.
        let id = Value::from(format!(
            "cedargate-{}",
            self.next.fetch_add(1, Ordering::Relaxed)
        ));
        let mut params = asked.params.clone();
        if matches!(connection, Connection::Modern) {
            let meta = json!({
                "io.modelcontextprotocol/protocolVersion": MODERN,
                "io.modelcontextprotocol/clientCapabilities": {},
                "io.modelcontextprotocol/clientInfo": client_info(),
            });
            params.insert("_meta".to_owned(), meta);
        }
        let message = json!({"jsonrpc": "2.0", "id": id, "method": asked.method, "params": params});
        let request = self.request(
            connection,
            &message,
            asked.method,
            asked.name,
            &asked.mirrored,
        )?;
        let response = upstream.send(None, request).await?;
        let (parts, body) = response.into_parts();
        let session = parts.headers.get(SESSION).cloned();
        let kind = parts
            .headers
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let message = if kind.starts_with("text/event-stream") && parts.status.is_success() {
            self.among_events(upstream, connection, body, &id).await?
        } else {
            let body = self.whole(body).await?;
            match serde_json::from_slice::<Message>(&body) {
                // An older server refuses what it does not know with an id of its own choice.
                Ok(message) if message.error.is_some() || message.id.as_ref() == Some(&id) => {
                    message
                }
                Ok(_) if parts.status.is_success() => {
                    return Err(self.failed("it answered another request than ours").into());
                }
                _ => return Err(Failure::Status(parts.status)),
            }
        };
        // Of a session that is gone, whatever the body says.
        if parts.status == StatusCode::NOT_FOUND {
            return Err(Failure::Status(parts.status));
        }
        match (message.result, message.error) {
            (Some(result), None) => Ok((result, session)),
            (_, Some(error)) => Err(Failure::Protocol {
                code: error.code,
                message: error.message.chars().take(1024).collect(),
            }),
            (None, None) => Err(self.failed("it answered without a result").into()),
        }
    }

    /// The answer among what else a stream says.
    async fn among_events(
        &self,
        upstream: &Upstream,
        connection: &Connection,
        body: Body,
        id: &Value,
    ) -> Result<Message, Failure> {
        let mut events = Events::new(body, &self.service, self.limit);
        while let Some(data) = events.next().await? {
            let Ok(message) = serde_json::from_slice::<Message>(&data) else {
                return Err(self.failed("it sent an event that is no message").into());
            };
            match (&message.method, &message.id) {
                (None, Some(answered)) if answered == id => return Ok(message),
                // A server that asks us waits for an answer; this one never says more.
                (Some(method), Some(asked)) => {
                    self.decline(upstream, connection, method, asked).await?;
                }
                _ => {}
            }
        }
        Err(Failure::Handler(HandlerError::Broken {
            service: self.service.clone(),
            reason: "its answer ended early".to_owned(),
        }))
    }

    async fn decline(
        &self,
        upstream: &Upstream,
        connection: &Connection,
        method: &str,
        id: &Value,
    ) -> Result<(), Failure> {
        let answer = if method == "ping" {
            json!({"jsonrpc": "2.0", "id": id, "result": {}})
        } else {
            json!({"jsonrpc": "2.0", "id": id, "error": {"code": -32601, "message": "not offered"}})
        };
        let request = self.request(connection, &answer, "", None, &[])?;
        upstream.send(None, request).await?;
        Ok(())
    }

    fn request(
        &self,
        connection: &Connection,
        message: &Value,
        method: &str,
        name: Option<&str>,
        mirrored: &[(HeaderName, HeaderValue)],
    ) -> Result<Request<Bytes>, HandlerError> {
        let mut request = Request::new(Bytes::from(message.to_string()));
        *request.method_mut() = Method::POST;
        let headers = request.headers_mut();
        let both = HeaderValue::from_static("application/json, text/event-stream");
        headers.insert(header::ACCEPT, both);
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        match connection {
            Connection::Modern => {
                headers.insert(VERSION, HeaderValue::from_static(MODERN));
                let text = |text: &str| {
                    HeaderValue::from_str(text)
                        .map_err(|_| self.failed("a name that no header can hold"))
                };
                headers.insert(METHOD, text(method)?);
                if let Some(name) = name {
                    headers.insert(NAME, text(name)?);
                }
                for (name, value) in mirrored {
                    headers.insert(name, value.clone());
                }
            }
            Connection::Legacy { version, session } => {
                if method != "initialize" {
                    headers.insert(VERSION, HeaderValue::from_static(version));
                }
                if let Some(session) = session {
                    headers.insert(SESSION, session.clone());
                }
            }
        }
        Ok(request)
    }

    async fn whole(&self, body: Body) -> Result<Bytes, HandlerError> {
        match Limited::new(body, self.limit).collect().await {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) => Err(match error.downcast::<HandlerError>() {
                Ok(error) => *error,
                Err(_) => self.failed(&format!("its answer is longer than {} bytes", self.limit)),
            }),
        }
    }

    fn told(&self, failure: Failure) -> HandlerError {
        let service = self.service.clone();
        match failure {
            Failure::Handler(error) => error,
            Failure::Protocol {
                code: -32600 | -32602,
                message,
            } => HandlerError::Rejected {
                service,
                status: 400,
                message,
            },
            Failure::Protocol {
                code: -32601,
                message,
            } => HandlerError::NotFound { service, message },
            Failure::Protocol { code, message } => {
                self.failed(&format!("it answered with error {code}: {message}"))
            }
            Failure::Status(status) => self.failed(&format!("it answered {status}")),
        }
    }

    fn failed(&self, message: &str) -> HandlerError {
        HandlerError::Failed {
            service: self.service.clone(),
            message: message.to_owned(),
        }
    }
}

fn client_info() -> Value {
    json!({"name": "cedargate", "version": env!("CARGO_PKG_VERSION")})
}

/// The arguments that a tool wants repeated as headers (`x-mcp-header`).
fn mirrored(schema: &Value, arguments: &Map<String, Value>) -> Vec<(HeaderName, HeaderValue)> {
    let properties = schema.get("properties").and_then(Value::as_object);
    let headers = properties
        .into_iter()
        .flatten()
        .filter_map(|(name, property)| {
            let header = property.get("x-mcp-header")?.as_str()?;
            let header = format!("mcp-param-{}", header.to_ascii_lowercase());
            let value = match arguments.get(name)? {
                Value::String(text) => encoded(text),
                Value::Bool(flag) => flag.to_string(),
                Value::Number(number) => number.to_string(),
                _ => return None,
            };
            Some((header.parse().ok()?, value.parse().ok()?))
        });
    headers.collect()
}

/// As a header may hold it: as it is, or in base64.
fn encoded(text: &str) -> String {
    let plain = text.bytes().all(|byte| (0x20..0x7f).contains(&byte))
        && text.trim() == text
        && !text.starts_with("=?");
    if plain {
        text.to_owned()
    } else {
        format!("=?base64?{}?=", BASE64_STANDARD.encode(text))
    }
}
