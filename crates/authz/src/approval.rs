//! Approvals: what a grant would change, who may give it, and for how long.

use std::{sync::Arc, time::Duration};

use cedar_policy::{Authorizer, Context, Entities, Entity, EntityUid, Request};
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
        return Err(Malformed(
            "the slices are not those of the refused command".to_owned(),
        ));
    }
    let policies = invoke.policy_set();
    // What could not be evaluated is for whoever writes policies, not for approvers.
    if refused.policy_error {
        return Ok(hard(policies, refused, &[]));
    }

    let call = Call::new(command, at)?;
    let asking = call.evaluate(escalate, agent.uid(), agent.entities()?)?;
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
        let entities = agent.with_grants(|_| true, Some((key.clone(), grant)))?;
        let verdict = call.evaluate(invoke, agent.uid(), entities)?;
        if verdict.permitted {
            // The walls that the grant opened, or, where nothing but permission was
            // missing, the policies that give it.
            let mut lifted = refused.policies.iter().chain(&verdict.policies);
            let workflow = lifted.find_map(|id| policies.notes(id)?.workflow.clone());
            return Ok(Escalation::Liftable {
                approvals: people,
                workflow,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// How much the grant covers.
    pub reach: Reach,
    /// The longest that it may live, in seconds: one of [`DURATIONS`].
    pub longest_seconds: u64,
}

/// What `user` may approve now, narrowest first; empty if nothing.
#[must_use]
pub fn choices(policies: &Arc<PolicySet>, user: &User, ask: &Ask, now: Timestamp) -> Vec<Choice> {
    let Ok(asking) = Asking::new(user, ask, now) else {
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
    fn new(user: &User, ask: &'a Ask, now: Timestamp) -> Result<Self, Malformed> {
        let entities = [
            entities::user(user)?,
            entities::agent(&ask.agent, [])?,
            entities::command(&ask.target)?,
            entities::service(&ask.target.service)?,
        ];
        Ok(Self {
            ask,
            person: entities::user_uid(&user.id),
            context: entities::time_context(now)?,
            entities: Entities::from_entities(entities, None).map_err(malformed)?,
        })
    }

    fn judge(
        &self,
        policies: &PolicySet,
        action: &'static str,
        reach: Reach,
        life: Duration,
    ) -> Result<Verdict, Malformed> {
        let escalation = entities::escalation(self.ask, reach, life)?;
        let entities = self
            .entities
            .clone()
            .add_entities([escalation], None)
            .map_err(malformed)?;
        judge(
            policies,
            self.person.clone(),
            action,
            entities::escalation_uid(),
            entities,
            self.context.clone(),
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

/// What policies say of something that a person is about to do.
fn judge(
    policies: &PolicySet,
    person: EntityUid,
    action: &'static str,
    resource: EntityUid,
    entities: Entities,
    context: Context,
) -> Result<Verdict, Malformed> {
    let missing = || Malformed(format!("there is no action `{action}`"));
    let relevant = policies.people(action).ok_or_else(missing)?;
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
    Ok(Verdict::of(
        policies,
        &Authorizer::new().is_authorized(&request, relevant, &entities),
    ))
}

/// The same about a resource that stands for itself.
fn simple(
    policies: &PolicySet,
    user: &User,
    action: &'static str,
    resource: Result<Entity, Malformed>,
    now: Timestamp,
) -> Result<(), NotPermitted> {
    let verdict = || {
        let resource = resource?;
        let uid = resource.uid();
        let entities =
            Entities::from_entities([entities::user(user)?, resource], None).map_err(malformed)?;
        judge(
            policies,
            entities::user_uid(&user.id),
            action,
            uid,
            entities,
            entities::time_context(now)?,
        )
    };
    permitted(policies, verdict())
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
    now: Timestamp,
) -> Result<(), NotPermitted> {
    let refuse = |advice: String| {
        Err(NotPermitted {
            policies: Vec::new(),
            advice: vec![advice],
        })
    };
    if duration.is_zero() {
        return refuse("A grant must live longer than no time at all.".to_owned());
    }
    if !reaches(ask).contains(&reach) {
        return refuse("Access to a service can be granted for the whole service only.".to_owned());
    }
    let asking = match Asking::new(user, ask, now) {
        Ok(asking) => asking,
        Err(error) => return permitted(policies, Err(error)),
    };
    let answer = permitted(policies, asking.judge(policies, "approve", reach, duration));
    match answer {
        // Nothing forbids it, it is merely too long: say how long it may be.
        Err(NotPermitted {
            policies: ref forbids,
            ..
        }) if forbids.is_empty() => match asking.longest(policies, reach) {
            Some(longest) if longest < duration => refuse(format!(
                "You may grant this for at most {}.",
                words(longest)
            )),
            _ => answer,
        },
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
    now: Timestamp,
) -> Result<(), NotPermitted> {
    let asking = Asking::new(user, ask, now);
    // Rejecting has neither reach nor life; the least stands for both.
    permitted(
        policies,
        asking.and_then(|asking| asking.judge(policies, "reject", Reach::Once, SHORTEST)),
    )
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
    now: Timestamp,
) -> Result<(), NotPermitted> {
    simple(policies, user, "revoke", entities::agent(agent, []), now)
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
    now: Timestamp,
) -> Result<(), NotPermitted> {
    simple(
        policies,
        user,
        what.action(),
        Ok(entities::control_plane()),
        now,
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{Command, Service, command::Environment, fixtures::*};

    /// What asking would do about a command that `agent` may not send.
    fn derived(policies: &Arc<PolicySet>, agent: Agent, target: Target) -> Escalation {
        let command: Command = command(target, json!({}));
        let bot = principal(agent, Vec::new());
        let refused = refusal(decided(policies, &bot, &command, NOON));
        derive(
            &slice(policies, &command, Action::Invoke),
            &slice(policies, &command, Action::Escalate),
            &bot,
            &refused,
            at(NOON),
        )
    }

    fn liftable(approvals: u8, workflow: &str) -> Escalation {
        Escalation::Liftable {
            approvals,
            workflow: Some(workflow.to_owned()),
        }
    }

    #[test]
    fn every_rung_of_the_ladder() {
        let shipped = shipped();
        let pci = shipped_with(
            "@id(\"escalate.not-pci\")\n@advice(\"People do this.\")\nforbid (principal is Agent, action in Action::\"escalate\", resource in Zone::\"pci\");",
        );
        let never = shipped_with(
            "@id(\"wall.never\")\n@advice(\"Not at all.\")\nforbid (principal is Agent, action in Action::\"write\", resource is Command);",
        );
        let three = shipped_with(
            "@id(\"wall.known\")\n@workflow(\"known\")\nforbid (principal is Agent, action in Action::\"write\", resource is Command)\nunless { principal.hasTag(context.callKey) && principal.getTag(context.callKey).first == User::\"dan\" };",
        );
        let read = || target("coolify/list-servers", Risk::Read);
        let write = || target("coolify/deploy", Risk::Write);
        let destroy = || target("coolify/delete", Risk::Destroy);
        let suspended = Agent {
            suspended: true,
            ..agent()
        };
        let unpinned = Target {
            pinned: false,
            ..read()
        };
        let elsewhere = Target {
            service: Arc::new(Service {
                env: Environment::Dev,
                ..Service::clone(&write().service)
            }),
            ..write()
        };
        let in_pci = Target {
            zones: ["pci".parse().unwrap()].into(),
            ..read()
        };

        let cases = [
            ("read", &shipped, agent(), read(), Ok(liftable(1, "owner"))),
            (
                "write",
                &shipped,
                agent(),
                write(),
                Ok(liftable(1, "owner")),
            ),
            (
                "destroy",
                &shipped,
                agent(),
                destroy(),
                Ok(liftable(2, "two-person")),
            ),
            (
                "suspended",
                &shipped,
                suspended,
                read(),
                Err(("guard.suspended-agent", "This agent is suspended.")),
            ),
            (
                "unpinned",
                &shipped,
                agent(),
                unpinned,
                Err(("guard.unpinned-command", "The definition")),
            ),
            (
                "elsewhere",
                &shipped,
                agent(),
                elsewhere,
                Err(("guard.env-crossing", "Agents change")),
            ),
            (
                "not to be asked for",
                &pci,
                agent(),
                in_pci,
                Err(("escalate.not-pci", "People do this.")),
            ),
            (
                "asked for outside",
                &pci,
                agent(),
                read(),
                Ok(liftable(1, "owner")),
            ),
            (
                "a wall without a door",
                &never,
                agent(),
                write(),
                Err(("wall.never", "Not at all.")),
            ),
            // Which people will approve is not known: a wall that asks for one of them stays.
            (
                "a wall for one person",
                &three,
                agent(),
                write(),
                Err(("wall.known", "")),
            ),
        ];
        for (name, policies, agent, target, expected) in cases {
            match (derived(policies, agent, target), expected) {
                (found @ Escalation::Liftable { .. }, Ok(expected)) => {
                    assert_eq!(found, expected, "{name}")
                }
                (Escalation::Hard { policies, advice }, Err((policy, text))) => {
                    assert_eq!(policies, [policy], "{name}");
                    assert!(
                        advice.first().map_or("", String::as_str).starts_with(text),
                        "{name}: {advice:?}"
                    );
                }
                (found, _) => panic!("{name}: {found:?}"),
            }
        }
    }

    #[test]
    fn one_of_two_approvals_still_asks_for_two() {
        let policies = shipped();
        let command = command(target("coolify/delete", Risk::Destroy), json!({}));
        let (scope, risk, _) = ask(&agent(), &command.target, 2).scope(Reach::Call);
        let bot = principal(agent(), vec![grant(agent().id, scope, risk)]);
        let refused = refusal(decided(&policies, &bot, &command, NOON));
        let (invoke, escalate) = (
            slice(&policies, &command, Action::Invoke),
            slice(&policies, &command, Action::Escalate),
        );
        assert_eq!(
            derive(&invoke, &escalate, &bot, &refused, at(NOON)),
            liftable(2, "two-person")
        );
        // The slices in the wrong order say no.
        assert!(matches!(
            derive(&escalate, &invoke, &bot, &refused, at(NOON)),
            Escalation::Hard { .. }
        ));
    }

    /// What somebody may approve, as `reach:hours` (`m` for minutes).
    fn chosen(policies: &Arc<PolicySet>, user: &User, ask: &Ask) -> String {
        let choices = choices(policies, user, ask, NOON);
        let one = |choice: &Choice| {
            format!(
                "{}:{}h",
                choice.reach.as_str(),
                choice.longest_seconds / 3_600
            )
        };
        choices.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn who_may_approve_what_and_for_how_long() {
        let policies = shipped();
        let in_team = |mut user: User, team: &str| {
            user.teams = [team.parse().unwrap()].into();
            user
        };
        let inactive = |mut user: User| {
            user.active = false;
            user
        };
        let all =
            |hours: u8| format!("once:{hours}h call:{hours}h command:{hours}h service:{hours}h");
        let write = ask(&agent(), &target("coolify/deploy", Risk::Write), 1);
        let destroy = ask(&agent(), &target("coolify/delete", Risk::Destroy), 2);
        let access = ask(&agent(), &target("coolify/service-access", Risk::Write), 1);
        let asked_by_dan = Ask {
            requester: Some("dan".parse().unwrap()),
            ..write.clone()
        };
        let approved_by_dan = Ask {
            approved_by: vec!["dan".parse().unwrap()],
            ..destroy.clone()
        };
        let nobody_s = Ask {
            target: Target {
                service: Arc::new(Service {
                    owners: None,
                    ..Service::clone(&write.target.service)
                }),
                ..write.target.clone()
            },
            ..write.clone()
        };
        let cases = [
            ("nobody", user("dan", &[]), &write, String::new()),
            ("viewer", user("dan", &["viewer"]), &write, String::new()),
            ("admin", user("dan", &["admin"]), &write, String::new()),
            ("approver", user("dan", &["approver"]), &write, all(8)),
            (
                "admin and approver",
                user("dan", &["admin", "approver"]),
                &write,
                all(8),
            ),
            ("security", user("dan", &["security"]), &write, all(24)),
            (
                "owning team",
                in_team(user("dan", &[]), "ops"),
                &write,
                all(1),
            ),
            (
                "another team",
                in_team(user("dan", &[]), "sales"),
                &write,
                String::new(),
            ),
            (
                "no owning team",
                in_team(user("dan", &[]), "ops"),
                &nobody_s,
                String::new(),
            ),
            (
                "inactive",
                inactive(user("dan", &["security"])),
                &write,
                String::new(),
            ),
            (
                "the agent's owner",
                user("olga", &["security"]),
                &write,
                String::new(),
            ),
            (
                "the requester",
                user("dan", &["security"]),
                &asked_by_dan,
                String::new(),
            ),
            (
                "destroy",
                user("dan", &["approver"]),
                &destroy,
                "once:8h call:8h command:8h".to_owned(),
            ),
            (
                "twice",
                user("dan", &["approver"]),
                &approved_by_dan,
                String::new(),
            ),
            (
                "the second one",
                user("sam", &["approver"]),
                &approved_by_dan,
                "once:8h call:8h command:8h".to_owned(),
            ),
            (
                "access to a service",
                user("dan", &["approver"]),
                &access,
                "service:8h".to_owned(),
            ),
        ];
        for (name, user, ask, expected) in cases {
            assert_eq!(chosen(&policies, &user, ask), expected, "{name}");
            // What may be chosen is what may be done.
            for reach in Reach::ALL {
                let longest = choices(&policies, &user, ask, NOON)
                    .into_iter()
                    .find(|choice| choice.reach == reach);
                for duration in DURATIONS {
                    let may = may_approve(&policies, &user, ask, reach, duration, NOON);
                    let expected =
                        longest.is_some_and(|choice| duration.as_secs() <= choice.longest_seconds);
                    assert_eq!(
                        may.is_ok(),
                        expected,
                        "{name}, {reach:?}, {duration:?}: {may:?}"
                    );
                    assert!(may.err().is_none_or(|not| !not.advice.is_empty()), "{name}");
                }
            }
            // Whoever may approve may reject, and nobody else.
            assert_eq!(
                may_reject(&policies, &user, ask, NOON).is_ok(),
                !expected.is_empty(),
                "{name}"
            );
        }
    }

    #[test]
    fn people_are_told_why_not() {
        let policies = shipped();
        let write = ask(&agent(), &target("coolify/deploy", Risk::Write), 1);
        let access = ask(&agent(), &target("coolify/service-access", Risk::Write), 1);
        let approve = |user: &str, roles: &[&str], ask: &Ask, reach, duration| {
            may_approve(&policies, &user_of(user, roles), ask, reach, duration, NOON).unwrap_err()
        };
        fn user_of(id: &str, roles: &[&str]) -> User {
            user(id, roles)
        }
        let owner = approve("olga", &["approver"], &write, Reach::Call, HOUR);
        assert_eq!(owner.policies, ["decide.not-the-owner"]);
        assert_eq!(
            owner.to_string(),
            "policy does not permit this: Somebody else must decide this: you answer for the agent that asks."
        );
        let long = approve("dan", &["approver"], &write, Reach::Call, 24 * HOUR);
        assert_eq!(long.advice, ["You may grant this for at most 8 hours."]);
        let no_role = approve("dan", &["viewer"], &write, Reach::Call, HOUR);
        assert_eq!(
            no_role.advice,
            ["None of your roles and teams gives you this right."]
        );
        let reach = approve("dan", &["security"], &access, Reach::Call, HOUR);
        assert_eq!(
            reach.advice,
            ["Access to a service can be granted for the whole service only."]
        );
        let nothing = approve("dan", &["security"], &write, Reach::Call, Duration::ZERO);
        assert_eq!(
            nothing.advice,
            ["A grant must live longer than no time at all."]
        );
        // Durations beside the usual ones are judged as they are.
        assert!(
            may_approve(
                &policies,
                &user("dan", &["approver"]),
                &write,
                Reach::Call,
                3 * HOUR,
                NOON
            )
            .is_ok()
        );
        assert!(
            may_approve(
                &policies,
                &user("dan", &["security"]),
                &write,
                Reach::Call,
                25 * HOUR,
                NOON
            )
            .is_err()
        );
    }

    #[test]
    fn a_forbid_that_fails_stops_people_too() {
        let policies = shipped_with(
            "@id(\"x\")\nforbid (principal is User, action, resource is Escalation)\nwhen { resource.approvals * 9223372036854775807 > 1 };",
        );
        let ask = ask(&agent(), &target("coolify/delete", Risk::Destroy), 2);
        let dan = user("dan", &["approver"]);
        assert_eq!(choices(&policies, &dan, &ask, NOON), []);
        let not = may_reject(&policies, &dan, &ask, NOON).unwrap_err();
        assert_eq!(not.policies, ["x"]);
        assert!(not.advice[0].contains("could not be evaluated"), "{not:?}");
    }

    #[test]
    fn who_may_revoke_and_administer() {
        use Administration::{ManageAgents, ManagePolicies, ManageUsers, View};
        let policies = shipped();
        let cases: [(&str, &[&str], bool, &[Administration]); 7] = [
            ("dan", &[], false, &[]),
            ("olga", &[], true, &[]),
            ("dan", &["viewer"], false, &[View]),
            ("dan", &["approver"], true, &[View]),
            (
                "dan",
                &["security"],
                true,
                &[View, ManageAgents, ManagePolicies],
            ),
            ("dan", &["admin"], true, &[View, ManageAgents, ManageUsers]),
            (
                "dan",
                &["admin", "security"],
                true,
                &[View, ManageAgents, ManageUsers, ManagePolicies],
            ),
        ];
        for (id, roles, revokes, administers) in cases {
            let mut user = user(id, roles);
            assert_eq!(
                may_revoke(&policies, &user, &agent(), NOON).is_ok(),
                revokes,
                "{id} {roles:?}"
            );
            for what in [View, ManageAgents, ManageUsers, ManagePolicies] {
                let may = may_administer(&policies, &user, what, NOON);
                assert_eq!(
                    may.is_ok(),
                    administers.contains(&what),
                    "{id} {roles:?} {what:?}"
                );
            }
            user.active = false;
            let not = may_revoke(&policies, &user, &agent(), NOON).unwrap_err();
            assert_eq!(not.policies, ["people.active"], "{id} {roles:?}");
            assert!(
                may_administer(&policies, &user, View, NOON).is_err(),
                "{id} {roles:?}"
            );
        }
    }

    #[test]
    fn access_to_a_service_is_the_service_for_writing() {
        let ask = ask(
            &agent(),
            &target("coolify/service-access", Risk::Destroy),
            1,
        );
        for reach in Reach::ALL {
            let (scope, risk, single_use) = ask.scope(reach);
            assert_eq!(
                (scope.key().as_str(), risk, single_use),
                ("coolify/*", Risk::Write, false)
            );
        }
    }
}
