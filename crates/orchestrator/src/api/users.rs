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
};

/// A name is at most so many characters.
const MAX_NAME_CHARS: usize = 200;

/// `GET /api/whoami`: every active user may ask.
pub(crate) async fn whoami(
    person: Person,
    State(orchestrator): State<Orchestrator>,
) -> Result<Json<UserView>, Error> {
    Ok(Json(view(
        orchestrator.store().user(&person.user.id).await?,
    )))
}

/// `GET /api/users`.
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

/// `GET /api/users/{id}`.
pub(crate) async fn show(
    _: May<View>,
    State(orchestrator): State<Orchestrator>,
    Named(user): Named<UserId>,
) -> Result<Json<UserView>, Error> {
    Ok(Json(view(orchestrator.store().user(&user).await?)))
}

/// `POST /api/users`.
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

/// `PATCH /api/users/{id}`. Who is no longer active is out at once: credentials, sessions
/// and open streams end.
pub(crate) async fn change(
    May(person, ..): May<ManageUsers>,
    State(orchestrator): State<Orchestrator>,
    Named(user): Named<UserId>,
    Body(change): Body<ChangeUser>,
) -> Result<Json<UserView>, Error> {
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
    let apply = |user: &mut User| {
        user.name = change.name.unwrap_or_else(|| user.name.clone());
        user.teams = change.teams.unwrap_or_else(|| user.teams.clone());
        user.roles = change.roles.unwrap_or_else(|| user.roles.clone());
        user.active = change.active.unwrap_or(user.active);
    };
    let stored = orchestrator
        .store()
        .change_user(&user, &actor, apply, manages)
        .await?;
    tracing::info!(user = %user, by = %person.user.id, active = stored.user.active, "user_changed");
    Ok(Json(view(stored)))
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

/// `GET /api/users/{id}/tokens`: one's own, or for whoever may manage users.
pub(crate) async fn tokens(
    person: Person,
    State(orchestrator): State<Orchestrator>,
    Named(user): Named<UserId>,
) -> Result<Json<Vec<TokenView>>, Error> {
    oneself_or_manager(&orchestrator, &person, &user)?;
    let tokens = orchestrator.store().user_tokens(&user).await?;
    Ok(Json(tokens.iter().map(token_view).collect()))
}

/// `POST /api/users/{id}/tokens`.
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

/// `DELETE /api/users/{id}/tokens/{token}`: one's own, or for whoever may manage users.
/// The sessions that it opened end with it.
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

/// `GET /api/users/{id}/sessions`: one's own, or for whoever may manage users.
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

/// `DELETE /api/users/{id}/sessions`: all of them, but the one that asks.
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

/// `DELETE /api/users/{id}/sessions/{session}`.
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

/// `DELETE /api/users/{id}/second-factor`: one's own, proved first, or, when somebody lost
/// theirs, for whoever may manage users.
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

/// `DELETE /api/users/{id}/identities`.
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
    }
}
