//! Two people change one agent: nobody's change is lost, and whom it concerns is told.

use axum::{body::Body, http::Request};
use contract::agents::{AgentView, Member, Suspend};
use serde_json::{Value, json};

use crate::plane::{Answer, CONTROL, Plane, by_id};

/// A request with `If-Match`, as the admin.
async fn call_if(
    plane: &Plane,
    method: &str,
    path: &str,
    seen: Option<&str>,
    body: Option<Value>,
) -> Answer {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header("authorization", format!("Bearer {}", plane.admin_token));
    if let Some(seen) = seen {
        request = request.header("if-match", seen);
    }
    if body.is_some() {
        request = request.header("content-type", "application/json");
    }
    let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
    plane.send(request.body(body).unwrap()).await
}

#[tokio::test]
async fn a_whole_list_is_replaced_only_by_who_saw_it() {
    let plane = Plane::new().await;
    plane.agent("test-agent", None).await;
    let path = "/api/agents/test-agent";
    let seen = plane
        .call("GET", path, Some(&plane.admin_token), None)
        .await;
    assert_eq!(seen.header("etag"), "\"1\"");
    assert_eq!(seen.json()["revision"], 1);

    let mine = json!({"allowed_mcps": ["github", "coolify"]});
    let theirs = json!({"allowed_mcps": ["github", "stripe"]});
    let blind = call_if(&plane, "PATCH", path, None, Some(mine.clone())).await;
    assert_eq!(blind.status, 428, "{}", blind.body);
    assert!(blind.detail().contains("If-Match"), "{}", blind.body);

    let first = call_if(&plane, "PATCH", path, Some("\"1\""), Some(mine.clone())).await;
    assert_eq!(
        (first.status.as_u16(), first.header("etag")),
        (200, "\"2\"")
    );
    let second = call_if(&plane, "PATCH", path, Some("\"1\""), Some(theirs.clone())).await;
    assert_eq!(second.status, 412, "{}", second.body);
    assert!(second.detail().contains("\"2\""), "{}", second.body);
    let now = plane
        .admin
        .agent(&"test-agent".parse().unwrap())
        .await
        .unwrap();
    assert_eq!(json!(now.agent.allowed_mcps), json!(["coolify", "github"]));

    for (seen, status) in [
        ("\"2\", \"1\"", 200),
        ("*", 200),
        ("W/\"3\"", 412),
        ("3", 400),
        ("", 400),
    ] {
        let answer = call_if(&plane, "PATCH", path, Some(seen), Some(theirs.clone())).await;
        assert_eq!(answer.status, status, "{seen}: {}", answer.body);
    }
    // A single value may be set without having looked, and with a wrong look is not.
    let trust = json!({"trust": 2});
    for (seen, status) in [(None, 200), (Some("\"1\""), 412)] {
        let answer = call_if(&plane, "PATCH", path, seen, Some(trust.clone())).await;
        assert_eq!(answer.status, status, "{}", answer.body);
    }
    let same = call_if(&plane, "PATCH", path, None, Some(trust)).await;
    assert_eq!(
        same.header("etag"),
        "\"4\"",
        "nothing changed, nothing counted"
    );
}

#[tokio::test]
async fn single_members_are_added_and_removed_at_once_by_many() {
    let plane = Plane::new().await;
    let agent = by_id(plane.agent("test-agent", None).await.agent.id);
    let members: Vec<Member> = (0..12)
        .map(|n| match n % 3 {
            0 => Member::Service(format!("service-{n}").parse().unwrap()),
            1 => Member::Role(format!("role-{n}").parse().unwrap()),
            _ => Member::Team(format!("team-{n}").parse().unwrap()),
        })
        .collect();
    let add = members
        .iter()
        .map(|member| plane.admin.add_to_agent(&agent, member));
    for added in futures_util::future::join_all(add).await {
        added.unwrap();
    }
    let all: AgentView = plane.admin.agent(&agent).await.unwrap();
    assert_eq!(
        json!([all.agent.allowed_mcps, all.agent.roles, all.agent.teams]),
        json!([
            ["github", "service-0", "service-3", "service-6", "service-9"],
            ["role-1", "role-10", "role-4", "role-7"],
            ["team-11", "team-2", "team-5", "team-8"],
        ])
    );
    assert_eq!(all.revision, 13);
    let twice = plane.admin.add_to_agent(&agent, &members[0]).await.unwrap();
    assert_eq!(twice.revision, 13, "it is there already");

    let remove = members
        .iter()
        .map(|member| plane.admin.remove_from_agent(&agent, member));
    for removed in futures_util::future::join_all(remove).await {
        removed.unwrap();
    }
    let none = plane
        .admin
        .remove_from_agent(&agent, &members[0])
        .await
        .unwrap();
    assert_eq!(none.revision, 25, "it was gone already");
    assert_eq!(json!(none.agent.allowed_mcps), json!(["github"]));
    assert!(none.agent.roles.is_empty() && none.agent.teams.is_empty());
}

#[tokio::test]
async fn members_are_checked_and_counted() {
    let plane = Plane::new().await;
    plane.agent("test-agent", None).await;
    let (_, viewer) = plane.person("viewer", &["viewer"]).await;
    let path = "/api/agents/test-agent/roles/deployer";
    for (token, status) in [
        (None, 401),
        (Some(CONTROL), 401),
        (Some(viewer.as_str()), 403),
        (Some(plane.admin_token.as_str()), 200),
    ] {
        for method in ["PUT", "DELETE"] {
            let answer = plane.call(method, path, token, None).await;
            assert_eq!(answer.status, status, "{method}: {}", answer.body);
        }
    }
    for (path, status) in [
        ("/api/agents/nobody/roles/deployer", 404),
        ("/api/agents/test-agent/roles/No%20Role", 404),
        ("/api/agents/test-agent/roles/%ff", 404),
        ("/api/agents/test-agent/colours/blue", 404),
    ] {
        let answer = plane
            .call("PUT", path, Some(&plane.admin_token), None)
            .await;
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
    }
    let stale = call_if(&plane, "PUT", path, Some("\"1\""), None).await;
    assert_eq!(
        stale.status, 412,
        "honoured where it is sent: {}",
        stale.body
    );
    let many: Vec<_> = (0..501).map(|n| format!("role-{n}")).collect();
    let answer = call_if(
        &plane,
        "PATCH",
        "/api/agents/test-agent",
        Some("*"),
        Some(json!({"roles": many})),
    )
    .await;
    assert_eq!(answer.status, 400, "{}", answer.body);
    assert!(answer.detail().contains("500"), "{}", answer.body);
}

#[tokio::test]
async fn one_call_stops_an_agent_and_says_why_in_the_trail() {
    let plane = Plane::new().await;
    let id = plane.agent("test-agent", None).await.agent.id;
    let (agent, stop) = (
        by_id(id),
        Suspend {
            reason: "it deletes things <b>now</b>".to_owned(),
        },
    );
    let stopped = plane.admin.suspend_agent(&agent, &stop).await.unwrap();
    assert!(stopped.agent.suspended);
    assert!(plane.gateway.facts(&agent).await.unwrap().agent.suspended);
    let again = plane.admin.suspend_agent(&agent, &stop).await.unwrap();
    assert_eq!(again.revision, stopped.revision, "it is stopped already");
    let going = plane
        .admin
        .resume_agent(&agent, &Suspend::default())
        .await
        .unwrap();
    assert!(!going.agent.suspended);

    let trail = plane.admin.audit(0, 100, Some(id)).await.unwrap();
    let kinds: Vec<_> = trail.iter().map(|entry| entry.kind.as_str()).collect();
    assert_eq!(kinds, ["agent_created", "agent_suspended", "agent_resumed"]);
    assert_eq!(trail[1].entry["reason"], "it deletes things <b>now</b>");
    assert_eq!(trail[1].user.as_deref(), Some("admin"));
    assert!(trail[2].entry.get("reason").is_none());

    let (viewer, _) = plane.person("viewer", &["viewer"]).await;
    let refused = viewer.suspend_agent(&agent, &stop).await.unwrap_err();
    assert_eq!(refused.status().unwrap(), 403);
    let long = Suspend {
        reason: "x".repeat(2_001),
    };
    let refused = plane.admin.suspend_agent(&agent, &long).await.unwrap_err();
    assert_eq!(refused.status().unwrap(), 400);
}

#[tokio::test]
async fn agents_are_listed_page_by_page() {
    let plane = Plane::new().await;
    for name in ["b", "a", "d", "c"] {
        plane.agent(name, None).await;
    }
    let mut seen = Vec::new();
    let mut after = String::new();
    loop {
        let path = format!("/api/agents?limit=2{after}");
        let page = plane
            .call("GET", &path, Some(&plane.admin_token), None)
            .await;
        let page: Vec<AgentView> = serde_json::from_str(&page.body).unwrap();
        let Some(last) = page.last() else { break };
        after = format!("&after={}", last.agent.name);
        assert!(page.len() <= 2);
        seen.extend(page.iter().map(|view| view.agent.name.to_string()));
    }
    assert_eq!(seen, ["a", "b", "c", "d", "local"]);
    assert_eq!(plane.admin.agents().await.unwrap().len(), 5);
    for wrong in ["limit=-1", "limit=x", "after=%00", "before=a"] {
        let path = format!("/api/agents?{wrong}");
        let answer = plane
            .call("GET", &path, Some(&plane.admin_token), None)
            .await;
        assert_eq!(answer.status, 400, "{wrong}: {}", answer.body);
    }
}
