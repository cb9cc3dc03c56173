//! The contract with vendors that publish an OpenAPI document: every command's example goes
//! through the engine to a Prism server that knows the document, and none may violate it.
//!
//! Runs for each vendor whose variable names its document, such as
//! `CEDARGATE_GITHUB_OPENAPI`; `tests/prism/documents.sh` fetches them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[path = "permit/everything.rs"]
mod everything;
#[path = "prism/witness.rs"]
mod witness;

use std::{collections::BTreeSet, io::Write as _, path::Path};

use everything::PermitEverything;
use handlers::{Catalog, HandlerError, Parsed};
use serde_json::{Map, Value, json};
use witness::{Exchange, Witness, document_path, start_prism};

/// What is special about a vendor.
struct Vendor {
    service: &'static str,
    /// Names its document.
    document: &'static str,
    address: &'static str,
    credential: &'static str,
    /// What our addresses end with and Prism's do not.
    suffix: &'static str,
    /// Commands that the document does not know.
    beside: &'static [&'static str],
    /// Commands whose answers in the document are not what the vendor sends.
    odd: &'static [&'static str],
}

#[tokio::test]
async fn every_command_fits_githubs_own_document() {
    fits(&Vendor {
        service: "github",
        document: "CEDARGATE_GITHUB_OPENAPI",
        address: "GITHUB_API_URL",
        credential: "GITHUB_PAT",
        suffix: "",
        // A branch is several segments of a path, which the document does not say.
        beside: &["delete-branch"],
        odd: &[],
    })
    .await;
}

#[tokio::test]
async fn every_command_fits_n8ns_own_document() {
    fits(&Vendor {
        service: "n8n",
        document: "CEDARGATE_N8N_OPENAPI",
        address: "N8N_API_URL",
        credential: "N8N_API_KEY",
        suffix: "/api/v1",
        beside: &["execute", "test-webhook"],
        odd: &[],
    })
    .await;
}

async fn fits(vendor: &Vendor) {
    let Some(document) = std::env::var_os(vendor.document) else {
        // Past the harness, which keeps what a passing test prints to itself.
        let skipped = format!("skipped: {} names no document\n", vendor.document);
        std::io::stderr().write_all(skipped.as_bytes()).unwrap();
        return;
    };
    let path = document_path(Path::new(&document));
    let folder = tempfile::tempdir().unwrap();
    let path = if path
        .extension()
        .is_some_and(|extension| extension == "json")
    {
        let text = std::fs::read_to_string(&path).unwrap();
        let small = folder.path().join("document.json");
        let document = only_ours(&serde_json::from_str(&text).unwrap(), vendor.service);
        std::fs::write(&small, document.to_string()).unwrap();
        small
    } else {
        path
    };
    let (_prism, prism) = start_prism(&path, false).await;
    let witness = Witness::start(prism, vendor.suffix).await;
    let address = format!("http://{}", witness.address);
    let catalog = Catalog::load(&|name| match name {
        name if name == vendor.address => Some(address.clone()),
        name if name == vendor.credential => Some("for-prism".to_owned()),
        _ => None,
    })
    .unwrap();
    let everything = PermitEverything::new();

    let service = catalog.service(vendor.service).unwrap();
    let (mut problems, mut odd, mut checked) = (Vec::new(), Vec::new(), 0);
    for command in &service.commands {
        if vendor.beside.contains(&command.name.as_str()) {
            continue;
        }
        checked += 1;
        let parsed = catalog.command(vendor.service, &command.name, command.example.clone());
        let Ok(Parsed::Command(parsed)) = parsed else {
            panic!("{}: {parsed:?}", command.name)
        };
        let answer = catalog.handle(everything.permit(parsed)).await;
        let exchanges = witness.take();
        assert!(!exchanges.is_empty(), "{}: {answer:?}", command.name);
        problems.extend(exchanges.into_iter().filter_map(|exchange| {
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
                odd.push((command.name.as_str(), message));
            }
            // Already among the problems.
            Err(_) => {}
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    let names: Vec<&str> = odd.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, vendor.odd, "{odd:#?}");
    println!("{checked} commands fit");
}

/// The part of a large document that our commands are about, with what it refers to.
fn only_ours(document: &Value, service: &str) -> Value {
    let description =
        witness::repository().join(format!("crates/handlers/services/{service}.toml"));
    let text = std::fs::read_to_string(description).unwrap();
    let wanted: BTreeSet<String> = text
        .lines()
        .filter_map(|line| {
            let (key, value) = line.split_once(" = \"")?;
            matches!(key, "request" | "fallback").then(|| shape(value.split_once(' ').unwrap().1))
        })
        .collect();
    let mut paths = Map::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        if wanted.contains(&shape(path)) || wanted.iter().any(|ours| ours.starts_with(&shape(path)))
        {
            paths.insert(path.clone(), item.clone());
        }
    }
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
fn shape(path: &str) -> String {
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
