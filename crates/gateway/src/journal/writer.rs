//! The one thread that writes: it gives each record its place and keeps them in order.

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use tokio::sync::{oneshot, watch};

use super::{
    chain::{Head, Record},
    disk::Disk,
};
use crate::metrics::Metrics;

/// How long a line that nobody waits for may stay off the disk.
const SYNC_WITHIN: Duration = Duration::from_millis(50);

/// How often a journal that cannot be written is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// At most so many records are written at once.
const BATCH: usize = 1_024;

/// What a record's author waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    /// The operating system has it: it outlives this process, whatever ends it.
    Written,
    /// The disk has it: it outlives the machine's power.
    Synced,
}

/// One record on its way, and who waits for it.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) record: Record,
    pub(super) waiting: Option<(Until, oneshot::Sender<Result<(), String>>)>,
}

/// What the thread is told.
#[derive(Debug)]
pub(super) enum Message {
    /// Write this.
    Append(Pending),
    /// Write what is left, and end.
    Close,
}

/// The thread's state.
pub(super) struct Writer {
    pub(super) disk: Disk,
    pub(super) file_bytes: u64,
    /// The last line written.
    pub(super) head: Head,
    /// The last line on the disk, and the file's length then.
    pub(super) synced: Head,
    pub(super) synced_length: u64,
    /// Set while the last attempt to write failed.
    pub(super) failing: Arc<AtomicBool>,
    /// Tells readers how far the disk has the journal.
    pub(super) durable: watch::Sender<Head>,
    pub(super) metrics: Arc<Metrics>,
    /// Makes the record that says that the journal was out of order for a while.
    pub(super) resumed: Box<dyn Fn() -> Record + Send>,
    backlog: VecDeque<Pending>,
    unsynced: VecDeque<Pending>,
    sync_due: Option<Instant>,
    closing: bool,
}

impl Writer {
    pub(super) fn new(
        disk: Disk,
        file_bytes: u64,
        head: Head,
        failing: Arc<AtomicBool>,
        durable: watch::Sender<Head>,
        metrics: Arc<Metrics>,
        resumed: Box<dyn Fn() -> Record + Send>,
    ) -> Self {
        Self {
            synced: head.clone(),
            synced_length: disk.length(),
            disk,
            file_bytes,
            head,
            failing,
            durable,
            metrics,
            resumed,
            backlog: VecDeque::new(),
            unsynced: VecDeque::new(),
            sync_due: None,
            closing: false,
        }
    }

    /// Writes until told to close, or until nobody can write any more.
    pub(super) fn run(mut self, messages: &Receiver<Message>) {
        while !self.closing {
            self.receive(messages);
            self.write();
            self.sync();
        }
        self.sync_due = Some(Instant::now());
        self.sync();
    }

    /// Waits for records, or until it is time to do something without them.
    fn receive(&mut self, messages: &Receiver<Message>) {
        let patience = if self.failing.load(Ordering::Acquire) {
            Some(RETRY)
        } else {
            self.sync_due
                .map(|due| due.saturating_duration_since(Instant::now()))
        };
        let first = match patience {
            None => messages.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(patience) => messages.recv_timeout(patience),
        };
        match first {
            Ok(message) => self.take(message),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => self.closing = true,
        }
        while self.backlog.len() < BATCH {
            match messages.try_recv() {
                Ok(message) => self.take(message),
                Err(_) => break,
            }
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Append(pending) => self.backlog.push_back(pending),
            Message::Close => self.closing = true,
        }
    }

    fn write(&mut self) {
        if self.failing.load(Ordering::Acquire) && self.backlog.is_empty() {
            // Nothing to write, so nothing would show that it works again.
            let record = (self.resumed)();
            let pending = Pending {
                record,
                waiting: None,
            };
            self.backlog.push_back(pending);
        }
        if self.backlog.is_empty() {
            return;
        }
        let mut bytes = Vec::new();
        let mut head = self.head.clone();
        for pending in &self.backlog {
            let (line, next) = pending.record.link(&head);
            bytes.extend_from_slice(line.as_bytes());
            bytes.push(b'\n');
            head = next;
        }
        if let Err(error) = self.disk.append(&bytes) {
            let batch = std::mem::take(&mut self.backlog);
            self.backlog = self.fail(batch, &error);
            return;
        }
        self.head = head;
        self.failing.store(false, Ordering::Release);
        for mut pending in self.backlog.drain(..) {
            match pending.waiting.take() {
                Some((Until::Written, waiting)) => {
                    // Whoever waited may be gone; the line stays.
                    let _ = waiting.send(Ok(()));
                }
                Some((Until::Synced, waiting)) => {
                    self.sync_due = Some(Instant::now());
                    pending.waiting = Some((Until::Synced, waiting));
                }
                None => {}
            }
            self.unsynced.push_back(pending);
        }
        self.sync_due
            .get_or_insert_with(|| Instant::now() + SYNC_WITHIN);
    }

    fn sync(&mut self) {
        if self.sync_due.is_none_or(|due| Instant::now() < due) {
            return;
        }
        self.sync_due = None;
        if let Err(error) = self.disk.sync() {
            // After a failed sync nobody knows what the disk has of these lines: they are
            // taken back, and written again as if for the first time.
            self.disk.cut(self.synced_length);
            self.head = self.synced.clone();
            let batch = std::mem::take(&mut self.unsynced);
            self.backlog = self.fail(batch, &error);
            return;
        }
        for pending in self.unsynced.drain(..) {
            if let Some((_, waiting)) = pending.waiting {
                let _ = waiting.send(Ok(()));
            }
        }
        self.synced = self.head.clone();
        self.synced_length = self.disk.length();
        self.metrics.journal_written(self.synced.sequence);
        self.durable.send_replace(self.synced.clone());
        if self.disk.length() >= self.file_bytes {
            match self.disk.rotate(self.head.sequence.saturating_add(1)) {
                Ok(()) => self.synced_length = 0,
                Err(error) => {
                    tracing::warn!(%error, "the journal's file is full and no new one can be made; it grows on");
                }
            }
        }
    }

    /// Answers those who wait; keeps what happened already and must not be lost.
    fn fail(&mut self, batch: VecDeque<Pending>, error: &io::Error) -> VecDeque<Pending> {
        if !self.failing.swap(true, Ordering::AcqRel) {
            tracing::error!(%error, "the journal cannot be written: commands are refused until it can");
        }
        self.metrics.journal_failed();
        let reason = error.to_string();
        let mut kept = VecDeque::new();
        for mut pending in batch {
            match pending.waiting.take() {
                Some((_, waiting)) => {
                    let _ = waiting.send(Err(reason.clone()));
                }
                None => kept.push_back(pending),
            }
        }
        kept
    }
}
