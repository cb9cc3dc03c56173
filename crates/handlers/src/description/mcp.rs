//! Of kind `mcp`: where the server is, and what the operator says of its tools.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use authz::{CommandName, Risk, ZoneName};
use serde::Deserialize;

use super::Address;

/// The table `[mcp]`.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct McpTable {
    /// Of a server over Streamable HTTP: `https://example.com/mcp`.
    pub(crate) url: Option<String>,
    /// The same, in an environment variable.
    pub(crate) address: Option<Address>,
    /// Of a server over stdio: what to start.
    #[serde(default)]
    pub(crate) command: Vec<String>,
    /// The environment variables that the command may see, beyond what every program needs.
    #[serde(default)]
    pub(crate) environment: Vec<String>,
    /// Where the command runs; in the gateway's own folder by default.
    pub(crate) folder: Option<PathBuf>,
    pub(crate) credential: Option<McpCredential>,
    /// Fixed headers of every request.
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
    /// How long the first byte of an answer may take; two minutes by default.
    pub(crate) timeout_ms: Option<u64>,
    /// Longer answers and events are an error.
    #[serde(default = "sixteen_mebibytes")]
    pub(crate) max_answer_bytes: usize,
    /// Of tools that nobody judged.
    #[serde(default = "write")]
    #[schemars(with = "super::RiskName")]
    pub(crate) risk: Risk,
    /// Tools that do not exist for agents: names, or `delete_*`.
    #[serde(default)]
    pub(crate) hidden: Vec<String>,
    /// Verdicts on tools.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, ToolTable>")]
    pub(crate) tools: BTreeMap<CommandName, ToolTable>,
}

/// How the gateway proves itself to a server over HTTP.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct McpCredential {
    /// The environment variable that holds it.
    pub(crate) variable: String,
    /// The header that carries it.
    pub(crate) header: String,
    /// What stands before it, such as `Bearer `.
    #[serde(default)]
    pub(crate) prefix: String,
    /// Without it the server works, too.
    #[serde(default)]
    pub(crate) optional: bool,
}

const fn sixteen_mebibytes() -> usize {
    16 << 20
}

const fn write() -> Risk {
    Risk::Write
}

/// The table `[mcp.tools.<name>]`.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ToolTable {
    #[schemars(with = "Option<super::RiskName>")]
    pub(crate) risk: Option<Risk>,
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub(crate) zones: BTreeSet<ZoneName>,
}

impl McpTable {
    /// Exactly one way to the server, and nothing that belongs to the other.
    pub(super) fn check(&self) -> Result<(), String> {
        let ways = [
            self.url.is_some(),
            self.address.is_some(),
            !self.command.is_empty(),
        ];
        if ways.iter().filter(|&&way| way).count() != 1 {
            return Err("`mcp` needs exactly one of `url`, `address` and `command`".to_owned());
        }
        if self.command.is_empty() {
            if !self.environment.is_empty() || self.folder.is_some() {
                return Err("`environment` and `folder` are of a `command`".to_owned());
            }
        } else if self.credential.is_some() || !self.headers.is_empty() {
            return Err(
                "a `command` takes no `credential` and no `headers`: let it have an environment variable"
                    .to_owned(),
            );
        }
        if self.timeout_ms == Some(0) {
            return Err("`timeout_ms` is zero".to_owned());
        }
        let is_variable = |name: &String| {
            !name.is_empty()
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        };
        if let Some(name) = self.environment.iter().find(|name| !is_variable(name)) {
            return Err(format!("`{name}` is not an environment variable's name"));
        }
        Ok(())
    }
}
