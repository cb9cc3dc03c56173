//! Services of kind `postgres`: databases, and six commands to read them.
//!
//! What reads does so in a READ ONLY transaction, as a role that may do little (others are
//! refused), by one statement that stands where the server's grammar has room for nothing
//! but a SELECT. No text is ever searched for words. `execute`, which may change things,
//! exists only where the operator gave a second role for it.

mod address;
mod connection;
mod failure;
mod inspect;
mod line;
mod parameter;
mod preview;
mod query;
mod role;
#[cfg(test)]
mod tests;
mod value;

use std::{cmp::Reverse, collections::HashMap, sync::Arc, time::Duration};

use authz::{Command, CommandName, Permit, ServiceName};
use serde_json::{Map, Value};
use tokio::{sync::Notify, time::Instant};

use self::{
    address::{Address, Limits, Role},
    connection::{Access, Session},
    failure::{Failure, Told},
    query::{Outcome, Question},
};
use crate::{
    Answer, Handler, HandlerError,
    catalog::{Breaker, Condition, State},
    description::{DatabaseTable, Description, PostgresTable},
    http::{answer::mask_urls, scrub::Scrubber, size},
    redaction::Redaction,
};

pub(crate) use line::{by_name, line};

/// How often a database that is well is looked at; one that is not is sooner.
const LOOK_INTERVAL: Duration = Duration::from_mins(5);

/// The first pause after it could not be reached.
const SHORTEST_PAUSE: Duration = Duration::from_secs(2);

/// The longest.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// Beside the statement, a command needs time for its transaction and for parsing.
const AROUND: Duration = Duration::from_secs(2);

/// One service of kind `postgres`.
#[derive(Debug)]
pub(crate) struct PostgresService {
    name: ServiceName,
    max_rows: u32,
    max_result_bytes: usize,
    databases: Vec<Database>,
    redactions: HashMap<CommandName, Redaction>,
    /// Something is configured anew.
    changed: Notify,
}

#[derive(Debug)]
struct Database {
    name: String,
    table: DatabaseTable,
    reader: Arc<Access>,
    /// Only where a second role has a place in the description.
    writer: Option<Arc<Access>>,
}

impl Database {
    fn accesses(&self) -> impl Iterator<Item = &Arc<Access>> {
        std::iter::once(&self.reader).chain(&self.writer)
    }
}

impl PostgresService {
    pub(crate) fn new(
        description: &Description,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, String> {
        let table = description
            .postgres
            .as_ref()
            .ok_or_else(|| "kind `postgres` needs a table `[postgres]`".to_owned())?;
        let redactions = description.commands.iter().map(|command| {
            let name = command.name.get_ref().clone();
            (name, description.redaction(command))
        });
        let databases = table.databases.iter().map(|(name, database)| {
            let access = |role| {
                let limits = limits(table);
                let of = (description.name().as_str(), name.as_str());
                let address = Address::read(database, role, of, limits, variable);
                Arc::new(Access::new(role, limits, table.max_connections, address))
            };
            Database {
                name: name.clone(),
                table: database.clone(),
                reader: access(Role::Reader),
                writer: database.write_url.as_ref().map(|_| access(Role::Writer)),
            }
        });
        Ok(Self {
            name: description.name().clone(),
            max_rows: table.max_rows,
            max_result_bytes: description.max_result_bytes,
            databases: databases.collect(),
            redactions: redactions.collect(),
            changed: Notify::new(),
        })
    }

    /// What to set, if no database can be reached as it is.
    pub(crate) fn unavailable(&self) -> Option<String> {
        let mut reasons = Vec::new();
        for database in &self.databases {
            reasons.push(format!(
                "{}: {}",
                database.name,
                database.reader.unavailable()?
            ));
        }
        // What is refused says more than what is not set at all.
        let refused = reasons.iter().find(|reason| !reason.contains(": set `"));
        refused.or(reasons.first()).map(|reason| match refused {
            Some(_) => reason.clone(),
            None => reason
                .split_once(": ")
                .map_or(reason.as_str(), |(_, rest)| rest)
                .to_owned(),
        })
    }

    /// Reads addresses and passwords again. Whether anything changed.
    pub(crate) fn refresh(&self, variable: &dyn Fn(&str) -> Option<String>) -> bool {
        let mut changed = false;
        for database in &self.databases {
            for access in database.accesses() {
                let of = (self.name.as_str(), database.name.as_str());
                let (role, limits) = (access.role, access.limits);
                let address = Address::read(&database.table, role, of, limits, variable);
                changed |= access.replace(address);
            }
        }
        if changed {
            self.changed.notify_one();
        }
        changed
    }

    /// How it is: as its worst database that is configured, with the commands under way to
    /// all.
    pub(crate) fn condition(&self) -> Condition {
        if let Some(reason) = self.unavailable() {
            return Condition::unconfigured(reason);
        }
        let conditions: Vec<_> = self.configured().map(|access| access.condition()).collect();
        let in_flight = conditions.iter().map(|condition| condition.in_flight).sum();
        let worst = conditions
            .into_iter()
            .min_by_key(|condition| Reverse(severity(condition)));
        Condition {
            in_flight,
            ..worst.unwrap_or(Condition::of(State::Healthy))
        }
    }

    fn configured(&self) -> impl Iterator<Item = &Arc<Access>> {
        let accesses = self.databases.iter().flat_map(Database::accesses);
        accesses.filter(|access| access.address().is_ok())
    }

    /// Looks at every database and role as the gateway starts, whenever one is configured
    /// anew, and now and then; for as long as it is polled. What it finds is logged.
    pub(crate) async fn keep(&self) {
        let mut pause = SHORTEST_PAUSE;
        loop {
            let mut well = true;
            for database in &self.databases {
                for access in database.accesses() {
                    well &= self.look(database, access).await;
                }
            }
            let next = if well {
                pause = SHORTEST_PAUSE;
                LOOK_INTERVAL
            } else {
                pause = (pause * 2).min(LONGEST_PAUSE);
                pause
            };
            let _ = tokio::time::timeout(next, self.changed.notified()).await;
        }
    }

    /// Whether the database answers, and takes us as somebody who may be let in.
    async fn look(&self, database: &Database, access: &Arc<Access>) -> bool {
        let (service, name) = (&self.name, &database.name);
        let told = match &**access.address() {
            Err(_) => return true,
            Ok(address) => {
                let plain = address.is_plain();
                (self.told(database, access, Some(address)), plain)
            }
        };
        let (told, plain) = told;
        let Ok(pass) = access.enter().await else {
            return false;
        };
        let session = access.begin().await;
        pass.ended(match &session {
            Err(failure) => failure.of_the_database(),
            Ok(_) => Ok(()),
        });
        match session {
            Ok(session) => {
                access.end(session).await;
                for remark in access
                    .remarks()
                    .map(|remarks| remarks.0)
                    .unwrap_or_default()
                {
                    tracing::warn!(%service, database = name, role = ?access.role, remark, "a database role may do more than agents need");
                }
                if plain {
                    tracing::debug!(%service, database = name, "the way to a database may be in clear; `sslmode=verify-full` is not");
                }
                true
            }
            Err(failure) => {
                let error = failure.told(&told);
                tracing::warn!(%service, database = name, role = ?access.role, %error, "a database cannot be used");
                false
            }
        }
    }

    /// How a message from that database is told.
    fn told<'a>(
        &'a self,
        database: &'a Database,
        access: &Access,
        address: Option<&Address>,
    ) -> Told<'a> {
        Told {
            service: self.name.as_str(),
            database: &database.name,
            scrubber: address
                .map(|address| address.scrubber.clone())
                .unwrap_or_default(),
            timeout: access.limits.statement,
            writes: access.role == Role::Writer,
        }
    }

    pub(crate) async fn carry_out(&self, command: &Command) -> Result<Answer, HandlerError> {
        let name = command.target.key.name.as_str();
        let arguments = command.arguments.values();
        let wanted = arguments
            .get("database")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let service = || self.name.to_string();
        let Some(database) = self.databases.iter().find(|other| other.name == wanted) else {
            return Err(HandlerError::Failed {
                service: service(),
                message: "its description has no such database".to_owned(),
            });
        };
        let access = match (changes(name), &database.writer) {
            (true, None) => {
                return Err(HandlerError::NotConfigured {
                    service: service(),
                    reason: format!("database `{wanted}` has no role that writes"),
                });
            }
            (true, Some(writer)) => writer,
            (false, _) => &database.reader,
        };
        let told = match &**access.address() {
            Ok(address) => self.told(database, access, Some(address)),
            Err(reason) => {
                return Err(HandlerError::NotConfigured {
                    service: service(),
                    reason: format!("database `{wanted}`: {reason}"),
                });
            }
        };
        let pass = access
            .enter()
            .await
            .map_err(|closed| closed.told(&self.name, &format!("database `{}`", database.name)))?;
        // Whatever an agent's function did to the timeouts of the server.
        let limit = access.limits.connect + access.limits.statement + AROUND;
        let outcome = tokio::time::timeout(limit, self.within(database, access, name, arguments));
        let outcome = outcome.await;
        pass.ended(match &outcome {
            Ok(Err(failure)) => failure.of_the_database(),
            // The agent's statement takes its time; the database may be well.
            Ok(Ok(_)) | Err(_) => Ok(()),
        });
        let data = match outcome {
            Ok(Ok(data)) => data,
            Ok(Err(failure)) => return Err(failure.told(&told)),
            Err(_) => {
                return Err(HandlerError::Timeout {
                    service: service(),
                    after: limit,
                });
            }
        };
        Ok(Answer {
            data: self.finished(&command.target.key.name, data, &told.scrubber),
            untrusted: false,
        })
    }

    /// Carries a command out in a transaction of its own.
    async fn within(
        &self,
        database: &Database,
        access: &Arc<Access>,
        name: &str,
        arguments: &Map<String, Value>,
    ) -> Result<Map<String, Value>, Failure> {
        let began = Instant::now();
        let mut session = access.begin().await?;
        let outcome = self
            .ask(database, access, &mut session, (name, arguments), began)
            .await;
        match outcome {
            Ok(outcome) => {
                if access.role == Role::Writer {
                    session.commit().await?;
                }
                if !outcome.unread {
                    access.end(session).await;
                }
                Ok(outcome.data)
            }
            Err(failure) => {
                if failure.leaves_connection() {
                    access.end(session).await;
                }
                Err(failure)
            }
        }
    }

    async fn ask(
        &self,
        database: &Database,
        access: &Access,
        session: &mut Session,
        (name, arguments): (&str, &Map<String, Value>),
        began: Instant,
    ) -> Result<Outcome, Failure> {
        let connection = session.connection();
        let text = |name: &str| {
            arguments
                .get(name)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        let limit = arguments.get("limit").and_then(Value::as_u64);
        let limit = limit.unwrap_or(u64::MAX).min(u64::from(self.max_rows));
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let question = Question {
            sql: text("sql"),
            params: match arguments.get("params") {
                Some(Value::Array(values)) => values,
                _ => &[],
            },
            max_rows: limit,
            max_bytes: self.max_result_bytes,
        };
        let data = match name {
            "query" => return query::query(connection, question).await,
            "explain" => return query::explain(connection, question).await,
            "execute" => return query::execute(connection, question).await,
            "list-tables" => inspect::list_tables(connection, &database.name, limit).await,
            "describe-table" => inspect::describe_table(connection, text("table")).await,
            "schema-info" => inspect::schema_info(connection).await,
            "connection-stats" => {
                inspect::connection_stats(connection, &database.name, access.pool()).await
            }
            "test" => inspect::test(connection, &database.name, began).await,
            other => Err(Failure::Refused(format!("there is no command `{other}`"))),
        };
        data.map(|data| Outcome {
            data,
            unread: false,
        })
    }

    /// As an agent gets it: not too much, and without secrets.
    fn finished(
        &self,
        name: &CommandName,
        mut data: Map<String, Value>,
        scrubber: &Scrubber,
    ) -> Value {
        let operation = name.as_str().replace('-', "_");
        data.insert("operation".to_owned(), Value::String(operation));
        let lists = [("rows", "rowCount"), ("tables", "tableCount")];
        let list = lists.into_iter().find(|(list, _)| data.contains_key(*list));
        size::fit(&mut data, list, self.max_result_bytes);
        let mut data = Value::Object(data);
        if let Some(redaction) = self.redactions.get(name) {
            redaction.answer(&mut data);
        }
        mask_urls(&mut data);
        scrubber.value(data)
    }
}

impl Handler for PostgresService {
    async fn handle(&self, permit: Permit) -> Result<Answer, HandlerError> {
        self.carry_out(permit.command()).await
    }
}

/// The greater, the worse: what is left alone is worse than what fails, and what may be used
/// by nobody is not as bad as what should work.
fn severity(condition: &Condition) -> u8 {
    match (condition.state, condition.breaker) {
        (State::Healthy, _) => 0,
        (State::Degraded, None) => 1,
        (State::Degraded, Some(Breaker::Closed)) => 2,
        (State::Degraded, Some(Breaker::Open | Breaker::HalfOpen)) => 3,
        (State::Unconfigured, _) => 4,
    }
}

/// Whether a command takes the role that writes.
pub(crate) fn changes(command: &str) -> bool {
    command == "execute"
}

fn limits(table: &PostgresTable) -> Limits {
    Limits {
        statement: Duration::from_millis(table.statement_timeout_ms),
        lock: Duration::from_millis(table.lock_timeout_ms),
        connect: Duration::from_millis(table.connect_timeout_ms),
        idle: Duration::from_millis(table.idle_timeout_ms),
    }
}
