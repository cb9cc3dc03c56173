//! `cedargate policy diff`: what changes from one policy set to another.

use std::{collections::BTreeMap, fmt::Write as _, path::Path};

use contract::audit::JournalEntry;
use serde_json::{Value, json};

use super::{
    side::{Side, side},
    source,
};
use crate::{
    arguments::{Global, PolicyDiff},
    client::Answer as _,
    commands::Context,
    config::Environment,
    exit::{self, Usage},
    output::{Output, list, number, printable_lines, time},
    policy_test::{Answer, Change, Doubt, Fixtures, Matrix, Recorded, Replay, replay},
};

/// So many entries of the audit trail are asked for at once.
const PAGE: u32 = 1_000;

/// So many kinds of changes are shown to people; scripts get every call.
const SHOWN: usize = 50;

pub(super) async fn run(
    global: &Global,
    environment: Environment,
    arguments: &PolicyDiff,
) -> anyhow::Result<u8> {
    let before = side(global, &environment, &arguments.before).await?;
    let after = side(global, &environment, &arguments.after).await?;
    let recorded = arguments.audit || !arguments.journals.is_empty();
    let fixtures = fixtures(
        global,
        &environment,
        arguments.fixtures.as_deref(),
        [&after, &before],
        recorded,
    )?;
    let mut parts = Parts {
        before: &before,
        after: &after,
        matrices: None,
        replay: None,
    };
    if let Some((fixtures, now)) = &fixtures {
        let of = |set| Matrix::new(set, fixtures, *now).map_err(|error| anyhow::anyhow!(error));
        parts.matrices = Some((of(&before.set)?, of(&after.set)?));
    }
    if recorded {
        let fixtures = match fixtures {
            Some((fixtures, _)) => fixtures,
            None => Fixtures::new(&source::catalog(global, &environment)?),
        };
        let mut calls = Recorded::default();
        for path in &arguments.journals {
            journal(path, &fixtures, &mut calls)?;
        }
        if arguments.audit {
            let context = Context::new(global, environment)?;
            audit(&context, &fixtures, &mut calls).await?;
        }
        if calls.len() == 0 && calls.damaged.is_empty() && calls.left_out.is_empty() {
            return Err(Usage("there is no recorded call there".to_owned()).into());
        }
        let replay = replay(&calls, &before.set, &after.set);
        parts.replay = Some((calls, replay));
    }
    Output::new(global.json).print(&parts.json(), |output| parts.text(output))?;
    let damaged = parts
        .replay
        .as_ref()
        .is_some_and(|(calls, _)| !calls.damaged.is_empty());
    Ok(if damaged { exit::FAILED } else { exit::OK })
}

/// The fixtures that were named, or those of a folder. Recorded calls can do without.
fn fixtures(
    global: &Global,
    environment: &Environment,
    named: Option<&Path>,
    sides: [&Side; 2],
    recorded: bool,
) -> anyhow::Result<Option<(Fixtures, authz::Timestamp)>> {
    let folders = sides.into_iter().filter_map(|side| side.folder.as_deref());
    let mut places = folders.map(|folder| folder.join(source::FIXTURES));
    let found = match named {
        Some(path) => Some(path.to_owned()),
        None => places.find(|path| path.is_file()),
    };
    match found {
        Some(path) => source::fixtures_of(global, environment, Some(&path), "").map(Some),
        None if recorded => Ok(None),
        None => Err(Usage(
            "nothing is there to compare by: name agents with --fixtures, or recorded calls with --journal or --audit"
                .to_owned(),
        )
        .into()),
    }
}

fn journal(path: &Path, fixtures: &Fixtures, calls: &mut Recorded) -> anyhow::Result<()> {
    let lines = gateway::journal::lines(path)
        .map_err(|error| Usage(format!("`{}` cannot be read: {error}", path.display())))?;
    for line in lines {
        let place = format!("{}:{}", line.path.display(), line.number);
        match line.entry {
            Ok(entry) => calls.add(&entry, &place, fixtures),
            Err(why) => calls.damaged.push(format!("{place}: {why}")),
        }
    }
    Ok(())
}

async fn audit(context: &Context, fixtures: &Fixtures, calls: &mut Recorded) -> anyhow::Result<()> {
    let mut after = 0;
    loop {
        let page = context.client().audit(after, PAGE, None).await;
        let page = page.of(&context.remote)?;
        let Some(end) = page.last() else {
            return Ok(());
        };
        after = end.id;
        for entry in page.into_iter().filter(|entry| entry.source == "gateway") {
            let place = format!("audit entry {}", entry.id);
            match serde_json::from_value::<JournalEntry>(entry.entry) {
                Ok(line) => calls.add(&line, &place, fixtures),
                Err(_) => calls
                    .damaged
                    .push(format!("{place}: it is not a journal line")),
            }
        }
    }
}

/// What there is to tell.
struct Parts<'a> {
    before: &'a Side,
    after: &'a Side,
    matrices: Option<(Matrix, Matrix)>,
    replay: Option<(Recorded, Replay)>,
}

impl Parts<'_> {
    fn json(&self) -> Value {
        let side = |side: &Side| json!({"name": side.name, "version": side.set.version()});
        let mut value = json!({"before": side(self.before), "after": side(self.after)});
        let Some(members) = value.as_object_mut() else {
            return value;
        };
        if let Some((old, new)) = &self.matrices {
            let changes = old.changes(new);
            let changes = changes.iter().map(|change| {
                json!({
                    "command": change.command, "agent": change.agent,
                    "before": change.before, "after": change.after,
                })
            });
            members.insert("changes".to_owned(), changes.collect());
            members.insert("calls".to_owned(), new.len().into());
        }
        if let Some((calls, replay)) = &self.replay {
            let words = |change: &Change| {
                let words = change.doubts.iter().copied().map(Doubt::as_str);
                words.collect::<Vec<_>>()
            };
            let changes = replay.changes.iter().map(|change| {
                json!({
                    "place": change.place, "at": change.at, "agent": change.agent,
                    "command": change.command, "then": change.then,
                    "before": change.before, "after": change.after,
                    "without": words(change),
                })
            });
            let without: BTreeMap<&str, usize> = replay
                .doubts
                .iter()
                .map(|(doubt, calls)| (doubt.as_str(), *calls))
                .collect();
            let recorded = json!({
                "calls": replay.calls,
                "changes": changes.collect::<Vec<_>>(),
                "without": without,
                "left_out": calls.left_out,
                "damaged": calls.damaged,
            });
            members.insert("recorded".to_owned(), recorded);
        }
        value
    }

    fn text(&self, output: Output) -> String {
        let mut parts = Vec::new();
        if let Some((old, new)) = &self.matrices {
            let changes = old.changes(new);
            if !changes.is_empty() {
                let rows = changes.iter().map(|change| {
                    vec![
                        change.command.clone(),
                        change.agent.clone(),
                        change.before.clone(),
                        change.after.clone(),
                    ]
                });
                parts.push(output.table(&["command", "agent", "before", "after"], rows));
            }
            let whose = if self.replay.is_some() {
                "calls of the fixtures' agents"
            } else {
                "calls"
            };
            parts.push(format!(
                "{} of {} {whose} change",
                number(changes.len()),
                number(new.len())
            ));
        }
        if let Some((calls, replay)) = &self.replay {
            if !replay.changes.is_empty() {
                parts.push(grouped(output, &replay.changes));
            }
            parts.push(printable_lines(&summary(calls, replay)));
        }
        parts.join("\n\n")
    }
}

/// What is the same in every respect that people look at, once, with how often it came.
fn grouped(output: Output, changes: &[Change]) -> String {
    type Key<'a> = (&'a str, String, &'a str, String, String, String);
    let mut groups: BTreeMap<Key<'_>, (usize, bool, &Change)> = BTreeMap::new();
    for change in changes {
        let key = (
            change.agent.as_str(),
            change.command.to_string(),
            change.then.as_str(),
            word(&change.before),
            word(&change.after),
            list(&change.after.policies),
        );
        let group = groups.entry(key).or_insert((0, false, change));
        group.0 += 1;
        group.1 |= !change.doubts.is_empty();
        if group.2.at < change.at {
            group.2 = change;
        }
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by_key(|(_, (count, _, _))| std::cmp::Reverse(*count));
    let hidden = groups.len().saturating_sub(SHOWN);
    let rows = groups
        .into_iter()
        .take(SHOWN)
        .map(|(key, (count, doubtful, last))| {
            let (agent, command, then, before, after, policies) = key;
            vec![
                format!("{}{}", number(count), if doubtful { " ~" } else { "" }),
                agent.to_owned(),
                command,
                then.to_owned(),
                before,
                after,
                policies,
                format!("{}  {}", time(last.at), last.place),
            ]
        });
    let header = [
        "calls", "agent", "command", "then", "before", "after", "by", "last",
    ];
    let mut text = output.table(&header, rows);
    if hidden > 0 {
        let _ = write!(
            text,
            "\n… and {} more kinds; --json lists every call",
            number(hidden)
        );
    }
    text
}

/// The answer, with how many people it takes.
fn word(answer: &Answer) -> String {
    match answer.approvals {
        Some(approvals) => format!("{} ({approvals})", answer.verdict),
        None => answer.verdict.to_string(),
    }
}

fn summary(calls: &Recorded, replay: &Replay) -> String {
    let mut text = format!(
        "{} of {} recorded calls change",
        number(replay.changes.len()),
        number(replay.calls)
    );
    if replay.doubtful > 0 {
        let changed = replay
            .changes
            .iter()
            .filter(|change| !change.doubts.is_empty());
        let _ = write!(
            text,
            "\n{} of the {} were decided on less than the gateway knew, {} of those that change (marked ~):",
            number(replay.doubtful),
            number(replay.calls),
            number(changed.count())
        );
        for (doubt, calls) in &replay.doubts {
            let _ = write!(text, "\n  {} {}", number(*calls), doubt.words());
        }
    }
    for (why, calls) in &calls.left_out {
        let _ = write!(text, "\n{} calls not decided again: {why}", number(*calls));
    }
    if !calls.damaged.is_empty() {
        let _ = write!(text, "\n{} damaged lines:", number(calls.damaged.len()));
        for line in calls.damaged.iter().take(SHOWN) {
            let _ = write!(text, "\n  {line}");
        }
        if calls.damaged.len() > SHOWN {
            text.push_str("\n  …");
        }
    }
    text
}
