//! Logging in at a provider of identities: `OpenID` Connect, authorization code with PKCE.
//!
//! What a browser carries through the provider and back is in a cookie of its own, for
//! ten minutes: `state`, `nonce`, the PKCE verifier, and where to go after. So nobody who
//! only comes by leaves a trace in our database, and any replica takes the callback.
//!
//! A provider out of reach keeps nobody out who has a credential.

mod admit;
mod flow;
mod id_token;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use authz::{RoleName, TeamName, Timestamp};
use jsonwebtoken::{Algorithm, jwk::JwkSet};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Client, Url};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, de::DeserializeOwned};

pub(crate) use self::{
    admit::admit,
    flow::{Flow, Purpose},
    id_token::{Claims, Refused},
};

/// The provider, and what its word is worth here.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its issuer, exactly as in its discovery document: `https://login.example`.
    pub issuer: String,
    /// Who we are there.
    pub client_id: String,
    /// How we prove it; absent for a public client.
    pub client_secret: Option<SecretString>,
    /// What the button calls it.
    pub name: String,
    /// What we ask for; always `openid`.
    pub scopes: Vec<String>,
    /// How it may sign: `RS256`, `ES256`, `EdDSA`, … Never with a shared secret.
    pub algorithms: Vec<String>,
    /// Whether somebody unknown becomes a user. Otherwise they are refused.
    pub create_users: bool,
    /// Whether a verified e-mail address that is a user's id is that user.
    pub link_by_email: bool,
    /// What a new user's id is taken from: `email` (if verified) or another claim.
    pub user_claim: String,
    /// Where groups are that give roles, such as `groups` or `realm_access.roles`.
    pub roles_claim: Option<String>,
    /// Which group gives which role. Of the roles named here, people have at each login
    /// those that their groups give them; others stay as they are.
    pub roles: Vec<(String, RoleName)>,
    /// Where groups are that give teams.
    pub teams_claim: Option<String>,
    /// Which group gives which team, likewise.
    pub teams: Vec<(String, TeamName)>,
    /// Roles that every new user gets.
    pub default_roles: BTreeSet<RoleName>,
    /// Values of `acr` that mean a second factor; asked for at a step-up.
    pub mfa_acr: Vec<String>,
    /// Values of `amr` that mean a second factor, such as `mfa`, `otp`, `hwk`.
    pub mfa_amr: Vec<String>,
}

impl Config {
    /// Whether a provider can be set up so.
    ///
    /// # Errors
    ///
    /// See [`InvalidConfig`].
    pub fn check(&self) -> Result<(), InvalidConfig> {
        self.algorithms().map(drop)
    }

    /// The ways to sign that are meant.
    fn algorithms(&self) -> Result<Vec<Algorithm>, InvalidConfig> {
        // Keys are the provider's to give out: only public ones prove that it signed.
        let algorithms = self
            .algorithms
            .iter()
            .map(|name| match name.parse() {
                Ok(Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512) | Err(_) => {
                    Err(InvalidConfig::Algorithm(name.clone()))
                }
                Ok(algorithm) => Ok(algorithm),
            })
            .collect::<Result<_, _>>()?;
        let issuer = self.issuer.as_str();
        if safe(issuer).is_none_or(|url| url.query().is_some() || url.fragment().is_some()) {
            return Err(InvalidConfig::Issuer(issuer.to_owned()));
        }
        Ok(algorithms)
    }
}

/// Why a provider's settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InvalidConfig {
    /// Not an issuer.
    #[error("`{0}` is not an issuer: `https://…`, or `http://` on this machine, without query")]
    Issuer(String),
    /// Not an algorithm, or one that proves nothing.
    #[error("`{0}` is not a way to sign that a provider's keys allow, such as RS256 or ES256")]
    Algorithm(String),
    /// No HTTP client.
    #[error("the HTTP client cannot be set up")]
    Client(#[source] reqwest::Error),
}

/// Why a provider cannot be used at the moment.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unavailable {
    #[error("it cannot be reached")]
    Http(#[source] reqwest::Error),
    #[error("it answered {0}")]
    Status(u16),
    #[error("it answered more than {MAX_ANSWER_BYTES} bytes")]
    TooLarge,
    #[error("its {0} is not as it must be: {1}")]
    Malformed(&'static str, String),
}

/// An answer of a provider's is at most so long.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;

/// A code is at most so long; ours go into a form, and nothing else.
const MAX_CODE_BYTES: usize = 4_096;

/// A provider that is slower than this is out of reach.
const PATIENCE: Duration = Duration::from_secs(5);

/// Discovery and keys are read again after so long.
const KNOWN_FOR: Duration = Duration::from_hours(1);

/// For a key that is not known, keys are read again, but not more often than this.
const KEYS_EVERY: Duration = Duration::from_secs(10);

/// After a failure people are told for so long, without another try.
const FAILED_FOR: Duration = Duration::from_secs(15);

/// What a provider says of itself.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Metadata {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    /// Where a browser logs out there (RP-initiated logout).
    #[serde(default)]
    end_session_endpoint: Option<String>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
    #[serde(default)]
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
}

/// What is known of a provider.
#[derive(Debug)]
struct Known {
    metadata: Metadata,
    keys: JwkSet,
    at: Timestamp,
}

/// The provider.
#[derive(Debug)]
pub(crate) struct Provider {
    pub(crate) config: Config,
    redirect_uri: String,
    /// Where it sends a browser that logged out there.
    after_logout: String,
    algorithms: Vec<Algorithm>,
    http: Client,
    known: Mutex<Option<Arc<Known>>>,
    failed: Mutex<Option<Timestamp>>,
    /// Held while discovery and keys are read, so that many logins are one question.
    reading: tokio::sync::Mutex<()>,
}

/// What the token endpoint answers.
#[derive(Deserialize)]
struct Tokens {
    id_token: String,
}

/// What it answers when it refuses.
#[derive(Deserialize)]
struct TokenError {
    error: String,
}

impl Provider {
    pub(crate) fn new(config: Config, public_url: &str) -> Result<Self, InvalidConfig> {
        let algorithms = config.algorithms()?;
        let http = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(PATIENCE)
            .build()
            .map_err(InvalidConfig::Client)?;
        Ok(Self {
            redirect_uri: format!("{}/login/oidc/callback", public_url.trim_end_matches('/')),
            after_logout: format!("{}/login", public_url.trim_end_matches('/')),
            config,
            algorithms,
            http,
            known: Mutex::new(None),
            failed: Mutex::new(None),
            reading: tokio::sync::Mutex::new(()),
        })
    }

    /// Whether it was out of reach a moment ago.
    pub(crate) fn is_down(&self, now: Timestamp) -> bool {
        self.failed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some_and(|failed| now.since(failed) < FAILED_FOR)
    }

    /// Where to send a browser.
    pub(crate) async fn authorization_url(
        &self,
        flow: &Flow,
        now: Timestamp,
    ) -> Result<String, Unavailable> {
        let known = self.known(now).await?;
        let endpoint = &known.metadata.authorization_endpoint;
        let mut url = safe(endpoint).ok_or_else(|| unsafe_url("authorization_endpoint"))?;
        let mut scopes = vec!["openid"];
        scopes.extend(
            self.config
                .scopes
                .iter()
                .map(String::as_str)
                .filter(|scope| *scope != "openid"),
        );
        let challenge = flow.challenge();
        {
            let mut query = url.query_pairs_mut();
            query
                .append_pair("response_type", "code")
                .append_pair("client_id", &self.config.client_id)
                .append_pair("redirect_uri", &self.redirect_uri)
                .append_pair("scope", &scopes.join(" "))
                .append_pair("state", &flow.state)
                .append_pair("nonce", &flow.nonce)
                .append_pair("code_challenge", &challenge)
                .append_pair("code_challenge_method", "S256");
            if flow.purpose == Purpose::StepUp {
                query
                    .append_pair("prompt", "login")
                    .append_pair("max_age", "0");
                if !self.config.mfa_acr.is_empty() {
                    query.append_pair("acr_values", &self.config.mfa_acr.join(" "));
                }
            }
        }
        Ok(url.into())
    }

    /// Where to send a browser that shall be logged out there too; none if the provider
    /// does not offer that. Tokens of the provider are not kept here, so it asks whether
    /// that is meant: nobody is logged out by a link on another page.
    pub(crate) async fn logout_url(&self, now: Timestamp) -> Result<Option<String>, Unavailable> {
        let known = self.known(now).await?;
        let Some(endpoint) = &known.metadata.end_session_endpoint else {
            return Ok(None);
        };
        let mut url = safe(endpoint).ok_or_else(|| unsafe_url("end_session_endpoint"))?;
        url.query_pairs_mut()
            .append_pair("client_id", &self.config.client_id)
            .append_pair("post_logout_redirect_uri", &self.after_logout);
        Ok(Some(url.into()))
    }

    /// Takes a code for an id token, and checks that.
    ///
    /// # Errors
    ///
    /// Why it is not believed, or why that cannot be known now.
    pub(crate) async fn redeem(
        &self,
        flow: &Flow,
        code: &str,
        issuer: Option<&str>,
        now: Timestamp,
    ) -> Result<Claims, Failure> {
        if code.is_empty() || code.len() > MAX_CODE_BYTES {
            return Err(Refused("no code came").into());
        }
        let known = self.known(now).await?;
        let metadata = &known.metadata;
        // RFC 9207: an answer of another provider's must not be taken to this one.
        match issuer {
            Some(issuer) if issuer != self.config.issuer => {
                return Err(Refused("the answer is of another issuer").into());
            }
            None if metadata.authorization_response_iss_parameter_supported => {
                return Err(Refused("the answer does not name its issuer").into());
            }
            Some(_) | None => {}
        }
        let tokens = self.exchange(metadata, flow, code).await?;
        let key = if let Some(key) = self.key(&known, &tokens.id_token) {
            key
        } else {
            // Perhaps it was made after we looked last.
            let known = self.read_keys(now, &known).await?;
            self.key(&known, &tokens.id_token)
                .ok_or(Refused("no key of the provider signed this"))?
        };
        let claims = id_token::verify(&tokens.id_token, &key, self, flow, now)?;
        Ok(claims)
    }

    fn key(&self, known: &Known, id_token: &str) -> Option<id_token::Key> {
        id_token::Key::find(id_token, &known.keys, &self.algorithms)
    }

    async fn exchange(
        &self,
        metadata: &Metadata,
        flow: &Flow,
        code: &str,
    ) -> Result<Tokens, Failure> {
        let mut form = vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", &self.redirect_uri),
            ("code_verifier", &flow.verifier),
        ];
        let endpoint =
            safe(&metadata.token_endpoint).ok_or_else(|| unsafe_url("token_endpoint"))?;
        let mut request = self.http.post(endpoint);
        let secret = self
            .config
            .client_secret
            .as_ref()
            .map(ExposeSecret::expose_secret);
        let in_header = metadata
            .token_endpoint_auth_methods_supported
            .as_ref()
            .is_none_or(|methods| methods.iter().any(|method| method == "client_secret_basic"));
        match secret {
            Some(secret) if in_header => {
                // Encoded first, says RFC 6749, section 2.3.1.
                let encoded = |text| utf8_percent_encode(text, NON_ALPHANUMERIC);
                request = request.basic_auth(
                    encoded(self.config.client_id.as_str()),
                    Some(encoded(secret)),
                );
            }
            Some(secret) => {
                form.push(("client_id", &self.config.client_id));
                form.push(("client_secret", secret));
            }
            None => form.push(("client_id", &self.config.client_id)),
        }
        let response = request
            .header("content-type", "application/x-www-form-urlencoded")
            .header("accept", "application/json")
            .body(encoded(&form))
            .send()
            .await
            .map_err(|error| Unavailable::Http(error.without_url()))?;
        let status = response.status();
        let body = limited(response).await?;
        if status.is_client_error() {
            let error = serde_json::from_slice::<TokenError>(&body)
                .map_or_else(|_| String::new(), |error| error.error);
            return Err(match error.as_str() {
                "invalid_grant" => {
                    Refused("the provider does not take this code, or not again").into()
                }
                // Our own settings are wrong: for the operator, not for whoever logs in.
                _ => Unavailable::Malformed(
                    "token endpoint's answer",
                    format!("{status} {error:.100}"),
                )
                .into(),
            });
        }
        if !status.is_success() {
            return Err(Unavailable::Status(status.as_u16()).into());
        }
        serde_json::from_slice(&body).map_err(|error| {
            Unavailable::Malformed("token endpoint's answer", error.to_string()).into()
        })
    }

    async fn known(&self, now: Timestamp) -> Result<Arc<Known>, Unavailable> {
        let current = || {
            self.known
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone()
                .filter(|known| now.since(known.at) < KNOWN_FOR)
        };
        if let Some(known) = current() {
            return Ok(known);
        }
        let _reading = self.reading.lock().await;
        if let Some(known) = current() {
            return Ok(known);
        }
        let read = self.discover(now).await;
        self.note(read, now)
    }

    /// The same with keys as they are now, unless they were read a moment ago.
    async fn read_keys(
        &self,
        now: Timestamp,
        seen: &Arc<Known>,
    ) -> Result<Arc<Known>, Unavailable> {
        let _reading = self.reading.lock().await;
        let current = self
            .known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some(current) = current
            && (!Arc::ptr_eq(&current, seen) || now.since(current.at) < KEYS_EVERY)
        {
            return Ok(current);
        }
        let read = self.discover(now).await;
        self.note(read, now)
    }

    fn note(
        &self,
        read: Result<Known, Unavailable>,
        now: Timestamp,
    ) -> Result<Arc<Known>, Unavailable> {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        match read {
            Ok(known) => {
                let known = Arc::new(known);
                *failed = None;
                *self.known.lock().unwrap_or_else(PoisonError::into_inner) =
                    Some(Arc::clone(&known));
                Ok(known)
            }
            Err(error) => {
                *failed = Some(now);
                Err(error)
            }
        }
    }

    async fn discover(&self, now: Timestamp) -> Result<Known, Unavailable> {
        let issuer = self.config.issuer.trim_end_matches('/');
        let metadata: Metadata = self
            .read(
                &format!("{issuer}/.well-known/openid-configuration"),
                "discovery document",
            )
            .await?;
        if metadata.issuer != self.config.issuer {
            return Err(Unavailable::Malformed(
                "discovery document",
                format!(
                    "it is of issuer `{:.200}`, not of `{}`",
                    metadata.issuer, self.config.issuer
                ),
            ));
        }
        for (name, url) in [
            ("authorization_endpoint", &metadata.authorization_endpoint),
            ("token_endpoint", &metadata.token_endpoint),
        ] {
            safe(url).ok_or_else(|| unsafe_url(name))?;
        }
        let keys = self.read(&metadata.jwks_uri, "set of keys").await?;
        Ok(Known {
            metadata,
            keys,
            at: now,
        })
    }

    async fn read<T: DeserializeOwned>(
        &self,
        url: &str,
        what: &'static str,
    ) -> Result<T, Unavailable> {
        let url = safe(url).ok_or_else(|| unsafe_url(what))?;
        let response = self
            .http
            .get(url)
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

/// Why nobody is logged in.
#[derive(Debug)]
pub(crate) enum Failure {
    /// What came is not believed.
    Refused(Refused),
    /// It cannot be known now.
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

async fn limited(mut response: reqwest::Response) -> Result<Vec<u8>, Unavailable> {
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

/// A URL to which a secret may go: by TLS, or to this machine.
fn safe(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let here = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    let scheme = url.scheme() == "https" || (url.scheme() == "http" && here);
    (scheme && url.username().is_empty() && url.password().is_none()).then_some(url)
}

fn unsafe_url(what: &'static str) -> Unavailable {
    Unavailable::Malformed(what, "it is no `https:` URL".to_owned())
}

/// As a form is sent.
fn encoded(pairs: &[(&str, &str)]) -> String {
    // Always a URL; written so that nothing can fail.
    Url::parse("form:/").map_or_else(
        |_| String::new(),
        |mut url| {
            url.query_pairs_mut().extend_pairs(pairs);
            url.query().unwrap_or_default().to_owned()
        },
    )
}

#[cfg(test)]
mod tests;
