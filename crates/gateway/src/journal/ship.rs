//! Sends the journal to the orchestrator: at least once, in order, from the disk.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use contract::audit::ShipJournal;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{chain::Head, read::Cursor};
use crate::metrics::Metrics;

/// Lines are sent in batches of about so many bytes.
const BATCH_BYTES: usize = 256 * 1024;

/// After a failure, the first and the longest pause.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Ships what is on the disk until cancelled, then what is left if that goes at once.
pub(super) struct Shipper {
    pub(super) folder: PathBuf,
    pub(super) gateway: String,
    pub(super) orchestrator: contract::Client,
    pub(super) durable: watch::Receiver<Head>,
    pub(super) metrics: Arc<Metrics>,
}

impl Shipper {
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut shipped = read_mark(&self.folder);
        let head = self.durable.borrow().sequence;
        if shipped > head {
            tracing::error!(
                shipped,
                head,
                "the journal ends before a line that was sent on: its end was lost or removed; compare with `cedargate audit verify`"
            );
            // From the beginning, so that the orchestrator sees where the two part.
            shipped = 0;
        }
        let mut cursor = Cursor::new(self.folder.clone());
        let mut pause = FIRST_PAUSE;
        loop {
            let head = self.durable.borrow_and_update().sequence;
            self.metrics.journal_unshipped(head.saturating_sub(shipped));
            if shipped >= head {
                if stop.is_cancelled() {
                    return;
                }
                tokio::select! {
                    changed = self.durable.changed() => {
                        if changed.is_err() {
                            return;
                        }
                    }
                    () = stop.cancelled() => {}
                }
                continue;
            }
            let (returned, sent) = self.ship(cursor, shipped, head).await;
            cursor = returned;
            match sent {
                Ok(through) => {
                    // Less than before means that the orchestrator lost some: send it again.
                    shipped = through.min(head);
                    pause = FIRST_PAUSE;
                    if let Err(error) = write_mark(&self.folder, shipped) {
                        tracing::debug!(%error, "how far the journal was sent cannot be noted; it will be sent again");
                    }
                }
                Err(reason) => {
                    if stop.is_cancelled() {
                        return;
                    }
                    tracing::warn!(
                        reason,
                        unshipped = head - shipped,
                        "the journal cannot be sent on; it is kept and tried again"
                    );
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        () = stop.cancelled() => {}
                    }
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// Sends one batch after `shipped`; how far the orchestrator has the journal then.
    async fn ship(
        &self,
        mut cursor: Cursor,
        shipped: i64,
        head: i64,
    ) -> (Cursor, Result<i64, String>) {
        let read = tokio::task::spawn_blocking(move || {
            let lines = cursor.lines(shipped + 1, head, BATCH_BYTES);
            (cursor, lines)
        });
        let (cursor, lines) = match read.await {
            Ok(read) => read,
            Err(error) => return (Cursor::new(self.folder.clone()), Err(error.to_string())),
        };
        let lines = match lines {
            Ok(lines) if lines.is_empty() => {
                return (
                    cursor,
                    Err("the line to send is not in any file".to_owned()),
                );
            }
            Ok(lines) => lines,
            Err(error) => return (cursor, Err(error.to_string())),
        };
        let ship = ShipJournal {
            gateway: self.gateway.clone(),
            lines,
        };
        let sent = match self.orchestrator.ship_journal(&ship).await {
            Ok(stored) if stored.through == shipped => {
                Err("the orchestrator stored nothing of it".to_owned())
            }
            Ok(stored) => Ok(stored.through),
            Err(error) => Err(error.to_string()),
        };
        (cursor, sent)
    }
}

fn mark_path(folder: &Path) -> PathBuf {
    folder.join("shipped")
}

/// How far the journal was sent; from the start if that is not known.
fn read_mark(folder: &Path) -> i64 {
    std::fs::read_to_string(mark_path(folder))
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0)
}

fn write_mark(folder: &Path, shipped: i64) -> io::Result<()> {
    let path = mark_path(folder);
    let draft = path.with_extension("new");
    let mut file = std::fs::File::create(&draft)?;
    writeln!(file, "{shipped}")?;
    std::fs::rename(draft, path)
}
