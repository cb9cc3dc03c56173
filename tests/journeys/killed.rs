//! Processes killed at any moment, and disks that are full: no command runs unrecorded.

use std::{collections::BTreeSet, path::PathBuf};

use cedargate_tests::{Layout, System};
use reqwest::{Method, StatusCode};
use serde_json::json;

/// `kill -9` under load, fifty times: every command that reached the upstream has its line.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_times() -> anyhow::Result<()> {
    let mut system = System::start(Layout::TwoProcesses).await?;
    let agent = system
        .create_agent(json!({"name": "busy", "allowed_mcps": ["coolify"]}))
        .await?;
    for round in 0..50_u64 {
        let before = system.coolify.count();
        let url = format!("{}/execute", system.gateway_url);
        let load: Vec<_> = (0..8)
            .map(|lane| {
                let (url, agent) = (url.clone(), agent.clone());
                tokio::spawn(async move {
                    let client = reqwest::Client::builder().no_proxy().build()?;
                    for call in 0..1_000 {
                        let command = format!(
                            "/mcp-coolify applications restart round{round}lane{lane}call{call}"
                        );
                        client
                            .post(&url)
                            .header("x-agent-id", &agent)
                            .json(&json!({"command": command}))
                            .send()
                            .await?;
                    }
                    anyhow::Ok(())
                })
            })
            .collect();
        // Another moment each round: after so many commands have arrived upstream.
        system.coolify.until(before + 1 + (round * 7) % 40).await;
        system.kill_and_restart_gateway().await?;
        for lane in load {
            // The lanes end with the connection that was cut.
            assert!(lane.await?.is_err(), "the load outlived the gateway");
        }
    }
    let journal = super::recorded::journal_text(&system)?;
    let recorded: BTreeSet<&str> = journal
        .lines()
        .filter(|line| line.contains("\"intent\""))
        .filter_map(|line| line.split("\"round").nth(1)?.split('"').next())
        .collect();
    let mut arrived = 0;
    for request in system.coolify.arrived() {
        if let Some(call) = request
            .path
            .split("/round")
            .nth(1)
            .and_then(|rest| rest.split('/').next())
        {
            arrived += 1;
            assert!(
                recorded.contains(call),
                "round{call} reached Coolify and has no line"
            );
        }
    }
    assert!(arrived >= 50, "{arrived}");
    let verified = system
        .cli(&["audit", "verify", system.journal().to_str().unwrap()])
        .await?;
    assert!(
        verified.status.success(),
        "{}{}",
        String::from_utf8_lossy(&verified.stdout),
        String::from_utf8_lossy(&verified.stderr)
    );

    // And all of it arrives in the trail, once.
    let last = i64::try_from(journal.lines().count())?;
    let (mut after, mut expected) = (0, 1);
    cedargate_tests::soon("the whole journal arrives", async {
        while expected <= last {
            let page = system
                .admin_get(&format!("/api/audit?after={after}&limit=500"))
                .await?;
            for entry in page.body.as_array().into_iter().flatten() {
                after = entry["id"].as_i64().expect("a place in the trail");
                if entry["source"] == "gateway" {
                    assert_eq!(
                        entry["entry"]["sequence"], expected,
                        "each line once, none missing"
                    );
                    expected += 1;
                }
            }
        }
        anyhow::Ok(())
    })
    .await??;
    Ok(())
}

/// A small tmpfs as the journal's disk: when it is full, nothing runs, and the answer says
/// why; when there is room again, life goes on and the chain is whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_disk() -> anyhow::Result<()> {
    let disk = tempfile::tempdir()?;
    let mounted = tokio::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"])
        .arg(disk.path())
        .status()
        .await?;
    assert!(
        mounted.success(),
        "this journey mounts a small tmpfs, which needs root"
    );
    let unmount = Unmount(disk.path().to_owned());
    let journal = disk.path().join("journal").display().to_string();
    let system = System::start_with(Layout::OneProcess, &[("CEDARGATE_JOURNAL", &journal)]).await?;
    let agent = system
        .create_agent(json!({"name": "hoarder", "allowed_mcps": ["coolify"]}))
        .await?;

    let ballast = disk.path().join("ballast");
    std::fs::write(&ballast, vec![0; 200 * 1024])?;
    let mut served = 0;
    let refused = cedargate_tests::soon("the disk is full", async {
        loop {
            let reply = system
                .execute(
                    &agent,
                    "/mcp-coolify applications restart sampleapp000000000000001",
                )
                .await?;
            if reply.status != StatusCode::OK {
                return anyhow::Ok(reply);
            }
            served += 1;
        }
    })
    .await??;
    assert_eq!(
        refused.status,
        StatusCode::SERVICE_UNAVAILABLE,
        "{refused:?}"
    );
    assert!(
        refused.body["error"]["message"]
            .as_str()
            .unwrap()
            .contains("journal"),
        "{refused:?}"
    );
    assert_eq!(
        system.coolify.count(),
        served,
        "what was refused did not leave"
    );
    let ready = system.send(system.gateway(Method::GET, "/ready")).await?;
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE, "{ready:?}");

    std::fs::remove_file(&ballast)?;
    cedargate_tests::soon("there is room again", async {
        while system
            .execute(
                &agent,
                "/mcp-coolify applications restart sampleapp000000000000001",
            )
            .await?
            .status
            != StatusCode::OK
        {}
        anyhow::Ok(())
    })
    .await??;
    let verified = system.cli(&["audit", "verify", &journal]).await?;
    assert!(
        verified.status.success(),
        "{}{}",
        String::from_utf8_lossy(&verified.stdout),
        String::from_utf8_lossy(&verified.stderr)
    );
    drop(system);
    drop(unmount);
    Ok(())
}

struct Unmount(PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount")
            .arg("-l")
            .arg(&self.0)
            .status();
    }
}
