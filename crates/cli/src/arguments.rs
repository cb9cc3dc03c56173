//! The command line: subcommands, flags, and what `--help` says.

#![allow(
    clippy::doc_markdown,
    rustdoc::bare_urls,
    reason = "the doc comments of arguments are what `--help` prints, as plain text"
)]

mod agents;
mod approvals;
mod audit;
mod connect;
mod notifications;
mod policy;
mod prove;
mod server;
mod services;
mod tokens;
mod users;
mod value;

use std::path::PathBuf;

use authz::{AgentRef, ServiceName};
use clap::{Args, Parser, Subcommand, ValueEnum};
use contract::overview::Range;

use self::value::range;
pub use self::{
    agents::{AgentAttributes, AgentRoles, AgentTeams, AgentTokens, Agents},
    approvals::{Approvals, Grants},
    audit::{Audit, AuditFilterFlags, JournalLineAt},
    connect::{Connect, DoorFlags, GatewayDoor},
    notifications::{
        Accounts, DestinationFlags, Kind, Messages, Notifications, RuleFlags, Targets,
    },
    policy::{
        Policy, PolicyCoverage, PolicyDiff, PolicyExplain, PolicyExport, PolicyFmt, PolicyFrom,
        PolicyMatrix, PolicySets, PolicyTest, ReportFormat,
    },
    prove::{PolicyProve, ProofFormat},
    server::ServerFlags,
    services::{Import, Services, Tools, ZoneChange, Zoned, Zones},
    tokens::{Holder, NewToken, Tokens},
    users::{SecondFactor, UserTokens, Users},
    value::Item,
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

/// `cedargate config …`
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Check the configuration of this machine; opens nothing
    Check(ServerFlags<true, true>),
    /// Every setting, its value and where it was set; secrets are not shown
    Show(ServerFlags<true, true>),
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
