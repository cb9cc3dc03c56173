//! The official conformance suite, through the gateway and past it.
//!
//! Scenarios count, not checks: a server that is not there passes a third of those. Nothing
//! is on a list of known failures.

use std::{collections::BTreeMap, fmt::Write};

use cedargate_tests::mcp::{Checks, conformance, failures};
use mcp_fixture::Fixture;
use tempfile::TempDir;

/// How many scenarios each revision has: those that it requires, and all.
const REVISIONS: [(&str, usize); 2] = [("2025-11-25", 33), ("2026-07-28", 50)];

/// What we hold the gateway against: a server that passes everything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_fixture_passes_every_scenario() -> anyhow::Result<()> {
    let fixture = Fixture::start(None).await?;
    for (revision, scenarios) in REVISIONS {
        let passed = passes(&fixture.url(), revision).await?;
        assert_eq!(passed.len(), scenarios, "{revision}: {passed:?}");
    }
    Ok(())
}

/// Runs the suite, and says everything about each scenario that failed.
async fn passes(url: &str, revision: &str) -> anyhow::Result<BTreeMap<String, Checks>> {
    let results = TempDir::with_prefix("cedargate-conformance-")?;
    let scenarios = conformance(url, revision, results.path()).await?;
    let mut told = String::new();
    for (scenario, checks) in &scenarios {
        if checks.failed > 0 {
            writeln!(told, "\n✗ {revision} {scenario}: {checks:?}")?;
            told.push_str(&failures(results.path(), scenario)?);
        }
    }
    anyhow::ensure!(told.is_empty(), "{told}");
    Ok(scenarios)
}
