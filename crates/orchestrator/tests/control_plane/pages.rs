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
    let id = plane.asked(agent.id, json!({"team": "ops"})).await;

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
        "<dt>team</dt><dd tabindex=\"0\">ops</dd>",
        "list-servers with exactly these arguments, one time.",
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
    let grant = plane.grants(agent.id).await.remove(0);
    assert_eq!(grant.expires.since(grant.issued).as_secs(), 900);
    let again = post(&plane, &path, &cookie, "reason=ok&choice=call%3A900", SAME).await;
    assert_eq!(again.status, 409);
    assert!(again.body.contains("role=\"alert\""), "says so on the page");
    let decided = get(&plane, "/approvals?view=decided", &cookie).await;
    assert!(decided.body.contains("coolify/list-servers"));
    let page = get(&plane, &format!("/approvals/{id}?done=approved"), &cookie).await;
    for text in [
        "admin approved this call for 15 min",
        "Revoke now",
        "The agent&#39;s next try goes through.",
    ] {
        assert!(page.body.contains(text), "{text}: {}", page.body);
    }

    assert_eq!(post(&plane, "/logout", &cookie, "", SAME).await.status, 303);
    let answer = get(&plane, "/approvals", &cookie).await;
    assert_eq!(
        answer.status, 303,
        "the session is revoked, not only forgotten"
    );
}

#[tokio::test]
async fn an_unknown_path_is_a_page_for_browsers_and_json_for_scripts() {
    let plane = Plane::new().await;
    let ask = async |accept: Option<&str>| {
        let mut request = Request::builder().uri("/nowhere/&b").header("host", HOST);
        if let Some(accept) = accept {
            request = request.header("accept", accept);
        }
        plane.send(request.body(Body::empty()).unwrap()).await
    };
    let browser = ask(Some("text/html,application/xhtml+xml,*/*;q=0.8")).await;
    assert_eq!(browser.status, 404);
    assert!(browser.header("content-type").starts_with("text/html"));
    assert!(
        browser.body.contains("<h1>Not Found</h1>"),
        "{}",
        browser.body
    );
    assert!(!browser.body.contains("&b") && browser.header("vary").contains("accept"));
    for accept in [None, Some("*/*"), Some("application/json")] {
        let script = ask(accept).await;
        assert_eq!(script.status, 404, "{accept:?}");
        assert!(
            script.detail().contains("is not a path here"),
            "{}",
            script.body
        );
    }
}

/// Decides in the inbox, and comes back to it as it was.
#[tokio::test]
async fn one_decides_right_in_the_inbox() {
    let plane = Plane::new().await;
    let agent = plane.agent("test-agent", None).await.agent;
    let mut ids = Vec::new();
    for team in ["ops", "web", "data"] {
        plane.pass(std::time::Duration::from_secs(1));
        let open = refused(&plane, agent.id, json!({"team": team})).await;
        ids.push(plane.gateway.open_approval(&open).await.unwrap().id);
    }
    let cookie = log_in(&plane, &plane.admin_token).await;
    let inbox = get(&plane, "/approvals?q=TEST&sort=oldest", &cookie).await;
    for text in [
        "3 calls, each with other arguments",
        "Asked for the first time.",
        "any number of times.",
        "name=\"back\" value=\"?q=TEST&#38;sort=oldest\"",
        "value=\"call:28800\"",
    ] {
        assert!(inbox.body.contains(text), "{text}: {}", inbox.body);
    }
    assert!(
        !inbox.body.contains("value=\"service:"),
        "what is wide is not one click away"
    );
    let none = get(&plane, "/approvals?risk=destroy", &cookie).await;
    assert!(none.body.contains("Nothing that waits matches"));
    for odd in ["?page=-1", "?page=x", "?unknown=1"] {
        let answer = get(&plane, &format!("/approvals{odd}"), &cookie).await;
        assert_eq!(answer.status, 400, "{odd}");
    }

    let form = "reason=&choice=call%3A900&back=%3Fq%3DTEST%26sort%3Doldest";
    let path = format!("/approvals/{}/approve", ids[0]);
    let answer = post(&plane, &path, &cookie, form, SAME).await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("location")),
        (303, "/approvals?q=TEST&sort=oldest&done=approved")
    );
    let path = format!("/approvals/{}/reject", ids[1]);
    let answer = post(&plane, &path, &cookie, "back=%2F%2Fevil.example", SAME).await;
    assert_eq!(answer.header("location"), "/approvals?done=rejected");
    let inbox = get(&plane, "/approvals", &cookie).await;
    for text in [
        "Asked 2 times before: 1 approved, 1 rejected; last",
        "<code>data</code>",
    ] {
        assert!(inbox.body.contains(text), "{text}: {}", inbox.body);
    }
    assert!(!inbox.body.contains("<code>web</code>"));
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
    let agent_path = format!("/agents/{}", agent.id);
    let label = "label=%3Cscript%3Ealert(1)%E2%80%AE&days=1";
    let made = post(
        &plane,
        &format!("{agent_path}/tokens"),
        &cookie,
        label,
        SAME,
    )
    .await;
    assert_eq!(made.status, 200);
    let person = "id=eve&name=%3Cb%3Eeve%E2%80%AE%1B%5B31m&teams=ops&roles=viewer";
    assert_eq!(
        post(&plane, "/users", &cookie, person, SAME).await.status,
        400,
        "control characters are no name"
    );
    let person = "id=eve&name=%3Cb%3Eeve%E2%80%AE&teams=ops&roles=viewer";
    assert_eq!(
        post(&plane, "/users", &cookie, person, SAME).await.status,
        303
    );
    for path in [
        "/approvals".to_owned(),
        "/approvals?view=decided".to_owned(),
        "/approvals?q=%3Cscript%3E&view=%3Cscript%3E".to_owned(),
        format!("/approvals/{id}"),
        agent_path.clone(),
        format!("{agent_path}/edit"),
        "/agents?q=%22%3E%3Cscript%3E".to_owned(),
        "/users?q=%22%3E%3Cscript%3E".to_owned(),
        "/users".to_owned(),
        "/users/eve".to_owned(),
    ] {
        let page = get(&plane, &path, &cookie).await;
        assert_eq!(page.status, 200);
        for markup in ["<script>", "<img src=x", "onerror=alert(1)>", "<b>"] {
            assert!(
                !page.body.contains(markup),
                "{markup} on {path}: {}",
                page.body
            );
        }
        assert!(
            !page.body.contains(['\u{202e}', '\u{1b}', '\u{200b}']),
            "what hides is shown on {path}"
        );
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
    let id = plane.asked(agent.id, no_arguments()).await;
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
    for path in [
        "/login",
        "/approvals",
        "/agents",
        "/agents/new",
        "/users",
        "/users/admin",
        "/me",
        "/step-up",
    ] {
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
        ("/assets/icons.svg", "image/svg+xml"),
    ] {
        let asset = get(&plane, path, "").await;
        assert_eq!(asset.status, 200);
        assert!(asset.header("content-type").starts_with(kind));
    }
}

#[tokio::test]
async fn agents_are_administered_on_their_pages() {
    let plane = Plane::new().await;
    let cookie = log_in(&plane, &plane.admin_token).await;
    let fields = "owner=admin&teams=ops%2C+web&roles=reader&env=staging&trust=2&services=github";
    for (form, problem) in [
        ("name=%3Cb%3E", "name: `&#60;b&#62;` is not"),
        ("name=local", "there is an agent named `local` already"),
    ] {
        let answer = post(
            &plane,
            "/agents",
            &cookie,
            &format!("{form}&{fields}"),
            SAME,
        )
        .await;
        assert!(answer.status.is_client_error(), "{form}");
        assert!(answer.body.contains(problem), "{problem}: {}", answer.body);
        assert!(
            answer.body.contains("value=\"ops, web\""),
            "nothing typed is lost"
        );
    }
    let wrong = "name=builder&owner=nobody&teams=&roles=&env=prod&trust=1&services=";
    let answer = post(&plane, "/agents", &cookie, wrong, SAME).await;
    assert!(
        answer.body.contains("owner: there is no user `nobody`"),
        "{}",
        answer.body
    );

    let answer = post(
        &plane,
        "/agents",
        &cookie,
        &format!("name=builder&{fields}"),
        SAME,
    )
    .await;
    assert_eq!(answer.status, 303, "{}", answer.body);
    let path = answer
        .header("location")
        .split('?')
        .next()
        .unwrap()
        .to_owned();
    let agent = plane
        .admin
        .agents()
        .await
        .unwrap()
        .into_iter()
        .map(|view| view.agent)
        .find(|agent| agent.name.as_str() == "builder")
        .unwrap();
    assert_eq!(path, format!("/agents/{}", agent.id));
    assert_eq!(
        (agent.teams.len(), agent.trust, agent.env.as_str()),
        (2, 2, "staging")
    );
    let list = get(&plane, "/agents?q=builder&which=active", &cookie).await;
    assert!(list.body.contains(&path), "{}", list.body);
    let list = get(&plane, "/agents?which=suspended", &cookie).await;
    assert!(list.body.contains("No agent matches"), "{}", list.body);

    // Two people edit it at once: the second is told, and loses nothing.
    let form = get(&plane, &format!("{path}/edit"), &cookie).await;
    let seen = form.body.split("name=\"seen\" value=\"").nth(1).unwrap();
    let seen = seen.split('"').next().unwrap();
    let change = |trust: u8| {
        format!("owner=&teams=ops&roles=&env=staging&trust={trust}&services=&seen={seen}")
    };
    let edit = format!("{path}/edit");
    assert_eq!(
        post(&plane, &edit, &cookie, &change(5), SAME).await.status,
        303
    );
    let answer = post(&plane, &edit, &cookie, &change(7), SAME).await;
    assert_eq!(answer.status, 409);
    assert!(
        answer.body.contains("somebody changed this agent since"),
        "{}",
        answer.body
    );
    assert!(answer.body.contains("value=\"7\""));

    for (what, suspended) in [("suspend", true), ("resume", false)] {
        let answer = post(&plane, &format!("{path}/{what}"), &cookie, "", SAME).await;
        assert_eq!(answer.status, 303);
        let view = plane.admin.agent(&by_id(agent.id)).await.unwrap();
        assert_eq!(view.agent.suspended, suspended);
    }

    let form = "label=laptop&days=30";
    let made = post(&plane, &format!("{path}/tokens"), &cookie, form, SAME).await;
    let secret = made.body.split("cgt_").nth(1).expect("it is shown once");
    let secret = format!("cgt_{}", secret.split('<').next().unwrap());
    let page = get(&plane, &path, &cookie).await;
    assert!(!page.body.contains(&secret) && page.body.contains("laptop"));
    let revoke = page.body.split(&format!("{path}/tokens/")).nth(1).unwrap();
    let token = revoke.split('/').next().unwrap();
    let answer = post(
        &plane,
        &format!("{path}/tokens/{token}/revoke"),
        &cookie,
        "",
        SAME,
    )
    .await;
    assert_eq!(answer.status, 303, "{}", answer.body);
    let answer = post(
        &plane,
        &format!("{path}/tokens"),
        &cookie,
        "label=x&days=-1",
        SAME,
    )
    .await;
    assert_eq!(answer.status, 400);
    assert!(answer.body.contains("days: a whole number, or nothing"));
}

#[tokio::test]
async fn pages_offer_and_do_only_what_policy_lets_a_person_do() {
    let plane = Plane::new().await;
    let agent = plane.agent("test-agent", None).await.agent;
    let open = refused(&plane, agent.id, no_arguments()).await;
    let id = plane.gateway.open_approval(&open).await.unwrap().id;
    let (_, token) = plane.person("vera", &["viewer"]).await;
    let cookie = log_in(&plane, &token).await;
    let path = format!("/agents/{}", agent.id);
    for page in [
        "/approvals",
        &format!("/approvals/{id}"),
        "/agents",
        &path,
        "/users",
        "/users/vera",
    ] {
        let answer = get(&plane, page, &cookie).await;
        assert_eq!(answer.status, 200, "{page}");
        let forms = answer.body.matches("method=\"post\"").count();
        assert_eq!(forms, 1, "only logging out on {page}: {}", answer.body);
    }
    for page in ["/agents/new", &format!("{path}/edit"), "/users/new"] {
        assert_eq!(get(&plane, page, &cookie).await.status, 403, "{page}");
    }
    let facts = "name=x&owner=&teams=&roles=&env=prod&trust=1&services=";
    let person = "id=x&name=&teams=&roles=admin";
    for (path, form) in [
        (format!("/approvals/{id}/approve"), "choice=call%3A900"),
        (format!("/approvals/{id}/reject"), ""),
        ("/agents".to_owned(), facts),
        (format!("{path}/edit"), facts),
        (format!("{path}/suspend"), ""),
        (format!("{path}/resume"), ""),
        (format!("{path}/tokens"), "label=x&days="),
        ("/users".to_owned(), person),
        ("/users/vera".to_owned(), "name=&teams=&roles=admin"),
        ("/users/admin/deactivate".to_owned(), ""),
        ("/users/vera/tokens".to_owned(), "label=x&days="),
    ] {
        let answer = post(&plane, &path, &cookie, form, SAME).await;
        assert_eq!(answer.status, 403, "{path}: {}", answer.body);
    }
}

#[tokio::test]
async fn people_are_administered_on_their_pages() {
    let plane = Plane::new().await;
    let cookie = log_in(&plane, &plane.admin_token).await;
    let form = "id=dan%2Bops%40example.com&name=Dan&teams=ops&roles=approver";
    let answer = post(&plane, "/users", &cookie, form, SAME).await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("location")),
        (303, "/users/dan%2Bops%40example.com?done=user-created")
    );
    let path = "/users/dan%2Bops%40example.com";
    let made = post(
        &plane,
        &format!("{path}/tokens"),
        &cookie,
        "label=laptop&days=",
        SAME,
    )
    .await;
    let secret = made.body.split("cgu_").nth(1).expect("it is shown once");
    let secret = format!("cgu_{}", secret.split('<').next().unwrap());
    let dan = log_in(&plane, &secret).await;
    assert_eq!(get(&plane, "/approvals", &dan).await.status, 200);

    let answer = post(
        &plane,
        path,
        &cookie,
        "name=Daniel&teams=&roles=viewer%2C+approver",
        SAME,
    )
    .await;
    assert_eq!(answer.status, 303, "{}", answer.body);
    let page = get(&plane, path, &cookie).await;
    assert!(
        page.body.contains("Daniel") && page.body.contains("approver, viewer"),
        "{}",
        page.body
    );

    let answer = post(&plane, &format!("{path}/deactivate"), &cookie, "", SAME).await;
    assert_eq!(answer.status, 303);
    assert_eq!(
        get(&plane, "/approvals", &dan).await.status,
        303,
        "their session ended"
    );
    let answer = post(&plane, "/users/admin/deactivate", &cookie, "", SAME).await;
    assert_eq!(answer.status, 409, "somebody must be left to manage users");
    assert!(answer.body.contains("role=\"alert\""), "{}", answer.body);
}
