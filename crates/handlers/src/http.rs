//! Services of kind `http`: one engine that carries out what descriptions say.
//!
//! A request is built from the description and the command's arguments alone: every
//! argument stays in its place (one path segment, one query value, one field of the body).
//! Redirects and proxies are not followed, answers are bounded, and what comes back is
//! cleared of credentials before anyone sees it.

pub(crate) mod answer;
mod credential;
pub(crate) mod failure;
mod fields;
pub(crate) mod mask;
mod pages;
mod preview;
pub(crate) mod request;
pub(crate) mod resilience;
pub(crate) mod scrub;
pub(crate) mod send;
mod shapes;
pub(crate) mod size;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use authz::{AgentId, Command, CommandName, Permit, ServiceName};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::{Map, Value};

use self::{
    request::Given,
    resilience::{Gate, answered},
    scrub::Scrubber,
    send::Exchange,
};
use crate::{
    Answer, Handler, HandlerError,
    catalog::Condition,
    description::{
        self, Address, AnswerShape, Argument, BodyFormat, Description, ErrorRule, FailedWhen,
        Owned, Pages, RequestLine, to_json,
    },
    redaction::Redaction,
    variables::{Values, Variables},
};

/// How long a connection may take to open.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Services close idle connections after a minute or so. To send a command just then would
/// leave unknown whether it arrived.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(15);

/// One service of kind `http`.
#[derive(Debug)]
pub(crate) struct HttpService {
    name: ServiceName,
    client: reqwest::Client,
    timeout: Duration,
    rules: Vec<ErrorRule>,
    failed_when: Option<FailedWhen>,
    address: Address,
    credentials: Vec<description::Credential>,
    commands: HashMap<CommandName, HttpCommand>,
    gate: Arc<Gate>,
    /// What is needed to reach it, or what to set.
    ready: ArcSwap<Result<Ready, String>>,
}

#[derive(Debug)]
struct Ready {
    /// Without `/` at its end.
    base: String,
    others: BTreeMap<String, String>,
    credentials: Vec<credential::Ready>,
    scrubber: Scrubber,
    /// What it was made of, to see whether that changed.
    made_of: Values,
}

impl PartialEq for Ready {
    fn eq(&self, other: &Self) -> bool {
        self.made_of == other.made_of
    }
}

#[derive(Debug)]
struct HttpCommand {
    /// `list_servers`: how answers begin.
    operation: String,
    request: RequestLine,
    fallback: Option<(RequestLine, Vec<u16>)>,
    /// Another part of the service.
    address: Option<String>,
    without_credential: bool,
    query: Vec<(String, String)>,
    headers: HeaderMap,
    template: Option<Value>,
    body_format: BodyFormat,
    idempotency_key: Option<HeaderName>,
    owned: Option<Owned>,
    pages: Option<Pages>,
    idempotent: bool,
    arguments: Vec<Argument>,
    answer: AnswerShape,
    constants: Map<String, Value>,
    redaction: Redaction,
    bounds: Bounds,
}

/// What one command may take.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    timeout: Duration,
    /// Longer answers are an error.
    answer_bytes: usize,
    /// What an agent gets is cut to so many.
    result_bytes: usize,
}

/// The client that every service shares.
pub(crate) fn client() -> Result<reqwest::Client, String> {
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(POOL_IDLE_TIMEOUT)
        .user_agent(concat!("cedargate/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| format!("the HTTP client cannot be made: {error}"))
}

impl HttpService {
    /// `timeout` is for descriptions that name none.
    pub(crate) fn new(
        description: &Description,
        client: reqwest::Client,
        timeout: Duration,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, String> {
        let address = description
            .address
            .as_ref()
            .ok_or_else(|| "kind `http` needs an `address`".to_owned())?;
        let timeout = description
            .timeout_ms
            .map_or(timeout, Duration::from_millis);
        let commands = description.commands.iter().map(|command| {
            let name = command.name.get_ref().clone();
            let known = HttpCommand::new(description, command, timeout)
                .map_err(|message| format!("command `{name}`: {message}"))?;
            Ok((name, known))
        });
        let credentials: Vec<_> = description.credentials().cloned().collect();
        let ready = Ready::new(address, &credentials, variable);
        Ok(Self {
            name: description.name().clone(),
            client,
            timeout,
            rules: description.errors.clone(),
            failed_when: description.failed_when.clone(),
            address: address.clone(),
            commands: commands.collect::<Result<_, String>>()?,
            gate: Gate::new(description.max_concurrent),
            ready: ArcSwap::from_pointee(ready),
            credentials,
        })
    }

    /// What to set, if it cannot be reached as it is.
    pub(crate) fn unavailable(&self) -> Option<String> {
        self.ready.load().as_ref().as_ref().err().cloned()
    }

    /// Reads address and credentials again. Commands under way keep what they have.
    /// Whether anything changed.
    pub(crate) fn refresh(&self, variable: &dyn Fn(&str) -> Option<String>) -> bool {
        let ready = Ready::new(&self.address, &self.credentials, variable);
        let changed = **self.ready.load() != ready;
        if changed {
            self.ready.store(Arc::new(ready));
        }
        changed
    }

    /// How it is, and what is known of why.
    pub(crate) fn condition(&self) -> Condition {
        self.unavailable()
            .map_or_else(|| self.gate.condition(), Condition::unconfigured)
    }

    pub(crate) async fn carry_out(
        &self,
        agent: AgentId,
        command: &Command,
    ) -> Result<Answer, HandlerError> {
        let ready = self.ready.load_full();
        let ready = ready
            .as_ref()
            .as_ref()
            .map_err(|reason| HandlerError::NotConfigured {
                service: self.name.to_string(),
                reason: reason.clone(),
            })?;
        let name = &command.target.key.name;
        let known = self
            .commands
            .get(name)
            .ok_or_else(|| self.failed(format!("its description has no command `{name}`")))?;
        let pass = self
            .gate
            .enter(self.timeout)
            .await
            .map_err(|closed| closed.told(&self.name, "it"))?;
        let exchange = Exchange::new(self, ready, known, agent, command.arguments.values());
        let outcome = exchange.carry_out().await;
        pass.ended(answered(&outcome));
        outcome.map(|data| Answer {
            data,
            untrusted: false,
        })
    }

    /// The variables of its credentials, for messages.
    fn credential_variables(&self) -> String {
        let names: Vec<String> = self
            .credentials
            .iter()
            .map(|credential| format!("`{}`", credential.variable))
            .collect();
        if names.is_empty() {
            "its credential".to_owned()
        } else {
            names.join(" or ")
        }
    }
}

impl Handler for HttpService {
    async fn handle(&self, permit: Permit) -> Result<Answer, HandlerError> {
        self.carry_out(permit.agent(), permit.command()).await
    }
}

impl Ready {
    fn new(
        address: &Address,
        credentials: &[description::Credential],
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, String> {
        let variables = Variables::new(variable);
        let read = |name: &str| variables.read(name);
        let given = read(&address.variable).or_else(|| address.default.clone());
        let mut missing = Vec::new();
        if given.is_none() {
            missing.push(address.variable.clone());
        }
        let mut scrubber = Scrubber::default();
        let mut found = Vec::new();
        for credential in credentials {
            match credential::Ready::new(credential, &read, &mut scrubber) {
                Ok(ready) => found.extend(ready.map(|ready| (credential, ready))),
                Err(names) => missing.extend(names),
            }
        }
        let Some(given) = given.filter(|_| missing.is_empty()) else {
            return Err(format!("set `{}`", missing.join("` and `")));
        };
        let (base, root) = base(&given, &address.suffix)
            .map_err(|reason| format!("`{}` {reason}", address.variable))?;
        for (credential, ready) in &found {
            if ready.check().is_err() {
                return Err(format!(
                    "`{}` holds characters that no header may",
                    credential.variable
                ));
            }
        }
        let others = address
            .others
            .iter()
            .map(|(name, suffix)| (name.clone(), format!("{root}{suffix}")));
        Ok(Self {
            base,
            others: others.collect(),
            credentials: found.into_iter().map(|(_, ready)| ready).collect(),
            scrubber,
            made_of: variables.into_values(),
        })
    }

    /// Where a command goes.
    fn base(&self, command: &HttpCommand) -> &str {
        command
            .address
            .as_ref()
            .and_then(|name| self.others.get(name))
            .unwrap_or(&self.base)
    }
}

/// The address with its suffix, and without; neither with `/` at its end.
fn base(given: &str, suffix: &str) -> Result<(String, String), String> {
    let url = reqwest::Url::parse(given).map_err(|error| format!("is not an address: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err("is not an http:// or https:// address".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("holds a user or password; set the credential's own variable".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("has a query or a fragment".to_owned());
    }
    let given = url.as_str().trim_end_matches('/');
    let root = given.strip_suffix(suffix).unwrap_or(given);
    Ok((format!("{root}{suffix}"), root.to_owned()))
}

impl HttpCommand {
    /// `timeout` is for commands that name none.
    fn new(
        description: &Description,
        command: &description::Command,
        timeout: Duration,
    ) -> Result<Self, String> {
        let name = command.name.get_ref();
        let mut headers = HeaderMap::new();
        for (name, value) in description.headers.iter().chain(&command.headers) {
            let name = HeaderName::try_from(name)
                .map_err(|_| format!("`{name}` is not a header's name"))?;
            let value = HeaderValue::try_from(value)
                .map_err(|_| format!("`{name}` has a value that no header may"))?;
            headers.insert(name, value);
        }
        let idempotency_key = description
            .idempotency_key
            .as_ref()
            .filter(|_| command.request.method == Method::POST)
            .map(|name| {
                HeaderName::try_from(name).map_err(|_| format!("`{name}` is not a header's name"))
            })
            .transpose()?;
        let mut constants = Map::new();
        for (name, value) in &command.answer.constants {
            constants.insert(name.clone(), to_json(value)?);
        }
        Ok(Self {
            operation: command
                .answer
                .operation
                .clone()
                .unwrap_or_else(|| name.as_str().replace('-', "_")),
            request: command.request.clone(),
            fallback: command
                .fallback
                .clone()
                .map(|line| (line, command.fallback_on.clone())),
            address: command.address.clone(),
            without_credential: command.without_credential,
            query: command.query.clone().into_iter().collect(),
            headers,
            template: command.body.as_ref().map(to_json).transpose()?,
            body_format: command.body_format.unwrap_or(description.body_format),
            idempotent: command.is_idempotent() || idempotency_key.is_some(),
            idempotency_key,
            owned: command.owned.clone(),
            pages: command.pages.clone(),
            arguments: command.arguments.clone(),
            answer: command.answer.clone(),
            constants,
            redaction: description.redaction(command),
            bounds: Bounds {
                timeout: command.timeout_ms.map_or(timeout, Duration::from_millis),
                answer_bytes: command
                    .max_answer_bytes
                    .unwrap_or(description.max_answer_bytes),
                result_bytes: command
                    .max_result_bytes
                    .unwrap_or(description.max_result_bytes),
            },
        })
    }

    /// Values of secret arguments.
    fn secrets<'a>(&'a self, arguments: &'a Map<String, Value>) -> impl Iterator<Item = &'a str> {
        let secret = arguments
            .iter()
            .filter(|(name, _)| self.redaction.hides_argument(name));
        secret.filter_map(|(_, value)| value.as_str())
    }
}
