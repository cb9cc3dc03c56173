//! `cedargate policy fmt`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use serde_json::json;

use crate::{
    arguments::{Global, PolicyFmt},
    exit::{self, Usage},
    output::{Output, printable_lines},
};

pub(super) fn run(global: &Global, arguments: &PolicyFmt) -> anyhow::Result<u8> {
    let mut files = Vec::new();
    for path in &arguments.paths {
        find(path, 0, &mut files)?;
    }
    if files.is_empty() {
        let paths: Vec<String> = arguments
            .paths
            .iter()
            .map(|path| format!("`{}`", path.display()))
            .collect();
        return Err(Usage(format!(
            "there is no `*.cedar` file in {}",
            paths.join(", ")
        ))
        .into());
    }
    // All are read before one is written: a file with a mistake changes no other.
    let mut changed = Vec::new();
    for path in &files {
        let text = fs::read_to_string(path)
            .map_err(|error| Usage(format!("`{}` cannot be read: {error}", path.display())))?;
        let laid_out = authz::policy_set::format(&path.display().to_string(), &text)
            .map_err(|findings| super::source::wrong(&findings))?;
        if laid_out != text {
            changed.push((path, laid_out));
        }
    }
    if !arguments.check {
        for (path, text) in &changed {
            write(path, text).with_context(|| format!("`{}` cannot be written", path.display()))?;
        }
    }
    let names: Vec<String> = changed
        .iter()
        .map(|(path, _)| path.display().to_string())
        .collect();
    let value = json!({"files": files.len(), "changed": names, "written": !arguments.check});
    Output::new(global.json).print(&value, |_| {
        let verb = if arguments.check {
            "would change"
        } else {
            "changed"
        };
        let mut lines: Vec<String> = names.iter().map(|name| format!("{verb}  {name}")).collect();
        lines.push(format!("{} of {} files {verb}", names.len(), files.len()));
        printable_lines(&lines.join("\n"))
    })?;
    Ok(if arguments.check && !names.is_empty() {
        exit::FAILED
    } else {
        exit::OK
    })
}

/// All or nothing, as the orchestrator may be watching.
fn write(path: &Path, text: &str) -> std::io::Result<()> {
    // Through a link, what it points to is replaced and not the link.
    let path = fs::canonicalize(path)?;
    let new = path.with_extension("cedar-new");
    fs::write(&new, text)?;
    fs::set_permissions(&new, fs::metadata(&path)?.permissions())?;
    fs::rename(&new, &path)
}

fn find(path: &Path, depth: usize, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    if path.is_dir() {
        let entries = fs::read_dir(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let mut entries = entries
            .map_err(|error| Usage(format!("`{}` cannot be read: {error}", path.display())))?;
        entries.sort_by_key(fs::DirEntry::path);
        for entry in entries {
            let hidden = entry.file_name().to_string_lossy().starts_with('.');
            let inner = entry.path();
            if !hidden
                && (inner.is_dir() && depth < 16
                    || inner
                        .extension()
                        .is_some_and(|extension| extension == "cedar"))
            {
                find(&inner, depth + 1, files)?;
            }
        }
    } else if path.is_file() {
        files.push(path.to_owned());
    } else {
        return Err(Usage(format!("there is no file or folder `{}`", path.display())).into());
    }
    Ok(())
}
