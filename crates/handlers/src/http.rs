//! Services of kind `http`: one engine that carries out what descriptions say.
//!
//! A request is built from the description and the command's arguments alone: every
//! argument stays in its place (one path segment, one query value, one field of the body).
//! Redirects and proxies are not followed, answers are bounded, and what comes back is
//! cleared of credentials before anyone sees it.

mod answer;
mod failure;
mod mask;
mod request;
mod scrub;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, time::Duration};

use authz::{Command, CommandName, Permit, ServiceName};
use http::{HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use crate::redaction::Redaction;
use crate::{
    Answer, Handler, HandlerError,
    description::{Address, AnswerShape, Argument, Description, ErrorRule, RequestLine},
};
use scrub::Scrubber;

/// How long a connection may take to open.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Services close idle connections after a minute or so. To send a command just then would
/// leave unknown whether it arrived.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(15);

/// How often an idempotent command is sent when no connection opens.
const ATTEMPTS: u32 = 3;

/// One service of kind `http`.
#[derive(Debug)]
pub(crate) struct HttpService {
    name: ServiceName,
    client: reqwest::Client,
    headers: HeaderMap,
    timeout: Duration,
    max_answer_bytes: usize,
    rules: Vec<ErrorRule>,
    variables: Variables,
    commands: HashMap<CommandName, HttpCommand>,
    /// What is needed to reach it, or what to set.
    ready: Result<Ready, String>,
}

/// The environment variables to name when something is wrong with their values.
#[derive(Debug)]
struct Variables {
    address: String,
    credential: Option<String>,
}

#[derive(Debug)]
struct Ready {
    /// Without `/` at its end.
    base: String,
    credential: Option<(HeaderName, SecretString)>,
    scrubber: Scrubber,
}

#[derive(Debug)]
struct HttpCommand {
    /// `list_servers`: how answers begin.
    operation: String,
    request: RequestLine,
    fallback: Option<(RequestLine, Vec<u16>)>,
    idempotent: bool,
    arguments: Vec<Argument>,
    answer: AnswerShape,
    redaction: Redaction,
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
        let mut headers = HeaderMap::new();
        for (name, value) in &description.headers {
            let name = HeaderName::try_from(name)
                .map_err(|_| format!("`{name}` is not a header's name"))?;
            let value = HeaderValue::try_from(value)
                .map_err(|_| format!("`{name}` has a value that no header may"))?;
            headers.insert(name, value);
        }
        let address = address_of(description)?;
        let commands = description.commands.iter().map(|command| {
            let name = command.name.get_ref().clone();
            let operation = name.as_str().replace('-', "_");
            let command = HttpCommand {
                operation,
                request: command.request.clone(),
                fallback: command
                    .fallback
                    .clone()
                    .map(|line| (line, command.fallback_on.clone())),
                idempotent: command.is_idempotent(),
                arguments: command.arguments.clone(),
                answer: command.answer.clone(),
                redaction: description.redaction(command),
            };
            (name, command)
        });
        Ok(Self {
            name: description.name().clone(),
            client,
            headers,
            timeout: description
                .timeout_ms
                .map_or(timeout, Duration::from_millis),
            max_answer_bytes: description.max_answer_bytes,
            rules: description.errors.clone(),
            variables: Variables {
                address: address.variable.clone(),
                credential: description
                    .credential
                    .as_ref()
                    .map(|credential| credential.variable.clone()),
            },
            commands: commands.collect(),
            ready: Ready::new(description, address, variable),
        })
    }

    /// What to set, if it cannot be reached as it is.
    pub(crate) fn unavailable(&self) -> Option<&str> {
        self.ready.as_ref().err().map(String::as_str)
    }

    pub(crate) async fn carry_out(&self, command: &Command) -> Result<Answer, HandlerError> {
        let ready = self
            .ready
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
        let arguments = command.arguments.values();
        let mut response = self.send(ready, known, &known.request, arguments).await?;
        if let Some((fallback, on)) = &known.fallback
            && on.contains(&response.status().as_u16())
        {
            // The service did nothing: it has this command under another path or method.
            response = self.send(ready, known, fallback, arguments).await?;
        }
        let (status, headers) = (response.status(), response.headers().clone());
        let body = self.body(response).await?;
        if !status.is_success() {
            // A service that finds a value wrong likes to repeat it.
            let scrubber = ready.scrubber.and(known.secrets(arguments));
            return Err(self.failure(status, &headers, &body, &scrubber));
        }
        known
            .answer(&body, arguments, &ready.scrubber)
            .map(|data| Answer { data })
            .map_err(|reason| {
                let variable = &self.variables.address;
                self.failed(format!("{reason}; does `{variable}` point to its API?"))
            })
    }

    /// Sends it, again only while no connection opens and sending twice would be harmless.
    async fn send(
        &self,
        ready: &Ready,
        command: &HttpCommand,
        line: &RequestLine,
        arguments: &serde_json::Map<String, Value>,
    ) -> Result<reqwest::Response, HandlerError> {
        let attempts = if command.idempotent { ATTEMPTS } else { 1 };
        for attempt in 1.. {
            let mut request = command
                .request(&self.client, &ready.base, line, arguments)
                .map_err(|message| HandlerError::Rejected {
                    service: self.name.to_string(),
                    status: 400,
                    message,
                })?
                .headers(self.headers.clone())
                .timeout(self.timeout);
            if let Some((header, credential)) = &ready.credential {
                let mut value =
                    HeaderValue::from_str(credential.expose_secret()).map_err(|_| {
                        self.failed("its credential is not a header's value".to_owned())
                    })?;
                value.set_sensitive(true);
                request = request.header(header, value);
            }
            match request.send().await {
                Ok(response) => return Ok(response),
                Err(error) if error.is_connect() && attempt < attempts => {
                    let pause = Duration::from_millis(rand::random_range(50..150)) * attempt;
                    tracing::debug!(service = %self.name, attempt, "no connection; trying again");
                    tokio::time::sleep(pause).await;
                }
                Err(error) => return Err(self.transport(&error, &ready.scrubber)),
            }
        }
        Err(self.failed("it was never tried".to_owned()))
    }

    /// The whole body, if it is not too long.
    async fn body(&self, mut response: reqwest::Response) -> Result<Vec<u8>, HandlerError> {
        let limit = self.max_answer_bytes;
        let too_long = || {
            self.failed(format!(
                "its answer is longer than {limit} bytes; ask for less"
            ))
        };
        if response
            .content_length()
            .is_some_and(|length| length > limit as u64)
        {
            return Err(too_long());
        }
        let mut body = Vec::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() > limit => return Err(too_long()),
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => return Ok(body),
                Err(error) if error.is_timeout() => return Err(self.timed_out()),
                Err(_) => {
                    return Err(HandlerError::Broken {
                        service: self.name.to_string(),
                        reason: "its answer ended early".to_owned(),
                    });
                }
            }
        }
    }
}

impl Handler for HttpService {
    async fn handle(&self, permit: Permit) -> Result<Answer, HandlerError> {
        self.carry_out(permit.command()).await
    }
}

impl Ready {
    fn new(
        description: &Description,
        address: &Address,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, String> {
        // Files and shells add newlines to values; no address or token has any of its own.
        let read = |name: &str| {
            variable(name)
                .map(|value| value.trim().to_owned())
                .filter(|value| !value.is_empty())
        };
        let given = read(&address.variable).or_else(|| address.default.clone());
        let credential = description.credential.as_ref();
        let secret = credential
            .and_then(|credential| read(&credential.variable))
            .map(SecretString::from);

        let mut missing = Vec::new();
        if given.is_none() {
            missing.push(address.variable.as_str());
        }
        if let (Some(credential), None) = (credential, &secret)
            && !credential.optional
        {
            missing.push(credential.variable.as_str());
        }
        let Some(given) = given.filter(|_| missing.is_empty()) else {
            return Err(format!("set `{}`", missing.join("` and `")));
        };

        let base = base(&given, &address.suffix)
            .map_err(|reason| format!("`{}` {reason}", address.variable))?;
        let scrubber = Scrubber::new(secret.as_ref());
        let credential = credential.zip(secret).map(|(credential, secret)| {
            let header = HeaderName::try_from(&credential.header)
                .map_err(|_| format!("`{}` is not a header's name", credential.header))?;
            let value =
                SecretString::from(format!("{}{}", credential.prefix, secret.expose_secret()));
            if HeaderValue::from_str(value.expose_secret()).is_err() {
                return Err(format!(
                    "`{}` holds characters that no header may",
                    credential.variable
                ));
            }
            Ok((header, value))
        });
        Ok(Self {
            base,
            credential: credential.transpose()?,
            scrubber,
        })
    }
}

/// Which every description of this kind has.
fn address_of(description: &Description) -> Result<&Address, String> {
    description
        .address
        .as_ref()
        .ok_or_else(|| "kind `http` needs an `address`".to_owned())
}

/// The address with its suffix and without `/` at its end.
fn base(given: &str, suffix: &str) -> Result<String, String> {
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
    let base = url.as_str().trim_end_matches('/');
    Ok(if base.ends_with(suffix) {
        base.to_owned()
    } else {
        format!("{base}{suffix}")
    })
}

impl HttpCommand {
    /// Values of secret arguments.
    fn secrets<'a>(
        &'a self,
        arguments: &'a serde_json::Map<String, Value>,
    ) -> impl Iterator<Item = &'a str> {
        let secret = arguments
            .iter()
            .filter(|(name, _)| self.redaction.hides_argument(name));
        secret.filter_map(|(_, value)| value.as_str())
    }
}
