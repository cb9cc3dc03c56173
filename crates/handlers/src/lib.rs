//! What services understand: catalog, command grammar, one module per kind of service.
//!
//! [`Catalog::parse_slash`] and [`Catalog::command`] turn what an agent sent into one
//! [`Command`], checked against the command's JSON Schema. [`Catalog::handle`] carries
//! out what was permitted, and only that: it takes the [`Permit`], which owns the command.

mod arguments;
pub mod catalog;
mod content;
mod description;
pub mod error;
pub mod grammar;
mod health;
mod http;
pub mod jsonrpc;
pub mod limits;
mod local;
pub mod mcp;
mod nearest;
pub mod openapi_import;
mod postgres;
pub mod preview;
mod redaction;
mod s3;
pub mod sse;
pub mod strict_json;
mod variables;

pub use catalog::Catalog;
pub use content::{Content, ContentError};
pub use error::{CommandError, HandlerError};

use authz::{Command, Permit};
use serde_json::Value;

/// What an agent's text or body asks for.
#[derive(Debug)]
pub enum Parsed {
    /// To carry out a command.
    Command(Command),
    /// `/mcp-x` or `/mcp-x help`: to be told what there is.
    Help {
        /// The service, by its own name.
        service: authz::ServiceName,
    },
}

/// What a service answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The data, as the agent gets it: an object that begins with `operation`.
    pub data: Value,
    /// Whether it holds content that anybody may have written: who reads it may be talked
    /// into something. The catalog sets it for what descriptions call so.
    pub untrusted: bool,
}

/// Carries out the commands of one service.
pub trait Handler: Send + Sync {
    /// Carries out a permitted command.
    ///
    /// # Errors
    ///
    /// See [`HandlerError`].
    fn handle(&self, permit: Permit) -> impl Future<Output = Result<Answer, HandlerError>> + Send;
}
