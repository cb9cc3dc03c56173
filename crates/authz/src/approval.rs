//! Approvals: what a grant would change, who may give it, and for how long.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    agent::Agent,
    command::{ArgumentsDigest, Risk, Target},
    decide::{Circumstances, Refused},
    facts::Principal,
    grant::Scope,
    id::UserId,
    policy_set::PolicySet,
    slice::Slice,
    time::Timestamp,
    user::User,
};

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
pub fn derive(invoke: &Slice, escalate: &Slice, agent: &Principal, refused: &Refused, at: Circumstances) -> Escalation {
    let _ = (invoke, escalate, agent, refused, at);
    todo!()
}

/// How long grants may be asked for; what a person may choose is among these.
pub const DURATIONS: [Duration; 5] = [
    Duration::from_secs(15 * 60),
    Duration::from_secs(60 * 60),
    Duration::from_secs(4 * 60 * 60),
    Duration::from_secs(8 * 60 * 60),
    Duration::from_secs(24 * 60 * 60),
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
    #[must_use]
    pub fn scope(&self, reach: Reach) -> (Scope, Risk, bool) {
        let command = self.target.key.clone();
        let digest = self.digest.clone();
        let scope = match reach {
            Reach::Once | Reach::Call => Scope::Call { command, digest },
            Reach::Command => Scope::Command { command },
            Reach::Service => Scope::Service { service: command.service },
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
    let _ = (policies, user, ask, now);
    todo!()
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
    let _ = (policies, user, ask, reach, duration, now);
    todo!()
}

/// Whether `user` may reject, now.
///
/// # Errors
///
/// What to tell them, if not.
pub fn may_reject(policies: &Arc<PolicySet>, user: &User, ask: &Ask, now: Timestamp) -> Result<(), NotPermitted> {
    let _ = (policies, user, ask, now);
    todo!()
}

/// Whether `user` may take back grants of `agent`, now.
///
/// # Errors
///
/// What to tell them, if not.
pub fn may_revoke(policies: &Arc<PolicySet>, user: &User, agent: &Agent, now: Timestamp) -> Result<(), NotPermitted> {
    let _ = (policies, user, agent, now);
    todo!()
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
    let _ = (policies, user, what, now);
    todo!()
}
