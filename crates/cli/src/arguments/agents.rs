//! `cedargate agents …`

use authz::{
    AgentName, AgentRef, RoleName, ServiceName, TeamName, TokenId, UserId,
    command::Environment as Env,
};
use clap::{Args, Subcommand};

use super::{
    tokens::NewToken,
    value::{Item, environment, or_none},
};

/// `cedargate agents …`
#[derive(Debug, Subcommand)]
pub enum Agents {
    /// All agents
    List,
    /// One agent, with its live grants
    Show {
        /// Its name or id
        agent: AgentRef,
    },
    /// Register an agent
    #[command(
        after_help = "Example: cedargate agents create deploy-bot --owner dan --allow github --role deployer"
    )]
    Create {
        /// Its name, unique
        name: AgentName,
        /// What it is given.
        #[command(flatten)]
        attributes: AgentAttributes,
    },
    /// Change an agent; what is not given stays as it is
    #[command(
        after_help = "A list that is given replaces the old one: `--allow github --allow coolify`, or `--allow ''` for none."
    )]
    Change {
        /// Its name or id
        agent: AgentRef,
        /// What it is given.
        #[command(flatten)]
        attributes: AgentAttributes,
    },
    /// Give an agent standing access: it reads and writes a service without asking
    #[command(after_help = "One service at a time: what others change meanwhile stays.")]
    Allow {
        /// Its name or id
        agent: AgentRef,
        /// The service
        service: ServiceName,
    },
    /// Take standing access away: the agent must ask again
    Disallow {
        /// Its name or id
        agent: AgentRef,
        /// The service
        service: ServiceName,
    },
    /// Give an agent one role, or take one away
    #[command(subcommand)]
    Role(AgentRoles),
    /// Put an agent into a team, or take it out
    #[command(subcommand)]
    Team(AgentTeams),
    /// Stop an agent now: everything that it sends is refused, at every gateway
    Suspend {
        /// Its name or id
        agent: AgentRef,
        /// Why, for the audit trail
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Let a suspended agent go on
    Resume {
        /// Its name or id
        agent: AgentRef,
        /// Why, for the audit trail
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Its credentials
    #[command(subcommand)]
    Token(AgentTokens),
}

/// `cedargate agents role …`
#[derive(Debug, Subcommand)]
pub enum AgentRoles {
    /// Give it a role
    Add {
        /// Its name or id
        agent: AgentRef,
        /// The role
        role: RoleName,
    },
    /// Take a role away
    Remove {
        /// Its name or id
        agent: AgentRef,
        /// The role
        role: RoleName,
    },
}

/// `cedargate agents team …`
#[derive(Debug, Subcommand)]
pub enum AgentTeams {
    /// Put it into a team
    Add {
        /// Its name or id
        agent: AgentRef,
        /// The team
        team: TeamName,
    },
    /// Take it out of a team
    Remove {
        /// Its name or id
        agent: AgentRef,
        /// The team
        team: TeamName,
    },
}

/// What an agent is given.
#[derive(Debug, Default, Args)]
pub struct AgentAttributes {
    /// The person who answers for it
    #[arg(long, value_name = "USER")]
    pub owner: Option<UserId>,
    /// A team that it belongs to; may be repeated
    #[arg(long = "team", value_name = "TEAM", value_parser = or_none::<TeamName>)]
    pub teams: Option<Vec<Item<TeamName>>>,
    /// A role that policies give access to; may be repeated
    #[arg(long = "role", value_name = "ROLE", value_parser = or_none::<RoleName>)]
    pub roles: Option<Vec<Item<RoleName>>>,
    /// Where it runs: dev, staging or prod
    #[arg(long, value_parser = environment)]
    pub env: Option<Env>,
    /// How far it is trusted, from 0 (not at all) to 255
    #[arg(long, value_name = "0-255")]
    pub trust: Option<u8>,
    /// A service that it may read and write without asking; may be repeated
    #[arg(long = "allow", value_name = "SERVICE", value_parser = or_none::<ServiceName>)]
    pub allowed: Option<Vec<Item<ServiceName>>>,
}

/// `cedargate agents token …`
#[derive(Debug, Subcommand)]
pub enum AgentTokens {
    /// Make a credential; it is shown once
    Create {
        /// Its name or id
        agent: AgentRef,
        /// What it is for, and for how long.
        #[command(flatten)]
        token: NewToken,
    },
    /// Its credentials, without the secret part
    List {
        /// Its name or id
        agent: AgentRef,
    },
    /// Revoke a credential
    Revoke {
        /// Its name or id
        agent: AgentRef,
        /// Which, as listed
        token: TokenId,
    },
}
