//! Whether an id token is believed, and what it says.

use authz::Timestamp;
use issuer::{Refused, SKEW};
use subtle::ConstantTimeEq;

use super::{Config, Flow, Provider, Purpose};

/// Names of people are at most so long.
const MAX_SUBJECT_BYTES: usize = 255;

/// What a believed token says.
#[derive(Clone, Debug)]
pub(crate) struct Claims {
    pub(crate) subject: String,
    /// When they last showed themselves to the provider.
    pub(crate) authenticated: Option<Timestamp>,
    pub(crate) all: issuer::Claims,
}

impl Claims {
    /// When they proved a second factor there, if the provider says so in the operator's
    /// words for it.
    pub(crate) fn second_factor(&self, provider: &Provider) -> Option<Timestamp> {
        let config = &provider.config;
        let by_class = self
            .all
            .text("acr")
            .is_some_and(|acr| config.mfa_acr.iter().any(|known| known == acr));
        let by_method = self
            .all
            .texts("amr")
            .iter()
            .any(|amr| config.mfa_amr.iter().any(|known| known == amr));
        (by_class || by_method)
            .then_some(self.authenticated)
            .flatten()
    }
}

/// Checks what a token that the provider signed says: for whom and when it is, and that it
/// answers this question.
pub(crate) fn verify(
    claims: issuer::Claims,
    config: &Config,
    flow: &Flow,
    now: Timestamp,
) -> Result<Claims, Refused> {
    claims.issued_by(&config.issuer)?;
    let audiences = claims.audiences();
    let ours = config.client_id.as_str();
    if !audiences.contains(&ours) {
        return Err(Refused("the token is for somebody else"));
    }
    let party = claims.get("azp").map(|party| party.as_str());
    if party.map_or(audiences.len() > 1, |party| party != Some(ours)) {
        return Err(Refused("the token was issued to somebody else"));
    }
    if claims.time("iat").is_none() {
        return Err(Refused("the token does not say when it is of"));
    }
    claims.good_at(now)?;
    let nonce = claims.text("nonce").unwrap_or_default();
    if !bool::from(nonce.as_bytes().ct_eq(flow.nonce.as_bytes())) {
        return Err(Refused("the token answers another question"));
    }
    let subject = claims
        .text("sub")
        .filter(|subject| (1..=MAX_SUBJECT_BYTES).contains(&subject.len()))
        .ok_or(Refused("the token names nobody"))?
        .to_owned();
    let authenticated = claims.time("auth_time");
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
