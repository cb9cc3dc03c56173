//! `cedargate serve`, `gateway` and `orchestrator`.

use std::collections::BTreeMap;

use crate::{
    arguments::Global,
    client::settings,
    config::{Config, Environment},
    planes::{OrchestratorPlane, Planes, system_clock},
    signals, telemetry,
};

type Flags = BTreeMap<&'static str, String>;

pub(super) async fn both(
    global: &Global,
    environment: Environment,
    flags: Flags,
) -> anyhow::Result<()> {
    let (config, environment) = configure(global, environment, flags)?;
    let shutdown = signals::shutdown()?;
    let planes = Planes::start_both(&config, &environment, system_clock()).await?;
    welcome(planes.orchestrator.as_ref(), &config);
    planes.run(&shutdown).await
}

pub(super) async fn gateway(
    global: &Global,
    environment: Environment,
    flags: Flags,
) -> anyhow::Result<()> {
    let (config, environment) = configure(global, environment, flags)?;
    let shutdown = signals::shutdown()?;
    let planes = Planes::start_gateway(&config, &environment, system_clock()).await?;
    planes.run(&shutdown).await
}

pub(super) async fn orchestrator(
    global: &Global,
    environment: Environment,
    flags: Flags,
) -> anyhow::Result<()> {
    let (config, _) = configure(global, environment, flags)?;
    let shutdown = signals::shutdown()?;
    let planes = Planes::start_orchestrator(&config, system_clock()).await?;
    welcome(planes.orchestrator.as_ref(), &config);
    planes.run(&shutdown).await
}

fn configure(
    global: &Global,
    environment: Environment,
    flags: Flags,
) -> anyhow::Result<(Config, Environment)> {
    let settings = settings(global, environment, flags)?;
    let config = Config::from_settings(&settings)?;
    telemetry::start(&config.log)?;
    Ok((config, settings.environment().clone()))
}

/// Tells a person at the terminal how to get in. Not a log line: the link is a secret,
/// good once and for an hour, and logs are kept.
#[allow(
    clippy::print_stderr,
    reason = "it is for whoever started it, and must not be logged"
)]
fn welcome(plane: Option<&OrchestratorPlane>, config: &Config) {
    let Some(plane) = plane else { return };
    let Some(bootstrap) = &plane.bootstrap else {
        return;
    };
    let token = config
        .data
        .join(crate::data_folder::DataFolder::ADMIN_TOKEN);
    eprintln!(
        "\nFirst start. Open this link to log in as `admin`; it works once, within an hour:\n\n  {}\n\n\
         The admin's token is in `{}`, readable by its owner only; the other\n\
         subcommands on this machine use it by themselves.\n",
        bootstrap.link,
        token.display(),
    );
}
