//! Notifications: where they go, what they say, and what comes back.

use std::collections::BTreeSet;

use authz::{
    AgentId, AgentName, ApprovalRequestId, CommandKey, MessageId, PolicySetVersion, Risk,
    ServiceName, TargetName, TeamName, UserId, command::ArgumentsDigest, time::Timestamp,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::approvals::ApprovalStatus;

/// What people can be told of.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
pub enum EventKind {
    /// An agent asks for something.
    #[serde(rename = "request.opened")]
    RequestOpened,
    /// A first of two people approved.
    #[serde(rename = "request.advanced")]
    RequestAdvanced,
    /// People approved or rejected.
    #[serde(rename = "request.decided")]
    RequestDecided,
    /// The request was taken back.
    #[serde(rename = "request.withdrawn")]
    RequestWithdrawn,
    /// Nobody decided in time.
    #[serde(rename = "request.expired")]
    RequestExpired,
    /// Nobody has decided, and soon nobody can.
    #[serde(rename = "request.expiring")]
    RequestExpiring,
    /// An agent was stopped.
    #[serde(rename = "agent.suspended")]
    AgentSuspended,
    /// A stopped agent may go on.
    #[serde(rename = "agent.resumed")]
    AgentResumed,
    /// Another policy set is in force.
    #[serde(rename = "policy.activated")]
    PolicyActivated,
    /// The policy folder cannot be enforced; what was in force stays so.
    #[serde(rename = "policy.broken")]
    PolicyBroken,
    /// Someone tries whether messages arrive.
    #[serde(rename = "test")]
    Test,
    /// Several of the above.
    #[serde(rename = "digest")]
    Digest,
}

impl EventKind {
    /// All that a rule can name.
    pub const ALL: [Self; 10] = [
        Self::RequestOpened,
        Self::RequestAdvanced,
        Self::RequestDecided,
        Self::RequestWithdrawn,
        Self::RequestExpired,
        Self::RequestExpiring,
        Self::AgentSuspended,
        Self::AgentResumed,
        Self::PolicyActivated,
        Self::PolicyBroken,
    ];

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RequestOpened => "request.opened",
            Self::RequestAdvanced => "request.advanced",
            Self::RequestDecided => "request.decided",
            Self::RequestWithdrawn => "request.withdrawn",
            Self::RequestExpired => "request.expired",
            Self::RequestExpiring => "request.expiring",
            Self::AgentSuspended => "agent.suspended",
            Self::AgentResumed => "agent.resumed",
            Self::PolicyActivated => "policy.activated",
            Self::PolicyBroken => "policy.broken",
            Self::Test => "test",
            Self::Digest => "digest",
        }
    }
}

/// What a webhook receives: the body of one message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// What happened.
    #[serde(rename = "type")]
    pub kind: EventKind,
    /// When it happened; of a digest, when it was put together.
    pub timestamp: Timestamp,
    /// About what.
    pub data: Data,
}

/// About what an event is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Data {
    /// `request.…`
    Request(Box<RequestData>),
    /// `policy.…`
    Policy(PolicyData),
    /// `agent.…`
    Agent(AgentData),
    /// `digest`
    Digest(DigestData),
    /// `test`
    Test(TestData),
}

/// An approval request as it stood when the event happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RequestData {
    /// Names it.
    pub request_id: ApprovalRequestId,
    /// Who asks.
    pub agent_id: AgentId,
    /// Its name.
    pub agent_name: AgentName,
    /// Its teams.
    pub teams: BTreeSet<TeamName>,
    /// For which command.
    pub command: CommandKey,
    /// Of which service.
    pub service: ServiceName,
    /// What it may do.
    pub risk: Risk,
    /// With which arguments; secrets redacted.
    pub arguments: Map<String, Value>,
    /// Of the exact ones.
    pub digest: ArgumentsDigest,
    /// Why, in the agent's words.
    pub reason: String,
    /// Where it stands.
    pub status: ApprovalStatus,
    /// How many people must approve.
    pub approvals_needed: u8,
    /// How many have.
    pub approvals_given: u8,
    /// Who decided so far.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub decided_by: Vec<UserId>,
    /// What they said last.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// When it was opened.
    pub opened: Timestamp,
    /// When it expires if nobody decides.
    pub expires: Timestamp,
    /// Where people see it.
    pub url: String,
}

/// An agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AgentData {
    /// Which.
    pub agent_id: AgentId,
    /// Its name.
    pub agent_name: AgentName,
    /// Its teams.
    pub teams: BTreeSet<TeamName>,
    /// The person who answers for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<UserId>,
}

/// A policy set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PolicyData {
    /// The one in force.
    pub policy_set: PolicySetVersion,
    /// Who put it in force, or how.
    pub by: String,
    /// Why, or what is wrong.
    pub note: String,
}

/// Several events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DigestData {
    /// Oldest first.
    pub events: Vec<Event>,
}

/// A trial.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TestData {
    /// Who tries.
    pub tried_by: String,
}

/// Which events go to a target. What is empty or absent narrows nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    /// Only these; if empty: opened, decided, expiring and expired requests, suspended
    /// agents, broken policies.
    #[serde(default)]
    pub events: BTreeSet<EventKind>,
    /// Only about these services.
    #[serde(default)]
    pub services: BTreeSet<ServiceName>,
    /// Only about commands of this risk or a higher one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub risk: Option<Risk>,
    /// Only about agents of these teams.
    #[serde(default)]
    pub teams: BTreeSet<TeamName>,
}

/// When messages go to a target.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Pace {
    /// What one agent asks for within so many seconds is one message; 20 if absent, for
    /// webhooks 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_seconds: Option<u32>,
    /// Everything within so many minutes is one message; absent: each is told at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest_minutes: Option<u32>,
    /// When nothing is sent but what is about to expire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quiet: Option<QuietHours>,
}

/// Hours of every day, in which messages wait.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QuietHours {
    /// `HH:MM`.
    pub from: String,
    /// `HH:MM`; of the next day if it is not after `from`.
    pub to: String,
    /// Of the IANA database, such as `Europe/Berlin`; UTC if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
}

/// Where messages go. Secrets and addresses go in, and never come out.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase", tag = "kind", deny_unknown_fields)]
pub enum Destination {
    /// A program, told with signed HTTP requests as Standard Webhooks describes them.
    Webhook {
        /// `https://…`
        url: String,
        /// `whsec_` and 24 to 64 bytes in base64; made, and shown once, if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        secret: Option<String>,
    },
    /// A channel of Slack, or of what understands its messages.
    Slack {
        /// The incoming webhook.
        url: String,
        /// The app's signing secret; without it messages have no buttons.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signing_secret: Option<String>,
    },
    /// People's mailboxes, by the SMTP server that is configured.
    Email {
        /// Their addresses.
        to: Vec<String>,
    },
}

impl std::fmt::Debug for Destination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.kind())
    }
}

impl Destination {
    /// The word for it.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Webhook { .. } => "webhook",
            Self::Slack { .. } => "slack",
            Self::Email { .. } => "email",
        }
    }
}

/// `POST /api/notifications/targets`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateTarget {
    /// Unique.
    pub name: TargetName,
    /// Where messages go.
    pub destination: Destination,
    /// Which events.
    #[serde(default)]
    pub rules: Rules,
    /// When.
    #[serde(default)]
    pub pace: Pace,
}

/// `PATCH /api/notifications/targets/{name}`: what is absent stays as it is.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeTarget {
    /// Whether anything is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Where messages go, with all secrets anew; of the same kind as before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<Destination>,
    /// Which events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rules: Option<Rules>,
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pace: Option<Pace>,
}

/// What may be shown of a target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TargetSettings {
    /// Scheme and host of a webhook, or the mailboxes. Never a path: it may be a secret.
    pub address: String,
    /// Whether callbacks can be verified: Slack's buttons, signed verdicts.
    pub callbacks: bool,
    /// Which events.
    pub rules: Rules,
    /// When.
    pub pace: Pace,
}

/// A target as people see it: `GET /api/notifications/targets`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TargetView {
    /// Unique.
    pub name: TargetName,
    /// `webhook`, `slack` or `email`.
    pub kind: String,
    /// The rest of what may be shown.
    #[serde(flatten)]
    pub settings: TargetSettings,
    /// Whether anything is sent.
    pub enabled: bool,
    /// When it was added.
    pub created: Timestamp,
    /// By whom.
    pub created_by: String,
    /// Attempts that failed since the last that did not.
    pub failures: u32,
    /// It fails repeatedly, and is left alone until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_until: Option<Timestamp>,
    /// Why the last attempt failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// When something last arrived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_delivered: Option<Timestamp>,
}

/// The answer to [`CreateTarget`].
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct CreatedTarget {
    /// The target.
    #[serde(flatten)]
    pub target: TargetView,
    /// A webhook's secret, if we made it. Keep it; it cannot be shown again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

/// The answer to `POST /api/notifications/targets/{name}/test`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Tested {
    /// Whether it arrived.
    pub delivered: bool,
    /// If not: why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A message: `GET /api/notifications/messages?target=&status=&limit=`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MessageView {
    /// Names it, at every attempt.
    pub id: MessageId,
    /// Where it goes.
    pub target: TargetName,
    /// `waiting`, `delivered`, `dropped` (had passed before it was sent) or `dead` (given up).
    pub status: String,
    /// What it says, in a line.
    pub summary: String,
    /// How many events it tells of.
    pub events: usize,
    /// When it was begun.
    pub created: Timestamp,
    /// Not sent before this instant.
    pub due: Timestamp,
    /// How often it was tried.
    pub attempts: u32,
    /// Why the last attempt failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// When it was delivered, dropped or given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
}

/// `POST /api/notifications/targets/{name}/accounts`: an account there is a person here,
/// and may decide what that person may.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LinkAccount {
    /// As the other system names it: a Slack member id such as `U024BE7LH`.
    pub account: String,
    /// The person.
    pub user: UserId,
}

/// `GET /api/notifications/targets/{name}/accounts`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AccountView {
    /// As the other system names it.
    pub account: String,
    /// The person.
    pub user: UserId,
    /// Since when.
    pub linked: Timestamp,
    /// By whom.
    pub linked_by: String,
}

/// `POST /api/notifications/targets/{name}/verdict`, signed as webhooks are, with the
/// webhook's own secret: what a linked person decided elsewhere.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignedVerdict {
    /// Which request.
    pub request_id: ApprovalRequestId,
    /// Who decided, as the other system names them.
    pub account: String,
    /// Yes or no.
    pub approved: bool,
    /// Why.
    #[serde(default)]
    pub reason: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_event_is_written_as_its_word() {
        for kind in EventKind::ALL
            .into_iter()
            .chain([EventKind::Test, EventKind::Digest])
        {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
    }

    #[test]
    fn a_destination_says_only_its_kind_in_logs() {
        let destination = Destination::Slack {
            url: "https://hooks.slack.com/services/T/B/secret".to_owned(),
            signing_secret: Some("hush".to_owned()),
        };
        assert_eq!(format!("{destination:?}"), "slack");
    }

    #[test]
    fn what_is_read_back_is_of_the_kind_that_was_written() {
        let event = Event {
            kind: EventKind::Digest,
            timestamp: Timestamp::from_millis(0),
            data: Data::Digest(DigestData {
                events: vec![Event {
                    kind: EventKind::AgentSuspended,
                    timestamp: Timestamp::from_millis(0),
                    data: Data::Agent(AgentData {
                        agent_id: AgentId::LOCAL,
                        agent_name: "local".parse().unwrap(),
                        teams: BTreeSet::new(),
                        owner: None,
                    }),
                }],
            }),
        };
        let text = serde_json::to_string(&event).unwrap();
        assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), event);
    }
}
