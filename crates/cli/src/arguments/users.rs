//! `cedargate users …`

use authz::{RoleName, SessionId, TeamName, TokenId, UserId};
use clap::Subcommand;

use super::{
    tokens::NewToken,
    value::{Item, or_none},
};

/// `cedargate users …`
#[derive(Debug, Subcommand)]
pub enum Users {
    /// All people
    List,
    /// Who you are
    Whoami,
    /// Add a person
    #[command(
        after_help = "Roles: admin, security, approver, viewer, or your policies' own.\nExample: cedargate users create dan --name 'Dan Li' --role approver --team platform"
    )]
    Create {
        /// A handle or an e-mail address
        id: UserId,
        /// Shown to other people [default: the handle]
        #[arg(long, default_value = "")]
        name: String,
        /// A role; may be repeated
        #[arg(long = "role", value_name = "ROLE")]
        roles: Vec<RoleName>,
        /// A team; may be repeated
        #[arg(long = "team", value_name = "TEAM")]
        teams: Vec<TeamName>,
    },
    /// One person
    Show {
        /// Who
        id: UserId,
    },
    /// Change a person; what is not named stays
    #[command(
        after_help = "Lists are set whole. Example: cedargate users change dan --role approver --role viewer --team ''"
    )]
    Change {
        /// Who
        id: UserId,
        /// Shown to other people
        #[arg(long)]
        name: Option<String>,
        /// A role; may be repeated, and `''` is none
        #[arg(long = "role", value_name = "ROLE", value_parser = or_none::<RoleName>)]
        roles: Option<Vec<Item<RoleName>>>,
        /// A team; may be repeated, and `''` is none
        #[arg(long = "team", value_name = "TEAM", value_parser = or_none::<TeamName>)]
        teams: Option<Vec<Item<TeamName>>>,
    },
    /// Let a person in no more: their tokens and sessions end at once
    Deactivate {
        /// Who
        id: UserId,
    },
    /// Let a person in again; they need a new token
    Activate {
        /// Who
        id: UserId,
    },
    /// Make a credential for a person; it is shown once
    Token {
        /// Whose
        id: UserId,
        /// What it is for, and for how long.
        #[command(flatten)]
        token: NewToken,
    },
    /// A person's credentials
    #[command(subcommand)]
    Tokens(UserTokens),
    /// A person's browser sessions, or end them
    Sessions {
        /// Whose
        id: UserId,
        /// End this one
        #[arg(long, value_name = "SESSION")]
        end: Option<SessionId>,
        /// End all of them
        #[arg(long, conflicts_with = "end")]
        end_all: bool,
    },
    /// Prove a second factor with your token: for what policy asks one for
    #[command(after_help = "The code is read from the terminal, or from standard input.")]
    StepUp,
    /// The second factor
    #[command(subcommand)]
    SecondFactor(SecondFactor),
    /// Forget who a person is at the provider of identities
    Unlink {
        /// Who
        id: UserId,
    },
}

/// `cedargate users tokens …`
#[derive(Debug, Subcommand)]
pub enum UserTokens {
    /// Make a credential; it is shown once
    Create {
        /// Whose
        id: UserId,
        /// What it is for, and for how long.
        #[command(flatten)]
        token: NewToken,
    },
    /// Their credentials, without the secret part
    List {
        /// Whose
        id: UserId,
    },
    /// Revoke a credential, and end the sessions that it opened
    Revoke {
        /// Whose
        id: UserId,
        /// Which, as listed
        token: TokenId,
    },
}

/// `cedargate users second-factor …`
#[derive(Debug, Subcommand)]
pub enum SecondFactor {
    /// Enrol a device that shows codes; recovery codes are shown once
    Enrol,
    /// Remove yours, or, when somebody lost theirs, another person's
    Remove {
        /// Whose
        id: UserId,
    },
}
