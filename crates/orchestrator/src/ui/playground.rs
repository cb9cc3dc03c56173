//! The playground: what would come of a command. Nothing is carried out or recorded.

use askama::Template;
use authz::{
    CommandKey, PolicySetVersion, Risk, Timestamp,
    approval::Reach,
    explain::{Change, How, Outcome, PolicyTrace, Verdict},
};
use axum::{
    Form, Router,
    extract::{State, rejection::FormRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use contract::explain::{
    DEFAULT_IP, ExplainAnswer, ExplainCommand, HypotheticalGrant, HypotheticalSession,
};
use serde::Deserialize;
use serde_json::Value;

use super::{
    Frame, Trouble, Visitor,
    moment::Moment,
    page,
    services::{ArgumentRow, arguments, pretty},
    trail::link,
};
use crate::{
    Orchestrator,
    api::Parameters,
    error::Error,
    explain,
    services::{self, KnownService},
};

/// So many agents are offered by name; any other can be typed.
const OFFERED_AGENTS: u32 = 300;

/// So many stored versions are offered.
const OFFERED_VERSIONS: u32 = 50;

pub(super) fn routes() -> Router<Orchestrator> {
    Router::new().route("/playground", get(form).post(ask))
}

/// What the form holds, as it was sent.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Fields {
    agent: String,
    command: String,
    arguments: String,
    policy_set: String,
    /// As a browser's form writes a time; taken as UTC.
    at: String,
    ip: String,
    /// `tainted` or nothing.
    session: String,
    /// `reach:approvals`, or nothing.
    grant: String,
    gateway: String,
    done: Option<String>,
}

#[derive(Template)]
#[template(path = "playground.html")]
struct Page {
    frame: Frame,
    fields: Fields,
    agents: Vec<String>,
    commands: Vec<(String, String)>,
    versions: Vec<(String, String)>,
    gateways: Vec<String>,
    grants: Vec<(&'static str, &'static str)>,
    known: Option<Known>,
    answer: Option<Answer>,
}

/// The command that the form names.
struct Known {
    summary: String,
    risk: Risk,
    arguments: Vec<ArgumentRow>,
}

/// Grants that the form offers.
const GRANTS: [(&str, &str); 8] = [
    ("once:1", "this call once, by one person"),
    ("call:1", "this call, by one person"),
    ("call:2", "this call, by two people"),
    ("command:1", "this command, by one person"),
    ("command:2", "this command, by two people"),
    ("service:1", "the whole service, by one person"),
    ("service:2", "the whole service, by two people"),
    ("once:2", "this call once, by two people"),
];

/// What came of it.
struct Answer {
    class: &'static str,
    verdict: String,
    told: String,
    agent: String,
    command: String,
    risk: Risk,
    policy_set: String,
    policy_set_short: String,
    in_force: bool,
    at: Moment,
    ip: String,
    tainted: bool,
    digest: String,
    arguments: String,
    grants: usize,
    listed: bool,
    policies: Vec<PolicyLink>,
    permitted_by_approval: Vec<String>,
    advice: Vec<String>,
    workflow: Option<String>,
    errors: Vec<(String, String)>,
    changes: Vec<ChangeRow>,
    traces: Vec<TraceRow>,
}

struct PolicyLink {
    id: String,
    href: String,
}

struct ChangeRow {
    text: String,
    parts: Vec<String>,
    then: Option<&'static str>,
}

struct TraceRow {
    id: String,
    forbids: bool,
    matched: bool,
    told: &'static str,
    parts: Vec<PartRow>,
}

struct PartRow {
    class: &'static str,
    mark: &'static str,
    word: &'static str,
    text: String,
    facts: Vec<(String, String)>,
}

/// `GET /playground?command=&agent=&…`: the form, with what the query says.
async fn form(
    Visitor { frame, .. }: Visitor,
    State(orchestrator): State<Orchestrator>,
    fields: Result<Parameters<Fields>, Error>,
) -> Result<Response, Trouble> {
    let Parameters(fields) = fields?;
    Ok(page(&show(&orchestrator, frame, fields, None).await?))
}

/// `POST /playground`: the form again, with the answer below.
async fn ask(
    Visitor { frame, .. }: Visitor,
    State(orchestrator): State<Orchestrator>,
    fields: Result<Form<Fields>, FormRejection>,
) -> Result<Response, Trouble> {
    let Form(fields) = fields.map_err(Error::from)?;
    let asked = match question(&fields) {
        Ok(question) => explain::answer(&orchestrator, question).await,
        Err(error) => Err(error),
    };
    match asked {
        Ok(answer) => {
            let now = orchestrator.now();
            let shown = show(&orchestrator, frame, fields, Some(told(answer, now))).await?;
            Ok(page(&shown))
        }
        // What was written into a field is for its writer to put right, here.
        Err(error @ (Error::Invalid(_) | Error::NotFound(_) | Error::InvalidPolicySet(_))) => {
            let frame = frame.warning(Some(error.to_string()));
            let shown = show(&orchestrator, frame, fields, None).await?;
            Ok((StatusCode::UNPROCESSABLE_ENTITY, page(&shown)).into_response())
        }
        Err(error) => Err(error.into()),
    }
}

fn question(fields: &Fields) -> Result<ExplainCommand, Error> {
    let some = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
    let arguments = match some(&fields.arguments) {
        None => serde_json::Map::new(),
        Some(text) => match serde_json::from_str(&text) {
            Ok(Value::Object(members)) => members,
            Ok(_) => return Err(Error::field("arguments", "an object is wanted: `{…}`")),
            Err(error) => return Err(Error::field("arguments", format!("not JSON: {error}"))),
        },
    };
    let agent = some(&fields.agent).ok_or_else(|| Error::field("agent", "which one?"))?;
    let command: CommandKey = some(&fields.command)
        .ok_or_else(|| Error::field("command", "which one?"))?
        .parse()
        .map_err(|error| Error::field("command", error))?;
    Ok(ExplainCommand {
        agent,
        command,
        arguments,
        gateway: some(&fields.gateway),
        policy_set: some(&fields.policy_set)
            .map(|text| text.parse::<PolicySetVersion>())
            .transpose()
            .map_err(|error| Error::field("policy_set", error))?,
        at: some(&fields.at)
            .map(|text| crate::audit_query::time("at", &text))
            .transpose()?,
        ip: some(&fields.ip)
            .map(|text| text.parse())
            .transpose()
            .map_err(|error| Error::field("ip", error))?,
        session: some(&fields.session)
            .map(|text| match text.as_str() {
                "tainted" => Ok(HypotheticalSession {
                    tainted: true,
                    ..HypotheticalSession::default()
                }),
                _ => Err(Error::field("session", "one of the choices")),
            })
            .transpose()?,
        grants: some(&fields.grant)
            .map(|text| grant(&text))
            .transpose()?
            .into_iter()
            .collect(),
    })
}

fn grant(text: &str) -> Result<HypotheticalGrant, Error> {
    let wrong = || Error::field("grant", "one of the choices");
    let (reach, approvals) = text.split_once(':').ok_or_else(wrong)?;
    Ok(HypotheticalGrant {
        reach: Reach::ALL
            .into_iter()
            .find(|known| known.as_str() == reach)
            .ok_or_else(wrong)?,
        approvals: approvals.parse().map_err(|_| wrong())?,
        risk: None,
    })
}

async fn show(
    orchestrator: &Orchestrator,
    frame: Frame,
    mut fields: Fields,
    answer: Option<Answer>,
) -> Result<Page, Error> {
    let store = orchestrator.store();
    let known = services::all(orchestrator).await?;
    let named = fields
        .command
        .trim()
        .parse::<CommandKey>()
        .ok()
        .and_then(|key| described(known.get(&key.service)?, &key));
    if let (true, Some((_, example))) = (fields.arguments.trim().is_empty(), &named) {
        fields.arguments.clone_from(example);
    }
    let commands = known.iter().flat_map(|(name, service)| {
        service.commands().into_iter().map(move |known| {
            (
                format!("{name}/{}", known.command.name),
                known.command.summary,
            )
        })
    });
    let mut gateways: Vec<_> = known
        .values()
        .flat_map(|service| service.described.iter().map(|one| one.gateway.clone()))
        .collect();
    gateways.sort_unstable();
    gateways.dedup();
    let in_force = orchestrator.in_force();
    let versions = store.policy_sets(OFFERED_VERSIONS).await?;
    Ok(Page {
        agents: store.agent_names(OFFERED_AGENTS).await?,
        commands: commands.collect(),
        versions: versions
            .iter()
            .filter(|head| head.version != *in_force.set.version())
            .map(|head| {
                let stored = Moment::past(head.stored, frame.now);
                let name = format!(
                    "{}, {} by {}",
                    head.version.short(),
                    stored.exact(),
                    head.stored_by
                );
                (head.version.as_str().to_owned(), name)
            })
            .collect(),
        gateways,
        grants: GRANTS.to_vec(),
        known: named.map(|(known, _)| known),
        answer,
        fields,
        frame,
    })
}

/// A command with what its form says, and its example as text.
fn described(service: &KnownService, key: &CommandKey) -> Option<(Known, String)> {
    let command = service
        .commands()
        .into_iter()
        .find(|known| known.command.name == key.name)?
        .command;
    let known = Known {
        summary: command.summary,
        risk: command.risk,
        arguments: arguments(&command.arguments),
    };
    Some((known, pretty(&command.example)))
}

fn told(answer: ExplainAnswer, now: Timestamp) -> Answer {
    let explanation = answer.explanation;
    let (class, verdict, told) = match explanation.verdict {
        Verdict::Permit => (
            "permit",
            "Permitted".to_owned(),
            if explanation.grant.is_some() {
                "It would be carried out, on the strength of a grant."
            } else {
                "It would be carried out."
            },
        ),
        Verdict::Escalate => (
            "escalate",
            match explanation.approvals {
                Some(2) => "Needs the approval of two people".to_owned(),
                _ => "Needs an approval".to_owned(),
            },
            "It would be refused, and put before people.",
        ),
        Verdict::Hard => (
            "hard",
            "Refused for good".to_owned(),
            "It would be refused, and no approval would change that.",
        ),
    };
    Answer {
        class,
        verdict,
        told: told.to_owned(),
        agent: answer.agent_name.to_string(),
        command: answer.command.to_string(),
        risk: answer.risk,
        policy_set_short: answer.policy_set.short().to_owned(),
        policy_set: answer.policy_set.as_str().to_owned(),
        in_force: answer.in_force,
        at: Moment::past(answer.at, now),
        ip: answer.ip.to_string(),
        tainted: answer.session.tainted,
        digest: answer.digest.as_str().chars().take(16).collect(),
        arguments: pretty(&Value::Object(answer.arguments)),
        grants: answer.grants,
        listed: explanation.listed,
        policies: explanation
            .policies
            .into_iter()
            .map(|id| PolicyLink {
                href: link(&[("text", &id)]),
                id,
            })
            .collect(),
        permitted_by_approval: explanation.permitted_by_approval,
        advice: explanation.advice,
        workflow: explanation.workflow,
        errors: explanation
            .errors
            .into_iter()
            .map(|error| (error.policy, error.message))
            .collect(),
        changes: explanation.changes.into_iter().map(change).collect(),
        traces: explanation.traces.into_iter().map(trace).collect(),
    }
}

fn change(change: Change) -> ChangeRow {
    let policy = change.policy.unwrap_or_default();
    ChangeRow {
        text: match change.how {
            How::Without => format!("if {policy} did not apply"),
            How::If => format!("if {policy} applied, which wants"),
            How::Grant => "with a grant that people give when the agent asks".to_owned(),
            How::StandingAccess => "if the agent had standing access to the service".to_owned(),
            How::NotSuspended => "if the agent were not suspended".to_owned(),
            How::SameEnvironment => "if the agent ran in the service’s environment".to_owned(),
        },
        parts: if change.how == How::If {
            change.parts
        } else {
            Vec::new()
        },
        then: change.verdict.map(|verdict| match verdict {
            Verdict::Permit => "permitted",
            Verdict::Escalate => "put before people",
            Verdict::Hard => "refused for good",
        }),
    }
}

fn trace(trace: PolicyTrace) -> TraceRow {
    TraceRow {
        told: match (trace.matched, trace.forbids) {
            (true, true) => "forbids",
            (true, false) => "permits",
            (false, true) => "does not forbid",
            (false, false) => "does not permit",
        },
        forbids: trace.forbids,
        matched: trace.matched,
        id: trace.id,
        parts: trace
            .parts
            .into_iter()
            .map(|part| {
                let (class, mark, word) = match part.outcome {
                    Outcome::Held => ("held", "✔", "held"),
                    Outcome::Failed => ("failed", "✘", "did not hold"),
                    Outcome::NotReached => ("skipped", "·", "not looked at"),
                    Outcome::Error => ("failed", "!", "failed to evaluate"),
                };
                PartRow {
                    class,
                    mark,
                    word,
                    text: part.text,
                    facts: if part.outcome == Outcome::NotReached {
                        Vec::new()
                    } else {
                        part.facts
                    },
                }
            })
            .collect(),
    }
}

impl Page {
    /// Where a call comes from unless the form says otherwise.
    #[allow(clippy::unused_self, reason = "a template calls what its page has")]
    fn usual_ip(&self) -> String {
        DEFAULT_IP.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields() -> Fields {
        Fields {
            agent: "build-bot".to_owned(),
            command: " coolify/deploy ".to_owned(),
            arguments: "{\"uuid\": \"a\"}".to_owned(),
            at: "2026-11-22T10:30".to_owned(),
            ip: "10.0.0.7".to_owned(),
            session: "tainted".to_owned(),
            grant: "call:2".to_owned(),
            ..Fields::default()
        }
    }

    #[test]
    fn a_form_is_a_question() {
        let asked = question(&fields()).unwrap();
        assert_eq!(asked.command.to_string(), "coolify/deploy");
        assert_eq!(asked.at.unwrap().to_string(), "2026-11-22T10:30:00.000Z");
        assert_eq!(
            (asked.grants[0].reach, asked.grants[0].approvals),
            (Reach::Call, 2)
        );
        assert!(asked.session.unwrap().tainted);
        assert_eq!((asked.policy_set, asked.gateway), (None, None));
        for (offered, _) in GRANTS {
            grant(offered).unwrap();
        }
    }

    #[test]
    fn what_is_wrong_with_a_form_is_named() {
        for (wrong, expected) in [
            (
                Fields {
                    agent: " ".to_owned(),
                    ..fields()
                },
                "agent",
            ),
            (
                Fields {
                    command: "deploy".to_owned(),
                    ..fields()
                },
                "command",
            ),
            (
                Fields {
                    arguments: "[1]".to_owned(),
                    ..fields()
                },
                "arguments",
            ),
            (
                Fields {
                    arguments: "{".to_owned(),
                    ..fields()
                },
                "arguments: not JSON",
            ),
            (
                Fields {
                    policy_set: "x".to_owned(),
                    ..fields()
                },
                "policy_set",
            ),
            (
                Fields {
                    at: "noon".to_owned(),
                    ..fields()
                },
                "at",
            ),
            (
                Fields {
                    ip: "here".to_owned(),
                    ..fields()
                },
                "ip",
            ),
            (
                Fields {
                    grant: "all:1".to_owned(),
                    ..fields()
                },
                "grant",
            ),
        ] {
            let error = question(&wrong).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
