//! The policy set in force, and the slices of it that commands need.

use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwapOption;
use authz::{CommandKey, PolicySet, Slice, Target, policy_set::Severity, slice::Action};
use contract::policy_sets::PolicySetBundle;
use moka::sync::Cache;

use crate::metrics::Metrics;

/// So many commands have their slices in memory; the catalog has some hundreds.
const MAX_COMMANDS: u64 = 100_000;

/// A policy set in force, with what was computed from it. Replaced whole.
#[derive(Debug)]
pub(crate) struct Active {
    set: Arc<PolicySet>,
    slices: Cache<CommandKey, Arc<Slices>>,
}

impl Active {
    fn new(set: PolicySet) -> Self {
        Self {
            set: Arc::new(set),
            slices: Cache::new(MAX_COMMANDS),
        }
    }

    /// The slices of one command, kept for as long as this set is in force.
    pub(crate) fn slices(&self, target: &Arc<Target>) -> Arc<Slices> {
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

/// Holds the policy set in force. Until the first is loaded there is none.
#[derive(Debug)]
pub(crate) struct Policies {
    active: ArcSwapOption<Active>,
    metrics: Arc<Metrics>,
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

impl Policies {
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            active: ArcSwapOption::empty(),
            metrics,
        }
    }

    /// What is in force.
    pub(crate) fn current(&self) -> Option<Arc<Active>> {
        self.active.load_full()
    }

    /// Checks, loads and puts in force.
    ///
    /// # Errors
    ///
    /// See [`NotLoaded`].
    pub(crate) async fn put_in_force(&self, bundle: PolicySetBundle) -> Result<(), NotLoaded> {
        let version = bundle.version;
        if self
            .current()
            .is_some_and(|active| *active.set.version() == version)
        {
            return Ok(());
        }
        let name = version.to_string();
        let loaded = tokio::task::spawn_blocking(move || {
            if bundle.sources.version() != version {
                return Err(NotLoaded::Digest(version.to_string()));
            }
            PolicySet::load(&bundle.sources).map_err(|findings| NotLoaded::Invalid {
                version: version.to_string(),
                findings: findings
                    .iter()
                    .filter(|finding| finding.severity == Severity::Error)
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join("\n"),
            })
        });
        let loaded = loaded.await.unwrap_or(Err(NotLoaded::Died(name)));
        let (set, warnings) = loaded.inspect_err(|_| self.metrics.policy_set_rejected())?;
        for warning in warnings {
            tracing::debug!(%warning, "the policy set has a warning");
        }
        self.metrics.policy_set_loaded(set.version(), set.len());
        tracing::info!(
            version = set.version().short(),
            policies = set.len(),
            "policy set in force"
        );
        self.active.store(Some(Arc::new(Active::new(set))));
        Ok(())
    }
}
