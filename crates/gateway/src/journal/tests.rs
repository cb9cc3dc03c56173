//! The journal against what happens to files: crashes, full disks, edits.

use std::path::PathBuf;
use std::sync::{
    Mutex,
    atomic::{AtomicBool, AtomicI64, AtomicUsize},
};

use authz::{Timestamp, time::Clock};

use super::*;

/// A disk that fails as it is told.
#[derive(Debug)]
pub(crate) struct Faults {
    /// So many bytes are left; `usize::MAX` for no limit.
    left: AtomicUsize,
    sync_fails: AtomicBool,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            left: AtomicUsize::new(usize::MAX),
            sync_fails: AtomicBool::new(false),
        }
    }
}

impl Faults {
    /// Leaves room for so many bytes.
    pub(crate) fn fill(&self, left: usize) {
        self.left.store(left, Ordering::SeqCst);
    }

    /// Makes room.
    pub(crate) fn clear(&self) {
        self.left.store(usize::MAX, Ordering::SeqCst);
    }

    /// How much of `wanted` fits, if not all.
    pub(super) fn room(&self, wanted: usize) -> Option<usize> {
        let left = self.left.load(Ordering::SeqCst);
        if left == usize::MAX {
            return None;
        }
        if wanted <= left {
            self.left.fetch_sub(wanted, Ordering::SeqCst);
            return None;
        }
        Some(left)
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        if self.sync_fails.load(Ordering::SeqCst) {
            return Err(io::Error::other("input/output error"));
        }
        Ok(())
    }
}

fn clock() -> Clock {
    let millis = AtomicI64::new(1_000);
    Clock::new(move || Timestamp::from_millis(millis.fetch_add(1, Ordering::SeqCst)))
}

fn metrics() -> Arc<Metrics> {
    Arc::new(Metrics::new(&[]).unwrap())
}

struct Started {
    journal: Journal,
    thread: WriterThread,
    faults: Arc<Faults>,
}

fn start(folder: &Path, file_bytes: u64) -> Started {
    let (disk, recovered) = Disk::open(folder).unwrap();
    let faults = Arc::clone(&disk.faults);
    let (journal, thread) = Journal::over(
        disk,
        recovered,
        folder,
        file_bytes,
        "gateway-1",
        clock(),
        metrics(),
    )
    .unwrap();
    Started {
        journal,
        thread,
        faults,
    }
}

fn subject() -> Subject {
    Subject {
        decision: DecisionId::generate(Timestamp::from_millis(1)),
        agent: AgentId::LOCAL,
        agent_name: "local".parse().unwrap(),
        command: "coolify/list-servers".parse().unwrap(),
    }
}

impl Journal {
    /// Appends a line. A refusal: commands that began want an outcome.
    async fn line(&self, until: Until, number: usize) -> Result<(), Unwritable> {
        let mut details = Map::new();
        details.insert("number".to_owned(), number.into());
        self.append(self.record("refusal", &subject(), details), until)
            .await
    }
}

fn numbers(folder: &Path) -> Vec<u64> {
    entries(folder)
        .unwrap()
        .filter_map(|entry| entry.unwrap().details.get("number")?.as_u64())
        .collect()
}

fn kinds(folder: &Path) -> Vec<String> {
    entries(folder)
        .unwrap()
        .map(|entry| entry.unwrap().kind)
        .collect()
}

#[tokio::test]
async fn what_was_acknowledged_is_in_the_file_and_the_chain_holds() {
    let folder = tempfile::tempdir().unwrap();
    let started = start(folder.path(), u64::MAX);
    let lines = (0..200).map(|number| {
        let until = if number % 2 == 0 {
            Until::Written
        } else {
            Until::Synced
        };
        started.journal.line(until, number)
    });
    for written in futures_util::future::join_all(lines).await {
        written.unwrap();
    }
    // Not closed: what was acknowledged does not depend on an orderly end.
    assert_eq!(numbers(folder.path()), (0..200).collect::<Vec<_>>());
    let verified = verify(folder.path(), None).unwrap();
    assert_eq!(verified.lines, 201, "with the line of the start");
    started.journal.close(started.thread).await;
}

#[tokio::test]
async fn an_entry_that_is_dropped_says_that_the_outcome_is_unknown() {
    let folder = tempfile::tempdir().unwrap();
    let started = start(folder.path(), u64::MAX);
    let entry = || Entry {
        journal: started.journal.clone(),
        subject: subject(),
        began: Instant::now(),
        closed: false,
    };
    entry().close("error", Some("service 'x' did not answer"));
    drop(entry());
    started.journal.close(started.thread).await;
    let statuses: Vec<_> = entries(folder.path())
        .unwrap()
        .filter_map(|entry| Some(entry.unwrap().details.get("status")?.as_str()?.to_owned()))
        .collect();
    assert_eq!(statuses, ["error", "unknown"]);
}

#[tokio::test]
async fn files_rotate_and_the_chain_goes_through_them_and_through_restarts() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..3 {
        let started = start(folder.path(), 2_000);
        for number in 0..20 {
            started
                .journal
                .line(Until::Synced, round * 20 + number)
                .await
                .unwrap();
        }
        started.journal.close(started.thread).await;
    }
    let files = disk::files(folder.path()).unwrap();
    assert!(files.len() > 3, "{files:?}");
    assert_eq!(numbers(folder.path()), (0..60).collect::<Vec<_>>());
    let verified = verify(folder.path(), None).unwrap();
    assert_eq!(verified.lines, 63);
    assert_eq!(verified.head.sequence, 63);
}

#[tokio::test]
async fn a_torn_end_is_cut_off_and_noted() {
    for torn in [
        &b"{\"sequence\":3,\"prev"[..],
        b"\0\0\0\0\0\0",
        b"{\"sequence\":3}\nhalf",
        b"\xff\xff\n",
    ] {
        let folder = tempfile::tempdir().unwrap();
        let started = start(folder.path(), u64::MAX);
        started.journal.line(Until::Synced, 1).await.unwrap();
        started.journal.close(started.thread).await;
        let (_, path) = disk::files(folder.path()).unwrap().remove(0);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, [whole.as_slice(), torn].concat()).unwrap();

        let started = start(folder.path(), u64::MAX);
        started.journal.line(Until::Synced, 2).await.unwrap();
        started.journal.close(started.thread).await;
        assert_eq!(numbers(folder.path()), [1, 2]);
        assert_eq!(verify(folder.path(), None).unwrap().lines, 4);
        let noted = entries(folder.path())
            .unwrap()
            .filter_map(|entry| entry.unwrap().details.get("torn_bytes")?.as_u64());
        assert_eq!(noted.collect::<Vec<_>>(), [torn.len() as u64]);
    }
}

#[tokio::test]
async fn a_crash_between_two_files_is_survived() {
    let folder = tempfile::tempdir().unwrap();
    let started = start(folder.path(), u64::MAX);
    started.journal.line(Until::Synced, 1).await.unwrap();
    started.journal.close(started.thread).await;
    // The new file was made, and nothing written to it.
    std::fs::write(folder.path().join(format!("journal-{:020}.jsonl", 3)), b"").unwrap();
    let started = start(folder.path(), u64::MAX);
    started.journal.line(Until::Synced, 2).await.unwrap();
    started.journal.close(started.thread).await;
    assert_eq!(verify(folder.path(), None).unwrap().head.sequence, 4);
}

#[tokio::test]
async fn a_changed_line_keeps_the_gateway_from_starting() {
    let folder = tempfile::tempdir().unwrap();
    let started = start(folder.path(), u64::MAX);
    for number in 0..5 {
        started.journal.line(Until::Synced, number).await.unwrap();
    }
    started.journal.close(started.thread).await;
    let (_, path) = disk::files(folder.path()).unwrap().remove(0);
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("\"number\":2", "\"number\":7")).unwrap();
    let error = Disk::open(folder.path()).unwrap_err().to_string();
    assert!(
        error.contains("line 4") && error.contains("changed"),
        "{error}"
    );
}

#[tokio::test]
async fn verify_finds_edits_gaps_and_cut_ends() {
    let folder = tempfile::tempdir().unwrap();
    let started = start(folder.path(), 1_500);
    for number in 0..20 {
        started.journal.line(Until::Synced, number).await.unwrap();
    }
    started.journal.close(started.thread).await;
    let head = verify(folder.path(), None).unwrap().head;
    assert!(verify(folder.path(), Some(&head)).is_ok());

    let files = disk::files(folder.path()).unwrap();
    assert!(files.len() > 2);
    let (_, middle) = &files[1];
    // The newest file may have been made just now.
    let written = |file: &&(i64, PathBuf)| std::fs::metadata(&file.1).unwrap().len() > 0;
    let (_, last) = files.iter().rfind(written).unwrap();
    let text = std::fs::read_to_string(middle).unwrap();
    let lines: Vec<_> = text.lines().collect();
    let without = |skip: usize| {
        let kept: Vec<_> = lines
            .iter()
            .enumerate()
            .filter(|(at, _)| *at != skip)
            .collect();
        kept.iter()
            .flat_map(|(_, line)| {
                [
                    **line, "
",
                ]
            })
            .collect::<String>()
    };
    let cases = [
        ("an edit", text.replacen("\"number\"", "\"humber\"", 1)),
        ("a first line removed", without(0)),
        ("a last line removed", without(lines.len() - 1)),
        ("a line repeated", format!("{text}{}\n", lines[0])),
        (
            "an end torn in the middle",
            text[..text.len() - 5].to_owned(),
        ),
        (
            "another encoding",
            text.replacen("coolify", "c\\u006folify", 1),
        ),
    ];
    for (name, changed) in cases {
        assert_ne!(changed, text, "{name}");
        std::fs::write(middle, changed).unwrap();
        assert!(verify(folder.path(), None).is_err(), "{name}");
    }
    std::fs::write(middle, &text).unwrap();
    assert!(verify(folder.path(), None).is_ok());

    // The end cut off at a whole line is a valid shorter chain: only a known head tells.
    for (_, newer) in files.iter().filter(|(_, path)| path > last) {
        std::fs::remove_file(newer).unwrap();
    }
    let end = std::fs::read_to_string(last).unwrap();
    let cut: Vec<_> = end.lines().collect();
    let kept = &cut[..cut.len() - 1];
    let shorter: String = kept
        .iter()
        .flat_map(|line| {
            [
                *line, "
",
            ]
        })
        .collect();
    std::fs::write(last, shorter).unwrap();
    assert!(verify(folder.path(), None).is_ok());
    assert!(matches!(
        verify(folder.path(), Some(&head)),
        Err(Broken::Head { .. })
    ));
    std::fs::remove_file(&files[0].1).unwrap();
    assert!(
        verify(folder.path(), None).is_err(),
        "the first file removed"
    );
}

#[tokio::test]
async fn a_full_disk_refuses_and_loses_nothing_that_happened() {
    let folder = tempfile::tempdir().unwrap();
    let started = start(folder.path(), u64::MAX);
    started.journal.line(Until::Synced, 1).await.unwrap();
    let under_way = Entry {
        journal: started.journal.clone(),
        subject: subject(),
        began: Instant::now(),
        closed: false,
    };

    started.faults.left.store(100, Ordering::SeqCst);
    assert!(started.journal.line(Until::Synced, 2).await.is_err());
    assert!(!started.journal.is_writable());
    assert!(
        started.journal.line(Until::Written, 3).await.is_err(),
        "reads as well"
    );
    // What is under way ends while nothing can be written.
    under_way.close("success", None);
    assert!(started.journal.line(Until::Synced, 4).await.is_err());

    started.faults.left.store(usize::MAX, Ordering::SeqCst);
    started.journal.line(Until::Synced, 5).await.unwrap();
    assert!(started.journal.is_writable());
    started.journal.close(started.thread).await;
    assert_eq!(numbers(folder.path()), [1, 5]);
    assert!(kinds(folder.path()).contains(&"outcome".to_owned()));
    assert_eq!(verify(folder.path(), None).unwrap().unfinished_bytes, 0);
}

#[tokio::test]
async fn lines_of_a_failed_sync_are_written_again() {
    let folder = tempfile::tempdir().unwrap();
    let started = start(folder.path(), u64::MAX);
    started.journal.line(Until::Synced, 1).await.unwrap();
    started.faults.sync_fails.store(true, Ordering::SeqCst);
    started.journal.line(Until::Written, 2).await.unwrap();
    assert!(started.journal.line(Until::Synced, 3).await.is_err());
    started.faults.sync_fails.store(false, Ordering::SeqCst);
    started.journal.line(Until::Synced, 4).await.unwrap();
    started.journal.close(started.thread).await;
    assert_eq!(
        numbers(folder.path()),
        [1, 2, 4],
        "2 was acknowledged, 3 was refused"
    );
    verify(folder.path(), None).unwrap();
}

#[tokio::test]
async fn a_journal_has_one_writer_and_keeps_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let started = start(folder.path(), u64::MAX);
    assert!(Disk::open(folder.path()).is_err());
    started.journal.close(started.thread).await;

    let (journal, thread) =
        Journal::start(folder.path(), u64::MAX, "another", clock(), metrics()).unwrap();
    assert_eq!(&*journal.gateway, "gateway-1");
    journal.close(thread).await;
}

#[test]
fn long_arguments_are_recorded_by_their_digest() {
    let target = Arc::new(authz::Target {
        key: "coolify/x".parse().unwrap(),
        service: Arc::new(authz::Service {
            name: "coolify".parse().unwrap(),
            env: authz::command::Environment::Prod,
            owners: None,
            zones: std::collections::BTreeSet::new(),
        }),
        risk: Risk::Read,
        zones: std::collections::BTreeSet::new(),
        pinned: true,
    });
    let mut arguments = Map::new();
    arguments.insert("x".to_owned(), "y".repeat(MAX_ARGUMENTS_BYTES).into());
    let command = Command {
        target,
        arguments: authz::Arguments::new(arguments.clone()),
    };
    let details = Sent::new(&command, arguments).details;
    assert!(!details.contains_key("arguments"));
    assert!(details.contains_key("arguments_bytes") && details.contains_key("digest"));
}

/// An orchestrator that stores journals, after failing a few times.
fn storing(
    stored: Arc<Mutex<Vec<contract::audit::JournalLine>>>,
    failures: usize,
    progress: watch::Sender<usize>,
) -> contract::Client {
    let failures = Arc::new(AtomicUsize::new(failures));
    let router = axum::Router::new().route(
        "/api/gateway/journal",
        axum::routing::post(
            move |axum::Json(ship): axum::Json<contract::audit::ShipJournal>| {
                let (stored, failures, progress) =
                    (Arc::clone(&stored), Arc::clone(&failures), progress.clone());
                async move {
                    if failures.load(Ordering::SeqCst) > 0 {
                        failures.fetch_sub(1, Ordering::SeqCst);
                        return Err(http::StatusCode::INTERNAL_SERVER_ERROR);
                    }
                    let mut stored = stored.lock().unwrap();
                    stored.extend(ship.lines);
                    progress.send_replace(stored.len());
                    let through = stored.last().map_or(0, |line| line.sequence);
                    Ok(axum::Json(contract::audit::JournalStored { through }))
                }
            },
        ),
    );
    contract::Client::over(
        router.into_service::<http_body_util::Full<bytes::Bytes>>(),
        None,
        std::time::Duration::from_secs(5),
    )
}

#[tokio::test]
async fn the_journal_is_sent_in_order_through_failures_rotations_and_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let stored = Arc::new(Mutex::new(Vec::new()));
    let (progress, mut seen) = watch::channel(0);
    for round in 0..2 {
        let started = start(folder.path(), 2_000);
        let client = storing(Arc::clone(&stored), 1, progress.clone());
        let stop = CancellationToken::new();
        let shipping = started.journal.ship(client, metrics(), stop.clone());
        for number in 0..30 {
            started.journal.line(Until::Synced, number).await.unwrap();
        }
        started.journal.close(started.thread).await;
        seen.wait_for(|lines| *lines == (round + 1) * 31)
            .await
            .unwrap();
        stop.cancel();
        shipping.await.unwrap();
    }
    let stored = stored.lock().unwrap();
    let mut head = Head::empty();
    for line in stored.iter() {
        head = chain::follows(&line.text, &head).unwrap().1;
        assert_eq!(head.sequence, line.sequence);
    }
    assert_eq!(
        Some(&head),
        Some(&verify(folder.path(), None).unwrap().head)
    );
}

/// Every command of the journal with what became of it, in the order of the outcomes.
fn outcomes(folder: &Path) -> Vec<(String, String)> {
    entries(folder)
        .unwrap()
        .map(Result::unwrap)
        .filter(|entry| entry.kind == "outcome")
        .map(|entry| {
            let status = entry.details["status"].as_str().unwrap().to_owned();
            (entry.decision.unwrap(), status)
        })
        .collect()
}

#[tokio::test]
async fn what_was_under_way_when_the_gateway_ended_is_recorded_as_unknown() {
    let folder = tempfile::tempdir().unwrap();
    let mut begun = Vec::new();
    let mut finished = Vec::new();
    // Small files: what began is in other files than what ended.
    let started = start(folder.path(), 1_000);
    for number in 0..20 {
        let subject = subject();
        let record = started.journal.record("intent", &subject, Map::new());
        started.journal.append(record, Until::Synced).await.unwrap();
        if number % 3 == 0 {
            begun.push(subject.decision.to_string());
        } else {
            let record = started.journal.record(
                "outcome",
                &subject,
                Map::from_iter([("status".to_owned(), "success".into())]),
            );
            started.journal.append(record, Until::Synced).await.unwrap();
            finished.push(subject.decision);
        }
        if number == 10 {
            // Within a run, after a full disk, say.
            let resumed = start_record("gateway-1", &clock(), json!({"resumed": true}));
            started
                .journal
                .append(resumed, Until::Synced)
                .await
                .unwrap();
        }
    }
    started.journal.close(started.thread).await;
    let before = outcomes(folder.path()).len();
    assert_eq!(before, finished.len());

    for _ in 0..2 {
        // Once, however often it starts.
        let again = start(folder.path(), 1_000);
        again.journal.close(again.thread).await;
        let recorded: Vec<_> = outcomes(folder.path()).split_off(before);
        let expected: Vec<_> = begun
            .iter()
            .map(|decision| (decision.clone(), "unknown".to_owned()))
            .collect();
        assert_eq!(recorded, expected);
        verify(folder.path(), None).unwrap();
    }
    let last: Vec<_> = entries(folder.path())
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let recovered = last
        .iter()
        .find(|entry| entry.details.get("status") == Some(&json!("unknown")))
        .unwrap();
    assert_eq!(recovered.agent, Some(AgentId::LOCAL));
    assert_eq!(
        recovered.command.as_ref().unwrap().to_string(),
        "coolify/list-servers"
    );
}

#[tokio::test]
async fn an_end_within_the_recovery_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let started = start(folder.path(), u64::MAX);
    let mut begun = Vec::new();
    for _ in 0..3 {
        let subject = subject();
        let record = started.journal.record("intent", &subject, Map::new());
        started.journal.append(record, Until::Synced).await.unwrap();
        begun.push(subject.decision.to_string());
    }
    started.journal.close(started.thread).await;
    let (_, path) = disk::files(folder.path()).unwrap().remove(0);

    let again = start(folder.path(), u64::MAX);
    again.journal.close(again.thread).await;
    // Only the first of the three outcomes got to the disk.
    let whole = std::fs::read_to_string(&path).unwrap();
    let cut = whole.match_indices('\n').nth(4).unwrap().0;
    std::fs::write(&path, &whole[..=cut]).unwrap();
    assert_eq!(outcomes(folder.path()).len(), 1);

    let last = start(folder.path(), u64::MAX);
    last.journal.close(last.thread).await;
    let recorded: Vec<_> = outcomes(folder.path())
        .into_iter()
        .map(|(decision, _)| decision)
        .collect();
    assert_eq!(recorded, begun);
}

#[tokio::test]
async fn a_journal_that_failed_is_tried_again_though_nobody_records_anything() {
    let folder = tempfile::tempdir().unwrap();
    let started = start(folder.path(), u64::MAX);
    let mut durable = started.journal.durable.clone();
    // Nothing is left to do: the thread waits without an end.
    durable.wait_for(|head| head.sequence == 1).await.unwrap();
    started.faults.fill(0);
    assert!(started.journal.line(Until::Written, 0).await.is_err());
    assert!(!started.journal.is_writable());
    started.faults.clear();
    durable.wait_for(|head| head.sequence == 2).await.unwrap();
    assert!(started.journal.is_writable());
    assert_eq!(kinds(folder.path()), ["start", "start"]);
    started.journal.close(started.thread).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_writes_for_whom_nothing_is_lost_and_order_is_kept() {
    const AUTHORS: usize = 8;
    const LINES: usize = 300;
    let folder = tempfile::tempdir().unwrap();
    let started = start(folder.path(), 64 * 1024);
    let authors = (0..AUTHORS).map(|author| {
        let journal = started.journal.clone();
        tokio::spawn(async move {
            for line in 0..LINES {
                let number = author * LINES + line;
                match line % 10 {
                    0 => journal.line(Until::Synced, number).await.unwrap(),
                    1..5 => journal.line(Until::Written, number).await.unwrap(),
                    _ => {
                        let mut details = Map::new();
                        details.insert("number".to_owned(), number.into());
                        journal.push(journal.record("refusal", &subject(), details));
                    }
                }
            }
        })
    });
    for author in authors.collect::<Vec<_>>() {
        author.await.unwrap();
    }
    started.journal.close(started.thread).await;
    verify(folder.path(), None).unwrap();
    let mut last = [None; AUTHORS];
    let numbers = numbers(folder.path());
    assert_eq!(numbers.len(), AUTHORS * LINES);
    for number in numbers {
        let number = usize::try_from(number).unwrap();
        let before = last[number / LINES].replace(number);
        assert!(
            before < Some(number),
            "each author's lines are in their order"
        );
    }
    assert!(
        started.journal.line(Until::Written, 0).await.is_err(),
        "it is closed"
    );
    start(folder.path(), u64::MAX);
}
