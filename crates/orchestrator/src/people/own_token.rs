//! Credentials that people make for themselves: for their command line and their scripts.
//!
//! One holds no more rights than its person, for rights are the person's and looked up at
//! each use; and what a proved second factor opens, it opens only once that is proved with
//! it. So that it prolongs nothing that was to end: it always has an end, and not after
//! that of the credential by which its person came.

use std::time::Duration;

use authz::TokenId;
use contract::agents::CreateToken;
use secrecy::SecretString;
use store::{agents::Token, sessions::Credential};

use super::second_factor::may_change;
use crate::{Orchestrator, api::agents::check_token, authenticate::Person, error::Error};

/// One lives no longer.
pub(crate) const LONGEST: Duration = Duration::from_hours(90 * 24);

/// Somebody has at most so many that live, whoever made them.
const MOST: usize = 20;

/// Makes one; the answer is the only time that it is known.
///
/// # Errors
///
/// [`Error::StepUp`] or [`Error::NotFresh`], as for a change of the second factor: a
/// browser left open is not enough. [`Error::Invalid`] without an end or with too late a
/// one, [`Error::Conflict`] if they have too many.
pub(crate) async fn create(
    orchestrator: &Orchestrator,
    person: &Person,
    create: &CreateToken,
) -> Result<(SecretString, Token), Error> {
    may_change(orchestrator, person).await?;
    let actor = orchestrator.actor(person);
    let lifetime = check_token(create)?
        .filter(|lifetime| *lifetime <= LONGEST)
        .ok_or_else(|| Error::field("expires_in_seconds", "needed, at most 90 days"))?;
    let tokens = orchestrator.store().user_tokens(&person.user.id).await?;
    let live = tokens.iter().filter(|token| is_live(token, actor.at));
    if live.count() >= MOST {
        return Err(Error::Conflict(format!(
            "you have {MOST} tokens already: revoke one that you no longer need"
        )));
    }
    let came_by = match person.credential {
        Credential::Token(token) => Some(token),
        // A session that began with a token names it.
        Credential::Session(_) => person.origin.parse::<TokenId>().ok(),
    };
    let end = tokens
        .iter()
        .find(|token| Some(token.id) == came_by)
        .and_then(|token| token.expires);
    if let Some(end) = end.filter(|end| *end < actor.at.plus(lifetime)) {
        return Err(Error::field(
            "expires_in_seconds",
            format!("not after {end}, when the token ends with which you came"),
        ));
    }
    let made = orchestrator
        .new_user_token(&person.user.id, &create.label, Some(lifetime), &actor)
        .await?;
    tracing::info!(user = %person.user.id, token = %made.1.id, "own_token_created");
    Ok(made)
}

fn is_live(token: &Token, now: authz::Timestamp) -> bool {
    token.revoked.is_none() && token.expires.is_none_or(|expires| now < expires)
}
