//! `cedargate policy explain`.

use std::{fmt::Write as _, sync::Arc};

use authz::{
    Action, AgentRef, Circumstances, Command, Facts, Principal, Slice, Timestamp,
    explain::{Outcome, PolicyTrace, trace},
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
    policy_test::{Call, Fixtures, Verdict, grant, invoke, session},
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
    let answer = invoke(&loaded.set, &principal, command.clone(), at);
    let slice = Slice::new(&loaded.set, &Arc::clone(&command.target), Action::Invoke);
    let traces = trace(&slice, &principal, &command, at);
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
        "answer": answer,
        "policies": traces,
    });
    Output::new(global.json).print(&value, |_| {
        let mut text = format!(
            "{} · {} ({})\n{}",
            agent, target.key, target.risk, answer.verdict
        );
        if answer.grant {
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
        if answer.policies.is_empty() {
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
        text.push_str(&change(answer.verdict, &traces));
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
fn change(verdict: Verdict, traces: &[PolicyTrace]) -> String {
    let parts = |trace: &PolicyTrace| {
        let missing: Vec<&str> = trace.missing().map(|part| part.text.as_str()).collect();
        missing.join("; ")
    };
    let mut lines = Vec::new();
    if verdict == Verdict::Permit {
        lines.push("It would be refused,".to_owned());
        let permits: Vec<&str> = traces
            .iter()
            .filter(|trace| trace.matched && !trace.forbids)
            .map(|trace| trace.id.as_str())
            .collect();
        lines.push(format!("  without {}", permits.join(" and ")));
        for trace in traces
            .iter()
            .filter(|trace| trace.forbids && !trace.matched)
            .take(2)
        {
            lines.push(format!("  or if {} applied: {}", trace.id, parts(trace)));
        }
        return lines.join("\n");
    }
    lines.push("It would be permitted,".to_owned());
    let forbids: Vec<&PolicyTrace> = traces
        .iter()
        .filter(|trace| trace.forbids && trace.matched)
        .collect();
    for trace in &forbids {
        // Where one of its conditions is otherwise; its scope is what it is about.
        let conditions: Vec<&str> = trace
            .parts
            .iter()
            .filter(|part| !part.scope)
            .map(|part| part.text.as_str())
            .collect();
        let unless = match conditions.as_slice() {
            [] => String::new(),
            [one] => format!(": not {one}"),
            several => format!(": one of these otherwise: {}", several.join("; ")),
        };
        lines.push(format!("  if {} did not apply{unless}", trace.id));
    }
    if !traces.iter().any(|trace| trace.matched && !trace.forbids) {
        let and = if forbids.is_empty() { "" } else { "and " };
        for (index, trace) in traces
            .iter()
            .filter(|trace| !trace.forbids)
            .take(3)
            .enumerate()
        {
            let word = if index == 0 { and } else { "or " };
            lines.push(format!("  {word}by {}, if: {}", trace.id, parts(trace)));
        }
    }
    if verdict == Verdict::Escalate {
        lines.push("  or by a grant that people give when the agent asks".to_owned());
    }
    lines.join("\n")
}
