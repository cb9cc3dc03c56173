//! `cedargate policy check`, on folders as people break them.

use std::{fs, path::Path, process::Command};

use serde_json::Value;

use super::{cedargate, repository};

/// A copy of the shipped policies to break.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(
        repository().join("schema.cedarschema"),
        folder.path().join("schema.cedarschema"),
    )
    .unwrap();
    fs::create_dir(folder.path().join("policies")).unwrap();
    for entry in fs::read_dir(repository().join("policies")).unwrap() {
        let entry = entry.unwrap();
        if entry
            .path()
            .extension()
            .is_some_and(|extension| extension == "cedar")
        {
            fs::copy(
                entry.path(),
                folder.path().join("policies").join(entry.file_name()),
            )
            .unwrap();
        }
    }
    folder
}

fn check(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    cedargate(folder, &[&["check"], arguments].concat())
}

fn check_json(folder: &Path) -> (i32, Value) {
    let (code, out, err) = check(folder, &["policies", "--json"]);
    (
        code,
        serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}{err}")),
    )
}

#[test]
fn the_shipped_policies_are_valid_from_the_folder_and_from_the_binary() {
    let own = folder();
    let (code, value) = check_json(own.path());
    assert_eq!((code, &value["valid"]), (0, &Value::Bool(true)), "{value}");
    let empty = tempfile::tempdir().unwrap();
    let (code, out, err) = check(empty.path(), &["--json"]);
    let shipped: Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{err}"));
    assert_eq!(code, 0);
    assert_eq!(shipped["folder"], "the shipped policies");
    assert_eq!(
        shipped["version"], value["version"],
        "the same text, wherever it is read from"
    );
}

#[test]
fn a_mistake_is_shown_with_its_place_and_a_caret() {
    let folder = folder();
    let path = folder.path().join("policies/zz-broken.cedar");
    fs::write(
        &path,
        "@id(\"broken\")\npermit (principal, action, resource) when { principal.nope };\n",
    )
    .unwrap();
    let (code, out, _) = check(folder.path(), &["policies"]);
    assert_eq!(code, 1);
    assert!(
        out.contains("zz-broken.cedar:2:")
            && out.contains('^')
            && out.contains("would not be put in force"),
        "{out}"
    );
    let (code, value) = check_json(folder.path());
    assert_eq!((code, &value["valid"]), (1, &Value::Bool(false)));
    let finding = &value["findings"][0];
    assert_eq!(
        (finding["severity"].as_str(), finding["line"].as_u64()),
        (Some("error"), Some(2)),
        "{value}"
    );
}

#[test]
fn every_kind_of_broken_folder_is_a_finding_and_never_a_crash() {
    type Break = fn(&Path);
    let cases: [(&str, Break); 7] = [
        ("not UTF-8", |folder| {
            fs::write(folder.join("policies/zz.cedar"), b"permit \xff\xfe").unwrap();
        }),
        ("not Cedar", |folder| {
            fs::write(folder.join("policies/zz.cedar"), "{{{{").unwrap();
        }),
        ("nested too deep", |folder| {
            let text = format!(
                "@id(\"deep\") permit (principal, action, resource) when {{ {}true{} }};",
                "(".repeat(50_000),
                ")".repeat(50_000)
            );
            fs::write(folder.join("policies/zz.cedar"), text).unwrap();
        }),
        ("an id twice", |folder| {
            let policy = "@id(\"twice\") forbid (principal, action, resource) when { false };\n";
            fs::write(folder.join("policies/zz.cedar"), policy.repeat(2)).unwrap();
        }),
        ("no id", |folder| {
            fs::write(
                folder.join("policies/zz.cedar"),
                "forbid (principal, action, resource);",
            )
            .unwrap();
        }),
        ("a schema that is gone", |folder| {
            fs::remove_file(folder.join("schema.cedarschema")).unwrap();
        }),
        ("a folder that is gone", |folder| {
            fs::remove_dir_all(folder.join("policies")).unwrap();
        }),
    ];
    for (name, break_it) in cases {
        let folder = folder();
        break_it(folder.path());
        let (code, value) = check_json(folder.path());
        assert_eq!(
            (code, &value["valid"]),
            (1, &Value::Bool(false)),
            "{name}: {value}"
        );
        assert!(!value["findings"].as_array().unwrap().is_empty(), "{name}");
        let (code, out, err) = check(folder.path(), &["policies"]);
        assert_eq!((code, err.as_str()), (1, ""), "{name}");
        assert!(out.contains("error: "), "{name}: {out}");
    }
}

#[test]
#[cfg(unix)]
fn a_link_to_nowhere_and_odd_names_are_findings() {
    let folder = folder();
    std::os::unix::fs::symlink("/nowhere/at/all", folder.path().join("policies/zz.cedar")).unwrap();
    let (code, value) = check_json(folder.path());
    assert_eq!(code, 1, "{value}");
    fs::remove_file(folder.path().join("policies/zz.cedar")).unwrap();
    fs::write(
        folder.path().join("policies/zz\u{1b}[31m.cedar"),
        "nonsense",
    )
    .unwrap();
    let (code, out, _) = check(folder.path(), &["policies"]);
    assert_eq!(code, 1);
    assert!(!out.contains('\u{1b}'), "{out:?}");
}

#[test]
fn typed_actions_of_a_service_fit_the_shipped_schema() {
    let folder = folder();
    let schema = |arguments: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_cedargate"))
            .current_dir(folder.path())
            .env_clear()
            .args(["services", "schema"])
            .args(arguments)
            .output()
            .unwrap()
    };
    let output = schema(&["coolify"]);
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("action \"coolify/list-servers\" in [Action::\"read\"] appliesTo {"),
        "{text}"
    );
    let path = folder.path().join("schema.cedarschema");
    let own = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{own}\n{text}")).unwrap();
    let (code, value) = check_json(folder.path());
    assert_eq!((code, &value["valid"]), (0, &Value::Bool(true)), "{value}");

    let one = schema(&["coolify", "list-servers", "--json"]);
    let one: Value = serde_json::from_slice(&one.stdout).unwrap();
    assert_eq!(one[0]["command"], "coolify/list-servers");
    assert_eq!(one.as_array().unwrap().len(), 1);
    for unknown in [&["nothing"][..], &["coolify", "nothing"]] {
        assert_eq!(schema(unknown).status.code(), Some(4), "{unknown:?}");
    }
}
