//! Whom a believed id token lets in.

use std::collections::BTreeSet;

use authz::{
    User, UserId,
    approval::{Administration, Presence, may_administer},
};
use store::{Actor, StoreError, identities::Identity, users::StoredUser};

use super::{Claims, Provider};
use crate::{Orchestrator, error::Error};

/// A person's name is cut to so many characters.
const MAX_NAME_CHARS: usize = 200;

/// The user whom the claims are of, with the roles and teams that their groups give.
///
/// # Errors
///
/// [`Error::LoginRefused`], and what the store says.
pub(crate) async fn admit(
    orchestrator: &Orchestrator,
    provider: &Provider,
    claims: &Claims,
    actor: &Actor,
) -> Result<User, Error> {
    let identity = Identity {
        issuer: provider.config.issuer.clone(),
        subject: claims.subject.clone(),
    };
    let stored = match orchestrator.store().user_by_identity(&identity).await {
        Ok(stored) => stored,
        Err(StoreError::NotFound(_)) => {
            match linked(orchestrator, provider, claims, &identity, actor).await? {
                Some(stored) => stored,
                None => created(orchestrator, provider, claims, &identity, actor).await?,
            }
        }
        Err(error) => return Err(error.into()),
    };
    if !stored.user.active {
        return Err(Error::LoginRefused("this account is not active".to_owned()));
    }
    synchronised(orchestrator, provider, claims, stored, actor).await
}

/// The user whose id is the verified e-mail address, where the operator wants that.
async fn linked(
    orchestrator: &Orchestrator,
    provider: &Provider,
    claims: &Claims,
    identity: &Identity,
    actor: &Actor,
) -> Result<Option<StoredUser>, Error> {
    if !provider.config.link_by_email {
        return Ok(None);
    }
    let Some(id) = claims.all.verified_email().and_then(user_id) else {
        return Ok(None);
    };
    let store = orchestrator.store();
    let stored = match store.user(&id).await {
        Ok(stored) if stored.user.active => stored,
        Ok(_) => return Err(Error::LoginRefused("this account is not active".to_owned())),
        Err(StoreError::NotFound(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    match store.link_identity(identity, &id, actor).await {
        Ok(()) => Ok(Some(stored)),
        Err(StoreError::Conflict(_)) => Err(Error::LoginRefused(format!(
            "`{id}` is linked to somebody else at the provider; an administrator can unlink them"
        ))),
        Err(error) => Err(error.into()),
    }
}

/// A new user, where the operator wants that.
async fn created(
    orchestrator: &Orchestrator,
    provider: &Provider,
    claims: &Claims,
    identity: &Identity,
    actor: &Actor,
) -> Result<StoredUser, Error> {
    let config = &provider.config;
    if !config.create_users {
        return Err(Error::LoginRefused(
            "nobody here is known by this identity; an administrator adds you, \
             or you log in by token and link it on your own page"
                .to_owned(),
        ));
    }
    let text = if config.user_claim == "email" {
        claims.all.verified_email()
    } else {
        claims.all.text(&config.user_claim)
    };
    let id = text.and_then(user_id).ok_or_else(|| {
        Error::LoginRefused(format!(
            "the provider gives no usable `{}` to name you by",
            config.user_claim
        ))
    })?;
    let name: String = claims
        .all
        .text("name")
        .unwrap_or(id.as_str())
        .chars()
        .take(MAX_NAME_CHARS)
        .collect();
    let mut user = User {
        name: if name.trim().is_empty() {
            id.to_string()
        } else {
            name
        },
        id,
        teams: BTreeSet::new(),
        roles: config.default_roles.clone(),
        active: true,
    };
    map(provider, claims, &mut user);
    match orchestrator
        .store()
        .create_user_of(identity, &user, actor)
        .await
    {
        Ok(stored) => Ok(stored),
        // Never somebody's place, only because the names are the same.
        Err(StoreError::Conflict(why)) => Err(Error::LoginRefused(format!(
            "{why}; whoever that is logs in by token and links this identity"
        ))),
        Err(error) => Err(error.into()),
    }
}

async fn synchronised(
    orchestrator: &Orchestrator,
    provider: &Provider,
    claims: &Claims,
    stored: StoredUser,
    actor: &Actor,
) -> Result<User, Error> {
    let mut mapped = stored.user.clone();
    map(provider, claims, &mut mapped);
    if mapped == stored.user {
        return Ok(stored.user);
    }
    let set = &orchestrator.in_force().set;
    let manages = |user: &User| {
        let at = Presence::from(actor.at).confirmed_now();
        may_administer(set, user, Administration::ManageUsers, at).is_ok()
    };
    let changed = orchestrator
        .store()
        .change_user(
            &stored.user.id,
            actor,
            |user| map(provider, claims, user),
            manages,
        )
        .await;
    match changed {
        Ok(stored) => Ok(stored.user),
        // Better a right too many than nobody who could give any.
        Err(StoreError::Conflict(why)) => {
            tracing::error!(user = %stored.user.id, why, "groups were not taken over");
            Ok(stored.user)
        }
        Err(error) => Err(error.into()),
    }
}

/// Gives a user the roles and teams of their groups, and takes those of other groups.
fn map(provider: &Provider, claims: &Claims, user: &mut User) {
    let config = &provider.config;
    if let Some(claim) = &config.roles_claim {
        let groups = claims.all.texts(claim);
        for (group, role) in &config.roles {
            if !groups.contains(&group.as_str()) {
                user.roles.remove(role);
            }
        }
        let given = config.roles.iter();
        user.roles.extend(
            given
                .filter(|(group, _)| groups.contains(&group.as_str()))
                .map(|(_, role)| role.clone()),
        );
    }
    if let Some(claim) = &config.teams_claim {
        let groups = claims.all.texts(claim);
        for (group, team) in &config.teams {
            if !groups.contains(&group.as_str()) {
                user.teams.remove(team);
            }
        }
        let given = config.teams.iter();
        user.teams.extend(
            given
                .filter(|(group, _)| groups.contains(&group.as_str()))
                .map(|(_, team)| team.clone()),
        );
    }
}

/// A user's id of what a provider says: in lower case, as addresses are one in any case.
fn user_id(text: &str) -> Option<UserId> {
    // ASCII only, by what an id is: nothing that only looks like another letter.
    text.to_ascii_lowercase().parse().ok()
}
