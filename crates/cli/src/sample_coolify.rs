//! A sample of the Coolify API: what `cedargate demo`, the tests and the benches talk to
//! when no real Coolify is at hand.
//!
//! It says that it is a sample in every answer (`X-Sample`), in its version and in the
//! names of everything it holds. It keeps state for as long as it runs: what is stopped
//! is then reported as stopped. It also remembers what arrived, so that a test can say
//! that nothing did, and fails on command.

mod inventory;

use std::{
    collections::VecDeque,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;

use inventory::{Inventory, Kind};

/// The value of the `X-Sample` header on every answer.
pub const SAMPLE: &str = "not a real Coolify; part of cedargate";

/// What the sample calls its version.
pub const VERSION: &str = "4.3.11-sample";

/// So many requests are remembered; the oldest are forgotten first.
const REMEMBERED: usize = 200_000;

/// How it behaves; see [`SampleCoolify::behave`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Behaviour {
    /// Answers as Coolify would.
    #[default]
    Answer,
    /// Answers everything with 500, and a body that repeats the credential it was sent.
    Fail,
    /// Takes requests and answers none, until the behaviour changes.
    Hold,
    /// Drops every connection without an answer, until the behaviour changes.
    Drop,
}

/// One request that arrived, whether or not it was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrived {
    /// Its method.
    pub method: String,
    /// Its path and query, exactly as received: still percent-encoded.
    pub path: String,
    /// Whether it carried the right credential.
    pub authorized: bool,
}

/// A sample Coolify that is up. It ends when this is dropped.
#[derive(Debug)]
pub struct SampleCoolify {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: CancellationToken,
}

#[derive(Debug)]
struct Shared {
    token: String,
    behaviour: watch::Sender<Behaviour>,
    count: watch::Sender<u64>,
    arrived: Mutex<VecDeque<Arrived>>,
    inventory: Mutex<Inventory>,
}

impl SampleCoolify {
    /// Starts one on a free port of this machine, for clients that present `token`.
    ///
    /// # Errors
    ///
    /// When no port can be opened.
    pub async fn start(token: &str) -> std::io::Result<Self> {
        Self::start_at((Ipv4Addr::LOCALHOST, 0).into(), token).await
    }

    /// Starts one at `address`, for clients that present `token`.
    ///
    /// # Errors
    ///
    /// When the port cannot be opened.
    pub async fn start_at(address: SocketAddr, token: &str) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            token: token.to_owned(),
            behaviour: watch::Sender::new(Behaviour::Answer),
            count: watch::Sender::new(0),
            arrived: Mutex::default(),
            inventory: Mutex::new(Inventory::new()),
        });
        let router = Router::new()
            .fallback(serve)
            .with_state(Arc::clone(&shared));
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        tokio::spawn(async move {
            // Nobody waits for it, so requests under way are simply dropped.
            tokio::select! {
                _ = axum::serve(listener, router) => {}
                () = stopped.cancelled() => {}
            }
        });
        Ok(Self {
            address,
            shared,
            stop,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its address for `COOLIFY_API_URL`, without `/api/v1`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on, and for what it holds back, behaves so.
    pub fn behave(&self, behaviour: Behaviour) {
        self.shared.behaviour.send_replace(behaviour);
    }

    /// How many requests have arrived, answered or not.
    #[must_use]
    pub fn count(&self) -> u64 {
        *self.shared.count.borrow()
    }

    /// Waits until so many requests have arrived, answered or not.
    pub async fn until(&self, count: u64) {
        let mut counted = self.shared.count.subscribe();
        // It fails only when the sample is gone, which `self` prevents.
        let _ = counted.wait_for(|&arrived| count <= arrived).await;
    }

    /// The requests that arrived, oldest first: the last 200,000.
    #[must_use]
    pub fn arrived(&self) -> Vec<Arrived> {
        lock(&self.shared.arrived).iter().cloned().collect()
    }
}

impl Drop for SampleCoolify {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A panic elsewhere does not make what is behind the lock wrong: it is replaced whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let authorized = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "))
        .is_some_and(|token| token == shared.token);
    let path = request
        .uri()
        .path_and_query()
        .map_or("/", |path| path.as_str())
        .to_owned();
    {
        let mut arrived = lock(&shared.arrived);
        if arrived.len() == REMEMBERED {
            arrived.pop_front();
        }
        arrived.push_back(Arrived {
            method: request.method().to_string(),
            path,
            authorized,
        });
    }
    shared.count.send_modify(|count| *count += 1);

    let mut behaviour = shared.behaviour.subscribe();
    // The sender lives in `shared`, so waiting for a change cannot fail.
    let now = behaviour
        .wait_for(|now| *now != Behaviour::Hold)
        .await
        .map_or(Behaviour::Answer, |now| *now);
    let mut response = match now {
        Behaviour::Answer | Behaviour::Hold => answer(&shared, request, authorized).await,
        Behaviour::Fail => {
            let body = format!(
                "Whoops, something went wrong.\nAuthorization: Bearer {}\n",
                shared.token
            );
            (
                StatusCode::INTERNAL_SERVER_ERROR,
                [(header::CONTENT_TYPE, "text/html")],
                body,
            )
                .into_response()
        }
        Behaviour::Drop => {
            // A body that fails before its first byte ends the connection without an answer.
            let gone = futures_util::stream::once(async {
                Err::<Vec<u8>, _>(std::io::Error::other("dropped"))
            });
            Response::builder()
                .header(header::CONTENT_LENGTH, "1")
                .body(Body::from_stream(gone))
                .unwrap_or_default()
        }
    };
    response
        .headers_mut()
        .insert("x-sample", HeaderValue::from_static(SAMPLE));
    response
}

/// No body that the sample reads is longer.
const MAX_BODY_BYTES: usize = 1024 * 1024;

async fn answer(shared: &Shared, request: Request, authorized: bool) -> Response {
    let (parts, body) = request.into_parts();
    let Some(path) = parts.uri.path().strip_prefix("/api/v1/") else {
        return message(StatusCode::NOT_FOUND, "Not found.");
    };
    if path == "health" && parts.method == Method::GET {
        return text("OK");
    }
    if !authorized {
        return message(StatusCode::UNAUTHORIZED, "Unauthenticated.");
    }
    // Split first, decode then: an encoded slash belongs to its segment.
    let segments: Vec<String> = path
        .split('/')
        .map(|segment| percent_decode_str(segment).decode_utf8_lossy().into_owned())
        .collect();
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let query = parts.uri.query().unwrap_or_default();
    let Ok(body) = axum::body::to_bytes(body, MAX_BODY_BYTES).await else {
        return message(StatusCode::PAYLOAD_TOO_LARGE, "Too large.");
    };
    let body: Value = if body.is_empty() {
        Value::Null
    } else {
        match serde_json::from_slice(&body) {
            Ok(body) => body,
            Err(_) => return message(StatusCode::BAD_REQUEST, "Invalid JSON."),
        }
    };
    route(
        &mut lock(&shared.inventory),
        &parts.method,
        &segments,
        query,
        &body,
    )
}

fn route(
    inventory: &mut Inventory,
    method: &Method,
    segments: &[&str],
    query: &str,
    body: &Value,
) -> Response {
    let get = method == Method::GET;
    let post = method == Method::POST;
    match segments {
        ["version"] if get => text(VERSION),
        ["resources"] if get => ok(inventory.resources()),
        ["teams"] if get => ok(Inventory::teams()),
        ["teams", "current"] if get => ok(Inventory::team()),
        ["teams", "current", "members"] if get => ok(Inventory::members()),

        ["deploy"] if post => deploy(inventory, query, body),
        ["deploy"] if get => changed_to_post(),
        ["deployments"] if get => ok(inventory.running_deployments()),
        ["deployments", "applications", uuid] if get => {
            match inventory.find(Kind::Application, uuid) {
                Some(_) => ok(inventory.history(uuid, query)),
                None => not_found(Kind::Application),
            }
        }
        ["deployments", uuid] if get => found(inventory.deployment(uuid), "Deployment not found."),
        ["deployments", uuid, "cancel"] if post => match inventory.cancel_deployment(uuid) {
            None => message(StatusCode::NOT_FOUND, "Deployment not found."),
            Some(Err(status)) => message(
                StatusCode::BAD_REQUEST,
                &format!("Deployment cannot be cancelled. Current status: {status}"),
            ),
            Some(Ok(answer)) => ok(answer),
        },

        ["projects", uuid, "environments"] if get => {
            found(inventory.environments(uuid), "Project not found.")
        }
        ["projects", uuid, environment] if get => found(
            inventory.environment(uuid, environment),
            "Environment not found.",
        ),

        [kind, rest @ ..] => match Kind::of(kind) {
            Some(kind) => of_kind(inventory, kind, method, rest, query, body),
            None => message(StatusCode::NOT_FOUND, "Not found."),
        },
        [] => message(StatusCode::NOT_FOUND, "Not found."),
    }
}

fn of_kind(
    inventory: &mut Inventory,
    kind: Kind,
    method: &Method,
    rest: &[&str],
    query: &str,
    body: &Value,
) -> Response {
    let get = method == Method::GET;
    let post = method == Method::POST;
    if let [uuid, ..] = rest
        && inventory.find(kind, uuid).is_none()
    {
        return not_found(kind);
    }
    match (kind, rest) {
        (_, []) if get => ok(inventory.list(kind)),
        (Kind::Project, []) if post => match body.get("name").and_then(Value::as_str) {
            Some(name) => created(inventory.create_project(name, body.get("description"))),
            None => invalid("name", "The name field is required."),
        },
        (_, [uuid]) if get => found(inventory.find(kind, uuid), "Not found."),
        (_, [uuid]) if method == Method::DELETE => {
            inventory.delete(kind, uuid);
            ok(json!({"message": format!("{} deletion request queued.", kind.word())}))
        }
        (Kind::Server, [uuid, "resources"]) if get => ok(inventory.server_resources(uuid)),
        (Kind::Server, [uuid, "domains"]) if get => ok(inventory.server_domains(uuid)),
        (Kind::Server, [_, "validate"]) if post => {
            created(json!({"message": "Validation started."}))
        }
        (Kind::Server, [_, "validate"]) => changed_to_post(),
        (
            Kind::Application | Kind::Database | Kind::Service,
            [uuid, verb @ ("start" | "stop" | "restart")],
        ) => {
            if post {
                ok(inventory.act(kind, uuid, verb))
            } else {
                changed_to_post()
            }
        }
        (Kind::Application | Kind::Database | Kind::Service, [uuid, "logs"]) if get => {
            match inventory.logs(kind, uuid, query) {
                Some(logs) => ok(json!({"logs": logs})),
                None => message(
                    StatusCode::BAD_REQUEST,
                    &format!("{} is not running.", kind.word()),
                ),
            }
        }
        (Kind::Application | Kind::Service, [uuid, "envs"]) if get => ok(inventory.envs(uuid)),
        (Kind::Application | Kind::Service, [uuid, "envs"]) if post => {
            match body.get("key").and_then(Value::as_str) {
                Some(key) => created(inventory.set_env(uuid, key, body.get("value"))),
                None => invalid("key", "The key field is required."),
            }
        }
        _ => message(StatusCode::NOT_FOUND, "Not found."),
    }
}

fn deploy(inventory: &mut Inventory, query: &str, body: &Value) -> Response {
    let uuids = parameter(query, "uuid")
        .or_else(|| body.get("uuid").and_then(Value::as_str).map(str::to_owned))
        .unwrap_or_default();
    let uuids: Vec<&str> = uuids.split(',').filter(|uuid| !uuid.is_empty()).collect();
    if uuids.is_empty() {
        return message(StatusCode::BAD_REQUEST, "You must provide uuid or tag.");
    }
    let deployments: Vec<Value> = uuids
        .iter()
        .filter_map(|uuid| inventory.deploy(uuid))
        .collect();
    if deployments.is_empty() {
        return message(StatusCode::NOT_FOUND, "No resources found.");
    }
    ok(json!({"deployments": deployments}))
}

/// A parameter of a query, decoded.
fn parameter(query: &str, name: &str) -> Option<String> {
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key == name).then(|| {
            percent_decode_str(&value.replace('+', " "))
                .decode_utf8_lossy()
                .into_owned()
        })
    })
}

#[allow(clippy::needless_pass_by_value, reason = "callers make it on the spot")]
fn json_answer(status: StatusCode, body: Value) -> Response {
    (
        status,
        [(header::CONTENT_TYPE, "application/json")],
        body.to_string(),
    )
        .into_response()
}

fn ok(body: Value) -> Response {
    json_answer(StatusCode::OK, body)
}

fn created(body: Value) -> Response {
    json_answer(StatusCode::CREATED, body)
}

fn found(body: Option<Value>, otherwise: &str) -> Response {
    body.map_or_else(|| message(StatusCode::NOT_FOUND, otherwise), ok)
}

/// Coolify answers these two as `text/html`.
fn text(body: &'static str) -> Response {
    ([(header::CONTENT_TYPE, "text/html; charset=UTF-8")], body).into_response()
}

fn message(status: StatusCode, text: &str) -> Response {
    json_answer(status, json!({"message": text}))
}

fn not_found(kind: Kind) -> Response {
    message(
        StatusCode::NOT_FOUND,
        &format!("{} not found.", kind.word()),
    )
}

fn invalid(field: &str, problem: &str) -> Response {
    let body = json!({"message": "Validation failed.", "errors": {field: [problem]}});
    json_answer(StatusCode::UNPROCESSABLE_ENTITY, body)
}

fn changed_to_post() -> Response {
    let mut response = message(
        StatusCode::METHOD_NOT_ALLOWED,
        "This endpoint has changed to a POST request.",
    );
    response
        .headers_mut()
        .insert(header::ALLOW, HeaderValue::from_static("POST"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "1|sample";

    async fn call(
        sample: &SampleCoolify,
        method: Method,
        path: &str,
    ) -> (StatusCode, Value, http::HeaderMap) {
        let response = reqwest::Client::builder()
            .no_proxy()
            .build()
            .unwrap()
            .request(method, format!("{}/api/v1{path}", sample.url()))
            .bearer_auth(TOKEN)
            .send()
            .await
            .unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let text = response.text().await.unwrap();
        (
            status,
            serde_json::from_str(&text).unwrap_or(Value::String(text)),
            headers,
        )
    }

    #[tokio::test]
    async fn it_says_that_it_is_a_sample_and_wants_its_token() {
        let sample = SampleCoolify::start(TOKEN).await.unwrap();
        let (status, servers, headers) = call(&sample, Method::GET, "/servers").await;
        assert_eq!(status, 200);
        assert_eq!(headers["x-sample"], SAMPLE);
        assert!(
            servers
                .as_array()
                .unwrap()
                .iter()
                .all(|server| server["name"].as_str().unwrap().starts_with("sample-"))
        );
        let (_, version, headers) = call(&sample, Method::GET, "/version").await;
        assert_eq!(version, VERSION);
        assert!(
            headers["content-type"]
                .to_str()
                .unwrap()
                .starts_with("text/html")
        );

        let bare = reqwest::get(format!("{}/api/v1/servers", sample.url()))
            .await
            .unwrap();
        assert_eq!(bare.status(), 401);
        assert_eq!(sample.count(), 3);
        assert_eq!(
            sample
                .arrived()
                .iter()
                .map(|arrived| arrived.authorized)
                .collect::<Vec<_>>(),
            [true, true, false]
        );
    }

    #[tokio::test]
    async fn what_is_stopped_is_reported_as_stopped() {
        let sample = SampleCoolify::start(TOKEN).await.unwrap();
        let (_, list, _) = call(&sample, Method::GET, "/applications").await;
        let uuid = list[0]["uuid"].as_str().unwrap().to_owned();
        assert_eq!(uuid.len(), 24);
        let (status, _, headers) =
            call(&sample, Method::GET, &format!("/applications/{uuid}/stop")).await;
        assert_eq!(
            (status, headers["allow"].to_str().unwrap()),
            (StatusCode::METHOD_NOT_ALLOWED, "POST")
        );
        let (status, ..) = call(&sample, Method::POST, &format!("/applications/{uuid}/stop")).await;
        assert_eq!(status, 200);
        let (_, application, _) =
            call(&sample, Method::GET, &format!("/applications/{uuid}")).await;
        assert!(
            application["status"]
                .as_str()
                .unwrap()
                .starts_with("exited"),
            "{application}"
        );
        let (status, _, _) =
            call(&sample, Method::GET, &format!("/applications/{uuid}/logs")).await;
        assert_eq!(status, 400, "no logs while stopped");
        let (_, started, _) = call(
            &sample,
            Method::POST,
            &format!("/applications/{uuid}/start"),
        )
        .await;
        let deployment = started["deployment_uuid"].as_str().unwrap();
        let (status, deployment, _) =
            call(&sample, Method::GET, &format!("/deployments/{deployment}")).await;
        assert_eq!(
            (status, &deployment["application_name"]),
            (StatusCode::OK, &list[0]["name"])
        );
        let (status, logs, _) = call(
            &sample,
            Method::GET,
            &format!("/applications/{uuid}/logs?lines=2"),
        )
        .await;
        assert_eq!(
            (status, logs["logs"].as_str().unwrap().lines().count()),
            (StatusCode::OK, 2)
        );
    }

    #[tokio::test]
    async fn an_encoded_slash_stays_in_its_segment() {
        let sample = SampleCoolify::start(TOKEN).await.unwrap();
        let (status, body, _) = call(
            &sample,
            Method::GET,
            "/applications/x%2F..%2F..%2Fdatabases",
        )
        .await;
        assert_eq!(
            (status, body["message"].as_str().unwrap()),
            (StatusCode::NOT_FOUND, "Application not found.")
        );
        assert_eq!(
            sample.arrived()[0].path,
            "/api/v1/applications/x%2F..%2F..%2Fdatabases"
        );
    }

    #[tokio::test]
    async fn it_fails_on_command() {
        let sample = SampleCoolify::start(TOKEN).await.unwrap();
        sample.behave(Behaviour::Fail);
        let (status, body, _) = call(&sample, Method::GET, "/servers").await;
        assert_eq!(status, 500);
        assert!(
            body.as_str().unwrap().contains(TOKEN),
            "the secret that a test looks for"
        );
        sample.behave(Behaviour::Drop);
        let dropped = reqwest::get(format!("{}/api/v1/servers", sample.url())).await;
        assert!(match dropped {
            Err(_) => true,
            Ok(response) => response.bytes().await.is_err(),
        });
        sample.behave(Behaviour::Hold);
        let address = sample.url();
        let held = tokio::spawn(async move {
            reqwest::get(format!("{address}/api/v1/health"))
                .await
                .unwrap()
                .status()
        });
        while sample.count() < 3 {
            tokio::task::yield_now().await;
        }
        assert!(!held.is_finished());
        sample.behave(Behaviour::Answer);
        assert_eq!(held.await.unwrap(), 200);
    }
}
