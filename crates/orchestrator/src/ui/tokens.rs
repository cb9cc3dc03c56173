//! Credentials of agents and people, as their pages list them.

use authz::{Timestamp, TokenId};
use contract::agents::CreateToken;
use serde::Deserialize;
use store::agents::Token;

use super::moment::Moment;
use crate::error::Error;

/// One credential; never the credential itself.
pub(crate) struct Listed {
    pub(crate) id: TokenId,
    pub(crate) label: String,
    pub(crate) created: Moment,
    pub(crate) expires: Option<Moment>,
    pub(crate) last_used: Option<Moment>,
    /// `live`, `expired` or `revoked`.
    pub(crate) state: &'static str,
}

impl Listed {
    pub(crate) fn new(token: &Token, now: Timestamp) -> Self {
        let state = if token.revoked.is_some() {
            "revoked"
        } else if token.expires.is_some_and(|expires| expires <= now) {
            "expired"
        } else {
            "live"
        };
        Self {
            id: token.id,
            label: token.label.clone(),
            created: Moment::past(token.created, now),
            expires: token.expires.map(|expires| Moment::until(expires, now)),
            last_used: token.last_used.map(|used| Moment::past(used, now)),
            state,
        }
    }

    pub(crate) fn is_live(&self) -> bool {
        self.state == "live"
    }
}

/// The form that makes one.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewToken {
    label: String,
    /// Days that it lives; empty: until revoked.
    #[serde(default)]
    days: String,
}

impl NewToken {
    /// As the API takes it.
    pub(crate) fn create(self) -> Result<CreateToken, Error> {
        let days = self.days.trim();
        let expires_in_seconds = if days.is_empty() {
            None
        } else {
            let days: u64 = days
                .parse()
                .map_err(|_| Error::field("days", "a whole number, or nothing"))?;
            Some(days.saturating_mul(24 * 60 * 60))
        };
        Ok(CreateToken {
            label: self.label,
            expires_in_seconds,
        })
    }
}
