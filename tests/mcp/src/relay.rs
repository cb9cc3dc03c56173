//! Stands between two sides, adds headers, and keeps what passed, byte for byte.

use std::{
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::{net::TcpListener, task::AbortHandle};

/// One request and its answer, as far as it has passed.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// POST, GET or DELETE.
    pub method: Method,
    /// Headers of the request, as they came.
    pub headers: HeaderMap,
    /// Body of the request.
    pub body: Bytes,
    /// Status of the answer.
    pub status: StatusCode,
    /// Headers of the answer.
    pub answer_headers: HeaderMap,
    answer: Arc<Mutex<Vec<u8>>>,
}

impl Exchange {
    /// The answer's body, as far as it has passed.
    #[must_use]
    pub fn answer(&self) -> Vec<u8> {
        self.answer
            .lock()
            .map(|answer| answer.clone())
            .unwrap_or_default()
    }
}

/// A running relay. It ends when this is dropped.
pub struct Relay {
    address: SocketAddr,
    exchanges: Arc<Mutex<Vec<Exchange>>>,
    accepting: AbortHandle,
}

struct Way {
    to: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    client: Client<HttpConnector, Full<Bytes>>,
    exchanges: Arc<Mutex<Vec<Exchange>>>,
}

impl Relay {
    /// Starts one to the server at `to` (`http://host:port`), which gets these headers
    /// besides those of the client. `Host` and `Origin` stay as the client sent them.
    ///
    /// # Errors
    ///
    /// When there is no port, or a header is not one.
    pub async fn start(to: &str, headers: &[(&str, &str)]) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let exchanges = Arc::new(Mutex::new(Vec::new()));
        let headers = headers
            .iter()
            .map(|(name, value)| anyhow::Ok((name.parse()?, value.parse()?)))
            .collect::<anyhow::Result<_>>()?;
        let way = Arc::new(Way {
            to: to.trim_end_matches('/').to_owned(),
            headers,
            client: Client::builder(TokioExecutor::new()).build_http(),
            exchanges: Arc::clone(&exchanges),
        });
        let accepting = tokio::spawn(accept(listener, way)).abort_handle();
        Ok(Self {
            address,
            exchanges,
            accepting,
        })
    }

    /// Where it listens: `http://host:port`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What passed so far, in the order of the requests.
    #[must_use]
    pub fn exchanges(&self) -> Vec<Exchange> {
        self.exchanges
            .lock()
            .map(|exchanges| exchanges.clone())
            .unwrap_or_default()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, way: Arc<Way>) {
    while let Ok((stream, _)) = listener.accept().await {
        let way = Arc::clone(&way);
        tokio::spawn(async move {
            let service = hyper::service::service_fn(move |request| {
                let way = Arc::clone(&way);
                async move { Ok::<_, Infallible>(way.pass(request).await) }
            });
            let http = auto::Builder::new(TokioExecutor::new());
            // Whoever hangs up is none of our business.
            let _ = http.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

type Passing = BoxBody<Bytes, hyper::Error>;

impl Way {
    async fn pass(&self, request: Request<Incoming>) -> Response<Passing> {
        match self.pass_on(request).await {
            Ok(response) => response,
            Err(error) => {
                let said = Full::new(Bytes::from(format!("the relay: {error:#}")));
                let mut response = Response::new(said.map_err(|never| match never {}).boxed());
                *response.status_mut() = StatusCode::BAD_GATEWAY;
                response
            }
        }
    }

    async fn pass_on(&self, request: Request<Incoming>) -> anyhow::Result<Response<Passing>> {
        let (mut parts, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let (method, headers) = (parts.method.clone(), parts.headers.clone());
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        parts.uri = format!("{}{path}", self.to).parse::<Uri>()?;
        for (name, value) in &self.headers {
            parts.headers.insert(name, value.clone());
        }
        let sent = Request::from_parts(parts, Full::new(body.clone()));
        let (answered, answer) = self.client.request(sent).await?.into_parts();
        let kept = Arc::new(Mutex::new(Vec::new()));
        let exchange = Exchange {
            method,
            headers,
            body,
            status: answered.status,
            answer_headers: answered.headers.clone(),
            answer: Arc::clone(&kept),
        };
        if let Ok(mut exchanges) = self.exchanges.lock() {
            exchanges.push(exchange);
        }
        let answer = answer.map_frame(move |frame| {
            if let (Some(data), Ok(mut kept)) = (frame.data_ref(), kept.lock()) {
                kept.extend_from_slice(data);
            }
            frame
        });
        Ok(Response::from_parts(answered, answer.boxed()))
    }
}
