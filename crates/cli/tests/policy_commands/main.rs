//! `cedargate policy …` as a security team uses it, through the binary.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]
#![cfg(unix)]

mod bad_input;
mod check;
mod ci;
mod diff;
mod official;
mod prove;
mod test;
mod watch;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

/// A copy of the shipped policies with their tests and fixtures, to break.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let copy = |from: &Path, to: &str| fs::copy(from, folder.path().join(to)).unwrap();
    copy(
        &repository().join("schema.cedarschema"),
        "schema.cedarschema",
    );
    fs::create_dir(folder.path().join("policies")).unwrap();
    for entry in fs::read_dir(repository().join("policies")).unwrap() {
        let entry = entry.unwrap();
        if entry.path().is_file() {
            let name = entry.file_name().into_string().unwrap();
            copy(&entry.path(), &format!("policies/{name}"));
        }
    }
    folder
}

/// The same without its tests.
fn without_tests() -> tempfile::TempDir {
    let folder = folder();
    for entry in fs::read_dir(folder.path().join("policies")).unwrap() {
        let path = entry.unwrap().path();
        if path.to_string_lossy().ends_with(".test.yaml") {
            fs::remove_file(path).unwrap();
        }
    }
    folder
}

/// Replaces the first of a text in a file.
fn edit(folder: &Path, file: &str, from: &str, to: &str) {
    let path = folder.join(file);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{file} has no `{from}`");
    fs::write(&path, text.replacen(from, to, 1)).unwrap();
}

/// `cedargate policy …`, with nothing in the environment.
fn cedargate(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    run(folder, &[], arguments)
}

/// The same, with nothing in the environment but this.
fn run(folder: &Path, environment: &[(&str, &str)], arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_cedargate"))
        .current_dir(folder)
        .env_clear()
        .envs(environment.iter().copied())
        .arg("policy")
        .args(arguments)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr),
    )
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| panic!("{text}"))
}

/// The fenced blocks of one language in `docs/policies.md`, or in one section of it.
fn snippets(language: &str, section: Option<&str>) -> Vec<String> {
    let text = fs::read_to_string(repository().join("docs/policies.md")).unwrap();
    let text = match section {
        None => text.as_str(),
        Some(begins) => text
            .split("\n## ")
            .find(|part| part.starts_with(begins))
            .unwrap(),
    };
    let blocks: Vec<String> = text
        .split(&format!("```{language}\n"))
        .skip(1)
        .map(|rest| rest.split("\n```").next().unwrap().to_owned())
        .collect();
    assert!(!blocks.is_empty(), "{language}");
    blocks
}
