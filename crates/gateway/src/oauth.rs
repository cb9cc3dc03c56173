//! Clients of MCP that come with an access token of an authorization server: the doors
//! `/mcp` and `/mcp/{service}` as protected resources of OAuth 2.1.
//!
//! A client that brings nothing is told where to ask (`WWW-Authenticate`, and the metadata
//! of RFC 9728 at a well-known path). A token is a JWT of the one issuer that the operator
//! named, for this door, and good now; one of its claims names the agent. What the agent may
//! do is what policy says of it, as ever; the token's scopes can only make that less. The
//! token ends here: nothing of it goes on to a service.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use authz::{AgentRef, Risk, ServiceName, Timestamp};
use http::{HeaderValue, Method};
use issuer::{Claims, Discovery, Failure, Invalid, Issuer, Refused, Signed, Unavailable};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{
    refusal::Refusal,
    routes::{METADATA, Route},
};

/// While the authorization server is out of reach, its keys are believed for so long after
/// they were read.
const STALE: Duration = Duration::from_hours(6);

/// A claim that names an agent is at most so long.
const MAX_NAME_BYTES: usize = 255;

/// How clients of MCP get in by OAuth. Absent in [`Settings`](crate::McpSettings): they
/// do not.
#[derive(Clone, Debug)]
pub struct OAuthSettings {
    /// The authorization server, exactly as its metadata names it.
    pub issuer: String,
    /// Where clients reach the gateway, without a path: `https://gate.example`. A token is
    /// for `<url>/mcp`, which covers every service, or for `<url>/mcp/<service>`.
    pub url: String,
    /// Further audiences that mean every door: for an authorization server that does not
    /// take the `resource` of RFC 8707.
    pub audiences: Vec<String>,
    /// How it may sign: `RS256`, `ES256`, … Never with a shared secret.
    pub algorithms: Vec<String>,
    /// Which claim names the agent: `sub`, `client_id`, `azp` or another; a path such as
    /// `ext.agent` where it lies deeper.
    pub agent_claim: String,
    /// Which of its values is which agent. If empty, the value must be an agent's id or name.
    pub agents: BTreeMap<String, AgentRef>,
    /// Whether a token's scopes cap what it is good for. Otherwise they are not looked at.
    pub scopes: bool,
}

impl OAuthSettings {
    /// Whether OAuth can be set up so.
    ///
    /// # Errors
    ///
    /// What is wrong.
    pub fn check(&self) -> Result<(), String> {
        issuer::check(&self.issuer, &self.algorithms).map_err(|error| error.to_string())?;
        let origin = self.url.parse::<http::Uri>().ok().filter(|uri| {
            let here = uri
                .host()
                .is_some_and(|host| matches!(host, "localhost" | "127.0.0.1" | "[::1]"));
            let secure = match uri.scheme_str() {
                Some("https") => true,
                Some("http") => here,
                _ => false,
            };
            let plain = uri.authority().is_some_and(|authority| {
                format!("{}://{authority}", uri.scheme_str().unwrap_or_default()) == self.url
            });
            secure && plain && !self.url.contains(['@', '"', '\\'])
        });
        if origin.is_none() {
            return Err(format!(
                "`{}` is not where clients reach the gateway: `https://…`, or `http://` on this machine, without a path",
                self.url
            ));
        }
        if self.algorithms.is_empty() {
            return Err("no way to sign is allowed, so no token would ever be believed".to_owned());
        }
        Ok(())
    }
}

/// One of the doors that a token can be for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    /// `/mcp`: every service.
    All,
    /// `/mcp/{service}`, whether there is such a service or not: that is not told.
    One(ServiceName),
}

impl Resource {
    /// The door that a path leads to.
    pub(crate) fn of(path: &str) -> Option<Self> {
        match Route::find(&Method::POST, path) {
            Ok(Route::McpAll) => Some(Self::All),
            // Of a name that no service can have, nothing is said.
            Ok(Route::Mcp(name)) => Some(name.parse().map_or(Self::All, Self::One)),
            _ => None,
        }
    }

    fn path(&self) -> String {
        match self {
            Self::All => "/mcp".to_owned(),
            Self::One(service) => format!("/mcp/{service}"),
        }
    }
}

/// What may be done with a token.
const SCOPES: [(Risk, &str); 3] = [
    (Risk::Read, "cedargate:read"),
    (Risk::Write, "cedargate:write"),
    (Risk::Destroy, "cedargate:destroy"),
];

/// The scope that a command of this risk needs. Each one covers those of less risk.
pub(crate) fn scope(risk: Risk) -> &'static str {
    SCOPES
        .iter()
        .find(|(of, _)| *of == risk)
        .map_or("cedargate:destroy", |(_, scope)| scope)
}

/// What a token that is believed says.
#[derive(Debug)]
pub(crate) struct Token {
    pub(crate) agent: AgentRef,
    /// The claim that names the agent, and its value, for whoever must mend it.
    named: (String, String),
    issuer: String,
    client: Option<String>,
    /// SHA-256 of its `jti`: enough to find it at the authorization server, and nothing else.
    id: Option<String>,
    /// The most that it is good for; absent where scopes are not looked at.
    cap: Option<Risk>,
}

impl Token {
    /// Whether its scopes suffice.
    ///
    /// # Errors
    ///
    /// [`Refusal::Scope`].
    pub(crate) fn suffices(&self, risk: Risk) -> Result<(), Refusal> {
        match self.cap {
            Some(cap) if cap < risk => Err(Refusal::Scope(risk)),
            Some(_) | None => Ok(()),
        }
    }

    /// That nobody here is whom it names.
    pub(crate) fn names_nobody(&self) -> Refusal {
        let (claim, value) = &self.named;
        nobody(claim, value)
    }

    /// For the journal.
    pub(crate) fn record(&self) -> Value {
        let mut record = json!({"by": "oauth", "issuer": self.issuer});
        let more = [("client", &self.client), ("token", &self.id)];
        for (name, value) in more {
            if let Some(value) = value {
                crate::answer::put(&mut record, name, value.as_str());
            }
        }
        record
    }
}

fn nobody(claim: &str, value: &str) -> Refusal {
    let value: String = value
        .chars()
        .take(64)
        .flat_map(char::escape_default)
        .collect();
    Refusal::NoAgent(format!(
        "the access token is good, but no agent here is its `{claim}` `{value}`; an administrator can register or map one"
    ))
}

/// The authorization server, and what its word is worth here.
#[derive(Debug)]
pub(crate) struct OAuth {
    settings: OAuthSettings,
    issuer: Arc<Issuer>,
}

impl OAuth {
    pub(crate) fn new(settings: OAuthSettings) -> Result<Self, Invalid> {
        let issuer = Issuer::new(
            &settings.issuer,
            &settings.algorithms,
            Discovery::OAuth,
            STALE,
        )?;
        Ok(Self { settings, issuer })
    }

    /// Whom a token makes of its bearer at a door.
    ///
    /// # Errors
    ///
    /// When it is not believed, not for this door, names nobody, or is good for nothing; or
    /// when that cannot be known now.
    pub(crate) async fn token(
        &self,
        token: &str,
        door: &Resource,
        now: Timestamp,
    ) -> Result<Token, Refusal> {
        let (signed, claims) = match self.issuer.signed(token, now).await {
            Ok(believed) => believed,
            Err(Failure::Refused(why)) => return Err(unbelieved(why)),
            Err(Failure::Unavailable(error)) => {
                // Said once for all who come within the next seconds.
                if !matches!(error, Unavailable::Lately) {
                    let (issuer, error) = (self.issuer.name(), &error as &dyn std::error::Error);
                    tracing::warn!(issuer, error, "access tokens cannot be checked");
                }
                return Err(Refusal::Issuer);
            }
        };
        self.is_for(&signed, &claims, door, now)
            .map_err(unbelieved)?;
        let cap = self.settings.scopes.then(|| cap(&claims));
        let cap = match cap {
            None => None,
            Some(None) => return Err(Refusal::Scope(Risk::Read)),
            Some(cap) => cap,
        };
        let (claim, value) = self.name(&claims)?;
        let agent = if self.settings.agents.is_empty() {
            value.parse().ok()
        } else {
            self.settings.agents.get(value).cloned()
        };
        Ok(Token {
            agent: agent.ok_or_else(|| nobody(claim, value))?,
            named: (claim.to_owned(), value.to_owned()),
            issuer: self.settings.issuer.clone(),
            client: ["client_id", "azp"]
                .iter()
                .find_map(|name| claims.text(name))
                .filter(|client| client.len() <= MAX_NAME_BYTES)
                .map(str::to_owned),
            id: claims.text("jti").map(|id| hex::encode(Sha256::digest(id))),
            cap,
        })
    }

    fn is_for(
        &self,
        signed: &Signed,
        claims: &Claims,
        door: &Resource,
        now: Timestamp,
    ) -> Result<(), Refused> {
        // Other kinds of signed text are no access tokens, whatever else they say. Those of
        // before RFC 9068 call themselves `JWT`, or nothing.
        let kind = signed.kind().unwrap_or("JWT").to_ascii_lowercase();
        let kind = kind.strip_prefix("application/").unwrap_or(&kind);
        if !matches!(kind, "at+jwt" | "jwt") {
            return Err(Refused("this is no access token"));
        }
        // Bound to a key whose possession nobody has proved here.
        if claims.get("cnf").is_some() {
            return Err(Refused(
                "the token is bound to a key, and this is no way to prove that one has it",
            ));
        }
        let (own, all) = (self.url(door), self.url(&Resource::All));
        let meant = |audience: &&str| {
            *audience == own
                || *audience == all
                || self
                    .settings
                    .audiences
                    .iter()
                    .any(|known| known == audience)
        };
        if !claims.audiences().iter().any(meant) {
            return Err(Refused("the token is not for this resource"));
        }
        claims.good_at(now)
    }

    /// The claim that names the agent, and its value.
    fn name<'a>(&'a self, claims: &'a Claims) -> Result<(&'a str, &'a str), Refusal> {
        let claim = self.settings.agent_claim.as_str();
        let value = match claim {
            // Anybody may say that an address is theirs.
            "email" => claims.verified_email(),
            _ => claims.at(claim).and_then(Value::as_str),
        };
        let value = value.filter(|value| (1..=MAX_NAME_BYTES).contains(&value.len()));
        let value = value.ok_or_else(|| {
            Refusal::NoAgent(format!(
                "the access token is good, but has no `{claim}` that could name an agent"
            ))
        })?;
        Ok((claim, value))
    }

    fn url(&self, door: &Resource) -> String {
        format!("{}{}", self.settings.url, door.path())
    }

    /// RFC 9728: what a client must know to ask for a token.
    pub(crate) fn metadata(&self, door: &Resource) -> Value {
        let name = match door {
            Resource::All => "Cedargate".to_owned(),
            Resource::One(service) => format!("Cedargate: {service}"),
        };
        let mut metadata = json!({
            "resource": self.url(door),
            "authorization_servers": [self.settings.issuer],
            "bearer_methods_supported": ["header"],
            "resource_name": name,
        });
        if self.settings.scopes {
            // The least that is of use; a client hears of more when it needs more.
            let least = json!([scope(Risk::Read)]);
            crate::answer::put(&mut metadata, "scopes_supported", least);
        }
        metadata
    }

    /// What a client is told to do about a refusal, if a token would help.
    pub(crate) fn challenge(
        &self,
        door: &Resource,
        refusal: &Refusal,
        credential: bool,
    ) -> Option<HeaderValue> {
        let (error, needed) = match refusal {
            Refusal::Scope(risk) => (Some("insufficient_scope"), *risk),
            Refusal::Unauthenticated(_) | Refusal::AnotherAgent => {
                (credential.then_some("invalid_token"), Risk::Read)
            }
            _ => return None,
        };
        let mut challenge = "Bearer realm=\"cedargate\"".to_owned();
        let mut parameter = |name: &str, value: &str| {
            challenge.push_str(&format!(", {name}=\"{value}\""));
        };
        if let Some(error) = error {
            parameter("error", error);
            parameter("error_description", &quotable(&refusal.to_string()));
        }
        if self.settings.scopes {
            parameter("scope", scope(needed));
        }
        let metadata = format!("{}{METADATA}{}", self.settings.url, door.path());
        parameter("resource_metadata", &metadata);
        HeaderValue::try_from(challenge).ok()
    }
}

/// Why a token is not believed, to whoever sent it.
fn unbelieved(Refused(why): Refused) -> Refusal {
    Refusal::Unauthenticated(format!("the access token is not believed: {why}"))
}

/// The most that a token's scopes are good for.
fn cap(claims: &Claims) -> Option<Risk> {
    // `scope` is a text (RFC 9068); others say `scp`, which may be a list.
    let said: Vec<&str> = ["scope", "scp"]
        .iter()
        .flat_map(|name| claims.texts(name))
        .flat_map(str::split_ascii_whitespace)
        .collect();
    let covered = SCOPES.iter().filter(|(_, scope)| said.contains(scope));
    covered.map(|(risk, _)| *risk).max()
}

/// RFC 6750, section 3: what may stand in a description.
fn quotable(text: &str) -> String {
    text.chars()
        .map(|letter| match letter {
            '"' | '\\' | '`' => '\'',
            ' '..='~' => letter,
            _ => '?',
        })
        .collect()
}

/// Whether a text has the form of a signed token: no other is held against the issuer's keys.
pub(crate) fn is_token(text: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    text.split('.').count() == 3 && text.split('.').all(part)
}

#[cfg(test)]
mod tests;
