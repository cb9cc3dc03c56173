//! What a browser carries to the provider and back.

use std::time::Duration;

use authz::Timestamp;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;

use crate::credential::random_hex;

/// How long somebody may take at the provider.
pub(crate) const LIFETIME: Duration = Duration::from_mins(10);

/// What it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To log in.
    LogIn,
    /// To prove again that it is them.
    StepUp,
    /// To say who they are there.
    Link,
}

impl Purpose {
    const ALL: [Self; 3] = [Self::LogIn, Self::StepUp, Self::Link];

    const fn as_str(self) -> &'static str {
        match self {
            Self::LogIn => "login",
            Self::StepUp => "step-up",
            Self::Link => "link",
        }
    }
}

/// One way to the provider and back.
#[derive(Clone)]
pub(crate) struct Flow {
    pub(crate) purpose: Purpose,
    pub(crate) state: String,
    pub(crate) nonce: String,
    pub(crate) verifier: String,
    pub(crate) begun: Timestamp,
    /// Where to go after: a path of ours.
    pub(crate) next: String,
}

impl std::fmt::Debug for Flow {
    /// Without what proves something.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flow")
            .field("purpose", &self.purpose)
            .field("begun", &self.begun)
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}

impl Flow {
    pub(crate) fn begin(purpose: Purpose, next: String, now: Timestamp) -> Self {
        Self {
            purpose,
            state: random_hex(),
            nonce: random_hex(),
            verifier: random_hex(),
            begun: now,
            next,
        }
    }

    /// The PKCE challenge.
    pub(crate) fn challenge(&self) -> String {
        URL_SAFE_NO_PAD.encode(Sha256::digest(&self.verifier))
    }

    /// As a cookie's value.
    pub(crate) fn cookie(&self) -> String {
        let next = hex::encode(&self.next);
        format!(
            "{}.{}.{}.{}.{}.{next}",
            self.purpose.as_str(),
            self.state,
            self.nonce,
            self.verifier,
            self.begun.as_millis(),
        )
    }

    /// What a cookie says, if it says something, and not too long ago.
    pub(crate) fn from_cookie(text: &str, now: Timestamp) -> Option<Self> {
        if text.len() > 2_048 {
            return None;
        }
        let mut parts = text.split('.');
        let purpose = parts.next()?;
        let purpose = Purpose::ALL
            .into_iter()
            .find(|known| known.as_str() == purpose)?;
        let mut secret = || {
            parts
                .next()
                .filter(|part| part.len() == 64)
                .map(str::to_owned)
        };
        let (state, nonce, verifier) = (secret()?, secret()?, secret()?);
        let begun = Timestamp::from_millis(parts.next()?.parse().ok()?);
        let next = String::from_utf8(hex::decode(parts.next()?).ok()?).ok()?;
        let live = begun <= now && now.since(begun) < LIFETIME;
        (live && parts.next().is_none()).then_some(Self {
            purpose,
            state,
            nonce,
            verifier,
            begun,
            next,
        })
    }

    /// Whether the answer is to this question.
    pub(crate) fn is_answered_by(&self, state: &str) -> bool {
        self.state.as_bytes().ct_eq(state.as_bytes()).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Timestamp = Timestamp::from_millis(1_790_000_000_000);

    #[test]
    fn a_cookie_says_what_was_put_in_for_ten_minutes() {
        let flow = Flow::begin(Purpose::StepUp, "/approvals/a.b".to_owned(), NOON);
        let cookie = flow.cookie();
        let read = Flow::from_cookie(&cookie, NOON.plus(Duration::from_secs(599))).unwrap();
        assert_eq!(
            (read.purpose, read.next.as_str()),
            (Purpose::StepUp, "/approvals/a.b")
        );
        assert!(read.is_answered_by(&flow.state) && !read.is_answered_by(&flow.nonce));
        assert!(Flow::from_cookie(&cookie, NOON.plus(LIFETIME)).is_none());
        assert!(
            Flow::from_cookie(&cookie, NOON.minus(LIFETIME)).is_none(),
            "from the future"
        );
        for odd in [
            "",
            "login",
            "login.a.b.c.0.",
            &cookie.replace("step-up", "admin"),
            &format!("{cookie}.x"),
            &cookie.replace("2f", "zz"),
            &"x".repeat(10_000),
        ] {
            assert!(Flow::from_cookie(odd, NOON).is_none(), "{odd}");
        }
        let shown = format!("{flow:?}");
        assert!(!shown.contains(&flow.verifier) && !shown.contains(&flow.state));
    }

    /// RFC 7636, appendix B.
    #[test]
    fn the_challenge_is_the_rfcs() {
        let flow = Flow {
            verifier: "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk".to_owned(),
            ..Flow::begin(Purpose::LogIn, String::new(), NOON)
        };
        assert_eq!(
            flow.challenge(),
            "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
        );
    }
}
