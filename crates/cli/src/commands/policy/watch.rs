//! `cedargate policy test --watch`: again whenever a file is saved.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fs,
    io::IsTerminal as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use notify::RecursiveMode;
use tokio::sync::mpsc;

use super::{source, test};
use crate::{
    arguments::{Global, PolicyTest},
    config::Environment,
    exit,
    output::{printable_lines, write_line},
    signals,
};

/// What is saved within this time is one change: editors write a file in several steps.
const DEBOUNCE: Duration = Duration::from_millis(100);

/// What tests read: policies, schemas, tests and their fixtures.
const READ: [&str; 5] = ["cedar", "cedarschema", "yaml", "yml", "json"];

/// How deep folders are looked into.
const MAX_DEPTH: usize = 16;

/// What makes a terminal empty, with the lines that were scrolled away.
const CLEAR: &str = "\u{1b}[2J\u{1b}[3J\u{1b}[H";

#[allow(
    clippy::print_stderr,
    reason = "this is where errors are told, run by run"
)]
pub(super) async fn run(
    global: &Global,
    environment: &Environment,
    arguments: &PolicyTest,
) -> anyhow::Result<u8> {
    let from = source::beside(&arguments.from, &arguments.paths);
    let read = source::places(global, environment.clone(), &from)?;
    let roots = roots(arguments.paths.iter().chain(&read));
    let stop = signals::shutdown()?;
    let (again, mut runs) = mpsc::channel(1);
    let mut watcher = notify_debouncer_full::new_debouncer(
        DEBOUNCE,
        None,
        move |events: notify_debouncer_full::DebounceEventResult| {
            let touched = events.map_or(true, |events| {
                events.iter().any(|event| !event.kind.is_access())
            });
            if touched {
                // A full channel means that the tests are about to run anyway.
                let _ = again.try_send(());
            }
        },
    )?;
    loop {
        // Before each run: a folder that was replaced is another one.
        let mut places = 0;
        for (root, mode) in &roots {
            places += usize::from(watcher.watch(root, *mode).is_ok());
        }
        if places == 0 {
            return Err(exit::Usage("nothing of what is to be watched is there".to_owned()).into());
        }
        // Before the run, so that what is saved meanwhile is another state.
        let state = state(&roots);
        if std::io::stdout().is_terminal() {
            write_line(CLEAR)?;
        }
        let code = match test::run(global, environment, arguments) {
            Ok(code) => code,
            Err(error) => {
                eprintln!("{}", printable_lines(&format!("{error:#}")));
                exit::code_of(&error)
            }
        };
        write_line("watching; Ctrl-C ends it")?;
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(code),
                _ = runs.recv() => {}
            }
            // To begin to watch a folder is told as a change of it, too.
            if self::state(&roots) != state {
                break;
            }
        }
    }
}

/// Every file there that tests can read, with its size and when it was saved: no two saves
/// look the same, and what else is written there is none.
type State = BTreeMap<PathBuf, Option<(u64, SystemTime)>>;

fn state(roots: &BTreeSet<(PathBuf, RecursiveMode)>) -> State {
    let mut state = State::new();
    for (root, mode) in roots {
        note(root, *mode == RecursiveMode::Recursive, 0, &mut state);
    }
    state
}

fn note(folder: &Path, deep: bool, depth: usize, state: &mut State) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        let extension = path.extension().and_then(OsStr::to_str).unwrap_or_default();
        if !(READ.contains(&extension) || path.is_dir()) {
            continue;
        }
        let Ok(metadata) = fs::metadata(&path) else {
            state.insert(path, None);
            continue;
        };
        if metadata.is_dir() {
            if deep && depth < MAX_DEPTH {
                note(&path, deep, depth + 1, state);
            }
        } else {
            let saved = metadata.modified().ok();
            state.insert(path, saved.map(|saved| (metadata.len(), saved)));
        }
    }
}

/// What to watch: folders with all below them, and the folders that single files lie in.
fn roots<'a>(paths: impl Iterator<Item = &'a PathBuf>) -> BTreeSet<(PathBuf, RecursiveMode)> {
    let mut roots = BTreeSet::new();
    for path in paths {
        if path.is_dir() {
            roots.insert((path.clone(), RecursiveMode::Recursive));
        } else {
            let parent = path.parent().unwrap_or(Path::new(""));
            let parent = if parent == Path::new("") {
                Path::new(".")
            } else {
                parent
            };
            roots.insert((parent.to_owned(), RecursiveMode::NonRecursive));
        }
    }
    roots
}
