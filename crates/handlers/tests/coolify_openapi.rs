//! The contract with Coolify: every command's example goes through the engine to a Prism
//! server that knows Coolify's own OpenAPI document, and none may violate it; and so does
//! every command of the description that is imported from the document.
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
#[path = "prism/imported.rs"]
mod imported;
#[path = "prism/witness.rs"]
mod witness;

use handlers::Catalog;
use witness::{Witness, named_document, send_all, start_prism};

/// Where the document has a placeholder for an answer, which the engine rightly refuses.
const PLACEHOLDERS: &[&str] = &[
    "list-databases",
    "get-database",
    "list-backups",
    "list-resources",
];

const DOCUMENT: &str = "CEDARGATE_COOLIFY_OPENAPI";

#[tokio::test]
async fn every_command_fits_coolifys_own_document() {
    let Some(document) = named_document(DOCUMENT) else {
        return;
    };
    let (_prism, prism) = start_prism(&document, true).await;
    let witness = Witness::start(prism, "/api/v1").await;
    let catalog = Catalog::load(&|name| match name {
        "COOLIFY_API_URL" => Some(format!("http://{}/", witness.address)),
        "COOLIFY_API_TOKEN" => Some("1|for-prism".to_owned()),
        _ => None,
    })
    .unwrap();

    let service = catalog.service("coolify").unwrap();
    let examples = service
        .commands
        .iter()
        .map(|command| (command, command.example.clone()));
    let sent = send_all(&catalog, "coolify", &witness, examples).await;
    assert!(sent.problems.is_empty(), "{}", sent.problems.join("\n"));
    let names: Vec<&str> = sent.odd.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, PLACEHOLDERS, "{:#?}", sent.odd);
    assert_eq!(sent.count, service.commands.len());
}

#[tokio::test]
async fn what_is_imported_of_coolifys_document_fits_it() {
    let Some(document) = named_document(DOCUMENT) else {
        return;
    };
    let imported = imported::Imported::of(&document, "coolify-imported");
    assert!(imported.report.left_out.is_empty(), "{:?}", imported.report);
    assert!(imported.report.commands > 250, "{:?}", imported.report);
    let (sent, without) = imported.sent("/api/v1", usize::MAX, &[], &[]).await;
    assert!(sent.problems.is_empty(), "{}", sent.problems.join("\n"));
    assert!(sent.odd.is_empty(), "{:?}", sent.odd);
    assert!(without.is_empty(), "{without:?}");
    assert!(sent.count > imported.report.commands, "{}", sent.count);
}
