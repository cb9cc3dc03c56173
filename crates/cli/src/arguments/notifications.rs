//! `cedargate notifications …`

use std::path::PathBuf;

use authz::{MessageId, Risk, ServiceName, TargetName, TeamName, UserId};
use clap::{Args, Subcommand, ValueEnum};
use contract::notifications::{EventKind, QuietHours};

/// `cedargate notifications …`
#[derive(Debug, Subcommand)]
pub enum Notifications {
    /// Where people are told what waits for them
    #[command(subcommand)]
    Targets(Targets),
    /// Which accounts elsewhere are which people here, and may decide by a button
    #[command(subcommand)]
    Accounts(Accounts),
    /// What was sent, waits, or was given up
    #[command(subcommand)]
    Messages(Messages),
}

const ADD: &str = "\
Secrets come from the environment or a file, never from the command line:
  CEDARGATE_TARGET_URL             where a webhook or Slack message goes
  CEDARGATE_TARGET_SECRET          a webhook's secret (whsec_…; made and shown once if not set),
                                   or the signing secret of the Slack app, for buttons
each also as <NAME>_FILE.

Examples:
  CEDARGATE_TARGET_URL=https://ops.example.com/hook cedargate notifications targets add webhook ops
  cedargate notifications targets add slack on-call --url-file ./slack-url --secret-file ./slack-secret \\
      --risk write --quiet 22:00-07:00 --zone Europe/Berlin
  cedargate notifications targets add email security --to sam@example.com --digest 60";

/// `cedargate notifications targets …`
#[derive(Debug, Subcommand)]
pub enum Targets {
    /// All of them, and how they do
    List,
    /// One of them
    Show {
        /// Which
        name: TargetName,
    },
    /// Add one: webhook, slack or email
    #[command(after_help = ADD)]
    Add {
        /// What it is
        kind: Kind,
        /// A name for it, unique
        name: TargetName,
        /// Where messages go.
        #[command(flatten)]
        destination: DestinationFlags,
        /// Which events, and when.
        #[command(flatten)]
        rules: Box<RuleFlags>,
    },
    /// Change one: what is given replaces what was, the rest stays
    #[command(
        after_help = "Without --url-file, --to or CEDARGATE_TARGET_URL its address and secrets stay."
    )]
    Change {
        /// Which
        name: TargetName,
        /// Where messages go.
        #[command(flatten)]
        destination: DestinationFlags,
        /// Which events, and when.
        #[command(flatten)]
        rules: Box<RuleFlags>,
    },
    /// Send a message there now, and say whether it arrived
    Test {
        /// Which
        name: TargetName,
    },
    /// Have messages sent there again
    Enable {
        /// Which
        name: TargetName,
    },
    /// Send nothing there until it is enabled; what happens meanwhile waits
    Disable {
        /// Which
        name: TargetName,
    },
    /// Remove it, with what waits to be sent there and its accounts
    Remove {
        /// Which
        name: TargetName,
    },
}

/// What a target is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// A program, told with signed HTTP requests
    Webhook,
    /// A channel of Slack, or of what understands its messages
    Slack,
    /// Mailboxes
    Email,
}

/// Where messages go.
#[derive(Debug, Default, Args)]
pub struct DestinationFlags {
    /// A file with the address (webhook, Slack) [env: CEDARGATE_TARGET_URL]
    #[arg(long, value_name = "FILE")]
    pub url_file: Option<PathBuf>,
    /// A file with the secret (webhook, Slack) [env: CEDARGATE_TARGET_SECRET]
    #[arg(long, value_name = "FILE")]
    pub secret_file: Option<PathBuf>,
    /// A mailbox (email); may be repeated
    #[arg(long, value_name = "MAILBOX")]
    pub to: Vec<String>,
}

/// Which events, and when.
#[derive(Debug, Default, Args)]
pub struct RuleFlags {
    /// An event, such as request.opened; may be repeated [default: what people can act on]
    #[arg(long = "event", value_name = "EVENT", value_parser = event)]
    pub events: Vec<EventKind>,
    /// Only about this service; may be repeated
    #[arg(long = "service", value_name = "SERVICE")]
    pub services: Vec<ServiceName>,
    /// Only about commands of this risk or a higher one: read, write or destroy
    #[arg(long, value_name = "RISK", value_parser = risk)]
    pub risk: Option<Risk>,
    /// Only about agents of this team; may be repeated
    #[arg(long = "team", value_name = "TEAM")]
    pub teams: Vec<TeamName>,
    /// What one agent asks for within so many seconds is one message [default: 20, webhook 0]
    #[arg(long, value_name = "SECONDS")]
    pub group: Option<u32>,
    /// Everything within so many minutes is one message
    #[arg(long, value_name = "MINUTES")]
    pub digest: Option<u32>,
    /// When messages wait, such as 22:00-07:00; what is about to expire does not
    #[arg(long, value_name = "FROM-TO", value_parser = hours)]
    pub quiet: Option<(String, String)>,
    /// The time zone of the quiet hours, such as Europe/Berlin [default: UTC]
    #[arg(long, value_name = "ZONE", requires = "quiet")]
    pub zone: Option<String>,
}

impl RuleFlags {
    /// The quiet hours, if any are given.
    #[must_use]
    pub fn quiet_hours(&self) -> Option<QuietHours> {
        let (from, to) = self.quiet.clone()?;
        Some(QuietHours {
            from,
            to,
            zone: self.zone.clone(),
        })
    }
}

/// `cedargate notifications accounts …`
#[derive(Debug, Subcommand)]
pub enum Accounts {
    /// Those of one target
    List {
        /// Of which target
        target: TargetName,
    },
    /// From now on this account is that person, and may decide what they may
    #[command(
        after_help = "Slack: the member id (Profile, ⋮, Copy member ID), such as U024BE7LH, not the name."
    )]
    Link {
        /// Of which target
        target: TargetName,
        /// As the other system names it
        account: String,
        /// The person
        user: UserId,
    },
    /// From now on this account is nobody
    Unlink {
        /// Of which target
        target: TargetName,
        /// As the other system names it
        account: String,
    },
}

/// `cedargate notifications messages …`
#[derive(Debug, Subcommand)]
pub enum Messages {
    /// The newest
    List {
        /// Only to this target
        #[arg(long)]
        target: Option<TargetName>,
        /// Only these: waiting, delivered, dropped or dead
        #[arg(long, value_parser = ["waiting", "delivered", "dropped", "dead"])]
        status: Option<String>,
        /// So many at most
        #[arg(long, default_value_t = 50)]
        limit: u32,
    },
    /// Send one once more: what was given up, or arrived and got lost
    Redeliver {
        /// Which
        id: MessageId,
    },
}

fn event(text: &str) -> Result<EventKind, String> {
    EventKind::ALL
        .into_iter()
        .find(|kind| kind.as_str() == text)
        .ok_or_else(|| {
            let all: Vec<&str> = EventKind::ALL.iter().map(|kind| kind.as_str()).collect();
            format!("expected one of {}", all.join(", "))
        })
}

fn risk(text: &str) -> Result<Risk, String> {
    match text {
        "read" => Ok(Risk::Read),
        "write" => Ok(Risk::Write),
        "destroy" => Ok(Risk::Destroy),
        _ => Err("expected read, write or destroy".to_owned()),
    }
}

fn hours(text: &str) -> Result<(String, String), String> {
    text.split_once('-')
        .map(|(from, to)| (from.trim().to_owned(), to.trim().to_owned()))
        .ok_or_else(|| "expected two times, such as 22:00-07:00".to_owned())
}
