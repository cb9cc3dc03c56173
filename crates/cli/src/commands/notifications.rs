//! `cedargate notifications`.

use std::path::Path;

use anyhow::Context as _;
use authz::TargetName;
use contract::notifications::{
    AccountView, ChangeTarget, CreateTarget, CreatedTarget, Destination, EventKind, LinkAccount,
    MessageView, Pace, Rules, TargetView,
};
use serde_json::json;

use super::Context;
use crate::{
    arguments::{Accounts, DestinationFlags, Kind, Messages, Notifications, RuleFlags, Targets},
    client::Answer,
    config::Environment,
    exit::{FAILED, OK, Usage},
    output::{Output, list, time},
};

pub(super) async fn run(
    context: &Context,
    environment: &Environment,
    command: Notifications,
) -> anyhow::Result<u8> {
    match command {
        Notifications::Targets(command) => targets(context, environment, command).await,
        Notifications::Accounts(command) => accounts(context, command).await.map(|()| OK),
        Notifications::Messages(command) => messages(context, command).await.map(|()| OK),
    }
}

async fn targets(
    context: &Context,
    environment: &Environment,
    command: Targets,
) -> anyhow::Result<u8> {
    let client = context.client();
    match command {
        Targets::List => {
            let targets = client.notification_targets().await.of(&context.remote)?;
            context
                .output
                .print(&targets, |output| table(output, &targets))?;
        }
        Targets::Show { name } => {
            let target = client
                .notification_target(&name)
                .await
                .of(&context.remote)?;
            context
                .output
                .print(&target, |output| detail(output, &target))?;
        }
        Targets::Add {
            kind,
            name,
            destination,
            rules,
        } => {
            let create = CreateTarget {
                name,
                destination: new_destination(environment, kind, &destination)?,
                pace: Pace {
                    group_seconds: rules.group,
                    digest_minutes: rules.digest,
                    quiet: rules.quiet_hours(),
                },
                rules: Rules {
                    events: rules.events.into_iter().collect(),
                    services: rules.services.into_iter().collect(),
                    risk: rules.risk,
                    teams: rules.teams.into_iter().collect(),
                },
            };
            let created = client
                .create_notification_target(&create)
                .await
                .of(&context.remote)?;
            print_created(context.output, &created)?;
        }
        Targets::Change {
            name,
            destination,
            rules,
        } => {
            let was = client
                .notification_target(&name)
                .await
                .of(&context.remote)?;
            let change = ChangeTarget {
                enabled: None,
                destination: changed_destination(environment, &was, &destination)?,
                rules: Some(changed_rules(&was, &rules)),
                pace: Some(changed_pace(&was, &rules)),
            };
            let changed = client
                .change_notification_target(&name, &change)
                .await
                .of(&context.remote)?;
            print_created(context.output, &changed)?;
        }
        Targets::Test { name } => {
            let tested = client
                .test_notification_target(&name)
                .await
                .of(&context.remote)?;
            context.output.print(&tested, |_| match &tested.error {
                None => format!("a message arrived at {name}"),
                Some(why) => {
                    crate::output::printable(&format!("no message arrived at {name}: {why}"))
                }
            })?;
            return Ok(if tested.delivered { OK } else { FAILED });
        }
        Targets::Enable { name } => enable(context, &name, true).await?,
        Targets::Disable { name } => enable(context, &name, false).await?,
        Targets::Remove { name } => {
            client
                .remove_notification_target(&name)
                .await
                .of(&context.remote)?;
            context
                .output
                .print(&json!({ "removed": name }), |_| format!("removed {name}"))?;
        }
    }
    Ok(OK)
}

async fn enable(context: &Context, name: &TargetName, enabled: bool) -> anyhow::Result<()> {
    let change = ChangeTarget {
        enabled: Some(enabled),
        ..ChangeTarget::default()
    };
    let changed = context
        .client()
        .change_notification_target(name, &change)
        .await
        .of(&context.remote)?;
    print_created(context.output, &changed)
}

fn new_destination(
    environment: &Environment,
    kind: Kind,
    flags: &DestinationFlags,
) -> anyhow::Result<Destination> {
    let secret = secret(
        environment,
        "CEDARGATE_TARGET_SECRET",
        flags.secret_file.as_deref(),
    )?;
    let url = || {
        secret_url(environment, flags)?.ok_or_else(|| {
            anyhow::Error::from(Usage(
                "where to? set CEDARGATE_TARGET_URL, or give --url-file".to_owned(),
            ))
        })
    };
    if kind != Kind::Email && !flags.to.is_empty() {
        return Err(Usage("--to is for email".to_owned()).into());
    }
    Ok(match kind {
        Kind::Webhook => Destination::Webhook {
            url: url()?,
            secret,
        },
        Kind::Slack => Destination::Slack {
            url: url()?,
            signing_secret: secret,
        },
        Kind::Email if flags.to.is_empty() => {
            return Err(Usage("to whom? --to".to_owned()).into());
        }
        Kind::Email => Destination::Email {
            to: flags.to.clone(),
        },
    })
}

/// A new address comes with its secret; without one, both stay.
fn changed_destination(
    environment: &Environment,
    was: &TargetView,
    flags: &DestinationFlags,
) -> anyhow::Result<Option<Destination>> {
    let kind = match was.kind.as_str() {
        "webhook" => Kind::Webhook,
        "slack" => Kind::Slack,
        _ => Kind::Email,
    };
    let given = match kind {
        Kind::Email => !flags.to.is_empty(),
        Kind::Webhook | Kind::Slack => secret_url(environment, flags)?.is_some(),
    };
    if given {
        return new_destination(environment, kind, flags).map(Some);
    }
    if flags.secret_file.is_some() {
        return Err(Usage(
            "a secret is changed together with the address: give --url-file too".to_owned(),
        )
        .into());
    }
    Ok(None)
}

fn changed_rules(was: &TargetView, flags: &RuleFlags) -> Rules {
    let mut rules = was.settings.rules.clone();
    if !flags.events.is_empty() {
        rules.events = flags.events.iter().copied().collect();
    }
    if !flags.services.is_empty() {
        rules.services = flags.services.iter().cloned().collect();
    }
    if !flags.teams.is_empty() {
        rules.teams = flags.teams.iter().cloned().collect();
    }
    rules.risk = flags.risk.or(rules.risk);
    rules
}

fn changed_pace(was: &TargetView, flags: &RuleFlags) -> Pace {
    let pace = was.settings.pace.clone();
    Pace {
        group_seconds: flags.group.or(pace.group_seconds),
        // 0 ends a digest.
        digest_minutes: flags
            .digest
            .or(pace.digest_minutes)
            .filter(|&minutes| minutes > 0),
        quiet: flags.quiet_hours().or(pace.quiet),
    }
}

fn secret_url(
    environment: &Environment,
    flags: &DestinationFlags,
) -> anyhow::Result<Option<String>> {
    secret(
        environment,
        "CEDARGATE_TARGET_URL",
        flags.url_file.as_deref(),
    )
}

/// Of the file if one is given, else of the environment.
fn secret(
    environment: &Environment,
    variable: &str,
    file: Option<&Path>,
) -> anyhow::Result<Option<String>> {
    let text = match file {
        None => environment.resolve(variable)?,
        Some(file) => {
            let text = std::fs::read_to_string(file)
                .with_context(|| format!("`{}` cannot be read", file.display()))?;
            Some(text)
        }
    };
    Ok(text
        .map(|text| text.trim().to_owned())
        .filter(|text| !text.is_empty()))
}

async fn accounts(context: &Context, command: Accounts) -> anyhow::Result<()> {
    let client = context.client();
    match command {
        Accounts::List { target } => {
            let accounts = client
                .notification_accounts(&target)
                .await
                .of(&context.remote)?;
            context.output.print(&accounts, |output| {
                output.table(
                    &["account", "person", "since", "linked by"],
                    accounts.iter().map(account_row),
                )
            })
        }
        Accounts::Link {
            target,
            account,
            user,
        } => {
            let linked = client
                .link_notification_account(&target, &LinkAccount { account, user })
                .await
                .of(&context.remote)?;
            context.output.print(&linked, |output| {
                output.fields(&[
                    ("account", linked.account.clone()),
                    ("person", linked.user.to_string()),
                ])
            })
        }
        Accounts::Unlink { target, account } => {
            client
                .unlink_notification_account(&target, &account)
                .await
                .of(&context.remote)?;
            let text = crate::output::printable(&format!("{account} is nobody now"));
            context
                .output
                .print(&json!({ "unlinked": account }), |_| text)
        }
    }
}

async fn messages(context: &Context, command: Messages) -> anyhow::Result<()> {
    let client = context.client();
    match command {
        Messages::List {
            target,
            status,
            limit,
        } => {
            let messages = client
                .notification_messages(target.as_ref(), status.as_deref(), limit)
                .await
                .of(&context.remote)?;
            context.output.print(&messages, |output| {
                output.table(
                    &[
                        "id",
                        "target",
                        "status",
                        "attempts",
                        "due",
                        "says",
                        "last error",
                    ],
                    messages.iter().map(message_row),
                )
            })
        }
        Messages::Redeliver { id } => {
            let message = client
                .redeliver_notification(id)
                .await
                .of(&context.remote)?;
            context
                .output
                .print(&message, |_| format!("{id} is sent once more"))
        }
    }
}

fn account_row(account: &AccountView) -> Vec<String> {
    vec![
        account.account.clone(),
        account.user.to_string(),
        time(account.linked),
        account.linked_by.clone(),
    ]
}

fn message_row(message: &MessageView) -> Vec<String> {
    vec![
        message.id.to_string(),
        message.target.to_string(),
        message.status.clone(),
        message.attempts.to_string(),
        time(message.due),
        message.summary.clone(),
        message.last_error.clone().unwrap_or_default(),
    ]
}

/// In one word, how it does.
fn state(target: &TargetView) -> &'static str {
    match target {
        TargetView { enabled: false, .. } => "disabled",
        TargetView {
            open_until: Some(_),
            ..
        } => "failing, left alone",
        TargetView { failures: 1.., .. } => "failing",
        _ => "well",
    }
}

fn table(output: Output, targets: &[TargetView]) -> String {
    if targets.is_empty() {
        return "nobody is told anything: `cedargate notifications targets add --help`".to_owned();
    }
    output.table(
        &[
            "name",
            "kind",
            "to",
            "state",
            "last delivered",
            "last error",
        ],
        targets.iter().map(|target| {
            vec![
                target.name.to_string(),
                target.kind.clone(),
                target.settings.address.clone(),
                state(target).to_owned(),
                target.last_delivered.map_or("-".to_owned(), time),
                target.last_error.clone().unwrap_or_default(),
            ]
        }),
    )
}

fn print_created(output: Output, created: &CreatedTarget) -> anyhow::Result<()> {
    output.print(created, |output| {
        let text = detail(output, &created.target);
        match &created.secret {
            None => text,
            Some(secret) => format!(
                "{text}\n\n{secret}\nThe secret that signs its messages; it cannot be shown again."
            ),
        }
    })
}

fn detail(output: Output, target: &TargetView) -> String {
    let rules = &target.settings.rules;
    let pace = &target.settings.pace;
    let all = |text: String| if text == "-" { "all".to_owned() } else { text };
    let events = if rules.events.is_empty() {
        "what people can act on".to_owned()
    } else {
        list(rules.events.iter().map(|kind: &EventKind| kind.as_str()))
    };
    output.fields(&[
        ("name", target.name.to_string()),
        ("kind", target.kind.clone()),
        ("to", target.settings.address.clone()),
        ("state", state(target).to_owned()),
        (
            "answers",
            if target.settings.callbacks {
                "verified".to_owned()
            } else {
                "none".to_owned()
            },
        ),
        ("events", events),
        ("services", all(list(&rules.services))),
        (
            "risk",
            rules
                .risk
                .map_or("all".to_owned(), |risk| format!("{risk} and above")),
        ),
        ("teams", all(list(&rules.teams))),
        (
            "grouped",
            pace.group_seconds
                .map(|seconds| format!("{seconds} s"))
                .unwrap_or_default(),
        ),
        (
            "digest",
            pace.digest_minutes
                .map(|minutes| format!("every {minutes} min"))
                .unwrap_or_default(),
        ),
        (
            "quiet",
            pace.quiet
                .as_ref()
                .map(|quiet| {
                    let zone = quiet.zone.as_deref().unwrap_or("UTC");
                    format!("{}-{} {zone}", quiet.from, quiet.to)
                })
                .unwrap_or_default(),
        ),
        ("since", time(target.created)),
        (
            "last delivered",
            target.last_delivered.map(time).unwrap_or_default(),
        ),
        ("last error", target.last_error.clone().unwrap_or_default()),
        (
            "tried again",
            target.open_until.map(time).unwrap_or_default(),
        ),
    ])
}
