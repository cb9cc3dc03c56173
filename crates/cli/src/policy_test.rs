//! Tests of policies: `*.test.yaml` beside them, written as the calls that agents send.
//!
//! `format.rs` is what a file may say, `fixtures.rs` whom it speaks of, `read.rs` makes
//! cases of it, `case.rs` asks a policy set and compares, `report.rs` tells,
//! `coverage.rs` finds out what the tests would not notice, and `tell.rs` writes a test of
//! what a proof found. A call goes through the
//! gateway's own catalog and the same decision, so the mapping is tested as well.
//! `official.rs` reads and `export.rs` writes the form of Cedar's own tool; `recorded.rs`
//! decides again what a gateway recorded.

mod case;
mod coverage;
mod export;
mod fixtures;
mod format;
mod matrix;
mod official;
mod read;
mod recorded;
mod report;
mod tell;
mod workers;

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use authz::PolicySet;

pub(crate) use self::{
    case::{Answer, Case, invoke},
    coverage::{Coverage, measure},
    export::export,
    fixtures::Fixtures,
    format::{Call, Verdict},
    matrix::Matrix,
    read::{cases, fixtures, grant, session},
    recorded::{Change, Doubt, Recorded, Replay, replay},
    report::{Report, Told, github_data, github_property},
    tell::tell,
};

/// How a test file's name ends.
pub(crate) const SUFFIX: &str = ".test.yaml";

/// Whether a file is in the form of `cedar run-tests`.
fn is_json(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("json"))
}

/// How deep folders are searched.
const MAX_DEPTH: usize = 16;

/// The test files of these files and folders, sorted within each, none twice.
///
/// # Errors
///
/// What is not there or cannot be read.
pub(crate) fn find(paths: &[PathBuf]) -> Result<Vec<PathBuf>, String> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            let mut found = Vec::new();
            search(path, 0, &mut found)
                .map_err(|error| format!("`{}` cannot be read: {error}", path.display()))?;
            found.sort();
            files.extend(found);
        } else if path.is_file() {
            files.push(path.clone());
        } else {
            return Err(format!("there is no file or folder `{}`", path.display()));
        }
    }
    let mut known = std::collections::HashSet::new();
    files.retain(|file| known.insert(file.clone()));
    Ok(files)
}

fn search(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let hidden = path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if hidden {
            continue;
        }
        if path.is_dir() {
            if depth < MAX_DEPTH {
                search(&path, depth + 1, found)?;
            }
        } else if path.to_string_lossy().ends_with(SUFFIX)
            || is_json(&path) && official::looks_like_tests(&path)
        {
            found.push(path);
        }
    }
    Ok(())
}

/// Runs cases; `progress` is told how many are done.
pub(crate) fn run(
    cases: &[Case],
    policies: &Arc<PolicySet>,
    mut progress: impl FnMut(usize),
) -> Vec<Told> {
    let mut told = Vec::new();
    for (index, case) in cases.iter().enumerate() {
        let began = Instant::now();
        let came = case.ask(policies);
        let mut wrong = case.mismatches(policies, &came);
        if let Some(seconds) = case.impossible_duration() {
            let span = crate::output::span(seconds);
            wrong.push(format!(
                "{span} is no duration that a person can choose: 15m, 1h, 4h, 8h and 1d are"
            ));
        }
        let traces = if wrong.is_empty() {
            Vec::new()
        } else {
            case.trace(policies)
        };
        told.push(Told {
            file: case.file.clone(),
            line: case.line,
            name: case.name.clone(),
            expected: case.expected(),
            came,
            wrong,
            traces,
            took: began.elapsed(),
        });
        progress(index + 1);
    }
    told
}

/// A line on standard error that counts, when a person looks and it takes long.
pub(crate) struct Progress {
    what: &'static str,
    total: usize,
    began: Instant,
    shown: Option<Instant>,
    terminal: bool,
}

impl Progress {
    /// Nothing is shown in this time.
    const PATIENCE: Duration = Duration::from_secs(1);

    pub(crate) fn new(what: &'static str, total: usize) -> Self {
        use std::io::IsTerminal as _;
        Self {
            what,
            total,
            began: Instant::now(),
            shown: None,
            terminal: io::stderr().is_terminal(),
        }
    }

    pub(crate) fn at(&mut self, done: usize) {
        use std::io::Write as _;
        let due = self
            .shown
            .map_or(self.began.elapsed() > Self::PATIENCE, |shown| {
                shown.elapsed() > Duration::from_millis(100)
            });
        if self.terminal && due {
            self.shown = Some(Instant::now());
            let _ = write!(io::stderr(), "\r{} {done} of {} …", self.what, self.total);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        use std::io::Write as _;
        if self.shown.is_some() {
            let _ = write!(io::stderr(), "\r\u{1b}[K");
        }
    }
}
