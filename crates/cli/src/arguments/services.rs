//! Arguments of `cedargate services import`.

use std::path::PathBuf;

use authz::ServiceName;
use clap::Args;

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
