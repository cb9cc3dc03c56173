//! The running planes against their own descriptions: a fuzzer reads each document and
//! sends what it allows and what it does not, as whoever calls. No answer may be an error
//! of ours, and none may be undocumented.

use cedargate_tests::{Layout, System, system::CONTROL_TOKEN};
use serde_json::json;
use tokio::process::Command;

/// The program, which `tests/run` installs; `--quick` does without.
const TOOL: &str = "CEDARGATE_SCHEMATHESIS";

/// No request is answered so late, streams are left out below.
const REQUEST_TIMEOUT_SECONDS: &str = "20";

/// Who calls, and with which header.
type Caller = (&'static str, Option<String>);

/// Fuzzes what `document` describes, but for some paths.
async fn fuzz(document: &str, callers: &[Caller], excluded: &[&str]) -> anyhow::Result<()> {
    let Some(tool) = std::env::var_os(TOOL) else {
        eprintln!("{TOOL} is not set: nothing is fuzzed (`tests/run` sets it)");
        return Ok(());
    };
    for (caller, credential) in callers {
        let folder = tempfile::tempdir()?;
        let mut command = Command::new(&tool);
        command
            .current_dir(folder.path())
            .args(["run", document, "--no-color", "--seed", "20261122"])
            .args(["--phases", "examples,coverage,fuzzing"])
            .args([
                "--max-examples",
                if credential.is_some() { "8" } else { "2" },
            ])
            .args(["--workers", "1", "--continue-on-failure", "--no-shrink"])
            .args(["--generation-database", "none", "--warnings", "off"])
            .args(["--request-timeout", REQUEST_TIMEOUT_SECONDS])
            .args(["--suppress-health-check", "all"])
            .args([
                "--checks",
                "not_a_server_error,status_code_conformance,content_type_conformance,\
                 response_headers_conformance,response_schema_conformance",
            ])
            .kill_on_drop(true);
        for path in excluded {
            command.args(["--exclude-path", path]);
        }
        if let Some(credential) = credential {
            command.args(["--header", credential]);
        }
        let output = command.output().await?;
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && said.contains("Tested:"),
            "as {caller}:\n{said}\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_of_the_orchestrator_is_documented() -> anyhow::Result<()> {
    let system = System::start(Layout::OneProcess).await?;
    // Something to find under the names that the document gives as examples.
    system.create_agent(json!({"name": "deploy-bot"})).await?;
    let document = format!("{}/api/openapi.json", system.orchestrator_url);
    let callers = [
        (
            "a user",
            Some(format!("Authorization: Bearer {}", system.admin)),
        ),
        (
            "a gateway",
            Some(format!("Authorization: Bearer {CONTROL_TOKEN}")),
        ),
        ("nobody", None),
    ];
    // They go on until the reader has enough.
    fuzz(&document, &callers, &["/api/feed", "/ws"]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_of_the_gateway_is_documented() -> anyhow::Result<()> {
    let system = System::start(Layout::OneProcess).await?;
    // One who may read and write, so that commands are carried out; and one who must ask.
    let mut callers = vec![("the local agent", None)];
    for (who, agent) in [
        (
            "an agent with access",
            json!({"name": "deploy-bot", "allowed_mcps": ["coolify"]}),
        ),
        ("an agent without", json!({"name": "new-bot"})),
    ] {
        let agent = system.create_agent(agent).await?;
        let token = system.create_agent_token(&agent).await?;
        callers.push((who, Some(format!("Authorization: Bearer {token}"))));
    }
    let document = format!("{}/openapi.json", system.gateway_url);
    fuzz(&document, &callers, &[]).await
}
