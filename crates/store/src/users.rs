//! People and their credentials.

use authz::{TokenId, User, UserId, time::Timestamp};

use serde_json::json;

use crate::{
    Actor, Store, StoreError,
    agents::Token,
    column::{from_json, is_exact, parsed, prose, row, statements, time, to_json},
    database::{on, within},
    feed::Change,
    sessions,
    tokens::{self, Holder as Of, TokenRow},
    write::Write,
};

/// A user as stored.
#[derive(Clone, Debug)]
pub struct StoredUser {
    /// The person.
    pub user: User,
    /// When they were added.
    pub created: Timestamp,
    /// When they last used a credential or a session, to the minute.
    pub last_seen: Option<Timestamp>,
    /// Whether they enrolled a second factor.
    pub second_factor: bool,
    /// How often they were changed, from 1. Credentials and sessions do not count.
    pub revision: i64,
}

/// Whom a credential or session belongs to.
#[derive(Clone, Debug)]
pub struct Holder {
    /// The person, active.
    pub user: User,
    /// When they last proved a second factor with it.
    pub confirmed: Option<Timestamp>,
}

statements! {
    INSERT = "
        INSERT INTO users (id, name, teams, roles, active, created) VALUES ($1, $2, $3, $4, $5, $6)";
    UPDATE = "
        UPDATE users SET name = $2, teams = $3, roles = $4, active = $5, revision = revision + 1
        WHERE id = $1";
    ALIKE = "SELECT id FROM users WHERE LOWER(id) = LOWER($1)";
    BY_ID = "
        SELECT id, name, teams, roles, active, created, revision,
            (SELECT MAX(last_used) FROM tokens WHERE user_id = users.id) AS token_used,
            (SELECT MAX(last_used) FROM sessions WHERE user_id = users.id) AS session_used,
            (SELECT enrolled FROM second_factors WHERE user_id = users.id) AS enrolled
        FROM users WHERE id = $1";
    ALL = "
        SELECT id, name, teams, roles, active, created, revision,
            (SELECT MAX(last_used) FROM tokens WHERE user_id = users.id) AS token_used,
            (SELECT MAX(last_used) FROM sessions WHERE user_id = users.id) AS session_used,
            (SELECT enrolled FROM second_factors WHERE user_id = users.id) AS enrolled
        FROM users ORDER BY id";
    COUNT = "SELECT COUNT(*) FROM users";
    TOKENS = "
        SELECT id, digest, label, created, expires, revoked, last_used
        FROM tokens WHERE user_id = $1 ORDER BY created DESC, id DESC";
    REVOKE_ALL = "
        UPDATE tokens SET revoked = $2
        WHERE user_id = $1 AND revoked IS NULL AND (expires IS NULL OR $2 < expires)";
    BY_TOKEN = "
        SELECT u.id AS holder, u.name, u.teams, u.roles, u.active, t.confirmed,
            t.id, t.digest, t.label, t.created, t.expires, t.revoked, t.last_used
        FROM tokens t JOIN users u ON u.id = t.user_id
        WHERE t.digest = $1 AND u.active = 1 AND t.revoked IS NULL
            AND (t.expires IS NULL OR $2 < t.expires)";
}

row! {
    /// A user.
    UserRow {
        id: String,
        name: String,
        teams: String,
        roles: String,
        active: i64,
        created: i64,
        revision: i64,
        token_used: Option<i64>,
        session_used: Option<i64>,
        enrolled: Option<i64>,
    }
}

row! {
    /// A credential and whose it is.
    HeldRow {
        holder: String,
        name: String,
        teams: String,
        roles: String,
        active: i64,
        confirmed: Option<i64>,
        id: String,
        digest: String,
        label: String,
        created: i64,
        expires: Option<i64>,
        revoked: Option<i64>,
        last_used: Option<i64>,
    }
}

impl TryFrom<UserRow> for StoredUser {
    type Error = StoreError;

    fn try_from(row: UserRow) -> Result<Self, StoreError> {
        Ok(Self {
            user: user(&row.id, row.name, &row.teams, &row.roles, row.active)?,
            created: Timestamp::from_millis(row.created),
            last_seen: time(row.token_used.max(row.session_used)),
            second_factor: row.enrolled.is_some(),
            revision: row.revision,
        })
    }
}

/// A user of what the columns of `users` hold.
pub(crate) fn user(
    id: &str,
    name: String,
    teams: &str,
    roles: &str,
    active: i64,
) -> Result<User, StoreError> {
    Ok(User {
        id: parsed("user", id)?,
        name,
        teams: from_json("user", teams)?,
        roles: from_json("user", roles)?,
        active: active != 0,
    })
}

fn not_found(user: &UserId) -> StoreError {
    StoreError::NotFound(format!("user `{user}`"))
}

/// The user, read within a write.
pub(crate) async fn find(write: &mut Write, id: &UserId) -> Result<StoredUser, StoreError> {
    let row: Option<UserRow> = within!(write, |c| sqlx::query_as(BY_ID)
        .bind(id.as_str())
        .fetch_optional(c)
        .await?);
    row.ok_or_else(|| not_found(id))?.try_into()
}

/// Every user, read within a write.
async fn all(write: &mut Write) -> Result<Vec<StoredUser>, StoreError> {
    let rows: Vec<UserRow> = within!(write, |c| sqlx::query_as(ALL).fetch_all(c).await?);
    rows.into_iter().map(StoredUser::try_from).collect()
}

/// Adds a user. Ids that differ in nothing but case are taken for one by people, so
/// there is only one of them.
pub(crate) async fn insert(write: &mut Write, user: &User) -> Result<StoredUser, StoreError> {
    let alike: Option<(String,)> = within!(write, |c| sqlx::query_as(ALIKE)
        .bind(user.id.as_str())
        .fetch_optional(c)
        .await?);
    if let Some((taken,)) = alike {
        return Err(StoreError::Conflict(format!(
            "there is a user `{taken}` already"
        )));
    }
    let user = User {
        name: prose(&user.name),
        ..user.clone()
    };
    let teams = to_json("user", &user.teams)?;
    let roles = to_json("user", &user.roles)?;
    let created = write.at();
    within!(write, |c| sqlx::query(INSERT)
        .bind(user.id.as_str())
        .bind(&user.name)
        .bind(teams)
        .bind(roles)
        .bind(i64::from(user.active))
        .bind(created.as_millis())
        .execute(c)
        .await
        .map(drop))
    .map_err(|error| {
        StoreError::taken(error, || format!("there is a user `{}` already", user.id))
    })?;
    write
        .announce(&Change::UserChanged {
            user: user.id.clone(),
        })
        .await?;
    let details = json!({ "after": user });
    write.note("user_created", details).await?;
    Ok(StoredUser {
        user,
        created,
        last_seen: None,
        second_factor: false,
        revision: 1,
    })
}

impl Store {
    /// Adds a user. Event: `UserChanged`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Conflict`] when the id is taken.
    pub async fn create_user(&self, user: &User, actor: &Actor) -> Result<StoredUser, StoreError> {
        let mut write = self.write(actor).await?;
        let stored = insert(&mut write, user).await?;
        write.commit().await?;
        Ok(stored)
    }

    /// Changes a user under lock: `change` gets them as they are now. Event: `UserChanged`,
    /// if anything but the id, which stays, is different then. Of somebody who is no
    /// longer active, every credential and session ends with the same write.
    ///
    /// `manages` says who may manage users. The last one who may cannot be made not to.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`]; [`StoreError::Conflict`] when nobody would be left.
    pub async fn change_user(
        &self,
        id: &UserId,
        actor: &Actor,
        change: impl FnOnce(&mut User) + Send,
        manages: impl Fn(&User) -> bool + Send,
    ) -> Result<StoredUser, StoreError> {
        let change = |_: &StoredUser, user: &mut User| {
            change(user);
            Ok::<_, StoreError>(())
        };
        self.change_user_if(id, actor, change, manages).await
    }

    /// As [`Store::change_user`], and nothing happens if `change`, which gets the user as
    /// stored under the lock besides, refuses.
    ///
    /// # Errors
    ///
    /// Those of [`Store::change_user`], and those of `change`.
    pub async fn change_user_if<E: From<StoreError>>(
        &self,
        id: &UserId,
        actor: &Actor,
        change: impl FnOnce(&StoredUser, &mut User) -> Result<(), E> + Send,
        manages: impl Fn(&User) -> bool + Send,
    ) -> Result<StoredUser, E> {
        let mut write = self.write(actor).await?;
        let stored = find(&mut write, id).await?;
        let before = &stored.user;
        let mut after = before.clone();
        if let Err(error) = change(&stored, &mut after) {
            write.abandon().await?;
            return Err(error);
        }
        after.id = before.id.clone();
        after.name = prose(&after.name);
        if after == *before {
            write.abandon().await?;
            return Ok(stored);
        }
        if manages(before) && !manages(&after) {
            let others = all(&mut write).await?;
            let left = others
                .iter()
                .any(|other| other.user.id != after.id && manages(&other.user));
            if !left {
                return Err(StoreError::Conflict(format!(
                    "`{id}` is the last active user who may manage users; \
                     give somebody else that right first"
                ))
                .into());
            }
        }

        let teams = to_json("user", &after.teams)?;
        let roles = to_json("user", &after.roles)?;
        within!(write, |c| sqlx::query(UPDATE)
            .bind(after.id.as_str())
            .bind(&after.name)
            .bind(teams)
            .bind(roles)
            .bind(i64::from(after.active))
            .execute(c)
            .await
            .map(drop)
            .map_err(StoreError::from)?);
        if !after.active {
            let at = actor.at.as_millis();
            within!(write, |c| sqlx::query(REVOKE_ALL)
                .bind(id.as_str())
                .bind(at)
                .execute(c)
                .await
                .map(drop)
                .map_err(StoreError::from)?);
            sessions::end_all(&mut write, id, None).await?;
        }
        write
            .announce(&Change::UserChanged { user: id.clone() })
            .await?;
        let kind = match (before.active, after.active) {
            (true, false) => "user_deactivated",
            (false, true) => "user_activated",
            _ => "user_changed",
        };
        let details = json!({ "before": before, "after": after });
        write.note(kind, details).await?;
        write.commit().await?;
        Ok(StoredUser {
            user: after,
            revision: stored.revision + 1,
            ..stored
        })
    }

    /// A user's credentials, newest first, also those that ended.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`].
    pub async fn user_tokens(&self, id: &UserId) -> Result<Vec<Token>, StoreError> {
        self.user(id).await?;
        let rows: Vec<TokenRow> = on!(self, |pool| sqlx::query_as(TOKENS)
            .bind(id.as_str())
            .fetch_all(pool)
            .await?);
        rows.into_iter().map(Token::try_from).collect()
    }

    /// Adds the first user with a credential, unless there is a user already; says
    /// whether it did. Event: `UserChanged`.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn bootstrap_user(
        &self,
        user: &User,
        token: &Token,
        actor: &Actor,
    ) -> Result<bool, StoreError> {
        if !self.users().await?.is_empty() {
            return Ok(false);
        }
        let mut write = self.write(actor).await?;
        // Once more, under the lock: of two first starts at once, one is the first.
        let (users,): (i64,) = within!(write, |c| sqlx::query_as(COUNT).fetch_one(c).await?);
        if users > 0 {
            write.abandon().await?;
            return Ok(false);
        }
        insert(&mut write, user).await?;
        tokens::insert(&mut write, Of::User(user.id.as_str()), token).await?;
        let details = json!({ "subject": user.id, "token": token.id, "label": token.label, "expires": token.expires });
        write.note("credential_created", details).await?;
        write.commit().await?;
        Ok(true)
    }

    /// One user.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`].
    pub async fn user(&self, id: &UserId) -> Result<StoredUser, StoreError> {
        let row: Option<UserRow> = on!(self, |pool| sqlx::query_as(BY_ID)
            .bind(id.as_str())
            .fetch_optional(pool)
            .await?);
        row.ok_or_else(|| not_found(id))?.try_into()
    }

    /// All users, by id.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn users(&self) -> Result<Vec<StoredUser>, StoreError> {
        let rows: Vec<UserRow> = on!(self, |pool| sqlx::query_as(ALL).fetch_all(pool).await?);
        rows.into_iter().map(StoredUser::try_from).collect()
    }

    /// Adds a credential. Event: `UserChanged`.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`].
    pub async fn create_user_token(
        &self,
        user: &UserId,
        token: &Token,
        actor: &Actor,
    ) -> Result<(), StoreError> {
        let mut write = self.write(actor).await?;
        find(&mut write, user).await?;
        tokens::insert(&mut write, Of::User(user.as_str()), token).await?;
        let details = json!({ "subject": user, "token": token.id, "label": token.label, "expires": token.expires });
        write
            .announce(&Change::UserChanged { user: user.clone() })
            .await?;
        write.note("credential_created", details).await?;
        write.commit().await
    }

    /// Revokes a credential. Event: `UserChanged`.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`] when this user has no such live credential.
    pub async fn revoke_user_token(
        &self,
        user: &UserId,
        token: TokenId,
        actor: &Actor,
    ) -> Result<(), StoreError> {
        let mut write = self.write(actor).await?;
        tokens::revoke(&mut write, Of::User(user.as_str()), token).await?;
        let details = json!({ "subject": user, "token": token });
        write
            .announce(&Change::UserChanged { user: user.clone() })
            .await?;
        write.note("credential_revoked", details).await?;
        write.commit().await
    }

    /// The active user whose live credential at `now` has this digest.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`].
    pub async fn user_by_token(
        &self,
        digest: &str,
        now: Timestamp,
    ) -> Result<(Holder, Token), StoreError> {
        let unknown =
            || StoreError::NotFound("a live credential of a user with this digest".to_owned());
        if !is_exact(digest) {
            return Err(unknown());
        }
        let row: Option<HeldRow> = on!(self, |pool| sqlx::query_as(BY_TOKEN)
            .bind(digest)
            .bind(now.as_millis())
            .fetch_optional(pool)
            .await?);
        let row = row.ok_or_else(unknown)?;
        let holder = Holder {
            user: user(&row.holder, row.name, &row.teams, &row.roles, row.active)?,
            confirmed: time(row.confirmed),
        };
        let mut token = Token::try_from(TokenRow {
            id: row.id,
            digest: row.digest,
            label: row.label,
            created: row.created,
            expires: row.expires,
            revoked: row.revoked,
            last_used: row.last_used,
        })?;
        self.note_use(&mut token, now).await;
        Ok((holder, token))
    }
}

#[cfg(test)]
mod tests;
