//! A PostgreSQL database for one journey.

use anyhow::Context;
use tokio::process::Command;

/// Where `tests/run` started the throw-away server.
pub const SERVER: &str = "CEDARGATE_TEST_POSTGRES";

/// Creates a database and gives back its URL. It goes with the throw-away server.
///
/// # Errors
///
/// When there is no server to use.
pub async fn create() -> anyhow::Result<String> {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);

    let server = std::env::var(SERVER).with_context(|| {
        format!("{SERVER} is not set: `tests/run` starts a throw-away server and sets it")
    })?;
    let name = format!(
        "journey_{}_{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    );
    let output = Command::new("psql")
        .args([
            "-q",
            "-v",
            "ON_ERROR_STOP=1",
            "-d",
            &server,
            "-c",
            &format!("CREATE DATABASE {name}"),
        ])
        .output()
        .await
        .context("psql does not start")?;
    anyhow::ensure!(
        output.status.success(),
        "psql: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let (base, _) = server
        .rsplit_once('/')
        .context("the server's URL names no database")?;
    Ok(format!("{base}/{name}"))
}
