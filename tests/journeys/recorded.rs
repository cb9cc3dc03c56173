//! What is recorded: the journal, its way to the orchestrator, and proof of tampering.

use cedargate_tests::{Layout, System};
use reqwest::StatusCode;
use serde_json::{Value, json};

journeys![everything_is_recorded, tampering_is_found];

/// The journal's files, in order, as one text.
pub(crate) fn journal_text(system: &System) -> anyhow::Result<String> {
    let mut files: Vec<_> = std::fs::read_dir(system.journal())?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "jsonl")
        })
        .collect();
    files.sort();
    files
        .into_iter()
        .map(|path| Ok(std::fs::read_to_string(path)?))
        .collect()
}

async fn everything_is_recorded(system: System) -> anyhow::Result<()> {
    let agent = system
        .create_agent(json!({"name": "recorded", "allowed_mcps": ["github"]}))
        .await?;
    system
        .approve_refused(&agent, "/mcp-coolify servers list")
        .await?;
    assert_eq!(
        system
            .execute(&agent, "/mcp-coolify servers list")
            .await?
            .status,
        StatusCode::OK
    );

    // The trail has the refusal, the request, the verdict and the call, in this order.
    let expected = ["refusal", "approval_opened", "approved", "outcome"];
    let trail = cedargate_tests::soon("the journal has reached the orchestrator", async {
        loop {
            let trail = system
                .admin_get(&format!("/api/audit?limit=500&agent={agent}"))
                .await?;
            let kinds: Vec<String> = trail
                .body
                .as_array()
                .into_iter()
                .flatten()
                .map(|entry| entry["kind"].as_str().unwrap_or_default().to_owned())
                .collect();
            if expected
                .iter()
                .all(|kind| kinds.iter().any(|other| other == kind))
            {
                return anyhow::Ok(trail.body);
            }
        }
    })
    .await??;
    let outcome = trail
        .as_array()
        .unwrap()
        .iter()
        .find(|entry| entry["kind"] == "outcome")
        .unwrap();
    assert_eq!(outcome["command"], "coolify/list-servers");
    let approved = trail
        .as_array()
        .unwrap()
        .iter()
        .find(|entry| entry["kind"] == "approved")
        .unwrap();
    assert_eq!(approved["user"], "admin");

    let listed = system.cli(&["audit", "list", "--json"]).await?;
    assert!(listed.status.success(), "{listed:?}");
    assert!(String::from_utf8_lossy(&listed.stdout).contains("coolify/list-servers"));

    let journal = journal_text(&system)?;
    let lines: Vec<Value> = journal
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    for (line, place) in lines.iter().zip(1..) {
        assert_eq!(line["sequence"], place, "no gap");
    }
    assert!(
        lines
            .iter()
            .any(|line| line["kind"] == "refusal" && line["agent"] == agent.as_str())
    );
    Ok(())
}

async fn tampering_is_found(mut system: System) -> anyhow::Result<()> {
    let agent = system
        .create_agent(json!({"name": "framed", "allowed_mcps": ["coolify"]}))
        .await?;
    for app in ["app1", "app2", "app3"] {
        system
            .execute(&agent, &format!("/mcp-coolify applications get {app}"))
            .await?;
    }
    system.gateway.terminate().await?;
    let journal = system.journal();
    let verify = || async {
        system
            .cli(&["audit", "verify", journal.to_str().unwrap()])
            .await
    };
    let whole = verify().await?;
    assert!(
        whole.status.success(),
        "{}{}",
        String::from_utf8_lossy(&whole.stdout),
        String::from_utf8_lossy(&whole.stderr)
    );

    let file = std::fs::read_dir(&journal)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| {
            path.extension()
                .is_some_and(|extension| extension == "jsonl")
        })
        .expect("a journal file");
    let text = std::fs::read_to_string(&file)?;
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.len() > 4, "{text}");
    let without_third: Vec<&str> = lines
        .iter()
        .enumerate()
        .filter(|(place, _)| *place != 2)
        .map(|(_, line)| *line)
        .collect();
    for (what, changed) in [
        ("an edit", text.replacen("framed", "farmed", 1)),
        ("a gap", without_third.join("\n") + "\n"),
        ("a swap", {
            let mut lines = lines.clone();
            lines.swap(1, 2);
            lines.join("\n") + "\n"
        }),
    ] {
        std::fs::write(&file, changed)?;
        let found = verify().await?;
        assert!(
            !found.status.success(),
            "{what} goes unnoticed: {}",
            String::from_utf8_lossy(&found.stdout)
        );
    }
    // Nothing in the journal itself tells that its end is missing: what the orchestrator
    // has does, or a line that was noted.
    let shorter = lines[..lines.len() - 1].join("\n") + "\n";
    std::fs::write(&file, &shorter)?;
    let cut = verify().await?;
    let said = String::from_utf8_lossy(&cut.stdout);
    if system.layout() == Layout::TwoProcesses {
        assert!(!cut.status.success(), "{said}");
        let said = String::from_utf8_lossy(&cut.stderr);
        assert!(said.contains("its end is missing"), "{said}");
    } else {
        assert!(said.contains("not compared"), "{said}");
    }
    let last: Value = serde_json::from_str(lines[lines.len() - 1])?;
    let head = format!("{}:{}", last["sequence"], last["hash"].as_str().unwrap());
    let noted = || async {
        let journal = journal.to_str().unwrap();
        system
            .cli(&["audit", "verify", journal, "--head", &head])
            .await
    };
    assert!(!noted().await?.status.success());
    std::fs::write(&file, text)?;
    assert!(verify().await?.status.success());
    assert!(noted().await?.status.success());
    Ok(())
}
