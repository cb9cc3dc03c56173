//! Preview: the statements that a command would carry out, and where.

use authz::Command;
use serde_json::{Map, Value};

use super::{PostgresService, changes, inspect, query};
use crate::preview::Statements;

impl PostgresService {
    /// What `command` would have the server do. The statement of `query` is shown as the agent
    /// wrote it: what stands around it as it is sent depends on what the server makes of it.
    pub(crate) fn preview(&self, command: &Command) -> Result<Statements, String> {
        let name = command.target.key.name.as_str();
        let mut arguments: Map<String, Value> = command.arguments.values().clone();
        if let Some(redaction) = self.redactions.get(&command.target.key.name) {
            redaction.arguments(&mut arguments);
        }
        let text = |name: &str| arguments.get(name).and_then(Value::as_str);
        let wanted = text("database").unwrap_or_default();
        let database = self.databases.iter().find(|other| other.name == wanted);
        let database = database.ok_or_else(|| "its description has no such database".to_owned())?;
        let (access, transaction) = match (changes(name), &database.writer) {
            (false, _) => (Some(&database.reader), "READ ONLY"),
            (true, writer) => (writer.as_ref(), "READ WRITE"),
        };
        let address = access.and_then(|access| {
            let address = access.address();
            Some(address.as_ref().as_ref().ok()?.shown())
        });
        let sql = query::trimmed(text("sql").unwrap_or_default());
        let statements = match name {
            "query" | "execute" => vec![sql.to_owned()],
            "explain" => vec![format!("{}{sql}", query::EXPLAIN)],
            _ => inspect::statements(name)
                .iter()
                .map(|statement| statement.trim().to_owned())
                .collect(),
        };
        let parameters = match (name, arguments.get("params")) {
            ("describe-table", _) => vec![Value::from(text("table"))],
            (_, Some(Value::Array(values))) => values.clone(),
            _ => Vec::new(),
        };
        let limit = arguments.get("limit").and_then(Value::as_u64);
        let max_rows = u64::from(self.max_rows);
        Ok(Statements {
            database: database.name.clone(),
            address,
            transaction,
            statements,
            parameters,
            max_rows: limit.unwrap_or(max_rows).min(max_rows),
        })
    }
}
