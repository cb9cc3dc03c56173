//! `cedargate approvals …` and `cedargate grants …`

use std::time::Duration;

use authz::{AgentRef, ApprovalRequestId, GrantId, approval::Reach};
use clap::Subcommand;

use super::value::{reach, span};

/// `cedargate approvals …`
#[derive(Debug, Subcommand)]
pub enum Approvals {
    /// What waits for people
    List {
        /// Also what is decided, expired or withdrawn
        #[arg(long)]
        all: bool,
        /// Only this agent's
        #[arg(long)]
        agent: Option<AgentRef>,
    },
    /// One request, and what you may choose
    Show {
        /// Which
        id: ApprovalRequestId,
    },
    /// Approve
    #[command(
        after_help = "Reach: once (this call, one time) · call (this call, with exactly these arguments) ·\ncommand (any arguments) · service (everything of the service up to this command's risk).\nWhat you may choose is decided by policy; `cedargate approvals show` lists it."
    )]
    Approve {
        /// Which
        id: ApprovalRequestId,
        /// How much the grant covers [default: call]
        #[arg(long, value_parser = reach, value_name = "once|call|command|service")]
        reach: Option<Reach>,
        /// How long it lives, such as 15m or 8h [default: 1h, or the longest that you may give]
        #[arg(long = "for", value_name = "TIME", value_parser = span)]
        duration: Option<Duration>,
        /// Why
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Reject; the agent is told and must not ask again for a while
    Reject {
        /// Which
        id: ApprovalRequestId,
        /// Why
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Take a request back: of an agent that you own, or that asks for you
    Withdraw {
        /// Which
        id: ApprovalRequestId,
        /// Why; the agent is told
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// An inbox that lives: see requests as they come, approve and reject with keys
    #[command(
        after_help = "On a terminal, `?` shows the keys. Elsewhere, or with --plain or --json: a line for every\nrequest that comes or is decided, until Ctrl-C."
    )]
    Watch {
        /// Print lines instead of taking the screen
        #[arg(long)]
        plain: bool,
    },
}

/// `cedargate grants …`
#[derive(Debug, Subcommand)]
pub enum Grants {
    /// Live grants
    List {
        /// Only this agent's
        #[arg(long)]
        agent: Option<AgentRef>,
        /// Also those that ended
        #[arg(long)]
        all: bool,
    },
    /// One grant
    Show {
        /// Which
        id: GrantId,
    },
    /// Take a grant back
    Revoke {
        /// Which
        id: GrantId,
        /// Why
        #[arg(long, default_value = "")]
        reason: String,
    },
}
