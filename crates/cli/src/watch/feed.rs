//! What comes from the orchestrator, and what goes there.

use std::time::Duration;

use authz::ApprovalRequestId;
use contract::{
    Client, Error,
    approvals::{ApprovalView, Approve, Reject, Withdraw},
    feed::Change,
};
use futures_util::StreamExt;
use tokio::sync::mpsc::Sender;

/// Between attempts to follow the feed again.
const RETRY: Duration = Duration::from_secs(1);

/// News for the screen.
#[derive(Debug)]
pub(super) enum Update {
    /// Everything that waits, newest first.
    All(Vec<ApprovalView>),
    /// One request as it stands.
    One(Box<ApprovalView>),
    /// The connection broke; it is made again.
    Lost,
    /// The orchestrator refuses, for good.
    Refused(Error),
    /// What was sent was done.
    Done(Box<ApprovalView>),
    /// What was sent was not done.
    Failed(String),
}

/// What someone decided.
#[derive(Debug)]
pub(super) enum Request {
    Approve(ApprovalRequestId, Approve),
    Reject(ApprovalRequestId, Reject),
    Withdraw(ApprovalRequestId, Withdraw),
}

/// Sends a decision.
pub(super) async fn send(client: &Client, request: Request) -> Update {
    let answer = match request {
        Request::Approve(id, approve) => client.approve(id, &approve).await,
        Request::Reject(id, reject) => client.reject(id, &reject).await,
        Request::Withdraw(id, withdraw) => client.withdraw(id, &withdraw).await,
    };
    match answer {
        Ok(view) => Update::Done(Box::new(view)),
        Err(error) => Update::Failed(error.to_string()),
    }
}

/// Tells what waits, and every change, until nobody listens. A connection that breaks is
/// made again, and everything is read anew.
pub(super) async fn follow(client: Client, updates: Sender<Update>) {
    loop {
        match follow_once(&client, &updates).await {
            Err(error) if is_for_good(&error) => {
                let _ = updates.send(Update::Refused(error)).await;
                return;
            }
            Ok(()) | Err(_) => {}
        }
        if updates.send(Update::Lost).await.is_err() {
            return;
        }
        tokio::time::sleep(RETRY).await;
    }
}

fn is_for_good(error: &Error) -> bool {
    error
        .status()
        .is_some_and(|status| matches!(status.as_u16(), 401 | 403 | 404))
}

async fn follow_once(client: &Client, updates: &Sender<Update>) -> Result<(), Error> {
    // Followed first and listed then, so that nothing falls between.
    let mut feed = client.follow(None).await?.boxed();
    all(client, updates).await?;
    while let Some(event) = feed.next().await {
        let Some(event) = event? else {
            continue;
        };
        match event.change {
            Change::ApprovalOpened { approval, .. }
            | Change::ApprovalAdvanced { approval, .. }
            | Change::ApprovalApproved { approval, .. }
            | Change::ApprovalRejected { approval, .. }
            | Change::ApprovalClosed { approval, .. } => {
                let view = client.approval(approval).await?;
                if updates.send(Update::One(Box::new(view))).await.is_err() {
                    return Ok(());
                }
            }
            // What one may choose may be something else now.
            Change::UserChanged { .. }
            | Change::AgentChanged { .. }
            | Change::PolicySetActivated { .. }
            | Change::ZonesChanged { .. } => all(client, updates).await?,
            Change::GrantEnded { .. }
            | Change::PolicySetShadowed { .. }
            | Change::ToolsReviewed { .. } => {}
        }
    }
    Ok(())
}

async fn all(client: &Client, updates: &Sender<Update>) -> Result<(), Error> {
    let pending = client.approvals(false).await?;
    // Nobody listens any more: the next one to be told notices.
    let _ = updates.send(Update::All(pending)).await;
    Ok(())
}
