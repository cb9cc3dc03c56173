//! What the feed says becomes messages in the outbox.

use std::{collections::HashMap, time::Duration};

use authz::{AgentId, AgentRef, ApprovalRequestId, Timestamp};
use contract::notifications::{Event, EventKind, PolicyData, TargetSettings};
use sha2::{Digest as _, Sha256};
use store::{
    StoreError,
    approvals::Status,
    feed::Change,
    notifications::{
        StoredTarget,
        outbox::{Held, Plan, Planned},
    },
};

use super::{rules, snapshot};
use crate::{Orchestrator, policy_folder};

/// Events read at a time.
const PAGE: u32 = 200;

/// The mark of a broken policy folder.
const BROKEN: &str = "policy_broken";

/// A request is told of again when this part of its life is left.
const LAST_PART: u32 = 8;
const LEAST_WARNING: Duration = Duration::from_mins(5);
const MOST_WARNING: Duration = Duration::from_hours(1);

/// Works out what happened since, and who is to be told what and when.
pub(super) struct Planner<'a> {
    orchestrator: &'a Orchestrator,
    targets: Vec<(&'a StoredTarget, TargetSettings)>,
    now: Timestamp,
    plan: Plan,
    /// Marks as they will be.
    marks: HashMap<String, Option<String>>,
}

impl<'a> Planner<'a> {
    /// For targets that are enabled.
    pub(super) fn new(
        orchestrator: &'a Orchestrator,
        targets: &'a [StoredTarget],
        held: Held,
        now: Timestamp,
    ) -> Self {
        let targets = targets
            .iter()
            .filter(|target| target.enabled)
            .filter_map(|target| {
                let settings = serde_json::from_value(target.settings.clone()).ok()?;
                Some((target, settings))
            })
            .collect();
        Self {
            orchestrator,
            targets,
            now,
            plan: Plan {
                from: held.planned,
                to: held.planned,
                planned: Vec::new(),
                marks: Vec::new(),
            },
            marks: HashMap::new(),
        }
    }

    /// What to save, if anything; and whether the feed may hold more.
    pub(super) async fn plan(mut self) -> Result<(Option<Plan>, bool), StoreError> {
        let store = self.orchestrator.store();
        let events = store.feed_after(self.plan.from, PAGE).await?;
        let more = events.len() == PAGE as usize;
        for event in events {
            self.change(&event.change, event.at).await?;
            self.plan.to = event.sequence;
        }
        self.expiring().await?;
        self.broken().await?;
        self.plan.marks = self.marks.into_iter().collect();
        let anything = self.plan.to != self.plan.from
            || !self.plan.planned.is_empty()
            || !self.plan.marks.is_empty();
        Ok((anything.then_some(self.plan), more))
    }

    async fn change(&mut self, change: &Change, at: Timestamp) -> Result<(), StoreError> {
        match change {
            Change::ApprovalOpened { approval, .. } => {
                self.request(EventKind::RequestOpened, *approval, at).await
            }
            Change::ApprovalAdvanced { approval, .. } => {
                self.request(EventKind::RequestAdvanced, *approval, at)
                    .await
            }
            Change::ApprovalApproved { approval, .. }
            | Change::ApprovalRejected { approval, .. } => {
                self.request(EventKind::RequestDecided, *approval, at).await
            }
            Change::ApprovalClosed { approval, .. } => {
                self.request(EventKind::RequestExpired, *approval, at).await
            }
            Change::AgentChanged { agent } => self.agent(*agent, at).await,
            Change::PolicySetActivated { version } => {
                let in_force = self.orchestrator.in_force();
                // Another may have followed since.
                let (by, note) = if in_force.set.version() == version {
                    let activation = &in_force.activation;
                    (activation.by.clone(), activation.reason.clone())
                } else {
                    (String::new(), String::new())
                };
                let data = PolicyData {
                    policy_set: version.clone(),
                    by,
                    note,
                };
                self.tell(&snapshot::policy(EventKind::PolicyActivated, at, data))
            }
            Change::UserChanged { .. }
            | Change::GrantEnded { .. }
            | Change::PolicySetShadowed { .. }
            | Change::ToolsReviewed { .. }
            | Change::ZonesChanged { .. } => Ok(()),
        }
    }

    async fn request(
        &mut self,
        kind: EventKind,
        id: ApprovalRequestId,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let stored = match self.orchestrator.store().approval(id, self.now).await {
            Ok(stored) => stored,
            Err(StoreError::NotFound(_)) => return Ok(()),
            Err(error) => return Err(error),
        };
        let kind = match (kind, stored.status) {
            (EventKind::RequestExpired, Status::Withdrawn) => EventKind::RequestWithdrawn,
            (kind, _) => kind,
        };
        let base = &self.orchestrator.inner.config.public_url;
        self.tell(&snapshot::request(kind, at, &stored, base))
    }

    /// An agent is told of when it was stopped or may go on, not at every other change.
    async fn agent(&mut self, id: AgentId, at: Timestamp) -> Result<(), StoreError> {
        let agent = match self.orchestrator.store().agent(&AgentRef::Id(id)).await {
            Ok(stored) => stored.agent,
            Err(StoreError::NotFound(_)) => return Ok(()),
            Err(error) => return Err(error),
        };
        let mark = format!("suspended:{id}");
        let known = self.mark(&mark).await?.is_some();
        let kind = match (known, agent.suspended) {
            (false, true) => EventKind::AgentSuspended,
            (true, false) => EventKind::AgentResumed,
            (true, true) | (false, false) => return Ok(()),
        };
        self.marks
            .insert(mark, agent.suspended.then(|| "told".to_owned()));
        self.tell(&snapshot::agent(kind, at, &agent))
    }

    /// Who has not decided yet is told once more, while there is time.
    async fn expiring(&mut self) -> Result<(), StoreError> {
        let lifetime = self.orchestrator.inner.config.approval_lifetime;
        let warning = (lifetime / LAST_PART).clamp(LEAST_WARNING, MOST_WARNING);
        let store = self.orchestrator.store();
        for id in store
            .approvals_expiring(self.now, self.now.plus(warning))
            .await?
        {
            self.marks
                .insert(format!("expiring:{id}"), Some("told".to_owned()));
            self.request(EventKind::RequestExpiring, id, self.now)
                .await?;
        }
        Ok(())
    }

    /// What is wrong with the policy folder is told once, until it is something else.
    async fn broken(&mut self) -> Result<(), StoreError> {
        let rejected = policy_folder::rejected(self.orchestrator);
        let known = self.mark(BROKEN).await?;
        if rejected.is_empty() {
            if known.is_some() {
                self.marks.insert(BROKEN.to_owned(), None);
            }
            return Ok(());
        }
        let text = policy_folder::text(&rejected);
        let digest = hex::encode(Sha256::digest(text.as_bytes()));
        if known.as_ref() == Some(&digest) {
            return Ok(());
        }
        self.marks.insert(BROKEN.to_owned(), Some(digest));
        let data = PolicyData {
            policy_set: self.orchestrator.in_force().set.version().clone(),
            by: "folder".to_owned(),
            note: text,
        };
        self.tell(&snapshot::policy(EventKind::PolicyBroken, self.now, data))
    }

    async fn mark(&self, name: &str) -> Result<Option<String>, StoreError> {
        match self.marks.get(name) {
            Some(mark) => Ok(mark.clone()),
            None => self.orchestrator.store().notification_mark(name).await,
        }
    }

    fn tell(&mut self, event: &Event) -> Result<(), StoreError> {
        let item = serde_json::to_value(event).map_err(|error| StoreError::Corrupt {
            what: "notification",
            why: error.to_string(),
        })?;
        for (target, settings) in &self.targets {
            if rules::concerns(&settings.rules, event) {
                let (bucket, due) = rules::when(&settings.pace, &target.kind, event, self.now);
                self.plan.planned.push(Planned {
                    target: target.name.clone(),
                    bucket,
                    due,
                    item: item.clone(),
                });
            }
        }
        Ok(())
    }
}
