//! What carries out the commands of one service: a variant for each kind.

use std::{sync::Arc, time::Duration};

use authz::{AgentId, Clock, Command, Permit};

use crate::{
    Answer, Content, Handler, HandlerError,
    description::{Description, Kind},
    http::{self, HttpService},
    local::LocalService,
    mcp::{self, McpService},
    postgres::PostgresService,
    preview::Preview,
    s3::S3Service,
};

use super::{Condition, State};

/// The handler of one service.
#[derive(Debug)]
pub(super) enum ServiceHandler {
    Http(Box<HttpService>),
    Mcp(Arc<McpService>),
    Local(LocalService),
    S3(Arc<S3Service>),
    Postgres(Box<PostgresService>),
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
            Kind::Postgres => {
                let service = PostgresService::new(description, clients.variable)?;
                Ok(Self::Postgres(Box::new(service)))
            }
            Kind::Mcp => {
                let service = McpService::new(description, &clients.mcp, clients.variable)?;
                Ok(Self::Mcp(Arc::new(service)))
            }
            Kind::S3 => {
                let client = clients.http.clone();
                let service =
                    S3Service::new(description, client, clients.timeout, clients.variable)?;
                Ok(Self::S3(Arc::new(service)))
            }
        }
    }

    /// What to set, if it cannot be reached as it is.
    pub(super) fn unavailable(&self) -> Option<String> {
        match self {
            Self::Http(service) => service.unavailable(),
            Self::Mcp(service) => service.unavailable(),
            Self::S3(service) => service.unavailable(),
            Self::Local(_) => None,
            Self::Postgres(service) => service.unavailable(),
        }
    }

    /// For those who need the time.
    pub(super) fn set_clock(&self, clock: &Clock) {
        if let Self::S3(service) = self {
            service.set_clock(clock);
        }
    }

    /// Whether a command may come with content.
    pub(super) fn takes_content(&self, command: &Command) -> bool {
        match self {
            Self::S3(_) => S3Service::takes_content(command),
            Self::Http(_) | Self::Mcp(_) | Self::Local(_) | Self::Postgres(_) => false,
        }
    }

    /// Carries out a command that came with content, if it did.
    pub(super) async fn handle_with(
        &self,
        permit: Permit,
        content: Option<Content>,
    ) -> Result<Answer, HandlerError> {
        match (self, content) {
            (Self::S3(service), content) => {
                let (agent, command) = (permit.agent(), permit.command());
                service.carry_out(agent, command, content).await
            }
            (_, None) => self.handle(permit).await,
            (_, Some(_)) => {
                let command = &permit.command().target.key;
                Err(HandlerError::Rejected {
                    service: command.service.to_string(),
                    status: 400,
                    message: format!("`{command}` takes no content"),
                })
            }
        }
    }

    /// What a command would send for the built-in agent.
    pub(super) fn preview(&self, command: &Command) -> Result<Option<Preview>, String> {
        match self {
            Self::Http(service) => {
                let request = service.preview(AgentId::LOCAL, command)?;
                Ok(Some(Preview::Request(request)))
            }
            Self::S3(service) => Ok(service.preview(command)?.map(Preview::Object)),
            Self::Postgres(service) => {
                let statements = service.preview(command)?;
                Ok(Some(Preview::Statements(statements)))
            }
            Self::Mcp(_) | Self::Local(_) => Ok(None),
        }
    }

    /// Reads address and credentials again. Whether anything changed.
    pub(super) fn refresh(&self, variable: &dyn Fn(&str) -> Option<String>) -> bool {
        match self {
            Self::Http(service) => service.refresh(variable),
            Self::S3(service) => service.refresh(variable),
            Self::Postgres(service) => service.refresh(variable),
            Self::Mcp(service) => service.refresh_configuration(variable),
            Self::Local(_) => false,
        }
    }

    /// How it is, with what is known of why.
    pub(super) fn condition(&self) -> Condition {
        match self {
            Self::Http(service) => service.condition(),
            Self::S3(service) => service.condition(),
            Self::Mcp(service) => service.condition(),
            Self::Local(_) => Condition::of(State::Healthy),
            Self::Postgres(service) => service.condition(),
        }
    }

    /// `server`, or `local` when the agent's own machine runs it.
    pub(super) const fn location(&self) -> &'static str {
        match self {
            Self::Http(_) | Self::Mcp(_) | Self::S3(_) | Self::Postgres(_) => "server",
            Self::Local(_) => "local",
        }
    }

    /// The MCP server, if it is one.
    pub(super) const fn mcp(&self) -> Option<&Arc<McpService>> {
        match self {
            Self::Mcp(service) => Some(service),
            Self::Http(_) | Self::Local(_) | Self::S3(_) | Self::Postgres(_) => None,
        }
    }

    /// Keeps what is known of the service right, for as long as it is polled. What has
    /// nothing to keep ends at once.
    pub(super) async fn keep(&self) {
        match self {
            Self::Mcp(service) => service.keep().await,
            Self::Postgres(service) => service.keep().await,
            Self::Http(_) | Self::Local(_) | Self::S3(_) => {}
        }
    }

    #[cfg(test)]
    pub(super) async fn carry_out(&self, command: &Command) -> Result<Answer, HandlerError> {
        match self {
            Self::Http(service) => service.carry_out(AgentId::LOCAL, command).await,
            Self::Mcp(service) => service.carry_out(command).await,
            Self::Local(service) => service.instructions(command),
            Self::S3(service) => service.carry_out(AgentId::LOCAL, command, None).await,
            Self::Postgres(service) => service.carry_out(command).await,
        }
    }
}

impl Handler for ServiceHandler {
    async fn handle(&self, permit: Permit) -> Result<Answer, HandlerError> {
        match self {
            Self::Http(service) => service.handle(permit).await,
            Self::Mcp(service) => service.handle(&permit).await,
            Self::Local(service) => service.instructions(permit.command()),
            Self::S3(service) => {
                let (agent, command) = (permit.agent(), permit.command());
                service.carry_out(agent, command, None).await
            }
            Self::Postgres(service) => service.handle(permit).await,
        }
    }
}
