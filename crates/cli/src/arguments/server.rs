//! `cedargate serve`, `gateway` and `orchestrator`: the flags of their settings.

use std::collections::BTreeMap;

use clap::{Arg, ArgAction, ArgMatches, Args, FromArgMatches};

use crate::config::{SETTINGS, Setting};

/// The flags of the settings that a gateway or an orchestrator has, by key.
///
/// They are made of [`SETTINGS`], so that each setting is described once.
#[derive(Clone, Debug, Default)]
pub struct ServerFlags<const GATEWAY: bool, const ORCHESTRATOR: bool>(
    pub BTreeMap<&'static str, String>,
);

impl<const GATEWAY: bool, const ORCHESTRATOR: bool> ServerFlags<GATEWAY, ORCHESTRATOR> {
    /// `--data` is everywhere; a gateway in the orchestrator's process needs no address of it.
    fn settings() -> impl Iterator<Item = (&'static Setting, &'static str)> {
        SETTINGS
            .iter()
            .filter(|setting| match setting.key.split_once('.') {
                Some(("gateway", "orchestrator_url")) => GATEWAY && !ORCHESTRATOR,
                Some(("gateway", _)) => GATEWAY,
                Some(("orchestrator", _)) => ORCHESTRATOR,
                _ => match setting.key {
                    "data" => false,
                    "policies" | "schema" => ORCHESTRATOR,
                    "services" => GATEWAY,
                    _ => true,
                },
            })
            .filter_map(|setting| {
                setting
                    .flag
                    .and_then(|flag| flag.strip_prefix("--"))
                    .map(|flag| (setting, flag))
            })
    }
}

/// Shown by `-h`; `--help` shows all.
const ESSENTIAL: &[&str] = &[
    "policies",
    "schema",
    "gateway.host",
    "gateway.port",
    "gateway.metrics_port",
    "orchestrator.host",
    "orchestrator.port",
    "gateway.orchestrator_url",
];

impl<const GATEWAY: bool, const ORCHESTRATOR: bool> Args for ServerFlags<GATEWAY, ORCHESTRATOR> {
    fn augment_args(command: clap::Command) -> clap::Command {
        Self::settings().fold(command, |command, (setting, flag)| {
            let default = setting
                .default
                .map(|default| format!(" [default: {default}]"))
                .unwrap_or_default();
            let help = format!("{} [env: {}]{default}", setting.about, setting.variable);
            let mut arg = Arg::new(setting.key)
                .long(flag)
                .help(help)
                .value_name("VALUE")
                .action(ArgAction::Set)
                .hide_short_help(!ESSENTIAL.contains(&setting.key));
            if setting.key == "gateway.trust_agent_header" {
                arg = arg
                    .num_args(0..=1)
                    .require_equals(true)
                    .default_missing_value("true")
                    .value_name("BOOL");
            }
            command.arg(arg)
        })
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl<const GATEWAY: bool, const ORCHESTRATOR: bool> FromArgMatches
    for ServerFlags<GATEWAY, ORCHESTRATOR>
{
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut flags = Self::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for (setting, _) in Self::settings() {
            if let Some(value) = matches.get_one::<String>(setting.key) {
                self.0.insert(setting.key, value.clone());
            }
        }
        Ok(())
    }
}
