//! People, their credentials and sessions.

use authz::{TokenId, User, UserId, time::Timestamp};

use crate::{Actor, Store, StoreError, agents::Token};

/// A user as stored.
#[derive(Clone, Debug)]
pub struct StoredUser {
    /// The person.
    pub user: User,
    /// When they were added.
    pub created: Timestamp,
}

impl Store {
    /// Adds a user. Event: `UserChanged`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Conflict`] when the id is taken.
    pub async fn create_user(&self, user: &User, actor: &Actor) -> Result<StoredUser, StoreError> {
        let _ = (user, actor);
        todo!()
    }

    /// Adds the first user with a credential, unless there is a user already; says
    /// whether it did. Event: `UserChanged`.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn bootstrap_user(&self, user: &User, token: &Token, actor: &Actor) -> Result<bool, StoreError> {
        let _ = (user, token, actor);
        todo!()
    }

    /// One user.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`].
    pub async fn user(&self, id: &UserId) -> Result<StoredUser, StoreError> {
        let _ = id;
        todo!()
    }

    /// All users, by id.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn users(&self) -> Result<Vec<StoredUser>, StoreError> {
        todo!()
    }

    /// Adds a credential. Event: `UserChanged`.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`].
    pub async fn create_user_token(&self, user: &UserId, token: &Token, actor: &Actor) -> Result<(), StoreError> {
        let _ = (user, token, actor);
        todo!()
    }

    /// Revokes a credential. Event: `UserChanged`.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`] when this user has no such live credential.
    pub async fn revoke_user_token(&self, user: &UserId, token: TokenId, actor: &Actor) -> Result<(), StoreError> {
        let _ = (user, token, actor);
        todo!()
    }

    /// The active user whose live credential or session at `now` has this digest.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`].
    pub async fn user_by_token(&self, digest: &str, now: Timestamp) -> Result<(StoredUser, Token), StoreError> {
        let _ = (digest, now);
        todo!()
    }
}
