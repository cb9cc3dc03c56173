//! A service is put into a zone that a policy walls off: the next call is refused, at every
//! gateway; it is taken out: the next one is permitted again.

use std::time::Duration;

use cedargate_tests::{System, soon};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::Instant;

journeys![a_wall_about_a_zone_follows_the_service];

const WALL: &str = r#"
@id("journey.pci")
@advice("Nothing in the PCI zone is for agents.")
forbid (principal is Agent, action in Action::"invoke", resource in Zone::"pci");
"#;

const LIST: &str = "/mcp-coolify servers list";

async fn a_wall_about_a_zone_follows_the_service(system: System) -> anyhow::Result<()> {
    let second = system.second_gateway().await?;
    let agent = system
        .create_agent(json!({"name": "lister", "allowed_mcps": ["coolify"]}))
        .await?;
    let token = system.create_agent_token(&agent).await?;
    let security = system.create_user("sam", &["security"]).await?;
    let gateways = [system.gateway_url.as_str(), second.url.as_str()];
    let client = reqwest::Client::builder().no_proxy().build()?;
    let send = async |gateway: &str| {
        let request = client
            .post(format!("{gateway}/execute"))
            .bearer_auth(&token)
            .json(&json!({"command": LIST}));
        anyhow::Ok(system.send(request).await?)
    };

    // The wall stands, and nothing is behind it.
    let before = system.admin_get("/api/policy-set").await?.body["version"].clone();
    std::fs::write(system.policies().join("journey.cedar"), WALL)?;
    soon("the wall is in force at both gateways", async {
        loop {
            let all = system.admin_get("/api/gateways").await?.body;
            let all = all.as_array().cloned().unwrap_or_default();
            let enforces =
                |gateway: &Value| gateway["version"].is_string() && gateway["version"] != before;
            if all.len() == gateways.len() && all.iter().all(enforces) {
                return anyhow::Ok(());
            }
        }
    })
    .await??;
    for gateway in gateways {
        assert_eq!(send(gateway).await?.status, StatusCode::OK, "{gateway}");
    }

    let mut revision = 1;
    let mut change = async |arguments: &[&str], wanted: StatusCode| {
        let before = revision.to_string();
        let arguments = [
            ["services", "zones"].as_slice(),
            arguments,
            &["--if-revision", &before, "--json"],
        ]
        .concat();
        let done = system.cli_as(&security, &arguments).await?;
        anyhow::ensure!(done.status.success(), "{arguments:?}: {done:?}");
        let since = Instant::now();
        let zones: Value = serde_json::from_slice(&done.stdout)?;
        revision += 1;
        assert_eq!(zones["revision"], revision, "{zones}");
        for gateway in gateways {
            soon("it is in force at the gateway", async {
                while send(gateway).await?.status != wanted {}
                anyhow::Ok(())
            })
            .await??;
        }
        // A second, as it is promised, and some more for a machine that is busy.
        let took = since.elapsed();
        anyhow::ensure!(took < Duration::from_secs(5), "{took:?}");
        anyhow::Ok(())
    };
    change(&["add", "coolify", "pci"], StatusCode::FORBIDDEN).await?;
    let refused = send(gateways[1]).await?;
    assert_eq!(
        refused.body["error"]["data"]["policies"],
        json!(["journey.pci"]),
        "{refused:?}"
    );
    change(&["remove", "coolify", "pci"], StatusCode::OK).await?;
    change(
        &["add", "coolify/list-servers", "pci"],
        StatusCode::FORBIDDEN,
    )
    .await?;

    who_saw_an_older_state_is_told(&system, &security).await?;
    change(&["remove", "coolify/list-servers", "pci"], StatusCode::OK).await?;

    // The gateway keeps what it knows: beside its policy set.
    let kept = system.gateway_data().join("gateway-zones.json");
    assert!(kept.is_file(), "{}", kept.display());
    Ok(())
}

/// By whichever door they come. The command is in the zone, at revision 4.
async fn who_saw_an_older_state_is_told(system: &System, security: &str) -> anyhow::Result<()> {
    let stale = system
        .cli_as(
            security,
            &[
                "services",
                "zones",
                "remove",
                "coolify/list-servers",
                "pci",
                "--if-revision",
                "1",
            ],
        )
        .await?;
    assert!(!stale.status.success(), "{stale:?}");
    let stale = system
        .send(
            system
                .orchestrator(
                    Method::DELETE,
                    "/api/services/coolify/commands/list-servers/zones/pci",
                )
                .bearer_auth(security)
                .header("If-Match", "\"1\""),
        )
        .await?;
    assert_eq!(stale.status, StatusCode::PRECONDITION_FAILED, "{stale:?}");
    let listed = system
        .cli_as(security, &["services", "zones", "list"])
        .await?;
    let listed = String::from_utf8(listed.stdout)?;
    for text in ["coolify/list-servers", "pci", "sam", "revision 4"] {
        assert!(listed.contains(text), "{text}: {listed}");
    }
    Ok(())
}
