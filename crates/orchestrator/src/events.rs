//! The feed, followed: every change in order, none skipped.

use std::{collections::VecDeque, time::Duration};

use contract::feed::{Change, FeedEvent};
use store::{StoreError, feed};
use tokio::sync::watch;

use crate::Orchestrator;

/// Writes of other processes are seen at the latest after this; our own at once.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Events read at a time.
const PAGE: u32 = 200;

/// Reads the feed from one place on.
pub(crate) struct Follower {
    orchestrator: Orchestrator,
    after: i64,
    read: VecDeque<feed::Event>,
    /// What this process commits.
    writes: watch::Receiver<i64>,
}

impl Follower {
    /// From after `after`, or from the head. A place beyond the head is of another
    /// database: then from the head too.
    pub(crate) async fn new(
        orchestrator: &Orchestrator,
        after: Option<i64>,
    ) -> Result<Self, StoreError> {
        let head = orchestrator.store().feed_head().await?;
        Ok(Self {
            orchestrator: orchestrator.clone(),
            after: after.map_or(head, |after| after.clamp(0, head)),
            read: VecDeque::new(),
            writes: orchestrator.store().feed_changes(),
        })
    }

    /// The place of the last event given out.
    pub(crate) fn after(&self) -> i64 {
        self.after
    }

    /// The next change; waits for it. Dropping the future loses none.
    pub(crate) async fn next(&mut self) -> Result<feed::Event, StoreError> {
        loop {
            if let Some(event) = self.read.pop_front() {
                self.after = event.sequence;
                return Ok(event);
            }
            // Before reading: a write that comes after it wakes us again.
            self.writes.mark_unchanged();
            self.read = self
                .orchestrator
                .store()
                .feed_after(self.after, PAGE)
                .await?
                .into();
            if self.read.is_empty() {
                // The sender lives as long as the store that we hold.
                let _ = tokio::time::timeout(POLL_INTERVAL, self.writes.changed()).await;
            }
        }
    }
}

/// As the contract says it.
pub(crate) fn contract_event(event: feed::Event) -> FeedEvent {
    let change = match event.change {
        feed::Change::AgentChanged { agent } => Change::AgentChanged { agent },
        feed::Change::UserChanged { user } => Change::UserChanged { user },
        feed::Change::ApprovalOpened { approval, agent } => {
            Change::ApprovalOpened { approval, agent }
        }
        feed::Change::ApprovalAdvanced { approval, agent } => {
            Change::ApprovalAdvanced { approval, agent }
        }
        feed::Change::ApprovalApproved {
            approval,
            agent,
            grant,
        } => Change::ApprovalApproved {
            approval,
            agent,
            grant,
        },
        feed::Change::ApprovalRejected { approval, agent } => {
            Change::ApprovalRejected { approval, agent }
        }
        feed::Change::ApprovalClosed { approval, agent } => {
            Change::ApprovalClosed { approval, agent }
        }
        feed::Change::GrantEnded { grant, agent } => Change::GrantEnded { grant, agent },
        feed::Change::PolicySetActivated { version } => Change::PolicySetActivated { version },
        feed::Change::PolicySetShadowed { version } => Change::PolicySetShadowed { version },
    };
    FeedEvent {
        sequence: event.sequence,
        at: event.at,
        change,
    }
}
