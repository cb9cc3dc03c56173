//! The policy set in force, and the slices of it that commands need.

use std::sync::{
    Arc, Mutex, OnceLock, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use arc_swap::ArcSwapOption;
use authz::{
    Clock, CommandKey, PolicySet, PolicySetVersion, Slice, Target, Timestamp, policy_set::Severity,
    slice::Action,
};
use contract::{gateways::GatewayStatus, policy_sets::PolicySetBundle};
use moka::sync::Cache;
use tokio::sync::{Notify, watch};

use crate::{
    last_known_good::{LastKnownGood, Unusable},
    metrics::Metrics,
    zones::Placed,
};

/// So many commands have their slices in memory; the catalog has some hundreds.
const MAX_COMMANDS: u64 = 100_000;

/// Of what is wrong with a set, so much is reported.
const MAX_PROBLEM_CHARS: usize = 2_000;

/// A policy set in force, or beside it, with what was computed from it. Replaced whole.
#[derive(Debug)]
pub(crate) struct Active {
    set: Arc<PolicySet>,
    since: Timestamp,
    slices: Cache<CommandKey, Arc<Slices>>,
}

impl Active {
    pub(crate) fn new(set: PolicySet, since: Timestamp) -> Self {
        Self {
            set: Arc::new(set),
            since,
            slices: Cache::new(MAX_COMMANDS),
        }
    }

    /// Names it.
    pub(crate) fn version(&self) -> &PolicySetVersion {
        self.set.version()
    }

    /// All of it.
    #[cfg(test)]
    pub(crate) fn set(&self) -> &Arc<PolicySet> {
        &self.set
    }

    /// Since when, by this gateway's clock.
    pub(crate) fn since(&self) -> Timestamp {
        self.since
    }

    /// The slices of one command in its zones, kept for as long as this set is in force.
    pub(crate) fn slices(&self, placed: &Placed) -> Arc<Slices> {
        let target = placed.target();
        if let Some(slices) = self.slices.get(&target.key)
            && Arc::ptr_eq(&slices.target, target)
        {
            return slices;
        }
        let slices = Arc::new(Slices {
            set: Arc::clone(&self.set),
            target: Arc::clone(target),
            invoke: OnceLock::new(),
            list: OnceLock::new(),
            escalate: OnceLock::new(),
        });
        self.slices.insert(target.key.clone(), Arc::clone(&slices));
        slices
    }
}

/// What a decision about one command evaluates, made when first needed.
#[derive(Debug)]
pub(crate) struct Slices {
    set: Arc<PolicySet>,
    target: Arc<Target>,
    invoke: OnceLock<Slice>,
    list: OnceLock<Slice>,
    escalate: OnceLock<Slice>,
}

impl Slices {
    /// To send it.
    pub(crate) fn invoke(&self) -> &Slice {
        self.get(&self.invoke, Action::Invoke)
    }

    /// To see it.
    pub(crate) fn list(&self) -> &Slice {
        self.get(&self.list, Action::List)
    }

    /// To ask people for it.
    pub(crate) fn escalate(&self) -> &Slice {
        self.get(&self.escalate, Action::Escalate)
    }

    fn get<'a>(&self, slice: &'a OnceLock<Slice>, action: Action) -> &'a Slice {
        slice.get_or_init(|| Slice::new(&self.set, &self.target, action))
    }
}

/// Holds the policy set in force, and the one that is evaluated beside it. Until the
/// first is loaded there is none.
#[derive(Debug)]
pub(crate) struct Policies {
    active: ArcSwapOption<Active>,
    shadow: ArcSwapOption<Active>,
    /// The one in force is from this gateway's disk, and the orchestrator has not yet
    /// said that it is right.
    unconfirmed: AtomicBool,
    problems: Mutex<Problems>,
    last_known_good: LastKnownGood<PolicySetBundle>,
    /// Wakes whoever reports what is in force.
    changed: Notify,
    /// How often another set was put in force.
    swaps: watch::Sender<u64>,
    clock: Clock,
    metrics: Arc<Metrics>,
}

/// Why what the orchestrator wants is not so.
#[derive(Debug, Default)]
struct Problems {
    enforced: Option<String>,
    shadow: Option<String>,
}

/// Why a policy set was not put in force. The one before stays.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotLoaded {
    /// The sources are not those that the version names.
    #[error("the sources of policy set {0} do not have its digest")]
    Digest(String),
    /// It has errors.
    #[error("policy set {version} has errors: {findings}")]
    Invalid { version: String, findings: String },
    /// The thread that loads it died.
    #[error("policy set {0} cannot be loaded")]
    Died(String),
}

impl NotLoaded {
    /// Whether loading the same again could end otherwise.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Digest(_) | Self::Died(_) => true,
            Self::Invalid { .. } => false,
        }
    }
}

impl Policies {
    pub(crate) fn new(
        last_known_good: LastKnownGood<PolicySetBundle>,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            active: ArcSwapOption::empty(),
            shadow: ArcSwapOption::empty(),
            unconfirmed: AtomicBool::new(false),
            problems: Mutex::default(),
            last_known_good,
            changed: Notify::new(),
            swaps: watch::Sender::new(0),
            clock,
            metrics,
        }
    }

    /// What is in force.
    pub(crate) fn current(&self) -> Option<Arc<Active>> {
        self.active.load_full()
    }

    /// What is evaluated beside it.
    pub(crate) fn shadow(&self) -> Option<Arc<Active>> {
        self.shadow.load_full()
    }

    /// Whether what is in force is from this gateway's disk, unconfirmed.
    pub(crate) fn is_last_known_good(&self) -> bool {
        self.unconfirmed.load(Ordering::Acquire)
    }

    /// Tells when another set is in force.
    pub(crate) fn swaps(&self) -> watch::Receiver<u64> {
        self.swaps.subscribe()
    }

    /// Waits until something about it is to be reported.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Has it reported now.
    pub(crate) fn report(&self) {
        self.changed.notify_one();
    }

    /// What the orchestrator is told.
    pub(crate) fn status(&self, gateway: &str) -> GatewayStatus {
        let active = self.current();
        let problems = self.problems();
        GatewayStatus {
            gateway: gateway.to_owned(),
            software: env!("CARGO_PKG_VERSION").to_owned(),
            version: active.as_ref().map(|active| active.version().clone()),
            since: active.map(|active| active.since),
            last_known_good: self.is_last_known_good(),
            shadow: self.shadow().map(|shadow| shadow.version().clone()),
            problem: problems
                .enforced
                .clone()
                .or_else(|| problems.shadow.clone())
                .map(|problem| problem.chars().take(MAX_PROBLEM_CHARS).collect()),
            catalog: None,
            services: Vec::new(),
        }
    }

    fn problems(&self) -> std::sync::MutexGuard<'_, Problems> {
        // Nothing panics while holding it, and each field is replaced whole.
        self.problems.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes why the orchestrator's set could not be put in force, or that it could.
    pub(crate) fn note(&self, problem: Option<String>) {
        let changed = {
            let mut problems = self.problems();
            let changed = problems.enforced != problem;
            problems.enforced = problem;
            changed
        };
        if changed {
            self.report();
        }
    }

    /// Checks, loads and puts in force what the orchestrator sent, and keeps it on disk.
    ///
    /// # Errors
    ///
    /// See [`NotLoaded`].
    pub(crate) async fn put_in_force(&self, bundle: PolicySetBundle) -> Result<(), NotLoaded> {
        if self
            .current()
            .is_some_and(|active| *active.version() == bundle.version)
        {
            if self.unconfirmed.swap(false, Ordering::AcqRel) {
                tracing::info!("the last-known-good policy set is the orchestrator's");
                self.metrics.last_known_good(false);
                self.report();
            }
            return Ok(());
        }
        let (set, bundle) = self.load(bundle).await?;
        self.swap(set, false);
        let kept = {
            let last_known_good = self.last_known_good.clone();
            tokio::task::spawn_blocking(move || last_known_good.keep(&bundle)).await
        };
        if let Ok(Err(error)) = kept {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                path = %self.last_known_good.path().display(),
                "the policy set in force cannot be kept on disk: without the orchestrator, the next start would have none, or an older one"
            );
        }
        Ok(())
    }

    /// Puts in force what is kept on disk, if there is nothing in force.
    pub(crate) async fn use_last_known_good(&self) {
        if self.current().is_some() {
            return;
        }
        let last_known_good = self.last_known_good.clone();
        let path = last_known_good.path().display().to_string();
        let read = tokio::task::spawn_blocking(move || last_known_good.read()).await;
        let bundle = match read {
            Ok(Ok(bundle)) => bundle,
            Ok(Err(Unusable::Nothing)) => {
                tracing::warn!(
                    path,
                    "no last-known-good policy set is kept: every command is refused until the orchestrator can be reached"
                );
                return;
            }
            Ok(Err(error)) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    path,
                    "the last-known-good policy set is not used: every command is refused until the orchestrator can be reached"
                );
                return;
            }
            Err(_) => return,
        };
        match self.load(bundle).await {
            Ok((set, _)) => {
                tracing::warn!(
                    version = set.version().short(),
                    path,
                    "the orchestrator's policy set cannot be had: the last-known-good one is in force"
                );
                self.swap(set, true);
            }
            Err(error) => tracing::error!(
                %error,
                path,
                "the last-known-good policy set is not used: every command is refused until the orchestrator can be reached"
            ),
        }
    }

    /// Evaluates another set beside the one in force from now on, or none.
    ///
    /// # Errors
    ///
    /// See [`NotLoaded`]; then none is.
    pub(crate) async fn put_beside(
        &self,
        bundle: Option<PolicySetBundle>,
    ) -> Result<(), NotLoaded> {
        let present = self.shadow();
        let (present, wanted) = (
            present.as_ref().map(|shadow| shadow.version()),
            bundle.as_ref().map(|bundle| &bundle.version),
        );
        if present == wanted && self.problems().shadow.is_none() {
            return Ok(());
        }
        // Not the one before while the next is loaded: its differences would mislead.
        self.shadow.store(None);
        self.problems().shadow = None;
        let loaded = match bundle {
            None => Ok(None),
            Some(bundle) => self.load(bundle).await.map(|(set, _)| Some(set)),
        };
        let outcome = match loaded {
            Ok(set) => {
                self.metrics
                    .shadow_loaded(set.as_ref().map(|set| (set.version(), set.len())));
                if let Some(set) = set {
                    let (version, policies) = (set.version().clone(), set.len());
                    self.shadow
                        .store(Some(Arc::new(Active::new(set, self.clock.now()))));
                    tracing::info!(
                        version = version.short(),
                        policies,
                        "policy set evaluated as shadow; it is not enforced"
                    );
                } else {
                    tracing::info!("no policy set is evaluated as shadow");
                }
                Ok(())
            }
            Err(error) => {
                self.metrics.shadow_loaded(None);
                self.problems().shadow = Some(format!("shadow: {error}"));
                Err(error)
            }
        };
        self.report();
        outcome
    }

    fn swap(&self, set: PolicySet, from_disk: bool) {
        let (version, policies) = (set.version().clone(), set.len());
        self.active
            .store(Some(Arc::new(Active::new(set, self.clock.now()))));
        self.unconfirmed.store(from_disk, Ordering::Release);
        // Told when it is so, and not before.
        self.metrics.policy_set_loaded(&version, policies);
        self.metrics.last_known_good(from_disk);
        tracing::info!(version = version.short(), policies, "policy set in force");
        self.swaps.send_modify(|count| *count += 1);
        self.report();
    }

    /// Checks and loads, and gives the bundle back.
    async fn load(
        &self,
        bundle: PolicySetBundle,
    ) -> Result<(PolicySet, PolicySetBundle), NotLoaded> {
        let name = bundle.version.to_string();
        let loaded = tokio::task::spawn_blocking(move || {
            let version = &bundle.version;
            if bundle.sources.version() != *version {
                return Err(NotLoaded::Digest(version.to_string()));
            }
            let loaded = PolicySet::load(&bundle.sources);
            let (set, warnings) = loaded.map_err(|findings| NotLoaded::Invalid {
                version: version.to_string(),
                findings: findings
                    .iter()
                    .filter(|finding| finding.severity == Severity::Error)
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join("\n"),
            })?;
            for warning in warnings {
                tracing::debug!(%warning, "the policy set has a warning");
            }
            Ok((set, bundle))
        });
        loaded
            .await
            .unwrap_or(Err(NotLoaded::Died(name)))
            .inspect_err(|_| self.metrics.policy_set_rejected())
    }
}
