//! `cedargate services`: what the descriptions say, with this machine's configuration.

use std::collections::BTreeMap;

use handlers::catalog::ServiceInfo;
use serde_json::{Value, json};

use crate::{
    arguments::{Global, Services},
    config::Environment,
    exit::NotFound,
    output::Output,
    planes,
};

pub(super) fn run(
    global: &Global,
    environment: &Environment,
    command: &Services,
) -> anyhow::Result<()> {
    let output = Output::new(global.json);
    let catalog = planes::catalog(environment)?;
    match command {
        Services::List => output.print(&catalog.services(), |output| {
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
        Services::Show { name } => {
            let service = catalog.service(name).ok_or_else(|| {
                NotFound(format!(
                    "there is no service `{name}`; `cedargate services list` has them"
                ))
            })?;
            output.print(&as_json(service), |output| detail(output, service))
        }
    }
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
