//! `cedargate services`: what the descriptions say, with this machine's configuration; or
//! what gateways told the orchestrator.

mod import;
mod trial;

use std::{collections::BTreeMap, fmt::Write as _, sync::Arc};

use authz::{CommandKey, Risk, ServiceName, typed};
use contract::{
    catalog::ServiceView,
    gateways::{HealthState, ServiceHealth},
    tools::ToolState,
};
use handlers::catalog::{Catalog, ServiceInfo};
use serde::Serialize;
use serde_json::{Value, json};

use super::Context;
use crate::{
    arguments::{Global, Services},
    client::{Answer as _, settings},
    config::Environment,
    exit::{NotFound, Usage},
    output::{Output, list, printable, time},
    planes,
};

pub(super) async fn run(
    global: &Global,
    environment: Environment,
    command: &Services,
) -> anyhow::Result<()> {
    match command {
        Services::List { live: true } => {
            let context = Context::new(global, environment)?;
            let services = context.client().services().await.of(&context.remote)?;
            context
                .output
                .print(&services, |output| live_table(output, &services))
        }
        Services::Show { name, live: true } => {
            let context = Context::new(global, environment)?;
            let name: ServiceName = name
                .parse()
                .map_err(|error| Usage(format!("`{name}`: {error}")))?;
            let service = context.client().service(&name).await.of(&context.remote)?;
            context
                .output
                .print(&service, |output| live_detail(output, &service))
        }
        Services::Import(command) => import::run(global, command).await,
        Services::Try { command, send, yes } => {
            let settings = settings(global, environment, BTreeMap::new())?;
            let catalog = planes::catalog(settings.environment(), settings.services()?.as_deref())?;
            let trial = trial::Trial {
                line: command,
                send: *send,
                yes: *yes,
            };
            trial::run(Output::new(global.json), &catalog, &trial).await
        }
        Services::Schema { name, command } => {
            schema(global, environment, name, command.as_deref()).await
        }
        command => configured(global, environment, command),
    }
}

/// Typed actions. What the tools of an MCP server take, only gateways know: they told the
/// orchestrator.
async fn schema(
    global: &Global,
    environment: Environment,
    name: &str,
    command: Option<&str>,
) -> anyhow::Result<()> {
    let settings = settings(global, environment.clone(), BTreeMap::new())?;
    let catalog = planes::catalog(settings.environment(), settings.services()?.as_deref())?;
    let fragments = match catalog.service(name) {
        Some(service) if service.kind != "mcp" => fragments(&service, command),
        Some(service) => {
            let context = Context::new(global, environment)?;
            of_tools(&context, &service.name, command).await?
        }
        // This machine need not know the servers of its gateways.
        None => {
            let missing = |error: anyhow::Error| {
                NotFound(format!(
                    "there is no service `{name}` on this machine, and the orchestrator knows of none: {error:#}"
                ))
            };
            let asked = async {
                let context = Context::new(global, environment)?;
                of_tools(&context, &name.parse()?, command).await
            };
            asked.await.map_err(missing)?
        }
    };
    if fragments.is_empty() {
        let message = format!(
            "`{name}` has no command `{}`; `cedargate services show {name}` has them",
            command.unwrap_or_default()
        );
        return Err(NotFound(message).into());
    }
    Output::new(global.json).print(&fragments, |_| {
        fragments
            .iter()
            .map(schema_text)
            .collect::<Vec<_>>()
            .join("\n")
    })
}

/// Of the tools of an MCP server that somebody reviewed: what policy is told of the others
/// may be another tomorrow, and they are refused.
async fn of_tools(
    context: &Context,
    service: &ServiceName,
    only: Option<&str>,
) -> anyhow::Result<Vec<TypedAction>> {
    let client = context.client();
    let tools = client.tools(service).await.of(&context.remote)?;
    let wanted = |name: &str| only.is_none_or(|only| only == name);
    let mut fragments = Vec::new();
    for tool in tools.iter().filter(|tool| wanted(tool.name.as_str())) {
        let (ToolState::Reviewed, Some(risk)) = (tool.state, tool.risk) else {
            if only.is_some() {
                return Err(Usage(format!(
                    "the definition of `{service}/{}` is not reviewed; see `cedargate services tools diff {service} {0}`",
                    tool.name
                ))
                .into());
            }
            continue;
        };
        let details = client.tool(service, &tool.name).await.of(&context.remote)?;
        let schema = details
            .reviewed_definition
            .as_ref()
            .and_then(|definition| definition.get("inputSchema"))
            .cloned()
            .unwrap_or_else(|| json!({"type": "object"}));
        let key = CommandKey {
            service: service.clone(),
            name: tool.name.clone(),
        };
        fragments.push(typed_action(&key, risk, &schema));
    }
    Ok(fragments)
}

/// What gateways say.
fn live_table(output: Output, services: &[ServiceView]) -> String {
    output.table(
        &["name", "kind", "env", "commands", "gateways", "what it is"],
        services.iter().map(|view| {
            let summary = &view.service;
            vec![
                summary.service.name.to_string(),
                summary.kind.clone(),
                summary.service.env.as_str().to_owned(),
                summary.commands_by_risk.all().to_string(),
                at_gateways(view),
                summary.description.clone(),
            ]
        }),
    )
}

/// Where it is, and where it cannot be used.
fn at_gateways(view: &ServiceView) -> String {
    let gateways = view
        .gateways
        .iter()
        .map(|at| match (&at.problem, &at.health) {
            (Some(problem), _) => format!("{} ({problem})", at.gateway),
            (None, Some(health)) if health.state != HealthState::Healthy => {
                format!("{} ({})", at.gateway, unwell(health))
            }
            (None, _) => at.gateway.clone(),
        });
    let gateways = gateways.collect::<Vec<_>>().join(", ");
    if view.differs {
        format!("{gateways}: they describe it differently")
    } else {
        gateways
    }
}

/// How a service is that is not well.
fn unwell(health: &ServiceHealth) -> String {
    let mut text = health.state.as_str().to_owned();
    if let Some(since) = health.since {
        let _ = write!(text, " since {}", time(since));
    }
    if let Some(error) = &health.last_error {
        let _ = write!(text, ", last: {error}");
    }
    if let Some(breaker) = health.breaker.as_deref().filter(|word| *word != "closed") {
        let _ = write!(text, ", breaker {}", breaker.replace('_', " "));
    }
    if let Some(at) = health.retry_at {
        let _ = write!(text, ", tried again {}", time(at));
    }
    text
}

fn live_detail(output: Output, view: &ServiceView) -> String {
    let summary = &view.service;
    let fields = output.fields(&[
        ("name", summary.service.name.to_string()),
        ("kind", summary.kind.clone()),
        ("env", summary.service.env.as_str().to_owned()),
        ("zones", list(&summary.service.zones)),
        ("version", summary.version.clone()),
        ("gateways", at_gateways(view)),
        ("what it is", summary.description.clone()),
    ]);
    let commands = output.table(
        &["command", "risk", "usage", "what it does"],
        view.commands.iter().flatten().map(|command| {
            vec![
                command.name.to_string(),
                command.risk.to_string(),
                command.usage.clone(),
                command.summary.clone(),
            ]
        }),
    );
    format!("{fields}\n\n{commands}")
}

/// What this machine's configuration says.
fn configured(global: &Global, environment: Environment, command: &Services) -> anyhow::Result<()> {
    let output = Output::new(global.json);
    let settings = settings(global, environment, BTreeMap::new())?;
    if matches!(command, Services::Format) {
        let schema = handlers::catalog::description_schema();
        return output.print(&schema, |_| {
            serde_json::to_string_pretty(&schema).unwrap_or_default()
        });
    }
    let folder = match command {
        Services::Check {
            folder: Some(folder),
        } => Some(folder.clone()),
        _ => settings.services()?,
    };
    let catalog = planes::catalog(settings.environment(), folder.as_deref())?;
    match command {
        Services::List { .. } => output.print(&catalog.services(), |output| {
            output.table(
                &["name", "version", "status", "commands", "what it is"],
                catalog.services().iter().map(|service| {
                    vec![
                        service.name.to_string(),
                        service.version.clone(),
                        service.status.clone(),
                        counts(service),
                        service.description.clone(),
                    ]
                }),
            )
        }),
        Services::Check { .. } => {
            let (services, commands) = (
                catalog.services().len(),
                catalog
                    .services()
                    .iter()
                    .map(|service| service.commands.len())
                    .sum::<usize>(),
            );
            let checked = json!({"valid": true, "services": services, "commands": commands});
            output.print(&checked, |_| {
                format!("valid: {services} services with {commands} commands")
            })
        }
        Services::Show { name, .. } => {
            let service = known(&catalog, name)?;
            output.print(&as_json(&service), |output| detail(output, &service))
        }
        // The first are above; the others are the orchestrator's, not this machine's: see
        // `tools.rs` and `zones.rs`.
        Services::Format
        | Services::Schema { .. }
        | Services::Import(_)
        | Services::Try { .. }
        | Services::Tools(_)
        | Services::Zones(_) => Ok(()),
    }
}

fn known(catalog: &Catalog, name: &str) -> anyhow::Result<Arc<ServiceInfo>> {
    let missing = || {
        NotFound(format!(
            "there is no service `{name}`; `cedargate services list` has them"
        ))
    };
    Ok(catalog.service(name).ok_or_else(missing)?)
}

/// The typed action of one command.
#[derive(Serialize)]
struct TypedAction {
    command: CommandKey,
    /// Cedar schema text.
    cedarschema: String,
    left_out: Vec<LeftOut>,
}

#[derive(Serialize)]
struct LeftOut {
    argument: String,
    why: String,
}

/// Of one command, or of all.
fn fragments(service: &ServiceInfo, only: Option<&str>) -> Vec<TypedAction> {
    let wanted = |name: &str| only.is_none_or(|only| only == name);
    let commands = service.commands.iter();
    commands
        .filter(|command| wanted(&command.name))
        .map(|command| {
            let target = &command.target;
            typed_action(&target.key, target.risk, &command.arguments)
        })
        .collect()
}

fn typed_action(key: &CommandKey, risk: Risk, schema: &Value) -> TypedAction {
    let fragment = typed::fragment(key, risk, schema);
    let left_out = fragment.left_out.into_iter();
    TypedAction {
        command: key.clone(),
        cedarschema: fragment.text,
        left_out: left_out
            .map(|(argument, why)| LeftOut { argument, why })
            .collect(),
    }
}

/// With what was left out as comments before it.
fn schema_text(action: &TypedAction) -> String {
    let mut text = String::new();
    for LeftOut { argument, why } in &action.left_out {
        text.push_str("// Left out: `");
        text.push_str(&printable(argument));
        text.push_str("`: ");
        text.push_str(&printable(why));
        text.push_str(".\n");
    }
    text.push_str(&action.cedarschema);
    text
}

/// With what policy is told of each command, which the wire leaves out.
fn as_json(service: &ServiceInfo) -> Value {
    let mut value = json!(service);
    let commands = value
        .get_mut("commands")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten();
    for (command, info) in commands.zip(&service.commands) {
        if let Value::Object(command) = command {
            command.insert("risk".to_owned(), json!(info.target.risk));
        }
    }
    value
}

fn counts(service: &ServiceInfo) -> String {
    let mut counts: BTreeMap<_, usize> = BTreeMap::new();
    for command in &service.commands {
        *counts.entry(command.target.risk).or_default() += 1;
    }
    counts
        .into_iter()
        .map(|(risk, count)| format!("{count} {risk}"))
        .collect::<Vec<_>>()
        .join(", ")
}

fn detail(output: Output, service: &ServiceInfo) -> String {
    let fields = output.fields(&[
        ("name", service.name.to_string()),
        ("version", service.version.clone()),
        ("status", service.status.clone()),
        ("why", service.error_message.clone().unwrap_or_default()),
        ("what it is", service.description.clone()),
    ]);
    let commands = output.table(
        &["command", "risk", "usage", "what it does"],
        service.commands.iter().map(|command| {
            vec![
                command.name.clone(),
                command.target.risk.to_string(),
                command.usage.clone(),
                command.description.clone(),
            ]
        }),
    );
    format!("{fields}\n\n{commands}")
}
