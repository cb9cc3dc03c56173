//! Who is told what, and when: pure, by what a target's settings say.

use std::time::Duration;

use authz::Timestamp;
use contract::notifications::{Data, Event, EventKind, Pace, QuietHours, Rules};
use jiff::{civil::Time, tz::TimeZone};

/// What people are told of when a rule names no events: what they can or must do
/// something about, and how it ended.
const USUAL: [EventKind; 6] = [
    EventKind::RequestOpened,
    EventKind::RequestDecided,
    EventKind::RequestExpiring,
    EventKind::RequestExpired,
    EventKind::AgentSuspended,
    EventKind::PolicyBroken,
];

/// What one agent asks for within this is one message to people.
const GROUP: Duration = Duration::from_secs(20);

/// The longest that a message may be held back to be grouped: an hour.
const MAX_GROUP_SECONDS: u32 = 3_600;

/// The longest digest: a day.
const MAX_DIGEST_MINUTES: u32 = 24 * 60;

/// Whether the target is to be told of this.
pub(super) fn concerns(rules: &Rules, event: &Event) -> bool {
    let named = if rules.events.is_empty() {
        USUAL.contains(&event.kind)
    } else {
        rules.events.contains(&event.kind)
    };
    named
        && match &event.data {
            Data::Request(request) => {
                (rules.services.is_empty() || rules.services.contains(&request.service))
                    && rules.risk.is_none_or(|lowest| request.risk >= lowest)
                    && (rules.teams.is_empty() || !rules.teams.is_disjoint(&request.teams))
            }
            Data::Agent(agent) => rules.teams.is_empty() || !rules.teams.is_disjoint(&agent.teams),
            // A policy set concerns everyone.
            Data::Policy(_) => true,
            Data::Digest(_) | Data::Test(_) => false,
        }
}

/// Which message an event joins, if one waits (empty: none), and when a new one is sent.
pub(super) fn when(pace: &Pace, kind: &str, event: &Event, now: Timestamp) -> (String, Timestamp) {
    // Whoever sleeps through this one cannot decide any more.
    if event.kind == EventKind::RequestExpiring {
        return (String::new(), now);
    }
    let (mut bucket, mut due) = (String::new(), now);
    if let Some(minutes) = pace.digest_minutes.filter(|&minutes| minutes > 0) {
        "digest".clone_into(&mut bucket);
        let every = i64::from(minutes) * 60_000;
        due = Timestamp::from_millis((now.as_millis() / every + 1) * every);
    } else {
        let wait = pace.group_seconds.map_or(
            if kind == "webhook" {
                Duration::ZERO
            } else {
                GROUP
            },
            |seconds| Duration::from_secs(seconds.into()),
        );
        if let (false, Some(group)) = (wait.is_zero(), group(event)) {
            bucket = group;
            due = now.plus(wait);
        }
    }
    if let Some(end) = pace.quiet.as_ref().and_then(|quiet| ends(quiet, due)) {
        due = end;
        if bucket.is_empty() {
            "quiet".clone_into(&mut bucket);
        }
    }
    (bucket, due)
}

/// What belongs together: what one agent asks for, and how it ended, which is told apart
/// because it has no buttons.
fn group(event: &Event) -> Option<String> {
    match &event.data {
        Data::Request(request) if event.kind == EventKind::RequestOpened => {
            Some(format!("opened:{}", request.agent_id))
        }
        Data::Request(request) => Some(format!("closed:{}", request.agent_id)),
        Data::Agent(_) | Data::Policy(_) | Data::Digest(_) | Data::Test(_) => None,
    }
}

/// When the quiet hours end that `at` is in, if it is in any.
fn ends(quiet: &QuietHours, at: Timestamp) -> Option<Timestamp> {
    let (from, to, zone) = parse(quiet).ok()?;
    let local = jiff::Timestamp::from_millisecond(at.as_millis())
        .ok()?
        .to_zoned(zone.clone());
    let time = local.time();
    let (within, tomorrow) = if from < to {
        (from <= time && time < to, false)
    } else {
        (time >= from || time < to, time >= from)
    };
    if !within {
        return None;
    }
    let mut date = local.date();
    if tomorrow {
        date = date.tomorrow().ok()?;
    }
    // An hour that the clocks skip ends when they have skipped it.
    let end = date.to_datetime(to).to_zoned(zone).ok()?;
    Some(Timestamp::from_millis(end.timestamp().as_millisecond()))
}

fn parse(quiet: &QuietHours) -> Result<(Time, Time, TimeZone), String> {
    let time = |text: &str| {
        let (hour, minute) = text
            .split_once(':')
            .filter(|(hour, minute)| hour.len() == 2 && minute.len() == 2)
            .ok_or_else(|| format!("`{text}` is not a time such as 22:00"))?;
        let number = |text: &str| {
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| text.parse::<i8>().ok()).flatten()
        };
        number(hour)
            .zip(number(minute))
            .and_then(|(hour, minute)| Time::new(hour, minute, 0, 0).ok())
            .ok_or_else(|| format!("`{text}` is not a time such as 22:00"))
    };
    let zone = match quiet.zone.as_deref() {
        None | Some("UTC") => TimeZone::UTC,
        Some(name) => TimeZone::get(name)
            .map_err(|_| format!("`{name}` is not a time zone such as Europe/Berlin"))?,
    };
    let (from, to) = (time(&quiet.from)?, time(&quiet.to)?);
    if from == to {
        return Err("quiet hours that end when they begin would last all day".to_owned());
    }
    Ok((from, to, zone))
}

/// # Errors
///
/// What is wrong with it, and of which field.
pub(super) fn check(rules: &Rules, pace: &Pace) -> Result<(), (&'static str, String)> {
    if let Some(kind) = rules
        .events
        .iter()
        .find(|kind| !EventKind::ALL.contains(kind))
    {
        let what = format!("`{}` is not something that happens", kind.as_str());
        return Err(("rules.events", what));
    }
    if pace
        .group_seconds
        .is_some_and(|seconds| seconds > MAX_GROUP_SECONDS)
    {
        return Err(("pace.group_seconds", format!("at most {MAX_GROUP_SECONDS}")));
    }
    if pace
        .digest_minutes
        .is_some_and(|minutes| minutes > MAX_DIGEST_MINUTES)
    {
        return Err((
            "pace.digest_minutes",
            format!("at most {MAX_DIGEST_MINUTES}"),
        ));
    }
    match &pace.quiet {
        None => Ok(()),
        Some(quiet) => parse(quiet).map(drop).map_err(|why| ("pace.quiet", why)),
    }
}

#[cfg(test)]
mod tests {
    use authz::{AgentId, Risk};
    use contract::notifications::{AgentData, PolicyData};

    use super::{super::snapshot::tests::request, *};

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn opened() -> Event {
        request(EventKind::RequestOpened)
    }

    fn rules(change: impl FnOnce(&mut Rules)) -> Rules {
        let mut rules = Rules::default();
        change(&mut rules);
        rules
    }

    #[test]
    fn rules_narrow() {
        let agent = Event {
            kind: EventKind::AgentSuspended,
            timestamp: at("2026-11-22T10:00:00Z"),
            data: Data::Agent(AgentData {
                agent_id: AgentId::LOCAL,
                agent_name: "local".parse().unwrap(),
                teams: ["platform".parse().unwrap()].into(),
                owner: None,
            }),
        };
        let policy = |kind| Event {
            kind,
            timestamp: at("2026-11-22T10:00:00Z"),
            data: Data::Policy(PolicyData {
                policy_set: serde_json::from_str(&format!("\"{:064}\"", 1)).unwrap(),
                by: String::new(),
                note: String::new(),
            }),
        };
        let activated = policy(EventKind::PolicyActivated);
        let team = |name: &str| {
            let name = name.parse().unwrap();
            rules(|rules| rules.teams = [name].into())
        };
        let cases = [
            ("usual", Rules::default(), opened(), true),
            (
                "usual",
                Rules::default(),
                request(EventKind::RequestAdvanced),
                false,
            ),
            ("usual", Rules::default(), activated.clone(), false),
            (
                "usual",
                Rules::default(),
                policy(EventKind::PolicyBroken),
                true,
            ),
            (
                "named",
                rules(|rules| rules.events = [EventKind::PolicyActivated].into()),
                activated,
                true,
            ),
            (
                "named",
                rules(|rules| rules.events = [EventKind::PolicyActivated].into()),
                opened(),
                false,
            ),
            (
                "service",
                rules(|rules| rules.services = ["coolify".parse().unwrap()].into()),
                opened(),
                true,
            ),
            (
                "service",
                rules(|rules| rules.services = ["github".parse().unwrap()].into()),
                opened(),
                false,
            ),
            (
                "risk",
                rules(|rules| rules.risk = Some(Risk::Write)),
                opened(),
                true,
            ),
            (
                "risk",
                rules(|rules| rules.risk = Some(Risk::Destroy)),
                opened(),
                false,
            ),
            ("team", team("platform"), opened(), true),
            ("team", team("data"), opened(), false),
            ("team", team("platform"), agent.clone(), true),
            ("team", team("data"), agent, false),
            ("team", team("data"), policy(EventKind::PolicyBroken), true),
        ];
        for (what, rules, event, expected) in cases {
            assert_eq!(
                concerns(&rules, &event),
                expected,
                "{what}: {rules:?} {event:?}"
            );
        }
    }

    #[test]
    #[allow(clippy::too_many_lines, reason = "a table of cases is long")]
    fn messages_are_grouped_collected_and_held_back() {
        let now = at("2026-11-22T10:07:30.000Z");
        let agent = AgentId::LOCAL;
        let quiet = |from: &str, to: &str, zone: Option<&str>| Pace {
            quiet: Some(QuietHours {
                from: from.to_owned(),
                to: to.to_owned(),
                zone: zone.map(str::to_owned),
            }),
            ..Pace::default()
        };
        let group = |seconds| Pace {
            group_seconds: Some(seconds),
            ..Pace::default()
        };
        let digest = |minutes| Pace {
            digest_minutes: Some(minutes),
            ..Pace::default()
        };
        let opened_group = format!("opened:{agent}");
        let cases = [
            (
                Pace::default(),
                "slack",
                EventKind::RequestOpened,
                opened_group.as_str(),
                "2026-11-22T10:07:50.000Z",
            ),
            (
                Pace::default(),
                "slack",
                EventKind::RequestDecided,
                &format!("closed:{agent}"),
                "2026-11-22T10:07:50.000Z",
            ),
            (
                Pace::default(),
                "webhook",
                EventKind::RequestOpened,
                "",
                "2026-11-22T10:07:30.000Z",
            ),
            (
                group(0),
                "slack",
                EventKind::RequestOpened,
                "",
                "2026-11-22T10:07:30.000Z",
            ),
            (
                group(60),
                "webhook",
                EventKind::RequestOpened,
                &opened_group,
                "2026-11-22T10:08:30.000Z",
            ),
            (
                digest(15),
                "email",
                EventKind::RequestOpened,
                "digest",
                "2026-11-22T10:15:00.000Z",
            ),
            (
                digest(15),
                "email",
                EventKind::RequestExpiring,
                "",
                "2026-11-22T10:07:30.000Z",
            ),
            (
                quiet("10:00", "11:00", None),
                "webhook",
                EventKind::RequestOpened,
                "quiet",
                "2026-11-22T11:00:00.000Z",
            ),
            (
                quiet("10:00", "11:00", None),
                "slack",
                EventKind::RequestOpened,
                &opened_group,
                "2026-11-22T11:00:00.000Z",
            ),
            (
                quiet("10:00", "11:00", None),
                "slack",
                EventKind::RequestExpiring,
                "",
                "2026-11-22T10:07:30.000Z",
            ),
            (
                quiet("11:00", "10:00", None),
                "webhook",
                EventKind::RequestOpened,
                "",
                "2026-11-22T10:07:30.000Z",
            ),
            (
                quiet("10:07", "07:00", None),
                "webhook",
                EventKind::RequestOpened,
                "quiet",
                "2026-11-23T07:00:00.000Z",
            ),
            (
                quiet("22:00", "10:08", None),
                "webhook",
                EventKind::RequestOpened,
                "quiet",
                "2026-11-22T10:08:00.000Z",
            ),
            // 19:07:30 in Tokyo.
            (
                quiet("19:00", "08:00", Some("Asia/Tokyo")),
                "webhook",
                EventKind::RequestOpened,
                "quiet",
                "2026-11-22T23:00:00.000Z",
            ),
            (
                quiet("20:00", "08:00", Some("Asia/Tokyo")),
                "webhook",
                EventKind::RequestOpened,
                "",
                "2026-11-22T10:07:30.000Z",
            ),
        ];
        for (pace, kind, event, bucket, due) in cases {
            assert_eq!(check(&Rules::default(), &pace), Ok(()), "{pace:?}");
            assert_eq!(
                when(&pace, kind, &request(event), now),
                (bucket.to_owned(), at(due)),
                "{pace:?} {kind} {event:?}"
            );
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let quiet = |from: &str, to: &str, zone: &str| Pace {
            quiet: Some(QuietHours {
                from: from.to_owned(),
                to: to.to_owned(),
                zone: Some(zone.to_owned()),
            }),
            ..Pace::default()
        };
        for pace in [
            quiet("22:00", "22:00", "UTC"),
            quiet("24:00", "07:00", "UTC"),
            quiet("22", "07:00", "UTC"),
            quiet("+1:00", "07:00", "UTC"),
            quiet("22:00", "07:60", "UTC"),
            quiet("22:00", "07:00", "Europe/Atlantis"),
            Pace {
                digest_minutes: Some(1_441),
                ..Pace::default()
            },
            Pace {
                group_seconds: Some(3_601),
                ..Pace::default()
            },
        ] {
            assert!(check(&Rules::default(), &pace).is_err(), "{pace:?}");
        }
        let odd = Rules {
            events: [EventKind::Digest].into(),
            ..Rules::default()
        };
        assert!(check(&odd, &Pace::default()).is_err());
    }
}
