//! Which policy set is in force: put there by people, known of every gateway, kept for
//! bad days, and compared with one that is not enforced.

use std::path::{Path, PathBuf};

use cedargate_tests::{Layout, System, soon};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

journeys![
    people_activate_and_roll_back,
    a_broken_push_changes_nothing,
    what_was_activated_outlives_a_restart,
    a_shadow_shows_what_would_change,
];

const LIST: &str = "/mcp-coolify servers list";

const WALL: &str = r#"
@id("journey.no-servers")
@advice("Nobody lists servers today.")
forbid (principal is Agent, action in Action::"invoke", resource == Command::"coolify/list-servers");
"#;

/// A copy of the system's policies with one more file.
fn other_policies(system: &System, text: &str) -> anyhow::Result<(tempfile::TempDir, PathBuf)> {
    let folder = tempfile::TempDir::new()?;
    let policies = folder.path().join("policies");
    std::fs::create_dir(&policies)?;
    for entry in std::fs::read_dir(system.policies())? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "cedar")
        {
            std::fs::copy(&path, policies.join(path.file_name().unwrap()))?;
        }
    }
    let schema = system
        .policies()
        .parent()
        .unwrap()
        .join("schema.cedarschema");
    std::fs::copy(schema, folder.path().join("schema.cedarschema"))?;
    std::fs::write(policies.join("journey.cedar"), text)?;
    Ok((folder, policies))
}

/// Runs a subcommand that must succeed, and gives back what it printed as JSON.
async fn run(system: &System, token: &str, arguments: &[&str]) -> anyhow::Result<Value> {
    let output = system
        .cli_as(token, &[arguments, &["--json"]].concat())
        .await?;
    anyhow::ensure!(output.status.success(), "{arguments:?}: {output:?}");
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Until the agent's list of servers is answered so.
async fn answered(system: &System, agent: &str, status: StatusCode) -> anyhow::Result<()> {
    soon("the agent is answered by another policy set", async {
        while system.execute(agent, LIST).await?.status != status {}
        anyhow::Ok(())
    })
    .await?
}

/// Until every gateway says that it enforces the version, and not from its disk.
async fn enforced(system: &System, token: &str, version: &Value) -> anyhow::Result<Value> {
    soon("the gateway reports what it enforces", async {
        loop {
            let status = run(system, token, &["policy", "status"]).await?;
            let gateways = status["gateways"].as_array().cloned().unwrap_or_default();
            if !gateways.is_empty()
                && gateways.iter().all(|gateway| {
                    &gateway["version"] == version
                        && gateway["current"] == true
                        && gateway["last_known_good"] == false
                })
            {
                return anyhow::Ok(status);
            }
        }
    })
    .await?
}

async fn people_activate_and_roll_back(system: System) -> anyhow::Result<()> {
    let sam = system.create_user("sam", &["security"]).await?;
    let agent = system
        .create_agent(json!({"name": "steered", "allowed_mcps": ["coolify"]}))
        .await?;
    answered(&system, &agent, StatusCode::OK).await?;
    let before = run(&system, &sam, &["policy", "status"]).await?;
    enforced(&system, &sam, &before["version"]).await?;

    let (_folder, policies) = other_policies(&system, WALL)?;
    let refused = system.cli(&["policy", "activate", text(&policies)]).await?;
    assert_eq!(
        refused.status.code(),
        Some(3),
        "an admin manages people, not policies: {refused:?}"
    );
    let changed = run(
        &system,
        &sam,
        &[
            "policy",
            "activate",
            text(&policies),
            "--reason",
            "ticket 412",
        ],
    )
    .await?;
    let version = changed["status"]["version"].clone();
    assert_eq!(
        (&changed["changed"], &changed["status"]["reason"]),
        (&json!(true), &json!("ticket 412"))
    );
    answered(&system, &agent, StatusCode::FORBIDDEN).await?;
    let status = enforced(&system, &sam, &version).await?;
    assert_eq!(
        (&status["activated_by"], &status["folder_held"]),
        (&json!("sam"), &json!(true))
    );

    let back = run(
        &system,
        &sam,
        &["policy", "rollback", "--reason", "too strict"],
    )
    .await?;
    assert_eq!(back["status"]["version"], before["version"]);
    answered(&system, &agent, StatusCode::OK).await?;
    enforced(&system, &sam, &before["version"]).await?;
    let short = &version.as_str().unwrap()[..12];
    run(&system, &sam, &["policy", "activate", short]).await?;
    answered(&system, &agent, StatusCode::FORBIDDEN).await?;

    let history = run(&system, &sam, &["policy", "history"]).await?;
    let lines: Vec<_> = history
        .as_array()
        .unwrap()
        .iter()
        .map(|line| (line["kind"].as_str().unwrap(), line["by"].as_str().unwrap()))
        .collect();
    assert_eq!(
        lines,
        [
            ("activated", "sam"),
            ("rolled_back", "sam"),
            ("activated", "sam"),
            ("activated", "folder")
        ]
    );
    let shown = system.cli(&["policy", "status"]).await?;
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(
        shown.contains(short) && shown.contains("activated by hand"),
        "{shown}"
    );
    let trail = system.admin_get("/api/audit?limit=1000").await?.body;
    assert!(
        trail
            .as_array()
            .unwrap()
            .iter()
            .any(|entry| entry["kind"] == "policy_set_rolled_back"
                && entry["user"] == "sam"
                && entry["entry"]["reason"] == "too strict"),
        "{trail}"
    );

    // An edit of the folder acts again.
    std::fs::write(
        system.policies().join("other.cedar"),
        "// Looked at today.\n",
    )?;
    answered(&system, &agent, StatusCode::OK).await?;
    Ok(())
}

async fn a_broken_push_changes_nothing(system: System) -> anyhow::Result<()> {
    let sam = system.create_user("sam", &["security"]).await?;
    let before = run(&system, &sam, &["policy", "status"]).await?;
    let (_folder, policies) = other_policies(&system, "permit (principal, action, resource")?;
    for command in ["activate", "shadow"] {
        let output = system
            .cli_as(&sam, &["policy", command, text(&policies)])
            .await?;
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.contains("journey.cedar"), "{error}");
    }
    for (arguments, code) in [
        (&["policy", "activate", "0123456789ab"][..], 4),
        (&["policy", "activate", "polices"], 2),
        (&["policy", "shadow"], 2),
        (&["policy", "shadow", "--off", "0123456789ab"], 2),
        (&["policy", "rollback"], 1),
        (&["policy", "rollback", "--to", "0123456789ab"], 4),
    ] {
        let output = system.cli_as(&sam, arguments).await?;
        assert_eq!(
            output.status.code(),
            Some(code),
            "{arguments:?}: {output:?}"
        );
    }
    let after = run(&system, &sam, &["policy", "status"]).await?;
    assert_eq!(
        (&after["version"], after.get("shadow")),
        (&before["version"], None)
    );
    Ok(())
}

async fn what_was_activated_outlives_a_restart(mut system: System) -> anyhow::Result<()> {
    let sam = system.create_user("sam", &["security"]).await?;
    let agent = system
        .create_agent(json!({"name": "restarted", "allowed_mcps": ["coolify"]}))
        .await?;
    let (_folder, policies) = other_policies(&system, WALL)?;
    let changed = run(&system, &sam, &["policy", "activate", text(&policies)]).await?;
    let version = changed["status"]["version"].clone();
    answered(&system, &agent, StatusCode::FORBIDDEN).await?;

    // With a folder that broke meanwhile, the same set.
    std::fs::write(system.policies().join("broken.cedar"), "permit (")?;
    if system.orchestrator.is_some() {
        system.orchestrator.as_mut().unwrap().kill().await?;
        system.start_orchestrator_again().await?;
    } else {
        system.kill_and_restart_gateway().await?;
    }
    answered(&system, &agent, StatusCode::FORBIDDEN).await?;
    let status = enforced(&system, &sam, &version).await?;
    assert!(
        !status["rejected"].as_array().unwrap().is_empty(),
        "{status}"
    );
    assert_eq!(status["activated_by"], "sam");
    Ok(())
}

async fn a_shadow_shows_what_would_change(system: System) -> anyhow::Result<()> {
    let sam = system.create_user("sam", &["security"]).await?;
    let agent = system
        .create_agent(json!({"name": "shadowed", "allowed_mcps": ["coolify"]}))
        .await?;
    let (_folder, policies) = other_policies(&system, WALL)?;
    let changed = run(
        &system,
        &sam,
        &["policy", "shadow", text(&policies), "--reason", "try it"],
    )
    .await?;
    let version = changed["status"]["shadow"]["version"].clone();
    assert_ne!(changed["status"]["version"], version);
    soon("the gateway reports the shadow", async {
        while system.admin_get("/api/gateways").await?.body[0]["shadow"] != version {}
        anyhow::Ok(())
    })
    .await??;
    assert_eq!(system.execute(&agent, LIST).await?.status, StatusCode::OK);

    let metrics = reqwest::get(format!("{}/metrics", system.metrics_url))
        .await?
        .text()
        .await?;
    assert!(
        metrics.contains("cedargate_shadow_differences_total{from=\"permit\",to=\"refuse\"} 1"),
        "{metrics}"
    );
    let noted = soon("the difference arrives in the trail", async {
        loop {
            let trail = system
                .admin_get(&format!("/api/audit?limit=1000&agent={agent}"))
                .await?
                .body;
            let shadow = trail
                .as_array()
                .into_iter()
                .flatten()
                .find_map(|line| line["entry"].get("shadow").cloned());
            if let Some(shadow) = shadow {
                return anyhow::Ok(shadow);
            }
        }
    })
    .await??;
    assert_eq!(
        noted,
        json!({"version": version, "decision": "refuse", "policies": ["journey.no-servers"]})
    );

    run(&system, &sam, &["policy", "shadow", "--off"]).await?;
    soon("the gateway reports that there is none", async {
        while system.admin_get("/api/gateways").await?.body[0]
            .get("shadow")
            .is_some()
        {}
        anyhow::Ok(())
    })
    .await??;
    assert_eq!(system.execute(&agent, LIST).await?.status, StatusCode::OK);
    let metrics = reqwest::get(format!("{}/metrics", system.metrics_url))
        .await?
        .text()
        .await?;
    assert!(
        metrics.contains("to=\"refuse\"} 1"),
        "no more of them: {metrics}"
    );
    Ok(())
}

/// A gateway alone has what it enforced last, says so, and recovers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_alone_uses_its_last_known_good() -> anyhow::Result<()> {
    let mut system = System::start(Layout::TwoProcesses).await?;
    let sam = system.create_user("sam", &["security"]).await?;
    let agent = system
        .create_agent(json!({"name": "alone", "allowed_mcps": ["coolify"]}))
        .await?;
    answered(&system, &agent, StatusCode::OK).await?;
    let version = run(&system, &sam, &["policy", "status"]).await?["version"].clone();
    let file = system.gateway_data().join("gateway-policy-set.json");
    let kept: Value = serde_json::from_slice(&std::fs::read(&file)?)?;
    assert_eq!(kept["version"], version);

    system.gateway.kill().await?;
    system.orchestrator.as_mut().unwrap().kill().await?;
    system.start_gateway_alone().await?;
    let ready = soon("the kept set is in force", async {
        loop {
            let ready = system.send(system.gateway(Method::GET, "/ready")).await?;
            if ready.body["checks"]["policy_set"]["status"] == "ok" {
                return anyhow::Ok(ready);
            }
        }
    })
    .await??;
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
    let check = &ready.body["checks"]["policy_set"];
    assert_eq!(
        (&check["source"], &check["version"]),
        (&json!("last_known_good"), &version),
        "{ready:?}"
    );
    assert!(
        system
            .gateway
            .log()
            .contains("last-known-good one is in force"),
        "{}",
        system.gateway.log()
    );
    assert_eq!(
        system.execute(&agent, LIST).await?.status,
        StatusCode::SERVICE_UNAVAILABLE
    );

    system.start_orchestrator_again().await?;
    answered(&system, &agent, StatusCode::OK).await?;
    enforced(&system, &sam, &version).await?;

    // Damaged, it is not used, and everything is refused; then replaced.
    system.gateway.kill().await?;
    system.orchestrator.as_mut().unwrap().kill().await?;
    let whole = std::fs::read_to_string(&file)?;
    std::fs::write(&file, whole.replace("forbid", "permit"))?;
    system.start_gateway_alone().await?;
    system
        .gateway
        .line(&["last-known-good policy set is not used"])
        .await?;
    assert_eq!(
        system.execute(&agent, LIST).await?.status,
        StatusCode::SERVICE_UNAVAILABLE
    );
    let ready = system.send(system.gateway(Method::GET, "/ready")).await?;
    assert_eq!(
        ready.body["checks"]["policy_set"]["status"], "error",
        "{ready:?}"
    );
    system.start_orchestrator_again().await?;
    answered(&system, &agent, StatusCode::OK).await?;
    soon("the file is whole again", async {
        while std::fs::read_to_string(&file)? != whole {}
        anyhow::Ok(())
    })
    .await??;
    Ok(())
}
