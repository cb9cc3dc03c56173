//! Grants: what an approval yields.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    command::{ArgumentsDigest, CommandKey, Risk},
    id::{AgentId, ApprovalRequestId, GrantId, ServiceName, UserId},
    time::Timestamp,
};

/// How much a grant covers, narrowest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase", tag = "kind")]
pub enum Scope {
    /// One command with exactly these arguments.
    Call {
        /// The command.
        command: CommandKey,
        /// Of the arguments.
        digest: ArgumentsDigest,
    },
    /// One command, whatever the arguments.
    Command {
        /// The command.
        command: CommandKey,
    },
    /// Every command of a service, up to the grant's risk.
    Service {
        /// The service.
        service: ServiceName,
    },
}

impl Scope {
    /// Under what key the grant stands among an agent's Cedar tags:
    /// `service/command#digest`, `service/command` or `service/*`.
    #[must_use]
    pub fn key(&self) -> String {
        match self {
            Self::Call { command, digest } => format!("{command}#{digest}"),
            Self::Command { command } => command.to_string(),
            Self::Service { service } => format!("{service}/*"),
        }
    }

    /// The service that it lies in.
    #[must_use]
    pub fn service(&self) -> &ServiceName {
        match self {
            Self::Call { command, .. } | Self::Command { command } => &command.service,
            Self::Service { service } => service,
        }
    }
}

/// A narrow, time-bound right, given by people. What it is worth is policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Grant {
    /// Names it.
    pub id: GrantId,
    /// To whom.
    pub agent: AgentId,
    /// For what.
    pub scope: Scope,
    /// The highest risk that the approvers agreed to.
    pub risk: Risk,
    /// Not before.
    pub issued: Timestamp,
    /// Not from this instant on.
    pub expires: Timestamp,
    /// Who approved.
    pub first: UserId,
    /// Who else approved, where two had to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub second: Option<UserId>,
    /// Spent by its first use.
    #[serde(default)]
    pub single_use: bool,
    /// The request that it answers.
    pub approval: ApprovalRequestId,
}
