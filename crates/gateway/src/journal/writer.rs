//! The writer: it gives each record its place and keeps them in order.
//!
//! Whoever records something puts it in a queue, and then writes what is in the queue, all of
//! it at once, unless somebody does already: a line is in the operating system's hands without
//! another thread having been woken for it, and of those who come meanwhile none is blocked.
//! A thread does the rest: it has the disk take what was written, and tries again where the
//! disk said no.

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError,
        atomic::{AtomicBool, Ordering},
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

/// Who writes for others does so no more often than this before the thread takes over.
const TURNS: usize = 8;

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

/// The journal is closed.
#[derive(Debug)]
pub(super) struct Closed;

/// What authors and the thread share.
struct Desk {
    queue: Mutex<Queue>,
    /// None once the journal is closed: the files are free then.
    writer: Mutex<Option<Writer>>,
    called: Condvar,
}

/// What waits to be written.
#[derive(Debug, Default)]
struct Queue {
    pending: VecDeque<Pending>,
    /// The thread is to look at once.
    called: bool,
    closed: bool,
}

/// How authors reach the writer. When it is dropped, what is left is written, and the
/// thread ends.
pub(super) struct Authors(Arc<Desk>);

impl std::fmt::Debug for Authors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authors")
    }
}

/// The state of what is written.
pub(super) struct Writer {
    disk: Disk,
    file_bytes: u64,
    /// The last line written.
    head: Head,
    /// The last line on the disk, and the file's length then.
    synced: Head,
    synced_length: u64,
    /// Set while the last attempt to write failed.
    failing: Arc<AtomicBool>,
    /// Tells readers how far the disk has the journal.
    durable: watch::Sender<Head>,
    metrics: Arc<Metrics>,
    /// Makes the record that says that the journal was out of order for a while.
    resumed: Box<dyn Fn() -> Record + Send>,
    /// The lines of one batch; kept, so that it need not grow each time.
    bytes: Vec<u8>,
    backlog: VecDeque<Pending>,
    unsynced: VecDeque<Pending>,
    sync_due: Option<Instant>,
}

impl Authors {
    /// Begins to write, with a thread of its own.
    pub(super) fn start(writer: Writer) -> io::Result<(Self, std::thread::JoinHandle<()>)> {
        let desk = Arc::new(Desk {
            queue: Mutex::default(),
            writer: Mutex::new(Some(writer)),
            called: Condvar::new(),
        });
        let working = Arc::clone(&desk);
        let thread = std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || working.work())?;
        Ok((Self(desk), thread))
    }

    /// Writes a record now, or has it written by whoever writes now. If that fails it is kept,
    /// and written once it can be.
    pub(super) fn push(&self, record: Record) -> Result<(), Closed> {
        self.0.put(Pending {
            record,
            waiting: None,
        })
    }

    /// The same, and what is returned tells what came of it. If it fails it is forgotten.
    pub(super) fn append(
        &self,
        record: Record,
        until: Until,
    ) -> Result<oneshot::Receiver<Result<(), String>>, Closed> {
        let (sender, written) = oneshot::channel();
        self.0.put(Pending {
            record,
            waiting: Some((until, sender)),
        })?;
        Ok(written)
    }

    /// Has what is left written, and takes no more.
    pub(super) fn close(&self) {
        self.0.queue().closed = true;
        self.0.called.notify_one();
    }
}

impl Drop for Authors {
    fn drop(&mut self) {
        self.close();
    }
}

impl Desk {
    // What these hold is whole between any two calls, whoever panicked meanwhile.
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, pending: Pending) -> Result<(), Closed> {
        let mut queue = self.queue();
        if queue.closed {
            return Err(Closed);
        }
        queue.pending.push_back(pending);
        drop(queue);
        self.write();
        Ok(())
    }

    /// Has the thread look at once.
    fn call(&self) {
        self.queue().called = true;
        self.called.notify_one();
    }

    /// Writes what is in the queue, unless somebody does: they look again before they are
    /// done.
    fn write(&self) {
        for _ in 0..TURNS {
            let mut held = match self.writer.try_lock() {
                Ok(held) => held,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => return,
            };
            let Some(writer) = held.as_mut() else {
                return;
            };
            let (due, failing) = (writer.sync_due, writer.is_failing());
            writer.take(&mut self.queue());
            writer.write();
            let sooner = match (due, writer.sync_due) {
                (Some(before), Some(now)) => now < before,
                (None, Some(_)) => true,
                (_, None) => false,
            };
            // The thread tries again, with or without authors, once it knows that it has to.
            let sooner = sooner || writer.is_failing() && !failing;
            drop(held);
            if sooner {
                self.call();
            }
            if self.queue().pending.is_empty() {
                return;
            }
        }
        self.call();
    }

    /// The thread's work, until the journal is closed.
    fn work(&self) {
        let mut patience = None;
        loop {
            let closed = self.wait(patience);
            let mut held = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(writer) = held.as_mut() else {
                return;
            };
            // Who comes while the thread has the writer is written for, but not for ever:
            // others wait for the disk.
            let mut turns = 0..TURNS;
            loop {
                writer.take(&mut self.queue());
                writer.write();
                let all = self.queue().pending.is_empty() || writer.is_failing();
                if all || turns.next().is_none() && !closed {
                    break;
                }
            }
            if closed {
                writer.sync_due = Some(Instant::now());
            }
            writer.sync();
            if closed {
                *held = None;
                return;
            }
            patience = writer.patience();
        }
    }

    /// Waits until there is something to do; whether the journal is closed.
    fn wait(&self, patience: Option<Duration>) -> bool {
        let until = patience.map(|patience| Instant::now() + patience);
        let mut queue = self.queue();
        // Who came while the thread had the writer could not write themselves.
        while queue.pending.is_empty() && !queue.called && !queue.closed {
            let Some(until) = until else {
                let woken = self.called.wait(queue);
                queue = woken.unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let woken = self.called.wait_timeout(queue, left);
            queue = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        queue.called = false;
        queue.closed
    }
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
            bytes: Vec::new(),
            backlog: VecDeque::new(),
            unsynced: VecDeque::new(),
            sync_due: None,
        }
    }

    fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Acquire)
    }

    /// How long nothing need be done, if nothing comes.
    fn patience(&self) -> Option<Duration> {
        if self.is_failing() {
            return Some(RETRY);
        }
        let due = self.sync_due?;
        Some(due.saturating_duration_since(Instant::now()))
    }

    /// Takes all that is in the queue.
    fn take(&mut self, queue: &mut Queue) {
        self.backlog.append(&mut queue.pending);
    }

    fn write(&mut self) {
        if self.is_failing() && self.backlog.is_empty() {
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
        self.bytes.clear();
        let mut head = self.head.clone();
        for pending in &self.backlog {
            head = pending.record.link(&head, &mut self.bytes);
            self.bytes.push(b'\n');
        }
        if let Err(error) = self.disk.append(&self.bytes) {
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
