//! Who is let in where, and what is said to malformed requests.

use axum::{
    body::Body,
    http::{Request, header},
};
use contract::{
    agents::{ChangeAgent, CreateToken},
    audit::{JournalLine, ShipJournal},
    facts::CredentialQuery,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::plane::{CONTROL, Plane, by_id};

#[tokio::test]
async fn every_door_opens_for_its_own_callers_only() {
    let plane = Plane::new().await;
    let agent = plane.agent("test-agent", None).await.agent;
    let agent_token = plane
        .admin
        .create_agent_token(&by_id(agent.id), &CreateToken::default())
        .await
        .unwrap()
        .token;
    let (_, nobody) = plane.person("nobody", &[]).await;
    let (_, viewer) = plane.person("viewer", &["viewer"]).await;
    let id = agent.id.to_string();
    let callers: [(&str, Option<&str>); 6] = [
        ("nobody knows who", None),
        ("the agent", Some(&agent_token)),
        ("a gateway", Some(CONTROL)),
        ("a user without roles", Some(&nobody)),
        ("a viewer", Some(&viewer)),
        ("the admin", Some(&plane.admin_token)),
    ];
    let create_agent = json!({"name": "x"});
    let create_user = json!({"id": "x"});
    let doors = [
        ("GET", "/health", None, [200, 200, 200, 200, 200, 200]),
        ("GET", "/ready", None, [200, 200, 200, 200, 200, 200]),
        ("GET", "/api/whoami", None, [401, 401, 401, 200, 200, 200]),
        ("GET", "/api/agents", None, [401, 401, 401, 403, 200, 200]),
        (
            "POST",
            "/api/agents",
            Some(create_agent),
            [401, 401, 401, 403, 403, 201],
        ),
        (
            "GET",
            "/api/agents/test-agent/tokens",
            None,
            [401, 401, 401, 403, 200, 200],
        ),
        (
            "POST",
            "/api/agents/test-agent/tokens",
            Some(json!({})),
            [401, 401, 401, 403, 403, 201],
        ),
        (
            "PATCH",
            "/api/agents/test-agent",
            Some(json!({"trust": 2})),
            [401, 401, 401, 403, 403, 200],
        ),
        ("GET", "/api/users", None, [401, 401, 401, 403, 200, 200]),
        (
            "POST",
            "/api/users",
            Some(create_user),
            [401, 401, 401, 403, 403, 201],
        ),
        (
            "POST",
            "/api/users/admin/tokens",
            Some(json!({})),
            [401, 401, 401, 403, 403, 201],
        ),
        ("GET", "/api/grants", None, [401, 401, 401, 403, 200, 200]),
        (
            "GET",
            "/api/approvals",
            None,
            [401, 401, 401, 403, 200, 200],
        ),
        (
            "GET",
            "/api/policy-set",
            None,
            [401, 401, 401, 403, 200, 200],
        ),
        ("GET", "/api/audit", None, [401, 401, 401, 403, 200, 200]),
        (
            "GET",
            "/api/audit/export",
            None,
            [401, 401, 401, 403, 200, 200],
        ),
        (
            "GET",
            "/api/audit/verification",
            None,
            [401, 401, 401, 403, 200, 200],
        ),
        ("GET", "/api/services", None, [401, 401, 401, 403, 200, 200]),
        (
            "GET",
            "/api/services/files/tools",
            None,
            [401, 401, 401, 403, 404, 404],
        ),
        (
            "POST",
            "/api/services/files/approve-tools",
            Some(json!({"tools": []})),
            [401, 401, 401, 403, 403, 403],
        ),
        (
            "POST",
            "/api/services/files/withdraw-tools",
            Some(json!({"tools": []})),
            [401, 401, 401, 403, 403, 403],
        ),
        (
            "GET",
            "/api/gateway/tool-reviews",
            None,
            [401, 401, 200, 401, 401, 401],
        ),
        ("GET", "/api/zones", None, [401, 401, 401, 403, 200, 200]),
        (
            "PUT",
            "/api/services/coolify/zones/pci",
            None,
            [401, 401, 401, 403, 403, 403],
        ),
        (
            "DELETE",
            "/api/services/coolify/commands/deploy/zones/pci",
            None,
            [401, 401, 401, 403, 403, 403],
        ),
        (
            "GET",
            "/api/gateway/zones",
            None,
            [401, 401, 200, 401, 401, 401],
        ),
        ("GET", "/api/budgets", None, [401, 401, 401, 403, 200, 200]),
        (
            "POST",
            "/api/gateway/budgets",
            Some(json!({})),
            [401, 401, 400, 401, 401, 401],
        ),
        ("GET", "/api/overview", None, [401, 401, 401, 403, 200, 200]),
        (
            "POST",
            "/api/explain",
            Some(json!({})),
            [401, 401, 401, 403, 400, 400],
        ),
        (
            "PUT",
            "/api/gateway/catalog",
            Some(json!({})),
            [401, 401, 400, 401, 401, 401],
        ),
        (
            "GET",
            "/api/audit/journals",
            None,
            [401, 401, 401, 403, 200, 200],
        ),
        (
            "GET",
            &format!("/api/gateway/facts/{id}"),
            None,
            [401, 401, 200, 401, 401, 401],
        ),
        (
            "GET",
            "/api/gateway/policy-set",
            None,
            [401, 401, 200, 401, 401, 401],
        ),
        (
            "POST",
            "/api/gateway/approvals",
            Some(json!({})),
            [401, 401, 400, 401, 401, 401],
        ),
        (
            "POST",
            "/api/gateway/journal",
            Some(json!({"gateway": "g", "lines": []})),
            [401, 401, 200, 401, 401, 401],
        ),
        (
            "GET",
            &format!("/api/agent/{id}/mcp-permissions"),
            None,
            [404, 404, 200, 404, 200, 200],
        ),
        (
            "POST",
            "/api/mcp/permission-request",
            Some(json!({})),
            [401, 401, 400, 403, 400, 400],
        ),
        (
            "POST",
            "/api/mcp/permission-respond",
            Some(json!({})),
            [401, 401, 401, 400, 400, 400],
        ),
        ("GET", "/nothing", None, [404, 404, 404, 404, 404, 404]),
        (
            "DELETE",
            "/api/agents",
            None,
            [405, 405, 405, 405, 405, 405],
        ),
    ];
    for (method, path, body, expected) in doors {
        for ((caller, token), expected) in callers.iter().zip(expected) {
            let answer = plane.call(method, path, *token, body.clone()).await;
            assert_eq!(
                answer.status, expected,
                "{caller}: {method} {path}: {}",
                answer.body
            );
            if expected >= 400 {
                assert!(
                    !answer.detail().is_empty(),
                    "{caller}: {method} {path} says why"
                );
            }
            assert!(
                answer
                    .header("content-security-policy")
                    .starts_with("default-src 'none'")
            );
            assert!(!answer.header("x-request-id").is_empty());
        }
    }
}

#[tokio::test]
async fn malformed_requests_are_told_what_is_wrong() {
    let plane = Plane::new().await;
    let post = |path: &str, kind: &str, body: Vec<u8>| {
        Request::post(path)
            .header(
                header::AUTHORIZATION,
                format!("Bearer {}", plane.admin_token),
            )
            .header(header::CONTENT_TYPE, kind)
            .body(Body::from(body))
            .unwrap()
    };
    let json = "application/json";
    for (kind, body, status, says) in [
        (json, "{", 400, "EOF"),
        (json, "", 400, "EOF"),
        (json, r#"{"name": "a", "colour": 1}"#, 400, "colour"),
        (json, r#"{"name": "denied/../allowed"}"#, 400, "name"),
        (
            json,
            r#"{"name": "a", "allowed_mcps": ["git hub"]}"#,
            400,
            "allowed_mcps",
        ),
        (json, r#"{"name": "a", "name": "b"}"#, 400, "duplicate"),
        (json, r#"{"name": "a", "owner": "ghost"}"#, 400, "owner"),
        (json, r#"{"name": "a"} x"#, 400, "trailing"),
        ("text/plain", r#"{"name": "a"}"#, 415, "JSON"),
    ] {
        let answer = plane.send(post("/api/agents", kind, body.into())).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.body);
        assert!(answer.detail().contains(says), "{body}: {}", answer.body);
    }
    let large = format!(r#"{{"name": "{}"}}"#, "a".repeat(1024 * 1024));
    assert_eq!(
        plane
            .send(post("/api/agents", json, large.into_bytes()))
            .await
            .status,
        413
    );
    assert_eq!(
        plane
            .call(
                "GET",
                "/api/grants?alll=true",
                Some(&plane.admin_token),
                None
            )
            .await
            .status,
        400
    );

    plane.agent("test-agent", None).await;
    let answer = plane
        .call(
            "POST",
            "/api/agents",
            Some(&plane.admin_token),
            Some(json!({"name": "test-agent"})),
        )
        .await;
    assert_eq!(answer.status, 409, "{}", answer.body);
    for token in [
        json!({"expires_in_seconds": 0}),
        json!({"label": "x".repeat(201)}),
    ] {
        let answer = plane
            .call(
                "POST",
                "/api/agents/test-agent/tokens",
                Some(&plane.admin_token),
                Some(token),
            )
            .await;
        assert_eq!(answer.status, 400);
    }
}

#[tokio::test]
async fn odd_credentials_are_none() {
    let plane = Plane::new().await;
    let good = format!("Bearer {}", plane.admin_token);
    let twice = Request::get("/api/whoami")
        .header("authorization", &good)
        .header("authorization", &good);
    assert_eq!(
        plane.send(twice.body(Body::empty()).unwrap()).await.status,
        401
    );
    for value in [
        "",
        "Bearer",
        "Bearer ",
        "Basic YTpi",
        &format!("Bearer {}x", plane.admin_token),
        &"x".repeat(8_000),
    ] {
        let request = Request::get("/api/whoami")
            .header("authorization", value)
            .body(Body::empty())
            .unwrap();
        let answer = plane.send(request).await;
        assert_eq!(answer.status, 401, "{value}");
        assert_eq!(answer.header("www-authenticate"), "Bearer");
    }
}

#[tokio::test]
async fn an_agents_credential_is_known_by_its_digest_until_it_is_revoked() {
    let plane = Plane::new().await;
    let agent = plane.agent("test-agent", None).await.agent;
    let created = plane
        .admin
        .create_agent_token(
            &by_id(agent.id),
            &CreateToken {
                label: "ci".to_owned(),
                expires_in_seconds: Some(60),
            },
        )
        .await
        .unwrap();
    assert!(created.token.starts_with("cgt_"));
    let query = CredentialQuery {
        digest: hex::encode(Sha256::digest(&created.token)),
    };
    let known = plane.gateway.credential(&query).await.unwrap();
    assert_eq!((known.agent, known.token), (agent.id, created.view.id));
    let listed = plane
        .call(
            "GET",
            "/api/agents/test-agent/tokens",
            Some(&plane.admin_token),
            None,
        )
        .await;
    assert!(
        !listed.body.contains(&created.token) && !listed.body.contains(&query.digest),
        "{}",
        listed.body
    );

    plane
        .admin
        .revoke_agent_token(&by_id(agent.id), created.view.id)
        .await
        .unwrap();
    assert_eq!(
        plane
            .gateway
            .credential(&query)
            .await
            .unwrap_err()
            .status()
            .unwrap(),
        404
    );
    let again = plane
        .admin
        .revoke_agent_token(&by_id(agent.id), created.view.id)
        .await
        .unwrap_err();
    assert_eq!(again.status().unwrap(), 404);
}

#[tokio::test]
async fn agents_are_changed_by_name_and_keep_what_is_not_named() {
    let plane = Plane::new().await;
    plane.agent("test-agent", None).await;
    let name = "test-agent".parse().unwrap();
    let change = ChangeAgent {
        suspended: Some(true),
        ..ChangeAgent::default()
    };
    let changed = plane
        .admin
        .change_agent(&name, &change)
        .await
        .unwrap()
        .agent;
    assert!(changed.suspended && changed.allowed_mcps.contains(&"github".parse().unwrap()));
    assert_eq!(plane.gateway.facts(&name).await.unwrap().agent, changed);
    let local = plane
        .admin
        .agent(&"local".parse().unwrap())
        .await
        .unwrap()
        .agent;
    assert_eq!(local.id, authz::AgentId::LOCAL);
}

#[tokio::test]
async fn a_journal_is_stored_once_and_only_in_an_unbroken_chain() {
    let plane = Plane::new().await;
    let line = |sequence: i64, previous: &str, kind: &str| {
        let body = json!({
            "sequence": sequence, "previous": previous, "at": plane.now(), "gateway": "g1", "kind": kind,
        })
        .to_string();
        let hash = hex::encode(Sha256::digest(&body));
        let text = format!("{},\"hash\":\"{hash}\"}}", &body[..body.len() - 1]);
        (JournalLine { sequence, text }, hash)
    };
    let ship = |lines: Vec<JournalLine>| ShipJournal {
        gateway: "g1".to_owned(),
        lines,
    };
    let (first, hash) = line(1, &"0".repeat(64), "start");
    let (second, _) = line(2, &hash, "start");
    assert_eq!(
        plane
            .gateway
            .ship_journal(&ship(vec![first.clone()]))
            .await
            .unwrap()
            .through,
        1
    );
    let stored = plane
        .gateway
        .ship_journal(&ship(vec![first.clone(), second.clone()]))
        .await
        .unwrap();
    assert_eq!(stored.through, 2, "sent again, stored once");
    let trail = plane.admin.audit(0, 1_000, None).await.unwrap();
    assert_eq!(
        trail
            .iter()
            .filter(|entry| entry.gateway.as_deref() == Some("g1"))
            .count(),
        2
    );

    let edited = JournalLine {
        sequence: 3,
        text: second.text.replace("start", "stirt"),
    };
    let (gap, _) = line(4, &hash, "start");
    let (forked, _) = line(3, &hash, "start");
    let (rewritten, _) = line(2, &hash, "refusal");
    for (what, line, status) in [
        ("edited", edited, 400),
        ("gap", gap, 409),
        ("forked", forked, 409),
        ("rewritten", rewritten, 409),
    ] {
        let error = plane
            .gateway
            .ship_journal(&ship(vec![line]))
            .await
            .unwrap_err();
        assert_eq!(error.status().unwrap(), status, "{what}: {error}");
    }
}

#[tokio::test]
async fn named_origins_may_use_the_api_and_others_may_not() {
    let plane = Plane::new().await;
    let preflight = |origin: &str| {
        Request::options("/api/agents")
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .body(Body::empty())
            .unwrap()
    };
    let answer = plane.send(preflight("https://admin.example")).await;
    assert_eq!(
        answer.header("access-control-allow-origin"),
        "https://admin.example"
    );
    assert_eq!(answer.header("access-control-allow-credentials"), "true");
    let answer = plane.send(preflight("https://evil.example")).await;
    assert_eq!(answer.header("access-control-allow-origin"), "");
    let health: Value = plane.call("GET", "/health", None, None).await.json();
    assert_eq!(
        (&health["status"], &health["service"]),
        (&json!("healthy"), &json!("orchestrator-3-stream"))
    );
    assert_eq!(health["websocket_connections"], 0);
}
