//! People and their credentials.

use authz::{
    SessionId, TokenId, User, UserId,
    approval::{Administration, Presence, may_administer},
};
use axum::{Json, extract::State, http::StatusCode};
use contract::{
    agents::{CreateToken, CreatedToken, TokenView},
    users::{ChangeUser, CreateUser, SessionView, UserView},
};
use secrecy::ExposeSecret;
use store::{
    sessions::{Credential, Session},
    users::StoredUser,
};

use super::{
    Json as Body, Named, NamedWithin,
    agents::{check_token, token_view},
};
use crate::{
    Orchestrator,
    approvals::check_text,
    authenticate::{ManageUsers, May, Person, View},
    error::Error,
    people::second_factor,
    precondition::{Precondition, Tag, Tagged},
};

/// A name is at most so many characters.
const MAX_NAME_CHARS: usize = 200;

#[utoipa::path(
    get,
    path = "/api/whoami",
    tag = "users",
    summary = "Who the caller is",
    responses((status = 200, description = "The user", body = UserView))
)]
pub(crate) async fn whoami(
    person: Person,
    State(orchestrator): State<Orchestrator>,
) -> Result<Json<UserView>, Error> {
    Ok(Json(view(
        orchestrator.store().user(&person.user.id).await?,
    )))
}

#[utoipa::path(
    get,
    path = "/api/users",
    tag = "users",
    summary = "Everyone, by id",
    responses((status = 200, description = "All users", body = Vec<UserView>))
)]
pub(crate) async fn list(
    _: May<View>,
    State(orchestrator): State<Orchestrator>,
) -> Result<Json<Vec<UserView>>, Error> {
    Ok(Json(
        orchestrator
            .store()
            .users()
            .await?
            .into_iter()
            .map(view)
            .collect(),
    ))
}

#[utoipa::path(
    get,
    path = "/api/users/{user}",
    tag = "users",
    summary = "One user",
    params(("user" = UserId, Path)),
    responses((status = 200, description = "The user", body = UserView, headers(("ETag" = String, description = "Their revision"))))
)]
pub(crate) async fn show(
    _: May<View>,
    State(orchestrator): State<Orchestrator>,
    Named(user): Named<UserId>,
) -> Result<Tagged<UserView>, Error> {
    let stored = orchestrator.store().user(&user).await?;
    Ok(Tagged(Tag(stored.revision), view(stored)))
}

#[utoipa::path(
    post,
    path = "/api/users",
    tag = "users",
    summary = "Add a user",
    request_body = CreateUser,
    responses((status = 201, description = "They are added", body = UserView), (status = 409, description = "The id is taken"))
)]
pub(crate) async fn create(
    May(person, ..): May<ManageUsers>,
    State(orchestrator): State<Orchestrator>,
    Body(create): Body<CreateUser>,
) -> Result<(StatusCode, Json<UserView>), Error> {
    check_text("name", &create.name, MAX_NAME_CHARS)?;
    let name = if create.name.trim().is_empty() {
        create.id.to_string()
    } else {
        create.name
    };
    let user = User {
        id: create.id,
        name,
        teams: create.teams,
        roles: create.roles,
        active: true,
    };
    let stored = orchestrator
        .store()
        .create_user(&user, &orchestrator.actor(&person))
        .await?;
    Ok((StatusCode::CREATED, Json(view(stored))))
}

// Who is no longer active is out at once: credentials, sessions and open streams end.
#[utoipa::path(
    patch,
    path = "/api/users/{user}",
    tag = "users",
    summary = "Change a user; what is absent stays",
    params(("user" = UserId, Path), Precondition),
    request_body = ChangeUser,
    responses((status = 200, description = "The user as they are now", body = UserView, headers(("ETag" = String, description = "Its revision"))), (status = 409, description = "Nobody would be left who may manage users"))
)]
pub(crate) async fn change(
    May(person, ..): May<ManageUsers>,
    State(orchestrator): State<Orchestrator>,
    Named(user): Named<UserId>,
    seen: Precondition,
    Body(change): Body<ChangeUser>,
) -> Result<Tagged<UserView>, Error> {
    if let Some(name) = &change.name {
        check_text("name", name, MAX_NAME_CHARS)?;
        if name.trim().is_empty() {
            return Err(Error::field("name", "say one, or leave it out"));
        }
    }
    let actor = orchestrator.actor(&person);
    let set = &orchestrator.in_force().set;
    let manages = |user: &User| {
        let at = Presence::from(actor.at).confirmed_now();
        may_administer(set, user, Administration::ManageUsers, at).is_ok()
    };
    let apply = |stored: &StoredUser, user: &mut User| {
        seen.check(Tag(stored.revision))?;
        user.name = change.name.unwrap_or_else(|| user.name.clone());
        user.teams = change.teams.unwrap_or_else(|| user.teams.clone());
        user.roles = change.roles.unwrap_or_else(|| user.roles.clone());
        user.active = change.active.unwrap_or(user.active);
        Ok::<_, Error>(())
    };
    let stored = orchestrator
        .store()
        .change_user_if(&user, &actor, apply, manages)
        .await?;
    tracing::info!(user = %user, by = %person.user.id, active = stored.user.active, "user_changed");
    Ok(Tagged(Tag(stored.revision), view(stored)))
}

/// Whether this is about oneself, or somebody who may manage users asks.
fn oneself_or_manager(
    orchestrator: &Orchestrator,
    person: &Person,
    user: &UserId,
) -> Result<(), Error> {
    if &person.user.id == user {
        return Ok(());
    }
    person.may(orchestrator, Administration::ManageUsers)
}

// One's own, or for whoever may manage users.
#[utoipa::path(
    get,
    path = "/api/users/{user}/tokens",
    tag = "users",
    summary = "The credentials of a user, newest first",
    params(("user" = UserId, Path)),
    responses((status = 200, description = "Without the secret part", body = Vec<TokenView>))
)]
pub(crate) async fn tokens(
    person: Person,
    State(orchestrator): State<Orchestrator>,
    Named(user): Named<UserId>,
) -> Result<Json<Vec<TokenView>>, Error> {
    oneself_or_manager(&orchestrator, &person, &user)?;
    let tokens = orchestrator.store().user_tokens(&user).await?;
    Ok(Json(tokens.iter().map(token_view).collect()))
}

#[utoipa::path(
    post,
    path = "/api/users/{user}/tokens",
    tag = "users",
    summary = "Make a credential for a user",
    params(("user" = UserId, Path)),
    request_body = CreateToken,
    responses((status = 201, description = "The one time that it is shown", body = CreatedToken))
)]
pub(crate) async fn create_token(
    May(person, ..): May<ManageUsers>,
    State(orchestrator): State<Orchestrator>,
    Named(user): Named<UserId>,
    Body(create): Body<CreateToken>,
) -> Result<(StatusCode, Json<CreatedToken>), Error> {
    let lifetime = check_token(&create)?;
    let actor = orchestrator.actor(&person);
    let (token, stored) = orchestrator
        .new_user_token(&user, &create.label, lifetime, &actor)
        .await?;
    let created = CreatedToken {
        token: token.expose_secret().to_owned(),
        view: token_view(&stored),
    };
    Ok((StatusCode::CREATED, Json(created)))
}

// The sessions that it opened end with it.
#[utoipa::path(
    delete,
    path = "/api/users/{user}/tokens/{token}",
    tag = "users",
    summary = "Revoke a credential of a user",
    params(("user" = UserId, Path), ("token" = TokenId, Path)),
    responses((status = 204, description = "It opens nothing any more"))
)]
pub(crate) async fn revoke_token(
    person: Person,
    State(orchestrator): State<Orchestrator>,
    NamedWithin(user, token): NamedWithin<UserId, TokenId>,
) -> Result<StatusCode, Error> {
    oneself_or_manager(&orchestrator, &person, &user)?;
    orchestrator
        .end_user_token(&user, token, &orchestrator.actor(&person))
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

// One's own, or for whoever may manage users.
#[utoipa::path(
    get,
    path = "/api/users/{user}/sessions",
    tag = "users",
    summary = "The sessions of a user",
    params(("user" = UserId, Path)),
    responses((status = 200, description = "Live ones", body = Vec<SessionView>))
)]
pub(crate) async fn sessions(
    person: Person,
    State(orchestrator): State<Orchestrator>,
    Named(user): Named<UserId>,
) -> Result<Json<Vec<SessionView>>, Error> {
    oneself_or_manager(&orchestrator, &person, &user)?;
    let sessions = orchestrator
        .store()
        .sessions(&user, orchestrator.now())
        .await?;
    Ok(Json(
        sessions
            .into_iter()
            .map(|session| session_view(&person, session))
            .collect(),
    ))
}

// All of them, but the one that asks.
#[utoipa::path(
    delete,
    path = "/api/users/{user}/sessions",
    tag = "users",
    summary = "End every session of a user but the one that asks",
    params(("user" = UserId, Path)),
    responses((status = 204, description = "They are ended"))
)]
pub(crate) async fn end_sessions(
    person: Person,
    State(orchestrator): State<Orchestrator>,
    Named(user): Named<UserId>,
) -> Result<StatusCode, Error> {
    oneself_or_manager(&orchestrator, &person, &user)?;
    let own = match person.credential {
        Credential::Session(session) => Some(session),
        Credential::Token(_) => None,
    };
    orchestrator
        .store()
        .end_sessions(&user, own, &orchestrator.actor(&person))
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

#[utoipa::path(
    delete,
    path = "/api/users/{user}/sessions/{session}",
    tag = "users",
    summary = "End one session of a user",
    params(("user" = UserId, Path), ("session" = SessionId, Path)),
    responses((status = 204, description = "It is ended"))
)]
pub(crate) async fn end_session(
    person: Person,
    State(orchestrator): State<Orchestrator>,
    NamedWithin(user, session): NamedWithin<UserId, SessionId>,
) -> Result<StatusCode, Error> {
    oneself_or_manager(&orchestrator, &person, &user)?;
    orchestrator
        .store()
        .end_session(
            &user,
            session,
            "session_ended",
            &orchestrator.actor(&person),
        )
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

// One's own, proved first, or, when somebody lost theirs, for whoever may manage users.
#[utoipa::path(
    delete,
    path = "/api/users/{user}/second-factor",
    tag = "users",
    summary = "Remove the second factor of a user",
    params(("user" = UserId, Path)),
    responses((status = 204, description = "It is gone"))
)]
pub(crate) async fn remove_second_factor(
    person: Person,
    State(orchestrator): State<Orchestrator>,
    Named(user): Named<UserId>,
) -> Result<StatusCode, Error> {
    if person.user.id == user {
        second_factor::remove(&orchestrator, &person).await?;
    } else {
        person.may(&orchestrator, Administration::ManageUsers)?;
        orchestrator
            .store()
            .remove_second_factor(&user, &orchestrator.actor(&person))
            .await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

#[utoipa::path(
    delete,
    path = "/api/users/{user}/identities",
    tag = "users",
    summary = "Unlink a user from their accounts at a provider",
    params(("user" = UserId, Path)),
    responses((status = 204, description = "They are unlinked"))
)]
pub(crate) async fn unlink(
    May(person, ..): May<ManageUsers>,
    State(orchestrator): State<Orchestrator>,
    Named(user): Named<UserId>,
) -> Result<StatusCode, Error> {
    orchestrator
        .store()
        .unlink_identities(&user, &orchestrator.actor(&person))
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(crate) fn session_view(person: &Person, session: Session) -> SessionView {
    SessionView {
        current: person.credential == Credential::Session(session.id),
        id: session.id,
        method: session.method.as_str().to_owned(),
        address: session.address,
        browser: session.browser,
        created: session.created,
        expires: session.expires,
        last_used: session.last_used,
    }
}

pub(crate) fn view(stored: StoredUser) -> UserView {
    UserView {
        user: stored.user,
        created: stored.created,
        last_seen: stored.last_seen,
        second_factor: stored.second_factor,
        revision: stored.revision,
    }
}
