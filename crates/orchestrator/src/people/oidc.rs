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

use std::{collections::BTreeSet, sync::Arc};

use authz::{RoleName, TeamName, Timestamp};
pub use issuer::Invalid as InvalidConfig;
use issuer::{Discovery, Issuer, KNOWN_FOR};
pub(crate) use issuer::{Failure, Refused, Unavailable};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

pub(crate) use self::{
    admit::admit,
    flow::{Flow, Purpose},
    id_token::Claims,
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
        issuer::check(&self.issuer, &self.algorithms).map(drop)
    }
}

/// A code is at most so long; ours go into a form, and nothing else.
const MAX_CODE_BYTES: usize = 4_096;

/// What a provider says of itself.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Metadata {
    authorization_endpoint: String,
    token_endpoint: String,
    /// Where a browser logs out there (RP-initiated logout).
    #[serde(default)]
    end_session_endpoint: Option<String>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
    #[serde(default)]
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
}

/// The provider.
#[derive(Debug)]
pub(crate) struct Provider {
    pub(crate) config: Config,
    redirect_uri: String,
    /// Where it sends a browser that logged out there.
    after_logout: String,
    issuer: Arc<Issuer>,
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
        let issuer = Issuer::new(
            &config.issuer,
            &config.algorithms,
            Discovery::OpenId,
            KNOWN_FOR,
        )?;
        Ok(Self {
            redirect_uri: format!("{}/login/oidc/callback", public_url.trim_end_matches('/')),
            after_logout: format!("{}/login", public_url.trim_end_matches('/')),
            config,
            issuer,
        })
    }

    /// Whether it was out of reach a moment ago.
    pub(crate) fn is_down(&self, now: Timestamp) -> bool {
        self.issuer.is_down(now)
    }

    /// Where to send a browser.
    pub(crate) async fn authorization_url(
        &self,
        flow: &Flow,
        now: Timestamp,
    ) -> Result<String, Unavailable> {
        let metadata = self.metadata(now).await?;
        let endpoint = &metadata.authorization_endpoint;
        let mut url = self.issuer.endpoint(endpoint, "authorization_endpoint")?;
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
        let metadata = self.metadata(now).await?;
        let Some(endpoint) = &metadata.end_session_endpoint else {
            return Ok(None);
        };
        let mut url = self.issuer.endpoint(endpoint, "end_session_endpoint")?;
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
        let metadata = self.metadata(now).await?;
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
        let tokens = self.exchange(&metadata, flow, code).await?;
        let (_, claims) = self.issuer.signed(&tokens.id_token, now).await?;
        Ok(id_token::verify(claims, &self.config, flow, now)?)
    }

    /// What the provider says of itself.
    async fn metadata(&self, now: Timestamp) -> Result<Metadata, Unavailable> {
        self.issuer.known(now).await?.description()
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
        let endpoint = self
            .issuer
            .endpoint(&metadata.token_endpoint, "token_endpoint")?;
        let mut request = self.issuer.http().post(endpoint);
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
        let body = issuer::limited(response).await?;
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
