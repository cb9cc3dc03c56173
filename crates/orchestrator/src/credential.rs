//! Credentials: made here, shown once, kept as digests.

use authz::{Timestamp, TokenId};
use secrecy::SecretString;
use sha2::{Digest as _, Sha256};
use store::agents::Token;
use subtle::ConstantTimeEq;

/// SHA-256 of a credential: all that is kept and compared.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Digest([u8; 32]);

impl Digest {
    /// Of this text.
    pub(crate) fn of(text: &str) -> Self {
        Self(Sha256::digest(text.as_bytes()).into())
    }

    /// As the store knows it.
    pub(crate) fn hex(self) -> String {
        hex::encode(self.0)
    }

    /// Whether both are of the same text, in a time that says nothing about where they differ.
    pub(crate) fn matches(self, other: Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

/// 256 random bits in hexadecimal.
pub(crate) fn random_hex() -> String {
    hex::encode(rand::random::<[u8; 32]>())
}

/// A new credential of an agent, and what is stored of it.
pub(crate) fn agent_token(
    label: &str,
    now: Timestamp,
    expires: Option<Timestamp>,
) -> (SecretString, Token) {
    token("cgt", label, now, expires)
}

/// What a browser's session is known by.
pub(crate) fn session() -> String {
    format!("cgs_{}", random_hex())
}

/// A new credential of a user, and what is stored of it.
pub(crate) fn user_token(
    label: &str,
    now: Timestamp,
    expires: Option<Timestamp>,
) -> (SecretString, Token) {
    token("cgu", label, now, expires)
}

fn token(
    prefix: &str,
    label: &str,
    now: Timestamp,
    expires: Option<Timestamp>,
) -> (SecretString, Token) {
    let text = format!("{prefix}_{}", random_hex());
    let stored = Token {
        id: TokenId::generate(now),
        digest: Digest::of(&text).hex(),
        label: label.to_owned(),
        created: now,
        expires,
        revoked: None,
        last_used: None,
    };
    (text.into(), stored)
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn a_credential_is_found_by_its_digest_and_is_not_in_what_is_stored() {
        let (token, stored) = agent_token("ci", Timestamp::from_millis(0), None);
        assert!(token.expose_secret().starts_with("cgt_") && token.expose_secret().len() == 68);
        assert_eq!(Digest::of(token.expose_secret()).hex(), stored.digest);
        assert!(!format!("{stored:?}").contains(token.expose_secret()));
        let (other, _) = user_token("ci", Timestamp::from_millis(0), None);
        assert!(!Digest::of(other.expose_secret()).matches(Digest::of(token.expose_secret())));
    }
}
