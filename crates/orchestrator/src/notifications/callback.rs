//! What people answer elsewhere: verified, taken once, and then a verdict like any other.

use std::time::Duration;

use authz::{ApprovalRequestId, TargetName};
use axum::http::HeaderMap;
use contract::approvals::Approve;
use contract::notifications::SignedVerdict;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use store::{
    approvals::{Status, StoredApproval},
    notifications::StoredTarget,
};

use super::{
    deliver,
    seal::Secrets,
    signature::{Forged, SlackSigned, TOLERANCE, verify_webhook, webhook_key},
    slack::{self, Pressed},
    snapshot,
};
use crate::{
    Orchestrator, approvals,
    authenticate::{Person, Via},
    error::Error,
};

/// Hosts of Slack's to which answers go.
const SLACK_HOSTS: [&str; 2] = ["hooks.slack.com", "hooks.slack-gov.com"];

/// Waits before an answer is sent to Slack again, which takes up to five in half an hour.
const RESPONSE_RETRIES: [Duration; 4] = [
    Duration::from_secs(1),
    Duration::from_secs(10),
    Duration::from_mins(1),
    Duration::from_mins(10),
];

/// Names of accounts elsewhere are at most so long.
pub(crate) const MAX_ACCOUNT_CHARS: usize = 200;

/// What Slack says when someone presses a button; the rest is not looked at.
#[derive(Debug, Deserialize)]
struct Interaction {
    #[serde(rename = "type")]
    kind: String,
    user: SlackUser,
    #[serde(default)]
    actions: Vec<Action>,
    #[serde(default)]
    response_url: Option<String>,
}

#[derive(Debug, Deserialize)]
struct SlackUser {
    id: String,
}

#[derive(Debug, Deserialize)]
struct Action {
    action_id: String,
    #[serde(default)]
    value: String,
}

#[derive(Debug, Deserialize)]
struct Form {
    payload: String,
}

/// Someone pressed a button in Slack. What is answered is shown to them alone.
pub(crate) async fn slack(
    orchestrator: &Orchestrator,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Value, Error> {
    let signed = SlackSigned::read(headers, orchestrator.now())?;
    let (target, secrets) = signer(orchestrator, &signed, body).await?;
    once(orchestrator, &signed.name()).await?;

    let interaction = interaction(body)?;
    let Some(action) = interaction.actions.first() else {
        return Ok(json!({}));
    };
    let approved = match (interaction.kind.as_str(), action.action_id.as_str()) {
        ("block_actions", "approve") => true,
        ("block_actions", "reject") => false,
        // A link that was followed, or something that a later version sends.
        _ => return Ok(json!({})),
    };
    let pressed = Pressed::parse(&action.value)
        .ok_or_else(|| Error::Invalid("the button is none of ours".to_owned()))?;
    let respond = Respond {
        orchestrator: orchestrator.clone(),
        url: interaction
            .response_url
            .filter(|url| may_answer_to(orchestrator, &secrets, url)),
    };

    let decided = decide(
        orchestrator,
        &target,
        &interaction.user.id,
        pressed.approval,
        approved,
        String::new(),
    )
    .await;
    match decided {
        Ok(_) => {
            let message = update(orchestrator, &target, pressed).await?;
            respond.with(message);
            Ok(json!({}))
        }
        Err(error) => {
            if error.status().is_server_error() {
                return Err(error);
            }
            let answer = slack::ephemeral(&error.to_string());
            respond.with(answer.clone());
            // Someone else may have decided meanwhile: then the message is out of date.
            Ok(answer)
        }
    }
}

/// A program says what a person decided. Gives back the request as it stands.
pub(crate) async fn verdict(
    orchestrator: &Orchestrator,
    name: &TargetName,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<StoredApproval, Error> {
    // Whether there is such a target is nobody's business.
    let target = match orchestrator.store().notification_target(name).await {
        Ok(target) if target.enabled && target.kind == "webhook" => target,
        Ok(_) | Err(store::StoreError::NotFound(_)) => return Err(Forged::Unknown.into()),
        Err(error) => return Err(error.into()),
    };
    let key = deliver::secrets(orchestrator, &target)
        .and_then(|secrets| secrets.key)
        .and_then(|key| webhook_key(&key).ok())
        .ok_or(Forged::Unknown)?;
    let id = verify_webhook(&key, headers, body, orchestrator.now())?;
    once(orchestrator, &format!("{name} {id}")).await?;
    let verdict: SignedVerdict =
        serde_json::from_slice(body).map_err(|error| Error::Invalid(error.to_string()))?;
    decide(
        orchestrator,
        &target,
        &verdict.account,
        verdict.request_id,
        verdict.approved,
        verdict.reason,
    )
    .await
}

/// Whose app signed this.
async fn signer(
    orchestrator: &Orchestrator,
    signed: &SlackSigned,
    body: &[u8],
) -> Result<(StoredTarget, Secrets), Error> {
    let targets = orchestrator.store().notification_targets().await?;
    targets
        .into_iter()
        .filter(|target| target.enabled && target.kind == "slack")
        .filter_map(|target| Some((deliver::secrets(orchestrator, &target)?, target)))
        .find(|(secrets, _)| {
            secrets
                .key
                .as_deref()
                .is_some_and(|key| signed.is_of(key, body))
        })
        .map(|(secrets, target)| (target, secrets))
        .ok_or_else(|| Forged::Unknown.into())
}

/// Takes what is verified, the first time that it comes.
async fn once(orchestrator: &Orchestrator, name: &str) -> Result<(), Error> {
    let actor = deliver::actor(orchestrator);
    let digest = hex::encode(Sha256::digest(name.as_bytes()));
    // It may be as far from the future as from the past.
    let forget = actor.at.minus(TOLERANCE * 3);
    if orchestrator
        .store()
        .take_callback(&digest, forget, &actor)
        .await?
    {
        Ok(())
    } else {
        Err(Forged::Replayed.into())
    }
}

fn interaction(body: &[u8]) -> Result<Interaction, Error> {
    let form: Form = serde_urlencoded::from_bytes(body)
        .map_err(|_| Error::Invalid("payload: expected a form".to_owned()))?;
    serde_json::from_str(&form.payload).map_err(|error| Error::Invalid(format!("payload: {error}")))
}

/// The verdict of the person whose account this is.
async fn decide(
    orchestrator: &Orchestrator,
    target: &StoredTarget,
    account: &str,
    id: ApprovalRequestId,
    approved: bool,
    reason: String,
) -> Result<StoredApproval, Error> {
    let store = orchestrator.store();
    let linked = store.notification_account(&target.name, account).await?;
    let Some(linked) = linked else {
        tracing::warn!(target = %target.name, request_id = %id, "a callback of an account that is nobody here");
        return Err(Error::UnknownAccount(
            account.chars().take(MAX_ACCOUNT_CHARS).collect(),
        ));
    };
    let user = store.user(&linked.user).await?.user;
    let person = Person::vouched(
        user,
        Via::Webhook,
        format!("notification target {}", target.name),
        orchestrator.now(),
    );
    if approved {
        let approve = Approve {
            reason,
            ..Approve::default()
        };
        approvals::approve(orchestrator, &person, id, approve).await
    } else {
        approvals::reject(orchestrator, &person, id, &reason).await
    }
}

/// The message that was answered, with every request as it stands.
async fn update(
    orchestrator: &Orchestrator,
    target: &StoredTarget,
    pressed: Pressed,
) -> Result<Value, Error> {
    let store = orchestrator.store();
    let known = match store.notification(pressed.message).await {
        Ok(message) if message.target == target.name => snapshot::events(&message.items),
        Ok(_) | Err(store::StoreError::NotFound(_)) => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    let mut events = Vec::new();
    for event in &known {
        events.extend(deliver::as_it_stands(orchestrator, event).await?);
    }
    if events.is_empty() {
        let stored = store.approval(pressed.approval, orchestrator.now()).await?;
        let kind = if stored.status == Status::Pending {
            contract::notifications::EventKind::RequestOpened
        } else {
            contract::notifications::EventKind::RequestDecided
        };
        let base = &orchestrator.inner.config.public_url;
        events.push(snapshot::request(kind, stored.opened, &stored, base));
    }
    Ok(slack::update(pressed.message, &events))
}

/// Whether an answer may go there: to Slack, or to where the target's own messages go.
fn may_answer_to(orchestrator: &Orchestrator, secrets: &Secrets, url: &str) -> bool {
    let Ok(url) = orchestrator.inner.notifier.web.check(url) else {
        return false;
    };
    let slack = url.scheme() == "https"
        && url.port().is_none()
        && url
            .host_str()
            .is_some_and(|host| SLACK_HOSTS.contains(&host));
    let own = secrets
        .url
        .as_deref()
        .and_then(|own| reqwest::Url::parse(own).ok())
        .is_some_and(|own| own.origin() == url.origin());
    slack || own
}

/// Where Slack wants its answer, apart from the answer to its request, which must be quick.
struct Respond {
    orchestrator: Orchestrator,
    url: Option<String>,
}

impl Respond {
    fn with(self, body: Value) {
        let Some(url) = self.url else {
            return;
        };
        tokio::spawn(async move {
            let web = &self.orchestrator.inner.notifier.web;
            let mut waits = RESPONSE_RETRIES.into_iter();
            while let Err(failure) = web.post(&url, HeaderMap::new(), body.to_string()).await {
                let Some(wait) = waits.next().filter(|_| !failure.gone) else {
                    tracing::warn!(
                        error = failure.error,
                        "a message in Slack could not be brought up to date"
                    );
                    return;
                };
                tokio::time::sleep(wait.max(failure.retry_after.unwrap_or_default())).await;
            }
        });
    }
}
