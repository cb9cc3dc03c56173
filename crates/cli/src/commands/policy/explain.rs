//! `cedargate policy explain`.

use std::fmt::Write as _;

use authz::{
    AgentRef, Circumstances, Command, Facts, Principal, Timestamp,
    explain::{Change, How, Outcome, PolicyTrace, Verdict, explain},
};
use serde_json::json;

use super::{
    side::{in_force, stored},
    source::{self, Loaded},
};
use crate::{
    arguments::{Global, PolicyExplain},
    client::Answer as _,
    commands::Context,
    config::Environment,
    exit::{self, Usage},
    output::{Output, printable_lines},
    planes::system_clock,
    policy_test::{Call, Fixtures, grant, session},
};

/// What is asked: the agent with its grants, the call, and which policies decide.
struct Asked {
    loaded: Loaded,
    principal: Principal,
    command: Command,
    now: Timestamp,
}

async fn asked(
    global: &Global,
    environment: Environment,
    arguments: &PolicyExplain,
) -> anyhow::Result<Asked> {
    let call = Call::Slash(arguments.call.clone());
    let (loaded, fixtures, now, mut facts) = if arguments.live {
        let context = Context::new(global, environment.clone())?;
        let loaded = if arguments.from.policies.is_some() {
            source::load(global, environment.clone(), &arguments.from)?
        } else {
            stored(&context, &in_force(&context).await?).await?
        };
        let view = context.client().agent(&arguments.agent).await;
        let view = view.of(&context.remote)?;
        let facts = Facts {
            agent: view.agent,
            grants: view.grants,
            version: 0,
        };
        let fixtures = Fixtures::new(&source::catalog(global, &environment)?);
        (loaded, fixtures, system_clock().now(), facts)
    } else {
        let loaded = source::load(global, environment.clone(), &arguments.from)?;
        let (fixtures, now) = source::fixtures_of(
            global,
            &environment,
            arguments.fixtures.as_deref(),
            &loaded.name,
        )?;
        let AgentRef::Name(name) = &arguments.agent else {
            let message = "agents of the fixtures have names: an id needs --live";
            return Err(Usage(message.to_owned()).into());
        };
        let facts = Facts {
            agent: fixtures.agent(name).map_err(Usage)?,
            grants: Vec::new(),
            version: 0,
        };
        (loaded, fixtures, now, facts)
    };
    let command = fixtures.command(&call).map_err(Usage)?;
    let now = arguments.now.unwrap_or(now);
    for given in &arguments.grants {
        let given = grant(given, &fixtures, &facts.agent, &command, now)
            .map_err(|problem| Usage(format!("--grant `{given}`: {problem}")))?;
        facts.grants.push(given);
    }
    Ok(Asked {
        loaded,
        principal: Principal::new(facts),
        command,
        now,
    })
}

pub(super) async fn run(
    global: &Global,
    environment: Environment,
    arguments: &PolicyExplain,
) -> anyhow::Result<u8> {
    let Asked {
        loaded,
        principal,
        command,
        now,
    } = asked(global, environment, arguments).await?;
    let mut at = Circumstances::new(now, arguments.ip);
    if let Some(text) = &arguments.session {
        at.session = session(text, now)
            .map_err(|problem| Usage(format!("--session `{text}`: {problem}")))?;
    }
    let agent = principal.agent().name.clone();
    let mut answer = explain(&loaded.set, &principal, &command, at);
    let traces = std::mem::take(&mut answer.traces);
    let mut told = serde_json::to_value(&answer)?;
    if let Some(told) = told.as_object_mut() {
        told.remove("traces");
    }
    let target = &command.target;
    let value = json!({
        "agent": agent,
        "grants": principal.facts().grants,
        "at": now,
        "session": at.session,
        "command": target.key,
        "risk": target.risk,
        "arguments": command.arguments.values(),
        "version": loaded.set.version(),
        "answer": told,
        "policies": traces,
    });
    Output::new(global.json).print(&value, |_| {
        let mut text = format!(
            "{} · {} ({})\n{}",
            agent,
            target.key,
            target.risk,
            answer.verdict.as_str()
        );
        if answer.grant.is_some() {
            text.push_str(", by a grant");
        }
        if let Some(approvals) = answer.approvals {
            let _ = write!(
                text,
                ", by {approvals} approval{}",
                if approvals == 1 { "" } else { "s" }
            );
        }
        if let Some(workflow) = &answer.workflow {
            let _ = write!(text, ", workflow {workflow}");
        }
        if answer.policies.is_empty() && answer.verdict != Verdict::Permit {
            text.push_str("\nNo policy permits it.");
        }
        for advice in &answer.advice {
            let _ = write!(text, "\nadvice: {advice}");
        }
        let places = loaded.workshop.places();
        let place = |id: &str| {
            places
                .iter()
                .find(|place| place.policy == id)
                .map(|place| format!("  {}:{}", place.file, place.line))
                .unwrap_or_default()
        };
        for trace in &traces {
            let _ = write!(
                text,
                "\n\n{}{}{}",
                heading(trace),
                trace.id,
                place(&trace.id)
            );
            for part in &trace.parts {
                let mark = match part.outcome {
                    Outcome::Held => "✔",
                    Outcome::Failed => "✘",
                    Outcome::NotReached => "·",
                    Outcome::Error => "!",
                };
                let _ = write!(text, "\n  {mark} {}", part.text);
                let facts = part
                    .facts
                    .iter()
                    .filter(|_| part.outcome != Outcome::NotReached);
                for (fact, value) in facts {
                    let _ = write!(text, "\n      {fact} = {value}");
                }
            }
        }
        text.push_str("\n\n");
        text.push_str(&otherwise(&answer.changes, &traces));
        printable_lines(&text)
    })?;
    Ok(exit::OK)
}

fn heading(trace: &PolicyTrace) -> &'static str {
    match (trace.matched, trace.forbids) {
        (true, true) => "FORBIDS  ",
        (true, false) => "PERMITS  ",
        (false, true) => "does not forbid  ",
        (false, false) => "does not permit  ",
    }
}

/// What would make the answer another one.
fn otherwise(changes: &[Change], traces: &[PolicyTrace]) -> String {
    if changes.is_empty() {
        return "Nothing that was tried would change it.".to_owned();
    }
    let mut lines = vec!["It would be otherwise,".to_owned()];
    for (index, change) in changes.iter().enumerate() {
        let word = if index == 0 { "" } else { "or " };
        let then = change
            .verdict
            .map(|verdict| format!(" → {}", verdict.as_str()))
            .unwrap_or_default();
        lines.push(format!("  {word}{}{then}", how(change, traces)));
    }
    lines.join("\n")
}

fn how(change: &Change, traces: &[PolicyTrace]) -> String {
    let policy = change.policy.as_deref().unwrap_or_default();
    match change.how {
        How::Without => match traces.iter().find(|trace| trace.id == policy) {
            Some(trace) if trace.forbids => {
                format!("if {policy} did not apply{}", unless(trace))
            }
            Some(_) | None => format!("without {policy}"),
        },
        How::If => format!("if {policy} applied: {}", change.parts.join("; ")),
        How::Grant => "by a grant that people give when the agent asks".to_owned(),
        How::StandingAccess => "with standing access to the service".to_owned(),
        How::NotSuspended => "if the agent were not suspended".to_owned(),
        How::SameEnvironment => "if the agent ran in the environment of the service".to_owned(),
    }
}

/// Where one of a policy's conditions is otherwise; its scope is what it is about.
fn unless(trace: &PolicyTrace) -> String {
    let conditions: Vec<&str> = trace
        .parts
        .iter()
        .filter(|part| !part.scope)
        .map(|part| part.text.as_str())
        .collect();
    match conditions.as_slice() {
        [] => String::new(),
        [one] => format!(": not {one}"),
        several => format!(": one of these otherwise: {}", several.join("; ")),
    }
}
