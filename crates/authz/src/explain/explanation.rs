//! What would come of one command, why, and what would make it come out otherwise.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{PolicyTrace, trace};
use crate::{
    agent::Agent,
    approval::{Escalation, derive},
    command::Command,
    decide::{Circumstances, Decision, PolicyError, decide, may_list},
    facts::{Facts, Principal},
    id::GrantId,
    policy_set::PolicySet,
    slice::{Action, Slice},
};

/// The three answers that a command can get.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = ExplainedVerdict)]
pub enum Verdict {
    /// It is refused, and no approval would change that.
    Hard,
    /// It is refused, and people may lift that.
    Escalate,
    /// It runs.
    Permit,
}

impl Verdict {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hard => "hard",
            Self::Escalate => "escalate",
            Self::Permit => "permit",
        }
    }
}

/// What came of a command, and why.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Explanation {
    /// What came of it.
    pub verdict: Verdict,
    /// The policies that decided; empty where nothing permits it.
    pub policies: Vec<String>,
    /// Their `@advice`.
    pub advice: Vec<String>,
    /// Policies that could not be evaluated.
    pub errors: Vec<PolicyError>,
    /// The grant that a permit rests on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<GrantId>,
    /// How many people must approve: 1 or 2, where that would lift the refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approvals: Option<u8>,
    /// The approval flow that would be taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow: Option<String>,
    /// The policies that would permit it once people approved.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub permitted_by_approval: Vec<String>,
    /// Whether the agent sees that the command exists.
    pub listed: bool,
    /// What would make it come out otherwise, most telling first.
    pub changes: Vec<Change>,
    /// Every policy that could match, and what was true of it.
    pub traces: Vec<PolicyTrace>,
}

/// Something that would change what comes of a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = WhatWouldChangeIt)]
pub struct Change {
    /// What would have to be so.
    pub how: How,
    /// The policy concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// Its parts that do not hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<String>,
    /// What the answer would be, where it was found by deciding again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
}

/// What would have to be so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = HowItWouldChange)]
pub enum How {
    /// The policy did not apply.
    Without,
    /// The policy applied: its parts held.
    If,
    /// People gave a grant.
    Grant,
    /// The agent had standing access to the service.
    StandingAccess,
    /// The agent were not suspended.
    NotSuspended,
    /// The agent ran in the service's environment.
    SameEnvironment,
}

/// At most so many policies are named that might apply.
const SHOWN_MIGHT: usize = 3;

/// Decides a command without any effect, and says why it came out so.
#[must_use]
pub fn explain(
    policies: &Arc<PolicySet>,
    principal: &Principal,
    command: &Command,
    at: Circumstances,
) -> Explanation {
    let target = &command.target;
    let invoke = Slice::new(policies, target, Action::Invoke);
    let answer = answer(&invoke, principal, command, at);
    let traces = trace(&invoke, principal, command, at);
    let listing = Slice::new(policies, target, Action::List);
    let mut changes = changes(&answer, &traces);
    for what_if in WhatIf::ALL {
        if let Some(verdict) = what_if.verdict(&invoke, principal, command, at)
            && verdict != answer.verdict
        {
            changes.push(Change {
                how: what_if.how(),
                policy: None,
                parts: Vec::new(),
                verdict: Some(verdict),
            });
        }
    }
    Explanation {
        verdict: answer.verdict,
        policies: answer.policies,
        advice: answer.advice,
        errors: answer.errors,
        grant: answer.grant,
        approvals: answer.approvals,
        workflow: answer.workflow,
        permitted_by_approval: answer.permitted_by_approval,
        listed: may_list(&listing, principal, at.now),
        changes,
        traces,
    }
}

struct Answer {
    verdict: Verdict,
    policies: Vec<String>,
    advice: Vec<String>,
    errors: Vec<PolicyError>,
    grant: Option<GrantId>,
    approvals: Option<u8>,
    workflow: Option<String>,
    permitted_by_approval: Vec<String>,
}

fn answer(invoke: &Slice, principal: &Principal, command: &Command, at: Circumstances) -> Answer {
    let refused = match decide(invoke, principal, command.clone(), at) {
        Decision::Permit(permit) => {
            return Answer {
                verdict: Verdict::Permit,
                policies: permit.policies().to_vec(),
                advice: Vec::new(),
                errors: Vec::new(),
                grant: permit.grant().map(|grant| grant.id),
                approvals: None,
                workflow: None,
                permitted_by_approval: Vec::new(),
            };
        }
        Decision::Refuse(refused) => refused,
    };
    let asking = Slice::new(invoke.policy_set(), invoke.target(), Action::Escalate);
    let hard = Answer {
        verdict: Verdict::Hard,
        policies: Vec::new(),
        advice: Vec::new(),
        errors: refused.errors.clone(),
        grant: None,
        approvals: None,
        workflow: None,
        permitted_by_approval: Vec::new(),
    };
    match derive(invoke, &asking, principal, &refused, at) {
        Escalation::Hard { policies, advice } => Answer {
            policies,
            advice,
            ..hard
        },
        Escalation::Liftable {
            approvals,
            workflow,
            policies,
        } => Answer {
            verdict: Verdict::Escalate,
            policies: refused.policies.clone(),
            advice: refused.advice.clone(),
            approvals: Some(approvals),
            workflow,
            permitted_by_approval: policies,
            ..hard
        },
    }
}

fn changes(answer: &Answer, traces: &[PolicyTrace]) -> Vec<Change> {
    let change = |how, trace: &PolicyTrace| Change {
        how,
        policy: Some(trace.id.clone()),
        parts: trace.missing().map(|part| part.text.clone()).collect(),
        verdict: None,
    };
    let applied = |forbids: bool| {
        traces
            .iter()
            .filter(move |trace| trace.matched && trace.forbids == forbids)
    };
    let might = |forbids: bool| {
        traces
            .iter()
            .filter(move |trace| !trace.matched && trace.forbids == forbids)
            .take(SHOWN_MIGHT)
    };
    let mut changes = Vec::new();
    if answer.verdict == Verdict::Permit {
        changes.extend(applied(false).map(|trace| change(How::Without, trace)));
        changes.extend(might(true).map(|trace| change(How::If, trace)));
        return changes;
    }
    if answer.verdict == Verdict::Escalate {
        changes.push(Change {
            how: How::Grant,
            policy: None,
            parts: Vec::new(),
            verdict: Some(Verdict::Permit),
        });
    }
    changes.extend(applied(true).map(|trace| change(How::Without, trace)));
    if applied(false).next().is_none() {
        changes.extend(might(false).map(|trace| change(How::If, trace)));
    }
    changes
}

/// Something about the agent that could be otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WhatIf {
    /// It had standing access to the service.
    StandingAccess,
    /// It were not suspended.
    NotSuspended,
    /// It ran in the service's environment.
    SameEnvironment,
}

impl WhatIf {
    const ALL: [Self; 3] = [
        Self::StandingAccess,
        Self::NotSuspended,
        Self::SameEnvironment,
    ];

    const fn how(self) -> How {
        match self {
            Self::StandingAccess => How::StandingAccess,
            Self::NotSuspended => How::NotSuspended,
            Self::SameEnvironment => How::SameEnvironment,
        }
    }

    /// The agent as it would be; none if it is so already.
    fn agent(self, agent: &Agent, command: &Command) -> Option<Agent> {
        let service = &command.target.service;
        let mut other = agent.clone();
        match self {
            Self::StandingAccess => {
                if !other.allowed_mcps.insert(service.name.clone()) {
                    return None;
                }
            }
            Self::NotSuspended => {
                if !std::mem::take(&mut other.suspended) {
                    return None;
                }
            }
            Self::SameEnvironment => {
                if std::mem::replace(&mut other.env, service.env) == service.env {
                    return None;
                }
            }
        }
        Some(other)
    }

    /// What would come of the command then.
    fn verdict(
        self,
        invoke: &Slice,
        principal: &Principal,
        command: &Command,
        at: Circumstances,
    ) -> Option<Verdict> {
        let agent = self.agent(principal.agent(), command)?;
        let facts = Facts {
            agent,
            ..principal.facts().clone()
        };
        Some(answer(invoke, &Principal::new(facts), command, at).verdict)
    }
}

#[cfg(test)]
mod tests;
