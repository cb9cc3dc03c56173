//! `cedargate policy explain`.

use std::{fmt::Write as _, sync::Arc};

use authz::{
    Action, Circumstances, Facts, Principal, Slice,
    explain::{Outcome, PolicyTrace, trace},
};
use serde_json::json;

use super::source;
use crate::{
    arguments::{Global, PolicyExplain},
    config::Environment,
    exit::{self, Usage},
    output::{Output, printable_lines},
    policy_test::{Call, Verdict, invoke},
};

pub(super) fn run(
    global: &Global,
    environment: Environment,
    arguments: &PolicyExplain,
) -> anyhow::Result<u8> {
    let loaded = source::load(global, environment, &arguments.from)?;
    let (fixtures, now) = source::fixtures_of(arguments.fixtures.as_deref(), &loaded.name)?;
    let agent = fixtures.agent(&arguments.agent).map_err(Usage)?;
    let command = fixtures
        .command(&Call::Slash(arguments.call.clone()))
        .map_err(Usage)?;
    let at = Circumstances {
        now: arguments.now.unwrap_or(now),
        ip: arguments.ip,
    };
    let principal = Principal::new(Facts {
        agent,
        grants: Vec::new(),
        version: 0,
    });
    let answer = invoke(&loaded.set, &principal, command.clone(), at);
    let slice = Slice::new(&loaded.set, &Arc::clone(&command.target), Action::Invoke);
    let traces = trace(&slice, &principal, &command, at);
    let target = &command.target;
    let value = json!({
        "agent": arguments.agent,
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
            arguments.agent, target.key, target.risk, answer.verdict
        );
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
    } else {
        lines.push("It would be permitted,".to_owned());
        for trace in traces.iter().filter(|trace| trace.forbids && trace.matched) {
            lines.push(format!("  if {} did not apply", trace.id));
        }
        if !traces.iter().any(|trace| trace.matched && !trace.forbids) {
            for trace in traces.iter().filter(|trace| !trace.forbids).take(3) {
                lines.push(format!("  by {}, if: {}", trace.id, parts(trace)));
            }
        }
        if verdict == Verdict::Escalate {
            lines.push("  by a grant that people give when the agent asks".to_owned());
        }
    }
    lines.join("\n")
}
