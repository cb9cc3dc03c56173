//! `cedargate demo`: the product's story on this machine, every step over real sockets.
//!
//! Each step is printed as the `curl` that a person could paste, with the answer that
//! came, and is checked: an answer that is not as it should be ends the demo.

mod layout;
mod narrator;
mod story;

use std::{
    collections::BTreeMap,
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
};

use anyhow::Context;
use secrecy::{ExposeSecret, SecretString};
use tokio_util::sync::CancellationToken;

use crate::{
    config::{Config, Environment, Log, PolicyPaths, Settings, local_url},
    data_folder::DataFolder,
    exit,
    planes::{Planes, random_secret, system_clock},
    sample_coolify::SampleCoolify,
    signals, telemetry,
};
use narrator::Narrator;

/// The documented ports.
const PORTS: [(&str, u16); 3] = [
    ("gateway.port", 8100),
    ("gateway.metrics_port", 9090),
    ("orchestrator.port", 9403),
];

/// Where everything is.
struct Stage {
    gateway: String,
    metrics: String,
    orchestrator: String,
    /// The data folder of both planes.
    data: PathBuf,
    log: PathBuf,
    token: SecretString,
}

impl Stage {
    fn admin_token(&self) -> PathBuf {
        self.data.join(DataFolder::ADMIN_TOKEN)
    }

    fn journal(&self) -> PathBuf {
        self.data.join("journal")
    }
}

pub(super) async fn run(environment: &Environment, once: bool) -> anyhow::Result<u8> {
    let folder = tempfile::Builder::new()
        .prefix("cedargate-demo-")
        .tempdir()
        .context("there is no place for the demo's state")?;
    let shutdown = signals::shutdown()?;
    match Box::pin(play(environment, once, folder.path(), &shutdown)).await {
        Ok(code) => Ok(code),
        // Nobody listens any more (`| head`): that is not the demo's failure.
        Err(error) if has_kind(&error, ErrorKind::BrokenPipe) => Ok(exit::FAILED),
        Err(error) => {
            let kept = folder.keep();
            Err(error.context(format!(
                "the demo failed; its log and state are kept in `{}`",
                kept.display()
            )))
        }
    }
}

async fn play(
    environment: &Environment,
    once: bool,
    folder: &Path,
    shutdown: &CancellationToken,
) -> anyhow::Result<u8> {
    let log = folder.join("cedargate.log");
    start_log(&log, environment)?;
    let (services, sample) = coolify(environment).await?;
    let Started {
        planes,
        data,
        moved,
    } = Box::pin(start(folder, &services)).await?;
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
        data,
        log,
        token: bootstrap.token.clone(),
    };
    let link = bootstrap.link.clone();
    let coolify = match &sample {
        Some(sample) => format!(
            "{}  a sample in this process that says so; no server is touched",
            sample.url()
        ),
        None => "yours, from COOLIFY_API_URL; only its servers are listed".to_owned(),
    };

    let mut narrator = Narrator::new();
    narrator.opening(&stage, &coolify, &moved)?;
    let told = async {
        story::ready(&stage).await?;
        let agent = story::tell(&stage, &mut narrator).await?;
        narrator.verdict()?;
        anyhow::Ok(agent)
    };
    let agent = tokio::select! {
        agent = told => agent?,
        () = shutdown.cancelled() => {
            planes.stop().await;
            return Ok(signals::INTERRUPTED);
        }
    };
    if once {
        planes.stop().await;
    } else {
        narrator.closing(&stage, &link, &agent)?;
        planes.run(shutdown).await?;
    }
    Ok(exit::OK)
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

/// The real Coolify if both variables name one, else a sample.
async fn coolify(
    environment: &Environment,
) -> anyhow::Result<(Environment, Option<SampleCoolify>)> {
    let url = environment.resolve("COOLIFY_API_URL")?;
    let token = environment.resolve("COOLIFY_API_TOKEN")?;
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

/// Both planes, where their state is, and which of the documented ports were taken.
struct Started {
    planes: Planes,
    data: PathBuf,
    moved: Vec<u16>,
}

/// Starts both planes on the documented ports, or on free ones where those are taken.
async fn start(folder: &Path, services: &Environment) -> anyhow::Result<Started> {
    let taken =
        |port: u16| TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).is_err();
    let moved: Vec<u16> = PORTS
        .iter()
        .map(|(_, port)| *port)
        .filter(|port| taken(*port))
        .collect();
    let data = folder.join("data");
    match Planes::start_both(&configuration(&data, &moved)?, services, system_clock()).await {
        Ok(planes) => Ok(Started {
            planes,
            data,
            moved,
        }),
        // Somebody took one just now: once more, with new state and none of them.
        Err(error) if has_kind(&error, ErrorKind::AddrInUse) => {
            let data = folder.join("data-again");
            let moved: Vec<u16> = PORTS.iter().map(|(_, port)| *port).collect();
            let planes =
                Planes::start_both(&configuration(&data, &moved)?, services, system_clock())
                    .await?;
            Ok(Started {
                planes,
                data,
                moved,
            })
        }
        Err(error) => Err(error),
    }
}

fn has_kind(error: &anyhow::Error, kind: ErrorKind) -> bool {
    error.chain().any(|cause| {
        let error = cause.downcast_ref::<std::io::Error>();
        error.is_some_and(|error| error.kind() == kind)
    })
}

fn configuration(data: &Path, moved: &[u16]) -> anyhow::Result<Config> {
    let path = data
        .to_str()
        .context("the temporary folder's path is not valid UTF-8")?;
    let mut flags = BTreeMap::from([("data", path.to_owned())]);
    flags.extend(
        PORTS
            .iter()
            .filter(|(_, port)| moved.contains(port))
            .map(|(key, _)| (*key, "0".to_owned())),
    );
    let mut config = Config::from_settings(&Settings::read(None, Environment::default(), flags)?)?;
    config.policies = PolicyPaths::Shipped;
    Ok(config)
}
