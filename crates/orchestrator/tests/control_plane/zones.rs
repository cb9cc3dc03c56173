//! Zones that people put services and commands into: who may, what two people lose who do it
//! at once, and where such a zone counts.

use axum::{body::Body, http::Request};
use contract::{
    Client, Error,
    approvals::{Approve, Reject},
    explain::ExplainCommand,
    feed::Change,
    zones::ZoneMember,
};
use futures_util::StreamExt;
use secrecy::SecretString;
use serde_json::{Map, json};

use crate::{
    console::told,
    pages::{SAME, get, log_in, post},
    plane::{Answer, CONTROL, Plane, no_arguments, refused},
    workflow::add_policy,
};

const WALLS: &str = r#"
@id("zone.frozen")
@advice("Nothing in this zone is for agents.")
forbid (principal is Agent, action in Action::"invoke", resource in Zone::"frozen");

@id("zone.sealed")
@advice("Nobody decides about this zone.")
forbid (principal is User, action in [Action::"approve", Action::"reject"], resource is Escalation)
when { resource.command in Zone::"sealed" };
"#;

async fn call_if(
    plane: &Plane,
    token: &str,
    method: &str,
    path: &str,
    seen: Option<&str>,
) -> Answer {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header("authorization", format!("Bearer {token}"));
    if let Some(seen) = seen {
        request = request.header("if-match", seen);
    }
    plane.send(request.body(Body::empty()).unwrap()).await
}

fn member(command: Option<&str>, zone: &str) -> ZoneMember {
    ZoneMember {
        service: "coolify".parse().unwrap(),
        command: command.map(|command| command.parse().unwrap()),
        zone: zone.parse().unwrap(),
    }
}

fn status<T: std::fmt::Debug>(result: Result<T, Error>) -> u16 {
    result.unwrap_err().status().unwrap().as_u16()
}

#[tokio::test]
async fn members_are_put_in_and_taken_out_one_by_one() {
    let plane = Plane::new().await;
    told(&plane, "edge").await;
    let (_, security) = plane.person("sam", &["security"]).await;
    let (_, viewer) = plane.person("vera", &["viewer"]).await;
    let mut events = Box::pin(plane.gateway.follow(None).await.unwrap());

    let empty = call_if(&plane, &viewer, "GET", "/api/zones", None).await;
    assert_eq!(
        (empty.status.as_u16(), empty.header("etag"), empty.json()),
        (200, "\"1\"", json!({"revision": 1, "assigned": []}))
    );
    let eu = "/api/services/coolify/zones/eu";
    let deploy = "/api/services/coolify/commands/deploy/zones/eu";
    // Whoever decides which policies hold decides what they hold for.
    for token in [&viewer, &plane.admin_token] {
        for (method, path) in [
            ("PUT", eu),
            ("DELETE", eu),
            ("PUT", deploy),
            ("DELETE", deploy),
        ] {
            let answer = call_if(&plane, token, method, path, None).await;
            assert_eq!(answer.status, 403, "{method} {path}: {}", answer.body);
        }
    }

    let first = call_if(&plane, &security, "PUT", eu, Some("\"1\"")).await;
    assert_eq!(
        (first.status.as_u16(), first.header("etag")),
        (200, "\"2\"")
    );
    assert_eq!(
        first.json()["assigned"],
        json!([{"service": "coolify", "zone": "eu", "by": "sam", "at": plane.now()}])
    );
    for (method, path) in [("PUT", deploy), ("DELETE", eu)] {
        let stale = call_if(&plane, &security, method, path, Some("\"1\"")).await;
        assert_eq!(stale.status, 412, "{method} {path}: {}", stale.body);
        assert!(stale.detail().contains("\"2\""), "{}", stale.body);
    }
    // What is there already, seen as it was or not said.
    let again = call_if(&plane, &security, "PUT", eu, None).await;
    assert_eq!(
        (again.status.as_u16(), again.header("etag")),
        (200, "\"2\"")
    );
    let second = call_if(&plane, &security, "PUT", deploy, Some("\"2\"")).await;
    assert_eq!(
        (second.status.as_u16(), second.header("etag")),
        (200, "\"3\"")
    );

    // Names of nothing: a wall that was never put up must not seem to stand.
    for path in [
        "/api/services/colify/zones/eu",
        "/api/services/cool/zones/eu",
        "/api/services/coolify/commands/fly/zones/eu",
        "/api/services/coolify/zones/EU",
        "/api/services/Coolify/zones/eu",
        "/api/services/coolify/commands/a%2Fb/zones/eu",
    ] {
        let answer = call_if(&plane, &security, "PUT", path, None).await;
        assert_eq!(answer.status, 404, "{path}: {}", answer.body);
    }

    // What is there for another reason cannot be taken out, and the answer says so.
    for (path, why) in [
        ("/api/services/coolify/zones/pci", "description"),
        (
            "/api/services/coolify/commands/deploy/zones/pci",
            "description",
        ),
        (
            "/api/services/coolify/commands/list-servers/zones/eu",
            "whole service",
        ),
    ] {
        let answer = call_if(&plane, &security, "DELETE", path, None).await;
        assert_eq!(answer.status, 409, "{path}: {}", answer.body);
        assert!(answer.detail().contains(why), "{}", answer.body);
    }
    // Unless somebody put it there as well.
    let pci = "/api/services/coolify/zones/pci";
    for method in ["PUT", "DELETE"] {
        let answer = call_if(&plane, &security, method, pci, None).await;
        assert_eq!(answer.status, 200, "{method}: {}", answer.body);
    }

    // Gateways are told no more than they need.
    let for_gateways = plane
        .call("GET", "/api/gateway/zones", Some(CONTROL), None)
        .await;
    assert_eq!(
        for_gateways.json(),
        json!({"revision": 5, "members": [
            {"service": "coolify", "zone": "eu"},
            {"service": "coolify", "command": "deploy", "zone": "eu"},
        ]})
    );
    let person = plane
        .call("GET", "/api/gateway/zones", Some(&security), None)
        .await;
    assert_eq!(person.status, 401);

    for path in [eu, deploy, "/api/services/gone/zones/eu"] {
        for _ in 0..2 {
            let gone = call_if(&plane, &security, "DELETE", path, None).await;
            assert_eq!(gone.status, 200, "{path}: {}", gone.body);
        }
    }
    let trail = plane.admin.audit(0, 1_000, None).await.unwrap();
    let kinds: Vec<_> = trail
        .iter()
        .map(|entry| entry.kind.as_str())
        .filter(|kind| kind.starts_with("zone_"))
        .collect();
    let (added, removed) = ("zone_added", "zone_removed");
    assert_eq!(kinds, [added, added, added, removed, removed, removed]);
    let mut revisions = Vec::new();
    while revisions.last() != Some(&7) {
        if let Some(event) = events.next().await.unwrap().unwrap()
            && let Change::ZonesChanged { revision } = event.change
        {
            revisions.push(revision);
        }
    }
    assert_eq!(revisions, [2, 3, 4, 5, 6, 7]);
}

#[tokio::test]
async fn a_zone_counts_wherever_something_is_decided_here() {
    let plane = Plane::new().await;
    told(&plane, "edge").await;
    let (security, _) = plane.person("sam", &["security"]).await;
    add_policy(&plane, WALLS).await;
    let agent = plane.agent("bot", None).await.agent;
    let open = refused(&plane, agent.id, no_arguments()).await;
    let id = plane.gateway.open_approval(&open).await.unwrap().id;
    let question = ExplainCommand {
        agent: "bot".to_owned(),
        command: "coolify/list-servers".parse().unwrap(),
        arguments: Map::new(),
        gateway: None,
        policy_set: None,
        at: None,
        ip: None,
        session: None,
        grants: Vec::new(),
    };
    let verdict = async || {
        let answer = plane.admin.explain(&question).await.unwrap().explanation;
        (answer.verdict.as_str(), answer.policies)
    };
    assert_eq!(verdict().await.0, "escalate");
    let view = plane.admin.approval(id).await.unwrap();
    assert!(!view.choices.is_empty() && view.obstacle.is_none());

    // The call would be refused all the same, so an approval is not taken.
    for frozen in [
        member(None, "frozen"),
        member(Some("list-servers"), "frozen"),
    ] {
        security.add_zone_member(&frozen, None).await.unwrap();
        assert_eq!(verdict().await, ("hard", vec!["zone.frozen".to_owned()]));
        let view = plane.admin.approval(id).await.unwrap();
        let why = view.obstacle.unwrap();
        assert!(why.contains("Nothing in this zone"), "{why}");
        assert_eq!(
            status(plane.admin.approve(id, &Approve::default()).await),
            422
        );
        security.remove_zone_member(&frozen, None).await.unwrap();
    }
    assert_eq!(verdict().await.0, "escalate");

    // Nobody is offered what they may not do there.
    let sealed = member(None, "sealed");
    security.add_zone_member(&sealed, None).await.unwrap();
    assert!(plane.admin.approval(id).await.unwrap().choices.is_empty());
    assert_eq!(
        status(plane.admin.approve(id, &Approve::default()).await),
        403
    );
    assert_eq!(
        status(plane.admin.reject(id, &Reject::default()).await),
        403
    );
    security.remove_zone_member(&sealed, None).await.unwrap();
    assert!(!plane.admin.approval(id).await.unwrap().choices.is_empty());

    // Another orchestrator on the same database was told, and this one has not heard of it:
    // a verdict goes by what is so.
    let other = Client::over(
        plane.another().await.router(),
        Some(SecretString::from(CONTROL)),
        std::time::Duration::from_secs(20),
    );
    assert_eq!(other.gateway_zones().await.unwrap().members, []);
    let (_, token) = plane.person("sue", &["security"]).await;
    let elsewhere = Client::over(
        plane.another().await.router(),
        Some(SecretString::from(token)),
        std::time::Duration::from_secs(20),
    );
    elsewhere.add_zone_member(&sealed, None).await.unwrap();
    assert_eq!(
        status(plane.admin.approve(id, &Approve::default()).await),
        403
    );
    elsewhere.remove_zone_member(&sealed, None).await.unwrap();
    plane.admin.approve(id, &Approve::default()).await.unwrap();

    // A request that is opened now has the zones of now, whether or not its gateway had.
    security
        .add_zone_member(&member(None, "sealed"), None)
        .await
        .unwrap();
    let next = refused(&plane, agent.id, json!({"tag": "web"})).await;
    let next = plane.gateway.open_approval(&next).await.unwrap().id;
    assert!(plane.admin.approval(next).await.unwrap().choices.is_empty());
    let legacy = plane
        .call(
            "POST",
            "/api/mcp/permission-request",
            Some(CONTROL),
            Some(crate::plane::legacy_request("bot")),
        )
        .await;
    assert_eq!(legacy.status, 200, "{}", legacy.body);
    let legacy = legacy.json()["request_id"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!(
        plane
            .admin
            .approval(legacy)
            .await
            .unwrap()
            .choices
            .is_empty()
    );
}

#[tokio::test]
async fn the_page_of_a_service_shows_who_put_it_where() {
    let plane = Plane::new().await;
    told(&plane, "edge").await;
    let (_, security) = plane.person("sam", &["security"]).await;
    let security = log_in(&plane, &security).await;
    let viewer = log_in(&plane, &plane.admin_token).await;
    let form = "action=\"/services/coolify/zones\"";
    let page = get(&plane, "/services/coolify", &security).await;
    assert!(page.body.contains(form), "{}", page.body);
    assert!(page.body.contains("from its description"), "{}", page.body);
    assert!(
        !page.body.contains("Take out"),
        "a description is not taken back here"
    );

    let path = "/services/coolify/zones";
    let elsewhere = ("sec-fetch-site", "cross-site");
    let answer = post(&plane, path, &security, "zone=eu&command=", elsewhere).await;
    assert!(answer.status.is_client_error() || answer.status.is_redirection());
    let answer = post(&plane, path, &viewer, "zone=eu&command=", SAME).await;
    assert_eq!(answer.status, 403, "{}", answer.body);
    assert_eq!(plane.admin.zones().await.unwrap().revision, 1);

    for (body, shown) in [
        ("zone=eu&command=", "the whole service"),
        ("zone=eu&command=deploy", "<code>deploy</code>"),
    ] {
        let answer = post(&plane, path, &security, body, SAME).await;
        assert_eq!(answer.status, 303, "{}", answer.body);
        let there = answer.header("location").to_owned();
        let page = get(&plane, there.split('#').next().unwrap(), &security).await;
        assert_eq!(page.status, 200, "{there}: {}", page.body);
        for text in [shown, "put there by sam", "Take out", "It is in the zone."] {
            assert!(page.body.contains(text), "{text}: {}", page.body);
        }
    }
    let seen = get(&plane, "/services/coolify", &viewer).await;
    assert!(seen.body.contains("put there by sam"), "{}", seen.body);
    assert!(!seen.body.contains(form) && !seen.body.contains("Take out"));
    let list = get(&plane, "/services?q=eu", &viewer).await;
    assert!(list.body.contains(">eu</span>"), "{}", list.body);

    // What is no zone, and what hides something, changes nothing and is shown as text.
    for (body, status) in [
        ("zone=%3Cb%3EEU&command=", 400),
        ("zone=eu&command=fly", 404),
        ("zone=&command=", 400),
    ] {
        let answer = post(&plane, path, &security, body, SAME).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.body);
        assert!(!answer.body.contains("<b>EU"), "{}", answer.body);
    }
    let remove = "/services/coolify/zones/remove";
    let kept = post(&plane, remove, &security, "zone=pci&command=", SAME).await;
    assert_eq!(kept.status, 409, "{}", kept.body);
    assert!(
        kept.body.contains("its description puts service"),
        "{}",
        kept.body
    );
    for body in ["zone=eu&command=deploy", "zone=eu&command="] {
        let answer = post(&plane, remove, &security, body, SAME).await;
        assert_eq!(answer.status, 303, "{}", answer.body);
    }
    assert_eq!(plane.admin.zones().await.unwrap().assigned, []);
}
