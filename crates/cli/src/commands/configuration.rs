//! `cedargate config`.

use serde_json::json;

use crate::{
    arguments::{ConfigCommand, Global},
    client::settings,
    config::{Config, Environment, SETTINGS},
    output::Output,
    planes,
};

pub(super) fn run(
    global: &Global,
    environment: Environment,
    command: ConfigCommand,
) -> anyhow::Result<()> {
    let output = Output::new(global.json);
    match command {
        ConfigCommand::Check(flags) => {
            let settings = settings(global, environment, flags.0)?;
            let config = Config::from_settings(&settings)?;
            planes::catalog(settings.environment(), config.services.as_deref())?;
            output.print(&json!({"valid": true}), |_| {
                "the configuration is valid".to_owned()
            })
        }
        ConfigCommand::Show(flags) => {
            let settings = settings(global, environment, flags.0)?;
            let mut rows = Vec::new();
            for setting in SETTINGS {
                let found = settings.find(setting)?;
                let (value, origin) = found.map_or((None, None), |(value, origin)| {
                    let origin = if setting.default == Some(value.as_str()) {
                        None
                    } else {
                        Some(origin.to_string())
                    };
                    (Some(value), origin)
                });
                rows.push((setting, value, origin));
            }
            let values: Vec<_> = rows
                .iter()
                .map(|(setting, value, origin)| {
                    json!({
                        "key": setting.key, "variable": setting.variable, "flag": setting.flag, "value": value,
                        "set_by": origin, "default": setting.default, "secret": setting.secret, "about": setting.about,
                    })
                })
                .collect();
            output.print(&values, |output| {
                output.table(
                    &["key", "value", "set by", "variable", "what it is"],
                    rows.into_iter().map(|(setting, value, origin)| {
                        vec![
                            setting.key.to_owned(),
                            value.clone().unwrap_or_else(|| "-".to_owned()),
                            origin.unwrap_or_else(|| value.map_or("-", |_| "default").to_owned()),
                            setting.variable.to_owned(),
                            setting.about.to_owned(),
                        ]
                    }),
                )
            })
        }
    }
}
