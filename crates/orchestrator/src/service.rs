//! The stack around every route, from the outside in: request id, panics, one log line,
//! security headers, deadline, cross-site requests, body limit.

use std::{any::Any, convert::Infallible, time::Duration};

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request},
    http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use tower::{Layer, ServiceBuilder, util::MapRequestLayer};
use tower_http::{
    catch_panic::CatchPanicLayer,
    cors::{AllowOrigin, CorsLayer},
    csrf::{CsrfLayer, ProtectionError},
    request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer},
};

use crate::{
    Orchestrator,
    error::{Error, MAX_BODY_BYTES},
    origins::Origins,
    ui::Trouble,
};

/// A request is answered within this; what streams has begun to by then.
const DEADLINE: Duration = Duration::from_secs(15);

/// What the API promises: more may come, nothing goes or changes its meaning. A change that
/// breaks this has a path of its own, beside this one.
const VERSION: &str = "1";
const VERSIONED_API: &str = "/api/v1/";

/// Pages load nothing from elsewhere, run no inline script, and are framed by nobody.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
     base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// Wraps the routes.
pub(crate) fn stack(orchestrator: &Orchestrator, routes: Router) -> Router {
    let mut cross_site = CsrfLayer::new();
    for origin in orchestrator.inner.origins.named() {
        let trusted = origin
            .to_str()
            .ok()
            .and_then(|origin| cross_site.clone().add_trusted_origin(origin).ok());
        if let Some(trusted) = trusted {
            cross_site = trusted;
        }
    }
    let cross_site =
        cross_site.with_rejection_response(|_: ProtectionError| Error::CrossSite.into_response());

    routes
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(
            ServiceBuilder::new()
                .layer(SetRequestIdLayer::x_request_id(MakeRequestUuid))
                .layer(PropagateRequestIdLayer::x_request_id())
                .layer(middleware::from_fn(log))
                .layer(CatchPanicLayer::custom(panicked))
                .layer(middleware::map_response(secured))
                .layer(middleware::from_fn(deadline))
                .layer(cross_site)
                .layer(DefaultBodyLimit::max(MAX_BODY_BYTES)),
        )
}

/// Serves every path of the API under its version besides: `/api/v1/agents` is
/// `/api/agents`. Outside of the routes, since a path is looked up only once.
pub(crate) fn versioned(routes: Router) -> Router {
    Router::new().fallback_service(MapRequestLayer::new(unversioned).layer(routes))
}

fn unversioned(mut request: Request) -> Request {
    let uri = request.uri();
    let same = uri.path().strip_prefix(VERSIONED_API).map(|rest| {
        let query = uri
            .query()
            .map_or(String::new(), |query| format!("?{query}"));
        format!("/api/{rest}{query}")
    });
    // A part of a valid path is valid.
    if let Some(Ok(uri)) = same.map(|same| Uri::builder().path_and_query(same).build()) {
        *request.uri_mut() = uri;
    }
    request
}

/// Which pages of other sites may use the API: those named, with the session's cookie;
/// with `*` every one, without.
pub(crate) fn cors(origins: &Origins) -> CorsLayer {
    let layer = CorsLayer::new()
        .allow_methods([
            Method::GET,
            Method::POST,
            Method::PUT,
            Method::PATCH,
            Method::DELETE,
        ])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            header::IF_MATCH,
            HeaderName::from_static("last-event-id"),
        ])
        .expose_headers([header::ETAG, HeaderName::from_static("x-request-id")])
        .max_age(Duration::from_mins(10));
    if origins.any() {
        layer.allow_origin(tower_http::cors::Any)
    } else {
        layer
            .allow_origin(AllowOrigin::list(origins.named().iter().cloned()))
            .allow_credentials(true)
    }
}

/// Of a path that takes others.
pub(crate) async fn wrong_method(uri: Uri) -> Error {
    Error::WrongMethod(path(&uri))
}

fn path(uri: &Uri) -> String {
    uri.path().chars().take(200).collect()
}

/// Says that there is no such path: to a browser as a page, to everything else as JSON.
async fn unknown(uri: Uri, headers: HeaderMap) -> Response {
    let error = Error::NotFound(format!("`{}` is not a path here", path(&uri)));
    let mut response = if wants_page(&headers) {
        Trouble::Error(error).into_response()
    } else {
        error.into_response()
    };
    let vary = HeaderValue::from_static("accept");
    response.headers_mut().append(header::VARY, vary);
    response
}

/// Whether who asks names HTML; `*/*`, as scripts send it, does not.
fn wants_page(headers: &HeaderMap) -> bool {
    let accepts = headers.get_all(header::ACCEPT).iter();
    accepts
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|range| range.split(';').next())
        .any(|range| range.trim().eq_ignore_ascii_case("text/html"))
}

/// One line per request. Never the query, where the login link has its code.
async fn log(request: Request, next: Next) -> Result<Response, Infallible> {
    let begun = tokio::time::Instant::now();
    let method = request.method().clone();
    let path = path(request.uri());
    let id = request
        .headers()
        .get("x-request-id")
        .and_then(|id| id.to_str().ok())
        .unwrap_or_default()
        .to_owned();
    let response = next.run(request).await;
    let status = response.status().as_u16();
    let duration_ms = begun.elapsed().as_millis();
    if method == Method::GET && status < 500 {
        tracing::debug!(http.method = %method, http.path = path, http.status = status, request.id = id, duration_ms, "request");
    } else {
        tracing::info!(http.method = %method, http.path = path, http.status = status, request.id = id, duration_ms, "request");
    }
    Ok(response)
}

async fn deadline(request: Request, next: Next) -> Response {
    match tokio::time::timeout(DEADLINE, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Error::Timeout(DEADLINE).into_response(),
    }
}

async fn secured(mut response: Response) -> Response {
    const HEADERS: [(HeaderName, &str); 6] = [
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (HeaderName::from_static("cedargate-api-version"), VERSION),
        (header::REFERRER_POLICY, "same-origin"),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
    ];
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

/// The panic's message stays in the log.
#[allow(
    clippy::needless_pass_by_value,
    reason = "the signature is tower-http's"
)]
fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let message = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_default();
    tracing::error!(panic = message, "a request panicked");
    Error::Bug("see the log".to_owned()).into_response()
}
