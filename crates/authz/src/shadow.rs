//! What a policy set that is not enforced would say. It never gives a [`Permit`], so
//! nothing can run because of it.
//!
//! [`Permit`]: crate::Permit

use crate::{
    approval::{Escalation, derive},
    command::Command,
    decide::{Circumstances, Decision, decide},
    facts::Principal,
    slice::Slice,
};

/// How a command fares: what an agent notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fate {
    /// It runs.
    Permit,
    /// It does not, unless people approve.
    Escalate,
    /// It does not, whatever people approve.
    Refuse,
}

impl Fate {
    /// `permit`, `escalate` or `refuse`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Permit => "permit",
            Self::Escalate => "escalate",
            Self::Refuse => "refuse",
        }
    }
}

/// What would become of a command, and the policies that would decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preview {
    /// What becomes of it.
    pub fate: Fate,
    /// The ids of the policies that decide; empty when simply nothing permits it.
    pub policies: Vec<String>,
}

/// Decides one command of one agent as [`decide`] does, for nothing but the answer.
///
/// `invoke` and `escalate` are the slices of the command's target.
#[must_use]
pub fn preview(
    invoke: &Slice,
    escalate: &Slice,
    agent: &Principal,
    command: &Command,
    at: Circumstances,
) -> Preview {
    match decide(invoke, agent, command.clone(), at) {
        Decision::Permit(permit) => Preview {
            fate: Fate::Permit,
            policies: permit.policies().to_vec(),
        },
        Decision::Refuse(refused) => match derive(invoke, escalate, agent, &refused, at) {
            Escalation::Liftable { .. } => Preview {
                fate: Fate::Escalate,
                policies: refused.policies,
            },
            Escalation::Hard { policies, .. } => Preview {
                fate: Fate::Refuse,
                policies: if policies.is_empty() {
                    refused.policies
                } else {
                    policies
                },
            },
        },
    }
}

#[cfg(test)]
mod tests;
