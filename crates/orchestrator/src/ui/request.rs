//! The page of one request, and the decisions that people make there and in the inbox.

use askama::Template;
use authz::{
    ApprovalRequestId, GrantId, Timestamp,
    approval::{Reach, may_revoke},
};
use axum::{
    Form, Router,
    extract::{Query, State, rejection::FormRejection},
    response::Response,
    routing::{get, post},
};
use contract::approvals::Approve;
use serde::Deserialize;
use store::{
    approvals::{Status, StoredApproval, Verdict},
    grants::StoredGrant,
};

use super::{
    Frame, Trouble, Visitor,
    ask::{Asked, told},
    go,
    inbox::Filter,
    moment::{Moment, span},
    page, page_with,
};
use crate::{Orchestrator, api::Named, approvals, authenticate::Person, error::Error};

/// Uses of a grant in a timeline, at most.
const SHOWN_USES: u32 = 12;

pub(crate) fn routes() -> Router<Orchestrator> {
    Router::new()
        .route("/approvals/{approval}", get(show))
        .route("/approvals/{approval}/approve", post(approve))
        .route("/approvals/{approval}/reject", post(reject))
}

#[derive(Template)]
#[template(path = "request.html")]
struct RequestPage {
    frame: Frame,
    ask: Asked,
    history: String,
    digest: String,
    policy_set: String,
    workflow: Option<String>,
    timeline: Vec<Step>,
    grant: Option<Given>,
    draft: String,
}

/// The grant that the request yielded.
struct Given {
    id: GrantId,
    /// What it covers.
    what: String,
    live: bool,
    state: &'static str,
    expires: Moment,
    revocable: bool,
}

/// One thing that happened, or will.
struct Step {
    at: Moment,
    /// `good`, `bad`, `next` or nothing of the kind.
    mood: &'static str,
    what: String,
    note: String,
    to_come: bool,
}

impl Step {
    fn past(at: Timestamp, now: Timestamp, mood: &'static str, what: String) -> Self {
        Self {
            at: Moment::past(at, now),
            mood,
            what,
            note: String::new(),
            to_come: false,
        }
    }

    fn next(at: Timestamp, now: Timestamp, what: &str) -> Self {
        Self {
            at: Moment::until(at, now),
            mood: "next",
            what: what.to_owned(),
            note: String::new(),
            to_come: true,
        }
    }
}

/// `GET /approvals/{id}`.
async fn show(
    Visitor { person, frame }: Visitor,
    State(orchestrator): State<Orchestrator>,
    id: Result<Named<ApprovalRequestId>, Error>,
) -> Result<Response, Trouble> {
    let Named(id) = id?;
    let request = request(&orchestrator, &person, frame, id, String::new()).await?;
    Ok(page(&request))
}

/// What the form sends.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Verdicts {
    #[serde(default)]
    reason: String,
    /// `reach:seconds`.
    #[serde(default)]
    choice: Option<String>,
    /// The inbox's query, when it was decided there.
    #[serde(default)]
    back: Option<String>,
    /// The person was asked back, and said yes.
    #[serde(default, rename = "sure")]
    _sure: Option<String>,
}

/// `POST /approvals/{id}/approve`.
async fn approve(
    visitor: Visitor,
    State(orchestrator): State<Orchestrator>,
    id: Result<Named<ApprovalRequestId>, Error>,
    form: Result<Form<Verdicts>, FormRejection>,
) -> Result<Response, Trouble> {
    let Named(id) = id?;
    let Form(Verdicts {
        reason,
        choice,
        back,
        ..
    }) = form.map_err(Error::from)?;
    let draft = reason.clone();
    let result = match chosen(choice.as_deref()) {
        Ok((reach, seconds)) => {
            let approve = Approve {
                reach: Some(reach),
                duration_seconds: Some(seconds),
                reason,
            };
            approvals::approve(&orchestrator, &visitor.person, id, approve).await
        }
        Err(error) => Err(error),
    };
    answer(&orchestrator, visitor, id, draft, back, result).await
}

/// `POST /approvals/{id}/reject`.
async fn reject(
    visitor: Visitor,
    State(orchestrator): State<Orchestrator>,
    id: Result<Named<ApprovalRequestId>, Error>,
    form: Result<Form<Verdicts>, FormRejection>,
) -> Result<Response, Trouble> {
    let Named(id) = id?;
    let Form(Verdicts { reason, back, .. }) = form.map_err(Error::from)?;
    let result = approvals::reject(&orchestrator, &visitor.person, id, &reason).await;
    answer(&orchestrator, visitor, id, reason, back, result).await
}

/// Back to where it was decided; with what was written, if it did not work.
async fn answer(
    orchestrator: &Orchestrator,
    Visitor { person, frame }: Visitor,
    id: ApprovalRequestId,
    draft: String,
    back: Option<String>,
    result: Result<StoredApproval, Error>,
) -> Result<Response, Trouble> {
    let error = match result {
        Ok(stored) => {
            let done = match stored.status {
                Status::Approved => "approved",
                Status::Rejected => "rejected",
                Status::Pending | Status::Expired | Status::Withdrawn => "advanced",
            };
            return Ok(go(&match back {
                Some(back) => inbox(&back, done),
                None => format!("/approvals/{id}?done={done}"),
            }));
        }
        Err(error @ Error::NotFound(_)) => return Err(error.into()),
        // There they prove it, and come back.
        Err(error) if error.reason() == Some("step_up_required") => {
            return Ok(go(&format!("/step-up?next=%2Fapprovals%2F{id}")));
        }
        Err(error) => error,
    };
    error.log();
    let status = error.status();
    let frame = frame.warning(Some(error.to_string()));
    let request = request(orchestrator, &person, frame, id, draft).await?;
    Ok(page_with(status, &request))
}

/// The inbox as it was, and what was done. A query that it did not write is left out.
fn inbox(back: &str, done: &str) -> String {
    let filter = format!("/approvals{back}")
        .parse()
        .ok()
        .and_then(|uri| Query::<Filter>::try_from_uri(&uri).ok())
        .map(|Query(filter)| filter)
        .unwrap_or_default();
    // Its page may be empty by now.
    format!("/approvals{}", filter.query(0, done))
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

async fn request(
    orchestrator: &Orchestrator,
    person: &Person,
    frame: Frame,
    id: ApprovalRequestId,
    draft: String,
) -> Result<RequestPage, Error> {
    let now = orchestrator.now();
    let store = orchestrator.store();
    let stored = store.approval(id, now).await?;
    let ask = &stored.new.ask;
    let history = store.history(ask.agent.id, &ask.target.key).await?;
    let mut timeline = timeline(&stored, now);
    let grant = match stored.grant {
        None => None,
        Some(grant) => {
            let grant = store.grant(grant).await?;
            let uses = store
                .uses(
                    grant.grant.id,
                    grant.grant.agent,
                    grant.grant.issued,
                    SHOWN_USES,
                )
                .await?;
            let used = uses
                .into_iter()
                .filter(|used| used.kind == "intent")
                .map(|used| {
                    let command = used.command.unwrap_or_default();
                    let what = format!("{} ran {command}", ask.agent.name);
                    Step::past(used.at, now, "good", what)
                });
            timeline.extend(used);
            timeline.extend(end(&grant, now));
            let revocable = may_revoke(
                &orchestrator.in_force().set,
                &person.user,
                &ask.agent,
                person.presence(orchestrator),
            )
            .is_ok();
            Some(given(&grant, revocable, now))
        }
    };
    Ok(RequestPage {
        frame,
        history: told(&history, now),
        digest: ask.digest.as_str().chars().take(16).collect(),
        policy_set: stored.new.policy_set.short().to_owned(),
        workflow: stored.new.workflow.clone(),
        timeline,
        grant,
        draft,
        ask: Asked::new(orchestrator, person, &stored, now),
    })
}

fn given(stored: &StoredGrant, revocable: bool, now: Timestamp) -> Given {
    let state = state(stored, now);
    let live = state == "live";
    Given {
        id: stored.grant.id,
        what: covers(&stored.grant),
        live,
        state,
        expires: Moment::until(stored.grant.expires, now),
        revocable: live && revocable,
    }
}

/// What a grant covers.
pub(crate) fn covers(grant: &authz::Grant) -> String {
    use authz::grant::Scope;
    let what = match &grant.scope {
        Scope::Call { command, .. } => format!("{command} with exactly the arguments asked for"),
        Scope::Command { command } => format!("{command} with any arguments"),
        Scope::Service { service } => format!("every command of {service} up to {}", grant.risk),
    };
    if grant.single_use {
        format!("{what}, once")
    } else {
        what
    }
}

/// `live`, `expired`, `revoked` or `spent`.
pub(crate) fn state(stored: &StoredGrant, now: Timestamp) -> &'static str {
    if stored.revoked.is_some() {
        "revoked"
    } else if stored.spent.is_some() {
        "spent"
    } else if now < stored.grant.expires {
        "live"
    } else {
        "expired"
    }
}

/// How the grant ended, or will.
fn end(stored: &StoredGrant, now: Timestamp) -> Option<Step> {
    let past = |at, mood, what: &str| Some(Step::past(at, now, mood, what.to_owned()));
    if let Some(at) = stored.revoked {
        past(at, "bad", "The grant was revoked")
    } else if let Some(at) = stored.spent {
        past(at, "", "The grant is spent: it was for one use")
    } else if now < stored.grant.expires {
        Some(Step::next(stored.grant.expires, now, "The grant ends"))
    } else {
        past(stored.grant.expires, "", "The grant ended")
    }
}

/// What happened to the request itself.
fn timeline(stored: &StoredApproval, now: Timestamp) -> Vec<Step> {
    let agent = &stored.new.ask.agent.name;
    let asked = match stored.joined {
        0 => format!("{agent} asked"),
        1 => format!("{agent} asked, and tried once more since"),
        times => format!("{agent} asked, and tried {times} times more since"),
    };
    let mut steps = vec![Step::past(stored.opened, now, "", asked)];
    steps.extend(stored.verdicts.iter().map(|verdict| {
        let mood = if verdict.approved.is_some() {
            "good"
        } else {
            "bad"
        };
        Step {
            note: verdict.reason.clone(),
            ..Step::past(verdict.at, now, mood, said(verdict))
        }
    }));
    let closed = stored.decided.unwrap_or(stored.new.expires);
    match stored.status {
        Status::Pending => steps.push(Step::next(
            stored.new.expires,
            now,
            "Expires if nobody decides",
        )),
        Status::Expired => steps.push(Step::past(
            closed,
            now,
            "",
            "Expired: nobody decided in time".to_owned(),
        )),
        Status::Withdrawn => {
            steps.push(Step::past(closed, now, "", "Withdrawn".to_owned()));
        }
        Status::Rejected => {
            if let Some(retry) = stored.retry_at.filter(|retry| now < *retry) {
                steps.push(Step::next(retry, now, "The agent may ask again"));
            }
        }
        Status::Approved => {}
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

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn one_comes_back_to_the_inbox_as_it_was_and_nowhere_else() {
        for (back, path) in [
            ("", "/approvals?done=approved"),
            (
                "?q=a%26b&sort=oldest&page=3",
                "/approvals?q=a%26b&sort=oldest&done=approved",
            ),
            ("/../evil", "/approvals?done=approved"),
            ("?evil=1", "/approvals?done=approved"),
            ("?q=\r\nSet-Cookie: a", "/approvals?done=approved"),
            (
                "?q=%0d%0aSet-Cookie",
                "/approvals?q=%0D%0ASet-Cookie&done=approved",
            ),
        ] {
            assert_eq!(inbox(back, "approved"), path, "{back}");
        }
    }
}
