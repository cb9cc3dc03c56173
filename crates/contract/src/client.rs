//! The typed client of the orchestrator.

mod agents;
mod approvals;
mod audit;
mod budgets;
mod gateways;
mod notifications;
mod people;
mod policy_sets;
mod services;
mod zones;

use std::{convert::Infallible, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Collected, Full, Limited, combinators::UnsyncBoxBody};
use secrecy::{ExposeSecret, SecretString};
use serde::{Serialize, de::DeserializeOwned};
use tower::{BoxError, Service, ServiceExt, util::BoxCloneSyncService};

use crate::{
    error::{Error, ErrorBody},
    gateways::GatewayView,
    overview::{Overview, Range},
};

type Body = UnsyncBoxBody<Bytes, BoxError>;
type Transport = BoxCloneSyncService<Request<Full<Bytes>>, Response<Body>, BoxError>;

/// No answer of the contract is larger: a policy set of 10,000 policies is some megabytes.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// Calls the orchestrator. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    transport: Transport,
    base: Arc<str>,
    token: Option<Arc<SecretString>>,
    deadline: Duration,
    /// What it says of itself in `X-Cedargate-Via`.
    via: Option<&'static str>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("base", &self.base)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// A client of the orchestrator behind any HTTP service: its own router, say.
    pub fn over<S, B>(service: S, token: Option<SecretString>, deadline: Duration) -> Self
    where
        S: Service<Request<Full<Bytes>>, Response = Response<B>, Error = Infallible>
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let service = service
            .map_response(|response: Response<B>| {
                response.map(|body| body.map_err(Into::into).boxed_unsync())
            })
            .map_err(|never| match never {});
        Self {
            transport: BoxCloneSyncService::new(service),
            base: "http://orchestrator".into(),
            token: token.map(Arc::new),
            deadline,
            via: None,
        }
    }

    /// The same client, which says that a person uses it from our command line: so the
    /// audit trail records `cli` and not `api`.
    #[must_use]
    pub fn via_cli(self) -> Self {
        Self {
            via: Some("cli"),
            ..self
        }
    }

    /// A client of the orchestrator at `base`, for example `http://orchestrator-3-stream:9403`.
    ///
    /// # Errors
    ///
    /// When `base` is not an `http` or `https` URL, or TLS cannot be set up.
    pub fn http(
        base: &str,
        token: Option<SecretString>,
        deadline: Duration,
    ) -> Result<Self, Error> {
        let base = base.trim_end_matches('/');
        let scheme = base
            .parse::<Uri>()
            .ok()
            .and_then(|uri| uri.scheme_str().map(str::to_owned));
        if !matches!(scheme.as_deref(), Some("http" | "https")) {
            return Err(Error::Malformed(format!(
                "`{base}` is not an http or https URL"
            )));
        }
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(deadline)
            .build()
            .map_err(|error| Error::Unreachable(error.into()))?;
        let service = tower::service_fn(move |request: Request<Full<Bytes>>| {
            let client = client.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await?.to_bytes();
                let request = reqwest::Request::try_from(Request::from_parts(parts, body))?;
                let response: Response<reqwest::Body> = client.execute(request).await?.into();
                Ok::<_, BoxError>(response.map(|body| body.map_err(Into::into).boxed_unsync()))
            }
        });
        Ok(Self {
            transport: BoxCloneSyncService::new(service),
            base: base.into(),
            token: token.map(Arc::new),
            deadline,
            via: None,
        })
    }

    /// What happened lately, in numbers.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn overview(&self, range: Range) -> Result<Overview, Error> {
        self.get(&format!("/api/overview?range={}", range.as_str()))
            .await
    }

    /// Every gateway heard of lately, and what it enforces.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn gateways(&self) -> Result<Vec<GatewayView>, Error> {
        self.get("/api/gateways").await
    }

    /// Whether it is up: `GET /health`.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn health(&self) -> Result<serde_json::Value, Error> {
        self.get("/health").await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
    ) -> Result<Response<Body>, Error> {
        self.send_if(method, path, body, None).await
    }

    /// As `send`, if what is changed is at this revision still.
    async fn send_if(
        &self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
        revision: Option<i64>,
    ) -> Result<Response<Body>, Error> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base));
        if let Some(revision) = revision {
            request = request.header(header::IF_MATCH, format!("\"{revision}\""));
        }
        if let Some(token) = &self.token {
            request = request.header(
                header::AUTHORIZATION,
                format!("Bearer {}", token.expose_secret()),
            );
        }
        if let Some(via) = self.via {
            request = request.header("x-cedargate-via", via);
        }
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let request = request
            .body(Full::new(body.unwrap_or_default()))
            .map_err(|error| Error::Malformed(error.to_string()))?;
        let answer =
            tokio::time::timeout(self.deadline, self.transport.clone().oneshot(request)).await;
        let response = match answer {
            Err(_) => return Err(Error::Timeout(self.deadline)),
            Ok(Err(error)) => return Err(Error::Unreachable(error)),
            Ok(Ok(response)) => response,
        };
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let body = self.read(response).await?;
        let detail = serde_json::from_slice::<ErrorBody>(&body).map_or_else(
            |_| format!("the orchestrator answered {status}"),
            |body| body.detail,
        );
        Err(Error::Refused { status, detail })
    }

    async fn read(&self, response: Response<Body>) -> Result<Bytes, Error> {
        // Boxed, with its lifetimes fixed: else the compiler cannot see that the futures of
        // this client may move between threads.
        let body: Pin<Box<dyn Future<Output = Result<Collected<Bytes>, BoxError>> + Send>> =
            Box::pin(Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect());
        match tokio::time::timeout(self.deadline, body).await {
            Err(_) => Err(Error::Timeout(self.deadline)),
            Ok(Err(error)) => Err(Error::Unreachable(error)),
            Ok(Ok(body)) => Ok(body.to_bytes()),
        }
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, Error> {
        self.call_if(method, path, body, None).await
    }

    async fn call_if<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
        revision: Option<i64>,
    ) -> Result<T, Error> {
        let body = body
            .map(serde_json::to_vec)
            .transpose()
            .map_err(|error| Error::Malformed(error.to_string()))?
            .map(Bytes::from);
        let response = self.send_if(method, path, body, revision).await?;
        let body = self.read(response).await?;
        let body = if body.is_empty() {
            Bytes::from_static(b"null")
        } else {
            body
        };
        serde_json::from_slice(&body).map_err(|error| Error::Malformed(error.to_string()))
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        self.call(Method::GET, path, None::<&()>).await
    }

    async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Error> {
        self.call(Method::POST, path, Some(body)).await
    }

    async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        self.call(Method::DELETE, path, None::<&()>).await
    }
}

/// A query's value: every byte but letters and digits is percent-encoded.
fn encoded(text: &str) -> String {
    use std::fmt::Write as _;
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// Whether an error says that the thing asked for does not exist.
#[must_use]
pub fn is_not_found(error: &Error) -> bool {
    error.status() == Some(StatusCode::NOT_FOUND)
}
