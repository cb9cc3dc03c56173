//! The pages: logging in, deciding, and what a hostile agent may write on them.

use axum::{
    body::Body,
    http::{Request, header},
};
use contract::approvals::ApprovalStatus;
use serde_json::json;

use crate::plane::{Answer, Plane, by_id, no_arguments, refused};

pub(crate) const HOST: &str = "gate.example:9403";

pub(crate) async fn get(plane: &Plane, path: &str, cookie: &str) -> Answer {
    let request = Request::get(path)
        .header("host", HOST)
        .header("cookie", cookie);
    plane.send(request.body(Body::empty()).unwrap()).await
}

pub(crate) async fn post(
    plane: &Plane,
    path: &str,
    cookie: &str,
    form: &str,
    site: (&'static str, &str),
) -> Answer {
    let request = Request::post(path)
        .header("host", HOST)
        .header("cookie", cookie)
        .header(site.0, site.1)
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    plane
        .send(request.body(Body::from(form.to_owned())).unwrap())
        .await
}

pub(crate) const SAME: (&str, &str) = ("sec-fetch-site", "same-origin");

pub(crate) async fn log_in(plane: &Plane, token: &str) -> String {
    let answer = post(
        plane,
        "/login",
        "",
        &format!("token={token}&next=%2Fapprovals"),
        SAME,
    )
    .await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("location")),
        (303, "/approvals"),
        "{}",
        answer.body
    );
    let cookie = answer.header("set-cookie");
    for word in ["HttpOnly", "SameSite=Lax", "Path=/", "Max-Age=43200"] {
        assert!(cookie.contains(word), "{cookie}");
    }
    cookie.split(';').next().unwrap().to_owned()
}

#[tokio::test]
async fn one_logs_in_decides_and_logs_out() {
    let plane = Plane::new().await;
    let agent = plane.agent("test-agent", None).await.agent;
    let id = plane
        .gateway
        .open_approval(&refused(&plane, agent.id, json!({"team": "ops"})).await)
        .await
        .unwrap()
        .id;

    let answer = get(&plane, &format!("/approvals/{id}"), "").await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("location")),
        (303, format!("/login?next=%2Fapprovals%2F{id}").as_str())
    );
    assert_eq!(get(&plane, "/login", "").await.status, 200);
    let wrong = post(&plane, "/login", "", "token=cgu_wrong", SAME).await;
    assert_eq!(wrong.status, 401);
    assert!(wrong.header("set-cookie").is_empty() && !wrong.body.contains("cgu_wrong"));

    let cookie = log_in(&plane, &plane.admin_token).await;
    assert!(
        !cookie.contains(&plane.admin_token),
        "a session is a credential of its own"
    );
    let inbox = get(&plane, "/approvals", &cookie).await;
    for text in [
        "coolify/list-servers",
        "test-agent",
        "to see what runs where",
        "expires in",
        "Administrator",
    ] {
        assert!(inbox.body.contains(text), "{text}: {}", inbox.body);
    }
    let page = get(&plane, &format!("/approvals/{id}"), &cookie).await;
    for text in [
        "value=\"call:3600\"",
        "value=\"once:900\"",
        "value=\"command:28800\"",
        "Reject",
        "<dt>team</dt><dd>ops</dd>",
    ] {
        assert!(page.body.contains(text), "{text}: {}", page.body);
    }
    assert!(
        !page.body.contains("command:86400"),
        "more than policy lets this person give is not offered"
    );

    let path = format!("/approvals/{id}/approve");
    let answer = post(&plane, &path, &cookie, "reason=ok&choice=call%3A900", SAME).await;
    assert_eq!(answer.status, 303, "{}", answer.body);
    let grant = plane
        .gateway
        .facts(&by_id(agent.id))
        .await
        .unwrap()
        .grants
        .remove(0);
    assert_eq!(grant.expires.since(grant.issued).as_secs(), 900);
    let again = post(&plane, &path, &cookie, "reason=ok&choice=call%3A900", SAME).await;
    assert_eq!(again.status, 409);
    assert!(again.body.contains("role=\"alert\""), "says so on the page");
    assert!(
        get(&plane, "/approvals", &cookie)
            .await
            .body
            .contains("approved")
    );

    assert_eq!(post(&plane, "/logout", &cookie, "", SAME).await.status, 303);
    let answer = get(&plane, "/approvals", &cookie).await;
    assert_eq!(
        answer.status, 303,
        "the session is revoked, not only forgotten"
    );
}

#[tokio::test]
async fn what_agents_write_is_text_and_never_markup() {
    let plane = Plane::new().await;
    let agent = plane.agent("test-agent", None).await.agent;
    let evil = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'><b>";
    let mut open = refused(
        &plane,
        agent.id,
        json!({"<b>name": evil, "nested": {"x": evil}}),
    )
    .await;
    open.reason = evil.to_owned();
    open.policies = vec![evil.to_owned()];
    open.advice = vec![evil.to_owned()];
    open.workflow = Some(evil.to_owned());
    let id = plane.gateway.open_approval(&open).await.unwrap().id;
    let cookie = log_in(&plane, &plane.admin_token).await;
    post(
        &plane,
        &format!("/approvals/{id}/reject"),
        &cookie,
        "reason=%3Cscript%3Ealert(1)",
        SAME,
    )
    .await;
    for path in ["/approvals".to_owned(), format!("/approvals/{id}")] {
        let page = get(&plane, &path, &cookie).await;
        assert_eq!(page.status, 200);
        for markup in ["<script>", "<img src=x", "onerror=alert(1)>", "<b>"] {
            assert!(
                !page.body.contains(markup),
                "{markup} on {path}: {}",
                page.body
            );
        }
    }
    let next = get(&plane, "/login?next=%22%3E%3Cscript%3E", "").await;
    assert!(!next.body.contains("<script>"), "{}", next.body);
    assert_eq!(
        get(&plane, "/approvals/%3Cscript%3E", &cookie).await.status,
        404
    );
    assert!(
        !get(&plane, "/approvals/%3Cscript%3E", &cookie)
            .await
            .body
            .contains("<script>")
    );
}

#[tokio::test]
async fn another_site_cannot_decide_with_somebodys_session() {
    let plane = Plane::new().await;
    let agent = plane.agent("test-agent", None).await.agent;
    let id = plane
        .gateway
        .open_approval(&refused(&plane, agent.id, no_arguments()).await)
        .await
        .unwrap()
        .id;
    let cookie = log_in(&plane, &plane.admin_token).await;
    let path = format!("/approvals/{id}/approve");
    for site in [
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("origin", "https://evil.example"),
        ("origin", "null"),
    ] {
        let answer = post(&plane, &path, &cookie, "reason=&choice=call%3A900", site).await;
        assert_eq!(answer.status, 403, "{site:?}: {}", answer.body);
        let login = post(
            &plane,
            "/login",
            "",
            &format!("token={}", plane.admin_token),
            site,
        )
        .await;
        assert_eq!(login.status, 403, "{site:?}");
        let api = Request::post(format!("/api/approvals/{id}/approve"))
            .header("host", HOST)
            .header("cookie", &cookie)
            .header(site.0, site.1)
            .header(header::CONTENT_TYPE, "application/json");
        assert_eq!(
            plane.send(api.body(Body::from("{}")).unwrap()).await.status,
            403,
            "{site:?}"
        );
    }
    assert_eq!(
        plane.admin.approval(id).await.unwrap().summary.status,
        ApprovalStatus::Pending
    );
    let answer = post(
        &plane,
        &path,
        &cookie,
        "reason=&choice=call%3A900",
        ("origin", "http://gate.example:9403"),
    )
    .await;
    assert_eq!(answer.status, 303, "our own page can: {}", answer.body);
}

#[tokio::test]
async fn the_first_link_logs_in_once_and_for_an_hour() {
    let plane = Plane::new().await;
    assert!(
        plane.orchestrator.bootstrap().await.unwrap().is_none(),
        "only the first start"
    );
    let path = plane.link.strip_prefix("http://gate.example:9403").unwrap();
    assert!(path.starts_with("/bootstrap?code="));
    assert_eq!(get(&plane, "/bootstrap?code=0000", "").await.status, 401);
    let answer = get(&plane, path, "").await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("location")),
        (303, "/approvals")
    );
    let cookie = answer
        .header("set-cookie")
        .split(';')
        .next()
        .unwrap()
        .to_owned();
    assert_eq!(get(&plane, "/approvals", &cookie).await.status, 200);
    assert_eq!(get(&plane, path, "").await.status, 401, "once");

    let late = Plane::new().await;
    late.pass(std::time::Duration::from_hours(1));
    assert_eq!(
        get(
            &late,
            late.link.strip_prefix("http://gate.example:9403").unwrap(),
            ""
        )
        .await
        .status,
        401
    );
    plane.pass(std::time::Duration::from_hours(12));
    assert_eq!(
        get(&plane, "/approvals", &cookie).await.status,
        303,
        "a session ends after twelve hours"
    );
}

#[tokio::test]
async fn pages_load_nothing_from_elsewhere_and_run_nothing_inline() {
    let plane = Plane::new().await;
    let cookie = log_in(&plane, &plane.admin_token).await;
    for path in ["/login", "/approvals", "/me", "/step-up"] {
        let page = get(&plane, path, &cookie).await;
        assert!(
            !page.body.contains("http")
                && !page.body.contains(" style=")
                && !page.body.contains("onclick"),
            "{}",
            page.body
        );
        assert!(
            page.header("content-security-policy")
                .contains("form-action 'self'")
        );
        assert_eq!(
            (page.header("cache-control"), page.header("x-frame-options")),
            ("no-store", "DENY")
        );
    }
    for (path, kind) in [
        ("/assets/style.css", "text/css"),
        ("/assets/live.js", "text/javascript"),
        ("/assets/icon.svg", "image/svg+xml"),
    ] {
        let asset = get(&plane, path, "").await;
        assert_eq!(asset.status, 200);
        assert!(asset.header("content-type").starts_with(kind));
    }
}
