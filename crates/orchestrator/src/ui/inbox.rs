//! The inbox, and the page of one request.

use std::time::Duration;

use askama::Template;
use authz::{
    ApprovalRequestId, Risk, Timestamp, User,
    approval::{Choice, DURATIONS, Reach},
};
use axum::{
    Form,
    extract::{State, rejection::FormRejection},
    response::Response,
};
use contract::approvals::Approve;
use serde::Deserialize;
use serde_json::Value;
use store::approvals::{Status, StoredApproval, Verdict};

use super::{Trouble, Visitor, go, page, page_with};
use crate::{Orchestrator, api::Named, approvals, authenticate::Person, error::Error};

/// How many requests the inbox looks through for decided ones.
const RECENT: u32 = 200;

/// How many decided ones it shows.
const SHOWN_DECIDED: usize = 30;

/// Pending requests shown at once, at most.
const SHOWN_PENDING: u32 = 500;

#[derive(Template)]
#[template(path = "inbox.html")]
struct Inbox {
    page: &'static str,
    now: Timestamp,
    user: User,
    pending: Vec<Pending>,
    decided: Vec<Decided>,
}

struct Pending {
    id: ApprovalRequestId,
    agent: String,
    command: String,
    risk: Risk,
    reason: String,
    policies: Vec<String>,
    needed: u8,
    given: usize,
    status: &'static str,
    expires: Timestamp,
    remaining: String,
    /// This person has approved it already.
    mine: bool,
    /// This person may approve or reject it.
    decidable: bool,
}

struct Decided {
    id: ApprovalRequestId,
    agent: String,
    command: String,
    status: &'static str,
    by: String,
    closed: Timestamp,
    ago: String,
}

#[derive(Template)]
#[template(path = "request.html")]
struct RequestPage {
    page: &'static str,
    now: Timestamp,
    user: User,
    problem: Option<String>,
    request: Pending,
    arguments: Vec<(String, String)>,
    digest: String,
    advice: Vec<String>,
    policy_set: String,
    workflow_shown: bool,
    workflow: String,
    timeline: Vec<Step>,
    grant: Option<String>,
    choices: Vec<Offer>,
    /// Saying yes takes a second factor first.
    step_up: bool,
    rejectable: bool,
    undecidable: String,
    draft: String,
}

struct Step {
    at: Timestamp,
    ago: String,
    what: String,
    note: String,
}

/// One reach, with the durations that policy lets this person choose.
struct Offer {
    name: &'static str,
    means: String,
    options: Vec<Opt>,
}

struct Opt {
    value: String,
    name: String,
    usual: bool,
}

/// `GET /approvals`.
pub(crate) async fn list(
    Visitor(person): Visitor,
    State(orchestrator): State<Orchestrator>,
) -> Result<Response, Trouble> {
    let now = orchestrator.now();
    let pending = orchestrator
        .store()
        .approvals(false, SHOWN_PENDING, now)
        .await?;
    let all = orchestrator.store().approvals(true, RECENT, now).await?;
    let mut decided: Vec<_> = all
        .iter()
        .filter(|stored| stored.status != Status::Pending)
        .map(|stored| past(stored, now))
        .collect();
    decided.sort_by_key(|decided| std::cmp::Reverse(decided.closed));
    decided.truncate(SHOWN_DECIDED);
    Ok(page(&Inbox {
        page: "inbox",
        now,
        pending: pending
            .iter()
            .map(|stored| row(&orchestrator, &person, stored, now))
            .collect(),
        decided,
        user: person.user,
    }))
}

/// `GET /approvals/{id}`.
pub(crate) async fn show(
    Visitor(person): Visitor,
    State(orchestrator): State<Orchestrator>,
    id: Result<Named<ApprovalRequestId>, Error>,
) -> Result<Response, Trouble> {
    let Named(id) = id?;
    let stored = orchestrator
        .store()
        .approval(id, orchestrator.now())
        .await?;
    Ok(page(&request(
        &orchestrator,
        person,
        &stored,
        None,
        String::new(),
    )))
}

/// What the form sends.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Verdicts {
    #[serde(default)]
    reason: String,
    /// `reach:seconds`.
    #[serde(default)]
    choice: Option<String>,
}

/// `POST /approvals/{id}/approve`.
pub(crate) async fn approve(
    Visitor(person): Visitor,
    State(orchestrator): State<Orchestrator>,
    id: Result<Named<ApprovalRequestId>, Error>,
    form: Result<Form<Verdicts>, FormRejection>,
) -> Result<Response, Trouble> {
    let Named(id) = id?;
    let Form(Verdicts { reason, choice }) = form.map_err(Error::from)?;
    let draft = reason.clone();
    let result = match chosen(choice.as_deref()) {
        Ok((reach, seconds)) => {
            let approve = Approve {
                reach: Some(reach),
                duration_seconds: Some(seconds),
                reason,
            };
            approvals::approve(&orchestrator, &person, id, approve).await
        }
        Err(error) => Err(error),
    };
    answer(&orchestrator, person, id, draft, result).await
}

/// `POST /approvals/{id}/reject`.
pub(crate) async fn reject(
    Visitor(person): Visitor,
    State(orchestrator): State<Orchestrator>,
    id: Result<Named<ApprovalRequestId>, Error>,
    form: Result<Form<Verdicts>, FormRejection>,
) -> Result<Response, Trouble> {
    let Named(id) = id?;
    let Form(Verdicts { reason, choice: _ }) = form.map_err(Error::from)?;
    let result = approvals::reject(&orchestrator, &person, id, &reason).await;
    answer(&orchestrator, person, id, reason, result).await
}

/// Back to the request; with what was written, if it did not work.
async fn answer(
    orchestrator: &Orchestrator,
    person: Person,
    id: ApprovalRequestId,
    draft: String,
    result: Result<StoredApproval, Error>,
) -> Result<Response, Trouble> {
    let error = match result {
        Ok(_) => return Ok(go(&format!("/approvals/{id}"))),
        Err(error @ Error::NotFound(_)) => return Err(error.into()),
        // There they prove it, and come back.
        Err(error) if error.reason() == Some("step_up_required") => {
            return Ok(go(&format!("/step-up?next=%2Fapprovals%2F{id}")));
        }
        Err(error) => error,
    };
    error.log();
    let status = error.status();
    let stored = orchestrator
        .store()
        .approval(id, orchestrator.now())
        .await?;
    Ok(page_with(
        status,
        &request(
            orchestrator,
            person,
            &stored,
            Some(error.to_string()),
            draft,
        ),
    ))
}

fn chosen(choice: Option<&str>) -> Result<(Reach, u64), Error> {
    let wrong = || Error::field("choice", "one of the buttons");
    let (reach, seconds) = choice
        .and_then(|choice| choice.split_once(':'))
        .ok_or_else(wrong)?;
    let reach = Reach::ALL
        .into_iter()
        .find(|known| known.as_str() == reach)
        .ok_or_else(wrong)?;
    Ok((reach, seconds.parse().map_err(|_| wrong())?))
}

fn row(
    orchestrator: &Orchestrator,
    person: &Person,
    stored: &StoredApproval,
    now: Timestamp,
) -> Pending {
    let ask = &stored.new.ask;
    let decidable = !approvals::choices_of(orchestrator, person, stored).is_empty()
        || approvals::may_reject_of(orchestrator, person, stored).is_ok();
    Pending {
        id: stored.new.id,
        agent: ask.agent.name.to_string(),
        command: ask.target.key.to_string(),
        risk: ask.target.risk,
        reason: stored.new.reason.clone(),
        policies: stored.new.policies.clone(),
        needed: ask.approvals,
        given: ask.approved_by.len(),
        status: word(stored.status),
        expires: stored.new.expires,
        remaining: span(stored.new.expires.since(now)),
        mine: ask.approved_by.contains(&person.user.id),
        decidable,
    }
}

fn past(stored: &StoredApproval, now: Timestamp) -> Decided {
    let ask = &stored.new.ask;
    let closed = closed(stored);
    let by: Vec<_> = stored
        .verdicts
        .iter()
        .map(|verdict| verdict.user.to_string())
        .collect();
    Decided {
        id: stored.new.id,
        agent: ask.agent.name.to_string(),
        command: ask.target.key.to_string(),
        status: word(stored.status),
        by: by.join(", "),
        closed,
        ago: ago(closed, now),
    }
}

fn request(
    orchestrator: &Orchestrator,
    person: Person,
    stored: &StoredApproval,
    problem: Option<String>,
    draft: String,
) -> RequestPage {
    let now = orchestrator.now();
    let new = &stored.new;
    let choices = approvals::choices_of(orchestrator, &person, stored);
    let usual = usual(&choices);
    let may_reject = approvals::may_reject_of(orchestrator, &person, stored);
    let rejectable = may_reject.is_ok();
    RequestPage {
        page: "request",
        now,
        request: row(orchestrator, &person, stored, now),
        problem,
        arguments: new
            .arguments
            .iter()
            .map(|(name, value)| (name.clone(), text(value)))
            .collect(),
        digest: new.ask.digest.as_str().chars().take(16).collect(),
        advice: new.advice.clone(),
        policy_set: new.policy_set.short().to_owned(),
        workflow_shown: new.workflow.is_some(),
        workflow: new.workflow.clone().unwrap_or_default(),
        timeline: timeline(stored, now),
        grant: stored.grant.map(|grant| grant.to_string()),
        choices: choices
            .iter()
            .map(|choice| offer(stored, *choice, usual))
            .collect(),
        step_up: approvals::takes_step_up(orchestrator, &person, stored),
        rejectable,
        undecidable: may_reject
            .err()
            .map(|not| not.advice.join(" "))
            .unwrap_or_default(),
        draft,
        user: person.user,
    }
}

/// The choice to stand out: the narrowest, for at most an hour.
fn usual(choices: &[Choice]) -> Option<(Reach, u64)> {
    let choice = choices
        .iter()
        .find(|choice| choice.reach == Reach::Call)
        .or_else(|| choices.first())?;
    Some((choice.reach, choice.longest_seconds.min(60 * 60)))
}

fn offer(stored: &StoredApproval, choice: Choice, usual: Option<(Reach, u64)>) -> Offer {
    let target = &stored.new.ask.target;
    let (name, means) = match choice.reach {
        Reach::Once => (
            "Once",
            "exactly this call, used up by its first use".to_owned(),
        ),
        Reach::Call => (
            "This call",
            "exactly these arguments, as often as needed".to_owned(),
        ),
        Reach::Command => ("This command", format!("{} with any arguments", target.key)),
        Reach::Service => (
            "This service",
            format!("every {} command up to {}", target.key.service, target.risk),
        ),
    };
    let options = DURATIONS
        .iter()
        .map(Duration::as_secs)
        .filter(|&seconds| seconds <= choice.longest_seconds)
        .map(|seconds| Opt {
            value: format!("{}:{seconds}", choice.reach.as_str()),
            name: span(Duration::from_secs(seconds)),
            usual: usual == Some((choice.reach, seconds)),
        });
    Offer {
        name,
        means,
        options: options.collect(),
    }
}

fn timeline(stored: &StoredApproval, now: Timestamp) -> Vec<Step> {
    let step = |at: Timestamp, what: String, note: &str| Step {
        at,
        ago: ago(at, now),
        what,
        note: note.to_owned(),
    };
    let agent = &stored.new.ask.agent.name;
    let asked = match stored.joined {
        0 => format!("{agent} asked"),
        1 => format!("{agent} asked, and tried once more since"),
        times => format!("{agent} asked, and tried {times} times more since"),
    };
    let mut steps = vec![step(stored.opened, asked, "")];
    steps.extend(
        stored
            .verdicts
            .iter()
            .map(|verdict| step(verdict.at, said(verdict), &verdict.reason)),
    );
    match stored.status {
        Status::Expired => steps.push(step(
            stored.new.expires,
            "expired: nobody decided in time".to_owned(),
            "",
        )),
        Status::Withdrawn => steps.push(step(closed(stored), "withdrawn".to_owned(), "")),
        Status::Pending | Status::Approved | Status::Rejected => {}
    }
    steps
}

fn said(verdict: &Verdict) -> String {
    match verdict.approved {
        None => format!("{} rejected", verdict.user),
        Some((reach, duration)) => {
            let reach = match reach {
                Reach::Once => "this call once",
                Reach::Call => "this call",
                Reach::Command => "this command",
                Reach::Service => "this service",
            };
            format!("{} approved {reach} for {}", verdict.user, span(duration))
        }
    }
}

fn closed(stored: &StoredApproval) -> Timestamp {
    stored.decided.unwrap_or(stored.new.expires)
}

const fn word(status: Status) -> &'static str {
    match status {
        Status::Pending => "pending",
        Status::Approved => "approved",
        Status::Rejected => "rejected",
        Status::Expired => "expired",
        Status::Withdrawn => "withdrawn",
    }
}

/// An argument's value for people: texts as they are, the rest as JSON.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => serde_json::to_string_pretty(other).unwrap_or_default(),
    }
}

fn ago(at: Timestamp, now: Timestamp) -> String {
    let since = now.since(at);
    if since < Duration::from_secs(5) {
        "just now".to_owned()
    } else {
        format!("{} ago", span(since))
    }
}

/// A length of time in its two largest units.
fn span(length: Duration) -> String {
    let seconds = length.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    let two = |large: u64, unit: &str, small: u64, rest: &str| {
        if small == 0 {
            format!("{large} {unit}")
        } else {
            format!("{large} {unit} {small} {rest}")
        }
    };
    if minutes == 0 {
        format!("{seconds} s")
    } else if hours == 0 {
        format!("{minutes} min")
    } else if hours < 48 {
        two(hours, "h", minutes % 60, "min")
    } else {
        two(days, "d", hours % 24, "h")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_short() {
        for (seconds, expected) in [
            (0, "0 s"),
            (59, "59 s"),
            (900, "15 min"),
            (3_600, "1 h"),
            (86_399, "23 h 59 min"),
            (86_400, "24 h"),
            (200_000, "2 d 7 h"),
        ] {
            assert_eq!(span(Duration::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn a_button_names_reach_and_duration() {
        assert_eq!(chosen(Some("call:3600")).unwrap(), (Reach::Call, 3_600));
        for odd in [
            None,
            Some("call"),
            Some("all:1"),
            Some("call:-1"),
            Some("call:1:2"),
        ] {
            assert!(chosen(odd).is_err(), "{odd:?}");
        }
    }
}
