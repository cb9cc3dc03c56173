//! Of kind `postgres`: which databases there are, and what each command may cost.

use std::collections::{BTreeMap, BTreeSet};

use authz::{CommandName, Risk, ZoneName};
use serde::Deserialize;

use super::{Argument, ArgumentType, Command};
use crate::nearest::nearest;

/// The commands, which are the same for every service of the kind.
const COMMANDS: &str = include_str!("../postgres/commands.toml");

/// What only a role that may write carries out.
const WRITES: &str = "execute";

/// The table `[postgres]`.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PostgresTable {
    /// By the name that agents and policies use.
    pub(crate) databases: BTreeMap<String, DatabaseTable>,
    /// An answer holds no more rows; agents may ask for fewer.
    #[serde(default = "one_thousand")]
    pub(crate) max_rows: u32,
    /// How long one statement may run.
    #[serde(default = "ten_seconds")]
    pub(crate) statement_timeout_ms: u64,
    /// How long one statement may wait for a lock.
    #[serde(default = "two_seconds")]
    pub(crate) lock_timeout_ms: u64,
    /// How long a connection may take to open.
    #[serde(default = "five_seconds")]
    pub(crate) connect_timeout_ms: u64,
    /// To each database and role; further commands wait.
    #[serde(default = "four")]
    pub(crate) max_connections: usize,
    /// A connection that nobody used for so long is closed.
    #[serde(default = "ten_seconds")]
    pub(crate) idle_timeout_ms: u64,
    /// Verdicts on commands that differ from ours.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, VerdictTable>")]
    pub(crate) commands: BTreeMap<CommandName, VerdictTable>,
}

/// One database. Every value names an environment variable.
#[derive(Clone, Debug, Default, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DatabaseTable {
    /// Other names that agents may use for it.
    #[serde(default)]
    pub(crate) aliases: Vec<String>,
    /// Of a role that reads: `postgres://user:password@host:5432/database?sslmode=verify-full`.
    pub(crate) url: Option<String>,
    /// In its place, the parts one by one.
    pub(crate) host: Option<String>,
    /// 5432 when the variable is not set.
    pub(crate) port: Option<String>,
    pub(crate) database: Option<String>,
    pub(crate) user: Option<String>,
    /// The password, if it does not stand in the URL; this one is used when both are there.
    pub(crate) password: Option<String>,
    /// Of a second role that may write: without it nobody can.
    pub(crate) write_url: Option<String>,
    /// That role's password, if it does not stand in the URL.
    pub(crate) write_password: Option<String>,
}

/// What the operator says of one command.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct VerdictTable {
    #[schemars(with = "Option<super::RiskName>")]
    pub(crate) risk: Option<Risk>,
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub(crate) zones: BTreeSet<ZoneName>,
    /// Whether its answers hold what anybody may have written.
    pub(crate) untrusted: Option<bool>,
}

const fn one_thousand() -> u32 {
    1_000
}

const fn ten_seconds() -> u64 {
    10_000
}

const fn two_seconds() -> u64 {
    2_000
}

const fn five_seconds() -> u64 {
    5_000
}

const fn four() -> usize {
    4
}

#[derive(Deserialize)]
struct Commands {
    commands: Vec<Command>,
}

impl PostgresTable {
    /// The commands of a service of this kind.
    pub(super) fn commands(&self) -> Result<Vec<Command>, String> {
        self.check()?;
        let Commands { mut commands } =
            toml::from_str(COMMANDS).map_err(|error| error.message().to_owned())?;
        for name in self.commands.keys() {
            let names = || {
                commands
                    .iter()
                    .map(|command| command.name.get_ref().as_str())
            };
            if !names().any(|other| other == name.as_str()) {
                let hint = nearest(name.as_str(), names())
                    .map(|name| format!("; did you mean `{name}`?"))
                    .unwrap_or_default();
                return Err(format!("`postgres.commands`: no command `{name}`{hint}"));
            }
        }
        for command in &mut commands {
            if let Some(verdict) = self.commands.get(command.name.get_ref()) {
                command.risk = verdict.risk.unwrap_or(command.risk);
                command.zones.clone_from(&verdict.zones);
                command.untrusted = verdict.untrusted.or(command.untrusted);
            }
            for argument in &mut command.arguments {
                if argument.name == "limit" {
                    argument.maximum = Some(i64::from(self.max_rows));
                }
            }
            command.arguments.push(self.argument());
            // Examples are of the first, as every command needs one.
            if let Some(name) = self.databases.keys().next() {
                let name = toml::Value::String(name.clone());
                command.example.insert("database".to_owned(), name);
            }
        }
        Ok(commands)
    }

    /// Which database.
    fn argument(&self) -> Argument {
        let mut argument = Argument::new("database", ArgumentType::String, super::Place::Body);
        "Database, by name".clone_into(&mut argument.description);
        argument.required = true;
        argument.options = self.databases.keys().cloned().collect();
        argument.synonyms = self
            .databases
            .iter()
            .flat_map(|(name, database)| {
                let aliases = database.aliases.iter();
                aliases.map(|alias| (alias.clone(), name.clone()))
            })
            .collect();
        argument
    }

    /// Takes from the configuration which database is meant when an agent names none, and
    /// whether there is a role that writes.
    pub(super) fn configure(
        &self,
        commands: &mut Vec<Command>,
        variable: &dyn Fn(&str) -> Option<String>,
    ) {
        let set = |name: &Option<String>| {
            let value = name.as_deref().and_then(variable);
            value.is_some_and(|value| !value.trim().is_empty())
        };
        let mut configured = self
            .databases
            .iter()
            .filter(|(_, database)| set(&database.url) || set(&database.host))
            .map(|(name, _)| name);
        if let (Some(only), None) = (configured.next(), configured.next()) {
            let arguments = commands
                .iter_mut()
                .flat_map(|command| &mut command.arguments);
            for argument in arguments.filter(|argument| argument.name == "database") {
                argument.required = false;
                argument.default = Some(toml::Value::String(only.clone()));
            }
        }
        if !self
            .databases
            .values()
            .any(|database| set(&database.write_url))
        {
            commands.retain(|command| command.name.get_ref().as_str() != WRITES);
        }
    }

    fn check(&self) -> Result<(), String> {
        if self.databases.is_empty() {
            return Err("`postgres.databases` names no database".to_owned());
        }
        let limits = [
            ("max_rows", u64::from(self.max_rows)),
            ("statement_timeout_ms", self.statement_timeout_ms),
            ("lock_timeout_ms", self.lock_timeout_ms),
            ("connect_timeout_ms", self.connect_timeout_ms),
            ("idle_timeout_ms", self.idle_timeout_ms),
            ("max_connections", self.max_connections as u64),
        ];
        // What PostgreSQL takes for milliseconds, and more than anybody wants.
        if let Some((name, _)) = limits
            .into_iter()
            .find(|(_, limit)| !(1..=2_000_000_000).contains(limit))
        {
            return Err(format!("`postgres.{name}` is zero, or far too large"));
        }
        let mut seen = BTreeSet::new();
        for (name, database) in &self.databases {
            for name in std::iter::once(name).chain(&database.aliases) {
                let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
                if name.is_empty() || name.len() > 64 || !name.bytes().all(plain) {
                    return Err(format!(
                        "`{name}` is not a database's name (letters, digits, `-`, `_`)"
                    ));
                }
                if !seen.insert(name) {
                    return Err(format!("two databases are called `{name}`"));
                }
            }
            let parts = [&database.host, &database.database, &database.user];
            if database.url.is_none() && parts.iter().any(|part| part.is_none()) {
                return Err(format!(
                    "database `{name}` needs `url`, or `host`, `database` and `user`"
                ));
            }
            if database.write_password.is_some() && database.write_url.is_none() {
                return Err(format!(
                    "database `{name}` has a `write_password` and no `write_url`"
                ));
            }
        }
        Ok(())
    }
}
