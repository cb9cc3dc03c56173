//! Where people are told what waits for them.

use authz::{MessageId, TargetName};
use http::Method;

use super::{Client, encoded};
use crate::{
    error::Error,
    notifications::{
        AccountView, ChangeTarget, CreateTarget, CreatedTarget, LinkAccount, MessageView,
        TargetView, Tested,
    },
};

impl Client {
    /// Where notifications go, by name.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn notification_targets(&self) -> Result<Vec<TargetView>, Error> {
        self.get("/api/notifications/targets").await
    }

    /// One place where notifications go.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn notification_target(&self, name: &TargetName) -> Result<TargetView, Error> {
        self.get(&format!("/api/notifications/targets/{name}"))
            .await
    }

    /// Adds a place where notifications go; 409 if the name is taken.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn create_notification_target(
        &self,
        create: &CreateTarget,
    ) -> Result<CreatedTarget, Error> {
        self.post("/api/notifications/targets", create).await
    }

    /// Changes a place where notifications go.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn change_notification_target(
        &self,
        name: &TargetName,
        change: &ChangeTarget,
    ) -> Result<CreatedTarget, Error> {
        let path = format!("/api/notifications/targets/{name}");
        self.call(Method::PATCH, &path, Some(change)).await
    }

    /// Removes a place where notifications go, with what waits to be sent there.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn remove_notification_target(&self, name: &TargetName) -> Result<(), Error> {
        let path = format!("/api/notifications/targets/{name}");
        self.delete(&path).await
    }

    /// Sends a message there now, and says whether it arrived.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn test_notification_target(&self, name: &TargetName) -> Result<Tested, Error> {
        let path = format!("/api/notifications/targets/{name}/test");
        self.call(Method::POST, &path, None::<&()>).await
    }

    /// Which accounts of a target's are which people.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn notification_accounts(
        &self,
        target: &TargetName,
    ) -> Result<Vec<AccountView>, Error> {
        self.get(&format!("/api/notifications/targets/{target}/accounts"))
            .await
    }

    /// Makes an account of a target's a person's.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn link_notification_account(
        &self,
        target: &TargetName,
        link: &LinkAccount,
    ) -> Result<AccountView, Error> {
        self.post(
            &format!("/api/notifications/targets/{target}/accounts"),
            link,
        )
        .await
    }

    /// Makes an account of a target's nobody's.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn unlink_notification_account(
        &self,
        target: &TargetName,
        account: &str,
    ) -> Result<(), Error> {
        let path = format!(
            "/api/notifications/targets/{target}/accounts?account={}",
            encoded(account)
        );
        self.delete(&path).await
    }

    /// What was, or is to be, sent, newest first: to one target, of one status, or all.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn notification_messages(
        &self,
        target: Option<&TargetName>,
        status: Option<&str>,
        limit: u32,
    ) -> Result<Vec<MessageView>, Error> {
        let target = target
            .map(|target| format!("&target={target}"))
            .unwrap_or_default();
        let status = status
            .map(|status| format!("&status={}", encoded(status)))
            .unwrap_or_default();
        self.get(&format!(
            "/api/notifications/messages?limit={limit}{target}{status}"
        ))
        .await
    }

    /// Has a message sent once more.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn redeliver_notification(&self, id: MessageId) -> Result<MessageView, Error> {
        let path = format!("/api/notifications/messages/{id}/redeliver");
        self.call(Method::POST, &path, None::<&()>).await
    }
}
