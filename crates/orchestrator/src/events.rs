//! The feed, followed: every change in order, none skipped.
//!
//! One task of this process reads the store, whoever follows: what it read last is kept in
//! memory, shared, for those who are near the head. Who falls further behind reads the store
//! at their own pace, a page at a time. So a follower costs a place in the feed and at most
//! one page, however slowly it reads, and never keeps another waiting.

use std::{
    collections::VecDeque,
    sync::{Arc, OnceLock, PoisonError, RwLock},
    time::Duration,
};

use contract::feed::{Change, FeedEvent};
use store::{Store, StoreError, feed};
use tokio::sync::{OnceCell, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::Orchestrator;

/// Writes of other processes are seen at the latest after this, should the database not
/// tell us of them; our own at once.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// Before the store is read again after it failed, or listened to again.
const RECOVERY: Duration = Duration::from_secs(1);

/// Events read at a time.
const PAGE: u32 = 200;

/// Events kept in memory for all followers together.
const RECENT: usize = 2_000;

/// One change, and what is said of it, worked out once for everyone.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) change: feed::Event,
    data: OnceLock<Option<String>>,
    /// What `/ws` says of it, if anything.
    pub(crate) message: OnceCell<Option<Arc<str>>>,
}

impl Event {
    fn new(change: feed::Event) -> Arc<Self> {
        Arc::new(Self {
            change,
            data: OnceLock::new(),
            message: OnceCell::new(),
        })
    }

    /// Its place.
    pub(crate) fn sequence(&self) -> i64 {
        self.change.sequence
    }

    /// As the contract says it, in JSON.
    pub(crate) fn data(&self) -> Option<&str> {
        self.data
            .get_or_init(|| {
                let event = contract_event(self.change.clone());
                // Ids and words: it always serialises.
                serde_json::to_string(&event).ok()
            })
            .as_deref()
    }
}

/// The newest part of the feed, read once for all followers of this process.
#[derive(Debug)]
pub(crate) struct Feed {
    shared: Arc<Shared>,
    /// Ends the task that reads.
    _reading: DropGuard,
}

#[derive(Debug)]
struct Shared {
    store: Store,
    /// The newest, without a gap.
    recent: RwLock<VecDeque<Arc<Event>>>,
    state: watch::Sender<State>,
}

/// How far the feed is read.
#[derive(Clone, Debug)]
struct State {
    head: i64,
    /// Why it cannot be read further now.
    failure: Option<Arc<StoreError>>,
}

/// What is there after some place.
enum Next {
    Events(VecDeque<Arc<Event>>),
    /// Nothing yet.
    Nothing,
    /// Too much to be in memory.
    InStore,
}

impl Feed {
    /// Begins to read, from the head on.
    pub(crate) async fn start(store: &Store) -> Result<Self, StoreError> {
        let head = store.feed_head().await?;
        let shared = Arc::new(Shared {
            store: store.clone(),
            recent: RwLock::default(),
            state: watch::Sender::new(State {
                head,
                failure: None,
            }),
        });
        let stop = CancellationToken::new();
        let reading = Arc::clone(&shared);
        let stopped = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = stopped.cancelled() => {}
                () = reading.read() => {}
                () = reading.listen() => {}
            }
        });
        Ok(Self {
            shared,
            _reading: stop.drop_guard(),
        })
    }
}

impl Shared {
    /// Reads what is new, for ever.
    async fn read(&self) {
        let mut writes = self.store.feed_changes();
        loop {
            // Before reading: a write that comes after it wakes us again.
            writes.mark_unchanged();
            let after = self.state.borrow().head;
            match self.store.feed_after(after, PAGE).await {
                Ok(changes) if changes.is_empty() => {
                    self.state
                        .send_if_modified(|state| state.failure.take().is_some());
                    // The sender lives as long as the store that we hold.
                    let _ = tokio::time::timeout(POLL_INTERVAL, writes.changed()).await;
                }
                Ok(changes) => self.keep(changes),
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "the feed cannot be read"
                    );
                    let failure = Some(Arc::new(error));
                    self.state.send_modify(|state| state.failure = failure);
                    tokio::time::sleep(RECOVERY).await;
                }
            }
        }
    }

    fn keep(&self, changes: Vec<feed::Event>) {
        let Some(head) = changes.last().map(|change| change.sequence) else {
            return;
        };
        {
            let mut recent = self.recent.write().unwrap_or_else(PoisonError::into_inner);
            recent.extend(changes.into_iter().map(Event::new));
            let surplus = recent.len().saturating_sub(RECENT);
            recent.drain(..surplus);
        }
        self.state.send_replace(State {
            head,
            failure: None,
        });
    }

    /// Hears of the writes of other processes as they happen, where the database tells.
    async fn listen(&self) {
        loop {
            if let Err(error) = self.store.listen().await {
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "the database does not tell of changes; it is asked"
                );
            }
            tokio::time::sleep(RECOVERY).await;
        }
    }

    fn after(&self, after: i64) -> Next {
        let recent = self.recent.read().unwrap_or_else(PoisonError::into_inner);
        let head = recent
            .back()
            .map_or_else(|| self.state.borrow().head, |event| event.sequence());
        if after >= head {
            return Next::Nothing;
        }
        // The feed has no gaps, so a place tells how far it is from the first.
        let skipped = recent
            .front()
            .map(|first| after + 1 - first.sequence())
            .and_then(|skipped| usize::try_from(skipped).ok());
        match skipped {
            None => Next::InStore,
            Some(skipped) => {
                let page = usize::try_from(PAGE).unwrap_or(usize::MAX);
                Next::Events(recent.iter().skip(skipped).take(page).cloned().collect())
            }
        }
    }
}

/// Reads the feed from one place on.
#[derive(Debug)]
pub(crate) struct Follower {
    feed: Arc<Shared>,
    state: watch::Receiver<State>,
    after: i64,
    read: VecDeque<Arc<Event>>,
}

impl Follower {
    /// From after `after`, or from the head. A place beyond the head is of another
    /// database: then from the head too. One before the beginning is the beginning.
    pub(crate) async fn new(
        orchestrator: &Orchestrator,
        after: Option<i64>,
    ) -> Result<Self, StoreError> {
        let feed = Arc::clone(&orchestrator.inner.feed.shared);
        // Asked of the store: what this process committed a moment ago may not be read yet,
        // and whoever follows from the head on does not want to see it again.
        let head = feed.store.feed_head().await?;
        Ok(Self {
            state: feed.state.subscribe(),
            feed,
            after: after.map_or(head, |after| after.clamp(0, head)),
            read: VecDeque::new(),
        })
    }

    /// The place of the last event given out.
    pub(crate) fn after(&self) -> i64 {
        self.after
    }

    /// The next change; waits for it. Dropping the future loses none.
    ///
    /// # Errors
    ///
    /// When the store cannot be read. Ask again to go on where it was.
    pub(crate) async fn next(&mut self) -> Result<Arc<Event>, Arc<StoreError>> {
        loop {
            if let Some(event) = self.read.pop_front() {
                self.after = event.sequence();
                return Ok(event);
            }
            // Before looking: what comes after it wakes us.
            self.state.mark_unchanged();
            match self.feed.after(self.after) {
                Next::Events(events) => self.read = events,
                Next::InStore => {
                    let changes = self.feed.store.feed_after(self.after, PAGE).await;
                    let changes = changes.map_err(Arc::new)?;
                    self.read = changes.into_iter().map(Event::new).collect();
                }
                Next::Nothing => {
                    // The sender lives as long as the feed that we hold.
                    let _ = self.state.changed().await;
                    let failure = self.state.borrow().failure.clone();
                    if let Some(failure) = failure {
                        return Err(failure);
                    }
                }
            }
        }
    }
}

/// Catches up with what other orchestrators on the same database change, for ever: first with
/// what they changed before, then after each change that `concerns` it.
pub(crate) async fn keep_up(
    orchestrator: &Orchestrator,
    concerns: impl Fn(&feed::Change) -> bool,
    catch_up: impl AsyncFn(&Orchestrator) -> Result<(), StoreError>,
) {
    let mut after = None;
    loop {
        let followed: Result<(), Arc<StoreError>> = async {
            let mut follower = Follower::new(orchestrator, after).await.map_err(Arc::new)?;
            catch_up(orchestrator).await.map_err(Arc::new)?;
            loop {
                after = Some(follower.after());
                let event = follower.next().await?;
                if concerns(&event.change.change) {
                    catch_up(orchestrator).await.map_err(Arc::new)?;
                }
            }
        }
        .await;
        if let Err(error) = followed {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the feed cannot be followed"
            );
        }
        tokio::time::sleep(RECOVERY).await;
    }
}

/// As the contract says it.
fn contract_event(event: feed::Event) -> FeedEvent {
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
        feed::Change::ToolsReviewed { service } => Change::ToolsReviewed { service },
        feed::Change::ZonesChanged { revision } => Change::ZonesChanged { revision },
    };
    FeedEvent {
        sequence: event.sequence,
        at: event.at,
        change,
    }
}

#[cfg(test)]
mod tests;
