//! People: the list, one person, and everything that administrators change about them.

use std::collections::BTreeSet;

use askama::Template;
use authz::{
    RoleName, SessionId, TeamName, TokenId, User, UserId,
    approval::{Administration, Presence, may_administer},
};
use axum::{
    Form, Router,
    extract::{State, rejection::FormRejection},
    http::StatusCode,
    response::Response,
    routing::{get, post},
};
use contract::users::SessionView;
use secrecy::ExposeSecret;
use serde::Deserialize;
use store::users::StoredUser;

use super::{
    Frame, Trouble, Visitor, form,
    frame::encoded,
    go,
    moment::Moment,
    page, page_with,
    tokens::{self, NewToken},
};
use crate::{
    Orchestrator,
    api::{Named, NamedWithin, Parameters, agents::check_token, users::session_view},
    approvals::check_text,
    authenticate::Person,
    error::Error,
};

/// A name is at most so many characters.
const MAX_NAME_CHARS: usize = 200;

pub(crate) fn routes() -> Router<Orchestrator> {
    Router::new()
        .route("/users", get(list).post(create))
        .route("/users/new", get(new))
        .route("/users/{user}", get(show).post(change))
        .route("/users/{user}/deactivate", post(deactivate))
        .route("/users/{user}/activate", post(activate))
        .route("/users/{user}/tokens", post(create_token))
        .route("/users/{user}/tokens/{token}/revoke", post(revoke_token))
        .route("/users/{user}/sessions/{session}/end", post(end_session))
        .route(
            "/users/{user}/second-factor/remove",
            post(remove_second_factor),
        )
}

/// Where a person's page is.
fn path(user: &UserId) -> String {
    format!("/users/{}", encoded(user.as_str()))
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Filter {
    q: String,
    /// See [`Frame::noting`].
    done: Option<String>,
}

#[derive(Template)]
#[template(path = "users.html")]
struct UsersPage {
    frame: Frame,
    filter: Filter,
    total: usize,
    users: Vec<Row>,
    may_manage: bool,
}

struct Row {
    path: String,
    user: User,
    second_factor: bool,
    last_seen: Option<Moment>,
}

/// `GET /users`.
async fn list(
    Visitor { person, frame }: Visitor,
    State(orchestrator): State<Orchestrator>,
    filter: Result<Parameters<Filter>, Error>,
) -> Result<Response, Trouble> {
    let Parameters(filter) = filter?;
    let now = orchestrator.now();
    let users = orchestrator.store().users().await?;
    let wanted = filter.q.trim().to_lowercase();
    let matches = |stored: &StoredUser| {
        let user = &stored.user;
        [
            user.id.to_string(),
            user.name.clone(),
            form::listed(&user.teams),
            form::listed(&user.roles),
        ]
        .iter()
        .any(|text| text.to_lowercase().contains(&wanted))
    };
    let may_manage = person.may(&orchestrator, Administration::ManageUsers);
    Ok(page(&UsersPage {
        frame,
        total: users.len(),
        users: users
            .into_iter()
            .filter(matches)
            .map(|stored| Row {
                path: path(&stored.user.id),
                second_factor: stored.second_factor,
                last_seen: stored.last_seen.map(|seen| Moment::past(seen, now)),
                user: stored.user,
            })
            .collect(),
        may_manage: may_manage.is_ok(),
        filter,
    }))
}

/// What the forms for a person hold.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    #[serde(default)]
    id: String,
    name: String,
    teams: String,
    roles: String,
}

impl Fields {
    fn of(user: &User) -> Self {
        Self {
            id: user.id.to_string(),
            name: user.name.clone(),
            teams: form::listed(&user.teams),
            roles: form::listed(&user.roles),
        }
    }

    fn read(&self, id: &UserId) -> Result<(String, BTreeSet<TeamName>, BTreeSet<RoleName>), Error> {
        check_text("name", &self.name, MAX_NAME_CHARS)?;
        let name = if self.name.trim().is_empty() {
            id.to_string()
        } else {
            self.name.clone()
        };
        Ok((
            name,
            form::names("teams", &self.teams)?,
            form::names("roles", &self.roles)?,
        ))
    }
}

#[derive(Template)]
#[template(path = "user_form.html")]
struct NewUser {
    frame: Frame,
    fields: Fields,
}

/// `GET /users/new`.
async fn new(
    Visitor { person, frame }: Visitor,
    State(orchestrator): State<Orchestrator>,
) -> Result<Response, Trouble> {
    person.may(&orchestrator, Administration::ManageUsers)?;
    Ok(page(&NewUser {
        frame,
        fields: Fields::default(),
    }))
}

/// `POST /users`.
async fn create(
    Visitor { person, frame }: Visitor,
    State(orchestrator): State<Orchestrator>,
    form: Result<Form<Fields>, FormRejection>,
) -> Result<Response, Trouble> {
    person.may(&orchestrator, Administration::ManageUsers)?;
    let Form(fields) = form.map_err(Error::from)?;
    let add = async {
        let id: UserId = form::name("id", &fields.id)?;
        let (name, teams, roles) = fields.read(&id)?;
        let user = User {
            id,
            name,
            teams,
            roles,
            active: true,
        };
        let actor = orchestrator.actor(&person);
        Ok(orchestrator.store().create_user(&user, &actor).await?)
    };
    match add.await {
        Ok(stored) => Ok(go(&format!("{}?done=user-created", path(&stored.user.id)))),
        Err(error) => {
            let error: Error = error;
            error.log();
            let status = error.status();
            let frame = frame.warning(Some(error.to_string()));
            Ok(page_with(status, &NewUser { frame, fields }))
        }
    }
}

#[derive(Template)]
#[template(path = "user.html")]
struct UserPage {
    frame: Frame,
    user: User,
    path: String,
    created: Moment,
    last_seen: Option<Moment>,
    second_factor: bool,
    fields: Fields,
    tokens: Vec<tokens::Listed>,
    sessions: Vec<SessionView>,
    /// The one time that a new credential is shown.
    secret: Option<String>,
    may_manage: bool,
    /// The person who looks.
    own: bool,
}

impl UserPage {
    async fn new(
        orchestrator: &Orchestrator,
        person: &Person,
        frame: Frame,
        id: &UserId,
    ) -> Result<Self, Error> {
        let now = orchestrator.now();
        let stored = orchestrator.store().user(id).await?;
        let tokens = orchestrator.store().user_tokens(id).await?;
        let may_manage = person.may(orchestrator, Administration::ManageUsers);
        // From where somebody works is for them, and for whoever may lock them out.
        let sessions = if may_manage.is_ok() || person.user.id == *id {
            orchestrator.store().sessions(id, now).await?
        } else {
            Vec::new()
        };
        Ok(Self {
            frame,
            path: path(id),
            sessions: sessions
                .into_iter()
                .map(|session| session_view(person, session))
                .collect(),
            created: Moment::past(stored.created, now),
            last_seen: stored.last_seen.map(|seen| Moment::past(seen, now)),
            second_factor: stored.second_factor,
            fields: Fields::of(&stored.user),
            tokens: tokens
                .iter()
                .map(|token| tokens::Listed::new(token, now))
                .collect(),
            secret: None,
            may_manage: may_manage.is_ok(),
            own: stored.user.id == person.user.id,
            user: stored.user,
        })
    }
}

/// `GET /users/{id}`.
async fn show(
    Visitor { person, frame }: Visitor,
    State(orchestrator): State<Orchestrator>,
    user: Result<Named<UserId>, Error>,
) -> Result<Response, Trouble> {
    let Named(user) = user?;
    Ok(page(
        &UserPage::new(&orchestrator, &person, frame, &user).await?,
    ))
}

/// `POST /users/{id}`.
async fn change(
    Visitor { person, frame }: Visitor,
    State(orchestrator): State<Orchestrator>,
    user: Result<Named<UserId>, Error>,
    form: Result<Form<Fields>, FormRejection>,
) -> Result<Response, Trouble> {
    person.may(&orchestrator, Administration::ManageUsers)?;
    let Named(id) = user?;
    let Form(fields) = form.map_err(Error::from)?;
    let save = async {
        let (name, teams, roles) = fields.read(&id)?;
        save(&orchestrator, &person, &id, |user| {
            user.name = name;
            user.teams = teams;
            user.roles = roles;
        })
        .await
    };
    match save.await {
        Ok(()) => Ok(go(&format!("{}?done=saved", path(&id)))),
        Err(error) => {
            error.log();
            let status = error.status();
            let frame = frame.warning(Some(error.to_string()));
            let shown = UserPage {
                fields,
                ..UserPage::new(&orchestrator, &person, frame, &id).await?
            };
            Ok(page_with(status, &shown))
        }
    }
}

async fn save(
    orchestrator: &Orchestrator,
    person: &Person,
    id: &UserId,
    change: impl FnOnce(&mut User) + Send,
) -> Result<(), Error> {
    let set = orchestrator.in_force();
    let actor = orchestrator.actor(person);
    let manages = |user: &User| {
        let at = Presence::from(actor.at).confirmed_now();
        may_administer(&set.set, user, Administration::ManageUsers, at).is_ok()
    };
    orchestrator
        .store()
        .change_user(id, &actor, change, manages)
        .await?;
    Ok(())
}

/// `POST /users/{id}/deactivate`: ends their credentials and sessions, too.
async fn deactivate(
    visitor: Visitor,
    State(orchestrator): State<Orchestrator>,
    user: Result<Named<UserId>, Error>,
) -> Result<Response, Trouble> {
    set_active(&orchestrator, visitor, user?.0, false).await
}

/// `POST /users/{id}/activate`.
async fn activate(
    visitor: Visitor,
    State(orchestrator): State<Orchestrator>,
    user: Result<Named<UserId>, Error>,
) -> Result<Response, Trouble> {
    set_active(&orchestrator, visitor, user?.0, true).await
}

async fn set_active(
    orchestrator: &Orchestrator,
    Visitor { person, frame }: Visitor,
    id: UserId,
    active: bool,
) -> Result<Response, Trouble> {
    person.may(orchestrator, Administration::ManageUsers)?;
    match save(orchestrator, &person, &id, |user| user.active = active).await {
        Ok(()) => {
            let done = if active { "activated" } else { "deactivated" };
            Ok(go(&format!("{}?done={done}", path(&id))))
        }
        Err(error @ Error::Conflict(_)) => {
            let frame = frame.warning(Some(error.to_string()));
            let shown = UserPage::new(orchestrator, &person, frame, &id).await?;
            Ok(page_with(StatusCode::CONFLICT, &shown))
        }
        Err(error) => Err(error.into()),
    }
}

/// `POST /users/{id}/tokens`: the answer is the one page that shows it.
async fn create_token(
    Visitor { person, frame }: Visitor,
    State(orchestrator): State<Orchestrator>,
    user: Result<Named<UserId>, Error>,
    form: Result<Form<NewToken>, FormRejection>,
) -> Result<Response, Trouble> {
    person.may(&orchestrator, Administration::ManageUsers)?;
    let Named(user) = user?;
    let Form(new) = form.map_err(Error::from)?;
    let make = async {
        let create = new.create()?;
        let lifetime = check_token(&create)?;
        let actor = orchestrator.actor(&person);
        let (token, _) = orchestrator
            .new_user_token(&user, &create.label, lifetime, &actor)
            .await?;
        Ok(token)
    };
    let (frame, secret, status) = match make.await {
        Ok(token) => (
            frame,
            Some(token.expose_secret().to_owned()),
            StatusCode::OK,
        ),
        Err(error) => {
            let error: Error = error;
            error.log();
            let status = error.status();
            (frame.warning(Some(error.to_string())), None, status)
        }
    };
    let shown = UserPage {
        secret,
        ..UserPage::new(&orchestrator, &person, frame, &user).await?
    };
    Ok(page_with(status, &shown))
}

/// `POST /users/{id}/tokens/{token}/revoke`.
async fn revoke_token(
    Visitor { person, .. }: Visitor,
    State(orchestrator): State<Orchestrator>,
    token: Result<NamedWithin<UserId, TokenId>, Error>,
) -> Result<Response, Trouble> {
    person.may(&orchestrator, Administration::ManageUsers)?;
    let NamedWithin(user, token) = token?;
    orchestrator
        .end_user_token(&user, token, &orchestrator.actor(&person))
        .await?;
    Ok(go(&format!("{}?done=token-revoked#tokens", path(&user))))
}

/// `POST /users/{id}/sessions/{session}/end`.
async fn end_session(
    Visitor { person, .. }: Visitor,
    State(orchestrator): State<Orchestrator>,
    session: Result<NamedWithin<UserId, SessionId>, Error>,
) -> Result<Response, Trouble> {
    person.may(&orchestrator, Administration::ManageUsers)?;
    let NamedWithin(user, session) = session?;
    orchestrator
        .store()
        .end_session(
            &user,
            session,
            "session_ended",
            &orchestrator.actor(&person),
        )
        .await?;
    Ok(go(&format!("{}?done=session-ended", path(&user))))
}

/// `POST /users/{id}/second-factor/remove`: for somebody who lost theirs.
async fn remove_second_factor(
    Visitor { person, .. }: Visitor,
    State(orchestrator): State<Orchestrator>,
    user: Result<Named<UserId>, Error>,
) -> Result<Response, Trouble> {
    let Named(user) = user?;
    if user == person.user.id {
        // Of one's own, only who proves it is rid: there.
        return Ok(go("/me"));
    }
    person.may(&orchestrator, Administration::ManageUsers)?;
    orchestrator
        .store()
        .remove_second_factor(&user, &orchestrator.actor(&person))
        .await?;
    Ok(go(&format!("{}?done=second-factor-removed", path(&user))))
}
