//! Where an agent's request stands, waiting until it is decided, and taking it back.

use std::{sync::Arc, time::Duration};

use authz::{AgentId, ApprovalRequestId};
use contract::{
    approvals::{ApprovalStatus, ApprovalSummary},
    feed::Change,
};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};
use tokio::{
    sync::{OwnedSemaphorePermit, broadcast},
    time::Instant,
};

use crate::{
    Gateway,
    answer::{self, Body},
    authenticate::{Caller, Peer},
    metrics::Active,
    refusal::{PENDING_RETRY, Refusal},
};

/// A pending request is waited for no longer than this, whatever `Prefer: wait` says.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// RFC 7240.
const PREFER: HeaderName = HeaderName::from_static("prefer");
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// How long a request may be kept waiting for people, and the place that it holds as long.
#[derive(Debug)]
pub(crate) struct Patience {
    seconds: u64,
    until: Instant,
    _place: OwnedSemaphorePermit,
    _counted: Active,
}

impl Patience {
    /// When it ends.
    pub(crate) fn until(&self) -> Instant {
        self.until
    }

    /// Says in the answer how long it would have been waited for.
    pub(crate) fn applied(&self, response: &mut Response<Body>) {
        if let Ok(value) = HeaderValue::try_from(format!("wait={}", self.seconds)) {
            response.headers_mut().insert(PREFERENCE_APPLIED, value);
        }
    }
}

impl Gateway {
    /// How long these headers ask to be kept waiting, as far as there is time and room.
    /// Half of a request's time at most: what people permit must still be carried out.
    pub(crate) fn patience(&self, headers: &HeaderMap) -> Option<Patience> {
        let wanted = preferred_wait(headers)?;
        self.patient(wanted.min(MAX_WAIT).min(self.config.deadline / 2))
    }

    /// To wait so long, if there is room.
    pub(crate) fn patient(&self, longest: Duration) -> Option<Patience> {
        let place = Arc::clone(&self.waits).try_acquire_owned().ok()?;
        Some(Patience {
            seconds: longest.as_secs(),
            until: Instant::now() + longest,
            _place: place,
            _counted: self.metrics.waits(),
        })
    }

    /// Where a request of this agent's stands: as soon as it is decided, or when
    /// `patience` ends. `changes` must have been subscribed to before anything was known.
    pub(crate) async fn decided(
        &self,
        agent: AgentId,
        id: ApprovalRequestId,
        patience: Option<&Patience>,
        changes: &mut broadcast::Receiver<Change>,
    ) -> Result<ApprovalSummary, Refusal> {
        loop {
            let approval = self.orchestrator.approval_of(agent, id).await;
            let approval = approval.map_err(|error| {
                if contract::client::is_not_found(&error) {
                    Refusal::NoSuchApproval
                } else {
                    Refusal::Orchestrator(Arc::new(error))
                }
            })?;
            let Some(patience) = patience.filter(|_| approval.status == ApprovalStatus::Pending)
            else {
                return Ok(approval);
            };
            tokio::select! {
                () = news_of(agent, changes) => {}
                () = tokio::time::sleep_until(patience.until) => return Ok(approval),
            }
        }
    }

    /// The caller as of now, by what the orchestrator says now.
    pub(crate) async fn caller_now(
        &self,
        caller: &Caller,
        headers: &HeaderMap,
        peer: Peer,
    ) -> Result<Caller, Refusal> {
        let agent = caller.held.principal.agent().id;
        self.authorizer.facts.invalidate(agent);
        self.authenticator.again(caller, headers, peer).await
    }

    /// `GET /approvals`: the open requests of this agent, newest first, for one that lost
    /// an id.
    pub(crate) async fn approvals(&self, caller: &Caller) -> Result<Response<Body>, Refusal> {
        let agent = caller.held.principal.agent().id;
        let open = self.orchestrator.open_approvals_of(agent).await;
        let open = open.map_err(|error| Refusal::Orchestrator(Arc::new(error)))?;
        let approvals: Vec<_> = open.iter().map(|approval| self.told(approval)).collect();
        Ok(answer::json(
            StatusCode::OK,
            &json!({"approvals": approvals}),
        ))
    }

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
        let patience = self.patience(headers);
        let approval = self
            .decided(agent, id, patience.as_ref(), &mut changes)
            .await?;
        let mut response = self.shown(&approval);
        if let Some(patience) = patience {
            patience.applied(&mut response);
        }
        if approval.status == ApprovalStatus::Pending {
            response.headers_mut().insert(
                header::RETRY_AFTER,
                HeaderValue::from(PENDING_RETRY.as_secs()),
            );
        }
        Ok(response)
    }

    /// `DELETE /approvals/{id}`: an agent takes a request of its own back.
    pub(crate) async fn withdraw(
        &self,
        caller: &Caller,
        id: &str,
    ) -> Result<Response<Body>, Refusal> {
        let id: ApprovalRequestId = id.parse().map_err(|_| Refusal::NoSuchApproval)?;
        let agent = caller.held.principal.agent().id;
        let withdrawn = self.orchestrator.withdraw_own(agent, id).await;
        let approval = withdrawn.map_err(|error| match error {
            contract::Error::Refused { status, .. } if status == StatusCode::NOT_FOUND => {
                Refusal::NoSuchApproval
            }
            contract::Error::Refused { status, detail } if status == StatusCode::CONFLICT => {
                Refusal::Decided(detail)
            }
            error => Refusal::Orchestrator(Arc::new(error)),
        })?;
        tracing::info!(agent.id = %agent, request_id = %id, "approval_withdrawn");
        Ok(self.shown(&approval))
    }

    fn shown(&self, approval: &ApprovalSummary) -> Response<Body> {
        answer::json(StatusCode::OK, &self.told(approval))
    }

    /// A request, with the page where people decide it.
    fn told(&self, approval: &ApprovalSummary) -> Value {
        let mut body = json!(approval);
        let url = format!(
            "{}/approvals/{}",
            self.config.approvals_url.trim_end_matches('/'),
            approval.id
        );
        answer::put(&mut body, "url", url);
        body
    }
}

/// Waits until something changes about an agent.
pub(crate) async fn news_of(agent: AgentId, changes: &mut broadcast::Receiver<Change>) {
    loop {
        match changes.recv().await {
            Ok(change) if change.agent() == Some(agent) => return,
            Ok(_) => {}
            // Some were missed: look again.
            Err(broadcast::error::RecvError::Lagged(_)) => return,
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}

/// How long a client is ready to wait: `Prefer: wait=30`, RFC 7240. Only the first such
/// preference counts; one that is no number is none.
pub(crate) fn preferred_wait(headers: &HeaderMap) -> Option<Duration> {
    let mut preferences = headers
        .get_all(PREFER)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    let wait = preferences.find_map(|preference| {
        // What follows a `;` are parameters of the preference.
        let own = preference.split(';').next()?;
        let (name, value) = own.split_once('=').unwrap_or((own, ""));
        name.trim().eq_ignore_ascii_case("wait").then_some(value)
    })?;
    let seconds = wait.trim().trim_matches('"');
    let digits = !seconds.is_empty() && seconds.bytes().all(|byte| byte.is_ascii_digit());
    // More seconds than a number can hold are more than anyone is kept waiting.
    digits.then(|| Duration::from_secs(seconds.parse().unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_well_formed_wait_counts() {
        let cases: [(&[&str], Option<u64>); 11] = [
            (&[], None),
            (&["wait=20"], Some(20)),
            (&["respond-async, wait=20"], Some(20)),
            (&["respond-async", "WAIT = 20; strict"], Some(20)),
            (&["wait=\"7\""], Some(7)),
            (&["wait=5, wait=50"], Some(5)),
            (&["wait=soon, wait=50"], None),
            (&["wait"], None),
            (&["wait=-1"], None),
            (&["wait=99999999999999999999999"], Some(u64::MAX)),
            (&["waiting=5"], None),
        ];
        for (values, expected) in cases {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(PREFER, HeaderValue::from_static(value));
            }
            let expected = expected.map(Duration::from_secs);
            assert_eq!(preferred_wait(&headers), expected, "{values:?}");
        }
    }
}
