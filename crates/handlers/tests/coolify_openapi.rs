//! The contract with Coolify: every command's example goes through the engine to a Prism
//! server that knows Coolify's own OpenAPI document, and none may violate it.
//!
//! Runs when `CEDARGATE_COOLIFY_OPENAPI` names the document; Prism comes from
//! `npm ci --prefix tests/prism`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[path = "permit/everything.rs"]
mod everything;

use std::{
    io::Write as _,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex},
};

use axum::{Router, body::Bytes, extract::State, http::StatusCode};
use everything::PermitEverything;
use handlers::{Catalog, HandlerError, Parsed};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::TcpListener,
    process::{Child, Command as Process},
};

/// Where the document has a placeholder for an answer, which the engine rightly refuses.
const PLACEHOLDERS: &[&str] = &[
    "list-databases",
    "get-database",
    "list-backups",
    "list-resources",
];

#[tokio::test]
async fn every_command_fits_coolifys_own_document() {
    let Some(document) = std::env::var_os("CEDARGATE_COOLIFY_OPENAPI") else {
        // Past the harness, which keeps what a passing test prints to itself.
        let skipped = "skipped: CEDARGATE_COOLIFY_OPENAPI does not name Coolify's OpenAPI document";
        writeln!(std::io::stderr(), "{skipped}").unwrap();
        return;
    };
    let (_prism, prism) = start_prism(&document_path(Path::new(&document))).await;
    let witness = Witness::start(prism).await;
    let catalog = Catalog::load(&|name| match name {
        "COOLIFY_API_URL" => Some(format!("http://{}/", witness.address)),
        "COOLIFY_API_TOKEN" => Some("1|for-prism".to_owned()),
        _ => None,
    })
    .unwrap();
    let everything = PermitEverything::new();

    let service = catalog.service("coolify").unwrap();
    let (mut violations, mut not_understood) = (Vec::new(), Vec::new());
    for command in &service.commands {
        let parsed = catalog.command("coolify", &command.name, command.example.clone());
        let Ok(Parsed::Command(parsed)) = parsed else {
            panic!("{}: {parsed:?}", command.name)
        };
        let answer = catalog.handle(everything.permit(parsed)).await;
        let exchanges = witness.take();
        assert_eq!(exchanges.len(), 1, "{}: {exchanges:?}", command.name);
        violations.extend(exchanges.into_iter().filter_map(|exchange| {
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
                not_understood.push((command.name.as_str(), message));
            }
            // Already among the violations.
            Err(_) => {}
        }
    }
    assert!(violations.is_empty(), "{}", violations.join("\n"));
    let names: Vec<&str> = not_understood.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, PLACEHOLDERS, "{not_understood:#?}");
    println!("{} commands fit", service.commands.len());
}

fn repository() -> PathBuf {
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

/// Prism, and where it listens. It ends with the value.
async fn start_prism(document: &Path) -> (Child, SocketAddr) {
    let program = repository().join("tests/prism/node_modules/.bin/prism");
    assert!(program.exists(), "run `npm ci --prefix tests/prism` first");
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let mut prism = Process::new(program)
        .args([
            "mock",
            "--errors",
            "--host",
            "127.0.0.1",
            "--port",
            &port.to_string(),
        ])
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
struct Exchange {
    request: String,
    status: u16,
    violations: String,
}

/// Stands between engine and Prism: the engine shows agents no headers, and Prism tells
/// violations in one. Prism knows no `/api/v1`.
#[derive(Clone)]
struct Witness {
    address: SocketAddr,
    prism: SocketAddr,
    client: reqwest::Client,
    exchanges: Arc<Mutex<Vec<Exchange>>>,
}

impl Witness {
    async fn start(prism: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let witness = Self {
            address: listener.local_addr().unwrap(),
            prism,
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
            .strip_prefix("/api/v1")
            .expect("the suffix of the address");
        let mut request = witness
            .client
            .request(method.clone(), format!("http://{}{path}", witness.prism))
            .body(body.clone());
        for name in ["authorization", "content-type", "accept"] {
            if let Some(value) = headers.get(name) {
                request = request.header(name, value);
            }
        }
        let response = request.send().await.unwrap();
        let status = response.status();
        let told: Vec<Value> = response
            .headers()
            .get("sl-violations")
            .map(|value| serde_json::from_slice(value.as_bytes()).unwrap())
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

    fn take(&self) -> Vec<Exchange> {
        std::mem::take(&mut self.exchanges.lock().unwrap())
    }
}
