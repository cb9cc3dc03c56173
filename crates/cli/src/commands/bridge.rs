//! `cedargate bridge`.

use secrecy::SecretString;

use crate::{
    arguments::GatewayDoor,
    bridge::{Way, run as carry},
    config::{Environment, http_url},
    connect::{TOKEN, address},
    exit::Usage,
    signals,
};

/// Where a gateway on this machine is.
const DEFAULT_GATEWAY: &str = "http://127.0.0.1:8100";

/// The gateway: `--gateway`, `CEDARGATE_GATEWAY_URL`, this machine.
pub(super) fn gateway(flag: Option<&str>, environment: &Environment) -> anyhow::Result<String> {
    let (name, url) = if let Some(url) = flag {
        ("--gateway", url.to_owned())
    } else if let Some(url) = environment.get("CEDARGATE_GATEWAY_URL")? {
        ("CEDARGATE_GATEWAY_URL", url)
    } else {
        return Ok(DEFAULT_GATEWAY.to_owned());
    };
    http_url(&url).map_err(|expected| Usage(format!("{name}: {expected}")).into())
}

pub(super) async fn run(environment: &Environment, door: &GatewayDoor) -> anyhow::Result<()> {
    let gateway = gateway(door.gateway.as_deref(), environment)?;
    let token: Option<SecretString> = environment.resolve(TOKEN)?.map(|token| token.trim().into());
    let service = door.service.as_ref().map(ToString::to_string);
    let url = address(&gateway, service.as_deref());
    let way = Way::new(url, token.as_ref())?;
    let ended = signals::shutdown()?;
    carry(way, tokio::io::stdin(), tokio::io::stdout(), ended).await?;
    // A thread may still wait for a line that nobody wants any more; the client waits for us.
    std::process::exit(crate::exit::OK.into());
}
