//! Credentials on the wire: read from the configuration, added to requests, renewed.

use std::{collections::BTreeMap, time::Duration};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{RSA_PKCS1_SHA256, RsaKeyPair},
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value, json};
use tokio::{sync::Mutex, time::Instant};

use super::scrub::Scrubber;
use crate::description::{App, Credential, RequestLine};

/// A token that ends within so long is renewed.
const RENEW_BEFORE: Duration = Duration::from_mins(5);

/// How long a JWT is good for, in seconds; services allow ten minutes at most.
const JWT_SECONDS: i64 = 540;

/// No answer with a token or a date is longer, in bytes.
const LONGEST_ANSWER: usize = 64 << 10;

/// One credential, ready to be sent.
#[derive(Debug)]
pub(super) struct Ready {
    place: Place,
    prefix: String,
    source: Source,
}

#[derive(Debug)]
enum Place {
    Header(HeaderName),
    Query(String),
    /// Basic authentication, with this user.
    Basic(String),
}

#[derive(Debug)]
enum Source {
    Fixed(SecretString),
    App(Box<SignedApp>),
}

/// An application that signs for its tokens.
struct SignedApp {
    issuer: String,
    key: RsaKeyPair,
    path: RequestLine,
    values: Map<String, Value>,
    token: String,
    expires: String,
    /// Held while one is fetched, so that many commands at once fetch one.
    cached: Mutex<Option<(SecretString, Instant)>>,
}

impl std::fmt::Debug for SignedApp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SignedApp").finish_non_exhaustive()
    }
}

/// Why there is no token of an application.
#[derive(Debug)]
pub(super) enum TokenError {
    Transport(reqwest::Error),
    /// What it answered instead.
    Refused(String),
}

impl Ready {
    /// The credential, if it is configured; or the variables to set.
    pub(super) fn new(
        credential: &Credential,
        variable: &dyn Fn(&str) -> Option<String>,
        scrubber: &mut Scrubber,
    ) -> Result<Option<Self>, Vec<String>> {
        let place = if let Some(name) = &credential.header {
            let name = HeaderName::try_from(name)
                .map_err(|_| vec![format!("another header than {name}")])?;
            Place::Header(name)
        } else if let Some(name) = &credential.query {
            Place::Query(name.clone())
        } else {
            let user = credential.basic_user_variable.as_deref();
            match credential
                .basic_user
                .clone()
                .or_else(|| user.and_then(variable))
            {
                Some(user) => Place::Basic(user),
                None if credential.optional => return Ok(None),
                None => return Err(user.into_iter().map(str::to_owned).collect()),
            }
        };
        let ready = |source| Self {
            place,
            prefix: credential.prefix.clone(),
            source,
        };
        if let Some(secret) = variable(&credential.variable) {
            scrubber.add(&secret);
            return Ok(Some(ready(Source::Fixed(secret.into()))));
        }
        if let Some(app) = &credential.app
            && let Some(signed) = SignedApp::new(app, variable, scrubber)?
        {
            return Ok(Some(ready(Source::App(Box::new(signed)))));
        }
        if credential.optional {
            Ok(None)
        } else {
            Err(vec![credential.variable.clone()])
        }
    }

    /// Whether headers can hold what is configured.
    pub(super) fn check(&self) -> Result<(), ()> {
        match (&self.place, &self.source) {
            (Place::Query(_), _) | (_, Source::App(_)) => Ok(()),
            (_, Source::Fixed(secret)) => self.value(secret).map(drop).ok_or(()),
        }
    }

    fn value(&self, secret: &SecretString) -> Option<HeaderValue> {
        let text = match &self.place {
            Place::Basic(user) => {
                let pair = format!("{user}:{}", secret.expose_secret());
                format!("Basic {}", STANDARD.encode(pair))
            }
            Place::Header(_) | Place::Query(_) => {
                format!("{}{}", self.prefix, secret.expose_secret())
            }
        };
        let mut value = HeaderValue::try_from(text).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// Puts it into a request. An application's token is fetched if there is none.
    pub(super) async fn add_to(
        &self,
        client: &reqwest::Client,
        base: &str,
        timeout: Duration,
        request: &mut reqwest::Request,
    ) -> Result<Option<SecretString>, TokenError> {
        let fetched;
        let (secret, token) = match &self.source {
            Source::Fixed(secret) => (secret, None),
            Source::App(app) => {
                fetched = app.token(client, base, timeout).await?;
                (&fetched, Some(fetched.clone()))
            }
        };
        let refused = || TokenError::Refused("it is not a header's value".to_owned());
        match &self.place {
            Place::Header(name) => {
                let value = self.value(secret).ok_or_else(refused)?;
                request.headers_mut().insert(name.clone(), value);
            }
            Place::Basic(_) => {
                let value = self.value(secret).ok_or_else(refused)?;
                request.headers_mut().insert(header::AUTHORIZATION, value);
            }
            Place::Query(name) => {
                let value = format!("{}{}", self.prefix, secret.expose_secret());
                request
                    .url_mut()
                    .query_pairs_mut()
                    .append_pair(name, &value);
            }
        }
        Ok(token)
    }

    /// What was refused is not used again.
    pub(super) async fn forget(&self) {
        if let Source::App(app) = &self.source {
            *app.cached.lock().await = None;
        }
    }

    /// Where it goes, for people: never what it is.
    pub(super) fn shown(&self) -> (String, String) {
        match &self.place {
            Place::Header(name) => (
                name.to_string(),
                format!("{}{}", self.prefix, authz::redact::REDACTED),
            ),
            Place::Basic(user) => (
                "authorization".to_owned(),
                format!("Basic {user}:{}", authz::redact::REDACTED),
            ),
            Place::Query(name) => (format!("?{name}"), authz::redact::REDACTED.to_owned()),
        }
    }

    pub(super) fn is_renewable(&self) -> bool {
        matches!(self.source, Source::App(_))
    }
}

impl SignedApp {
    /// None when nothing of it is configured; what is missing when only a part is.
    fn new(
        app: &App,
        variable: &dyn Fn(&str) -> Option<String>,
        scrubber: &mut Scrubber,
    ) -> Result<Option<Self>, Vec<String>> {
        let names: Vec<&String> = [&app.issuer_variable, &app.key_variable]
            .into_iter()
            .chain(app.variables.values())
            .collect();
        let found: BTreeMap<&String, String> = names
            .iter()
            .filter_map(|&name| Some((name, variable(name)?)))
            .collect();
        if found.is_empty() {
            return Ok(None);
        }
        let missing: Vec<String> = names
            .into_iter()
            .filter(|&name| !found.contains_key(name))
            .cloned()
            .collect();
        let (Some(issuer), Some(pem)) = (
            found.get(&app.issuer_variable),
            found.get(&app.key_variable),
        ) else {
            return Err(missing);
        };
        if !missing.is_empty() {
            return Err(missing);
        }
        scrubber.add(pem);
        let key = rsa_key(pem)
            .ok_or_else(|| vec![format!("{} (an RSA private key in PEM)", app.key_variable)])?;
        let values = app.variables.iter().filter_map(|(placeholder, name)| {
            Some((placeholder.clone(), Value::String(found.get(name)?.clone())))
        });
        Ok(Some(Self {
            issuer: issuer.clone(),
            key,
            path: app.request.clone(),
            values: values.collect(),
            token: app.token.clone(),
            expires: app.expires.clone(),
            cached: Mutex::new(None),
        }))
    }

    async fn token(
        &self,
        client: &reqwest::Client,
        base: &str,
        timeout: Duration,
    ) -> Result<SecretString, TokenError> {
        let mut cached = self.cached.lock().await;
        if let Some((token, until)) = cached.as_ref()
            && Instant::now() + RENEW_BEFORE < *until
        {
            return Ok(token.clone());
        }
        // By the service's own clock: it judges the JWT, and ours may be wrong.
        let response = client
            .get(base)
            .timeout(timeout)
            .send()
            .await
            .map_err(TokenError::Transport)?;
        let refused = |what: &str| TokenError::Refused(what.to_owned());
        let now = date(response.headers()).ok_or_else(|| refused("its answer has no date"))?;
        let jwt = self
            .jwt(now)
            .ok_or_else(|| refused("the application's key cannot sign"))?;
        let path = super::request::path(&self.path, &self.values)
            .map_err(|problem| TokenError::Refused(format!("its path: {problem}")))?;
        let mut response = client
            .request(self.path.method.clone(), format!("{base}{path}"))
            .header(header::ACCEPT, "application/json")
            .bearer_auth(jwt)
            .timeout(timeout)
            .send()
            .await
            .map_err(TokenError::Transport)?;
        let status = response.status();
        let at = date(response.headers()).unwrap_or(now);
        if !status.is_success() {
            return Err(TokenError::Refused(format!(
                "it gave the application no token (status {})",
                status.as_u16()
            )));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(TokenError::Transport)? {
            body.extend_from_slice(&chunk);
            if body.len() > LONGEST_ANSWER {
                return Err(refused("its answer with a token is too long"));
            }
        }
        let body: Value = serde_json::from_slice(&body)
            .map_err(|_| refused("its answer with a token is not JSON"))?;
        let field = |name: &str| body.get(name).and_then(Value::as_str);
        let token = field(&self.token)
            .filter(|token| !token.is_empty())
            .ok_or_else(|| refused("its answer has no token"))?;
        let until = field(&self.expires)
            .and_then(|until| until.parse::<jiff::Timestamp>().ok())
            .ok_or_else(|| refused("its answer does not say how long the token is good"))?;
        let life = u64::try_from(until.as_second() - at).unwrap_or(0);
        let token = SecretString::from(token);
        *cached = Some((token.clone(), Instant::now() + Duration::from_secs(life)));
        Ok(token)
    }

    /// Issued a minute ago, as clocks of one service differ, too.
    fn jwt(&self, now: i64) -> Option<String> {
        let claims = json!({"iat": now - 60, "exp": now + JWT_SECONDS, "iss": self.issuer});
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256","typ":"JWT"}"#);
        let claims = URL_SAFE_NO_PAD.encode(claims.to_string());
        let signed = format!("{header}.{claims}");
        let mut signature = vec![0; self.key.public_modulus_len()];
        self.key
            .sign(
                &RSA_PKCS1_SHA256,
                &SystemRandom::new(),
                signed.as_bytes(),
                &mut signature,
            )
            .ok()?;
        Some(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

/// Seconds since 1970.
fn date(headers: &HeaderMap) -> Option<i64> {
    let text = headers.get(header::DATE)?.to_str().ok()?;
    let date = jiff::fmt::rfc2822::parse(text).ok()?;
    Some(date.timestamp().as_second())
}

/// A key in PEM, however an environment variable mangled it: in quotes, with `\n` written
/// out, or on one line.
fn rsa_key(pem: &str) -> Option<RsaKeyPair> {
    let pem = pem.replace("\\n", "\n");
    let body = pem.split_once("-----BEGIN ")?.1;
    let (kind, body) = body.split_once("-----")?;
    let body = body.split_once("-----END ")?.0;
    let digits: String = body.split_whitespace().collect();
    let der = STANDARD.decode(digits).ok()?;
    match kind {
        "RSA PRIVATE KEY" => RsaKeyPair::from_der(&der).ok(),
        "PRIVATE KEY" => RsaKeyPair::from_pkcs8(&der).ok(),
        _ => None,
    }
}
