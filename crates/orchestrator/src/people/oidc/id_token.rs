//! Whether an id token is believed, and what it says.

use std::time::Duration;

use authz::Timestamp;
use jsonwebtoken::{
    Algorithm, DecodingKey, Validation, decode, decode_header,
    jwk::{Jwk, JwkSet, PublicKeyUse},
};
use serde_json::{Map, Value};
use subtle::ConstantTimeEq;

use super::{Flow, Provider, Purpose};

/// How far apart the provider's clock and ours may be.
const SKEW: Duration = Duration::from_mins(1);

/// A provider's id token is at most so long.
const MAX_BYTES: usize = 64 * 1024;

/// Names of people are at most so long.
const MAX_SUBJECT_BYTES: usize = 255;

/// Why what came is not believed: a word for the log, and for whoever tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused(pub(crate) &'static str);

/// The key that signed a token, and how.
pub(crate) struct Key {
    key: DecodingKey,
    algorithm: Algorithm,
}

impl Key {
    /// The provider's key that the token names, if it may sign so.
    pub(crate) fn find(token: &str, keys: &JwkSet, allowed: &[Algorithm]) -> Option<Self> {
        if token.len() > MAX_BYTES {
            return None;
        }
        let header = decode_header(token).ok()?;
        // What the header says chooses among what we allow, and nothing beyond. A header
        // that must be understood is not.
        if !allowed.contains(&header.alg) || header.crit.is_some() {
            return None;
        }
        let fits = |key: &&Jwk| {
            let usable = key
                .common
                .public_key_use
                .as_ref()
                .is_none_or(|purpose| *purpose == PublicKeyUse::Signature);
            let algorithm = key.common.key_algorithm.is_none_or(|algorithm| {
                algorithm
                    .to_string()
                    .parse::<Algorithm>()
                    .is_ok_and(|algorithm| algorithm == header.alg)
            });
            let named = header
                .kid
                .as_ref()
                .is_none_or(|kid| key.common.key_id.as_ref() == Some(kid));
            let family = DecodingKey::from_jwk(key)
                .is_ok_and(|decoding| decoding.family() == header.alg.family());
            usable && algorithm && named && family
        };
        let mut found = keys.keys.iter().filter(fits);
        let key = found.next()?;
        // Without a name it must be the only one.
        if header.kid.is_none() && found.next().is_some() {
            return None;
        }
        Some(Self {
            key: DecodingKey::from_jwk(key).ok()?,
            algorithm: header.alg,
        })
    }
}

/// What a believed token says.
#[derive(Clone, Debug)]
pub(crate) struct Claims {
    pub(crate) subject: String,
    /// When they last showed themselves to the provider.
    pub(crate) authenticated: Option<Timestamp>,
    pub(crate) all: Map<String, Value>,
}

impl Claims {
    /// A claim's text.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.all.get(name).and_then(Value::as_str)
    }

    /// The e-mail address, if the provider says that it is theirs.
    pub(crate) fn verified_email(&self) -> Option<&str> {
        let verified = self.all.get("email_verified") == Some(&Value::Bool(true));
        self.text("email").filter(|_| verified)
    }

    /// The texts at a path such as `realm_access.roles`: a list, or one.
    pub(crate) fn texts(&self, path: &str) -> Vec<&str> {
        let whole = self.all.get(path);
        let within = || {
            let mut parts = path.split('.');
            let first = self.all.get(parts.next()?)?;
            parts.try_fold(first, |value, part| value.get(part))
        };
        match whole.or_else(within) {
            Some(Value::String(one)) => vec![one],
            Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        }
    }

    /// When they proved a second factor there, if the provider says so in the operator's
    /// words for it.
    pub(crate) fn second_factor(&self, provider: &Provider) -> Option<Timestamp> {
        let config = &provider.config;
        let by_class = self
            .text("acr")
            .is_some_and(|acr| config.mfa_acr.iter().any(|known| known == acr));
        let by_method = self
            .texts("amr")
            .iter()
            .any(|amr| config.mfa_amr.iter().any(|known| known == amr));
        (by_class || by_method)
            .then_some(self.authenticated)
            .flatten()
    }
}

fn time(claims: &Map<String, Value>, name: &str) -> Option<Timestamp> {
    let number = claims.get(name)?.as_f64()?;
    // Beyond that it is no time; and what is left fits.
    #[allow(
        clippy::cast_possible_truncation,
        reason = "within the bounds checked here"
    )]
    (number.is_finite() && number.abs() < 1e12)
        .then(|| Timestamp::from_millis((number * 1_000.0) as i64))
}

/// Checks a token: its signature, for whom and by whom it is, its times, and that it
/// answers this question.
pub(crate) fn verify(
    token: &str,
    key: &Key,
    provider: &Provider,
    flow: &Flow,
    now: Timestamp,
) -> Result<Claims, Refused> {
    let mut validation = Validation::new(key.algorithm);
    // Of the library only the signature: it would read another clock than ours.
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    let claims = decode::<Map<String, Value>>(token, &key.key, &validation)
        .map_err(|_| Refused("the id token's signature is wrong"))?
        .claims;

    let config = &provider.config;
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    if text("iss") != Some(config.issuer.as_str()) {
        return Err(Refused("the id token is of another issuer"));
    }
    let audiences: Vec<Option<&str>> = match claims.get("aud") {
        Some(Value::String(one)) => vec![Some(one)],
        Some(Value::Array(many)) => many.iter().map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let ours = Some(config.client_id.as_str());
    if !audiences.contains(&ours) {
        return Err(Refused("the id token is for somebody else"));
    }
    let party = claims.get("azp").map(Value::as_str);
    if party.map_or(audiences.len() > 1, |party| party != ours) {
        return Err(Refused("the id token was issued to somebody else"));
    }
    let expires = time(&claims, "exp").ok_or(Refused("the id token does not say when it ends"))?;
    if expires.plus(SKEW) <= now {
        return Err(Refused("the id token has expired"));
    }
    let issued = time(&claims, "iat").ok_or(Refused("the id token does not say when it is of"))?;
    let valid_from = time(&claims, "nbf").unwrap_or(issued);
    if now.plus(SKEW) < issued.max(valid_from) {
        return Err(Refused("the id token is of the future"));
    }
    let nonce = text("nonce").unwrap_or_default();
    if !bool::from(nonce.as_bytes().ct_eq(flow.nonce.as_bytes())) {
        return Err(Refused("the id token answers another question"));
    }
    let subject = text("sub")
        .filter(|subject| (1..=MAX_SUBJECT_BYTES).contains(&subject.len()))
        .ok_or(Refused("the id token names nobody"))?
        .to_owned();
    let authenticated = time(&claims, "auth_time");
    if flow.purpose == Purpose::StepUp
        && authenticated.is_none_or(|authenticated| authenticated.plus(SKEW) < flow.begun)
    {
        return Err(Refused("the provider did not ask again who it is"));
    }
    Ok(Claims {
        subject,
        authenticated,
        all: claims,
    })
}
