//! Upstreams: where an MCP server is, and how a message gets there and back.

mod http_server;

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use authz::{AgentId, Permit};
use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;

pub(crate) use http_server::Connections;
use http_server::HttpServer;

use super::child::Children;
use crate::{HandlerError, description::McpTable};

/// What lets an agent's message pass to an upstream.
#[derive(Debug)]
pub enum Passage<'a> {
    /// A command that policy permitted.
    Permitted(&'a Permit),
    /// What only opens or keeps a connection, or lists what there is; this agent's. That
    /// policy lets it was found out by the caller.
    Connection(AgentId),
}

/// What an upstream answers: streamed as it comes, with our credential masked. An error
/// means that the answer is not whole.
pub struct Body(Pin<Box<dyn http_body::Body<Data = Bytes, Error = HandlerError> + Send>>);

impl Body {
    pub(super) fn new(
        body: impl http_body::Body<Data = Bytes, Error = HandlerError> + Send + 'static,
    ) -> Self {
        Self(Box::pin(body))
    }
}

impl Body {
    /// A body that is there at once.
    pub(super) fn full(bytes: Bytes) -> Self {
        use http_body_util::BodyExt as _;

        Self::new(http_body_util::Full::new(bytes).map_err(|never| match never {}))
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Body")
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = HandlerError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HandlerError>>> {
        self.0.as_mut().poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.0.size_hint()
    }
}

/// Where an MCP server is.
#[derive(Debug)]
pub(super) enum Upstream {
    Http(Box<HttpServer>),
    Child(Children),
    /// Nowhere yet: what to set.
    Unconfigured {
        service: String,
        reason: String,
    },
}

impl Upstream {
    pub(super) fn new(
        service: &str,
        table: &McpTable,
        timeout: Duration,
        connections: &Connections,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, String> {
        let made = if table.command.is_empty() {
            HttpServer::new(service, table, timeout, connections, variable)?
                .map(|server| Self::Http(Box::new(server)))
        } else {
            Children::new(service, table, timeout, variable).map(Self::Child)
        };
        Ok(made.unwrap_or_else(|reason| Self::Unconfigured {
            service: service.to_owned(),
            reason,
        }))
    }

    /// Sends one HTTP request, as the protocol has it; `agent` is none for calls of ours.
    pub(super) async fn send(
        &self,
        agent: Option<AgentId>,
        request: Request<Bytes>,
    ) -> Result<Response<Body>, HandlerError> {
        match self {
            Self::Http(server) => server.send(request).await,
            Self::Child(children) => children.send(agent, request).await,
            Self::Unconfigured { service, reason } => Err(HandlerError::NotConfigured {
                service: service.clone(),
                reason: reason.clone(),
            }),
        }
    }

    /// Whether both reach the same server in the same way.
    pub(super) fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Http(one), Self::Http(other)) => one.same(other),
            (Self::Child(one), Self::Child(other)) => one.same(other),
            (Self::Unconfigured { reason, .. }, Self::Unconfigured { reason: others, .. }) => {
                reason == others
            }
            _ => false,
        }
    }

    /// Why nothing can be sent, if so.
    pub(super) fn unavailable(&self) -> Option<&str> {
        match self {
            Self::Http(_) | Self::Child(_) => None,
            Self::Unconfigured { reason, .. } => Some(reason),
        }
    }
}
