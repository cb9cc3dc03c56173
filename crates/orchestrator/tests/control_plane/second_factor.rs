//! The second factor: enrolling, proving, losing it.

use std::time::Duration;

use contract::users::Code;
use serde_json::json;

use crate::{
    pages::{SAME, get, log_in, post},
    plane::{Plane, code_at},
};

fn code(code: impl Into<String>) -> Code {
    Code { code: code.into() }
}

/// The text between two others on a page.
fn between<'a>(page: &'a str, before: &str, after: &str) -> &'a str {
    let (_, rest) = page
        .split_once(before)
        .unwrap_or_else(|| panic!("{before}: {page}"));
    rest.split_once(after).unwrap().0
}

#[tokio::test]
async fn a_device_is_enrolled_and_proved_by_scripts() {
    let plane = Plane::new().await;
    let (dan, _) = plane.person("dan", &["approver"]).await;
    let none = dan.step_up(&code("123456")).await.unwrap_err();
    assert_eq!(none.status().unwrap(), 409, "{none}");
    let begun = dan.begin_second_factor().await.unwrap();
    assert!(
        begun.uri.starts_with("otpauth://totp/Cedargate"),
        "{}",
        begun.uri
    );
    assert!(begun.uri.contains(&begun.secret) && !begun.uri.contains(' '));
    let wrong = dan
        .enrol_second_factor(&code("000000"))
        .await
        .err()
        .unwrap();
    assert_eq!(wrong.status().unwrap(), 403, "{wrong}");
    let enrolled = dan
        .enrol_second_factor(&code(plane.code(&begun.secret)))
        .await
        .unwrap();
    assert_eq!(enrolled.recovery_codes.len(), 10);
    let me = dan.me().await.unwrap();
    assert_eq!((me.confirmed, me.recovery_codes), (Some(plane.now()), 10));
    assert!(me.user.second_factor);

    let used = dan
        .step_up(&code(plane.code(&begun.secret)))
        .await
        .unwrap_err();
    assert_eq!(used.status().unwrap(), 403, "used to enrol: {used}");
    plane.pass(Duration::from_mins(1));
    let next = plane.code(&begun.secret);
    let proved = dan
        .step_up(&code(format!(" {} {} ", &next[..3], &next[3..])))
        .await
        .unwrap();
    assert_eq!(proved.confirmed, plane.now());
    assert_eq!(
        dan.step_up(&code(next))
            .await
            .unwrap_err()
            .status()
            .unwrap(),
        403
    );
    let recovered = dan
        .step_up(&code(enrolled.recovery_codes[0].to_uppercase()))
        .await
        .unwrap();
    assert_eq!(recovered.recovery_codes, 9);
    let again = dan
        .step_up(&code(&enrolled.recovery_codes[0]))
        .await
        .unwrap_err();
    assert_eq!(again.status().unwrap(), 403);
    for odd in [
        "",
        "12345",
        "１２３４５６",
        "' OR 1=1 --",
        &"1".repeat(100_000),
    ] {
        assert_eq!(
            dan.step_up(&code(odd)).await.unwrap_err().status().unwrap(),
            400
        );
    }
    // Nobody else's code, and nobody else's factor.
    let (eve, token) = plane.person("eve", &["approver"]).await;
    plane.enrol(&token).await;
    plane.pass(Duration::from_secs(90));
    let dans = code(plane.code(&begun.secret));
    assert_eq!(eve.step_up(&dans).await.unwrap_err().status().unwrap(), 403);

    let trail = plane.admin.audit(0, 1_000, None).await.unwrap();
    for kind in [
        "second_factor_begun",
        "second_factor_enrolled",
        "step_up",
        "step_up_refused",
    ] {
        assert!(trail.iter().any(|entry| entry.kind == kind), "{kind}");
    }
    let trail = serde_json::to_string(&trail).unwrap();
    assert!(!trail.contains(&begun.secret) && !trail.contains(&enrolled.recovery_codes[1]));
}

#[tokio::test]
async fn guessing_is_slowed_down_and_the_owner_is_not_locked_out() {
    let plane = Plane::new().await;
    let (thief, token) = plane.person("dan", &["approver"]).await;
    let secret = plane.enrol(&token).await;
    plane.pass(Duration::from_mins(1));
    for _ in 0..4 {
        assert_eq!(
            thief
                .step_up(&code("000000"))
                .await
                .unwrap_err()
                .status()
                .unwrap(),
            403
        );
    }
    let body = Some(json!({"code": plane.code(&secret)}));
    let answer = plane
        .call("POST", "/api/me/step-up", Some(&token), body.clone())
        .await;
    assert_eq!(answer.status, 429, "not even a right one: {}", answer.body);
    assert_eq!(answer.json()["reason"], "too_many_tries");
    assert_eq!(answer.header("retry-after"), "5");
    // With another credential the same person goes on.
    let other = plane
        .admin
        .create_user_token(
            &"dan".parse().unwrap(),
            &contract::agents::CreateToken::default(),
        )
        .await
        .unwrap()
        .token;
    let answer = plane
        .call("POST", "/api/me/step-up", Some(&other), body)
        .await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    // A session of the stolen credential is the stolen credential.
    let session = log_in(&plane, &token).await;
    plane.pass(Duration::from_secs(1));
    let answer = post(&plane, "/step-up", &session, "code=000000&next=%2Fme", SAME).await;
    assert_eq!(answer.status, 429, "{}", answer.body);
    assert!(answer.body.contains("Too many tries"), "{}", answer.body);
}

#[tokio::test]
async fn a_browser_enrols_proves_and_gets_another_cookie() {
    let plane = Plane::new().await;
    let (_, token) = plane.person("dan", &["approver"]).await;
    let session = log_in(&plane, &token).await;
    let page = get(&plane, "/step-up?next=%2Fapprovals", &session).await;
    assert!(page.body.contains("You have not enrolled"), "{}", page.body);
    let page = post(&plane, "/me/second-factor", &session, "", SAME).await;
    assert_eq!(page.status, 200, "{}", page.body);
    assert!(
        page.body.contains("<svg") && !page.body.contains("<?xml"),
        "{}",
        page.body
    );
    let secret = between(&page.body, "<dt>Secret</dt><dd><code>", "</code>").replace(' ', "");
    let wrong = post(
        &plane,
        "/me/second-factor/enrol",
        &session,
        "code=000000",
        SAME,
    )
    .await;
    assert_eq!(wrong.status, 403);
    assert!(wrong.body.contains("role=\"alert\"") && wrong.body.contains("<svg"));
    let form = format!("code={}", plane.code(&secret));
    let done = post(&plane, "/me/second-factor/enrol", &session, &form, SAME).await;
    assert_eq!(done.status, 200, "{}", done.body);
    assert_eq!(done.body.matches("<li><code>").count(), 10);
    let renewed = done.cookie("cedargate_session").unwrap();
    assert_ne!(renewed, session);
    assert_eq!(get(&plane, "/me", &session).await.status, 303, "rotated");
    let me = get(&plane, "/me", &renewed).await;
    assert!(
        me.body.contains("10 recovery codes are left"),
        "{}",
        me.body
    );
    assert!(!me.body.contains(&secret));

    plane.pass(Duration::from_mins(20));
    let form = format!("code={}&next=%2Fapprovals", plane.code(&secret));
    let proved = post(&plane, "/step-up", &renewed, &form, SAME).await;
    assert_eq!(
        (proved.status.as_u16(), proved.header("location")),
        (303, "/approvals"),
        "{}",
        proved.body
    );
    let next = proved.cookie("cedargate_session").unwrap();
    assert_ne!(next, renewed);
    assert_eq!(get(&plane, "/me", &next).await.status, 200);
    let evil = format!("code={}&next=%2F%2Fevil.example", "000000");
    let answer = post(&plane, "/step-up", &next, &evil, SAME).await;
    assert!(!answer.body.contains("evil.example"), "{}", answer.body);
}

#[tokio::test]
async fn the_factor_itself_is_changed_by_who_has_it_or_by_an_administrator() {
    let plane = Plane::new().await;
    let (dan, token) = plane.person("dan", &["approver"]).await;
    let session = log_in(&plane, &token).await;
    // A browser left open is not enough to enrol.
    plane.pass(Duration::from_mins(16));
    let answer = post(&plane, "/me/second-factor", &session, "", SAME).await;
    assert_eq!(answer.status, 403, "{}", answer.body);
    assert!(
        answer.body.contains("log in again first"),
        "{}",
        answer.body
    );

    let secret = plane.enrol(&token).await;
    plane.pass(Duration::from_mins(16));
    let id = "dan".parse().unwrap();
    for error in [
        dan.begin_second_factor().await.err().unwrap(),
        dan.remove_second_factor(&id).await.unwrap_err(),
    ] {
        assert_eq!(error.status().unwrap(), 403, "{error}");
        assert!(error.to_string().contains("second factor"), "{error}");
    }
    let answer = post(&plane, "/me/second-factor/remove", &session, "", SAME).await;
    assert_eq!(answer.header("location"), "/step-up?next=%2Fme");
    dan.step_up(&code(plane.code(&secret))).await.unwrap();
    dan.remove_second_factor(&id).await.unwrap();
    assert!(!dan.me().await.unwrap().user.second_factor);

    let secret = plane.enrol(&token).await;
    let (eve, _) = plane.person("eve", &["security"]).await;
    assert_eq!(
        eve.remove_second_factor(&id)
            .await
            .unwrap_err()
            .status()
            .unwrap(),
        403
    );
    plane.admin.remove_second_factor(&id).await.unwrap();
    plane.pass(Duration::from_mins(1));
    let gone = dan.step_up(&code(plane.code(&secret))).await.unwrap_err();
    assert_eq!(gone.status().unwrap(), 409, "{gone}");

    // An enrolment does not wait for ever.
    let begun = dan.begin_second_factor().await.unwrap();
    plane.pass(Duration::from_mins(16));
    let seconds = u64::try_from(plane.now().as_millis() / 1_000).unwrap();
    let late = dan
        .enrol_second_factor(&code(code_at(&begun.secret, seconds)))
        .await
        .err()
        .unwrap();
    assert_eq!(late.status().unwrap(), 409, "{late}");
}
