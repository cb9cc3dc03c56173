//! Users, their credentials and sessions; the door, and who stands before it.

use std::time::Duration;

use axum::{
    body::Body,
    http::{Request, header},
};
use contract::{
    agents::CreateToken,
    users::{ChangeUser, UserView},
};
use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};

use crate::{
    pages::{HOST, SAME, get, log_in, post},
    plane::{Answer, Plane, by_id},
};

async fn api(plane: &Plane, method: &str, path: &str, cookie: &str, body: Option<Value>) -> Answer {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", HOST)
        .header("cookie", cookie)
        .header(SAME.0, SAME.1)
        .header(header::CONTENT_TYPE, "application/json");
    let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
    plane.send(request.body(body).unwrap()).await
}

async fn kinds(plane: &Plane) -> Vec<String> {
    let trail = plane.admin.audit(0, 1_000, None).await.unwrap();
    trail.into_iter().map(|entry| entry.kind).collect()
}

#[tokio::test]
async fn each_role_may_what_it_is_for() {
    let plane = Plane::new().await;
    let mut callers = Vec::new();
    for role in ["admin", "security", "approver", "viewer", "other"] {
        callers.push(plane.person(&format!("a-{role}"), &[role]).await.1);
    }
    plane.person("dan", &["viewer"]).await;
    // In the order of the roles above.
    let doors = [
        ("GET", "/api/users", None, [200, 200, 200, 200, 403]),
        ("GET", "/api/users/dan", None, [200, 200, 200, 200, 403]),
        ("GET", "/api/me", None, [200, 200, 200, 200, 200]),
        (
            "GET",
            "/api/users/dan/tokens",
            None,
            [200, 403, 403, 403, 403],
        ),
        (
            "GET",
            "/api/users/dan/sessions",
            None,
            [200, 403, 403, 403, 403],
        ),
        (
            "PATCH",
            "/api/users/dan",
            Some(json!({"name": "Dan"})),
            [200, 403, 403, 403, 403],
        ),
        (
            "POST",
            "/api/users/dan/tokens",
            Some(json!({})),
            [201, 403, 403, 403, 403],
        ),
        (
            "DELETE",
            "/api/users/dan/sessions",
            None,
            [204, 403, 403, 403, 403],
        ),
        (
            "DELETE",
            "/api/users/dan/second-factor",
            None,
            [404, 403, 403, 403, 403],
        ),
        (
            "DELETE",
            "/api/users/dan/identities",
            None,
            [404, 403, 403, 403, 403],
        ),
        (
            "POST",
            "/api/agents",
            Some(json!({"name": "bot"})),
            [201, 409, 403, 403, 403],
        ),
        (
            "POST",
            "/api/policy-set/rollback",
            Some(json!({})),
            [403, 409, 403, 403, 403],
        ),
    ];
    for (method, path, body, expected) in doors {
        for (token, expected) in callers.iter().zip(expected) {
            let answer = plane.call(method, path, Some(token), body.clone()).await;
            assert_eq!(answer.status, expected, "{method} {path}: {}", answer.body);
        }
        for stranger in [None, Some("cgt_0000"), Some(crate::plane::CONTROL)] {
            let answer = plane.call(method, path, stranger, body.clone()).await;
            assert_eq!(answer.status, 401, "{method} {path}: {}", answer.body);
        }
    }
}

#[tokio::test]
async fn an_agents_credential_opens_no_door_of_peoples() {
    let plane = Plane::new().await;
    let agent = plane.agent("bot", None).await.agent;
    let token = plane
        .admin
        .create_agent_token(&by_id(agent.id), &CreateToken::default())
        .await
        .unwrap()
        .token;
    for (method, path) in [
        ("GET", "/api/me"),
        ("POST", "/api/me/step-up"),
        ("POST", "/api/me/tokens"),
        ("POST", "/api/me/second-factor"),
        ("GET", "/api/users/admin/tokens"),
        ("PATCH", "/api/users/admin"),
    ] {
        let answer = plane
            .call(method, path, Some(&token), Some(json!({})))
            .await;
        assert_eq!(answer.status, 401, "{method} {path}");
    }
    let answer = post(&plane, "/login", "", &format!("token={token}"), SAME).await;
    assert_eq!(answer.status, 401);
    let cookie = format!("cedargate_session={token}");
    assert_eq!(get(&plane, "/me", &cookie).await.status, 303);
}

#[tokio::test]
async fn whoever_is_no_longer_active_is_out_at_once() {
    let plane = Plane::new().await;
    let address = plane.serve().await;
    let (dan, token) = plane.person("dan", &["approver"]).await;
    let session = log_in(&plane, &token).await;
    let mut request = format!("ws://{address}/ws").into_client_request().unwrap();
    request
        .headers_mut()
        .insert("cookie", session.parse().unwrap());
    let (mut socket, _) = tokio_tungstenite::connect_async(request).await.unwrap();
    let Message::Text(opening) = socket.next().await.unwrap().unwrap() else {
        panic!("text")
    };
    assert!(opening.contains("\"authenticated\":true"), "{opening}");

    let id = "dan".parse().unwrap();
    let out = ChangeUser {
        active: Some(false),
        ..ChangeUser::default()
    };
    let changed = plane.admin.change_user(&id, &out).await.unwrap();
    assert!(!changed.user.active);
    let Message::Close(Some(frame)) = socket.next().await.unwrap().unwrap() else {
        panic!("closed")
    };
    assert_eq!(u16::from(frame.code), 1008, "{frame:?}");
    assert_eq!(get(&plane, "/me", &session).await.status, 303);
    assert_eq!(dan.me().await.unwrap_err().status().unwrap(), 401);
    assert_eq!(
        post(&plane, "/login", "", &format!("token={token}"), SAME)
            .await
            .status,
        401
    );
    let back = ChangeUser {
        active: Some(true),
        ..ChangeUser::default()
    };
    plane.admin.change_user(&id, &back).await.unwrap();
    assert_eq!(
        dan.me().await.unwrap_err().status().unwrap(),
        401,
        "with a new token only"
    );
    let kinds = kinds(&plane).await;
    for kind in [
        "user_deactivated",
        "user_activated",
        "login",
        "login_refused",
    ] {
        assert!(kinds.contains(&kind.to_owned()), "{kind}");
    }
}

#[tokio::test]
async fn the_last_who_may_manage_users_stays() {
    let plane = Plane::new().await;
    let admin = "admin".parse().unwrap();
    let change = async |change: ChangeUser| plane.admin.change_user(&admin, &change).await;
    let out = ChangeUser {
        active: Some(false),
        ..ChangeUser::default()
    };
    let less = ChangeUser {
        roles: Some(["viewer".parse().unwrap()].into()),
        ..ChangeUser::default()
    };
    for last in [&out, &less] {
        let error = change(last.clone()).await.unwrap_err();
        assert_eq!(error.status().unwrap(), 409, "{error}");
        assert!(error.to_string().contains("last active user"), "{error}");
    }
    // An admin whom policy makes none does not count.
    plane.person("ada", &["admin"]).await;
    let ada = "ada".parse().unwrap();
    plane.admin.change_user(&ada, &out).await.unwrap();
    assert_eq!(
        change(less.clone()).await.unwrap_err().status().unwrap(),
        409
    );
    let back = ChangeUser {
        active: Some(true),
        ..ChangeUser::default()
    };
    plane.admin.change_user(&ada, &back).await.unwrap();
    let UserView { user, .. } = change(less).await.unwrap();
    assert_eq!(user.roles.len(), 1);
    assert_eq!(
        change(out).await.unwrap_err().status().unwrap(),
        403,
        "no longer theirs to say"
    );
}

#[tokio::test]
async fn what_is_said_of_users_is_checked() {
    let plane = Plane::new().await;
    for (method, path, body, status) in [
        ("POST", "/api/users", json!({"id": "Admin"}), 409),
        ("POST", "/api/users", json!({"id": "\u{430}dmin"}), 400),
        ("POST", "/api/users", json!({"id": "admin\u{200b}"}), 400),
        ("POST", "/api/users", json!({"id": "a b"}), 400),
        ("POST", "/api/users", json!({"id": "x".repeat(129)}), 400),
        (
            "POST",
            "/api/users",
            json!({"id": "x", "roles": ["Admin"]}),
            400,
        ),
        ("PATCH", "/api/users/admin", json!({"name": ""}), 400),
        (
            "PATCH",
            "/api/users/admin",
            json!({"name": "x".repeat(201)}),
            400,
        ),
        ("PATCH", "/api/users/admin", json!({"id": "eve"}), 400),
        ("PATCH", "/api/users/admin", json!({"active": "no"}), 400),
        ("PATCH", "/api/users/nobody", json!({"name": "x"}), 404),
        (
            "PATCH",
            "/api/users/%F0%9F%91%BB",
            json!({"name": "x"}),
            404,
        ),
        (
            "DELETE",
            "/api/users/admin/sessions/session_0",
            json!({}),
            404,
        ),
    ] {
        let answer = plane
            .call(method, path, Some(&plane.admin_token), Some(body.clone()))
            .await;
        assert_eq!(
            answer.status, status,
            "{method} {path} {body}: {}",
            answer.body
        );
    }
    let huge = format!("Bearer cgu_{}", "a".repeat(100_000));
    let request = Request::get("/api/me").header("authorization", huge);
    let answer = plane.send(request.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.status, 401);
    let cookie = format!("cedargate_session={}", "a".repeat(100_000));
    assert_eq!(get(&plane, "/me", &cookie).await.status, 303);
}

#[tokio::test]
async fn people_see_and_end_what_is_theirs() {
    let plane = Plane::new().await;
    let (dan, token) = plane.person("dan", &["viewer"]).await;
    let (eve, _) = plane.person("eve", &["viewer"]).await;
    let id = "dan".parse().unwrap();
    let [here, there] = [log_in(&plane, &token).await, log_in(&plane, &token).await];
    let sessions = api(&plane, "GET", "/api/users/dan/sessions", &here, None)
        .await
        .json();
    let list = sessions.as_array().unwrap();
    assert_eq!(list.len(), 2);
    assert_eq!(list.iter().filter(|one| one["current"] == true).count(), 1);
    assert!(!sessions.to_string().contains("cgs_"));
    let other = list.iter().find(|one| one["current"] == false).unwrap();
    let path = format!("/api/users/dan/sessions/{}", other["id"].as_str().unwrap());
    assert_eq!(
        eve.user_sessions(&id).await.unwrap_err().status().unwrap(),
        403
    );
    assert_eq!(api(&plane, "DELETE", &path, &here, None).await.status, 204);
    assert_eq!(get(&plane, "/me", &there).await.status, 303);
    assert_eq!(get(&plane, "/me", &here).await.status, 200);

    let there = log_in(&plane, &token).await;
    dan.end_user_sessions(&id, None).await.unwrap();
    for session in [&here, &there] {
        assert_eq!(get(&plane, "/me", session).await.status, 303);
    }
    // On the page: everywhere means here as well.
    let here = log_in(&plane, &token).await;
    let page = get(&plane, "/me", &here).await;
    assert!(page.body.contains("This browser") && page.body.contains("Log out everywhere"));
    let answer = post(&plane, "/me/sessions/end", &here, "", SAME).await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("location")),
        (303, "/login")
    );
    assert_eq!(get(&plane, "/me", &here).await.status, 303);

    // A credential that is revoked takes its sessions along.
    let here = log_in(&plane, &token).await;
    let tokens = dan.user_tokens(&id).await.unwrap();
    assert!(tokens[0].last_used.is_some());
    assert_eq!(
        eve.revoke_user_token(&id, tokens[0].id)
            .await
            .unwrap_err()
            .status()
            .unwrap(),
        403
    );
    let path = format!("/me/tokens/{}/revoke", tokens[0].id);
    assert_eq!(post(&plane, &path, &here, "", SAME).await.status, 303);
    assert_eq!(get(&plane, "/me", &here).await.status, 303);
    assert_eq!(dan.me().await.unwrap_err().status().unwrap(), 401);
}

fn own(label: &str, days: u64) -> CreateToken {
    CreateToken {
        label: label.to_owned(),
        expires_in_seconds: Some(days * 24 * 60 * 60),
    }
}

#[tokio::test]
async fn people_make_tokens_for_themselves_that_end_and_open_no_more() {
    let plane = Plane::new().await;
    let (dan, _) = plane.person("dan", &["viewer"]).await;
    let made = dan.create_own_token(&own("laptop", 30)).await.unwrap();
    assert!(made.token.starts_with("cgu_"));
    assert_eq!(
        made.view.expires.unwrap().since(plane.now()),
        Duration::from_hours(30 * 24)
    );
    let laptop = plane.client(&made.token);
    assert_eq!(laptop.me().await.unwrap().user.user.id.as_str(), "dan");
    // A viewer's token is a viewer's.
    let more = laptop.agents().await.is_ok();
    let admin = "admin".parse().unwrap();
    let less = laptop.change_user(&admin, &ChangeUser::default()).await;
    let less = less.unwrap_err();
    assert_eq!((more, less.status().unwrap().as_u16()), (true, 403));
    assert!(
        kinds(&plane)
            .await
            .contains(&"credential_created".to_owned())
    );

    let id = "dan".parse().unwrap();
    let status = |result: Result<contract::agents::CreatedToken, contract::Error>| {
        result.err().unwrap().status().unwrap().as_u16()
    };
    let endless = CreateToken::default();
    assert_eq!(status(dan.create_own_token(&endless).await), 400);
    assert_eq!(status(dan.create_own_token(&own("", 91)).await), 400);
    // None prolongs the one by which its person came, neither directly nor by a session.
    assert_eq!(status(laptop.create_own_token(&own("", 31)).await), 400);
    assert!(laptop.create_own_token(&own("", 30)).await.is_ok());
    let session = log_in(&plane, &made.token).await;
    let answer = post(&plane, "/me/tokens", &session, "label=x&days=90", SAME).await;
    assert_eq!(answer.status, 400, "{}", answer.body);
    assert!(answer.body.contains("role=\"alert\""), "{}", answer.body);
    let answer = post(&plane, "/me/tokens", &session, "label=ci&days=7", SAME).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.body.matches("cgu_").count(), 1, "{}", answer.body);
    let page = get(&plane, "/me", &session).await;
    assert!(page.body.contains(">ci<") && !page.body.contains("cgu_"));
    // Not from a browser that was left open.
    plane.pass(Duration::from_mins(16));
    let answer = post(&plane, "/me/tokens", &session, "label=x&days=7", SAME).await;
    assert_eq!(answer.status, 403, "{}", answer.body);

    // There is an end to them, and revoking makes room.
    let have = dan.user_tokens(&id).await.unwrap().len();
    for _ in have..20 {
        dan.create_own_token(&own("more", 1)).await.unwrap();
    }
    assert_eq!(status(dan.create_own_token(&own("", 1)).await), 409);
    dan.revoke_user_token(&id, made.view.id).await.unwrap();
    assert_eq!(laptop.me().await.unwrap_err().status().unwrap(), 401);
    assert!(dan.create_own_token(&own("", 1)).await.is_ok());
}

#[tokio::test]
async fn who_has_a_second_factor_proves_it_before_making_a_token() {
    let plane = Plane::new().await;
    let (dan, token) = plane.person("dan", &["approver"]).await;
    plane.enrol(&token).await;
    assert!(dan.create_own_token(&own("", 1)).await.is_ok());
    plane.pass(Duration::from_mins(16));
    let late = dan.create_own_token(&own("", 1)).await.err().unwrap();
    assert_eq!(late.status().unwrap(), 403, "{late}");
    let session = log_in(&plane, &token).await;
    let answer = post(&plane, "/me/tokens", &session, "label=x&days=7", SAME).await;
    assert_eq!(answer.header("location"), "/step-up?next=%2Fme");
    // What another token of the same person proved, a new one did not.
    plane.pass(Duration::from_secs(30));
    let fresh = plane.person("eve", &["approver"]).await;
    plane.enrol(&fresh.1).await;
    let made = fresh.0.create_own_token(&own("", 1)).await.unwrap();
    let me = plane.client(&made.token).me().await.unwrap();
    assert_eq!(me.confirmed, None);
}

#[tokio::test]
async fn a_session_rests_ends_and_is_nobody_elses() {
    let plane = Plane::new().await;
    let (_, token) = plane.person("dan", &["viewer"]).await;
    let session = log_in(&plane, &token).await;
    for _ in 0..5 {
        plane.pass(Duration::from_mins(119));
        assert_eq!(get(&plane, "/me", &session).await.status, 200, "in use");
    }
    plane.pass(Duration::from_hours(2));
    assert_eq!(get(&plane, "/me", &session).await.status, 303, "at rest");
    let session = log_in(&plane, &token).await;
    for _ in 0..7 {
        plane.pass(Duration::from_mins(100));
        assert_eq!(get(&plane, "/me", &session).await.status, 200);
    }
    plane.pass(Duration::from_mins(20));
    assert_eq!(get(&plane, "/me", &session).await.status, 303, "old");

    let session = log_in(&plane, &token).await;
    let (name, value) = session.split_once('=').unwrap();
    let bearer = plane.call("GET", "/api/me", Some(value), None).await;
    assert_eq!(bearer.status, 401, "a session is no credential");
    for forged in [
        format!("{name}={value}0"),
        format!("{name}={}", value.to_uppercase()),
        format!("{name}=cgs_{}", "0".repeat(64)),
        format!("{name}={token}"),
        format!("{name}={value}; {name}=cgs_{}", "0".repeat(64)),
        format!("__Host-{name}={value}"),
    ] {
        assert_eq!(get(&plane, "/me", &forged).await.status, 303, "{forged}");
    }
    // From another site's page it is not believed, whatever is asked.
    let request = Request::get("/api/me")
        .header("host", HOST)
        .header("cookie", &session)
        .header("origin", "https://evil.example");
    assert_eq!(
        plane
            .send(request.body(Body::empty()).unwrap())
            .await
            .status,
        401
    );
    // A new login on the same browser is another session, and ends the one before.
    let form = format!("token={token}&next=%2Fapprovals");
    let again = post(&plane, "/login", &session, &form, SAME).await;
    let next = again.cookie("cedargate_session").unwrap();
    assert_ne!(next, session);
    assert_eq!(get(&plane, "/me", &session).await.status, 303);
    assert_eq!(get(&plane, "/me", &next).await.status, 200);
}

#[tokio::test]
async fn behind_tls_the_cookie_is_ours_alone() {
    let plane = Plane::with(crate::plane::START, |config| {
        config.public_url = "https://gate.example".to_owned();
    })
    .await;
    let form = format!("token={}", plane.admin_token);
    let answer = post(&plane, "/login", "", &form, SAME).await;
    let set = answer.header("set-cookie");
    assert!(set.starts_with("__Host-cedargate_session=cgs_"), "{set}");
    for word in ["; Secure", "; HttpOnly", "; SameSite=Lax", "; Path=/"] {
        assert!(set.contains(word), "{word}: {set}");
    }
    assert!(!set.contains("Domain"));
    let session = answer.cookie("__Host-cedargate_session").unwrap();
    assert_eq!(get(&plane, "/me", &session).await.status, 200);
    let plain = session.replace("__Host-", "");
    assert_eq!(get(&plane, "/me", &plain).await.status, 303);
}

#[tokio::test]
async fn who_guesses_waits_and_nobody_else_does() {
    let plane = Plane::new().await;
    let (dan, token) = plane.person("dan", &["viewer"]).await;
    let session = log_in(&plane, &token).await;
    for _ in 0..10 {
        let answer = post(&plane, "/login", "", "token=cgu_guess", SAME).await;
        assert_eq!(answer.status, 401);
    }
    let form = format!("token={token}");
    let answer = post(&plane, "/login", "", &form, SAME).await;
    assert_eq!(answer.status, 429, "{}", answer.body);
    assert!(answer.body.contains("too many tries") && answer.body.contains("name=\"token\""));
    // Those who are in stay in, and scripts go on.
    assert_eq!(get(&plane, "/me", &session).await.status, 200);
    assert!(dan.me().await.is_ok());
    plane.pass(Duration::from_secs(6));
    assert_eq!(post(&plane, "/login", "", &form, SAME).await.status, 303);
    let trail = plane.admin.audit(0, 1_000, None).await.unwrap();
    let refused: Vec<_> = trail
        .iter()
        .filter(|entry| entry.kind == "login_refused")
        .collect();
    assert_eq!(refused.len(), 10);
    assert!(
        !serde_json::to_string(&refused)
            .unwrap()
            .contains("cgu_guess")
    );
}

#[tokio::test]
async fn every_unsafe_door_is_closed_to_other_sites() {
    let plane = Plane::new().await;
    let session = log_in(&plane, &plane.admin_token).await;
    let doors = [
        ("POST", "/login"),
        ("POST", "/logout"),
        ("POST", "/step-up"),
        ("POST", "/me/second-factor"),
        ("POST", "/me/second-factor/enrol"),
        ("POST", "/me/second-factor/remove"),
        ("POST", "/me/sessions/end"),
        ("POST", "/me/sessions/session_0/end"),
        ("POST", "/me/tokens"),
        ("POST", "/me/tokens/tok_0/revoke"),
        ("POST", "/api/users"),
        ("PATCH", "/api/users/admin"),
        ("POST", "/api/users/admin/tokens"),
        ("DELETE", "/api/users/admin/tokens/tok_0"),
        ("DELETE", "/api/users/admin/sessions"),
        ("DELETE", "/api/users/admin/second-factor"),
        ("DELETE", "/api/users/admin/identities"),
        ("POST", "/api/me/step-up"),
        ("POST", "/api/me/second-factor"),
        ("POST", "/api/me/second-factor/enrol"),
        ("POST", "/api/agents"),
        ("POST", "/api/policy-sets"),
        ("POST", "/api/mcp/permission-respond"),
    ];
    for (method, path) in doors {
        for (name, value) in [
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
            ("origin", "https://evil.example"),
            ("origin", "null"),
        ] {
            let request = Request::builder()
                .method(method)
                .uri(path)
                .header("host", HOST)
                .header("cookie", &session)
                .header(name, value)
                .header(header::CONTENT_TYPE, "application/json");
            let answer = plane.send(request.body(Body::from("{}")).unwrap()).await;
            assert_eq!(
                answer.status, 403,
                "{method} {path} {name}: {value}: {}",
                answer.body
            );
        }
    }
    assert_eq!(get(&plane, "/me", &session).await.status, 200);
}
