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
#[path = "prism/imported.rs"]
mod imported;
#[path = "prism/witness.rs"]
mod witness;

use std::collections::BTreeSet;

use handlers::Catalog;
use serde_json::{Value, json};
use witness::{Witness, named_document, part, send_all, shape, start_prism};

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

#[tokio::test]
async fn what_is_imported_of_githubs_document_fits_it() {
    let Some(document) = named_document("CEDARGATE_GITHUB_OPENAPI") else {
        return;
    };
    let imported = imported::Imported::of(&document, "github-imported");
    let left_out: usize = imported
        .report
        .left_out
        .iter()
        .map(|group| group.operations.len())
        .sum();
    assert_eq!((imported.report.commands, left_out), (1211, 12));
    let beside = [
        // Its path is as well that of `{base}...{head}`, which Prism takes first.
        "compare-repos-commits-with-basehead",
        // Its body may be missing or be one of several; `{}` is neither.
        "set-issues-labels",
    ];
    // These take one of several arguments, and not all of them.
    let either = [
        "add-projects-item-for-org",
        "add-projects-item-for-user",
        "create-code-scanning-variant-analysis",
    ];
    let (sent, without) = imported.sent("", 120, &beside, &either).await;
    assert!(sent.problems.is_empty(), "{}", sent.problems.join("\n"));
    assert!(without.is_empty(), "{without:?}");
    let odd: BTreeSet<&str> = sent.odd.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        odd.into_iter().collect::<Vec<_>>(),
        ODD_LISTS,
        "{:?}",
        sent.odd
    );
    assert!(sent.count > 1700, "{}", sent.count);
}

/// What GitHub's document has little of: several parameters in a segment, merge patches.
#[tokio::test]
async fn segments_of_several_parameters_and_merge_patches_fit_as_well() {
    if named_document("CEDARGATE_GITHUB_OPENAPI").is_none() {
        return;
    }
    let parameter = |name: &str| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string", "pattern": "^[a-z0-9]+$"}});
    let answer = json!({"200": {"description": "", "content": {"application/json": {"schema": {"type": "object"}}}}});
    let document = json!({
        "openapi": "3.1.0",
        "info": {"title": "Parts", "version": "1"},
        "servers": [{"url": "https://parts.example"}],
        "paths": {
            "/compare/{base}...{head}": {"get": {
                "operationId": "compare", "responses": answer,
                "parameters": [parameter("base"), parameter("head")]}},
            "/files/{name}.{kind}": {"patch": {
                "operationId": "changeFile", "responses": answer,
                "parameters": [parameter("name"), parameter("kind")],
                "requestBody": {"required": true, "content": {"application/merge-patch+json": {"schema": {
                    "type": "object", "additionalProperties": false, "required": ["title"],
                    "properties": {"title": {"type": "string"}, "size": {"type": "integer"}}}}}}}},
        },
    });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("parts.json");
    std::fs::write(&path, document.to_string()).unwrap();
    let imported = imported::Imported::of(&path, "parts");
    assert_eq!(imported.report.commands, 2);
    let (sent, without) = imported.sent("", 10, &[], &[]).await;
    assert!(sent.problems.is_empty(), "{}", sent.problems.join("\n"));
    assert!(without.is_empty(), "{without:?}");
    assert!(sent.count >= 3, "{}", sent.count);
}

/// The document's examples of these lists are objects.
const ODD_LISTS: &[&str] = &[
    "get-enterprise-team-organizations-assignments",
    "list-classroom-accepted-assignments-for-an-assignment",
    "list-classroom-assignments-for-a-classroom",
    "list-classroom-classrooms",
    "list-projects-for-org",
    "list-projects-for-user",
    "list-projects-items-for-org",
    "list-projects-items-for-user",
    "list-projects-view-items-for-org",
    "list-projects-view-items-for-user",
];

async fn fits(vendor: &Vendor) {
    let Some(path) = named_document(vendor.document) else {
        return;
    };
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

    let service = catalog.service(vendor.service).unwrap();
    let examples = service
        .commands
        .iter()
        .filter(|command| !vendor.beside.contains(&command.name.as_str()))
        .map(|command| (command, command.example.clone()));
    let sent = send_all(&catalog, vendor.service, &witness, examples).await;
    assert!(sent.problems.is_empty(), "{}", sent.problems.join("\n"));
    let names: Vec<&str> = sent.odd.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, vendor.odd, "{:#?}", sent.odd);
    assert_eq!(sent.count, service.commands.len() - vendor.beside.len());
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
    part(document, |path| {
        wanted.iter().any(|ours| ours.starts_with(&shape(path)))
    })
}
