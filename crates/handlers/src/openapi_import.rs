//! Import: an OpenAPI 3.0 or 3.1 document becomes a description of a service.
//!
//! Nothing is fetched and nothing is asked. What a description cannot have is left out, with
//! a reason, and what cannot be checked here is left to the service; the result is a
//! description that loads, or an error.

mod answer;
mod argument;
mod body;
mod credential;
mod document;
mod name;
mod operation;
mod pages;
mod risk;
mod sample;
mod schema;
mod write;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use authz::ServiceName;
use reqwest::Url;
use serde_json::Value;

use self::{
    credential::Credentials,
    document::{Document, is_true, items, line, members, text},
    name::Names,
    operation::{Draft, Operation, operations},
    write::{Address, Head},
};
pub use self::{document::MAX_DOCUMENT_BYTES, sample::sample};
use crate::{
    Catalog,
    catalog::{Known, ServiceFacts, built_in_names},
    description::Description,
    nearest::nearest,
};

/// Why no description comes of a document.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// It is longer than [`MAX_DOCUMENT_BYTES`].
    #[error("the document has {bytes} bytes, more than {MAX_DOCUMENT_BYTES}")]
    TooLong {
        /// How many it has.
        bytes: usize,
    },
    /// It is HTML.
    #[error(
        "this is a web page, not an OpenAPI document: look for a link to its JSON or YAML (often `openapi.json` or `openapi.yaml`)"
    )]
    WebPage,
    /// It is neither valid JSON nor valid YAML.
    #[error("this is not valid {format}: {problem}")]
    Syntax {
        /// `JSON` or `YAML`.
        format: &'static str,
        /// What the parser says, with the line.
        problem: String,
    },
    /// It is something else.
    #[error("this is no OpenAPI document: {0}")]
    NotOpenApi(String),
    /// It is Swagger 2.0.
    #[error(
        "this is a Swagger 2.0 document: convert it to OpenAPI 3 first, for example with `npx swagger2openapi <file> -o openapi.yaml`"
    )]
    Swagger,
    /// It is of a version that we do not know.
    #[error("this is OpenAPI `{version}`, and only 3.0 and 3.1 are understood")]
    Version {
        /// As it says.
        version: String,
    },
    /// What was asked for is not there, or cannot be.
    #[error("{0}")]
    Asked(String),
    /// Nothing is left of it.
    #[error("no operation of this document can be a command; {}", summary(.0))]
    Nothing(Box<Report>),
    /// What we made is not a description: our own mistake.
    #[error("what came of the document is no description that loads: {0}")]
    Own(String),
}

/// What is imported, and how.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// What the service is called; by default after the document's title.
    pub name: Option<ServiceName>,
    /// It takes the place of the built-in service of this name.
    pub replaces: bool,
    /// Where the document was, for addresses that are relative to it.
    pub origin: Option<Url>,
    /// Only paths that are, or lie below, one of these; `*` stands for any text.
    pub include: Vec<String>,
    /// Only operations with one of these tags.
    pub tags: Vec<String>,
    /// Only these: by the document's name for them, or as `GET /path`.
    pub operations: Vec<String>,
    /// Deprecated ones, too.
    pub deprecated: bool,
    /// The security scheme to use, when there are several.
    pub security: Option<String>,
}

/// A description, and how it came about.
#[derive(Clone, Debug)]
pub struct Imported {
    /// What the service is called.
    pub name: ServiceName,
    /// The description, as TOML.
    pub text: String,
    /// What was left out, and what to know.
    pub report: Report,
}

/// What became of a document.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Report {
    /// How many commands the description has.
    pub commands: usize,
    /// Operations that were not asked for.
    pub not_asked_for: usize,
    /// Operations that are no commands, by the reason.
    pub left_out: Vec<Group>,
    /// Commands of which something is not as the document has it, by what that is.
    pub simplified: Vec<Group>,
    /// What else to know.
    pub remarks: Vec<String>,
}

/// Operations of which the same is to be said.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Group {
    /// It completes the sentence that an operation begins.
    pub why: String,
    /// The operations.
    pub operations: Vec<String>,
}

fn summary(report: &Report) -> String {
    let count = |group: &Group| format!("{}: {}", group.operations.len(), group.why);
    let mut said: Vec<String> = report.left_out.iter().map(count).collect();
    if report.not_asked_for > 0 {
        said.push(format!("{}: not asked for", report.not_asked_for));
    }
    if said.is_empty() {
        "it has none".to_owned()
    } else {
        said.join("; ")
    }
}

/// What is noted on the way.
#[derive(Debug, Default)]
struct Notes {
    left_out: BTreeMap<String, Vec<String>>,
    simplified: BTreeMap<String, Vec<String>>,
    remarks: Vec<String>,
}

impl Notes {
    fn left_out(&mut self, why: &str, operation: &str) {
        let operations = self.left_out.entry(why.to_owned()).or_default();
        operations.push(operation.to_owned());
    }

    fn simplified(&mut self, why: &str, operation: &str) {
        let operations = self.simplified.entry(why.to_owned()).or_default();
        if operations.last().is_none_or(|last| last != operation) {
            operations.push(operation.to_owned());
        }
    }

    fn remark(&mut self, remark: &str) {
        self.remarks.push(remark.to_owned());
    }

    fn report(self, commands: usize, not_asked_for: usize) -> Report {
        let groups = |groups: BTreeMap<String, Vec<String>>| {
            let mut groups: Vec<Group> = groups
                .into_iter()
                .map(|(why, operations)| Group { why, operations })
                .collect();
            groups.sort_by_key(|group| std::cmp::Reverse(group.operations.len()));
            groups
        };
        Report {
            commands,
            not_asked_for,
            left_out: groups(self.left_out),
            simplified: groups(self.simplified),
            remarks: self.remarks,
        }
    }
}

/// The document as JSON, whichever way it is written.
///
/// # Errors
///
/// When it is no OpenAPI document that we know.
pub fn read(text: &str) -> Result<Value, ImportError> {
    Document::read(text).map(Document::into_value)
}

/// Makes a description of `text`.
///
/// # Errors
///
/// When it is no OpenAPI document that we know, when what is asked for is not in it, and
/// when no operation of it can be a command.
pub fn import(text: &str, options: &Options) -> Result<Imported, ImportError> {
    let document = Document::read(text)?;
    let mut notes = Notes::default();
    let name = service_name(&document, options, &mut notes)?;
    let all = operations(&document, &mut notes);
    let (asked, not_asked_for) = asked_for(&all, options, &mut notes)?;
    let credentials = Credentials::choose(
        &document,
        asked.iter().map(|operation| operation.value),
        &name,
        options.security.as_deref(),
        &mut notes,
    )
    .map_err(ImportError::Asked)?;
    let mut servers = Servers::new(&document, options, &name, &mut notes);

    let mut names = Names::default();
    let mut drafts = Vec::new();
    for operation in asked {
        let made = servers.of(&document, operation).and_then(|address| {
            Draft::new(
                &document,
                operation,
                address,
                &credentials,
                &mut names,
                &mut notes,
            )
        });
        match made {
            Ok(draft) => drafts.push(draft),
            Err(why) => notes.left_out(&why, &operation.label()),
        }
    }
    // The gateway makes keys itself where all that change something take one: then it may
    // send them again.
    let mut posts = drafts
        .iter()
        .filter(|draft| draft.method == "POST")
        .peekable();
    let keyed = posts.peek().is_some() && posts.all(Draft::takes_key);
    let key = keyed
        .then(|| {
            let arguments = drafts.iter().flat_map(|draft| &draft.arguments);
            let mut keys = arguments.filter(|argument| argument.is_key());
            keys.next().map(|argument| argument.wire.clone())
        })
        .flatten();

    let (title, version) = (document.info("title"), document.info("version"));
    let about = [title, name.as_str()]
        .into_iter()
        .map(|about| line(about, 120))
        .find(|about| !about.is_empty());
    let head = write::head(&Head {
        name: name.as_str(),
        replaces: options.replaces,
        title: &line(title, 120),
        version: &line(version, 40),
        about: &about.unwrap_or_default(),
        address: servers.address,
        credentials: &credentials.list,
        idempotency_key: key.as_deref(),
    });
    let mut made = head.clone();
    let mut commands = 0;
    for draft in &mut drafts {
        let checked = written(&head, draft, key.is_none());
        match checked {
            Ok(text) => {
                made.push_str(&text);
                commands += 1;
            }
            Err(problem) => {
                notes.left_out(
                    &format!("does not pass our own check: {}", line(&problem, 120)),
                    &draft.label,
                );
            }
        }
    }
    let report = notes.report(commands, not_asked_for);
    if commands == 0 {
        return Err(ImportError::Nothing(Box::new(report)));
    }
    Catalog::from_descriptions(&[("the description", &made)], &|_| None)
        .map_err(ImportError::Own)?;
    Ok(Imported {
        name,
        text: made,
        report,
    })
}

/// The command's text, as a description with it alone loads; without its example, if that is
/// what is wrong.
fn written(head: &str, draft: &mut Draft, key: bool) -> Result<String, String> {
    if !key {
        let keys: Vec<String> = draft
            .arguments
            .iter()
            .filter(|argument| argument.is_key())
            .map(|argument| argument.name.clone())
            .collect();
        for name in keys {
            draft.example.remove(&name);
        }
    }
    let text = write::command(draft, key);
    match check(&format!("{head}{text}")) {
        Ok(()) => Ok(text),
        Err(_) if !draft.example.is_empty() => {
            draft.example.clear();
            let text = write::command(draft, key);
            check(&format!("{head}{text}")).map(|()| text)
        }
        Err(problem) => Err(problem),
    }
}

fn check(text: &str) -> Result<(), String> {
    let description = Description::read("it", text)?;
    let facts = ServiceFacts::new(&description, "server");
    Known::described(&facts, &description, None).map(|_| ())
}

fn service_name(
    document: &Document,
    options: &Options,
    notes: &mut Notes,
) -> Result<ServiceName, ImportError> {
    let asked = |message: String| Err(ImportError::Asked(message));
    let built_in = built_in_names().map_err(ImportError::Own)?;
    // Under its own name or as another's alias.
    let is_own = |name: &ServiceName| built_in.iter().any(|(own, _)| own == name);
    let is_alias = |name: &ServiceName| built_in.iter().any(|(_, aliases)| aliases.contains(name));
    match &options.name {
        Some(name) if options.replaces && !is_own(name) => asked(format!(
            "`{name}` replaces nothing: no built-in service is called so"
        )),
        Some(name) if !options.replaces && is_own(name) => asked(format!(
            "`{name}` is built in: choose another name, or let this replace it"
        )),
        Some(name) if is_alias(name) => asked(format!(
            "`{name}` is another name of a built-in service: choose another"
        )),
        Some(name) => Ok(name.clone()),
        None if options.replaces => asked("what it replaces must be named".to_owned()),
        None => {
            let name = name::service(document.info("title"));
            if !is_own(&name) && !is_alias(&name) {
                return Ok(name);
            }
            let other: ServiceName = format!("{name}-api")
                .parse()
                .map_err(|_| ImportError::Asked("choose a name".to_owned()))?;
            notes.remark(&format!("it is called `{other}`, as `{name}` is built in"));
            Ok(other)
        }
    }
}

/// What is asked for, and how many are not.
fn asked_for<'a>(
    all: &[Operation<'a>],
    options: &Options,
    notes: &mut Notes,
) -> Result<(Vec<Operation<'a>>, usize), ImportError> {
    let unknown = |what: &str, asked: &str, known: BTreeSet<&str>| {
        let hint = nearest(asked, known.iter().copied())
            .map(|near| format!("; did you mean `{near}`?"))
            .unwrap_or_default();
        ImportError::Asked(format!("the document has no {what} `{asked}`{hint}"))
    };
    for tag in &options.tags {
        let known: BTreeSet<&str> = all.iter().flat_map(Operation::tags).collect();
        if !known.contains(tag.as_str()) {
            return Err(unknown("tag", tag, known));
        }
    }
    for asked in &options.operations {
        if !all.iter().any(|operation| is_called(*operation, asked)) {
            let known = all.iter().filter_map(Operation::id).collect();
            return Err(unknown("operation", asked, known));
        }
    }
    for pattern in &options.include {
        if !all.iter().any(|operation| covers(pattern, operation.path)) {
            let known = all.iter().map(|operation| operation.path).collect();
            return Err(unknown("path", pattern, known));
        }
    }
    let mut asked = Vec::new();
    let mut others = 0;
    for &operation in all {
        let by_path = options.include.is_empty()
            || options
                .include
                .iter()
                .any(|pattern| covers(pattern, operation.path));
        let by_tag = options.tags.is_empty()
            || operation
                .tags()
                .any(|tag| options.tags.iter().any(|wanted| wanted == tag));
        let by_name = options.operations.is_empty()
            || options
                .operations
                .iter()
                .any(|wanted| is_called(operation, wanted));
        if !(by_path && by_tag && by_name) {
            others += 1;
        } else if is_true(operation.value, "deprecated") && !options.deprecated {
            notes.left_out("is deprecated", &operation.label());
        } else {
            asked.push(operation);
        }
    }
    Ok((asked, others))
}

fn is_called(operation: Operation<'_>, wanted: &str) -> bool {
    operation.id() == Some(wanted)
        || wanted.split_once(' ').is_some_and(|(method, path)| {
            method.eq_ignore_ascii_case(operation.method) && path.trim() == operation.path
        })
}

/// Whether a path is what the pattern says, or lies below it.
fn covers(pattern: &str, path: &str) -> bool {
    let mut parts = pattern.trim_end_matches('/').split('*');
    let Some(mut rest) = path.strip_prefix(parts.next().unwrap_or_default()) else {
        return false;
    };
    let mut open = false;
    for part in parts {
        open = part.is_empty();
        let Some((_, after)) = rest.split_once(part) else {
            return false;
        };
        rest = if part.is_empty() { rest } else { after };
    }
    open || rest.is_empty() || rest.starts_with('/')
}

/// Where the service is, and its parts.
struct Servers {
    address: Address,
    /// Of all operations that do not say otherwise, without `/` at its end.
    base: Option<Url>,
    origin: Option<Url>,
}

impl Servers {
    fn new(document: &Document, options: &Options, name: &ServiceName, notes: &mut Notes) -> Self {
        let base = items(document.get("servers"))
            .find_map(|server| server_url(server, options.origin.as_ref()));
        let base = base.or_else(|| {
            // As the specification has it: the document's own host.
            let nothing = items(document.get("servers")).next().is_none();
            options.origin.as_ref().filter(|_| nothing)?.join("/").ok()
        });
        let mut address = Address {
            variable: format!("{}_API_URL", name::variable_prefix(name)),
            ..Address::default()
        };
        match &base {
            Some(url) => {
                let suffix = url.path().trim_end_matches('/').to_owned();
                address.default = Some(url.origin().ascii_serialization());
                address.suffix = suffix;
            }
            None => notes.remark(&format!(
                "the document does not say where the service is: set `{}`",
                address.variable
            )),
        }
        Self {
            address,
            base,
            origin: options.origin.clone(),
        }
    }

    /// Which of the address's others an operation belongs to.
    fn of(
        &mut self,
        document: &Document,
        operation: Operation<'_>,
    ) -> Result<Option<String>, String> {
        let own = [operation.value, operation.item]
            .into_iter()
            .find_map(|holder| holder.get("servers"))
            .filter(|servers| items(Some(servers)).next().is_some());
        let Some(own) = own else {
            return Ok(None);
        };
        let elsewhere = || "is sent to another server than the others".to_owned();
        // One of several is enough, and the document's own are no others.
        let same = items(Some(own)).any(|server| {
            items(document.get("servers")).any(|known| text(known, "url") == text(server, "url"))
        });
        if same {
            return Ok(None);
        }
        let url = items(Some(own))
            .find_map(|server| server_url(server, self.origin.as_ref()))
            .ok_or_else(elsewhere)?;
        let base = self.base.as_ref().ok_or_else(elsewhere)?;
        if url.origin() != base.origin() {
            return Err(elsewhere());
        }
        let suffix = url.path().trim_end_matches('/').to_owned();
        if suffix == self.address.suffix {
            return Ok(None);
        }
        let others = &mut self.address.others;
        if let Some((name, _)) = others.iter().find(|(_, known)| *known == suffix) {
            return Ok(Some(name.clone()));
        }
        let name = format!("part-{}", others.len() + 1);
        others.push((name.clone(), suffix));
        Ok(Some(name))
    }
}

/// A server's address, its variables replaced by their defaults.
fn server_url(server: &Value, origin: Option<&Url>) -> Option<Url> {
    let mut address = text(server, "url")?.to_owned();
    for (name, variable) in members(server.get("variables")) {
        let value = match variable.get("default") {
            Some(Value::String(value)) => value.clone(),
            Some(Value::Number(value)) => value.to_string(),
            _ => continue,
        };
        address = address.replace(&format!("{{{name}}}"), &value);
    }
    if address.contains(['{', '}']) || address.len() > 2048 {
        return None;
    }
    let url = match Url::parse(&address) {
        Ok(url) => url,
        Err(_) => origin?.join(&address).ok()?,
    };
    let usable = matches!(url.scheme(), "http" | "https")
        && url.host_str().is_some()
        && url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none()
        // As paths are: nothing that another parser might read otherwise.
        && !url.path().contains(['%', '\\'])
        && !url.path().contains("//");
    usable.then_some(url)
}
