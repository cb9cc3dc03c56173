//! `cedargate audit`.

use std::{collections::BTreeMap, path::Path, time::Duration};

use authz::{AgentId, AgentRef};
use contract::audit::{AuditEntry, AuditFilter};
use gateway::journal::Head;
use serde_json::{Value, json};

use super::Context;
use crate::{
    arguments::{Audit, AuditFilterFlags, Global, JournalLineAt},
    client::{Answer, Remote, settings},
    config::{Config, Environment, Settings},
    exit::{self, Usage},
    output::{Output, json_line, time, write_line},
};

/// So many entries are asked for at once.
const PAGE: u32 = 1_000;

pub(super) async fn run(
    global: &Global,
    environment: Environment,
    command: Audit,
) -> anyhow::Result<u8> {
    match command {
        Audit::List {
            filter,
            after,
            limit,
        } => {
            let context = Context::new(global, environment)?;
            let entries = match after {
                Some(after) => entries_after(&context, filter.agent.as_ref(), after, limit).await?,
                None => last_entries(&context, &wanted(filter), limit).await?,
            };
            // The names are for people; an orchestrator that will not tell them is no reason to fail.
            let names = if context.output.json {
                Names::new()
            } else {
                names(&context).await
            };
            context
                .output
                .print(&entries, |output| table(output, &entries, &names))?;
            Ok(exit::OK)
        }
        Audit::Export { filter } => {
            let context = Context::new(global, environment)?;
            export(&context, &wanted(filter)).await?;
            Ok(exit::OK)
        }
        Audit::VerifyStored => verify_stored(&Context::new(global, environment)?).await,
        Audit::Verify {
            folder,
            head,
            offline,
        } => {
            let settings = settings(global, environment, BTreeMap::new())?;
            let folder = match folder {
                Some(folder) => folder,
                None => Config::from_settings(&settings)?.gateway.journal,
            };
            let anchor = match head {
                Some(JournalLineAt(head)) => Anchor::Given(head),
                None if offline => Anchor::None("not asked for (--offline)".to_owned()),
                // Before the journal is read: it may grow meanwhile, but not shrink.
                None => anchor(global, &settings, &folder).await?,
            };
            verify(Output::new(global.json), &folder, &anchor)
        }
    }
}

/// What a journal must hold, known from elsewhere.
enum Anchor {
    /// From the command line.
    Given(Head),
    /// The newest line that the orchestrator has of it.
    Stored(Head),
    /// There is none, and why.
    None(String),
}

impl Anchor {
    fn head(&self) -> Option<&Head> {
        match self {
            Self::Given(head) | Self::Stored(head) => Some(head),
            Self::None(_) => None,
        }
    }

    /// As people read it.
    fn shown(&self) -> String {
        match self {
            Self::Given(head) => format!("holds line {}, as it must", head.sequence),
            Self::Stored(head) => format!("holds line {}, the orchestrator's last", head.sequence),
            Self::None(why) => format!("not compared, so a missing end goes unnoticed: {why}"),
        }
    }
}

/// The newest line that the orchestrator has of the journal in `folder`.
async fn anchor(global: &Global, settings: &Settings, folder: &Path) -> anyhow::Result<Anchor> {
    let remote = Remote::find(global, settings)?;
    let heads = match remote.client.journal_heads().await.of(&remote) {
        Ok(heads) => heads,
        Err(error) => return Ok(Anchor::None(format!("{error:#}"))),
    };
    // The journal says whose it is; one that lost everything says nothing.
    let first = gateway::journal::entries(folder)
        .ok()
        .and_then(|mut entries| entries.next()?.ok());
    let gateway = match first {
        Some(entry) => entry.gateway,
        None => Config::from_settings(settings)?.gateway.name,
    };
    Ok(heads
        .into_iter()
        .find(|head| head.gateway == gateway)
        .map_or_else(
            || {
                Anchor::None(format!(
                    "the orchestrator has no line of gateway `{gateway}` yet"
                ))
            },
            |head| {
                Anchor::Stored(Head {
                    sequence: head.sequence,
                    hash: head.hash,
                })
            },
        ))
}

async fn names(context: &Context) -> Names {
    let agents = context.client().agents().await.unwrap_or_default();
    agents
        .into_iter()
        .map(|view| (view.agent.id, view.agent.name.to_string()))
        .collect()
}

fn wanted(flags: AuditFilterFlags) -> AuditFilter {
    AuditFilter {
        agent: flags.agent.map(|agent| agent.to_string()),
        command: flags.command.map(|command| command.to_string()),
        service: flags.service.map(|service| service.to_string()),
        user: flags.user.map(|user| user.to_string()),
        kind: flags.kind,
        outcome: flags.outcome,
        decision: flags.decision,
        gateway: flags.gateway,
        from: flags.from,
        until: flags.until,
        text: flags.text,
    }
}

async fn entries_after(
    context: &Context,
    agent: Option<&AgentRef>,
    after: i64,
    limit: u32,
) -> anyhow::Result<Vec<AuditEntry>> {
    let client = context.client();
    let agent = match agent {
        None => None,
        Some(AgentRef::Id(id)) => Some(*id),
        Some(name) => Some(client.agent(name).await.of(&context.remote)?.agent.id),
    };
    client.audit(after, limit, agent).await.of(&context.remote)
}

/// The newest lines that are wanted, oldest first.
async fn last_entries(
    context: &Context,
    filter: &AuditFilter,
    limit: u32,
) -> anyhow::Result<Vec<AuditEntry>> {
    let client = context.client();
    // An agent that nobody knows is an error here, and no empty list.
    if let Some(agent) = &filter.agent {
        let agent: AgentRef = agent.parse().map_err(|error| Usage(format!("{error}")))?;
        client.agent(&agent).await.of(&context.remote)?;
    }
    let most = usize::try_from(limit).unwrap_or(usize::MAX);
    let (mut entries, mut next) = client
        .search_audit(filter, limit.min(PAGE))
        .await
        .of(&context.remote)?;
    while let Some(path) = next.take().filter(|_| entries.len() < most) {
        let (more, rest) = client.more_audit(&path).await.of(&context.remote)?;
        entries.extend(more);
        next = rest;
    }
    entries.truncate(most);
    entries.reverse();
    Ok(entries)
}

/// Every line that is wanted, newest first, as they come.
async fn export(context: &Context, filter: &AuditFilter) -> anyhow::Result<()> {
    let client = context.client();
    let mut page = client
        .search_audit(filter, PAGE)
        .await
        .of(&context.remote)?;
    loop {
        let (entries, next) = page;
        for entry in &entries {
            write_line(&json_line(entry)?)?;
        }
        let Some(path) = next else { return Ok(()) };
        page = client.more_audit(&path).await.of(&context.remote)?;
    }
}

/// Between looks at how far the orchestrator is.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Has the orchestrator check what it stores, and waits for the end.
async fn verify_stored(context: &Context) -> anyhow::Result<u8> {
    let client = context.client();
    let mut found = client.verify().await.of(&context.remote)?;
    while found.iter().any(|gateway| gateway.running) {
        tokio::time::sleep(LOOK_EVERY).await;
        found = client.verification().await.of(&context.remote)?;
    }
    context.output.print(&found, |output| {
        output.table(
            &["gateway", "stored", "verified", "broken"],
            found.iter().map(|gateway| {
                let broken = gateway.broken.as_ref();
                vec![
                    gateway.gateway.clone(),
                    gateway.stored.to_string(),
                    gateway.verified.to_string(),
                    broken.map_or("-".to_owned(), |broken| {
                        format!("line {}: {}", broken.sequence, broken.reason)
                    }),
                ]
            }),
        )
    })?;
    // A check that ended early has not said that all is well.
    let whole = found
        .iter()
        .all(|gateway| gateway.broken.is_none() && gateway.ended.is_some());
    Ok(if whole { exit::OK } else { exit::FAILED })
}

fn table(output: Output, entries: &[AuditEntry], names: &Names) -> String {
    output.table(
        &["id", "when", "what", "who", "command", "why"],
        entries.iter().map(|entry| {
            vec![
                entry.id.to_string(),
                time(entry.at),
                entry.kind.clone(),
                who(entry, names),
                entry.command.clone().unwrap_or_default(),
                why(&entry.entry),
            ]
        }),
    )
}

/// What agents are called, for entries that have only their ids.
pub(super) type Names = BTreeMap<AgentId, String>;

/// The person who acted, or the agent, by name where it is known.
pub(super) fn who(entry: &AuditEntry, names: &Names) -> String {
    let agent = || {
        let name = entry
            .entry
            .get("agent_name")
            .and_then(Value::as_str)
            .map(str::to_owned);
        let agent = entry.agent?;
        name.or_else(|| names.get(&agent).cloned())
            .or_else(|| Some(agent.to_string()))
    };
    entry
        .user
        .clone()
        .or_else(agent)
        .unwrap_or_else(|| entry.source.clone())
}

/// What the entry says of its reasons: policies, then status or reason.
pub(super) fn why(entry: &Value) -> String {
    let texts = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items
            .iter()
            .filter_map(Value::as_str)
            .collect::<Vec<_>>()
            .join(", "),
        Value::Number(number) => number.to_string(),
        _ => String::new(),
    };
    ["policies", "status", "error", "reason"]
        .iter()
        .filter_map(|key| entry.get(key).map(texts))
        .filter(|text| !text.is_empty())
        .collect::<Vec<_>>()
        .join("; ")
}

fn verify(output: Output, folder: &Path, anchor: &Anchor) -> anyhow::Result<u8> {
    match gateway::journal::verify(folder, anchor.head()) {
        Ok(verified) => {
            let value = json!({
                "valid": true, "folder": folder, "lines": verified.lines,
                "head": {"sequence": verified.head.sequence, "hash": verified.head.hash},
                "unfinished_bytes": verified.unfinished_bytes,
                "anchor": anchor.head().map(|head| json!({"sequence": head.sequence, "hash": head.hash})),
                "not_anchored": match anchor {
                    Anchor::None(why) => Some(why),
                    Anchor::Given(_) | Anchor::Stored(_) => None,
                },
            });
            output.print(&value, |output| {
                let unfinished = if verified.unfinished_bytes == 0 {
                    String::new()
                } else {
                    format!(
                        "{} bytes of a line that is being written",
                        verified.unfinished_bytes
                    )
                };
                output.fields(&[
                    ("journal", format!("{} is whole", folder.display())),
                    ("lines", verified.lines.to_string()),
                    (
                        "head",
                        format!("{}:{}", verified.head.sequence, verified.head.hash),
                    ),
                    ("end", anchor.shown()),
                    ("unfinished", unfinished),
                ])
            })?;
            Ok(exit::OK)
        }
        Err(broken) if output.json => {
            output.print(
                &json!({"valid": false, "folder": folder, "error": chain(&broken)}),
                |_| String::new(),
            )?;
            Ok(exit::FAILED)
        }
        Err(broken) => Err(broken.into()),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
