//! Descriptions: services as data, one TOML file each.
//!
//! Everything that a service needs is said in its file; no code knows a service by name.
//! What is true of every service stands at the top; so do the keys of kind `http`, which is
//! what most services are. Each other kind has a table of its own name.
//! Unknown keys are errors that name the line and the nearest key that is valid.

mod check;
mod credential;
mod mcp;
mod pages;
mod postgres;
mod s3;
pub(crate) mod template;

use std::collections::{BTreeMap, BTreeSet};

use authz::{CommandName, Risk, ServiceName, TeamName, ZoneName, command::Environment};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use toml::Spanned;

pub(crate) use self::{
    check::{is_dangerous_header, located, suggestion},
    credential::{App, Credential},
    mcp::McpTable,
    pages::{PageBy, Pages},
    postgres::{DatabaseTable, PostgresTable},
    s3::{S3Table, Setting},
};
use crate::{limits::ServiceLimits, redaction::Redaction};

/// One service.
#[derive(Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Description {
    #[schemars(with = "String")]
    pub(crate) name: Spanned<ServiceName>,
    /// It takes the place of the service of this name that comes with the binary.
    #[serde(default)]
    pub(crate) replaces: bool,
    /// Other names that agents may use for it.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub(crate) aliases: Vec<ServiceName>,
    /// Of this description.
    pub(crate) version: String,
    pub(crate) kind: Kind,
    #[serde(rename = "description")]
    pub(crate) about: String,
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub(crate) environment: Environment,
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub(crate) zones: BTreeSet<ZoneName>,
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub(crate) owners: Option<TeamName>,
    /// Of kind `http`, which needs it.
    pub(crate) address: Option<Address>,
    pub(crate) credential: Option<Credential>,
    /// Further ones, all sent with every request.
    #[serde(default)]
    pub(crate) credentials: Vec<Credential>,
    /// Fixed headers of every request.
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
    /// Overrides `HTTP_TIMEOUT_MS` for this service.
    pub(crate) timeout_ms: Option<u64>,
    /// How many requests may be under way at once; further ones wait.
    #[serde(default = "thirty_two")]
    pub(crate) max_concurrent: usize,
    /// How bodies of requests are written.
    #[serde(default)]
    pub(crate) body_format: BodyFormat,
    /// The header for a key by which the service recognises a request that was sent twice.
    /// The gateway makes one for every command that changes something, which may then be
    /// sent again.
    pub(crate) idempotency_key: Option<String>,
    /// Longer answers are an error.
    #[serde(default = "four_mebibytes")]
    pub(crate) max_answer_bytes: usize,
    /// What an agent gets is cut to so many bytes, and says so.
    #[serde(default = "half_a_mebibyte")]
    pub(crate) max_result_bytes: usize,
    /// Fields of answers, and inside arguments, whose values nobody gets to see.
    #[serde(default)]
    pub(crate) secret: Vec<String>,
    /// Fields of answers that sound secret and are not.
    #[serde(default)]
    pub(crate) public: Vec<String>,
    /// Answers hold what anybody may have written: issues, messages, web pages, logs. For all
    /// commands that do not say otherwise.
    #[serde(default)]
    pub(crate) untrusted: bool,
    /// An answer with a good status that says that it failed.
    pub(crate) failed_when: Option<FailedWhen>,
    /// Refusals of the service whose status does not say what they mean.
    #[serde(default)]
    pub(crate) errors: Vec<ErrorRule>,
    /// Arguments that several commands share; a command takes them by `use`.
    #[serde(default)]
    pub(crate) groups: BTreeMap<String, Vec<Argument>>,
    #[serde(default)]
    pub(crate) commands: Vec<Command>,
    /// How much of it may be used, unless the operator says otherwise.
    pub(crate) limits: Option<ServiceLimits>,
    /// Of kind `mcp`, which needs it.
    pub(crate) mcp: Option<McpTable>,
    /// Of kind `local`, which needs it.
    pub(crate) local: Option<LocalTable>,
    /// Of kind `s3`, which needs it and has commands of its own.
    pub(crate) s3: Option<S3Table>,
    /// Of kind `postgres`, which needs it.
    pub(crate) postgres: Option<PostgresTable>,
}

const fn four_mebibytes() -> usize {
    4 << 20
}

const fn half_a_mebibyte() -> usize {
    512 << 10
}

const fn thirty_two() -> usize {
    32
}

/// How the body of a request is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum BodyFormat {
    #[default]
    Json,
    /// JSON that says what is to change (RFC 7396): `null` takes a member away.
    MergePatch,
    /// `a=1&b[0][c]=2`, as HTML forms are sent.
    Form,
}

/// A field that says that a command failed, whatever the status says.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FailedWhen {
    /// Where it is, such as `success`.
    pub(crate) field: String,
    /// Its value then.
    pub(crate) is: bool,
}

/// What carries the commands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// Requests that the file describes.
    Http,
    /// A server of the Model Context Protocol.
    Mcp,
    /// A program that the agent's own machine runs: the answer is how.
    Local,
    /// Objects in buckets, by S3.
    S3,
    /// `PostgreSQL` databases.
    Postgres,
}

impl Kind {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Mcp => "mcp",
            Self::Local => "local",
            Self::S3 => "s3",
            Self::Postgres => "postgres",
        }
    }
}

/// Where the service is.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Address {
    /// The environment variable that holds it.
    pub(crate) variable: String,
    /// Where it is when the variable is not set.
    pub(crate) default: Option<String>,
    /// What its path ends with; added unless it is there.
    #[serde(default)]
    pub(crate) suffix: String,
    /// Other endings, by name: for commands that belong to another part of the service.
    #[serde(default)]
    pub(crate) others: BTreeMap<String, String>,
}

/// An answer that means something else than its status says.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ErrorRule {
    pub(crate) status: u16,
    /// What its message contains, without regard to case.
    pub(crate) contains: String,
    pub(crate) means: Meaning,
    /// The likely cause, in our words.
    pub(crate) advice: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Meaning {
    /// Our credential was refused.
    Credential,
    /// What the command names does not exist.
    NotFound,
    /// The command is wrong.
    Rejected,
    /// The service asks for patience.
    TooMany,
}

/// One command.
#[derive(Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Command {
    /// Verb first: `list-servers`.
    #[schemars(with = "String")]
    pub(crate) name: Spanned<CommandName>,
    /// As people say it, noun first: `servers list`.
    pub(crate) phrase: String,
    #[serde(default)]
    pub(crate) aliases: Vec<String>,
    pub(crate) summary: String,
    #[schemars(with = "RiskName")]
    pub(crate) risk: Risk,
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub(crate) zones: BTreeSet<ZoneName>,
    /// Its answers hold what anybody may have written, or do not, whatever the service says.
    pub(crate) untrusted: Option<bool>,
    /// `GET /servers/{uuid}`; `{+path}` may be several segments. Kind `http` needs it.
    #[schemars(with = "Option<String>")]
    #[serde(default = "no_request")]
    pub(crate) request: RequestLine,
    /// Of kind `local`, which needs it: the words that come after the program's own.
    #[serde(default)]
    pub(crate) run: Vec<RunPart>,
    /// Which of the address's `others` it belongs to.
    pub(crate) address: Option<String>,
    /// What the query always has; `{agent.id}` is who asks.
    #[serde(default)]
    pub(crate) query: BTreeMap<String, String>,
    /// What the headers always have.
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
    /// The body, where it is not simply its arguments: a text that is `{argument}` becomes
    /// that argument's value, `{agent.id}` who asks; what was not given is left out.
    #[schemars(with = "Option<serde_json::Value>")]
    pub(crate) body: Option<toml::Value>,
    /// It is sent without our credentials: to a part of the service that others run.
    #[serde(default)]
    pub(crate) without_credential: bool,
    /// Overrides the service's.
    pub(crate) body_format: Option<BodyFormat>,
    /// Overrides the service's.
    pub(crate) timeout_ms: Option<u64>,
    /// Overrides the service's: longer answers are an error.
    pub(crate) max_answer_bytes: Option<usize>,
    /// Overrides the service's: what an agent gets is cut to so many bytes.
    pub(crate) max_result_bytes: Option<usize>,
    /// The command is about something that must belong to the agent.
    pub(crate) owned: Option<Owned>,
    /// How the list comes in pieces.
    pub(crate) pages: Option<Pages>,
    /// Sent when the service answers `fallback_on` to `request`: it has done nothing then.
    #[schemars(with = "Option<String>")]
    pub(crate) fallback: Option<RequestLine>,
    /// 405 unless said; 404 also is possible, and with GET any other.
    #[serde(default = "method_not_allowed")]
    pub(crate) fallback_on: Vec<u16>,
    /// Whether sending twice equals sending once; by default true for GET alone.
    pub(crate) idempotent: Option<bool>,
    /// Groups of shared arguments, which come before the command's own.
    #[serde(default, rename = "use")]
    pub(crate) groups: Vec<String>,
    #[serde(default)]
    pub(crate) arguments: Vec<Argument>,
    /// Of each of these sets of arguments at least one must be given.
    #[serde(default)]
    pub(crate) at_least_one: Vec<Vec<String>>,
    /// What becomes of the service's answer; kind `http` needs it.
    #[serde(default)]
    pub(crate) answer: AnswerShape,
    /// Arguments of an example call: shown in help, and used by the contract test.
    #[serde(default)]
    #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
    pub(crate) example: toml::Table,
}

/// Words of a local program's command line.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(untagged)]
pub(crate) enum RunPart {
    /// One word, with arguments in it; left out when one of them was not given.
    Word(String),
    /// Several words, left out together.
    Words(Vec<String>),
}

/// The program of a service of kind `local`.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LocalTable {
    /// What is started.
    pub(crate) program: String,
    /// Words that always come first.
    #[serde(default)]
    pub(crate) words: Vec<String>,
}

/// What a description may call a risk.
#[derive(schemars::JsonSchema)]
#[schemars(rename_all = "lowercase")]
#[expect(dead_code, reason = "only its names matter, to editors")]
enum RiskName {
    Read,
    Write,
    Destroy,
}

/// Asked before a command: whether what it names belongs to the agent. If not, it does not
/// exist for it.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Owned {
    /// What shows it, with path arguments of the command.
    #[schemars(with = "String")]
    pub(crate) request: RequestLine,
    /// Where its answer has the owner, who must be the agent's id.
    pub(crate) owner: String,
}

const fn no_request() -> RequestLine {
    RequestLine {
        method: http::Method::GET,
        path: Vec::new(),
    }
}

fn method_not_allowed() -> Vec<u16> {
    vec![405]
}

/// One argument.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a key of its own, as people write it"
)]
pub(crate) struct Argument {
    /// Its name, here and there.
    pub(crate) name: String,
    /// Its name there, if another.
    #[serde(rename = "as")]
    pub(crate) wire: Option<String>,
    /// The environment variable with its value when the agent gives none; then it is
    /// part of the command as if given.
    pub(crate) variable: Option<String>,
    #[serde(rename = "type", default)]
    pub(crate) kind: ArgumentType,
    /// Where it goes; by default the path if it is named there, else the query of GET and
    /// DELETE, else the body.
    #[serde(rename = "in")]
    pub(crate) place: Option<Place>,
    pub(crate) description: String,
    /// Path arguments always are.
    #[serde(default)]
    pub(crate) required: bool,
    /// Optional, and still accepted without its name.
    #[serde(default)]
    pub(crate) positional: bool,
    /// Sent when the agent does not give it.
    #[schemars(with = "Option<serde_json::Value>")]
    pub(crate) default: Option<toml::Value>,
    /// The only values that it may have.
    #[serde(default)]
    pub(crate) options: Vec<String>,
    /// What agents may also write: what they write = the value that it stands for.
    #[serde(default)]
    pub(crate) synonyms: BTreeMap<String, String>,
    pub(crate) minimum: Option<i64>,
    pub(crate) maximum: Option<i64>,
    /// In characters.
    pub(crate) max_length: Option<u64>,
    /// Of an array: how many it may have.
    pub(crate) max_items: Option<u64>,
    /// A regular expression that its text matches.
    pub(crate) pattern: Option<String>,
    /// Of an array: what each item is.
    pub(crate) items: Option<ArgumentType>,
    /// JSON Schema of what else must hold of the value, or of what is inside it; without `type`
    /// and references.
    #[schemars(with = "Option<serde_json::Map<String, serde_json::Value>>")]
    pub(crate) schema: Option<toml::Table>,
    /// In a body: it may be null.
    #[serde(default)]
    pub(crate) nullable: bool,
    /// How a list, or an object, stands in a query or a form: `a[0]=x` and `a[b]=x` unless said.
    pub(crate) written: Option<Written>,
    /// Never shown, logged or recorded in clear.
    #[serde(default)]
    pub(crate) secret: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ArgumentType {
    #[default]
    String,
    Integer,
    Number,
    Boolean,
    Array,
    Object,
    /// Any JSON: written as such.
    Any,
}

/// How a list, or an object, is written where there is only text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Written {
    /// `a=x&a=y`.
    Repeated,
    /// `a=x,y`.
    Commas,
    /// `a=x y`.
    Spaces,
    /// `a=x|y`.
    Pipes,
    /// `a=["x","y"]`.
    Json,
}

impl ArgumentType {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
            Self::Array => "array",
            Self::Object => "object",
            Self::Any => "any",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Place {
    Path,
    Query,
    Header,
    Body,
    /// Says which pages are fetched.
    #[serde(skip)]
    Pages,
    /// Says what is kept of the answer; the service does not get it.
    #[serde(skip)]
    Answer,
}

/// `GET /servers/{uuid}`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct RequestLine {
    pub(crate) method: http::Method,
    pub(crate) path: Vec<Piece>,
}

/// A part of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// As it is.
    Text(String),
    /// An argument's value, percent-encoded: never more than one segment, and all of it unless
    /// text stands beside it.
    Argument(String),
    /// An argument's value as one or more segments, each percent-encoded.
    Segments(String),
}

impl RequestLine {
    pub(crate) fn placeholders(&self) -> impl Iterator<Item = &str> {
        self.path.iter().filter_map(|piece| match piece {
            Piece::Argument(name) | Piece::Segments(name) => Some(name.as_str()),
            Piece::Text(_) => None,
        })
    }
}

impl TryFrom<String> for RequestLine {
    type Error = String;

    fn try_from(line: String) -> Result<Self, String> {
        let (method, path) = line.split_once(' ').unwrap_or((&line, ""));
        let method = match method {
            "GET" => http::Method::GET,
            "POST" => http::Method::POST,
            "PUT" => http::Method::PUT,
            "PATCH" => http::Method::PATCH,
            "DELETE" => http::Method::DELETE,
            other => return Err(format!("`{other}` is not GET, POST, PUT, PATCH or DELETE")),
        };
        let mut pieces = Vec::new();
        // Parsers of URLs drop tabs and newlines, and encode the rest of what is not ASCII.
        if !path.starts_with('/')
            || path.contains(['?', '#', '%', '\\'])
            || path.contains("//")
            || !path.bytes().all(|byte| byte.is_ascii_graphic())
        {
            return Err(format!(
                "`{path}` is not a path such as `/servers/{{uuid}}`, without query"
            ));
        }
        for segment in path.split('/').skip(1) {
            let several = segment
                .strip_prefix("{+")
                .and_then(|rest| rest.strip_suffix('}'));
            if let Some(name) = several.filter(|name| !name.contains(['{', '}'])) {
                pieces.push(Piece::Text("/".to_owned()));
                pieces.push(Piece::Segments(name.to_owned()));
            } else {
                pieces.extend(segment_pieces(segment)?);
            }
        }
        Ok(Self {
            method,
            path: pieces,
        })
    }
}

/// Text, an argument, or arguments with text between them, by which they are told apart.
fn segment_pieces(segment: &str) -> Result<Vec<Piece>, String> {
    let wrong =
        || format!("`{segment}` is neither text nor `{{argument}}`s with text between them");
    if matches!(segment, "." | "..") {
        return Err(wrong());
    }
    let mut pieces = vec![Piece::Text("/".to_owned())];
    let mut rest = segment;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('{') {
            let (name, after) = after.split_once('}').ok_or_else(wrong)?;
            let follows = matches!(pieces.last(), Some(Piece::Argument(_)));
            if follows || name.is_empty() || name.contains(['{', '+']) {
                return Err(wrong());
            }
            pieces.push(Piece::Argument(name.to_owned()));
            rest = after;
        } else {
            let (text, after) = rest.split_at(rest.find('{').unwrap_or(rest.len()));
            if text.contains('}') {
                return Err(wrong());
            }
            match pieces.last_mut() {
                Some(Piece::Text(before)) => before.push_str(text),
                _ => pieces.push(Piece::Text(text.to_owned())),
            }
            rest = after;
        }
    }
    Ok(pieces)
}

/// What becomes of the service's answer. Exactly one of `list`, `object`, `merge` and `text`.
#[derive(Clone, Debug, Default, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AnswerShape {
    /// A list: under this name, with `count`.
    pub(crate) list: Option<String>,
    /// One object: under this name.
    pub(crate) object: Option<String>,
    /// Where an object is expected, a list may come, too: under this name, with `count`.
    pub(crate) list_as: Option<String>,
    /// An object whose fields stand beside `operation`.
    #[serde(default)]
    pub(crate) merge: bool,
    /// Plain text: under this name.
    pub(crate) text: Option<String>,
    /// What the answer calls the command: its name with `_` unless said.
    pub(crate) operation: Option<String>,
    /// What the answer calls the number of items: `count` unless said.
    pub(crate) count: Option<String>,
    /// What the answer always has.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, serde_json::Value>")]
    pub(crate) constants: BTreeMap<String, toml::Value>,
    /// Where in the body it is, when it is not the body itself; `result.items`.
    pub(crate) at: Option<String>,
    /// A list may come as an object whose keys are numbers.
    #[serde(default)]
    pub(crate) numbered: bool,
    /// Of a list, where the service gives more than was asked for: only items of which one of
    /// these fields is what an argument says; argument = fields.
    #[serde(default)]
    pub(crate) only: BTreeMap<String, Vec<String>>,
    /// The argument that says how many items of a list are left out at its beginning.
    pub(crate) skip: Option<String>,
    /// The argument that says how many items of a list there are at most. If there are more,
    /// the answer says `truncated`, and with `skip` where to go on.
    pub(crate) first: Option<String>,
    /// Which fields to keep, all when empty; `settings.is_reachable` yields `is_reachable`,
    /// `user.login as author` yields `author`, `labels[].name as labels` all their names, and
    /// `nodes[type=hook].path as paths` those of some.
    #[serde(default)]
    pub(crate) fields: Vec<String>,
    /// Arguments to repeat in the answer: name there = argument.
    #[serde(default)]
    pub(crate) echo: BTreeMap<String, String>,
    /// Fields that hold free text, such as logs: assignments in it whose names sound
    /// secret, and passwords in URLs, are masked.
    #[serde(default)]
    pub(crate) masked: Vec<String>,
}

impl AnswerShape {
    /// The arguments that say what is kept of a list.
    pub(crate) fn choosing(&self) -> impl Iterator<Item = &str> {
        let named = self.only.keys().chain(&self.skip).chain(&self.first);
        named.map(String::as_str)
    }
}

/// JSON Schema of descriptions, for editors and for those who write them by machine.
pub(crate) fn json_schema() -> Value {
    schemars::schema_for!(Description).to_value()
}

impl Description {
    /// Reads and checks a description. `file` is for messages.
    pub(crate) fn read(file: &str, text: &str) -> Result<Self, String> {
        let mut description: Self = toml::from_str(text).map_err(|error| {
            let mut message = error.message().to_owned();
            if let Some(suggestion) = suggestion(&message) {
                message = format!("{message}; did you mean `{suggestion}`?");
            }
            located(file, text, error.span(), &message)
        })?;
        description
            .complete()
            .map_err(|(span, message)| located(file, text, span, &message))?;
        description
            .check_limits()
            .map_err(|message| located(file, text, Some(description.name.span()), &message))?;
        Ok(description)
    }

    /// Takes from the configuration what arguments have when the agent gives none.
    pub(crate) fn configure(&mut self, variable: &dyn Fn(&str) -> Option<String>) {
        if let Some(table) = &self.postgres {
            table.configure(&mut self.commands, variable);
        }
        for argument in self
            .commands
            .iter_mut()
            .flat_map(|command| &mut command.arguments)
        {
            let value = argument.variable.as_deref().and_then(variable);
            let value = value.map(|value| value.trim().to_owned());
            let Some(value) = value.filter(|value| !value.is_empty()) else {
                continue;
            };
            let fits = argument.schema().ok().is_some_and(|schema| {
                jsonschema::validator_for(&schema)
                    .is_ok_and(|validator| validator.is_valid(&Value::String(value.clone())))
            });
            if fits {
                argument.default = Some(toml::Value::String(value));
                argument.required = false;
            } else {
                // One service that is not configured well must not keep the others down.
                tracing::warn!(
                    variable = argument.variable,
                    argument = argument.name,
                    "the variable's value does not fit the argument and is not used"
                );
            }
        }
    }

    /// All its credentials.
    pub(crate) fn credentials(&self) -> impl Iterator<Item = &Credential> {
        self.credential.iter().chain(&self.credentials)
    }

    pub(crate) fn name(&self) -> &ServiceName {
        self.name.get_ref()
    }

    /// What nobody gets to see of one command and its answer.
    pub(crate) fn redaction(&self, command: &Command) -> Redaction {
        let secret = command.arguments.iter().filter(|argument| argument.secret);
        Redaction::new(
            &self.secret,
            secret.map(|argument| argument.name.clone()).collect(),
            &self.public,
        )
    }
}

impl Command {
    pub(crate) fn is_idempotent(&self) -> bool {
        self.idempotent
            .unwrap_or(self.request.method == http::Method::GET)
    }

    /// JSON Schema of all arguments.
    pub(crate) fn schema(&self) -> Result<Value, String> {
        let mut properties = Map::new();
        for argument in &self.arguments {
            properties.insert(argument.name.clone(), argument.schema()?);
        }
        let required: Vec<&str> = self
            .arguments
            .iter()
            .filter(|argument| argument.required)
            .map(|argument| argument.name.as_str())
            .collect();
        let mut schema =
            json!({"type": "object", "properties": properties, "additionalProperties": false});
        if let Some(schema) = schema.as_object_mut() {
            if !required.is_empty() {
                schema.insert("required".to_owned(), json!(required));
            }
            if !self.at_least_one.is_empty() {
                let sets = self.at_least_one.iter().map(|names| {
                    json!({"anyOf": names.iter().map(|name| json!({"required": [name]})).collect::<Vec<_>>()})
                });
                schema.insert("allOf".to_owned(), sets.collect());
            }
        }
        Ok(schema)
    }
}

impl Argument {
    /// One that is not in a file.
    fn new(name: &str, kind: ArgumentType, place: Place) -> Self {
        Self {
            name: name.to_owned(),
            wire: None,
            variable: None,
            kind,
            place: Some(place),
            description: String::new(),
            required: false,
            positional: false,
            default: None,
            options: Vec::new(),
            synonyms: BTreeMap::new(),
            minimum: None,
            maximum: None,
            max_length: None,
            max_items: None,
            pattern: None,
            items: None,
            schema: None,
            nullable: false,
            written: None,
            secret: false,
        }
    }

    /// What the service calls it.
    pub(crate) fn wire(&self) -> &str {
        self.wire.as_deref().unwrap_or(&self.name)
    }

    /// JSON Schema of its value.
    pub(crate) fn schema(&self) -> Result<Value, String> {
        let mut schema = Map::new();
        match (self.kind, self.nullable) {
            (ArgumentType::Any, _) => None,
            (kind, false) => schema.insert("type".to_owned(), json!(kind.as_str())),
            (kind, true) => schema.insert("type".to_owned(), json!([kind.as_str(), "null"])),
        };
        schema.insert("description".to_owned(), json!(self.description));
        if let Some(Value::Object(further)) = self.schema.as_ref().map(to_json).transpose()? {
            schema.extend(further);
        }
        if !self.options.is_empty() {
            let null = self.nullable.then_some(Value::Null);
            let options = self.options.iter().map(|option| json!(option)).chain(null);
            schema.insert("enum".to_owned(), options.collect());
        }
        if let Some(minimum) = self.minimum {
            schema.insert("minimum".to_owned(), json!(minimum));
        }
        if let Some(maximum) = self.maximum {
            schema.insert("maximum".to_owned(), json!(maximum));
        }
        if let Some(length) = self.max_length {
            schema.insert("maxLength".to_owned(), json!(length));
        }
        if let Some(items) = self.max_items {
            schema.insert("maxItems".to_owned(), json!(items));
        }
        if let Some(pattern) = &self.pattern {
            schema.insert("pattern".to_owned(), json!(pattern));
        }
        if self.nullable
            && self.options.is_empty()
            && let Some(Value::Array(options)) = schema.get_mut("enum")
        {
            options.push(Value::Null);
        }
        if self.place == Some(Place::Path) && self.kind == ArgumentType::String {
            schema.entry("minLength").or_insert(json!(1));
        }
        if let Some(items) = self.items.filter(|items| *items != ArgumentType::Any) {
            schema.insert("items".to_owned(), json!({"type": items.as_str()}));
        }
        if let Some(default) = &self.default {
            schema.insert("default".to_owned(), to_json(default)?);
        }
        Ok(Value::Object(schema))
    }
}

/// A TOML value as JSON.
pub(crate) fn to_json<T: serde::Serialize>(value: &T) -> Result<Value, String> {
    serde_json::to_value(value).map_err(|error| error.to_string())
}
