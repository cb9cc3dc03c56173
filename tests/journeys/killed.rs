//! Processes killed at any moment, and disks that are full: no command runs unrecorded.

use std::{collections::BTreeSet, path::PathBuf};

use anyhow::Context;
use cedargate_tests::{Layout, System};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

journeys![verdicts];

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
    let unmount = mount(disk.path(), "256k").await?;
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

/// `kill -9` in the middle of verdicts: of each one either everything is there, verdict,
/// grant, event and line in the trail, or nothing; and what was confirmed is there.
async fn verdicts(mut system: System) -> anyhow::Result<()> {
    const AT_ONCE: usize = 8;
    let (mut granted, mut pending) = (0, 0);
    for round in 0..AT_ONCE {
        let mut asked = Vec::new();
        for n in 0..AT_ONCE {
            let name = json!({"name": format!("agent-{round}-{n}")});
            let agent = system.create_agent(name).await?;
            let refused = system.execute(&agent, "/mcp-coolify servers list").await?;
            let id = refused.body["error"]["data"]["request_id"].as_str();
            asked.push((agent, id.context("a request id")?.to_owned()));
        }
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let mut verdicts = Vec::new();
        for (_, id) in &asked {
            let request = system
                .orchestrator(Method::POST, "/api/mcp/permission-respond")
                .bearer_auth(&system.admin)
                .json(&json!({"request_id": id, "approved": true, "reason": "go"}));
            let (id, tell) = (id.clone(), tell.clone());
            verdicts.push(tokio::spawn(async move {
                // It breaks off when the process dies.
                if let Ok(reply) = request.send().await {
                    assert_eq!(reply.status(), StatusCode::OK);
                    tell.send(id).expect("somebody listens");
                }
            }));
        }
        drop(tell);
        // Another moment each round: after so many are confirmed, while others are not.
        let mut confirmed = Vec::new();
        while confirmed.len() < round {
            confirmed.push(told.recv().await.context("they are confirmed")?);
        }
        system.kill_and_restart_control_plane().await?;
        for verdict in verdicts {
            verdict.await?;
        }
        while let Some(id) = told.recv().await {
            confirmed.push(id);
        }

        let grants = system.admin_get("/api/grants?all=true").await?;
        let events = events(&system).await?;
        for (agent, id) in asked {
            let request = system.admin_get(&format!("/api/approvals/{id}")).await?;
            let count = |of: &Value, field: &str, kind: Option<&str>| {
                let items = of.as_array().into_iter().flatten();
                let of_this = items.filter(|item| item[field] == id.as_str());
                of_this
                    .filter(|item| kind.is_none_or(|kind| item["kind"] == kind))
                    .count()
            };
            let trail = system
                .admin_get(&format!("/api/audit?limit=1000&agent={agent}"))
                .await?;
            let approved = trail.body.as_array().into_iter().flatten();
            let approved = approved.filter(|entry| entry["kind"] == "approved").count();
            let told = events
                .iter()
                .filter(|event| {
                    event["type"] == "approval_approved" && event["approval"] == id.as_str()
                })
                .count();
            let verdicts = request.body["verdicts"].as_array().map_or(0, Vec::len);
            let seen = (
                request.body["status"].as_str().unwrap_or_default(),
                verdicts,
                count(&grants.body, "approval", None),
                told,
                approved,
            );
            let expected = if seen.0 == "approved" {
                granted += 1;
                ("approved", 1, 1, 1, 1)
            } else {
                pending += 1;
                assert!(!confirmed.contains(&id), "{id} was confirmed");
                ("pending", 0, 0, 0, 0)
            };
            assert_eq!(seen, expected, "all of it or nothing: {request:?}");
            if seen.0 == "approved" {
                let goes = system.execute(&agent, "/mcp-coolify servers list").await?;
                assert_eq!(goes.status, StatusCode::OK, "{goes:?}");
            } else {
                // Nothing stands in the way of deciding it now.
                let again = system.respond(&id, true).await?;
                assert_eq!(again.status, StatusCode::OK, "{again:?}");
            }
        }
    }
    assert!(
        granted > 0 && pending > 0,
        "{granted} granted, {pending} not: no kill was in the middle"
    );
    Ok(())
}

/// Everything that the feed holds.
async fn events(system: &System) -> anyhow::Result<Vec<Value>> {
    let mut socket = system.socket("").await?;
    let hello = socket.event("connection_established").await?;
    let head = hello["sequence"].as_i64().context("the head")?;
    let request = system.orchestrator(Method::GET, "/api/feed?after=0");
    let mut feed = request.bearer_auth(&system.admin).send().await?;
    let (mut events, mut text) = (Vec::new(), String::new());
    cedargate_tests::soon("the feed is read", async {
        loop {
            let part = feed.chunk().await?.context("the feed ended")?;
            text.push_str(std::str::from_utf8(&part)?);
            while let Some(end) = text.find('\n') {
                let length = end + 1;
                if let Some(data) = text[..end].strip_prefix("data: ") {
                    events.push(serde_json::from_str::<Value>(data)?);
                }
                text.drain(..length);
            }
            if events.last().is_some_and(|event| event["sequence"] == head) {
                return anyhow::Ok(());
            }
        }
    })
    .await??;
    Ok(events)
}

/// Mounts a small disk in memory, for as long as what it gives back is kept.
pub(crate) async fn mount(at: &std::path::Path, size: &str) -> anyhow::Result<Unmount> {
    let mounted = tokio::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
        .arg(at)
        .status()
        .await?;
    assert!(
        mounted.success(),
        "this journey mounts a small tmpfs, which needs root"
    );
    Ok(Unmount(at.to_owned()))
}

pub(crate) struct Unmount(PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount")
            .arg("-l")
            .arg(&self.0)
            .status();
    }
}
