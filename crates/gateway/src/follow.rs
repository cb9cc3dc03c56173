//! Follows the orchestrator's feed: drops what it makes stale, fetches what it announces.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use authz::Clock;
use contract::{catalog::GatewayCatalog, feed::Change, gateways::GatewayStatus};
use futures_util::StreamExt;
use handlers::Catalog;
use tokio::sync::{Notify, broadcast};
use tokio_util::sync::CancellationToken;

use crate::{
    facts::FactsCache, health, metrics::Metrics, policy::Policies, reported, reviews::Reviews,
    zones::Zones,
};

/// A feed that says nothing for so long is cut: it sends a heartbeat each second.
const SILENCE: Duration = Duration::from_secs(5);

/// After a failure, the first and the longest pause.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How often a policy set that could not be fetched is asked for again.
const POLICY_RETRY: Duration = Duration::from_secs(2);

/// How often the orchestrator is told what is in force here.
const REPORT_INTERVAL: Duration = Duration::from_secs(15);

/// However often MCP servers change what they offer, it is told no more often.
const SHORTEST_REPORT: Duration = Duration::from_secs(1);

/// Whether the feed is there.
#[derive(Debug, Default)]
pub(crate) struct Connected(AtomicBool);

impl Connected {
    pub(crate) fn get(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Follows the feed.
#[derive(Debug)]
pub(crate) struct Follower {
    pub(crate) orchestrator: contract::Client,
    pub(crate) facts: Arc<FactsCache>,
    pub(crate) policies: Arc<Policies>,
    pub(crate) zones: Arc<Zones>,
    /// This gateway, as it reports itself.
    pub(crate) gateway: String,
    /// What it can carry out.
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) reviews: Reviews,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) connected: Arc<Connected>,
    /// Tells those who wait for an approval that something changed.
    pub(crate) changes: broadcast::Sender<Change>,
    pub(crate) clock: Clock,
}

impl Follower {
    /// Follows until cancelled, whatever happens.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let (wanted, reviews_wanted) = (Notify::new(), Notify::new());
        tokio::select! {
            () = self.follow(&wanted, &reviews_wanted) => {}
            () = self.keep_policy_set(&wanted) => {}
            () = self.keep_reviews(&reviews_wanted) => {}
            () = self.zones.keep(&self.orchestrator) => {}
            () = self.report() => {}
            () = stop.cancelled() => {}
        }
    }

    async fn follow(&self, policy_set_wanted: &Notify, reviews_wanted: &Notify) {
        let mut pause = FIRST_PAUSE;
        loop {
            let ended = self
                .follow_once(&mut pause, policy_set_wanted, reviews_wanted)
                .await;
            if self.connected.0.swap(false, Ordering::AcqRel) {
                tracing::warn!(
                    reason = ended,
                    "the orchestrator's feed ended; following again"
                );
            } else {
                tracing::debug!(reason = ended, "the orchestrator's feed cannot be followed");
            }
            self.metrics.feed_connected(false);
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Follows one connection until it ends; says why it did.
    async fn follow_once(
        &self,
        pause: &mut Duration,
        policy_set_wanted: &Notify,
        reviews_wanted: &Notify,
    ) -> String {
        // From the head: what changed before matters no more, because everything known
        // is dropped below, after the connection stands. So no gap can go unseen.
        let mut events = match self.orchestrator.follow(None).await {
            Ok(events) => events,
            Err(error) => return error.to_string(),
        };
        self.facts.invalidate_all();
        policy_set_wanted.notify_one();
        reviews_wanted.notify_one();
        self.zones.want();
        self.policies.report();
        *pause = FIRST_PAUSE;
        self.connected.0.store(true, Ordering::Release);
        self.metrics.feed_connected(true);
        tracing::info!("following the orchestrator's feed");

        let mut last: Option<i64> = None;
        loop {
            let event = match tokio::time::timeout(SILENCE, events.next()).await {
                Err(_) => return format!("it was silent for {SILENCE:?}"),
                Ok(None) => return "it was closed".to_owned(),
                Ok(Some(Err(error))) => return error.to_string(),
                Ok(Some(Ok(None))) => continue,
                Ok(Some(Ok(Some(event)))) => event,
            };
            if last.is_some_and(|last| event.sequence != last.saturating_add(1)) {
                return format!("event {} does not follow {last:?}", event.sequence);
            }
            last = Some(event.sequence);
            if let Some(agent) = event.change.agent() {
                self.facts.invalidate(agent);
            }
            if matches!(
                event.change,
                Change::PolicySetActivated { .. } | Change::PolicySetShadowed { .. }
            ) {
                policy_set_wanted.notify_one();
            }
            if matches!(event.change, Change::ToolsReviewed { .. }) {
                reviews_wanted.notify_one();
            }
            if matches!(event.change, Change::ZonesChanged { .. }) {
                self.zones.want();
            }
            // Nobody may be waiting.
            let _ = self.changes.send(event.change);
        }
    }

    /// Fetches the policy sets whenever they may be others, until that succeeds. Until the
    /// first can be had, the one that was in force last is.
    async fn keep_policy_set(&self, wanted: &Notify) {
        if let Err(reason) = self.fetch_policy_set().await {
            tracing::warn!(reason, "the orchestrator's policy set cannot be had yet");
            self.policies.note(Some(reason));
            self.policies.use_last_known_good().await;
        }
        loop {
            wanted.notified().await;
            while let Err(reason) = self.fetch_policy_set().await {
                tracing::error!(
                    reason,
                    "the policy set cannot be put in force; the one before stays"
                );
                self.policies.note(Some(reason));
                tokio::time::sleep(POLICY_RETRY).await;
            }
            // Beside the enforced one, so that nothing about it can keep that from changing.
            if let Err(reason) = self.fetch_shadow().await {
                tracing::error!(reason, "the shadow policy set cannot be evaluated");
                tokio::time::sleep(POLICY_RETRY).await;
                // It may be another by now, and so may the enforced one.
                wanted.notify_one();
            }
        }
    }

    /// Fetches the reviews of tools whenever they may be others, until that succeeds. Until
    /// the first can be had, those that were known last are in force.
    async fn keep_reviews(&self, wanted: &Notify) {
        if !self.reviews.needed() {
            return std::future::pending().await;
        }
        self.reviews.use_last_known();
        loop {
            match self.orchestrator.tool_reviews().await {
                Ok(reviews) => self.reviews.put_in_force(&reviews),
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "the reviews of tools cannot be had"
                    );
                    tokio::time::sleep(POLICY_RETRY).await;
                    continue;
                }
            }
            wanted.notified().await;
        }
    }

    async fn fetch_policy_set(&self) -> Result<(), String> {
        let bundle = self
            .orchestrator
            .policy_set_bundle()
            .await
            .map_err(|error| error.to_string())?;
        match self.policies.put_in_force(bundle).await {
            Ok(()) => self.policies.note(None),
            Err(error) if error.may_pass() => return Err(error.to_string()),
            Err(error) => {
                // The same again would fail again: wait for another.
                tracing::error!(%error, "the policy set cannot be put in force; the one before stays");
                self.policies.note(Some(error.to_string()));
                self.policies.use_last_known_good().await;
            }
        }
        Ok(())
    }

    async fn fetch_shadow(&self) -> Result<(), String> {
        let bundle = match self.orchestrator.shadow_policy_set_bundle().await {
            Ok(bundle) => bundle,
            // An orchestrator that does not know of shadows.
            Err(error) if contract::client::is_not_found(&error) => None,
            Err(error) => return Err(error.to_string()),
        };
        match self.policies.put_beside(bundle).await {
            Ok(()) => Ok(()),
            Err(error) if error.may_pass() => Err(error.to_string()),
            Err(error) => {
                tracing::error!(%error, "the shadow policy set cannot be evaluated");
                Ok(())
            }
        }
    }

    /// Tells the orchestrator what is in force here: after each change, and every now and
    /// then, so that a gateway that fell silent is noticed. What can be carried out here is
    /// said when the orchestrator does not know.
    async fn report(&self) {
        let servers: Vec<_> = self.catalog.mcp_services().collect();
        let mut changes: Vec<_> = servers.iter().map(|server| server.changes()).collect();
        let mut catalog = None;
        loop {
            // What MCP servers offer may be something else than when it was told last.
            for changes in &mut changes {
                if changes.has_changed().unwrap_or(false) {
                    changes.mark_unchanged();
                    catalog = None;
                }
            }
            let before = health::digest(&self.catalog);
            let told =
                catalog.get_or_insert_with(|| reported::catalog(&self.catalog, &self.gateway));
            if let Err(error) = self.report_once(told).await {
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "the orchestrator cannot be told what is in force here"
                );
            }
            // In time, or earlier if there is news; however often, servers are not let to
            // keep us busy.
            let learnt = async {
                if changes.is_empty() {
                    std::future::pending::<()>().await;
                }
                let any = changes
                    .iter_mut()
                    .map(|changes| Box::pin(changes.changed()));
                let _ = futures_util::future::select_all(any).await;
                tokio::time::sleep(SHORTEST_REPORT).await;
            };
            let other_health = async {
                while health::digest(&self.catalog) == before {
                    tokio::time::sleep(SHORTEST_REPORT).await;
                }
            };
            let news = async {
                tokio::select! {
                    () = self.policies.changed() => {}
                    () = learnt => {}
                    () = other_health => {}
                }
            };
            if tokio::time::timeout(REPORT_INTERVAL, news).await.is_ok() {
                // `select_all` took the change that it woke for.
                catalog = None;
            }
        }
    }

    async fn report_once(&self, catalog: &GatewayCatalog) -> Result<(), contract::Error> {
        let status = GatewayStatus {
            catalog: Some(catalog.digest.clone()),
            services: health::services(&self.catalog, self.clock.now()),
            ..self.policies.status(&self.gateway)
        };
        let told = self.orchestrator.report_status(&status).await?;
        if told.catalog_wanted {
            self.orchestrator.report_catalog(catalog).await?;
        }
        Ok(())
    }
}
