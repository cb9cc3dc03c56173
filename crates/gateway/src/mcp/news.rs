//! What is said on a stream that stays open: that its agent may list something else than
//! before, whether policy, a grant, a review, a zone or the server changed it; and nothing
//! any more once the agent may not have the stream.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, OnceLock},
};

use arc_swap::ArcSwap;
use authz::{AgentId, Risk};
use bytes::Bytes;
use contract::feed::Change;
use futures_util::{FutureExt, Stream, StreamExt, future::select_all, stream};
use handlers::{
    catalog::ServiceInfo,
    jsonrpc::{self, Members},
    mcp::McpService,
    sse,
};
use http::HeaderMap;
use http_body::Frame;
use http_body_util::StreamBody;
use serde_json::{Map, Value, json};
use tokio::sync::{OwnedSemaphorePermit, broadcast, watch};
use tower::BoxError;

use super::{
    RECHECK, Visit,
    ask::{AgentSight, listed_in},
    filter::Sight,
    method::{Era, Listed},
    stream::{Event, Look},
};
use crate::{
    Gateway,
    answer::Body,
    authenticate::{Caller, Peer},
    refusal::Refusal,
    waiting::news_of,
};

/// The tag of everything on a stream of the newer protocol.
const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";

const ACKNOWLEDGED: &str = "notifications/subscriptions/acknowledged";

/// Which changes of lists a client wants to hear of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    tools: bool,
    prompts: bool,
    resources: bool,
}

impl Wanted {
    /// What the older protocol tells everybody.
    const ALL: Self = Self {
        tools: true,
        prompts: true,
        resources: true,
    };

    /// What the members of `notifications` ask for, or agree to.
    pub(super) fn read(notifications: Option<&str>) -> Self {
        let members = notifications.and_then(|raw| jsonrpc::members(raw).ok());
        let is =
            |name: &str| members.as_ref().and_then(|members| members.raw(name)) == Some("true");
        Self {
            tools: is("toolsListChanged"),
            prompts: is("promptsListChanged"),
            resources: is("resourcesListChanged"),
        }
    }

    /// The first message on a stream of the newer protocol, of which only tools can be heard.
    fn acknowledgement(self, subscription: &str) -> Vec<u8> {
        let mut agreed = Map::new();
        if self.tools {
            agreed.insert("toolsListChanged".to_owned(), true.into());
        }
        notification(
            ACKNOWLEDGED,
            Some(subscription),
            Some(Value::Object(agreed)),
        )
    }

    /// Of tools alone.
    pub(super) fn tools_only(self) -> Self {
        Self {
            prompts: false,
            resources: false,
            ..self
        }
    }
}

/// How a stream's client is told.
#[derive(Clone, Debug)]
pub(super) enum Telling {
    /// As until 2025-11-25.
    Everything,
    /// As since then: tagged with the text of the id of the request that opened the stream,
    /// and only what both sides agreed on, from when that was said on the stream.
    Agreed(Box<str>, Arc<OnceLock<Wanted>>),
}

impl Telling {
    pub(super) fn of(era: Era, id: &str) -> Self {
        match era {
            Era::Legacy => Self::Everything,
            Era::Modern => Self::Agreed(id.into(), Arc::default()),
        }
    }

    /// What both sides agree on from now on, and what says so.
    pub(super) fn agree(&self, wanted: Wanted) -> Option<Bytes> {
        let Self::Agreed(id, agreed) = self else {
            return None;
        };
        let _ = agreed.set(wanted);
        Some(wanted.acknowledgement(id).into())
    }

    fn wanted(&self) -> Option<Wanted> {
        match self {
            Self::Everything => Some(Wanted::ALL),
            Self::Agreed(_, agreed) => agreed.get().copied(),
        }
    }

    fn subscription(&self) -> Option<&str> {
        match self {
            Self::Everything => None,
            Self::Agreed(id, _) => Some(id),
        }
    }
}

fn notification(method: &str, subscription: Option<&str>, agreed: Option<Value>) -> Vec<u8> {
    let mut message = json!({"jsonrpc": "2.0", "method": method});
    let mut params = Map::new();
    if let Some(subscription) = subscription {
        let id: Value = serde_json::from_str(subscription).unwrap_or_default();
        params.insert("_meta".to_owned(), json!({SUBSCRIPTION: id}));
    }
    if let Some(agreed) = agreed {
        params.insert("notifications".to_owned(), agreed);
    }
    if !params.is_empty() {
        crate::answer::put(&mut message, "params", Value::Object(params));
    }
    sse::message(message.to_string().as_bytes())
}

/// What an agent may list, in short: different if it is something else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct View {
    tools: u64,
    prompts: bool,
    resources: bool,
}

impl View {
    /// What is to be said when this has become `now`.
    fn changes(self, now: Self, telling: &Telling) -> Vec<u8> {
        // Who was told nothing yet has not listed anything by it either.
        let Some(wanted) = telling.wanted() else {
            return Vec::new();
        };
        let changed = [
            (
                wanted.tools && self.tools != now.tools,
                "notifications/tools/list_changed",
            ),
            (
                wanted.prompts && self.prompts != now.prompts,
                "notifications/prompts/list_changed",
            ),
            (
                wanted.resources && self.resources != now.resources,
                "notifications/resources/list_changed",
            ),
        ];
        let changed = changed.into_iter().filter(|(changed, _)| *changed);
        changed
            .flat_map(|(_, method)| notification(method, telling.subscription(), None))
            .collect()
    }
}

/// The caller as it is known now, for as long as a stream is open.
pub(super) type Known = Arc<ArcSwap<Caller>>;

/// Whose stream it is, and of what.
pub(super) struct Audience {
    pub(super) known: Known,
    pub(super) gateway: Arc<Gateway>,
    /// None: of every service.
    pub(super) service: Option<Arc<McpService>>,
    pub(super) headers: HeaderMap,
    pub(super) peer: Peer,
    pub(super) telling: Telling,
}

impl Audience {
    /// What is said besides what the server says. It ends when the agent may not have the
    /// stream any more, and when the gateway is about to end.
    pub(super) fn news(self) -> impl Stream<Item = Bytes> + Send + use<> {
        let caller = self.known.load_full();
        let gateway = &self.gateway;
        // Before the first look, so that no change falls between the two.
        let services = if let Some(service) = &self.service {
            vec![service.changes()]
        } else {
            let services = gateway.catalog.mcp_services();
            services.map(|service| service.changes()).collect()
        };
        let changes = Changes {
            feed: gateway.changes.subscribe(),
            policies: gateway.policies.swaps(),
            zones: gateway.zones.swaps(),
            services,
        };
        let listening = Listening {
            agent: caller.held.principal.agent().id,
            seen: self.view(&caller),
            changes,
            audience: self,
        };
        stream::unfold(listening, |mut listening| async move {
            let said = listening.next().await?;
            Some((said, listening))
        })
    }

    /// What a caller may list now.
    fn view(&self, caller: &Caller) -> View {
        let gateway = &self.gateway;
        let Ok(sight) = gateway.sight(caller) else {
            return View::default();
        };
        let now = gateway.clock.now();
        let mut tools = DefaultHasher::new();
        let mut take = |service: &ServiceInfo| {
            let server = gateway.catalog.mcp(service.name.as_str());
            for place in sight.seen(&service.commands, now) {
                let Some(command) = service.commands.get(place) else {
                    continue;
                };
                (service.name.as_str(), &command.name, command.target.risk).hash(&mut tools);
                let tool = server.and_then(|server| server.tool(&command.name));
                tool.map(|tool| tool.definition.digest().clone())
                    .hash(&mut tools);
            }
        };
        let services = match &self.service {
            Some(service) => {
                let known = gateway.catalog.service(service.service().name.as_str());
                known.into_iter().collect()
            }
            None => gateway.catalog.services(),
        };
        for service in &services {
            take(service);
        }
        let may = |listed: Listed| {
            let (name, risk): (_, Risk) = listed.command()?;
            let target = gateway.mcp.target(self.service.as_ref()?, name, risk)?;
            Some(sight.sees(&target, now))
        };
        View {
            tools: tools.finish(),
            prompts: may(Listed::Prompts).unwrap_or(false),
            resources: may(Listed::Resources).unwrap_or(false),
        }
    }

    /// Whether a caller may have the stream.
    fn admits(&self, caller: &Caller) -> bool {
        let service = self.service.as_ref();
        service.is_none_or(|service| self.gateway.mcp_may_connect(caller, service))
    }
}

/// What may change what an agent may list.
struct Changes {
    feed: broadcast::Receiver<Change>,
    policies: watch::Receiver<u64>,
    zones: watch::Receiver<u64>,
    services: Vec<watch::Receiver<u64>>,
}

impl Changes {
    /// Ready when something may be other than before, and every now and then: what depends
    /// on the time changes by itself.
    async fn any(&mut self, agent: AgentId) {
        /// What will never say anything again does not end the wait.
        async fn changed(receiver: &mut watch::Receiver<u64>) {
            if receiver.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
        let services = self.services.iter_mut();
        let mut services: Vec<_> = services.map(|one| changed(one).boxed()).collect();
        services.push(std::future::pending().boxed());
        tokio::select! {
            () = news_of(agent, &mut self.feed) => {}
            () = changed(&mut self.policies) => {}
            () = changed(&mut self.zones) => {}
            _ = select_all(services) => {}
            () = tokio::time::sleep(RECHECK) => {}
        }
    }
}

/// A stream that is open.
struct Listening {
    audience: Audience,
    agent: AgentId,
    seen: View,
    changes: Changes,
}

impl Listening {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let gateway = &self.audience.gateway;
            tokio::select! {
                () = self.changes.any(self.agent) => {}
                () = gateway.mcp.closing.cancelled() => return None,
            }
            let (headers, peer) = (&self.audience.headers, self.audience.peer);
            let known = self.audience.known.load_full();
            // Seldom, and large: in its own place it takes no room of a stream that waits.
            let again = gateway.authenticator.again(&known, headers, peer).boxed();
            let caller = match again.await {
                Ok(caller) if self.audience.admits(&caller) => caller,
                // Nobody can say: what is open stays so until it is known.
                Err(Refusal::Orchestrator(_)) => continue,
                Ok(_) | Err(_) => {
                    let service = self.audience.service.as_ref();
                    let service = service.map(|service| service.service().name.to_string());
                    tracing::info!(agent.id = %self.agent, service, "a stream is closed: the agent may not have it any more");
                    return None;
                }
            };
            let now = self.audience.view(&caller);
            self.audience.known.store(Arc::new(caller));
            let said = self.seen.changes(now, &self.audience.telling);
            self.seen = now;
            if !said.is_empty() {
                return Some(said.into());
            }
        }
    }
}

/// Looks at what a server says on a stream that stays open: what the agent may not see is
/// taken out, and what concerns the gateway too is taken note of.
pub(super) fn look(visit: Arc<Visit>, known: Known, era: Era, telling: Telling) -> Look {
    Box::new(move |event| {
        let Some(data) = sse::data(event) else {
            return Event::Same;
        };
        let mut sight = AgentSight::new(&visit, &known.load());
        let Some((method, params)) = told(&data) else {
            return listed_in(sight, (event, &data), &Listed::ALL, era);
        };
        let mut seen = |listed: Listed| {
            // Whatever it is called: prompts and resources are seen together, or not at all.
            if sight.sees(listed, "") {
                Event::Same
            } else {
                Event::Gone
            }
        };
        match method.as_str() {
            "notifications/tools/list_changed" => {
                visit.service.refresh_soon();
                Event::Same
            }
            "notifications/prompts/list_changed" => seen(Listed::Prompts),
            "notifications/resources/list_changed" | "notifications/resources/updated" => {
                seen(Listed::Resources)
            }
            ACKNOWLEDGED => {
                if let Telling::Agreed(_, agreed) = &telling {
                    let notifications = params.and_then(|params| {
                        Some(Wanted::read(
                            jsonrpc::members(&params).ok()?.raw("notifications"),
                        ))
                    });
                    let _ = agreed.set(notifications.unwrap_or(Wanted::read(None)));
                }
                Event::Same
            }
            _ => Event::Same,
        }
    })
}

/// The method of a notification, and its `params`.
fn told(data: &[u8]) -> Option<(String, Option<String>)> {
    let members: Members<'_> = jsonrpc::members(jsonrpc::utf8(data).ok()?).ok()?;
    if members.raw("id").is_some() {
        return None;
    }
    let method = jsonrpc::string(members.raw("method")?)?.into_owned();
    Some((method, members.raw("params").map(ToOwned::to_owned)))
}

/// A stream on which only news are said, after what is said first.
pub(super) fn alone(first: Option<Bytes>, audience: Audience, place: OwnedSemaphorePermit) -> Body {
    let said = stream::iter(first).chain(audience.news());
    let frames = said.map(move |said| {
        // Held for as long as the stream is.
        let _ = &place;
        Ok::<_, BoxError>(Frame::data(said))
    });
    Body::streamed(StreamBody::new(Box::pin(frames)))
}
