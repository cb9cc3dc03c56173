//! What carries out the commands of one service: a variant for each kind.

use std::time::Duration;

#[cfg(test)]
use authz::Command;
use authz::Permit;

use crate::{
    Answer, Handler, HandlerError,
    description::{Description, Kind},
    http::HttpService,
};

/// The handler of one service.
#[derive(Debug)]
pub(super) enum ServiceHandler {
    Http(HttpService),
}

impl ServiceHandler {
    /// `timeout` is for descriptions that name none.
    pub(super) fn new(
        description: &Description,
        client: &reqwest::Client,
        timeout: Duration,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, String> {
        match description.kind {
            Kind::Http => {
                HttpService::new(description, client.clone(), timeout, variable).map(Self::Http)
            }
        }
    }

    /// What to set, if it cannot be reached as it is.
    pub(super) fn unavailable(&self) -> Option<&str> {
        match self {
            Self::Http(service) => service.unavailable(),
        }
    }

    /// `server`, or `local` when the agent's own machine runs it.
    pub(super) const fn location(&self) -> &'static str {
        match self {
            Self::Http(_) => "server",
        }
    }

    #[cfg(test)]
    pub(super) async fn carry_out(&self, command: &Command) -> Result<Answer, HandlerError> {
        match self {
            Self::Http(service) => service.carry_out(command).await,
        }
    }
}

impl Handler for ServiceHandler {
    async fn handle(&self, permit: Permit) -> Result<Answer, HandlerError> {
        match self {
            Self::Http(service) => service.handle(permit).await,
        }
    }
}
