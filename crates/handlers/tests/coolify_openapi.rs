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

#[path = "prism/witness.rs"]
mod witness;

use std::{io::Write as _, path::Path};

use everything::PermitEverything;
use handlers::{Catalog, HandlerError, Parsed};
use serde_json::json;
use witness::{Exchange, Witness, document_path, start_prism};

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
    let (_prism, prism) = start_prism(&document_path(Path::new(&document)), true).await;
    let witness = Witness::start(prism, "/api/v1").await;
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
