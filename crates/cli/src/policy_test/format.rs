//! What a `*.test.yaml` says: its keys, and how its values are written.

use std::{
    collections::BTreeMap, collections::BTreeSet, fmt, net::IpAddr, str::FromStr, time::Duration,
};

use authz::{
    AgentName, CommandKey, CommandName, Risk, RoleName, ServiceName, Session, TeamName, Timestamp,
    UserId, ZoneName, approval::Reach, command::Environment,
};
use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::{Map, Value};
pub(super) use serde_saphyr::Spanned;

/// One file.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    /// Files with fixtures, relative to this one; later ones win, and this one over all.
    pub(super) include: Vec<Spanned<String>>,
    /// What the tests start from, unless they say.
    pub(super) now: Option<Spanned<Moment>>,
    pub(super) ip: Option<IpAddr>,
    pub(super) session: SessionPatch,
    pub(super) agents: BTreeMap<AgentName, Spanned<AgentPatch>>,
    pub(super) users: BTreeMap<UserId, Spanned<UserPatch>>,
    pub(super) services: BTreeMap<ServiceName, Spanned<ServicePatch>>,
    pub(super) tests: Vec<Spanned<Test>>,
}

/// Fixtures alone: what `with` patches for one test.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Overlay {
    pub(super) agents: BTreeMap<AgentName, Spanned<AgentPatch>>,
    pub(super) users: BTreeMap<UserId, Spanned<UserPatch>>,
    pub(super) services: BTreeMap<ServiceName, Spanned<ServicePatch>>,
}

/// An agent, or what an overlay changes of one.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct AgentPatch {
    pub(super) owner: Option<UserId>,
    pub(super) teams: Option<BTreeSet<TeamName>>,
    pub(super) roles: Option<BTreeSet<RoleName>>,
    pub(super) env: Option<Environment>,
    pub(super) trust: Option<u8>,
    pub(super) suspended: Option<bool>,
    pub(super) allowed: Option<BTreeSet<ServiceName>>,
}

/// A user, or what an overlay changes of one.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct UserPatch {
    pub(super) teams: Option<BTreeSet<TeamName>>,
    pub(super) roles: Option<BTreeSet<RoleName>>,
    pub(super) active: Option<bool>,
}

/// A service that has no description, or what is told otherwise of one that has.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ServicePatch {
    pub(super) env: Option<Environment>,
    pub(super) owners: Option<TeamName>,
    pub(super) zones: Option<BTreeSet<ZoneName>>,
    pub(super) commands: BTreeMap<CommandName, CommandPatch>,
}

/// A command of such a service.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct CommandPatch {
    pub(super) risk: Option<Risk>,
    pub(super) zones: Option<BTreeSet<ZoneName>>,
    pub(super) pinned: Option<bool>,
}

/// A test, or a row of its table: what a row says goes before what the test says.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Test {
    pub(super) name: Option<String>,
    pub(super) agent: Option<Spanned<AgentName>>,
    pub(super) call: Option<Spanned<Call>>,
    pub(super) grants: Option<Vec<Spanned<Given>>>,
    pub(super) user: Option<Spanned<UserId>>,
    pub(super) may: Option<May>,
    pub(super) reach: Option<Reach>,
    #[serde(rename = "for")]
    pub(super) life: Option<Span>,
    /// How long ago the person proved a second factor; [default: never]
    pub(super) mfa: Option<Span>,
    pub(super) requester: Option<Spanned<UserId>>,
    pub(super) approved_by: Option<Vec<Spanned<UserId>>>,
    pub(super) now: Option<Spanned<Moment>>,
    pub(super) ip: Option<IpAddr>,
    pub(super) session: SessionPatch,
    /// Fixtures for this test only.
    pub(super) with: Option<Overlay>,
    pub(super) expect: Option<Spanned<Expect>>,
    pub(super) table: Vec<Spanned<Test>>,
}

/// A session, or what an overlay changes of one. What nothing says is as in a fresh one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct SessionPatch {
    pub(super) tainted: Option<bool>,
    pub(super) calls: Option<u32>,
    /// How long ago it began.
    pub(super) began: Option<Span>,
}

impl SessionPatch {
    /// This one, and another on top.
    pub(super) fn under(self, other: Self) -> Self {
        Self {
            tainted: other.tainted.or(self.tainted),
            calls: other.calls.or(self.calls),
            began: other.began.or(self.began),
        }
    }

    /// The session of a call at that time.
    pub(super) fn at(self, now: Timestamp) -> Session {
        let fresh = Session::fresh(now);
        Session {
            started: self.began.map_or(now, |began| now.minus(began.0)),
            calls: self.calls.unwrap_or(fresh.calls),
            tainted: self.tainted.unwrap_or(fresh.tainted),
            ..fresh
        }
    }
}

/// What is asked of policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum May {
    /// An agent: send the command. What is asked unless a test says otherwise.
    Invoke,
    /// An agent: see that the command exists.
    List,
    /// A person: approve what the agent asks for.
    Approve,
    /// A person: reject it.
    Reject,
    /// A person: take back the agent's grants.
    Revoke,
    /// A person: see the control plane.
    View,
    /// A person: create and change agents.
    ManageAgents,
    /// A person: create and change people.
    ManageUsers,
    /// A person: activate policy sets.
    ManagePolicies,
}

/// A call as an agent sends it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Call {
    /// `/mcp-coolify servers list`.
    Slash(String),
    /// A structured body.
    Body {
        service: String,
        operation: String,
        args: Map<String, Value>,
    },
}

impl<'de> Deserialize<'de> for Call {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Body {
            service: String,
            operation: String,
            #[serde(default)]
            args: Map<String, Value>,
        }

        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Call;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a slash command, or `service`, `operation` and `args`")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Call, E> {
                Ok(Call::Slash(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Call, A::Error> {
                let Body {
                    service,
                    operation,
                    args,
                } = Body::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Call::Body {
                    service,
                    operation,
                    args,
                })
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// A grant that the agent has.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Given {
    /// For one command, whatever the arguments.
    #[serde(default)]
    pub(super) command: Option<CommandKey>,
    /// For every command of a service.
    #[serde(default)]
    pub(super) service: Option<ServiceName>,
    /// For a call with its arguments; `this` is the test's own.
    #[serde(default)]
    pub(super) call: Option<Call>,
    /// Who approved: one person, or two.
    pub(super) by: Vec<UserId>,
    #[serde(rename = "for")]
    pub(super) life: Span,
    /// [default: that of the command; `write` for a service]
    #[serde(default)]
    pub(super) risk: Option<Risk>,
    #[serde(default)]
    pub(super) single_use: bool,
    /// [default: the file's `now`, not the row's]
    #[serde(default)]
    pub(super) issued: Option<Moment>,
}

/// A span of time: `90s`, `15m`, `1h`, `1h30m`, `2d`, `1s500ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span(pub(super) Duration);

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("`{text}` is not a span of time such as 90s, 15m, 1h30m or 2d");
        let mut millis = 0_u64;
        let mut rest = text;
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (number, after) = rest.split_at(digits);
            let (unit, letters) = match after.as_bytes() {
                [b'm', b's', ..] => (1, 2),
                [b's', ..] => (1_000, 1),
                [b'm', ..] => (60_000, 1),
                [b'h', ..] => (3_600_000, 1),
                [b'd', ..] => (86_400_000, 1),
                _ => return Err(wrong()),
            };
            let part = number
                .parse::<u64>()
                .ok()
                .and_then(|number| number.checked_mul(unit));
            millis = part
                .and_then(|part| millis.checked_add(part))
                .ok_or_else(wrong)?;
            rest = after.get(letters..).unwrap_or_default();
        }
        if text.is_empty() {
            return Err(wrong());
        }
        Ok(Self(Duration::from_millis(millis)))
    }
}

/// A time: RFC 3339, or so long after (`+61m`) or before (`-5m`) the file's `now`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    At(Timestamp),
    After(Duration),
    Before(Duration),
}

impl Moment {
    pub(super) fn from(self, base: Timestamp) -> Timestamp {
        match self {
            Self::At(time) => time,
            Self::After(span) => base.plus(span),
            Self::Before(span) => base.minus(span),
        }
    }
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match (text.strip_prefix('+'), text.strip_prefix('-')) {
            (Some(span), _) => Ok(Self::After(span.parse::<Span>()?.0)),
            (_, Some(span)) => Ok(Self::Before(span.parse::<Span>()?.0)),
            _ => text
                .parse()
                .map(Self::At)
                .map_err(|error: authz::time::InvalidTimestamp| {
                    format!("{error}, nor a span from the file's `now` such as +61m or -5m")
                }),
        }
    }
}

macro_rules! from_text {
    ($($of:ty),*) => {$(
        impl<'de> Deserialize<'de> for $of {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    )*};
}

from_text!(Span, Moment, Longest);

/// What should come.
#[derive(Clone, Debug)]
pub(super) struct Expect {
    pub(super) verdict: Verdict,
    pub(super) details: Details,
}

/// The three answers that a command can get; people get the first two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    Permit,
    Hard,
    Escalate,
    /// Only expected, never an answer: hard or escalate.
    Refuse,
    /// Of a test in the form of `cedar run-tests`: Cedar by itself permits.
    #[serde(skip_deserializing)]
    Allow,
    /// Likewise: it does not.
    #[serde(skip_deserializing)]
    Deny,
}

impl Verdict {
    /// Whether an answer is what is expected.
    pub(crate) fn expects(self, came: Self) -> bool {
        self == came || (self == Self::Refuse && matches!(came, Self::Hard | Self::Escalate))
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Permit => "permit",
            Self::Hard => "hard",
            Self::Escalate => "escalate",
            Self::Refuse => "refuse",
            Self::Allow => "allow",
            Self::Deny => "deny",
        })
    }
}

/// What more should be true of it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Details {
    /// Exactly the policies that decide.
    pub(super) policies: Option<BTreeSet<String>>,
    /// Some of them.
    pub(super) including: BTreeSet<String>,
    /// A part of what the agent or person is told.
    pub(super) advice: Option<String>,
    /// Exactly the policies that cannot be evaluated; none where it is not said.
    pub(super) errors: BTreeSet<String>,
    /// How many policies fail, where a test of `cedar run-tests` only counts them.
    #[serde(skip)]
    pub(super) num_errors: Option<usize>,
    /// Whether the permit rests on a grant.
    pub(super) grant: Option<bool>,
    /// How many people must approve.
    pub(super) approvals: Option<u8>,
    /// The `@workflow`.
    pub(super) workflow: Option<String>,
    /// What each of these people may choose.
    pub(super) approvers: BTreeMap<UserId, Approver>,
}

/// What one person may choose.
#[derive(Clone, Debug)]
pub(super) enum Approver {
    /// The longest that they may give, whatever the reach.
    Longest(Longest),
    /// The longest, by reach.
    By(BTreeMap<Reach, Longest>),
}

/// `none`, or a span of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Longest(pub(super) Option<Duration>);

impl FromStr for Longest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "none" {
            Ok(Self(None))
        } else {
            Ok(Self(Some(text.parse::<Span>()?.0)))
        }
    }
}

impl<'de> Deserialize<'de> for Approver {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Approver;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`none`, a span such as 8h, or spans by reach")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Approver, E> {
                text.parse().map(Approver::Longest).map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Approver, A::Error> {
                Deserialize::deserialize(MapAccessDeserializer::new(map)).map(Approver::By)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl<'de> Deserialize<'de> for Expect {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// A list of policies, or details by name, or nothing.
        struct ListOrDetails(Details);
        impl<'de> Deserialize<'de> for ListOrDetails {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(DetailsVisitor).map(Self)
            }
        }
        struct DetailsVisitor;
        impl<'de> Visitor<'de> for DetailsVisitor {
            type Value = Details;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of exactly the policies that decide, or `policies`, `including`, `advice`, …")
            }

            fn visit_unit<E: de::Error>(self) -> Result<Details, E> {
                Ok(Details::default())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Details, A::Error> {
                let mut policies = BTreeSet::new();
                while let Some(policy) = list.next_element()? {
                    policies.insert(policy);
                }
                Ok(Details {
                    policies: Some(policies),
                    ..Details::default()
                })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Details, A::Error> {
                Details::deserialize(MapAccessDeserializer::new(map))
            }
        }

        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Expect;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("permit, hard, escalate or refuse, alone or with details")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Expect, E> {
                let verdict = Verdict::deserialize(de::value::StrDeserializer::new(text))?;
                Ok(Expect {
                    verdict,
                    details: Details::default(),
                })
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Expect, A::Error> {
                let Some((verdict, ListOrDetails(details))) = map.next_entry()? else {
                    return Err(de::Error::custom(
                        "nothing is expected: say permit, hard, escalate or refuse",
                    ));
                };
                if map.next_key::<String>()?.is_some() {
                    return Err(de::Error::custom("one answer can be expected, not two"));
                }
                Ok(Expect { verdict, details })
            }
        }
        deserializer.deserialize_any(Either)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_moments_read() {
        for (text, seconds) in [("90s", 90), ("15m", 900), ("1h30m", 5_400), ("2d", 172_800)] {
            assert_eq!(text.parse::<Span>().unwrap().0.as_secs(), seconds, "{text}");
        }
        let odd = "1m1s500ms".parse::<Span>().unwrap();
        assert_eq!(odd.0.as_millis(), 61_500);
        for text in ["", "h", "1", "1x", "-1h", "99999999999999999999s", "1h "] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
        let noon = "2026-11-22T12:00:00Z".parse::<Timestamp>().unwrap();
        let at = |text: &str| text.parse::<Moment>().unwrap().from(noon).to_string();
        assert_eq!(at("+61m"), "2026-11-22T13:01:00.000Z");
        assert_eq!(at("-5m"), "2026-11-22T11:55:00.000Z");
        assert_eq!(at("2026-01-01T00:00:00Z"), "2026-01-01T00:00:00.000Z");
        assert!("tomorrow".parse::<Moment>().is_err());
    }
}
