//! Names and ids: strings are parsed once, at the edge, and are types from there inward.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    schema::{self, described},
    time::Timestamp,
};

/// Why a text is not the id or name that was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {expected}")]
pub struct InvalidId {
    text: String,
    expected: &'static str,
}

impl InvalidId {
    fn new(text: &str, expected: &'static str) -> Self {
        // A refused text may be ten kilobytes of anything: show its beginning, printable.
        let text = text
            .chars()
            .take(64)
            .flat_map(char::escape_default)
            .collect();
        Self { text, expected }
    }
}

macro_rules! text_serde {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

/// An id of ours: a prefix that names its kind, `_`, and a UUID of version 7 in hexadecimal.
macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// A new id: the time first, so that ids sort by age, then 74 random bits.
            #[must_use]
            pub fn generate(now: Timestamp) -> Self {
                Self(uuid_at(now))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "_{}"), self.0.simple())
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.strip_prefix(concat!($prefix, "_"))
                    .filter(|hex| hex.len() == 32)
                    .and_then(|hex| Uuid::try_parse(hex).ok())
                    .map(Self)
                    .ok_or_else(|| InvalidId::new(text, concat!("an id of the form `", $prefix, "_<32 hex digits>`")))
            }
        }

        text_serde!($name);

        described! {
            $name => schema::text(
                concat!("An id of the form `", $prefix, "_…`."),
                concat!("^", $prefix, "_[0-9a-fA-F]{32}$"),
            );
        }
    };
}

/// A name that people choose: short, and safe in a path, a log line and a policy.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $valid:path, $expected:literal, $pattern:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Box<str>);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                if $valid(text) {
                    Ok(Self(text.into()))
                } else {
                    Err(InvalidId::new(text, $expected))
                }
            }
        }

        text_serde!($name);

        described! {
            $name => schema::text(concat!("It is ", $expected, "."), $pattern);
        }
    };
}

/// A version 7 UUID (RFC 9562) of the given time.
fn uuid_at(now: Timestamp) -> Uuid {
    let millis = u64::try_from(now.as_millis()).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(millis, &rand::random()).into_uuid()
}

fn is_word(text: &str, max: usize, first: fn(u8) -> bool, rest: fn(u8) -> bool) -> bool {
    match text.as_bytes() {
        [head, tail @ ..] => {
            text.len() <= max && first(*head) && tail.iter().all(|&byte| rest(byte))
        }
        [] => false,
    }
}

fn lower_or_digit(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

const LOWER_NAME: &str = "^[a-z0-9][a-z0-9._-]{0,63}$";

/// Services, teams, roles and zones.
fn is_lower_name(text: &str) -> bool {
    is_word(text, 64, lower_or_digit, |byte| {
        lower_or_digit(byte) || matches!(byte, b'-' | b'_' | b'.')
    })
}

/// Commands: an MCP tool may use capitals. Never `*`, `/` or `#`, which grant keys use.
fn is_command_name(text: &str) -> bool {
    is_word(
        text,
        128,
        |byte| byte.is_ascii_alphanumeric() || byte == b'_',
        |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'),
    )
}

/// Agents: anything that could be taken for an id is refused.
fn is_agent_name(text: &str) -> bool {
    is_word(
        text,
        64,
        |byte| byte.is_ascii_alphanumeric(),
        |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'),
    ) && Uuid::try_parse(text).is_err()
}

/// People: a handle or an e-mail address.
fn is_user_id(text: &str) -> bool {
    is_word(
        text,
        128,
        |byte| byte.is_ascii_alphanumeric(),
        |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'@' | b'+'),
    )
}

id!(
    /// Names one grant, for example `grant_0193…`.
    GrantId, "grant"
);
id!(
    /// Names one approval request, for example `apr_0193…`. Knowing it gives no right.
    ApprovalRequestId, "apr"
);
id!(
    /// Names one decision in the journal, for example `dec_0193…`.
    DecisionId, "dec"
);
id!(
    /// Names one credential of an agent or a user. It is not the credential.
    TokenId, "tok"
);
id!(
    /// Names one message to people, for example `msg_0193…`: the same at every attempt.
    MessageId, "msg"
);
id!(
    /// Names one session of a user's browser. It is not what the browser sends.
    SessionId, "session"
);
id!(
    /// Names one session of an agent at a gateway, for example `ses_0193…`. It is not what
    /// the agent calls it.
    AgentSessionId, "ses"
);

impl AgentSessionId {
    /// Of a session that nobody keeps.
    pub const NONE: Self = Self(Uuid::nil());
}

name!(
    /// Names one place that notifications go to, for example `on-call`.
    TargetName, is_lower_name, "a target's name (lower-case letters, digits, `-`, `_`, `.`; at most 64)", LOWER_NAME
);
name!(
    /// Names one service, for example `coolify`.
    ServiceName, is_lower_name, "a service name (lower-case letters, digits, `-`, `_`, `.`; at most 64)", LOWER_NAME
);
name!(
    /// Names one command of a service, for example `list-servers`.
    CommandName, is_command_name, "a command name (letters, digits, `-`, `_`, `.`; at most 128)", "^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$"
);
name!(
    /// Names a team of people and agents.
    TeamName, is_lower_name, "a team name (lower-case letters, digits, `-`, `_`, `.`; at most 64)", LOWER_NAME
);
name!(
    /// Names a role that policies speak of.
    RoleName, is_lower_name, "a role name (lower-case letters, digits, `-`, `_`, `.`; at most 64)", LOWER_NAME
);
name!(
    /// Names a zone: a group of services and commands, for example `pci`.
    ZoneName, is_lower_name, "a zone name (lower-case letters, digits, `-`, `_`, `.`; at most 64)", LOWER_NAME
);
name!(
    /// An agent's registered name, unique among agents.
    AgentName, is_agent_name, "an agent name (letters, digits, `-`, `_`, `.`; at most 64; not a UUID)", "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
);
name!(
    /// Names one person: a handle such as `dan`, or an e-mail address.
    UserId, is_user_id, "a user id (letters, digits, `-`, `_`, `.`, `@`, `+`; at most 128)", "^[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}$"
);

/// Names one agent: a UUID, as `X-Agent-Id` carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AgentId(Uuid);

impl AgentId {
    /// The built-in agent `local`, as whom calls without identity act on loopback.
    pub const LOCAL: Self = Self(Uuid::from_u128(0x0000_0000_0000_4000_8000_0000_0000_0001));

    /// A new id.
    #[must_use]
    pub fn generate(now: Timestamp) -> Self {
        Self(uuid_at(now))
    }
}

impl fmt::Display for AgentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.hyphenated())
    }
}

impl FromStr for AgentId {
    type Err = InvalidId;

    /// Accepts the hyphenated form only, in either case: one agent, one spelling.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Some(text)
            .filter(|text| text.len() == 36)
            .and_then(|text| Uuid::try_parse(text).ok())
            .map(Self)
            .ok_or_else(|| InvalidId::new(text, "a UUID"))
    }
}

text_serde!(AgentId);

described! {
    AgentId => schema::text(
        "Names one agent: a UUID.",
        "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$",
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_read_back_and_sort_by_age() {
        let older = GrantId::generate(Timestamp::from_millis(1_000));
        let newer = GrantId::generate(Timestamp::from_millis(2_000));
        assert!(older < newer);
        assert_eq!(older.to_string().parse::<GrantId>().unwrap(), older);
        assert!(
            older.to_string().parse::<DecisionId>().is_err(),
            "another kind of id"
        );
    }

    #[test]
    fn odd_names_are_refused() {
        for text in [
            "",
            "a/b",
            "denied/../allowed",
            "a b",
            "a\nb",
            "ä",
            "*",
            "-x",
            &"x".repeat(200),
        ] {
            assert!(text.parse::<AgentName>().is_err(), "agent `{text}`");
            assert!(text.parse::<ServiceName>().is_err(), "service `{text}`");
            assert!(text.parse::<CommandName>().is_err(), "command `{text}`");
            assert!(text.parse::<UserId>().is_err(), "user `{text}`");
        }
        assert!(
            "6f1b8a52-9f0d-4a4e-8f11-1d2c3b4a5e6f"
                .parse::<AgentName>()
                .is_err(),
            "looks like an id"
        );
        assert!(
            "{6f1b8a52-9f0d-4a4e-8f11-1d2c3b4a5e6f}"
                .parse::<AgentId>()
                .is_err(),
            "one spelling only"
        );
    }

    #[test]
    fn a_refused_text_is_shown_short_and_printable() {
        let error = "x\u{1b}[31m"
            .repeat(5_000)
            .parse::<AgentName>()
            .unwrap_err()
            .to_string();
        assert!(error.len() < 1_000 && !error.contains('\u{1b}'), "{error}");
    }
}
