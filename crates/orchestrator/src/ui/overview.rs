//! The overview: what happened lately, as charts that are drawn here.

use askama::Template;
use authz::Timestamp;
use axum::{Router, extract::State, response::Response, routing::get};
use contract::overview::{Decisions, Durations, Overview, Range, Ranked, Slot};
use serde::Deserialize;

use super::{Frame, Trouble, Visitor, page};
use crate::{
    Orchestrator, api::Parameters, audit_query::encoded, error::Error, overview, ui::moment::span,
};

pub(super) fn routes() -> Router<Orchestrator> {
    Router::new().route("/overview", get(show))
}

#[derive(Template)]
#[template(path = "overview.html")]
struct Page {
    frame: Frame,
    ranges: Vec<RangeLink>,
    /// As people say it: `the last hour`.
    range: &'static str,
    slot: String,
    total: Decisions,
    all: u64,
    permitted_part: String,
    waiting: u64,
    waits: Shown,
    deciding: Shown,
    commands: Shown,
    decisions: Bars,
    times: Times,
    rankings: Vec<Ranking>,
    rows: Vec<Row>,
}

struct RangeLink {
    name: &'static str,
    href: String,
    here: bool,
}

/// Two durations, in words.
struct Shown {
    count: u64,
    p50: String,
    p95: String,
}

impl Shown {
    fn of(durations: Durations) -> Self {
        let text = |millis: Option<f64>| millis.map_or_else(|| "–".to_owned(), milliseconds);
        Self {
            count: durations.count,
            p50: text(durations.p50_ms),
            p95: text(durations.p95_ms),
        }
    }
}

/// A chart of stacked bars, 1000 wide and 100 high.
struct Bars {
    /// The decisions that the top stands for.
    top: u64,
    half: String,
    columns: Vec<Bar>,
    marks: Vec<String>,
}

struct Bar {
    title: String,
    parts: Vec<Part>,
}

/// A rectangle.
struct Part {
    class: &'static str,
    x: String,
    y: String,
    width: String,
    height: String,
}

/// A chart of spans from p50 to p95, by the logarithm of time.
struct Times {
    lines: Vec<TimeLine>,
    spans: Vec<Bar>,
}

/// A horizontal line with what it stands for, from the top.
struct TimeLine {
    y: String,
    name: String,
}

struct Ranking {
    heading: &'static str,
    none: &'static str,
    places: Vec<Place>,
}

struct Place {
    name: String,
    href: Option<String>,
    count: u64,
    /// Of 100.
    width: String,
}

/// One line of the table that says what the charts show.
struct Row {
    at: String,
    decisions: Decisions,
    deciding: Shown,
    commands: Shown,
}

#[derive(Deserialize)]
struct HowFar {
    #[serde(default)]
    range: Range,
}

/// `GET /overview?range=`.
async fn show(
    Visitor { frame, .. }: Visitor,
    State(orchestrator): State<Orchestrator>,
    how_far: Result<Parameters<HowFar>, Error>,
) -> Result<Response, Trouble> {
    let Parameters(HowFar { range }) = how_far?;
    let overview = overview::look(&orchestrator, range).await?;
    Ok(page(&Page {
        ranges: Range::ALL
            .into_iter()
            .map(|known| link(known, range))
            .collect(),
        range: words(range),
        slot: span(std::time::Duration::from_secs(overview.slot_seconds)),
        total: overview.total,
        all: overview.total.all(),
        permitted_part: part(overview.total.permitted, overview.total.all()),
        waiting: overview.waiting,
        waits: Shown::of(overview.waits),
        deciding: Shown::of(overview.decision_times),
        commands: Shown::of(overview.command_times),
        decisions: bars(&overview),
        times: times(&overview.slots),
        rankings: rankings(&overview),
        rows: overview
            .slots
            .iter()
            .rev()
            .filter(|slot| slot.decisions.all() > 0 || slot.command_times.count > 0)
            .map(|slot| Row {
                at: clock(slot.at, range),
                decisions: slot.decisions,
                deciding: Shown::of(slot.decision_times),
                commands: Shown::of(slot.command_times),
            })
            .collect(),
        frame,
    }))
}

fn link(range: Range, here: Range) -> RangeLink {
    RangeLink {
        name: match range {
            Range::Hour => "1 hour",
            Range::Day => "24 hours",
            Range::Week => "7 days",
        },
        href: format!("/overview?range={}", range.as_str()),
        here: range == here,
    }
}

const fn words(range: Range) -> &'static str {
    match range {
        Range::Hour => "the last hour",
        Range::Day => "the last 24 hours",
        Range::Week => "the last 7 days",
    }
}

/// `97 %`, without ever rounding to all or nothing what is not.
fn part(some: u64, all: u64) -> String {
    if all == 0 {
        return "–".to_owned();
    }
    let percent = some.saturating_mul(100) / all;
    match percent {
        0 if some > 0 => "under 1 %".to_owned(),
        percent => format!("{percent} %"),
    }
}

/// A time of day; with the day where a range has several.
fn clock(at: Timestamp, range: Range) -> String {
    let text = at.to_string();
    let (day, time) = (
        text.get(5..10).unwrap_or_default(),
        text.get(11..16).unwrap_or_default(),
    );
    match range {
        Range::Hour | Range::Day => time.to_owned(),
        Range::Week => format!("{day} {time}"),
    }
}

/// A length of time in the unit that reads best.
fn milliseconds(millis: f64) -> String {
    let (value, unit) = if millis < 1.0 {
        (millis * 1_000.0, "µs")
    } else if millis < 1_000.0 {
        (millis, "ms")
    } else if millis < 120_000.0 {
        (millis / 1_000.0, "s")
    } else {
        return span(std::time::Duration::from_secs_f64(millis / 1_000.0));
    };
    if value < 10.0 {
        format!("{value:.1} {unit}")
    } else {
        format!("{value:.0} {unit}")
    }
}

#[allow(
    clippy::cast_precision_loss,
    reason = "numbers of a chart, far below 2^52"
)]
const fn number(count: u64) -> f64 {
    count as f64
}

/// A coordinate: as short as a chart needs.
fn coordinate(value: f64) -> String {
    format!("{value:.2}")
}

/// The least round number that is not less.
fn round_up(count: u64) -> u64 {
    let mut unit = 1_u64;
    loop {
        for step in [1, 2, 4, 6, 8] {
            let round = unit.saturating_mul(step);
            if round >= count.max(2) {
                return round;
            }
        }
        match unit.checked_mul(10) {
            Some(larger) => unit = larger,
            None => return u64::MAX,
        }
    }
}

/// Where the place of a slot begins, and how wide its bar is.
fn place(index: usize, slots: usize) -> (f64, f64) {
    let step = 1_000.0 / number(u64::try_from(slots.max(1)).unwrap_or(1));
    let gap = step * 0.18;
    let x = step * number(u64::try_from(index).unwrap_or(0)) + gap / 2.0;
    (x, step - gap)
}

fn bars(overview: &Overview) -> Bars {
    let slots = &overview.slots;
    let most = slots.iter().map(|slot| slot.decisions.all()).max();
    let top = round_up(most.unwrap_or(0));
    let bars = slots.iter().enumerate().filter_map(|(index, slot)| {
        let decisions = slot.decisions;
        if decisions.all() == 0 {
            return None;
        }
        let (x, width) = place(index, slots.len());
        let mut y = 100.0;
        let parts = [
            ("permitted", decisions.permitted),
            ("pending", decisions.pending),
            ("rejected", decisions.rejected),
            ("refused", decisions.refused),
        ]
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .map(|(class, count)| {
            let height = 100.0 * number(count) / number(top);
            y -= height;
            Part {
                class,
                x: coordinate(x),
                y: coordinate(y),
                width: coordinate(width),
                height: coordinate(height),
            }
        })
        .collect();
        Some(Bar {
            title: format!(
                "{}: {} permitted, {} put before people, {} refused, {} rejected before",
                clock(slot.at, overview.range),
                decisions.permitted,
                decisions.pending,
                decisions.refused,
                decisions.rejected
            ),
            parts,
        })
    });
    Bars {
        half: if top.is_multiple_of(2) {
            (top / 2).to_string()
        } else {
            String::new()
        },
        top,
        columns: bars.collect(),
        marks: marks(overview),
    }
}

/// Five times below a chart, from its left to its right.
fn marks(overview: &Overview) -> Vec<String> {
    let last = overview.slots.len().saturating_sub(1);
    (0..5)
        .filter_map(|mark| overview.slots.get(last * mark / 4))
        .map(|slot| clock(slot.at, overview.range))
        .collect()
}

/// The chart's limits, as powers of ten of milliseconds: from 10 µs to 100 s.
const LEAST: f64 = -2.0;
const MOST: f64 = 5.0;

/// How far down a time lies, of 100.
fn depth(millis: f64) -> f64 {
    let power = millis.max(0.01).log10().clamp(LEAST, MOST);
    100.0 * (MOST - power) / (MOST - LEAST)
}

fn times(slots: &[Slot]) -> Times {
    let lines = [
        (10_000.0, "10 s"),
        (1_000.0, "1 s"),
        (100.0, "100 ms"),
        (10.0, "10 ms"),
        (1.0, "1 ms"),
        (0.1, "100 µs"),
    ];
    let mut spans = Vec::new();
    for (index, slot) in slots.iter().enumerate() {
        let (x, width) = place(index, slots.len());
        for (class, durations) in [
            ("deciding", slot.decision_times),
            ("carrying", slot.command_times),
        ] {
            let (Some(p50), Some(p95)) = (durations.p50_ms, durations.p95_ms) else {
                continue;
            };
            let (low, high) = (depth(p50), depth(p95));
            spans.push(Bar {
                title: format!(
                    "{}: half within {}, 95 of 100 within {}",
                    if class == "deciding" {
                        "decisions"
                    } else {
                        "commands"
                    },
                    milliseconds(p50),
                    milliseconds(p95)
                ),
                parts: vec![Part {
                    class,
                    x: coordinate(x),
                    y: coordinate(high),
                    width: coordinate(width),
                    height: coordinate((low - high).max(1.6)),
                }],
            });
        }
    }
    Times {
        lines: lines
            .into_iter()
            .map(|(millis, name)| TimeLine {
                y: coordinate(depth(millis)),
                name: name.to_owned(),
            })
            .collect(),
        spans,
    }
}

fn rankings(overview: &Overview) -> Vec<Ranking> {
    let ranking = |heading, none, ranked: &[Ranked], href: fn(&str) -> Option<String>| {
        let most = ranked.iter().map(|one| one.count).max().unwrap_or(1).max(1);
        Ranking {
            heading,
            none,
            places: ranked
                .iter()
                .map(|one| Place {
                    name: one.name.clone().unwrap_or_else(|| one.key.clone()),
                    href: href(&one.key),
                    count: one.count,
                    width: coordinate(100.0 * number(one.count) / number(most)),
                })
                .collect(),
        }
    };
    vec![
        ranking(
            "Policies that refused most",
            "No refusal in this time.",
            &overview.refused_by_policy,
            |policy| {
                // What no policy refused names none.
                (!policy.is_empty() && !policy.starts_with('!'))
                    .then(|| format!("/audit?kind=refusal&text={}", encoded(policy)))
            },
        ),
        ranking(
            "Agents refused most",
            "No agent was refused.",
            &overview.refused_agents,
            |agent| Some(format!("/audit?kind=refusal&agent={}", encoded(agent))),
        ),
        ranking(
            "Commands refused most",
            "No command was refused.",
            &overview.refused_commands,
            |command| Some(format!("/audit?kind=refusal&command={}", encoded(command))),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overview(counts: &[u64]) -> Overview {
        let slots = counts.iter().enumerate().map(|(index, &count)| Slot {
            at: Timestamp::from_millis(1_780_000_020_000 + 60_000 * i64::try_from(index).unwrap()),
            decisions: Decisions {
                permitted: count,
                refused: count / 2,
                ..Decisions::default()
            },
            command_times: Durations {
                count,
                p50_ms: (count > 0).then_some(1.0),
                p95_ms: (count > 0).then_some(100.0),
            },
            decision_times: Durations::default(),
        });
        Overview {
            range: Range::Hour,
            from: Timestamp::from_millis(0),
            until: Timestamp::from_millis(0),
            slot_seconds: 60,
            total: Decisions::default(),
            slots: slots.collect(),
            refused_by_policy: vec![
                Ranked {
                    key: "base.<wall>".to_owned(),
                    name: None,
                    count: 8,
                },
                Ranked {
                    key: String::new(),
                    name: Some("no policy permits it".to_owned()),
                    count: 2,
                },
            ],
            refused_agents: Vec::new(),
            refused_commands: Vec::new(),
            waits: Durations::default(),
            decision_times: Durations::default(),
            command_times: Durations::default(),
            waiting: 0,
        }
    }

    #[test]
    fn bars_are_as_high_as_their_numbers() {
        let chart = bars(&overview(&[0, 4, 8]));
        assert_eq!(
            (chart.top, chart.half.as_str()),
            (20, "10"),
            "8 + 4, rounded up"
        );
        assert_eq!(chart.columns.len(), 2, "nothing is drawn for nothing");
        let parts = &chart.columns[1].parts;
        assert_eq!(
            (
                parts[0].class,
                parts[0].y.as_str(),
                parts[0].height.as_str()
            ),
            ("permitted", "60.00", "40.00")
        );
        assert_eq!((parts[1].class, parts[1].y.as_str()), ("refused", "40.00"));
        assert_eq!(chart.marks.len(), 5);
        assert_eq!(bars(&overview(&[])).marks, Vec::<String>::new());
    }

    #[test]
    fn round_numbers_are_not_less() {
        for (count, round) in [
            (0, 2),
            (1, 2),
            (3, 4),
            (9, 10),
            (11, 20),
            (41, 60),
            (u64::MAX, u64::MAX),
        ] {
            assert_eq!(round_up(count), round, "{count}");
        }
    }

    #[test]
    fn times_lie_between_their_lines() {
        let chart = times(&overview(&[1]).slots);
        assert_eq!(chart.spans.len(), 1);
        let y = |name: &str| {
            let line = chart.lines.iter().find(|line| line.name == name).unwrap();
            line.y.parse::<f64>().unwrap()
        };
        let part = &chart.spans[0].parts[0];
        let top: f64 = part.y.parse().unwrap();
        let height: f64 = part.height.parse().unwrap();
        assert!((top - y("100 ms")).abs() < 0.01);
        assert!((top + height - y("1 ms")).abs() < 0.02);
    }

    #[test]
    fn places_lead_to_the_trail_and_stay_text() {
        let all = rankings(&overview(&[1]));
        let places = &all[0].places;
        assert_eq!(
            places[0].href.as_deref(),
            Some("/audit?kind=refusal&text=base.%3Cwall%3E")
        );
        assert_eq!(
            (places[0].width.as_str(), places[1].width.as_str()),
            ("100.00", "25.00")
        );
        assert_eq!(
            (places[1].name.as_str(), &places[1].href),
            ("no policy permits it", &None)
        );
    }

    #[test]
    fn lengths_of_time_read_well() {
        for (millis, expected) in [
            (0.0123, "12 µs"),
            (0.5, "500 µs"),
            (1.25, "1.2 ms"),
            (99.6, "100 ms"),
            (1_500.0, "1.5 s"),
            (90_000.0, "90 s"),
            (200_000.0, "3 min"),
        ] {
            assert_eq!(milliseconds(millis), expected);
        }
        assert_eq!(part(0, 0), "–");
        assert_eq!(
            (part(1, 1_000), part(999, 1_000)),
            ("under 1 %".to_owned(), "99 %".to_owned())
        );
    }
}
