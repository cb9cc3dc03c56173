//! What agents do while people decide, and what a crash leaves of a verdict.

use anyhow::Context;
use cedargate_tests::{Layout, Reply, System};
use reqwest::{Method, StatusCode};
use serde_json::json;

journeys![
    a_call_held_until_people_approve,
    who_hangs_up_while_waiting_executes_nothing,
    requests_are_taken_back,
    an_approval_after_policy_changed,
];

const LIST: &str = "/mcp-coolify servers list";

fn request_id(reply: &Reply) -> anyhow::Result<String> {
    let id = reply.body["error"]["data"]["request_id"].as_str();
    Ok(id.with_context(|| format!("{reply:?}"))?.to_owned())
}

/// The id of the only request that waits, once there is one.
async fn pending(system: &System) -> anyhow::Result<String> {
    cedargate_tests::soon("a request is open", async {
        loop {
            let inbox = system.admin_get("/api/approvals").await?;
            if let Some(id) = inbox.body[0]["id"].as_str() {
                return anyhow::Ok(id.to_owned());
            }
        }
    })
    .await?
}

async fn a_call_held_until_people_approve(system: System) -> anyhow::Result<()> {
    let agent = system.create_agent(json!({"name": "patient"})).await?;
    let call = system.send(
        system
            .gateway(Method::POST, "/execute")
            .header("x-agent-id", &agent)
            .header("prefer", "wait=25")
            .json(&json!({"command": LIST, "reason": "capacity"})),
    );
    let people = async {
        let id = pending(&system).await?;
        assert_eq!(system.coolify.count(), 0);
        system.respond(&id, true).await
    };
    let (reply, responded) = tokio::join!(call, people);
    assert_eq!(responded?.status, StatusCode::OK);
    let reply = reply?;
    assert_eq!(reply.status, StatusCode::OK, "{reply:?}");
    assert_eq!(reply.headers["preference-applied"], "wait=25");
    assert_eq!(system.coolify.count(), 1);
    Ok(())
}

async fn who_hangs_up_while_waiting_executes_nothing(system: System) -> anyhow::Result<()> {
    let agent = system.create_agent(json!({"name": "hasty"})).await?;
    let id = {
        let call = system
            .gateway(Method::POST, "/execute")
            .header("x-agent-id", &agent)
            .header("prefer", "wait=25")
            .header("connection", "close")
            .json(&json!({"command": LIST}))
            .send();
        tokio::select! {
            answered = call => anyhow::bail!("answered {answered:?}"),
            id = pending(&system) => id?,
        }
        // The connection ends here.
    };
    system.respond(&id, true).await?;
    // What comes later is served, so it is not that nothing is.
    let other = system.execute(&agent, LIST).await?;
    assert_eq!(other.status, StatusCode::OK, "{other:?}");
    assert_eq!(
        system.coolify.count(),
        1,
        "only the call that was waited for"
    );
    Ok(())
}

async fn requests_are_taken_back(system: System) -> anyhow::Result<()> {
    let token = system.create_user("olga", &[]).await?;
    let agent = system
        .create_agent(json!({"name": "fickle", "owner": "olga"}))
        .await?;
    let first = request_id(&system.execute(&agent, LIST).await?)?;
    let path = format!("/approvals/{first}");
    let own = system
        .send(
            system
                .gateway(Method::DELETE, &path)
                .header("x-agent-id", &agent),
        )
        .await?;
    assert_eq!(
        (own.status, &own.body["status"]),
        (StatusCode::OK, &json!("withdrawn")),
        "{own:?}"
    );
    assert_eq!(
        system.respond(&first, true).await?.status,
        StatusCode::CONFLICT
    );

    let second = request_id(&system.execute(&agent, LIST).await?)?;
    assert_ne!(first, second);
    let path = format!("/api/approvals/{second}/withdraw");
    let owner = system
        .send(
            system
                .orchestrator(Method::POST, &path)
                .bearer_auth(&token)
                .json(&json!({"reason": "not now"})),
        )
        .await?;
    assert_eq!(owner.status, StatusCode::OK, "{owner:?}");
    let told = system
        .send(
            system
                .gateway(Method::GET, &format!("/approvals/{second}"))
                .header("x-agent-id", &agent),
        )
        .await?;
    assert_eq!(
        (&told.body["status"], &told.body["note"]),
        (&json!("withdrawn"), &json!("not now"))
    );
    Ok(())
}

async fn an_approval_after_policy_changed(system: System) -> anyhow::Result<()> {
    let agent = system.create_agent(json!({"name": "late"})).await?;
    let id = request_id(&system.execute(&agent, LIST).await?)?;
    let path = format!("/api/agents/{agent}");
    let suspended = system
        .admin(Method::PATCH, &path, json!({"suspended": true}))
        .await?;
    assert!(suspended.status.is_success(), "{suspended:?}");
    let refused = system.respond(&id, true).await?;
    assert_eq!(
        refused.status,
        StatusCode::UNPROCESSABLE_ENTITY,
        "{refused:?}"
    );
    assert!(
        refused.body["detail"]
            .as_str()
            .unwrap_or_default()
            .contains("suspended"),
        "{refused:?}"
    );
    let grants = system.admin_get("/api/grants?all=true").await?;
    assert_eq!(grants.body, json!([]));
    Ok(())
}

/// Killed at any moment of a verdict, twenty times: all of it is there, or nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_in_the_middle_of_a_verdict() -> anyhow::Result<()> {
    let mut system = System::start(Layout::TwoProcesses).await?;
    let agent = system.create_agent(json!({"name": "asking"})).await?;
    let mut saved = 0;
    for round in 0..20_u64 {
        let command = format!("/mcp-coolify applications get killed{round}");
        let id = request_id(&system.execute(&agent, &command).await?)?;
        let body = json!({"request_id": id, "approved": true, "reason": "killed"});
        let verdict = system
            .orchestrator(Method::POST, "/api/mcp/permission-respond")
            .bearer_auth(&system.admin)
            .json(&body)
            .send();
        let verdict = tokio::spawn(verdict);
        // Another moment each round, from before it arrives until after it is done.
        for _ in 0..round * round * 20 {
            tokio::task::yield_now().await;
        }
        let orchestrator = system
            .orchestrator
            .as_mut()
            .context("a process of its own")?;
        orchestrator.kill().await?;
        let answered = verdict.await?;
        system.start_orchestrator_again().await?;

        let view = system.admin_get(&format!("/api/approvals/{id}")).await?;
        let granted = view.body["grant"].is_string();
        let verdicts = view.body["verdicts"].as_array().context("verdicts")?.len();
        let status = view.body["status"].as_str().context("a status")?;
        assert_eq!(
            (status, verdicts),
            if granted {
                ("approved", 1)
            } else {
                ("pending", 0)
            },
            "{view:?}"
        );
        if answered.is_ok_and(|answer| answer.status().is_success()) {
            assert!(granted, "what was answered is saved");
        }
        let again = system.respond(&id, true).await?;
        let expected = if granted {
            StatusCode::CONFLICT
        } else {
            StatusCode::OK
        };
        assert_eq!(again.status, expected, "{again:?}");
        saved += u32::from(granted);
        let grants = system.admin_get("/api/grants?all=true").await?;
        let of_this = |grant: &&serde_json::Value| grant["approval"] == json!(id);
        let grants = grants
            .body
            .as_array()
            .context("grants")?
            .iter()
            .filter(of_this)
            .count();
        assert_eq!(grants, 1);
        // The gateway finds its way back, and the approval is worth what it says.
        cedargate_tests::soon("the call goes through", async {
            while system.execute(&agent, &command).await?.status == StatusCode::FORBIDDEN {}
            anyhow::Ok(())
        })
        .await??;
    }
    eprintln!("saved before the end: {saved} of 20");
    Ok(())
}
