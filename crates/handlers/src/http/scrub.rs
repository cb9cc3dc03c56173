//! Scrubbing: no secret that we know leaves in what a service said.

use authz::redact::REDACTED;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use super::{request::ENCODED, shapes};

/// Shorter secrets occur by chance in innocent text.
const SHORTEST: usize = 4;

/// Replaces known secrets, raw, percent-encoded, in base64 or hexadecimal, or escaped for
/// JSON; and what has the shape of a well-known service's token, whoever's it is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scrubber {
    /// Longest first, so that no part of one is left by replacing another.
    forms: Vec<SecretString>,
}

impl Scrubber {
    /// This one, and what is secret in one command.
    pub(crate) fn and<'a>(&self, secrets: impl IntoIterator<Item = &'a str>) -> Self {
        let mut scrubber = self.clone();
        for secret in secrets {
            scrubber.add(secret);
        }
        scrubber
    }

    /// Takes up a secret, in every form.
    pub(crate) fn add(&mut self, secret: &str) {
        if secret.len() < SHORTEST {
            return;
        }
        for form in forms(secret) {
            if form.len() >= SHORTEST
                && !self.forms.iter().any(|other| other.expose_secret() == form)
            {
                self.forms.push(SecretString::from(form));
            }
        }
        self.forms
            .sort_by_key(|form| std::cmp::Reverse(form.expose_secret().len()));
    }

    /// The text without secrets.
    pub(crate) fn text(&self, text: &str) -> String {
        let mut clean = text.to_owned();
        for form in &self.forms {
            if clean.contains(form.expose_secret()) {
                clean = clean.replace(form.expose_secret(), REDACTED);
            }
        }
        shapes::masked(&clean).unwrap_or(clean)
    }

    /// The value without secrets, in keys or in text.
    pub(crate) fn value(&self, mut value: Value) -> Value {
        self.scrub(&mut value);
        value
    }

    /// What is clean, which is nearly everything, stays where it is.
    fn scrub(&self, value: &mut Value) {
        match value {
            Value::String(text) if self.dirty(text) => *text = self.text(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.scrub(item)),
            Value::Object(fields) => {
                if fields.keys().any(|key| self.dirty(key)) {
                    *fields = std::mem::take(fields)
                        .into_iter()
                        .map(|(key, value)| (self.text(&key), value))
                        .collect();
                }
                fields.values_mut().for_each(|value| self.scrub(value));
            }
            _ => {}
        }
    }

    /// Whether a text holds a secret that is known.
    pub(crate) fn knows(&self, text: &str) -> bool {
        let mut forms = self.forms.iter();
        forms.any(|form| text.contains(form.expose_secret()))
    }

    fn dirty(&self, text: &str) -> bool {
        self.knows(text) || shapes::masked(text).is_some()
    }
}

/// A secret as it is, and as encodings have it.
pub(crate) fn forms(secret: &str) -> Vec<String> {
    let mut forms = vec![secret.to_owned()];
    // Both spellings of `%2f`, and that of parsers which leave unreserved characters.
    let encoded = utf8_percent_encode(secret, NON_ALPHANUMERIC).to_string();
    let sparing = utf8_percent_encode(secret, ENCODED).to_string();
    forms.extend([
        encoded.to_lowercase(),
        sparing.to_lowercase(),
        encoded,
        sparing,
    ]);
    let hex = hex::encode(secret);
    forms.extend([hex.to_uppercase(), hex]);
    if let Ok(escaped) = serde_json::to_string(secret) {
        forms.push(escaped.trim_matches('"').to_owned());
    }
    for alphabet in [STANDARD, URL_SAFE] {
        forms.extend((0..3).map(|offset| base64_at(secret.as_bytes(), offset, alphabet)));
    }
    // Coolify-like tokens are `<id>|<secret>`: the part after the bar is the secret.
    forms.extend(
        secret
            .rsplit_once('|')
            .map(|(_, part)| part.to_owned())
            .filter(|part| part.len() >= 8),
    );
    forms
}

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL_SAFE: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// What base64 makes of `bytes` when they begin `offset` bytes after a multiple of three,
/// as after `Bearer ` or a user's name. Only the digits that depend on nothing else.
fn base64_at(bytes: &[u8], offset: usize, alphabet: &[u8; 64]) -> String {
    let bits = bytes
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1));
    // A digit is six bits; the first whole digit begins on a multiple of six.
    let skip = (6 - offset * 8 % 6) % 6;
    let bits: Vec<u8> = bits.skip(skip).collect();
    let digits = bits.chunks_exact(6).map(|six| {
        six.iter()
            .fold(0_usize, |digit, bit| digit << 1 | usize::from(*bit))
    });
    digits
        .filter_map(|digit| alphabet.get(digit).map(|&letter| char::from(letter)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "7|s3cr3t/tok+en==";

    fn scrubber() -> Scrubber {
        let mut scrubber = Scrubber::default();
        scrubber.add(SECRET);
        scrubber
    }

    #[test]
    fn a_secret_is_replaced_in_every_form() {
        let encodings = [
            SECRET,
            "7%7Cs3cr3t%2Ftok%2Ben%3D%3D",
            "7%7cs3cr3t%2ftok%2ben%3d%3d",
            // base64 of `7|s3cr3t/tok+en==`, of `Bearer 7|…` and of `me:7|…`
            "N3xzM2NyM3QvdG9rK2VuPT0=",
            "QmVhcmVyIDd8czNjcjN0L3Rvaytlbj09",
            "bWU6N3xzM2NyM3QvdG9rK2VuPT0=",
            "s3cr3t/tok+en==",
            &hex::encode(SECRET),
            &hex::encode_upper(SECRET),
        ];
        for encoding in encodings {
            let clean = scrubber().text(&format!("x {encoding} y"));
            assert!(clean.contains(REDACTED), "{encoding}: {clean}");
            for part in ["s3cr3t", "M2NyM3", "czNjcjN0", "zY3IzdC"] {
                assert!(!clean.contains(part), "{encoding}: {clean}");
            }
        }
        assert_eq!(scrubber().text("nothing here"), "nothing here");
    }

    #[test]
    fn secrets_in_keys_and_deep_values_are_replaced() {
        let value = serde_json::json!({"a": [{SECRET: SECRET}], "n": 1});
        assert_eq!(
            scrubber().value(value),
            serde_json::json!({"a": [{REDACTED: REDACTED}], "n": 1})
        );
    }

    #[test]
    fn the_debug_form_shows_no_secret() {
        assert!(!format!("{:?}", scrubber()).contains("s3cr3t"));
    }
}
