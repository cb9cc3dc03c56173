//! From a refused call to a grant, and every way in which that must not happen.

use std::time::Duration;

use authz::{Risk, Scope, approval::Reach};
use contract::{
    Error,
    agents::Revoke,
    approvals::{ApprovalStatus, Approve, Reject},
};
use serde_json::json;

use crate::plane::{CONTROL, Plane, by_id, legacy_request, no_arguments, refused, target};

fn status<T: std::fmt::Debug>(result: Result<T, Error>) -> u16 {
    result
        .unwrap_err()
        .status()
        .map_or(0, |status| status.as_u16())
}

#[tokio::test]
async fn a_request_is_opened_joined_approved_and_becomes_a_grant() {
    let plane = Plane::new().await;
    let agent = plane.agent("test-agent", None).await.agent;
    let open = refused(
        &plane,
        agent.id,
        json!({"team": "ops", "api_token": "hunter2"}),
    )
    .await;

    let opened = plane.gateway.open_approval(&open).await.unwrap();
    assert_eq!(
        (
            opened.status,
            opened.approvals_needed,
            opened.approvals_given
        ),
        (ApprovalStatus::Pending, 1, 0)
    );
    let joined = plane.gateway.open_approval(&open).await.unwrap();
    assert_eq!(joined.id, opened.id, "a repeated call joins");

    let inbox = plane.admin.approvals(false).await.unwrap();
    assert_eq!(inbox.len(), 1);
    assert_eq!(inbox[0].joined, 1);
    assert_eq!(
        inbox[0].arguments["api_token"],
        authz::redact::REDACTED,
        "also when a gateway forgot"
    );
    assert_eq!(inbox[0].agent_name.as_str(), "test-agent");
    assert!(
        inbox[0]
            .choices
            .iter()
            .any(|choice| choice.reach == Reach::Call)
    );

    let respond = json!({"request_id": opened.id, "approved": true, "reason": "Testing approved"});
    let answer = plane
        .call(
            "POST",
            "/api/mcp/permission-respond",
            Some(&plane.admin_token),
            Some(respond.clone()),
        )
        .await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(
        answer.json(),
        json!({"status": "success", "request_id": opened.id, "approved": true, "message": "Permission granted"})
    );

    let facts = plane.gateway.facts(&by_id(agent.id)).await.unwrap();
    let [grant] = facts.grants.as_slice() else {
        panic!("one grant: {facts:?}")
    };
    assert_eq!(
        grant.scope,
        Scope::Call {
            command: open.target.key.clone(),
            digest: open.digest.clone()
        }
    );
    assert_eq!(
        grant.expires.since(grant.issued),
        Duration::from_hours(1),
        "the narrowest useful default"
    );
    assert!(!grant.single_use);

    let again = plane
        .call(
            "POST",
            "/api/mcp/permission-respond",
            Some(&plane.admin_token),
            Some(respond),
        )
        .await;
    assert_eq!(again.status, 409, "{}", again.body);
    assert_eq!(
        status(plane.admin.approve(opened.id, &Approve::default()).await),
        409
    );
    assert_eq!(
        status(plane.admin.reject(opened.id, &Reject::default()).await),
        409
    );

    let view = plane.admin.approval(opened.id).await.unwrap();
    assert_eq!(view.summary.status, ApprovalStatus::Approved);
    assert_eq!(view.grant, Some(grant.id));
    assert!(view.choices.is_empty(), "nothing is left to choose");
    assert_eq!(view.verdicts[0].reason, "Testing approved");

    plane
        .admin
        .revoke_grant(
            grant.id,
            &Revoke {
                reason: "done".to_owned(),
            },
        )
        .await
        .unwrap();
    assert!(plane.grants(agent.id).await.is_empty());
    assert_eq!(
        status(plane.admin.revoke_grant(grant.id, &Revoke::default()).await),
        409
    );
    let past = plane
        .admin
        .grants(Some(&by_id(agent.id)), true)
        .await
        .unwrap();
    assert_eq!(past[0].state, "revoked");

    let kinds: Vec<_> = plane
        .admin
        .audit(0, 100, Some(agent.id))
        .await
        .unwrap()
        .into_iter()
        .map(|entry| entry.kind)
        .collect();
    for kind in ["approval_opened", "approved", "revoked"] {
        assert!(
            kinds.iter().any(|known| known.contains(kind)),
            "{kind} in {kinds:?}"
        );
    }
}

#[tokio::test]
async fn two_people_at_once_approve_once() {
    let plane = Plane::new().await;
    let agent = plane.agent("test-agent", None).await.agent;
    let id = plane.asked(agent.id, no_arguments()).await;
    let (olga, _) = plane.person("olga", &["approver"]).await;
    let approve = Approve::default();
    let (one, other) = tokio::join!(
        plane.admin.approve(id, &approve),
        olga.approve(id, &approve)
    );
    let statuses = [&one, &other].map(|result| {
        result
            .as_ref()
            .err()
            .and_then(Error::status)
            .map(|status| status.as_u16())
    });
    assert!(
        matches!(statuses, [None, Some(409)] | [Some(409), None]),
        "{statuses:?}"
    );
    assert_eq!(plane.grants(agent.id).await.len(), 1);
}

#[tokio::test]
async fn only_entitled_people_decide_and_only_as_far_as_policy_lets_them() {
    let plane = Plane::new().await;
    let (owner, _) = plane.person("owner", &["approver"]).await;
    let (viewer, _) = plane.person("viewer", &["viewer"]).await;
    let (nobody, _) = plane.person("nobody", &[]).await;
    let (olga, _) = plane.person("olga", &["approver"]).await;
    let agent = plane.agent("test-agent", Some("owner")).await.agent;
    let id = plane.asked(agent.id, no_arguments()).await;

    let approve = Approve::default();
    assert_eq!(
        status(owner.approve(id, &approve).await),
        403,
        "the agent's owner"
    );
    assert_eq!(status(owner.reject(id, &Reject::default()).await), 403);
    assert_eq!(status(viewer.approve(id, &approve).await), 403, "a viewer");
    assert_eq!(status(nobody.approvals(true).await), 403, "no role at all");
    assert!(owner.approval(id).await.unwrap().choices.is_empty());
    assert!(viewer.approval(id).await.unwrap().choices.is_empty());

    let long = Approve {
        duration_seconds: Some(24 * 60 * 60),
        ..Approve::default()
    };
    let refusal = olga.approve(id, &long).await.unwrap_err();
    assert_eq!(
        refusal.status().unwrap(),
        403,
        "approvers give eight hours at most: {refusal}"
    );
    for odd in [0, 59, 24 * 60 * 60 + 1] {
        let odd = Approve {
            duration_seconds: Some(odd),
            ..Approve::default()
        };
        assert_eq!(status(olga.approve(id, &odd).await), 400);
    }
    let wordy = Approve {
        reason: "x".repeat(2_001),
        ..Approve::default()
    };
    assert!(
        olga.approve(id, &wordy)
            .await
            .unwrap_err()
            .to_string()
            .starts_with("reason:")
    );

    let choice = olga.approval(id).await.unwrap().choices;
    let longest = choice
        .iter()
        .find(|choice| choice.reach == Reach::Command)
        .unwrap()
        .longest_seconds;
    let widest = Approve {
        reach: Some(Reach::Command),
        duration_seconds: Some(longest),
        reason: String::new(),
    };
    assert_eq!(
        olga.approve(id, &widest).await.unwrap().summary.status,
        ApprovalStatus::Approved
    );
}

#[tokio::test]
async fn a_second_person_is_needed_where_two_are_and_the_first_does_not_count_twice() {
    let plane = Plane::new().await;
    let (olga, olga_token) = plane.person("olga", &["approver"]).await;
    let agent = plane.agent("test-agent", None).await.agent;
    let mut open = refused(&plane, agent.id, no_arguments()).await;
    open.target = target("delete-server", Risk::Destroy);
    open.approvals = 2;
    let id = plane.gateway.open_approval(&open).await.unwrap().id;

    let unproved = plane.admin.approval(id).await.unwrap();
    assert!(
        unproved.step_up && !unproved.choices.is_empty(),
        "what they may once they proved a second factor"
    );
    let path = format!("/api/approvals/{id}/approve");
    let refused = plane
        .call("POST", &path, Some(&plane.admin_token), Some(json!({})))
        .await;
    assert_eq!(refused.status, 403, "{}", refused.body);
    assert_eq!(refused.json()["reason"], "step_up_required");
    plane.enrol(&plane.admin_token).await;
    plane.enrol(&olga_token).await;
    assert!(!plane.admin.approval(id).await.unwrap().step_up);

    let first = plane.admin.approve(id, &Approve::default()).await.unwrap();
    assert_eq!(
        (first.summary.status, first.summary.approvals_given),
        (ApprovalStatus::Pending, 1)
    );
    assert!(first.choices.is_empty(), "nothing more for the first");
    let twice = status(plane.admin.approve(id, &Approve::default()).await);
    assert!(matches!(twice, 403 | 409), "{twice}");
    assert!(plane.grants(agent.id).await.is_empty());
    let second = olga.approve(id, &Approve::default()).await.unwrap();
    assert_eq!(second.summary.status, ApprovalStatus::Approved);
    let grants = plane.grants(agent.id).await;
    assert_eq!(
        grants[0]
            .second
            .as_ref()
            .map(ToString::to_string)
            .as_deref(),
        Some("olga")
    );
}

#[tokio::test]
async fn a_rejected_call_is_not_asked_again_before_its_time() {
    let plane = Plane::new().await;
    let agent = plane.agent("test-agent", None).await.agent;
    let open = refused(&plane, agent.id, no_arguments()).await;
    let id = plane.gateway.open_approval(&open).await.unwrap().id;
    let rejected = plane
        .admin
        .reject(
            id,
            &Reject {
                reason: "not today".to_owned(),
            },
        )
        .await
        .unwrap();
    assert_eq!(rejected.summary.status, ApprovalStatus::Rejected);

    let again = plane.gateway.open_approval(&open).await.unwrap();
    assert_eq!((again.id, again.status), (id, ApprovalStatus::Rejected));
    assert_eq!(
        again.retry_at,
        Some(plane.now().plus(Duration::from_mins(15)))
    );
    assert_eq!(again.note.as_deref(), Some("not today"));
    plane.pass(Duration::from_mins(15));
    let fresh = plane.gateway.open_approval(&open).await.unwrap();
    assert_ne!(fresh.id, id, "the cool-down has ended");
}

#[tokio::test]
async fn time_closes_a_request_and_a_loop_of_calls_does_not_flood() {
    let plane = Plane::new().await;
    let agent = plane.agent("test-agent", None).await.agent;
    let id = plane.asked(agent.id, no_arguments()).await;
    for n in 1..3 {
        plane
            .gateway
            .open_approval(&refused(&plane, agent.id, json!({"n": n})).await)
            .await
            .unwrap();
    }
    assert_eq!(
        status(
            plane
                .gateway
                .open_approval(&refused(&plane, agent.id, json!({"n": 3})).await)
                .await
        ),
        429
    );

    plane.pass(Duration::from_hours(24));
    assert_eq!(
        status(plane.admin.approve(id, &Approve::default()).await),
        409,
        "too late"
    );
    assert_eq!(
        plane.admin.approval(id).await.unwrap().summary.status,
        ApprovalStatus::Expired
    );
    assert!(plane.admin.approvals(false).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_agent_sees_its_own_requests_only() {
    let plane = Plane::new().await;
    let agent = plane.agent("test-agent", None).await.agent;
    let other = plane.agent("other", None).await.agent;
    let id = plane.asked(agent.id, no_arguments()).await;
    assert_eq!(
        plane.gateway.approval_of(agent.id, id).await.unwrap().id,
        id
    );
    let hidden = plane.gateway.approval_of(other.id, id).await.unwrap_err();
    assert_eq!(hidden.status().unwrap(), 404);
    let unknown = authz::ApprovalRequestId::generate(plane.now());
    let missing = plane
        .gateway
        .approval_of(agent.id, unknown)
        .await
        .unwrap_err();
    assert_eq!(
        hidden.to_string().replace(&id.to_string(), ""),
        missing.to_string().replace(&unknown.to_string(), ""),
        "both answers are the same"
    );
}

#[tokio::test]
async fn the_calls_of_the_replaced_system_work() {
    let plane = Plane::new().await;
    let agent = plane.agent("test-agent", None).await.agent;
    let permissions = format!("/api/agent/{}/mcp-permissions", agent.id);
    assert_eq!(
        plane.call("GET", &permissions, None, None).await.status,
        404,
        "nothing is told without a credential"
    );
    assert_eq!(
        plane
            .call("GET", "/api/agent/test/mcp-permissions", None, None)
            .await
            .status,
        404
    );
    assert_eq!(
        plane
            .call(
                "GET",
                "/api/agent/test/mcp-permissions",
                Some(CONTROL),
                None
            )
            .await
            .status,
        404
    );
    let answer = plane.call("GET", &permissions, Some(CONTROL), None).await;
    let expected = json!({
        "status": "success", "agent_id": agent.id, "agent_name": "test-agent", "allowed_mcps": ["github"],
    });
    assert_eq!(answer.json(), expected);

    let request = legacy_request("test-agent");
    assert_eq!(
        plane
            .call(
                "POST",
                "/api/mcp/permission-request",
                None,
                Some(request.clone())
            )
            .await
            .status,
        401
    );
    let answer = plane
        .call(
            "POST",
            "/api/mcp/permission-request",
            Some(CONTROL),
            Some(request),
        )
        .await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(
        answer.json()["message"],
        "Permission request received and pending approval"
    );
    let id = answer.json()["request_id"].as_str().unwrap().to_owned();

    let respond = json!({"request_id": id, "approved": true});
    let answer = plane
        .call(
            "POST",
            "/api/mcp/permission-respond",
            Some(&plane.admin_token),
            Some(respond),
        )
        .await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let answer = plane
        .call("GET", &permissions, Some(&plane.admin_token), None)
        .await;
    assert_eq!(answer.json()["allowed_mcps"], json!(["coolify", "github"]));
    let grant = plane.grants(agent.id).await.remove(0);
    assert_eq!(
        (grant.scope.key().as_str(), grant.risk),
        ("coolify/*", Risk::Write)
    );

    let unknown = json!({"request_id": "perm_req_1730891400_123e4567", "approved": true});
    let answer = plane
        .call(
            "POST",
            "/api/mcp/permission-respond",
            Some(&plane.admin_token),
            Some(unknown),
        )
        .await;
    assert_eq!(answer.status, 404, "{}", answer.body);
    let missing = json!({"agent_id": "test-agent", "reason": "", "timestamp": ""});
    let answer = plane
        .call(
            "POST",
            "/api/mcp/permission-request",
            Some(CONTROL),
            Some(missing),
        )
        .await;
    assert_eq!(answer.status, 400);
    assert!(answer.detail().contains("service_name"), "{}", answer.body);
    let answer = plane
        .call(
            "POST",
            "/api/mcp/permission-request",
            Some(CONTROL),
            Some(legacy_request("nobody")),
        )
        .await;
    assert_eq!(answer.status, 404, "{}", answer.body);
}

#[tokio::test]
async fn who_asks_for_an_agent_does_not_answer_for_it() {
    let plane = Plane::new().await;
    plane.agent("test-agent", None).await;
    let answer = plane
        .call(
            "POST",
            "/api/mcp/permission-request",
            Some(&plane.admin_token),
            Some(legacy_request("test-agent")),
        )
        .await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let id = answer.json()["request_id"].as_str().unwrap().to_owned();

    let respond = json!({"request_id": id, "approved": true});
    let own = plane
        .call(
            "POST",
            "/api/mcp/permission-respond",
            Some(&plane.admin_token),
            Some(respond.clone()),
        )
        .await;
    assert_eq!(own.status, 403, "{}", own.body);
    assert!(own.detail().contains("Somebody else"), "{}", own.body);

    let (_, other) = plane.person("sam", &["approver"]).await;
    let answer = plane
        .call(
            "POST",
            "/api/mcp/permission-respond",
            Some(&other),
            Some(respond),
        )
        .await;
    assert_eq!(answer.status, 200, "{}", answer.body);
}
