//! `cedargate connect`.

use std::path::PathBuf;

use serde_json::{Map, Value};

use crate::{
    arguments::{Connect, Global},
    config::Environment,
    connect::{Change, Client, Door, Entry, Folders, Format, TOKEN, merge},
    exit::Usage,
    output::Output,
};

pub(super) fn run(
    global: &Global,
    environment: &Environment,
    command: Connect,
) -> anyhow::Result<()> {
    let output = Output::new(global.json);
    let folders = folders(environment)?;
    let client = command.client;
    let token_file = command
        .token_file
        .unwrap_or_else(|| folders.settings().join("cedargate/agent-token"));
    let service = command.door.service.map(|service| service.to_string());
    let door = Door {
        name: command
            .name
            .unwrap_or_else(|| service.clone().unwrap_or_else(|| "cedargate".to_owned())),
        gateway: super::bridge::gateway(command.door.gateway.as_deref(), environment)?,
        service,
        program: std::env::current_exe()?,
        token_file: std::path::absolute(token_file)?,
    };
    let entry = client.entry(&door);
    let file = match (command.file, command.scope) {
        (Some(file), _) => file,
        (None, scope) => client
            .file(scope.unwrap_or_else(|| client.usual_scope()), &folders)
            .ok_or_else(|| Usage("this client has one configuration, of the user".to_owned()))?,
    };
    let file = std::path::absolute(file)?;
    if !command.write {
        let text = shown(&entry)?;
        let told = format!(
            "# into {}, or run this again with --write\n{text}\n\n{}",
            file.display(),
            token_hint(client, &door)
        );
        let value = serde_json::json!({"file": file, "path": entry.path, "entry": entry.value});
        return output.print(&value, |_| told);
    }
    let change = merge(&file, &entry)?;
    let (what, backup) = match &change {
        Change::None => ("it stood there already", None),
        Change::Made => ("made", None),
        Change::Changed(backup) => ("merged", Some(backup)),
    };
    let value = serde_json::json!({"file": file, "change": what, "backup": backup});
    output.print(&value, |_| {
        let kept = backup.map_or(String::new(), |backup| {
            format!("\nwhat was there before: {}", backup.display())
        });
        format!(
            "{}: {what}{kept}\n\n{}",
            file.display(),
            token_hint(client, &door)
        )
    })
}

/// The entry as the file would have it.
fn shown(entry: &Entry) -> anyhow::Result<String> {
    let nested = entry
        .path
        .iter()
        .rev()
        .fold(entry.value.clone(), |value, name| {
            let mut object = Map::new();
            object.insert(name.clone(), value);
            Value::Object(object)
        });
    Ok(match entry.format {
        Format::Json => serde_json::to_string_pretty(&nested)?,
        Format::Toml => toml::to_string_pretty(&nested)?.trim_end().to_owned(),
    })
}

fn token_hint(client: Client, door: &Door) -> String {
    if client == Client::ClaudeDesktop {
        let file = door.token_file.display();
        format!(
            "This client passes no environment on, so the token is read from a file:\n  \
             cedargate agents token create AGENT    # shown once: cgt_…\n  \
             install -D -m 600 /dev/stdin {file}    # paste it, end with Ctrl-D"
        )
    } else {
        format!(
            "The token comes from the environment that the client is started in:\n  \
             cedargate agents token create AGENT    # shown once: cgt_…\n  \
             export {TOKEN}=cgt_…"
        )
    }
}

fn folders(environment: &Environment) -> anyhow::Result<Folders> {
    let folder = |name: &str| anyhow::Ok(environment.get(name)?.map(PathBuf::from));
    let Some(home) = folder("HOME")?.or(folder("USERPROFILE")?) else {
        return Err(Usage("set HOME, or name the file: --file".to_owned()).into());
    };
    Ok(Folders {
        project: std::env::current_dir()?,
        home,
        config: folder("XDG_CONFIG_HOME")?,
        app_data: folder("APPDATA")?,
        codex: folder("CODEX_HOME")?,
    })
}
