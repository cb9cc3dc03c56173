//! What each MCP client must have in its configuration to speak to the gateway.
//!
//! The agent's token is never in it: clients are told which environment variable (or, where
//! they pass none on, which file) has it.

mod file;
mod jsonc;

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde_json::{Value, json};

pub(crate) use self::file::{Change, merge};

/// The environment variable that has the agent's token.
pub(crate) const TOKEN: &str = "CEDARGATE_AGENT_TOKEN";

/// A client of MCP that `connect` knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Client {
    /// Claude Code: `.mcp.json`, or `~/.claude.json`
    ClaudeCode,
    /// Codex: `~/.codex/config.toml`
    Codex,
    /// VS Code: `.vscode/mcp.json`
    #[value(name = "vscode")]
    VsCode,
    /// Cursor: `.cursor/mcp.json`, or `~/.cursor/mcp.json`
    Cursor,
    /// Gemini CLI: `.gemini/settings.json`, or `~/.gemini/settings.json`
    Gemini,
    /// opencode: `opencode.json`, or `~/.config/opencode/opencode.json`
    #[value(name = "opencode")]
    OpenCode,
    /// Claude Desktop, through `cedargate bridge`
    ClaudeDesktop,
}

/// Whose configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scope {
    /// Of the folder that one stands in
    Project,
    /// Of the user, everywhere
    User,
}

/// To where a client is connected.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    /// What the client calls it.
    pub(crate) name: String,
    /// The gateway.
    pub(crate) gateway: String,
    /// One service of it, or all as tools.
    pub(crate) service: Option<String>,
    /// For clients that only start programs: this one.
    pub(crate) program: PathBuf,
    /// For clients that pass no environment on: where the token is.
    pub(crate) token_file: PathBuf,
}

impl Door {
    /// Where an MCP client reaches it.
    pub(crate) fn url(&self) -> String {
        address(&self.gateway, self.service.as_deref())
    }
}

/// Where the gateway's door for one service is, or the one for all of them.
pub(crate) fn address(gateway: &str, service: Option<&str>) -> String {
    let gateway = gateway.trim_end_matches('/');
    match service {
        Some(service) => format!("{gateway}/mcp/{service}"),
        None => format!("{gateway}/mcp"),
    }
}

/// One entry of a configuration file, and where it stands in it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    /// The names from the root down to the entry's own.
    pub(crate) path: Vec<String>,
    /// What stands there.
    pub(crate) value: Value,
    /// How the file is written.
    pub(crate) format: Format,
}

/// How a configuration file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// JSON, with comments and trailing commas where the client takes them.
    Json,
    /// TOML.
    Toml,
}

impl Client {
    /// The entry that connects this client.
    pub(crate) fn entry(self, door: &Door) -> Entry {
        let bearer = |variable: &str| json!({"Authorization": format!("Bearer {variable}")});
        let url = door.url();
        let (place, value, format) = match self {
            Self::ClaudeCode => (
                "mcpServers",
                json!({"type": "http", "url": url, "headers": bearer(&format!("${{{TOKEN}}}"))}),
                Format::Json,
            ),
            Self::Codex => (
                "mcp_servers",
                json!({"url": url, "bearer_token_env_var": TOKEN}),
                Format::Toml,
            ),
            Self::VsCode => (
                "servers",
                json!({"type": "http", "url": url, "headers": bearer(&format!("${{env:{TOKEN}}}"))}),
                Format::Json,
            ),
            Self::Cursor => (
                "mcpServers",
                json!({"url": url, "headers": bearer(&format!("${{env:{TOKEN}}}"))}),
                Format::Json,
            ),
            Self::Gemini => (
                "mcpServers",
                json!({"httpUrl": url, "headers": bearer(&format!("${TOKEN}"))}),
                Format::Json,
            ),
            Self::OpenCode => (
                "mcp",
                json!({"type": "remote", "url": url, "enabled": true, "oauth": false,
                    "headers": bearer(&format!("{{env:{TOKEN}}}"))}),
                Format::Json,
            ),
            Self::ClaudeDesktop => {
                let mut arguments = vec!["bridge".to_owned()];
                arguments.extend(["--gateway".to_owned(), door.gateway.clone()]);
                arguments.extend(door.service.clone());
                (
                    "mcpServers",
                    json!({"command": door.program, "args": arguments,
                        "env": {format!("{TOKEN}_FILE"): door.token_file}}),
                    Format::Json,
                )
            }
        };
        Entry {
            path: vec![place.to_owned(), door.name.clone()],
            value,
            format,
        }
    }

    /// The scope that this client is connected in unless somebody says otherwise.
    pub(crate) fn usual_scope(self) -> Scope {
        match self {
            Self::ClaudeCode | Self::VsCode | Self::Cursor => Scope::Project,
            Self::Codex | Self::Gemini | Self::OpenCode | Self::ClaudeDesktop => Scope::User,
        }
    }

    /// The file that this client reads; none when it has none of that scope.
    pub(crate) fn file(self, scope: Scope, folders: &Folders) -> Option<PathBuf> {
        let Folders { project, home, .. } = folders;
        let path = match (self, scope) {
            (Self::ClaudeCode, Scope::Project) => project.join(".mcp.json"),
            (Self::ClaudeCode, Scope::User) => home.join(".claude.json"),
            (Self::Codex, Scope::Project) => project.join(".codex/config.toml"),
            (Self::Codex, Scope::User) => folders
                .codex
                .clone()
                .unwrap_or_else(|| home.join(".codex"))
                .join("config.toml"),
            (Self::VsCode, Scope::Project) => project.join(".vscode/mcp.json"),
            (Self::VsCode, Scope::User) => folders.applications().join("Code/User/mcp.json"),
            (Self::Cursor, Scope::Project) => project.join(".cursor/mcp.json"),
            (Self::Cursor, Scope::User) => home.join(".cursor/mcp.json"),
            (Self::Gemini, Scope::Project) => project.join(".gemini/settings.json"),
            (Self::Gemini, Scope::User) => home.join(".gemini/settings.json"),
            (Self::OpenCode, Scope::Project) => either(project, "opencode"),
            (Self::OpenCode, Scope::User) => {
                either(&folders.settings().join("opencode"), "opencode")
            }
            (Self::ClaudeDesktop, Scope::Project) => return None,
            (Self::ClaudeDesktop, Scope::User) => folders
                .applications()
                .join("Claude/claude_desktop_config.json"),
        };
        Some(path)
    }
}

/// `name.jsonc` if that is there, else `name.json`.
fn either(folder: &Path, name: &str) -> PathBuf {
    let commented = folder.join(format!("{name}.jsonc"));
    if commented.is_file() {
        commented
    } else {
        folder.join(format!("{name}.json"))
    }
}

/// Where configuration lives on this machine.
#[derive(Clone, Debug)]
pub(crate) struct Folders {
    /// The folder that one stands in.
    pub(crate) project: PathBuf,
    /// The user's own.
    pub(crate) home: PathBuf,
    /// `XDG_CONFIG_HOME`.
    pub(crate) config: Option<PathBuf>,
    /// `APPDATA`, on Windows.
    pub(crate) app_data: Option<PathBuf>,
    /// `CODEX_HOME`.
    pub(crate) codex: Option<PathBuf>,
}

impl Folders {
    /// Where programs of the command line keep settings.
    pub(crate) fn settings(&self) -> PathBuf {
        self.config
            .clone()
            .unwrap_or_else(|| self.home.join(".config"))
    }

    /// Where programs with windows keep settings.
    fn applications(&self) -> PathBuf {
        if cfg!(target_os = "macos") {
            self.home.join("Library/Application Support")
        } else if let (true, Some(folder)) = (cfg!(windows), &self.app_data) {
            folder.clone()
        } else {
            self.settings()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn door(service: Option<&str>) -> Door {
        Door {
            name: "cedargate".to_owned(),
            gateway: "http://127.0.0.1:8100/".to_owned(),
            service: service.map(str::to_owned),
            program: "/usr/bin/cedargate".into(),
            token_file: "/srv/ana/.config/cedargate/agent-token".into(),
        }
    }

    #[test]
    fn no_client_is_told_a_token() {
        for client in Client::value_variants() {
            let entry = client.entry(&door(Some("github")));
            let text = entry.value.to_string();
            assert!(text.contains(TOKEN), "{client:?}: {text}");
            assert!(!text.contains("cgt_"), "{client:?}: {text}");
        }
    }

    #[test]
    fn a_service_has_a_door_and_all_together_have_one() {
        assert_eq!(
            door(Some("github")).url(),
            "http://127.0.0.1:8100/mcp/github"
        );
        assert_eq!(door(None).url(), "http://127.0.0.1:8100/mcp");
        let desktop = Client::ClaudeDesktop.entry(&door(None)).value;
        assert_eq!(
            desktop["args"],
            json!(["bridge", "--gateway", "http://127.0.0.1:8100/"])
        );
    }

    #[test]
    fn each_client_has_a_file_in_its_usual_scope() {
        let folders = Folders {
            project: "/work".into(),
            home: "/srv/ana".into(),
            config: None,
            app_data: None,
            codex: Some("/opt/codex".into()),
        };
        for client in Client::value_variants() {
            assert!(client.file(client.usual_scope(), &folders).is_some());
        }
        assert_eq!(
            Client::Codex.file(Scope::User, &folders),
            Some("/opt/codex/config.toml".into())
        );
        assert_eq!(Client::ClaudeDesktop.file(Scope::Project, &folders), None);
    }
}
