//! Where an agent's request stands, and waiting until it is decided.

use std::{sync::Arc, time::Duration};

use authz::ApprovalRequestId;
use contract::approvals::ApprovalStatus;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use serde_json::json;
use tokio::sync::broadcast;

use crate::{
    Gateway,
    answer::{self, Body},
    authenticate::Caller,
    refusal::Refusal,
};

/// A pending request is waited for no longer than this, whatever `Prefer: wait` says.
const MAX_WAIT: Duration = Duration::from_secs(30);

impl Gateway {
    /// `GET /approvals/{id}`: where a request of this agent's stands; `Prefer: wait=30`
    /// waits until it is decided.
    pub(crate) async fn approval(
        &self,
        caller: &Caller,
        id: &str,
        headers: &HeaderMap,
    ) -> Result<Response<Body>, Refusal> {
        let id: ApprovalRequestId = id.parse().map_err(|_| Refusal::NoSuchApproval)?;
        let agent = caller.held.principal.agent().id;
        // Before the first look, so that no change falls between the two.
        let mut changes = self.changes.subscribe();
        let place = self.waits.try_acquire();
        let longest = match &place {
            Ok(_) => self.config.deadline / 2,
            Err(_) => Duration::ZERO,
        };
        let wait = tokio::time::sleep(preferred_wait(headers).min(longest));
        let mut wait = std::pin::pin!(wait);
        loop {
            let approval = self
                .orchestrator
                .approval_of(agent, id)
                .await
                .map_err(|error| {
                    if contract::client::is_not_found(&error) {
                        Refusal::NoSuchApproval
                    } else {
                        Refusal::Orchestrator(Arc::new(error))
                    }
                })?;
            let pending = approval.status == ApprovalStatus::Pending;
            let news = async {
                loop {
                    match changes.recv().await {
                        Ok(change) if change.agent() == Some(agent) => return,
                        Ok(_) => {}
                        // Some were missed: look again.
                        Err(broadcast::error::RecvError::Lagged(_)) => return,
                        Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
                    }
                }
            };
            let again = pending
                && tokio::select! {
                    () = news => true,
                    () = &mut wait => false,
                };
            if !again {
                let mut body = json!(approval);
                let url = format!(
                    "{}/approvals/{id}",
                    self.config.approvals_url.trim_end_matches('/')
                );
                answer::put(&mut body, "url", url);
                let mut response = answer::json(StatusCode::OK, &body);
                if pending {
                    response
                        .headers_mut()
                        .insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
                }
                return Ok(response);
            }
        }
    }
}

/// How long a client is ready to wait: `Prefer: wait=30`, RFC 7240.
fn preferred_wait(headers: &HeaderMap) -> Duration {
    let seconds = headers
        .get_all("prefer")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .find_map(|preference| {
            preference
                .trim()
                .strip_prefix("wait=")?
                .trim()
                .parse::<u64>()
                .ok()
        });
    Duration::from_secs(seconds.unwrap_or(0)).min(MAX_WAIT)
}
