//! Policy sets: loading, checking, and what their annotations say.

mod finding;
mod fit;
mod index;
mod lint;
mod text;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    str::FromStr,
    sync::Arc,
};

use cedar_policy::{
    Effect, Entity, EntityUid, Policy, PolicyId, Schema, SchemaFragment, ValidationMode, Validator,
    ffi::DetailedError,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use self::finding::{Finding, Severity};
use self::{
    index::Index,
    text::{Language, Scanned},
};
use crate::entities::{Malformed, malformed};

/// One file of a policy set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The file's name, relative to the folder, with `/`.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// The sources of one policy set: schema and policies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicySources {
    /// `schema.cedarschema`.
    pub schema: Source,
    /// `policies/**/*.cedar`, in any order.
    pub policies: Vec<Source>,
}

impl PolicySources {
    /// SHA-256 of the canonical sources: sorted by name, each with its name and length.
    #[must_use]
    pub fn version(&self) -> PolicySetVersion {
        let mut hash = Sha256::new();
        hash.update(b"cedargate policy set 1\n");
        let mut add = |part: &str| {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        };
        // The schema first, whatever its name: a policy file of that name is another thing.
        add(&self.schema.name);
        add(&self.schema.text);
        for source in self.sorted() {
            add(&source.name);
            add(&source.text);
        }
        PolicySetVersion(hex::encode(hash.finalize()).into())
    }

    fn sorted(&self) -> Vec<&Source> {
        let mut policies: Vec<&Source> = self.policies.iter().collect();
        policies.sort_by(|a, b| (&a.name, &a.text).cmp(&(&b.name, &b.text)));
        policies
    }
}

/// Names one policy set: the digest of its sources in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PolicySetVersion(Arc<str>);

impl PolicySetVersion {
    /// 64 hexadecimal digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first twelve digits: enough for people.
    #[must_use]
    pub fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }
}

impl fmt::Display for PolicySetVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is not a [`PolicySetVersion`].
#[derive(Debug, thiserror::Error)]
#[error("a policy set's version is 64 lower-case hexadecimal digits")]
pub struct InvalidVersion;

impl FromStr for PolicySetVersion {
    type Err = InvalidVersion;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let valid = text.len() == 64
            && text
                .bytes()
                .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        if valid {
            Ok(Self(text.into()))
        } else {
            Err(InvalidVersion)
        }
    }
}

/// A policy set that was parsed, strictly validated and indexed.
#[derive(Debug)]
pub struct PolicySet {
    version: PolicySetVersion,
    index: Index,
    notes: HashMap<String, Notes>,
    /// What people's rights are decided by, per action: few policies, asked seldom.
    people: HashMap<&'static str, cedar_policy::PolicySet>,
    /// The entity of each action that we ask about, with the groups that it is in.
    actions: HashMap<&'static str, Entity>,
}

/// What a policy says about itself.
#[derive(Debug)]
pub(crate) struct Notes {
    pub(crate) forbids: bool,
    pub(crate) advice: Option<String>,
    pub(crate) workflow: Option<String>,
}

/// How many attributes deep a policy may look from principal, action or resource.
/// This many the entities that we build can answer.
const LEVELS: u32 = 3;

/// Stack of the thread that parses and validates.
const STACK: usize = 256 * 1024 * 1024;

/// How many findings are reported; the first ones explain the rest.
const MAX_FINDINGS: usize = 100;

/// How long a policy's id may be, in bytes.
const MAX_ID: usize = 128;

impl PolicySet {
    /// Parses, validates and indexes a policy set; what it returns beside the set is warnings.
    ///
    /// Safe on hostile text: sizes and nesting are limited before Cedar's parser sees
    /// it, and the work is done on a thread with a large stack.
    ///
    /// # Errors
    ///
    /// Every finding (at most a hundred), if one is an error: the set is loaded whole
    /// or not at all.
    pub fn load(sources: &PolicySources) -> Result<(Self, Vec<Finding>), Vec<Finding>> {
        let broken = |message: String| vec![Finding::error(&sources.schema.name, message)];
        std::thread::scope(|scope| {
            std::thread::Builder::new()
                .name("policy-set".to_owned())
                .stack_size(STACK)
                .spawn_scoped(scope, || load(sources))
                .map_err(|error| broken(format!("no thread to check the policy set on: {error}")))?
                .join()
                .unwrap_or_else(|_| {
                    Err(broken(
                        "the policy set cannot be checked: the checker panicked".to_owned(),
                    ))
                })
        })
        .map_err(|mut findings| {
            findings.truncate(MAX_FINDINGS);
            findings
        })
    }

    /// Names this set.
    #[must_use]
    pub fn version(&self) -> &PolicySetVersion {
        &self.version
    }

    /// How many policies it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.index.policies().len()
    }

    /// Whether it holds none; then everything is refused. [`Self::load`] makes no such set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The policies' ids, sorted.
    #[must_use]
    pub fn ids(&self) -> Vec<&str> {
        let mut ids: Vec<&str> = self.notes.keys().map(String::as_str).collect();
        ids.sort_unstable();
        ids
    }

    /// What a policy says about itself.
    pub(crate) fn notes(&self, id: &str) -> Option<&Notes> {
        self.notes.get(id)
    }

    /// The `@advice` of these policies, in their order, without repetition.
    pub(crate) fn advice<'a>(&self, ids: impl IntoIterator<Item = &'a String>) -> Vec<String> {
        let mut advice: Vec<String> = Vec::new();
        for text in ids
            .into_iter()
            .filter_map(|id| self.notes(id)?.advice.as_ref())
        {
            if !advice.contains(text) {
                advice.push(text.clone());
            }
        }
        advice
    }

    /// What decides whether people may do `action`.
    pub(crate) fn people(&self, action: &str) -> Option<&cedar_policy::PolicySet> {
        self.people.get(action)
    }

    /// An action as an entity, which says in which groups it is.
    pub(crate) fn action(&self, name: &str) -> Result<&Entity, Malformed> {
        self.actions
            .get(name)
            .ok_or_else(|| Malformed(format!("there is no action `{name}`")))
    }

    /// See [`Index::slice`].
    pub(crate) fn slice(
        &self,
        action: &EntityUid,
        resource: &EntityUid,
        ancestors: &[EntityUid],
    ) -> Result<cedar_policy::PolicySet, Malformed> {
        self.index.slice(action, resource, ancestors)
    }

    /// A set that was parsed and indexed, and not validated.
    #[cfg(test)]
    pub(crate) fn unchecked(sources: &PolicySources) -> Self {
        let (schema_file, files) = scan(sources).unwrap();
        let (schema, _) = read_schema(&schema_file).unwrap();
        let policies = read_policies(&files).unwrap();
        let notes = policies
            .iter()
            .map(|placed| (placed.id.clone(), notes(&placed.policy)))
            .collect();
        let policies = policies.into_iter().map(|placed| placed.policy).collect();
        build(sources.version(), &schema, policies, notes).unwrap()
    }

    /// Every policy, to compare slices with.
    #[cfg(test)]
    pub(crate) fn whole(&self) -> cedar_policy::PolicySet {
        cedar_policy::PolicySet::from_policies(self.index.policies().iter().cloned()).unwrap()
    }
}

/// A policy, and where it stands.
struct Placed<'a> {
    id: String,
    policy: Policy,
    file: &'a Scanned<'a>,
    at: usize,
}

impl Placed<'_> {
    /// An error about this policy.
    fn error(&self, message: impl Into<String>) -> Finding {
        Finding::error(self.file.name, message)
            .policy(&self.id)
            .at(self.file.text, self.at)
    }
}

fn load(sources: &PolicySources) -> Result<(PolicySet, Vec<Finding>), Vec<Finding>> {
    let (schema_file, files) = scan(sources)?;
    let (schema, mut warnings) = read_schema(&schema_file)?;
    let policies = read_policies(&files)?;
    warnings.extend(validate(&schema, &policies)?);
    warnings.extend(lint::check(&schema, &policies)?);

    let notes = policies
        .iter()
        .map(|placed| (placed.id.clone(), notes(&placed.policy)))
        .collect();
    let policies = policies.into_iter().map(|placed| placed.policy).collect();
    let set = build(sources.version(), &schema, policies, notes)
        .map_err(|error| vec![Finding::error(schema_file.name, error.0)])?;
    warnings.truncate(MAX_FINDINGS);
    Ok((set, warnings))
}

fn build(
    version: PolicySetVersion,
    schema: &Schema,
    policies: Vec<Policy>,
    notes: HashMap<String, Notes>,
) -> Result<PolicySet, Malformed> {
    let index = Index::new(policies, schema)?;
    let groups = schema.action_entities().map_err(malformed)?;
    let mut people = HashMap::new();
    let mut actions = HashMap::new();
    for (name, principal, _) in index::actions() {
        let uid = crate::entities::action_uid(name);
        if *principal == crate::entities::TYPES.user {
            people.insert(name, index.all(&uid)?);
        }
        let entity = groups
            .get(&uid)
            .ok_or_else(|| Malformed(format!("the schema has no action {uid}")))?;
        actions.insert(name, entity.clone());
    }
    Ok(PolicySet {
        version,
        index,
        notes,
        people,
        actions,
    })
}

fn notes(policy: &Policy) -> Notes {
    let note = |key| {
        policy
            .annotation(key)
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
    };
    Notes {
        forbids: policy.effect() == Effect::Forbid,
        advice: note("advice"),
        workflow: note("workflow"),
    }
}

/// Sizes, names and what the scanner finds, in all files.
fn scan(sources: &PolicySources) -> Result<(Scanned<'_>, Vec<Scanned<'_>>), Vec<Finding>> {
    let all = || sources.policies.iter().chain([&sources.schema]);
    let total: usize = all().map(|source| source.text.len()).sum();
    if total > text::MAX_TOTAL {
        let message = format!(
            "the policy set has {total} bytes, and may have {}",
            text::MAX_TOTAL
        );
        return Err(vec![Finding::error(&sources.schema.name, message)]);
    }
    let mut findings = Vec::new();
    let mut files = Vec::new();
    let mut names: Vec<&str> = Vec::new();
    for source in sources.sorted() {
        if names.last() == Some(&source.name.as_str()) {
            findings.push(Finding::error(&source.name, "two files have this name"));
        }
        names.push(&source.name);
        match text::scan(&source.name, &source.text, Language::Policies) {
            Ok(file) => files.push(file),
            Err(finding) => findings.push(*finding),
        }
    }
    let schema = text::scan(&sources.schema.name, &sources.schema.text, Language::Schema);
    match schema {
        Ok(schema) if findings.is_empty() => Ok((schema, files)),
        Ok(_) => Err(findings),
        Err(finding) => Err(std::iter::once(*finding).chain(findings).collect()),
    }
}

fn read_schema(file: &Scanned<'_>) -> Result<(Schema, Vec<Finding>), Vec<Finding>> {
    let from_cedar = |error: &DetailedError| Finding::from_cedar(error, file.name, file.text);
    let (fragment, warnings) = SchemaFragment::from_cedarschema_str(file.text)
        .map_err(|error| from_cedar(&DetailedError::from(&error)))?;
    let warnings = warnings
        .flat_map(|warning| from_cedar(&DetailedError::from(&warning)))
        .map(Finding::warning)
        .collect();
    let schema = Schema::from_schema_fragments([fragment])
        .map_err(|error| from_cedar(&DetailedError::from(&error)))?;
    fit::check(&schema, file.name)?;
    Ok((schema, warnings))
}

/// Parses the policies and gives each its `@id`.
fn read_policies<'a>(files: &'a [Scanned<'a>]) -> Result<Vec<Placed<'a>>, Vec<Finding>> {
    let mut findings = Vec::new();
    let mut placed: Vec<Placed<'a>> = Vec::new();
    let mut known: BTreeMap<String, String> = BTreeMap::new();
    for file in files {
        let set = match cedar_policy::PolicySet::from_str(file.text) {
            Ok(set) => set,
            Err(error) => {
                findings.extend(Finding::from_cedar(
                    &DetailedError::from(&error),
                    file.name,
                    file.text,
                ));
                continue;
            }
        };
        let at = |id: &PolicyId| {
            position(id)
                .and_then(|number| file.statements.get(number))
                .copied()
                .unwrap_or(0)
        };
        for template in set.templates() {
            let finding = Finding::error(
                file.name,
                "templates are not supported: `?principal` and `?resource` have no value here",
            )
            .help("write a policy about a role or a team, and give that to agents");
            findings.push(finding.at(file.text, at(template.id())));
        }
        let mut policies: Vec<&Policy> = set.policies().collect();
        policies.sort_by_key(|policy| position(policy.id()));
        for policy in policies {
            let at = at(policy.id());
            match id_of(policy) {
                Ok(id) => {
                    let policy = policy.new_id(PolicyId::new(&id));
                    let one = Placed { id, policy, file, at };
                    match known.get(&one.id) {
                        Some(other) => {
                            findings.push(one.error(format!("the id `{}` is used already, at {other}", one.id)));
                        }
                        None => {
                            let here = one.error("");
                            let line = here.line.unwrap_or_default();
                            known.insert(one.id.clone(), format!("{}:{line}", file.name));
                        }
                    }
                    placed.push(one);
                }
                Err(message) => findings.push(
                    Finding::error(file.name, message)
                        .help("begin it with `@id(\"…\")`: dotted words that name it in every decision, such as `guard.suspended-agent`")
                        .at(file.text, at),
                ),
            }
        }
    }
    if placed.is_empty() && findings.is_empty() {
        let file = files.first().map_or("policies", |file| file.name);
        findings.push(
            Finding::error(file, "there are no policies")
                .help("a set without policies would refuse everything"),
        );
    }
    if findings.is_empty() {
        Ok(placed)
    } else {
        Err(findings)
    }
}

/// Cedar numbers the statements of a text in their order: `policy0`, `policy1`, …
fn position(id: &PolicyId) -> Option<usize> {
    let id: &str = id.as_ref();
    id.strip_prefix("policy")?.parse().ok()
}

fn id_of(policy: &Policy) -> Result<String, String> {
    let Some(id) = policy.annotation("id") else {
        return Err("the policy has no id".to_owned());
    };
    let word = |word: &str| {
        word.starts_with(|letter: char| letter.is_ascii_alphanumeric())
            && word
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    if id.len() <= MAX_ID && id.split('.').all(word) {
        Ok(id.to_owned())
    } else {
        let shown: String = id.chars().take(64).flat_map(char::escape_default).collect();
        Err(format!(
            "the id `{shown}` is not made of words (letters, digits, `-`, `_`) with dots between"
        ))
    }
}

/// Strict validation with levels; what comes back is warnings.
fn validate(schema: &Schema, policies: &[Placed<'_>]) -> Result<Vec<Finding>, Vec<Finding>> {
    // Before anything else walks the expressions.
    let deep = lint::too_deep(policies);
    if !deep.is_empty() {
        return Err(deep);
    }
    let by_id: HashMap<&str, &Placed<'_>> = policies
        .iter()
        .map(|placed| (placed.id.as_str(), placed))
        .collect();
    let set =
        cedar_policy::PolicySet::from_policies(policies.iter().map(|placed| placed.policy.clone()))
            .map_err(|error| vec![Finding::error("policies", error.to_string())])?;
    let result =
        Validator::new(schema.clone()).validate_with_level(&set, ValidationMode::Strict, LEVELS);
    let locate = |id: &PolicyId, error: &DetailedError| {
        let Some(placed) = by_id.get(AsRef::<str>::as_ref(id)) else {
            return Finding::from_cedar(error, "policies", "");
        };
        let mut found = Finding::from_cedar(error, placed.file.name, placed.file.text);
        for finding in &mut found {
            if finding.line.is_none() {
                *finding = finding.clone().at(placed.file.text, placed.at);
            }
            finding.policy = Some(placed.id.clone());
        }
        found
    };
    let mut errors: Vec<Finding> = result
        .validation_errors()
        .flat_map(|error| locate(error.policy_id(), &DetailedError::from(error)))
        .collect();
    let mut warnings: Vec<Finding> = result
        .validation_warnings()
        .flat_map(|warning| locate(warning.policy_id(), &DetailedError::from(warning)))
        .map(Finding::warning)
        .collect();
    // The validator answers in the order of a hash map.
    sort(&mut errors);
    sort(&mut warnings);
    if errors.is_empty() {
        Ok(warnings)
    } else {
        errors.extend(warnings);
        Err(errors)
    }
}

fn sort(findings: &mut [Finding]) {
    findings.sort_by(|a, b| {
        (&a.file, a.line, a.column, &a.message).cmp(&(&b.file, b.line, b.column, &b.message))
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::*;

    const PERMIT: &str =
        "@id(\"a.permit\")\npermit (principal is Agent, action in Action::\"read\", resource);\n";

    /// What loading these policies with the shipped schema finds, one line each.
    fn findings(policies: &str) -> Vec<String> {
        let found = match PolicySet::load(&only(policies)) {
            Ok((_, warnings)) => warnings,
            Err(findings) => findings,
        };
        found
            .iter()
            .map(|found| {
                let place = found.line.map_or(String::new(), |line| {
                    format!(":{line}:{}", found.column.unwrap())
                });
                let id = found.policy.as_deref().unwrap_or("-");
                let severity = if found.severity == Severity::Error {
                    "error"
                } else {
                    "warning"
                };
                format!("{severity} {}{place} {id}: {}", found.file, found.message)
            })
            .collect()
    }

    #[test]
    fn the_shipped_set_loads_without_warnings() {
        let sources = shipped_sources();
        let (set, warnings) = PolicySet::load(&sources)
            .map_err(|found| format!("{found:#?}"))
            .unwrap();
        assert_eq!(warnings, []);
        assert_eq!(set.len(), set.ids().len());
        assert_eq!(*set.version(), sources.version());
        let dotted = |id: &&str| id.contains('.');
        assert!(set.ids().iter().all(dotted), "{:?}", set.ids());
    }

    #[test]
    fn every_shipped_forbid_has_advice() {
        let set = shipped();
        for (id, notes) in &set.notes {
            assert!(!notes.forbids || notes.advice.is_some(), "`{id}`");
        }
    }

    #[test]
    fn the_version_depends_on_names_and_texts_and_not_on_order() {
        let sources = shipped_sources();
        let version = sources.version();
        assert_eq!(
            version.as_str().parse::<PolicySetVersion>().unwrap(),
            version
        );
        assert_eq!(version.short().len(), 12);
        assert!("x".repeat(64).parse::<PolicySetVersion>().is_err());

        let mut reversed = sources.clone();
        reversed.policies.reverse();
        assert_eq!(reversed.version(), version);

        let changes: [fn(&mut PolicySources); 5] = [
            |sources| sources.schema.text.push(' '),
            |sources| sources.policies[0].text.push(' '),
            |sources| sources.policies[0].name.push('x'),
            |sources| {
                sources.policies.pop();
            },
            // What moves from the end of one text to the beginning of the next name.
            |sources| {
                let letter = sources.policies[0].text.pop().unwrap();
                sources.policies[0].name.push(letter);
            },
        ];
        let mut versions = std::collections::BTreeSet::from([version]);
        for change in changes {
            let mut changed = sources.clone();
            change(&mut changed);
            assert!(versions.insert(changed.version()));
        }
    }

    #[test]
    fn mistakes_are_found_with_their_place() {
        let cases: &[(&str, &str, &[&str])] = &[
            ("nothing", "", &["error a.cedar -: there are no policies"]),
            (
                "only a comment",
                "// permit\n",
                &["error a.cedar -: there are no policies"],
            ),
            (
                "no id",
                "\n  permit (principal, action, resource);",
                &["error a.cedar:2:3 -: the policy has no id"],
            ),
            (
                "an id that is none",
                "@id(\"a b\")\npermit (principal, action, resource);",
                &[
                    "error a.cedar:1:1 -: the id `a b` is not made of words (letters, digits, `-`, `_`) with dots between",
                ],
            ),
            (
                "an empty id",
                "@id\npermit (principal, action, resource);",
                &[
                    "error a.cedar:1:1 -: the id `` is not made of words (letters, digits, `-`, `_`) with dots between",
                ],
            ),
            (
                "the same id twice",
                &format!("{PERMIT}{PERMIT}"),
                &["error a.cedar:3:1 a.permit: the id `a.permit` is used already, at a.cedar:1"],
            ),
            (
                "a template",
                "@id(\"a\")\npermit (principal == ?principal, action, resource);",
                &[
                    "error a.cedar:1:1 -: templates are not supported: `?principal` and `?resource` have no value here",
                ],
            ),
            (
                "an attribute that does not exist",
                "@id(\"a\")\nforbid (principal is Agent, action in Action::\"read\", resource is Command)\nwhen { principal.suspendet };",
                &["error a.cedar:3:8 a: attribute `suspendet` on entity type `Agent` not found"],
            ),
            (
                "an optional attribute without `has`",
                "@id(\"a\")\nforbid (principal is Agent, action in Action::\"read\", resource is Command)\nwhen { principal.owner == User::\"x\" };",
                &[
                    "error a.cedar:3:8 a: unable to guarantee safety of access to optional attribute `owner` on entity type `Agent`",
                ],
            ),
            (
                "an environment that does not exist",
                "@id(\"a\")\nforbid (principal is Agent, action in Action::\"read\", resource is Command)\nwhen { principal.env == Env::\"production\" };",
                &[
                    "error a.cedar:3:25 a: entity `Env::\"production\"` is of an enumerated entity type, but `\"production\"` is not declared as a valid eid",
                ],
            ),
            (
                "text that is not Cedar",
                "@id(\"a\")\npermit (principal, action, resource) whenever { true };",
                &["error a.cedar:2:38 -: invalid policy condition: whenever"],
            ),
            (
                "too many levels",
                "@id(\"a\")\npermit (principal is User, action in Action::\"approve\", resource is Escalation)\nwhen { resource.command.service has owners && resource.command.service.owners in Team::\"x\" };",
                &[
                    "error a.cedar:3:47 a: this policy requires level 4, which exceeds the maximum allowed level (3)",
                ],
            ),
            ("nothing wrong", PERMIT, &[]),
            (
                "a byte order mark and CRLF",
                "\u{feff}@id(\"a\")\r\npermit (principal is Agent, action in Action::\"read\", resource); // x\r\n",
                &[],
            ),
            (
                "an old Mac's line ends",
                "// x\r@id(\"a\")\rpermit (principal is Agent, action in Action::\"read\", resource);\r",
                &[],
            ),
            (
                "an impossible condition",
                "@id(\"a\")\npermit (principal is Agent, action in Action::\"read\", resource is Command)\nwhen { 1 == 2 };",
                &[
                    "warning a.cedar:1:1 a: policy is impossible: the policy expression evaluates to false for all valid requests",
                ],
            ),
            (
                "`==` on a group of actions",
                "@id(\"a\")\npermit (principal is Agent, action == Action::\"write\", resource is Command);",
                &[
                    "warning a.cedar:1:1 a: `action == Action::\"write\"` misses the actions that are added to this group",
                ],
            ),
            (
                "everything for everyone",
                "@id(\"a\")\npermit (principal is Agent, action in Action::\"invoke\", resource);",
                &["warning a.cedar:1:1 a: this permits destructive commands without any condition"],
            ),
            (
                "a workflow that nothing starts",
                "@id(\"a\")\n@workflow(\"x\")\nforbid (principal is Agent, action in Action::\"read\", resource);",
                &[
                    "warning a.cedar:1:1 a: no grant lifts this policy, so `@workflow` never applies",
                ],
            ),
            (
                "a person's team, where only the id is known",
                "@id(\"a\")\nforbid (principal is Agent, action in Action::\"read\", resource)\nwhen { principal has owner && principal.owner.active };",
                &[
                    "warning a.cedar:1:1 a: of the person in `owner` only the id is known here: what this looks for is never found",
                ],
            ),
        ];
        for (name, policies, expected) in cases {
            let found = findings(policies);
            assert!(
                found.len() == expected.len()
                    && found
                        .iter()
                        .zip(*expected)
                        .all(|(found, expected)| found.starts_with(expected)),
                "{name}: {found:#?}"
            );
        }
    }

    #[test]
    fn all_files_are_checked_and_every_mistake_is_told() {
        let mut sources = only("permit (principal, action, resource);");
        let file = |name: &str, text: &str| Source {
            name: name.to_owned(),
            text: text.to_owned(),
        };
        sources.policies.push(file("b.cedar", "forbid ("));
        sources.policies.push(file("b.cedar", PERMIT));
        let found = PolicySet::load(&sources).unwrap_err();
        let of = |found: &[Finding]| {
            found
                .iter()
                .map(|found| format!("{}: {}", found.file, found.message))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            of(&found),
            [
                "b.cedar: two files have this name",
                "b.cedar: `(` is never closed"
            ]
        );

        sources.policies.truncate(1);
        sources
            .policies
            .push(file("b.cedar", "permit (principal);"));
        let found = of(&PolicySet::load(&sources).unwrap_err());
        assert!(
            found.iter().any(|found| found.starts_with("a.cedar: "))
                && found.iter().any(|found| found.starts_with("b.cedar: ")),
            "{found:?}"
        );
    }

    #[test]
    fn a_schema_must_fit_what_policies_are_told() {
        let cases = [
            ("entity Role in [Role];", "", "Role"),
            ("  second?: User,", "  second: User,", "second"),
            ("  owners?: Team,", "  owners: Team,", "owners"),
            ("\"service\"]", "\"servise\"]", "service"),
            ("  pinned: Bool,", "  pinned: Bool, cost: Long,", "cost"),
            ("  callKey: String,", "", "callKey"),
            ("  ip: ipaddr,", "  ip: String,", "context"),
            (
                "entity NumberArgs tags Long;",
                "entity NumberArgs tags String;",
                "NumberArgs",
            ),
            ("action list appliesTo", "action lists appliesTo", "list"),
            (
                "entity ControlPlane;",
                "entity ControlPlane;;",
                "unexpected token",
            ),
        ];
        for (old, new, expected) in cases {
            let mut sources = only(PERMIT);
            assert!(sources.schema.text.contains(old), "{old}");
            sources.schema.text = sources.schema.text.replacen(old, new, 1);
            let found = PolicySet::load(&sources).unwrap_err();
            assert!(
                found.iter().any(|found| found.message.contains(expected)),
                "{old}: {found:#?}"
            );
        }
        // What is optional, or new, does not matter to what we tell.
        let mut sources = only(PERMIT);
        sources.schema.text =
            sources
                .schema
                .text
                .replacen("  pinned: Bool,", "  pinned: Bool, cost?: Long,", 1);
        sources.schema.text.push_str("action \"coolify/deploy\" in [Action::\"write\"] appliesTo { principal: Agent, resource: Command, context: Call };");
        assert_eq!(PolicySet::load(&sources).unwrap().1, []);
    }

    #[test]
    fn hostile_text_is_refused_and_never_ends_the_process() {
        let policy = |condition: &str| {
            format!(
                "@id(\"a\")\npermit (principal is Agent, action in Action::\"read\", resource is Command)\nwhen {{ {condition} }};"
            )
        };
        let chain =
            |link: &str, operator: &str, count: usize| policy(&vec![link; count].join(operator));
        let mut cases = vec![
            (
                "parentheses, 60".to_owned(),
                policy(&format!("{}true{}", "(".repeat(60), ")".repeat(60))),
                true,
            ),
            (
                "a short chain".to_owned(),
                chain("principal.suspended", " || ", 80),
                true,
            ),
            (
                "a chain".to_owned(),
                chain("principal.suspended", " || ", 1_000),
                false,
            ),
            ("a long chain".to_owned(), chain("true", "&&", 3_900), false),
            (
                "a very long chain".to_owned(),
                chain("true", "&&", 300_000),
                false,
            ),
            (
                "sums".to_owned(),
                format!(
                    "{} > 1 }};",
                    policy("1 +").trim_end_matches(" };").to_owned() + &vec!["1"; 3_000].join("+")
                ),
                false,
            ),
            (
                "nots".to_owned(),
                policy(&format!("{}true", "!".repeat(100_000))),
                false,
            ),
            (
                "ifs".to_owned(),
                policy(&format!("{}true", "if true then true else ".repeat(3_000))),
                false,
            ),
            (
                "many ifs".to_owned(),
                policy(&format!(
                    "{}true",
                    "if true then true else ".repeat(100_000)
                )),
                false,
            ),
            (
                "attributes".to_owned(),
                policy(&format!("principal{}", ".a".repeat(3_000))),
                false,
            ),
            (
                "many attributes".to_owned(),
                policy(&format!("principal{}", ".a".repeat(500_000))),
                false,
            ),
            (
                "indexes".to_owned(),
                policy(&format!("principal{}", "[\"a\"]".repeat(100_000))),
                false,
            ),
            (
                "clauses".to_owned(),
                policy("true") + &"when { true }".repeat(3_000),
                false,
            ),
            (
                "many clauses".to_owned(),
                policy("true").trim_end_matches(';').to_owned()
                    + &" when { true }".repeat(100_000)
                    + ";",
                false,
            ),
            ("an open string".to_owned(), policy("\"abc"), false),
            (
                "an open comment and bracket".to_owned(),
                "permit ( // )".to_owned(),
                false,
            ),
            (
                "annotations".to_owned(),
                format!(
                    "{}permit (principal, action, resource);",
                    "@a(\"b\")".repeat(50_000)
                ),
                false,
            ),
            (
                "NUL".to_owned(),
                "permit\0(principal, action, resource);".to_owned(),
                false,
            ),
        ];
        for count in [150, 1_000, 10_000, 100_000] {
            for (open, close) in [
                ("(", ")"),
                ("[", "]"),
                ("{", "}"),
                ("{\"a\":", "}"),
                ("-(", ")"),
                ("!(", ")"),
            ] {
                cases.push((
                    format!("{count} {open}"),
                    policy(&format!("{}{}", open.repeat(count), close.repeat(count))),
                    false,
                ));
                cases.push((
                    format!("{count} open {open}"),
                    policy(&open.repeat(count)),
                    false,
                ));
            }
        }
        for (name, text, valid) in cases {
            let loaded = PolicySet::load(&only(&text));
            match loaded {
                Ok(_) => assert!(valid, "{name} was loaded"),
                Err(findings) => {
                    assert!(!valid, "{name}: {findings:#?}");
                    assert!(
                        !findings.is_empty() && findings.len() <= MAX_FINDINGS,
                        "{name}"
                    );
                }
            }
        }
    }

    #[test]
    fn hostile_schemas_are_refused_and_never_end_the_process() {
        let nested = |count: usize| {
            format!(
                "type A = {}String{};",
                "Set<".repeat(count),
                ">".repeat(count)
            )
        };
        let records = |count: usize| {
            format!(
                "type A = {}String{};",
                "{a: ".repeat(count),
                "}".repeat(count)
            )
        };
        let aliases = |count: usize| {
            (0..count)
                .map(|n| format!("type A{n} = A{};", n + 1))
                .collect::<String>()
                + &format!("type A{count} = String;")
        };
        let parents = |count: usize| {
            (0..count)
                .map(|n| format!("entity A{n} in [A{}];", n + 1))
                .collect::<String>()
                + &format!("entity A{count};")
        };
        let more = [
            ("sets", nested(100), false),
            ("many sets", nested(100_000), false),
            ("records", records(1_000), false),
            ("aliases", aliases(1_500), true),
            ("many aliases", aliases(100_000), false),
            ("parents", parents(300), true),
            ("many parents", parents(100_000), false),
            (
                "a loop of aliases",
                "type A = B; type B = A;".to_owned(),
                false,
            ),
            ("a string", "entity \"".to_owned(), false),
        ];
        for (name, text, valid) in more {
            let mut sources = only(PERMIT);
            sources.schema.text.push_str(&text);
            assert_eq!(PolicySet::load(&sources).is_ok(), valid, "{name}");
        }
    }

    #[test]
    fn sizes_are_bounded() {
        let mut sources = only(PERMIT);
        let comment = format!("//{}\n", "x".repeat(4_000_000));
        for n in 0..4 {
            sources.policies.push(Source {
                name: format!("{n}.cedar"),
                text: comment.clone(),
            });
        }
        assert!(PolicySet::load(&sources).is_ok());
        sources.policies.push(Source {
            name: "5.cedar".to_owned(),
            text: comment.clone(),
        });
        assert!(
            PolicySet::load(&sources).unwrap_err()[0]
                .message
                .contains("the policy set has")
        );
        sources.policies = vec![Source {
            name: "a.cedar".to_owned(),
            text: comment.repeat(2),
        }];
        assert!(
            PolicySet::load(&sources).unwrap_err()[0]
                .message
                .contains("the file has")
        );
    }
}
