//! The folder of policies: read, checked, put in force, and watched.
//!
//! A broken edit changes nothing that is enforced: it is remembered, logged once, and
//! shown with `GET /api/policy-set` until the folder is whole again.
//!
//! The folder acts when it comes to hold something else than what was taken from it
//! last; that is kept in the database. So what a person activated or rolled back to
//! stays in force, over restarts too, until someone edits the folder.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::PoisonError,
    time::Duration,
};

use authz::{
    Clock, Finding, PolicySetVersion, PolicySources, Source, Timestamp, policy_set::Severity,
};
use contract::policy_sets::{PolicySetStatus, ShadowStatus};
use notify::RecursiveMode;
use store::{Store, StoreError};
use tokio::sync::mpsc;

use crate::{
    Config, Orchestrator, StartError,
    activation::{self, InForce, Loaded, load_active},
};

/// The folder is read again at least so often: watching sees no change behind a symbolic
/// link, nor on some network file systems.
const REREAD_INTERVAL: Duration = Duration::from_secs(10);

/// An edit is complete when the folder stays the same for so long.
const SETTLE: Duration = Duration::from_millis(150);

/// The sources of a policy set are at most so many bytes together.
const MAX_SOURCE_BYTES: u64 = 32 * 1024 * 1024;

/// The policy folder holds at most so many files and folders, of any kind.
const MAX_ENTRIES: usize = 10_000;

/// Folders within folders.
const MAX_DEPTH: usize = 16;

/// The folder in it that holds what must hold of the policies: `cedargate policy prove`
/// reads it, and nothing in it is ever enforced.
pub const INVARIANTS: &str = "invariants";

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
    Valid(Box<Loaded>),
    /// Something that cannot be enforced.
    Broken {
        version: Option<PolicySetVersion>,
        findings: Vec<Finding>,
    },
}

/// Reads the folder at start. Its contents are put in force if they are other than what
/// was taken from it last; else, and if they are broken, what was in force stays so.
pub(crate) async fn start(
    config: &Config,
    store: &Store,
    clock: &Clock,
) -> Result<(InForce, FolderStatus), StartError> {
    let contents = contents(config, None, true).await;
    let now = clock.now();
    let (loaded, version, findings) = match contents {
        Contents::Valid(loaded) => {
            activation::take_folder(store, &loaded, now).await?;
            let version = loaded.version().clone();
            (Some(*loaded), Some(version), Vec::new())
        }
        Contents::Broken { version, findings } => {
            log(&findings);
            (None, version, findings)
        }
        Contents::Same => (None, None, Vec::new()),
    };
    let Some(active) = store.active_policy_set().await? else {
        return Err(StartError::NoPolicySet(text(&findings)));
    };
    let in_force = load_active(active, loaded)
        .await
        .map_err(|stored| StartError::NoPolicySet(text(&[findings.clone(), stored].concat())))?;
    if !findings.is_empty() {
        tracing::warn!(
            policy_set = in_force.set.version().short(),
            "the policy folder is broken: what was in force before the start stays so"
        );
    } else if version.as_ref() != Some(in_force.set.version()) {
        tracing::warn!(
            policy_set = in_force.set.version().short(),
            activated_by = in_force.activation.by,
            "what is in force was activated by hand; the policy folder acts when its contents change"
        );
    }
    Ok((
        in_force,
        FolderStatus {
            version,
            rejected: findings,
            checked: Some(now),
        },
    ))
}

/// Puts in force what the folder comes to hold, for ever.
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
        Contents::Valid(loaded) => {
            let version = loaded.version().clone();
            activation::folder_changed(orchestrator, *loaded).await?;
            *folder(orchestrator) = FolderStatus {
                version: Some(version),
                rejected: Vec::new(),
                checked: Some(now),
            };
        }
    }
    Ok(())
}

/// What is in force, what is evaluated beside it, and what is wrong with the folder.
///
/// # Errors
///
/// When the store fails.
pub(crate) async fn status(orchestrator: &Orchestrator) -> Result<PolicySetStatus, StoreError> {
    let shadow = orchestrator.store().policy_shadow().await?;
    let in_force = orchestrator.in_force();
    let folder = folder(orchestrator);
    let version = in_force.set.version().clone();
    let whole = folder
        .version
        .clone()
        .filter(|_| folder.rejected.is_empty());
    Ok(PolicySetStatus {
        folder_held: whole.as_ref().is_some_and(|folder| *folder != version),
        folder: whole,
        version,
        activated: in_force.activation.at,
        activated_by: in_force.activation.by.clone(),
        reason: in_force.activation.reason.clone(),
        policies: in_force.set.len(),
        warnings: in_force.warnings.clone(),
        rejected: folder.rejected.clone(),
        checked: folder.checked,
        shadow: shadow.map(|shadow| ShadowStatus {
            version: shadow.version,
            since: shadow.since,
            by: shadow.by,
        }),
    })
}

/// Whether the folder's contents could be enforced.
pub(crate) fn is_whole(orchestrator: &Orchestrator) -> bool {
    folder(orchestrator).rejected.is_empty()
}

fn folder(orchestrator: &Orchestrator) -> std::sync::MutexGuard<'_, FolderStatus> {
    // Nothing panics while holding it, and it is replaced whole.
    orchestrator
        .inner
        .folder
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
}

/// What is wrong with the folder; nothing if its contents are good.
pub(crate) fn rejected(orchestrator: &Orchestrator) -> Vec<Finding> {
    folder(orchestrator).rejected.clone()
}

/// One line for each error.
pub(crate) fn log(findings: &[Finding]) {
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

/// As people read them.
pub(crate) fn text(findings: &[Finding]) -> String {
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
    let version = sources.version();
    match Loaded::load(sources).await {
        Ok(loaded) => Contents::Valid(Box::new(loaded)),
        Err(findings) => Contents::Broken {
            version: Some(version),
            findings,
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
    let policies = read_within(folder, &mut budget)?;
    Ok(PolicySources { schema, policies })
}

/// Reads policies without a schema, sorted by name: those to compare with, or invariants.
///
/// # Errors
///
/// As [`read`].
pub fn read_policies(folder: &Path) -> Result<Vec<Source>, Box<Finding>> {
    read_within(folder, &mut { MAX_SOURCE_BYTES })
}

fn read_within(folder: &Path, budget: &mut u64) -> Result<Vec<Source>, Box<Finding>> {
    let mut search = Search::default();
    search.find(folder, folder)?;
    let mut files = search.files;
    if files.is_empty() {
        // More likely a mount that went away than the wish to refuse everything.
        return Err(finding(
            folder,
            "the policy folder holds no `*.cedar` file".to_owned(),
        ));
    }
    files.sort();
    files
        .into_iter()
        .map(|(name, path)| {
            Ok(Source {
                name,
                text: read_file(&path, budget)?,
            })
        })
        .collect()
}

/// Looks for all `*.cedar` below a folder, apart from hidden ones (an editor's, or
/// Kubernetes' own) and [`INVARIANTS`].
#[derive(Default)]
struct Search {
    /// Name within the folder, and where it is.
    files: Vec<(String, PathBuf)>,
    /// Entries seen so far.
    entries: usize,
    /// The folders that it is in at present, with links resolved.
    within: Vec<PathBuf>,
}

impl Search {
    fn find(&mut self, root: &Path, folder: &Path) -> Result<(), Box<Finding>> {
        let unreadable = |error: io::Error| {
            finding(folder, format!("the policy folder cannot be read: {error}"))
        };
        let real = fs::canonicalize(folder).map_err(unreadable)?;
        if self.within.contains(&real) {
            return Err(finding(
                folder,
                "the link leads back to a folder that it is in".to_owned(),
            ));
        }
        if self.within.len() >= MAX_DEPTH {
            return Err(finding(
                folder,
                format!("folders are nested deeper than {MAX_DEPTH}"),
            ));
        }
        self.within.push(real);
        for entry in fs::read_dir(folder).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            self.entries += 1;
            if self.entries > MAX_ENTRIES {
                return Err(finding(
                    root,
                    format!("the policy folder holds more than {MAX_ENTRIES} files"),
                ));
            }
            let hidden = path
                .file_name()
                .is_none_or(|name| name.to_string_lossy().starts_with('.'));
            if hidden {
                continue;
            }
            let is_invariants = folder == root && path.ends_with(INVARIANTS);
            if path.is_dir() && is_invariants {
                continue;
            }
            if path.is_dir() {
                self.find(root, &path)?;
            } else if path
                .extension()
                .is_some_and(|extension| extension == "cedar")
            {
                let name = name_within(root, &path)
                    .ok_or_else(|| finding(&path, "the file's name is not UTF-8".to_owned()))?;
                self.files.push((name, path));
            }
        }
        self.within.pop();
        Ok(())
    }
}

/// The path within `root`, with slashes, if it is text.
fn name_within(root: &Path, path: &Path) -> Option<String> {
    let parts: Option<Vec<_>> = path
        .strip_prefix(root)
        .unwrap_or(path)
        .components()
        .map(|part| part.as_os_str().to_str())
        .collect();
    Some(parts?.join("/"))
}

fn read_file(path: &Path, budget: &mut u64) -> Result<String, Box<Finding>> {
    let unreadable = |error: io::Error| finding(path, format!("the file cannot be read: {error}"));
    let too_large = || {
        finding(
            path,
            format!("the policy set is larger than {MAX_SOURCE_BYTES} bytes"),
        )
    };
    // Before opening: a pipe would wait for a writer, and a device may have no end.
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(finding(path, "this is not a file".to_owned()));
    }
    let mut bytes = Vec::new();
    // It may grow while it is read.
    let file = fs::File::open(path).map_err(unreadable)?;
    file.take(*budget + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    *budget = u64::try_from(bytes.len())
        .ok()
        .and_then(|read| budget.checked_sub(read))
        .ok_or_else(too_large)?;
    String::from_utf8(bytes).map_err(|error| {
        let place = error.utf8_error().valid_up_to();
        let before = error.as_bytes().get(..place).unwrap_or_default();
        let line_start = before
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |place| place + 1);
        let lines = String::from_utf8_lossy(before).matches('\n').count();
        let letters = String::from_utf8_lossy(before.get(line_start..).unwrap_or_default())
            .chars()
            .count();
        let mut finding = finding(path, "the file is not UTF-8".to_owned());
        finding.line = u32::try_from(lines + 1).ok();
        finding.column = u32::try_from(letters + 1).ok();
        finding.help = Some("save it as UTF-8".to_owned());
        finding
    })
}

fn finding(path: &Path, message: String) -> Box<Finding> {
    Box::new(Finding {
        file: path.display().to_string(),
        ..unlocated(message)
    })
}

/// Something wrong with the set as a whole.
pub(crate) fn unlocated(message: String) -> Finding {
    Finding {
        severity: Severity::Error,
        file: String::new(),
        line: None,
        column: None,
        policy: None,
        message,
        help: None,
        excerpt: None,
    }
}

#[cfg(test)]
mod tests;
