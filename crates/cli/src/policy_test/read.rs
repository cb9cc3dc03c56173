//! From files to cases: reading, including, merging fixtures, laying rows over tests.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use authz::{
    Agent, Circumstances, Command, Facts, Finding, Grant, GrantId, Principal, Risk, Scope, Session,
    Timestamp, User, UserId,
    approval::{Administration, Ask, Presence, Reach, Right},
    mutate::Workshop,
    policy_set::Severity,
};
use handlers::Catalog;
use serde_saphyr::Location;

use super::{
    case::{Case, Question},
    fixtures::{Fixtures, approval_id, nearest},
    format::{File, Given, May, Overlay, SessionPatch, Spanned, Test},
    is_json, official,
};

/// The largest file.
const MAX_FILE: u64 = 4 * 1024 * 1024;

/// How many files may include each other in a row.
const MAX_INCLUDES: usize = 8;

/// How many YAML events and scalars a file may have.
const MAX_EVENTS: usize = 500_000;

/// `now` of a file that says none.
pub(super) const NOON: &str = "2026-01-15T12:00:00Z";

/// The cases of these files, in their order, or everything that is wrong with them.
pub(crate) fn cases(
    files: &[PathBuf],
    catalog: &Arc<Catalog>,
    workshop: &Workshop,
) -> Result<Vec<Case>, Vec<Finding>> {
    let mut cases = Vec::new();
    let mut findings = Vec::new();
    for path in files {
        if is_json(path) {
            match Source::read(path) {
                Ok(source) => {
                    official::cases(
                        &source,
                        path,
                        (catalog, workshop),
                        &mut cases,
                        &mut findings,
                    );
                }
                Err(finding) => findings.push(*finding),
            }
            continue;
        }
        match Reader::open(path, catalog) {
            Ok((reader, tests)) => {
                if tests.is_empty() {
                    let help = "a test has `agent`, `call` and `expect`; fixtures alone belong into a file that is included";
                    findings.push(
                        reader
                            .source
                            .finding(None, "the file has no tests", Some(help)),
                    );
                }
                for test in tests {
                    reader.test(&test, &mut cases, &mut findings);
                }
            }
            Err(finding) => findings.push(*finding),
        }
    }
    if findings.is_empty() {
        Ok(cases)
    } else {
        Err(findings)
    }
}

/// The fixtures of a file, with its time.
pub(crate) fn fixtures(
    path: &Path,
    catalog: &Arc<Catalog>,
) -> Result<(Fixtures, Timestamp), Box<Finding>> {
    let (reader, _) = Reader::open(path, catalog)?;
    Ok((reader.fixtures, reader.now))
}

/// A file's name and text.
pub(super) struct Source {
    pub(super) name: String,
    pub(super) text: String,
}

impl Source {
    fn finding(&self, at: Option<Location>, message: &str, help: Option<&str>) -> Finding {
        let at = at.filter(|at| at.line() > 0);
        let number = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        let excerpt = at.and_then(|at| {
            let line = self
                .text
                .lines()
                .nth(usize::try_from(at.line()).ok()?.checked_sub(1)?)?;
            let column = usize::try_from(at.column()).ok()?.saturating_sub(1);
            let shown: String = line.chars().take(120).collect();
            Some(format!("{shown}\n{}^", " ".repeat(column.min(120))))
        });
        Finding {
            severity: Severity::Error,
            file: self.name.clone(),
            line: at.map(|at| number(at.line())),
            column: at.map(|at| number(at.column())),
            policy: None,
            message: message.to_owned(),
            help: help.map(str::to_owned),
            excerpt,
        }
    }

    /// A finding about a line, from 1.
    pub(super) fn at_line(&self, line: u64, message: &str, help: Option<&str>) -> Finding {
        Finding {
            line: Some(u32::try_from(line).unwrap_or(u32::MAX)),
            column: Some(1),
            ..self.finding(None, message, help)
        }
    }

    pub(super) fn read(path: &Path) -> Result<Self, Box<Finding>> {
        let source = Self {
            name: path.display().to_string(),
            text: String::new(),
        };
        let wrong = |message: String| Box::new(source.finding(None, &message, None));
        let size = fs::metadata(path)
            .map_err(|error| wrong(format!("the file cannot be read: {error}")))?
            .len();
        if size > MAX_FILE {
            return Err(wrong(format!(
                "the file has {size} bytes, and may have {MAX_FILE}"
            )));
        }
        let bytes =
            fs::read(path).map_err(|error| wrong(format!("the file cannot be read: {error}")))?;
        let text =
            String::from_utf8(bytes).map_err(|_| wrong("the file is not UTF-8".to_owned()))?;
        Ok(Self { text, ..source })
    }

    fn parse(&self) -> Result<File, Box<Finding>> {
        self.parse_as()
    }

    fn parse_as<T: serde::de::DeserializeOwned>(&self) -> Result<T, Box<Finding>> {
        if self.text.trim().is_empty() {
            return Err(Box::new(self.finding(None, "the file is empty", None)));
        }
        let mut options = serde_saphyr::options! {
            strict_booleans: true,
            with_snippet: false,
        };
        if let Some(budget) = &mut options.budget {
            budget.max_events = MAX_EVENTS;
        }
        serde_saphyr::from_str_with_options(&self.text, options).map_err(|error| {
            let error = error.without_snippet();
            let at = error.location();
            let (message, help) = match error {
                serde_saphyr::Error::SerdeUnknownField {
                    field: invalid,
                    expected,
                    ..
                } => (
                    format!("unknown key `{invalid}`"),
                    Some(meant(invalid, expected)),
                ),
                serde_saphyr::Error::SerdeUnknownVariant {
                    variant: invalid,
                    expected,
                    ..
                } => (
                    format!("`{invalid}` is none of the words that may stand here"),
                    Some(meant(invalid, expected)),
                ),
                other => (first_line(&other.to_string()), None),
            };
            Box::new(self.finding(at, &message, help.as_deref()))
        })
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

/// What may have been meant, and what there is.
fn meant(word: &str, valid: &[&'static str]) -> String {
    let list = valid.join(", ");
    match nearest(word, valid.iter().copied()) {
        Some(near) => format!("did you mean `{near}`? There are: {list}"),
        None => format!("there are: {list}"),
    }
}

/// One file, with everything that its tests start from.
struct Reader {
    source: Source,
    fixtures: Fixtures,
    now: Timestamp,
    ip: std::net::IpAddr,
    session: SessionPatch,
}

impl Reader {
    fn open(
        path: &Path,
        catalog: &Arc<Catalog>,
    ) -> Result<(Self, Vec<Spanned<Test>>), Box<Finding>> {
        let mut fixtures = Fixtures::new(catalog);
        let mut open = Vec::new();
        let (source, file) = include(path, &mut fixtures, &mut open)?;
        let noon = || NOON.parse().unwrap_or_default();
        let now = file
            .now
            .as_ref()
            .map_or_else(noon, |now| now.value.from(noon()));
        let ip = file
            .ip
            .unwrap_or_else(|| std::net::Ipv4Addr::LOCALHOST.into());
        let reader = Self {
            source,
            fixtures,
            now,
            ip,
            session: file.session,
        };
        if let Some((at, problem)) = reader.fixtures.problems().next() {
            return Err(Box::new(reader.source.finding(at, &problem, None)));
        }
        Ok((reader, file.tests))
    }

    /// The cases of one test: one, or one per row of its table.
    fn test(&self, test: &Spanned<Test>, cases: &mut Vec<Case>, findings: &mut Vec<Finding>) {
        let name = test
            .value
            .name
            .clone()
            .unwrap_or_else(|| format!("line {}", test.referenced.line()));
        let mut add = |name: String, test: &Test, at: Location| match self.case(name, test, at) {
            Ok(case) => cases.push(case),
            Err(finding) => findings.push(*finding),
        };
        if test.value.table.is_empty() {
            add(name, &test.value, test.referenced);
            return;
        }
        for (index, row) in test.value.table.iter().enumerate() {
            let of_row = row
                .value
                .name
                .clone()
                .unwrap_or_else(|| format!("row {}", index + 1));
            let row_name = format!("{name} › {of_row}");
            if !row.value.table.is_empty() {
                add(row_name, &row.value, row.referenced);
                continue;
            }
            add(
                row_name,
                &laid_over(&test.value, &row.value),
                row.referenced,
            );
        }
    }

    fn case(&self, name: String, test: &Test, at: Location) -> Result<Case, Box<Finding>> {
        let wrong =
            |at: Location, message: String| Box::new(self.source.finding(Some(at), &message, None));
        if !test.table.is_empty() {
            return Err(wrong(at, "a row of a table cannot have a table".to_owned()));
        }
        let Some(expect) = test.expect.clone() else {
            return Err(Box::new(self.source.finding(
                Some(at),
                "the test expects nothing",
                Some("say `expect: permit`, `hard`, `escalate` or `refuse`"),
            )));
        };
        let mut fixtures = self.fixtures.clone();
        if let Some(Overlay {
            agents,
            users,
            services,
        }) = test.with.clone()
        {
            fixtures.lay(agents, users, services);
        }
        if let Some((place, problem)) = fixtures.problems().next() {
            return Err(Box::new(self.source.finding(
                place.or(Some(at)),
                &problem,
                None,
            )));
        }
        for user in expect.value.details.approvers.keys() {
            fixtures
                .user(user)
                .map_err(|problem| wrong(expect.referenced, problem))?;
        }
        let now = test
            .now
            .as_ref()
            .map_or(self.now, |now| now.value.from(self.now));
        let circumstances = Circumstances {
            now,
            ip: test.ip.unwrap_or(self.ip),
            session: self.session.under(test.session).at(now),
        };
        let question = Asked {
            reader: self,
            test,
            fixtures: &fixtures,
            at: circumstances,
            place: at,
        }
        .question()?;
        Ok(Case {
            file: self.source.name.clone(),
            line: at.line(),
            name,
            question,
            expect: expect.value,
            approvers: fixtures,
        })
    }
}

/// A grant as a test writes it: `{call: this, by: [dan], for: 1h}`. Whoever gave it need
/// not be among the fixtures.
///
/// # Errors
///
/// What is wrong with it.
pub(crate) fn grant(
    text: &str,
    fixtures: &Fixtures,
    agent: &Agent,
    command: &Command,
    now: Timestamp,
) -> Result<Grant, String> {
    let source = Source {
        name: "--grant".to_owned(),
        text: text.to_owned(),
    };
    let given = source
        .parse_as::<Given>()
        .map_err(|finding| finding.to_string())?;
    given.grant(fixtures, agent, command, now)
}

/// A session as a test writes it: `{tainted: true, calls: 3, began: 20m}`.
///
/// # Errors
///
/// What is wrong with it.
pub(crate) fn session(text: &str, now: Timestamp) -> Result<Session, String> {
    let source = Source {
        name: "--session".to_owned(),
        text: text.to_owned(),
    };
    let patch = source.parse_as::<SessionPatch>();
    Ok(patch.map_err(|finding| finding.to_string())?.at(now))
}

impl Given {
    /// The grant that an agent has by it.
    fn grant(
        &self,
        fixtures: &Fixtures,
        agent: &Agent,
        command: &Command,
        now: Timestamp,
    ) -> Result<Grant, String> {
        let (scope, risk) = match (&self.command, &self.service, &self.call) {
            (Some(key), None, None) => {
                let target = fixtures.target(key)?;
                (
                    Scope::Command {
                        command: key.clone(),
                    },
                    target.risk,
                )
            }
            (None, Some(service), None) => {
                fixtures.has_service(service)?;
                (
                    Scope::Service {
                        service: service.clone(),
                    },
                    Risk::Write,
                )
            }
            (None, None, Some(call)) => {
                let call = match call {
                    super::format::Call::Slash(text) if text == "this" => command.clone(),
                    other => fixtures.command(other)?,
                };
                let digest = call.arguments.digest().clone();
                (
                    Scope::Call {
                        command: call.target.key.clone(),
                        digest,
                    },
                    call.target.risk,
                )
            }
            _ => return Err("a grant is for one of `call`, `command` and `service`".to_owned()),
        };
        let (first, second) = match self.by.as_slice() {
            [first] => (first, None),
            [first, second] => (first, Some(second)),
            _ => return Err("a grant is given `by` one person or two".to_owned()),
        };
        let issued = self.issued.map_or(now, |issued| issued.from(now));
        Ok(Grant {
            id: GrantId::generate(issued),
            agent: agent.id,
            scope,
            risk: self.risk.unwrap_or(risk),
            issued,
            expires: issued.plus(self.life.0),
            first: first.clone(),
            second: second.cloned(),
            single_use: self.single_use,
            approval: approval_id(issued),
        })
    }
}

/// One test, with what it is about.
struct Asked<'a> {
    reader: &'a Reader,
    test: &'a Test,
    fixtures: &'a Fixtures,
    at: Circumstances,
    place: Location,
}

impl Asked<'_> {
    fn wrong(&self, at: Location, message: impl AsRef<str>) -> Box<Finding> {
        Box::new(self.reader.source.finding(Some(at), message.as_ref(), None))
    }

    fn missing(&self, what: &str) -> Box<Finding> {
        self.wrong(self.place, format!("the test has no `{what}`"))
    }

    fn agent(&self) -> Result<Agent, Box<Finding>> {
        let name = self
            .test
            .agent
            .as_ref()
            .ok_or_else(|| self.missing("agent"))?;
        let agent = self.fixtures.agent(&name.value);
        agent.map_err(|problem| self.wrong(name.referenced, problem))
    }

    fn command(&self) -> Result<Command, Box<Finding>> {
        let call = self
            .test
            .call
            .as_ref()
            .ok_or_else(|| self.missing("call"))?;
        let command = self.fixtures.command(&call.value);
        command.map_err(|problem| self.wrong(call.referenced, problem))
    }

    fn user(&self, name: &Spanned<UserId>) -> Result<User, Box<Finding>> {
        let user = self.fixtures.user(&name.value);
        user.map_err(|problem| self.wrong(name.referenced, problem))
    }

    fn requester(&self) -> Result<Option<UserId>, Box<Finding>> {
        let user = self
            .test
            .requester
            .as_ref()
            .map(|name| self.user(name))
            .transpose()?;
        Ok(user.map(|user| user.id))
    }

    fn approved_by(&self) -> Result<Vec<UserId>, Box<Finding>> {
        let names = self.test.approved_by.iter().flatten();
        names
            .map(|name| self.user(name).map(|user| user.id))
            .collect()
    }

    fn question(&self) -> Result<Question, Box<Finding>> {
        let may = match (self.test.may, &self.test.user) {
            (Some(may), _) => may,
            (None, None) => May::Invoke,
            (None, Some(name)) => {
                return Err(self.wrong(name.referenced, "a test about a user says what they `may`"));
            }
        };
        match may {
            May::Invoke | May::List => self.of_agent(may == May::List),
            May::Approve => {
                let life = self.test.life.ok_or_else(|| self.missing("for"))?;
                let reach = self.test.reach.unwrap_or(Reach::Call);
                self.of_person(Right::Approve(self.ask()?, reach, life.0))
            }
            May::Reject => self.of_person(Right::Reject(self.ask()?)),
            May::Revoke => self.of_person(Right::Revoke(self.agent()?)),
            May::View => self.of_person(Right::Administer(Administration::View)),
            May::ManageAgents => self.of_person(Right::Administer(Administration::ManageAgents)),
            May::ManageUsers => self.of_person(Right::Administer(Administration::ManageUsers)),
            May::ManagePolicies => {
                self.of_person(Right::Administer(Administration::ManagePolicies))
            }
        }
    }

    fn of_agent(&self, list: bool) -> Result<Question, Box<Finding>> {
        if let Some(name) = &self.test.user {
            let message = "people send no commands: a test of `invoke` or `list` has an `agent`";
            return Err(self.wrong(name.referenced, message));
        }
        let (agent, command, at) = (self.agent()?, self.command()?, self.at);
        let mut grants = Vec::new();
        for given in self.test.grants.iter().flatten() {
            let known = given
                .value
                .by
                .iter()
                .find_map(|user| self.fixtures.user(user).err());
            let grant = if let Some(stranger) = known {
                Err(stranger)
            } else {
                let (fixtures, now) = (self.fixtures, self.reader.now);
                given.value.grant(fixtures, &agent, &command, now)
            };
            grants.push(grant.map_err(|problem| self.wrong(given.referenced, problem))?);
        }
        let facts = Facts {
            agent,
            grants,
            version: 0,
        };
        let principal = Arc::new(Principal::new(facts));
        Ok(if list {
            Question::List {
                principal,
                command,
                at,
            }
        } else {
            Question::Invoke {
                principal,
                command,
                at,
                requester: self.requester()?,
                approved_by: self.approved_by()?,
            }
        })
    }

    fn of_person(&self, right: Right) -> Result<Question, Box<Finding>> {
        let name = self
            .test
            .user
            .as_ref()
            .ok_or_else(|| self.missing("user"))?;
        Ok(Question::Person {
            user: self.user(name)?,
            right,
            at: Presence {
                now: self.at.now,
                confirmed: self.test.mfa.map(|age| self.at.now.minus(age.0)),
            },
        })
    }

    fn ask(&self) -> Result<Box<Ask>, Box<Finding>> {
        let command = self.command()?;
        Ok(Box::new(Ask {
            agent: self.agent()?,
            digest: command.arguments.digest().clone(),
            approvals: if command.target.risk == Risk::Destroy {
                2
            } else {
                1
            },
            target: (*command.target).clone(),
            requester: self.requester()?,
            approved_by: self.approved_by()?,
        }))
    }
}

/// What the row says, else what the test says.
fn laid_over(test: &Test, row: &Test) -> Test {
    macro_rules! either {
        ($($field:ident),*) => {
            Test {
                $($field: row.$field.clone().or_else(|| test.$field.clone()),)*
                with: match (&test.with, &row.with) {
                    (Some(test), Some(row)) => Some(test.clone().under(row.clone())),
                    (test, row) => row.clone().or_else(|| test.clone()),
                },
                session: test.session.under(row.session),
                table: Vec::new(),
            }
        };
    }
    either!(
        name,
        agent,
        call,
        grants,
        user,
        may,
        reach,
        life,
        mfa,
        requester,
        approved_by,
        now,
        ip,
        expect
    )
}

impl Overlay {
    /// This one, and another on top.
    fn under(self, other: Self) -> Self {
        use super::fixtures::merged;
        Self {
            agents: merged(self.agents, other.agents),
            users: merged(self.users, other.users),
            services: merged(self.services, other.services),
        }
    }
}

/// Reads a file and, before it, what it includes.
fn include(
    path: &Path,
    fixtures: &mut Fixtures,
    open: &mut Vec<PathBuf>,
) -> Result<(Source, File), Box<Finding>> {
    let source = Source::read(path)?;
    let mut file = source.parse()?;
    open.push(path.to_owned());
    for included in &file.include {
        let wrong =
            |message: &str| Box::new(source.finding(Some(included.referenced), message, None));
        let inner = path.parent().unwrap_or(Path::new("")).join(&included.value);
        if open.contains(&inner) || open.len() > MAX_INCLUDES {
            return Err(wrong(
                "the files include each other in a circle, or too deep",
            ));
        }
        if !inner.is_file() {
            return Err(wrong(&format!("there is no file `{}`", inner.display())));
        }
        let (other, inner) = include(&inner, fixtures, open)?;
        if let Some(test) = inner.tests.first() {
            return Err(Box::new(other.finding(
                Some(test.referenced),
                "a file that is included has fixtures only, no tests",
                None,
            )));
        }
        file.now = file.now.or(inner.now);
        file.ip = file.ip.or(inner.ip);
    }
    open.pop();
    fixtures.lay(
        std::mem::take(&mut file.agents),
        std::mem::take(&mut file.users),
        std::mem::take(&mut file.services),
    );
    Ok((source, file))
}
