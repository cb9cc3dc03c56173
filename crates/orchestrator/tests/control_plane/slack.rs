//! Buttons in Slack: verified, taken once, and a verdict of the person who pressed.

use std::time::Duration;

use axum::{
    body::Body,
    http::{Request, header},
};
use contract::notifications::{Destination, LinkAccount, Pace, Rules};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::{
    notifications::{Receiver, add, ask, sent},
    plane::{Answer, Plane},
};

const SECRET: &str = "8f742231b10e8888abcd99yyyzzz85a5";

fn encoded(text: &str) -> String {
    use std::fmt::Write as _;
    let mut encoded = String::new();
    for byte in text.bytes() {
        write!(encoded, "%{byte:02X}").unwrap();
    }
    encoded
}

fn signature(secret: &str, seconds: i64, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(format!("v0:{seconds}:{body}").as_bytes());
    format!("v0={}", hex::encode(mac.finalize().into_bytes()))
}

/// What Slack sends when `user` presses a button.
fn pressed(user: &str, action: &str, value: &str, response_url: &str) -> String {
    let payload = json!({
        "type": "block_actions",
        "user": {"id": user, "username": "someone", "team_id": "T1"},
        "api_app_id": "A1",
        "token": "old and not looked at",
        "trigger_id": "1.2.3",
        "channel": {"id": "C1", "name": "ops"},
        "message": {"type": "message", "blocks": []},
        "actions": [{"type": "button", "block_id": "b", "action_id": action, "value": value, "action_ts": "1.2"}],
        "response_url": response_url,
    });
    format!("payload={}", encoded(&payload.to_string()))
}

struct Chat {
    plane: Plane,
    receiver: Receiver,
    value: String,
    asked: authz::ApprovalRequestId,
}

impl Chat {
    /// A message with one request is in the channel.
    async fn new() -> Self {
        let plane = Plane::new().await;
        let mut receiver = Receiver::start().await;
        let slack = Destination::Slack {
            url: format!("{}/services/T/B/x", receiver.url),
            signing_secret: Some(SECRET.to_owned()),
        };
        let pace = Pace {
            group_seconds: Some(0),
            ..Pace::default()
        };
        add(&plane, "chat", slack, Rules::default(), pace).await;
        plane.person("vera", &["viewer"]).await;
        for (account, user) in [("UADMIN", "admin"), ("UVERA", "vera")] {
            let link = LinkAccount {
                account: account.to_owned(),
                user: user.parse().unwrap(),
            };
            plane
                .admin
                .link_notification_account(&"chat".parse().unwrap(), &link)
                .await
                .unwrap();
        }
        let agent = plane.agent("deploy-bot", None).await.agent.id;
        let asked = ask(&plane, agent, 0..1).await[0];
        assert_eq!(sent(&plane).await, 1);
        let message = receiver.all().remove(0).json();
        let value = buttons(&message)[0]["value"].as_str().unwrap().to_owned();
        Self {
            plane,
            receiver,
            value,
            asked,
        }
    }

    fn response_url(&self) -> String {
        format!("{}/actions/response", self.receiver.url)
    }

    async fn send(&self, body: &str, secret: &str, seconds: i64) -> Answer {
        let request = Request::post("/api/notifications/slack/actions")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header("x-slack-request-timestamp", seconds.to_string())
            .header("x-slack-signature", signature(secret, seconds, body))
            .body(Body::from(body.to_owned()))
            .unwrap();
        self.plane.send(request).await
    }

    fn seconds(&self) -> i64 {
        self.plane.now().as_millis() / 1_000
    }

    async fn press(&self, user: &str, action: &str) -> Answer {
        let body = pressed(user, action, &self.value, &self.response_url());
        self.send(&body, SECRET, self.seconds()).await
    }

    async fn status(&self) -> String {
        let view = self.plane.admin.approval(self.asked).await.unwrap();
        view.summary.status.as_str().to_owned()
    }

    /// What was sent to the response URL next.
    async fn answered(&mut self) -> Value {
        let got = self.receiver.got.recv().await.unwrap();
        assert_eq!(got.path, "/actions/response");
        got.json()
    }
}

fn buttons(message: &Value) -> Vec<Value> {
    let blocks = message["blocks"].as_array().unwrap();
    blocks
        .iter()
        .filter(|block| block["type"] == "actions")
        .flat_map(|block| block["elements"].as_array().unwrap().clone())
        .collect()
}

#[tokio::test]
async fn a_person_approves_by_a_button_and_the_message_says_so() {
    let mut chat = Chat::new().await;
    let answer = chat.press("UADMIN", "approve").await;
    assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, "{}"));
    assert_eq!(chat.status().await, "approved");
    let view = chat.plane.admin.approval(chat.asked).await.unwrap();
    let verdict = &view.verdicts[0];
    assert_eq!(
        (verdict.user.as_str(), verdict.duration_seconds),
        ("admin", Some(3_600))
    );
    assert_eq!(
        verdict.reach,
        Some(authz::approval::Reach::Call),
        "no more than was asked"
    );
    let trail = chat.plane.admin.audit(0, 1_000, None).await.unwrap();
    let line = trail.iter().find(|line| line.kind == "approved").unwrap();
    assert_eq!(line.entry["via"], "webhook");

    let update = chat.answered().await;
    assert_eq!(update["replace_original"], true);
    assert!(buttons(&update).is_empty(), "nothing is left to press");
    assert!(
        update.to_string().contains("*approved* by admin"),
        "{update}"
    );

    chat.plane.pass(Duration::from_secs(1));
    let late = chat.press("UADMIN", "reject").await;
    assert_eq!(late.status, 200);
    assert!(
        late.json()["text"]
            .as_str()
            .unwrap()
            .contains("approved already"),
        "{}",
        late.body
    );
    let told = chat.answered().await;
    assert_eq!(
        (&told["response_type"], &told["replace_original"]),
        (&json!("ephemeral"), &json!(false))
    );
    assert_eq!(chat.status().await, "approved");
}

#[tokio::test]
async fn a_person_rejects_by_a_button() {
    let mut chat = Chat::new().await;
    assert_eq!(chat.press("UADMIN", "reject").await.status, 200);
    assert_eq!(chat.status().await, "rejected");
    assert!(
        chat.answered()
            .await
            .to_string()
            .contains("*rejected* by admin")
    );
}

/// What Slack could not take is sent again; the verdict stands in any case.
#[tokio::test]
async fn a_message_is_brought_up_to_date_at_the_second_try() {
    let mut chat = Chat::new().await;
    chat.receiver.answer(503, &[]);
    assert_eq!(chat.press("UADMIN", "reject").await.status, 200);
    assert_eq!(chat.status().await, "rejected");
    let first = chat.answered().await;
    assert_eq!(chat.answered().await, first);
    chat.plane.pass(Duration::from_secs(1));
    chat.press("UADMIN", "reject").await;
    assert_ne!(chat.answered().await, first, "nothing is sent a third time");
}

#[tokio::test]
async fn whoever_is_nobody_here_or_may_not_decides_nothing() {
    let mut chat = Chat::new().await;
    for (user, expected) in [
        ("USTRANGER", "linked to nobody"),
        ("UVERA", "may not"),
        ("uadmin", "linked to nobody"),
    ] {
        let answer = chat.press(user, "approve").await;
        let text = answer.json()["text"].as_str().unwrap().to_owned();
        assert_eq!(
            (
                answer.status.as_u16(),
                answer.json()["response_type"].as_str()
            ),
            (200, Some("ephemeral"))
        );
        assert!(text.contains(expected) || user == "UVERA", "{user}: {text}");
        assert_eq!(chat.answered().await, answer.json(), "told where they look");
        assert_eq!(chat.status().await, "pending", "{user}");
    }
}

#[tokio::test]
async fn what_is_forged_late_or_repeated_is_refused() {
    let chat = Chat::new().await;
    let body = pressed("UADMIN", "approve", &chat.value, &chat.response_url());
    let now = chat.seconds();
    for (what, answer) in [
        (
            "another secret",
            chat.send(&body, "another secret of the same app", now)
                .await,
        ),
        ("no secret", chat.send(&body, "", now).await),
        ("late", chat.send(&body, SECRET, now - 301).await),
        ("from the future", chat.send(&body, SECRET, now + 301).await),
    ] {
        assert_eq!(answer.status, 401, "{what}: {}", answer.body);
    }
    let signature = signature(SECRET, now, &body);
    for (what, headers, body) in [
        (
            "changed",
            vec![
                ("x-slack-request-timestamp", now.to_string()),
                ("x-slack-signature", signature.clone()),
            ],
            body.replace("UADMIN", "UVERA").replace("%55", "%56"),
        ),
        (
            "of another time",
            vec![
                ("x-slack-request-timestamp", (now + 1).to_string()),
                ("x-slack-signature", signature.clone()),
            ],
            body.clone(),
        ),
        (
            "without time",
            vec![("x-slack-signature", signature.clone())],
            body.clone(),
        ),
        (
            "without signature",
            vec![("x-slack-request-timestamp", now.to_string())],
            body.clone(),
        ),
        (
            "with two",
            vec![
                ("x-slack-request-timestamp", now.to_string()),
                ("x-slack-signature", signature.clone()),
                ("x-slack-signature", signature.clone()),
            ],
            body.clone(),
        ),
        (
            "with an odd time",
            vec![
                ("x-slack-request-timestamp", format!("+{now}")),
                ("x-slack-signature", signature.clone()),
            ],
            body.clone(),
        ),
        (
            "cut",
            vec![
                ("x-slack-request-timestamp", now.to_string()),
                ("x-slack-signature", signature[..40].to_owned()),
            ],
            body.clone(),
        ),
    ] {
        let mut request = Request::post("/api/notifications/slack/actions");
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let answer = chat
            .plane
            .send(request.body(Body::from(body)).unwrap())
            .await;
        assert_eq!(answer.status, 401, "{what}: {}", answer.body);
    }
    assert_eq!(chat.status().await, "pending");

    assert_eq!(chat.send(&body, SECRET, now).await.status, 200);
    chat.plane.pass(Duration::from_secs(200));
    let again = chat.send(&body, SECRET, now).await;
    assert_eq!(
        (
            again.status.as_u16(),
            again.detail().contains("taken before")
        ),
        (401, true)
    );
    chat.plane.pass(Duration::from_secs(200));
    let later = chat.send(&body, SECRET, now).await;
    assert_eq!(
        (
            later.status.as_u16(),
            later.detail().contains("five minutes")
        ),
        (401, true)
    );
}

#[tokio::test]
async fn odd_payloads_and_foreign_answer_addresses_lead_nowhere() {
    let mut chat = Chat::new().await;
    let mut seconds = chat.seconds();
    let other = format!("{} apr_{:032x}", chat.value.split(' ').next().unwrap(), 9);
    for (body, expected) in [
        ("payload=".to_owned(), 400),
        ("nothing".to_owned(), 400),
        (format!("payload={}", encoded("{}")), 400),
        (format!("payload={}", encoded("[[[[")), 400),
        (pressed("UADMIN", "approve", "not ours", ""), 400),
        (pressed("UADMIN", "approve", "", ""), 400),
        (pressed("UADMIN", "open", &chat.value, ""), 200),
        (pressed("UADMIN", "approve", &other, ""), 200),
    ] {
        seconds += 1;
        let answer = chat.send(&body, SECRET, seconds).await;
        assert_eq!(answer.status, expected, "{body}: {}", answer.body);
    }
    assert_eq!(chat.status().await, "pending");

    // Another server, on an address that is allowed: but Slack's answers do not go there.
    let mut foreign = Receiver::start().await;
    for url in [
        format!("{}/steal", foreign.url),
        "http://169.254.169.254/latest".to_owned(),
        "https://hooks.slack.com.evil.example/x".to_owned(),
    ] {
        seconds += 1;
        let body = pressed("USTRANGER", "approve", &chat.value, &url);
        assert_eq!(chat.send(&body, SECRET, seconds).await.status, 200);
    }
    assert_eq!(chat.press("USTRANGER", "approve").await.status, 200);
    chat.answered().await;
    assert!(
        foreign.all().is_empty(),
        "what was begun before it has come to nothing"
    );
}

#[tokio::test]
async fn a_removed_or_disabled_target_vouches_for_nobody() {
    let chat = Chat::new().await;
    let name = "chat".parse().unwrap();
    let disable = contract::notifications::ChangeTarget {
        enabled: Some(false),
        ..Default::default()
    };
    chat.plane
        .admin
        .change_notification_target(&name, &disable)
        .await
        .unwrap();
    assert_eq!(chat.press("UADMIN", "approve").await.status, 401);
    chat.plane
        .admin
        .remove_notification_target(&name)
        .await
        .unwrap();
    chat.plane.pass(Duration::from_secs(1));
    assert_eq!(chat.press("UADMIN", "approve").await.status, 401);
    assert_eq!(chat.status().await, "pending");
}
