//! The catalog: every service and command, and what each is called.

use std::sync::Arc;

use authz::{Permit, ServiceName, Target};
use serde_json::{Map, Value};

use crate::{Answer, CommandError, HandlerError, Parsed};

/// What people may read of a service.
#[derive(Clone, Debug, serde::Serialize)]
pub struct ServiceInfo {
    /// Its name.
    pub name: ServiceName,
    /// Of its description.
    pub version: String,
    /// What it is.
    pub description: String,
    /// `server` or `local`.
    pub location: String,
    /// `active`, or `error` when it is not configured.
    pub status: String,
    /// Why it is not active.
    #[serde(rename = "errorMessage", skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
    /// Its commands, in the order of its description.
    pub commands: Vec<CommandInfo>,
}

/// What people may read of a command.
#[derive(Clone, Debug, serde::Serialize)]
pub struct CommandInfo {
    /// What policy is told.
    #[serde(skip)]
    pub target: Arc<Target>,
    /// Its canonical name.
    pub name: String,
    /// One line.
    pub description: String,
    /// JSON Schema of its arguments: an object.
    pub arguments: Value,
    /// `servers list`, as a person would type it, with its arguments.
    pub usage: String,
}

/// Every service and command that this gateway knows. Made once, at start.
#[derive(Debug)]
pub struct Catalog {
    services: Vec<ServiceInfo>,
}

impl Catalog {
    /// Reads the built-in descriptions, with addresses and credentials from `variable`,
    /// which looks up an environment variable.
    ///
    /// # Errors
    ///
    /// A text that names file, line and the nearest valid key, when a description is wrong.
    pub fn load(variable: &dyn Fn(&str) -> Option<String>) -> Result<Self, String> {
        let _ = variable;
        todo!()
    }

    /// Every service, by name.
    #[must_use]
    pub fn services(&self) -> &[ServiceInfo] {
        &self.services
    }

    /// One service, by name or alias.
    #[must_use]
    pub fn service(&self, name: &str) -> Option<&ServiceInfo> {
        let _ = name;
        todo!()
    }

    /// Parses a slash command: `/mcp-coolify servers list --tag web`.
    ///
    /// # Errors
    ///
    /// See [`CommandError`].
    pub fn parse_slash(&self, text: &str) -> Result<Parsed, CommandError> {
        let _ = text;
        todo!()
    }

    /// Makes a command of a structured body: service and operation in any spelling,
    /// arguments by name (an object) or by position (an array).
    ///
    /// # Errors
    ///
    /// See [`CommandError`].
    pub fn command(
        &self,
        service: &str,
        operation: &str,
        arguments: Value,
    ) -> Result<Parsed, CommandError> {
        let _ = (service, operation, arguments);
        todo!()
    }

    /// The arguments as people and records may see them.
    #[must_use]
    pub fn redacted(&self, command: &authz::Command) -> Map<String, Value> {
        let _ = command;
        todo!()
    }

    /// Carries out a permitted command.
    ///
    /// # Errors
    ///
    /// See [`HandlerError`].
    pub async fn handle(&self, permit: Permit) -> Result<Answer, HandlerError> {
        let _ = permit;
        todo!()
    }
}
