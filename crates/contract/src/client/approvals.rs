//! Approval requests, and the grants that they yield.

use authz::{AgentRef, ApprovalRequestId, GrantId};

use super::Client;
use crate::{
    agents::{GrantView, Revoke},
    approvals::{ApprovalView, Approve, Reject, Withdraw},
    error::Error,
};

impl Client {
    /// Approval requests, newest first: pending ones, or all.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn approvals(&self, all: bool) -> Result<Vec<ApprovalView>, Error> {
        self.get(&format!("/api/approvals?all={all}")).await
    }

    /// Requests of one agent, newest first: those that wait, or all.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`]; 404 for an unknown agent.
    pub async fn approvals_of(
        &self,
        agent: &AgentRef,
        all: bool,
    ) -> Result<Vec<ApprovalView>, Error> {
        self.get(&format!("/api/approvals?all={all}&agent={agent}"))
            .await
    }

    /// One approval request.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn approval(&self, id: ApprovalRequestId) -> Result<ApprovalView, Error> {
        self.get(&format!("/api/approvals/{id}")).await
    }

    /// Approves; 403 if this person may not, 409 if it is no longer pending.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn approve(
        &self,
        id: ApprovalRequestId,
        approve: &Approve,
    ) -> Result<ApprovalView, Error> {
        self.post(&format!("/api/approvals/{id}/approve"), approve)
            .await
    }

    /// Rejects; 403 if this person may not, 409 if it is no longer pending.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn reject(
        &self,
        id: ApprovalRequestId,
        reject: &Reject,
    ) -> Result<ApprovalView, Error> {
        self.post(&format!("/api/approvals/{id}/reject"), reject)
            .await
    }

    /// Takes a request back; 403 unless this person owns the agent or it asks for them,
    /// 409 if it is no longer pending.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn withdraw(
        &self,
        id: ApprovalRequestId,
        withdraw: &Withdraw,
    ) -> Result<ApprovalView, Error> {
        self.post(&format!("/api/approvals/{id}/withdraw"), withdraw)
            .await
    }

    /// Grants, newest first; live ones only, unless `all`.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn grants(
        &self,
        agent: Option<&AgentRef>,
        all: bool,
    ) -> Result<Vec<GrantView>, Error> {
        let agent = agent
            .map(|agent| format!("&agent={agent}"))
            .unwrap_or_default();
        self.get(&format!("/api/grants?all={all}{agent}")).await
    }

    /// Takes a grant back; 409 if it had ended.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn revoke_grant(&self, id: GrantId, revoke: &Revoke) -> Result<(), Error> {
        self.post(&format!("/api/grants/{id}/revoke"), revoke).await
    }
}
