//! Approvals: what a grant would change, who may give it, and for how long.

mod effect;
mod person;

pub use self::effect::{Proposed, would_help};
pub use self::person::{Right, Ruling, ruling};

use std::{sync::Arc, time::Duration};

use cedar_policy::{Context, Entities, Entity, EntityUid, Request};
use serde::{Deserialize, Serialize};

use crate::{
    agent::Agent,
    command::{ArgumentsDigest, CommandKey, Risk, Target},
    decide::{Call, Circumstances, Refused, Verdict},
    entities::{self, Malformed, malformed},
    facts::Principal,
    grant::Scope,
    id::UserId,
    policy_set::PolicySet,
    question::Question,
    slice::{Action, Slice},
    time::Timestamp,
    user::User,
};

/// The command's name in a request for access to a service as such: an older way of
/// asking, which knows services only.
///
/// No service has such a command. Its requests are for reach [`Reach::Service`] and
/// risk [`Risk::Write`], whatever else they say: nobody who asks in this way could
/// say less, and `destroy` is never granted for a whole service.
pub const SERVICE_ACCESS: &str = "service-access";

/// Whether a command is the pseudo command [`SERVICE_ACCESS`].
#[must_use]
pub fn is_service_access(command: &CommandKey) -> bool {
    command.name.as_str() == SERVICE_ACCESS
}

/// What asking people about a refused command would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Escalation {
    /// Nothing: no approval that we could issue would change the answer.
    Hard {
        /// The policies that decide, or forbid asking.
        policies: Vec<String>,
        /// Their `@advice`.
        advice: Vec<String>,
    },
    /// A grant would make policy permit it.
    Liftable {
        /// How many different people must approve: 1 or 2.
        approvals: u8,
        /// `@workflow` of what would be lifted.
        workflow: Option<String>,
        /// The policies that would permit it with that grant (`grant.call`), sorted.
        policies: Vec<String>,
    },
}

/// Finds out whether a grant would lift a refusal, by deciding again with a
/// hypothetical one: this call, shortest life, from one, then two placeholder people.
///
/// `invoke` and `escalate` are the slices of the refused command's target.
#[must_use]
pub fn derive(
    invoke: &Slice,
    escalate: &Slice,
    agent: &Principal,
    refused: &Refused,
    at: Circumstances,
) -> Escalation {
    ladder(invoke, escalate, agent, refused, at)
        .unwrap_or_else(|_| hard(invoke.policy_set(), refused, &[]))
}

/// The shortest life of a grant: what a hypothetical one lives.
const SHORTEST: Duration = DURATIONS[0];

fn ladder(
    invoke: &Slice,
    escalate: &Slice,
    agent: &Principal,
    refused: &Refused,
    at: Circumstances,
) -> Result<Escalation, Malformed> {
    let command = &refused.command;
    let fitting =
        |slice: &Slice, action| slice.action() == action && **slice.target() == *command.target;
    if !fitting(invoke, Action::Invoke) || !fitting(escalate, Action::Escalate) {
        return Err(Malformed::new(
            "the slices are not those of the refused command",
        ));
    }
    let policies = invoke.policy_set();
    // What could not be evaluated is for whoever writes policies or arguments, not for approvers.
    if refused.policy_error || refused.misfit {
        return Ok(hard(policies, refused, &[]));
    }

    let of_session = invoke.looks_at_session().and(escalate.looks_at_session());
    let call = Call::new(command, at, of_session)?;
    let asking = call.evaluate(escalate, agent.uid(), &agent.entity()?)?;
    if !asking.permitted {
        return Ok(hard(policies, refused, &asking.policies));
    }

    let key = Scope::Call {
        command: command.target.key.clone(),
        digest: command.arguments.digest().clone(),
    }
    .key();
    let mut deciding = Vec::new();
    for people in 1..=2 {
        let grant =
            entities::hypothetical_grant(at.now, SHORTEST, command.target.risk.level(), people)?;
        let granted = agent.with_grants(|_| true, Some((key.clone(), grant)))?;
        let verdict = call.evaluate(invoke, agent.uid(), &granted)?;
        if verdict.permitted {
            // The walls that the grant opened, or, where nothing but permission was
            // missing, the policies that give it.
            let mut lifted = refused.policies.iter().chain(&verdict.policies);
            let workflow = lifted.find_map(|id| policies.notes(id)?.workflow.clone());
            return Ok(Escalation::Liftable {
                approvals: people,
                workflow,
                policies: verdict.policies,
            });
        }
        deciding = verdict.policies;
    }
    // What still forbids, though two people would approve.
    Ok(hard(policies, refused, &deciding))
}

/// A refusal that stands: by `deciding` where that is known, else by what refused.
fn hard(policies: &PolicySet, refused: &Refused, deciding: &[String]) -> Escalation {
    let decisive = if deciding.is_empty() {
        &refused.policies
    } else {
        deciding
    };
    let mut advice = policies.advice(decisive);
    for text in &refused.advice {
        if !advice.contains(text) {
            advice.push(text.clone());
        }
    }
    Escalation::Hard {
        policies: decisive.to_vec(),
        advice,
    }
}

/// How long grants may be asked for; what a person may choose is among these.
pub const DURATIONS: [Duration; 5] = [
    Duration::from_mins(15),
    Duration::from_hours(1),
    Duration::from_hours(4),
    Duration::from_hours(8),
    Duration::from_hours(24),
];

/// What a person may grant: how much it covers.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Reach {
    /// This call, with exactly these arguments, once.
    Once,
    /// This call, with exactly these arguments, until.
    Call,
    /// This command, with any arguments, until.
    Command,
    /// Every command of this service, up to this command's risk, until.
    Service,
}

impl Reach {
    /// Narrowest first.
    pub const ALL: [Self; 4] = [Self::Once, Self::Call, Self::Command, Self::Service];

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Once => "once",
            Self::Call => "call",
            Self::Command => "command",
            Self::Service => "service",
        }
    }
}

/// When a person acts, and how lately they proved to be who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Presence {
    /// Now.
    pub now: Timestamp,
    /// When they last proved a second factor with the credential that they use. Policies
    /// know how long that is ago as `context.mfa.age`; absent, there is no `context.mfa`.
    pub confirmed: Option<Timestamp>,
}

impl Presence {
    /// The same, had they proved a second factor this instant.
    #[must_use]
    pub const fn confirmed_now(self) -> Self {
        Self {
            confirmed: Some(self.now),
            ..self
        }
    }
}

/// Without a second factor.
impl From<Timestamp> for Presence {
    fn from(now: Timestamp) -> Self {
        Self {
            now,
            confirmed: None,
        }
    }
}

/// What a person is asked to decide.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// Who asks.
    pub agent: Agent,
    /// For what.
    pub target: Target,
    /// With exactly these arguments.
    pub digest: ArgumentsDigest,
    /// The person whose task the agent was doing, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requester: Option<UserId>,
    /// Who has approved so far.
    #[serde(default)]
    pub approved_by: Vec<UserId>,
    /// How many must.
    pub approvals: u8,
}

impl Ask {
    /// The scope of a grant that reaches so far, its risk, and whether it is for one use.
    ///
    /// For the pseudo command [`SERVICE_ACCESS`] it is the whole service, for `write`
    /// and for many uses, whatever the reach.
    #[must_use]
    pub fn scope(&self, reach: Reach) -> (Scope, Risk, bool) {
        if is_service_access(&self.target.key) {
            return (
                Scope::Service {
                    service: self.target.key.service.clone(),
                },
                Risk::Write,
                false,
            );
        }
        let command = self.target.key.clone();
        let digest = self.digest.clone();
        let scope = match reach {
            Reach::Once | Reach::Call => Scope::Call { command, digest },
            Reach::Command => Scope::Command { command },
            Reach::Service => Scope::Service {
                service: command.service,
            },
        };
        (scope, self.target.risk, reach == Reach::Once)
    }
}

/// One thing that a person may choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Choice {
    /// How much the grant covers.
    pub reach: Reach,
    /// The longest that it may live, in seconds: one of [`DURATIONS`].
    pub longest_seconds: u64,
}

/// What `user` may approve now, narrowest first; empty if nothing.
#[must_use]
pub fn choices(
    policies: &Arc<PolicySet>,
    user: &User,
    ask: &Ask,
    at: impl Into<Presence>,
) -> Vec<Choice> {
    let Ok(asking) = Asking::new(user, ask, at.into()) else {
        return Vec::new();
    };
    let longest = |reach| {
        asking.longest(policies, reach).map(|longest| Choice {
            reach,
            longest_seconds: longest.as_secs(),
        })
    };
    reaches(ask)
        .iter()
        .filter_map(|&reach| longest(reach))
        .collect()
}

/// The reaches that make sense for what is asked.
fn reaches(ask: &Ask) -> &'static [Reach] {
    if is_service_access(&ask.target.key) {
        &[Reach::Service]
    } else {
        &Reach::ALL
    }
}

/// A request for approval before one person.
struct Asking<'a> {
    ask: &'a Ask,
    person: EntityUid,
    context: Context,
    /// Everything but the escalation and the action.
    entities: Entities,
}

impl<'a> Asking<'a> {
    fn new(user: &User, ask: &'a Ask, at: Presence) -> Result<Self, Malformed> {
        let entities = [
            entities::user(user)?,
            entities::agent(&ask.agent, [])?,
            entities::command(&ask.target)?,
            entities::service(&ask.target.service)?,
        ];
        Ok(Self {
            ask,
            person: entities::user_uid(&user.id),
            context: entities::person_context(at)?,
            entities: Entities::from_entities(entities, None).map_err(malformed)?,
        })
    }

    fn question(
        &self,
        policies: &PolicySet,
        action: &'static str,
        reach: Reach,
        life: Duration,
    ) -> Result<Question, Malformed> {
        let escalation = entities::escalation(self.ask, reach, life)?;
        let entities = self
            .entities
            .clone()
            .add_entities([escalation], None)
            .map_err(malformed)?;
        question(
            policies,
            self.person.clone(),
            action,
            entities::escalation_uid(),
            entities,
            self.context.clone(),
        )
    }

    fn judge(
        &self,
        policies: &PolicySet,
        action: &'static str,
        reach: Reach,
        life: Duration,
    ) -> Result<Verdict, Malformed> {
        judge(
            policies,
            action,
            &self.question(policies, action, reach, life)?,
        )
    }

    /// The longest life of a grant that this person may give; shorter ones may be too.
    fn longest(&self, policies: &PolicySet, reach: Reach) -> Option<Duration> {
        let may = |life| {
            self.judge(policies, "approve", reach, life)
                .is_ok_and(|verdict| verdict.permitted)
        };
        DURATIONS.into_iter().rev().find(|&life| may(life))
    }
}

/// Something that a person is about to do, as a question to policies.
fn question(
    policies: &PolicySet,
    person: EntityUid,
    action: &'static str,
    resource: EntityUid,
    entities: Entities,
    context: Context,
) -> Result<Question, Malformed> {
    let entities = entities
        .add_entities([policies.action(action)?.clone()], None)
        .map_err(malformed)?;
    let request = Request::new(
        person,
        entities::action_uid(action),
        resource,
        context,
        None,
    )
    .map_err(malformed)?;
    Ok(Question { request, entities })
}

/// What policies say of it.
fn judge(
    policies: &PolicySet,
    action: &'static str,
    question: &Question,
) -> Result<Verdict, Malformed> {
    let missing = || Malformed::new(format!("there is no action `{action}`"));
    let relevant = policies.people(action).ok_or_else(missing)?;
    Ok(Verdict::of(policies, &question.put(relevant)))
}

/// A question about a resource that stands for itself.
fn about(
    policies: &PolicySet,
    user: &User,
    action: &'static str,
    resource: Entity,
    at: Presence,
) -> Result<Question, Malformed> {
    let uid = resource.uid();
    let entities =
        Entities::from_entities([entities::user(user)?, resource], None).map_err(malformed)?;
    question(
        policies,
        entities::user_uid(&user.id),
        action,
        uid,
        entities,
        entities::person_context(at)?,
    )
}

fn simple(
    policies: &PolicySet,
    user: &User,
    action: &'static str,
    resource: Result<Entity, Malformed>,
    at: Presence,
) -> Result<(), NotPermitted> {
    let resource = match resource {
        Ok(resource) => resource,
        Err(error) => return permitted(policies, Err(error)),
    };
    may(policies, at, |at| {
        judge(
            policies,
            action,
            &about(policies, user, action, resource.clone(), at)?,
        )
    })
}

/// An answer to a person, which says whether it would be another one if they proved a
/// second factor first. That is found by asking again, never by a note on a policy that
/// somebody may forget.
fn may(
    policies: &PolicySet,
    at: Presence,
    verdict: impl Fn(Presence) -> Result<Verdict, Malformed>,
) -> Result<(), NotPermitted> {
    permitted(policies, verdict(at)).map_err(|not| NotPermitted {
        step_up: verdict(at.confirmed_now()).is_ok_and(|verdict| verdict.permitted),
        ..not
    })
}

/// A verdict as an answer to a person.
fn permitted(
    policies: &PolicySet,
    verdict: Result<Verdict, Malformed>,
) -> Result<(), NotPermitted> {
    let verdict = verdict.unwrap_or_else(Verdict::unable);
    if verdict.permitted {
        return Ok(());
    }
    let mut advice = verdict.advice(policies);
    if advice.is_empty() {
        advice.push("None of your roles and teams gives you this right.".to_owned());
    }
    Err(NotPermitted {
        policies: verdict.policies,
        advice,
        step_up: false,
    })
}

/// Why a person may not do something in the control plane.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("policy does not permit this: {}", .advice.join(" "))]
pub struct NotPermitted {
    /// The ids of the policies that decided; empty when nothing permits it.
    pub policies: Vec<String>,
    /// What to tell the person; never empty.
    pub advice: Vec<String>,
    /// Whether it would be permitted had they just proved a second factor.
    pub step_up: bool,
}

/// Whether `user` may approve with this reach and duration, now.
///
/// # Errors
///
/// What to tell them, if not.
pub fn may_approve(
    policies: &Arc<PolicySet>,
    user: &User,
    ask: &Ask,
    reach: Reach,
    duration: Duration,
    at: impl Into<Presence>,
) -> Result<(), NotPermitted> {
    let at = at.into();
    let refuse = |advice: String| {
        Err(NotPermitted {
            policies: Vec::new(),
            advice: vec![advice],
            step_up: false,
        })
    };
    if duration.is_zero() {
        return refuse("A grant must live longer than no time at all.".to_owned());
    }
    if !reaches(ask).contains(&reach) {
        return refuse("Access to a service can be granted for the whole service only.".to_owned());
    }
    let answer = may(policies, at, |at| {
        Asking::new(user, ask, at)?.judge(policies, "approve", reach, duration)
    });
    match answer {
        // Nothing forbids it, it is merely too long: say how long it may be.
        Err(NotPermitted {
            policies: ref forbids,
            ..
        }) if forbids.is_empty() => {
            let longest = Asking::new(user, ask, at)
                .ok()
                .and_then(|asking| asking.longest(policies, reach));
            match longest {
                Some(longest) if longest < duration => refuse(format!(
                    "You may grant this for at most {}.",
                    words(longest)
                )),
                _ => answer,
            }
        }
        answer => answer,
    }
}

/// Whether `user` may reject, now.
///
/// # Errors
///
/// What to tell them, if not.
pub fn may_reject(
    policies: &Arc<PolicySet>,
    user: &User,
    ask: &Ask,
    at: impl Into<Presence>,
) -> Result<(), NotPermitted> {
    // Rejecting has neither reach nor life; the least stands for both.
    may(policies, at.into(), |at| {
        Asking::new(user, ask, at)?.judge(policies, "reject", Reach::Once, SHORTEST)
    })
}

/// Whether `user` may take back grants of `agent`, now.
///
/// # Errors
///
/// What to tell them, if not.
pub fn may_revoke(
    policies: &Arc<PolicySet>,
    user: &User,
    agent: &Agent,
    at: impl Into<Presence>,
) -> Result<(), NotPermitted> {
    let agent = entities::agent(agent, []);
    simple(policies, user, "revoke", agent, at.into())
}

/// A span as people say it: `15 minutes`, `1 hour`, `8 hours`.
fn words(span: Duration) -> String {
    let minutes = span.as_secs() / 60;
    let (count, unit) = if minutes.is_multiple_of(60) {
        (minutes / 60, "hour")
    } else {
        (minutes, "minute")
    };
    if count == 1 {
        format!("1 {unit}")
    } else {
        format!("{count} {unit}s")
    }
}

/// What people do in the control plane apart from deciding requests. Each is a Cedar
/// action on `ControlPlane::"cedargate"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Administration {
    /// See agents, grants, requests, services, policy sets, journal entries.
    View,
    /// Create and change agents and their credentials.
    ManageAgents,
    /// Create and change users and their credentials.
    ManageUsers,
    /// Activate policy sets.
    ManagePolicies,
}

impl Administration {
    /// The Cedar action.
    #[must_use]
    pub const fn action(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::ManageAgents => "manageAgents",
            Self::ManageUsers => "manageUsers",
            Self::ManagePolicies => "managePolicies",
        }
    }
}

/// Whether `user` may do that, now.
///
/// # Errors
///
/// What to tell them, if not.
pub fn may_administer(
    policies: &Arc<PolicySet>,
    user: &User,
    what: Administration,
    at: impl Into<Presence>,
) -> Result<(), NotPermitted> {
    simple(
        policies,
        user,
        what.action(),
        Ok(entities::control_plane()),
        at.into(),
    )
}

#[cfg(test)]
mod tests;
