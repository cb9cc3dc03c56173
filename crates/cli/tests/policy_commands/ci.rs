//! The files that teams put into their own CI, run on our own policies.

use std::{fs, path::Path, process::Command};

use serde_json::Value;

use crate::{folder, repository};

/// A file of the repository's, as data.
fn yaml(path: &str) -> Value {
    let text = fs::read_to_string(repository().join(path)).unwrap();
    serde_saphyr::from_str(&text).unwrap()
}

fn texts(value: &Value) -> impl Iterator<Item = String> {
    let items = value.as_array().into_iter().flatten();
    items.map(|item| item.as_str().unwrap().to_owned())
}

/// Runs a line as a shell does that has this build of the binary in its path.
fn shell(folder: &Path, line: &str) {
    let binaries = Path::new(env!("CARGO_BIN_EXE_cedargate")).parent().unwrap();
    let output = Command::new("sh")
        .current_dir(folder)
        .env_clear()
        .env("PATH", format!("{}:/usr/bin:/bin", binaries.display()))
        .args(["-ec", line])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{line}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn what_teams_copy_into_their_ci_passes_on_our_own_policies() {
    let mut lines = Vec::new();
    let github = yaml("deploy/ci/github-actions.yml");
    for job in github["jobs"].as_object().unwrap().values() {
        let steps = job["steps"].as_array().unwrap();
        lines.extend(
            steps
                .iter()
                .filter_map(|step| Some(step["run"].as_str()?.to_owned())),
        );
    }
    let of_github = lines.len();
    let gitlab = yaml("deploy/ci/gitlab-ci.yml");
    lines.extend(
        gitlab
            .as_object()
            .unwrap()
            .values()
            .flat_map(|job| texts(&job["script"])),
    );
    let of_gitlab = lines.len() - of_github;
    let hooks = yaml(".pre-commit-hooks.yaml");
    for hook in hooks.as_array().unwrap() {
        let entry = hook["entry"].as_str().unwrap().to_owned();
        let files = if hook["pass_filenames"] == false {
            ""
        } else {
            " policies/*.cedar"
        };
        let arguments: Vec<String> = texts(&hook["args"]).collect();
        lines.push(format!("{entry} {}{files}", arguments.join(" ")));
    }
    assert!(
        of_github >= 4 && of_gitlab >= 4 && lines.len() >= 12,
        "{lines:?}"
    );

    let folder = folder();
    for line in &lines {
        assert!(line.starts_with("cedargate policy "), "{line}");
        shell(folder.path(), line);
    }
    let report = fs::read_to_string(folder.path().join("policies.xml")).unwrap();
    assert!(
        report.starts_with("<?xml") && report.contains("failures=\"0\""),
        "{report}"
    );
}

#[test]
fn the_documentation_shows_these_files() {
    let text = fs::read_to_string(repository().join("docs/policies.md")).unwrap();
    for path in ["deploy/ci/github-actions.yml", "deploy/ci/gitlab-ci.yml"] {
        let file = fs::read_to_string(repository().join(path)).unwrap();
        assert!(
            text.contains(file.trim_end()),
            "docs/policies.md has another {path}"
        );
    }
    let hooks = yaml(".pre-commit-hooks.yaml");
    for hook in hooks.as_array().unwrap() {
        let id = hook["id"].as_str().unwrap();
        assert!(
            text.contains(&format!("- id: {id}\n")),
            "docs/policies.md does not name {id}"
        );
    }
}
