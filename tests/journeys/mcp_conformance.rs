//! The official conformance suite, through the gateway and past it.
//!
//! Scenarios count, and each must pass as many checks as directly: a server that is not
//! there passes a third of all checks. Nothing is on a list of known failures.

use std::{collections::BTreeMap, fmt::Write};

use cedargate_tests::mcp::{Checks, Policies, World, conformance, failures};
use mcp_fixture::{Fixture, Relay};
use tempfile::TempDir;

/// What the fixture wants of the gateway, and the agent never has.
const CREDENTIAL: &str = "credential-of-the-fixture";

/// How many scenarios each revision has: those that it requires, and all.
const REVISIONS: [(&str, usize); 2] = [("2025-11-25", 33), ("2026-07-28", 50)];

/// What we hold the gateway against is a server that passes everything; it passes as much
/// through the gateway, whoever asks for its credential.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_scenario_passes_through_the_gateway() -> anyhow::Result<()> {
    let directly = Fixture::start(None).await?;
    let fixture = Fixture::start(Some(CREDENTIAL)).await?;
    let table = format!(
        "url = \"{}\"\n[mcp.credential]\nvariable = \"FIXTURE_TOKEN\"\nheader = \"authorization\"\nprefix = \"Bearer \"",
        fixture.url()
    );
    let world = World::start(
        &[("fixture", table)],
        Policies::Permissive,
        &[("FIXTURE_TOKEN", CREDENTIAL)],
    )
    .await?;
    // The suite cannot send a credential.
    let bearer = format!("Bearer {}", world.token);
    let shim = Relay::start(&world.system.gateway_url, &[("authorization", &bearer)]).await?;
    let through = format!("{}/mcp/fixture", shim.url());
    let direct = directly.url();
    for (revision, scenarios) in REVISIONS {
        let (expected, passed) =
            tokio::try_join!(passes(&direct, revision), passes(&through, revision))?;
        assert_eq!(expected.len(), scenarios, "{revision}: {expected:?}");
        for (scenario, checks) in &expected {
            let found = passed.get(scenario);
            assert!(
                found.is_some_and(|found| found.passed >= checks.passed),
                "{revision} {scenario}: {checks:?} directly, {found:?} through the gateway"
            );
        }
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
