//! What people are told, when, and that it arrives: against a real HTTP server.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use authz::{AgentId, AgentRef};
use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
    routing::any,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use contract::{
    agents::ChangeAgent,
    approvals::{Approve, Reject},
    notifications::{
        ChangeTarget, CreateTarget, Destination, EventKind, LinkAccount, MessageView, Pace, Rules,
    },
};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::plane::{Plane, refused};

/// What a receiver got.
#[derive(Clone, Debug)]
pub(crate) struct Got {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Got {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }
}

/// An HTTP server that keeps what it gets, and answers as it is told.
pub(crate) struct Receiver {
    pub(crate) url: String,
    pub(crate) got: mpsc::UnboundedReceiver<Got>,
    answers: Arc<Mutex<VecDeque<(StatusCode, HeaderMap)>>>,
}

#[derive(Clone)]
struct Kept {
    got: mpsc::UnboundedSender<Got>,
    answers: Arc<Mutex<VecDeque<(StatusCode, HeaderMap)>>>,
}

impl Receiver {
    pub(crate) async fn start() -> Self {
        let (sender, got) = mpsc::unbounded_channel();
        let answers = Arc::default();
        let kept = Kept {
            got: sender,
            answers: Arc::clone(&answers),
        };
        let keep = |State(kept): State<Kept>, uri: Uri, headers: HeaderMap, body: Bytes| async move {
            let path = uri.path().to_owned();
            // `/hang` never answers.
            let hangs = path == "/hang";
            let body = String::from_utf8(body.to_vec()).unwrap();
            kept.got
                .send(Got {
                    path,
                    headers,
                    body,
                })
                .unwrap();
            if hangs {
                std::future::pending::<()>().await;
            }
            let answer = kept.answers.lock().unwrap().pop_front();
            let (status, headers) = answer.unwrap_or((StatusCode::OK, HeaderMap::new()));
            (status, headers, "secret-of-the-server")
        };
        let router = Router::new().fallback(any(keep)).with_state(kept);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, got, answers }
    }

    pub(crate) fn answer(&self, status: u16, headers: &[(&'static str, &str)]) {
        let headers = headers
            .iter()
            .map(|(name, value)| {
                let name = axum::http::HeaderName::from_static(name);
                (name, value.parse().unwrap())
            })
            .collect();
        let status = StatusCode::from_u16(status).unwrap();
        self.answers.lock().unwrap().push_back((status, headers));
    }

    /// Everything that came so far.
    pub(crate) fn all(&mut self) -> Vec<Got> {
        std::iter::from_fn(|| self.got.try_recv().ok()).collect()
    }

    fn kinds(&mut self) -> Vec<String> {
        self.all()
            .iter()
            .map(|got| got.json()["type"].as_str().unwrap().to_owned())
            .collect()
    }
}

pub(crate) fn webhook(url: &str) -> Destination {
    Destination::Webhook {
        url: url.to_owned(),
        secret: None,
    }
}

/// Adds a target; gives back the secret that was made.
pub(crate) async fn add(
    plane: &Plane,
    name: &str,
    destination: Destination,
    rules: Rules,
    pace: Pace,
) -> Option<String> {
    let create = CreateTarget {
        name: name.parse().unwrap(),
        destination,
        rules,
        pace,
    };
    plane
        .admin
        .create_notification_target(&create)
        .await
        .unwrap()
        .secret
}

async fn add_webhook(plane: &Plane, name: &str, url: &str) -> String {
    add(plane, name, webhook(url), Rules::default(), Pace::default())
        .await
        .unwrap()
}

/// An agent, and a request of it for that many different calls.
pub(crate) async fn ask(
    plane: &Plane,
    agent: AgentId,
    calls: std::ops::Range<usize>,
) -> Vec<authz::ApprovalRequestId> {
    let mut asked = Vec::new();
    for call in calls {
        let open = refused(plane, agent, json!({ "page": call })).await;
        asked.push(plane.gateway.open_approval(&open).await.unwrap().id);
    }
    asked
}

pub(crate) async fn sent(plane: &Plane) -> usize {
    plane.orchestrator.send_notifications().await.unwrap()
}

async fn messages(plane: &Plane, status: &str) -> Vec<MessageView> {
    plane
        .admin
        .notification_messages(None, Some(status), 100)
        .await
        .unwrap()
}

pub(crate) fn signed(secret: &str, id: &str, seconds: i64, body: &str) -> String {
    let key = STANDARD
        .decode(secret.strip_prefix("whsec_").unwrap())
        .unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
    mac.update(format!("{id}.{seconds}.{body}").as_bytes());
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

#[tokio::test]
async fn a_webhook_gets_what_happens_signed_as_standard_webhooks_say() {
    let plane = Plane::new().await;
    let mut receiver = Receiver::start().await;
    let agent = plane.agent("deploy-bot", None).await.agent.id;
    ask(&plane, agent, 0..1).await;
    let secret = add_webhook(&plane, "ops", &format!("{}/hook?key=abc", receiver.url)).await;
    assert_eq!(sent(&plane).await, 0, "what happened before is not told");

    let asked = ask(&plane, agent, 1..2).await[0];
    ask(&plane, agent, 1..2).await;
    assert_eq!(sent(&plane).await, 1, "who joins is not told");
    let [got] = &receiver.all()[..] else { panic!() };
    let (id, seconds) = (got.header("webhook-id"), got.header("webhook-timestamp"));
    assert_eq!(seconds, (plane.now().as_millis() / 1_000).to_string());
    let expected = signed(&secret, id, seconds.parse().unwrap(), &got.body);
    assert_eq!(got.header("webhook-signature"), expected);
    assert_eq!(got.header("content-type"), "application/json");
    let body = got.json();
    assert_eq!(body["type"], "request.opened");
    for (pointer, expected) in [
        ("/data/request_id", asked.to_string().as_str()),
        ("/data/agent_name", "deploy-bot"),
        ("/data/command", "coolify/list-servers"),
        ("/data/status", "pending"),
        ("/data/reason", "to see what runs where"),
        (
            "/data/url",
            &format!("http://gate.example:9403/approvals/{asked}"),
        ),
    ] {
        assert_eq!(body.pointer(pointer).unwrap(), expected, "{pointer}");
    }

    plane
        .admin
        .approve(asked, &Approve::default())
        .await
        .unwrap();
    assert_eq!(sent(&plane).await, 1);
    let body = receiver.all()[0].json();
    assert_eq!(
        (
            &body["type"],
            &body["data"]["status"],
            &body["data"]["decided_by"][0]
        ),
        (
            &json!("request.decided"),
            &json!("approved"),
            &json!("admin")
        )
    );
    assert_eq!(sent(&plane).await, 0);
    assert_eq!(messages(&plane, "delivered").await.len(), 2);
}

#[tokio::test]
async fn what_fails_is_tried_again_with_the_same_id_until_it_is_given_up() {
    let plane = Plane::new().await;
    let mut receiver = Receiver::start().await;
    add_webhook(&plane, "ops", &receiver.url).await;
    let agent = plane.agent("deploy-bot", None).await.agent.id;
    ask(&plane, agent, 0..1).await;
    for _ in 0..3 {
        receiver.answer(503, &[]);
    }
    receiver.answer(429, &[("retry-after", "1800")]);
    for _ in 0..5 {
        receiver.answer(301, &[("location", "/elsewhere")]);
    }
    let mut got = Vec::new();
    for attempt in 1..=9 {
        assert_eq!(sent(&plane).await, 1, "attempt {attempt}");
        got.extend(receiver.all());
        assert_eq!(sent(&plane).await, 0, "not at once");
        if attempt == 4 {
            plane.pass(Duration::from_mins(29));
            assert_eq!(sent(&plane).await, 0, "it asked for half an hour");
        }
        plane.pass(Duration::from_hours(15));
    }
    assert_eq!(got.len(), 9, "and no redirect was followed");
    let same = |of: fn(&Got) -> String| {
        got.iter()
            .map(of)
            .collect::<std::collections::BTreeSet<_>>()
            .len()
    };
    assert_eq!(same(|got| got.header("webhook-id").to_owned()), 1);
    assert_eq!(same(|got| got.body.clone()), 1);
    assert_eq!(
        same(|got| got.header("webhook-signature").to_owned()),
        9,
        "each of its time"
    );

    plane.pass(Duration::from_hours(15));
    assert_eq!(sent(&plane).await, 0);
    let [dead] = &messages(&plane, "dead").await[..] else {
        panic!()
    };
    assert_eq!(
        (dead.attempts, dead.last_error.as_deref()),
        (9, Some("it answered 301; redirects are not followed"))
    );
    let target = plane
        .admin
        .notification_target(&"ops".parse().unwrap())
        .await
        .unwrap();
    assert_eq!(target.failures, 9);
    assert!(target.open_until.is_some());

    plane.admin.redeliver_notification(dead.id).await.unwrap();
    assert_eq!(sent(&plane).await, 1);
    let again = receiver.all().remove(0);
    assert_eq!(
        (again.header("webhook-id"), &again.body),
        (got[0].header("webhook-id"), &got[0].body)
    );
    let target = plane
        .admin
        .notification_target(&"ops".parse().unwrap())
        .await
        .unwrap();
    assert_eq!(
        (target.failures, target.open_until, target.last_error),
        (0, None, None)
    );
}

#[tokio::test]
async fn a_target_that_says_it_is_gone_is_disabled() {
    let plane = Plane::new().await;
    let receiver = Receiver::start().await;
    add_webhook(&plane, "ops", &receiver.url).await;
    let agent = plane.agent("deploy-bot", None).await.agent.id;
    receiver.answer(410, &[]);
    ask(&plane, agent, 0..2).await;
    assert_eq!(sent(&plane).await, 1);
    let name = "ops".parse().unwrap();
    assert!(
        !plane
            .admin
            .notification_target(&name)
            .await
            .unwrap()
            .enabled
    );
    let enable = ChangeTarget {
        enabled: Some(true),
        ..ChangeTarget::default()
    };
    plane
        .admin
        .change_notification_target(&name, &enable)
        .await
        .unwrap();
    assert_eq!(sent(&plane).await, 1, "what waited is sent after all");
}

#[tokio::test]
async fn a_target_that_hangs_or_fails_delays_no_other() {
    let plane = Plane::new().await;
    let (mut hanging, mut well) = (Receiver::start().await, Receiver::start().await);
    add_webhook(&plane, "hanging", &format!("{}/hang", hanging.url)).await;
    add_webhook(&plane, "well", &well.url).await;
    let agent = plane.agent("deploy-bot", None).await.agent.id;
    let shutdown = CancellationToken::new();
    let running = {
        let (orchestrator, shutdown) = (plane.orchestrator.clone(), shutdown.clone());
        tokio::spawn(async move { orchestrator.run(shutdown).await })
    };
    ask(&plane, agent, 0..3).await;
    let begun = tokio::time::Instant::now();
    for _ in 0..3 {
        well.got.recv().await.unwrap();
    }
    assert!(
        begun.elapsed() < Duration::from_secs(9),
        "before the other's time is out"
    );
    hanging.got.recv().await.unwrap();
    assert!(hanging.all().is_empty(), "it is tried one at a time");
    shutdown.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn one_of_several_processes_sends_and_another_takes_over() {
    let plane = Plane::new().await;
    let mut receiver = Receiver::start().await;
    add_webhook(&plane, "ops", &receiver.url).await;
    let agent = plane.agent("deploy-bot", None).await.agent.id;
    let other = plane.another().await;
    ask(&plane, agent, 0..1).await;
    let (one, two) = tokio::join!(
        plane.orchestrator.send_notifications(),
        other.send_notifications()
    );
    assert_eq!((one.unwrap() + two.unwrap(), receiver.all().len()), (1, 1));
    plane.pass(Duration::from_mins(1));
    ask(&plane, agent, 1..2).await;
    assert_eq!(
        other.send_notifications().await.unwrap(),
        1,
        "the first has not said that it is there"
    );
    assert_eq!(sent(&plane).await, 0);
    assert_eq!(receiver.all().len(), 1);

    // What was put in the outbox before a process ended is sent by the next one.
    receiver.answer(500, &[]);
    ask(&plane, agent, 2..3).await;
    assert_eq!(other.send_notifications().await.unwrap(), 1);
    drop(other);
    plane.pass(Duration::from_mins(1));
    assert_eq!(sent(&plane).await, 1);
    let ids: Vec<String> = receiver
        .all()
        .iter()
        .map(|got| got.header("webhook-id").to_owned())
        .collect();
    assert!(ids.len() == 2 && ids[0] == ids[1], "{ids:?}");
}

#[tokio::test]
async fn people_are_told_once_of_what_belongs_together_and_not_of_what_has_passed() {
    let plane = Plane::new().await;
    let mut receiver = Receiver::start().await;
    let slack = Destination::Slack {
        url: receiver.url.clone(),
        signing_secret: None,
    };
    add(&plane, "chat", slack, Rules::default(), Pace::default()).await;
    let agent = plane.agent("deploy-bot", None).await.agent.id;
    let other = plane.agent("other-bot", None).await.agent.id;
    ask(&plane, agent, 0..3).await;
    ask(&plane, other, 0..1).await;
    assert_eq!(sent(&plane).await, 0, "more may follow");
    plane.pass(Duration::from_secs(20));
    assert_eq!(sent(&plane).await, 2);
    let mut texts: Vec<String> = receiver
        .all()
        .iter()
        .map(|got| got.json()["text"].as_str().unwrap().to_owned())
        .collect();
    texts.sort();
    assert_eq!(
        texts,
        [
            "deploy-bot asks for 3 things",
            "other-bot asks for coolify/list-servers (read)"
        ]
    );

    let third = plane.agent("third-bot", None).await.agent.id;
    let asked = ask(&plane, third, 0..2).await;
    plane
        .admin
        .reject(asked[0], &Reject::default())
        .await
        .unwrap();
    assert_eq!(sent(&plane).await, 0);
    plane.pass(Duration::from_secs(20));
    assert_eq!(sent(&plane).await, 2);
    let mut texts: Vec<String> = receiver
        .all()
        .iter()
        .map(|got| got.json()["text"].as_str().unwrap().to_owned())
        .collect();
    texts.sort();
    assert_eq!(
        texts,
        [
            "rejected by admin: coolify/list-servers (read) of third-bot",
            "third-bot asks for coolify/list-servers (read)"
        ]
    );

    let fourth = plane.agent("fourth-bot", None).await.agent.id;
    let asked = ask(&plane, fourth, 0..1).await;
    plane
        .admin
        .approve(asked[0], &Approve::default())
        .await
        .unwrap();
    assert_eq!(sent(&plane).await, 0);
    plane.pass(Duration::from_secs(20));
    sent(&plane).await;
    assert_eq!(receiver.all().len(), 1, "only how it ended");
    assert_eq!(messages(&plane, "dropped").await.len(), 1);
}

#[tokio::test]
async fn a_digest_is_one_message_and_what_is_about_to_expire_does_not_wait_for_it() {
    let plane = Plane::new().await;
    let mut receiver = Receiver::start().await;
    let pace = Pace {
        digest_minutes: Some(60),
        ..Pace::default()
    };
    add(
        &plane,
        "daily",
        webhook(&receiver.url),
        Rules::default(),
        pace,
    )
    .await;
    let agent = plane.agent("deploy-bot", None).await.agent.id;
    let other = plane.agent("other-bot", None).await.agent.id;
    ask(&plane, agent, 0..2).await;
    assert_eq!(sent(&plane).await, 0);
    plane.pass(Duration::from_mins(1));
    ask(&plane, other, 0..1).await;
    assert_eq!(sent(&plane).await, 0);
    plane.pass(Duration::from_hours(1));
    assert_eq!(sent(&plane).await, 1);
    let body = receiver.all()[0].json();
    assert_eq!(
        (
            &body["type"],
            body["data"]["events"].as_array().unwrap().len()
        ),
        (&json!("digest"), 3)
    );

    plane.pass(Duration::from_hours(21));
    assert_eq!(sent(&plane).await, 0);
    plane.pass(Duration::from_hours(1));
    assert_eq!(sent(&plane).await, 3, "an hour is left");
    assert_eq!(receiver.kinds(), ["request.expiring"; 3]);
    assert_eq!(sent(&plane).await, 0, "once");
    plane.pass(Duration::from_hours(3));
    ask(&plane, agent, 7..8).await;
    sent(&plane).await;
    plane.pass(Duration::from_hours(1));
    sent(&plane).await;
    let kinds: Vec<Value> = receiver
        .all()
        .iter()
        .flat_map(|got| got.json()["data"]["events"].as_array().unwrap().clone())
        .map(|event| event["type"].clone())
        .collect();
    assert!(
        kinds.contains(&json!("request.expired")) && kinds.contains(&json!("request.opened")),
        "{kinds:?}"
    );
}

#[tokio::test]
async fn agents_and_policies_are_told_of_when_they_change_for_real() {
    let plane = Plane::new().await;
    let mut receiver = Receiver::start().await;
    let rules = Rules {
        events: [
            EventKind::AgentSuspended,
            EventKind::AgentResumed,
            EventKind::PolicyActivated,
            EventKind::PolicyBroken,
        ]
        .into(),
        ..Rules::default()
    };
    add(
        &plane,
        "ops",
        webhook(&receiver.url),
        rules,
        Pace::default(),
    )
    .await;
    let agent = AgentRef::Id(plane.agent("deploy-bot", None).await.agent.id);
    sent(&plane).await;
    assert_eq!(receiver.kinds(), [""; 0]);
    for (suspended, trust, expected) in [
        (Some(true), None, &["agent.suspended"][..]),
        (None, Some(7), &[]),
        (Some(true), None, &[]),
        (Some(false), None, &["agent.resumed"]),
        (None, Some(8), &[]),
    ] {
        let change = ChangeAgent {
            suspended,
            trust,
            ..ChangeAgent::default()
        };
        plane.admin.change_agent(&agent, &change).await.unwrap();
        sent(&plane).await;
        assert_eq!(receiver.kinds(), expected, "{suspended:?} {trust:?}");
    }

    let file = plane.folder.path().join("policies/extra.cedar");
    std::fs::write(&file, "permit (principal, nonsense").unwrap();
    plane.orchestrator.reread_policies().await.unwrap();
    sent(&plane).await;
    let got = receiver.all();
    assert_eq!(got[0].json()["type"], "policy.broken");
    assert!(
        got[0].json()["data"]["note"]
            .as_str()
            .unwrap()
            .contains("extra.cedar")
    );
    plane.orchestrator.reread_policies().await.unwrap();
    sent(&plane).await;
    assert_eq!(receiver.kinds(), [""; 0], "once");
    std::fs::write(&file, "@id(\"extra.note\")\nforbid (principal, action in Action::\"invoke\", resource) when { principal.trust > 200 };\n").unwrap();
    plane.orchestrator.reread_policies().await.unwrap();
    sent(&plane).await;
    assert_eq!(receiver.kinds(), ["policy.activated"]);
    std::fs::write(&file, "permit (principal, nonsense").unwrap();
    plane.orchestrator.reread_policies().await.unwrap();
    sent(&plane).await;
    assert_eq!(
        receiver.kinds(),
        ["policy.broken"],
        "again, after it was good"
    );
}

#[tokio::test]
async fn secrets_go_in_and_never_come_out() {
    let plane = Plane::new().await;
    let mut receiver = Receiver::start().await;
    let secret = add_webhook(
        &plane,
        "ops",
        &format!("{}/path-secret?key=query-secret", receiver.url),
    )
    .await;
    let slack = Destination::Slack {
        url: format!("{}/slack-path-secret", receiver.url),
        signing_secret: Some("signing-secret-0123456789".to_owned()),
    };
    add(&plane, "chat", slack, Rules::default(), Pace::default()).await;
    receiver.answer(500, &[]);
    let tested = plane
        .admin
        .test_notification_target(&"ops".parse().unwrap())
        .await
        .unwrap();
    assert_eq!(
        (tested.delivered, tested.error.as_deref()),
        (false, Some("it answered 500"))
    );
    assert_eq!(receiver.kinds(), ["test"]);
    assert!(
        plane
            .admin
            .test_notification_target(&"ops".parse().unwrap())
            .await
            .unwrap()
            .delivered
    );
    assert!(
        plane
            .admin
            .test_notification_target(&"chat".parse().unwrap())
            .await
            .unwrap()
            .delivered
    );
    let [webhook, slack] = &receiver.all()[..] else {
        panic!()
    };
    assert_eq!(
        (webhook.path.as_str(), slack.path.as_str()),
        ("/path-secret", "/slack-path-secret")
    );

    let agent = plane.agent("deploy-bot", None).await.agent.id;
    ask(&plane, agent, 0..1).await;
    receiver.answer(500, &[]);
    sent(&plane).await;
    let mut said = String::new();
    for path in [
        "/api/notifications/targets",
        "/api/notifications/targets/ops",
        "/api/notifications/targets/chat",
        "/api/notifications/messages",
        "/api/audit",
    ] {
        let answer = plane
            .call("GET", path, Some(&plane.admin_token), None)
            .await;
        assert_eq!(answer.status, 200, "{path}");
        said.push_str(&answer.body);
    }
    let stored = std::fs::read(plane.folder.path().join("plane.db")).unwrap();
    let log = std::fs::read(plane.folder.path().join("plane.db-wal")).unwrap();
    said.push_str(&String::from_utf8_lossy(&[stored, log].concat()));
    assert!(said.contains(&receiver.url), "where it goes is shown");
    for hidden in [
        secret.as_str(),
        "path-secret",
        "query-secret",
        "signing-secret",
        "secret-of-the-server",
    ] {
        assert!(!said.contains(hidden), "{hidden}");
    }
}

#[tokio::test]
async fn only_who_manages_people_sets_it_up_and_only_what_makes_sense() {
    let plane = Plane::new().await;
    let (_, viewer) = plane.person("vera", &["viewer"]).await;
    let (_, security) = plane.person("sam", &["security"]).await;
    let target =
        json!({"name": "ops", "destination": {"kind": "webhook", "url": "http://127.0.0.1:9/"}});
    for token in [&viewer, &security] {
        for (method, path, body) in [
            ("POST", "/api/notifications/targets", Some(target.clone())),
            (
                "PATCH",
                "/api/notifications/targets/ops",
                Some(json!({"enabled": false})),
            ),
            ("DELETE", "/api/notifications/targets/ops", None),
            ("POST", "/api/notifications/targets/ops/test", None),
            (
                "POST",
                "/api/notifications/targets/ops/accounts",
                Some(json!({"account": "U1", "user": "sam"})),
            ),
            (
                "DELETE",
                "/api/notifications/targets/ops/accounts?account=U1",
                None,
            ),
            (
                "POST",
                &format!("/api/notifications/messages/msg_{:032x}/redeliver", 1),
                None,
            ),
        ] {
            assert_eq!(
                plane
                    .call(method, path, Some(token), body.clone())
                    .await
                    .status,
                403,
                "{method} {path}"
            );
            assert_eq!(
                plane.call(method, path, None, body).await.status,
                401,
                "{method} {path}"
            );
        }
        assert_eq!(
            plane
                .call("GET", "/api/notifications/targets", Some(token), None)
                .await
                .status,
            200
        );
    }
    let with = |destination: Value| json!({"name": "ops", "destination": destination});
    for (body, expected) in [
        (
            with(json!({"kind": "webhook", "url": "http://hooks.example/"})),
            "https",
        ),
        (
            with(json!({"kind": "webhook", "url": "https://169.254.169.254/latest"})),
            "not public",
        ),
        (
            with(json!({"kind": "webhook", "url": "https://[::ffff:10.0.0.1]/"})),
            "not public",
        ),
        (
            with(json!({"kind": "webhook", "url": "https://u:pw-hush@hooks.example/"})),
            "user or password",
        ),
        (
            with(json!({"kind": "webhook", "url": "http://127.0.0.1:9/", "secret": "whsec_hush"})),
            "whsec_",
        ),
        (
            with(json!({"kind": "slack", "url": "http://127.0.0.1:9/", "signing_secret": "hush"})),
            "signing secret",
        ),
        (with(json!({"kind": "pigeon"})), "pigeon"),
        (with(json!({"kind": "email", "to": []})), "mailboxes"),
        (
            with(json!({"kind": "email", "to": ["a@b.example\r\nBcc: c@d.example"]})),
            "mailbox",
        ),
        (
            json!({"name": "Ops Team", "destination": {"kind": "email", "to": ["a@b.example"]}}),
            "target's name",
        ),
        (
            json!({"name": "ops", "destination": {"kind": "webhook", "url": "http://127.0.0.1:9/"}, "pace": {"quiet": {"from": "22:00", "to": "07:00", "zone": "Mars/Base"}}}),
            "Mars/Base",
        ),
        (
            json!({"name": "ops", "destination": {"kind": "webhook", "url": "http://127.0.0.1:9/"}, "rules": {"events": ["digest"]}}),
            "digest",
        ),
        (
            json!({"name": "ops", "destination": {"kind": "webhook", "url": "http://127.0.0.1:9/"}, "colour": "red"}),
            "colour",
        ),
    ] {
        let answer = plane
            .call(
                "POST",
                "/api/notifications/targets",
                Some(&plane.admin_token),
                Some(body.clone()),
            )
            .await;
        assert_eq!(answer.status, 400, "{body}: {}", answer.body);
        assert!(
            answer.detail().contains(expected),
            "{body}: {}",
            answer.detail()
        );
        assert!(!answer.body.contains("hush"), "{}", answer.body);
    }
    let answer = plane
        .call(
            "POST",
            "/api/notifications/targets",
            Some(&plane.admin_token),
            Some(with(json!({"kind": "email", "to": ["a@b.example"]}))),
        )
        .await;
    assert_eq!(
        (
            answer.status.as_u16(),
            answer.detail().contains("CEDARGATE_SMTP_URL")
        ),
        (409, true)
    );
    assert_eq!(
        plane
            .call(
                "POST",
                "/api/notifications/targets",
                Some(&plane.admin_token),
                Some(target.clone())
            )
            .await
            .status,
        201
    );
    assert_eq!(
        plane
            .call(
                "POST",
                "/api/notifications/targets",
                Some(&plane.admin_token),
                Some(target)
            )
            .await
            .status,
        409
    );
    let other = json!({"destination": {"kind": "email", "to": ["a@b.example"]}});
    assert_eq!(
        plane
            .call(
                "PATCH",
                "/api/notifications/targets/ops",
                Some(&plane.admin_token),
                Some(other)
            )
            .await
            .status,
        400,
        "a kind stays"
    );
    plane
        .admin
        .remove_notification_target(&"ops".parse().unwrap())
        .await
        .unwrap();
    assert_eq!(
        plane
            .call(
                "GET",
                "/api/notifications/targets/ops",
                Some(&plane.admin_token),
                None
            )
            .await
            .status,
        404
    );
}

#[tokio::test]
async fn a_program_brings_a_linked_persons_verdict_signed_and_once() {
    let plane = Plane::new().await;
    let receiver = Receiver::start().await;
    let secret = add_webhook(&plane, "ops", &receiver.url).await;
    let name = "ops".parse().unwrap();
    plane.person("amy", &["approver"]).await;
    plane.person("vera", &["viewer"]).await;
    for (account, user) in [
        ("ext-amy", "amy"),
        ("ext-vera", "vera"),
        ("ext-admin", "admin"),
    ] {
        let link = LinkAccount {
            account: account.to_owned(),
            user: user.parse().unwrap(),
        };
        plane
            .admin
            .link_notification_account(&name, &link)
            .await
            .unwrap();
    }
    let agent = plane.agent("deploy-bot", None).await.agent.id;
    let asked = ask(&plane, agent, 0..2).await;
    let now = plane.now().as_millis() / 1_000;
    let call = |id: &'static str,
                seconds: i64,
                secret: String,
                body: Value,
                signed_body: Option<String>| {
        let plane = &plane;
        async move {
            let body = body.to_string();
            let signature = signed(
                &secret,
                id,
                seconds,
                signed_body.as_deref().unwrap_or(&body),
            );
            let request = axum::http::Request::post("/api/notifications/targets/ops/verdict")
                .header("webhook-id", id)
                .header("webhook-timestamp", seconds.to_string())
                .header("webhook-signature", signature)
                .body(axum::body::Body::from(body))
                .unwrap();
            plane.send(request).await
        }
    };
    let verdict = |account: &str, approved: bool| json!({"request_id": asked[0], "account": account, "approved": approved, "reason": "from the pager"});
    let other = format!("whsec_{}", STANDARD.encode([7; 32]));
    for (what, answer) in [
        (
            "another key",
            call("m1", now, other, verdict("ext-admin", true), None).await,
        ),
        (
            "too old",
            call(
                "m1",
                now - 301,
                secret.clone(),
                verdict("ext-admin", true),
                None,
            )
            .await,
        ),
        (
            "changed",
            call(
                "m1",
                now,
                secret.clone(),
                verdict("ext-admin", true),
                Some("{}".to_owned()),
            )
            .await,
        ),
    ] {
        assert_eq!(answer.status, 401, "{what}: {}", answer.body);
    }
    assert_eq!(
        call("m2", now, secret.clone(), verdict("nobody", true), None)
            .await
            .status,
        403
    );
    assert_eq!(
        call("m3", now, secret.clone(), verdict("ext-vera", true), None)
            .await
            .status,
        403
    );
    assert_eq!(
        plane
            .admin
            .approval(asked[0])
            .await
            .unwrap()
            .summary
            .status
            .as_str(),
        "pending",
        "nothing was decided"
    );
    let answer = call("m4", now, secret.clone(), verdict("ext-admin", true), None).await;
    assert_eq!(
        (answer.status.as_u16(), answer.json()["status"].as_str()),
        (200, Some("approved")),
        "{}",
        answer.body
    );
    let again = call("m4", now, secret.clone(), verdict("ext-admin", true), None).await;
    assert_eq!(
        (
            again.status.as_u16(),
            again.detail().contains("taken before")
        ),
        (401, true)
    );
    let view = plane.admin.approval(asked[0]).await.unwrap();
    assert_eq!(
        (
            view.verdicts[0].user.as_str(),
            view.verdicts[0].reason.as_str()
        ),
        ("admin", "from the pager")
    );
    let trail = plane.admin.audit(0, 1_000, None).await.unwrap();
    assert!(trail.iter().any(|line| line.kind == "approved"
        && line.entry["via"] == "webhook"
        && line.entry["user"] == "admin"));

    plane
        .admin
        .unlink_notification_account(&name, "ext-admin")
        .await
        .unwrap();
    let second = json!({"request_id": asked[1], "account": "ext-admin", "approved": false});
    assert_eq!(
        call("m5", now, secret, second, None).await.status,
        403,
        "nobody any more"
    );
}
