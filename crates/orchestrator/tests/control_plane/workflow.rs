//! Requests that are taken back, approvals that would not help, and odd input and clocks.

use std::{fs, net::SocketAddr, time::Duration};

use authz::{AgentRef, ApprovalRequestId, DecisionId, Risk, Session, approval::Reach};
use axum::{
    body::Body,
    extract::ConnectInfo,
    http::{Request, header},
};
use contract::{
    Error,
    agents::ChangeAgent,
    approvals::{ApprovalStatus, Approve, Reject, Withdraw},
    facts::SpendGrant,
};
use serde_json::{Value, json};

use crate::plane::{CONTROL, Plane, legacy_request, no_arguments, refused, target};

fn status<T: std::fmt::Debug>(result: Result<T, Error>) -> u16 {
    result
        .unwrap_err()
        .status()
        .map_or(0, |status| status.as_u16())
}

/// Opens a request of the agent's for a call with these arguments.
async fn open(plane: &Plane, agent: authz::AgentId, arguments: Value) -> ApprovalRequestId {
    let open = refused(plane, agent, arguments).await;
    plane.gateway.open_approval(&open).await.unwrap().id
}

/// Adds a policy to the folder, and has it enforced.
pub(crate) async fn add_policy(plane: &Plane, text: &str) {
    let file = plane.folder.path().join("policies/zz-more.cedar");
    fs::write(file, text).unwrap();
    let before = plane.gateway.policy_set_bundle().await.unwrap().version;
    let status = plane.orchestrator.reread_policies().await.unwrap();
    assert_ne!(status.version, before, "{status:?}");
}

#[tokio::test]
async fn an_agent_takes_its_own_request_back() {
    let plane = Plane::new().await;
    let agent = plane.agent("test-agent", None).await.agent;
    let other = plane.agent("other", None).await.agent;
    let id = open(&plane, agent.id, no_arguments()).await;
    assert_eq!(status(plane.gateway.withdraw_own(other.id, id).await), 404);
    // Neither without the control token, nor with a person's.
    let path = format!("/api/gateway/approvals/{id}?agent={}", agent.id);
    for token in [None, Some(plane.admin_token.as_str())] {
        assert_eq!(plane.call("DELETE", &path, token, None).await.status, 401);
    }
    for _ in 0..2 {
        let withdrawn = plane.gateway.withdraw_own(agent.id, id).await.unwrap();
        assert_eq!(
            withdrawn.status,
            ApprovalStatus::Withdrawn,
            "again is the same"
        );
    }
    let view = plane.admin.approval(id).await.unwrap();
    assert_eq!(
        (view.summary.status, view.withdrawn_by),
        (ApprovalStatus::Withdrawn, None)
    );
    assert!(view.choices.is_empty() && view.obstacle.is_none());
    assert!(plane.admin.approvals(false).await.unwrap().is_empty());
    assert_eq!(
        status(plane.admin.approve(id, &Approve::default()).await),
        409
    );
    let again = open(&plane, agent.id, no_arguments()).await;
    assert_ne!(again, id, "the same call asks anew");
    plane
        .admin
        .approve(again, &Approve::default())
        .await
        .unwrap();
    assert_eq!(
        status(plane.gateway.withdraw_own(agent.id, again).await),
        409
    );
    let trail = plane.admin.audit(0, 1_000, Some(agent.id)).await.unwrap();
    assert_eq!(
        trail
            .iter()
            .filter(|entry| entry.kind == "withdrawn")
            .count(),
        1
    );
}

#[tokio::test]
async fn who_answers_for_an_agent_takes_its_request_back_and_nobody_else_does() {
    let plane = Plane::new().await;
    // An owner without any role.
    let (owner, _) = plane.person("owner", &[]).await;
    let (approver, _) = plane.person("approver", &["approver", "security"]).await;
    let agent = plane.agent("test-agent", Some("owner")).await.agent;
    let id = open(&plane, agent.id, no_arguments()).await;
    let why = Withdraw {
        reason: "not today <b>\u{202e}".to_owned(),
    };
    assert_eq!(status(approver.withdraw(id, &why).await), 403);
    assert!(!approver.approval(id).await.unwrap().withdrawable);
    let view = owner.withdraw(id, &why).await.unwrap();
    assert_eq!(view.summary.status, ApprovalStatus::Withdrawn);
    assert_eq!(view.withdrawn_by.unwrap().as_str(), "owner");
    // The agent is told why, without what would turn the text round.
    let told = plane.gateway.approval_of(agent.id, id).await.unwrap();
    assert_eq!(told.note.as_deref(), Some("not today <b>\\u{202e}"));
    assert_eq!(status(owner.withdraw(id, &why).await), 409);
    let unknown = ApprovalRequestId::generate(plane.now());
    assert_eq!(status(owner.withdraw(unknown, &why).await), 404);

    // Whoever asked for the agent may as well.
    let answer = plane
        .call(
            "POST",
            "/api/mcp/permission-request",
            Some(&plane.admin_token),
            Some(legacy_request("test-agent")),
        )
        .await;
    let asked: ApprovalRequestId = answer.json()["request_id"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!(plane.admin.approval(asked).await.unwrap().withdrawable);
    plane
        .admin
        .withdraw(asked, &Withdraw::default())
        .await
        .unwrap();
}

/// The session that is asked about is the agent's own as it was when it asked.
#[tokio::test]
async fn an_approval_must_lift_what_the_session_met() {
    let plane = Plane::new().await;
    let (olga, _) = plane.person("olga", &["approver"]).await;
    let agent = plane.agent("test-agent", None).await.agent;
    let mut ids = Vec::new();
    for (server, session) in [
        ("web", Some(true)),
        ("db", Some(false)),
        ("an older gateway's", None),
    ] {
        let mut open = refused(&plane, agent.id, json!({"server": server})).await;
        open.target = target("restart-server", Risk::Write);
        open.session = session.map(|tainted| Session {
            tainted,
            ..Session::fresh(plane.now())
        });
        ids.push(plane.gateway.open_approval(&open).await.unwrap().id);
    }
    let of_service = Approve {
        reach: Some(Reach::Service),
        ..Approve::default()
    };
    // A grant for the whole service opens the wall of no tainted session.
    let error = olga.approve(ids[0], &of_service).await.unwrap_err();
    assert_eq!(error.status().unwrap(), 422, "{error}");
    assert!(
        error.to_string().contains("anybody may have written"),
        "{error}"
    );
    for (id, approve) in [
        (ids[0], Approve::default()),
        (ids[1], of_service.clone()),
        (ids[2], of_service),
    ] {
        let approved = olga.approve(id, &approve).await.unwrap();
        assert_eq!(approved.summary.status, ApprovalStatus::Approved);
    }
}

#[tokio::test]
async fn an_approval_never_creates_what_policy_now_forbids() {
    let plane = Plane::new().await;
    let (olga, _) = plane.person("olga", &["approver"]).await;
    let agent = plane.agent("test-agent", None).await.agent;
    let mut forbidden = refused(
        &plane,
        agent.id,
        json!({"server": "web", "token": "hunter2"}),
    )
    .await;
    forbidden.target = target("restart-server", Risk::Write);
    let mut fine = refused(
        &plane,
        agent.id,
        json!({"server": "db", "token": "hunter2"}),
    )
    .await;
    fine.target = forbidden.target.clone();
    let id = plane.gateway.open_approval(&forbidden).await.unwrap().id;
    let other = plane.gateway.open_approval(&fine).await.unwrap().id;
    let asked_under = plane.admin.approval(id).await.unwrap().policy_set;
    assert_eq!(plane.admin.approval(id).await.unwrap().obstacle, None);

    add_policy(
        &plane,
        "@id(\"wall.web\")\n@advice(\"Nobody restarts the web server any more.\")\nforbid (principal is Agent, action in Action::\"write\", resource is Command)\nwhen { context.args.text.hasTag(\"server\") && context.args.text.getTag(\"server\") == \"web\" };",
    )
    .await;
    let head = plane.admin.audit(0, 1_000, None).await.unwrap().len();
    for approve in [
        Approve::default(),
        Approve {
            reach: Some(Reach::Command),
            ..Approve::default()
        },
        Approve {
            reach: Some(Reach::Service),
            ..Approve::default()
        },
    ] {
        let error = olga.approve(id, &approve).await.unwrap_err();
        assert_eq!(error.status().unwrap(), 422, "{error}");
        assert!(
            error
                .to_string()
                .contains("Nobody restarts the web server any more."),
            "{error}"
        );
    }
    let view = olga.approval(id).await.unwrap();
    assert!(view.obstacle.unwrap().contains("Nobody restarts"));
    assert_eq!(view.summary.status, ApprovalStatus::Pending);
    assert_eq!(view.policy_set, asked_under, "bound to what refused it");
    assert!(plane.grants(agent.id).await.is_empty());
    assert_eq!(
        plane.admin.audit(0, 1_000, None).await.unwrap().len(),
        head,
        "nothing happened"
    );
    // A call that the new policy is not about, and the no of a person.
    let approved = olga.approve(other, &Approve::default()).await.unwrap();
    assert_eq!(approved.summary.status, ApprovalStatus::Approved);
    let now = plane.gateway.policy_set_bundle().await.unwrap().version;
    assert_eq!(approved.verdicts[0].policy_set.as_ref(), Some(&now));
    assert_ne!(approved.policy_set, now);
    olga.reject(id, &Reject::default()).await.unwrap();
}

#[tokio::test]
async fn an_approval_is_judged_by_what_the_agent_is_now() {
    let plane = Plane::new().await;
    let (olga, _) = plane.person("olga", &["approver"]).await;
    let agent = plane.agent("test-agent", None).await.agent;
    let of = AgentRef::Id(agent.id);
    let id = open(&plane, agent.id, no_arguments()).await;
    let change = |suspended, owner: Option<&str>| ChangeAgent {
        suspended: Some(suspended),
        owner: owner.map(|owner| owner.parse().unwrap()),
        ..ChangeAgent::default()
    };
    plane
        .admin
        .change_agent(&of, &change(true, None))
        .await
        .unwrap();
    let error = olga.approve(id, &Approve::default()).await.unwrap_err();
    assert_eq!(error.status().unwrap(), 422, "{error}");
    assert!(error.to_string().contains("suspended"), "{error}");

    // Whoever became its owner meanwhile does not decide either.
    plane
        .admin
        .change_agent(&of, &change(false, Some("olga")))
        .await
        .unwrap();
    assert_eq!(status(olga.approve(id, &Approve::default()).await), 403);
    assert_eq!(status(olga.reject(id, &Reject::default()).await), 403);
    let approved = plane.admin.approve(id, &Approve::default()).await.unwrap();
    assert_eq!(approved.summary.status, ApprovalStatus::Approved);
}

#[tokio::test]
async fn where_two_are_needed_one_that_helps_is_not_refused_and_the_second_is_offered_no_more() {
    let plane = Plane::new().await;
    let (olga, token) = plane.person("olga", &["security"]).await;
    plane.enrol(&plane.admin_token).await;
    plane.enrol(&token).await;
    let agent = plane.agent("test-agent", None).await.agent;
    let mut open = refused(&plane, agent.id, no_arguments()).await;
    open.target = target("delete-server", Risk::Destroy);
    open.approvals = 2;
    let id = plane.gateway.open_approval(&open).await.unwrap().id;
    let first = Approve {
        reach: Some(Reach::Call),
        duration_seconds: Some(30 * 60),
        reason: "seen".to_owned(),
    };
    plane.admin.approve(id, &first).await.unwrap();
    let offered = olga.approval(id).await.unwrap().choices;
    let offered: Vec<_> = offered
        .iter()
        .map(|choice| (choice.reach, choice.longest_seconds))
        .collect();
    assert_eq!(offered, [(Reach::Once, 1_800), (Reach::Call, 1_800)]);
    // Said all the same, it does not widen.
    let wide = Approve {
        reach: Some(Reach::Command),
        duration_seconds: Some(8 * 3_600),
        reason: String::new(),
    };
    olga.approve(id, &wide).await.unwrap();
    let grants = plane.grants(agent.id).await;
    assert!(grants[0].scope.key().contains('#'), "{grants:?}");
    assert_eq!(
        grants[0].expires.since(grants[0].issued),
        Duration::from_mins(30)
    );

    // One approval where policy needs two by now is none.
    let mut lone = open.clone();
    lone.approvals = 1;
    lone.digest = refused(&plane, agent.id, json!({"n": 1})).await.digest;
    lone.arguments = json!({"n": 1}).as_object().unwrap().clone();
    let id = plane.gateway.open_approval(&lone).await.unwrap().id;
    let error = olga.approve(id, &Approve::default()).await.unwrap_err();
    assert_eq!(error.status().unwrap(), 422, "{error}");
    assert!(error.to_string().contains("two people"), "{error}");
}

#[tokio::test]
async fn the_trail_says_from_where_and_how_people_decided() {
    let plane = Plane::new().await;
    let agent = plane.agent("test-agent", None).await.agent;
    for (number, (said, via)) in [
        (None, "api"),
        (Some("cli"), "cli"),
        (Some("ui"), "api"),
        (Some("webhook"), "api"),
    ]
    .into_iter()
    .enumerate()
    {
        let id = open(&plane, agent.id, json!({"number": number})).await;
        let mut request = Request::builder()
            .method("POST")
            .uri(format!("/api/approvals/{id}/reject"))
            .header(
                header::AUTHORIZATION,
                format!("Bearer {}", plane.admin_token),
            )
            .header(header::CONTENT_TYPE, "application/json")
            // Nobody named a proxy, so this is anybody's word.
            .header("x-forwarded-for", "198.51.100.1");
        if let Some(said) = said {
            request = request.header("x-cedargate-via", said);
        }
        let peer: SocketAddr = "203.0.113.9:4000".parse().unwrap();
        let request = request
            .extension(ConnectInfo(peer))
            .body(Body::from(r#"{"reason": "no"}"#))
            .unwrap();
        let answer = plane.send(request).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert_eq!(answer.json()["verdicts"][0]["via"], via);
        let trail = plane.admin.audit(0, 1_000, Some(agent.id)).await.unwrap();
        let entry = serde_json::to_value(trail.last().unwrap())
            .unwrap()
            .to_string();
        for part in [
            format!("\"via\":\"{via}\""),
            "\"from\":\"203.0.113.9\"".to_owned(),
            "\"user\":\"admin\"".to_owned(),
            "\"policy_set\":\"".to_owned(),
            "rejected".to_owned(),
        ] {
            assert!(entry.contains(&part), "{part} in {entry}");
        }
    }
}

#[tokio::test]
async fn a_clock_that_goes_back_revives_nothing_and_holds_nothing_up() {
    let plane = Plane::new().await;
    let agent = plane.agent("test-agent", None).await.agent;
    let waiting = open(&plane, agent.id, json!({"n": 1})).await;
    let short = Approve {
        duration_seconds: Some(60),
        ..Approve::default()
    };
    let granted = open(&plane, agent.id, json!({"n": 2})).await;
    plane.admin.approve(granted, &short).await.unwrap();
    let once = open(&plane, agent.id, json!({"n": 3})).await;
    let single = Approve {
        reach: Some(Reach::Once),
        ..short.clone()
    };
    let once = plane
        .admin
        .approve(once, &single)
        .await
        .unwrap()
        .grant
        .unwrap();
    assert_eq!(plane.grants(agent.id).await.len(), 2);

    // A day on: somebody sees that all is over. No sweeper runs here.
    plane.pass(Duration::from_hours(25));
    assert_eq!(
        plane.admin.approval(waiting).await.unwrap().summary.status,
        ApprovalStatus::Expired
    );
    plane.back(Duration::from_hours(25));
    assert_eq!(
        plane.admin.approval(waiting).await.unwrap().summary.status,
        ApprovalStatus::Expired
    );
    assert!(plane.grants(agent.id).await.is_empty());
    assert_eq!(
        status(plane.admin.approve(waiting, &Approve::default()).await),
        409
    );
    let spend = SpendGrant {
        decision: DecisionId::generate(plane.now()),
    };
    assert_eq!(status(plane.gateway.spend_grant(once, &spend).await), 409);
    // And what is asked now is asked, decided and granted by the clock as it is.
    let fresh = open(&plane, agent.id, json!({"n": 1})).await;
    assert_ne!(fresh, waiting);
    let approved = plane.admin.approve(fresh, &short).await.unwrap();
    assert_eq!(approved.verdicts[0].at, plane.now());
    let grants = plane.grants(agent.id).await;
    assert_eq!(grants.len(), 1, "{grants:?}");
    assert_eq!(grants[0].issued, plane.now());
    assert_eq!(
        plane.admin.approval(waiting).await.unwrap().summary.status,
        ApprovalStatus::Expired
    );
}

#[tokio::test]
async fn texts_stay_texts_and_are_never_too_long() {
    let plane = Plane::new().await;
    let agent = plane.agent("test-agent", None).await.agent;
    let odd = "'; DROP TABLE grants; -- <script>alert(1)</script> {{7*7}} %s $1";
    let mut asked = refused(&plane, agent.id, json!({"name": odd, "ssh_key": "hunter2"})).await;
    asked.reason = format!("{odd}\u{202e}");
    let id = plane.gateway.open_approval(&asked).await.unwrap().id;
    let view = plane.admin.approval(id).await.unwrap();
    assert_eq!(view.arguments["name"], odd);
    assert_eq!(view.arguments["ssh_key"], authz::redact::REDACTED);
    assert_eq!(view.digest, asked.digest, "of the exact arguments");
    assert_eq!(view.reason, format!("{odd}\\u{{202e}}"));
    let page = plane
        .call(
            "GET",
            "/api/approvals?all=true",
            Some(&plane.admin_token),
            None,
        )
        .await;
    assert!(!page.body.contains("hunter2"));

    for (path, body) in [
        ("approve", json!({"reason": "x".repeat(1_000_000)})),
        ("reject", json!({"reason": "x".repeat(1_000_000)})),
        ("withdraw", json!({"reason": "x".repeat(1_000_000)})),
        ("reject", json!({"reason": "\u{1b}]0;owned\u{7}\u{1b}[31m"})),
        ("approve", json!({"reason": "\u{0}"})),
        ("approve", json!({"reach": "everything"})),
        ("approve", json!({"duration_seconds": -1})),
        ("approve", json!({"duration_seconds": 1e30})),
        ("reject", json!({"reason": ["a"]})),
        ("withdraw", json!({"because": "x"})),
    ] {
        let path = format!("/api/approvals/{id}/{path}");
        let answer = plane
            .call("POST", &path, Some(&plane.admin_token), Some(body))
            .await;
        assert_eq!(answer.status, 400, "{path}: {}", answer.body);
        assert!(answer.body.len() < 1_000, "it is not repeated: {path}");
    }
    let huge = json!({"reason": "x".repeat(1_100_000)});
    let path = format!("/api/approvals/{id}/reject");
    let answer = plane
        .call("POST", &path, Some(&plane.admin_token), Some(huge))
        .await;
    assert_eq!(answer.status, 413, "{}", answer.body);
    let mut long = refused(&plane, agent.id, no_arguments()).await;
    long.reason = "x".repeat(2_001);
    assert_eq!(status(plane.gateway.open_approval(&long).await), 400);

    let reason = Reject {
        reason: odd.to_owned(),
    };
    let rejected = plane.admin.reject(id, &reason).await.unwrap();
    assert_eq!(rejected.verdicts[0].reason, odd);
    // Sent again, word for word, nothing more happens.
    for _ in 0..3 {
        assert_eq!(status(plane.admin.reject(id, &reason).await), 409);
        assert_eq!(
            status(plane.admin.approve(id, &Approve::default()).await),
            409
        );
    }
    assert_eq!(plane.admin.approval(id).await.unwrap().verdicts.len(), 1);
}

#[tokio::test]
async fn what_a_gateway_is_given_decides_nothing() {
    let plane = Plane::new().await;
    let agent = plane.agent("test-agent", None).await.agent;
    let id = open(&plane, agent.id, no_arguments()).await;
    for (method, path) in [
        ("POST", format!("/api/approvals/{id}/approve")),
        ("POST", format!("/api/approvals/{id}/reject")),
        ("POST", format!("/api/approvals/{id}/withdraw")),
    ] {
        let answer = plane
            .call(method, &path, Some(CONTROL), Some(json!({})))
            .await;
        assert_eq!(answer.status, 401, "{path}");
    }
}
