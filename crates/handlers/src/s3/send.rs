//! Sending: one signed request, its answer bounded, sent again where that is harmless.

use std::time::Duration;

use authz::Timestamp;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use reqwest::Url;

use super::{
    S3Service,
    settings::Ready,
    sign::{self, Signed},
};
use crate::{
    HandlerError,
    http::send::{ATTEMPTS, worth_another},
};

/// One request.
#[derive(Clone, Debug)]
pub(super) struct Call<'a> {
    method: Method,
    bucket: Option<&'a str>,
    /// As the server calls it; empty for the bucket itself.
    key: &'a str,
    query: Vec<(&'a str, &'a str)>,
    headers: HeaderMap,
    body: Bytes,
    /// Sending twice is sending once.
    again: bool,
    /// If the service's own is not enough.
    timeout: Option<Duration>,
    /// The body of an answer beyond so many bytes is an error, or cut.
    limit: Limit,
}

#[derive(Clone, Copy, Debug)]
enum Limit {
    Whole(usize),
    Cut(usize),
}

/// What a server answered.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
    /// How often it was sent.
    pub(super) attempts: u32,
}

impl<'a> Call<'a> {
    pub(super) fn new(method: Method, bucket: Option<&'a str>, key: &'a str) -> Self {
        let again = method != Method::POST;
        Self {
            method,
            bucket,
            key,
            query: Vec::new(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            again,
            timeout: None,
            limit: Limit::Whole(usize::MAX),
        }
    }

    pub(super) fn query(mut self, name: &'a str, value: &'a str) -> Self {
        self.query.push((name, value));
        self
    }

    pub(super) fn header(mut self, name: http::HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    pub(super) fn headers(mut self, headers: HeaderMap) -> Self {
        self.headers.extend(headers);
        self
    }

    pub(super) fn body(mut self, body: Bytes) -> Self {
        self.body = body;
        self
    }

    /// Sending it twice does no harm, although it is no `PUT`.
    pub(super) fn again(mut self) -> Self {
        self.again = true;
        self
    }

    /// Its answer may take at least so long.
    pub(super) fn patiently(mut self, least: Duration) -> Self {
        self.timeout = Some(least);
        self
    }

    /// No more than so many bytes of the answer are read.
    pub(super) fn cut_at(mut self, bytes: usize) -> Self {
        self.limit = Limit::Cut(bytes);
        self
    }
}

impl S3Service {
    /// A good answer.
    pub(super) async fn send(
        &self,
        ready: &Ready,
        call: Call<'_>,
    ) -> Result<Answered, HandlerError> {
        let (answered, now) = self.exchange(ready, call).await?;
        if answered.status.is_success() {
            return Ok(answered);
        }
        let Answered {
            status,
            headers,
            body,
            ..
        } = &answered;
        Err(self.failure(*status, headers, body, ready, now))
    }

    /// An answer, whatever it is, and when it was asked for.
    pub(super) async fn exchange(
        &self,
        ready: &Ready,
        call: Call<'_>,
    ) -> Result<(Answered, Timestamp), HandlerError> {
        let attempts = if call.again { ATTEMPTS } else { 1 };
        let body_sha256 = sign::sha256(&call.body);
        let mut attempt = 1;
        loop {
            let now = self.now()?;
            let request = self.request(ready, &call, &body_sha256, now)?;
            let pass = self
                .gate
                .enter(self.timeout)
                .await
                .map_err(|closed| closed.told(&self.name, "it"))?;
            let outcome = self
                .once(ready, request, call.limit, (attempt, attempts))
                .await;
            let trouble = match &outcome {
                Outcome::Answered(Ok(answered)) => {
                    answered.status.is_server_error().then_some("failed")
                }
                Outcome::Answered(Err(error)) => error.trouble(),
                Outcome::Again(_) => Some("failed"),
            };
            pass.ended(trouble.map_or(Ok(()), Err));
            match outcome {
                Outcome::Answered(Ok(mut answered)) => {
                    answered.attempts = attempt;
                    return Ok((answered, now));
                }
                Outcome::Answered(Err(error)) => return Err(error),
                Outcome::Again(pause) => {
                    tracing::debug!(service = %self.name, attempt, "trying again");
                    tokio::time::sleep(pause).await;
                    attempt += 1;
                }
            }
        }
    }

    async fn once(
        &self,
        ready: &Ready,
        request: reqwest::Request,
        limit: Limit,
        (attempt, attempts): (u32, u32),
    ) -> Outcome {
        let may_repeat = attempt < attempts;
        let soon = || Duration::from_millis(rand::random_range(50..150)) * attempt;
        let response = match self.client.execute(request).await {
            Ok(response) => response,
            Err(error) if may_repeat && !error.is_timeout() => return Outcome::Again(soon()),
            Err(error) => return Outcome::Answered(Err(self.transport(&error, ready))),
        };
        if may_repeat {
            let internal = response.status() == StatusCode::INTERNAL_SERVER_ERROR;
            let pause = worth_another(&response, attempt).or_else(|| internal.then(soon));
            if let Some(pause) = pause {
                return Outcome::Again(pause);
            }
        }
        match self.answered(response, limit).await {
            Err(HandlerError::Broken { .. }) if may_repeat => Outcome::Again(soon()),
            answered => Outcome::Answered(answered),
        }
    }

    async fn answered(
        &self,
        mut response: reqwest::Response,
        limit: Limit,
    ) -> Result<Answered, HandlerError> {
        let (status, headers) = (response.status(), response.headers().clone());
        // What an error says is never longer than that.
        let (most, cut) = match limit {
            Limit::Cut(most) if status.is_success() => (most, true),
            Limit::Whole(most) => (most.min(self.max_answer_bytes), false),
            Limit::Cut(_) => (self.max_answer_bytes, false),
        };
        let mut body = Vec::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) => {
                    let room = most.saturating_sub(body.len());
                    body.extend_from_slice(chunk.get(..room).unwrap_or(&chunk));
                    if chunk.len() > room {
                        if cut {
                            break;
                        }
                        return Err(self.failed(format!(
                            "its answer is longer than {most} bytes; ask for less"
                        )));
                    }
                }
                Ok(None) => break,
                Err(error) if error.is_timeout() => return Err(self.timed_out()),
                Err(_) => return Err(self.broken("its answer ended early")),
            }
        }
        Ok(Answered {
            status,
            headers,
            body,
            attempts: 1,
        })
    }

    fn request(
        &self,
        ready: &Ready,
        call: &Call<'_>,
        body_sha256: &str,
        now: Timestamp,
    ) -> Result<reqwest::Request, HandlerError> {
        let not_made = || self.failed("its request cannot be made");
        let (host, before) = ready.origin.of(ready.style, call.bucket);
        let path = format!("{before}/{}", sign::path(call.key));
        let query = sign::query(call.query.iter().copied());
        let mut headers = call.headers.clone();
        let signed = Signed {
            method: &call.method,
            host: &host,
            path: &path,
            query: &call.query,
            at: now,
        };
        ready
            .key
            .sign(signed, body_sha256, &mut headers)
            .map_err(|_| not_made())?;
        headers.insert(
            header::ACCEPT_ENCODING,
            HeaderValue::from_static("identity"),
        );
        let mut url = Url::parse(&ready.origin.url(&host, &path)).map_err(|_| not_made())?;
        // What is sent must be what was signed, and go where it should.
        if url.path() != path {
            return Err(not_made());
        }
        url.set_query(
            Some(&query)
                .filter(|query| !query.is_empty())
                .map(String::as_str),
        );
        self.client
            .request(call.method.clone(), url)
            .headers(headers)
            .timeout(
                call.timeout
                    .map_or(self.timeout, |least| least.max(self.timeout)),
            )
            .body(call.body.clone())
            .build()
            .map_err(|_| not_made())
    }
}

enum Outcome {
    Answered(Result<Answered, HandlerError>),
    /// After so long.
    Again(Duration),
}
