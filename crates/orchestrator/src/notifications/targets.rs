//! Where messages go, as people set it up.

use authz::{MessageId, TargetName};
use contract::notifications::{
    ChangeTarget, CreateTarget, CreatedTarget, Data, Destination, Event, EventKind, MessageView,
    Pace, Rules, TargetSettings, TargetView, TestData, Tested,
};
use store::{
    Actor,
    notifications::{NewTarget, StoredTarget, TargetChange, outbox::StoredMessage},
};

use super::{
    deliver,
    email::mailbox,
    rules,
    seal::Secrets,
    signature::{new_webhook_secret, webhook_key},
    snapshot,
};
use crate::{Orchestrator, authenticate::Person, error::Error};

/// More mailboxes are a mailing list's business.
const MAX_MAILBOXES: usize = 20;

/// Slack's signing secrets are 32 characters.
const MIN_SIGNING_SECRET_CHARS: usize = 16;
const MAX_SIGNING_SECRET_CHARS: usize = 200;

/// What may be shown of a destination, what may not, and a secret that we made.
struct Prepared {
    address: String,
    callbacks: bool,
    secrets: Secrets,
    made: Option<String>,
}

/// Adds a target.
pub(crate) async fn create(
    orchestrator: &Orchestrator,
    create: CreateTarget,
    actor: &Actor,
) -> Result<CreatedTarget, Error> {
    check(&create.rules, &create.pace)?;
    let prepared = prepare(orchestrator, &create.destination)?;
    let settings = TargetSettings {
        address: prepared.address,
        callbacks: prepared.callbacks,
        rules: create.rules,
        pace: create.pace,
    };
    let new = NewTarget {
        kind: create.destination.kind(),
        settings: json(&settings)?,
        sealed: seal(orchestrator, &create.name, &prepared.secrets)?,
        name: create.name,
    };
    let stored = orchestrator
        .store()
        .create_notification_target(&new, actor)
        .await?;
    Ok(CreatedTarget {
        target: view(stored)?,
        secret: prepared.made,
    })
}

/// Changes a target.
pub(crate) async fn change(
    orchestrator: &Orchestrator,
    name: &TargetName,
    change: ChangeTarget,
    actor: &Actor,
) -> Result<CreatedTarget, Error> {
    let stored = orchestrator.store().notification_target(name).await?;
    let mut settings = settings(&stored)?;
    let mut what = Vec::new();
    if let Some(rules) = change.rules {
        settings.rules = rules;
        what.push("rules");
    }
    if let Some(pace) = change.pace {
        settings.pace = pace;
        what.push("pace");
    }
    check(&settings.rules, &settings.pace)?;
    let (mut sealed, mut made) = (None, None);
    if let Some(destination) = &change.destination {
        if destination.kind() != stored.kind {
            let kind = &stored.kind;
            return Err(Error::field(
                "destination",
                format!("`{name}` is of kind {kind} and stays so; add another"),
            ));
        }
        let prepared = prepare(orchestrator, destination)?;
        settings.address = prepared.address;
        settings.callbacks = prepared.callbacks;
        sealed = Some(seal(orchestrator, name, &prepared.secrets)?);
        made = prepared.made;
        what.push("destination");
    }
    if change.enabled.is_some() {
        what.push("enabled");
    }
    let change = TargetChange {
        settings: Some(json(&settings)?),
        sealed,
        enabled: change.enabled,
        what,
    };
    let stored = orchestrator
        .store()
        .change_notification_target(name, change, actor)
        .await?;
    Ok(CreatedTarget {
        target: view(stored)?,
        secret: made,
    })
}

/// Sends a message there now, past the outbox.
pub(crate) async fn test(
    orchestrator: &Orchestrator,
    person: &Person,
    name: &TargetName,
) -> Result<Tested, Error> {
    let stored = orchestrator.store().notification_target(name).await?;
    let now = orchestrator.now();
    let id = MessageId::generate(now);
    let event = Event {
        kind: EventKind::Test,
        timestamp: now,
        data: Data::Test(TestData {
            tried_by: person.user.id.to_string(),
        }),
    };
    let body = deliver::compose(orchestrator, &stored, id, vec![event]);
    let body = serde_json::to_string(&body).map_err(|error| Error::Bug(error.to_string()))?;
    let sent = deliver::send(orchestrator, &stored, id, &body).await;
    Ok(Tested {
        delivered: sent.is_ok(),
        error: sent.err().map(|failure| failure.error),
    })
}

fn check(rules: &Rules, pace: &Pace) -> Result<(), Error> {
    rules::check(rules, pace).map_err(|(field, why)| Error::field(field, why))
}

fn prepare(orchestrator: &Orchestrator, destination: &Destination) -> Result<Prepared, Error> {
    let web = &orchestrator.inner.notifier.web;
    let address = |url: &str| {
        let url = web
            .check(url)
            .map_err(|why| Error::field("destination.url", why))?;
        Ok::<_, Error>(url.origin().ascii_serialization())
    };
    match destination {
        Destination::Webhook { url, secret } => {
            let made = secret.is_none().then(new_webhook_secret);
            let key = secret.clone().or_else(|| made.clone());
            if let Some(key) = &key {
                webhook_key(key).map_err(|why| Error::field("destination.secret", why))?;
            }
            Ok(Prepared {
                address: address(url)?,
                callbacks: true,
                secrets: Secrets {
                    url: Some(url.clone()),
                    key,
                },
                made,
            })
        }
        Destination::Slack {
            url,
            signing_secret,
        } => {
            if let Some(secret) = signing_secret
                && !(MIN_SIGNING_SECRET_CHARS..=MAX_SIGNING_SECRET_CHARS)
                    .contains(&secret.chars().count())
            {
                return Err(Error::field(
                    "destination.signing_secret",
                    "expected the signing secret of the app's basic information",
                ));
            }
            Ok(Prepared {
                address: address(url)?,
                callbacks: signing_secret.is_some(),
                secrets: Secrets {
                    url: Some(url.clone()),
                    key: signing_secret.clone(),
                },
                made: None,
            })
        }
        Destination::Email { to } => {
            if !(1..=MAX_MAILBOXES).contains(&to.len()) {
                let what = format!("one to {MAX_MAILBOXES} mailboxes");
                return Err(Error::field("destination.to", what));
            }
            for address in to {
                mailbox(address).map_err(|why| Error::field("destination.to", why))?;
            }
            if orchestrator.inner.notifier.mailer.is_none() {
                return Err(Error::Conflict(
                    "no SMTP server is configured: set CEDARGATE_SMTP_URL and CEDARGATE_SMTP_FROM"
                        .to_owned(),
                ));
            }
            Ok(Prepared {
                address: to.join(", "),
                callbacks: false,
                secrets: Secrets {
                    url: None,
                    key: None,
                },
                made: None,
            })
        }
    }
}

fn seal(
    orchestrator: &Orchestrator,
    name: &TargetName,
    secrets: &Secrets,
) -> Result<String, Error> {
    let seal = orchestrator.inner.notifier.seal.as_ref().ok_or_else(|| {
        Error::Conflict(
            "there is no key to keep secrets with: set CEDARGATE_SECRETS_KEY".to_owned(),
        )
    })?;
    seal.seal(name.as_str(), secrets)
}

fn json(settings: &TargetSettings) -> Result<serde_json::Value, Error> {
    serde_json::to_value(settings).map_err(|error| Error::Bug(error.to_string()))
}

fn settings(stored: &StoredTarget) -> Result<TargetSettings, Error> {
    deliver::settings(stored)
        .ok_or_else(|| Error::Bug(format!("target `{}` is not readable", stored.name)))
}

/// As people see it.
pub(crate) fn view(stored: StoredTarget) -> Result<TargetView, Error> {
    Ok(TargetView {
        settings: settings(&stored)?,
        name: stored.name,
        kind: stored.kind,
        enabled: stored.enabled,
        created: stored.created,
        created_by: stored.created_by,
        failures: stored.failures,
        open_until: stored.open_until,
        last_error: stored.last_error,
        last_delivered: stored.last_delivered,
    })
}

/// A message as people see it: never what it says word by word.
pub(crate) fn message_view(stored: StoredMessage) -> MessageView {
    let events = snapshot::events(&stored.items);
    MessageView {
        id: stored.id,
        target: stored.target,
        status: stored.status.as_str().to_owned(),
        summary: snapshot::headline(&events),
        events: events.len(),
        created: stored.created,
        due: stored.due,
        attempts: stored.attempts,
        last_error: stored.last_error,
        ended: stored.ended,
    }
}
