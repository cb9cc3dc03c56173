//! One attempt to send one message.

use std::time::Duration;

use authz::{MessageId, Timestamp};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use contract::{
    approvals::ApprovalStatus,
    notifications::{Data, DigestData, Event, EventKind, TargetSettings},
};
use rand::RngExt;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::{
    Actor, StoreError,
    notifications::{
        StoredTarget,
        outbox::{Attempt, StoredMessage},
    },
};

use super::{
    email::Letter,
    seal::Secrets,
    signature::{sign, webhook_key},
    slack, snapshot,
    web::Failure,
};
use crate::Orchestrator;

/// How long after each failed attempt the next one is: nine attempts in about a day.
const RETRIES: [Duration; 8] = [
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_mins(2),
    Duration::from_mins(10),
    Duration::from_hours(1),
    Duration::from_hours(3),
    Duration::from_hours(6),
    Duration::from_hours(12),
];

/// After so many failures in a row a target is left alone for a while.
const OPENS_AFTER: u32 = 5;

/// For so long at first, then twice as long each time.
const OPEN_FOR: Duration = Duration::from_secs(30);
const OPEN_FOR_AT_MOST: Duration = Duration::from_mins(15);

/// What is sent, whatever way: settled at the first attempt.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "as")]
pub(super) enum Body {
    /// As JSON, to an address.
    Json { body: String },
    /// As an e-mail.
    Letter { letter: Letter },
}

/// Sends a message and keeps how it went.
pub(super) async fn deliver(
    orchestrator: &Orchestrator,
    target: &StoredTarget,
    message: StoredMessage,
) -> Result<(), StoreError> {
    let store = orchestrator.store();
    let text = match message.body {
        Some(text) => text,
        None => match body(orchestrator, target, &message).await? {
            None => {
                return store
                    .drop_notification(message.id, &actor(orchestrator))
                    .await;
            }
            Some(text) => {
                let settled = store
                    .settle_notification(message.id, &text, &actor(orchestrator))
                    .await;
                match settled {
                    Ok(text) => text,
                    // Removed, or sent by another process that took over.
                    Err(StoreError::NotFound(_) | StoreError::Conflict(_)) => return Ok(()),
                    Err(error) => return Err(error),
                }
            }
        },
    };
    let sent = send(orchestrator, target, message.id, &text).await;
    let attempt = match &sent {
        Ok(()) => Attempt::Delivered,
        Err(failure) => after(
            failure,
            message.attempts,
            target.failures,
            orchestrator.now(),
        ),
    };
    match &attempt {
        Attempt::Delivered => {
            tracing::info!(target = %target.name, message = %message.id, "notification_delivered");
        }
        Attempt::Failed {
            error, retry_at, ..
        } => {
            tracing::warn!(
                target = %target.name,
                message = %message.id,
                attempt = message.attempts.saturating_add(1),
                retry_at = retry_at.map(|at| at.to_string()),
                error,
                "notification_failed"
            );
        }
    }
    store
        .notification_tried(message.id, &target.name, &attempt, &actor(orchestrator))
        .await
}

/// What a failed attempt leads to. `attempts` and `failures` are those before it.
fn after(failure: &Failure, attempts: u32, failures: u32, now: Timestamp) -> Attempt {
    let next = usize::try_from(attempts)
        .ok()
        .and_then(|attempts| RETRIES.get(attempts));
    let retry_at = next.filter(|_| !failure.gone).map(|&wait| {
        let wait = jittered(wait).max(failure.retry_after.unwrap_or_default());
        now.plus(wait)
    });
    let in_a_row = failures.saturating_add(1);
    let open_until = in_a_row.checked_sub(OPENS_AFTER).map(|beyond| {
        let open = OPEN_FOR.saturating_mul(1 << beyond.min(10));
        now.plus(jittered(open.min(OPEN_FOR_AT_MOST)))
    });
    Attempt::Failed {
        error: failure.error.clone(),
        retry_at,
        open_until,
        disable: failure.gone,
    }
}

/// A fifth more or less, so that what failed together is not tried together.
fn jittered(wait: Duration) -> Duration {
    wait.mul_f64(rand::rng().random_range(0.8..1.2))
}

/// What to send, or nothing when what it was to say has passed.
async fn body(
    orchestrator: &Orchestrator,
    target: &StoredTarget,
    message: &StoredMessage,
) -> Result<Option<String>, StoreError> {
    let mut events = snapshot::events(&message.items);
    if target.kind != "webhook" {
        // A program wants all that happened; people, what there is to do or to know.
        events = current(orchestrator, events).await?;
    }
    if events.is_empty() {
        return Ok(None);
    }
    let body = compose(orchestrator, target, message.id, events);
    serde_json::to_string(&body)
        .map(Some)
        .map_err(|error| StoreError::Corrupt {
            what: "notification",
            why: error.to_string(),
        })
}

/// Without requests that wait no longer, and each as it stands.
async fn current(
    orchestrator: &Orchestrator,
    events: Vec<Event>,
) -> Result<Vec<Event>, StoreError> {
    let mut left = Vec::with_capacity(events.len());
    for event in events {
        let Data::Request(request) = &event.data else {
            left.push(event);
            continue;
        };
        let Some(fresh) = as_it_stands(orchestrator, &event).await? else {
            continue;
        };
        let asks = matches!(
            event.kind,
            EventKind::RequestOpened | EventKind::RequestExpiring
        );
        let waits =
            matches!(&fresh.data, Data::Request(now) if now.status == ApprovalStatus::Pending);
        if asks && !waits {
            tracing::debug!(request_id = %request.request_id, "decided before anybody was told");
            continue;
        }
        left.push(if asks { fresh } else { event });
    }
    Ok(left)
}

/// The same event with its request as it stands now; nothing if it is gone.
pub(super) async fn as_it_stands(
    orchestrator: &Orchestrator,
    event: &Event,
) -> Result<Option<Event>, StoreError> {
    let Data::Request(request) = &event.data else {
        return Ok(Some(event.clone()));
    };
    match orchestrator
        .store()
        .approval(request.request_id, orchestrator.now())
        .await
    {
        Ok(stored) => Ok(Some(snapshot::request(
            event.kind,
            event.timestamp,
            &stored,
            &orchestrator.inner.config.public_url,
        ))),
        Err(StoreError::NotFound(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The body for this kind of target.
pub(super) fn compose(
    orchestrator: &Orchestrator,
    target: &StoredTarget,
    id: MessageId,
    mut events: Vec<Event>,
) -> Body {
    match target.kind.as_str() {
        "email" => Body::Letter {
            letter: Letter::new(&events, &orchestrator.inner.config.public_url),
        },
        "slack" => Body::Json {
            body: slack::body(
                id,
                &events,
                settings(target).is_some_and(|settings| settings.callbacks),
            )
            .to_string(),
        },
        _ => {
            let event = if events.len() == 1 {
                events.pop()
            } else {
                None
            };
            let event = event.unwrap_or_else(|| Event {
                kind: EventKind::Digest,
                timestamp: orchestrator.now(),
                data: Data::Digest(DigestData { events }),
            });
            Body::Json {
                body: serde_json::to_value(&event)
                    .unwrap_or(Value::Null)
                    .to_string(),
            }
        }
    }
}

/// What may be shown of a target.
pub(super) fn settings(target: &StoredTarget) -> Option<TargetSettings> {
    serde_json::from_value(target.settings.clone()).ok()
}

/// A target's secrets.
pub(super) fn secrets(orchestrator: &Orchestrator, target: &StoredTarget) -> Option<Secrets> {
    orchestrator
        .inner
        .notifier
        .seal
        .as_ref()?
        .open(target.name.as_str(), &target.sealed)
}

/// Sends a body that was settled.
pub(super) async fn send(
    orchestrator: &Orchestrator,
    target: &StoredTarget,
    id: MessageId,
    body: &str,
) -> Result<(), Failure> {
    let notifier = &orchestrator.inner.notifier;
    let now = orchestrator.now();
    let body: Body = serde_json::from_str(body)
        .map_err(|_| Failure::new("the message is of another version of this program"))?;
    let json = match body {
        Body::Letter { letter } => {
            let to = settings(target)
                .map(|settings| settings.address)
                .unwrap_or_default();
            let to: Vec<String> = to.split(", ").map(str::to_owned).collect();
            let mailer = notifier
                .mailer
                .as_ref()
                .ok_or_else(|| Failure::new("no SMTP server is configured: CEDARGATE_SMTP_URL"))?;
            return mailer.send(id, &letter, &to, now).await;
        }
        Body::Json { body } => body,
    };
    let sealed = || {
        Failure::new(
            "its secrets cannot be read: CEDARGATE_SECRETS_KEY is not what it was when they were given",
        )
    };
    let secrets = secrets(orchestrator, target).ok_or_else(sealed)?;
    let url = secrets.url.as_deref().ok_or_else(sealed)?;
    let mut headers = HeaderMap::new();
    if target.kind == "webhook" {
        let key = secrets
            .key
            .as_deref()
            .and_then(|key| webhook_key(key).ok())
            .ok_or_else(sealed)?;
        let seconds = now.as_millis() / 1_000;
        let id = id.to_string();
        for (name, value) in [
            (
                "webhook-signature",
                sign(&key, &id, seconds, json.as_bytes()),
            ),
            ("webhook-timestamp", seconds.to_string()),
            ("webhook-id", id),
        ] {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
    }
    notifier.web.post(url, headers, json).await
}

/// The process itself.
pub(super) fn actor(orchestrator: &Orchestrator) -> Actor {
    Actor::itself("notifier", orchestrator.now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_is_tried_again_later_and_later_then_given_up() {
        let now = Timestamp::from_millis(1_780_000_000_000);
        let failure = Failure::new("it answered 503");
        let retry = |attempts, failure: &Failure| match after(failure, attempts, 0, now) {
            Attempt::Failed { retry_at, .. } => retry_at.map(|at| at.since(now)),
            Attempt::Delivered => panic!(),
        };
        for (attempts, wait) in RETRIES.iter().enumerate() {
            for _ in 0..50 {
                let found = retry(u32::try_from(attempts).unwrap(), &failure).unwrap();
                assert!(
                    found >= wait.mul_f64(0.79) && found <= wait.mul_f64(1.21),
                    "{attempts}: {found:?}"
                );
            }
        }
        assert_eq!(retry(8, &failure), None);
        let busy = Failure {
            retry_after: Some(Duration::from_mins(30)),
            ..failure.clone()
        };
        assert_eq!(
            retry(0, &busy),
            Some(Duration::from_mins(30)),
            "as it asked"
        );
        let gone = Failure {
            gone: true,
            ..failure
        };
        assert_eq!(retry(0, &gone), None);
    }

    #[test]
    fn a_target_that_fails_in_a_row_is_left_alone_ever_longer() {
        let now = Timestamp::from_millis(1_780_000_000_000);
        let open = |failures| match after(&Failure::new(""), 0, failures, now) {
            Attempt::Failed { open_until, .. } => open_until.map(|at| at.since(now)),
            Attempt::Delivered => panic!(),
        };
        assert_eq!((open(0), open(3)), (None, None));
        let about = |found: Option<Duration>, expected: u64| {
            let (found, expected) = (found.unwrap(), Duration::from_secs(expected));
            assert!(
                found >= expected.mul_f64(0.79) && found <= expected.mul_f64(1.21),
                "{found:?}"
            );
        };
        about(open(4), 30);
        about(open(5), 60);
        about(open(8), 480);
        about(open(9), 900);
        about(open(4_000_000_000), 900);
    }
}
