//! Which policy set is in force: put there by the folder, by people, or by another
//! orchestrator on the same database.
//!
//! The database is first, and memory follows it: what is enforced is always stored, with
//! who, when and why. One change at a time (`Inner::activation`), so that memory cannot
//! end up with the older of two.

use std::sync::Arc;

use authz::{
    Finding, PolicySet, PolicySetVersion, PolicySources,
    approval::{Administration, may_administer},
};
use contract::policy_sets::{
    ActivatePolicySet, PolicySetChanged, PushPolicySet, RollBack, ShadowPolicySet, Then,
};
use store::{
    Actor, Store, StoreError,
    feed::Change,
    policy_sets::{Activation, ActivePolicySet, Kind, NewPolicySet},
};

use crate::{
    Orchestrator, approvals::check_text, authenticate::Person, error::Error, events, policy_folder,
};

/// A reason is at most so many characters.
const MAX_REASON_CHARS: usize = 2_000;

/// The policy set in force.
#[derive(Debug)]
pub(crate) struct InForce {
    pub(crate) set: Arc<PolicySet>,
    pub(crate) sources: PolicySources,
    pub(crate) warnings: Vec<Finding>,
    pub(crate) activation: Activation,
}

/// A policy set that could be enforced.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    pub(crate) set: Arc<PolicySet>,
    pub(crate) sources: PolicySources,
    pub(crate) warnings: Vec<Finding>,
}

impl Loaded {
    /// Checks sources. Takes seconds for a large set, on a thread of its own.
    ///
    /// # Errors
    ///
    /// What is wrong with them.
    pub(crate) async fn load(sources: PolicySources) -> Result<Self, Vec<Finding>> {
        let loaded =
            tokio::task::spawn_blocking(move || (PolicySet::load(&sources), sources)).await;
        match loaded {
            Ok((Ok((set, warnings)), sources)) => Ok(Self {
                set: Arc::new(set),
                sources,
                warnings,
            }),
            Ok((Err(findings), _)) => Err(findings),
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "a policy set cannot be loaded"
                );
                Err(vec![policy_folder::unlocated(
                    "the policy set cannot be loaded; the log says why".to_owned(),
                )])
            }
        }
    }

    pub(crate) fn version(&self) -> &PolicySetVersion {
        self.set.version()
    }

    pub(crate) fn to_store(&self) -> NewPolicySet<'_> {
        NewPolicySet {
            version: self.version(),
            sources: &self.sources,
            findings: &self.warnings,
        }
    }
}

/// What the database says is in force, loaded; `known` if it is that.
///
/// # Errors
///
/// When this program cannot enforce it.
pub(crate) async fn load_active(
    active: ActivePolicySet,
    known: Option<Loaded>,
) -> Result<InForce, Vec<Finding>> {
    let loaded = match known.filter(|known| known.version() == &active.version) {
        Some(known) => known,
        None => Loaded::load(active.sources).await?,
    };
    Ok(InForce {
        set: loaded.set,
        sources: loaded.sources,
        warnings: loaded.warnings,
        activation: active.activation,
    })
}

/// Takes the folder's contents over, unless they are what was taken last.
///
/// # Errors
///
/// When the store fails.
pub(crate) async fn take_folder(
    store: &Store,
    loaded: &Loaded,
    now: authz::Timestamp,
) -> Result<bool, StoreError> {
    let actor = Actor::itself("folder", now);
    store.take_policy_folder(loaded.to_store(), &actor).await
}

/// Enforces what the database says is in force. Whoever calls this holds `Inner::activation`.
///
/// # Errors
///
/// When the store fails.
async fn settle(orchestrator: &Orchestrator, known: Option<Loaded>) -> Result<(), StoreError> {
    let Some(active) = orchestrator.store().active_policy_set().await? else {
        return Ok(());
    };
    let now = orchestrator.in_force();
    if now.activation.id == active.activation.id {
        return Ok(());
    }
    // Back to what is loaded: another activation of the same set.
    let known = known.or_else(|| {
        Some(Loaded {
            set: Arc::clone(&now.set),
            sources: now.sources.clone(),
            warnings: now.warnings.clone(),
        })
    });
    match load_active(active, known).await {
        Ok(in_force) => {
            tracing::info!(
                policy_set = in_force.set.version().short(),
                policies = in_force.set.len(),
                activated_by = in_force.activation.by,
                via = in_force.activation.via,
                "policy_set_activated"
            );
            orchestrator.inner.in_force.send_replace(Arc::new(in_force));
        }
        Err(findings) => policy_folder::log(&findings),
    }
    Ok(())
}

/// Takes over what another orchestrator on the same database puts in force, for ever.
pub(crate) async fn follow(orchestrator: &Orchestrator) {
    let concerned = |change: &Change| matches!(change, Change::PolicySetActivated { .. });
    events::keep_up(orchestrator, concerned, catch_up).await;
}

/// Takes over what another orchestrator on the same database put in force.
///
/// # Errors
///
/// When the store fails.
pub(crate) async fn catch_up(orchestrator: &Orchestrator) -> Result<(), StoreError> {
    let _turn = orchestrator.inner.activation.lock().await;
    settle(orchestrator, None).await
}

/// Puts the folder's contents in force, unless they are what was taken last.
///
/// # Errors
///
/// When the store fails.
pub(crate) async fn folder_changed(
    orchestrator: &Orchestrator,
    loaded: Loaded,
) -> Result<(), StoreError> {
    let _turn = orchestrator.inner.activation.lock().await;
    let changed = take_folder(orchestrator.store(), &loaded, orchestrator.now()).await?;
    if changed {
        settle(orchestrator, Some(loaded)).await?;
    }
    Ok(())
}

/// Checks and stores a set that a person pushed, and does with it what they say.
///
/// # Errors
///
/// [`Error::InvalidPolicySet`], or see [`activate`] and [`shadow`].
pub(crate) async fn push(
    orchestrator: &Orchestrator,
    person: &Person,
    push: PushPolicySet,
) -> Result<PolicySetChanged, Error> {
    check_text("reason", &push.reason, MAX_REASON_CHARS)?;
    let loaded = Loaded::load(push.sources)
        .await
        .map_err(Error::InvalidPolicySet)?;
    if push.then == Then::Activate {
        check_lockout(orchestrator, person, &loaded.set, push.allow_lockout)?;
    }
    let actor = orchestrator.actor(person);
    let _turn = orchestrator.inner.activation.lock().await;
    let store = orchestrator.store();
    let stored = store.store_policy_set(loaded.to_store(), &actor).await?;
    let version = loaded.version().clone();
    let changed = match push.then {
        Then::Store => stored,
        Then::Shadow => {
            store
                .shadow_policy_set(Some(&version), &push.reason, &actor)
                .await?
        }
        Then::Activate => {
            let changed = store
                .activate_policy_set(&version, Kind::Activated, &push.reason, &actor)
                .await?;
            settle(orchestrator, Some(loaded)).await?;
            changed
        }
    };
    answer(orchestrator, changed).await
}

/// Puts a stored version in force.
///
/// # Errors
///
/// [`Error::NotFound`], [`Error::InvalidPolicySet`] if this program cannot enforce it,
/// [`Error::Conflict`] if it would lock the person out.
pub(crate) async fn activate(
    orchestrator: &Orchestrator,
    person: &Person,
    version: &PolicySetVersion,
    activate: ActivatePolicySet,
) -> Result<PolicySetChanged, Error> {
    check_text("reason", &activate.reason, MAX_REASON_CHARS)?;
    let _turn = orchestrator.inner.activation.lock().await;
    enforce(
        orchestrator,
        person,
        version,
        Kind::Activated,
        &activate.reason,
        activate.allow_lockout,
    )
    .await
}

/// Puts the version before in force again, or the one that the person names.
///
/// # Errors
///
/// [`Error::Conflict`] if there was none before, or see [`activate`].
pub(crate) async fn roll_back(
    orchestrator: &Orchestrator,
    person: &Person,
    back: RollBack,
) -> Result<PolicySetChanged, Error> {
    check_text("reason", &back.reason, MAX_REASON_CHARS)?;
    let _turn = orchestrator.inner.activation.lock().await;
    let to = match back.to {
        Some(to) => to,
        None => orchestrator
            .store()
            .policy_set_before()
            .await?
            .ok_or_else(|| {
                Error::Conflict("there is no version before the one in force".to_owned())
            })?,
    };
    enforce(
        orchestrator,
        person,
        &to,
        Kind::RolledBack,
        &back.reason,
        back.allow_lockout,
    )
    .await
}

/// Has gateways evaluate a stored version beside the one in force, or none.
///
/// # Errors
///
/// [`Error::NotFound`], [`Error::InvalidPolicySet`], [`Error::Conflict`] for the version
/// in force.
pub(crate) async fn shadow(
    orchestrator: &Orchestrator,
    person: &Person,
    shadow: ShadowPolicySet,
) -> Result<PolicySetChanged, Error> {
    check_text("reason", &shadow.reason, MAX_REASON_CHARS)?;
    let _turn = orchestrator.inner.activation.lock().await;
    if let Some(version) = &shadow.version {
        let stored = orchestrator.store().policy_set(version).await?;
        Loaded::load(stored.sources)
            .await
            .map_err(Error::InvalidPolicySet)?;
    }
    let actor = orchestrator.actor(person);
    let changed = orchestrator
        .store()
        .shadow_policy_set(shadow.version.as_ref(), &shadow.reason, &actor)
        .await?;
    answer(orchestrator, changed).await
}

/// Whoever calls this holds `Inner::activation`.
async fn enforce(
    orchestrator: &Orchestrator,
    person: &Person,
    version: &PolicySetVersion,
    kind: Kind,
    reason: &str,
    allow_lockout: bool,
) -> Result<PolicySetChanged, Error> {
    let stored = orchestrator.store().policy_set(version).await?;
    // It was valid once, perhaps for another version of this program.
    let loaded = Loaded::load(stored.sources)
        .await
        .map_err(Error::InvalidPolicySet)?;
    check_lockout(orchestrator, person, &loaded.set, allow_lockout)?;
    let actor = orchestrator.actor(person);
    let changed = orchestrator
        .store()
        .activate_policy_set(version, kind, reason, &actor)
        .await?;
    settle(orchestrator, Some(loaded)).await?;
    answer(orchestrator, changed).await
}

/// A set that does not let its activator activate another can be replaced by an edit of
/// the folder only, so it takes more than a slip to put it in force.
fn check_lockout(
    orchestrator: &Orchestrator,
    person: &Person,
    set: &Arc<PolicySet>,
    allowed: bool,
) -> Result<(), Error> {
    let may = may_administer(
        set,
        &person.user,
        Administration::ManagePolicies,
        person.presence(orchestrator).confirmed_now(),
    );
    if allowed || may.is_ok() {
        return Ok(());
    }
    Err(Error::Conflict(format!(
        "with policy set `{}` in force, `{}` could not activate another or roll back; say allow_lockout (`--allow-lockout`) if that is meant",
        set.version().short(),
        person.user.id
    )))
}

async fn answer(orchestrator: &Orchestrator, changed: bool) -> Result<PolicySetChanged, Error> {
    Ok(PolicySetChanged {
        changed,
        status: policy_folder::status(orchestrator).await?,
    })
}
