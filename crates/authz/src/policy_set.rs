//! Policy sets: loading, checking, and what their annotations say.

mod finding;
mod fit;
pub(crate) mod index;
mod layout;
mod lint;
mod syntax;
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
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

pub use self::{
    finding::{Finding, Severity},
    layout::format,
};
pub(crate) use self::{fit::with_session, index::Candidates};
use self::{
    index::Index,
    syntax::Syntax,
    text::{Language, Scanned},
};
use crate::{
    command::{CommandKey, Risk},
    entities::{Malformed, malformed},
    typed::Shape,
};

/// One file of a policy set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Source {
    /// The file's name, relative to the folder, with `/`.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// The sources of one policy set: schema and policies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
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

crate::schema::described! {
    PolicySetVersion => crate::schema::text(
        "Names one policy set: the SHA-256 of its sources in hexadecimal.",
        "^[0-9a-f]{64}$",
    );
}

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
    /// Whether some policy looks at grants that do not cover what is asked for.
    looks_beyond_own_grants: bool,
    /// What people's rights are decided by, per action: few policies, asked seldom.
    people: HashMap<&'static str, cedar_policy::PolicySet>,
    /// The entity of each action that we ask about, with the groups that it is in.
    actions: HashMap<String, Entity>,
    /// The actions, other than typed ones, whose context has a session.
    with_session: Vec<&'static str>,
    /// The commands whose arguments have types.
    typed: TypedActions,
}

/// The typed actions of a schema, by command.
pub(crate) type TypedActions = BTreeMap<CommandKey, TypedAction>;

/// What a schema says of a command's arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TypedAction {
    /// The group that the action is in.
    pub(crate) risk: Risk,
    /// The type of `context.input`.
    pub(crate) input: Shape,
    /// Whether its context has a session.
    pub(crate) session: bool,
}

/// What a policy says about itself.
#[derive(Debug)]
pub(crate) struct Notes {
    pub(crate) forbids: bool,
    pub(crate) advice: Option<String>,
    pub(crate) workflow: Option<String>,
    /// Whether it looks at grants.
    pub(crate) looks_at_grants: bool,
    /// Whether it cannot apply without a grant for the command.
    pub(crate) needs_own_grant: bool,
}

/// How many attributes deep a policy may look from principal, action or resource.
/// This many the entities that we build can answer.
const LEVELS: u32 = 3;

/// Stack of the thread that parses and validates.
pub(crate) const STACK: usize = 256 * 1024 * 1024;

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

    /// Whether decisions need grants that do not cover the command which is asked for.
    pub(crate) fn looks_beyond_own_grants(&self) -> bool {
        self.looks_beyond_own_grants
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

    /// The policies that can decide whether people may do a Cedar action, such as `approve`.
    #[must_use]
    pub fn about_people(&self, action: &str) -> Vec<String> {
        let policies = self.people(action).into_iter();
        let policies = policies.flat_map(cedar_policy::PolicySet::policies);
        policies.map(|policy| policy.id().to_string()).collect()
    }

    /// What decides whether people may do `action`.
    pub(crate) fn people(&self, action: &str) -> Option<&cedar_policy::PolicySet> {
        self.people.get(action)
    }

    /// An action as an entity, which says in which groups it is.
    pub(crate) fn action(&self, name: &str) -> Result<&Entity, Malformed> {
        self.actions
            .get(name)
            .ok_or_else(|| Malformed::new(format!("there is no action `{name}`")))
    }

    /// Whether the schema gives the context of an action that is not typed a session.
    pub(crate) fn declares_session(&self, action: &str) -> bool {
        self.with_session.contains(&action)
    }

    /// The commands whose arguments policies see with types: the schema declares an
    /// action for each (see [`crate::typed`]).
    pub fn typed_commands(&self) -> impl Iterator<Item = &CommandKey> {
        self.typed.keys()
    }

    /// What the schema says of this command's arguments.
    pub(crate) fn typed(&self, key: &CommandKey) -> Option<&TypedAction> {
        self.typed.get(key)
    }

    /// See [`Index::candidates`].
    pub(crate) fn candidates(
        &self,
        action: &EntityUid,
        resource: &EntityUid,
        ancestors: &[EntityUid],
    ) -> Result<Candidates<'_>, Malformed> {
        self.index.candidates(action, resource, ancestors)
    }

    /// A set that was parsed and indexed, and not validated.
    #[cfg(test)]
    pub(crate) fn unchecked(sources: &PolicySources) -> Self {
        let (schema_file, files) = scan(sources).unwrap();
        let (schema, typed, _) = read_schema(&schema_file).unwrap();
        let policies = read_policies(&files).unwrap();
        let policies = policies.into_iter().map(Placed::read).collect();
        build(sources.version(), &schema, typed, policies).unwrap()
    }

    /// Every policy, to compare slices with.
    pub(crate) fn whole(&self) -> Result<cedar_policy::PolicySet, Malformed> {
        cedar_policy::PolicySet::from_policies(self.index.policies().iter().cloned())
            .map_err(malformed)
    }
}

/// A policy set taken apart, to be put together again with one policy changed.
pub(crate) struct Parts {
    pub(crate) schema: Schema,
    pub(crate) typed: TypedActions,
    pub(crate) policies: Vec<Part>,
    /// What the validator warns of.
    #[cfg_attr(
        not(feature = "prove"),
        allow(dead_code, reason = "only proofs are strict about it")
    )]
    pub(crate) warnings: Vec<Finding>,
}

/// One policy, and its text.
pub(crate) struct Part {
    pub(crate) id: String,
    pub(crate) policy: Policy,
    pub(crate) file: String,
    /// Line of its first character, from 1.
    pub(crate) line: u32,
    /// From its first character to the next policy.
    pub(crate) text: String,
}

/// Takes a valid set apart.
pub(crate) fn parts(sources: &PolicySources) -> Result<Parts, Vec<Finding>> {
    let (schema_file, files) = scan(sources)?;
    let (schema, typed, _) = read_schema(&schema_file)?;
    let policies = read_policies(&files)?;
    let warnings = validate(&schema, &policies)?;
    let part = |placed: Placed<'_>| {
        let end = placed.file.statements.iter().find(|at| **at > placed.at);
        let text = placed
            .file
            .text
            .get(placed.at..end.copied().unwrap_or(placed.file.text.len()));
        Part {
            line: placed.error("").line.unwrap_or(1),
            file: placed.file.name.to_owned(),
            text: text.unwrap_or_default().to_owned(),
            id: placed.id,
            policy: placed.policy,
        }
    };
    Ok(Parts {
        policies: policies.into_iter().map(part).collect(),
        schema,
        typed,
        warnings,
    })
}

/// Puts policies together that were validated already, under the version of another set.
pub(crate) fn assemble(
    version: PolicySetVersion,
    schema: &Schema,
    typed: TypedActions,
    policies: Vec<Policy>,
) -> Result<PolicySet, Malformed> {
    let policies: Result<Vec<Read>, Malformed> = policies
        .into_iter()
        .map(|policy| {
            Ok(Read {
                syntax: Syntax::of(&policy)?,
                policy,
            })
        })
        .collect();
    build(version, schema, typed, policies?)
}

/// Runs work that recurses as deep as policies nest, on a thread with a large stack.
pub(crate) fn on_large_stack<T: Send>(
    work: impl FnOnce() -> Result<T, Vec<Finding>> + Send,
) -> Result<T, Vec<Finding>> {
    let broken = |message: String| vec![Finding::error("policies", message)];
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .stack_size(STACK)
            .spawn_scoped(scope, work)
            .map_err(|error| broken(format!("no thread to work on: {error}")))?
            .join()
            .unwrap_or_else(|_| Err(broken("the work on the policies panicked".to_owned())))
    })
}

/// A policy, and what its expressions are made of.
#[derive(Debug)]
struct Read {
    policy: Policy,
    syntax: Syntax,
}

/// A policy, and where it stands.
struct Placed<'a> {
    id: String,
    policy: Policy,
    syntax: Syntax,
    file: &'a Scanned<'a>,
    at: usize,
    /// How many operators that chain it holds.
    chain: usize,
}

impl Placed<'_> {
    fn read(self) -> Read {
        Read {
            policy: self.policy,
            syntax: self.syntax,
        }
    }

    /// An error about this policy.
    fn error(&self, message: impl Into<String>) -> Finding {
        Finding::error(self.file.name, message)
            .policy(&self.id)
            .at(self.file.text, self.at)
    }
}

fn load(sources: &PolicySources) -> Result<(PolicySet, Vec<Finding>), Vec<Finding>> {
    let (schema_file, files) = scan(sources)?;
    let (schema, typed, mut warnings) = read_schema(&schema_file)?;
    let policies = read_policies(&files)?;
    warnings.extend(validate(&schema, &policies)?);
    warnings.extend(lint::check(&schema, &policies)?);

    let policies = policies.into_iter().map(Placed::read).collect();
    let set = build(sources.version(), &schema, typed, policies)
        .map_err(|error| vec![Finding::error(schema_file.name, error.text)])?;
    warnings.truncate(MAX_FINDINGS);
    Ok((set, warnings))
}

fn build(
    version: PolicySetVersion,
    schema: &Schema,
    typed: TypedActions,
    policies: Vec<Read>,
) -> Result<PolicySet, Malformed> {
    let notes = policies
        .iter()
        .map(|read| (read.policy.id().to_string(), notes(read)))
        .collect();
    let looks_beyond_own_grants = policies
        .iter()
        .any(|read| read.syntax.looks_beyond_own_grants());
    let index = Index::new(policies, schema, typed.keys())?;
    let with_session = with_session(schema)?;
    let groups = schema.action_entities().map_err(malformed)?;
    let mut people = HashMap::new();
    let mut actions = HashMap::new();
    for (name, principal, _) in index::actions() {
        if *principal == crate::entities::TYPES.user {
            people.insert(name, index.all(&crate::entities::action_uid(name))?);
        }
    }
    let names = index::actions().map(|(name, _, _)| name.to_owned());
    for name in names
        .into_iter()
        .chain(typed.keys().map(ToString::to_string))
    {
        let uid = crate::entities::action_uid(&name);
        let entity = groups
            .get(&uid)
            .ok_or_else(|| Malformed::new(format!("the schema has no action {uid}")))?;
        actions.insert(name, entity.clone());
    }
    Ok(PolicySet {
        version,
        index,
        notes,
        looks_beyond_own_grants,
        people,
        actions,
        with_session,
        typed,
    })
}

fn notes(read: &Read) -> Notes {
    let note = |key| {
        read.policy
            .annotation(key)
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
    };
    Notes {
        forbids: read.policy.effect() == Effect::Forbid,
        looks_at_grants: read.syntax.looks_at_grants(),
        needs_own_grant: read.syntax.needs_own_grant(),
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

fn read_schema(file: &Scanned<'_>) -> Result<(Schema, TypedActions, Vec<Finding>), Vec<Finding>> {
    let from_cedar = |error: &DetailedError| Finding::from_cedar(error, file.name, file.text);
    let (fragment, warnings) = SchemaFragment::from_cedarschema_str(file.text)
        .map_err(|error| from_cedar(&DetailedError::from(&error)))?;
    let warnings = warnings
        .flat_map(|warning| from_cedar(&DetailedError::from(&warning)))
        .map(Finding::warning)
        .collect();
    let json = fragment
        .clone()
        .to_json_value()
        .map_err(|error| from_cedar(&DetailedError::from(&error)))?;
    let schema = Schema::from_schema_fragments([fragment])
        .map_err(|error| from_cedar(&DetailedError::from(&error)))?;
    let mut typed = typed_actions(file, &json)?;
    fit::find_sessions(&schema, &mut typed);
    fit::check(&schema, file.name, &typed)?;
    fit::check_sessions(&schema, &json, file.name, &typed)?;
    Ok((schema, typed, warnings))
}

/// The actions that are named by a command's key.
fn typed_actions(file: &Scanned<'_>, schema: &Value) -> Result<TypedActions, Vec<Finding>> {
    let mut findings = Vec::new();
    let mut typed = TypedActions::new();
    let actions = schema
        .get("")
        .and_then(|names| names.get("actions")?.as_object());
    for (name, action) in actions.into_iter().flatten() {
        if !name.contains('/') {
            continue;
        }
        match name
            .parse()
            .map_err(|_| "no command can have this name".to_owned())
        {
            Ok(key) => match typed_action(action, &risks(actions, action)) {
                Ok(action) => drop(typed.insert(key, action)),
                Err(message) => findings.push((name, message)),
            },
            Err(message) => findings.push((name, message)),
        }
    }
    if findings.is_empty() {
        return Ok(typed);
    }
    let finding = |(name, message): (&String, String)| {
        let finding = Finding::error(file.name, format!("the typed action `{name}`: {message}"))
            .help("`cedargate services schema` writes such an action");
        match file.text.find(&format!("\"{name}\"")) {
            Some(at) => finding.at(file.text, at),
            None => finding,
        }
    };
    Err(findings.into_iter().map(finding).collect())
}

/// The risks that an action is grouped under, by itself or by the groups that it is in.
fn risks(actions: Option<&Map<String, Value>>, action: &Value) -> Vec<Risk> {
    let mut risks = Vec::new();
    let mut seen: Vec<&str> = Vec::new();
    let mut open = vec![action];
    while let Some(action) = open.pop() {
        let groups = action.get("memberOf").and_then(Value::as_array);
        let groups = groups.into_iter().flatten();
        for group in groups.filter_map(|group| group.get("id")?.as_str()) {
            if seen.contains(&group) {
                continue;
            }
            seen.push(group);
            let all = [Risk::Read, Risk::Write, Risk::Destroy];
            match all.into_iter().find(|risk| risk.as_str() == group) {
                Some(risk) => risks.push(risk),
                None => open.extend(actions.and_then(|actions| actions.get(group))),
            }
        }
    }
    risks
}

fn typed_action(action: &Value, risks: &[Risk]) -> Result<TypedAction, String> {
    // Beside it there may be groups of the operator's own.
    let [risk] = *risks else {
        return Err("it must be in one of `read`, `write` and `destroy`".to_owned());
    };
    let input = action
        .get("appliesTo")
        .and_then(|applies| applies.get("context")?.get("attributes")?.get("input"))
        .ok_or("its context must be written out and have an `input`")?;
    let must = input.get("required") != Some(&Value::Bool(false));
    match Shape::read(input)? {
        input @ Shape::Record(_) if must => Ok(TypedAction {
            risk,
            input,
            // Found when there is a schema to ask.
            session: false,
        }),
        _ => Err("`input` must be a record, and not optional".to_owned()),
    }
}

/// Parses the policies and gives each its `@id`.
fn read_policies<'a>(files: &'a [Scanned<'a>]) -> Result<Vec<Placed<'a>>, Vec<Finding>> {
    let mut findings = Vec::new();
    let mut placed: Vec<Placed<'a>> = Vec::new();
    // Where in `placed` an id is.
    let mut known: HashMap<String, usize> = HashMap::new();
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
        let of = |each: &[usize], id: &PolicyId| {
            position(id)
                .and_then(|number| each.get(number))
                .copied()
                .unwrap_or(0)
        };
        let at = |id: &PolicyId| of(&file.statements, id);
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
            let chain = of(&file.chains, policy.id());
            match id_of(policy) {
                Ok(id) => {
                    let policy = policy.new_id(PolicyId::new(&id));
                    let syntax = Syntax::of(&policy).map_err(|error| {
                        vec![Finding::error(file.name, error.text).at(file.text, at)]
                    })?;
                    let one = Placed {
                        id,
                        policy,
                        syntax,
                        file,
                        at,
                        chain,
                    };
                    if let Some(other) = known.get(&one.id).and_then(|at| placed.get(*at)) {
                        let line = other.error("").line.unwrap_or_default();
                        let other = other.file.name;
                        let message = format!("the id `{}` is used already, at {other}:{line}", one.id);
                        findings.push(one.error(message));
                    } else {
                        known.insert(one.id.clone(), placed.len());
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
mod tests;
