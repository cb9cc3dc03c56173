//! Policies are files: an edit is picked up while running, a broken one changes nothing.

use cedargate_tests::System;
use reqwest::StatusCode;
use serde_json::json;

journeys![an_edit_is_picked_up, a_broken_edit_changes_nothing];

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
