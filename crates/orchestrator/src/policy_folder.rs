//! The folder of policies: read, checked, put in force, and watched.
//!
//! A broken edit changes nothing that is enforced: it is remembered, logged once, and
//! shown with `GET /api/policy-set` until the folder is whole again.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError},
    time::Duration,
};

use authz::{
    Clock, Finding, PolicySet, PolicySetVersion, PolicySources, Source, Timestamp,
    policy_set::Severity,
};
use contract::policy_sets::PolicySetStatus;
use notify::RecursiveMode;
use store::{Actor, Store, StoreError, policy_sets::StoredPolicySet};
use tokio::sync::mpsc;

use crate::{Config, Orchestrator, StartError, events::Follower};

/// The folder is read again at least so often: watching sees no change behind a symbolic
/// link, nor on some network file systems.
const REREAD_INTERVAL: Duration = Duration::from_secs(10);

/// An edit is complete when the folder stays the same for so long.
const SETTLE: Duration = Duration::from_millis(150);

/// The sources of a policy set are at most so many bytes together.
const MAX_SOURCE_BYTES: u64 = 32 * 1024 * 1024;

/// The policy set in force.
#[derive(Debug)]
pub(crate) struct InForce {
    pub(crate) set: Arc<PolicySet>,
    pub(crate) sources: PolicySources,
    pub(crate) warnings: Vec<Finding>,
    pub(crate) activated: Timestamp,
    pub(crate) activated_by: String,
}

/// What became of the folder's present contents.
#[derive(Debug, Default)]
pub(crate) struct FolderStatus {
    /// Of the last contents that were looked into, good or bad.
    version: Option<PolicySetVersion>,
    /// Why they are not in force.
    rejected: Vec<Finding>,
    /// When they were last read.
    checked: Option<Timestamp>,
}

/// What the folder holds.
enum Contents {
    /// What it held before.
    Same,
    /// Something valid.
    Valid {
        sources: PolicySources,
        set: Box<PolicySet>,
        warnings: Vec<Finding>,
    },
    /// Something that cannot be enforced.
    Broken {
        version: Option<PolicySetVersion>,
        findings: Vec<Finding>,
    },
}

/// Reads the folder at start, or else the last set in force.
pub(crate) async fn start(
    config: &Config,
    store: &Store,
    clock: &Clock,
) -> Result<(InForce, FolderStatus), StartError> {
    let contents = contents(config, None, true).await;
    let now = clock.now();
    match contents {
        Contents::Valid {
            sources,
            set,
            warnings,
        } => {
            let version = set.version().clone();
            let in_force = activate(store, sources, *set, warnings, now).await?;
            Ok((
                in_force,
                FolderStatus {
                    version: Some(version),
                    rejected: Vec::new(),
                    checked: Some(now),
                },
            ))
        }
        Contents::Broken { version, findings } => {
            log(&findings);
            let stored = store.active_policy_set().await?;
            let in_force = match stored.map(load_stored) {
                Some(Ok(in_force)) => in_force,
                Some(Err(stored)) => {
                    return Err(StartError::NoPolicySet(text(&[findings, stored].concat())));
                }
                None => return Err(StartError::NoPolicySet(text(&findings))),
            };
            Ok((
                in_force,
                FolderStatus {
                    version,
                    rejected: findings,
                    checked: Some(now),
                },
            ))
        }
        Contents::Same => Err(StartError::NoPolicySet(
            "the policy folder was not read".to_owned(),
        )),
    }
}

/// Keeps what is in force equal to the folder, for ever.
pub(crate) async fn watch(orchestrator: &Orchestrator) {
    let (edited, mut edits) = mpsc::channel(1);
    let config = &orchestrator.inner.config;
    // Dropping the watcher would end it.
    let watcher = watcher(config, edited);
    if let Err(error) = &watcher {
        tracing::warn!(
            error = error as &dyn std::error::Error,
            folder = %config.policies.display(),
            "the policy folder cannot be watched; it is read every {REREAD_INTERVAL:?} instead"
        );
    }
    loop {
        if let Err(error) = reread(orchestrator).await {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "the policy folder's set cannot be put in force"
            );
        }
        let _ = tokio::time::timeout(REREAD_INTERVAL, async {
            if edits.recv().await.is_none() {
                std::future::pending::<()>().await;
            }
        })
        .await;
    }
}

/// Takes over what another orchestrator on the same database put in force, for ever.
pub(crate) async fn follow(orchestrator: &Orchestrator) {
    let mut after = None;
    loop {
        if let Err(error) = follow_from(orchestrator, &mut after).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the feed cannot be followed"
            );
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn follow_from(
    orchestrator: &Orchestrator,
    after: &mut Option<i64>,
) -> Result<(), StoreError> {
    let mut follower = Follower::new(orchestrator, *after).await?;
    // What was activated before the feed is followed.
    take_over(orchestrator).await?;
    loop {
        *after = Some(follower.after());
        let event = follower.next().await?;
        if matches!(event.change, store::feed::Change::PolicySetActivated { .. }) {
            take_over(orchestrator).await?;
        }
    }
}

/// Enforces what the database says is in force, if that is something else.
async fn take_over(orchestrator: &Orchestrator) -> Result<(), StoreError> {
    let Some(stored) = orchestrator.store().active_policy_set().await? else {
        return Ok(());
    };
    if orchestrator.in_force().set.version() == &stored.version {
        return Ok(());
    }
    match tokio::task::spawn_blocking(move || load_stored(stored)).await {
        Ok(Ok(in_force)) => put_in_force(orchestrator, in_force),
        Ok(Err(findings)) => log(&findings),
        Err(error) => tracing::error!(
            error = &error as &dyn std::error::Error,
            "a policy set cannot be loaded"
        ),
    }
    Ok(())
}

fn watcher(
    config: &Config,
    edited: mpsc::Sender<()>,
) -> notify::Result<
    notify_debouncer_full::Debouncer<
        notify::RecommendedWatcher,
        notify_debouncer_full::RecommendedCache,
    >,
> {
    let mut watcher = notify_debouncer_full::new_debouncer(
        Duration::from_millis(50),
        None,
        move |events: notify_debouncer_full::DebounceEventResult| {
            let touched = events.map_or(true, |events| {
                events.iter().any(|event| !event.kind.is_access())
            });
            if touched {
                // A full channel means that the folder is about to be read anyway.
                let _ = edited.try_send(());
            }
        },
    )?;
    watcher.watch(&config.policies, RecursiveMode::Recursive)?;
    if let Some(parent) = config.schema.parent() {
        let parent = if parent.as_os_str().is_empty() {
            Path::new(".")
        } else {
            parent
        };
        watcher.watch(parent, RecursiveMode::NonRecursive)?;
    }
    Ok(watcher)
}

/// Reads the folder, and puts in force what is new and valid.
///
/// # Errors
///
/// When the store fails; then the next read tries again.
pub(crate) async fn reread(orchestrator: &Orchestrator) -> Result<(), StoreError> {
    let known = folder(orchestrator).version.clone();
    let contents = contents(&orchestrator.inner.config, known, false).await;
    let now = orchestrator.now();
    match contents {
        Contents::Same => folder(orchestrator).checked = Some(now),
        Contents::Broken { version, findings } => {
            let mut folder = folder(orchestrator);
            if folder.rejected != findings {
                log(&findings);
            }
            *folder = FolderStatus {
                version,
                rejected: findings,
                checked: Some(now),
            };
        }
        Contents::Valid {
            sources,
            set,
            warnings,
        } => {
            let version = set.version().clone();
            let in_force = activate(orchestrator.store(), sources, *set, warnings, now).await?;
            if orchestrator.in_force().set.version() != &version {
                put_in_force(orchestrator, in_force);
            }
            *folder(orchestrator) = FolderStatus {
                version: Some(version),
                rejected: Vec::new(),
                checked: Some(now),
            };
        }
    }
    Ok(())
}

/// What is in force, and what is wrong with the folder.
pub(crate) fn status(orchestrator: &Orchestrator) -> PolicySetStatus {
    let in_force = orchestrator.in_force();
    let folder = folder(orchestrator);
    PolicySetStatus {
        version: in_force.set.version().clone(),
        activated: in_force.activated,
        activated_by: in_force.activated_by.clone(),
        policies: in_force.set.len(),
        warnings: in_force.warnings.clone(),
        rejected: folder.rejected.clone(),
        checked: folder.checked,
    }
}

fn folder(orchestrator: &Orchestrator) -> std::sync::MutexGuard<'_, FolderStatus> {
    // Nothing panics while holding it, and it is replaced whole.
    orchestrator
        .inner
        .folder
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
}

fn put_in_force(orchestrator: &Orchestrator, in_force: InForce) {
    tracing::info!(
        policy_set = in_force.set.version().short(),
        policies = in_force.set.len(),
        activated_by = in_force.activated_by,
        "policy_set_activated"
    );
    orchestrator.inner.in_force.send_replace(Arc::new(in_force));
}

/// Stores it as in force. The database is first, so that what is enforced is always stored.
async fn activate(
    store: &Store,
    sources: PolicySources,
    set: PolicySet,
    warnings: Vec<Finding>,
    now: Timestamp,
) -> Result<InForce, StoreError> {
    let actor = Actor {
        user: None,
        via: "folder",
        at: now,
    };
    store
        .activate_policy_set(set.version(), &sources, &warnings, &actor)
        .await?;
    // If the same set was in force already, it has been since then.
    let (activated, activated_by) = match store.active_policy_set().await? {
        Some(stored) if &stored.version == set.version() => (stored.activated, stored.activated_by),
        Some(_) | None => (now, actor.via.to_owned()),
    };
    Ok(InForce {
        set: Arc::new(set),
        sources,
        warnings,
        activated,
        activated_by,
    })
}

fn load_stored(stored: StoredPolicySet) -> Result<InForce, Vec<Finding>> {
    let (set, warnings) = PolicySet::load(&stored.sources)?;
    Ok(InForce {
        set: Arc::new(set),
        sources: stored.sources,
        warnings,
        activated: stored.activated,
        activated_by: stored.activated_by,
    })
}

fn log(findings: &[Finding]) {
    for finding in findings
        .iter()
        .filter(|finding| finding.severity == Severity::Error)
    {
        tracing::error!(
            file = finding.file,
            line = finding.line,
            policy = finding.policy,
            "policy_set_rejected: {}; what was in force stays so",
            finding.message
        );
    }
}

fn text(findings: &[Finding]) -> String {
    findings
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}

/// What the folder holds, once it holds still.
///
/// `starting`: no editor is at work yet.
async fn contents(config: &Config, known: Option<PolicySetVersion>, starting: bool) -> Contents {
    let (schema, policies) = (config.schema.clone(), config.policies.clone());
    let first = read_apart(&schema, &policies).await;
    let sources = match first {
        Ok(sources) if known.as_ref() == Some(&sources.version()) => return Contents::Same,
        first if starting => first,
        mut last => loop {
            // Editors write in steps, and half of a set may be a valid set.
            tokio::time::sleep(SETTLE).await;
            let next = read_apart(&schema, &policies).await;
            if next == last {
                break next;
            }
            last = next;
        },
    };
    let sources = match sources {
        Ok(sources) => sources,
        Err(finding) => {
            return Contents::Broken {
                version: None,
                findings: vec![*finding],
            };
        }
    };
    let loaded = tokio::task::spawn_blocking(move || (PolicySet::load(&sources), sources)).await;
    match loaded {
        Ok((Ok((set, warnings)), sources)) => Contents::Valid {
            sources,
            set: Box::new(set),
            warnings,
        },
        Ok((Err(findings), sources)) => Contents::Broken {
            version: Some(sources.version()),
            findings,
        },
        Err(error) => Contents::Broken {
            version: None,
            findings: vec![*finding(
                &policies,
                format!("the policy set cannot be loaded: {error}"),
            )],
        },
    }
}

async fn read_apart(schema: &Path, policies: &Path) -> Result<PolicySources, Box<Finding>> {
    let (schema, folder) = (schema.to_owned(), policies.to_owned());
    match tokio::task::spawn_blocking(move || read(&schema, &folder)).await {
        Ok(read) => read,
        Err(error) => Err(finding(
            policies,
            format!("the policy folder cannot be read: {error}"),
        )),
    }
}

/// Reads schema and policies, sorted by name. `cedargate policy check` reads so, too.
///
/// # Errors
///
/// What cannot be read, is not UTF-8, or is too large or nested too deep.
pub fn read(schema: &Path, folder: &Path) -> Result<PolicySources, Box<Finding>> {
    let mut budget = MAX_SOURCE_BYTES;
    let schema_name = schema.file_name().map_or_else(
        || "schema.cedarschema".into(),
        |name| name.to_string_lossy(),
    );
    let schema = Source {
        name: schema_name.into_owned(),
        text: read_file(schema, &mut budget)?,
    };
    let mut files = Vec::new();
    find(folder, folder, 0, &mut files)?;
    if files.is_empty() {
        // More likely a mount that went away than the wish to refuse everything.
        return Err(finding(
            folder,
            "the policy folder holds no `*.cedar` file".to_owned(),
        ));
    }
    files.sort();
    let policies = files
        .into_iter()
        .map(|(name, path)| {
            Ok(Source {
                name,
                text: read_file(&path, &mut budget)?,
            })
        })
        .collect::<Result<_, Box<Finding>>>()?;
    Ok(PolicySources { schema, policies })
}

/// All `*.cedar` below `folder`, apart from hidden ones (an editor's, or Kubernetes' own).
fn find(
    root: &Path,
    folder: &Path,
    depth: usize,
    files: &mut Vec<(String, PathBuf)>,
) -> Result<(), Box<Finding>> {
    let unreadable =
        |error: io::Error| finding(folder, format!("the policy folder cannot be read: {error}"));
    if depth > 16 {
        return Err(finding(
            folder,
            "the policy folder is nested too deep".to_owned(),
        ));
    }
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let hidden = path
            .file_name()
            .is_none_or(|name| name.to_string_lossy().starts_with('.'));
        if hidden {
            continue;
        }
        if path.is_dir() {
            find(root, &path, depth + 1, files)?;
        } else if path
            .extension()
            .is_some_and(|extension| extension == "cedar")
        {
            let name = path.strip_prefix(root).unwrap_or(&path);
            let name: Vec<_> = name
                .components()
                .map(|part| part.as_os_str().to_string_lossy())
                .collect();
            files.push((name.join("/"), path));
        }
    }
    Ok(())
}

fn read_file(path: &Path, budget: &mut u64) -> Result<String, Box<Finding>> {
    let unreadable = |error: io::Error| finding(path, format!("the file cannot be read: {error}"));
    let bytes = fs::metadata(path).map_err(unreadable)?.len();
    *budget = budget.checked_sub(bytes).ok_or_else(|| {
        finding(
            path,
            format!("the policy set is larger than {MAX_SOURCE_BYTES} bytes"),
        )
    })?;
    fs::read_to_string(path).map_err(unreadable)
}

fn finding(path: &Path, message: String) -> Box<Finding> {
    Box::new(Finding {
        severity: Severity::Error,
        file: path.display().to_string(),
        line: None,
        column: None,
        policy: None,
        message,
        help: None,
        excerpt: None,
    })
}

#[cfg(test)]
mod tests;
