//! A configuration file with an entry of ours merged in.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::Context;
use serde_json::Value;

use super::{Entry, Format, jsonc};
use crate::exit::Usage;

/// What became of a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// The entry stood there already.
    None,
    /// It was made.
    Made,
    /// It was changed, and this is what it was.
    Changed(PathBuf),
}

/// Merges the entry into the file. What was there is kept beside it, as `<file>.backup` or
/// `.backup.2` and so on; everything else in the file stays as it is.
///
/// # Errors
///
/// When the file cannot be read or written, or is not what it should be: then it is left
/// alone.
pub(crate) fn merge(path: &Path, entry: &Entry) -> anyhow::Result<Change> {
    let shown = path.display();
    // Many keep their configuration elsewhere and link to it.
    let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let before = match fs::read_to_string(&real) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(error).with_context(|| format!("`{shown}`")),
    };
    let text = before.as_deref().unwrap_or_default();
    let merged = match entry.format {
        Format::Json => in_json(text, entry),
        Format::Toml => in_toml(text, entry),
    };
    let merged = merged.with_context(|| format!("`{shown}` is left alone"))?;
    if before.as_deref() == Some(merged.as_str()) {
        return Ok(Change::None);
    }
    let folder = real.parent().context("a file has a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("`{}`", folder.display()))?;
    if before.is_none() {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&real)
            .with_context(|| format!("`{shown}`"))?;
        file.write_all(merged.as_bytes())?;
        return Ok(Change::Made);
    }
    let backup = back_up(&real)?;
    // In place of the old one at once, or not at all.
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(merged.as_bytes())?;
    file.as_file().sync_all()?;
    fs::set_permissions(file.path(), fs::metadata(&real)?.permissions())?;
    file.persist(&real).with_context(|| format!("`{shown}`"))?;
    Ok(Change::Changed(backup))
}

fn back_up(path: &Path) -> anyhow::Result<PathBuf> {
    let mut number = 1;
    loop {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".backup");
        if number > 1 {
            name.push(format!(".{number}"));
        }
        let backup = path.with_file_name(name);
        // Nobody's file is overwritten, an older backup neither.
        match fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&backup)
        {
            Ok(_) => {
                fs::copy(path, &backup).with_context(|| format!("`{}`", backup.display()))?;
                return Ok(backup);
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(error).with_context(|| format!("`{}`", backup.display())),
        }
    }
}

fn in_json(text: &str, entry: &Entry) -> anyhow::Result<String> {
    let wrong = |error: jsonc::JsonError| Usage(error.to_string());
    let mut wanted = jsonc::read(text).map_err(wrong)?;
    let standing = entry
        .path
        .iter()
        .try_fold(&wanted, |value, name| value.get(name));
    if standing == Some(&entry.value) {
        return Ok(text.to_owned());
    }
    let merged = jsonc::set(text, &entry.path, &entry.value).map_err(wrong)?;
    put(&mut wanted, &entry.path, &entry.value);
    // Nothing is written that does not say what it should, and all that it said before.
    anyhow::ensure!(
        jsonc::read(&merged).ok() == Some(wanted),
        "merging would change more than it should"
    );
    Ok(merged)
}

/// Puts the value at its place; objects on the way are made where there are none.
fn put(place: &mut Value, path: &[String], value: &Value) {
    let Some((name, below)) = path.split_first() else {
        place.clone_from(value);
        return;
    };
    if let Some(object) = place.as_object_mut() {
        let next = object
            .entry(name.clone())
            .or_insert_with(|| Value::Object(serde_json::Map::new()));
        put(next, below, value);
    }
}

fn in_toml(text: &str, entry: &Entry) -> anyhow::Result<String> {
    let mut document: toml_edit::DocumentMut = text
        .parse()
        .map_err(|error: toml_edit::TomlError| Usage(format!("it is not TOML: {error}")))?;
    let mut table = document.as_table_mut();
    let Some((name, way)) = entry.path.split_last() else {
        return Ok(text.to_owned());
    };
    for step in way {
        let item = table.entry(step).or_insert_with(|| {
            let mut made = toml_edit::Table::new();
            made.set_implicit(true);
            toml_edit::Item::Table(made)
        });
        table = item
            .as_table_mut()
            .ok_or_else(|| Usage(format!("`{step}` is not a table in it")))?;
    }
    let mut ours = toml_edit::Table::new();
    for (key, value) in entry.value.as_object().into_iter().flatten() {
        let text = value.as_str().context("only texts are set in TOML")?;
        ours.insert(key, toml_edit::value(text));
    }
    let same = table.get(name).and_then(toml_edit::Item::as_table_like);
    let same = same.is_some_and(|standing| {
        standing.len() == ours.len()
            && ours.iter().all(|(key, value)| {
                standing.get(key).and_then(toml_edit::Item::as_str) == value.as_str()
            })
    });
    if same {
        return Ok(text.to_owned());
    }
    table.insert(name, toml_edit::Item::Table(ours));
    Ok(document.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entry(format: Format, value: Value) -> Entry {
        Entry {
            path: vec!["servers".to_owned(), "cedargate".to_owned()],
            value,
            format,
        }
    }

    #[test]
    fn an_entry_is_merged_and_what_was_there_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/mcp.json");
        let first = entry(Format::Json, json!({"url": "a"}));
        assert_eq!(merge(&path, &first).unwrap(), Change::Made);
        assert_eq!(merge(&path, &first).unwrap(), Change::None);

        let before = "// mine\n{\"servers\": {\"other\": {}}}\n";
        fs::write(&path, before).unwrap();
        for number in ["mcp.json.backup", "mcp.json.backup.2"] {
            fs::write(&path, before).unwrap();
            let backup = path.with_file_name(number);
            assert_eq!(
                merge(&path, &first).unwrap(),
                Change::Changed(backup.clone())
            );
            assert_eq!(fs::read_to_string(backup).unwrap(), before);
        }
        let text = fs::read_to_string(&path).unwrap();
        assert!(
            text.starts_with("// mine\n{\"servers\": {\"other\": {}"),
            "{text}"
        );
        assert_eq!(
            jsonc::read(&text).unwrap(),
            json!({"servers": {"other": {}, "cedargate": {"url": "a"}}})
        );
    }

    #[test]
    fn toml_keeps_its_comments_and_its_order() {
        let path = tempfile::tempdir().unwrap().path().join("config.toml");
        let ours = entry(
            Format::Toml,
            json!({"url": "u", "bearer_token_env_var": "V"}),
        );
        let before =
            "# mine\nmodel = \"m\" # why\n\n[servers.other]\ncommand = \"c\"\n\n[z]\na = 1.10\n";
        let merged = in_toml(before, &ours).unwrap();
        assert!(
            merged.starts_with("# mine\nmodel = \"m\" # why\n"),
            "{merged}"
        );
        assert!(
            merged.contains("[servers.other]\ncommand = \"c\"\n"),
            "{merged}"
        );
        assert!(merged.contains("[z]\na = 1.10\n"), "{merged}");
        assert!(
            merged.contains("[servers.cedargate]\nurl = \"u\"\nbearer_token_env_var = \"V\"\n"),
            "{merged}"
        );
        assert_eq!(in_toml(&merged, &ours).unwrap(), merged);
        assert_eq!(merge(&path, &ours).unwrap(), Change::Made);
    }

    #[test]
    fn a_file_that_is_not_understood_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        for (name, format, text) in [
            ("a.json", Format::Json, "{\"servers\": 3}"),
            ("b.json", Format::Json, "not json"),
            ("c.toml", Format::Toml, "servers = 3"),
            ("d.toml", Format::Toml, "= 3"),
        ] {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            let error = merge(&path, &entry(format, json!({"url": "u"}))).unwrap_err();
            assert_eq!(
                crate::exit::code_of(&error),
                crate::exit::USAGE,
                "{error:#}"
            );
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
            fs::remove_file(&path).unwrap();
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_link_stays_a_link_and_permissions_stay() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().join("real.json");
        fs::write(&real, "{}").unwrap();
        fs::set_permissions(&real, fs::Permissions::from_mode(0o600)).unwrap();
        let link = folder.path().join("link.json");
        std::os::unix::fs::symlink(&real, &link).unwrap();
        merge(&link, &entry(Format::Json, json!({"url": "u"}))).unwrap();
        assert!(link.is_symlink());
        let mode = fs::metadata(&real).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
