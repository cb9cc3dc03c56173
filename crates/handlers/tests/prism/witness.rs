//! Prism, a witness between it and the engine, and the commands that pass both.

use std::{
    collections::BTreeSet,
    io::Write as _,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex},
};

use axum::{Router, body::Bytes, extract::State, http::StatusCode};
use handlers::{Catalog, HandlerError, Parsed, catalog::CommandInfo};
use serde_json::{Map, Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::TcpListener,
    process::{Child, Command as Process},
};

use crate::everything::PermitEverything;

pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// As given, or relative to the repository.
fn document_path(given: &Path) -> PathBuf {
    let path = if given.exists() {
        given.to_owned()
    } else {
        repository().join(given)
    };
    path.canonicalize()
        .unwrap_or_else(|error| panic!("{}: {error}", given.display()))
}

/// The document that a variable names; without it a test is skipped, and says so.
pub(crate) fn named_document(variable: &str) -> Option<PathBuf> {
    let document = std::env::var_os(variable);
    if document.is_none() {
        // Past the harness, which keeps what a passing test prints to itself.
        let skipped = format!("skipped: {variable} names no document\n");
        std::io::stderr().write_all(skipped.as_bytes()).unwrap();
    }
    Some(document_path(Path::new(&document?)))
}

/// Prism, and where it listens. It ends with the value. With `errors` it also refuses to
/// answer what its document's own examples get wrong.
pub(crate) async fn start_prism(document: &Path, errors: bool) -> (Child, SocketAddr) {
    let program = repository().join("tests/prism/node_modules/.bin/prism");
    assert!(program.exists(), "run `npm ci --prefix tests/prism` first");
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let mut prism = Process::new(program)
        .args(["mock", "--host", "127.0.0.1", "--port", &port.to_string()])
        .args(errors.then_some("--errors"))
        .arg(document)
        .env("CI", "true")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(prism.stdout.take().unwrap()).lines();
    loop {
        let line = lines
            .next_line()
            .await
            .unwrap()
            .expect("Prism ended before it listened");
        if line.contains("Prism is listening on") {
            break;
        }
    }
    // A full pipe would stop it.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    (prism, SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
}

/// One request as Prism judged it.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) request: String,
    pub(crate) status: u16,
    pub(crate) violations: String,
}

/// Stands between engine and Prism: the engine shows agents no headers, and Prism tells
/// violations in one. Prism knows no `/api/v1`.
#[derive(Clone)]
pub(crate) struct Witness {
    pub(crate) address: SocketAddr,
    prism: SocketAddr,
    suffix: &'static str,
    client: reqwest::Client,
    exchanges: Arc<Mutex<Vec<Exchange>>>,
}

impl Witness {
    /// `suffix` is what our addresses end with and Prism's do not.
    pub(crate) async fn start(prism: SocketAddr, suffix: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let witness = Self {
            address: listener.local_addr().unwrap(),
            prism,
            suffix,
            client,
            exchanges: Arc::default(),
        };
        let app = Router::new()
            .fallback(Self::pass)
            .with_state(witness.clone());
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        witness
    }

    async fn pass(
        State(witness): State<Self>,
        method: axum::http::Method,
        uri: axum::http::Uri,
        headers: axum::http::HeaderMap,
        body: Bytes,
    ) -> (StatusCode, Vec<u8>) {
        let path = uri.path_and_query().unwrap().as_str();
        let path = path
            .strip_prefix(witness.suffix)
            .expect("the suffix of the address");
        let mut request = witness
            .client
            .request(method.clone(), format!("http://{}{path}", witness.prism))
            .body(body.clone());
        for name in ["authorization", "content-type", "accept", "x-n8n-api-key"] {
            if let Some(value) = headers.get(name) {
                request = request.header(name, value);
            }
        }
        let response = request.send().await.unwrap();
        let status = response.status();
        let told: Vec<Value> = response
            .headers()
            .get("sl-violations")
            .map(|value| {
                serde_json::from_slice(value.as_bytes()).unwrap_or_else(|_| {
                    // Too many to tell; of whose they are the beginning is told.
                    let text = String::from_utf8_lossy(value.as_bytes());
                    let whose = ["request", "response"]
                        .into_iter()
                        .find(|whose| text.contains(&format!("[\"{whose}\"")));
                    vec![json!({"location": [whose.unwrap_or("request")], "message": text})]
                })
            })
            .unwrap_or_default();
        // Prism also judges its own answers; those are not ours.
        let ours = told
            .iter()
            .filter(|violation| violation["location"][0] == json!("request"));
        let violations: Vec<String> = ours
            .map(|violation| violation["message"].to_string())
            .collect();
        let request = format!("{method} {path} {}", String::from_utf8_lossy(&body));
        let exchange = Exchange {
            request,
            status: status.as_u16(),
            violations: violations.join("; "),
        };
        witness.exchanges.lock().unwrap().push(exchange);
        (status, response.bytes().await.unwrap().to_vec())
    }

    pub(crate) fn take(&self) -> Vec<Exchange> {
        std::mem::take(&mut self.exchanges.lock().unwrap())
    }
}

/// What came of sending commands.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    /// How many were sent.
    pub(crate) count: usize,
    /// Requests that Prism refused, or found wrong.
    pub(crate) problems: Vec<String>,
    /// Commands whose answers the engine did not understand, and why.
    pub(crate) odd: Vec<(String, String)>,
}

impl Sent {
    pub(crate) fn extend(&mut self, other: Self) {
        self.count += other.count;
        self.problems.extend(other.problems);
        self.odd.extend(other.odd);
    }
}

/// Sends commands of a service, each with its arguments and through a permit of its own.
pub(crate) async fn send_all<'a>(
    catalog: &Catalog,
    service: &str,
    witness: &Witness,
    commands: impl IntoIterator<Item = (&'a CommandInfo, Value)>,
) -> Sent {
    let everything = PermitEverything::new();
    let mut sent = Sent::default();
    for (command, arguments) in commands {
        let parsed = catalog.command(service, &command.name, arguments);
        let Ok(Parsed::Command(parsed)) = parsed else {
            panic!("{}: {parsed:?}", command.name)
        };
        sent.count += 1;
        let answer = catalog.handle(everything.permit(parsed)).await;
        let exchanges = witness.take();
        assert!(!exchanges.is_empty(), "{}: {answer:?}", command.name);
        sent.problems
            .extend(exchanges.into_iter().filter_map(|exchange| {
                let Exchange {
                    request,
                    status,
                    violations,
                } = exchange;
                (status >= 400 || !violations.is_empty())
                    .then(|| format!("{}: {request}: {status} {violations}", command.name))
            }));
        match answer {
            Ok(answer) => assert_eq!(
                answer.data["operation"],
                json!(command.name.replace('-', "_"))
            ),
            Err(HandlerError::Failed { message, .. }) => {
                sent.odd.push((command.name.clone(), message));
            }
            // Already among the problems.
            Err(_) => {}
        }
    }
    sent
}

/// A document with some of its paths, and what they refer to: Prism takes minutes for all
/// of a large one.
pub(crate) fn part(document: &Value, wanted: impl Fn(&str) -> bool) -> Value {
    let paths: Map<String, Value> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .filter(|(path, _)| wanted(path))
        .map(|(path, item)| (path.clone(), item.clone()))
        .collect();
    let mut small = json!({
        "openapi": document["openapi"], "info": document["info"], "paths": paths, "components": {},
    });
    let mut known = BTreeSet::new();
    let mut found = references(&small);
    while let Some(reference) = found.pop_first() {
        if !known.insert(reference.clone()) {
            continue;
        }
        let parts: Vec<&str> = reference.split('/').skip(1).collect();
        let target = document[parts[0]][parts[1]][parts[2]].clone();
        found.extend(references(&target));
        small[parts[0]][parts[1]][parts[2]] = target;
    }
    small
}

/// `/repos/{}/{}`: what placeholders are called does not matter.
pub(crate) fn shape(path: &str) -> String {
    let segments = path.trim_end_matches('"').split('/').map(|segment| {
        if segment.starts_with('{') {
            "{}"
        } else {
            segment
        }
    });
    segments.collect::<Vec<_>>().join("/")
}

fn references(value: &Value) -> BTreeSet<String> {
    match value {
        Value::Object(fields) => fields
            .iter()
            .flat_map(|(key, value)| match value {
                Value::String(target) if key == "$ref" => BTreeSet::from([target.clone()]),
                value => references(value),
            })
            .collect(),
        Value::Array(items) => items.iter().flat_map(references).collect(),
        _ => BTreeSet::new(),
    }
}
