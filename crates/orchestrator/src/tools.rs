//! Tools of MCP servers: what gateways see, what somebody reviewed, and what a reviewer
//! should look at.
//!
//! A gateway calls no tool whose definition is not the reviewed one, so a server that
//! changes what a tool says of itself, after people trusted it, changes nothing until they
//! have seen it.

mod text;
mod warnings;

use std::collections::{BTreeMap, BTreeSet};

use authz::{CommandName, ServiceName, command::ArgumentsDigest};
use contract::{
    catalog::CatalogCommand,
    tools::{
        ApproveTool, ToolDetails, ToolReview, ToolState, ToolView, ToolWarning, WithdrawTools,
        digest,
    },
};
use serde_json::Value;
use store::tools::{ReviewedTool, ToolDefinition};

use crate::{
    Orchestrator,
    authenticate::Person,
    error::Error,
    services::{self, KnownService},
};

/// A list of approvals has at most so many.
const MAX_TOOLS: usize = 2048;

/// A tool as the gateway that spoke last sees it.
struct Seen {
    command: CatalogCommand,
    definition: Value,
    digest: ArgumentsDigest,
    differs_at: Vec<String>,
}

/// Every tool of a service.
struct Tools {
    seen: BTreeMap<CommandName, Seen>,
    reviewed: BTreeMap<CommandName, ReviewedTool>,
    /// Names of other services' tools.
    others: BTreeSet<String>,
}

impl Tools {
    async fn of(orchestrator: &Orchestrator, name: &ServiceName) -> Result<Self, Error> {
        let mut all = services::all(orchestrator).await?;
        let known = all.remove(name);
        let reviewed = orchestrator.store().reviewed_tools(name).await?;
        if known.is_none() && reviewed.is_empty() {
            return Err(Error::NotFound(format!(
                "no gateway has told of a service `{name}`"
            )));
        }
        let others = all
            .values()
            .flat_map(KnownService::commands)
            .filter(|known| known.command.definition.is_some())
            .map(|known| known.command.name.to_string());
        Ok(Self {
            others: others.collect(),
            seen: known.as_ref().map(seen).unwrap_or_default(),
            reviewed: reviewed
                .into_iter()
                .map(|tool| (tool.tool.clone(), tool))
                .collect(),
        })
    }

    fn names(&self) -> BTreeSet<&CommandName> {
        self.seen.keys().chain(self.reviewed.keys()).collect()
    }

    fn views(&self) -> Vec<ToolView> {
        self.names()
            .into_iter()
            .map(|name| self.view(name))
            .collect()
    }

    fn view(&self, name: &CommandName) -> ToolView {
        let (seen, reviewed) = (self.seen.get(name), self.reviewed.get(name));
        let state = match (seen, reviewed) {
            (None, _) => ToolState::Gone,
            (Some(_), None) => ToolState::New,
            (Some(seen), Some(reviewed)) if seen.digest == reviewed.digest => ToolState::Reviewed,
            (Some(_), Some(_)) => ToolState::Changed,
        };
        ToolView {
            name: name.clone(),
            state,
            risk: seen.map(|seen| seen.command.risk),
            digest: seen.map(|seen| seen.digest.clone()),
            differs_at: seen.map(|seen| seen.differs_at.clone()).unwrap_or_default(),
            review: reviewed.map(|reviewed| ToolReview {
                digest: reviewed.digest.clone(),
                by: reviewed.by.clone(),
                at: reviewed.at,
            }),
            warnings: seen.map(|seen| self.warnings(seen)).unwrap_or_default(),
        }
    }

    fn warnings(&self, seen: &Seen) -> Vec<ToolWarning> {
        warnings::of(&seen.definition, &self.others)
    }
}

/// What gateways see of a service's tools: as the one that spoke last does.
fn seen(known: &KnownService) -> BTreeMap<CommandName, Seen> {
    let mut tools = BTreeMap::new();
    for known in known.commands() {
        let command = known.command;
        let Some(definition) = command.definition.clone() else {
            continue;
        };
        // What is no object is no definition: nobody can approve it.
        let Some(digest) = digest(&definition) else {
            continue;
        };
        let elsewhere = known.elsewhere.into_iter();
        let differs_at = elsewhere
            .filter(|(_, theirs)| {
                let theirs = theirs
                    .as_ref()
                    .and_then(|theirs| theirs.definition.as_ref());
                theirs.is_some_and(|theirs| *theirs != definition)
            })
            .map(|(gateway, _)| gateway);
        tools.insert(
            command.name.clone(),
            Seen {
                differs_at: differs_at.collect(),
                command,
                definition,
                digest,
            },
        );
    }
    tools
}

/// The tools of a service, by name.
///
/// # Errors
///
/// [`Error::NotFound`].
pub(crate) async fn all(
    orchestrator: &Orchestrator,
    service: &ServiceName,
) -> Result<Vec<ToolView>, Error> {
    Ok(Tools::of(orchestrator, service).await?.views())
}

/// One of them, with its definitions.
///
/// # Errors
///
/// [`Error::NotFound`].
pub(crate) async fn one(
    orchestrator: &Orchestrator,
    service: &ServiceName,
    name: &CommandName,
) -> Result<ToolDetails, Error> {
    let mut tools = Tools::of(orchestrator, service).await?;
    if !tools.names().contains(name) {
        return Err(Error::NotFound(format!(
            "no gateway has seen a tool `{service}/{name}`, and nobody reviewed one"
        )));
    }
    let tool = tools.view(name);
    let definition = tools.seen.remove(name).map(|seen| seen.definition);
    let reviewed = tools
        .reviewed
        .remove(name)
        .map(|reviewed| reviewed.definition);
    Ok(ToolDetails {
        difference: text::difference(reviewed.as_ref(), definition.as_ref()),
        tool,
        definition,
        reviewed_definition: reviewed,
    })
}

/// A definition as people read it, each line as one of a difference that is the same.
pub(crate) fn lines(definition: Option<&Value>) -> Vec<String> {
    let lines = definition.map(text::lines).unwrap_or_default();
    lines.into_iter().map(|line| format!("  {line}")).collect()
}

/// Takes definitions as reviewed: exactly those that gateways see now.
///
/// # Errors
///
/// [`Error::Conflict`] if one is another by now, [`Error::NotFound`] if no gateway sees it;
/// then none is.
pub(crate) async fn approve(
    orchestrator: &Orchestrator,
    person: &Person,
    service: &ServiceName,
    approve: &[ApproveTool],
) -> Result<Vec<ToolView>, Error> {
    limited(approve.len())?;
    let tools = Tools::of(orchestrator, service).await?;
    let mut definitions = Vec::new();
    for ApproveTool { name, digest } in approve {
        let seen = tools
            .seen
            .get(name)
            .ok_or_else(|| Error::NotFound(format!("no gateway sees a tool `{service}/{name}`")))?;
        if seen.digest != *digest {
            return Err(Error::Conflict(format!(
                "`{service}/{name}` changed since you looked at it: look again"
            )));
        }
        definitions.push(ToolDefinition {
            tool: name.clone(),
            digest: digest.clone(),
            definition: seen.definition.clone(),
        });
    }
    let actor = orchestrator.actor(person);
    let store = orchestrator.store();
    store.review_tools(service, &definitions, &actor).await?;
    all(orchestrator, service).await
}

/// Takes reviews back.
///
/// # Errors
///
/// [`Error::NotFound`] for a service that nobody knows.
pub(crate) async fn withdraw(
    orchestrator: &Orchestrator,
    person: &Person,
    service: &ServiceName,
    withdraw: &WithdrawTools,
) -> Result<Vec<ToolView>, Error> {
    limited(withdraw.tools.len())?;
    Tools::of(orchestrator, service).await?;
    let actor = orchestrator.actor(person);
    let store = orchestrator.store();
    store
        .withdraw_tools(service, &withdraw.tools, &actor)
        .await?;
    match all(orchestrator, service).await {
        // It was known by its reviews alone.
        Err(Error::NotFound(_)) => Ok(Vec::new()),
        views => views,
    }
}

fn limited(count: usize) -> Result<(), Error> {
    match count {
        0 => Err(Error::field("tools", "at least one is needed")),
        1..=MAX_TOOLS => Ok(()),
        _ => Err(Error::field("tools", format!("more than {MAX_TOOLS}"))),
    }
}
