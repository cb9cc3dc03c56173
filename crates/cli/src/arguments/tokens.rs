//! `cedargate tokens …`

use std::time::Duration;

use authz::{AgentRef, TokenId, UserId};
use clap::{Args, Subcommand};

use super::value::span;

/// `cedargate tokens …`
#[derive(Debug, Subcommand)]
pub enum Tokens {
    /// Print a random secret, for CEDARGATE_CONTROL_TOKEN or MCP_GATEWAY_TOKEN
    Generate,
    /// Make a credential; it is shown once
    Create {
        /// Whose it is.
        #[command(flatten)]
        holder: Holder,
        /// What it is for, and for how long.
        #[command(flatten)]
        token: NewToken,
    },
    /// Somebody's credentials, without the secret part
    List {
        /// Whose
        #[command(flatten)]
        holder: Holder,
    },
    /// Revoke a credential
    Revoke {
        /// Whose
        #[command(flatten)]
        holder: Holder,
        /// Which, as listed
        token: TokenId,
    },
}

/// Whose credential it is.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Holder {
    /// This agent's
    #[arg(long)]
    pub agent: Option<AgentRef>,
    /// This person's
    #[arg(long)]
    pub user: Option<UserId>,
    /// Your own
    #[arg(long)]
    pub me: bool,
}

/// What a new credential is for, and for how long.
#[derive(Debug, Args)]
pub struct NewToken {
    /// What it is for
    #[arg(long, default_value = "")]
    pub label: String,
    /// How long it lives, such as 90d or 8h [default: until revoked]
    #[arg(long, value_name = "TIME", value_parser = span)]
    pub expires_in: Option<Duration>,
}
