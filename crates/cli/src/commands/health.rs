//! `cedargate health`: for health checks of containers and services.

use std::{net::SocketAddr, time::Duration};

use serde_json::{Value, json};

use crate::{
    arguments::{Global, Plane},
    client::settings,
    config::{Config, Environment, local_url},
    exit,
    output::Output,
};

/// A plane that does not answer within this is not healthy.
const DEADLINE: Duration = Duration::from_secs(3);

/// What one plane said.
enum Said {
    Healthy,
    /// Nobody listens there.
    Absent,
    Wrong(String),
}

pub(super) async fn run(
    global: &Global,
    environment: Environment,
    plane: Option<Plane>,
) -> anyhow::Result<u8> {
    let settings = settings(global, environment, std::collections::BTreeMap::new())?;
    let config = Config::from_settings(&settings)?;
    let http = reqwest::Client::builder()
        .no_proxy()
        .timeout(DEADLINE)
        .build()?;
    let planes = [
        (Plane::Gateway, "gateway", config.gateway.listen),
        (
            Plane::Orchestrator,
            "orchestrator",
            config.orchestrator_listen,
        ),
    ];
    let mut said = Vec::new();
    for (kind, name, address) in planes {
        if plane.is_none_or(|plane| plane == kind) {
            said.push((name, ask(&http, address).await));
        }
    }
    // Without a name, what runs here must be well, and something must run here.
    let wrong = said.iter().any(|(_, said)| matches!(said, Said::Wrong(_)));
    let healthy = said.iter().any(|(_, said)| matches!(said, Said::Healthy)) && !wrong;
    let text = |said: &Said| match said {
        Said::Healthy => "healthy".to_owned(),
        Said::Absent => "not running here".to_owned(),
        Said::Wrong(why) => why.clone(),
    };
    let value: Value = said
        .iter()
        .map(|(name, said)| ((*name).to_owned(), json!(text(said))))
        .collect();
    Output::new(global.json).print(&value, |output| {
        let fields: Vec<_> = said
            .iter()
            .map(|(name, said)| (*name, text(said)))
            .collect();
        output.fields(&fields)
    })?;
    Ok(if healthy { exit::OK } else { exit::FAILED })
}

async fn ask(http: &reqwest::Client, address: SocketAddr) -> Said {
    match http
        .get(format!("{}/health", local_url(address)))
        .send()
        .await
    {
        Err(error) if error.is_connect() => Said::Absent,
        Err(_) => Said::Wrong(format!("does not answer within {DEADLINE:?}")),
        Ok(response) if response.status().is_success() => Said::Healthy,
        Ok(response) => Said::Wrong(format!("answers {}", response.status())),
    }
}
