//! `cedargate demo`: the product's story on this machine, every step over real sockets.
//!
//! Each step is printed as the `curl` that a person could paste, with the answer that
//! came, and is checked: an answer that is not as it should be ends the demo.

mod narrator;
mod story;

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
};

use anyhow::Context;
use secrecy::{ExposeSecret, SecretString};

use crate::{
    config::{Config, Environment, Log, PolicyPaths, Settings, local_url},
    data_folder::DataFolder,
    exit,
    planes::{Planes, random_secret, system_clock},
    sample_coolify::SampleCoolify,
    signals, telemetry,
};
use narrator::Narrator;

/// The log's name in the demo's folder.
const LOG: &str = "cedargate.log";

/// Where everything is.
struct Stage {
    gateway: String,
    metrics: String,
    orchestrator: String,
    /// The folder of all state.
    folder: std::path::PathBuf,
    token: SecretString,
}

impl Stage {
    fn admin_token(&self) -> std::path::PathBuf {
        self.folder.join(DataFolder::ADMIN_TOKEN)
    }

    fn log(&self) -> std::path::PathBuf {
        self.folder.join(LOG)
    }

    fn journal(&self) -> std::path::PathBuf {
        self.folder.join("journal")
    }
}

pub(super) async fn run(environment: &Environment, once: bool) -> anyhow::Result<u8> {
    let folder = tempfile::Builder::new()
        .prefix("cedargate-demo-")
        .tempdir()
        .context("there is no place for the demo's state")?;
    start_log(&folder.path().join(LOG), environment)?;
    let shutdown = signals::shutdown()?;
    let mut narrator = Narrator::new();
    let played = tokio::select! {
        played = play(environment, once, folder.path(), &mut narrator, &shutdown) => played,
        // Whatever was under way dies with the process; the state is thrown away anyhow.
        () = shutdown.cancelled(), if once => Ok(()),
    };
    match played {
        Ok(()) => Ok(exit::OK),
        Err(error) => {
            let kept = folder.keep();
            Err(error.context(format!(
                "the demo failed; its log and state are kept in `{}`",
                kept.display()
            )))
        }
    }
}

/// Into a file, so that the story can be read; the story looks into it, too.
fn start_log(path: &Path, environment: &Environment) -> anyhow::Result<()> {
    let file = std::fs::File::create(path).context("the demo's log cannot be made")?;
    let level = environment
        .get("LOG_LEVEL")?
        .unwrap_or_else(|| "info".to_owned());
    telemetry::start_into(
        &Log {
            level,
            directives: environment.get("RUST_LOG")?,
            format: None,
        },
        file,
    )?;
    Ok(())
}

async fn play(
    environment: &Environment,
    once: bool,
    folder: &Path,
    narrator: &mut Narrator,
    shutdown: &tokio_util::sync::CancellationToken,
) -> anyhow::Result<()> {
    let (services, sample) = coolify(environment).await?;
    let (config, moved) = configuration(folder)?;
    let planes = Planes::start_both(&config, &services, system_clock()).await?;
    let (Some(gateway), Some(orchestrator)) = (&planes.gateway, &planes.orchestrator) else {
        anyhow::bail!("a plane did not start");
    };
    let bootstrap = orchestrator
        .bootstrap
        .as_ref()
        .context("the demo's database was not new")?;
    let stage = Stage {
        gateway: local_url(gateway.address),
        metrics: local_url(gateway.metrics),
        orchestrator: orchestrator.public_url.clone(),
        folder: folder.to_owned(),
        token: bootstrap.token.clone(),
    };
    let link = bootstrap.link.clone();
    let coolify = match &sample {
        Some(sample) => format!(
            "{}  a sample in this process that says so; no real server is touched",
            sample.url()
        ),
        None => "yours, from COOLIFY_API_URL; only its servers are listed".to_owned(),
    };
    narrator.opening(&stage, &coolify, &moved)?;
    story::ready(&stage).await?;
    let agent = story::tell(&stage, narrator).await?;
    narrator.verdict()?;
    if once {
        planes.stop().await;
        return Ok(());
    }
    narrator.closing(&stage, &link, &agent)?;
    planes.run(shutdown).await
}

/// The real Coolify if both variables name one, else a sample.
async fn coolify(
    environment: &Environment,
) -> anyhow::Result<(Environment, Option<SampleCoolify>)> {
    let url = environment.get_or_file("COOLIFY_API_URL")?;
    let token = environment.get_or_file("COOLIFY_API_TOKEN")?;
    let (url, token, sample) = if let (Some(url), Some(token)) = (url, token) {
        (url, token, None)
    } else {
        let token = random_secret().expose_secret().to_owned();
        let sample = SampleCoolify::start(&token)
            .await
            .context("the sample Coolify cannot be started")?;
        (sample.url(), token, Some(sample))
    };
    // Nothing else of the environment: the demo is the same everywhere.
    let services = Environment::default()
        .with("COOLIFY_API_URL", &url)
        .with("COOLIFY_API_TOKEN", &token);
    Ok((services, sample))
}

/// The documented ports, or free ones where those are taken; which were, in words.
fn configuration(folder: &Path) -> anyhow::Result<(Config, Vec<String>)> {
    let mut flags = BTreeMap::new();
    let data = folder
        .to_str()
        .context("the temporary folder's path is not valid UTF-8")?;
    flags.insert("data", data.to_owned());
    let mut moved = Vec::new();
    for (key, port) in [
        ("gateway.port", 8100),
        ("gateway.metrics_port", 9090),
        ("orchestrator.port", 9403),
    ] {
        if TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).is_err() {
            moved.push(port.to_string());
            flags.insert(key, "0".to_owned());
        }
    }
    let mut config = Config::from_settings(&Settings::read(None, Environment::default(), flags)?)?;
    config.policies = PolicyPaths::Shipped;
    Ok((config, moved))
}
