//! Risk: of an operation, by its method and by words that say more.

use authz::Risk;
use serde_json::Value;

use super::{document::is_true, name::words};

/// What deletes, stops or spends.
const DESTROYS: &[&str] = &[
    "buy",
    "charge",
    "delete",
    "deletes",
    "destroy",
    "destroys",
    "drop",
    "erase",
    "expunge",
    "flush",
    "kill",
    "pay",
    "purchase",
    "purge",
    "refund",
    "remove",
    "removes",
    "revoke",
    "revokes",
    "shutdown",
    "stop",
    "terminate",
    "terminates",
    "truncate",
    "uninstall",
    "wipe",
];

/// Operations that do something although they are asked for with GET.
const ACTS: &[&str] = &[
    "activate",
    "add",
    "apply",
    "approve",
    "cancel",
    "create",
    "deactivate",
    "deploy",
    "disable",
    "enable",
    "execute",
    "install",
    "invoke",
    "pause",
    "publish",
    "rebuild",
    "redeploy",
    "regenerate",
    "reload",
    "rename",
    "reset",
    "restart",
    "resume",
    "rollback",
    "rotate",
    "run",
    "send",
    "set",
    "start",
    "submit",
    "suspend",
    "sync",
    "trigger",
    "unlock",
    "update",
    "upgrade",
];

/// Such a word first says that the rest is only what is looked at: `list-deleted-items`,
/// `get-start-date`.
const READS: &[&str] = &[
    "check", "count", "describe", "download", "export", "fetch", "find", "get", "has", "is",
    "list", "lookup", "query", "read", "retrieve", "search", "show", "view",
];

/// The risk of `method` at `path`, called `id`.
///
/// GET reads, DELETE destroys, others write. Words and the document's own hints may raise
/// that, and nothing lowers it.
pub(super) fn of(method: &str, path: &str, id: Option<&str>, operation: &Value) -> Risk {
    let mut risk = match method {
        "GET" => Risk::Read,
        "DELETE" => Risk::Destroy,
        _ => Risk::Write,
    };
    let id_words = id.map(words).unwrap_or_default();
    // The last part of a path is its verb, if it has one.
    let last = path
        .rsplit('/')
        .find(|segment| !segment.is_empty() && !segment.contains('{'))
        .filter(|_| !path.ends_with('}'))
        .unwrap_or_default();
    let last_words = words(last);
    let said =
        |list: &[&str], words: &[String]| words.iter().any(|word| list.contains(&word.as_str()));
    let reading = |words: &[String]| {
        // `repos/get-…`: the noun may stand first.
        words
            .iter()
            .take(2)
            .any(|word| READS.contains(&word.as_str()))
    };
    let only_read = method == "GET" && reading(&id_words);
    // A path that ends with an act is one, whatever it is called; one that ends with a
    // longer name (`/start-date`) is none.
    let act = last_words.len() == 1;
    if (!only_read && said(DESTROYS, &id_words)) || (act && said(DESTROYS, &last_words)) {
        risk = risk.max(Risk::Destroy);
    }
    if (!only_read && said(ACTS, &id_words)) || (act && said(ACTS, &last_words)) {
        risk = risk.max(Risk::Write);
    }
    risk.max(hinted(operation))
}

/// What the document says itself.
fn hinted(operation: &Value) -> Risk {
    let mut risk = Risk::Read;
    for key in ["x-cedargate-risk", "x-risk"] {
        risk = risk.max(match operation.get(key).and_then(Value::as_str) {
            Some("destroy" | "destructive" | "high" | "critical") => Risk::Destroy,
            Some("write" | "medium") => Risk::Write,
            _ => Risk::Read,
        });
    }
    // As OpenAI's actions and annotations of MCP have it.
    if is_true(operation, "x-openai-isConsequential") {
        risk = risk.max(Risk::Write);
    }
    if is_true(operation, "x-destructive") || is_true(operation, "x-destructiveHint") {
        risk = risk.max(Risk::Destroy);
    }
    risk
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn words_and_hints_raise_what_the_method_says() {
        let none = json!({});
        let cases = [
            ("GET /servers", Some("list-servers"), &none, Risk::Read),
            ("POST /servers", Some("create-server"), &none, Risk::Write),
            ("POST /search", Some("search"), &none, Risk::Write),
            ("DELETE /servers/{id}", None, &none, Risk::Destroy),
            ("POST /keys/{id}/revoke", None, &none, Risk::Destroy),
            ("POST /keys", Some("keys.revokeAll"), &none, Risk::Destroy),
            ("PUT /x", Some("purgeCache"), &none, Risk::Destroy),
            (
                "GET /applications/{id}/start",
                Some("start-application"),
                &none,
                Risk::Write,
            ),
            ("GET /applications/{id}/restart", None, &none, Risk::Write),
            ("GET /deploy", Some("deploy-by-tag"), &none, Risk::Write),
            (
                "GET /items/deleted",
                Some("list-deleted-items"),
                &none,
                Risk::Read,
            ),
            ("GET /start-date", Some("get-start-date"), &none, Risk::Read),
            ("GET /purge", Some("get-purge"), &none, Risk::Destroy),
            ("GET /repos/{x}", Some("repos/get"), &none, Risk::Read),
            ("GET /x/delete/{id}", Some("deleteX"), &none, Risk::Destroy),
            ("POST /servers/{id}/stop", None, &none, Risk::Destroy),
            ("POST /cards/{id}/charge", None, &none, Risk::Destroy),
        ];
        for (line, id, operation, expected) in cases {
            let (method, path) = line.split_once(' ').unwrap();
            assert_eq!(of(method, path, id, operation), expected, "{line} {id:?}");
        }
        let hints = [
            (json!({"x-cedargate-risk": "destroy"}), Risk::Destroy),
            (json!({"x-openai-isConsequential": true}), Risk::Write),
            (json!({"x-openai-isConsequential": false}), Risk::Read),
            (json!({"x-destructive": true}), Risk::Destroy),
            (json!({"x-risk": 7}), Risk::Read),
        ];
        for (operation, expected) in hints {
            assert_eq!(of("GET", "/x", None, &operation), expected, "{operation}");
        }
        let lower = json!({"x-cedargate-risk": "read"});
        assert_eq!(of("DELETE", "/x", None, &lower), Risk::Destroy);
    }
}
