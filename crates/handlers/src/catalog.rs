//! The catalog: every service and command, and what each is called.

mod handler;
mod known;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, LazyLock},
    time::Duration,
};

use authz::{Clock, Command, CommandKey, Permit, Service, ServiceName, Target};
use serde_json::{Map, Value};

use crate::{
    Answer, CommandError, Content, HandlerError, Parsed,
    description::{self, Description, PostgresTable, located},
    grammar,
    limits::ServiceLimits,
    mcp::McpService,
    nearest::nearest,
    postgres,
};
use handler::{Clients, ServiceHandler};
pub(crate) use known::{Known, ServiceFacts};

pub use crate::{
    health::{Breaker, Condition, State},
    preview::{HttpRequest, ObjectRequest, Preview, Statements},
};

macro_rules! built_in {
    ($name:literal) => {
        (
            concat!("services/", $name, ".toml"),
            include_str!(concat!("../services/", $name, ".toml")),
        )
    };
}

/// The descriptions that come with the binary: file name and text.
pub(crate) const BUILT_IN: &[(&str, &str)] = &[
    built_in!("airtable"),
    built_in!("cloudflare"),
    built_in!("context7"),
    built_in!("coolify"),
    built_in!("firecrawl"),
    built_in!("github"),
    built_in!("magicui"),
    built_in!("mem0"),
    built_in!("minio"),
    built_in!("n8n"),
    built_in!("playwright"),
    built_in!("postgres"),
    built_in!("shadcn"),
    built_in!("stripe"),
    built_in!("taskmaster"),
];

/// How long a service may take to answer, unless `HTTP_TIMEOUT_MS` or its description says.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// What people may read of a service.
#[derive(Clone, Debug, serde::Serialize)]
pub struct ServiceInfo {
    /// What policy is told of it.
    #[serde(skip)]
    pub service: Arc<Service>,
    /// How its commands are carried out.
    #[serde(skip)]
    pub kind: &'static str,
    /// Its name.
    pub name: ServiceName,
    /// Of its description.
    pub version: String,
    /// What it is.
    pub description: String,
    /// `server` or `local`.
    pub location: String,
    /// `active`, or `error` when it is not configured.
    pub status: String,
    /// Why it is not active.
    #[serde(rename = "errorMessage", skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
    /// Other names that agents may use.
    pub aliases: Vec<ServiceName>,
    /// Its commands, in the order of its description.
    pub commands: Vec<CommandInfo>,
}

/// What people may read of a command.
#[derive(Clone, Debug, serde::Serialize)]
pub struct CommandInfo {
    /// What policy is told.
    #[serde(skip)]
    pub target: Arc<Target>,
    /// Its canonical name.
    pub name: String,
    /// One line.
    pub description: String,
    /// JSON Schema of its arguments: an object.
    pub arguments: Value,
    /// `servers list`, as a person would type it, with its arguments.
    pub usage: String,
    /// Arguments of an example call: an object.
    pub example: Value,
}

/// Every service and command that this gateway knows. The services are known at start;
/// what an MCP server offers is learnt by [`Catalog::keep`], and changes.
#[derive(Debug)]
pub struct Catalog {
    /// By name.
    entries: Vec<Entry>,
    /// Name or alias → index.
    names: BTreeMap<String, usize>,
}

/// One service.
#[derive(Debug)]
struct Entry {
    name: ServiceName,
    handler: ServiceHandler,
    /// Of commands that the description does not name.
    untrusted: bool,
    /// How much of it may be used, as its description says.
    limits: Option<ServiceLimits>,
    /// Of a service whose commands do not change.
    known: Option<Arc<Known>>,
    /// Of kind `postgres`: what its lines begin with.
    databases: Option<PostgresTable>,
}

impl Entry {
    fn known(&self) -> Option<Arc<Known>> {
        self.known
            .clone()
            .or_else(|| Some(self.handler.mcp()?.known()))
    }

    /// What people may read of it, as it is configured now.
    fn info(&self) -> Option<Arc<ServiceInfo>> {
        let info = Arc::clone(&self.known()?.info);
        if self.known.is_none() {
            // An MCP server tells of itself.
            return Some(info);
        }
        let problem = self.handler.unavailable();
        if problem == info.error_message {
            return Some(info);
        }
        let mut now = info.as_ref().clone();
        let status = if problem.is_none() { "active" } else { "error" };
        status.clone_into(&mut now.status);
        now.error_message = problem;
        Some(Arc::new(now))
    }
}

/// A description, and where it comes from.
struct Described<'a> {
    file: &'a str,
    text: &'a str,
    description: Description,
}

fn read<'a>(files: &[(&'a str, &'a str)]) -> Result<Vec<Described<'a>>, String> {
    let described = files.iter().map(|&(file, text)| {
        Ok(Described {
            file,
            text,
            description: Description::read(file, text)?,
        })
    });
    described.collect()
}

/// A name and its aliases.
pub(crate) type Called = (ServiceName, Vec<ServiceName>);

/// What the services are called that come with the binary.
pub(crate) fn built_in_names() -> Result<&'static [Called], String> {
    static NAMES: LazyLock<Result<Vec<Called>, String>> = LazyLock::new(|| {
        let described = read(BUILT_IN)?.into_iter();
        Ok(described
            .map(|Described { description, .. }| (description.name().clone(), description.aliases))
            .collect())
    });
    NAMES.as_deref().map_err(Clone::clone)
}

/// JSON Schema of a description, as it stands in a TOML file. What no schema can say (names
/// that must be there, regular expressions, what each kind needs) is checked when it is read.
#[must_use]
pub fn description_schema() -> Value {
    description::json_schema()
}

impl Catalog {
    /// Reads the built-in descriptions, with addresses and credentials from `variable`,
    /// which looks up an environment variable.
    ///
    /// # Errors
    ///
    /// A text that names file, line and the nearest valid key, when a description is wrong.
    pub fn load(variable: &dyn Fn(&str) -> Option<String>) -> Result<Self, String> {
        Self::load_with(&[], variable)
    }

    /// As [`Catalog::load`], with an operator's own descriptions beside the built-in ones:
    /// file names, which errors mention, and texts. One that is called as a built-in one
    /// takes its place only if it says so (`replaces = true`).
    ///
    /// # Errors
    ///
    /// As [`Catalog::from_descriptions`]; also when one replaces what is not built in.
    pub fn load_with(
        own: &[(&str, &str)],
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, String> {
        let mut described = read(own)?;
        let mut built_in = read(BUILT_IN)?;
        for Described {
            file,
            text,
            description,
        } in &described
        {
            let name = description.name();
            let at_name =
                |message: &str| located(file, text, Some(description.name.span()), message);
            let others = built_in.len();
            built_in.retain(|other| other.description.name() != name);
            match (description.replaces, built_in.len() < others) {
                (true, true) | (false, false) => {}
                (false, true) => {
                    return Err(at_name(&format!(
                        "`{name}` is built in; `replaces = true` makes this its replacement"
                    )));
                }
                (true, false) => {
                    let names = built_in
                        .iter()
                        .map(|other| other.description.name().as_str());
                    let hint = nearest(name.as_str(), names)
                        .map(|name| format!("; did you mean `{name}`?"))
                        .unwrap_or_default();
                    return Err(at_name(&format!(
                        "`{name}` replaces nothing: no built-in service is called so{hint}"
                    )));
                }
            }
        }
        described.append(&mut built_in);
        Self::described(described, variable)
    }

    /// Reads descriptions: file names, which errors mention, and texts.
    ///
    /// # Errors
    ///
    /// As [`Catalog::load`]; also when two services or commands answer to one name, or
    /// `HTTP_TIMEOUT_MS` is not a number of milliseconds.
    pub fn from_descriptions(
        files: &[(&str, &str)],
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, String> {
        Self::described(read(files)?, variable)
    }

    fn described(
        mut described: Vec<Described<'_>>,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, String> {
        let timeout = match variable("HTTP_TIMEOUT_MS").filter(|text| !text.trim().is_empty()) {
            None => DEFAULT_TIMEOUT,
            Some(text) => match text.trim().parse() {
                Ok(millis) if millis > 0 => Duration::from_millis(millis),
                _ => {
                    return Err(
                        "`HTTP_TIMEOUT_MS` is not a number of milliseconds above zero".to_owned(),
                    );
                }
            },
        };
        let clients = Clients::new(timeout, variable)?;
        described.sort_by(|one, other| one.description.name().cmp(other.description.name()));

        let mut catalog = Self {
            entries: Vec::new(),
            names: BTreeMap::new(),
        };
        for Described {
            file,
            text,
            mut description,
        } in described
        {
            description.configure(variable);
            let error = |message: String| format!("{file}: {message}");
            for name in std::iter::once(description.name()).chain(&description.aliases) {
                if catalog
                    .names
                    .insert(name.to_string(), catalog.entries.len())
                    .is_some()
                {
                    let message = format!("another service is called `{name}`, too");
                    return Err(located(file, text, Some(description.name.span()), &message));
                }
            }
            let handler = ServiceHandler::new(&description, &clients).map_err(error)?;
            let known = match &handler {
                ServiceHandler::Mcp(_) => None,
                described @ (ServiceHandler::Http(_)
                | ServiceHandler::Local(_)
                | ServiceHandler::S3(_)
                | ServiceHandler::Postgres(_)) => {
                    let facts = ServiceFacts::new(&description, described.location());
                    let known = {
                        let problem = described.unavailable();
                        Known::described(&facts, &description, problem.as_deref())
                    };
                    Some(Arc::new(known.map_err(error)?))
                }
            };
            catalog.entries.push(Entry {
                name: description.name().clone(),
                handler,
                untrusted: description.untrusted,
                limits: description.limits.take(),
                known,
                databases: description.postgres,
            });
        }
        Ok(catalog)
    }

    /// Gives the time to services that sign with it; without, those are not available.
    #[must_use]
    pub fn with_clock(self, clock: &Clock) -> Self {
        for entry in &self.entries {
            entry.handler.set_clock(clock);
        }
        self
    }

    /// Every service, by name, as it is now.
    #[must_use]
    pub fn services(&self) -> Vec<Arc<ServiceInfo>> {
        self.entries.iter().filter_map(Entry::info).collect()
    }

    /// One service, by name or alias, as it is now.
    #[must_use]
    pub fn service(&self, name: &str) -> Option<Arc<ServiceInfo>> {
        self.entries.get(self.index(name)?)?.info()
    }

    /// An MCP server, by name or alias.
    #[must_use]
    pub fn mcp(&self, name: &str) -> Option<&Arc<McpService>> {
        self.entries.get(self.index(name)?)?.handler.mcp()
    }

    /// Every MCP server, by name.
    pub fn mcp_services(&self) -> impl Iterator<Item = &Arc<McpService>> {
        self.entries.iter().filter_map(|entry| entry.handler.mcp())
    }

    /// Asks MCP servers for their tools, at first and whenever those may have changed, and
    /// looks at databases, for as long as it is polled. Without either it ends at once.
    pub async fn keep(&self) {
        let kept = self.entries.iter().map(|entry| entry.handler.keep());
        futures_util::future::join_all(kept).await;
    }

    /// Parses a slash command: `/mcp-coolify servers list --tag web`.
    ///
    /// # Errors
    ///
    /// See [`CommandError`].
    pub fn parse_slash(&self, text: &str) -> Result<Parsed, CommandError> {
        self.parse_slash_with(text, Map::new())
    }

    /// As [`Catalog::parse_slash`], with further arguments by name that stood beside the line.
    ///
    /// # Errors
    ///
    /// See [`CommandError`].
    pub fn parse_slash_with(
        &self,
        text: &str,
        options: Map<String, Value>,
    ) -> Result<Parsed, CommandError> {
        let line = grammar::split(text)?;
        let known = self.named(&line.service)?;
        let databases = self.databases(&line.service);
        let line = match databases {
            Some(databases) => postgres::line(databases, line, text),
            None => line,
        };
        let service = &known.info;
        let help = line
            .words
            .first()
            .is_none_or(|word| matches!(word.text.as_str(), "help" | "--help" | "-h"));
        if line.words.is_empty()
            || (help && !known.has("help"))
            || line
                .words
                .iter()
                .take_while(|word| word.text != "--")
                .any(|word| !word.quoted && word.text == "--help")
        {
            return Ok(Parsed::Help {
                service: service.name.clone(),
            });
        }
        let Some((index, count)) = known.find(&line.words) else {
            let tried = line
                .words
                .iter()
                .take(2)
                .take_while(|word| word.json.is_none() && !word.text.starts_with("--"));
            let tried: Vec<&str> = tried.map(|word| word.text.as_str()).collect();
            return Err(known.unknown(&tried.join(" ")));
        };
        let words = line.words.get(count..).unwrap_or_default();
        known.command(index, |arguments| arguments.read_words(words, options))
    }

    /// Makes a command of a structured body: service and operation in any spelling,
    /// arguments by name (an object) or by position (an array).
    ///
    /// # Errors
    ///
    /// See [`CommandError`].
    pub fn command(
        &self,
        service: &str,
        operation: &str,
        arguments: Value,
    ) -> Result<Parsed, CommandError> {
        self.command_with(service, operation, arguments, Map::new())
    }

    /// As [`Catalog::command`], with further arguments by name that stood beside them.
    ///
    /// # Errors
    ///
    /// See [`CommandError`].
    pub fn command_with(
        &self,
        service: &str,
        operation: &str,
        arguments: Value,
        options: Map<String, Value>,
    ) -> Result<Parsed, CommandError> {
        let arguments = self.by_name(service, operation, arguments);
        let known = self.named(service)?;
        if folded(operation.trim()) == "help" && !known.has("help") {
            return Ok(Parsed::Help {
                service: known.info.name.clone(),
            });
        }
        let Some(index) = known.find_operation(operation) else {
            return Err(known.unknown(operation));
        };
        known.command(index, |set| set.read_value(arguments, options))
    }

    /// Whether a command is over when nobody waits for its answer any more: it changes
    /// nothing, costs its service much, and can be called off there.
    #[must_use]
    pub fn ends_with_client(&self, command: &Command) -> bool {
        let key = &command.target.key;
        // By what it does, not by what an operator calls its risk.
        self.of(&key.service)
            .is_some_and(|entry| entry.databases.is_some())
            && !postgres::changes(key.name.as_str())
    }

    /// The database that a command is about, if its service has databases.
    #[must_use]
    pub fn database(&self, command: &Command) -> Option<String> {
        let entry = self.of(&command.target.key.service)?;
        entry.databases.as_ref()?;
        let database = command.arguments.values().get("database")?;
        database.as_str().map(str::to_owned)
    }

    /// Arguments by position as arguments by name, where a service has another order for
    /// them than its description; else as they are.
    #[must_use]
    pub fn by_name(&self, service: &str, operation: &str, arguments: Value) -> Value {
        match self.databases(service) {
            Some(_) => postgres::by_name(operation, arguments),
            None => arguments,
        }
    }

    fn databases(&self, service: &str) -> Option<&PostgresTable> {
        self.entries.get(self.index(service)?)?.databases.as_ref()
    }

    /// The arguments as people and records may see them.
    #[must_use]
    pub fn redacted(&self, command: &Command) -> Map<String, Value> {
        let values = command.arguments.values();
        let CommandKey { service, name } = &command.target.key;
        let known = self.of(service).and_then(Entry::known);
        let Some(redaction) = known
            .as_ref()
            .and_then(|known| known.redaction(name.as_str()))
        else {
            return authz::redact::arguments(values, &[]);
        };
        let mut shown = values.clone();
        redaction.arguments(&mut shown);
        shown
    }

    /// Whether what this command answers may hold what anybody has written, as its
    /// description says; so is whatever comes of a command that no description knows.
    #[must_use]
    pub fn is_untrusted(&self, key: &CommandKey) -> bool {
        let Some(entry) = self.of(&key.service) else {
            return true;
        };
        let known = entry.known();
        let command = known.and_then(|known| known.untrusted(key.name.as_str()));
        command.unwrap_or(entry.untrusted)
    }

    /// Carries out a permitted command.
    ///
    /// # Errors
    ///
    /// See [`HandlerError`].
    pub async fn handle(&self, permit: Permit) -> Result<Answer, HandlerError> {
        self.handle_with(permit, None).await
    }

    /// Whether a command may come with [`Content`]. What its arguments must say of it then
    /// is checked when it is carried out.
    #[must_use]
    pub fn takes_content(&self, command: &Command) -> bool {
        let entry = self.of(&command.target.key.service);
        entry.is_some_and(|entry| entry.handler.takes_content(command))
    }

    /// As [`Catalog::handle`], of a command that came with content. Nothing of it is read
    /// before.
    ///
    /// # Errors
    ///
    /// See [`HandlerError`].
    pub async fn handle_with(
        &self,
        permit: Permit,
        content: Option<Content>,
    ) -> Result<Answer, HandlerError> {
        let service = &permit.command().target.key.service;
        match self.of(service) {
            Some(entry) => {
                let untrusted = self.is_untrusted(&permit.command().target.key);
                let mut answer = entry.handler.handle_with(permit, content).await?;
                answer.untrusted |= untrusted;
                Ok(answer)
            }
            None => Err(HandlerError::NotConfigured {
                service: service.to_string(),
                reason: "this gateway has no description of it".to_owned(),
            }),
        }
    }

    /// What a command would send, with every secret masked; none when the service sends
    /// nothing.
    ///
    /// # Errors
    ///
    /// When an argument cannot be sent.
    pub fn preview(&self, command: &Command) -> Result<Option<Preview>, String> {
        self.of(&command.target.key.service)
            .map_or(Ok(None), |entry| entry.handler.preview(command))
    }

    /// Reads the addresses and credentials of all services again; the names of those of
    /// which something changed. Commands under way keep what they have.
    pub fn refresh(&self, variable: &dyn Fn(&str) -> Option<String>) -> Vec<ServiceName> {
        self.entries
            .iter()
            .filter(|entry| entry.handler.refresh(variable))
            .filter_map(|entry| Some(entry.known()?.info.name.clone()))
            .collect()
    }

    /// How much of a service may be used, as its description says.
    #[must_use]
    pub fn limits(&self, name: &ServiceName) -> Option<&ServiceLimits> {
        self.of(name)?.limits.as_ref()
    }

    /// How one service is, by its own name.
    #[must_use]
    pub fn condition(&self, name: &ServiceName) -> Option<Condition> {
        Some(self.of(name)?.handler.condition())
    }

    /// How each service is, by name, with what is known of why.
    pub fn conditions(&self) -> impl Iterator<Item = (&ServiceName, Condition)> {
        let named = self.entries.iter();
        named.map(|entry| (&entry.name, entry.handler.condition()))
    }

    /// Carries a command out without a permit: for tests of what comes after the decision.
    #[cfg(test)]
    pub(crate) async fn carry_out(&self, command: &Command) -> Result<Answer, HandlerError> {
        let index = self.names[command.target.key.service.as_str()];
        self.entries[index].handler.carry_out(command).await
    }

    fn index(&self, name: &str) -> Option<usize> {
        let name = name.to_ascii_lowercase();
        self.names
            .get(&name)
            .or_else(|| self.names.get(&name.replace('_', "-")))
            .copied()
    }

    /// A service by its own name.
    fn of(&self, name: &ServiceName) -> Option<&Entry> {
        self.entries.get(*self.names.get(name.as_str())?)
    }

    fn named(&self, name: &str) -> Result<Arc<Known>, CommandError> {
        let index = self.index(name);
        index
            .and_then(|index| self.entries.get(index)?.known())
            .ok_or_else(|| CommandError::UnknownService {
                name: shown(name),
                nearest: nearest(name, self.names.keys().map(String::as_str)).map(str::to_owned),
                available: self
                    .services()
                    .iter()
                    .map(|service| service.name.to_string())
                    .collect(),
            })
    }
}

/// Case, `-` and `_` make no difference in what a command is called.
pub(crate) fn folded(word: &str) -> String {
    word.to_ascii_lowercase().replace('_', "-")
}

/// What an agent sent, fit for a message.
fn shown(text: &str) -> String {
    text.chars()
        .take(64)
        .flat_map(char::escape_default)
        .collect()
}

/// Every spelling of every command: name, phrase and aliases as they are, then both with the
/// verb at the other end (`list-servers` ↔ `servers-list`).
fn spellings(commands: &[description::Command]) -> Result<HashMap<String, usize>, String> {
    let mut spellings = HashMap::new();
    for (index, command) in commands.iter().enumerate() {
        let name = command.name.get_ref().as_str();
        let as_said = std::iter::once(&command.phrase).chain(&command.aliases);
        for text in std::iter::once(name).chain(as_said.map(String::as_str)) {
            let spelling = text
                .split_whitespace()
                .map(folded)
                .collect::<Vec<_>>()
                .join("-");
            if spellings
                .insert(spelling, index)
                .is_some_and(|other| other != index)
            {
                return Err(format!("two commands are called `{text}`"));
            }
        }
    }
    for (index, command) in commands.iter().enumerate() {
        let name = folded(command.name.get_ref().as_str());
        let turned = [
            name.split_once('-')
                .map(|(verb, noun)| format!("{noun}-{verb}")),
            command
                .phrase
                .rsplit_once(' ')
                .map(|(noun, verb)| folded(&format!("{verb}-{noun}")).replace(' ', "-")),
        ];
        for spelling in turned.into_iter().flatten() {
            // What a description says goes before what follows from it.
            spellings.entry(spelling).or_insert(index);
        }
    }
    Ok(spellings)
}

/// `applications logs <uuid> [--lines <integer>] [--show_timestamps]`.
fn usage(command: &description::Command) -> String {
    let mut usage = command.phrase.clone();
    for argument in &command.arguments {
        let (name, kind) = (&argument.name, argument.kind);
        let part = match (argument.required, argument.positional, kind) {
            (true, ..) => format!(" <{name}>"),
            (false, true, _) => format!(" [{name}]"),
            (false, false, description::ArgumentType::Boolean) => format!(" [--{name}]"),
            (false, false, kind) => format!(" [--{name} <{}>]", kind.as_str()),
        };
        usage.push_str(&part);
    }
    usage
}

#[cfg(test)]
mod tests;
