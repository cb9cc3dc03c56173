//! Requests as people, agents and events see them.

use std::{net::Ipv4Addr, time::Duration};

use authz::{
    AgentRef, Circumstances, Facts, Grant, GrantId, Session, Timestamp,
    approval::{
        Choice, NotPermitted, Proposed, Reach, choices, is_service_access, may_reject, would_help,
    },
};
use contract::{
    approvals::{ApprovalStatus, ApprovalSummary, ApprovalView, VerdictView},
    zones::AssignedZones,
};
use store::approvals::{NewApproval, Status, StoredApproval, Verdict};

use crate::{Orchestrator, activation::InForce, authenticate::Person, error::Error, zones};

/// What a person may choose for a request.
#[derive(Debug, Default)]
pub(crate) struct Offered {
    /// Narrowest first, once they proved a second factor where that is needed.
    pub(crate) choices: Vec<Choice>,
    /// Some of it takes a second factor that they have not proved lately.
    pub(crate) step_up: bool,
}

/// What this person may choose; nothing once it is decided. Who approves second may narrow
/// what the first chose, and is not offered more.
pub(crate) fn offered(
    orchestrator: &Orchestrator,
    person: &Person,
    stored: &StoredApproval,
) -> Offered {
    if stored.status != Status::Pending
        || stored
            .verdicts
            .iter()
            .any(|verdict| verdict.user == person.user.id)
    {
        return Offered::default();
    }
    let in_force = orchestrator.in_force();
    let zones = orchestrator.zones();
    let ask = zones::placed(&stored.new.ask, &zones);
    let may = |presence| choices(&in_force.set, &person.user, &ask, presence);
    let now = person.presence(orchestrator);
    let mut choices = may(now.confirmed_now());
    let step_up = !choices.is_empty() && may(now) != choices;
    if is_service_access(&stored.new.ask.target.key) {
        choices.retain(|choice| choice.reach == Reach::Service);
    }
    for (reach, longest) in counting(stored) {
        choices.retain(|choice| choice.reach <= reach);
        for choice in &mut choices {
            choice.longest_seconds = choice.longest_seconds.min(longest.as_secs());
        }
    }
    Offered {
        step_up: step_up && !choices.is_empty(),
        choices,
    }
}

/// How far and how long those said whose approval counts.
fn counting(stored: &StoredApproval) -> impl Iterator<Item = (Reach, Duration)> {
    stored
        .verdicts
        .iter()
        .filter(|verdict| verdict.counts)
        .filter_map(|verdict| verdict.approved)
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
        &zones::placed(&stored.new.ask, &orchestrator.zones()),
        person.presence(orchestrator),
    )
}

/// Whether this person may take it back: the agent's owner, or on whose behalf it asks.
pub(crate) fn may_withdraw_of(person: &Person, stored: &StoredApproval) -> bool {
    let ask = &stored.new.ask;
    let own = |user: Option<&authz::UserId>| user == Some(&person.user.id);
    stored.status == Status::Pending
        && (own(ask.agent.owner.as_ref()) || own(ask.requester.as_ref()))
}

/// Decides the call again under the policy set in force, in the zones that it is in by now,
/// as if `grant` were there.
///
/// # Errors
///
/// Why it would be refused all the same.
pub(super) fn decide_again(
    in_force: &InForce,
    stored: &StoredApproval,
    zones: &AssignedZones,
    facts: &Facts,
    grant: &Grant,
    second_to_come: bool,
    now: Timestamp,
) -> Result<(), NotPermitted> {
    let asked = stored.asked.as_ref();
    let ask = zones::placed(&stored.new.ask, zones);
    let proposed = Proposed {
        ask: &ask,
        arguments: asked.map_or(&stored.new.arguments, |asked| &asked.arguments),
        facts,
        grant,
        second_to_come,
    };
    let at = Circumstances {
        now,
        // Whoever asked from nowhere that is known asked from here.
        ip: asked
            .and_then(|asked| asked.ip)
            .unwrap_or(Ipv4Addr::LOCALHOST.into()),
        // The agent's own as it was when it asked; a request is of one agent. What became
        // of the session since is for the gateway to know, which decides in any case.
        session: asked
            .and_then(|asked| asked.session)
            .unwrap_or(Session::fresh(now)),
    };
    would_help(&in_force.set, &proposed, at)
}

/// Why no approval of this request would help any more, if that is so: what refused it
/// when it was asked is not all that policy says now, or the agent is not what it was.
async fn obstacle(
    orchestrator: &Orchestrator,
    stored: &StoredApproval,
) -> Result<Option<NotPermitted>, Error> {
    if stored.status != Status::Pending {
        return Ok(None);
    }
    let ask = &stored.new.ask;
    let now = orchestrator.now();
    let agent = AgentRef::Id(ask.agent.id);
    let facts = orchestrator.store().facts(&agent, now).await?;
    let (scope, risk, single_use) = ask.scope(Reach::Call);
    let grant = Grant {
        id: GrantId::generate(now),
        agent: ask.agent.id,
        scope,
        risk,
        issued: now,
        expires: now.plus(super::SHORTEST),
        first: "somebody"
            .parse()
            .map_err(|error| Error::Bug(format!("{error}")))?,
        second: None,
        single_use,
        approval: stored.new.id,
    };
    let in_force = orchestrator.in_force();
    let zones = zones::now(orchestrator).await?;
    let second_to_come = ask.approvals > 1;
    let decided = decide_again(
        &in_force,
        stored,
        &zones,
        &facts,
        &grant,
        second_to_come,
        now,
    );
    Ok(decided.err())
}

/// As this person sees it.
pub(crate) fn view(
    orchestrator: &Orchestrator,
    person: &Person,
    stored: StoredApproval,
) -> ApprovalView {
    let Offered { choices, step_up } = offered(orchestrator, person, &stored);
    let withdrawable = may_withdraw_of(person, &stored);
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
        verdicts: stored.verdicts.into_iter().map(verdict).collect(),
        grant: stored.grant,
        choices,
        step_up,
        withdrawable,
        withdrawn_by: stored.withdrawn.and_then(|withdrawn| withdrawn.by),
        obstacle: None,
    }
}

/// As [`view`], with what stands in the way of any approval.
pub(crate) async fn view_with_obstacle(
    orchestrator: &Orchestrator,
    person: &Person,
    stored: StoredApproval,
) -> Result<ApprovalView, Error> {
    let obstacle = obstacle(orchestrator, &stored).await?;
    Ok(ApprovalView {
        obstacle: obstacle.map(|obstacle| obstacle.advice.join(" ")),
        ..view(orchestrator, person, stored)
    })
}

fn verdict(verdict: Verdict) -> VerdictView {
    VerdictView {
        user: verdict.user,
        approved: verdict.approved.is_some(),
        reach: verdict.approved.map(|(reach, _)| reach),
        duration_seconds: verdict.approved.map(|(_, duration)| duration.as_secs()),
        reason: verdict.reason,
        at: verdict.at,
        via: verdict.via,
        policy_set: verdict.policy_set,
        counts: verdict.counts,
    }
}

/// As the agent may know it.
pub(crate) fn summary(stored: &StoredApproval) -> ApprovalSummary {
    let ask = &stored.new.ask;
    let rejected = rejection(stored).map(|verdict| &verdict.reason);
    let withdrawn = stored.withdrawn.as_ref().map(|withdrawn| &withdrawn.reason);
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
        note: rejected
            .or(withdrawn)
            .filter(|reason| !reason.is_empty())
            .cloned(),
    }
}

/// The verdict that rejected it.
pub(crate) fn rejection(stored: &StoredApproval) -> Option<&Verdict> {
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
