//! Approval requests: opened by gateways, decided by people, taken back, expired by time.

mod opening;
mod text;
mod view;

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use authz::{
    Agent, AgentId, AgentRef, ApprovalRequestId, Arguments, Command, CommandName, Decision, Risk,
    Service, ServiceName, Slice, Target, Timestamp, User, UserId,
    approval::{
        Ask, DURATIONS, Escalation, NotPermitted, Reach, SERVICE_ACCESS, derive, is_service_access,
        may_approve, may_reject,
    },
    decide::{Circumstances, decide},
    facts::Principal,
    redact,
    slice::Action,
};
use contract::{
    approvals::{Approve, OpenApproval},
    zones::AssignedZones,
};
use serde_json::Map;
use store::{
    Actor, StoreError,
    approvals::{Approved, Asked, NewApproval, Proposal, Status, StoredApproval, Terms},
};

pub(crate) use self::{
    opening::Opening,
    text::{MAX_REASON_CHARS, check_text, is_deceptive, visible},
    view::{
        Offered, decided, may_reject_of, offered, rejection, summary, view, view_with_obstacle,
    },
};

use self::{
    opening::{Key, Leader, Part},
    text::{check_reason, shown},
};
use crate::{Orchestrator, authenticate::Person, error::Error, zones};

/// What an approval grants when nobody says for how long.
const DEFAULT_DURATION: Duration = Duration::from_hours(1);

/// The shortest grant that makes sense to ask for.
const SHORTEST: Duration = Duration::from_mins(1);

/// The shortest that people are offered.
const SHORTEST_CHOICE: Duration = DURATIONS[0];

/// Opens a request for a gateway, or joins the pending one.
pub(crate) async fn open(
    orchestrator: &Orchestrator,
    open: OpenApproval,
) -> Result<StoredApproval, Error> {
    check_reason(&open.reason)?;
    orchestrator.settle().await?;
    if !(1..=2).contains(&open.approvals) {
        return Err(Error::field("approvals", "1 or 2 people can be asked"));
    }
    let agent = orchestrator
        .store()
        .agent(&AgentRef::Id(open.agent))
        .await?
        .agent;
    // The gateway may not have heard yet of the latest zones.
    let zones = zones::now(orchestrator).await?;
    let target = zones.added_to(&open.target).unwrap_or(open.target);
    let ask = ask(agent, None, target, open.digest, open.approvals);
    let actor = Actor {
        user: None,
        via: "gateway",
        from: open.ip,
        at: orchestrator.now(),
    };
    // Gateways redact; whoever forgets shows no secret all the same.
    let arguments = redact::arguments(&open.arguments, &[]);
    let new = NewApproval {
        id: ApprovalRequestId::generate(actor.at),
        ask,
        arguments: shown(&arguments),
        reason: visible(&open.reason),
        policies: open.policies,
        advice: open.advice,
        workflow: open.workflow,
        policy_set: open.policy_set,
        expires: actor.at.plus(orchestrator.inner.config.approval_lifetime),
    };
    let asked = Asked {
        arguments,
        ip: open.ip,
        session: open.session,
    };
    save(orchestrator, new, asked, &actor).await
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
    orchestrator.settle().await?;
    let facts = orchestrator.store().facts(agent, actor.at).await?;
    let name: CommandName = SERVICE_ACCESS
        .parse()
        .map_err(|error| Error::Bug(format!("{error}")))?;
    let target = Target {
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
    };
    let zones = zones::now(orchestrator).await?;
    let target = Arc::new(zones.added_to(&target).unwrap_or(target));

    let in_force = orchestrator.in_force();
    let principal = Principal::new(facts);
    let invoke = Slice::new(&in_force.set, &target, Action::Invoke);
    let escalate = Slice::new(&in_force.set, &target, Action::Escalate);
    let command = Command {
        target: Arc::clone(&target),
        arguments: Arguments::new(Map::new()),
    };
    let digest = command.arguments.digest().clone();
    // Whoever asks in this way does not say from where the agent calls, nor in which session.
    let at = Circumstances::new(actor.at, Ipv4Addr::LOCALHOST.into());
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
        reason: visible(&reason),
        policies: refused.policies,
        advice: refused.advice,
        workflow,
        policy_set: in_force.set.version().clone(),
        expires: actor.at.plus(orchestrator.inner.config.approval_lifetime),
    };
    let asked = Asked {
        arguments: Map::new(),
        ip: None,
        session: None,
    };
    save(orchestrator, new, asked, actor).await
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
    asked: Asked,
    actor: &Actor,
) -> Result<StoredApproval, Error> {
    let leader = match orchestrator.inner.opening.join(Key::of(&new)).await {
        Part::Follow(stored) => return Ok(*stored),
        Part::Lead(leader) => Some(leader),
        Part::Alone => None,
    };
    let calls = leader.as_ref().map_or(1, Leader::calls);
    let stored = save_for(orchestrator, new, asked, calls, actor).await?;
    if let Some(leader) = leader {
        leader.tell(&stored);
    }
    Ok(stored)
}

/// Joins the pending request for so many calls, or opens one that they join.
async fn save_for(
    orchestrator: &Orchestrator,
    new: NewApproval,
    asked: Asked,
    calls: u64,
    actor: &Actor,
) -> Result<StoredApproval, Error> {
    let store = orchestrator.store();
    if let Some(pending) = store.join_approval(&new, calls, actor.at).await? {
        return Ok(pending);
    }
    let terms = Terms {
        bars_owner: bars_owner(orchestrator, &new.ask, actor.at).await?,
        asked: Some(asked),
    };
    let (stored, opened) = store
        .open_approval_on(new, terms, orchestrator.inner.config.open_limit, actor)
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
    if calls > 1
        && stored.status == Status::Pending
        && let Some(joined) = store
            .join_approval(&stored.new, calls - 1, actor.at)
            .await?
    {
        return Ok(joined);
    }
    Ok(stored)
}

/// Whether the policy set keeps the agent's owner from deciding: whether somebody with all
/// that the owner has, and the rights of those who decide, could decide if they were not
/// the owner, and cannot because they are.
async fn bars_owner(orchestrator: &Orchestrator, ask: &Ask, now: Timestamp) -> Result<bool, Error> {
    let Some(owner) = &ask.agent.owner else {
        return Ok(false);
    };
    let stored = match orchestrator.store().user(owner).await {
        Ok(stored) => stored,
        // Whoever gets this name later is the owner then.
        Err(StoreError::NotFound(_)) => return Ok(true),
        Err(error) => return Err(error.into()),
    };
    let deciding = ["approver", "security"];
    let roles = deciding.iter().filter_map(|role| role.parse().ok());
    let user = User {
        roles: stored.user.roles.iter().cloned().chain(roles).collect(),
        active: true,
        ..stored.user
    };
    let in_force = orchestrator.in_force();
    let may = |ask: &Ask| {
        let narrowest = if is_service_access(&ask.target.key) {
            Reach::Service
        } else {
            Reach::Once
        };
        may_approve(&in_force.set, &user, ask, narrowest, SHORTEST_CHOICE, now).is_ok()
    };
    let as_owner = Ask {
        requester: None,
        ..ask.clone()
    };
    let as_other = Ask {
        agent: Agent {
            owner: None,
            ..ask.agent.clone()
        },
        ..as_owner.clone()
    };
    Ok(may(&as_other) && !may(&as_owner))
}

/// Saves one person's yes.
pub(crate) async fn approve(
    orchestrator: &Orchestrator,
    person: &Person,
    id: ApprovalRequestId,
    approve: Approve,
) -> Result<StoredApproval, Error> {
    check_reason(&approve.reason)?;
    orchestrator.settle().await?;
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
            let offered = offered(orchestrator, person, &stored);
            let longest = offered
                .choices
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

    let presence = person.presence(orchestrator);
    let reason = visible(&approve.reason);
    let decision = store::approvals::Decision {
        by: &person.user.id,
        reason: &reason,
        policy_set: Some(in_force.set.version()),
    };
    let approved = orchestrator
        .store()
        .approve(
            id,
            decision,
            (reach, duration),
            &actor,
            |now: &Proposal<'_>| {
                let may = |ask: &Ask| {
                    may_approve(&in_force.set, &person.user, ask, reach, duration, presence)
                };
                let zones = zones::assigned(now.zones);
                for ask in as_asked_and_as_it_is(now, &zones) {
                    may(&ask)?;
                }
                let Some(grant) = now.grant else {
                    return Err(Error::Bug("an approval without a grant".to_owned()));
                };
                view::decide_again(
                    &in_force,
                    now.approval,
                    &zones,
                    now.facts,
                    grant,
                    !now.complete,
                    actor.at,
                )
                .map_err(Error::WouldNotHelp)
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
    orchestrator.settle().await?;
    let actor = orchestrator.actor(person);
    let in_force = orchestrator.in_force();
    let retry_at = actor.at.plus(orchestrator.inner.config.rejection_cool_down);
    let presence = person.presence(orchestrator);
    let reason = visible(reason);
    let decision = store::approvals::Decision {
        by: &person.user.id,
        reason: &reason,
        policy_set: Some(in_force.set.version()),
    };
    let stored = orchestrator
        .store()
        .reject(id, decision, retry_at, &actor, |now: &Proposal<'_>| {
            for ask in as_asked_and_as_it_is(now, &zones::assigned(now.zones)) {
                may_reject(&in_force.set, &person.user, &ask, presence)?;
            }
            Ok::<_, Error>(())
        })
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

/// What is asked, of the agent as it was then, and of the agent as it is: whoever became
/// its owner meanwhile is no more disinterested than whoever was. In either case with the
/// zones that the command is in by now.
fn as_asked_and_as_it_is(now: &Proposal<'_>, zones: &AssignedZones) -> [Ask; 2] {
    let asked = zones::placed(&now.approval.new.ask, zones).into_owned();
    let agent = now.facts.agent.clone();
    [asked.clone(), Ask { agent, ..asked }]
}

/// Takes a request back for a person: the agent's owner, or on whose behalf it asks. No
/// policy is asked, as it gives nobody a right.
pub(crate) async fn withdraw(
    orchestrator: &Orchestrator,
    person: &Person,
    id: ApprovalRequestId,
    reason: &str,
) -> Result<StoredApproval, Error> {
    check_reason(reason)?;
    orchestrator.settle().await?;
    let actor = orchestrator.actor(person);
    let agent = orchestrator.store().approval(id, actor.at).await?.new.ask;
    let agent = AgentRef::Id(agent.agent.id);
    let owner = orchestrator.store().agent(&agent).await?.agent.owner;
    let own = |user: Option<&UserId>| user == Some(&person.user.id);
    let stored = orchestrator
        .store()
        .withdraw_approval(id, &visible(reason), &actor, |stored| {
            let ask = &stored.new.ask;
            if own(owner.as_ref()) || own(ask.agent.owner.as_ref()) || own(ask.requester.as_ref()) {
                return Ok(());
            }
            Err(Error::NotPermitted(NotPermitted {
                policies: Vec::new(),
                advice: vec![
                    "The agent, its owner, or whoever it asks for takes a request back; \
                     somebody who decides requests may reject it."
                        .to_owned(),
                ],
                step_up: false,
            }))
        })
        .await?;
    tracing::info!(
        request_id = %id,
        agent.id = %stored.new.ask.agent.id,
        command = %stored.new.ask.target.key,
        user = %person.user.id,
        "approval_withdrawn"
    );
    Ok(stored)
}

/// Takes a request of its own back for an agent. Doing so again changes nothing.
pub(crate) async fn withdraw_own(
    orchestrator: &Orchestrator,
    agent: AgentId,
    id: ApprovalRequestId,
) -> Result<StoredApproval, Error> {
    orchestrator.settle().await?;
    let actor = Actor::itself("gateway", orchestrator.now());
    let unknown = || Error::NotFound(format!("approval request `{id}` is not found"));
    let withdrawn = orchestrator
        .store()
        .withdraw_approval(id, "", &actor, |stored| {
            if stored.new.ask.agent.id == agent {
                Ok(())
            } else {
                Err(unknown())
            }
        })
        .await;
    match withdrawn {
        Ok(stored) => {
            tracing::info!(request_id = %id, agent.id = %agent, command = %stored.new.ask.target.key, "approval_withdrawn");
            Ok(stored)
        }
        Err(Error::Conflict(why)) => {
            let stored = orchestrator.store().approval(id, actor.at).await?;
            if stored.status == Status::Withdrawn {
                Ok(stored)
            } else {
                Err(Error::Conflict(why))
            }
        }
        Err(error) => Err(error),
    }
}

/// Marks what nobody decided in time, and grants whose time is over.
pub(crate) async fn expire(orchestrator: &Orchestrator, at: Timestamp) -> Result<(), StoreError> {
    let actor = Actor::itself("sweeper", at);
    let expired = orchestrator.store().expire_approvals(&actor).await?;
    for (approval, agent) in expired {
        tracing::info!(request_id = %approval, agent.id = %agent, "approval_expired");
    }
    let ended = orchestrator.store().expire_grants(&actor).await?;
    for (grant, agent) in ended {
        tracing::debug!(grant = %grant, agent.id = %agent, "grant_expired");
    }
    Ok(())
}
