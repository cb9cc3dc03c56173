//! The pages in a real Chromium, driven by the scripts of `tests/browser`.

use std::{path::Path, process::Stdio, time::Duration};

use anyhow::Context;
use cedargate_tests::{Layout, System};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::process::Command;

/// A story of dozens of pages on a busy machine.
const PATIENCE: Duration = Duration::from_mins(8);

/// What some layer might take for something else, in a text that an agent wrote.
const HOSTILE: &str = "'; DROP TABLE approvals; --\n<script>alert(1)</script><img src=x onerror=alert(1)>\
    <b>bold</b> \" onmouseover=\"alert(1) \u{202e}txt.exe\u{200b} {{7*7}} &amp;";

/// The same as an argument, where a command line may hold it.
const HOSTILE_ARGUMENT: &str =
    "/mcp-coolify deploy-application --tag '<script>alert(2)</script>\u{202e}x'";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_page_is_whole() -> anyhow::Result<()> {
    story("pages.js").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_story_by_clicks() -> anyhow::Result<()> {
    story("clicks.js").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_story_by_keyboard_alone() -> anyhow::Result<()> {
    story("keys.js").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operators_pages_by_keyboard_alone() -> anyhow::Result<()> {
    story("console_keys.js").await
}

/// Starts a system with something on every page, and runs one script against it.
async fn story(script: &str) -> anyhow::Result<()> {
    let system = System::start(Layout::OneProcess).await?;
    let known = sample(&system).await?;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("browser");
    anyhow::ensure!(
        folder.join("node_modules").exists(),
        "the browser's packages are missing: `tests/run` installs them, or `npm ci --prefix tests/browser`"
    );
    let run = Command::new("node")
        .arg(script)
        .current_dir(&folder)
        .env("SYSTEM", known.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(PATIENCE, run)
        .await
        .context("the browser's story does not end")?
        .context("node does not start: `tests/run` installs it")?;
    anyhow::ensure!(
        output.status.success(),
        "{script}:\n{}\n{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
        warnings(&system.gateway.log()),
    );
    Ok(())
}

/// What the system itself complained of.
fn warnings(log: &str) -> String {
    let told = |line: &&str| line.contains("\"WARN\"") || line.contains("\"ERROR\"");
    log.lines().filter(told).collect::<Vec<_>>().join("\n")
}

/// Agents, people and requests, so that no page is empty; and how to reach them.
#[expect(clippy::too_many_lines, reason = "one story of one system")]
async fn sample(system: &System) -> anyhow::Result<Value> {
    let approver = system.create_user("paula", &["approver"]).await?;
    let security = system
        .create_user("sam@example.com", &["security", "admin"])
        .await?;
    let named = json!({"id": "hostile", "name": HOSTILE.replace('\n', " "), "roles": ["viewer"], "teams": ["ops"]});
    let reply = system.admin(Method::POST, "/api/users", named).await?;
    anyhow::ensure!(reply.status.is_success(), "{reply:?}");

    let agent = async |name: &str, teams: Value, services: Value| {
        system
            .create_agent(json!({"name": name, "owner": "admin", "teams": teams, "roles": ["deployer"], "allowed_mcps": services}))
            .await
    };
    let deployer = agent("deploy-bot", json!(["platform", "web"]), json!(["github"])).await?;
    let janitor = agent("night-janitor", json!(["ops"]), json!([])).await?;
    let hostile = agent("sql-dropper", json!([]), json!([])).await?;
    system.create_agent_token(&deployer).await?;

    let ask = async |agent: &str, command: &str, reason: &str| {
        let request = system
            .gateway(Method::POST, "/execute")
            .header("X-Agent-Id", agent)
            .json(&json!({"command": command, "reason": reason}));
        let reply = system.send(request).await?;
        reply.body["error"]["data"]["request_id"]
            .as_str()
            .map(str::to_owned)
            .with_context(|| format!("{command}: {reply:?}"))
    };
    let respond = async |request: &str, approved: bool, reason: &str| {
        let body = json!({"request_id": request, "approved": approved, "reason": reason});
        let request = system
            .orchestrator(Method::POST, "/api/mcp/permission-respond")
            .bearer_auth(&approver)
            .json(&body);
        let reply = system.send(request).await?;
        anyhow::ensure!(reply.status.is_success(), "{reply:?}");
        anyhow::Ok(())
    };
    let permitted = ask(
        &deployer,
        "/mcp-coolify servers list",
        "Which servers have room for the preview?",
    )
    .await?;
    respond(&permitted, true, "Read only, and the release is today.").await?;
    system
        .execute(&deployer, "/mcp-coolify servers list")
        .await?;
    let rejected = ask(
        &janitor,
        "/mcp-coolify applications list",
        "Looking for what nobody uses.",
    )
    .await?;
    respond(
        &rejected,
        false,
        "Not while the audit is running; ask again on Monday.",
    )
    .await?;

    let destroy = ask(
        &janitor,
        "/mcp-coolify delete-server --uuid srv-7f3a",
        "It has been idle for 40 days and costs 90 € a month.",
    )
    .await?;
    for uuid in ["shop-api", "shop-worker", "shop-web", "shop-cron"] {
        let command = format!("/mcp-coolify restart-application --uuid {uuid}");
        ask(
            &deployer,
            &command,
            "Out of memory since 02:14; a restart frees it until the fix is out.",
        )
        .await?;
    }
    let write = ask(
        &deployer,
        "/mcp-coolify deploy-application --uuid shop-api",
        "Version 4.2.1 has passed staging.",
    )
    .await?;
    ask(
        &janitor,
        "/mcp-coolify get-application-logs --uuid shop-worker",
        "",
    )
    .await?;
    let hostile_request = ask(&hostile, HOSTILE_ARGUMENT, HOSTILE).await?;
    let policy_set = another_policy_set(system, &security).await?;

    Ok(json!({
        "policySet": policy_set,
        "orchestrator": system.orchestrator_url,
        "gateway": system.gateway_url,
        "admin": system.admin,
        "approver": approver,
        "security": security,
        "agents": {"deployer": deployer, "hostile": hostile},
        "requests": {
            "approved": permitted,
            "rejected": rejected,
            "destroy": destroy,
            "write": write,
            "hostile": hostile_request,
        },
    }))
}

/// Stores a version that differs from the one in force, and says which.
async fn another_policy_set(system: &System, security: &str) -> anyhow::Result<Value> {
    let in_force = system.admin_get("/api/policy-set").await?;
    let path = format!(
        "/api/policy-sets/{}",
        in_force.body["version"].as_str().context("a version")?
    );
    let mut sources = system.admin_get(&path).await?.body["sources"].take();
    let text = sources["policies"][0]["text"]
        .as_str()
        .context("a policy")?;
    let more = format!(
        "// {}\n{text}\n@id(\"sample.freeze\")\n@advice(\"Nothing is deleted this week.\")\nforbid (principal, action == Action::\"destroy\", resource)\nwhen {{ context.now < datetime(\"2020-01-01\") }};\n",
        // What is invisible no policy set may hold.
        HOSTILE.replace(['\n', '\u{202e}', '\u{200b}'], " ")
    );
    sources["policies"][0]["text"] = Value::String(more);
    let push = json!({"sources": sources, "then": "store", "reason": ""});
    let request = system
        .orchestrator(Method::POST, "/api/policy-sets")
        .bearer_auth(security)
        .json(&push);
    let pushed = system.send(request).await?;
    anyhow::ensure!(pushed.status.is_success(), "{pushed:?}");
    let sets = system.admin_get("/api/policy-sets").await?;
    let stored = sets
        .body
        .as_array()
        .and_then(|sets| sets.iter().find(|set| set["active"] == false))
        .context("it is listed")?;
    Ok(stored["version"].clone())
}
