//! The audit trail.

use authz::AgentId;
use http::{Method, header};

use super::{Client, encoded};
use crate::{
    audit::{AuditEntry, AuditFilter, JournalHead, Verification},
    error::Error,
};

impl Client {
    /// The audit trail, oldest first, from after `after`; at most `limit` entries.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn audit(
        &self,
        after: i64,
        limit: u32,
        agent: Option<AgentId>,
    ) -> Result<Vec<AuditEntry>, Error> {
        let agent = agent
            .map(|agent| format!("&agent={agent}"))
            .unwrap_or_default();
        self.get(&format!("/api/audit?after={after}&limit={limit}{agent}"))
            .await
    }

    /// The audit trail, newest first: at most `limit` (1 to 1000) of the lines that `filter`
    /// wants, and the path of those before them, for [`Client::more_audit`].
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn search_audit(
        &self,
        filter: &AuditFilter,
        limit: u32,
    ) -> Result<(Vec<AuditEntry>, Option<String>), Error> {
        let filter =
            serde_json::to_value(filter).map_err(|error| Error::Malformed(error.to_string()))?;
        let mut path = format!("/api/audit?order=newest&limit={limit}");
        for (name, value) in filter.as_object().into_iter().flatten() {
            if let Some(value) = value.as_str() {
                path = format!("{path}&{name}={}", encoded(value));
            }
        }
        self.more_audit(&path).await
    }

    /// The lines before those of an earlier answer, as [`Client::search_audit`].
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn more_audit(&self, path: &str) -> Result<(Vec<AuditEntry>, Option<String>), Error> {
        let response = self.send(Method::GET, path, None).await?;
        let link = response.headers().get(header::LINK);
        let next = link
            .and_then(|link| link.to_str().ok()?.strip_prefix('<')?.split_once('>'))
            .map(|(next, _)| next.to_owned());
        let body = self.read(response).await?;
        let entries =
            serde_json::from_slice(&body).map_err(|error| Error::Malformed(error.to_string()))?;
        Ok((entries, next))
    }

    /// How far the stored journals were checked, by gateway.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn verification(&self) -> Result<Vec<Verification>, Error> {
        self.get("/api/audit/verification").await
    }

    /// Begins to check the stored journals, unless that is under way.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn verify(&self) -> Result<Vec<Verification>, Error> {
        self.call(Method::POST, "/api/audit/verification", None::<&()>)
            .await
    }

    /// How far the orchestrator has each gateway's journal, by gateway.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn journal_heads(&self) -> Result<Vec<JournalHead>, Error> {
        self.get("/api/audit/journals").await
    }
}
