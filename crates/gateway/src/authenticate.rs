//! Who sends a command: a credential, or the address that the connection came from.
//!
//! | the request has | and | acts as |
//! |---|---|---|
//! | an agent's credential (`Authorization: Bearer` or `X-MCP-Key`) | no `X-Agent-Id`, or the same agent's | that agent |
//! | an access token, at a door of MCP in OAuth mode | no `X-Agent-Id`, or the same agent's | the agent that a claim names |
//! | the gateway token | `X-Agent-Id` | the agent named |
//! | no credential | `--trust-agent-header` and `X-Agent-Id` | the agent named |
//! | no credential | a loopback peer and no gateway token set | the agent named, or `local` |
//! | anything else | | nobody: 401 |
//!
//! A credential that is not valid never falls through to a later row. In OAuth mode the
//! doors of MCP know no rows without a credential: clients would never learn to ask for one. The peer is that of
//! the TCP connection; headers that claim another one are not read.

use std::{
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use authz::{AgentId, AgentRef, Clock, Risk, Timestamp};
use bytes::Bytes;
use contract::facts::CredentialQuery;
use http::{HeaderMap, HeaderName, Request, Response, header};
use http_body_util::BodyExt;
use moka::future::Cache;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tower::{Layer, Service};

use crate::{
    answer::Body,
    facts::{FactsCache, FactsError, Generation, Held, Monotonic},
    oauth::{self, OAuth, Resource, Token},
    refusal::Refusal,
    sessions::{SessionName, X_SESSION_ID},
};

/// So many credentials are kept in memory.
const MAX_CREDENTIALS: u64 = 100_000;

/// A body that ends so soon after the headers came with them: asking again would only cost.
const PROMPT: Duration = Duration::from_millis(100);

/// Of a request that is refused, the body is read on up to so much and for so long: else the
/// connection ends with the answer, and who comes again on it with a token is cut off.
const REST_BYTES: usize = 64 * 1024;
const REST_TIME: Duration = Duration::from_secs(1);

pub(crate) const X_AGENT_ID: HeaderName = HeaderName::from_static("x-agent-id");
pub(crate) const X_MCP_KEY: HeaderName = HeaderName::from_static("x-mcp-key");

/// The address that a connection came from. The server puts it into each request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) SocketAddr);

impl Peer {
    /// The address, `::ffff:127.0.0.1` being `127.0.0.1`.
    pub(crate) fn ip(self) -> IpAddr {
        self.0.ip().to_canonical()
    }
}

/// A request whose sender is known. What takes one cannot be reached without.
#[derive(Debug)]
pub(crate) struct AgentRequest<B> {
    pub(crate) caller: Caller,
    pub(crate) http: Request<B>,
}

/// Who sends, from where, since when.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// The agent, with what is known of it.
    pub(crate) held: Held,
    pub(crate) identity: Identity,
    /// The door of MCP at which it came in, if it did.
    pub(crate) door: Option<Resource>,
    pub(crate) ip: IpAddr,
    /// What it calls the session that this belongs to, if it says.
    pub(crate) session: Option<SessionName>,
    /// When the request arrived, by the clock by which facts age.
    pub(crate) arrived: Duration,
}

/// By what an agent is known to be who it is.
#[derive(Clone, Debug)]
pub(crate) enum Identity {
    /// Its own credential.
    Credential,
    /// The word of whoever holds the gateway token.
    Gateway,
    /// Its own word, or none, from an address that is believed.
    Address,
    /// An access token.
    Token(Arc<Token>),
}

impl Identity {
    /// For the journal.
    pub(crate) fn record(&self) -> Value {
        match self {
            Self::Credential => json!({"by": "credential"}),
            Self::Gateway => json!({"by": "gateway_token"}),
            Self::Address => json!({"by": "address"}),
            Self::Token(token) => token.record(),
        }
    }

    /// Whether what it came with is good for a command of this risk, whatever policy says.
    ///
    /// # Errors
    ///
    /// [`Refusal::Scope`].
    pub(crate) fn suffices(&self, risk: Risk) -> Result<(), Refusal> {
        match self {
            Self::Credential | Self::Gateway | Self::Address => Ok(()),
            Self::Token(token) => token.suffices(risk),
        }
    }
}

/// What the headers say, before anything is looked up.
#[derive(Debug)]
struct Claim {
    agent: Option<AgentRef>,
    credential: Option<SecretString>,
    /// From a web page, if a browser says so.
    origin: Option<String>,
    /// What the caller calls this gateway.
    host: Option<String>,
}

/// A credential as the orchestrator knew it.
#[derive(Clone, Debug)]
struct Known {
    agent: AgentId,
    expires: Option<Timestamp>,
    asked: Duration,
    seen: Generation,
}

/// Knows who sends a request.
#[derive(Debug)]
pub(crate) struct Authenticator {
    pub(crate) orchestrator: contract::Client,
    pub(crate) facts: Arc<FactsCache>,
    pub(crate) clock: Clock,
    pub(crate) max_staleness: Duration,
    /// Absent: clients of MCP do not get in by OAuth.
    pub(crate) oauth: Option<OAuth>,
    /// SHA-256 of the gateway token: digests have one length, so comparing them tells nothing.
    gateway_token: Option<[u8; 32]>,
    trust_agent_header: bool,
    credentials: Cache<[u8; 32], Known>,
}

fn digest(secret: &SecretString) -> [u8; 32] {
    Sha256::digest(secret.expose_secret().as_bytes()).into()
}

impl Authenticator {
    pub(crate) fn new(
        orchestrator: contract::Client,
        facts: Arc<FactsCache>,
        clock: Clock,
        config: &crate::Config,
    ) -> Result<Self, issuer::Invalid> {
        Ok(Self {
            orchestrator,
            facts,
            clock,
            max_staleness: config.max_staleness,
            oauth: config.mcp.oauth.clone().map(OAuth::new).transpose()?,
            gateway_token: config.gateway_token.as_ref().map(digest),
            trust_agent_header: config.trust_agent_header,
            credentials: Cache::new(MAX_CREDENTIALS),
        })
    }

    /// Who sends a request with these headers from this peer, and to which door of MCP, if
    /// to one.
    ///
    /// # Errors
    ///
    /// When nobody is known to, or the orchestrator cannot say.
    pub(crate) async fn caller(
        &self,
        headers: &HeaderMap,
        peer: Peer,
        door: Option<Resource>,
    ) -> Result<Caller, Refusal> {
        let arrived = self.monotonic().now();
        let claim = Claim::read(headers)?;
        let session = single(headers, &X_SESSION_ID)?
            .map(|text| SessionName::new(&text))
            .transpose()
            .map_err(|problem| Refusal::Header(format!("header `{X_SESSION_ID}`: {problem}")))?;
        let oauth = self.oauth.as_ref().zip(door.as_ref());
        let (held, identity) = match &claim.credential {
            Some(credential) => {
                let claimed = claim.agent.as_ref();
                self.by_credential(credential, claimed, oauth).await?
            }
            None if oauth.is_some() => {
                return Err(unauthenticated(
                    "authentication required: send an access token, or an agent's credential, as `Authorization: Bearer`",
                ));
            }
            None => (self.by_address(&claim, peer).await?, Identity::Address),
        };
        Ok(Caller {
            held,
            identity,
            door,
            ip: peer.ip(),
            session,
            arrived,
        })
    }

    /// The caller as of now, when the whole of a request has come.
    ///
    /// A body may take as long as the deadline allows. Whoever begins a request, loses a
    /// right and then ends the request must not be served as they were.
    ///
    /// # Errors
    ///
    /// As [`Authenticator::caller`].
    pub(crate) async fn still(
        &self,
        caller: Caller,
        headers: &HeaderMap,
        peer: Peer,
    ) -> Result<Caller, Refusal> {
        let prompt = self.monotonic().now().saturating_sub(caller.arrived) <= PROMPT;
        if prompt && self.facts.unchanged(&caller.held) {
            return Ok(caller);
        }
        self.again(&caller, headers, peer).await
    }

    /// The caller by what is known now.
    ///
    /// # Errors
    ///
    /// As [`Authenticator::caller`].
    pub(crate) async fn again(
        &self,
        caller: &Caller,
        headers: &HeaderMap,
        peer: Peer,
    ) -> Result<Caller, Refusal> {
        self.caller(headers, peer, caller.door.clone()).await
    }

    fn monotonic(&self) -> &Monotonic {
        self.facts.clock()
    }

    async fn by_credential(
        &self,
        credential: &SecretString,
        claimed: Option<&AgentRef>,
        oauth: Option<(&OAuth, &Resource)>,
    ) -> Result<(Held, Identity), Refusal> {
        let digest = digest(credential);
        if let Some(gateway_token) = &self.gateway_token
            && bool::from(gateway_token.ct_eq(&digest))
        {
            let agent = claimed.ok_or_else(|| {
                unauthenticated("the gateway token speaks for agents: name one in `X-Agent-Id`")
            })?;
            return Ok((self.named(agent).await?, Identity::Gateway));
        }
        if let Some((oauth, door)) = oauth
            && oauth::is_token(credential.expose_secret())
        {
            let token = oauth
                .token(credential.expose_secret(), door, self.clock.now())
                .await?;
            let held = match self.facts.get(&token.agent).await {
                // `local` is whoever comes without anything, and nobody who comes with it.
                Ok(held) if held.principal.agent().id != AgentId::LOCAL => held,
                Ok(_) | Err(FactsError::Unknown) => return Err(token.names_nobody()),
                Err(FactsError::Orchestrator(error)) => return Err(Refusal::Orchestrator(error)),
            };
            let held = agreed(held, claimed)?;
            return Ok((held, Identity::Token(Arc::new(token))));
        }
        if !is_agent_credential(credential.expose_secret()) {
            return Err(unauthenticated("no agent holds this credential"));
        }
        let known = self.known(digest).await?;
        if known
            .expires
            .is_some_and(|expires| expires <= self.clock.now())
        {
            return Err(unauthenticated("the credential has expired"));
        }
        let held = self.named(&AgentRef::Id(known.agent)).await?;
        Ok((agreed(held, claimed)?, Identity::Credential))
    }

    async fn known(&self, digest: [u8; 32]) -> Result<Known, Refusal> {
        let generations = self.facts.generations();
        let asked = self.monotonic().now();
        if let Some(known) = self.credentials.get(&digest).await
            && !self.max_staleness.is_zero()
            && asked.saturating_sub(known.asked) <= self.max_staleness
            && known.seen == generations.of(known.agent)
        {
            return Ok(known);
        }
        let total = generations.total();
        let query = CredentialQuery {
            digest: hex::encode(digest),
        };
        let answer = self.orchestrator.credential(&query).await;
        let credential = answer.map_err(|error| {
            if contract::client::is_not_found(&error) {
                return unauthenticated("no agent holds this credential");
            }
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "a credential cannot be checked"
            );
            Refusal::Orchestrator(Arc::new(error))
        })?;
        let known = Known {
            agent: credential.agent,
            expires: credential.expires,
            asked,
            seen: generations.of(credential.agent),
        };
        if generations.total() == total {
            self.credentials.insert(digest, known.clone()).await;
        }
        Ok(known)
    }

    async fn by_address(&self, claim: &Claim, peer: Peer) -> Result<Held, Refusal> {
        let loopback = peer.ip().is_loopback();
        if self.trust_agent_header
            && let Some(agent) = &claim.agent
        {
            return self.named(agent).await;
        }
        if self.gateway_token.is_some() || !loopback {
            return Err(unauthenticated(
                "authentication required: send an agent's credential as `Authorization: Bearer` or `X-MCP-Key`",
            ));
        }
        // A page in a browser on this machine has a loopback address too.
        if claim
            .origin
            .as_deref()
            .is_some_and(|origin| !is_loopback_origin(origin))
        {
            return Err(unauthenticated("a web page needs an agent's credential"));
        }
        // And a page may have its own name point here, so as to seem to be our own: then
        // its browser sends no `Origin` with what it reads.
        if claim
            .host
            .as_deref()
            .is_some_and(|host| !is_local_name(host))
        {
            return Err(unauthenticated(
                "without a credential this gateway answers to `127.0.0.1` and `localhost` only",
            ));
        }
        let agent = claim.agent.clone().unwrap_or(AgentRef::Id(AgentId::LOCAL));
        self.named(&agent).await
    }

    async fn named(&self, agent: &AgentRef) -> Result<Held, Refusal> {
        self.facts.get(agent).await.map_err(|error| match error {
            FactsError::Unknown => unauthenticated(format!("agent `{agent}` is not registered")),
            FactsError::Orchestrator(error) => Refusal::Orchestrator(error),
        })
    }
}

/// That an agent is the one that it claims to be, if it claims to be one.
fn agreed(held: Held, claimed: Option<&AgentRef>) -> Result<Held, Refusal> {
    let agent = held.principal.agent();
    match claimed {
        Some(AgentRef::Id(id)) if *id != agent.id => Err(Refusal::AnotherAgent),
        Some(AgentRef::Name(name)) if *name != agent.name => Err(Refusal::AnotherAgent),
        _ => Ok(held),
    }
}

fn unauthenticated(reason: impl Into<String>) -> Refusal {
    Refusal::Unauthenticated(reason.into())
}

/// Whether a text has the form of an agent's credential: no other is asked about.
fn is_agent_credential(text: &str) -> bool {
    text.strip_prefix("cgt_").is_some_and(|secret| {
        secret.len() == 64 && secret.bytes().all(|byte| byte.is_ascii_hexdigit())
            || secret.len() == 43
                && secret
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    })
}

pub(crate) fn is_loopback_origin(origin: &str) -> bool {
    origin.parse::<http::Uri>().is_ok_and(|uri| {
        uri.host().is_some_and(|host| {
            let host = host.trim_start_matches('[').trim_end_matches(']');
            host == "localhost"
                || host
                    .parse::<IpAddr>()
                    .is_ok_and(|ip| ip.to_canonical().is_loopback())
        })
    })
}

/// Whether a `Host` is this machine's, or a name without dots, which nobody can register
/// for the whole world and then point here.
pub(crate) fn is_local_name(host: &str) -> bool {
    host.parse::<http::uri::Authority>().is_ok_and(|authority| {
        let host = authority.host().to_ascii_lowercase();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(ip) = bare.parse::<IpAddr>() {
            return ip.to_canonical().is_loopback();
        }
        let name = host.trim_end_matches('.');
        !name.contains(['.', ':', '[']) || name.ends_with(".localhost")
    })
}

/// A header's one value as text; absent is not the same as empty.
fn single(headers: &HeaderMap, name: &HeaderName) -> Result<Option<String>, Refusal> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(Refusal::Header(format!(
            "header `{name}` is given more than once"
        )));
    }
    match value.to_str() {
        Ok("") => Err(Refusal::Header(format!(
            "header `{name}` is empty; leave it out instead"
        ))),
        Ok(text) => Ok(Some(text.to_owned())),
        Err(_) => Err(Refusal::Header(format!(
            "header `{name}` holds characters that are not visible ASCII"
        ))),
    }
}

impl Claim {
    fn read(headers: &HeaderMap) -> Result<Self, Refusal> {
        let agent = single(headers, &X_AGENT_ID)?
            .map(|text| text.parse::<AgentRef>())
            .transpose()
            .map_err(|error| {
                Refusal::Header(format!(
                    "header `x-agent-id` must be an agent's UUID or name: {error}"
                ))
            })?;
        let bearer = single(headers, &header::AUTHORIZATION)?
            .map(|text| match text.split_once(' ') {
                Some((scheme, token))
                    if scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty() =>
                {
                    Ok(token.trim().to_owned())
                }
                _ => Err(unauthenticated(
                    "header `authorization` must be `Bearer <credential>`",
                )),
            })
            .transpose()?;
        let key = single(headers, &X_MCP_KEY)?;
        let credential = match (bearer, key) {
            (Some(bearer), Some(key)) if bearer != key => {
                return Err(Refusal::Header(
                    "`authorization` and `x-mcp-key` hold different credentials".to_owned(),
                ));
            }
            (bearer, key) => bearer.or(key).map(SecretString::from),
        };
        let origin = headers
            .get(header::ORIGIN)
            .map(|origin| String::from_utf8_lossy(origin.as_bytes()).into_owned());
        let host = headers
            .get(header::HOST)
            .map(|host| String::from_utf8_lossy(host.as_bytes()).into_owned());
        Ok(Self {
            agent,
            credential,
            origin,
            host,
        })
    }
}

/// Turns a request into one whose sender is known.
#[derive(Clone, Debug)]
pub(crate) struct Authenticate {
    pub(crate) authenticator: Arc<Authenticator>,
}

impl<S> Layer<S> for Authenticate {
    type Service = Authenticated<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Authenticated {
            authenticator: Arc::clone(&self.authenticator),
            inner,
        }
    }
}

/// See [`Authenticate`].
#[derive(Clone, Debug)]
pub(crate) struct Authenticated<S> {
    authenticator: Arc<Authenticator>,
    inner: S,
}

impl<S, B> Service<Request<B>> for Authenticated<S>
where
    S: Service<AgentRequest<B>, Response = Response<Body>, Error = Refusal>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
{
    type Response = Response<Body>;
    type Error = Refusal;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Refusal>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, http: Request<B>) -> Self::Future {
        // The service that was polled ready is the one to call; its clone is not.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let authenticator = Arc::clone(&self.authenticator);
        Box::pin(async move {
            // Without a peer there is no telling: the server always gives one.
            let peer = *http.extensions().get::<Peer>().ok_or(Refusal::Internal)?;
            let door = Resource::of(http.uri().path());
            match authenticator.caller(http.headers(), peer, door).await {
                Ok(caller) => inner.call(AgentRequest { caller, http }).await,
                Err(refusal) => {
                    // Who expects a `100 Continue` has not begun to send.
                    if !http.headers().contains_key(header::EXPECT) {
                        let _ = tokio::time::timeout(REST_TIME, rest(http.into_body())).await;
                    }
                    Err(refusal)
                }
            }
        })
    }
}

/// Reads the rest of a body, and throws it away.
async fn rest<B: http_body::Body<Data = Bytes> + Unpin>(mut body: B) {
    let mut left = REST_BYTES;
    while let Some(Ok(frame)) = body.frame().await {
        let bytes = frame.data_ref().map_or(0, Bytes::len);
        match left.checked_sub(bytes) {
            Some(less) => left = less,
            None => return,
        }
    }
}

#[cfg(test)]
mod tests;
