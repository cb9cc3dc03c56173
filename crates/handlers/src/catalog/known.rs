//! What is known of one service at one time: its commands, and what each is called.
//!
//! Of a service that its description tells all about, this is made once. What an MCP server
//! offers changes while we run: then another takes its place, and who holds this one goes on
//! undisturbed.

use std::{collections::HashMap, sync::Arc};

use authz::{
    Arguments, Command, CommandKey, Service, ServiceName, Target, command::ArgumentsDigest,
};
use serde_json::{Map, Value, json};

use super::{CommandInfo, ServiceInfo, folded, shown, spellings, usage};
use crate::{
    CommandError, Parsed,
    arguments::{ArgumentSet, Validators},
    description::{Description, to_json},
    grammar::Word,
    mcp::{Tool, Tools},
    nearest::nearest,
    redaction::Redaction,
};

/// In characters; a tool may tell whole manuals.
const LONGEST_SUMMARY: usize = 300;

/// See the module.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) info: Arc<ServiceInfo>,
    /// In the order of [`ServiceInfo::commands`].
    commands: Vec<Arc<CommandEntry>>,
    /// Every command by its own name.
    names: HashMap<String, usize>,
    /// Every spelling of every command, words joined by `-` → index of the command.
    spellings: HashMap<String, usize>,
    /// The most words that a spelling has.
    longest: usize,
}

#[derive(Debug)]
struct CommandEntry {
    arguments: ArgumentSet,
    redaction: Redaction,
    /// Whether its answers hold what anybody may have written.
    untrusted: bool,
    /// Of a tool: the definition that this was made of, and whether it was reviewed.
    made_of: Option<(ArgumentsDigest, bool)>,
}

/// What never changes of a service whose commands do.
#[derive(Debug)]
pub(crate) struct ServiceFacts {
    /// What policy is told of it.
    pub(crate) service: Arc<Service>,
    pub(crate) kind: &'static str,
    version: String,
    about: String,
    location: &'static str,
    aliases: Vec<ServiceName>,
    redaction: Redaction,
    untrusted: bool,
}

impl ServiceFacts {
    pub(crate) fn new(description: &Description, location: &'static str) -> Self {
        Self {
            service: Arc::new(Service {
                name: description.name().clone(),
                env: description.environment,
                owners: description.owners.clone(),
                zones: description.zones.clone(),
            }),
            kind: description.kind.as_str(),
            version: description.version.clone(),
            about: description.about.clone(),
            location,
            aliases: description.aliases.clone(),
            redaction: Redaction::new(
                &description.secret,
                description.secret.clone(),
                &description.public,
            ),
            untrusted: description.untrusted,
        }
    }

    fn info(&self, problem: Option<&str>, commands: Vec<CommandInfo>) -> Arc<ServiceInfo> {
        Arc::new(ServiceInfo {
            service: Arc::clone(&self.service),
            kind: self.kind,
            name: self.service.name.clone(),
            version: self.version.clone(),
            description: self.about.clone(),
            location: self.location.to_owned(),
            status: if problem.is_none() { "active" } else { "error" }.to_owned(),
            error_message: problem.map(str::to_owned),
            aliases: self.aliases.clone(),
            commands,
        })
    }
}

impl Known {
    /// Of a service whose description tells of every command.
    pub(crate) fn described(
        facts: &ServiceFacts,
        description: &Description,
        problem: Option<&str>,
    ) -> Result<Self, String> {
        let mut commands = Vec::new();
        let mut infos = Vec::new();
        let mut validators = Validators::default();
        for command in &description.commands {
            let name = command.name.get_ref();
            let wrong = |message: String| format!("command `{name}`: {message}");
            let arguments = ArgumentSet::new(command, &mut validators).map_err(wrong)?;
            if !command.example.is_empty() {
                arguments
                    .read_value(to_json(&command.example)?, Map::new())
                    .map_err(|problems| wrong(format!("its example: {}", problems.join("; "))))?;
            }
            commands.push(Arc::new(CommandEntry {
                arguments,
                redaction: description.redaction(command),
                untrusted: command.untrusted.unwrap_or(description.untrusted),
                made_of: None,
            }));
            infos.push(CommandInfo {
                name: name.to_string(),
                target: Arc::new(Target {
                    key: CommandKey {
                        service: facts.service.name.clone(),
                        name: name.clone(),
                    },
                    service: Arc::clone(&facts.service),
                    risk: command.risk,
                    zones: command.zones.clone(),
                    pinned: true,
                }),
                description: command.summary.clone(),
                arguments: command.schema()?,
                usage: usage(command),
                example: to_json(&command.example)?,
            });
        }
        let spellings = spellings(&description.commands)?;
        Ok(Self {
            names: names(&infos),
            longest: longest(&spellings),
            info: facts.info(problem, infos),
            commands,
            spellings,
        })
    }

    /// Of a service whose commands are an MCP server's `tools`, without those that `hidden`
    /// names. What did not change is taken from `before`.
    pub(crate) fn of_tools(
        facts: &ServiceFacts,
        tools: &Tools,
        hidden: impl Fn(&str) -> bool,
        problem: Option<&str>,
        before: Option<&Self>,
    ) -> Self {
        let mut commands = Vec::new();
        let mut infos = Vec::new();
        let mut spellings = HashMap::new();
        for tool in tools.iter() {
            let name = tool.definition.name().as_str();
            if hidden(name) {
                continue;
            }
            let schema = tool.definition.input_schema();
            let made_of = Some((tool.definition.digest().clone(), tool.target.pinned));
            let entry = before
                .and_then(|before| before.entry(name))
                .filter(|entry| entry.made_of == made_of)
                .cloned()
                .unwrap_or_else(|| {
                    Arc::new(CommandEntry {
                        arguments: ArgumentSet::of_tool(&schema, tool.target.pinned),
                        redaction: facts.redaction.clone(),
                        untrusted: facts.untrusted,
                        made_of,
                    })
                });
            // Two that differ in case alone have only their own names.
            spellings.entry(folded(name)).or_insert(infos.len());
            infos.push(CommandInfo {
                name: name.to_owned(),
                target: Arc::clone(&tool.target),
                description: summary(tool),
                usage: format!("{name}{}", entry.arguments.usage()),
                arguments: schema,
                example: json!({}),
            });
            commands.push(entry);
        }
        Self {
            names: names(&infos),
            info: facts.info(problem, infos),
            commands,
            spellings,
            longest: 1,
        }
    }

    fn entry(&self, name: &str) -> Option<&Arc<CommandEntry>> {
        self.commands.get(*self.names.get(name)?)
    }

    /// Which command the words begin with, and how many words that takes.
    pub(super) fn find(&self, words: &[Word]) -> Option<(usize, usize)> {
        let first = words.first().filter(|word| word.json.is_none());
        let exact = first.and_then(|word| self.names.get(&word.text));
        // The longest spelling wins: `applications envs list` before `applications`.
        let mut spelling = String::new();
        let mut found = exact.map(|&index| (index, 1));
        for (count, word) in words.iter().take(self.longest).enumerate() {
            if word.json.is_some() {
                break;
            }
            if count > 0 {
                spelling.push('-');
            }
            spelling.push_str(&folded(&word.text));
            if let Some(&index) = self.spellings.get(&spelling)
                && found.is_none_or(|(_, taken)| count + 1 > taken)
            {
                found = Some((index, count + 1));
            }
        }
        found
    }

    /// Which command an operation names.
    pub(super) fn find_operation(&self, operation: &str) -> Option<usize> {
        let spelling = || {
            let words: Vec<String> = operation.split_whitespace().map(folded).collect();
            words.join("-")
        };
        self.names
            .get(operation)
            .or_else(|| self.spellings.get(&spelling()))
            .copied()
    }

    /// Whether a command has exactly this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    /// Whether a command's answers hold what anybody may have written.
    pub(super) fn untrusted(&self, name: &str) -> Option<bool> {
        self.entry(name).map(|entry| entry.untrusted)
    }

    /// What nobody gets to see of a command.
    pub(super) fn redaction(&self, name: &str) -> Option<&Redaction> {
        self.entry(name).map(|entry| &entry.redaction)
    }

    pub(super) fn command(
        &self,
        index: usize,
        arguments: impl FnOnce(&ArgumentSet) -> Result<Map<String, Value>, Vec<String>>,
    ) -> Result<Parsed, CommandError> {
        let service = &self.info;
        let (Some(entry), Some(info)) = (self.commands.get(index), service.commands.get(index))
        else {
            return Err(self.unknown(""));
        };
        match arguments(&entry.arguments) {
            Ok(values) => Ok(Parsed::Command(Command {
                target: Arc::clone(&info.target),
                arguments: Arguments::new(values),
            })),
            Err(problems) => Err(CommandError::Arguments {
                command: info.target.key.clone(),
                problems,
                usage: format!("/mcp-{} {}", service.name, info.usage),
            }),
        }
    }

    pub(super) fn unknown(&self, name: &str) -> CommandError {
        let available: Vec<String> = self
            .info
            .commands
            .iter()
            .map(|command| command.name.clone())
            .collect();
        let mut words = name.split_whitespace().map(folded);
        let first = words.next().unwrap_or_default();
        let whole = words.fold(first.clone(), |whole, word| format!("{whole}-{word}"));
        let spellings = || self.spellings.keys().map(String::as_str);
        let near = nearest(&whole, spellings()).or_else(|| nearest(&first, spellings()));
        let near = near.and_then(|spelling| available.get(*self.spellings.get(spelling)?));
        CommandError::UnknownCommand {
            service: self.info.name.to_string(),
            name: shown(name),
            nearest: near.cloned(),
            available,
        }
    }
}

fn names(infos: &[CommandInfo]) -> HashMap<String, usize> {
    let named = infos.iter().enumerate();
    named
        .map(|(index, info)| (info.name.clone(), index))
        .collect()
}

fn longest(spellings: &HashMap<String, usize>) -> usize {
    let words = spellings.keys().map(|spelling| spelling.split('-').count());
    words.max().unwrap_or(0)
}

/// The beginning of what a tool says of itself, in one line, with nothing that cannot be seen.
fn summary(tool: &Tool) -> String {
    let text = match tool.definition.description() {
        "" => tool.definition.title().unwrap_or_default(),
        text => text,
    };
    let mut summary = String::new();
    let mut shown = 0;
    for word in text.split_whitespace() {
        if shown > LONGEST_SUMMARY {
            summary.push('…');
            break;
        }
        if !summary.is_empty() {
            summary.push(' ');
        }
        for letter in word.chars().take(LONGEST_SUMMARY) {
            shown += 1;
            // As Rust would write it in a literal, but for letters of any script and quotes.
            match letter {
                '\'' | '"' | '\\' => summary.push(letter),
                letter => summary.extend(letter.escape_debug()),
            }
        }
    }
    summary
}
