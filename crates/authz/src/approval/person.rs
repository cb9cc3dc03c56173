//! What policies say of one thing that a person is about to do, and which of them said it.
//!
//! The orchestrator asks `may_…`, which answer with advice. Tests of policies ask here,
//! because a test names the policies that decided, also where they permit.

use std::{sync::Arc, time::Duration};

use super::{Administration, Ask, Asking, Presence, Reach, SHORTEST, entities, judge};
use crate::{
    agent::Agent,
    decide::{PolicyError, Verdict},
    entities::{Malformed, malformed},
    policy_set::PolicySet,
    user::User,
};
use cedar_policy::Entities;

/// What a person is about to do.
#[derive(Clone, Debug)]
pub enum Right {
    /// Something in the control plane.
    Administer(Administration),
    /// Take back grants of an agent.
    Revoke(Agent),
    /// Approve what is asked, so far and for so long.
    Approve(Box<Ask>, Reach, Duration),
    /// Reject what is asked.
    Reject(Box<Ask>),
}

/// What policies say, and which of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruling {
    /// Whether it is permitted, errors counting as refusals where they must.
    pub permitted: bool,
    /// The policies that decided, sorted.
    pub policies: Vec<String>,
    /// The `@advice` of those.
    pub advice: Vec<String>,
    /// Policies that could not be evaluated.
    pub errors: Vec<PolicyError>,
}

impl Ruling {
    /// The same without what only this crate knows.
    pub(crate) fn of(policies: &PolicySet, verdict: Result<Verdict, Malformed>) -> Self {
        let verdict = verdict.unwrap_or_else(Verdict::unable);
        Self {
            permitted: verdict.permitted,
            advice: verdict.advice(policies),
            policies: verdict.policies,
            errors: verdict.errors,
        }
    }
}

/// What policies say of `right` for `user`, at that time.
#[must_use]
pub fn ruling(
    policies: &Arc<PolicySet>,
    user: &User,
    right: &Right,
    at: impl Into<Presence>,
) -> Ruling {
    let at = at.into();
    let simple = |action, resource: Result<_, Malformed>| {
        let resource: cedar_policy::Entity = resource?;
        let uid = resource.uid();
        let known =
            Entities::from_entities([entities::user(user)?, resource], None).map_err(malformed)?;
        let person = entities::user_uid(&user.id);
        let context = entities::person_context(at)?;
        judge(policies, person, action, uid, known, context)
    };
    let verdict = match right {
        Right::Administer(what) => simple(what.action(), Ok(entities::control_plane())),
        Right::Revoke(agent) => simple("revoke", entities::agent(agent, [])),
        Right::Approve(ask, reach, life) => Asking::new(user, ask, at)
            .and_then(|asking| asking.judge(policies, "approve", *reach, *life)),
        Right::Reject(ask) => Asking::new(user, ask, at)
            .and_then(|asking| asking.judge(policies, "reject", Reach::Once, SHORTEST)),
    };
    Ruling::of(policies, verdict)
}
