//! `cedargate policy test` and `cedargate policy coverage`.

use std::{path::PathBuf, time::Instant};

use serde_json::json;

use super::source::{self, Loaded};
use crate::{
    arguments::{Global, PolicyCoverage, PolicyFrom, PolicyTest, ReportFormat},
    config::Environment,
    exit::{self, Usage},
    output::{Output, printable_lines, write_line},
    policy_test::{self, Case, Coverage, Progress, Report, SUFFIX},
};

/// Policies, and the cases that they are tried on.
pub(super) struct Bench {
    pub(super) loaded: Loaded,
    pub(super) cases: Vec<Case>,
    left_out: usize,
}

pub(super) fn bench(
    global: &Global,
    environment: &Environment,
    from: &PolicyFrom,
    paths: &[PathBuf],
    filter: Option<&str>,
) -> anyhow::Result<Bench> {
    // What is not there is said first, whatever is wrong with the policies.
    policy_test::find(paths).map_err(Usage)?;
    let loaded = source::load(global, environment.clone(), &source::beside(from, paths))?;
    let folder = [PathBuf::from(&loaded.name)];
    let places = if paths.is_empty() { &folder[..] } else { paths };
    let files = policy_test::find(places).map_err(Usage)?;
    if files.is_empty() {
        let message = format!(
            "there is no `*{SUFFIX}`, nor a test of `cedar run-tests`, in `{}`",
            places
                .iter()
                .map(|path| path.display().to_string())
                .collect::<Vec<_>>()
                .join("`, `")
        );
        return Err(Usage(message).into());
    }
    let mut cases = policy_test::cases(
        &files,
        &source::catalog(global, environment)?,
        &loaded.workshop,
    )
    .map_err(|findings| source::wrong(&findings))?;
    let all = cases.len();
    if let Some(filter) = filter {
        cases.retain(|case| case.name.contains(filter) || case.file.contains(filter));
    }
    if cases.is_empty() {
        return Err(Usage(format!(
            "no test has `{}` in its name or file",
            filter.unwrap_or_default()
        ))
        .into());
    }
    Ok(Bench {
        left_out: all - cases.len(),
        loaded,
        cases,
    })
}

pub(super) fn run(
    global: &Global,
    environment: &Environment,
    arguments: &PolicyTest,
) -> anyhow::Result<u8> {
    let format = if global.json {
        ReportFormat::Json
    } else {
        arguments.format
    };
    let bench = bench(
        global,
        environment,
        &arguments.from,
        &arguments.paths,
        arguments.filter.as_deref(),
    )?;
    let passed = report(&bench, format)?;
    if !passed || !arguments.coverage {
        return Ok(if passed { exit::OK } else { exit::FAILED });
    }
    let coverage = policy_test::measure(&bench.loaded.workshop, &bench.loaded.set, &bench.cases)?;
    if format == ReportFormat::Human {
        write_line(&printable_lines(&told(&coverage)))?;
    }
    verdict(&coverage, arguments.min_score)
}

pub(super) fn coverage(
    global: &Global,
    environment: &Environment,
    arguments: &PolicyCoverage,
) -> anyhow::Result<u8> {
    let bench = bench(global, environment, &arguments.from, &arguments.paths, None)?;
    let set = &bench.loaded.set;
    if bench.cases.iter().any(|case| !case.passes(set)) {
        report(&bench, ReportFormat::Human)?;
        return Err(anyhow::anyhow!("coverage is measured by tests that pass"));
    }
    let coverage = policy_test::measure(&bench.loaded.workshop, set, &bench.cases)?;
    let unnoticed = coverage.unnoticed.iter().map(|mutant| {
        json!({"policy": mutant.policy, "file": mutant.file, "line": mutant.line, "what": mutant.what})
    });
    let value = json!({
        "version": set.version(),
        "tried": coverage.tried,
        "noticed": coverage.tried - coverage.unnoticed.len(),
        "score": coverage.score(),
        "unnoticed": unnoticed.collect::<Vec<_>>(),
    });
    Output::new(global.json).print(&value, |_| printable_lines(&told(&coverage)))?;
    verdict(&coverage, arguments.min_score)
}

/// Tells what came of the tests; whether all passed.
pub(super) fn report(bench: &Bench, format: ReportFormat) -> anyhow::Result<bool> {
    let began = Instant::now();
    let mut progress = Progress::new("tests run:", bench.cases.len());
    let told = policy_test::run(&bench.cases, &bench.loaded.set, |done| progress.at(done));
    drop(progress);
    let report = Report {
        policies: &bench.loaded.set,
        places: &bench.loaded.workshop.places(),
        cases: &told,
        left_out: bench.left_out,
        took: began.elapsed(),
    };
    write_line(&report.text(format)?)?;
    Ok(report.failed() == 0)
}

fn told(coverage: &Coverage) -> String {
    let mut lines: Vec<String> = coverage
        .unnoticed
        .iter()
        .map(|mutant| {
            format!(
                "unnoticed  {}:{}  {}: {}",
                mutant.file, mutant.line, mutant.policy, mutant.what
            )
        })
        .collect();
    lines.push(format!(
        "{} of {} faults noticed, score {} · {:.1} s",
        coverage.tried - coverage.unnoticed.len(),
        coverage.tried,
        coverage.score(),
        coverage.took.as_secs_f64()
    ));
    lines.join("\n")
}

fn verdict(coverage: &Coverage, least: Option<u64>) -> anyhow::Result<u8> {
    match least {
        Some(least) if coverage.score() < least => Err(anyhow::anyhow!(
            "the score is {}, and must be {least} at least",
            coverage.score()
        )),
        _ => Ok(exit::OK),
    }
}
