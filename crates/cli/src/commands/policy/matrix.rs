//! `cedargate policy matrix` and `cedargate policy diff`.

use std::fs;

use anyhow::Context as _;
use serde_json::json;

use super::source;
use crate::{
    arguments::{Global, PolicyDiff, PolicyFrom, PolicyMatrix},
    config::Environment,
    exit,
    output::{Output, printable_lines},
    policy_test::Matrix,
};

pub(super) fn matrix(
    global: &Global,
    environment: Environment,
    arguments: &PolicyMatrix,
) -> anyhow::Result<u8> {
    let loaded = source::load(global, environment, &arguments.from)?;
    let (fixtures, now) = source::fixtures_of(arguments.fixtures.as_deref(), &loaded.name)?;
    let matrix =
        Matrix::new(&loaded.set, &fixtures, now).map_err(|error| anyhow::anyhow!(error))?;
    if let Some(path) = &arguments.write {
        fs::write(path, matrix.text())
            .with_context(|| format!("`{}` cannot be written", path.display()))?;
        return Ok(exit::OK);
    }
    let Some(path) = &arguments.check else {
        Output::new(global.json).print(&matrix.json(), |_| matrix.text().trim_end().to_owned())?;
        return Ok(exit::OK);
    };
    let golden = fs::read_to_string(path)
        .map_err(|error| exit::Usage(format!("`{}` cannot be read: {error}", path.display())))?;
    let differences = matrix.differences(&golden);
    if differences.is_empty() {
        return Ok(exit::OK);
    }
    Output::new(global.json).print(&json!({"differences": differences}), |_| {
        printable_lines(&differences.join("\n"))
    })?;
    Err(anyhow::anyhow!(
        "what agents may do is not what `{0}` says; if that is meant: `cedargate policy matrix --write {0}`",
        path.display()
    ))
}

pub(super) fn diff(
    global: &Global,
    environment: Environment,
    arguments: PolicyDiff,
) -> anyhow::Result<u8> {
    let from = |folder| PolicyFrom {
        policies: Some(folder),
        schema: None,
    };
    let before = source::load(global, environment.clone(), &from(arguments.before))?;
    let after = source::load(global, environment, &from(arguments.after))?;
    let (fixtures, now) = source::fixtures_of(arguments.fixtures.as_deref(), &after.name)?;
    let of = |set| Matrix::new(set, &fixtures, now).map_err(|error| anyhow::anyhow!(error));
    let (old, new) = (of(&before.set)?, of(&after.set)?);
    let changes = old.changes(&new);
    let total = new.len();
    let value = json!({"calls": total, "changes": changes.iter().map(|change| json!({
        "command": change.command, "agent": change.agent, "before": change.before, "after": change.after,
    })).collect::<Vec<_>>()});
    Output::new(global.json).print(&value, |output| {
        let rows = changes.iter().map(|change| {
            vec![
                change.command.clone(),
                change.agent.clone(),
                change.before.clone(),
                change.after.clone(),
            ]
        });
        let summary = format!("{} of {total} calls change", changes.len());
        if changes.is_empty() {
            summary
        } else {
            format!(
                "{}\n\n{summary}",
                output.table(&["command", "agent", "before", "after"], rows)
            )
        }
    })?;
    Ok(exit::OK)
}
