//! What is known of agents, for as long as it may be believed.
//!
//! Facts are believed until the feed names their agent, and never longer than
//! `max_staleness` after the question was *asked*. Two rules make a revocation certain: a
//! fetch that began before an invalidation is not believed after it, and a request that
//! needs facts from after its own arrival does not join a fetch that began earlier.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use authz::{AgentId, AgentName, AgentRef, Principal};
use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use moka::future::Cache;

use crate::metrics::{FactsSource, Metrics};

/// So many agents are kept in memory.
const MAX_AGENTS: u64 = 100_000;

/// A clock that only goes forward: nobody gains time by setting the other one back.
#[derive(Clone)]
pub(crate) struct Monotonic(Arc<dyn Fn() -> Duration + Send + Sync>);

impl Monotonic {
    /// The machine's own.
    pub(crate) fn system() -> Self {
        let start = Instant::now();
        Self::new(move || start.elapsed())
    }

    pub(crate) fn new(now: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// How long since some fixed moment.
    pub(crate) fn now(&self) -> Duration {
        (self.0)()
    }
}

impl std::fmt::Debug for Monotonic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Monotonic")
    }
}

/// Facts, and since when they are known.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) principal: Arc<Principal>,
    /// When the question was asked.
    asked: Duration,
    seen: Generation,
}

impl Held {
    /// Whether the facts were asked for at `moment` or later.
    pub(crate) fn asked_since(&self, moment: Duration) -> bool {
        self.asked >= moment
    }
}

/// Why there are no facts.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum FactsError {
    /// No such agent.
    #[error("no such agent")]
    Unknown,
    /// The orchestrator gave no answer.
    #[error(transparent)]
    Orchestrator(#[from] Arc<contract::Error>),
}

/// How often something was invalidated. Equal before and after: nothing was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Generation {
    all: u64,
    agent: u64,
}

/// Agents share counters: a collision drops facts that need not be, and nothing else.
const COUNTERS: usize = 1_024;

/// Counts invalidations.
#[derive(Debug)]
pub(crate) struct Generations {
    all: AtomicU64,
    agents: Vec<AtomicU64>,
    hasher: RandomState,
}

impl Generations {
    pub(crate) fn new() -> Self {
        Self {
            all: AtomicU64::new(0),
            agents: (0..COUNTERS).map(|_| AtomicU64::new(0)).collect(),
            hasher: RandomState::new(),
        }
    }

    /// What `agent` is at now.
    pub(crate) fn of(&self, agent: AgentId) -> Generation {
        Generation {
            all: self.all.load(Ordering::Acquire),
            agent: self.counter(agent).load(Ordering::Acquire),
        }
    }

    fn counter(&self, agent: AgentId) -> &AtomicU64 {
        let at = usize::try_from(self.hasher.hash_one(agent) % COUNTERS as u64).unwrap_or(0);
        self.agents.get(at).unwrap_or(&self.all)
    }

    fn invalidate(&self, agent: AgentId) {
        self.counter(agent).fetch_add(1, Ordering::AcqRel);
    }

    fn invalidate_all(&self) {
        self.all.fetch_add(1, Ordering::AcqRel);
    }

    /// Changes with every invalidation, of any agent.
    pub(crate) fn total(&self) -> u64 {
        let agents = self
            .agents
            .iter()
            .map(|counter| counter.load(Ordering::Acquire));
        agents.fold(self.all.load(Ordering::Acquire), u64::wrapping_add)
    }
}

type Fetch = Shared<BoxFuture<'static, Result<Fetched, FactsError>>>;

#[derive(Clone, Debug)]
struct Fetched {
    principal: Arc<Principal>,
    asked: Duration,
    total: u64,
}

/// A fetch that is under way.
#[derive(Clone)]
struct Flight {
    asked: Duration,
    total: u64,
    fetch: Fetch,
}

/// The facts of every agent that was active lately.
pub(crate) struct FactsCache {
    orchestrator: contract::Client,
    max_staleness: Duration,
    clock: Monotonic,
    metrics: Arc<Metrics>,
    generations: Arc<Generations>,
    agents: Cache<AgentId, Held>,
    /// Names are never given to another agent, so this needs no invalidation; the name
    /// is compared with the facts all the same.
    names: Cache<AgentName, AgentId>,
    flights: Arc<Mutex<HashMap<AgentRef, Flight>>>,
}

impl std::fmt::Debug for FactsCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FactsCache")
            .field("max_staleness", &self.max_staleness)
            .finish_non_exhaustive()
    }
}

impl FactsCache {
    pub(crate) fn new(
        orchestrator: contract::Client,
        max_staleness: Duration,
        clock: Monotonic,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            orchestrator,
            max_staleness,
            clock,
            metrics,
            generations: Arc::new(Generations::new()),
            agents: Cache::new(MAX_AGENTS),
            names: Cache::new(MAX_AGENTS),
            flights: Arc::default(),
        }
    }

    /// The clock by which facts age.
    pub(crate) fn clock(&self) -> &Monotonic {
        &self.clock
    }

    /// What counts invalidations, for other caches about agents.
    pub(crate) fn generations(&self) -> &Arc<Generations> {
        &self.generations
    }

    /// Facts that may be relied on: from memory if they are fresh enough.
    ///
    /// # Errors
    ///
    /// See [`FactsError`].
    pub(crate) async fn get(&self, agent: &AgentRef) -> Result<Held, FactsError> {
        let oldest = self.clock.now().saturating_sub(self.max_staleness);
        self.get_since(agent, oldest, self.max_staleness.is_zero())
            .await
    }

    /// Facts asked for at `moment` or later.
    ///
    /// # Errors
    ///
    /// See [`FactsError`].
    pub(crate) async fn fresh(&self, agent: AgentId, moment: Duration) -> Result<Held, FactsError> {
        self.get_since(&AgentRef::Id(agent), moment, false).await
    }

    /// Whether nothing was invalidated since these facts were asked for.
    pub(crate) fn unchanged(&self, held: &Held) -> bool {
        held.seen == self.generations.of(held.principal.agent().id)
    }

    async fn get_since(
        &self,
        agent: &AgentRef,
        oldest: Duration,
        always_ask: bool,
    ) -> Result<Held, FactsError> {
        if !always_ask
            && let Some(held) = self.held(agent).await
            && held.asked >= oldest
            && held.seen == self.generations.of(held.principal.agent().id)
        {
            self.metrics.facts(FactsSource::Hit);
            return Ok(held);
        }
        let (flight, joined) = self.flight(agent, oldest);
        self.metrics.facts(if joined {
            FactsSource::Joined
        } else {
            FactsSource::Miss
        });
        let fetched = flight
            .fetch
            .await
            .inspect_err(|_| self.metrics.facts(FactsSource::Error))?;
        let id = fetched.principal.agent().id;
        let held = Held {
            principal: fetched.principal,
            asked: fetched.asked,
            seen: self.generations.of(id),
        };
        // Counted before the question, counted now: if anything was invalidated meanwhile
        // the facts serve this request, which was there before, and no other.
        if fetched.total == self.generations.total() {
            self.agents.insert(id, held.clone()).await;
        }
        if let AgentRef::Name(name) = agent {
            self.names.insert(name.clone(), id).await;
        }
        Ok(held)
    }

    async fn held(&self, agent: &AgentRef) -> Option<Held> {
        match agent {
            AgentRef::Id(id) => self.agents.get(id).await,
            AgentRef::Name(name) => {
                let id = self.names.get(name).await?;
                self.agents
                    .get(&id)
                    .await
                    .filter(|held| held.principal.agent().name == *name)
            }
        }
    }

    /// Joins a fetch that began at `oldest` or later with nothing invalidated since, or
    /// begins one.
    fn flight(&self, agent: &AgentRef, oldest: Duration) -> (Flight, bool) {
        let asked = self.clock.now();
        let total = self.generations.total();
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = flights.get(agent)
            && flight.asked >= oldest
            && flight.total == total
        {
            return (flight.clone(), true);
        }
        let fetch = self.begin(agent.clone(), asked, total);
        let flight = Flight {
            asked,
            total,
            fetch,
        };
        flights.insert(agent.clone(), flight.clone());
        (flight, false)
    }

    /// Fetches in a task of its own, so that it ends whoever waits for it.
    fn begin(&self, agent: AgentRef, asked: Duration, total: u64) -> Fetch {
        let orchestrator = self.orchestrator.clone();
        let flights = Arc::clone(&self.flights);
        let task = tokio::spawn(async move {
            let facts = orchestrator.facts(&agent).await;
            let mut flights = flights.lock().unwrap_or_else(PoisonError::into_inner);
            if flights
                .get(&agent)
                .is_some_and(|flight| flight.asked == asked && flight.total == total)
            {
                flights.remove(&agent);
            }
            match facts {
                Ok(facts) => {
                    let right = match &agent {
                        AgentRef::Id(id) => facts.agent.id == *id,
                        AgentRef::Name(name) => facts.agent.name == *name,
                    };
                    if !right {
                        let reason = "the facts are another agent's".to_owned();
                        return Err(FactsError::Orchestrator(Arc::new(
                            contract::Error::Malformed(reason),
                        )));
                    }
                    Ok(Fetched {
                        principal: Arc::new(Principal::new(facts)),
                        asked,
                        total,
                    })
                }
                Err(error) if contract::client::is_not_found(&error) => Err(FactsError::Unknown),
                Err(error) => {
                    tracing::warn!(%agent, error = &error as &dyn std::error::Error, "facts cannot be fetched");
                    Err(FactsError::Orchestrator(Arc::new(error)))
                }
            }
        });
        async move {
            task.await.unwrap_or_else(|error| {
                Err(FactsError::Orchestrator(Arc::new(
                    contract::Error::Malformed(error.to_string()),
                )))
            })
        }
        .boxed()
        .shared()
    }

    /// Stops believing what is known of `agent`.
    pub(crate) fn invalidate(&self, agent: AgentId) {
        self.generations.invalidate(agent);
    }

    /// Stops believing anything.
    pub(crate) fn invalidate_all(&self) {
        self.generations.invalidate_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use authz::Facts;
    use axum::{Json, Router, extract::Path, routing::get};
    use bytes::Bytes;
    use http_body_util::Full;
    use tokio::sync::{Semaphore, mpsc};

    use super::*;

    const AGENT: &str = "6f1b8a52-9f0d-4a4e-8f11-1d2c3b4a5e6f";

    fn facts(version: i64) -> Facts {
        Facts {
            agent: authz::Agent {
                id: AGENT.parse().unwrap(),
                name: "bot".parse().unwrap(),
                owner: None,
                teams: std::collections::BTreeSet::new(),
                roles: std::collections::BTreeSet::new(),
                env: authz::command::Environment::Prod,
                trust: 1,
                suspended: false,
                allowed_mcps: std::collections::BTreeSet::new(),
            },
            grants: Vec::new(),
            version,
        }
    }

    /// An orchestrator that counts questions and answers each when it is let.
    struct Fake {
        asked: mpsc::UnboundedReceiver<()>,
        answer: Arc<Semaphore>,
        now: Arc<AtomicU64>,
        down: Arc<std::sync::atomic::AtomicBool>,
        cache: Arc<FactsCache>,
    }

    fn fake(max_staleness: u64) -> Fake {
        let (sender, asked) = mpsc::unbounded_channel();
        let answer = Arc::new(Semaphore::new(0));
        let down = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let count = Arc::new(AtomicUsize::new(0));
        let (gate, is_down) = (Arc::clone(&answer), Arc::clone(&down));
        let router = Router::new().route(
            "/api/gateway/facts/{agent}",
            get(move |Path(agent): Path<String>| {
                let (sender, gate, count, down) = (
                    sender.clone(),
                    Arc::clone(&gate),
                    Arc::clone(&count),
                    Arc::clone(&is_down),
                );
                async move {
                    let version = count.fetch_add(1, Ordering::SeqCst);
                    sender.send(()).unwrap();
                    gate.acquire().await.unwrap().forget();
                    if down.load(Ordering::SeqCst) {
                        return Err(http::StatusCode::INTERNAL_SERVER_ERROR);
                    }
                    if agent != AGENT && agent != "bot" {
                        return Err(http::StatusCode::NOT_FOUND);
                    }
                    Ok(Json(facts(i64::try_from(version).unwrap())))
                }
            }),
        );
        let client = contract::Client::over(
            router.into_service::<Full<Bytes>>(),
            None,
            Duration::from_secs(5),
        );
        let now = Arc::new(AtomicU64::new(100));
        let clock = Arc::clone(&now);
        let cache = FactsCache::new(
            client,
            Duration::from_secs(max_staleness),
            Monotonic::new(move || Duration::from_secs(clock.load(Ordering::SeqCst))),
            Arc::new(Metrics::new(&[]).unwrap()),
        );
        Fake {
            asked,
            answer,
            now,
            down,
            cache: Arc::new(cache),
        }
    }

    impl Fake {
        fn agent() -> AgentRef {
            AGENT.parse().unwrap()
        }

        /// Fetches in the background and waits until the orchestrator was asked.
        async fn asking(
            &mut self,
            agent: &str,
        ) -> tokio::task::JoinHandle<Result<Held, FactsError>> {
            let (cache, agent) = (Arc::clone(&self.cache), agent.parse().unwrap());
            let task = tokio::spawn(async move { cache.get(&agent).await });
            self.asked.recv().await.unwrap();
            task
        }

        async fn version(&self, agent: &str) -> i64 {
            self.cache
                .get(&agent.parse().unwrap())
                .await
                .unwrap()
                .principal
                .facts()
                .version
        }
    }

    #[tokio::test]
    async fn fresh_facts_need_no_orchestrator_and_old_ones_do() {
        let mut fake = fake(5);
        fake.answer.add_permits(10);
        assert_eq!(fake.version(AGENT).await, 0);
        fake.now.store(105, Ordering::SeqCst);
        assert_eq!(fake.version(AGENT).await, 0, "five seconds old");
        assert_eq!(fake.version("bot").await, 1, "the name was not known");
        assert_eq!(fake.version("bot").await, 1);
        fake.now.store(111, Ordering::SeqCst);
        assert_eq!(fake.version("bot").await, 2, "six seconds old");
        fake.now.store(120, Ordering::SeqCst);
        fake.down.store(true, Ordering::SeqCst);
        let error = fake.cache.get(&Fake::agent()).await.unwrap_err();
        assert!(matches!(error, FactsError::Orchestrator(_)));
        fake.down.store(false, Ordering::SeqCst);
        let error = fake
            .cache
            .get(&"nobody".parse().unwrap())
            .await
            .unwrap_err();
        assert!(matches!(error, FactsError::Unknown));
        while fake.asked.try_recv().is_ok() {}
    }

    #[tokio::test]
    async fn zero_staleness_asks_every_time() {
        let fake = fake(0);
        fake.answer.add_permits(10);
        assert_eq!(fake.version(AGENT).await, 0);
        assert_eq!(fake.version(AGENT).await, 1);
    }

    #[tokio::test]
    async fn the_age_counts_from_the_question() {
        let mut fake = fake(5);
        let task = fake.asking(AGENT).await;
        fake.now.store(104, Ordering::SeqCst);
        fake.answer.add_permits(1);
        task.await.unwrap().unwrap();
        fake.now.store(106, Ordering::SeqCst);
        fake.answer.add_permits(1);
        assert_eq!(
            fake.version(AGENT).await,
            1,
            "answered two seconds ago, asked six"
        );
    }

    #[tokio::test]
    async fn an_invalidation_ends_belief_and_one_agents_leaves_others_alone() {
        let fake = fake(5);
        fake.answer.add_permits(10);
        assert_eq!(fake.version(AGENT).await, 0);
        fake.cache.invalidate(AGENT.parse().unwrap());
        assert_eq!(fake.version(AGENT).await, 1);
        fake.cache.invalidate_all();
        assert_eq!(fake.version(AGENT).await, 2);
        assert_eq!(fake.version(AGENT).await, 2);
    }

    #[tokio::test]
    async fn a_fetch_that_began_before_an_invalidation_is_not_kept() {
        let mut fake = fake(5);
        let before = fake.asking(AGENT).await;
        fake.cache.invalidate(AGENT.parse().unwrap());
        // A request that comes after the invalidation asks for itself.
        let after = fake.asking(AGENT).await;
        fake.answer.add_permits(2);
        before.await.unwrap().unwrap();
        let after = after.await.unwrap().unwrap();
        assert_eq!(after.principal.facts().version, 1);
        assert_eq!(fake.version(AGENT).await, 1, "only the later one is kept");
    }

    #[tokio::test]
    async fn requests_at_the_same_time_ask_once() {
        let mut fake = fake(5);
        let first = fake.asking(AGENT).await;
        let agent = Fake::agent();
        let others: Vec<_> = (0..20).map(|_| fake.cache.get(&agent)).collect();
        let mut others = std::pin::pin!(futures_util::future::join_all(others));
        assert!(futures_util::poll!(&mut others).is_pending());
        fake.answer.add_permits(1);
        first.await.unwrap().unwrap();
        for held in others.await {
            assert_eq!(held.unwrap().principal.facts().version, 0);
        }
        assert!(fake.asked.try_recv().is_err(), "nobody asked again");
    }

    #[tokio::test]
    async fn what_must_be_fresh_does_not_join_an_earlier_fetch() {
        let mut fake = fake(5);
        let early = fake.asking(AGENT).await;
        fake.now.store(101, Ordering::SeqCst);
        fake.answer.add_permits(2);
        let held = fake
            .cache
            .fresh(AGENT.parse().unwrap(), Duration::from_secs(101))
            .await
            .unwrap();
        assert_eq!(held.principal.facts().version, 1);
        early.await.unwrap().unwrap();
    }
}
