//! The exchange: one command, from its arguments to the service's answer.

use std::{borrow::Cow, sync::Mutex, sync::PoisonError, time::Duration};

use authz::AgentId;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Map, Value};

use super::{
    Bounds, Given, HttpCommand, HttpService, Ready, answer::walk, credential::TokenError,
    failure::retry_after, request::Prepared, scrub::Scrubber,
};
use crate::{
    HandlerError,
    description::{Owned, RequestLine},
};

/// How often a command is sent that may be sent again.
pub(crate) const ATTEMPTS: u32 = 3;

/// So many bytes of an answer at most are made room for before they come.
const FIRST_BYTES: usize = 64 * 1024;

/// Nobody waits longer than this for a service that asks for patience; the agent is told.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// One command on its way.
pub(super) struct Exchange<'a> {
    pub(super) service: &'a HttpService,
    ready: &'a Ready,
    pub(super) command: &'a HttpCommand,
    pub(super) given: Given<'a>,
    /// The same for every attempt: by it the service knows that they are one.
    key: Option<HeaderValue>,
    /// With tokens that were fetched meanwhile.
    learned: Mutex<Option<Scrubber>>,
}

impl<'a> Exchange<'a> {
    pub(super) fn new(
        service: &'a HttpService,
        ready: &'a Ready,
        command: &'a HttpCommand,
        agent: AgentId,
        arguments: &'a Map<String, Value>,
    ) -> Self {
        let key = command.idempotency_key.as_ref().map(|_| {
            let random: [u8; 16] = rand::random();
            hex::encode(random)
        });
        Self {
            service,
            ready,
            command,
            given: Given {
                arguments,
                agent,
                page: &[],
            },
            key: key.and_then(|key| HeaderValue::try_from(key).ok()),
            learned: Mutex::new(None),
        }
    }

    pub(super) async fn carry_out(&self) -> Result<Value, HandlerError> {
        if let Some(owned) = &self.command.owned {
            self.check_owner(owned).await?;
        }
        if let Some(pages) = &self.command.pages {
            return self.pages(pages).await;
        }
        let (_, body) = self.fetch(&[]).await?;
        let limit = self.command.bounds.result_bytes;
        self.command
            .answer(&body, self.given.arguments, &self.scrubber(), limit)
            .map_err(|reason| self.not_understood(&reason))
    }

    pub(super) fn not_understood(&self, reason: &str) -> HandlerError {
        let variable = &self.service.address.variable;
        self.service
            .failed(format!("{reason}; does `{variable}` point to its API?"))
    }

    /// What nobody may see of this exchange.
    pub(super) fn scrubber(&self) -> Cow<'a, Scrubber> {
        let learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        learned
            .clone()
            .map_or(Cow::Borrowed(&self.ready.scrubber), Cow::Owned)
    }

    /// What is not the agent's does not exist for it.
    async fn check_owner(&self, owned: &Owned) -> Result<(), HandlerError> {
        let (_, body) = self.answered(&owned.request, None, &[]).await?;
        let value: Value = serde_json::from_slice(&body)
            .map_err(|_| self.not_understood("its answer is not JSON"))?;
        let found = walk(&value, &owned.owner).and_then(Value::as_str);
        if found == Some(self.given.agent.to_string().as_str()) {
            return Ok(());
        }
        Err(HandlerError::NotFound {
            service: self.service.name.to_string(),
            message: "there is none of yours with this id".to_owned(),
        })
    }

    /// Headers and body of a good answer.
    pub(super) async fn fetch(
        &self,
        page: &[(String, String)],
    ) -> Result<(HeaderMap, Vec<u8>), HandlerError> {
        let fallback = self.command.fallback.as_ref();
        self.answered(&self.command.request, fallback, page).await
    }

    async fn answered(
        &self,
        line: &RequestLine,
        fallback: Option<&(RequestLine, Vec<u16>)>,
        page: &[(String, String)],
    ) -> Result<(HeaderMap, Vec<u8>), HandlerError> {
        let mut response = self.send(line, page).await?;
        if let Some((fallback, on)) = fallback
            && on.contains(&response.status().as_u16())
        {
            // The service did nothing: it has this command under another path or method.
            response = self.send(fallback, page).await?;
        }
        let status = response.status();
        let headers = std::mem::take(response.headers_mut());
        let body = self
            .service
            .body(response, &headers, self.command.bounds)
            .await?;
        // A service that finds a value wrong likes to repeat it.
        let secrets = || {
            self.scrubber()
                .and(self.command.secrets(self.given.arguments))
        };
        if !status.is_success() {
            return Err(self.service.failure(status, &headers, &body, &secrets()));
        }
        if let Some(when) = &self.service.failed_when
            && let Ok(value) = serde_json::from_slice::<Value>(&body)
            && walk(&value, &when.field).and_then(Value::as_bool) == Some(when.is)
        {
            return Err(self.service.refused(status, &body, &secrets()));
        }
        Ok((headers, body))
    }

    fn prepared(
        &self,
        line: &RequestLine,
        page: &[(String, String)],
    ) -> Result<Prepared, HandlerError> {
        let base = self.ready.base(self.command);
        let given = Given { page, ..self.given };
        let mut prepared =
            self.command
                .request(base, line, given)
                .map_err(|message| HandlerError::Rejected {
                    service: self.service.name.to_string(),
                    status: 400,
                    message,
                })?;
        if let (Some(name), Some(key)) = (&self.command.idempotency_key, &self.key) {
            // An agent that has its own way of saying that two commands are one may say so.
            prepared.headers.entry(name).or_insert_with(|| key.clone());
        }
        Ok(prepared)
    }

    /// Sends it; again only when sending twice would be harmless.
    async fn send(
        &self,
        line: &RequestLine,
        page: &[(String, String)],
    ) -> Result<reqwest::Response, HandlerError> {
        let prepared = self.prepared(line, page)?;
        let service = self.service;
        let attempts = if self.command.idempotent { ATTEMPTS } else { 1 };
        let (mut attempt, mut renewed) = (1, false);
        let mut answer = None;
        loop {
            let request = self.request(&prepared).await?;
            let pause = match service.client.execute(request).await {
                Ok(response) if response.status() == StatusCode::UNAUTHORIZED && !renewed => {
                    // A refused credential did nothing: a token that was taken back is renewed.
                    renewed = true;
                    let renewable = self
                        .ready
                        .credentials
                        .iter()
                        .filter(|credential| credential.is_renewable());
                    let mut any = false;
                    for credential in renewable {
                        credential.forget().await;
                        any = true;
                    }
                    if !any {
                        return Ok(response);
                    }
                    continue;
                }
                Ok(response) if attempt < attempts => {
                    let Some(pause) = worth_another(&response, attempt) else {
                        return Ok(response);
                    };
                    answer = Some(response);
                    pause
                }
                Ok(response) => return Ok(response),
                Err(error) if error.is_connect() && attempt < attempts => {
                    Duration::from_millis(rand::random_range(50..150)) * attempt
                }
                // What it said before tells more than that it says nothing now.
                Err(error) => {
                    let bounds = self.command.bounds;
                    return answer.ok_or_else(|| {
                        service.transport(&error, &self.scrubber(), bounds.timeout)
                    });
                }
            };
            tracing::debug!(service = %service.name, attempt, "trying again");
            tokio::time::sleep(pause).await;
            attempt += 1;
        }
    }

    /// With credentials.
    async fn request(&self, prepared: &Prepared) -> Result<reqwest::Request, HandlerError> {
        let service = self.service;
        let mut builder = service
            .client
            .request(prepared.method.clone(), prepared.url.clone())
            .headers(prepared.headers.clone())
            .timeout(self.command.bounds.timeout);
        if let Some(body) = &prepared.body {
            builder = builder.body(body.clone());
        }
        let mut request = builder
            .build()
            .map_err(|_| service.failed("its request cannot be made".to_owned()))?;
        let credentials = self
            .ready
            .credentials
            .iter()
            .filter(|_| !self.command.without_credential);
        for credential in credentials {
            let added = credential
                .add_to(
                    &service.client,
                    &self.ready.base,
                    service.timeout,
                    &mut request,
                )
                .await;
            match added {
                Ok(None) => {}
                Ok(Some(token)) => self.learn(&token),
                Err(TokenError::Transport(error)) => {
                    return Err(service.transport(&error, &self.scrubber(), service.timeout));
                }
                Err(TokenError::Refused(reason)) => {
                    return Err(HandlerError::Credential {
                        service: service.name.to_string(),
                        reason,
                    });
                }
            }
        }
        Ok(request)
    }

    fn learn(&self, token: &secrecy::SecretString) {
        use secrecy::ExposeSecret as _;
        let mut learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        let mut scrubber = self.ready.scrubber.clone();
        scrubber.add(token.expose_secret());
        *learned = Some(scrubber);
    }
}

/// How long to wait before it is sent again, if that may help soon.
pub(crate) fn worth_another(response: &reqwest::Response, attempt: u32) -> Option<Duration> {
    let asked = retry_after(response.headers());
    match response.status() {
        StatusCode::TOO_MANY_REQUESTS => asked.filter(|pause| *pause <= LONGEST_PAUSE),
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
            match asked {
                Some(pause) => Some(pause).filter(|pause| *pause <= LONGEST_PAUSE),
                None => Some(Duration::from_millis(rand::random_range(100..300)) * attempt),
            }
        }
        _ => None,
    }
}

impl HttpService {
    /// The whole body, if it is not too long.
    async fn body(
        &self,
        mut response: reqwest::Response,
        headers: &HeaderMap,
        bounds: Bounds,
    ) -> Result<Vec<u8>, HandlerError> {
        let limit = bounds.answer_bytes;
        let too_long = || {
            self.failed(format!(
                "its answer is longer than {limit} bytes; ask for less"
            ))
        };
        let announced = response
            .content_length()
            .map(|length| usize::try_from(length).unwrap_or(usize::MAX));
        if announced.is_some_and(|length| length > limit) {
            return Err(too_long());
        }
        // Nothing that could be a bomb is unpacked: we never say that we could.
        if headers.contains_key(header::CONTENT_ENCODING) {
            return Err(self.failed("its answer is compressed, unasked".to_owned()));
        }
        // What is announced need not come: a little is made room for.
        let mut body = Vec::with_capacity(announced.unwrap_or(0).min(FIRST_BYTES));
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() > limit => return Err(too_long()),
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => return Ok(body),
                Err(error) if error.is_timeout() => return Err(self.timed_out(bounds.timeout)),
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
