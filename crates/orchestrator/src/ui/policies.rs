//! Policy sets: what is in force, what was, what differs, and who enforces what.

use std::collections::BTreeMap;

use askama::Template;
use authz::{
    Finding, PolicySetVersion, PolicySources, Timestamp, approval::Administration,
    policy_set::Severity,
};
use axum::{
    Form, Router,
    extract::{State, rejection::FormRejection},
    response::Response,
    routing::{get, post},
};
use contract::{
    gateways::GatewayStatus,
    policy_sets::{ActivatePolicySet, RollBack, ShadowPolicySet},
};
use serde::Deserialize;
use store::policy_sets::{Activation, PolicySetHead};

use super::{
    Frame, Trouble, Visitor,
    cedar::{self, Line},
    difference::{self, FileDifference},
    go,
    moment::Moment,
    page,
};
use crate::{
    Orchestrator, activation,
    api::{Named, Parameters, is_silent},
    audit_query::encoded,
    authenticate::{ManagePolicies, May},
    error::Error,
    policy_folder,
};

/// So many versions and activations are listed.
const SHOWN_VERSIONS: u32 = 100;

/// Of a file, so many lines are shown.
const SHOWN_LINES: usize = 5_000;

/// So many findings are shown.
const SHOWN_FINDINGS: usize = 50;

pub(super) fn routes() -> Router<Orchestrator> {
    Router::new()
        .route("/policies", get(in_force))
        .route("/policies/difference", get(differ))
        .route("/policies/rollback", post(roll_back))
        .route("/policies/shadow", post(shadow))
        .route("/policies/{version}", get(show))
        .route("/policies/{version}/activate", post(activate))
}

/// A version, as lists name it.
#[derive(Clone)]
struct VersionRow {
    version: String,
    short: String,
    stored: Moment,
    by: String,
    via: String,
    active: bool,
    shadow: bool,
    warnings: usize,
}

struct ActivationRow {
    version: String,
    short: String,
    kind: &'static str,
    at: Moment,
    by: String,
    via: String,
    reason: String,
}

/// Something wrong with a set, and where.
struct FindingRow {
    error: bool,
    place: String,
    message: String,
    excerpt: String,
    help: String,
    policy: String,
}

struct GatewayRow {
    name: String,
    short: String,
    current: bool,
    silent: bool,
    last_known_good: bool,
    shadow: Option<String>,
    problem: Option<String>,
    software: String,
    seen: Moment,
}

/// A file's name, and where it is shown.
struct FileLink {
    name: String,
    href: String,
    here: bool,
}

/// The sources of a set: one file at a time.
struct Sources {
    files: Vec<FileLink>,
    name: String,
    lines: Vec<Line>,
    more: bool,
}

impl Sources {
    /// `path` is the page's, `wanted` the file that its query names.
    fn of(sources: &PolicySources, path: &str, wanted: Option<&str>) -> Self {
        let all: Vec<_> = sources
            .policies
            .iter()
            .chain(std::iter::once(&sources.schema))
            .collect();
        let here = wanted
            .and_then(|wanted| all.iter().find(|source| source.name == wanted))
            .or(all.first());
        let name = here.map(|source| source.name.clone()).unwrap_or_default();
        let (lines, more) = here
            .map(|source| cedar::lines(&source.text, SHOWN_LINES))
            .unwrap_or_default();
        Self {
            files: all
                .iter()
                .map(|source| FileLink {
                    href: format!("{path}?file={}#source", encoded(&source.name)),
                    here: source.name == name,
                    name: source.name.clone(),
                })
                .collect(),
            name,
            lines,
            more,
        }
    }
}

#[derive(Template)]
#[template(path = "policies.html")]
struct InForce {
    frame: Frame,
    may_manage: bool,
    version: String,
    short: String,
    policies: usize,
    activated: Moment,
    by: String,
    reason: String,
    folder: &'static str,
    folder_held: bool,
    checked: Option<Moment>,
    broken: Vec<FindingRow>,
    warnings: Vec<FindingRow>,
    shadow: Option<ShadowRow>,
    before: Option<(String, String)>,
    gateways: Vec<GatewayRow>,
    sources: Sources,
    versions: Vec<VersionRow>,
    activations: Vec<ActivationRow>,
}

struct ShadowRow {
    version: String,
    short: String,
    since: Moment,
    by: String,
}

/// What else a query holds is the frame's.
#[derive(Default, Deserialize)]
struct Which {
    #[serde(default)]
    file: Option<String>,
}

/// `GET /policies?file=`.
async fn in_force(
    visitor: Visitor,
    State(orchestrator): State<Orchestrator>,
    which: Result<Parameters<Which>, Error>,
) -> Result<Response, Trouble> {
    let Parameters(Which { file }) = which?;
    overview(&orchestrator, visitor, file.as_deref(), None).await
}

async fn overview(
    orchestrator: &Orchestrator,
    visitor: Visitor,
    file: Option<&str>,
    problem: Option<String>,
) -> Result<Response, Trouble> {
    let Visitor { person, frame } = visitor;
    let now = orchestrator.now();
    let status = policy_folder::status(orchestrator).await?;
    let in_force = orchestrator.in_force();
    let store = orchestrator.store();
    let heads = store.policy_sets(SHOWN_VERSIONS).await?;
    let shadow = status.shadow.as_ref().map(|shadow| &shadow.version);
    let before = store.policy_set_before().await?;
    let frame = if problem.is_some() {
        frame.warning(problem)
    } else {
        frame
    };
    Ok(page(&InForce {
        may_manage: person
            .may(orchestrator, Administration::ManagePolicies)
            .is_ok(),
        short: status.version.short().to_owned(),
        policies: status.policies,
        activated: Moment::past(status.activated, now),
        by: status.activated_by.clone(),
        reason: status.reason.clone(),
        folder: if !status.rejected.is_empty() {
            "broken"
        } else if status.folder_held {
            "held back"
        } else {
            "in force"
        },
        folder_held: status.folder_held,
        checked: status.checked.map(|checked| Moment::past(checked, now)),
        broken: findings(&status.rejected),
        warnings: findings(&status.warnings),
        before: before.map(|version| (version.as_str().to_owned(), version.short().to_owned())),
        gateways: gateways(orchestrator, now).await?,
        sources: Sources::of(&in_force.sources, "/policies", file),
        versions: heads
            .iter()
            .map(|head| version_row(head, shadow, now))
            .collect(),
        activations: store
            .policy_activations(SHOWN_VERSIONS)
            .await?
            .iter()
            .map(|activation| activation_row(activation, now))
            .collect(),
        shadow: status.shadow.as_ref().map(|shadow| ShadowRow {
            version: shadow.version.as_str().to_owned(),
            short: shadow.version.short().to_owned(),
            since: Moment::past(shadow.since, now),
            by: shadow.by.clone(),
        }),
        version: status.version.as_str().to_owned(),
        frame,
    }))
}

fn findings(findings: &[Finding]) -> Vec<FindingRow> {
    let place = |finding: &Finding| match (finding.line, finding.column) {
        (Some(line), Some(column)) => format!("{}:{line}:{column}", finding.file),
        _ => finding.file.clone(),
    };
    findings
        .iter()
        .take(SHOWN_FINDINGS)
        .map(|finding| FindingRow {
            error: finding.severity == Severity::Error,
            place: place(finding),
            message: finding.message.clone(),
            excerpt: finding.excerpt.clone().unwrap_or_default(),
            help: finding.help.clone().unwrap_or_default(),
            policy: finding.policy.clone().unwrap_or_default(),
        })
        .collect()
}

fn version_row(
    head: &PolicySetHead,
    shadow: Option<&PolicySetVersion>,
    now: Timestamp,
) -> VersionRow {
    VersionRow {
        version: head.version.as_str().to_owned(),
        short: head.version.short().to_owned(),
        stored: Moment::past(head.stored, now),
        by: head.stored_by.clone(),
        via: head.stored_via.clone(),
        active: head.active,
        shadow: Some(&head.version) == shadow,
        warnings: head.findings.len(),
    }
}

fn activation_row(activation: &Activation, now: Timestamp) -> ActivationRow {
    ActivationRow {
        version: activation.version.as_str().to_owned(),
        short: activation.version.short().to_owned(),
        kind: match activation.kind {
            store::policy_sets::Kind::Activated => "activated",
            store::policy_sets::Kind::RolledBack => "rolled back",
        },
        at: Moment::past(activation.at, now),
        by: activation.by.clone(),
        via: activation.via.clone(),
        reason: activation.reason.clone(),
    }
}

async fn gateways(orchestrator: &Orchestrator, now: Timestamp) -> Result<Vec<GatewayRow>, Error> {
    let in_force = orchestrator.in_force();
    let stored = orchestrator.store().gateways().await?;
    Ok(stored
        .into_iter()
        .filter_map(|gateway| {
            // One that speaks another language must not hide the others.
            let status: GatewayStatus = serde_json::from_value(gateway.status).ok()?;
            Some(GatewayRow {
                name: gateway.name,
                short: status.version.as_ref().map_or_else(
                    || "nothing".to_owned(),
                    |version| version.short().to_owned(),
                ),
                current: status.version.as_ref() == Some(in_force.set.version()),
                silent: is_silent(gateway.seen, now),
                last_known_good: status.last_known_good,
                shadow: status.shadow.map(|shadow| shadow.short().to_owned()),
                problem: status.problem,
                software: status.software,
                seen: Moment::past(gateway.seen, now),
            })
        })
        .collect())
}

#[derive(Template)]
#[template(path = "policy_set.html")]
struct Version {
    frame: Frame,
    may_manage: bool,
    row: VersionRow,
    files: usize,
    in_force: String,
    warnings: Vec<FindingRow>,
    activations: Vec<ActivationRow>,
    sources: Sources,
}

/// `GET /policies/{version}?file=`.
async fn show(
    visitor: Visitor,
    State(orchestrator): State<Orchestrator>,
    version: Result<Named<PolicySetVersion>, Error>,
    which: Result<Parameters<Which>, Error>,
) -> Result<Response, Trouble> {
    let Named(version) = version?;
    let Parameters(Which { file }) = which?;
    one(&orchestrator, visitor, &version, file.as_deref(), None).await
}

async fn one(
    orchestrator: &Orchestrator,
    visitor: Visitor,
    version: &PolicySetVersion,
    file: Option<&str>,
    problem: Option<String>,
) -> Result<Response, Trouble> {
    let Visitor { person, frame } = visitor;
    let now = orchestrator.now();
    let stored = orchestrator.store().policy_set(version).await?;
    let shadow = orchestrator.store().policy_shadow().await?;
    let activations = orchestrator
        .store()
        .policy_activations(SHOWN_VERSIONS)
        .await?;
    let frame = if problem.is_some() {
        frame.warning(problem)
    } else {
        frame
    };
    Ok(page(&Version {
        may_manage: person
            .may(orchestrator, Administration::ManagePolicies)
            .is_ok(),
        row: version_row(
            &stored.head,
            shadow.as_ref().map(|shadow| &shadow.version),
            now,
        ),
        files: stored.sources.policies.len(),
        in_force: orchestrator.in_force().set.version().as_str().to_owned(),
        warnings: findings(&stored.head.findings),
        activations: activations
            .iter()
            .filter(|activation| activation.version == *version)
            .map(|activation| activation_row(activation, now))
            .collect(),
        sources: Sources::of(
            &stored.sources,
            &format!("/policies/{}", version.as_str()),
            file,
        ),
        frame,
    }))
}

#[derive(Template)]
#[template(path = "policy_difference.html")]
struct DifferencePage {
    frame: Frame,
    from: String,
    to: String,
    choices: Vec<VersionRow>,
    files: Vec<FileDifference>,
    cut: bool,
    /// Policies by what became of them.
    policies: Vec<(&'static str, Vec<String>)>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Between {
    #[serde(default)]
    from: String,
    #[serde(default)]
    to: String,
}

/// `GET /policies/difference?from=&to=`: without `to` to what is in force, without `from`
/// from the version before.
async fn differ(
    Visitor { frame, .. }: Visitor,
    State(orchestrator): State<Orchestrator>,
    between: Result<Parameters<Between>, Error>,
) -> Result<Response, Trouble> {
    let Parameters(Between { from, to }) = between?;
    let now = orchestrator.now();
    let store = orchestrator.store();
    let in_force = orchestrator.in_force();
    let named = |text: &str| -> Result<Option<PolicySetVersion>, Error> {
        if text.is_empty() {
            return Ok(None);
        }
        text.parse()
            .map(Some)
            .map_err(|error| Error::NotFound(format!("{error}")))
    };
    let to = named(&to)?.unwrap_or_else(|| in_force.set.version().clone());
    let from = match named(&from)? {
        Some(from) => from,
        None => store
            .policy_set_before()
            .await?
            .unwrap_or_else(|| to.clone()),
    };
    let old = store.policy_set(&from).await?.sources;
    let new = store.policy_set(&to).await?.sources;
    let compared = tokio::task::spawn_blocking(move || {
        let policies = changed_policies(&old, &new);
        (difference::between(&old, &new), policies)
    });
    let (difference, policies) = compared
        .await
        .map_err(|error| Error::Bug(error.to_string()))?;
    let heads = store.policy_sets(SHOWN_VERSIONS).await?;
    let mut choices: Vec<_> = heads
        .iter()
        .map(|head| version_row(head, None, now))
        .collect();
    // One that is too old for the list can be compared all the same.
    for version in [&from, &to] {
        if !choices.iter().any(|row| row.version == version.as_str()) {
            let head = store.policy_set(version).await?.head;
            choices.push(version_row(&head, None, now));
        }
    }
    Ok(page(&DifferencePage {
        from: from.as_str().to_owned(),
        to: to.as_str().to_owned(),
        choices,
        files: difference.files,
        cut: difference.cut,
        policies,
        frame,
    }))
}

/// The ids of policies that are new, gone, or written otherwise: by their annotations, as
/// they stand in the text, whichever file they stand in.
fn changed_policies(old: &PolicySources, new: &PolicySources) -> Vec<(&'static str, Vec<String>)> {
    let (old, new) = (by_id(old), by_id(new));
    let mut added = Vec::new();
    let mut changed = Vec::new();
    for (id, text) in &new {
        match old.get(id) {
            None => added.push(id.clone()),
            Some(before) if before != text => changed.push(id.clone()),
            Some(_) => {}
        }
    }
    let removed = old
        .keys()
        .filter(|id| !new.contains_key(*id))
        .cloned()
        .collect();
    [("new", added), ("changed", changed), ("removed", removed)]
        .into_iter()
        .filter(|(_, ids)| !ids.is_empty())
        .collect()
}

/// Each policy's words, without comments and spaces, by its id.
fn by_id(sources: &PolicySources) -> BTreeMap<String, String> {
    let mut policies = BTreeMap::new();
    for source in &sources.policies {
        let mut id = None;
        let mut words = String::new();
        for piece in source.text.lines().flat_map(cedar::line) {
            if piece.kind == cedar::Kind::Comment {
                continue;
            }
            // The text after `@id(`.
            if piece.kind == cedar::Kind::Text && words.ends_with("@id(") {
                id = Some(piece.text.trim_matches('"').to_owned());
            }
            if piece.kind == cedar::Kind::Text {
                words.push_str(&piece.text);
                continue;
            }
            for letter in piece.text.chars().filter(|letter| !letter.is_whitespace()) {
                words.push(letter);
                if letter == ';' {
                    let policy = std::mem::take(&mut words);
                    if let Some(id) = id.take() {
                        policies.insert(id, policy);
                    }
                }
            }
            if piece.text.ends_with(char::is_whitespace) && !words.is_empty() {
                words.push(' ');
            }
        }
    }
    policies
}

/// What the forms send.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    #[serde(default)]
    reason: String,
    #[serde(default)]
    allow_lockout: Option<String>,
    /// For the shadow: none ends it.
    #[serde(default)]
    version: Option<String>,
}

type Sent = Result<Form<Change>, FormRejection>;

/// `POST /policies/{version}/activate`.
async fn activate(
    May(person, ..): May<ManagePolicies>,
    visitor: Visitor,
    State(orchestrator): State<Orchestrator>,
    version: Result<Named<PolicySetVersion>, Error>,
    sent: Sent,
) -> Result<Response, Trouble> {
    let Named(version) = version?;
    let Form(change) = sent.map_err(Error::from)?;
    let activate = ActivatePolicySet {
        reason: change.reason,
        allow_lockout: change.allow_lockout.is_some(),
    };
    match activation::activate(&orchestrator, &person, &version, activate).await {
        Ok(_) => Ok(go("/policies?done=in-force")),
        Err(error) => {
            let problem = told(error)?;
            one(&orchestrator, visitor, &version, None, Some(problem)).await
        }
    }
}

/// `POST /policies/rollback`.
async fn roll_back(
    May(person, ..): May<ManagePolicies>,
    visitor: Visitor,
    State(orchestrator): State<Orchestrator>,
    sent: Sent,
) -> Result<Response, Trouble> {
    let Form(change) = sent.map_err(Error::from)?;
    let back = RollBack {
        to: None,
        reason: change.reason,
        allow_lockout: change.allow_lockout.is_some(),
    };
    match activation::roll_back(&orchestrator, &person, back).await {
        Ok(_) => Ok(go("/policies?done=rolled-back")),
        Err(error) => overview(&orchestrator, visitor, None, Some(told(error)?)).await,
    }
}

/// `POST /policies/shadow`.
async fn shadow(
    May(person, ..): May<ManagePolicies>,
    visitor: Visitor,
    State(orchestrator): State<Orchestrator>,
    sent: Sent,
) -> Result<Response, Trouble> {
    let Form(change) = sent.map_err(Error::from)?;
    let version = change
        .version
        .as_deref()
        .filter(|version| !version.is_empty())
        .map(str::parse::<PolicySetVersion>)
        .transpose()
        .map_err(|error| Error::field("version", error))?;
    let done = if version.is_some() {
        "/policies?done=shadowed"
    } else {
        "/policies?done=unshadowed"
    };
    let shadow = ShadowPolicySet {
        version,
        reason: change.reason,
    };
    match activation::shadow(&orchestrator, &person, shadow).await {
        Ok(_) => Ok(go(done)),
        Err(error) => overview(&orchestrator, visitor, None, Some(told(error)?)).await,
    }
}

/// What a person can put right is said on the page where they are.
fn told(error: Error) -> Result<String, Error> {
    match error {
        Error::Conflict(_) | Error::InvalidPolicySet(_) | Error::Invalid(_) => {
            Ok(error.to_string())
        }
        other => Err(other),
    }
}

#[cfg(test)]
mod tests {
    use authz::Source;

    use super::*;

    fn sources(text: &str) -> PolicySources {
        let source = |name: &str, text: &str| Source {
            name: name.to_owned(),
            text: text.to_owned(),
        };
        PolicySources {
            schema: source("schema.cedarschema", "entity User;"),
            policies: vec![source("a.cedar", text), source("<b>.cedar", "")],
        }
    }

    #[test]
    fn policies_are_told_apart_by_their_words() {
        let old = sources(
            "// The first.\n@id(\"a\")\npermit (principal, action, resource);\n@id(\"b\") forbid (principal, action, resource) when { context.x == \"; \" };\n@id(\"c\") permit(principal, action, resource);",
        );
        let new = sources(
            "@id(\"c\") permit(principal, action,\n   resource); // the same\n@id(\"b\") forbid (principal, action, resource) when { context.x == \";\" };\n@id(\"d\") permit(principal, action, resource);",
        );
        let changed = changed_policies(&old, &new);
        let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            changed,
            [
                ("new", ids(&["d"])),
                ("changed", ids(&["b"])),
                ("removed", ids(&["a"]))
            ]
        );
        assert!(changed_policies(&old, &old).is_empty());
    }

    #[test]
    fn one_file_is_shown_at_a_time() {
        let shown = Sources::of(&sources("x"), "/policies", Some("<b>.cedar"));
        let names: Vec<_> = shown
            .files
            .iter()
            .map(|file| (file.name.as_str(), file.here))
            .collect();
        assert_eq!(
            names,
            [
                ("a.cedar", false),
                ("<b>.cedar", true),
                ("schema.cedarschema", false)
            ]
        );
        assert_eq!(shown.files[1].href, "/policies?file=%3Cb%3E.cedar#source");
        let other = Sources::of(&sources("x"), "/policies", Some("nonsense"));
        assert_eq!(other.name, "a.cedar");
    }
}
