//! `cedargate services …`

use std::path::PathBuf;

use authz::{CommandName, ServiceName, ZoneName};
use clap::{Args, Subcommand};

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

/// `cedargate services import`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cedargate services import openapi.yaml --name tickets --output services/tickets.toml
  cedargate services import https://api.example.com/openapi.json --tag Orders --tag Items
  cedargate services import openapi.json --include /teams --operation listUsers

What a description cannot have is left out, and named on standard error with the reason.
Read what comes of it before agents use it, then: cedargate services check ./services")]
pub struct Import {
    /// An OpenAPI document, version 3.0 or 3.1, as JSON or YAML: a file, an http(s) address, or -
    #[arg(value_name = "FILE|URL")]
    pub document: String,
    /// What the service is called [default: after the document's title]
    #[arg(long)]
    pub name: Option<ServiceName>,
    /// It takes the place of the built-in service of this name
    #[arg(long, requires = "name")]
    pub replaces: bool,
    /// Write the description into this file, which must not be there yet
    #[arg(long, short)]
    pub output: Option<PathBuf>,
    /// The file may be there: it is overwritten
    #[arg(long, requires = "output")]
    pub force: bool,
    /// Only this path and what is below it; `*` stands for any text; may be repeated
    #[arg(long, value_name = "PATH")]
    pub include: Vec<String>,
    /// Only operations with this tag; may be repeated
    #[arg(long = "tag", value_name = "TAG")]
    pub tags: Vec<String>,
    /// Only this operation, by its operationId or as 'GET /path'; may be repeated
    #[arg(long = "operation", value_name = "OPERATION")]
    pub operations: Vec<String>,
    /// Deprecated operations, too
    #[arg(long)]
    pub deprecated: bool,
    /// The security scheme to use, if the document has several [default: that of most operations]
    #[arg(long, value_name = "SCHEME")]
    pub security: Option<String>,
}
