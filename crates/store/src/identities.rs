//! Who people are at a provider of identities.

use authz::{User, UserId};
use serde_json::json;

use crate::{
    Actor, Store, StoreError,
    column::{is_exact, statements},
    database::{on, within},
    feed::Change,
    users::{self, StoredUser},
    write::Write,
};

/// A person as a provider names them: `iss` and `sub`, which never change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The provider.
    pub issuer: String,
    /// The person there.
    pub subject: String,
}

statements! {
    INSERT = "INSERT INTO identities (issuer, subject, user_id, linked) VALUES ($1, $2, $3, $4)";
    BY_SUBJECT = "SELECT user_id FROM identities WHERE issuer = $1 AND subject = $2";
    REMOVE = "DELETE FROM identities WHERE user_id = $1";
}

async fn link(write: &mut Write, identity: &Identity, user: &UserId) -> Result<(), StoreError> {
    if !is_exact(&identity.issuer) || !is_exact(&identity.subject) {
        return Err(StoreError::Conflict(
            "an identity cannot hold NUL".to_owned(),
        ));
    }
    let at = write.at().as_millis();
    within!(write, |c| sqlx::query(INSERT)
        .bind(&identity.issuer)
        .bind(&identity.subject)
        .bind(user.as_str())
        .bind(at)
        .execute(c)
        .await
        .map(drop))
    .map_err(|error| {
        StoreError::taken(error, || {
            format!("`{user}` or that identity is linked to another already")
        })
    })?;
    let details =
        json!({ "subject": user, "issuer": identity.issuer, "identity": identity.subject });
    write.note("identity_linked", details).await
}

impl Store {
    /// The user who is this person.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`].
    pub async fn user_by_identity(&self, identity: &Identity) -> Result<StoredUser, StoreError> {
        let unknown = || StoreError::NotFound("a user of that identity".to_owned());
        if !is_exact(&identity.issuer) || !is_exact(&identity.subject) {
            return Err(unknown());
        }
        let row: Option<(String,)> = on!(self, |pool| sqlx::query_as(BY_SUBJECT)
            .bind(&identity.issuer)
            .bind(&identity.subject)
            .fetch_optional(pool)
            .await?);
        let (user,) = row.ok_or_else(unknown)?;
        self.user(&user.parse().map_err(|_| unknown())?).await
    }

    /// Says that this user is that person.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`]; [`StoreError::Conflict`] when either is linked already.
    pub async fn link_identity(
        &self,
        identity: &Identity,
        user: &UserId,
        actor: &Actor,
    ) -> Result<(), StoreError> {
        let mut write = self.write(actor).await?;
        users::find(&mut write, user).await?;
        link(&mut write, identity, user).await?;
        write.commit().await
    }

    /// Adds a user who is that person. Event: `UserChanged`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Conflict`] when the id is taken, or that identity.
    pub async fn create_user_of(
        &self,
        identity: &Identity,
        user: &User,
        actor: &Actor,
    ) -> Result<StoredUser, StoreError> {
        let mut write = self.write(actor).await?;
        let stored = users::insert(&mut write, user).await?;
        link(&mut write, identity, &user.id).await?;
        write.commit().await?;
        Ok(stored)
    }

    /// Forgets who a user is elsewhere, and ends their sessions: they log in by token,
    /// or are linked anew. Event: `UserChanged`.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`] when they are linked to nobody.
    pub async fn unlink_identities(&self, user: &UserId, actor: &Actor) -> Result<(), StoreError> {
        let mut write = self.write(actor).await?;
        let removed = within!(write, |c| sqlx::query(REMOVE)
            .bind(user.as_str())
            .execute(c)
            .await?
            .rows_affected());
        if removed == 0 {
            return Err(StoreError::NotFound(format!(
                "an identity of user `{user}`"
            )));
        }
        crate::sessions::end_all(&mut write, user, None).await?;
        write
            .announce(&Change::UserChanged { user: user.clone() })
            .await?;
        write
            .note("identity_unlinked", json!({ "subject": user }))
            .await?;
        write.commit().await
    }
}

#[cfg(test)]
mod tests;
