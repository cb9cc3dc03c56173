//! Refusals that people lift: joining, deciding, scopes, taking back.

use anyhow::Context;
use cedargate_tests::System;
use reqwest::{Method, StatusCode};
use serde_json::json;

journeys![
    one_request_however_often_asked,
    approving_twice_at_once,
    a_revoked_grant_ends_at_once,
    a_grant_for_this_call_once,
    two_people_for_what_destroys,
    a_rejection_cools_down,
    agents_approve_nothing,
    agents_follow_their_requests,
];

async fn one_request_however_often_asked(system: System) -> anyhow::Result<()> {
    let agent = system.create_agent(json!({"name": "looping"})).await?;
    let calls = (0..40).map(|_| system.execute(&agent, "/mcp-coolify servers list"));
    let mut ids: Vec<String> = Vec::new();
    for reply in futures_util::future::join_all(calls).await {
        let reply = reply?;
        assert_eq!(reply.status, StatusCode::FORBIDDEN, "{reply:?}");
        ids.push(
            reply.body["error"]["data"]["request_id"]
                .as_str()
                .context("a request id")?
                .to_owned(),
        );
    }
    ids.dedup();
    assert_eq!(ids.len(), 1, "{ids:?}");
    let inbox = system.admin_get("/api/approvals").await?;
    assert_eq!(inbox.body.as_array().map(Vec::len), Some(1));
    assert_eq!(inbox.body[0]["joined"], 39, "each is counted: {inbox:?}");

    // Other arguments are another request.
    let one = system
        .execute(
            &agent,
            "/mcp-coolify applications get sampleapp000000000000001",
        )
        .await?;
    let two = system
        .execute(
            &agent,
            "/mcp-coolify applications get sampleapp000000000000002",
        )
        .await?;
    assert_ne!(
        one.body["error"]["data"]["request_id"],
        two.body["error"]["data"]["request_id"]
    );
    Ok(())
}

async fn approving_twice_at_once(system: System) -> anyhow::Result<()> {
    let agent = system.create_agent(json!({"name": "hurried"})).await?;
    let refused = system.execute(&agent, "/mcp-coolify servers list").await?;
    let id = refused.body["error"]["data"]["request_id"]
        .as_str()
        .context("a request id")?;
    let replies = futures_util::future::join_all((0..10).map(|_| system.respond(id, true))).await;
    let mut statuses: Vec<u16> = replies
        .into_iter()
        .map(|reply| Ok(reply?.status.as_u16()))
        .collect::<anyhow::Result<_>>()?;
    statuses.sort_unstable();
    assert_eq!(statuses[0], 200);
    assert!(
        statuses[1..].iter().all(|&status| status == 409),
        "{statuses:?}"
    );
    let grants = system.admin_get("/api/grants?all=true").await?;
    assert_eq!(grants.body.as_array().map(Vec::len), Some(1), "{grants:?}");
    let late = system.respond(id, false).await?;
    assert_eq!(late.status, StatusCode::CONFLICT, "{late:?}");
    Ok(())
}

async fn a_revoked_grant_ends_at_once(system: System) -> anyhow::Result<()> {
    let agent = system.create_agent(json!({"name": "revoked"})).await?;
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

    let grants = system.admin_get("/api/grants").await?;
    let grant = grants.body[0]["id"].as_str().context("a grant")?.to_owned();
    let revoked = system
        .admin(
            Method::POST,
            &format!("/api/grants/{grant}/revoke"),
            json!({"reason": "done"}),
        )
        .await?;
    assert!(revoked.status.is_success(), "{revoked:?}");

    // The feed carries it; when it has arrived the agent is refused, and from then on.
    cedargate_tests::soon("the revocation is in force", async {
        while system
            .execute(&agent, "/mcp-coolify servers list")
            .await?
            .status
            == StatusCode::OK
        {}
        anyhow::Ok(())
    })
    .await??;
    assert_eq!(
        system
            .execute(&agent, "/mcp-coolify servers list")
            .await?
            .status,
        StatusCode::FORBIDDEN
    );
    let again = system
        .admin(
            Method::POST,
            &format!("/api/grants/{grant}/revoke"),
            json!({}),
        )
        .await?;
    assert_eq!(again.status, StatusCode::CONFLICT, "{again:?}");
    Ok(())
}

async fn a_grant_for_this_call_once(system: System) -> anyhow::Result<()> {
    let agent = system.create_agent(json!({"name": "once"})).await?;
    let refused = system.execute(&agent, "/mcp-coolify servers list").await?;
    let id = refused.body["error"]["data"]["request_id"]
        .as_str()
        .context("a request id")?;
    let path = format!("/api/approvals/{id}/approve");
    let approved = system
        .admin(
            Method::POST,
            &path,
            json!({"reach": "once", "reason": "just this once"}),
        )
        .await?;
    assert_eq!(approved.status, StatusCode::OK, "{approved:?}");

    let calls = futures_util::future::join_all(
        (0..8).map(|_| system.execute(&agent, "/mcp-coolify servers list")),
    )
    .await;
    let mut served = 0;
    for reply in calls {
        served += usize::from(reply?.status == StatusCode::OK);
    }
    assert_eq!(served, 1, "one use is one use");
    assert_eq!(system.coolify.count(), 1);
    Ok(())
}

async fn two_people_for_what_destroys(system: System) -> anyhow::Result<()> {
    let agent = system
        .create_agent(json!({"name": "destroyer", "allowed_mcps": ["coolify"]}))
        .await?;
    let dan = system.create_user("dan", &["approver"]).await?;
    let command = "/mcp-coolify applications stop sampleapp000000000000001";
    let refused = system.execute(&agent, command).await?;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{refused:?}");
    let data = &refused.body["error"]["data"];
    assert_eq!(data["approval"]["approvals_needed"], 2, "{data}");
    assert!(
        !data["policies"].as_array().context("policies")?.is_empty(),
        "the wall is named: {data}"
    );
    let id = data["request_id"]
        .as_str()
        .context("a request id")?
        .to_owned();

    let unproved = system.respond(&id, true).await?;
    assert_eq!(unproved.status, StatusCode::FORBIDDEN, "{unproved:?}");
    assert_eq!(unproved.body["reason"], "step_up_required");
    system.enrol(&system.admin).await?;
    system.enrol(&dan).await?;
    assert_eq!(system.respond(&id, true).await?.status, StatusCode::OK);
    assert_eq!(
        system.execute(&agent, command).await?.status,
        StatusCode::FORBIDDEN,
        "one is not enough"
    );
    assert_eq!(
        system.respond(&id, true).await?.status.as_u16() / 100,
        4,
        "nobody counts twice"
    );

    let path = format!("/api/approvals/{id}/approve");
    let second = system
        .send(
            system
                .orchestrator(Method::POST, &path)
                .bearer_auth(&dan)
                .json(&json!({})),
        )
        .await?;
    assert_eq!(second.status, StatusCode::OK, "{second:?}");
    assert_eq!(second.body["status"], "approved");
    assert_eq!(
        system.execute(&agent, command).await?.status,
        StatusCode::OK
    );
    let other = system
        .execute(
            &agent,
            "/mcp-coolify applications stop sampleapp000000000000002",
        )
        .await?;
    assert_eq!(
        other.status,
        StatusCode::FORBIDDEN,
        "other arguments were not approved"
    );
    Ok(())
}

async fn a_rejection_cools_down(system: System) -> anyhow::Result<()> {
    let agent = system.create_agent(json!({"name": "rejected"})).await?;
    let refused = system.execute(&agent, "/mcp-coolify servers list").await?;
    let id = refused.body["error"]["data"]["request_id"]
        .as_str()
        .context("a request id")?
        .to_owned();
    let rejected = system.respond(&id, false).await?;
    assert_eq!(
        (rejected.status, &rejected.body["message"]),
        (StatusCode::OK, &json!("Permission denied"))
    );

    let again = system.execute(&agent, "/mcp-coolify servers list").await?;
    assert_eq!(again.status, StatusCode::FORBIDDEN);
    let data = &again.body["error"]["data"];
    assert_eq!(data["outcome"], "rejected", "{data}");
    assert_eq!(
        data["approval"]["id"]
            .as_str()
            .or(data["request_id"].as_str()),
        Some(id.as_str())
    );
    assert!(data["retry_after_seconds"].as_u64() > Some(60), "{data}");
    let inbox = system.admin_get("/api/approvals").await?;
    assert_eq!(
        inbox.body.as_array().map(Vec::len),
        Some(0),
        "nobody is asked again so soon"
    );
    Ok(())
}

async fn agents_approve_nothing(system: System) -> anyhow::Result<()> {
    let agent = system.create_agent(json!({"name": "cunning"})).await?;
    let token = system.create_agent_token(&agent).await?;
    let refused = system.execute(&agent, "/mcp-coolify servers list").await?;
    let id = refused.body["error"]["data"]["request_id"]
        .as_str()
        .context("a request id")?
        .to_owned();
    let body = json!({"request_id": id, "approved": true, "reason": "trust me"});
    for path in [
        "/api/mcp/permission-respond".to_owned(),
        format!("/api/approvals/{id}/approve"),
        "/api/agents".to_owned(),
        "/api/users".to_owned(),
        "/api/gateway/credentials".to_owned(),
        "/api/gateway/approvals".to_owned(),
        "/api/gateway/journal".to_owned(),
        "/api/mcp/permission-request".to_owned(),
    ] {
        for credential in [Some(&token), None] {
            let mut request = system.orchestrator(Method::POST, &path).json(&body);
            if let Some(token) = credential {
                request = request.bearer_auth(token);
            }
            let reply = system.send(request).await?;
            assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "{path} {reply:?}");
        }
    }
    for path in [
        "/api/approvals",
        "/api/agents",
        "/api/audit",
        "/api/feed",
        "/api/grants",
        "/api/policy-set",
        "/api/whoami",
    ] {
        let reply = system
            .send(system.orchestrator(Method::GET, path).bearer_auth(&token))
            .await?;
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "{path} {reply:?}");
    }
    assert_eq!(
        system
            .execute(&agent, "/mcp-coolify servers list")
            .await?
            .status,
        StatusCode::FORBIDDEN
    );

    let unknown = system
        .respond("apr_00000000000070008000000000000000", true)
        .await?;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND, "{unknown:?}");
    let odd = system.respond("perm_req_1/../../x", true).await?;
    assert_eq!(odd.status, StatusCode::NOT_FOUND, "{odd:?}");

    // A viewer may look, and no more.
    let viewer = system.create_user("vera", &["viewer"]).await?;
    let reply = system
        .send(
            system
                .orchestrator(Method::POST, "/api/mcp/permission-respond")
                .bearer_auth(&viewer)
                .json(&body),
        )
        .await?;
    assert_eq!(reply.status, StatusCode::FORBIDDEN, "{reply:?}");
    Ok(())
}

async fn agents_follow_their_requests(system: System) -> anyhow::Result<()> {
    let agent = system.create_agent(json!({"name": "patient"})).await?;
    let other = system.create_agent(json!({"name": "curious"})).await?;
    let refused = system.execute(&agent, "/mcp-coolify servers list").await?;
    let id = refused.body["error"]["data"]["request_id"]
        .as_str()
        .context("a request id")?
        .to_owned();
    let path = format!("/approvals/{id}");
    let own = system
        .send(
            system
                .gateway(Method::GET, &path)
                .header("x-agent-id", &agent),
        )
        .await?;
    assert_eq!(
        (own.status, &own.body["status"]),
        (StatusCode::OK, &json!("pending")),
        "{own:?}"
    );
    let foreign = system
        .send(
            system
                .gateway(Method::GET, &path)
                .header("x-agent-id", &other),
        )
        .await?;
    assert_eq!(foreign.status, StatusCode::NOT_FOUND, "{foreign:?}");
    system.respond(&id, true).await?;
    let own = system
        .send(
            system
                .gateway(Method::GET, &path)
                .header("x-agent-id", &agent),
        )
        .await?;
    assert_eq!(own.body["status"], "approved", "{own:?}");
    Ok(())
}
