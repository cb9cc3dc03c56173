//! A whole Cedargate for one journey: the real binary, its own data folder, its own
//! database, a sample Coolify behind it.
#![allow(
    clippy::indexing_slicing,
    reason = "`Value[...]` is null where there is nothing, and the journey then says what it saw"
)]

pub mod database;
pub mod mcp;
pub mod postgres;
pub mod process;
pub mod s3;
pub mod system;
pub mod websocket;

pub use system::{Layout, Reply, System};

/// Waits for what should happen soon; a journey that waits longer has failed.
///
/// # Errors
///
/// When it takes longer than 30 seconds.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> anyhow::Result<T> {
    use anyhow::Context;
    tokio::time::timeout(std::time::Duration::from_secs(30), future)
        .await
        .with_context(|| format!("this did not happen within 30 s: {what}"))
}
