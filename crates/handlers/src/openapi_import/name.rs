//! Names: of services, commands and arguments, made of what the document calls them.

use std::collections::BTreeSet;

use authz::{CommandName, ServiceName};

use crate::catalog::folded;

/// The longest name of a command that is made here, in letters.
const LONGEST: usize = 72;

/// What is asked for with a word of this kind at the beginning.
const VERBS: &[&str] = &[
    "accept",
    "activate",
    "add",
    "append",
    "apply",
    "approve",
    "archive",
    "assign",
    "attach",
    "batch",
    "block",
    "cancel",
    "check",
    "clear",
    "clone",
    "close",
    "commit",
    "compare",
    "configure",
    "confirm",
    "convert",
    "copy",
    "count",
    "create",
    "deactivate",
    "decline",
    "delete",
    "deploy",
    "detach",
    "disable",
    "dismiss",
    "dispatch",
    "download",
    "enable",
    "execute",
    "export",
    "fetch",
    "find",
    "follow",
    "force",
    "generate",
    "get",
    "import",
    "init",
    "insert",
    "install",
    "invite",
    "kill",
    "leave",
    "link",
    "list",
    "lock",
    "lookup",
    "mark",
    "merge",
    "migrate",
    "move",
    "open",
    "patch",
    "pause",
    "pin",
    "ping",
    "post",
    "preview",
    "publish",
    "purge",
    "put",
    "query",
    "read",
    "redeliver",
    "redeploy",
    "refresh",
    "register",
    "reject",
    "release",
    "reload",
    "remove",
    "rename",
    "render",
    "renew",
    "reopen",
    "replace",
    "request",
    "rerun",
    "reset",
    "resolve",
    "restart",
    "restore",
    "resume",
    "retry",
    "retrieve",
    "revert",
    "review",
    "revoke",
    "rotate",
    "run",
    "save",
    "scale",
    "search",
    "send",
    "set",
    "show",
    "star",
    "start",
    "stop",
    "submit",
    "subscribe",
    "suspend",
    "swap",
    "sync",
    "terminate",
    "test",
    "transfer",
    "trigger",
    "unarchive",
    "unassign",
    "unblock",
    "unfollow",
    "uninstall",
    "unlink",
    "unlock",
    "unpin",
    "unstar",
    "unsubscribe",
    "update",
    "upgrade",
    "upload",
    "upsert",
    "validate",
    "verify",
    "view",
    "watch",
    "write",
];

/// Segments of a path that say nothing of what it is about.
const EMPTY_SEGMENTS: &[&str] = &["api", "rest", "public", "latest"];

/// Words of a title that do not name the service.
const EMPTY_WORDS: &[&str] = &[
    "a",
    "an",
    "and",
    "api",
    "apis",
    "definition",
    "description",
    "document",
    "documentation",
    "docs",
    "for",
    "http",
    "of",
    "official",
    "openapi",
    "public",
    "reference",
    "rest",
    "restful",
    "s",
    "schema",
    "service",
    "spec",
    "specification",
    "swagger",
    "the",
    "v",
];

/// Words of a text: at what is no letter or digit, and where small letters become capital.
pub(super) fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut word = String::new();
    let letters: Vec<char> = text.chars().collect();
    for (index, &letter) in letters.iter().enumerate() {
        if !letter.is_ascii_alphanumeric() {
            // An apostrophe does not end a word.
            if letter != '\'' && letter != '\u{2019}' && !word.is_empty() {
                words.push(std::mem::take(&mut word));
            }
            continue;
        }
        let before = index.checked_sub(1).and_then(|index| letters.get(index));
        let after = letters.get(index + 1);
        let begins = letter.is_ascii_uppercase()
            && before.is_some_and(|before| {
                before.is_ascii_lowercase()
                    || before.is_ascii_digit()
                    || before.is_ascii_uppercase() && after.is_some_and(char::is_ascii_lowercase)
            });
        if begins && !word.is_empty() {
            words.push(std::mem::take(&mut word));
        }
        word.push(letter.to_ascii_lowercase());
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// A service's name, of a document's title.
pub(super) fn service(title: &str) -> ServiceName {
    // A title is no identifier: `GitHub` is one word.
    let words: Vec<String> = words(&title.to_lowercase())
        .into_iter()
        .filter(|word| {
            !EMPTY_WORDS.contains(&word.as_str())
                && !(word.strip_prefix('v').unwrap_or(word))
                    .bytes()
                    .all(|byte| byte.is_ascii_digit())
        })
        .take(2)
        .collect();
    let name: String = words.join("-").chars().take(40).collect();
    name.trim_end_matches('-')
        .parse()
        .unwrap_or_else(|_| imported())
}

#[expect(
    clippy::expect_used,
    reason = "a constant, and a test says that it is a name"
)]
fn imported() -> ServiceName {
    "imported".parse().expect("a name")
}

/// The words of a service's name as environment variables begin.
pub(super) fn variable_prefix(service: &ServiceName) -> String {
    let prefix: String = service
        .as_str()
        .chars()
        .map(|letter| {
            if letter.is_ascii_alphanumeric() {
                letter.to_ascii_uppercase()
            } else {
                '_'
            }
        })
        .collect();
    if prefix.starts_with(|letter: char| letter.is_ascii_digit()) {
        format!("_{prefix}")
    } else {
        prefix
    }
}

/// What a command is called: its name, and how people say it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Called {
    pub(super) name: CommandName,
    pub(super) phrase: String,
}

/// Names given so far: no two commands may answer to one.
#[derive(Debug, Default)]
pub(super) struct Names {
    taken: BTreeSet<String>,
}

impl Names {
    /// A name for an operation that the document calls `id`, or that does `method` at
    /// `path`. Whether the document's own name was free.
    pub(super) fn give(
        &mut self,
        id: Option<&str>,
        method: &str,
        path: &str,
        list: bool,
    ) -> (Option<Called>, bool) {
        let own = id.and_then(of_id);
        let had_own = own.is_some();
        let derived = of_path(method, path, list, false);
        let longer = of_path(method, path, list, true);
        let mut first = true;
        for (name, phrase) in own.into_iter().chain([derived, longer.clone()]) {
            if let Some(called) = self.take(&name, &phrase) {
                return (Some(called), first || !had_own);
            }
            first = false;
        }
        let numbered = (2..10_000).find_map(|number| {
            let words = [longer.0.as_slice(), &[number.to_string()]].concat();
            self.take(&words, &words)
        });
        (numbered, false)
    }

    fn take(&mut self, name: &[String], phrase: &[String]) -> Option<Called> {
        let name = cut(name);
        let spelling = folded(&name);
        if spelling.is_empty() || spelling == "help" || self.taken.contains(&spelling) {
            return None;
        }
        let parsed: CommandName = name.parse().ok()?;
        let said = folded(&cut(phrase));
        let phrase = if said.is_empty() || said == "help" || self.taken.contains(&said) {
            spelling.clone()
        } else {
            said
        };
        self.taken.insert(phrase.clone());
        self.taken.insert(spelling);
        Some(Called {
            name: parsed,
            phrase: phrase.replace('-', " "),
        })
    }
}

/// As many words as fit.
fn cut(words: &[String]) -> String {
    let mut name = String::new();
    for word in words {
        if !name.is_empty() && name.len() + 1 + word.len() > LONGEST {
            break;
        }
        if !name.is_empty() {
            name.push('-');
        }
        name.extend(word.chars().take(LONGEST));
    }
    name
}

/// `repos/list-for-org`: the verb goes first in the name, the noun in the phrase.
fn of_id(id: &str) -> Option<(Vec<String>, Vec<String>)> {
    let all = words(id);
    if all.is_empty() {
        return None;
    }
    if let Some((noun, rest)) = id.split_once(['/', '.']) {
        let (noun, rest) = (words(noun), words(rest));
        if let Some((verb, further)) = rest.split_first()
            && VERBS.contains(&verb.as_str())
            && !noun.is_empty()
        {
            let name = [std::slice::from_ref(verb), &noun, further].concat();
            return Some((name, all));
        }
    }
    Some((all.clone(), all))
}

/// `GET /teams/{id}/members`: `list-teams-members`. With `longer`, what is in braces, too.
fn of_path(method: &str, path: &str, list: bool, longer: bool) -> (Vec<String>, Vec<String>) {
    let mut nouns = Vec::new();
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        let placeholder = segment.starts_with('{');
        let version = segment
            .strip_prefix('v')
            .is_some_and(|rest| rest.starts_with(|digit: char| digit.is_ascii_digit()));
        if version || EMPTY_SEGMENTS.contains(&segment) || (placeholder && !longer) {
            continue;
        }
        if placeholder {
            nouns.push("by".to_owned());
        }
        nouns.extend(words(segment));
    }
    if nouns.is_empty() {
        nouns.push("root".to_owned());
    }
    // `POST /servers/{id}/restart` has its verb already.
    if method != "GET"
        && let Some((verb, before)) = nouns.split_last()
        && VERBS.contains(&verb.as_str())
        && !before.is_empty()
    {
        let name = [std::slice::from_ref(verb), before].concat();
        return (name, nouns);
    }
    let verb = match method {
        "GET" if list => "list",
        "GET" => "get",
        "POST" => "create",
        "PUT" => "replace",
        "PATCH" => "update",
        _ => "delete",
    };
    let one = path.ends_with('}') || method == "POST";
    if one
        && let Some(last) = nouns.last_mut()
        && last.len() > 3
        && last.ends_with('s')
        && !last.ends_with("ss")
        && !last.ends_with("us")
    {
        *last = singular(last);
    }
    let verb = [verb.to_owned()];
    (
        [verb.as_slice(), &nouns].concat(),
        [nouns.as_slice(), &verb].concat(),
    )
}

/// Of what is likely a plural.
pub(super) fn singular(word: &str) -> String {
    if let Some(stem) = word.strip_suffix("ies") {
        return format!("{stem}y");
    }
    for ending in ["ches", "shes", "sses", "xes"] {
        if word.ends_with(ending) {
            return word.strip_suffix("es").unwrap_or(word).to_owned();
        }
    }
    word.strip_suffix('s').unwrap_or(word).to_owned()
}

/// A name for an argument that the service calls `wire`, which none of `taken` has.
pub(super) fn argument(wire: &str, place: &str, taken: &BTreeSet<String>) -> String {
    let is_letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let mut name = String::new();
    for letter in wire.chars().take(64) {
        if is_letter(letter) {
            name.push(letter);
        } else if !name.is_empty() && !name.ends_with('_') {
            name.push('_');
        }
    }
    let name = name.trim_matches(['_', '-', '.']);
    let name = if name.is_empty() { "value" } else { name };
    let free = |name: &String| !taken.contains(&name.replace('-', "_"));
    let candidates = [name.to_owned(), format!("{place}_{name}")];
    candidates
        .into_iter()
        .chain((2..10_000).map(|number| format!("{name}_{number}")))
        .find(free)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name_of(id: Option<&str>, line: &str) -> String {
        let (method, path) = line.split_once(' ').unwrap();
        let (called, _) = Names::default().give(id, method, path, path.ends_with('s'));
        let called = called.unwrap();
        format!("{} | {}", called.name, called.phrase)
    }

    #[test]
    fn names_are_those_of_the_document_verb_first() {
        let cases = [
            (Some("listServers"), "GET /x", "list-servers | list servers"),
            (
                Some("repos/list-for-org"),
                "GET /x",
                "list-repos-for-org | repos list for org",
            ),
            (
                Some("UsersController_getByID"),
                "GET /x",
                "users-controller-get-by-id | users controller get by id",
            ),
            (
                Some("getHTTPStatus2"),
                "GET /x",
                "get-http-status2 | get http status2",
            ),
            (
                Some("\u{540d}\u{524d}"),
                "GET /pets",
                "list-pets | pets list",
            ),
            (Some("help"), "GET /pets/{id}", "get-pet | pet get"),
            (None, "GET /api/v1/pets", "list-pets | pets list"),
            (None, "GET /pets/{id}", "get-pet | pet get"),
            (
                None,
                "POST /categories",
                "create-category | category create",
            ),
            (
                None,
                "POST /servers/{id}/restart",
                "restart-servers | servers restart",
            ),
            (None, "PUT /a/{b}/c", "replace-a-c | a c replace"),
            (None, "DELETE /", "delete-root | root delete"),
        ];
        for (id, line, expected) in cases {
            assert_eq!(name_of(id, line), expected, "{id:?} {line}");
        }
    }

    #[test]
    fn no_two_are_called_the_same() {
        let mut names = Names::default();
        let given: Vec<(String, bool)> = [
            (Some("get-pet"), "/pets/{id}"),
            (Some("getPet"), "/pets/{name}"),
            (None, "/pets/{other}"),
            (None, "/pets/{other}"),
        ]
        .into_iter()
        .map(|(id, path)| {
            let (called, own) = names.give(id, "GET", path, false);
            (called.unwrap().name.to_string(), own)
        })
        .collect();
        let expected = [
            ("get-pet", true),
            ("get-pets-by-name", false),
            ("get-pets-by-other", true),
            ("get-pets-by-other-2", false),
        ];
        assert_eq!(given, expected.map(|(name, own)| (name.to_owned(), own)));
    }

    #[test]
    fn a_service_is_named_by_its_title() {
        let cases = [
            ("Coolify", "coolify"),
            ("GitHub's official OpenAPI spec", "githubs"),
            ("Pet Store API v2", "pet-store"),
            ("The API", "imported"),
            ("\u{540d}", "imported"),
        ];
        for (title, expected) in cases {
            assert_eq!(service(title).as_str(), expected, "{title}");
        }
        assert_eq!(variable_prefix(&"a.b-c".parse().unwrap()), "A_B_C");
        assert_eq!(variable_prefix(&"1x".parse().unwrap()), "_1X");
    }
}
