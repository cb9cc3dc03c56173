//! What carries out the commands of one service: a variant for each kind.

use std::{sync::Arc, time::Duration};

use authz::{AgentId, Command, Permit};

use crate::{
    Answer, Handler, HandlerError,
    description::{Description, Kind},
    http::{self, HttpService, Preview},
    local::LocalService,
    mcp::{self, McpService},
};

use super::{Condition, Health};

/// The handler of one service.
#[derive(Debug)]
pub(super) enum ServiceHandler {
    Http(Box<HttpService>),
    Mcp(Arc<McpService>),
    Local(LocalService),
}

/// What services share.
pub(super) struct Clients<'a> {
    http: reqwest::Client,
    mcp: mcp::Connections,
    /// For descriptions that name none.
    timeout: Duration,
    /// Looks up an environment variable.
    variable: &'a dyn Fn(&str) -> Option<String>,
}

impl<'a> Clients<'a> {
    pub(super) fn new(
        timeout: Duration,
        variable: &'a dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, String> {
        Ok(Self {
            http: http::client()?,
            mcp: mcp::Connections::default(),
            timeout,
            variable,
        })
    }
}

impl ServiceHandler {
    pub(super) fn new(description: &Description, clients: &Clients<'_>) -> Result<Self, String> {
        match description.kind {
            Kind::Http => {
                let client = clients.http.clone();
                let service =
                    HttpService::new(description, client, clients.timeout, clients.variable)?;
                Ok(Self::Http(Box::new(service)))
            }
            Kind::Local => LocalService::new(description).map(Self::Local),
            Kind::Mcp => {
                let service = McpService::new(description, &clients.mcp, clients.variable)?;
                Ok(Self::Mcp(Arc::new(service)))
            }
        }
    }

    /// What to set, if it cannot be reached as it is.
    pub(super) fn unavailable(&self) -> Option<String> {
        match self {
            Self::Http(service) => service.unavailable(),
            Self::Mcp(service) => service.unavailable(),
            Self::Local(_) => None,
        }
    }

    /// The request that a command would send for the built-in agent.
    pub(super) fn preview(&self, command: &Command) -> Result<Option<Preview>, String> {
        match self {
            Self::Http(service) => service.preview(AgentId::LOCAL, command).map(Some),
            Self::Mcp(_) | Self::Local(_) => Ok(None),
        }
    }

    /// Reads address and credentials again. Whether anything changed.
    pub(super) fn refresh(&self, variable: &dyn Fn(&str) -> Option<String>) -> bool {
        match self {
            Self::Http(service) => service.refresh(variable),
            Self::Mcp(service) => service.refresh_configuration(variable),
            Self::Local(_) => false,
        }
    }

    /// How it is.
    pub(super) fn health(&self) -> Health {
        match self {
            Self::Http(service) => service.health(),
            Self::Mcp(service) => service.health(),
            Self::Local(_) => Health::Well,
        }
    }

    /// How it is, with what is known of why.
    pub(super) fn condition(&self) -> Condition {
        match self {
            Self::Http(service) => service.condition(),
            Self::Mcp(service) => service.condition(),
            Self::Local(_) => Condition::of(self.health()),
        }
    }

    /// `server`, or `local` when the agent's own machine runs it.
    pub(super) const fn location(&self) -> &'static str {
        match self {
            Self::Http(_) | Self::Mcp(_) => "server",
            Self::Local(_) => "local",
        }
    }

    /// The MCP server, if it is one.
    pub(super) const fn mcp(&self) -> Option<&Arc<McpService>> {
        match self {
            Self::Mcp(service) => Some(service),
            Self::Http(_) | Self::Local(_) => None,
        }
    }

    #[cfg(test)]
    pub(super) async fn carry_out(&self, command: &Command) -> Result<Answer, HandlerError> {
        match self {
            Self::Http(service) => service.carry_out(AgentId::LOCAL, command).await,
            Self::Mcp(service) => service.carry_out(command).await,
            Self::Local(service) => service.instructions(command),
        }
    }
}

impl Handler for ServiceHandler {
    async fn handle(&self, permit: Permit) -> Result<Answer, HandlerError> {
        match self {
            Self::Http(service) => service.handle(permit).await,
            Self::Mcp(service) => service.handle(&permit).await,
            Self::Local(service) => service.instructions(permit.command()),
        }
    }
}
