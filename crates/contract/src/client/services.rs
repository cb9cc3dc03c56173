//! What agents can reach, and what people reviewed of it.

use authz::{CommandName, ServiceName};

use super::Client;
use crate::{
    catalog::ServiceView,
    error::Error,
    tools::{ApproveTools, ToolDetails, ToolView, WithdrawTools},
};

impl Client {
    /// Every service that a gateway carries commands out for.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn services(&self) -> Result<Vec<ServiceView>, Error> {
        self.get("/api/services").await
    }

    /// One service with its commands.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn service(&self, name: &ServiceName) -> Result<ServiceView, Error> {
        self.get(&format!("/api/services/{name}")).await
    }

    /// The tools of an MCP server, and who reviewed them.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn tools(&self, service: &ServiceName) -> Result<Vec<ToolView>, Error> {
        self.get(&format!("/api/services/{service}/tools")).await
    }

    /// One tool, with its definitions and what differs between them.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn tool(
        &self,
        service: &ServiceName,
        tool: &CommandName,
    ) -> Result<ToolDetails, Error> {
        self.get(&format!("/api/services/{service}/tools/{tool}"))
            .await
    }

    /// Has definitions taken as reviewed; answers with all tools as they are then.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`]; 409 if a definition is another by now.
    pub async fn approve_tools(
        &self,
        service: &ServiceName,
        approve: &ApproveTools,
    ) -> Result<Vec<ToolView>, Error> {
        self.post(&format!("/api/services/{service}/approve-tools"), approve)
            .await
    }

    /// Takes reviews back; answers with all tools as they are then.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn withdraw_tools(
        &self,
        service: &ServiceName,
        withdraw: &WithdrawTools,
    ) -> Result<Vec<ToolView>, Error> {
        self.post(&format!("/api/services/{service}/withdraw-tools"), withdraw)
            .await
    }
}
