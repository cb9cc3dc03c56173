//! What gateways call.

use authz::{AgentId, AgentRef, ApprovalRequestId, Facts, GrantId};
use futures_util::{Stream, StreamExt, TryStreamExt};
use http::Method;
use http_body_util::BodyExt;

use super::{Body, Client};
use crate::{
    approvals::{ApprovalSummary, OpenApproval},
    audit::{JournalStored, ShipJournal},
    catalog::GatewayCatalog,
    error::Error,
    facts::{Credential, CredentialQuery, SpendGrant},
    feed::FeedEvent,
    gateways::{GatewayStatus, GatewayTold},
    policy_sets::PolicySetBundle,
    tools::ToolReviews,
};

impl Client {
    /// The agent's facts, fresh.
    ///
    /// # Errors
    ///
    /// As every method here: [`Error::Refused`] with the status (404 for an unknown agent),
    /// [`Error::Unreachable`], [`Error::Timeout`], [`Error::Malformed`].
    pub async fn facts(&self, agent: &AgentRef) -> Result<Facts, Error> {
        self.get(&format!("/api/gateway/facts/{agent}")).await
    }

    /// Whose credential has this SHA-256 digest; 404 if nobody's.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn credential(&self, query: &CredentialQuery) -> Result<Credential, Error> {
        self.post("/api/gateway/credentials", query).await
    }

    /// Opens an approval request, or joins the pending one.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn open_approval(&self, open: &OpenApproval) -> Result<ApprovalSummary, Error> {
        self.post("/api/gateway/approvals", open).await
    }

    /// Where a request of this agent's stands; 404 if it is another's.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn approval_of(
        &self,
        agent: AgentId,
        id: ApprovalRequestId,
    ) -> Result<ApprovalSummary, Error> {
        self.get(&format!("/api/gateway/approvals/{id}?agent={agent}"))
            .await
    }

    /// The open requests of this agent, newest first.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn open_approvals_of(&self, agent: AgentId) -> Result<Vec<ApprovalSummary>, Error> {
        self.get(&format!("/api/gateway/approvals?agent={agent}"))
            .await
    }

    /// Takes a request of this agent's back; 404 if it is another's, 409 if it is decided.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn withdraw_own(
        &self,
        agent: AgentId,
        id: ApprovalRequestId,
    ) -> Result<ApprovalSummary, Error> {
        self.delete(&format!("/api/gateway/approvals/{id}?agent={agent}"))
            .await
    }

    /// Uses up a grant for one use; 409 if it is spent, revoked or expired.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn spend_grant(&self, id: GrantId, spend: &SpendGrant) -> Result<(), Error> {
        self.post(&format!("/api/gateway/grants/{id}/spend"), spend)
            .await
    }

    /// The policy set to enforce.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn policy_set_bundle(&self) -> Result<PolicySetBundle, Error> {
        self.get("/api/gateway/policy-set").await
    }

    /// The policy set to evaluate beside the enforced one, if there is one.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn shadow_policy_set_bundle(&self) -> Result<Option<PolicySetBundle>, Error> {
        self.get("/api/gateway/shadow-policy-set").await
    }

    /// Says what a gateway enforces; the answer says what else is wanted of it.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn report_status(&self, status: &GatewayStatus) -> Result<GatewayTold, Error> {
        // An orchestrator that wants nothing may say so with an empty answer.
        let told: Option<GatewayTold> = self.post("/api/gateway/status", status).await?;
        Ok(told.unwrap_or_default())
    }

    /// Says what a gateway can carry out.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn report_catalog(&self, catalog: &GatewayCatalog) -> Result<(), Error> {
        self.call(Method::PUT, "/api/gateway/catalog", Some(catalog))
            .await
    }

    /// Which definitions of tools somebody reviewed.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn tool_reviews(&self) -> Result<ToolReviews, Error> {
        self.get("/api/gateway/tool-reviews").await
    }

    /// Stores journal lines.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn ship_journal(&self, ship: &ShipJournal) -> Result<JournalStored, Error> {
        self.post("/api/gateway/journal", ship).await
    }

    /// Follows the feed from after `after`, or from its head if absent. The stream ends,
    /// with an error or without, when the connection does: follow again from the last
    /// sequence seen. `None` items are heartbeats, one a second.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn follow(
        &self,
        after: Option<i64>,
    ) -> Result<impl Stream<Item = Result<Option<FeedEvent>, Error>> + Send + use<>, Error> {
        let query = after
            .map(|after| format!("?after={after}"))
            .unwrap_or_default();
        let response = self
            .send(Method::GET, &format!("/api/feed{query}"), None)
            .await?;
        let lines = Lines {
            body: response.into_body(),
            buffer: Vec::new(),
        };
        Ok(
            futures_util::stream::try_unfold(lines, |mut lines| async move {
                Ok::<_, Error>(lines.next().await?.map(|line| (line, lines)))
            })
            .try_filter_map(|line| async move {
                if line.starts_with(':') {
                    return Ok(Some(None));
                }
                match line.strip_prefix("data:") {
                    None => Ok(None),
                    Some(data) => serde_json::from_str(data.trim_start())
                        .map(|event| Some(Some(event)))
                        .map_err(|error| Error::Malformed(error.to_string())),
                }
            })
            .boxed(),
        )
    }
}

/// Splits a streamed body into lines.
struct Lines {
    body: Body,
    buffer: Vec<u8>,
}

impl Lines {
    /// One line of the feed is at most so long.
    const MAX: usize = 64 * 1024;

    async fn next(&mut self) -> Result<Option<String>, Error> {
        loop {
            if let Some(end) = self.buffer.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                let line =
                    String::from_utf8(line).map_err(|error| Error::Malformed(error.to_string()))?;
                return Ok(Some(line.trim_end().to_owned()));
            }
            if self.buffer.len() > Self::MAX {
                return Err(Error::Malformed(
                    "a line of the feed is too long".to_owned(),
                ));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(Error::Unreachable(error)),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
            }
        }
    }
}
