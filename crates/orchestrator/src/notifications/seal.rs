//! Secrets of targets at rest: encrypted, so that a copy of the database is not enough to
//! answer in someone's name.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::error::Error;

/// Of which kind a sealed text is: a later kind has another.
const KIND: &str = "v1:";

/// What is not to be seen of a target.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Secrets {
    /// Where messages are sent, for webhooks and Slack.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) url: Option<String>,
    /// What signs messages, and callbacks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<String>,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secrets")
    }
}

/// Seals and opens.
pub(super) struct Seal(LessSafeKey);

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seal")
    }
}

impl Seal {
    /// With a key made of this text.
    pub(super) fn new(key: &SecretString) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"cedargate notification targets\0");
        hash.update(key.expose_secret().as_bytes());
        let key: [u8; 32] = hash.finalize().into();
        // 32 bytes are the length of this algorithm's keys.
        let key = UnboundKey::new(&AES_256_GCM, &key)
            .unwrap_or_else(|_| unreachable!("32 bytes are a key of AES-256"));
        Self(LessSafeKey::new(key))
    }

    /// Bound to the target's name: what was sealed for one does not open for another.
    pub(super) fn seal(&self, target: &str, secrets: &Secrets) -> Result<String, Error> {
        let failed = || Error::Bug("secrets cannot be sealed".to_owned());
        let mut bytes = serde_json::to_vec(secrets).map_err(|_| failed())?;
        let nonce: [u8; NONCE_LEN] = rand::random();
        self.0
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(target.as_bytes()),
                &mut bytes,
            )
            .map_err(|_| failed())?;
        let sealed = [&nonce[..], &bytes].concat();
        Ok(format!("{KIND}{}", STANDARD.encode(sealed)))
    }

    /// What was sealed, unless with another key, for another target, or changed since.
    pub(super) fn open(&self, target: &str, sealed: &str) -> Option<Secrets> {
        let bytes = STANDARD.decode(sealed.strip_prefix(KIND)?).ok()?;
        let (nonce, rest) = bytes.split_at_checked(NONCE_LEN)?;
        let mut rest = rest.to_vec();
        let opened = self
            .0
            .open_in_place(
                Nonce::try_assume_unique_for_key(nonce).ok()?,
                Aad::from(target.as_bytes()),
                &mut rest,
            )
            .ok()?;
        serde_json::from_slice(opened).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_with_the_same_key_for_the_same_target_only() {
        let seal = Seal::new(&"a key of some length".into());
        let secrets = Secrets {
            url: Some("https://hooks.example/T0/secret".to_owned()),
            key: None,
        };
        let sealed = seal.seal("on-call", &secrets).unwrap();
        assert!(!sealed.contains("hooks"), "{sealed}");
        assert_ne!(
            sealed,
            seal.seal("on-call", &secrets).unwrap(),
            "a nonce each"
        );
        assert_eq!(seal.open("on-call", &sealed).unwrap().url, secrets.url);
        assert!(seal.open("other", &sealed).is_none());
        assert!(
            Seal::new(&"another key".into())
                .open("on-call", &sealed)
                .is_none()
        );
        let mut bytes = STANDARD.decode(&sealed[KIND.len()..]).unwrap();
        for index in 0..bytes.len() {
            bytes[index] ^= 1;
            let changed = format!("{KIND}{}", STANDARD.encode(&bytes));
            assert!(seal.open("on-call", &changed).is_none(), "byte {index}");
            bytes[index] ^= 1;
        }
        for odd in ["", "v1:", "v1:AAAA", "v2:AAAA", "v1:not base64"] {
            assert!(seal.open("on-call", odd).is_none(), "{odd}");
        }
    }
}
