//! Services of kind `mcp`: servers of the Model Context Protocol, and their tools.
//!
//! What an upstream offers is learnt from itself and changes while we run. Every tool is a
//! command `service/tool`; what the operator says of it stands in the description, and
//! whether somebody reviewed its definition is told by [`McpService::review`]. Until then it
//! is not `pinned`, and policy refuses it.
//!
//! [`McpService::forward`] carries an agent's own message to the upstream and streams the
//! answer back; [`crate::Catalog::handle`] makes a call of ours, for commands that came by
//! another way. An upstream that is a child process is spoken to in the same manner.

mod answer;
mod child;
mod client;
mod definition;
mod events;
mod guarded;
mod mask;
mod tools;
mod upstream;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use authz::{Command, CommandName, Permit, Risk, Service, Target};
use bytes::Bytes;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

pub use definition::{Definition, MAX_DEFINITION_BYTES};
pub use tools::{MAX_TOOLS, RESERVED, Reviews, Tool, Tools};
pub use upstream::{Body, Passage};

use crate::{
    Answer, HandlerError,
    catalog::{self, Condition, Known, ServiceFacts},
    description::{Description, McpTable},
    http::resilience::{Gate, Pass, answered},
};
use client::Client;
use guarded::Guarded;
use tools::{Rules, Verdict};
pub(crate) use upstream::Connections;
use upstream::Upstream;

/// How long the first byte of an answer may take, and an exchange of ours as a whole.
const TIMEOUT: Duration = Duration::from_mins(2);

/// How often an upstream is asked for its tools when nothing says that they changed.
const REFRESH_INTERVAL: Duration = Duration::from_mins(5);

/// However often something says that they changed, it is asked no sooner than this.
const SHORTEST_REFRESH: Duration = Duration::from_secs(1);

/// A call waits for others to end, where the server has too many, for at most so long.
const LONGEST_QUEUE: Duration = Duration::from_secs(5);

/// Before anything was learnt.
const UNKNOWN: &str = "its tools are not known yet";

/// The longest pause after failures.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// Whether a command is one of the calls of which a server has only so many under way. What a
/// client answers to a server's question is not: calls wait for it. Nor is a stream that
/// stays open.
fn takes_a_place(command: &Command) -> bool {
    !matches!(
        command.target.key.name.as_str(),
        "mcp.answer" | "mcp.listen"
    )
}

/// One MCP server.
#[derive(Debug)]
pub struct McpService {
    facts: ServiceFacts,
    rules: Rules,
    upstream: ArcSwap<Upstream>,
    /// What the upstream is made of, besides what variables hold.
    table: McpTable,
    connections: Connections,
    timeout: Duration,
    gate: Arc<Gate>,
    client: Client,
    state: ArcSwap<State>,
    /// Held while a new state is made of the one before; never while waiting for anything.
    changing: Mutex<Reviews>,
    /// Counts the states.
    changes: watch::Sender<u64>,
    wanted: Notify,
}

/// What is known of an upstream at one time.
#[derive(Debug)]
struct State {
    tools: Tools,
    known: Arc<Known>,
    /// Why its tools are not known, or not surely.
    problem: Option<String>,
    /// Since when there is that problem, or none.
    since: Option<Instant>,
}

impl McpService {
    pub(crate) fn new(
        description: &Description,
        connections: &Connections,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, String> {
        let Some(table) = &description.mcp else {
            return Err("kind `mcp` needs a table `[mcp]`".to_owned());
        };
        let facts = ServiceFacts::new(description, "server");
        let rules = Rules {
            risk: table.risk,
            tools: table
                .tools
                .iter()
                .map(|(name, tool)| {
                    let verdict = Verdict {
                        risk: tool.risk,
                        zones: tool.zones.clone(),
                    };
                    (name.clone(), verdict)
                })
                .collect(),
            hidden: table.hidden.clone(),
        };
        let timeout = table.timeout_ms.map_or(TIMEOUT, Duration::from_millis);
        let name = facts.service.name.as_str();
        let client = Client::new(name, timeout, table.max_answer_bytes);
        let upstream = Upstream::new(name, table, timeout, connections, variable)?;
        let problem = upstream.unavailable().unwrap_or(UNKNOWN);
        let known = Known::of_tools(&facts, &Tools::default(), |_| false, Some(problem), None);
        let state = State {
            tools: Tools::default(),
            known: Arc::new(known),
            problem: Some(problem.to_owned()),
            since: None,
        };
        Ok(Self {
            rules,
            upstream: ArcSwap::from_pointee(upstream),
            table: table.clone(),
            connections: connections.clone(),
            timeout,
            gate: Gate::new(description.max_concurrent),
            client,
            state: ArcSwap::from_pointee(state),
            changing: Mutex::default(),
            changes: watch::Sender::new(0),
            wanted: Notify::new(),
            facts,
        })
    }

    /// What to set, if the server cannot be reached as it is.
    pub(crate) fn unavailable(&self) -> Option<String> {
        self.upstream.load().unavailable().map(str::to_owned)
    }

    /// Reads address, credential and environment again. Whether anything changed; then what
    /// is under way ends as it began, and processes make room for new ones.
    pub(crate) fn refresh_configuration(&self, variable: &dyn Fn(&str) -> Option<String>) -> bool {
        let name = self.facts.service.name.as_str();
        // What its description says was found right when it was read.
        let made = Upstream::new(name, &self.table, self.timeout, &self.connections, variable);
        let Ok(made) = made else {
            return false;
        };
        if self.upstream.load().same(&made) {
            return false;
        }
        let problem = made.unavailable().unwrap_or(UNKNOWN).to_owned();
        self.upstream.store(Arc::new(made));
        self.client.begin_anew();
        self.change(|_, state| Some((state.tools.clone(), Some(problem))));
        self.refresh_soon();
        true
    }

    /// How it is: by whether its tools could be learnt, and what came of the last calls.
    pub(crate) fn condition(&self) -> Condition {
        let known = self.state.load();
        let unavailable = self.unavailable();
        let calls = self.gate.condition();
        let reason = known.problem.clone().or_else(|| unavailable.clone());
        if calls.failures > 0 && unavailable.is_none() {
            return Condition { reason, ..calls };
        }
        let (state, breaker) = match (&unavailable, &known.problem) {
            (Some(_), _) => (catalog::State::Unconfigured, None),
            (None, Some(_)) => (catalog::State::Degraded, calls.breaker),
            (None, None) => (catalog::State::Healthy, calls.breaker),
        };
        Condition {
            lasting: known.since.map(|since| since.elapsed()),
            reason,
            in_flight: calls.in_flight,
            breaker,
            ..Condition::of(state)
        }
    }

    /// What policy is told of the service.
    #[must_use]
    pub fn service(&self) -> &Arc<Service> {
        &self.facts.service
    }

    /// What policy is told of a tool, whether or not it was ever seen; nothing of a name that
    /// no command can have, and of a tool that the operator hides: they do not exist.
    ///
    /// A tool that nobody knows or reviewed is not pinned.
    #[must_use]
    pub fn target(&self, tool: &str) -> Option<Arc<Target>> {
        let name: CommandName = tool.parse().ok()?;
        if self.rules.hide(tool) {
            return None;
        }
        Some(match self.state.load().tools.get(tool) {
            Some(tool) => Arc::clone(&tool.target),
            None => self.rules.target(&self.facts.service, name, None, false),
        })
    }

    /// What policy is told of something that is no tool. `name` begins with [`RESERVED`],
    /// otherwise there is nothing to tell.
    #[must_use]
    pub fn reserved(&self, name: &str, risk: Risk) -> Option<Arc<Target>> {
        if !name.starts_with(RESERVED) {
            return None;
        }
        let name: CommandName = name.parse().ok()?;
        let judged = self.rules.tools.get(&name).and_then(|verdict| verdict.risk);
        let target = self.rules.target(&self.facts.service, name, None, true);
        Some(Arc::new(Target {
            // The operator's verdict on this very thing goes before what is usual.
            risk: judged.unwrap_or(risk),
            ..Target::clone(&target)
        }))
    }

    /// The tools as they were seen last.
    #[must_use]
    pub fn tools(&self) -> Tools {
        self.state.load().tools.clone()
    }

    /// One tool as it was seen last.
    #[must_use]
    pub fn tool(&self, name: &str) -> Option<Arc<Tool>> {
        self.state.load().tools.get(name).cloned()
    }

    /// Takes note of definitions that the upstream just told: the name of each tool, and all
    /// of it as it was written. Afterwards [`McpService::target`] says of a changed one that
    /// it is not pinned. It costs next to nothing when nothing changed.
    pub fn observe<'a>(&self, definitions: impl IntoIterator<Item = (&'a str, &'a str)>) {
        self.take(definitions.into_iter(), false);
    }

    /// Has the upstream asked for its tools soon: something said that they changed.
    pub fn refresh_soon(&self) {
        self.wanted.notify_one();
    }

    /// Takes over which definitions are reviewed: tools whose definition is another are not
    /// pinned any more.
    pub fn review(&self, reviews: &Reviews) {
        self.change(|reviewed, state| {
            reviewed.clone_from(reviews);
            let tools = state
                .tools
                .judged(|definition| self.judge(reviewed, definition));
            Some((tools, state.problem.clone()))
        });
    }

    /// Tells when tools, reviews or the status changed.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Sends an agent's message to the upstream and streams back what it answers, with our
    /// credential and without the agent's: of its headers only those of the protocol go on.
    /// The path of `request` is of no importance; its method and body are kept.
    ///
    /// Redirects are not followed. What the upstream answers is passed on with its status,
    /// but for what says that we are not welcome there, or that it is broken.
    ///
    /// # Errors
    ///
    /// See [`HandlerError`]. Errors of the body come later, with its frames.
    pub async fn forward(
        &self,
        passage: Passage<'_>,
        request: http::Request<Bytes>,
    ) -> Result<http::Response<Body>, HandlerError> {
        let agent = match passage {
            Passage::Permitted(permit) => {
                if permit.command().target.key.service != self.facts.service.name {
                    return Err(self.failed("the permit is for another service"));
                }
                permit.agent()
            }
            Passage::Connection(agent) => agent,
        };
        let upstream = self.upstream.load_full();
        let pass = match passage {
            Passage::Permitted(permit) if takes_a_place(permit.command()) => {
                Some(self.enter().await?)
            }
            Passage::Permitted(_) | Passage::Connection(_) => None,
        };
        let sent = upstream.send(Some(agent), request).await;
        let Some(pass) = pass else {
            return sent;
        };
        if sent.is_err() {
            pass.ended(answered(&sent));
            return sent;
        }
        sent.map(|response| response.map(|body| Body::new(Guarded::new(body, pass))))
    }

    /// A place for one call, unless the server failed too often or has too many.
    async fn enter(&self) -> Result<Pass, HandlerError> {
        let entered = self.gate.enter(self.timeout.min(LONGEST_QUEUE)).await;
        entered.map_err(|closed| closed.told(&self.facts.service.name, "it"))
    }

    /// Carries out a permitted command as a call of our own.
    pub(crate) async fn handle(&self, permit: &Permit) -> Result<Answer, HandlerError> {
        self.carry_out(permit.command()).await
    }

    pub(crate) async fn carry_out(&self, command: &Command) -> Result<Answer, HandlerError> {
        let name = &command.target.key.name;
        if self.rules.hide(name.as_str()) {
            return Err(HandlerError::NotFound {
                service: self.facts.service.name.to_string(),
                message: format!("there is no tool `{name}`"),
            });
        }
        let tool = self.tool(name.as_str());
        let upstream = self.upstream.load_full();
        let pass = self.enter().await?;
        let result = self
            .client
            .call(&upstream, name, tool.as_deref(), command.arguments.values())
            .await;
        pass.ended(answered(&result));
        let result = result?;
        answer::of(&self.facts.service.name, name, result)
    }

    /// What is known of it now: information, names and schemas of its commands.
    pub(crate) fn known(&self) -> Arc<Known> {
        Arc::clone(&self.state.load().known)
    }

    /// Asks for tools at the start and whenever they may have changed, for as long as it is
    /// polled.
    pub(crate) async fn keep(&self) {
        let mut pause = SHORTEST_REFRESH;
        loop {
            // Somebody may set what is missing.
            while self.unavailable().is_some() {
                self.wanted.notified().await;
            }
            let next = match self.refresh().await {
                Ok(()) => {
                    pause = SHORTEST_REFRESH;
                    REFRESH_INTERVAL
                }
                Err(error) => {
                    tracing::warn!(service = %self.facts.service.name, %error, "the tools of an MCP server cannot be learnt");
                    self.trouble(&error);
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    pause
                }
            };
            tokio::time::sleep(SHORTEST_REFRESH).await;
            let _ = tokio::time::timeout(next, self.wanted.notified()).await;
        }
    }

    /// Asks the upstream for its tools, all of them.
    pub(crate) async fn refresh(&self) -> Result<(), HandlerError> {
        let upstream = self.upstream.load_full();
        let listed = self.client.list(&upstream).await?;
        let names = listed
            .iter()
            .map(|tool| (tool.name.as_str(), tool.written.get()));
        self.take(names, true);
        Ok(())
    }

    fn take<'a>(&self, told: impl Iterator<Item = (&'a str, &'a str)>, whole: bool) {
        let state = self.state.load();
        let mut seen = Vec::new();
        let mut lost = Vec::new();
        for (name, written) in told.take(MAX_TOOLS) {
            if !whole && state.tools.knows(name, written) {
                continue;
            }
            match Definition::read(written) {
                Ok(definition) if definition.name().as_str() == name => {
                    seen.push((Box::<str>::from(written), definition));
                }
                refused => {
                    let reason = refused
                        .err()
                        .unwrap_or_else(|| "it has two names".to_owned());
                    let shown: String = name
                        .chars()
                        .take(64)
                        .flat_map(char::escape_default)
                        .collect();
                    tracing::warn!(service = %self.facts.service.name, tool = shown, reason, "a tool cannot be used: its definition is refused");
                    // What it was before, it is no longer.
                    lost.push(name.to_owned());
                }
            }
        }
        let news = |state: &State| {
            let names = state.tools.iter().map(|tool| tool.definition.name());
            !whole
                || state.problem.is_some()
                || !names.eq(seen.iter().map(|(_, definition)| definition.name()))
                || seen.iter().any(|(written, definition)| {
                    !state.tools.knows(definition.name().as_str(), written)
                })
        };
        if (seen.is_empty() && lost.is_empty() && !whole) || !news(&state) {
            return;
        }
        drop(state);
        self.change(|reviews, state| {
            let judge = |definition: &Definition| self.judge(reviews, definition);
            let problem = if whole { None } else { state.problem.clone() };
            Some((state.tools.seen(seen, &lost, whole, judge), problem))
        });
    }

    fn trouble(&self, error: &HandlerError) {
        let problem = Some(error.to_string());
        self.change(|_, state| {
            (state.problem != problem).then(|| (state.tools.clone(), problem.clone()))
        });
    }

    fn judge(&self, reviews: &Reviews, definition: &Definition) -> Arc<Target> {
        let pinned = reviews.get(definition.name()) == Some(definition.digest());
        let name = definition.name().clone();
        self.rules
            .target(&self.facts.service, name, definition.hinted(), pinned)
    }

    /// Makes the next state of the one before.
    fn change(&self, next: impl FnOnce(&mut Reviews, &State) -> Option<(Tools, Option<String>)>) {
        let mut reviews = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.state.load_full();
        let Some((tools, problem)) = next(&mut reviews, &before) else {
            return;
        };
        let hidden = |tool: &str| self.rules.hide(tool);
        let problem_now = problem.as_deref();
        let known = Known::of_tools(
            &self.facts,
            &tools,
            hidden,
            problem_now,
            Some(&before.known),
        );
        let since = if before.problem == problem {
            before.since
        } else {
            Some(Instant::now())
        };
        self.state.store(Arc::new(State {
            since,
            known: Arc::new(known),
            tools,
            problem,
        }));
        drop(reviews);
        self.changes.send_modify(|count| *count += 1);
    }

    fn failed(&self, message: &str) -> HandlerError {
        HandlerError::Failed {
            service: self.facts.service.name.to_string(),
            message: message.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests;
