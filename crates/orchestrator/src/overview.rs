//! What happened lately, from counters.

use std::{collections::BTreeMap, time::Duration};

use authz::{AgentId, AgentRef, Timestamp};
use contract::overview::{Decisions, Durations, Overview, Range, Ranked, Slot};
use store::{
    StoreError,
    activity::{BOUNDS, Count, Measure, Slots},
};

use crate::{Orchestrator, error::Error};

/// So many places of each ranking.
const RANKED: u32 = 8;

/// At most so many waits are looked at: people decide a few times an hour.
const MAX_WAITS: u32 = 10_000;

/// How finely a range is shown, and in how many slots.
const fn slots(range: Range) -> (Slots, usize) {
    match range {
        Range::Hour => (Slots::Minute, 60),
        Range::Day => (Slots::TenMinutes, 144),
        Range::Week => (Slots::Hour, 168),
    }
}

/// Looks at a range until now.
///
/// # Errors
///
/// When the store fails.
pub(crate) async fn look(orchestrator: &Orchestrator, range: Range) -> Result<Overview, Error> {
    let now = orchestrator.now();
    let (kind, number) = slots(range);
    let length = Duration::from_millis(kind.millis().unsigned_abs());
    let last = kind.begin(now);
    let from = last.minus(length * u32::try_from(number - 1).unwrap_or(u32::MAX));
    let until = last.plus(length);
    let store = orchestrator.store();
    let counted = |measure| store.activity(measure, kind, from, until);

    let mut begun: BTreeMap<Timestamp, Building> = (0..number)
        .map(|place| {
            let at = from.plus(length * u32::try_from(place).unwrap_or(u32::MAX));
            (at, Building::default())
        })
        .collect();
    let mut all = Building::default();
    for measure in [
        Measure::Decision,
        Measure::DecisionTime,
        Measure::CommandTime,
    ] {
        for count in counted(measure).await? {
            all.add(measure, &count);
            if let Some(slot) = begun.get_mut(&count.begins) {
                slot.add(measure, &count);
            }
        }
    }
    let top = |measure| store.activity_top(measure, kind, from, until, RANKED);
    let waits = store.approval_waits(from, until, MAX_WAITS).await?;
    Ok(Overview {
        range,
        from,
        until: now,
        slot_seconds: length.as_secs(),
        total: all.decisions,
        slots: begun
            .into_iter()
            .map(|(at, slot)| Slot {
                at,
                decisions: slot.decisions,
                command_times: slot.commands.durations(),
                decision_times: slot.deciding.durations(),
            })
            .collect(),
        refused_by_policy: top(Measure::RefusedPolicy)
            .await?
            .into_iter()
            .map(by_policy)
            .collect(),
        refused_agents: named(orchestrator, top(Measure::RefusedAgent).await?).await?,
        refused_commands: top(Measure::RefusedCommand)
            .await?
            .into_iter()
            .map(|(key, count)| Ranked {
                key,
                name: None,
                count,
            })
            .collect(),
        waits: of_waits(waits),
        decision_times: all.deciding.durations(),
        command_times: all.commands.durations(),
        waiting: store.approvals_waiting(now).await?,
    })
}

/// Refusals that no policy made are counted under the word for what did.
fn by_policy((key, count): (String, u64)) -> Ranked {
    let name = match key.as_str() {
        "" => Some("no policy permits it".to_owned()),
        other => other.strip_prefix('!').map(|reason| match reason {
            "policy_error" => "a policy could not be evaluated".to_owned(),
            "orchestrator" => "the orchestrator was out of reach".to_owned(),
            other => format!("not decided: {other}"),
        }),
    };
    Ranked { key, name, count }
}

/// Under which name a refusal is counted that names no policy.
pub(crate) fn no_policy(reason: &str) -> String {
    if reason == "policy" {
        String::new()
    } else {
        format!("!{reason}")
    }
}

async fn named(
    orchestrator: &Orchestrator,
    agents: Vec<(String, u64)>,
) -> Result<Vec<Ranked>, Error> {
    let mut ranked = Vec::with_capacity(agents.len());
    for (key, count) in agents {
        let name = match key.parse::<AgentId>() {
            Ok(id) => match orchestrator.store().agent(&AgentRef::Id(id)).await {
                Ok(stored) => Some(stored.agent.name.to_string()),
                Err(StoreError::NotFound(_)) => None,
                Err(error) => return Err(error.into()),
            },
            Err(_) => None,
        };
        ranked.push(Ranked { key, name, count });
    }
    Ok(ranked)
}

/// Numbers that are being added up.
#[derive(Debug, Default)]
struct Building {
    decisions: Decisions,
    deciding: Histogram,
    commands: Histogram,
}

impl Building {
    fn add(&mut self, measure: Measure, count: &Count) {
        match measure {
            Measure::Decision => {
                let decisions = &mut self.decisions;
                let number = match count.name.as_str() {
                    "permitted" => &mut decisions.permitted,
                    "pending" => &mut decisions.pending,
                    "rejected" => &mut decisions.rejected,
                    _ => &mut decisions.refused,
                };
                *number = number.saturating_add(count.times);
            }
            Measure::DecisionTime => self.deciding.add(count),
            Measure::CommandTime => self.commands.add(count),
            Measure::RefusedPolicy | Measure::RefusedAgent | Measure::RefusedCommand => {}
        }
    }
}

/// How often something took up to a bound, in microseconds.
#[derive(Debug, Default)]
struct Histogram(BTreeMap<i64, u64>);

impl Histogram {
    fn add(&mut self, count: &Count) {
        // Written by us: anything else is not counted rather than counted wrongly.
        if let Ok(bound) = count.name.parse() {
            let times = self.0.entry(bound).or_default();
            *times = times.saturating_add(count.times);
        }
    }

    fn durations(&self) -> Durations {
        let count = self.0.values().sum();
        Durations {
            count,
            p50_ms: self.within(count, 0.5),
            p95_ms: self.within(count, 0.95),
        }
    }

    /// How long the quickest `part` of all took at most, in milliseconds: between the
    /// bounds as if times were spread evenly.
    #[allow(
        clippy::cast_precision_loss,
        reason = "counts and microseconds of a chart are far below 2^52"
    )]
    fn within(&self, count: u64, part: f64) -> Option<f64> {
        if count == 0 {
            return None;
        }
        let wanted = count as f64 * part;
        let mut before = 0.0;
        for (&bound, &times) in &self.0 {
            let times = times as f64;
            if before + times >= wanted {
                let lower = BOUNDS
                    .into_iter()
                    .rev()
                    .find(|known| *known < bound)
                    .unwrap_or(0);
                let width = (bound - lower) as f64;
                let micros = lower as f64 + width * ((wanted - before) / times);
                return Some(micros / 1_000.0);
            }
            before += times;
        }
        None
    }
}

/// Exactly, since each is known.
fn of_waits(mut waits: Vec<Duration>) -> Durations {
    waits.sort_unstable();
    let within = |numerator: usize| {
        let place = (waits.len() * numerator).div_ceil(100).saturating_sub(1);
        waits.get(place).map(|wait| wait.as_secs_f64() * 1_000.0)
    };
    Durations {
        count: u64::try_from(waits.len()).unwrap_or(u64::MAX),
        p50_ms: within(50),
        p95_ms: within(95),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(counts: &[(i64, u64)]) -> Histogram {
        let mut histogram = Histogram::default();
        for (bound, times) in counts {
            histogram.add(&Count {
                begins: Timestamp::from_millis(0),
                name: bound.to_string(),
                times: *times,
            });
        }
        histogram
    }

    #[test]
    fn parts_of_a_histogram_lie_between_its_bounds() {
        assert_eq!(histogram(&[]).durations(), Durations::default());
        // All between 1 and 2 ms: half of them within 1.5 ms.
        let even = histogram(&[(2_000, 10)]).durations();
        assert_eq!((even.count, even.p50_ms), (10, Some(1.5)));
        // 90 quick ones, 10 slow ones between 50 and 100 ms.
        let mixed = histogram(&[(1_000, 90), (100_000, 10)]).durations();
        assert!(mixed.p50_ms.unwrap() < 1.0, "{mixed:?}");
        assert_eq!(mixed.p95_ms, Some(75.0));
    }

    #[test]
    fn waits_are_exact() {
        assert_eq!(of_waits(Vec::new()), Durations::default());
        let waits = (1..=100).rev().map(Duration::from_secs).collect();
        let durations = of_waits(waits);
        assert_eq!(
            (durations.p50_ms, durations.p95_ms),
            (Some(50_000.0), Some(95_000.0))
        );
        let one = of_waits(vec![Duration::from_secs(3)]);
        assert_eq!(one.p50_ms, one.p95_ms);
    }

    #[test]
    fn what_no_policy_refused_has_a_name() {
        let name = |reason| by_policy((no_policy(reason), 1)).name.unwrap();
        assert_eq!(name("policy"), "no policy permits it");
        assert_eq!(name("policy_error"), "a policy could not be evaluated");
        assert_eq!(name("journal"), "not decided: journal");
        assert_eq!(by_policy(("base.wall".to_owned(), 1)).name, None);
    }
}
