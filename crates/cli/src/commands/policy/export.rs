//! `cedargate policy export`.

use std::{fmt::Write as _, fs};

use anyhow::Context as _;

use super::test;
use crate::{
    arguments::{Global, PolicyExport, ReportFormat},
    config::Environment,
    exit,
    output::{self, number, printable_lines, write_line},
    policy_test,
};

#[allow(
    clippy::print_stderr,
    reason = "standard output is the tests; what they leave out is told beside it"
)]
pub(super) fn run(
    global: &Global,
    environment: &Environment,
    arguments: &PolicyExport,
) -> anyhow::Result<u8> {
    let bench = test::bench(global, environment, &arguments.from, &arguments.paths, None)?;
    let set = &bench.loaded.set;
    if bench.cases.iter().any(|case| !case.passes(set)) {
        test::report(&bench, ReportFormat::Human)?;
        return Err(anyhow::anyhow!("what is exported is tests that pass"));
    }
    let exported = policy_test::export(&bench.cases, set);
    let text = output::json(&serde_json::Value::Array(exported.tests.clone()))?;
    match &arguments.write {
        Some(path) => fs::write(path, text + "\n")
            .with_context(|| format!("`{}` cannot be written", path.display()))?,
        None => write_line(&text)?,
    }
    let mut told = format!("{} tests written", number(exported.tests.len()));
    if exported.shortened > 0 {
        let _ = write!(
            told,
            "; {} of them say more here: whether people can lift a refusal, who, for how long, and which policies exactly",
            number(exported.shortened)
        );
    }
    for left_out in &exported.left_out {
        let _ = write!(told, "\nleft out  {left_out}");
    }
    eprintln!("{}", printable_lines(&told));
    Ok(exit::OK)
}
