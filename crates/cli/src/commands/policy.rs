//! `cedargate policy`.

mod diff;
mod explain;
mod export;
mod fmt;
mod matrix;
mod prove;
mod side;
mod source;
mod test;
mod watch;

use std::path::Path;

use authz::{Finding, PolicySet, PolicySources, policy_set::Severity};
use serde_json::json;

use super::{Context, policy_sets};
use crate::{
    arguments::{Global, Policy, PolicyFrom},
    config::Environment,
    exit,
    output::{Output, printable_lines},
};

pub(super) async fn run(
    global: &Global,
    environment: Environment,
    command: Policy,
) -> anyhow::Result<u8> {
    match command {
        Policy::Check { folder, schema } => {
            let from = PolicyFrom {
                policies: folder,
                schema,
            };
            let (name, sources) = source::sources(global, environment, &from)?;
            check(Output::new(global.json), &name, sources)
        }
        Policy::Status => {
            let context = Context::new(global, environment)?;
            policy_sets::status(&context).await?;
            Ok(exit::OK)
        }
        Policy::Test(arguments) if arguments.watch => {
            watch::run(global, &environment, &arguments).await
        }
        Policy::Test(arguments) => test::run(global, &environment, &arguments),
        Policy::Export(arguments) => export::run(global, &environment, &arguments),
        Policy::Coverage(arguments) => test::coverage(global, &environment, &arguments),
        Policy::Matrix(arguments) => matrix::matrix(global, &environment, &arguments),
        Policy::Diff(arguments) => diff::run(global, environment, &arguments).await,
        Policy::Explain(arguments) => explain::run(global, environment, &arguments).await,
        Policy::Prove(arguments) => prove::run(global, &environment, &arguments),
        Policy::Fmt(arguments) => fmt::run(global, &arguments),
        Policy::Sets(command) => policy_sets::run(global, environment, command).await,
    }
}

fn read(schema: &Path, policies: &Path) -> Result<PolicySources, Vec<Finding>> {
    // Told first, as the schema is looked for in the folder.
    if !policies.is_dir() {
        return Err(vec![Finding {
            severity: Severity::Error,
            file: policies.display().to_string(),
            line: None,
            column: None,
            policy: None,
            message: "there is no such folder".to_owned(),
            help: None,
            excerpt: None,
        }]);
    }
    orchestrator::policy_folder::read(schema, policies).map_err(|finding| {
        let mut finding = *finding;
        if finding.help.is_none() && !schema.is_file() {
            finding.help = Some(
                "put the schema into or beside the folder, or name it with --schema".to_owned(),
            );
        }
        vec![finding]
    })
}

fn check(
    output: Output,
    name: &str,
    sources: Result<PolicySources, Vec<Finding>>,
) -> anyhow::Result<u8> {
    let loaded = sources.and_then(|sources| PolicySet::load(&sources));
    let (set, findings) = match loaded {
        Ok((set, warnings)) => (Some(set), warnings),
        Err(findings) => (None, findings),
    };
    let value = json!({
        "valid": set.is_some(),
        "folder": name,
        "version": set.as_ref().map(PolicySet::version),
        "policies": set.as_ref().map(PolicySet::len),
        "findings": findings,
    });
    output.print(&value, |_| {
        let verdict = if let Some(set) = &set {
            let warnings = match findings.len() {
                0 => String::new(),
                number => format!(", {}", count(number, "warning")),
            };
            format!(
                "{name}: valid, {} policies, version {}{warnings}",
                set.len(),
                set.version().short()
            )
        } else {
            let errors = findings
                .iter()
                .filter(|finding| finding.severity == Severity::Error)
                .count();
            format!(
                "{name}: {}; it would not be put in force",
                count(errors, "error")
            )
        };
        let mut parts: Vec<String> = findings.iter().map(ToString::to_string).collect();
        parts.push(verdict);
        let text = parts.join("\n\n");
        printable_lines(&text)
    })?;
    Ok(if set.is_some() {
        exit::OK
    } else {
        exit::FAILED
    })
}

fn count_policies(number: usize) -> String {
    if number == 1 {
        "1 policy".to_owned()
    } else {
        format!("{number} policies")
    }
}

fn count(number: usize, word: &str) -> String {
    format!("{number} {word}{}", if number == 1 { "" } else { "s" })
}
