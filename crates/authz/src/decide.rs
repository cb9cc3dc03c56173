//! Decisions: permit or refuse one command, and why.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::{
    command::Command,
    facts::Principal,
    id::{AgentId, GrantId},
    policy_set::PolicySetVersion,
    slice::Slice,
    time::Timestamp,
};

/// What surrounds a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Circumstances {
    /// When.
    pub now: Timestamp,
    /// The address that the call came from.
    pub ip: IpAddr,
}

/// Proof that the policy set permitted a command.
///
/// Only [`decide`] makes one, so code that takes a `Permit` cannot run for a
/// command that was never decided.
#[derive(Debug)]
pub struct Permit {
    agent: AgentId,
    command: Command,
    policies: Vec<String>,
    grant: Option<UsedGrant>,
    policy_set: PolicySetVersion,
}

/// The grant that a permit rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsedGrant {
    /// Names it.
    pub id: GrantId,
    /// Whether it must be spent before the command leaves.
    pub single_use: bool,
}

impl Permit {
    /// To whom.
    #[must_use]
    pub fn agent(&self) -> AgentId {
        self.agent
    }

    /// What is permitted, exactly.
    #[must_use]
    pub fn command(&self) -> &Command {
        &self.command
    }

    /// The ids of the policies that permitted it.
    #[must_use]
    pub fn policies(&self) -> &[String] {
        &self.policies
    }

    /// The grant without which policy would have refused.
    #[must_use]
    pub fn grant(&self) -> Option<UsedGrant> {
        self.grant
    }

    /// The policy set that decided.
    #[must_use]
    pub fn policy_set(&self) -> &PolicySetVersion {
        &self.policy_set
    }
}

/// Why a command was refused. It gives the command back, to be asked about.
#[derive(Debug)]
pub struct Refused {
    /// What was asked for.
    pub command: Command,
    /// The ids of the forbids that decided; empty when simply nothing permits it.
    pub policies: Vec<String>,
    /// Their `@advice`, in the same order.
    pub advice: Vec<String>,
    /// Policies that could not be evaluated. One that forbids refuses by itself.
    pub errors: Vec<PolicyError>,
    /// Whether an erroring `forbid` decided (reason `policy_error`).
    pub policy_error: bool,
    /// The policy set that decided.
    pub policy_set: PolicySetVersion,
}

/// A policy that failed while it was evaluated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyError {
    /// Its id.
    pub policy: String,
    /// What Cedar said.
    pub message: String,
}

/// The answer.
#[derive(Debug)]
pub enum Decision {
    /// It may run.
    Permit(Permit),
    /// It may not.
    Refuse(Box<Refused>),
}

/// Decides one command of one agent.
///
/// `slice` must be that of the command's target and [`Action::Invoke`](crate::slice::Action).
/// An error in a `forbid` refuses; an error in a `permit` grants nothing.
#[must_use]
pub fn decide(slice: &Slice, agent: &Principal, command: Command, at: Circumstances) -> Decision {
    let _ = (slice, agent, command, at);
    todo!()
}

/// Whether the agent may see that the command exists. `slice` is that of
/// [`Action::List`](crate::slice::Action).
#[must_use]
pub fn may_list(slice: &Slice, agent: &Principal, now: Timestamp) -> bool {
    let _ = (slice, agent, now);
    todo!()
}
