//! Services of kind `local`: programs that the agent's own machine runs. The gateway runs
//! nothing; the answer says how, in words and as one line for a POSIX shell.

use std::collections::HashMap;

use authz::{Command, CommandName, ServiceName};
use serde_json::{Map, Value, json};

use crate::{
    Answer, HandlerError,
    description::{Description, LocalTable, RunPart, template::filled},
};

/// One service of kind `local`.
#[derive(Debug)]
pub(crate) struct LocalService {
    name: ServiceName,
    table: LocalTable,
    commands: HashMap<CommandName, LocalCommand>,
}

#[derive(Debug)]
struct LocalCommand {
    run: Vec<RunPart>,
    summary: String,
}

impl LocalService {
    pub(crate) fn new(description: &Description) -> Result<Self, String> {
        let table = description
            .local
            .clone()
            .ok_or_else(|| "kind `local` needs a table `[local]`".to_owned())?;
        let commands = description.commands.iter().map(|command| {
            let local = LocalCommand {
                run: command.run.clone(),
                summary: command.summary.clone(),
            };
            (command.name.get_ref().clone(), local)
        });
        Ok(Self {
            name: description.name().clone(),
            table,
            commands: commands.collect(),
        })
    }

    /// How the agent runs it.
    pub(crate) fn instructions(&self, command: &Command) -> Result<Answer, HandlerError> {
        let service = self.name.to_string();
        let name = &command.target.key.name;
        let Some(known) = self.commands.get(name) else {
            return Err(HandlerError::Failed {
                message: format!("its description has no command `{name}`"),
                service,
            });
        };
        let words = words(&known.run, command.arguments.values()).map_err(|message| {
            HandlerError::Rejected {
                service: service.clone(),
                status: 400,
                message,
            }
        })?;
        let words: Vec<String> = self.table.words.iter().cloned().chain(words).collect();
        let line = std::iter::once(&self.table.program).chain(&words);
        let shell = line.map(|word| quoted(word)).collect::<Vec<_>>().join(" ");
        let data = json!({
            "operation": name.as_str().replace('-', "_"),
            "type": "local_execution",
            "service": service,
            "instructions": {
                "command": self.table.program,
                "args": words,
                "shell": shell,
                "description": known.summary,
            },
        });
        Ok(Answer {
            data,
            untrusted: false,
        })
    }
}

/// The words of a command line. What was not given is left out.
fn words(run: &[RunPart], arguments: &Map<String, Value>) -> Result<Vec<String>, String> {
    for (name, value) in arguments {
        // Where an option may stand, it would be one.
        if value.as_str().is_some_and(|text| text.starts_with('-')) {
            return Err(format!("`{name}` may not begin with `-`"));
        }
        if value.as_str().is_some_and(|text| text.contains('\0')) {
            return Err(format!(
                "`{name}` holds a character that no command line may"
            ));
        }
    }
    let word = |template: &String| match filled(&Value::String(template.clone()), &|name| {
        arguments.get(name).cloned()
    }) {
        Some(Value::String(word)) => Some(word),
        Some(other) => Some(other.to_string()),
        None => None,
    };
    Ok(run
        .iter()
        .flat_map(|part| match part {
            RunPart::Word(template) => word(template).into_iter().collect(),
            RunPart::Words(templates) => templates
                .iter()
                .map(word)
                .collect::<Option<Vec<_>>>()
                .unwrap_or_default(),
        })
        .collect())
}

/// The word as a POSIX shell reads it back.
fn quoted(word: &str) -> String {
    let plain = |c: char| {
        c.is_ascii_alphanumeric()
            || matches!(c, '_' | '@' | '%' | '+' | '=' | ':' | ',' | '.' | '/' | '-')
    };
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::process::Command as Process;

    use super::*;
    use crate::{Catalog, Parsed};

    async fn answer(line: &str) -> Result<Value, HandlerError> {
        let catalog = Catalog::load(&|_| None).unwrap();
        let Ok(Parsed::Command(command)) = catalog.parse_slash(line) else {
            panic!("{line}")
        };
        catalog.carry_out(&command).await.map(|answer| answer.data)
    }

    #[tokio::test]
    async fn an_agent_is_told_what_to_run() {
        let data = answer("/mcp-playwright navigate https://example.com")
            .await
            .unwrap();
        assert_eq!(
            data,
            json!({
                "operation": "navigate", "type": "local_execution", "service": "playwright",
                "instructions": {
                    "command": "npx", "args": ["-y", "@playwright/cli", "goto", "https://example.com"],
                    "shell": "npx -y @playwright/cli goto https://example.com", "description": "Opens a page",
                },
            })
        );
        let data = answer("/mcp-taskmaster tasks add \"It's $(rm -rf ~)\"")
            .await
            .unwrap();
        assert_eq!(
            data["instructions"]["shell"],
            r"npx -y --package=task-master-ai task-master add-task '--prompt=It'\''s $(rm -rf ~)'"
        );
        let error = answer("/mcp-shadcn add-component -- --cwd=/")
            .await
            .unwrap_err();
        assert!(
            matches!(error, HandlerError::Rejected { status: 400, .. }),
            "{error:?}"
        );
    }

    #[test]
    fn a_shell_reads_back_what_was_quoted() {
        for word in [
            "",
            "plain",
            "a b",
            "it's",
            "'",
            "''",
            "$HOME `id` $(id)",
            "a\nb",
            "*?[x]",
            "\\",
            "\"",
            "~",
            "#x",
            "a;b|c&d>e<f",
            "ü",
            "!!",
        ] {
            let script = format!("printf %s {}", quoted(word));
            let output = Process::new("sh").arg("-c").arg(script).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), word);
        }
    }
}
