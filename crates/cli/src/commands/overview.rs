//! `cedargate overview`: what happened lately, in numbers.

use contract::overview::{Durations, Overview, Range, Ranked};

use super::Context;
use crate::{client::Answer, output::Output};

pub(super) async fn run(context: &Context, range: Range) -> anyhow::Result<()> {
    let overview = context.client().overview(range).await.of(&context.remote)?;
    context
        .output
        .print(&overview, |output| text(output, &overview))
}

fn text(output: Output, overview: &Overview) -> String {
    let total = &overview.total;
    let mut text = output.fields(&[
        ("in the last", overview.range.as_str().to_owned()),
        ("permitted", total.permitted.to_string()),
        ("refused", total.refused.to_string()),
        ("put before people", total.pending.to_string()),
        ("rejected", total.rejected.to_string()),
        ("waiting now", overview.waiting.to_string()),
        ("waited for people", durations(&overview.waits)),
        ("decisions took", durations(&overview.decision_times)),
        ("commands took", durations(&overview.command_times)),
    ]);
    for (heading, ranked) in [
        ("policies that refused most", &overview.refused_by_policy),
        ("agents refused most", &overview.refused_agents),
        ("commands refused most", &overview.refused_commands),
    ] {
        if !ranked.is_empty() {
            text.push_str("\n\n");
            text.push_str(&output.table(&[heading, "times"], ranked.iter().map(place)));
        }
    }
    text
}

fn place(ranked: &Ranked) -> Vec<String> {
    let name = ranked.name.as_ref().unwrap_or(&ranked.key);
    vec![name.clone(), ranked.count.to_string()]
}

/// Half of them within, and 95 of 100 within.
fn durations(durations: &Durations) -> String {
    match (durations.p50_ms, durations.p95_ms) {
        (Some(half), Some(most)) => format!("{} · 95 %: {}", shown(half), shown(most)),
        _ => "-".to_owned(),
    }
}

fn shown(millis: f64) -> String {
    if millis < 1_000.0 {
        format!("{millis:.1} ms")
    } else if millis < 120_000.0 {
        format!("{:.1} s", millis / 1_000.0)
    } else {
        format!("{:.0} min", millis / 60_000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_shown_in_units_that_people_use() {
        let of = |p50, p95| {
            durations(&Durations {
                count: 2,
                p50_ms: Some(p50),
                p95_ms: Some(p95),
            })
        };
        assert_eq!(of(0.25, 90.0), "0.2 ms · 95 %: 90.0 ms");
        assert_eq!(of(5_000.0, 600_000.0), "5.0 s · 95 %: 10 min");
        assert_eq!(durations(&Durations::default()), "-");
    }
}
