//! The data plane: authenticate, parse, authorize, carry out, record.
//!
//! A request comes in through `server.rs` and passes the stack in `service.rs`, which
//! makes it an [`AgentRequest`]. `parse.rs` reads its body into a command, and
//! [`Gateway::journey`] takes that to its handler, or refuses it. `facts.rs`, `policy.rs`
//! and `follow.rs` keep what decisions rest on; `journal.rs` keeps what came of them.
//! `zones.rs` adds the zones that people put commands into; `last_known_good.rs` keeps
//! policy set and zones over restarts; `shadow.rs` compares with a policy set that is not
//! enforced.

mod answer;
mod authenticate;
mod authorize;
mod config;
mod facts;
mod follow;
mod health;
pub mod journal;
mod last_known_good;
mod limits;
mod listing;
mod mcp;
mod metrics;
mod oauth;
mod openapi;
mod parse;
mod policy;
mod refusal;
mod reported;
mod reviews;
mod routes;
mod server;
mod service;
mod sessions;
mod shadow;
mod sight;
mod status;
mod upload;
mod waiting;
mod zones;

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    sync::{Arc, atomic::AtomicI64},
    time::{Duration, Instant},
};

use authz::{Clock, Command, CommandKey, DecisionId, Permit};
use bytes::Bytes;
use contract::approvals::ApprovalStatus;
use handlers::{Answer, Catalog, HandlerError, Parsed};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use serde_json::{Map, Value, json};
use tokio::sync::{Semaphore, broadcast};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::{BoxError, service_fn, util::BoxCloneSyncService};
use tracing::Instrument;

pub use config::{Config, LimitsControl, StartError};
pub use mcp::Settings as McpSettings;
pub use oauth::OAuthSettings;
pub use openapi::openapi;

use crate::{
    answer::Body,
    authenticate::{AgentRequest, Authenticator, Caller, Peer},
    authorize::{Authorizer, Case},
    facts::{FactsCache, Monotonic},
    follow::{Connected, Follower},
    journal::{Journal, RefusalRecord, Subject},
    last_known_good::LastKnownGood,
    limits::{Charge, Limits},
    listing::Listing,
    metrics::Metrics,
    parse::{Asked, Question},
    policy::Policies,
    refusal::Refusal,
    reviews::Reviews,
    routes::Route,
    service::{RequestId, millis},
    sessions::Sessions,
    sight::Sight,
    upload::Unread,
    waiting::Patience,
    zones::Zones,
};

/// A gateway that is up.
#[derive(Debug)]
pub struct Running {
    /// Where agents connect.
    pub address: SocketAddr,
    /// Where Prometheus reads.
    pub metrics: SocketAddr,
    /// Ends when the gateway has: after the shutdown token, when what was under way is
    /// done and the journal is written.
    pub finished: tokio::task::JoinHandle<()>,
    /// Puts other limits in force.
    pub limits: LimitsControl,
}

/// Starts a gateway. It answers at once; until it has a policy set it refuses every
/// command with 503, and `/ready` says why.
///
/// # Errors
///
/// See [`StartError`].
pub async fn start(
    config: Config,
    orchestrator: contract::Client,
    catalog: Arc<Catalog>,
    clock: Clock,
    shutdown: CancellationToken,
) -> Result<Running, StartError> {
    config.check()?;
    let listener = server::listen(config.listen).await?;
    let metrics_listener = server::listen(config.metrics).await?;
    let local = |listener: &tokio::net::TcpListener, address| {
        listener
            .local_addr()
            .map_err(|source| StartError::Listen { address, source })
    };
    let address = local(&listener, config.listen)?;
    let metrics_address = local(&metrics_listener, config.metrics)?;

    let (gateway, background) =
        Gateway::open(config, orchestrator, catalog, clock, Monotonic::system())?;
    let drain = gateway.config.deadline + DRAIN_EXTRA;
    let stack = service::stack::<Incoming>(&gateway);
    let metrics_stack = metrics_stack(Arc::clone(&gateway));
    let limits = LimitsControl(Arc::clone(&gateway.limits));
    tracing::info!(%address, metrics = %metrics_address, gateway = gateway.config.name, "gateway listening");

    let (ending, closing) = (shutdown.clone(), gateway.mcp.closing.clone());
    tokio::spawn(async move {
        ending.cancelled().await;
        closing.cancel();
    });
    let finished = tokio::spawn(async move {
        let metrics_server = server::serve(
            metrics_listener,
            metrics_stack,
            shutdown.clone(),
            Duration::from_secs(1),
        );
        tokio::join!(
            server::serve(listener, stack, shutdown, drain),
            metrics_server
        );
        background.end(&gateway).await;
        tracing::info!("gateway ended");
    });
    Ok(Running {
        address,
        metrics: metrics_address,
        finished,
        limits,
    })
}

/// What is under way at shutdown may take so much longer than one request's deadline.
const DRAIN_EXTRA: Duration = Duration::from_secs(5);

/// At shutdown, the journal is sent on for at most so long; the rest is sent at the next start.
const SHIP_AT_END: Duration = Duration::from_secs(3);

/// One in so many requests under way may be waiting for people; the next are answered at once.
const WAITING_PART: usize = 4;

/// Everything that answering a request needs.
#[derive(Debug)]
pub(crate) struct Gateway {
    config: Config,
    catalog: Arc<Catalog>,
    clock: Clock,
    orchestrator: contract::Client,
    metrics: Arc<Metrics>,
    policies: Arc<Policies>,
    zones: Arc<Zones>,
    authenticator: Arc<Authenticator>,
    authorizer: Authorizer,
    sessions: Arc<Sessions>,
    limits: Arc<Limits>,
    budgets: limits::Reporter,
    journal: Journal,
    connected: Arc<Connected>,
    changes: broadcast::Sender<contract::feed::Change>,
    /// Places for commands under way: those whose client hung up count as well.
    places: Arc<Semaphore>,
    /// Places for those who wait for people, so that they leave room for commands.
    waits: Arc<Semaphore>,
    mcp: mcp::Door,
    under_way: TaskTracker,
    started: Instant,
}

/// What runs beside the requests.
struct Background {
    stop: CancellationToken,
    stop_shipping: CancellationToken,
    follower: tokio::task::JoinHandle<()>,
    learning: tokio::task::JoinHandle<()>,
    shipper: tokio::task::JoinHandle<()>,
    budgets: tokio::task::JoinHandle<()>,
    writer: journal::WriterThread,
}

impl Background {
    /// Ends everything, the journal last.
    async fn end(self, gateway: &Gateway) {
        gateway.under_way.close();
        if tokio::time::timeout(gateway.config.deadline, gateway.under_way.wait())
            .await
            .is_err()
        {
            tracing::warn!(
                "commands are still under way; the journal will hold no outcome of theirs"
            );
        }
        self.stop.cancel();
        gateway.journal.close(self.writer).await;
        self.stop_shipping.cancel();
        let mut shipper = self.shipper;
        if tokio::time::timeout(SHIP_AT_END, &mut shipper)
            .await
            .is_err()
        {
            shipper.abort();
        }
        let mut budgets = self.budgets;
        if tokio::time::timeout(SHIP_AT_END, &mut budgets)
            .await
            .is_err()
        {
            budgets.abort();
        }
        let _ = tokio::join!(self.follower, self.learning);
    }
}

impl Gateway {
    fn open(
        config: Config,
        orchestrator: contract::Client,
        catalog: Arc<Catalog>,
        clock: Clock,
        monotonic: Monotonic,
    ) -> Result<(Arc<Self>, Background), StartError> {
        let metrics = measured(&catalog, &clock)?;
        let (journal, writer) = Journal::start(
            &config.journal,
            config.journal_file_bytes,
            &config.name,
            clock.clone(),
            Arc::clone(&metrics),
        )
        .map_err(|source| unwritable(&config, source))?;

        let sessions = remembered(&config, &clock, &monotonic);
        let clocks = (monotonic.clone(), clock.clone());
        let limits = limited(&config, &catalog, clocks, &metrics)?;
        let budgets = limits::Reporter::new(&limits, &orchestrator, journal.gateway());
        let facts = Arc::new(FactsCache::new(
            orchestrator.clone(),
            config.max_staleness,
            monotonic,
            Arc::clone(&metrics),
        ));
        let policies = Arc::new(Policies::new(
            LastKnownGood::new(config.last_known_good.clone()),
            clock.clone(),
            Arc::clone(&metrics),
        ));
        let zones = Arc::new(Zones::new(LastKnownGood::new(
            config.last_known_zones.clone(),
        )));
        let connected = Arc::new(Connected::default());
        let (changes, _) = broadcast::channel(256);
        let (stop, stop_shipping) = (CancellationToken::new(), CancellationToken::new());
        let follower = Follower {
            orchestrator: orchestrator.clone(),
            facts: Arc::clone(&facts),
            policies: Arc::clone(&policies),
            zones: Arc::clone(&zones),
            gateway: journal.gateway().to_owned(),
            catalog: Arc::clone(&catalog),
            reviews: Reviews::new(
                Arc::clone(&catalog),
                config.last_known_good.with_file_name("tool-reviews.json"),
            ),
            metrics: Arc::clone(&metrics),
            connected: Arc::clone(&connected),
            changes: changes.clone(),
            clock: clock.clone(),
        };
        let background = Background {
            learning: learn(&catalog, &stop),
            budgets: tokio::spawn(budgets.clone().run(stop.clone())),
            follower: tokio::spawn(follower.run(stop.clone())),
            shipper: journal.ship(
                orchestrator.clone(),
                Arc::clone(&metrics),
                stop_shipping.clone(),
            ),
            stop,
            stop_shipping,
            writer,
        };
        let authenticator = Authenticator::new(
            orchestrator.clone(),
            Arc::clone(&facts),
            clock.clone(),
            &config,
        )?;
        let authorizer = Authorizer {
            orchestrator: orchestrator.clone(),
            facts,
            policies: Arc::clone(&policies),
            zones: Arc::clone(&zones),
            metrics: Arc::clone(&metrics),
            sessions: Arc::clone(&sessions),
            limits: Arc::clone(&limits),
            clock: clock.clone(),
            latest: AtomicI64::new(0),
            approvals_url: config.approvals_url.clone(),
        };
        let gateway = Self {
            places: places(config.max_concurrent),
            waits: places(config.max_concurrent.div_ceil(WAITING_PART)),
            mcp: mcp::Door::new(&config.mcp),
            config,
            catalog,
            clock,
            orchestrator,
            metrics,
            policies,
            zones,
            authenticator: Arc::new(authenticator),
            authorizer,
            sessions,
            limits,
            budgets,
            journal,
            connected,
            changes,
            under_way: TaskTracker::new(),
            started: Instant::now(),
        };
        Ok((Arc::new(gateway), background))
    }

    /// Answers a request whose sender is known.
    async fn answer<B>(self: Arc<Self>, request: AgentRequest<B>) -> Result<Response<Body>, Refusal>
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin,
        B::Error: Into<BoxError>,
    {
        let AgentRequest { mut caller, http } = request;
        let route = Route::find(http.method(), http.uri().path()).map_err(|_| Refusal::Internal)?;
        if !matches!(route, Route::Execute | Route::Rpc | Route::Test(_)) {
            self.admits(&caller)?;
        }
        let (asked, headers, peer) = match route {
            Route::Catalog => {
                let catalog = self.listing(&caller)?.catalog();
                return Ok(answer::json(StatusCode::OK, &catalog));
            }
            Route::Service(name) => {
                let listing = self.listing(&caller)?;
                let service = listing
                    .service(&name)
                    .ok_or_else(|| unknown_service(&listing, &name))?;
                return Ok(answer::json(StatusCode::OK, &service));
            }
            Route::Approvals => return self.approvals(&caller).await,
            Route::Approval(id) => return self.approval(&caller, &id, http.headers()).await,
            Route::Withdraw(id) => return self.withdraw(&caller, &id).await,
            Route::Test(name) => return self.test(caller, &name).await,
            Route::Execute | Route::Rpc => {
                let id = http.extensions().get::<RequestId>().cloned();
                let peer = http.extensions().get::<Peer>().copied();
                let peer = peer.ok_or(Refusal::Internal)?;
                let (headers, body) = service::read_body(http, self.config.max_body_bytes).await?;
                parse::media_type(&headers)?;
                caller = self.authenticator.still(caller, &headers, peer).await?;
                let asked = match route {
                    Route::Rpc => parse::rpc(&self.catalog, &body),
                    _ => parse::execute(&self.catalog, &body),
                };
                // An id that was not given is the request's own.
                let asked = Asked {
                    id: asked.id.or_else(|| id.map(|id| Value::from(&*id.0))),
                    ..asked
                };
                (asked, headers, peer)
            }
            Route::Health
            | Route::Ready
            | Route::Info
            | Route::OpenApi
            | Route::Upload
            | Route::Metadata(_)
            | Route::Mcp(_)
            | Route::McpAll => {
                return Err(Refusal::Internal);
            }
        };
        let id = asked.id.unwrap_or_default();
        let mut patience = None;
        let result = match asked.question {
            Ok(Question::Execute {
                parsed: Parsed::Command(command),
                reason,
            }) => {
                patience = self.patience(&headers);
                let again = (patience.as_ref(), &headers, peer);
                let nothing = Unread::default();
                self.execute(caller.clone(), command, reason, nothing, again)
                    .await
            }
            Ok(question) => self
                .admits(&caller)
                .and_then(|()| self.question(&caller, question)),
            Err(refusal) => {
                self.admits(&caller)?;
                tracing::info!(agent.id = %caller.held.principal.agent().id, reason = %refusal, "not a command");
                Err(refusal)
            }
        };
        let mut response = match result {
            Ok(result) => answer::json(
                StatusCode::OK,
                &json!({"jsonrpc": "2.0", "result": result, "id": id}),
            ),
            Err(refusal) => refusal.into_response(&id),
        };
        if let Some(patience) = patience {
            patience.applied(&mut response);
        }
        if let Some(standing) = self.limits.standing(caller.held.principal.agent()) {
            standing.put_headers(response.headers_mut());
        }
        Ok(response)
    }

    /// Takes a request that is no command from the agent's rate.
    fn admits(&self, caller: &Caller) -> Result<(), Refusal> {
        let admitted = self.limits.admit(caller.held.principal.agent(), None);
        admitted.map_err(Refusal::Limited)
    }

    /// Has a command carried out. A refusal that people have been asked to lift is waited
    /// for as long as `patience` lasts; once they have, the command is decided again.
    ///
    /// The waiting is not part of the command's own task: a client that hangs up while it
    /// waits has asked for nothing any more.
    async fn execute(
        self: &Arc<Self>,
        mut caller: Caller,
        command: Command,
        reason: String,
        content: Unread,
        (patience, headers, peer): (Option<&Patience>, &http::HeaderMap, Peer),
    ) -> Result<Value, Refusal> {
        let began = Instant::now();
        let key = command.target.key.clone();
        let database = self.catalog.database(&command);
        // Before the first look, so that no change falls between the two.
        let mut changes = self.changes.subscribe();
        loop {
            let tried = self
                .carry_out_with(
                    caller.clone(),
                    command.clone(),
                    reason.clone(),
                    content.clone(),
                )
                .await;
            let mut denied = match tried {
                Ok((decision, answer)) => {
                    return Ok(self.success(&key, decision, &answer, database, began.elapsed()));
                }
                Err(Refusal::Denied(denied)) => denied,
                Err(refusal) => return Err(refusal),
            };
            let (Some(patience), Some(pending)) = (patience, denied.pending()) else {
                return Err(Refusal::Denied(denied));
            };
            let agent = caller.held.principal.agent().id;
            let approval = self
                .decided(agent, pending, Some(patience), &mut changes)
                .await;
            match approval {
                Ok(approval) if approval.status == ApprovalStatus::Approved => {}
                Ok(approval) => {
                    denied.update(approval, self.clock.now());
                    return Err(Refusal::Denied(denied));
                }
                // What was said before is still the best that can be said.
                Err(_) => return Err(Refusal::Denied(denied)),
            }
            // The credential may be gone by now, and the grant is there.
            caller = self.caller_now(&caller, headers, peer).await?;
        }
    }

    /// What an agent is told of a command that was carried out.
    fn success(
        &self,
        key: &CommandKey,
        decision: DecisionId,
        answer: &Answer,
        database: Option<String>,
        took: Duration,
    ) -> Value {
        let tokens = answer::tokens(&answer.data);
        let mut metadata = json!({
            "executionTime": millis(took),
            "tokensUsed": tokens,
            "cost": answer::cost(tokens),
            "estimated": ["tokensUsed", "cost"],
            "service": key.service,
            "operation": key.name,
            "timestamp": self.clock.now(),
            "decision_id": decision,
        });
        if answer.untrusted {
            answer::put(&mut metadata, "untrusted", true);
        }
        if let Some(database) = database {
            answer::put(&mut metadata, "database", database);
        }
        json!({"status": "success", "data": answer.data, "metadata": metadata})
    }

    fn question(&self, caller: &Caller, question: Question) -> Result<Value, Refusal> {
        let success = |data: Value| json!({"status": "success", "data": data});
        match question {
            Question::ListServices => Ok(success(self.listing(caller)?.summaries())),
            Question::Statistics => Ok(success(self.listing(caller)?.statistics())),
            Question::Capabilities { service } => {
                let listing = self.listing(caller)?;
                let capabilities = listing.capabilities(&service);
                capabilities
                    .map(success)
                    .ok_or_else(|| unknown_service(&listing, &service))
            }
            Question::Execute {
                parsed: Parsed::Help { service },
                ..
            } => {
                let listing = self.listing(caller)?;
                let help = listing.help(service.as_str());
                help.map(success)
                    .ok_or_else(|| unknown_service(&listing, service.as_str()))
            }
            Question::Execute {
                parsed: Parsed::Command(_),
                ..
            } => Err(Refusal::Internal),
        }
    }

    fn listing(&self, caller: &Caller) -> Result<Listing<'_>, Refusal> {
        Ok(Listing {
            catalog: &self.catalog,
            sight: self.sight(caller)?,
            now: self.clock.now(),
        })
    }

    /// What a caller may see.
    fn sight(&self, caller: &Caller) -> Result<Arc<Sight>, Refusal> {
        let policies = self.policies.current().ok_or(Refusal::NoPolicySet)?;
        let zones = self.zones.current().ok_or(Refusal::NoZones)?;
        Ok(self
            .mcp
            .sights
            .of(&policies, &zones, &caller.held.principal))
    }

    /// Takes a command on its journey in a task of its own: a client that hangs up does
    /// not leave it half done, or its outcome unrecorded. What only reads and can be called
    /// off is called off then, and recorded as such.
    async fn carry_out(
        self: &Arc<Self>,
        caller: Caller,
        command: Command,
        reason: String,
    ) -> Result<(DecisionId, Answer), Refusal> {
        self.carry_out_with(caller, command, reason, Unread::default())
            .await
    }

    /// As [`Gateway::carry_out`], of a command that comes with content. None of it is read
    /// before the command is permitted and recorded.
    async fn carry_out_with(
        self: &Arc<Self>,
        caller: Caller,
        command: Command,
        reason: String,
        content: Unread,
    ) -> Result<(DecisionId, Answer), Refusal> {
        let place = Arc::clone(&self.places)
            .try_acquire_owned()
            .map_err(|_| Refusal::Overloaded)?;
        let gateway = Arc::clone(self);
        let left = CancellationToken::new();
        // Dropped with the client's request.
        let _waiting = left.clone().drop_guard();
        let journey = async move {
            let outcome = gateway
                .journey(&caller, command, &reason, content, &left)
                .await;
            drop(place);
            outcome
        };
        let task = self
            .under_way
            .spawn(journey.instrument(tracing::Span::current()));
        task.await.unwrap_or_else(|error| {
            tracing::error!(%error, "a command ended in a panic");
            Err(Refusal::Lost)
        })
    }

    /// Takes one command from an agent to its handler, or refuses it; records which.
    async fn journey(
        &self,
        caller: &Caller,
        command: Command,
        reason: &str,
        content: Unread,
        left: &CancellationToken,
    ) -> Result<(DecisionId, Answer), Refusal> {
        let began = Instant::now();
        let ends_with_client = self.catalog.ends_with_client(&command);
        let (subject, decided) = self.begin(caller, command, reason).await;
        let outcome = match decided {
            Ok((permit, entry, mut charge)) => {
                let sent = Instant::now();
                charge.leave();
                let outcome = tokio::select! {
                    outcome = self.catalog.handle_with(permit, content.take()) => outcome,
                    () = left.cancelled(), if ends_with_client => Err(HandlerError::Failed {
                        service: subject.command.service.to_string(),
                        message: "it was called off, as the client hung up".to_owned(),
                    }),
                };
                if let Ok(answer) = &outcome
                    && charge.counts_bytes()
                {
                    charge.saw(answer::bytes(&answer.data));
                }
                charge.settle(&outcome);
                drop(charge);
                self.metrics
                    .carried_out(&subject.command, outcome.is_ok(), sent.elapsed());
                close(entry, &outcome);
                outcome.map_err(Refusal::Handler)
            }
            Err(refusal) => Err(refusal),
        };
        log(&subject, caller.ip, &outcome, began.elapsed());
        outcome.map(|answer| (subject.decision, answer))
    }

    /// Decides a command, by whichever door it came, and records that it is about to leave,
    /// or that it is refused. What it takes of limits is taken here, and given back unless
    /// it leaves.
    async fn begin(
        &self,
        caller: &Caller,
        command: Command,
        reason: &str,
    ) -> (Subject, Result<(Permit, journal::Entry, Charge), Refusal>) {
        let agent = caller.held.principal.agent();
        let subject = Subject {
            decision: DecisionId::generate(self.clock.now()),
            agent: agent.id,
            agent_name: agent.name.clone(),
            command: command.target.key.clone(),
        };
        let arguments = self.catalog.redacted(&command);
        let digest = command.arguments.digest().clone();
        let untrusted = self.catalog.is_untrusted(&subject.command);
        let record = journal::Sent::new(&command, arguments.clone()).with_untrusted(untrusted);
        let limited = match self.limits.admit(agent, Some(&subject.command)) {
            Ok(()) => self.budgets.ready().await.map_err(|error| {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "what is used of budgets cannot be had"
                );
                Refusal::Orchestrator(Arc::new(error))
            }),
            Err(limited) => Err(Refusal::Limited(limited)),
        };
        if let Err(refusal) = limited {
            let refused = self.record_refusal(&subject, record, refusal).await;
            return (subject, refused);
        }
        let case = Case {
            decision: subject.decision,
            caller,
            command,
            arguments: &arguments,
            reason,
        };
        let deciding = Instant::now();
        let (authorized, witness) = self.authorizer.authorize(case).await;
        let record = record
            .with_decision_time(deciding.elapsed())
            .with_basis(
                &witness.principal.basis(&subject.command, &digest),
                caller.ip,
            )
            .with_identity(&caller.identity)
            .with_session(&witness.session)
            .with_shadow(witness.difference);
        let begun = match authorized {
            Ok((permit, mut charge)) => {
                match self.journal.open(subject.clone(), &permit, record).await {
                    Ok(entry) => {
                        if charge.counts_bytes() {
                            charge.saw(answer::bytes(permit.command().arguments.values()));
                        }
                        // Before anything of the answer can reach the agent.
                        if untrusted {
                            self.sessions.taint(subject.agent);
                        }
                        Ok((permit, entry, charge))
                    }
                    Err(_) => Err(Refusal::Journal),
                }
            }
            Err(refusal) => self.record_refusal(&subject, record, refusal).await,
        };
        (subject, begun)
    }

    async fn record_refusal<T>(
        &self,
        subject: &Subject,
        mut sent: journal::Sent,
        mut refusal: Refusal,
    ) -> Result<T, Refusal> {
        if let Refusal::Limited(limited) = &mut refusal {
            // A flood must not fill the disk: some stand for the rest.
            let Some(before) = self.limits.recorded(subject.agent) else {
                return Err(refusal);
            };
            limited.recorded = true;
            sent = sent.with_unrecorded(before);
        }
        let record = match &refusal {
            Refusal::Denied(denied) => {
                self.metrics.denied(&subject.command, denied.outcome());
                RefusalRecord {
                    reason: denied.reason(),
                    outcome: denied.outcome(),
                    policies: &denied.policies,
                    permitted_by_approval: &denied.permitted_by_approval,
                    policy_set: Some(&denied.policy_set),
                    approval: denied.approval(),
                }
            }
            other => RefusalRecord {
                reason: other.kind(),
                outcome: "refused",
                policies: &[],
                permitted_by_approval: &[],
                policy_set: None,
                approval: None,
            },
        };
        match self.journal.refuse(subject, sent, record).await {
            Ok(()) => Err(refusal),
            Err(_) => Err(Refusal::Journal),
        }
    }

    /// `POST /mcp/test/{service}`: the service's `health` command, under policy.
    async fn test(self: &Arc<Self>, caller: Caller, name: &str) -> Result<Response<Body>, Refusal> {
        let parsed = self
            .catalog
            .command(name, "health", Value::Object(Map::new()))
            .map_err(Refusal::Command)?;
        let Parsed::Command(command) = parsed else {
            return Err(Refusal::Internal);
        };
        let service = command.target.key.service.clone();
        let (_, answer) = self.carry_out(caller, command, String::new()).await?;
        let body = json!({"service": service, "status": "success", "result": answer.data, "timestamp": self.clock.now()});
        Ok(answer::json(StatusCode::OK, &body))
    }
}

/// The one log line of a command.
fn log<T>(subject: &Subject, ip: IpAddr, outcome: &Result<T, Refusal>, took: Duration) {
    let duration_ms = millis(took);
    let Subject {
        decision: id,
        agent,
        agent_name,
        command,
    } = subject;
    match outcome {
        Ok(_) => {
            tracing::info!(agent.id = %agent, agent.name = %agent_name, %command, decision = "permit", decision.id = %id, %ip, duration_ms, "command carried out");
        }
        Err(Refusal::Denied(denied)) => {
            let approval = denied.approval().map(|id| id.to_string());
            tracing::info!(agent.id = %agent, agent.name = %agent_name, %command, decision = denied.outcome(), decision.id = %id, %ip, policies = ?denied.policies, approval, duration_ms, "permission denied");
        }
        Err(Refusal::Limited(limited)) if !limited.recorded => {
            tracing::debug!(agent.id = %agent, %command, decision.id = %id, error = %limited.of, "limited");
        }
        Err(Refusal::Handler(error)) => {
            tracing::warn!(agent.id = %agent, agent.name = %agent_name, %command, decision = "permit", decision.id = %id, %ip, %error, duration_ms, "command failed");
        }
        Err(refusal) => {
            tracing::warn!(agent.id = %agent, agent.name = %agent_name, %command, decision = "refused", decision.id = %id, %ip, error = %refusal, duration_ms, "command not carried out");
        }
    }
}

fn close<T>(entry: journal::Entry, outcome: &Result<T, HandlerError>) {
    match outcome {
        Ok(_) => entry.close("success", None),
        // Whether it was carried out is not known, and the record does not pretend.
        Err(error @ (HandlerError::Timeout { .. } | HandlerError::Broken { .. })) => {
            entry.close("unknown", Some(&error.to_string()));
        }
        Err(error) => entry.close("error", Some(&error.to_string())),
    }
}

/// The metrics, with a series for each service.
fn measured(catalog: &Catalog, clock: &Clock) -> Result<Arc<Metrics>, StartError> {
    let services = catalog.services();
    let names: Vec<_> = services
        .iter()
        .map(|service| service.name.as_str())
        .collect();
    let metrics = Metrics::new(&names).map_err(|error| StartError::Config(error.to_string()))?;
    metrics.started(clock.now());
    Ok(Arc::new(metrics))
}

/// The limits, if they are of what there is.
fn limited(
    config: &Config,
    catalog: &Arc<Catalog>,
    clocks: (Monotonic, Clock),
    metrics: &Arc<Metrics>,
) -> Result<Arc<Limits>, StartError> {
    Limits::new(
        &config.limits,
        Arc::clone(catalog),
        clocks,
        Arc::clone(metrics),
    )
    .map(Arc::new)
    .map_err(StartError::Config)
}

fn unwritable(config: &Config, source: std::io::Error) -> StartError {
    StartError::Journal {
        path: config.journal.clone(),
        source,
    }
}

fn places(count: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(count))
}

/// Learns what MCP servers offer, until told to stop.
fn learn(catalog: &Arc<Catalog>, stop: &CancellationToken) -> tokio::task::JoinHandle<()> {
    let (catalog, stop) = (Arc::clone(catalog), stop.clone());
    tokio::spawn(async move {
        tokio::select! {
            () = catalog.keep() => {}
            () = stop.cancelled() => {}
        }
    })
}

/// The sessions that were tainted before this gateway was started anew.
fn remembered(config: &Config, clock: &Clock, monotonic: &Monotonic) -> Arc<Sessions> {
    let sessions = Sessions::new(config.session_idle, monotonic.clone());
    // What an answer that was long on its way tainted began before.
    let tainted_since = config.session_idle.saturating_add(config.deadline);
    sessions.remember(journal::tainted(
        &config.journal,
        clock.now().minus(tainted_since),
    ));
    Arc::new(sessions)
}

fn unknown_service(listing: &Listing<'_>, name: &str) -> Refusal {
    let name = name
        .chars()
        .take(64)
        .flat_map(char::escape_default)
        .collect();
    Refusal::Command(handlers::CommandError::UnknownService {
        name,
        nearest: None,
        available: listing.names(),
    })
}

/// What listens on the port of the metrics: `GET /metrics` and nothing else.
fn metrics_stack(
    gateway: Arc<Gateway>,
) -> BoxCloneSyncService<Request<Incoming>, Response<Body>, Infallible> {
    BoxCloneSyncService::new(service_fn(move |request: Request<Incoming>| {
        let gateway = Arc::clone(&gateway);
        async move {
            let plain = |status, body: Vec<u8>| {
                let mut response = Response::new(Body::new(body.into()));
                *response.status_mut() = status;
                let text = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
                response.headers_mut().insert(header::CONTENT_TYPE, text);
                response
            };
            Ok(match (request.method(), request.uri().path()) {
                (&Method::GET | &Method::HEAD, "/metrics") => match gateway.metrics_text() {
                    Ok(text) => plain(StatusCode::OK, text),
                    Err(error) => {
                        tracing::error!(%error, "the metrics cannot be written");
                        plain(StatusCode::INTERNAL_SERVER_ERROR, Vec::new())
                    }
                },
                _ => plain(StatusCode::NOT_FOUND, b"Not found\n".to_vec()),
            })
        }
    }))
}

#[cfg(test)]
mod tests;
