//! A document, and the description that is imported from it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use handlers::{
    Catalog,
    openapi_import::{self, Options, Report, sample},
};
use serde_json::{Map, Value, json};

use crate::witness::{Sent, Witness, part, send_all, shape, start_prism};

pub(crate) struct Imported {
    document: Value,
    name: String,
    text: String,
    pub(crate) report: Report,
}

impl Imported {
    pub(crate) fn of(path: &Path, name: &str) -> Self {
        let text = std::fs::read_to_string(path).unwrap();
        let options = Options {
            name: Some(name.parse().unwrap()),
            deprecated: true,
            ..Options::default()
        };
        let imported = openapi_import::import(&text, &options).unwrap();
        if let Some(folder) = std::env::var_os("CEDARGATE_IMPORTED") {
            std::fs::write(
                Path::new(&folder).join(format!("{name}.toml")),
                &imported.text,
            )
            .unwrap();
        }
        Self {
            document: openapi_import::read(&text).unwrap(),
            name: name.to_owned(),
            text: imported.text,
            report: imported.report,
        }
    }

    /// Sends every command but for those `beside`, with what it needs and, if that is more and
    /// it is not among `either`, with all that it takes; to Prism servers that know `at_once` paths of
    /// the document each. Also the commands for which no values were found.
    pub(crate) async fn sent(
        &self,
        suffix: &'static str,
        at_once: usize,
        beside: &[&str],
        either: &[&str],
    ) -> (Sent, Vec<String>) {
        let table: toml::Table = toml::from_str(&self.text).unwrap();
        let lines: BTreeMap<&str, &str> = table["commands"]
            .as_array()
            .unwrap()
            .iter()
            .map(|command| {
                let request = command["request"].as_str().unwrap();
                let path = request.split_once(' ').unwrap().1;
                (command["name"].as_str().unwrap(), path)
            })
            .collect();
        let paths: Vec<&String> = self.document["paths"].as_object().unwrap().keys().collect();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("document.json");
        let mut all = Sent::default();
        let mut without = Vec::new();
        for paths in paths.chunks(at_once.min(paths.len())) {
            let wanted: BTreeSet<&String> = paths.iter().copied().collect();
            let shapes: BTreeSet<String> = paths.iter().map(|path| shape(path)).collect();
            let small = part(&self.document, |path| wanted.contains(&path.to_owned()));
            std::fs::write(&file, small.to_string()).unwrap();
            let (_prism, prism) = start_prism(&file, false).await;
            let witness = Witness::start(prism, suffix).await;
            let address = format!("http://{}", witness.address);
            let catalog = Catalog::from_descriptions(&[("imported", &self.text)], &|name| {
                if name.ends_with("_API_URL") {
                    Some(address.clone())
                } else if name.ends_with("_MS") {
                    None
                } else {
                    Some("for-prism".to_owned())
                }
            })
            .unwrap();
            let service = catalog.service(&self.name).unwrap();
            let mut commands = Vec::new();
            for command in &service.commands {
                let line = lines[command.name.as_str()];
                let name = command.name.as_str();
                if !shapes.contains(&shape(line)) || beside.contains(&name) {
                    continue;
                }
                let needed = needed(&command.arguments, &command.example);
                if needed.is_none() {
                    without.push(command.name.clone());
                }
                let keys = |arguments: &Value| arguments.as_object().map(Map::len);
                let everything = everything(&command.arguments)
                    .filter(|_| !either.contains(&name))
                    .filter(|all| needed.as_ref().and_then(keys) != keys(all));
                for mut arguments in needed.into_iter().chain(everything) {
                    // Prism knows no parameter of several segments.
                    let several = line
                        .split("{+")
                        .skip(1)
                        .filter_map(|rest| rest.split('}').next());
                    for name in several {
                        let one = arguments[name].as_str().unwrap().replace('/', "-");
                        arguments[name] = json!(one);
                    }
                    commands.push((command, arguments));
                }
            }
            all.extend(send_all(&catalog, &self.name, &witness, commands).await);
        }
        (all, without)
    }
}

/// The example, if the command has one or needs none.
fn needed(schema: &Value, example: &Value) -> Option<Value> {
    let needs = schema.get("required").is_some() || schema.get("allOf").is_some();
    (!needs
        || example
            .as_object()
            .is_some_and(|example| !example.is_empty()))
    .then(|| example.clone())
}

/// A value for each argument, if each has one.
fn everything(schema: &Value) -> Option<Value> {
    let mut all = Map::new();
    for (name, argument) in schema["properties"].as_object().into_iter().flatten() {
        all.insert(name.clone(), sample(argument)?);
    }
    (!all.is_empty()).then(|| json!(all))
}
