//! One token: which key signed it, and what it says.

use std::time::Duration;

use authz::Timestamp;
use jsonwebtoken::{
    Algorithm, DecodingKey, Header, Validation, dangerous, decode, decode_header,
    jwk::{Jwk, JwkSet, KeyOperations, PublicKeyUse},
};
use serde_json::{Map, Value};

/// How far apart an issuer's clock and ours may be.
pub const SKEW: Duration = Duration::from_mins(1);

/// A token is at most so long.
const MAX_BYTES: usize = 64 * 1024;

/// Why a token is not believed: a word for the log, and for whoever tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused(pub &'static str);

/// A token in a form that is allowed, before anything is proved.
#[derive(Debug)]
pub struct Signed {
    header: Header,
    unproven: Claims,
}

/// The key that signed a token, and how.
pub struct Key {
    key: DecodingKey,
    algorithm: Algorithm,
}

impl Signed {
    /// Reads what a token says of itself, if it may be signed in the way that it says.
    ///
    /// # Errors
    ///
    /// When it is not one, or signed in another way.
    pub fn read(token: &str, allowed: &[Algorithm]) -> Result<Self, Refused> {
        if token.len() > MAX_BYTES {
            return Err(Refused("the token is too long"));
        }
        let header = decode_header(token)
            .map_err(|_| Refused("this is no token that is signed in a way that is known"))?;
        // What the header says chooses among what we allow, and nothing beyond. A header
        // that must be understood is not.
        if !allowed.contains(&header.alg) {
            return Err(Refused("the token is signed in a way that is not allowed"));
        }
        if header.crit.is_some() {
            return Err(Refused("the token wants something to be understood"));
        }
        let unproven = dangerous::insecure_decode_claims(token)
            .map(Claims)
            .map_err(|_| Refused("the token does not say anything that can be read"))?;
        Ok(Self { header, unproven })
    }

    /// What kind of token it calls itself: `at+jwt`, `JWT`, …
    #[must_use]
    pub fn kind(&self) -> Option<&str> {
        self.header.typ.as_deref()
    }

    /// What it says, though nobody has signed it as far as is known.
    pub(crate) fn unproven(&self) -> &Claims {
        &self.unproven
    }

    /// The key among these that it names, if that may sign so.
    #[must_use]
    pub fn key(&self, keys: &JwkSet) -> Option<Key> {
        let header = &self.header;
        let fits = |key: &&Jwk| {
            let common = &key.common;
            let named = header
                .kid
                .as_ref()
                .is_none_or(|kid| common.key_id.as_ref() == Some(kid));
            let usable = common
                .public_key_use
                .as_ref()
                .is_none_or(|purpose| *purpose == PublicKeyUse::Signature)
                && common
                    .key_operations
                    .as_ref()
                    .is_none_or(|operations| operations.contains(&KeyOperations::Verify));
            let algorithm = common.key_algorithm.is_none_or(|algorithm| {
                Algorithm::try_from(algorithm).is_ok_and(|algorithm| algorithm == header.alg)
            });
            named
                && usable
                && algorithm
                && DecodingKey::from_jwk(key).is_ok_and(|key| key.family() == header.alg.family())
        };
        let mut found = keys.keys.iter().filter(fits);
        let key = found.next()?;
        // Without a name it must be the only one.
        if header.kid.is_none() && found.next().is_some() {
            return None;
        }
        Some(Key {
            key: DecodingKey::from_jwk(key).ok()?,
            algorithm: header.alg,
        })
    }
}

impl Key {
    /// What the token says, if this key signed it.
    ///
    /// # Errors
    ///
    /// When it did not.
    pub fn claims(&self, token: &str) -> Result<Claims, Refused> {
        let mut validation = Validation::new(self.algorithm);
        // Of the library only the signature: it would read another clock than ours.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        decode(token, &self.key, &validation)
            .map(|token| Claims(token.claims))
            .map_err(|_| Refused("the token's signature is wrong"))
    }
}

/// What a token says.
#[derive(Clone, Debug)]
pub struct Claims(Map<String, Value>);

impl Claims {
    /// A claim as it is.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// A claim's text.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(Value::as_str)
    }

    /// A claim, or what is at a path such as `realm_access.roles`.
    #[must_use]
    pub fn at(&self, path: &str) -> Option<&Value> {
        let within = || {
            let mut parts = path.split('.');
            let first = self.get(parts.next()?)?;
            parts.try_fold(first, |value, part| value.get(part))
        };
        self.get(path).or_else(within)
    }

    /// The texts at a path: a list, or one.
    #[must_use]
    pub fn texts(&self, path: &str) -> Vec<&str> {
        match self.at(path) {
            Some(Value::String(one)) => vec![one],
            Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        }
    }

    /// The e-mail address, if the issuer says that it is theirs.
    #[must_use]
    pub fn verified_email(&self) -> Option<&str> {
        let verified = self.get("email_verified") == Some(&Value::Bool(true));
        self.text("email").filter(|_| verified)
    }

    /// A claim's time.
    #[must_use]
    pub fn time(&self, name: &str) -> Option<Timestamp> {
        let number = self.get(name)?.as_f64()?;
        // Beyond that it is no time; and what is left fits.
        #[allow(
            clippy::cast_possible_truncation,
            reason = "within the bounds checked here"
        )]
        (number.is_finite() && number.abs() < 1e12)
            .then(|| Timestamp::from_millis((number * 1_000.0) as i64))
    }

    /// That exactly this issuer made it.
    ///
    /// # Errors
    ///
    /// When it names another, or none.
    pub fn issued_by(&self, issuer: &str) -> Result<(), Refused> {
        if self.text("iss") == Some(issuer) {
            Ok(())
        } else {
            Err(Refused("the token is of another issuer"))
        }
    }

    /// For whom it is.
    #[must_use]
    pub fn audiences(&self) -> Vec<&str> {
        self.texts("aud")
    }

    /// That it is good now, give or take [`SKEW`]: it must end, and must have begun.
    ///
    /// # Errors
    ///
    /// When it is not, or does not say so.
    pub fn good_at(&self, now: Timestamp) -> Result<(), Refused> {
        let ends = self
            .time("exp")
            .ok_or(Refused("the token does not say when it ends"))?;
        if ends.plus(SKEW) <= now {
            return Err(Refused("the token has expired"));
        }
        for begins in ["iat", "nbf"] {
            if self.get(begins).is_none() {
                continue;
            }
            let begins = self
                .time(begins)
                .ok_or(Refused("the token does not say when it is of"))?;
            if now.plus(SKEW) < begins {
                return Err(Refused("the token is of the future"));
            }
        }
        Ok(())
    }
}
