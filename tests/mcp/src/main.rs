//! The fixture as a process: `mcp-fixture stdio`, or `mcp-fixture http [PORT]`.

use anyhow::Context;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some("stdio") => mcp_fixture::stdio().await,
        Some("http") => {
            let port = arguments.next().map_or(Ok(0), |port| port.parse());
            let fixture = mcp_fixture::Fixture::start_at(port.context("a port")?, None).await?;
            println!("{}", fixture.url());
            std::future::pending().await
        }
        _ => anyhow::bail!("usage: mcp-fixture stdio | http [PORT]"),
    }
}
