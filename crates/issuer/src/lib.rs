//! Whose signed tokens are believed: an issuer's description of itself, its keys, and what
//! a token of its says.
//!
//! The orchestrator believes id tokens of the provider at which people log in; the gateway,
//! access tokens of an authorization server. Both ask the issuer the same two questions
//! (what are you, and what are your keys), as seldom as is safe, and hold a token against
//! the answer in the same way. Whom a token is *for*, and whom it makes of its bearer, each
//! plane decides by itself.
//!
//! An issuer is asked over TLS (or on this machine), never follows us elsewhere, answers
//! within five seconds and a megabyte, or is out of reach. What a token says of itself never
//! chooses how it is checked: the operator names the ways to sign, and no shared secret and
//! no `none` is among them.

mod token;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use authz::Timestamp;
use jsonwebtoken::{Algorithm, jwk::JwkSet};
use reqwest::{Client, Url};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

pub use self::token::{Claims, Refused, SKEW, Signed};

/// An answer of an issuer's is at most so long.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;

/// An issuer that is slower than this is out of reach.
const PATIENCE: Duration = Duration::from_secs(5);

/// Description and keys are read again after so long.
pub const KNOWN_FOR: Duration = Duration::from_hours(1);

/// Whatever for, an issuer is not asked again sooner than this.
const EVERY: Duration = Duration::from_secs(10);

/// After a failure people are told for so long.
const FAILED_FOR: Duration = Duration::from_secs(15);

/// Where an issuer describes itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discovery {
    /// `OpenID` Connect Discovery 1.0.
    OpenId,
    /// RFC 8414; where there is nothing, `OpenID` Connect Discovery.
    OAuth,
}

/// Why an issuer cannot be set up so.
#[derive(Debug, thiserror::Error)]
pub enum Invalid {
    /// Not an issuer.
    #[error("`{0}` is not an issuer: `https://…`, or `http://` on this machine, without query")]
    Issuer(String),
    /// Not an algorithm, or one that proves nothing.
    #[error("`{0}` is not a way to sign that an issuer's keys allow, such as RS256 or ES256")]
    Algorithm(String),
    /// No HTTP client.
    #[error("the HTTP client cannot be set up")]
    Client(#[source] reqwest::Error),
}

/// Why an issuer cannot be asked at the moment.
#[derive(Debug, thiserror::Error)]
pub enum Unavailable {
    /// It cannot be reached.
    #[error("it cannot be reached")]
    Http(#[source] reqwest::Error),
    /// It answered something else than success.
    #[error("it answered {0}")]
    Status(u16),
    /// It does not end.
    #[error("it answered more than {MAX_ANSWER_BYTES} bytes")]
    TooLarge,
    /// It answered nonsense.
    #[error("its {0} is not as it must be: {1}")]
    Malformed(&'static str, String),
    /// It was out of reach a moment ago, and is not asked again so soon.
    #[error("it could not be reached a moment ago")]
    Lately,
}

/// Why a token is not believed.
#[derive(Debug)]
pub enum Failure {
    /// It is none of the issuer's, or says what it must not.
    Refused(Refused),
    /// That cannot be known now.
    Unavailable(Unavailable),
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl From<Unavailable> for Failure {
    fn from(unavailable: Unavailable) -> Self {
        Self::Unavailable(unavailable)
    }
}

/// What is known of an issuer.
#[derive(Debug)]
pub struct Known {
    description: Value,
    keys: JwkSet,
    at: Timestamp,
}

impl Known {
    /// What it says of itself, as far as that is of interest.
    ///
    /// # Errors
    ///
    /// When something is missing or of another kind.
    pub fn description<T: DeserializeOwned>(&self) -> Result<T, Unavailable> {
        T::deserialize(&self.description)
            .map_err(|error| Unavailable::Malformed("discovery document", error.to_string()))
    }
}

/// What is needed of every description.
#[derive(Deserialize)]
struct Described {
    issuer: String,
    jwks_uri: String,
}

#[derive(Debug, Default)]
struct Memory {
    known: Option<Arc<Known>>,
    /// When it was asked last, whatever came of it.
    tried: Option<Timestamp>,
    /// When it was asked last, if nothing came of it.
    failed: Option<Timestamp>,
}

/// An issuer of tokens.
#[derive(Debug)]
pub struct Issuer {
    name: String,
    algorithms: Vec<Algorithm>,
    discovery: Discovery,
    /// What is known is believed for so long while the issuer is out of reach.
    stale: Duration,
    /// The issuer is on this machine, without TLS: then so may its keys be.
    here: bool,
    http: Client,
    memory: Mutex<Memory>,
    /// Held while it is asked, so that many tokens are one question.
    asking: tokio::sync::Mutex<()>,
}

impl Issuer {
    /// An issuer by its exact name, which may sign in these ways. What is known of it is
    /// believed for [`KNOWN_FOR`]; and for `stale`, if longer, while it cannot be asked.
    ///
    /// # Errors
    ///
    /// See [`Invalid`].
    pub fn new(
        name: &str,
        algorithms: &[String],
        discovery: Discovery,
        stale: Duration,
    ) -> Result<Arc<Self>, Invalid> {
        Self::waiting(name, algorithms, discovery, stale, PATIENCE)
    }

    fn waiting(
        name: &str,
        algorithms: &[String],
        discovery: Discovery,
        stale: Duration,
        patience: Duration,
    ) -> Result<Arc<Self>, Invalid> {
        let algorithms = check(name, algorithms)?;
        let http = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(patience)
            .build()
            .map_err(Invalid::Client)?;
        Ok(Arc::new(Self {
            name: name.to_owned(),
            algorithms,
            discovery,
            stale: stale.max(KNOWN_FOR),
            here: name.starts_with("http:"),
            http,
            memory: Mutex::default(),
            asking: tokio::sync::Mutex::new(()),
        }))
    }

    /// What it calls itself.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is asked with: follows nobody elsewhere, and waits for nobody long.
    #[must_use]
    pub fn http(&self) -> &Client {
        &self.http
    }

    /// A URL of its that a secret may go to: by TLS; or to this machine, where the issuer
    /// itself is on it.
    ///
    /// # Errors
    ///
    /// When it is none; `what` says what for.
    pub fn endpoint(&self, url: &str, what: &'static str) -> Result<Url, Unavailable> {
        secure(url)
            .filter(|url| self.here || url.scheme() == "https")
            .ok_or_else(|| Unavailable::Malformed(what, "it is no `https:` URL".to_owned()))
    }

    /// Whether it was out of reach a moment ago.
    #[must_use]
    pub fn is_down(&self, now: Timestamp) -> bool {
        self.memory()
            .failed
            .is_some_and(|failed| now.since(failed) < FAILED_FOR)
    }

    /// What a token says that this issuer signed. Its times, and whom it is for, are not
    /// looked at yet.
    ///
    /// # Errors
    ///
    /// Why it is not believed, or why that cannot be known now.
    pub async fn signed(
        self: &Arc<Self>,
        token: &str,
        now: Timestamp,
    ) -> Result<(Signed, Claims), Failure> {
        let signed = Signed::read(token, &self.algorithms)?;
        // Nobody is asked about a token that does not even say that it is the issuer's.
        signed.unproven().issued_by(&self.name)?;
        let known = self.known(now).await?;
        let claims = if let Some(key) = signed.key(&known.keys) {
            key.claims(token)?
        } else {
            // Perhaps its key was made after we looked last.
            let known = self.answered(now, Some(known)).await?;
            let key = signed.key(&known.keys);
            key.ok_or(Refused("no key of the issuer signed this"))?
                .claims(token)?
        };
        claims.issued_by(&self.name)?;
        Ok((signed, claims))
    }

    /// What is known of it: from memory, if that is recent enough.
    ///
    /// # Errors
    ///
    /// When nothing is known that may be believed, and it cannot be asked.
    pub async fn known(self: &Arc<Self>, now: Timestamp) -> Result<Arc<Known>, Unavailable> {
        let (known, rested) = {
            let memory = self.memory();
            let rested = memory.tried.is_none_or(|tried| now.since(tried) >= EVERY);
            (memory.known.clone(), rested)
        };
        match known {
            Some(known) if now.since(known.at) < KNOWN_FOR => Ok(known),
            // Good enough until there is better: nobody waits for it.
            Some(known) if now.since(known.at) < self.stale => {
                if rested {
                    self.ask_beside(now, &known);
                }
                Ok(known)
            }
            Some(_) | None => self.answered(now, None).await,
        }
    }

    /// Asks what is newer, while nobody waits for it.
    fn ask_beside(self: &Arc<Self>, now: Timestamp, known: &Arc<Known>) {
        let asking = self.ask(now, Some(Arc::clone(known)));
        let issuer = self.name.clone();
        tokio::spawn(async move {
            if let Ok(Err(error)) = asking.await {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(
                    issuer,
                    error,
                    "an issuer of tokens is out of reach; what is known of it is still believed for a while"
                );
            }
        });
    }

    /// What is newer than `seen`, or what is known if it was asked a moment ago.
    async fn answered(
        self: &Arc<Self>,
        now: Timestamp,
        seen: Option<Arc<Known>>,
    ) -> Result<Arc<Known>, Unavailable> {
        let answered = self.ask(now, seen).await;
        answered.unwrap_or_else(|error| {
            tracing::error!(%error, "an issuer of tokens could not be asked");
            Err(Unavailable::Lately)
        })
    }

    /// Asks what is newer than `seen`; in a task of its own, so that whoever leaves does not
    /// make the next one begin anew.
    fn ask(
        self: &Arc<Self>,
        now: Timestamp,
        seen: Option<Arc<Known>>,
    ) -> tokio::task::JoinHandle<Result<Arc<Known>, Unavailable>> {
        let issuer = Arc::clone(self);
        tokio::spawn(async move {
            let _asking = issuer.asking.lock().await;
            if let Some(answered) = issuer.answered_meanwhile(now, seen.as_ref()) {
                return answered;
            }
            issuer.memory().tried = Some(now);
            let read = issuer.read(now).await;
            let mut memory = issuer.memory();
            match read {
                Ok(known) => {
                    let known = Arc::new(known);
                    memory.failed = None;
                    memory.known = Some(Arc::clone(&known));
                    Ok(known)
                }
                Err(error) => {
                    memory.failed = Some(now);
                    Err(error)
                }
            }
        })
    }

    /// What another token's question came to, if that answers this one.
    fn answered_meanwhile(
        &self,
        now: Timestamp,
        seen: Option<&Arc<Known>>,
    ) -> Option<Result<Arc<Known>, Unavailable>> {
        let memory = self.memory();
        let known = memory
            .known
            .clone()
            .filter(|known| now.since(known.at) < self.stale);
        let newer = known.clone().filter(|known| {
            now.since(known.at) < KNOWN_FOR && seen.is_none_or(|seen| !Arc::ptr_eq(known, seen))
        });
        if let Some(newer) = newer {
            return Some(Ok(newer));
        }
        let lately = memory.tried.is_some_and(|tried| now.since(tried) < EVERY);
        match known {
            _ if !lately => None,
            Some(known) if memory.failed.is_none() => Some(Ok(known)),
            Some(_) | None => Some(Err(Unavailable::Lately)),
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn read(&self, now: Timestamp) -> Result<Known, Unavailable> {
        let description = match self.discovery {
            Discovery::OpenId => self.get(&self.openid(), DESCRIPTION).await?,
            Discovery::OAuth => match self.get(&self.oauth(), DESCRIPTION).await {
                Err(Unavailable::Status(404 | 405 | 410)) => {
                    self.get(&self.openid(), DESCRIPTION).await?
                }
                other => other?,
            },
        };
        let known = Known {
            description,
            keys: JwkSet::default(),
            at: now,
        };
        let described: Described = known.description()?;
        if described.issuer != self.name {
            let other = format!(
                "it is of issuer `{:.200}`, not of `{}`",
                described.issuer, self.name
            );
            return Err(Unavailable::Malformed(DESCRIPTION, other));
        }
        let keys = self.get(&described.jwks_uri, "set of keys").await?;
        Ok(Known { keys, ..known })
    }

    fn openid(&self) -> String {
        let issuer = self.name.trim_end_matches('/');
        format!("{issuer}/.well-known/openid-configuration")
    }

    /// RFC 8414, section 3.1: between host and path.
    fn oauth(&self) -> String {
        let issuer = self.name.trim_end_matches('/');
        let host = issuer.find("://").map_or(0, |at| at + 3);
        let path = issuer
            .get(host..)
            .and_then(|rest| rest.find('/'))
            .map_or(issuer.len(), |at| host + at);
        let (host, path) = issuer.split_at(path);
        format!("{host}/.well-known/oauth-authorization-server{path}")
    }

    async fn get<T: DeserializeOwned>(
        &self,
        url: &str,
        what: &'static str,
    ) -> Result<T, Unavailable> {
        let response = self
            .http
            .get(self.endpoint(url, what)?)
            .header("accept", "application/json")
            .send()
            .await
            .map_err(Unavailable::Http)?;
        if !response.status().is_success() {
            return Err(Unavailable::Status(response.status().as_u16()));
        }
        let body = limited(response).await?;
        serde_json::from_slice(&body)
            .map_err(|error| Unavailable::Malformed(what, error.to_string()))
    }
}

const DESCRIPTION: &str = "discovery document";

/// The ways to sign that are meant, if an issuer can be set up so.
///
/// # Errors
///
/// See [`Invalid`].
pub fn check(issuer: &str, algorithms: &[String]) -> Result<Vec<Algorithm>, Invalid> {
    // Keys are the issuer's to give out: only public ones prove that it signed.
    let algorithms = algorithms
        .iter()
        .map(|name| match name.parse() {
            Ok(Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512) | Err(_) => {
                Err(Invalid::Algorithm(name.clone()))
            }
            Ok(algorithm) => Ok(algorithm),
        })
        .collect::<Result<_, _>>()?;
    if secure(issuer).is_none_or(|url| url.query().is_some() || url.fragment().is_some()) {
        return Err(Invalid::Issuer(issuer.to_owned()));
    }
    Ok(algorithms)
}

/// The whole of an answer, if it ends in time.
///
/// # Errors
///
/// When it is too long or breaks off.
pub async fn limited(mut response: reqwest::Response) -> Result<Vec<u8>, Unavailable> {
    let mut body = Vec::new();
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|error| Unavailable::Http(error.without_url()))?
    {
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(Unavailable::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// A URL by TLS, or to this machine, without a password.
fn secure(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let here = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    let scheme = url.scheme() == "https" || (url.scheme() == "http" && here);
    (scheme && url.username().is_empty() && url.password().is_none()).then_some(url)
}

#[cfg(test)]
mod tests;
