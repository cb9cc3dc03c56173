//! People, their credentials and sessions.

use authz::{TokenId, User, UserId, time::Timestamp};

use serde_json::json;

use crate::{
    Actor, Store, StoreError,
    agents::Token,
    column::{from_json, is_exact, parsed, prose, row, statements, to_json},
    database::{on, within},
    feed::Change,
    tokens::{self, Holder, TokenRow},
    write::{Record, Write},
};

/// A user as stored.
#[derive(Clone, Debug)]
pub struct StoredUser {
    /// The person.
    pub user: User,
    /// When they were added.
    pub created: Timestamp,
}

statements! {
    INSERT = "
        INSERT INTO users (id, name, teams, roles, active, created) VALUES ($1, $2, $3, $4, $5, $6)";
    BY_ID = "SELECT id, name, teams, roles, active, created FROM users WHERE id = $1";
    ALL = "SELECT id, name, teams, roles, active, created FROM users ORDER BY id";
    COUNT = "SELECT COUNT(*) FROM users";
    BY_TOKEN = "
        SELECT u.id AS holder, u.name, u.teams, u.roles, u.active, u.created AS added,
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
        added: i64,
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
        let user = User {
            id: parsed("user", &row.id)?,
            name: row.name,
            teams: from_json("user", &row.teams)?,
            roles: from_json("user", &row.roles)?,
            active: row.active != 0,
        };
        Ok(Self {
            user,
            created: Timestamp::from_millis(row.created),
        })
    }
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

async fn insert(write: &mut Write, user: &User) -> Result<StoredUser, StoreError> {
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
    write
        .record(Record {
            kind: "user_created",
            agent: None,
            command: None,
            details,
        })
        .await?;
    Ok(StoredUser { user, created })
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
        tokens::insert(&mut write, Holder::User(user.id.as_str()), token).await?;
        let details = json!({ "subject": user.id, "token": token.id, "label": token.label, "expires": token.expires });
        write
            .record(Record {
                kind: "credential_created",
                agent: None,
                command: None,
                details,
            })
            .await?;
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
        tokens::insert(&mut write, Holder::User(user.as_str()), token).await?;
        let details = json!({ "subject": user, "token": token.id, "label": token.label, "expires": token.expires });
        write
            .announce(&Change::UserChanged { user: user.clone() })
            .await?;
        write
            .record(Record {
                kind: "credential_created",
                agent: None,
                command: None,
                details,
            })
            .await?;
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
        tokens::revoke(&mut write, Holder::User(user.as_str()), token).await?;
        let details = json!({ "subject": user, "token": token });
        write
            .announce(&Change::UserChanged { user: user.clone() })
            .await?;
        write
            .record(Record {
                kind: "credential_revoked",
                agent: None,
                command: None,
                details,
            })
            .await?;
        write.commit().await
    }

    /// The active user whose live credential or session at `now` has this digest.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`].
    pub async fn user_by_token(
        &self,
        digest: &str,
        now: Timestamp,
    ) -> Result<(StoredUser, Token), StoreError> {
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
        let user = StoredUser::try_from(UserRow {
            id: row.holder,
            name: row.name,
            teams: row.teams,
            roles: row.roles,
            active: row.active,
            created: row.added,
        })?;
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
        Ok((user, token))
    }
}

#[cfg(test)]
mod tests;
