//! Signatures: of what we send and receive as Standard Webhooks say, and of what Slack sends.

use std::time::Duration;

use authz::Timestamp;
use axum::http::HeaderMap;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// What is older, or newer, than this is refused.
pub(super) const TOLERANCE: Duration = Duration::from_mins(5);

/// Before the base64 of a webhook's secret.
const PREFIX: &str = "whsec_";

/// Why a callback is not believed. Says nothing that helps to forge one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Forged {
    #[error("this callback has no signature, or an odd one")]
    Unsigned,
    #[error("this callback is more than five minutes old, or from the future")]
    Stale,
    #[error("this callback's signature is not of anyone known here")]
    Unknown,
    #[error("this callback was taken before")]
    Replayed,
}

/// A webhook's secret as bytes.
///
/// # Errors
///
/// In words.
pub(super) fn webhook_key(secret: &str) -> Result<Vec<u8>, String> {
    let expected = || format!("expected `{PREFIX}` and 24 to 64 bytes in base64");
    let bytes = secret
        .strip_prefix(PREFIX)
        .and_then(|text| STANDARD.decode(text).ok())
        .ok_or_else(expected)?;
    if (24..=64).contains(&bytes.len()) {
        Ok(bytes)
    } else {
        Err(expected())
    }
}

/// A new secret.
pub(super) fn new_webhook_secret() -> String {
    format!("{PREFIX}{}", STANDARD.encode(rand::random::<[u8; 32]>()))
}

/// The value of `webhook-signature`.
pub(super) fn sign(key: &[u8], id: &str, seconds: i64, body: &[u8]) -> String {
    let mac = webhook_mac(key, id, seconds, body);
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

fn webhook_mac(key: &[u8], id: &str, seconds: i64, body: &[u8]) -> Hmac<Sha256> {
    let mut mac = mac(key);
    mac.update(id.as_bytes());
    mac.update(format!(".{seconds}.").as_bytes());
    mac.update(body);
    mac
}

fn mac(key: &[u8]) -> Hmac<Sha256> {
    // A key of any length is good for HMAC.
    Hmac::new_from_slice(key).unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"))
}

/// Whether a callback has one good signature, and what names it, to refuse it a second time.
///
/// # Errors
///
/// [`Forged`].
pub(super) fn verify_webhook(
    key: &[u8],
    headers: &HeaderMap,
    body: &[u8],
    now: Timestamp,
) -> Result<String, Forged> {
    let id = header(headers, "webhook-id").ok_or(Forged::Unsigned)?;
    let seconds = fresh(header(headers, "webhook-timestamp"), now)?;
    let signatures = header(headers, "webhook-signature").ok_or(Forged::Unsigned)?;
    let good = signatures
        .split(' ')
        .filter_map(|signature| signature.strip_prefix("v1,"))
        .filter_map(|text| STANDARD.decode(text).ok())
        .any(|signature| {
            webhook_mac(key, id, seconds, body)
                .verify_slice(&signature)
                .is_ok()
        });
    if good {
        Ok(id.to_owned())
    } else {
        Err(Forged::Unknown)
    }
}

/// A request of Slack's, as far as it says itself.
#[derive(Debug)]
pub(super) struct SlackSigned {
    seconds: i64,
    signature: Vec<u8>,
}

impl SlackSigned {
    /// # Errors
    ///
    /// [`Forged::Unsigned`] and [`Forged::Stale`].
    pub(super) fn read(headers: &HeaderMap, now: Timestamp) -> Result<Self, Forged> {
        let seconds = fresh(header(headers, "x-slack-request-timestamp"), now)?;
        let signature = header(headers, "x-slack-signature")
            .and_then(|text| text.strip_prefix("v0="))
            .and_then(|text| hex::decode(text).ok())
            .filter(|bytes| bytes.len() == 32)
            .ok_or(Forged::Unsigned)?;
        Ok(Self { seconds, signature })
    }

    /// Whether this secret signed it.
    pub(super) fn is_of(&self, secret: &str, body: &[u8]) -> bool {
        let mut mac = mac(secret.as_bytes());
        mac.update(format!("v0:{}:", self.seconds).as_bytes());
        mac.update(body);
        mac.verify_slice(&self.signature).is_ok()
    }

    /// What names it.
    pub(super) fn name(&self) -> String {
        hex::encode(&self.signature)
    }
}

/// The one value of a header.
fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    (values.next().is_none() && !value.is_empty()).then_some(value)
}

/// Seconds since 1970, if they are about now.
fn fresh(text: Option<&str>, now: Timestamp) -> Result<i64, Forged> {
    let seconds: i64 = text
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|text| text.parse().ok())
        .ok_or(Forged::Unsigned)?;
    let off = now
        .as_millis()
        .abs_diff(seconds.checked_mul(1_000).ok_or(Forged::Stale)?);
    if u128::from(off) > TOLERANCE.as_millis() {
        return Err(Forged::Stale);
    }
    Ok(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                (
                    axum::http::HeaderName::from_static(name),
                    value.parse().unwrap(),
                )
            })
            .collect()
    }

    /// The example of the specification's own libraries.
    #[test]
    fn the_specifications_example_is_signed_as_it_says() {
        let key = webhook_key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signature = sign(
            &key,
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            br#"{"test": 2432232314}"#,
        );
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn only_a_fresh_callback_of_the_right_key_is_believed() {
        let key = webhook_key(&new_webhook_secret()).unwrap();
        let now = Timestamp::from_millis(1_780_000_000_000);
        let check = |key: &[u8], id: &str, seconds: i64, signature: &str, body: &[u8]| {
            let seconds = seconds.to_string();
            let headers = headers(&[
                ("webhook-id", id),
                ("webhook-timestamp", &seconds),
                ("webhook-signature", signature),
            ]);
            verify_webhook(key, &headers, body, now)
        };
        let at = 1_780_000_000;
        let good = sign(&key, "m", at, b"{}");
        assert_eq!(check(&key, "m", at, &good, b"{}"), Ok("m".to_owned()));
        let several = format!("v1,AAAA v1a,BBBB {good}");
        assert!(check(&key, "m", at, &several, b"{}").is_ok());
        let other = webhook_key(&new_webhook_secret()).unwrap();
        for (what, result) in [
            ("another key", check(&other, "m", at, &good, b"{}")),
            ("another id", check(&key, "n", at, &good, b"{}")),
            ("another time", check(&key, "m", at + 1, &good, b"{}")),
            ("another body", check(&key, "m", at, &good, b"{} ")),
            (
                "another kind",
                check(&key, "m", at, &good.replace("v1,", "v2,"), b"{}"),
            ),
            ("cut short", check(&key, "m", at, &good[..20], b"{}")),
        ] {
            assert_eq!(result, Err(Forged::Unknown), "{what}");
        }
        for (seconds, fresh) in [(-300, true), (-301, false), (300, true), (301, false)] {
            let at = at + seconds;
            let result = check(&key, "m", at, &sign(&key, "m", at, b""), b"");
            assert_eq!(result.is_ok(), fresh, "{seconds}");
            assert!(fresh || result == Err(Forged::Stale));
        }
        assert_eq!(
            verify_webhook(&key, &HeaderMap::new(), b"", now),
            Err(Forged::Unsigned)
        );
    }

    /// The example of Slack's documentation.
    #[test]
    fn slacks_example_is_signed_as_it_says() {
        let body = b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
        let signature = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503";
        let now = Timestamp::from_millis(1_531_420_618_000);
        let headers = headers(&[
            ("x-slack-request-timestamp", "1531420618"),
            ("x-slack-signature", signature),
        ]);
        let signed = SlackSigned::read(&headers, now).unwrap();
        assert!(signed.is_of("8f742231b10e8888abcd99yyyzzz85a5", body));
        assert!(!signed.is_of("8f742231b10e8888abcd99yyyzzz85a6", body));
        assert!(!signed.is_of("8f742231b10e8888abcd99yyyzzz85a5", &body[1..]));
        let later = now.plus(TOLERANCE).plus(Duration::from_secs(1));
        assert_eq!(
            SlackSigned::read(&headers, later).unwrap_err(),
            Forged::Stale
        );
    }

    #[test]
    fn a_secret_is_long_enough() {
        for (secret, valid) in [
            (new_webhook_secret(), true),
            ("whsec_c2hvcnQ=".to_owned(), false),
            (new_webhook_secret().replace("whsec_", ""), false),
            ("whsec_!!".to_owned(), false),
        ] {
            assert_eq!(webhook_key(&secret).is_ok(), valid, "{secret}");
        }
    }
}
