//! Coverage as mutation score: which small faults in the policies no test would notice.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use authz::{
    PolicySet,
    mutate::{Mutant, Workshop},
};

use super::{Case, Progress, workers};

/// What the tests notice.
pub(crate) struct Coverage {
    /// How many faults were tried.
    pub(crate) tried: usize,
    /// Those that no test noticed, in the order of files.
    pub(crate) unnoticed: Vec<Mutant>,
    pub(crate) took: Duration,
}

impl Coverage {
    /// Noticed faults of a hundred, rounded down: a hundred means all.
    pub(crate) fn score(&self) -> u64 {
        let noticed = self.tried - self.unnoticed.len();
        (noticed as u64 * 100)
            .checked_div(self.tried as u64)
            .unwrap_or(100)
    }
}

/// What is known of a case before any fault is tried on it.
struct Known {
    /// The policies that decide it.
    decided: HashSet<String>,
    /// Those that its scope can match at all; none if that is not known.
    matching: Option<HashSet<String>>,
}

impl Known {
    fn of(case: &Case, sound: &Arc<PolicySet>) -> Self {
        Self {
            decided: case.ask(sound).policies.into_iter().collect(),
            matching: case.matching(sound),
        }
    }

    /// Whether a fault can make a difference to the case: elsewhere than in its scope, a
    /// policy matters only to what the scope can match.
    fn can_notice(&self, mutant: &Mutant) -> bool {
        mutant.scope
            || self
                .matching
                .as_ref()
                .is_none_or(|matching| matching.contains(&mutant.policy))
    }
}

/// Tries every fault on the cases, which all pass on the sound set.
///
/// # Errors
///
/// When a policy set cannot be taken apart or put together.
pub(crate) fn measure(
    workshop: &Workshop,
    sound: &Arc<PolicySet>,
    cases: &[Case],
) -> anyhow::Result<Coverage> {
    let began = Instant::now();
    let mutants = workshop.mutants().map_err(|findings| {
        let texts: Vec<String> = findings.iter().map(ToString::to_string).collect();
        anyhow::anyhow!(texts.join("\n"))
    })?;
    let known: Vec<Known> = cases.iter().map(|case| Known::of(case, sound)).collect();
    let next = AtomicUsize::new(0);
    let unnoticed = Mutex::new(Vec::new());
    let failure = Mutex::new(None);
    let progress = Mutex::new(Progress::new("faults tried:", mutants.len()));
    let work = || {
        while let Some(mutant) = mutants.get(next.fetch_add(1, Ordering::Relaxed)) {
            let set = match workshop.with(mutant) {
                Ok(set) => set,
                Err(error) => {
                    if let Ok(mut failure) = failure.lock() {
                        *failure = Some(format!("{}: {error}", mutant.policy));
                    }
                    return;
                }
            };
            let pairs = || {
                let pairs = cases.iter().zip(&known);
                pairs.filter(|(_, known)| known.can_notice(mutant))
            };
            // Whoever was decided by the policy at fault is most likely to notice.
            let own = |(_, known): &(&Case, &Known)| known.decided.contains(&mutant.policy);
            let first = pairs().filter(own);
            let rest = pairs().filter(|pair| !own(pair));
            let noticed = first.chain(rest).any(|(case, _)| !case.passes(&set));
            if !noticed && let Ok(mut unnoticed) = unnoticed.lock() {
                unnoticed.push(mutant.clone());
            }
            if let Ok(mut progress) = progress.lock() {
                progress.at(next.load(Ordering::Relaxed).min(mutants.len()));
            }
        }
    };
    workers::share(work);
    drop(progress);
    if let Some(failure) = failure.into_inner().ok().flatten() {
        anyhow::bail!(failure);
    }
    let mut unnoticed = unnoticed.into_inner().unwrap_or_default();
    unnoticed.sort_by(|a: &Mutant, b: &Mutant| {
        (&a.file, a.line, &a.what).cmp(&(&b.file, b.line, &b.what))
    });
    Ok(Coverage {
        tried: mutants.len(),
        unnoticed,
        took: began.elapsed(),
    })
}
