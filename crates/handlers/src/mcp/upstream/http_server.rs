//! An MCP server over Streamable HTTP.

use std::{
    pin::{Pin, pin},
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body::Frame;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use tokio::time::Sleep;

use super::Body;
use crate::{
    HandlerError,
    description::McpTable,
    mcp::mask::{Mask, Secrets},
    variables::Variables,
};

/// How long a connection may take to open.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Servers close idle connections after a while; a message must not be sent just then.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(15);

/// How long an answer that is no stream of events may pause.
const PAUSE: Duration = Duration::from_secs(30);

/// When nothing is heard, the network is asked whether the other end is still there.
const KEEPALIVE: Duration = Duration::from_secs(30);

type Pool = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// The connections that every service shares; made when the first needs them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Connections(Arc<OnceLock<Pool>>);

impl Connections {
    fn pool(&self) -> Result<Pool, String> {
        if let Some(pool) = self.0.get() {
            return Ok(pool.clone());
        }
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        connector.set_keepalive(Some(KEEPALIVE));
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(trusted()?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        let pool = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(POOL_IDLE_TIMEOUT)
            .pool_timer(TokioTimer::new())
            .build(connector);
        Ok(self.0.get_or_init(|| pool).clone())
    }
}

/// What the operating system trusts.
fn trusted() -> Result<rustls::ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(rustls_platform_verifier::BuilderVerifierExt::with_platform_verifier)
        .map_err(|error| format!("the MCP client cannot be made: {error}"))?;
    Ok(config.with_no_client_auth())
}

/// An MCP server over Streamable HTTP.
#[derive(Debug)]
pub(crate) struct HttpServer {
    service: String,
    connections: Pool,
    address: Uri,
    /// Of every request: what the description says, and the credential.
    headers: HeaderMap,
    secrets: Arc<Secrets>,
    /// What to look at when the credential is refused.
    credential_variable: Option<String>,
    /// How long the first byte of an answer may take.
    timeout: Duration,
    /// Longer answers that are no stream of events are an error.
    max_answer_bytes: u64,
}

/// What goes on to an upstream besides `Mcp-*`.
const SENT: &[HeaderName] = &[header::ACCEPT, header::CONTENT_TYPE];

/// What comes back besides `Mcp-*`.
const ANSWERED: &[HeaderName] = &[
    header::CONTENT_TYPE,
    header::CONTENT_LENGTH,
    header::CACHE_CONTROL,
    header::ALLOW,
    header::RETRY_AFTER,
];

/// `Mcp-Session-Id`, `Mcp-Method`, `Mcp-Param-…`, and the old `MCP-Protocol-Version`.
fn of_the_protocol(name: &HeaderName) -> bool {
    name.as_str().starts_with("mcp-") || name.as_str() == "last-event-id"
}

impl HttpServer {
    /// The outer error is one of the description; the inner says what to set.
    pub(super) fn new(
        service: &str,
        table: &McpTable,
        timeout: Duration,
        connections: &Connections,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Result<Self, String>, String> {
        let mut headers = HeaderMap::new();
        for (name, value) in &table.headers {
            let name = HeaderName::try_from(name)
                .map_err(|_| format!("`{name}` is not a header's name"))?;
            let value = HeaderValue::try_from(value)
                .map_err(|_| format!("`{name}` has a value that no header may"))?;
            headers.insert(name, value);
        }
        let product = concat!("cedargate/", env!("CARGO_PKG_VERSION"));
        headers
            .entry(header::USER_AGENT)
            .or_insert(HeaderValue::from_static(product));
        let header = table.credential.as_ref().map(|credential| {
            HeaderName::try_from(&credential.header)
                .map_err(|_| format!("`{}` is not a header's name", credential.header))
        });
        let header = header.transpose()?;
        let ready = || {
            let variables = Variables::new(variable);
            let read = |name: &str| variables.read(name);
            let (given, place) = match (&table.url, &table.address) {
                (Some(url), _) => (Some(url.clone()), "url"),
                (None, Some(address)) => {
                    let given = read(&address.variable).or_else(|| address.default.clone());
                    let suffixed = given.map(|given| {
                        let base = given.trim_end_matches('/');
                        if address.suffix.is_empty() || base.ends_with(&address.suffix) {
                            given
                        } else {
                            format!("{base}{}", address.suffix)
                        }
                    });
                    (suffixed, address.variable.as_str())
                }
                (None, None) => (None, "url"),
            };
            let given = given.ok_or_else(|| format!("set `{place}`"))?;
            let address = address(&given).map_err(|reason| format!("`{place}` {reason}"))?;
            let mut secrets = Vec::new();
            if let (Some(credential), Some(header)) = (&table.credential, header) {
                match read(&credential.variable) {
                    Some(secret) => {
                        let text = format!("{}{secret}", credential.prefix);
                        let mut value = HeaderValue::from_str(&text).map_err(|_| {
                            format!(
                                "`{}` holds characters that no header may",
                                credential.variable
                            )
                        })?;
                        value.set_sensitive(true);
                        headers.insert(header, value);
                        secrets.push(secret);
                    }
                    None if credential.optional => {}
                    None => return Err(format!("set `{}`", credential.variable)),
                }
            }
            Ok(Self {
                service: service.to_owned(),
                connections: connections.pool()?,
                address,
                headers,
                secrets: Arc::new(Secrets::new(secrets.iter().map(String::as_str))),
                credential_variable: table
                    .credential
                    .as_ref()
                    .map(|credential| credential.variable.clone()),
                timeout,
                max_answer_bytes: table.max_answer_bytes as u64,
            })
        };
        Ok(ready())
    }

    /// Whether both send the same to the same.
    pub(super) fn same(&self, other: &Self) -> bool {
        self.address == other.address && self.headers == other.headers
    }

    pub(super) async fn send(
        &self,
        request: Request<Bytes>,
    ) -> Result<Response<Body>, HandlerError> {
        let (parts, body) = request.into_parts();
        let mut sent = Request::new(Full::new(body));
        *sent.method_mut() = parts.method;
        *sent.uri_mut() = self.address.clone();
        let headers = sent.headers_mut();
        for (name, value) in &parts.headers {
            if SENT.contains(name) || of_the_protocol(name) {
                headers.append(name, value.clone());
            }
        }
        // Everything of ours goes before what an agent says.
        for (name, value) in &self.headers {
            headers.insert(name, value.clone());
        }
        headers.insert(
            header::ACCEPT_ENCODING,
            HeaderValue::from_static("identity"),
        );
        let sending = self.connections.request(sent);
        let response = match tokio::time::timeout(self.timeout, sending).await {
            Ok(response) => response.map_err(|error| self.no_connection(&error))?,
            Err(_) => {
                return Err(HandlerError::Timeout {
                    service: self.service.clone(),
                    after: self.timeout,
                });
            }
        };
        self.answer(response)
    }

    /// The answer as it may be passed on.
    fn answer(&self, response: Response<Incoming>) -> Result<Response<Body>, HandlerError> {
        let (parts, body) = response.into_parts();
        let kind = content_type(&parts.headers).map_err(|reason| self.failed(reason))?;
        self.welcome(parts.status, &parts.headers, &kind)?;
        let events = kind == "text/event-stream";
        let mut answer = Response::new(());
        *answer.status_mut() = parts.status;
        for (name, value) in &parts.headers {
            if ANSWERED.contains(name) || of_the_protocol(name) {
                answer.headers_mut().append(name, value.clone());
            }
        }
        let length = http_body::Body::size_hint(&body).exact();
        if !events && length.is_some_and(|length| length > self.max_answer_bytes) {
            return Err(self.too_long());
        }
        let body = Bounded {
            body,
            service: self.service.clone(),
            left: (!events).then_some(self.max_answer_bytes),
            limit: self.max_answer_bytes,
            pause: (!events).then(|| Box::pin(tokio::time::sleep(PAUSE))),
            secrets: Arc::clone(&self.secrets),
            mask: Mask::default(),
            ended: false,
        };
        Ok(answer.map(|()| Body::new(body)))
    }

    /// Whether the answer is one to us as a client of the protocol.
    fn welcome(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        kind: &str,
    ) -> Result<(), HandlerError> {
        let service = || self.service.clone();
        if headers.contains_key(header::CONTENT_ENCODING) {
            return Err(self.failed("its answer is compressed, which was not asked for"));
        }
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(HandlerError::Credential {
                service: service(),
                reason: match &self.credential_variable {
                    Some(variable) => format!("it answered {status}; is `{variable}` right?"),
                    None => format!("it answered {status}, and none is configured"),
                },
            }),
            StatusCode::TOO_MANY_REQUESTS => Err(HandlerError::TooMany {
                service: service(),
                retry_after: headers
                    .get(header::RETRY_AFTER)
                    .and_then(|value| value.to_str().ok()?.trim().parse().ok())
                    .map(Duration::from_secs),
            }),
            status if status.is_redirection() => {
                Err(self.failed("it answered with a redirect, which is not followed"))
            }
            // An error of the protocol is an answer; a page of a proxy before it is none.
            status if status.is_server_error() && kind != "application/json" => {
                Err(self.failed(&format!("it answered {status}")))
            }
            _ => Ok(()),
        }
    }

    fn no_connection(&self, error: &hyper_util::client::legacy::Error) -> HandlerError {
        let service = self.service.clone();
        if error.is_connect() {
            tracing::debug!(
                service,
                error = error as &dyn std::error::Error,
                "no connection"
            );
            return HandlerError::Unreachable {
                service,
                reason: "no connection opens".to_owned(),
            };
        }
        HandlerError::Broken {
            service,
            reason: "the connection ended before it answered".to_owned(),
        }
    }

    fn too_long(&self) -> HandlerError {
        self.failed(&format!(
            "its answer is longer than {} bytes",
            self.max_answer_bytes
        ))
    }

    fn failed(&self, message: &str) -> HandlerError {
        HandlerError::Failed {
            service: self.service.clone(),
            message: message.to_owned(),
        }
    }
}

/// What an answer is. Whether it is a stream of events decides how it is read: one that
/// clients could take for one, or read in other letters, is no answer.
fn content_type(headers: &HeaderMap) -> Result<String, &'static str> {
    let mut all = headers.get_all(header::CONTENT_TYPE).iter();
    let Some(value) = all.next() else {
        return Ok(String::new());
    };
    let text = value.to_str().map(str::to_ascii_lowercase);
    let (None, Ok(text)) = (all.next(), text) else {
        return Err("its answer has no content type that everybody reads alike");
    };
    let mut parts = text.split(';').map(str::trim);
    let kind = parts.next().unwrap_or_default().to_owned();
    if text.contains("event-stream") && kind != "text/event-stream" {
        return Err("its answer has no content type that everybody reads alike");
    }
    let charsets =
        parts.filter_map(|part| part.strip_prefix("charset")?.trim_start().strip_prefix('='));
    let mut charsets = charsets.map(|charset| charset.trim().trim_matches('"'));
    if charsets.any(|charset| !matches!(charset, "utf-8" | "utf8" | "us-ascii")) {
        return Err("its answer is not in UTF-8");
    }
    Ok(kind)
}

/// An address of a server of ours.
fn address(given: &str) -> Result<Uri, String> {
    let url = reqwest::Url::parse(given).map_err(|error| format!("is not an address: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err("is not an http:// or https:// address".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("holds a user or password; set the credential's own variable".to_owned());
    }
    let path = url.as_str().split('#').next().unwrap_or_default();
    path.parse().map_err(|_| "is not an address".to_owned())
}

/// A body with limits and without our credential.
#[derive(Debug)]
struct Bounded {
    body: Incoming,
    service: String,
    /// How many bytes may still come; a stream of events has no end.
    left: Option<u64>,
    limit: u64,
    /// When a pause has become too long; streams of events pause as they like.
    pause: Option<Pin<Box<Sleep>>>,
    secrets: Arc<Secrets>,
    mask: Mask,
    ended: bool,
}

impl http_body::Body for Bounded {
    type Data = Bytes;
    type Error = HandlerError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HandlerError>>> {
        let this = &mut *self;
        loop {
            if this.ended {
                return Poll::Ready(None);
            }
            let frame = match pin!(&mut this.body).poll_frame(context) {
                Poll::Ready(frame) => frame,
                Poll::Pending => {
                    if let Some(pause) = &mut this.pause {
                        ready!(pause.as_mut().poll(context));
                        this.ended = true;
                        return Poll::Ready(Some(Err(HandlerError::Timeout {
                            service: this.service.clone(),
                            after: PAUSE,
                        })));
                    }
                    return Poll::Pending;
                }
            };
            if let Some(pause) = &mut this.pause {
                pause.as_mut().reset(tokio::time::Instant::now() + PAUSE);
            }
            let data = match frame {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => data,
                    // Trailers are of this connection alone.
                    Err(_) => continue,
                },
                Some(Err(_)) => {
                    this.ended = true;
                    return Poll::Ready(Some(Err(HandlerError::Broken {
                        service: this.service.clone(),
                        reason: "its answer ended early".to_owned(),
                    })));
                }
                None => {
                    this.ended = true;
                    let rest = this.mask.end();
                    return Poll::Ready((!rest.is_empty()).then(|| Ok(Frame::data(rest))));
                }
            };
            if let Some(left) = &mut this.left {
                let Some(less) = left.checked_sub(data.len() as u64) else {
                    this.ended = true;
                    return Poll::Ready(Some(Err(HandlerError::Failed {
                        service: this.service.clone(),
                        message: format!("its answer is longer than {} bytes", this.limit),
                    })));
                };
                *left = less;
            }
            let data = this.mask.frame(&this.secrets, data);
            if !data.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }

    fn size_hint(&self) -> http_body::SizeHint {
        // What is masked keeps its length.
        match http_body::Body::size_hint(&self.body).exact() {
            Some(rest) => http_body::SizeHint::with_exact(rest + self.mask.held()),
            None => http_body::SizeHint::default(),
        }
    }
}
