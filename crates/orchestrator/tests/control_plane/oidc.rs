//! Logging in at a real provider of identities, and everything that is not a login.

use std::{collections::BTreeSet, time::Duration};

use authz::Risk;
use contract::users::ChangeUser;
use orchestrator::people::oidc;
use serde_json::{Value, json};

use crate::{
    pages::{SAME, get, post},
    plane::{Answer, Plane, no_arguments, refused, target},
};

#[path = "../../../../tests/oidc/provider.rs"]
mod provider;

use provider::{CLIENT_ID, CLIENT_SECRET, Provider};

const CALLBACK: &str = "http://gate.example:9403/login/oidc/callback";
const SESSION: &str = "cedargate_session";
const FLOW: &str = "cedargate_oidc";

fn config(issuer: &str) -> oidc::Config {
    oidc::Config {
        issuer: issuer.to_owned(),
        client_id: CLIENT_ID.to_owned(),
        client_secret: Some(CLIENT_SECRET.into()),
        name: "the house".to_owned(),
        scopes: vec!["email".to_owned(), "profile".to_owned()],
        algorithms: vec!["RS256".to_owned(), "ES256".to_owned()],
        create_users: false,
        link_by_email: true,
        user_claim: "email".to_owned(),
        roles_claim: None,
        roles: Vec::new(),
        teams_claim: None,
        teams: Vec::new(),
        default_roles: BTreeSet::new(),
        mfa_acr: Vec::new(),
        mfa_amr: Vec::new(),
    }
}

/// A control plane with the provider's time, and the provider.
async fn world(change: impl FnOnce(&mut oidc::Config)) -> Option<(Plane, Provider)> {
    let provider = Provider::start(CALLBACK).await?;
    let mut oidc = config(&provider.issuer);
    change(&mut oidc);
    let plane = Plane::with(provider.began, |config| config.people.oidc = Some(oidc)).await;
    Some((plane, provider))
}

/// Dan, known here by the address that he has there.
async fn dan(plane: &Plane, provider: &Provider) -> String {
    let (_, token) = plane.person("dan@example.com", &["approver"]).await;
    is(provider, "dan", json!({})).await;
    token
}

/// Whoever comes to the provider now is that one.
async fn is(provider: &Provider, account: &str, more: Value) {
    let mut who = json!({
        "account": account,
        "claims": {"email": format!("{account}@example.com"), "email_verified": true, "name": account},
    });
    for (key, value) in more.as_object().unwrap() {
        who[key] = value.clone();
    }
    provider.control(who).await;
}

/// Begins at one of our pages: the cookie, and where the provider is asked.
async fn depart(plane: &Plane, path: &str, cookie: &str) -> (String, String) {
    let answer = get(plane, path, cookie).await;
    assert_eq!(answer.status, 303, "{}", answer.body);
    (
        answer.cookie(FLOW).unwrap(),
        answer.header("location").to_owned(),
    )
}

/// Comes back with what the provider gave.
async fn arrive(plane: &Plane, url: &str, cookie: &str) -> Answer {
    let path = url.strip_prefix("http://gate.example:9403").unwrap();
    get(plane, path, cookie).await
}

async fn log_in(plane: &Plane, provider: &Provider) -> Answer {
    let (cookie, url) = depart(plane, "/login/oidc?next=%2Fme", "").await;
    let back = provider.visit(&url).await;
    arrive(plane, &back, &cookie).await
}

async fn kinds(plane: &Plane) -> Vec<String> {
    let trail = plane.admin.audit(0, 1_000, None).await.unwrap();
    trail.into_iter().map(|entry| entry.kind).collect()
}

fn without(url: &str, name: &str) -> String {
    let (path, query) = url.split_once('?').unwrap();
    let rest: Vec<&str> = query
        .split('&')
        .filter(|pair| !pair.starts_with(&format!("{name}=")))
        .collect();
    format!("{path}?{}", rest.join("&"))
}

#[tokio::test]
async fn one_logs_in_at_the_provider_and_is_the_same_person_from_then_on() {
    let Some((plane, provider)) = world(|_| {}).await else {
        return;
    };
    dan(&plane, &provider).await;
    let page = get(&plane, "/login?next=%2Fapprovals", "").await;
    assert!(
        page.body.contains("Log in with the house")
            && page.body.contains("/login/oidc?next=%2Fapprovals")
            && !page.body.contains("could not be reached"),
        "{}",
        page.body
    );
    let (cookie, url) = depart(&plane, "/login/oidc?next=%2Fme", "").await;
    for part in [
        "response_type=code",
        "code_challenge_method=S256",
        "scope=openid+email+profile",
        "nonce=",
        "state=",
    ] {
        assert!(url.contains(part), "{part}: {url}");
    }
    assert!(!url.contains("secret") && url.starts_with(&provider.issuer));
    let back = provider.visit(&url).await;
    let answer = arrive(&plane, &back, &cookie).await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("location")),
        (303, "/me"),
        "{}",
        answer.body
    );
    assert_eq!(answer.cookie(FLOW).unwrap(), "cedargate_oidc=", "forgotten");
    let session = answer.cookie(SESSION).unwrap();
    let me = get(&plane, "/me", &session).await;
    assert!(me.body.contains("by oidc"), "{}", me.body);

    // By who he is there, and no longer by the address.
    is(
        &provider,
        "dan",
        json!({"claims": {"email": "eve@example.com", "email_verified": true}}),
    )
    .await;
    plane.person("eve@example.com", &["approver"]).await;
    let again = log_in(&plane, &provider).await;
    let me = get(&plane, "/me", &again.cookie(SESSION).unwrap()).await;
    assert!(
        me.body.contains("<code>dan@example.com</code>"),
        "{}",
        me.body
    );
    let kinds = kinds(&plane).await;
    assert_eq!(
        kinds
            .iter()
            .filter(|kind| *kind == "identity_linked")
            .count(),
        1
    );
    assert_eq!(kinds.iter().filter(|kind| *kind == "login").count(), 2);

    // Whoever is not active is out, and not let in again.
    let out = ChangeUser {
        active: Some(false),
        ..ChangeUser::default()
    };
    let id = "dan@example.com".parse().unwrap();
    plane.admin.change_user(&id, &out).await.unwrap();
    assert_eq!(get(&plane, "/me", &session).await.status, 303);
    let refused = log_in(&plane, &provider).await;
    assert_eq!(refused.status, 403, "{}", refused.body);
    assert!(refused.cookie(SESSION).is_none() && refused.body.contains("not active"));
}

#[tokio::test]
async fn what_was_not_asked_for_in_this_browser_is_no_answer() {
    let Some((plane, provider)) = world(|_| {}).await else {
        return;
    };
    dan(&plane, &provider).await;
    let (cookie, url) = depart(&plane, "/login/oidc", "").await;
    let (other_cookie, other_url) = depart(&plane, "/login/oidc", "").await;
    let back = provider.visit(&url).await;

    // Each on a plane of few failures: the door closes after ten.
    for (what, back, cookie) in [
        ("no cookie", back.clone(), ""),
        ("another one's cookie", back.clone(), other_cookie.as_str()),
        ("no state", without(&back, "state"), cookie.as_str()),
        ("another state", back.replace("state=", "state=0"), &cookie),
        ("no issuer", without(&back, "iss"), &cookie),
        (
            "another issuer",
            without(&back, "iss") + "&iss=https%3A%2F%2Fevil.example",
            &cookie,
        ),
        ("no code", without(&back, "code"), &cookie),
        (
            "another code",
            without(&back, "code") + "&code=AAAAAAAAAAAAAAAA",
            &cookie,
        ),
    ] {
        let answer = arrive(&plane, &back, cookie).await;
        assert_eq!(answer.status, 401, "{what}: {}", answer.body);
        assert!(answer.cookie(SESSION).is_none(), "{what}");
        assert!(answer.body.contains("role=\"alert\""), "{what}");
    }
    // Their code with our question: PKCE and the nonce are ours.
    let theirs = provider.visit(&other_url).await;
    let code = |url: &str| {
        let (_, rest) = url.split_once("code=").unwrap();
        rest.split('&').next().unwrap().to_owned()
    };
    let mixed = back.replace(&code(&back), &code(&theirs));
    let answer = arrive(&plane, &mixed, &cookie).await;
    assert_eq!(answer.status, 401, "{}", answer.body);
    assert!(
        answer.body.contains("does not take this code"),
        "{}",
        answer.body
    );
    plane.pass(Duration::from_mins(1));

    let good = arrive(&plane, &back, &cookie).await;
    assert_eq!(
        good.status, 303,
        "all of that changed nothing: {}",
        good.body
    );
    let again = arrive(&plane, &back, &cookie).await;
    assert_eq!(again.status, 401, "a code is good once");
    assert!(again.cookie(SESSION).is_none());
    let refused = kinds(&plane).await;
    assert!(
        refused
            .iter()
            .filter(|kind| *kind == "login_refused")
            .count()
            >= 9
    );
}

#[tokio::test]
async fn another_nonce_an_old_token_and_a_late_answer_are_not_believed() {
    let Some((plane, provider)) = world(|_| {}).await else {
        return;
    };
    dan(&plane, &provider).await;
    let (cookie, url) = depart(&plane, "/login/oidc", "").await;
    let nonce = url
        .split_once("nonce=")
        .unwrap()
        .1
        .split('&')
        .next()
        .unwrap();
    let back = provider.visit(&url.replace(nonce, &"0".repeat(64))).await;
    let answer = arrive(&plane, &back, &cookie).await;
    assert_eq!(answer.status, 401);
    assert!(answer.body.contains("another question"), "{}", answer.body);

    let (cookie, url) = depart(&plane, "/login/oidc", "").await;
    let back = provider.visit(&url).await;
    plane.pass(Duration::from_mins(3));
    let answer = arrive(&plane, &back, &cookie).await;
    assert!(answer.body.contains("has expired"), "{}", answer.body);
    let (cookie, _) = depart(&plane, "/login/oidc", "").await;
    plane.pass(Duration::from_mins(10));
    let answer = arrive(&plane, &back, &cookie).await;
    assert!(answer.body.contains("too long ago"), "{}", answer.body);

    let Some((behind, provider)) = world(|_| {}).await else {
        return;
    };
    dan(&behind, &provider).await;
    let past = Plane::with(
        behind.now().minus(Duration::from_mins(5)).as_millis(),
        |plane| plane.people.oidc = Some(config(&provider.issuer)),
    )
    .await;
    let answer = log_in(&past, &provider).await;
    assert!(answer.body.contains("of the future"), "{}", answer.body);
}

#[tokio::test]
async fn new_keys_are_read_when_they_are_used_and_not_for_every_forgery() {
    let Some((plane, provider)) = world(|_| {}).await else {
        return;
    };
    dan(&plane, &provider).await;
    assert_eq!(log_in(&plane, &provider).await.status, 303);
    provider.control(json!({"rotate": true})).await;
    is(&provider, "dan", json!({})).await;
    let soon = log_in(&plane, &provider).await;
    assert!(
        soon.body.contains("no key of the issuer"),
        "read a moment ago: {}",
        soon.body
    );
    plane.pass(Duration::from_secs(11));
    assert_eq!(log_in(&plane, &provider).await.status, 303);
}

#[tokio::test]
async fn one_may_cancel_and_nobody_unknown_is_let_in() {
    let Some((plane, provider)) = world(|_| {}).await else {
        return;
    };
    provider.control(json!({"cancel": true})).await;
    let answer = log_in(&plane, &provider).await;
    assert_eq!(answer.status, 401);
    assert!(answer.body.contains("You cancelled"), "{}", answer.body);

    for (who, email, verified) in [
        ("mallory", "mallory@example.com", true),
        // The address is the admin's, who says so is not.
        ("mallory", "admin@example.com", false),
        ("mallory", "\u{430}dmin@example.com", true),
    ] {
        plane.admin.users().await.unwrap();
        if email == "admin@example.com" {
            plane.person(email, &["admin"]).await;
        }
        is(
            &provider,
            who,
            json!({"claims": {"email": email, "email_verified": verified}}),
        )
        .await;
        let answer = log_in(&plane, &provider).await;
        assert_eq!(answer.status, 403, "{email}: {}", answer.body);
        assert!(answer.cookie(SESSION).is_none(), "{email}");
    }
    // An address of somebody who is somebody else there already.
    dan(&plane, &provider).await;
    assert_eq!(log_in(&plane, &provider).await.status, 303);
    is(
        &provider,
        "mallory",
        json!({"claims": {"email": "dan@example.com", "email_verified": true}}),
    )
    .await;
    let answer = log_in(&plane, &provider).await;
    assert_eq!(answer.status, 403, "{}", answer.body);
    // Where we go after is ours.
    for next in ["https://evil.example", "//evil.example", "/\\evil.example"] {
        is(&provider, "dan", json!({})).await;
        let next = next.replace('/', "%2F").replace('\\', "%5C");
        let (cookie, url) = depart(&plane, &format!("/login/oidc?next={next}"), "").await;
        let back = provider.visit(&url).await;
        let answer = arrive(&plane, &back, &cookie).await;
        assert_eq!(answer.header("location"), "/approvals", "{next}");
    }
}

#[tokio::test]
async fn users_come_with_their_groups_where_that_is_configured() {
    let set = |oidc: &mut oidc::Config| {
        oidc.create_users = true;
        oidc.link_by_email = false;
        oidc.roles_claim = Some("groups".to_owned());
        let role = |group: &str, role: &str| (group.to_owned(), role.parse().unwrap());
        oidc.roles = vec![role("ops", "approver"), role("audit", "viewer")];
        oidc.teams_claim = Some("groups".to_owned());
        oidc.teams = vec![("ops".to_owned(), "platform".parse().unwrap())];
        oidc.default_roles = ["newcomer".parse().unwrap()].into();
    };
    let Some((plane, provider)) = world(set).await else {
        return;
    };
    let groups = |groups: Value| json!({"claims": {"email": "Fay@Example.com", "email_verified": true, "name": "Fay <b>", "groups": groups}});
    is(&provider, "fay", groups(json!(["ops", "other"]))).await;
    assert_eq!(log_in(&plane, &provider).await.status, 303);
    let id = "fay@example.com".parse().unwrap();
    let user = plane.admin.user(&id).await.unwrap().user;
    let words = |user: &authz::User| {
        let roles: Vec<_> = user.roles.iter().map(ToString::to_string).collect();
        let teams: Vec<_> = user.teams.iter().map(ToString::to_string).collect();
        (roles.join(" "), teams.join(" "))
    };
    assert_eq!(user.name, "Fay <b>");
    assert_eq!(
        words(&user),
        ("approver newcomer".to_owned(), "platform".to_owned())
    );

    // What was given here stays; what groups give comes and goes with them.
    let change = ChangeUser {
        roles: Some(
            ["approver", "security"]
                .map(|role| role.parse().unwrap())
                .into(),
        ),
        ..ChangeUser::default()
    };
    plane.admin.change_user(&id, &change).await.unwrap();
    is(&provider, "fay", groups(json!("audit"))).await;
    assert_eq!(log_in(&plane, &provider).await.status, 303);
    let user = plane.admin.user(&id).await.unwrap().user;
    assert_eq!(words(&user), ("security viewer".to_owned(), String::new()));

    // An id that is taken is not theirs, whoever says so.
    let (_, _) = plane.person("gus@example.com", &["admin"]).await;
    is(&provider, "gus", json!({})).await;
    let answer = log_in(&plane, &provider).await;
    assert_eq!(answer.status, 403, "{}", answer.body);
    assert!(answer.body.contains("there is a user"), "{}", answer.body);
    is(
        &provider,
        "hal",
        json!({"claims": {"email": "hal@example.com"}}),
    )
    .await;
    assert_eq!(log_in(&plane, &provider).await.status, 403, "not verified");
}

#[tokio::test]
async fn who_shows_themselves_again_may_approve_what_destroys() {
    let Some((plane, provider)) = world(|_| {}).await else {
        return;
    };
    dan(&plane, &provider).await;
    let agent = plane.agent("test-agent", None).await.agent;
    let mut open = refused(&plane, agent.id, no_arguments()).await;
    open.target = target("delete-server", Risk::Destroy);
    open.approvals = 2;
    let id = plane.gateway.open_approval(&open).await.unwrap().id;
    let session = log_in(&plane, &provider).await.cookie(SESSION).unwrap();

    let path = format!("/approvals/{id}/approve");
    let form = "reason=&choice=call%3A900";
    let sent = post(&plane, &path, &session, form, SAME).await;
    assert_eq!(
        (sent.status.as_u16(), sent.header("location")),
        (303, format!("/step-up?next=%2Fapprovals%2F{id}").as_str())
    );
    let page = get(&plane, sent.header("location"), &session).await;
    assert!(
        page.body.contains("Show yourself to the house again"),
        "{}",
        page.body
    );

    // Somebody else at the provider is not who is logged in here.
    let ask = format!("/step-up/oidc?next=%2Fapprovals%2F{id}");
    let (cookie, url) = depart(&plane, &ask, &session).await;
    assert!(
        url.contains("prompt=login") && url.contains("max_age=0"),
        "{url}"
    );
    is(&provider, "mallory", json!({})).await;
    let back = provider.visit(&url).await;
    let both = format!("{session}; {cookie}");
    let answer = arrive(&plane, &back, &both).await;
    assert_eq!(answer.status, 403, "{}", answer.body);
    assert!(answer.cookie(SESSION).is_none());

    is(&provider, "dan", json!({})).await;
    let (cookie, url) = depart(&plane, &ask, &session).await;
    let back = provider.visit(&url).await;
    let answer = arrive(&plane, &back, &format!("{session}; {cookie}")).await;
    let renewed = answer.cookie(SESSION);
    assert_eq!(
        (answer.status.as_u16(), answer.header("location")),
        (303, format!("/approvals/{id}").as_str()),
        "{}",
        answer.body
    );
    let renewed = renewed.unwrap();
    assert_ne!(renewed, session);
    assert_eq!(
        get(&plane, "/me", &session).await.status,
        303,
        "the cookie before is no longer good"
    );
    let sent = post(&plane, &path, &renewed, form, SAME).await;
    assert_eq!(
        sent.header("location"),
        format!("/approvals/{id}?done=advanced")
    );
    let approval = plane.admin.approval(id).await.unwrap();
    assert_eq!(approval.summary.approvals_given, 1);
    assert!(kinds(&plane).await.contains(&"step_up".to_owned()));
}

#[tokio::test]
async fn a_second_factor_at_the_provider_counts_in_the_operators_words() {
    let set = |oidc: &mut oidc::Config| {
        oidc.mfa_amr = vec!["otp".to_owned()];
        oidc.mfa_acr = vec!["urn:mfa".to_owned()];
    };
    let Some((plane, provider)) = world(set).await else {
        return;
    };
    dan(&plane, &provider).await;
    for (amr, acr, counts) in [
        (json!(["pwd"]), Value::Null, false),
        (json!(["pwd", "otp"]), Value::Null, true),
        (json!(["pwd"]), json!("urn:mfa"), true),
        (json!(["otpx"]), json!("urn:mfa2"), false),
    ] {
        is(&provider, "dan", json!({"amr": amr, "acr": acr})).await;
        let session = log_in(&plane, &provider).await.cookie(SESSION).unwrap();
        let request = axum::http::Request::get("/api/me")
            .header("host", crate::pages::HOST)
            .header("cookie", &session);
        let me = plane
            .send(request.body(axum::body::Body::empty()).unwrap())
            .await
            .json();
        assert_eq!(me.get("confirmed").is_some(), counts, "{amr} {acr}: {me}");
        if !counts {
            let (cookie, url) = depart(&plane, "/step-up/oidc?next=%2Fme", &session).await;
            assert!(url.contains("acr_values=urn%3Amfa"), "{url}");
            let back = provider.visit(&url).await;
            let answer = arrive(&plane, &back, &format!("{session}; {cookie}")).await;
            assert_eq!(answer.status, 403, "{}", answer.body);
        }
    }
}

#[tokio::test]
async fn one_says_who_one_is_there() {
    let Some((plane, provider)) = world(|oidc| oidc.link_by_email = false).await else {
        return;
    };
    let token = dan(&plane, &provider).await;
    assert_eq!(log_in(&plane, &provider).await.status, 403, "not yet known");
    let answer = get(&plane, "/me/link", "").await;
    assert_eq!(answer.header("location"), "/login?next=%2Fme%2Flink");
    let session = crate::pages::log_in(&plane, &token).await;
    let (cookie, url) = depart(&plane, "/me/link", &session).await;
    let back = provider.visit(&url).await;
    let answer = arrive(&plane, &back, &format!("{session}; {cookie}")).await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("location")),
        (303, "/me"),
        "{}",
        answer.body
    );
    assert_eq!(log_in(&plane, &provider).await.status, 303);
    let id = "dan@example.com".parse().unwrap();
    plane.admin.unlink_user(&id).await.unwrap();
    assert_eq!(log_in(&plane, &provider).await.status, 403);
    assert_eq!(
        get(&plane, "/me", &session).await.status,
        303,
        "its sessions end with it"
    );
    let old = crate::pages::log_in(&plane, &token).await;
    plane.pass(Duration::from_mins(16));
    let answer = get(&plane, "/me/link", &old).await;
    assert_eq!(answer.status, 403, "a browser left open: {}", answer.body);
}

#[tokio::test]
async fn one_logs_out_here_and_if_one_wants_there() {
    let Some((plane, provider)) = world(|_| {}).await else {
        return;
    };
    let token = dan(&plane, &provider).await;
    let session = log_in(&plane, &provider).await.cookie(SESSION).unwrap();
    let answer = post(&plane, "/logout", &session, "", SAME).await;
    assert_eq!(answer.header("location"), "/login?left=oidc");
    assert_eq!(
        get(&plane, "/me", &session).await.status,
        303,
        "it has ended"
    );
    let page = get(&plane, "/login?left=oidc", "").await;
    assert!(page.body.contains("href=\"/logout/oidc\""), "{}", page.body);

    let there = get(&plane, "/logout/oidc", "").await;
    assert_eq!(there.status, 303, "{}", there.body);
    let url = there.header("location");
    assert!(url.starts_with(&provider.issuer), "{url}");
    for part in [
        "client_id=cedargate",
        "post_logout_redirect_uri=http%3A%2F%2Fgate.example%3A9403%2Flogin",
    ] {
        assert!(url.contains(part), "{part}: {url}");
    }
    // The provider takes it, and asks whether that is meant.
    let asked = reqwest::get(url).await.unwrap();
    assert_eq!(asked.status().as_u16(), 200);
    assert!(asked.text().await.unwrap().contains("<form"));

    // Whoever came by token knows nothing of a provider.
    let session = crate::pages::log_in(&plane, &token).await;
    let answer = post(&plane, "/logout", &session, "", SAME).await;
    assert_eq!(answer.header("location"), "/login");
    assert!(
        !get(&plane, "/login", "")
            .await
            .body
            .contains("/logout/oidc")
    );
}

#[tokio::test]
async fn without_the_provider_a_token_is_still_good() {
    let Some((plane, provider)) = world(|_| {}).await else {
        return;
    };
    let token = dan(&plane, &provider).await;
    let (cookie, url) = depart(&plane, "/login/oidc", "").await;
    let back = provider.visit(&url).await;
    provider.stop().await;
    let answer = arrive(&plane, &back, &cookie).await;
    assert_eq!(answer.status, 503, "{}", answer.body);
    assert!(
        answer.body.contains("Log in by token meanwhile"),
        "{}",
        answer.body
    );

    plane.pass(Duration::from_hours(2));
    let answer = get(&plane, "/login/oidc", "").await;
    assert_eq!(answer.status, 503, "{}", answer.body);
    assert!(answer.body.contains("name=\"token\""), "the form is there");
    let page = get(&plane, "/login", "").await;
    assert!(
        page.body.contains("could not be reached a moment ago"),
        "{}",
        page.body
    );
    let session = crate::pages::log_in(&plane, &token).await;
    assert_eq!(get(&plane, "/me", &session).await.status, 200);
    assert_eq!(
        plane
            .client(&token)
            .me()
            .await
            .unwrap()
            .user
            .user
            .id
            .as_str(),
        "dan@example.com"
    );
}

#[tokio::test]
async fn without_a_provider_there_is_no_such_door() {
    let plane = Plane::new().await;
    assert!(!get(&plane, "/login", "").await.body.contains("/login/oidc"));
    for path in ["/login/oidc", "/login/oidc/callback?code=x&state=y"] {
        assert_eq!(get(&plane, path, "").await.status, 404, "{path}");
    }
}
