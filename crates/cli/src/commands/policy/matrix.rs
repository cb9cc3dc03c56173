//! `cedargate policy matrix`.

use std::fs;

use anyhow::Context as _;
use serde_json::json;

use super::source;
use crate::{
    arguments::{Global, PolicyMatrix},
    config::Environment,
    exit,
    output::{Output, printable_lines},
    policy_test::Matrix,
};

pub(super) fn matrix(
    global: &Global,
    environment: &Environment,
    arguments: &PolicyMatrix,
) -> anyhow::Result<u8> {
    let loaded = source::load(global, environment.clone(), &arguments.from)?;
    let (fixtures, now) = source::fixtures_of(
        global,
        environment,
        arguments.fixtures.as_deref(),
        &loaded.name,
    )?;
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
