//! `cedargate audit …`

use std::path::PathBuf;

use authz::{AgentRef, ServiceName, UserId};
use clap::{Args, Subcommand};

/// `cedargate audit …`
#[derive(Debug, Subcommand)]
pub enum Audit {
    /// What happened, oldest first
    List {
        /// What to look for.
        #[command(flatten)]
        filter: AuditFilterFlags,
        /// Only what came after this entry [default: the last entries]
        #[arg(long, value_name = "ID", conflicts_with_all = ["service", "user", "kind", "outcome", "decision", "gateway", "from", "until", "text", "command"])]
        after: Option<i64>,
        /// At most so many
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
    },
    /// Everything that a filter wants, as JSON Lines, newest first
    Export {
        /// What to look for.
        #[command(flatten)]
        filter: AuditFilterFlags,
    },
    /// Have the orchestrator check every journal line that it stores; exit code 1 if one is broken
    VerifyStored,
    /// Check a gateway's journal for edits, gaps and truncation
    ///
    /// What was cut off at the end is found by asking the orchestrator for the newest line
    /// that it has, or against a line that was noted earlier.
    Verify {
        /// The journal's folder [default: as the gateway would choose]
        folder: Option<PathBuf>,
        /// A line that the journal must hold, instead of asking the orchestrator
        #[arg(long, value_name = "SEQUENCE:HASH", conflicts_with = "offline")]
        head: Option<JournalLineAt>,
        /// Do not ask the orchestrator: an end that was cut off goes unnoticed
        #[arg(long)]
        offline: bool,
    },
}

/// What to look for in the audit trail.
#[derive(Clone, Debug, Default, Args)]
pub struct AuditFilterFlags {
    /// Only this agent's
    #[arg(long)]
    pub agent: Option<AgentRef>,
    /// Only this command, as SERVICE/NAME
    #[arg(long)]
    pub command: Option<authz::CommandKey>,
    /// Only commands of this service
    #[arg(long)]
    pub service: Option<ServiceName>,
    /// Only what this person did
    #[arg(long)]
    pub user: Option<UserId>,
    /// Only this kind: intent, outcome, refusal, approved, login, …
    #[arg(long)]
    pub kind: Option<String>,
    /// Only what was permitted, refused, pending or rejected, or ended in success, error or unknown
    #[arg(long)]
    pub outcome: Option<String>,
    /// Only the lines of this decision
    #[arg(long, value_name = "ID")]
    pub decision: Option<String>,
    /// Only from this gateway's journal
    #[arg(long)]
    pub gateway: Option<String>,
    /// Not before, such as 2026-11-22T08:00:00Z
    #[arg(long, value_name = "TIME")]
    pub from: Option<authz::Timestamp>,
    /// Before
    #[arg(long, value_name = "TIME")]
    pub until: Option<authz::Timestamp>,
    /// Only lines that hold this text
    #[arg(long)]
    pub text: Option<String>,
}

/// A line of a journal: its place and its hash, as `audit verify` prints its head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalLineAt(pub gateway::journal::Head);

impl std::str::FromStr for JournalLineAt {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected =
            || "expected a line's number and its 64 hexadecimal digits, `12:ab…`".to_owned();
        let (sequence, hash) = text.split_once([':', ' ']).ok_or_else(expected)?;
        let sequence: i64 = sequence.trim().parse().map_err(|_| expected())?;
        let hash = hash.trim().to_ascii_lowercase();
        let hexadecimal = hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        if sequence < 1 || !hexadecimal {
            return Err(expected());
        }
        Ok(Self(gateway::journal::Head { sequence, hash }))
    }
}
