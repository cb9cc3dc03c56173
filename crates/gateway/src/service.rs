//! The stack that every request passes, read from top to bottom in [`stack`].

use std::{
    convert::Infallible,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, Limited};
use serde_json::Value;
use tower::{BoxError, Service, ServiceBuilder, ServiceExt, service_fn, util::BoxCloneSyncService};
use tracing::Instrument;

use crate::{
    Gateway,
    answer::Body,
    authenticate::{AgentRequest, Authenticate, X_AGENT_ID, X_MCP_KEY},
    oauth::Resource,
    openapi,
    refusal::{Answered, Refusal},
    routes::{METADATA, Missing, Route},
};

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A body beyond the limit is read on, up to so many bytes, and thrown away: a client that
/// is still sending would otherwise see a broken connection and not the answer.
pub(crate) const DRAINED_BYTES: usize = 16 * 1024 * 1024;

/// Names one request in logs and answers.
#[derive(Clone, Debug)]
pub(crate) struct RequestId(pub(crate) Arc<str>);

/// Everything between the connection and the gateway.
pub(crate) fn stack<B>(
    gateway: &Arc<Gateway>,
) -> BoxCloneSyncService<Request<B>, Response<Body>, Infallible>
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    let answering = Arc::clone(gateway);
    let guarded = ServiceBuilder::new()
        // More than this under way, and the next is told so rather than kept waiting.
        .load_shed()
        .concurrency_limit(gateway.config.max_concurrent)
        .timeout(gateway.config.deadline)
        // From here on the sender is known: the request has another type.
        .layer(Authenticate {
            authenticator: Arc::clone(&gateway.authenticator),
        })
        .service(service_fn(move |request: AgentRequest<B>| {
            let gateway = Arc::clone(&answering);
            async move { gateway.answer(request).await }
        }));

    let visiting = Arc::clone(gateway);
    let visited = ServiceBuilder::new()
        .load_shed()
        .concurrency_limit(gateway.config.max_concurrent)
        // No time limit: what an MCP server answers may take as long as it says that it
        // works, and a body as long as it comes. Reading the request and reaching the server
        // have limits of their own.
        .layer(Authenticate {
            authenticator: Arc::clone(&gateway.authenticator),
        })
        .service(service_fn(move |request: AgentRequest<B>| {
            let gateway = Arc::clone(&visiting);
            async move {
                let path = request.http.uri().path();
                match Route::find(request.http.method(), path) {
                    Ok(Route::Mcp(service)) => gateway.mcp(request, &service).await,
                    Ok(Route::McpAll) => gateway.mcp_all(request).await,
                    Ok(Route::Upload) => gateway.upload(request).await,
                    _ => Err(Refusal::Internal),
                }
            }
        }));

    let open = Arc::clone(gateway);
    let routed = service_fn(move |request: Request<B>| {
        let (open, guarded, visited) = (Arc::clone(&open), guarded.clone(), visited.clone());
        async move {
            match Route::find(request.method(), request.uri().path()) {
                Ok(Route::Health) => Ok(open.health()),
                Ok(Route::Ready) => Ok(open.ready()),
                Ok(Route::Info) => Ok(open.info()),
                Ok(Route::OpenApi) => Ok(openapi::serve()),
                Ok(Route::Metadata(door)) => {
                    let path = request.uri().path();
                    let missing = || Missing::Path.into_response(request.method(), path);
                    Ok(open.mcp_metadata(&door).unwrap_or_else(missing))
                }
                Ok(Route::Mcp(_) | Route::McpAll) => {
                    if let Some(refused) = open.mcp_admits(request.headers()) {
                        return Ok(refused);
                    }
                    let credential = request.headers().contains_key(header::AUTHORIZATION)
                        || request.headers().contains_key(X_MCP_KEY);
                    let door = Resource::of(request.uri().path());
                    Ok(visited.oneshot(request).await.unwrap_or_else(|error| {
                        open.mcp_stopped(door.as_ref(), &refusal_of(error), credential)
                    }))
                }
                Ok(Route::Upload) => {
                    Ok(visited.oneshot(request).await.unwrap_or_else(answer_error))
                }
                Ok(route) => {
                    let stranger =
                        matches!(route, Route::Catalog) && claims_nothing(request.headers());
                    Ok(match guarded.oneshot(request).await {
                        Err(error) if stranger && is_unauthenticated(&error) => open.services(),
                        answered => answered.unwrap_or_else(answer_error),
                    })
                }
                // Where there is no OAuth, nothing at all is said of it.
                Err(Missing::Method { pattern, .. })
                    if pattern == METADATA && open.authenticator.oauth.is_none() =>
                {
                    let (method, path) = (request.method(), request.uri().path());
                    Ok(Missing::Path.into_response(method, path))
                }
                Err(missing) => Ok(missing.into_response(request.method(), request.uri().path())),
            }
        }
    });

    let observing = Arc::clone(gateway);
    BoxCloneSyncService::new(service_fn(move |request: Request<B>| {
        observe(Arc::clone(&observing), request, routed.clone())
    }))
}

/// Gives a request its id and span, counts it, and answers for a panic.
async fn observe<B, S>(
    gateway: Arc<Gateway>,
    mut request: Request<B>,
    inner: S,
) -> Result<Response<Body>, Infallible>
where
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible>,
{
    let began = Instant::now();
    let active = gateway.metrics.request();
    let method = request.method().clone();
    let route = Route::find(&method, request.uri().path())
        .map_or_else(|missing| missing.pattern(), |route| route.pattern());
    // Ours alone: one that the client chose could pass for another's in the logs.
    let id = RequestId(uuid::Uuid::new_v4().to_string().into());
    request.extensions_mut().insert(id.clone());
    let span = tracing::info_span!("request", request.id = %id.0, method = %method, route);

    let response = AssertUnwindSafe(inner.oneshot(request))
        .catch_unwind()
        .instrument(span.clone())
        .await;
    let mut response =
        response.unwrap_or_else(|_| Ok(Refusal::Internal.into_response(&Value::Null)))?;

    if let Ok(id) = HeaderValue::from_str(&id.0) {
        response.headers_mut().insert(X_REQUEST_ID, id);
    }
    if let Some(answered) = response.extensions().get::<Answered>() {
        gateway.metrics.error(answered.kind, answered.code);
    }
    let (status, took) = (response.status(), began.elapsed());
    gateway.metrics.answered(&method, route, status, took);
    span.in_scope(|| {
        tracing::debug!(
            status = status.as_u16(),
            duration_ms = millis(took),
            "answered"
        );
    });
    drop(active);
    Ok(response)
}

/// Whether nobody is claimed to send a request: no identity that could be a wrong one.
fn claims_nothing(headers: &HeaderMap) -> bool {
    [header::AUTHORIZATION, header::ORIGIN, X_AGENT_ID, X_MCP_KEY]
        .iter()
        .all(|name| !headers.contains_key(name))
}

fn is_unauthenticated(error: &BoxError) -> bool {
    matches!(error.downcast_ref(), Some(Refusal::Unauthenticated(_)))
}

/// Turns what the guards refused into an answer.
fn answer_error(error: BoxError) -> Response<Body> {
    refusal_of(error).into_response(&Value::Null)
}

/// Why the guards refused; told to operators here.
fn refusal_of(error: BoxError) -> Refusal {
    let refusal = match error.downcast::<Refusal>() {
        Ok(refusal) => *refusal,
        Err(error) if error.is::<tower::load_shed::error::Overloaded>() => Refusal::Overloaded,
        Err(error) if error.is::<tower::timeout::error::Elapsed>() => Refusal::Deadline,
        Err(error) => {
            tracing::error!(%error, "a request failed in a way that nobody expected");
            Refusal::Internal
        }
    };
    if matches!(
        refusal,
        Refusal::Unauthenticated(_)
            | Refusal::AnotherAgent
            | Refusal::NoAgent(_)
            | Refusal::Scope(_)
            | Refusal::Header(_)
    ) {
        tracing::info!(reason = %refusal, "not authenticated");
    }
    refusal
}

/// Reads a whole body of at most `limit` bytes.
///
/// # Errors
///
/// [`Refusal::TooLarge`], or [`Refusal::Body`] when it breaks off.
pub(crate) async fn read_body<B>(
    http: Request<B>,
    limit: usize,
) -> Result<(HeaderMap, Bytes), Refusal>
where
    B: http_body::Body<Data = Bytes> + Send + Unpin,
    B::Error: Into<BoxError>,
{
    let (parts, body) = http.into_parts();
    let announced = body.size_hint().lower();
    let announced = usize::try_from(announced).unwrap_or(usize::MAX);
    // Who expects a `100 Continue` has not begun to send.
    if announced > DRAINED_BYTES || announced > limit && parts.headers.contains_key(header::EXPECT)
    {
        return Err(Refusal::TooLarge { limit });
    }
    let mut body = Limited::new(body, DRAINED_BYTES);
    let mut bytes = Vec::with_capacity(announced.min(limit));
    let mut too_large = false;
    while let Some(frame) = body.frame().await {
        let frame = match frame {
            Ok(frame) => frame,
            Err(_) if too_large => break,
            Err(_) => return Err(Refusal::Body),
        };
        let Ok(data) = frame.into_data() else {
            continue;
        };
        too_large = too_large || bytes.len() + data.len() > limit;
        if too_large {
            bytes = Vec::new();
        } else {
            bytes.extend_from_slice(&data);
        }
    }
    if too_large {
        Err(Refusal::TooLarge { limit })
    } else {
        Ok((parts.headers, bytes.into()))
    }
}

/// Whole milliseconds.
pub(crate) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
