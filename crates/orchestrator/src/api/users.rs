//! People and their credentials.

use authz::{TokenId, User, UserId};
use axum::{Json, extract::State, http::StatusCode};
use contract::{
    agents::{CreateToken, CreatedToken},
    users::{CreateUser, UserView},
};
use secrecy::ExposeSecret;
use store::users::StoredUser;

use super::{
    Json as Body, Named, NamedWithin,
    agents::{check_token, token_view},
};
use crate::{
    Orchestrator,
    approvals::check_text,
    authenticate::{ManageUsers, May, Person, View},
    error::Error,
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
    responses((status = 200, description = "The user", body = UserView))
)]
pub(crate) async fn show(
    _: May<View>,
    State(orchestrator): State<Orchestrator>,
    Named(user): Named<UserId>,
) -> Result<Json<UserView>, Error> {
    Ok(Json(view(orchestrator.store().user(&user).await?)))
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

#[utoipa::path(
    delete,
    path = "/api/users/{user}/tokens/{token}",
    tag = "users",
    summary = "Revoke a credential of a user",
    params(("user" = UserId, Path), ("token" = TokenId, Path)),
    responses((status = 204, description = "It opens nothing any more"))
)]
pub(crate) async fn revoke_token(
    May(person, ..): May<ManageUsers>,
    State(orchestrator): State<Orchestrator>,
    NamedWithin(user, token): NamedWithin<UserId, TokenId>,
) -> Result<StatusCode, Error> {
    orchestrator
        .end_user_token(&user, token, &orchestrator.actor(&person))
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

fn view(stored: StoredUser) -> UserView {
    UserView {
        user: stored.user,
        created: stored.created,
    }
}
