//! Every subcommand: one module each, named for it.

mod agents;
mod approvals;
mod audit;
mod bridge;
mod budgets;
mod configuration;
mod connect;
mod demo;
mod grants;
mod health;
mod notifications;
mod overview;
mod policy;
mod policy_sets;
mod serve;
mod services;
mod tokens;
mod tools;
mod users;
mod zones;

use std::collections::BTreeMap;

use clap::CommandFactory;

use crate::{
    arguments::{Command, CommandLine, Global, Plane, Services},
    client::{Remote, settings},
    config::Environment,
    exit,
    output::Output,
    sample_coolify::SampleCoolify,
    signals,
};

/// What the subcommands that call the orchestrator share.
struct Context {
    remote: Remote,
    output: Output,
}

impl Context {
    fn new(global: &Global, environment: Environment) -> anyhow::Result<Self> {
        let settings = settings(global, environment, BTreeMap::new())?;
        let remote = Remote::find(global, &settings)?;
        Ok(Self {
            remote,
            output: Output::new(global.json),
        })
    }

    fn client(&self) -> &contract::Client {
        &self.remote.client
    }
}

/// Carries out what the command line says, and gives the exit code.
///
/// # Errors
///
/// Why it could not be carried out; see [`exit::code_of`].
pub(crate) async fn run(line: CommandLine, environment: Environment) -> anyhow::Result<u8> {
    let CommandLine { global, command } = line;
    match command {
        Command::Serve(flags) => serve::both(&global, environment, flags.0).await?,
        Command::Gateway(flags) => serve::gateway(&global, environment, flags.0).await?,
        Command::Orchestrator(flags) => serve::orchestrator(&global, environment, flags.0).await?,
        Command::Demo { once } => return demo::run(&environment, once).await,
        Command::Agents(command) => {
            agents::run(&Context::new(&global, environment)?, command).await?;
        }
        Command::Approvals(command) => {
            approvals::run(&Context::new(&global, environment)?, command).await?;
        }
        Command::Grants(command) => {
            grants::run(&Context::new(&global, environment)?, command).await?;
        }
        Command::Notifications(command) => {
            let context = Context::new(&global, environment.clone())?;
            return notifications::run(&context, &environment, command).await;
        }
        Command::Users(command) => {
            users::run(&Context::new(&global, environment)?, command).await?;
        }
        Command::Tokens(command) => tokens::run(&global, environment, command).await?,
        Command::Services(Services::Tools(command)) => {
            tools::run(&Context::new(&global, environment)?, command).await?;
        }
        Command::Services(Services::Zones(command)) => {
            zones::run(&Context::new(&global, environment)?, command).await?;
        }
        Command::Services(command) => services::run(&global, environment, &command).await?,
        Command::Connect(command) => connect::run(&global, &environment, command)?,
        Command::Bridge(door) => bridge::run(&environment, &door).await?,
        Command::Policy(command) => return policy::run(&global, environment, command).await,
        Command::Audit(command) => return audit::run(&global, environment, command).await,
        Command::Health { plane } => return health::run(&global, environment, plane).await,
        Command::Config(command) => configuration::run(&global, environment, command)?,
        Command::Openapi { plane } => crate::output::write_line(&match plane {
            Plane::Orchestrator => orchestrator::openapi(),
            Plane::Gateway => gateway::openapi(),
        })?,
        Command::Budgets { agent, service } => {
            let context = Context::new(&global, environment)?;
            budgets::run(&context, agent.as_ref(), service.as_ref()).await?;
        }
        Command::Overview { range } => {
            overview::run(&Context::new(&global, environment)?, range).await?;
        }
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut CommandLine::command(), "cedargate", &mut text);
            crate::output::write_line(String::from_utf8_lossy(&text).trim_end())?;
        }
        Command::SampleCoolify { port } => {
            let token = environment
                .resolve("COOLIFY_API_TOKEN")?
                .unwrap_or_else(|| "sample".to_owned());
            let sample =
                SampleCoolify::start_at((std::net::Ipv4Addr::LOCALHOST, port).into(), &token)
                    .await?;
            crate::output::write_line(&format!(
                "sample Coolify at {}; Ctrl-C ends it",
                sample.url()
            ))?;
            signals::shutdown()?.cancelled().await;
        }
    }
    Ok(exit::OK)
}
