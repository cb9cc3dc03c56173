//! The loop that plans and sends: in one process at a time, each target apart.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use authz::TargetName;
use store::{
    StoreError,
    notifications::{StoredTarget, outbox::StoredMessage},
};
use tokio::task::JoinSet;

use super::{deliver, plan::Planner};
use crate::Orchestrator;

/// How long one process plans and sends without saying again that it does. Longer than an
/// attempt may take, so that none sends what another still tries.
const HOLD: Duration = Duration::from_secs(30);

/// What other processes commit, and what falls due, is seen at the latest after this.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// How often what is long over is forgotten.
const TIDY_INTERVAL: Duration = Duration::from_hours(1);

/// What arrived is kept this long, for people to look at; what did not, longer.
const KEEP_DELIVERED: Duration = Duration::from_hours(7 * 24);
const KEEP_DEAD: Duration = Duration::from_hours(30 * 24);

/// A message and where it goes.
type Due = (StoredTarget, StoredMessage);

/// Plans, and finds what is due.
pub(crate) struct Sender<'a> {
    orchestrator: &'a Orchestrator,
}

impl<'a> Sender<'a> {
    pub(crate) fn new(orchestrator: &'a Orchestrator) -> Self {
        Self { orchestrator }
    }

    /// Everything that is due now, tried once. Says how many messages were.
    pub(crate) async fn once(&self) -> Result<usize, StoreError> {
        let mut tried = HashSet::new();
        let mut number = 0;
        loop {
            let mut due = self.due(&HashSet::new()).await?;
            due.retain(|(_, message)| tried.insert(message.id));
            if due.is_empty() {
                return Ok(number);
            }
            number += due.len();
            let deliveries = due.into_iter().map(|(target, message)| async move {
                deliver::deliver(self.orchestrator, &target, message).await
            });
            for delivered in futures_util::future::join_all(deliveries).await {
                delivered?;
            }
        }
    }

    /// What is to be sent now, of targets that are not `busy`; nothing if another process sends.
    async fn due(&self, busy: &HashSet<TargetName>) -> Result<Vec<Due>, StoreError> {
        let store = self.orchestrator.store();
        let targets = store.notification_targets().await?;
        if targets.iter().all(|target| !target.enabled) || !self.plan(&targets).await? {
            return Ok(Vec::new());
        }
        let messages = store.due_notifications(self.orchestrator.now()).await?;
        Ok(messages
            .into_iter()
            .filter(|message| !busy.contains(&message.target))
            .filter_map(|message| {
                let target = targets
                    .iter()
                    .find(|target| target.name == message.target)?;
                Some((target.clone(), message))
            })
            .collect())
    }

    /// Plans what happened since. Says whether this process is the one that does.
    async fn plan(&self, targets: &[StoredTarget]) -> Result<bool, StoreError> {
        let store = self.orchestrator.store();
        let holder = &self.orchestrator.inner.notifier.holder;
        loop {
            let now = self.orchestrator.now();
            let (by, mut held) = store.outbox_holder().await?;
            if held.until > now && by != *holder {
                return Ok(false);
            }
            if by != *holder || held.until <= now.plus(HOLD / 2) {
                let actor = deliver::actor(self.orchestrator);
                match store.hold_outbox(holder, now.plus(HOLD), &actor).await? {
                    Some(taken) => held = taken,
                    None => return Ok(false),
                }
            }
            let (plan, more) = Planner::new(self.orchestrator, targets, held, now)
                .plan()
                .await?;
            if let Some(plan) = plan {
                let actor = deliver::actor(self.orchestrator);
                if !store.plan_notifications(holder, plan, &actor).await? {
                    return Ok(false);
                }
            }
            if !more {
                return Ok(true);
            }
        }
    }

    async fn tidy(&self) -> Result<(), StoreError> {
        let actor = deliver::actor(self.orchestrator);
        let (delivered, dead) = (actor.at.minus(KEEP_DELIVERED), actor.at.minus(KEEP_DEAD));
        self.orchestrator
            .store()
            .tidy_notifications(delivered, dead, &actor)
            .await
    }
}

/// Tells people, for ever.
pub(crate) async fn run(orchestrator: &Orchestrator) {
    let sender = Sender::new(orchestrator);
    let mut writes = orchestrator.store().feed_changes();
    let mut tidy = tokio::time::interval(TIDY_INTERVAL);
    tidy.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // Attempts under way, by task: a target has one at a time, and none waits for another's.
    let mut sending = JoinSet::new();
    let mut busy: HashMap<tokio::task::Id, TargetName> = HashMap::new();
    loop {
        // Before reading: a write that comes after it wakes us again.
        writes.mark_unchanged();
        match sender.due(&busy.values().cloned().collect()).await {
            Ok(due) => {
                for (target, message) in due {
                    let orchestrator = orchestrator.clone();
                    let name = target.name.clone();
                    let task = sending.spawn(async move {
                        deliver::deliver(&orchestrator, &target, message).await
                    });
                    busy.insert(task.id(), name);
                }
            }
            Err(error) => failed(&error),
        }
        tokio::select! {
            // The sender lives as long as the store that we hold.
            _ = writes.changed() => {}
            Some(ended) = sending.join_next_with_id(), if !sending.is_empty() => {
                let id = match ended {
                    Ok((id, Ok(()))) => id,
                    Ok((id, Err(error))) => {
                        failed(&error);
                        // What could not be kept would be tried again at once.
                        tokio::time::sleep(POLL_INTERVAL).await;
                        id
                    }
                    Err(panicked) => panicked.id(),
                };
                busy.remove(&id);
            }
            _ = tidy.tick() => {
                if let Err(error) = sender.tidy().await {
                    failed(&error);
                }
            }
            () = tokio::time::sleep(POLL_INTERVAL) => {}
        }
    }
}

fn failed(error: &StoreError) {
    tracing::warn!(
        error = error as &dyn std::error::Error,
        "notifications cannot be worked out or kept; they are tried again"
    );
}
