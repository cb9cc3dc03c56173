//! The server on a port of this machine, and what arrived there.

use std::{
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use rmcp::transport::streamable_http_server::{
    StreamableHttpServerConfig, StreamableHttpService, session::local::LocalSessionManager,
};
use serde_json::Value;
use tokio::{net::TcpListener, sync::broadcast, task::AbortHandle};
use tower::ServiceExt;

use crate::server::{Pace, Server};

/// One request as it arrived.
#[derive(Clone, Debug)]
pub struct Arrived {
    /// POST, GET or DELETE.
    pub method: Method,
    /// All headers.
    pub headers: HeaderMap,
    /// The body, byte for byte.
    pub body: Bytes,
}

impl Arrived {
    /// The body as JSON, or null.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// A running server. It ends when this is dropped.
pub struct Fixture {
    address: SocketAddr,
    arrived: Arc<Mutex<Vec<Arrived>>>,
    pace: Arc<Pace>,
    accepting: AbortHandle,
}

impl Fixture {
    /// Starts one on a free port. With a credential, it answers nobody else.
    ///
    /// # Errors
    ///
    /// When there is no port.
    pub async fn start(credential: Option<&str>) -> std::io::Result<Self> {
        Self::start_at(0, credential).await
    }

    /// As [`Fixture::start`], on this port.
    ///
    /// # Errors
    ///
    /// When the port is taken.
    pub async fn start_at(port: u16, credential: Option<&str>) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let address = listener.local_addr()?;
        let arrived = Arc::new(Mutex::new(Vec::new()));
        let returned = broadcast::channel(64).0;
        let pace = Arc::<Pace>::default();
        let door = Door {
            credential: credential.map(|credential| format!("Bearer {credential}")),
            arrived: Arc::clone(&arrived),
            mcp: mcp(returned.clone(), Arc::clone(&pace)),
            returned,
        };
        let accepting = tokio::spawn(accept(listener, Arc::new(door))).abort_handle();
        Ok(Self {
            address,
            arrived,
            pace,
            accepting,
        })
    }

    /// From now on `test_tool_with_progress` waits after each step for [`Fixture::go_on`]: some
    /// clients take no notice of progress that they read together with the answer.
    pub fn by_step(&self) {
        self.pace.by_step();
    }

    /// One step more.
    pub fn go_on(&self) {
        self.pace.go_on();
    }

    /// Where it listens.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    /// Everything that arrived so far.
    #[must_use]
    pub fn arrived(&self) -> Vec<Arrived> {
        self.arrived
            .lock()
            .map(|arrived| arrived.clone())
            .unwrap_or_default()
    }

    /// The names of the tools that were called so far, in order.
    #[must_use]
    pub fn called(&self) -> Vec<String> {
        self.arrived()
            .iter()
            .map(Arrived::json)
            .filter(|message| message.get("method") == Some(&Value::from("tools/call")))
            .filter_map(|message| Some(message.pointer("/params/name")?.as_str()?.to_owned()))
            .collect()
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

type Mcp = StreamableHttpService<Server, LocalSessionManager>;

struct Door {
    credential: Option<String>,
    arrived: Arc<Mutex<Vec<Arrived>>>,
    mcp: Mcp,
    returned: broadcast::Sender<String>,
}

fn mcp(returned: broadcast::Sender<String>, pace: Arc<Pace>) -> Mcp {
    let sessions = Arc::new(LocalSessionManager::default());
    let server = Server::with_sessions(Arc::clone(&sessions), returned, pace);
    let config = StreamableHttpServerConfig::default()
        .with_sse_retry(Some(Duration::from_millis(500)))
        .with_allowed_origins(["http://localhost:*", "http://127.0.0.1:*", "http://[::1]:*"]);
    StreamableHttpService::new(move || Ok(server.for_client()), sessions, config)
}

async fn accept(listener: TcpListener, door: Arc<Door>) {
    while let Ok((stream, _)) = listener.accept().await {
        let door = Arc::clone(&door);
        tokio::spawn(async move {
            let service = hyper::service::service_fn(move |request| {
                let door = Arc::clone(&door);
                async move { Ok::<_, Infallible>(door.answer(request).await) }
            });
            let mut http = auto::Builder::new(TokioExecutor::new());
            http.http1().timer(hyper_util::rt::TokioTimer::new());
            // A client that hangs up is none of our business.
            let _ = http.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

impl Door {
    async fn answer(&self, request: Request<Incoming>) -> Response<BoxBody<Bytes, Infallible>> {
        if request.uri().path() != "/mcp" {
            return plain(StatusCode::NOT_FOUND);
        }
        let authorization = request.headers().get(header::AUTHORIZATION);
        if let Some(credential) = &self.credential
            && authorization.is_none_or(|sent| sent.as_bytes() != credential.as_bytes())
        {
            return plain(StatusCode::UNAUTHORIZED);
        }
        let (parts, body) = request.into_parts();
        let Ok(body) = body.collect().await else {
            return plain(StatusCode::BAD_REQUEST);
        };
        let body = body.to_bytes();
        if let Ok(mut arrived) = self.arrived.lock() {
            arrived.push(Arrived {
                method: parts.method.clone(),
                headers: parts.headers.clone(),
                body: body.clone(),
            });
        }
        let session = parts.headers.get("mcp-session-id");
        let session = session
            .filter(|_| parts.headers.contains_key("last-event-id"))
            .and_then(|session| Some(session.to_str().ok()?.to_owned()));
        let request = Request::from_parts(parts, Full::new(body));
        let Ok(response) = self.mcp.clone().oneshot(request).await;
        if let Some(session) = session {
            // Nobody may be waiting for it.
            let _ = self.returned.send(session);
        }
        response
    }
}

fn plain(status: StatusCode) -> Response<BoxBody<Bytes, Infallible>> {
    let mut response = Response::new(Full::default().boxed());
    *response.status_mut() = status;
    response
}
