//! Policies are files: an edit is picked up while running, a broken one changes nothing.

use cedargate_tests::System;
use reqwest::StatusCode;
use serde_json::json;

journeys![
    an_edit_is_picked_up,
    a_broken_edit_changes_nothing,
    what_the_documentation_asks_an_orchestrator_is_answered,
];

const WALL: &str = r#"
@id("journey.no-servers")
@advice("Nobody lists servers today.")
forbid (principal is Agent, action in Action::"invoke", resource == Command::"coolify/list-servers");
"#;

async fn an_edit_is_picked_up(system: System) -> anyhow::Result<()> {
    let agent = system
        .create_agent(json!({"name": "edited", "allowed_mcps": ["coolify"]}))
        .await?;
    assert_eq!(
        system
            .execute(&agent, "/mcp-coolify servers list")
            .await?
            .status,
        StatusCode::OK
    );
    let file = system.policies().join("journey.cedar");
    let mark = system.gateway.mark();
    std::fs::write(&file, WALL)?;
    system
        .gateway
        .line_after(mark, &["policy set in force"])
        .await?;
    let refused = system.execute(&agent, "/mcp-coolify servers list").await?;
    let data = &refused.body["error"]["data"];
    assert_eq!(
        (&data["policies"], &data["asking_helps"]),
        (&json!(["journey.no-servers"]), &json!(false)),
        "{data}"
    );
    assert!(
        refused.body["error"]
            .to_string()
            .contains("Nobody lists servers today.")
    );
    let mark = system.gateway.mark();
    std::fs::remove_file(&file)?;
    system
        .gateway
        .line_after(mark, &["policy set in force"])
        .await?;
    let again = system.execute(&agent, "/mcp-coolify servers list").await?;
    assert_eq!(again.status, StatusCode::OK, "{again:?}");
    Ok(())
}

async fn a_broken_edit_changes_nothing(system: System) -> anyhow::Result<()> {
    let agent = system
        .create_agent(json!({"name": "unharmed", "allowed_mcps": ["coolify"]}))
        .await?;
    let before = system.admin_get("/api/policy-set").await?;
    let file = system.policies().join("journey.cedar");
    let deep = format!(
        "@id(\"deep\") permit (principal, action, resource) when {{ {}true{} }};",
        "(".repeat(100_000),
        ")".repeat(100_000)
    );
    let broken: [(&str, &[u8]); 5] = [
        ("syntax", b"permit (principal, action, resource"),
        ("a type error", b"@id(\"x\") permit (principal is Agent, action in Action::\"invoke\", resource is Command) when { resource.nothing };"),
        ("no id", b"permit (principal, action, resource);"),
        ("not UTF-8", b"@id(\"x\") // \xff\npermit (principal, action, resource);"),
        ("deep", deep.as_bytes()),
    ];
    for (what, text) in broken {
        std::fs::write(&file, text)?;
        let status = cedargate_tests::soon("the broken edit is reported", async {
            loop {
                let status = system.admin_get("/api/policy-set").await?;
                let rejected = &status.body["rejected"];
                if rejected
                    .as_array()
                    .is_some_and(|findings| !findings.is_empty())
                    && rejected.to_string().contains("journey.cedar")
                {
                    return anyhow::Ok(status);
                }
            }
        })
        .await??;
        assert_eq!(status.body["version"], before.body["version"], "{what}");
        assert_eq!(
            system
                .execute(&agent, "/mcp-coolify servers list")
                .await?
                .status,
            StatusCode::OK,
            "{what}"
        );
        let shown = system.cli(&["policy", "status"]).await?;
        assert!(
            String::from_utf8_lossy(&shown.stdout).contains("journey.cedar"),
            "{what}: {shown:?}"
        );
        let checked = system
            .cli(&[
                "policy",
                "check",
                system.policies().to_str().unwrap(),
                "--schema",
                system
                    .policies()
                    .parent()
                    .unwrap()
                    .join("schema.cedarschema")
                    .to_str()
                    .unwrap(),
            ])
            .await?;
        assert_eq!(checked.status.code(), Some(1), "{what}: {checked:?}");
        std::fs::remove_file(&file)?;
        cedargate_tests::soon("the folder is whole again", async {
            while system.admin_get("/api/policy-set").await?.body["rejected"] != json!([]) {}
            anyhow::Ok(())
        })
        .await??;
    }
    Ok(())
}

/// The lines of `docs/policies.md` that ask a running orchestrator.
fn documented() -> Vec<Vec<String>> {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/policies.md");
    let text = std::fs::read_to_string(file).unwrap();
    let blocks = text.split("```console live\n").skip(1);
    let lines = blocks.flat_map(|rest| rest.split("\n```").next().unwrap().lines());
    let commands = lines.filter_map(|line| line.strip_prefix("$ cedargate "));
    commands
        .map(|command| {
            let parts = command.split('\'').enumerate();
            let parts = parts.flat_map(|(number, part)| match number % 2 {
                1 => vec![part.to_owned()],
                _ => part.split_whitespace().map(str::to_owned).collect(),
            });
            parts.collect()
        })
        .collect()
}

async fn what_the_documentation_asks_an_orchestrator_is_answered(
    system: System,
) -> anyhow::Result<()> {
    let agent = system
        .create_agent(json!({"name": "deploy-bot", "allowed_mcps": ["coolify"]}))
        .await?;
    for _ in 0..2 {
        let listed = system.execute(&agent, "/mcp-coolify servers list").await?;
        assert_eq!(listed.status, StatusCode::OK, "{listed:?}");
    }
    cedargate_tests::soon("both calls are in the trail", async {
        loop {
            let trail = system.admin_get("/api/audit?limit=100").await?;
            let outcomes = trail.body.to_string().matches("\"outcome\"").count();
            if outcomes >= 2 {
                return anyhow::Ok(());
            }
        }
    })
    .await??;
    let commands = documented();
    assert_eq!(commands.len(), 2, "{commands:?}");
    for command in commands {
        let arguments: Vec<&str> = command.iter().map(String::as_str).collect();
        let answered = system.cli(&arguments).await?;
        let said = String::from_utf8_lossy(&answered.stdout);
        assert!(answered.status.success(), "{command:?}: {answered:?}");
        let expected = if command.iter().any(|part| part == "--audit") {
            // The policies of the folder are those in force.
            "0 of 2 recorded calls change"
        } else {
            "deploy-bot"
        };
        assert!(said.contains(expected), "{command:?}: {said}");
    }
    Ok(())
}
