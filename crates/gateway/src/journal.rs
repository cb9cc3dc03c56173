//! The journal: what was decided, what was begun, how it ended.
//!
//! JSON Lines in files that rotate by size, one chain through all of them: each line
//! holds the hash of the one before. [`contract::audit::JournalEntry`] documents a line.
//!
//! A command's `intent` is recorded before it leaves: a `write` or `destroy` when the
//! disk has the line, a `read` when the operating system has it, so that it survives the
//! end of this process but does not wait for the disk. When a line cannot be written the
//! command does not run, and so for every later one until the journal works again.

mod chain;
mod disk;
mod read;
mod ship;
mod tainted;
mod unfinished;
mod writer;

use std::{
    io,
    net::IpAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use authz::{
    AgentId, AgentName, Clock, Command, CommandKey, DecisionId, Permit, PolicySetVersion, Risk,
    Session, facts::Basis,
};
use serde_json::{Map, Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::{
    chain::{Members, Record},
    disk::Disk,
    ship::Shipper,
    writer::{Authors, Closed, Until, Writer},
};
use crate::{authenticate::Identity, metrics::Metrics, shadow::Difference};

pub(crate) use self::tainted::tainted;
pub use self::{
    chain::Head,
    read::{Broken, Line, Verified, entries, lines, verify},
};

/// Arguments longer than this, in bytes of JSON, are recorded by their digest only.
const MAX_ARGUMENTS_BYTES: usize = 16 * 1024;

/// The journal could not be written, so the command did not run.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the journal cannot be written: {0}")]
pub(crate) struct Unwritable(String);

/// Writes the journal. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Journal {
    authors: Arc<Authors>,
    failing: Arc<AtomicBool>,
    durable: watch::Receiver<Head>,
    folder: Arc<Path>,
    gateway: Arc<str>,
    clock: Clock,
    #[cfg(test)]
    pub(crate) faults: Arc<tests::Faults>,
}

/// The thread that writes, to wait for at the end.
#[derive(Debug)]
pub(crate) struct WriterThread(std::thread::JoinHandle<()>);

/// Who sent what: what every line about a command says.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    pub(crate) decision: DecisionId,
    pub(crate) agent: AgentId,
    pub(crate) agent_name: AgentName,
    pub(crate) command: CommandKey,
}

/// What was sent, as the journal keeps it.
#[derive(Debug)]
pub(crate) struct Sent {
    risk: Risk,
    details: Map<String, Value>,
}

impl Sent {
    /// `arguments` are those of `command` as people may see them.
    pub(crate) fn new(command: &Command, arguments: Map<String, Value>) -> Self {
        let mut details = Map::new();
        details.insert("risk".to_owned(), command.target.risk.as_str().into());
        details.insert(
            "digest".to_owned(),
            command.arguments.digest().as_str().into(),
        );
        let arguments = Value::Object(arguments);
        let bytes = arguments.to_string().len();
        if bytes > MAX_ARGUMENTS_BYTES {
            details.insert("arguments_bytes".to_owned(), bytes.into());
        } else {
            details.insert("arguments".to_owned(), arguments);
        }
        Self {
            risk: command.target.risk,
            details,
        }
    }
}

impl Sent {
    /// Adds the facts that the decision rests on, so that other policies can be asked later
    /// what they would have said.
    pub(crate) fn with_basis(mut self, basis: &Basis, ip: IpAddr) -> Self {
        // It is made of names, numbers and flags, which always serialise.
        let basis = serde_json::to_value(basis).unwrap_or_default();
        self.details.insert("facts".to_owned(), basis);
        self.details.insert("ip".to_owned(), ip.to_string().into());
        self
    }

    /// Adds by what the agent was known to be who it is.
    pub(crate) fn with_identity(mut self, identity: &Identity) -> Self {
        self.details
            .insert("identity".to_owned(), identity.record());
        self
    }

    /// Adds the session as it was when the command was decided.
    pub(crate) fn with_session(mut self, session: &Session) -> Self {
        let session = serde_json::to_value(session).unwrap_or_default();
        self.details.insert("session".to_owned(), session);
        self
    }

    /// Adds that the answer will be untrusted content: from the line that is there before the
    /// command leaves it is known after a restart, however it ends.
    pub(crate) fn with_untrusted(mut self, untrusted: bool) -> Self {
        if untrusted {
            self.details.insert("untrusted".to_owned(), true.into());
        }
        self
    }

    /// Adds how many limited calls of this agent's came before, and are not recorded.
    pub(crate) fn with_unrecorded(mut self, calls: u64) -> Self {
        if calls > 0 {
            self.details.insert("unrecorded".to_owned(), calls.into());
        }
        self
    }

    /// Adds how long it took to decide, which includes asking the orchestrator where that
    /// was needed.
    pub(crate) fn with_decision_time(mut self, took: Duration) -> Self {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.details.insert("decision_us".to_owned(), micros.into());
        self
    }

    /// Adds that a policy set that is not enforced would have decided otherwise.
    pub(crate) fn with_shadow(mut self, difference: Option<Difference>) -> Self {
        if let Some(Difference {
            version,
            decision,
            policies,
        }) = difference
        {
            let shadow = json!({"version": version, "decision": decision, "policies": policies});
            self.details.insert("shadow".to_owned(), shadow);
        }
        self
    }
}

/// A refusal, as the journal keeps it.
#[derive(Debug)]
pub(crate) struct RefusalRecord<'a> {
    /// `policy`, `policy_error`, `orchestrator`, …: why, in one word.
    pub(crate) reason: &'a str,
    /// `refused`, `pending` or `rejected`.
    pub(crate) outcome: &'a str,
    pub(crate) policies: &'a [String],
    /// What would permit it once people approved; left out when empty.
    pub(crate) permitted_by_approval: &'a [String],
    pub(crate) policy_set: Option<&'a PolicySetVersion>,
    pub(crate) approval: Option<authz::ApprovalRequestId>,
}

impl Journal {
    /// Continues the journal in `folder`, or begins one.
    ///
    /// # Errors
    ///
    /// When it is in use, was changed, or the disk says no.
    pub(crate) fn start(
        folder: &Path,
        file_bytes: u64,
        gateway: &str,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> io::Result<(Self, WriterThread)> {
        let (disk, recovered) = Disk::open(folder)?;
        Self::over(disk, recovered, folder, file_bytes, gateway, clock, metrics)
    }

    fn over(
        disk: Disk,
        recovered: disk::Recovered,
        folder: &Path,
        file_bytes: u64,
        gateway: &str,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> io::Result<(Self, WriterThread)> {
        // The chain is one gateway's, whatever this process calls itself: a container that
        // gets a new host name at each start must go on where it stopped.
        let gateway: Arc<str> = match recovered.gateway {
            Some(name) if name != gateway => {
                tracing::warn!(
                    journal = name,
                    configured = gateway,
                    "the journal is that of another name, which is kept; move the folder away to begin a new journal"
                );
                name.into()
            }
            _ => gateway.into(),
        };
        if recovered.torn_bytes > 0 {
            tracing::warn!(
                bytes = recovered.torn_bytes,
                "the journal ended in an unfinished line, which was set aside"
            );
        }

        let (durable_sender, durable) = watch::channel(recovered.head.clone());
        let failing = Arc::new(AtomicBool::new(false));
        let resumed = {
            let (gateway, clock) = (Arc::clone(&gateway), clock.clone());
            move || start_record(&gateway, &clock, json!({"resumed": true}))
        };
        #[cfg(test)]
        let faults = Arc::clone(&disk.faults);
        let writer = Writer::new(
            disk,
            file_bytes,
            recovered.head,
            Arc::clone(&failing),
            durable_sender,
            metrics,
            Box::new(resumed),
        );
        let (authors, thread) = Authors::start(writer)?;

        let journal = Self {
            authors: Arc::new(authors),
            failing,
            durable,
            folder: folder.into(),
            gateway,
            clock,
            #[cfg(test)]
            faults,
        };
        journal.recover(folder);
        let mut details = json!({"version": env!("CARGO_PKG_VERSION")});
        if recovered.torn_bytes > 0 {
            crate::answer::put(&mut details, "torn_bytes", recovered.torn_bytes);
        }
        journal.push(start_record(&journal.gateway, &journal.clock, details));
        Ok((journal, WriterThread(thread)))
    }

    /// Records that nobody knows how the commands ended that were under way when the last
    /// run did. Before this run's `start`: should it end at once as well, the next one
    /// still finds the rest of them.
    fn recover(&self, folder: &Path) {
        let unfinished = match unfinished::unfinished(folder) {
            Ok(unfinished) => unfinished,
            Err(error) => {
                tracing::error!(%error, "the journal cannot be searched for commands without outcome");
                return;
            }
        };
        for command in unfinished {
            tracing::warn!(
                decision.id = %command.decision,
                agent.id = command.agent.map(|agent| agent.to_string()),
                command = command.command.as_ref().map(ToString::to_string),
                "the outcome of a command is unknown: the gateway ended while it was under way"
            );
            let mut details = Map::new();
            details.insert("status".to_owned(), "unknown".into());
            let why = "the gateway ended before the outcome was known";
            details.insert("error".to_owned(), why.into());
            self.push(Record::new(&Members {
                at: self.clock.now(),
                gateway: &self.gateway,
                kind: "outcome",
                decision: Some(command.decision),
                agent: command.agent,
                agent_name: command.agent_name.as_ref(),
                command: command.command.as_ref(),
                details,
            }));
        }
    }

    /// The gateway, as its lines name it.
    pub(crate) fn gateway(&self) -> &str {
        &self.gateway
    }

    /// Whether the last attempt to write succeeded.
    pub(crate) fn is_writable(&self) -> bool {
        !self.failing.load(Ordering::Acquire)
    }

    /// Sends what is on the disk to the orchestrator, until `stop`.
    pub(crate) fn ship(
        &self,
        orchestrator: contract::Client,
        metrics: Arc<Metrics>,
        stop: CancellationToken,
    ) -> tokio::task::JoinHandle<()> {
        let shipper = Shipper {
            folder: self.folder.to_path_buf(),
            gateway: self.gateway.to_string(),
            orchestrator,
            durable: self.durable.clone(),
            metrics,
        };
        tokio::spawn(shipper.run(stop))
    }

    /// Records that a permitted command is about to leave, and opens its entry.
    ///
    /// # Errors
    ///
    /// When the line could not be written: then the command must not leave.
    pub(crate) async fn open(
        &self,
        subject: Subject,
        permit: &Permit,
        sent: Sent,
    ) -> Result<Entry, Unwritable> {
        let mut details = sent.details;
        details.insert("policies".to_owned(), permit.policies().into());
        details.insert("policy_set".to_owned(), permit.policy_set().as_str().into());
        if let Some(grant) = permit.grant() {
            details.insert("grant".to_owned(), grant.id.to_string().into());
        }
        let until = match sent.risk {
            Risk::Read => Until::Written,
            Risk::Write | Risk::Destroy => Until::Synced,
        };
        self.append(self.record("intent", &subject, details), until)
            .await?;
        Ok(Entry {
            journal: self.clone(),
            subject,
            began: Instant::now(),
            closed: false,
        })
    }

    /// Records a refusal.
    ///
    /// # Errors
    ///
    /// When the journal cannot be written.
    pub(crate) async fn refuse(
        &self,
        subject: &Subject,
        sent: Sent,
        refusal: RefusalRecord<'_>,
    ) -> Result<(), Unwritable> {
        let mut details = sent.details;
        details.insert("reason".to_owned(), refusal.reason.into());
        details.insert("outcome".to_owned(), refusal.outcome.into());
        details.insert("policies".to_owned(), refusal.policies.into());
        if !refusal.permitted_by_approval.is_empty() {
            details.insert(
                "permitted_by_approval".to_owned(),
                refusal.permitted_by_approval.into(),
            );
        }
        if let Some(version) = refusal.policy_set {
            details.insert("policy_set".to_owned(), version.as_str().into());
        }
        if let Some(approval) = refusal.approval {
            details.insert("approval".to_owned(), approval.to_string().into());
        }
        let record = self.record("refusal", subject, details);
        if self.is_writable() {
            self.push(record);
            Ok(())
        } else {
            // Waiting keeps the number of lines that are held in memory bounded.
            self.append(record, Until::Written).await
        }
    }

    fn record(&self, kind: &str, subject: &Subject, details: Map<String, Value>) -> Record {
        Record::new(&Members {
            at: self.clock.now(),
            gateway: &self.gateway,
            kind,
            decision: Some(subject.decision),
            agent: Some(subject.agent),
            agent_name: Some(&subject.agent_name),
            command: Some(&subject.command),
            details,
        })
    }

    async fn append(&self, record: Record, until: Until) -> Result<(), Unwritable> {
        let gone = || Unwritable("it is closed".to_owned());
        let written = self
            .authors
            .append(record, until)
            .map_err(|Closed| gone())?;
        written.await.map_err(|_| gone())?.map_err(Unwritable)
    }

    /// Records without waiting. What is pushed here is never more than the commands under
    /// way can have to say.
    fn push(&self, record: Record) {
        if self.authors.push(record).is_err() {
            tracing::error!("a journal line was lost: the journal is closed");
        }
    }

    /// Ends the writer once everything before is on the disk.
    pub(crate) async fn close(&self, thread: WriterThread) {
        self.authors.close();
        let ended = tokio::task::spawn_blocking(move || thread.0.join()).await;
        if !matches!(ended, Ok(Ok(()))) {
            tracing::error!("the journal's writer did not end in order");
        }
    }
}

fn start_record(gateway: &str, clock: &Clock, details: Value) -> Record {
    Record::new(&Members {
        at: clock.now(),
        gateway,
        kind: "start",
        decision: None,
        agent: None,
        agent_name: None,
        command: None,
        details: match details {
            Value::Object(details) => details,
            _ => Map::new(),
        },
    })
}

/// A command that is under way. Dropping it without closing records that its outcome is
/// not known.
#[derive(Debug)]
pub(crate) struct Entry {
    journal: Journal,
    subject: Subject,
    began: Instant,
    closed: bool,
}

impl Entry {
    /// Records how the command ended: `success`, or `error` with what agents are told.
    pub(crate) fn close(mut self, status: &str, error: Option<&str>) {
        self.write(status, error);
    }

    fn write(&mut self, status: &str, error: Option<&str>) {
        self.closed = true;
        let mut details = Map::new();
        details.insert("status".to_owned(), status.into());
        if let Some(message) = error {
            details.insert("error".to_owned(), message.into());
        }
        let millis = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        details.insert("duration_ms".to_owned(), millis.into());
        let record = self.journal.record("outcome", &self.subject, details);
        self.journal.push(record);
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if !self.closed {
            self.write("unknown", None);
        }
    }
}

#[cfg(test)]
mod tests;
