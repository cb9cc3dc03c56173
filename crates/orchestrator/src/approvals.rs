//! Approval requests: opened by gateways, decided by people, expired by time.

use std::{fmt::Write as _, net::Ipv4Addr, sync::Arc, time::Duration};

use authz::{
    Agent, AgentRef, ApprovalRequestId, Arguments, Command, CommandName, Decision, Risk, Service,
    ServiceName, Slice, Target, Timestamp, UserId,
    approval::{
        Ask, Choice, DURATIONS, Escalation, NotPermitted, Reach, SERVICE_ACCESS, choices, derive,
        is_service_access, may_approve, may_reject,
    },
    decide::{Circumstances, decide},
    facts::Principal,
    redact,
    slice::Action,
};
use contract::approvals::{
    ApprovalStatus, ApprovalSummary, ApprovalView, Approve, OpenApproval, VerdictView,
};
use serde_json::{Map, Value};
use store::{
    Actor,
    approvals::{Approved, NewApproval, Status, StoredApproval},
};

use crate::{Orchestrator, authenticate::Person, error::Error};

/// Reasons and notes are at most so many characters.
pub(crate) const MAX_REASON_CHARS: usize = 2_000;

/// A shown argument is at most so many characters; the digest covers the whole.
const MAX_SHOWN_CHARS: usize = 4_000;

/// What an approval grants when nobody says for how long.
const DEFAULT_DURATION: Duration = Duration::from_hours(1);

/// The shortest grant that makes sense to ask for.
const SHORTEST: Duration = Duration::from_mins(1);

/// Opens a request for a gateway, or joins the pending one.
pub(crate) async fn open(
    orchestrator: &Orchestrator,
    open: OpenApproval,
) -> Result<StoredApproval, Error> {
    check_reason(&open.reason)?;
    if !(1..=2).contains(&open.approvals) {
        return Err(Error::field("approvals", "1 or 2 people can be asked"));
    }
    let agent = orchestrator
        .store()
        .agent(&AgentRef::Id(open.agent))
        .await?
        .agent;
    let ask = ask(agent, None, open.target, open.digest, open.approvals);
    let actor = Actor {
        user: None,
        via: "gateway",
        from: None,
        at: orchestrator.now(),
    };
    let new = NewApproval {
        id: ApprovalRequestId::generate(actor.at),
        ask,
        // Gateways redact; whoever forgets shows no secret all the same.
        arguments: shown(&redact::arguments(&open.arguments, &[])),
        reason: open.reason,
        policies: open.policies,
        advice: open.advice,
        workflow: open.workflow,
        policy_set: open.policy_set,
        expires: actor.at.plus(orchestrator.inner.config.approval_lifetime),
    };
    save(orchestrator, new, &actor).await
}

/// Opens a request for a whole service: all that the system which we replace can ask for.
///
/// # Errors
///
/// [`Error::Conflict`] when the agent may use the service already; [`Error::NotLiftable`]
/// when no approval would help.
pub(crate) async fn open_for_service(
    orchestrator: &Orchestrator,
    agent: &AgentRef,
    service: &ServiceName,
    reason: String,
    actor: &Actor,
) -> Result<StoredApproval, Error> {
    check_reason(&reason)?;
    let facts = orchestrator.store().facts(agent, actor.at).await?;
    let name: CommandName = SERVICE_ACCESS
        .parse()
        .map_err(|error| Error::Bug(format!("{error}")))?;
    let target = Arc::new(Target {
        key: authz::CommandKey {
            service: service.clone(),
            name,
        },
        service: Arc::new(Service {
            name: service.clone(),
            env: authz::command::Environment::default(),
            owners: None,
            zones: std::collections::BTreeSet::new(),
        }),
        risk: Risk::Write,
        zones: std::collections::BTreeSet::new(),
        pinned: true,
    });

    let in_force = orchestrator.in_force();
    let principal = Principal::new(facts);
    let invoke = Slice::new(&in_force.set, &target, Action::Invoke);
    let escalate = Slice::new(&in_force.set, &target, Action::Escalate);
    let command = Command {
        target: Arc::clone(&target),
        arguments: Arguments::new(Map::new()),
    };
    let digest = command.arguments.digest().clone();
    // Whoever asks in this way does not say from where the agent calls.
    let at = Circumstances {
        now: actor.at,
        ip: Ipv4Addr::LOCALHOST.into(),
    };
    let refused = match decide(&invoke, &principal, command, at) {
        Decision::Permit(_) => {
            let agent = &principal.agent().name;
            return Err(Error::Conflict(format!(
                "agent `{agent}` may use service `{service}` already"
            )));
        }
        Decision::Refuse(refused) => refused,
    };
    let (approvals, workflow) = match derive(&invoke, &escalate, &principal, &refused, at) {
        Escalation::Liftable {
            approvals,
            workflow,
            policies: _,
        } => (approvals, workflow),
        Escalation::Hard { policies, advice } => {
            return Err(Error::NotLiftable(if advice.is_empty() {
                policies.join(", ")
            } else {
                advice.join(" ")
            }));
        }
    };
    let new = NewApproval {
        id: ApprovalRequestId::generate(actor.at),
        ask: ask(
            principal.agent().clone(),
            // Whoever asks for an agent does not answer for it as well.
            actor.user.clone(),
            (*target).clone(),
            digest,
            approvals,
        ),
        arguments: Map::new(),
        reason,
        policies: refused.policies,
        advice: refused.advice,
        workflow,
        policy_set: in_force.set.version().clone(),
        expires: actor.at.plus(orchestrator.inner.config.approval_lifetime),
    };
    save(orchestrator, new, actor).await
}

fn ask(
    agent: Agent,
    requester: Option<UserId>,
    target: Target,
    digest: authz::command::ArgumentsDigest,
    approvals: u8,
) -> Ask {
    Ask {
        agent,
        target,
        digest,
        requester,
        approved_by: Vec::new(),
        approvals,
    }
}

async fn save(
    orchestrator: &Orchestrator,
    new: NewApproval,
    actor: &Actor,
) -> Result<StoredApproval, Error> {
    let (stored, opened) = orchestrator
        .store()
        .open_approval(new, orchestrator.inner.config.open_limit, actor)
        .await?;
    if opened {
        tracing::info!(
            request_id = %stored.new.id,
            agent.id = %stored.new.ask.agent.id,
            agent.name = %stored.new.ask.agent.name,
            command = %stored.new.ask.target.key,
            risk = %stored.new.ask.target.risk,
            approvals_needed = stored.new.ask.approvals,
            "mcp_permission_request"
        );
    }
    Ok(stored)
}

/// Saves one person's yes.
pub(crate) async fn approve(
    orchestrator: &Orchestrator,
    person: &Person,
    id: ApprovalRequestId,
    approve: Approve,
) -> Result<StoredApproval, Error> {
    check_reason(&approve.reason)?;
    let actor = orchestrator.actor(person);
    let in_force = orchestrator.in_force();
    let stored = orchestrator.store().approval(id, actor.at).await?;
    let reach = approve
        .reach
        .unwrap_or(if is_service_access(&stored.new.ask.target.key) {
            Reach::Service
        } else {
            Reach::Call
        });
    if is_service_access(&stored.new.ask.target.key) && reach != Reach::Service {
        return Err(Error::field(
            "reach",
            "this request is for a whole service: `service` is all that can be given",
        ));
    }
    let duration = match approve.duration_seconds.map(Duration::from_secs) {
        None => {
            let presence = person.presence(orchestrator).confirmed_now();
            let choices = choices(&in_force.set, &person.user, &stored.new.ask, presence);
            let longest = choices
                .iter()
                .find(|choice| choice.reach == reach)
                .map(|choice| choice.longest_seconds);
            // If there is none, policy says below why.
            longest.map_or(DEFAULT_DURATION, |longest| {
                DEFAULT_DURATION.min(Duration::from_secs(longest))
            })
        }
        Some(duration)
            if duration < SHORTEST || DURATIONS.iter().all(|longest| duration > *longest) =>
        {
            return Err(Error::field(
                "duration_seconds",
                "a grant lives from one minute to 24 hours",
            ));
        }
        Some(duration) => duration,
    };

    let approved = orchestrator
        .store()
        .approve(
            id,
            &person.user.id,
            reach,
            duration,
            &approve.reason,
            &actor,
            |now: &StoredApproval| {
                may_approve(
                    &in_force.set,
                    &person.user,
                    &now.new.ask,
                    reach,
                    duration,
                    person.presence(orchestrator),
                )
                .map_err(Error::from)
            },
        )
        .await?;
    let (stored, grant) = match approved {
        Approved::Advanced(stored) => (stored, None),
        Approved::Granted(stored, grant) => (stored, Some(grant)),
    };
    tracing::info!(
        request_id = %id,
        agent.id = %stored.new.ask.agent.id,
        command = %stored.new.ask.target.key,
        user = %person.user.id,
        approved = true,
        reach = reach.as_str(),
        duration_seconds = duration.as_secs(),
        grant = grant.map(|grant| grant.id.to_string()),
        "permission_response"
    );
    Ok(stored)
}

/// Saves one person's no.
pub(crate) async fn reject(
    orchestrator: &Orchestrator,
    person: &Person,
    id: ApprovalRequestId,
    reason: &str,
) -> Result<StoredApproval, Error> {
    check_reason(reason)?;
    let actor = orchestrator.actor(person);
    let in_force = orchestrator.in_force();
    let retry_at = actor.at.plus(orchestrator.inner.config.rejection_cool_down);
    let stored = orchestrator
        .store()
        .reject(
            id,
            &person.user.id,
            reason,
            retry_at,
            &actor,
            |now: &StoredApproval| {
                may_reject(
                    &in_force.set,
                    &person.user,
                    &now.new.ask,
                    person.presence(orchestrator),
                )
                .map_err(Error::from)
            },
        )
        .await?;
    tracing::info!(
        request_id = %id,
        agent.id = %stored.new.ask.agent.id,
        command = %stored.new.ask.target.key,
        user = %person.user.id,
        approved = false,
        "permission_response"
    );
    Ok(stored)
}

/// Marks what nobody decided in time.
pub(crate) async fn expire(orchestrator: &Orchestrator) -> Result<(), store::StoreError> {
    let actor = Actor {
        user: None,
        via: "sweeper",
        from: None,
        at: orchestrator.now(),
    };
    let expired = orchestrator.store().expire_approvals(&actor).await?;
    for (approval, agent) in expired {
        tracing::info!(request_id = %approval, agent.id = %agent, "approval_expired");
    }
    Ok(())
}

/// What this person may choose, narrowest first; nothing once it is decided.
pub(crate) fn choices_of(
    orchestrator: &Orchestrator,
    person: &Person,
    stored: &StoredApproval,
) -> Vec<Choice> {
    if stored.status != Status::Pending || stored.new.ask.approved_by.contains(&person.user.id) {
        return Vec::new();
    }
    let mut choices = choices(
        &orchestrator.in_force().set,
        &person.user,
        &stored.new.ask,
        // What they may once they proved a second factor, where that is needed.
        person.presence(orchestrator).confirmed_now(),
    );
    if is_service_access(&stored.new.ask.target.key) {
        choices.retain(|choice| choice.reach == Reach::Service);
    }
    choices
}

/// Whether this person may say no, and if not, what to tell them.
pub(crate) fn may_reject_of(
    orchestrator: &Orchestrator,
    person: &Person,
    stored: &StoredApproval,
) -> Result<(), NotPermitted> {
    may_reject(
        &orchestrator.in_force().set,
        &person.user,
        &stored.new.ask,
        person.presence(orchestrator),
    )
}

/// Whether this person may only say yes once they proved a second factor.
pub(crate) fn takes_step_up(
    orchestrator: &Orchestrator,
    person: &Person,
    stored: &StoredApproval,
) -> bool {
    let (now, later) = (person.presence(orchestrator), &stored.new.ask);
    let set = &orchestrator.in_force().set;
    choices(set, &person.user, later, now) != choices(set, &person.user, later, now.confirmed_now())
}

/// As this person sees it.
pub(crate) fn view(
    orchestrator: &Orchestrator,
    person: &Person,
    stored: StoredApproval,
) -> ApprovalView {
    let choices = choices_of(orchestrator, person, &stored);
    let step_up = !choices.is_empty() && takes_step_up(orchestrator, person, &stored);
    let summary = summary(&stored);
    let NewApproval {
        ask,
        arguments,
        reason,
        policies,
        advice,
        policy_set,
        ..
    } = stored.new;
    ApprovalView {
        summary,
        agent_name: ask.agent.name,
        service: ask.target.key.service,
        risk: ask.target.risk,
        arguments,
        digest: ask.digest,
        reason,
        policies,
        advice,
        policy_set,
        joined: stored.joined,
        verdicts: stored
            .verdicts
            .into_iter()
            .map(|verdict| VerdictView {
                user: verdict.user,
                approved: verdict.approved.is_some(),
                reach: verdict.approved.map(|(reach, _)| reach),
                duration_seconds: verdict.approved.map(|(_, duration)| duration.as_secs()),
                reason: verdict.reason,
                at: verdict.at,
            })
            .collect(),
        grant: stored.grant,
        choices,
        step_up,
    }
}

/// As the agent may know it.
pub(crate) fn summary(stored: &StoredApproval) -> ApprovalSummary {
    let ask = &stored.new.ask;
    ApprovalSummary {
        id: stored.new.id,
        agent: ask.agent.id,
        command: ask.target.key.clone(),
        status: status(stored.status),
        approvals_needed: ask.approvals,
        approvals_given: u8::try_from(ask.approved_by.len()).unwrap_or(u8::MAX),
        opened: stored.opened,
        expires: stored.new.expires,
        retry_at: stored.retry_at,
        note: rejection(stored)
            .map(|verdict| verdict.reason.clone())
            .filter(|reason| !reason.is_empty()),
    }
}

/// The verdict that rejected it.
pub(crate) fn rejection(stored: &StoredApproval) -> Option<&store::approvals::Verdict> {
    stored
        .verdicts
        .iter()
        .rev()
        .find(|verdict| verdict.approved.is_none())
}

const fn status(status: Status) -> ApprovalStatus {
    match status {
        Status::Pending => ApprovalStatus::Pending,
        Status::Approved => ApprovalStatus::Approved,
        Status::Rejected => ApprovalStatus::Rejected,
        Status::Expired => ApprovalStatus::Expired,
        Status::Withdrawn => ApprovalStatus::Withdrawn,
    }
}

/// When a decided request was decided: for events.
pub(crate) fn decided(stored: &StoredApproval) -> Timestamp {
    stored.decided.unwrap_or(stored.opened)
}

fn check_reason(reason: &str) -> Result<(), Error> {
    check_text("reason", reason, MAX_REASON_CHARS)
}

/// Free text of a caller's: short, and of printable characters.
pub(crate) fn check_text(field: &str, text: &str, max_chars: usize) -> Result<(), Error> {
    if text.chars().count() > max_chars {
        return Err(Error::field(
            field,
            format!("at most {max_chars} characters"),
        ));
    }
    if text
        .chars()
        .any(|letter| letter.is_control() && !matches!(letter, '\n' | '\r' | '\t'))
    {
        return Err(Error::field(field, "control characters are not text"));
    }
    Ok(())
}

/// The arguments, long ones shortened: people read them, and the digest covers the rest.
fn shown(arguments: &Map<String, Value>) -> Map<String, Value> {
    arguments
        .iter()
        .map(|(name, value)| (visible(name), shorten(value)))
        .collect()
}

/// A text as people who decide about it must see it: nothing in it hides, or turns round
/// what stands beside it.
fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len().min(MAX_SHOWN_CHARS));
    for letter in text.chars().take(MAX_SHOWN_CHARS) {
        if is_deceptive(letter) {
            shown.extend(letter.escape_unicode());
        } else {
            shown.push(letter);
        }
    }
    let more = text.chars().skip(MAX_SHOWN_CHARS).count();
    if more > 0 {
        // Writing to a string cannot fail.
        let _ = write!(shown, "… [{more} characters more]");
    }
    shown
}

/// Controls, marks of the direction of writing, and letters without a shape.
pub(crate) fn is_deceptive(letter: char) -> bool {
    letter.is_control() && !matches!(letter, '\n' | '\t')
        || matches!(
            letter,
            '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

fn shorten(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::String(visible(text)),
        Value::Array(items) => Value::Array(items.iter().map(shorten).collect()),
        Value::Object(values) => Value::Object(shown(values)),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn long_arguments_are_shown_short_at_every_depth() {
        let Value::Object(arguments) = json!({"a": ["x".repeat(5_000)], "b": {"c": "y"}, "d": 1})
        else {
            panic!()
        };
        let shown = Value::Object(shown(&arguments));
        let text = shown["a"][0].as_str().unwrap();
        assert!(
            text.ends_with("… [1000 characters more]") && text.len() < 4_100,
            "{}",
            text.len()
        );
        assert_eq!(shown["b"], json!({"c": "y"}));
    }

    #[test]
    fn nothing_in_arguments_hides_from_people() {
        let Value::Object(arguments) =
            json!({"na\u{202e}me": ["two\nlines", "a\u{202e}b\u{200b}\u{7}\u{e0041}", "ä 🚀"]})
        else {
            panic!()
        };
        let shown = Value::Object(shown(&arguments));
        assert_eq!(
            shown,
            json!({"na\\u{202e}me": ["two\nlines", "a\\u{202e}b\\u{200b}\\u{7}\\u{e0041}", "ä 🚀"]})
        );
    }

    #[test]
    fn free_text_has_limits() {
        for (text, valid) in [
            (String::new(), true),
            ("two\nlines, <b>marked</b>".to_owned(), true),
            ("ä".repeat(2_000), true),
            ("ä".repeat(2_001), false),
            ("escape \u{1b}[31m".to_owned(), false),
        ] {
            assert_eq!(check_reason(&text).is_ok(), valid, "{text:?}");
        }
    }
}
