//! Tests in the form of Cedar's own tool, `cedar run-tests`: a list in JSON. They are taken
//! as they are; what that tool does not look at, this does not either.

use std::{fs, path::Path, sync::Arc};

use authz::{Finding, mutate::Workshop};
use handlers::Catalog;
use serde_json::{Value, value::RawValue};

use super::{
    case::{Case, Question},
    fixtures::{Fixtures, nearest},
    format::{Details, Expect, Verdict},
    read::Source,
};

/// The largest file of entities.
const MAX_ENTITIES: u64 = 16 * 1024 * 1024;

/// What every test has.
const MEMBERS: [&str; 5] = ["request", "entities", "decision", "reason", "num_errors"];

/// What every request has.
const OF_REQUEST: [&str; 4] = ["principal", "action", "resource", "context"];

/// Whether a JSON file that lies among policies holds such tests, and not something else.
pub(super) fn looks_like_tests(path: &Path) -> bool {
    if path.to_string_lossy().ends_with(".test.json") {
        return true;
    }
    let Ok(source) = Source::read(path) else {
        return false;
    };
    let Ok(tests) = serde_json::from_str::<Vec<Value>>(&source.text) else {
        return false;
    };
    let is_test = |test: &Value| test.get("request").is_some() && test.get("decision").is_some();
    tests.first().is_some_and(is_test)
}

/// The cases of one file.
pub(super) fn cases(
    source: &Source,
    path: &Path,
    (catalog, workshop): (&Arc<Catalog>, &Workshop),
    cases: &mut Vec<Case>,
    findings: &mut Vec<Finding>,
) {
    let tests: Vec<&RawValue> = match serde_json::from_str(&source.text) {
        Ok(tests) => tests,
        Err(error) => {
            let line = u64::try_from(error.line()).unwrap_or(1).max(1);
            let message = error.to_string();
            let message = message.split(" at line ").next().unwrap_or(&message);
            let help = "tests of `cedar run-tests` are a list: `[{\"request\": …, \"entities\": …, \"decision\": \"allow\", \"reason\": [], \"num_errors\": 0}]`";
            findings.push(source.at_line(line, message, Some(help)));
            return;
        }
    };
    if tests.is_empty() {
        findings.push(source.at_line(1, "the file has no tests", None));
    }
    for raw in tests {
        let offset = raw.get().as_ptr().addr() - source.text.as_ptr().addr();
        let before = source.text.get(..offset).unwrap_or_default();
        let line = before.matches('\n').count() as u64 + 1;
        match case(source, path, raw, line, (catalog, workshop)) {
            Ok(case) => cases.push(case),
            Err((message, help)) => findings.push(source.at_line(line, &message, help.as_deref())),
        }
    }
}

type Wrong = (String, Option<String>);

fn case(
    source: &Source,
    path: &Path,
    raw: &RawValue,
    line: u64,
    (catalog, workshop): (&Arc<Catalog>, &Workshop),
) -> Result<Case, Wrong> {
    let alone = |message: String| (message, None);
    let json: Value = serde_json::from_str(raw.get()).map_err(|error| alone(error.to_string()))?;
    complete(&json, "test", &MEMBERS)?;
    complete(
        json.get("request").unwrap_or(&Value::Null),
        "request",
        &OF_REQUEST,
    )?;
    let test = workshop
        .cedar_test(&json, |file| entities(path, file))
        .map_err(alone)?;
    Ok(Case {
        file: source.name.clone(),
        line,
        name: test.name.unwrap_or_else(|| format!("line {line}")),
        question: Question::Cedar(test.question),
        expect: Expect {
            verdict: if test.allow {
                Verdict::Allow
            } else {
                Verdict::Deny
            },
            details: Details {
                including: test.reason,
                num_errors: Some(test.num_errors),
                ..Details::default()
            },
        },
        approvers: Fixtures::new(catalog),
    })
}

/// That nothing is missing, with what may have been meant by what is there instead.
fn complete(json: &Value, what: &str, members: &[&'static str]) -> Result<(), Wrong> {
    let Some(object) = json.as_object() else {
        return Err((format!("a {what} is an object"), None));
    };
    let Some(missing) = members.iter().find(|member| !object.contains_key(**member)) else {
        return Ok(());
    };
    let others = object.keys().map(String::as_str);
    let others = others.filter(|key| !members.contains(key));
    let meant = nearest(missing, others);
    let help = match meant {
        Some(slip) => format!("is `{slip}` meant to be `{missing}`?"),
        None => format!("a {what} has {}", members.join(", ")),
    };
    Err((format!("the {what} has no `{missing}`"), Some(help)))
}

/// The entities of a file beside the tests, or below.
fn entities(tests: &Path, file: &str) -> Result<Value, String> {
    let folder = match tests.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let unreadable =
        |error: std::io::Error| format!("the file of entities `{file}` cannot be read: {error}");
    let path = folder.join(file).canonicalize().map_err(unreadable)?;
    if !path.starts_with(folder.canonicalize().map_err(unreadable)?) {
        return Err(format!(
            "the file of entities `{file}` lies outside of the folder of the tests"
        ));
    }
    let size = fs::metadata(&path).map_err(unreadable)?.len();
    if size > MAX_ENTITIES {
        return Err(format!(
            "the file of entities `{file}` has {size} bytes, and may have {MAX_ENTITIES}"
        ));
    }
    let text = fs::read_to_string(&path).map_err(unreadable)?;
    serde_json::from_str(&text)
        .map_err(|error| format!("the file of entities `{file}` is not JSON: {error}"))
}
