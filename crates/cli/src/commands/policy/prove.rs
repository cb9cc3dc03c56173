//! `cedargate policy prove`.

mod report;
mod solver;

use std::{
    fs,
    num::NonZero,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use authz::{
    PolicySources, Source,
    mutate::Workshop,
    prove::{Claim, Counterexample, Kind, Of, Theory, Verdict},
};
use handlers::Catalog;
use orchestrator::policy_folder;

use self::{
    report::{Came, Outcome, Report},
    solver::Solver,
};
use super::source;
use crate::{
    arguments::{Global, PolicyFrom, PolicyProve, ProofFormat},
    config::Environment,
    exit::{self, Usage},
    output::write_line,
    policy_test::{Progress, SUFFIX, Verdict as Answer, tell},
};

pub(super) fn run(
    global: &Global,
    environment: &Environment,
    arguments: &PolicyProve,
) -> anyhow::Result<u8> {
    let began = Instant::now();
    let format = if global.json {
        ProofFormat::Json
    } else {
        arguments.format
    };
    let from = PolicyFrom {
        policies: arguments.folder.clone(),
        schema: arguments.schema.clone(),
    };
    let (name, sources) = source::sources(global, environment.clone(), &from)?;
    let sources = sources.map_err(|findings| source::wrong(&findings))?;
    let invariants = invariants(&name, arguments.invariants.as_deref())?;
    let old = arguments
        .against
        .as_deref()
        .map(|old| before(old, &sources));
    let old = old.transpose()?;
    let theory = Theory::new(&sources, &invariants, old.as_deref())
        .map_err(|findings| source::wrong(&findings))?;
    let chosen: Vec<&Claim> = theory
        .claims()
        .iter()
        .filter(|claim| {
            let filter = arguments.filter.as_deref().unwrap_or_default();
            report::name(claim).contains(filter)
        })
        .collect();
    if chosen.is_empty() {
        let message = match &arguments.filter {
            Some(filter) => format!("no claim has `{filter}` in its name"),
            None => "there is nothing to prove: no `forbid`, no invariant, no --against".to_owned(),
        };
        return Err(Usage(message).into());
    }
    let limit = Duration::from_secs(arguments.time_limit);
    let solver = Solver::find(arguments.solver.as_deref(), environment, limit)?;
    let jobs = arguments.jobs.map_or_else(
        || thread::available_parallelism().map_or(1, NonZero::get),
        usize::from,
    );
    let settled = settle(&theory, &chosen, &solver, jobs);
    let catalog = source::catalog(global, environment)?;
    let workshop = Workshop::new(&sources).map_err(|findings| source::wrong(&findings))?;
    let mut outcomes = Vec::new();
    for (claim, results) in chosen.iter().zip(settled) {
        let results = results.into_iter().map(|(environment, result)| {
            let result = match result {
                Settled::Verdict(Verdict::Holds) => Came::Holds,
                Settled::Verdict(Verdict::Unknown(why)) => Came::Unknown(why),
                Settled::Verdict(Verdict::Refuted(found)) => Came::Refuted {
                    test: test(&theory, claim, &found, (&catalog, &workshop)),
                    found,
                },
                Settled::Vacuous => Came::Vacuous,
            };
            (theory.environment(environment).to_owned(), result)
        });
        outcomes.push(Outcome {
            claim,
            results: results.collect(),
        });
    }
    if let Some(folder) = &arguments.write_tests {
        write_tests(folder, &outcomes)?;
    }
    let report = Report {
        theory: &theory,
        folder: &name,
        old: arguments.against.as_deref(),
        invariants: arguments.invariants.as_deref(),
        solver: &solver,
        outcomes: &outcomes,
        took: began.elapsed(),
    };
    write_line(&report.text(format)?)?;
    Ok(match report.counts() {
        (_, 0, 0) => exit::OK,
        (_, 0, _) => exit::NOT_PROVED,
        _ => exit::FAILED,
    })
}

/// What came of a claim for one kind of request.
enum Settled {
    Verdict(Verdict),
    /// Nothing of the kind can match the invariant, here or elsewhere.
    Vacuous,
}

/// The invariants of a folder; none where it has none and none was named.
fn invariants(folder: &str, named: Option<&Path>) -> anyhow::Result<Vec<Source>> {
    let own = Path::new(folder).join(policy_folder::INVARIANTS);
    let path = match named {
        Some(path) => path,
        None if own.is_dir() => &own,
        // The shipped policies, before they were written anywhere.
        None if !Path::new(folder).exists() => {
            return Ok(crate::data_folder::shipped_invariants());
        }
        None => return Ok(Vec::new()),
    };
    if !path.is_dir() {
        return Err(Usage(format!("there is no folder `{}`", path.display())).into());
    }
    let read = policy_folder::read_policies(path).map_err(|mut finding| {
        finding.message = finding
            .message
            .replace("the policy folder", "the folder of invariants");
        source::wrong(&[*finding])
    });
    // As policies may have files of the same names.
    let named = |source: Source| Source {
        name: format!("{}/{}", policy_folder::INVARIANTS, source.name),
        ..source
    };
    Ok(read?.into_iter().map(named).collect())
}

/// The policies of another folder. The schema is the new one's, or else nothing could be
/// compared.
fn before(folder: &Path, new: &PolicySources) -> anyhow::Result<Vec<Source>> {
    if !folder.is_dir() {
        return Err(Usage(format!("there is no folder `{}`", folder.display())).into());
    }
    let policies =
        policy_folder::read_policies(folder).map_err(|finding| source::wrong(&[*finding]))?;
    let sources = PolicySources {
        schema: new.schema.clone(),
        policies: policies.clone(),
    };
    authz::PolicySet::load(&sources).map_err(|findings| {
        let wrong = source::wrong(&findings);
        Usage(format!(
            "{wrong}\n\nthe policies in `{}` do not fit the schema of the new ones, and so cannot be compared with them",
            folder.display()
        ))
    })?;
    Ok(policies)
}

/// Settles claims with so many solvers at a time; what came, by claim and kind of request.
fn settle(
    theory: &Theory,
    claims: &[&Claim],
    solver: &Solver,
    jobs: usize,
) -> Vec<Vec<(usize, Settled)>> {
    let tasks: Vec<(usize, usize)> = claims
        .iter()
        .enumerate()
        .flat_map(|(at, claim)| claim.environments.iter().map(move |of| (at, *of)))
        .collect();
    // Whether anything matches the claim's invariant.
    let matched: Vec<AtomicBool> = claims.iter().map(|_| AtomicBool::new(false)).collect();
    let doubts: Mutex<Vec<(usize, usize, String)>> = Mutex::new(Vec::new());
    let settled: Vec<Mutex<Vec<(usize, Settled)>>> =
        claims.iter().map(|_| Mutex::new(Vec::new())).collect();
    let next = AtomicUsize::new(0);
    let (done, finished) = mpsc::channel();
    let ask = |script: &str| solver.answer(script);
    let work = || {
        while let Some(&(at, environment)) = tasks.get(next.fetch_add(1, Ordering::Relaxed)) {
            let (Some(claim), Some(place), Some(matched)) =
                (claims.get(at), settled.get(at), matched.get(at))
            else {
                continue;
            };
            let verdict = theory.settle(claim, environment, &ask);
            let of_invariant = matches!(claim.kind, Kind::Never | Kind::Always);
            if of_invariant && !matched.load(Ordering::Relaxed) {
                match theory.can_match(claim, environment, &ask) {
                    Ok(true) => matched.store(true, Ordering::Relaxed),
                    Ok(false) => {}
                    Err(why) => locked(&doubts).push((at, environment, why)),
                }
            }
            locked(place).push((environment, Settled::Verdict(verdict)));
            let _ = done.send(());
        }
    };
    let mut progress = Progress::new("questions settled:", tasks.len());
    thread::scope(|scope| {
        let mut workers = 0;
        for _ in 0..jobs.min(tasks.len()) {
            let worker = thread::Builder::new().spawn_scoped(scope, work);
            workers += usize::from(worker.is_ok());
        }
        if workers == 0 {
            return;
        }
        for count in 1..=tasks.len() {
            if finished.recv().is_err() {
                break;
            }
            progress.at(count);
        }
    });
    drop(progress);
    let doubts = doubts.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut all = Vec::new();
    for ((at, claim), settled) in claims.iter().enumerate().zip(settled) {
        let mut settled = settled.into_inner().unwrap_or_else(PoisonError::into_inner);
        settled.sort_by_key(|(environment, _)| *environment);
        for environment in &claim.environments {
            if !settled.iter().any(|(of, _)| of == environment) {
                let why = "there is no thread to find out on".to_owned();
                settled.push((*environment, Settled::Verdict(Verdict::Unknown(why))));
            }
        }
        let of_invariant = matches!(claim.kind, Kind::Never | Kind::Always);
        let holds = settled
            .iter()
            .all(|(_, settled)| matches!(settled, Settled::Verdict(Verdict::Holds)));
        let matched = matched
            .get(at)
            .is_some_and(|matched| matched.load(Ordering::Relaxed));
        if of_invariant && holds && !matched {
            let doubt = doubts.iter().find(|(of, ..)| *of == at);
            for (_, settled) in &mut settled {
                *settled = match doubt {
                    Some((_, _, why)) => Settled::Verdict(Verdict::Unknown(format!(
                        "it is not known whether it can match anything: {why}"
                    ))),
                    None => Settled::Vacuous,
                };
            }
        }
        all.push(settled);
    }
    all
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // What is pushed is whole, whoever panicked.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A counterexample as a test that fails, if it can be told as one.
fn test(
    theory: &Theory,
    claim: &Claim,
    found: &Counterexample,
    known: (&std::sync::Arc<Catalog>, &Workshop),
) -> Option<String> {
    let (subject, standard) = theory.sets(claim).ok()?;
    let failing = claim
        .policy
        .as_ref()
        .filter(|_| claim.kind == Kind::NeverFails);
    // A failing policy of another set fails no test of this one.
    if failing.is_some_and(|place| place.of != Of::Set) {
        return None;
    }

    let escalates = found.action == "escalate";
    let expected = match claim.kind {
        Kind::Always => Answer::Permit,
        _ if escalates => Answer::Hard,
        _ => Answer::Refuse,
    };
    tell(found, &report::name(claim), expected, known, |case| {
        let came = case.ask(&subject);
        match (&standard, failing) {
            (None, Some(place)) => came.errors.contains(&place.id),
            (Some(standard), _) => {
                !expected.expects(came.verdict) && expected.expects(case.ask(standard).verdict)
            }
            (None, None) => false,
        }
    })
}

/// How a file in the form of `cedar run-tests` ends.
const OFFICIAL: &str = ".test.json";

/// One file for each counterexample.
fn write_tests(folder: &Path, outcomes: &[Outcome<'_>]) -> anyhow::Result<()> {
    fs::create_dir_all(folder)
        .with_context(|| format!("the folder `{}` cannot be made", folder.display()))?;
    for outcome in outcomes {
        for (number, (_, result)) in outcome.results.iter().enumerate() {
            let Came::Refuted { found, test } = result else {
                continue;
            };
            let (ending, text) = if let Some(test) = test {
                (SUFFIX, test.clone())
            } else {
                let official = vec![report::official(outcome.claim, found)];
                (OFFICIAL, crate::output::json(&official)?)
            };
            let path = folder.join(file_name(outcome.claim, number, ending));
            fs::write(&path, text)
                .with_context(|| format!("`{}` cannot be written", path.display()))?;
        }
    }
    Ok(())
}

/// What a counterexample's test is called: `never.suspended-agents-1.test.yaml`.
fn file_name(claim: &Claim, number: usize, ending: &str) -> PathBuf {
    let id = claim
        .policy
        .as_ref()
        .map_or("wider", |place| place.id.as_str());
    PathBuf::from(format!("{id}-{}{ending}", number + 1))
}
