//! `cedargate connect …` and `cedargate bridge …`

use std::path::PathBuf;

use authz::ServiceName;
use clap::Args;

use crate::connect::{Client, Scope};

/// `cedargate connect …`
#[derive(Debug, Args)]
pub struct Connect {
    /// Which client
    pub client: Client,
    /// To where.
    #[command(flatten)]
    pub door: DoorFlags,
    /// Merge it into the client's configuration; what was there is kept beside it
    #[arg(long)]
    pub write: bool,
    /// Whose configuration [default: what is usual for the client]
    #[arg(long)]
    pub scope: Option<Scope>,
    /// The configuration file, if it is another than usual
    #[arg(long, value_name = "FILE", conflicts_with = "scope")]
    pub file: Option<PathBuf>,
    /// What the client calls it [default: the service, or cedargate]
    #[arg(long, value_parser = entry_name)]
    pub name: Option<String>,
    /// Where the token is, for clients that pass no environment on
    /// [default: ~/.config/cedargate/agent-token]
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

/// To where a client is connected.
#[derive(Debug, Args)]
pub struct DoorFlags {
    /// One service of kind mcp, as it is [default: all services, as tools]
    #[arg(long)]
    pub service: Option<ServiceName>,
    /// The gateway [env: CEDARGATE_GATEWAY_URL] [default: http://127.0.0.1:8100]
    #[arg(long, value_name = "URL")]
    pub gateway: Option<String>,
}

/// `cedargate bridge …`
#[derive(Debug, Args)]
pub struct GatewayDoor {
    /// One service of kind mcp, as it is [default: all services, as tools]
    pub service: Option<ServiceName>,
    /// The gateway [env: CEDARGATE_GATEWAY_URL] [default: http://127.0.0.1:8100]
    #[arg(long, value_name = "URL")]
    pub gateway: Option<String>,
}

/// A name that every client takes.
fn entry_name(text: &str) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if !text.is_empty() && text.len() <= 64 && text.bytes().all(plain) {
        Ok(text.to_owned())
    } else {
        Err("letters, digits, `-` and `_` only, at most 64".to_owned())
    }
}
