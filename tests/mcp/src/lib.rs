//! A complete MCP server for tests, in both eras of the protocol.
//!
//! It offers the tools, resources and prompts that the conformance suite
//! (`@modelcontextprotocol/conformance`) calls by name, and keeps what arrived, so that a
//! test can see what the gateway really sent.
#![allow(
    deprecated,
    reason = "sampling, roots and logging are deprecated in the newest revision, and still pass through"
)]

mod asked;
mod http;
mod jobs;
mod relay;
mod server;
mod tools;

pub use crate::{
    http::{Arrived, Fixture},
    relay::{Exchange, Relay},
    server::Server,
};

use rmcp::ErrorData;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// A red dot, 1 × 1, as PNG in base64.
const RED_DOT: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg==";
/// One sample of silence, as WAV in base64.
const SILENCE: &str = "UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAIA+AAACABAAZGF0YQIAAAAAAA==";

/// A message of the protocol from its JSON. Its types cannot be written down outside of
/// their crate, and JSON is what the suite's descriptions say anyway.
fn message<T: DeserializeOwned>(json: Value) -> Result<T, ErrorData> {
    serde_json::from_value(json)
        .map_err(|error| ErrorData::internal_error(format!("the fixture is wrong: {error}"), None))
}

/// Serves one client over standard input and output, until it hangs up.
///
/// # Errors
///
/// When the client does not speak the protocol.
pub async fn stdio() -> anyhow::Result<()> {
    use rmcp::ServiceExt;
    Server::default()
        .serve(rmcp::transport::stdio())
        .await?
        .waiting()
        .await?;
    Ok(())
}
