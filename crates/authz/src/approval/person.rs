//! What policies say of one thing that a person is about to do, and which of them said it.
//!
//! The orchestrator asks `may_…`, which answer with advice. Tests of policies ask here,
//! because a test names the policies that decided, also where they permit.

use std::{sync::Arc, time::Duration};

use super::{Administration, Ask, Asking, Presence, Reach, SHORTEST, about, entities, judge};
use crate::{
    agent::Agent,
    decide::{PolicyError, Verdict},
    entities::Malformed,
    policy_set::PolicySet,
    question::Question,
    user::User,
};

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

impl Right {
    /// The Cedar action.
    #[must_use]
    pub const fn action(&self) -> &'static str {
        match self {
            Self::Administer(what) => what.action(),
            Self::Revoke(_) => "revoke",
            Self::Approve(..) => "approve",
            Self::Reject(_) => "reject",
        }
    }

    /// The question to policies.
    pub(crate) fn question(
        &self,
        policies: &PolicySet,
        user: &User,
        at: Presence,
    ) -> Result<Question, Malformed> {
        let action = self.action();
        match self {
            Self::Administer(_) => about(policies, user, action, entities::control_plane(), at),
            Self::Revoke(agent) => about(policies, user, action, entities::agent(agent, [])?, at),
            Self::Approve(ask, reach, life) => {
                Asking::new(user, ask, at)?.question(policies, action, *reach, *life)
            }
            // Rejecting has neither reach nor life; the least stands for both.
            Self::Reject(ask) => {
                Asking::new(user, ask, at)?.question(policies, action, Reach::Once, SHORTEST)
            }
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
    let verdict = right
        .question(policies, user, at.into())
        .and_then(|question| judge(policies, right.action(), &question));
    Ruling::of(policies, verdict)
}
