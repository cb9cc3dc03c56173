//! What people and their administrators call.

use authz::{SessionId, TokenId, UserId};
use http::Method;

use super::Client;
use crate::{
    agents::{CreateToken, CreatedToken, TokenView},
    error::Error,
    users::{
        BegunSecondFactor, ChangeUser, Code, CreateUser, EnrolledSecondFactor, MeView, SessionView,
        SteppedUp, UserView,
    },
};

impl Client {
    /// Who the token belongs to.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn whoami(&self) -> Result<UserView, Error> {
        self.get("/api/whoami").await
    }

    /// All users, by id.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn users(&self) -> Result<Vec<UserView>, Error> {
        self.get("/api/users").await
    }

    /// Creates a user; 409 if the id is taken.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn create_user(&self, create: &CreateUser) -> Result<UserView, Error> {
        self.post("/api/users", create).await
    }

    /// Makes a credential for a user.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn create_user_token(
        &self,
        user: &UserId,
        create: &CreateToken,
    ) -> Result<CreatedToken, Error> {
        self.post(&format!("/api/users/{user}/tokens"), create)
            .await
    }

    /// One user.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn user(&self, user: &UserId) -> Result<UserView, Error> {
        self.get(&format!("/api/users/{user}")).await
    }

    /// Changes a user; 409 if nobody would be left who may manage users.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn change_user(&self, user: &UserId, change: &ChangeUser) -> Result<UserView, Error> {
        self.call(Method::PATCH, &format!("/api/users/{user}"), Some(change))
            .await
    }

    /// A user's credentials, newest first.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn user_tokens(&self, user: &UserId) -> Result<Vec<TokenView>, Error> {
        self.get(&format!("/api/users/{user}/tokens")).await
    }

    /// Revokes a credential of a user, and ends the sessions that it opened.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn revoke_user_token(&self, user: &UserId, token: TokenId) -> Result<(), Error> {
        self.delete(&format!("/api/users/{user}/tokens/{token}"))
            .await
    }

    /// A user's live sessions, the one used last first.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn user_sessions(&self, user: &UserId) -> Result<Vec<SessionView>, Error> {
        self.get(&format!("/api/users/{user}/sessions")).await
    }

    /// Ends one session of a user's, or all but the one that asks.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn end_user_sessions(
        &self,
        user: &UserId,
        session: Option<SessionId>,
    ) -> Result<(), Error> {
        let one = session.map(|id| format!("/{id}")).unwrap_or_default();
        self.delete(&format!("/api/users/{user}/sessions{one}"))
            .await
    }

    /// Removes a user's second factor, whose device is lost.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn remove_second_factor(&self, user: &UserId) -> Result<(), Error> {
        self.delete(&format!("/api/users/{user}/second-factor"))
            .await
    }

    /// Forgets who a user is at the provider of identities.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn unlink_user(&self, user: &UserId) -> Result<(), Error> {
        self.delete(&format!("/api/users/{user}/identities")).await
    }

    /// Oneself, as seen through this credential.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn me(&self) -> Result<MeView, Error> {
        self.get("/api/me").await
    }

    /// Makes a credential for oneself. The answer is the only time that it is told.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`]; 400 without an end within 90 days, or with one after that of
    /// the credential that asks; 409 if one has as many as one may.
    pub async fn create_own_token(&self, create: &CreateToken) -> Result<CreatedToken, Error> {
        self.post("/api/me/tokens", create).await
    }

    /// Proves a second factor with this credential.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`]; 403 for a wrong code, 429 after too many.
    pub async fn step_up(&self, code: &Code) -> Result<SteppedUp, Error> {
        self.post("/api/me/step-up", code).await
    }

    /// Begins to enrol a device that shows codes.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn begin_second_factor(&self) -> Result<BegunSecondFactor, Error> {
        self.post("/api/me/second-factor", &serde_json::json!({}))
            .await
    }

    /// Enrols it by its first code.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn enrol_second_factor(&self, code: &Code) -> Result<EnrolledSecondFactor, Error> {
        self.post("/api/me/second-factor/enrol", code).await
    }
}
