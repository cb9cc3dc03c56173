//! The command line: subcommands, flags, and what `--help` says.

#![allow(
    clippy::doc_markdown,
    rustdoc::bare_urls,
    reason = "the doc comments of arguments are what `--help` prints, as plain text"
)]

mod notifications;
mod policy;
mod prove;
mod services;

pub use self::{
    prove::{PolicyProve, ProofFormat},
    services::Import,
};

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use authz::{
    AgentId, AgentName, AgentRef, ApprovalRequestId, CommandName, GrantId, RoleName, ServiceName,
    SessionId, TeamName, TokenId, UserId, ZoneName, approval::Reach, command::Environment as Env,
};
use clap::{Arg, ArgAction, ArgMatches, Args, FromArgMatches, Parser, Subcommand, ValueEnum};
use contract::overview::Range;

pub use self::policy::{
    Policy, PolicyCoverage, PolicyDiff, PolicyExplain, PolicyExport, PolicyFmt, PolicyFrom,
    PolicyMatrix, PolicySets, PolicyTest, ReportFormat,
};
pub use notifications::{
    Accounts, DestinationFlags, Kind, Messages, Notifications, RuleFlags, Targets,
};

use crate::{
    config::{SETTINGS, Setting},
    connect::{Client, Scope},
};

const EXAMPLES: &str = "\
Try it:
  cedargate demo                          the whole story on this machine, with a sample Coolify
  cedargate serve                         both planes in one process, state in ./data

Decide what agents asked for:
  cedargate approvals list
  cedargate approvals approve apr_… --reach call --for 1h --reason 'release 4.2'
  cedargate approvals watch

Look around:
  cedargate agents list                   cedargate services show coolify
  cedargate policy check ./policies       cedargate audit list --agent deploy-bot
  cedargate audit verify

Exit codes: 0 done · 1 failed · 2 the command line or configuration is wrong ·
3 refused (unknown token, or not permitted) · 4 what was named does not exist";

/// An authorization gateway for AI agents.
///
/// Agents send commands to the gateway (data plane, :8100). It asks Cedar policies and
/// forwards, refuses, or asks people, who decide at the orchestrator (control plane, :9403).
#[derive(Debug, Parser)]
#[command(name = "cedargate", version, after_help = EXAMPLES, propagate_version = false, subcommand_required = true)]
pub struct CommandLine {
    /// What every subcommand takes.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What every subcommand takes.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Everywhere")]
pub struct Global {
    /// Configuration file [default: ./cedargate.toml if there]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Data folder: database, journal, admin's token [env: CEDARGATE_DATA] [default: ./data]
    #[arg(long, global = true, value_name = "FOLDER")]
    pub data: Option<PathBuf>,
    /// The orchestrator [env: CEDARGATE_URL, ORCHESTRATOR_URL] [default: http://127.0.0.1:9403]
    #[arg(long, global = true, value_name = "URL")]
    pub url: Option<String>,
    /// Print JSON instead of tables
    #[arg(long, global = true)]
    pub json: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run gateway and orchestrator in one process
    #[command(after_help = SERVE)]
    Serve(ServerFlags<true, true>),
    /// Run a gateway alone
    #[command(after_help = GATEWAY)]
    Gateway(ServerFlags<true, false>),
    /// Run an orchestrator alone
    #[command(after_help = ORCHESTRATOR)]
    Orchestrator(ServerFlags<false, true>),
    /// Play the whole story on this machine, step by step, with a sample Coolify
    #[command(after_help = DEMO)]
    Demo {
        /// Exit when the story is told; 0 if every answer was as it should be
        #[arg(long)]
        once: bool,
    },
    /// Agents and their credentials
    #[command(subcommand)]
    Agents(Agents),
    /// Requests of agents that people decide
    #[command(subcommand)]
    Approvals(Approvals),
    /// What approvals yielded
    #[command(subcommand)]
    Grants(Grants),
    /// Where people are told what waits for them: webhooks, Slack, e-mail
    #[command(subcommand)]
    Notifications(Notifications),
    /// People and their credentials
    #[command(subcommand)]
    Users(Users),
    /// Make a random secret, or credentials for agents and people
    #[command(subcommand)]
    Tokens(Tokens),
    /// What agents can reach, as this machine is configured
    #[command(subcommand)]
    Services(Services),
    /// Connect an MCP client: print what it must be told, or write it down
    #[command(after_help = CONNECT)]
    Connect(Connect),
    /// Be an MCP server on standard input and output, for clients that only start programs
    #[command(after_help = BRIDGE)]
    Bridge(GatewayDoor),
    /// Policies: check, test and explain a folder, see what is in force
    #[command(subcommand)]
    Policy(Policy),
    /// The audit trail
    #[command(subcommand)]
    Audit(Audit),
    /// Ask the planes on this machine whether they are up
    Health {
        /// Only this one; otherwise whichever runs here
        plane: Option<Plane>,
    },
    /// The configuration: every setting, its value and where it was set
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print the description of a plane's API: an OpenAPI 3.1 document
    #[command(
        after_help = "The running orchestrator has it at /api/openapi.json, a gateway at /openapi.json."
    )]
    Openapi {
        /// Whose
        #[arg(default_value = "orchestrator")]
        plane: Plane,
    },
    /// What is used of today's budgets, over all gateways
    #[command(after_help = "Example: cedargate budgets --agent deploy-bot")]
    Budgets {
        /// Of one agent, by name or id
        #[arg(long)]
        agent: Option<AgentRef>,
        /// Of one service
        #[arg(long)]
        service: Option<ServiceName>,
    },
    /// What happened lately, in numbers: decisions, top refusals, waiting times
    Overview {
        /// How far back: 1h, 24h or 7d
        #[arg(long, default_value = "1h", value_parser = range)]
        range: Range,
    },
    /// Print completions for a shell
    #[command(
        after_help = "Example: cedargate completions bash > /etc/bash_completion.d/cedargate"
    )]
    Completions {
        /// For which shell
        shell: clap_complete::Shell,
    },
    /// Run the sample Coolify alone
    #[command(hide = true)]
    SampleCoolify {
        /// Where; 0 takes a free port
        #[arg(long, default_value_t = 0)]
        port: u16,
    },
}

const CONNECT: &str = "\
The agent's token is not written down: the client takes it from CEDARGATE_AGENT_TOKEN, and
Claude Desktop, which passes no environment on, from a file.

Examples:
  cedargate connect claude-code                 all services, as tools
  cedargate connect codex --service github      one MCP service, as it is
  cedargate connect vscode --write              merged into .vscode/mcp.json; what was there is kept";

const BRIDGE: &str = "\
The agent's token is taken from CEDARGATE_AGENT_TOKEN, or the file that CEDARGATE_AGENT_TOKEN_FILE
names. It ends when the client hangs up.

Example: CEDARGATE_AGENT_TOKEN_FILE=./token cedargate bridge github";

const SERVE: &str = "\
State is kept in the data folder: an SQLite database unless DATABASE_URL names another, the
journal, and after the first start `admin-token`, which the other subcommands use by themselves.

Secrets come from the environment only: directly, as a file (`<NAME>_FILE`) or as a command that
prints them (`<NAME>_COMMAND`):
  MCP_GATEWAY_TOKEN        what a trusted caller presents to the gateway
  COOLIFY_API_URL, COOLIFY_API_TOKEN   and those of other services
  DATABASE_URL, CEDARGATE_CONTROL_TOKEN

Example: COOLIFY_API_URL=https://coolify.example.com COOLIFY_API_TOKEN_FILE=./token cedargate serve";

const GATEWAY: &str = "\
Needs ORCHESTRATOR_URL, and CEDARGATE_CONTROL_TOKEN as the orchestrator has it.

Example: ORCHESTRATOR_URL=http://127.0.0.1:9403 CEDARGATE_CONTROL_TOKEN_FILE=./control cedargate gateway";

const ORCHESTRATOR: &str = "\
Needs CEDARGATE_CONTROL_TOKEN, which gateways present; `cedargate tokens generate` makes one.

Example: DATABASE_URL=postgres://cedargate@db/cedargate CEDARGATE_CONTROL_TOKEN_FILE=./control cedargate orchestrator";

const DEMO: &str = "\
Everything is real but Coolify: both planes, HTTP over sockets, SQLite, policies, journal.
State lives in a temporary folder that is removed at the end. Set COOLIFY_API_URL and
COOLIFY_API_TOKEN to use a Coolify of yours; the demo only lists its servers.";

/// Which plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Plane {
    /// The data plane.
    Gateway,
    /// The control plane.
    Orchestrator,
}

/// `cedargate connect …`
#[derive(Debug, Args)]
pub struct Connect {
    /// Which client
    pub client: Client,
    /// To where.
    #[command(flatten)]
    pub door: DoorFlags,
    /// Merge it into the client's configuration; what was there is kept beside it
    #[arg(long)]
    pub write: bool,
    /// Whose configuration [default: what is usual for the client]
    #[arg(long)]
    pub scope: Option<Scope>,
    /// The configuration file, if it is another than usual
    #[arg(long, value_name = "FILE", conflicts_with = "scope")]
    pub file: Option<PathBuf>,
    /// What the client calls it [default: the service, or cedargate]
    #[arg(long, value_parser = entry_name)]
    pub name: Option<String>,
    /// Where the token is, for clients that pass no environment on
    /// [default: ~/.config/cedargate/agent-token]
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

/// To where a client is connected.
#[derive(Debug, Args)]
pub struct DoorFlags {
    /// One service of kind mcp, as it is [default: all services, as tools]
    #[arg(long)]
    pub service: Option<ServiceName>,
    /// The gateway [env: CEDARGATE_GATEWAY_URL] [default: http://127.0.0.1:8100]
    #[arg(long, value_name = "URL")]
    pub gateway: Option<String>,
}

/// `cedargate bridge …`
#[derive(Debug, Args)]
pub struct GatewayDoor {
    /// One service of kind mcp, as it is [default: all services, as tools]
    pub service: Option<ServiceName>,
    /// The gateway [env: CEDARGATE_GATEWAY_URL] [default: http://127.0.0.1:8100]
    #[arg(long, value_name = "URL")]
    pub gateway: Option<String>,
}

/// A name that every client takes.
fn entry_name(text: &str) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if !text.is_empty() && text.len() <= 64 && text.bytes().all(plain) {
        Ok(text.to_owned())
    } else {
        Err("letters, digits, `-` and `_` only, at most 64".to_owned())
    }
}

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

/// One item of a list, or the empty text that stands for an empty list.
pub type Item<T> = Option<T>;

fn or_none<T: std::str::FromStr>(text: &str) -> Result<Item<T>, T::Err> {
    if text.is_empty() {
        Ok(None)
    } else {
        text.parse().map(Some)
    }
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

/// `cedargate services …`
#[derive(Debug, Subcommand)]
pub enum Services {
    /// All services
    List {
        /// As the gateways told the orchestrator, instead of as this machine is configured
        #[arg(long)]
        live: bool,
    },
    /// One service, with its commands
    Show {
        /// Its name or an alias
        name: String,
        /// As the gateways told the orchestrator; by its name only
        #[arg(long)]
        live: bool,
    },
    /// Typed actions of its commands, to add to schema.cedarschema
    ///
    /// Policies about `Action::"service/command"` then find the arguments in
    /// `context.input`, with their types. What cannot be typed is named in a comment. Of an
    /// MCP server, the tools whose definitions are reviewed, as the orchestrator has them.
    Schema {
        /// The service's name or an alias
        name: String,
        /// One command only
        command: Option<String>,
    },
    /// Check descriptions of your own, beside the built-in ones
    ///
    /// Says what is wrong, with file, line and the nearest key that is right.
    #[command(after_help = "Example: cedargate services check ./services")]
    Check {
        /// The folder of *.toml [default: that of CEDARGATE_SERVICES]
        folder: Option<PathBuf>,
    },
    /// The request that a command would send, secrets masked; with --send, what comes of it
    ///
    /// It is sent with the credentials of this machine and past all policies, and nothing is
    /// recorded: this is for whoever sets a service up.
    #[command(after_help = "\
Examples:
  cedargate services try '/mcp-github repos get octocat hello-world'
  cedargate services try --send '/mcp-github repos get octocat hello-world'")]
    Try {
        /// The command, as agents type it
        command: String,
        /// Send it, and print the answer as an agent would get it
        #[arg(long)]
        send: bool,
        /// Send it also if it changes or destroys something
        #[arg(long, requires = "send")]
        yes: bool,
    },
    /// A description of a service, made of an OpenAPI document
    Import(Import),
    /// JSON Schema of descriptions, for editors
    Format,
    /// Tools of MCP servers: which definitions are reviewed
    ///
    /// A tool whose definition nobody reviewed, or that is another by now, is refused.
    #[command(subcommand)]
    Tools(Tools),
    /// Zones that services and commands are put into, besides those of their descriptions
    #[command(subcommand)]
    Zones(Zones),
}

/// `cedargate services tools …`
#[derive(Debug, Subcommand)]
pub enum Tools {
    /// All tools of a service, and whether they are reviewed
    List {
        /// The service
        service: ServiceName,
    },
    /// One tool: its definition as gateways see it
    Show {
        /// The service
        service: ServiceName,
        /// The tool
        tool: CommandName,
    },
    /// What changed since the review, of one tool or of all that changed
    Diff {
        /// The service
        service: ServiceName,
        /// One tool only
        tool: Option<CommandName>,
    },
    /// Take definitions as reviewed: these may be called
    Approve {
        /// The service
        service: ServiceName,
        /// The tools
        #[arg(required_unless_present = "all")]
        tools: Vec<CommandName>,
        /// All that are new or changed, but for those with warnings
        #[arg(long, conflicts_with = "tools")]
        all: bool,
        /// Only this definition: of one tool, as `show` says
        #[arg(long, conflicts_with = "all")]
        digest: Option<String>,
    },
    /// Take reviews back: these may not be called any more
    Withdraw {
        /// The service
        service: ServiceName,
        /// The tools
        #[arg(required = true)]
        tools: Vec<CommandName>,
    },
}

/// `cedargate services zones …`
#[derive(Debug, Subcommand)]
pub enum Zones {
    /// What people put into zones
    List {
        /// Only this service's
        service: Option<ServiceName>,
    },
    /// Put a service, or one command of it, into a zone
    ///
    /// Every gateway goes by it within a second. Policies name zones: `resource in Zone::"pci"`.
    #[command(after_help = "Example: cedargate services zones add coolify/delete-server pci")]
    Add(ZoneChange),
    /// Take a service, or one command of it, out of a zone
    ///
    /// A zone that a description gives is changed in the description.
    Remove(ZoneChange),
}

/// What goes into a zone or comes out of one.
#[derive(Debug, Args)]
pub struct ZoneChange {
    /// A service, or one command of it: `service/command`
    pub what: Zoned,
    /// The zone
    pub zone: ZoneName,
    /// Only if zones are at this revision still, as `list` says it
    #[arg(long, value_name = "REVISION")]
    pub if_revision: Option<i64>,
}

/// `service` or `service/command`.
#[derive(Clone, Debug)]
pub struct Zoned {
    /// The service.
    pub service: ServiceName,
    /// One command only.
    pub command: Option<CommandName>,
}

impl std::str::FromStr for Zoned {
    type Err = authz::id::InvalidId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (service, command) = text
            .split_once('/')
            .map_or((text, None), |(service, command)| (service, Some(command)));
        Ok(Self {
            service: service.parse()?,
            command: command.map(str::parse).transpose()?,
        })
    }
}

/// `cedargate audit …`
#[derive(Debug, Subcommand)]
pub enum Audit {
    /// What happened, oldest first
    List {
        /// What to look for.
        #[command(flatten)]
        filter: AuditFilterFlags,
        /// Only what came after this entry [default: the last entries]
        #[arg(long, value_name = "ID", conflicts_with_all = ["service", "user", "kind", "outcome", "decision", "gateway", "from", "until", "text", "command"])]
        after: Option<i64>,
        /// At most so many
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
    },
    /// Everything that a filter wants, as JSON Lines, newest first
    Export {
        /// What to look for.
        #[command(flatten)]
        filter: AuditFilterFlags,
    },
    /// Have the orchestrator check every journal line that it stores; exit code 1 if one is broken
    VerifyStored,
    /// Check a gateway's journal for edits, gaps and truncation
    ///
    /// What was cut off at the end is found by asking the orchestrator for the newest line
    /// that it has, or against a line that was noted earlier.
    Verify {
        /// The journal's folder [default: as the gateway would choose]
        folder: Option<PathBuf>,
        /// A line that the journal must hold, instead of asking the orchestrator
        #[arg(long, value_name = "SEQUENCE:HASH", conflicts_with = "offline")]
        head: Option<JournalLineAt>,
        /// Do not ask the orchestrator: an end that was cut off goes unnoticed
        #[arg(long)]
        offline: bool,
    },
}

/// What to look for in the audit trail.
#[derive(Clone, Debug, Default, Args)]
pub struct AuditFilterFlags {
    /// Only this agent's
    #[arg(long)]
    pub agent: Option<AgentRef>,
    /// Only this command, as SERVICE/NAME
    #[arg(long)]
    pub command: Option<authz::CommandKey>,
    /// Only commands of this service
    #[arg(long)]
    pub service: Option<ServiceName>,
    /// Only what this person did
    #[arg(long)]
    pub user: Option<UserId>,
    /// Only this kind: intent, outcome, refusal, approved, login, …
    #[arg(long)]
    pub kind: Option<String>,
    /// Only what was permitted, refused, pending or rejected, or ended in success, error or unknown
    #[arg(long)]
    pub outcome: Option<String>,
    /// Only the lines of this decision
    #[arg(long, value_name = "ID")]
    pub decision: Option<String>,
    /// Only from this gateway's journal
    #[arg(long)]
    pub gateway: Option<String>,
    /// Not before, such as 2026-11-22T08:00:00Z
    #[arg(long, value_name = "TIME")]
    pub from: Option<authz::Timestamp>,
    /// Before
    #[arg(long, value_name = "TIME")]
    pub until: Option<authz::Timestamp>,
    /// Only lines that hold this text
    #[arg(long)]
    pub text: Option<String>,
}

/// A line of a journal: its place and its hash, as `audit verify` prints its head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalLineAt(pub gateway::journal::Head);

impl std::str::FromStr for JournalLineAt {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected =
            || "expected a line's number and its 64 hexadecimal digits, `12:ab…`".to_owned();
        let (sequence, hash) = text.split_once([':', ' ']).ok_or_else(expected)?;
        let sequence: i64 = sequence.trim().parse().map_err(|_| expected())?;
        let hash = hash.trim().to_ascii_lowercase();
        let hexadecimal = hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        if sequence < 1 || !hexadecimal {
            return Err(expected());
        }
        Ok(Self(gateway::journal::Head { sequence, hash }))
    }
}

/// `cedargate config …`
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Check the configuration of this machine; opens nothing
    Check(ServerFlags<true, true>),
    /// Every setting, its value and where it was set; secrets are not shown
    Show(ServerFlags<true, true>),
}

/// The flags of the settings that a gateway or an orchestrator has, by key.
///
/// They are made of [`SETTINGS`], so that each setting is described once.
#[derive(Clone, Debug, Default)]
pub struct ServerFlags<const GATEWAY: bool, const ORCHESTRATOR: bool>(
    pub BTreeMap<&'static str, String>,
);

impl<const GATEWAY: bool, const ORCHESTRATOR: bool> ServerFlags<GATEWAY, ORCHESTRATOR> {
    /// `--data` is everywhere; a gateway in the orchestrator's process needs no address of it.
    fn settings() -> impl Iterator<Item = (&'static Setting, &'static str)> {
        SETTINGS
            .iter()
            .filter(|setting| match setting.key.split_once('.') {
                Some(("gateway", "orchestrator_url")) => GATEWAY && !ORCHESTRATOR,
                Some(("gateway", _)) => GATEWAY,
                Some(("orchestrator", _)) => ORCHESTRATOR,
                _ => match setting.key {
                    "data" => false,
                    "policies" | "schema" => ORCHESTRATOR,
                    "services" => GATEWAY,
                    _ => true,
                },
            })
            .filter_map(|setting| {
                setting
                    .flag
                    .and_then(|flag| flag.strip_prefix("--"))
                    .map(|flag| (setting, flag))
            })
    }
}

/// Shown by `-h`; `--help` shows all.
const ESSENTIAL: &[&str] = &[
    "policies",
    "schema",
    "gateway.host",
    "gateway.port",
    "gateway.metrics_port",
    "orchestrator.host",
    "orchestrator.port",
    "gateway.orchestrator_url",
];

impl<const GATEWAY: bool, const ORCHESTRATOR: bool> Args for ServerFlags<GATEWAY, ORCHESTRATOR> {
    fn augment_args(command: clap::Command) -> clap::Command {
        Self::settings().fold(command, |command, (setting, flag)| {
            let default = setting
                .default
                .map(|default| format!(" [default: {default}]"))
                .unwrap_or_default();
            let help = format!("{} [env: {}]{default}", setting.about, setting.variable);
            let mut arg = Arg::new(setting.key)
                .long(flag)
                .help(help)
                .value_name("VALUE")
                .action(ArgAction::Set)
                .hide_short_help(!ESSENTIAL.contains(&setting.key));
            if setting.key == "gateway.trust_agent_header" {
                arg = arg
                    .num_args(0..=1)
                    .require_equals(true)
                    .default_missing_value("true")
                    .value_name("BOOL");
            }
            command.arg(arg)
        })
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl<const GATEWAY: bool, const ORCHESTRATOR: bool> FromArgMatches
    for ServerFlags<GATEWAY, ORCHESTRATOR>
{
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut flags = Self::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for (setting, _) in Self::settings() {
            if let Some(value) = matches.get_one::<String>(setting.key) {
                self.0.insert(setting.key, value.clone());
            }
        }
        Ok(())
    }
}

fn environment(text: &str) -> Result<Env, String> {
    match text {
        "dev" => Ok(Env::Dev),
        "staging" => Ok(Env::Staging),
        "prod" => Ok(Env::Prod),
        _ => Err("expected dev, staging or prod".to_owned()),
    }
}

fn reach(text: &str) -> Result<Reach, String> {
    Reach::ALL
        .into_iter()
        .find(|reach| reach.as_str() == text)
        .ok_or_else(|| "expected once, call, command or service".to_owned())
}

fn range(text: &str) -> Result<Range, String> {
    Range::ALL
        .into_iter()
        .find(|range| range.as_str() == text)
        .ok_or_else(|| "expected 1h, 24h or 7d".to_owned())
}

/// `90s`, `15m`, `8h`, `30d`.
fn span(text: &str) -> Result<Duration, String> {
    let wrong = || "expected a time such as 90s, 15m, 8h or 30d".to_owned();
    let unit = text.chars().last().ok_or_else(wrong)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let number: u64 = text.trim_end_matches(unit).parse().map_err(|_| wrong())?;
    number
        .checked_mul(seconds)
        .filter(|&seconds| seconds > 0)
        .map(Duration::from_secs)
        .ok_or_else(wrong)
}

/// The id of an agent, where only an id will do.
#[must_use]
pub fn as_id(agent: &AgentRef) -> Option<AgentId> {
    match agent {
        AgentRef::Id(id) => Some(*id),
        AgentRef::Name(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(arguments: &[&str]) -> Result<CommandLine, clap::Error> {
        CommandLine::try_parse_from(std::iter::once("cedargate").chain(arguments.iter().copied()))
    }

    #[test]
    fn the_command_line_is_sound() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn server_flags_become_settings() {
        let Command::Serve(flags) = parse(&[
            "serve",
            "--port",
            "1",
            "--trust-agent-header",
            "--backend-port=2",
        ])
        .unwrap()
        .command
        else {
            panic!()
        };
        assert_eq!(flags.0["gateway.port"], "1");
        assert_eq!(flags.0["gateway.trust_agent_header"], "true");
        assert_eq!(flags.0["orchestrator.port"], "2");
        assert_eq!(flags.0.len(), 3, "what was not given is absent");
        assert!(
            parse(&["gateway", "--backend-port", "2"]).is_err(),
            "not a gateway's"
        );
        assert!(
            parse(&["orchestrator", "--port", "2"]).is_err(),
            "not an orchestrator's"
        );
    }

    #[test]
    fn no_secret_can_be_given_as_a_flag() {
        for name in ["serve", "gateway", "orchestrator"] {
            let command = CommandLine::command();
            let command = command.find_subcommand(name).unwrap();
            for argument in command.get_arguments() {
                let long = argument.get_long().unwrap_or_default();
                assert!(
                    !authz::redact::is_secret(long) && !long.contains("database"),
                    "{long}"
                );
            }
        }
    }

    #[test]
    fn times() {
        for (text, expected) in [
            ("90s", Some(90)),
            ("15m", Some(900)),
            ("8h", Some(28_800)),
            ("1d", Some(86_400)),
        ] {
            assert_eq!(span(text).ok().map(|span| span.as_secs()), expected);
        }
        for text in [
            "",
            "h",
            "0s",
            "1w",
            "-1h",
            "1.5h",
            "99999999999999999999d",
            "1hx",
        ] {
            assert!(span(text).is_err(), "{text}");
        }
    }

    #[test]
    fn names_are_checked_before_anything_is_sent() {
        assert!(parse(&["agents", "show", "denied/../allowed"]).is_err());
        assert!(parse(&["approvals", "approve", "1"]).is_err());
        assert!(parse(&["tokens", "create"]).is_err(), "for whom?");
        assert!(parse(&["tokens", "create", "--agent", "a", "--user", "b"]).is_err());
        let Command::Agents(Agents::Change { attributes, .. }) = parse(&[
            "agents", "change", "bot", "--allow", "", "--role", "a", "--role", "b",
        ])
        .unwrap()
        .command
        else {
            panic!()
        };
        assert_eq!(attributes.allowed, Some(vec![None]));
        assert_eq!(attributes.roles.unwrap().len(), 2);
        assert!(attributes.teams.is_none());
    }
}
