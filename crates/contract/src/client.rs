//! The typed client of the orchestrator.

mod budgets;
mod people;
mod zones;

use std::{convert::Infallible, pin::Pin, sync::Arc, time::Duration};

use authz::{
    AgentId, AgentRef, ApprovalRequestId, CommandName, Facts, GrantId, MessageId, PolicySetVersion,
    ServiceName, TargetName, TokenId, UserId,
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, TryStreamExt};
use http::{Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Collected, Full, Limited, combinators::UnsyncBoxBody};
use secrecy::{ExposeSecret, SecretString};
use serde::{Serialize, de::DeserializeOwned};
use tower::{BoxError, Service, ServiceExt, util::BoxCloneSyncService};

use crate::{
    agents::{
        AgentView, ChangeAgent, CreateAgent, CreateToken, CreatedToken, GrantView, Member, Revoke,
        Suspend, TokenView,
    },
    approvals::{ApprovalSummary, ApprovalView, Approve, OpenApproval, Reject, Withdraw},
    audit::{AuditEntry, AuditFilter, JournalHead, JournalStored, ShipJournal, Verification},
    catalog::{GatewayCatalog, ServiceView},
    error::{Error, ErrorBody},
    explain::{ExplainAnswer, ExplainCommand},
    facts::{Credential, CredentialQuery, SpendGrant},
    feed::FeedEvent,
    gateways::{GatewayStatus, GatewayTold, GatewayView},
    notifications::{
        AccountView, ChangeTarget, CreateTarget, CreatedTarget, LinkAccount, MessageView,
        TargetView, Tested,
    },
    overview::{Overview, Range},
    policy_sets::{
        ActivatePolicySet, ActivationView, PolicySetBundle, PolicySetChanged, PolicySetStatus,
        PolicySetView, PushPolicySet, RollBack, ShadowPolicySet,
    },
    tools::{ApproveTools, ToolDetails, ToolReviews, ToolView, WithdrawTools},
    users::{CreateUser, UserView},
};

type Body = UnsyncBoxBody<Bytes, BoxError>;
type Transport = BoxCloneSyncService<Request<Full<Bytes>>, Response<Body>, BoxError>;

/// No answer of the contract is larger: a policy set of 10,000 policies is some megabytes.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// Agents read at a time.
const AGENTS_PAGE: usize = 1_000;

/// Calls the orchestrator. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    transport: Transport,
    base: Arc<str>,
    token: Option<Arc<SecretString>>,
    deadline: Duration,
    /// What it says of itself in `X-Cedargate-Via`.
    via: Option<&'static str>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("base", &self.base)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// A client of the orchestrator behind any HTTP service: its own router, say.
    pub fn over<S, B>(service: S, token: Option<SecretString>, deadline: Duration) -> Self
    where
        S: Service<Request<Full<Bytes>>, Response = Response<B>, Error = Infallible>
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let service = service
            .map_response(|response: Response<B>| {
                response.map(|body| body.map_err(Into::into).boxed_unsync())
            })
            .map_err(|never| match never {});
        Self {
            transport: BoxCloneSyncService::new(service),
            base: "http://orchestrator".into(),
            token: token.map(Arc::new),
            deadline,
            via: None,
        }
    }

    /// The same client, which says that a person uses it from our command line: so the
    /// audit trail records `cli` and not `api`.
    #[must_use]
    pub fn via_cli(self) -> Self {
        Self {
            via: Some("cli"),
            ..self
        }
    }

    /// A client of the orchestrator at `base`, for example `http://orchestrator-3-stream:9403`.
    ///
    /// # Errors
    ///
    /// When `base` is not an `http` or `https` URL, or TLS cannot be set up.
    pub fn http(
        base: &str,
        token: Option<SecretString>,
        deadline: Duration,
    ) -> Result<Self, Error> {
        let base = base.trim_end_matches('/');
        let scheme = base
            .parse::<Uri>()
            .ok()
            .and_then(|uri| uri.scheme_str().map(str::to_owned));
        if !matches!(scheme.as_deref(), Some("http" | "https")) {
            return Err(Error::Malformed(format!(
                "`{base}` is not an http or https URL"
            )));
        }
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(deadline)
            .build()
            .map_err(|error| Error::Unreachable(error.into()))?;
        let service = tower::service_fn(move |request: Request<Full<Bytes>>| {
            let client = client.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await?.to_bytes();
                let request = reqwest::Request::try_from(Request::from_parts(parts, body))?;
                let response: Response<reqwest::Body> = client.execute(request).await?.into();
                Ok::<_, BoxError>(response.map(|body| body.map_err(Into::into).boxed_unsync()))
            }
        });
        Ok(Self {
            transport: BoxCloneSyncService::new(service),
            base: base.into(),
            token: token.map(Arc::new),
            deadline,
            via: None,
        })
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
    ) -> Result<Response<Body>, Error> {
        self.send_if(method, path, body, None).await
    }

    /// As `send`, if what is changed is at this revision still.
    async fn send_if(
        &self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
        revision: Option<i64>,
    ) -> Result<Response<Body>, Error> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base));
        if let Some(revision) = revision {
            request = request.header(header::IF_MATCH, format!("\"{revision}\""));
        }
        if let Some(token) = &self.token {
            request = request.header(
                header::AUTHORIZATION,
                format!("Bearer {}", token.expose_secret()),
            );
        }
        if let Some(via) = self.via {
            request = request.header("x-cedargate-via", via);
        }
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let request = request
            .body(Full::new(body.unwrap_or_default()))
            .map_err(|error| Error::Malformed(error.to_string()))?;
        let answer =
            tokio::time::timeout(self.deadline, self.transport.clone().oneshot(request)).await;
        let response = match answer {
            Err(_) => return Err(Error::Timeout(self.deadline)),
            Ok(Err(error)) => return Err(Error::Unreachable(error)),
            Ok(Ok(response)) => response,
        };
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let body = self.read(response).await?;
        let detail = serde_json::from_slice::<ErrorBody>(&body).map_or_else(
            |_| format!("the orchestrator answered {status}"),
            |body| body.detail,
        );
        Err(Error::Refused { status, detail })
    }

    async fn read(&self, response: Response<Body>) -> Result<Bytes, Error> {
        // Boxed, with its lifetimes fixed: else the compiler cannot see that the futures of
        // this client may move between threads.
        let body: Pin<Box<dyn Future<Output = Result<Collected<Bytes>, BoxError>> + Send>> =
            Box::pin(Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect());
        match tokio::time::timeout(self.deadline, body).await {
            Err(_) => Err(Error::Timeout(self.deadline)),
            Ok(Err(error)) => Err(Error::Unreachable(error)),
            Ok(Ok(body)) => Ok(body.to_bytes()),
        }
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, Error> {
        self.call_if(method, path, body, None).await
    }

    async fn call_if<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
        revision: Option<i64>,
    ) -> Result<T, Error> {
        let body = body
            .map(serde_json::to_vec)
            .transpose()
            .map_err(|error| Error::Malformed(error.to_string()))?
            .map(Bytes::from);
        let response = self.send_if(method, path, body, revision).await?;
        let body = self.read(response).await?;
        let body = if body.is_empty() {
            Bytes::from_static(b"null")
        } else {
            body
        };
        serde_json::from_slice(&body).map_err(|error| Error::Malformed(error.to_string()))
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        self.call(Method::GET, path, None::<&()>).await
    }

    async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Error> {
        self.call(Method::POST, path, Some(body)).await
    }

    // What gateways call.

    /// The agent's facts, fresh.
    ///
    /// # Errors
    ///
    /// As every method here: [`Error::Refused`] with the status (404 for an unknown agent),
    /// [`Error::Unreachable`], [`Error::Timeout`], [`Error::Malformed`].
    pub async fn facts(&self, agent: &AgentRef) -> Result<Facts, Error> {
        self.get(&format!("/api/gateway/facts/{agent}")).await
    }

    /// Whose credential has this SHA-256 digest; 404 if nobody's.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn credential(&self, query: &CredentialQuery) -> Result<Credential, Error> {
        self.post("/api/gateway/credentials", query).await
    }

    /// Opens an approval request, or joins the pending one.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn open_approval(&self, open: &OpenApproval) -> Result<ApprovalSummary, Error> {
        self.post("/api/gateway/approvals", open).await
    }

    /// Where a request of this agent's stands; 404 if it is another's.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn approval_of(
        &self,
        agent: AgentId,
        id: ApprovalRequestId,
    ) -> Result<ApprovalSummary, Error> {
        self.get(&format!("/api/gateway/approvals/{id}?agent={agent}"))
            .await
    }

    /// The open requests of this agent, newest first.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn open_approvals_of(&self, agent: AgentId) -> Result<Vec<ApprovalSummary>, Error> {
        self.get(&format!("/api/gateway/approvals?agent={agent}"))
            .await
    }

    /// Takes a request of this agent's back; 404 if it is another's, 409 if it is decided.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn withdraw_own(
        &self,
        agent: AgentId,
        id: ApprovalRequestId,
    ) -> Result<ApprovalSummary, Error> {
        self.call(
            Method::DELETE,
            &format!("/api/gateway/approvals/{id}?agent={agent}"),
            None::<&()>,
        )
        .await
    }

    /// Uses up a grant for one use; 409 if it is spent, revoked or expired.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn spend_grant(&self, id: GrantId, spend: &SpendGrant) -> Result<(), Error> {
        self.post(&format!("/api/gateway/grants/{id}/spend"), spend)
            .await
    }

    /// The policy set to enforce.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn policy_set_bundle(&self) -> Result<PolicySetBundle, Error> {
        self.get("/api/gateway/policy-set").await
    }

    /// The policy set to evaluate beside the enforced one, if there is one.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn shadow_policy_set_bundle(&self) -> Result<Option<PolicySetBundle>, Error> {
        self.get("/api/gateway/shadow-policy-set").await
    }

    /// Says what a gateway enforces; the answer says what else is wanted of it.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn report_status(&self, status: &GatewayStatus) -> Result<GatewayTold, Error> {
        // An orchestrator that wants nothing may say so with an empty answer.
        let told: Option<GatewayTold> = self.post("/api/gateway/status", status).await?;
        Ok(told.unwrap_or_default())
    }

    /// Says what a gateway can carry out.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn report_catalog(&self, catalog: &GatewayCatalog) -> Result<(), Error> {
        self.call(Method::PUT, "/api/gateway/catalog", Some(catalog))
            .await
    }

    /// Which definitions of tools somebody reviewed.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn tool_reviews(&self) -> Result<ToolReviews, Error> {
        self.get("/api/gateway/tool-reviews").await
    }

    /// Stores journal lines.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn ship_journal(&self, ship: &ShipJournal) -> Result<JournalStored, Error> {
        self.post("/api/gateway/journal", ship).await
    }

    /// Follows the feed from after `after`, or from its head if absent. The stream ends,
    /// with an error or without, when the connection does: follow again from the last
    /// sequence seen. `None` items are heartbeats, one a second.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn follow(
        &self,
        after: Option<i64>,
    ) -> Result<impl Stream<Item = Result<Option<FeedEvent>, Error>> + Send + use<>, Error> {
        let query = after
            .map(|after| format!("?after={after}"))
            .unwrap_or_default();
        let response = self
            .send(Method::GET, &format!("/api/feed{query}"), None)
            .await?;
        let lines = Lines {
            body: response.into_body(),
            buffer: Vec::new(),
        };
        Ok(
            futures_util::stream::try_unfold(lines, |mut lines| async move {
                Ok::<_, Error>(lines.next().await?.map(|line| (line, lines)))
            })
            .try_filter_map(|line| async move {
                if line.starts_with(':') {
                    return Ok(Some(None));
                }
                match line.strip_prefix("data:") {
                    None => Ok(None),
                    Some(data) => serde_json::from_str(data.trim_start())
                        .map(|event| Some(Some(event)))
                        .map_err(|error| Error::Malformed(error.to_string())),
                }
            })
            .boxed(),
        )
    }

    // What people and scripts call.

    /// Requests of one agent, newest first: those that wait, or all.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`]; 404 for an unknown agent.
    pub async fn approvals_of(
        &self,
        agent: &AgentRef,
        all: bool,
    ) -> Result<Vec<ApprovalView>, Error> {
        self.get(&format!("/api/approvals?all={all}&agent={agent}"))
            .await
    }

    /// Who the token belongs to.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn whoami(&self) -> Result<UserView, Error> {
        self.get("/api/whoami").await
    }

    /// All agents, by name.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn agents(&self) -> Result<Vec<AgentView>, Error> {
        let mut agents: Vec<AgentView> = Vec::new();
        loop {
            let after = agents
                .last()
                .map(|view| format!("&after={}", view.agent.name))
                .unwrap_or_default();
            let page: Vec<AgentView> = self
                .get(&format!("/api/agents?limit={AGENTS_PAGE}{after}"))
                .await?;
            let whole = page.len() < AGENTS_PAGE;
            agents.extend(page);
            if whole {
                return Ok(agents);
            }
        }
    }

    /// One agent.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn agent(&self, agent: &AgentRef) -> Result<AgentView, Error> {
        self.get(&format!("/api/agents/{agent}")).await
    }

    /// Creates an agent; 409 if the name is taken.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn create_agent(&self, create: &CreateAgent) -> Result<AgentView, Error> {
        self.post("/api/agents", create).await
    }

    /// Changes an agent.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn change_agent(
        &self,
        agent: &AgentRef,
        change: &ChangeAgent,
    ) -> Result<AgentView, Error> {
        self.call(Method::PATCH, &format!("/api/agents/{agent}"), Some(change))
            .await
    }

    /// Changes an agent that is at this revision still; 412 if it is not.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn change_agent_at(
        &self,
        agent: &AgentRef,
        revision: i64,
        change: &ChangeAgent,
    ) -> Result<AgentView, Error> {
        let path = format!("/api/agents/{agent}");
        self.call_if(Method::PATCH, &path, Some(change), Some(revision))
            .await
    }

    /// Stops an agent: everything that it sends is refused from now on.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn suspend_agent(
        &self,
        agent: &AgentRef,
        suspend: &Suspend,
    ) -> Result<AgentView, Error> {
        self.post(&format!("/api/agents/{agent}/suspend"), suspend)
            .await
    }

    /// Lets a suspended agent go on.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn resume_agent(
        &self,
        agent: &AgentRef,
        suspend: &Suspend,
    ) -> Result<AgentView, Error> {
        self.post(&format!("/api/agents/{agent}/resume"), suspend)
            .await
    }

    /// Adds a service, a role or a team to an agent's; what is there already stays.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn add_to_agent(
        &self,
        agent: &AgentRef,
        member: &Member,
    ) -> Result<AgentView, Error> {
        let path = format!("/api/agents/{agent}/{member}");
        self.call(Method::PUT, &path, None::<&()>).await
    }

    /// Removes a service, a role or a team from an agent's; what is not there is no error.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn remove_from_agent(
        &self,
        agent: &AgentRef,
        member: &Member,
    ) -> Result<AgentView, Error> {
        let path = format!("/api/agents/{agent}/{member}");
        self.call(Method::DELETE, &path, None::<&()>).await
    }

    /// Makes a credential for an agent.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn create_agent_token(
        &self,
        agent: &AgentRef,
        create: &CreateToken,
    ) -> Result<CreatedToken, Error> {
        self.post(&format!("/api/agents/{agent}/tokens"), create)
            .await
    }

    /// An agent's credentials, newest first.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn agent_tokens(&self, agent: &AgentRef) -> Result<Vec<TokenView>, Error> {
        self.get(&format!("/api/agents/{agent}/tokens")).await
    }

    /// Revokes a credential of an agent.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn revoke_agent_token(&self, agent: &AgentRef, token: TokenId) -> Result<(), Error> {
        self.call(
            Method::DELETE,
            &format!("/api/agents/{agent}/tokens/{token}"),
            None::<&()>,
        )
        .await
    }

    /// All users, by id.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn users(&self) -> Result<Vec<UserView>, Error> {
        self.get("/api/users").await
    }

    /// Creates a user; 409 if the id is taken.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn create_user(&self, create: &CreateUser) -> Result<UserView, Error> {
        self.post("/api/users", create).await
    }

    /// Makes a credential for a user.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn create_user_token(
        &self,
        user: &UserId,
        create: &CreateToken,
    ) -> Result<CreatedToken, Error> {
        self.post(&format!("/api/users/{user}/tokens"), create)
            .await
    }

    /// Grants, newest first; live ones only, unless `all`.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn grants(
        &self,
        agent: Option<&AgentRef>,
        all: bool,
    ) -> Result<Vec<GrantView>, Error> {
        let agent = agent
            .map(|agent| format!("&agent={agent}"))
            .unwrap_or_default();
        self.get(&format!("/api/grants?all={all}{agent}")).await
    }

    /// Takes a grant back; 409 if it had ended.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn revoke_grant(&self, id: GrantId, revoke: &Revoke) -> Result<(), Error> {
        self.post(&format!("/api/grants/{id}/revoke"), revoke).await
    }

    /// Approval requests, newest first: pending ones, or all.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn approvals(&self, all: bool) -> Result<Vec<ApprovalView>, Error> {
        self.get(&format!("/api/approvals?all={all}")).await
    }

    /// One approval request.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn approval(&self, id: ApprovalRequestId) -> Result<ApprovalView, Error> {
        self.get(&format!("/api/approvals/{id}")).await
    }

    /// Approves; 403 if this person may not, 409 if it is no longer pending.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn approve(
        &self,
        id: ApprovalRequestId,
        approve: &Approve,
    ) -> Result<ApprovalView, Error> {
        self.post(&format!("/api/approvals/{id}/approve"), approve)
            .await
    }

    /// Rejects; 403 if this person may not, 409 if it is no longer pending.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn reject(
        &self,
        id: ApprovalRequestId,
        reject: &Reject,
    ) -> Result<ApprovalView, Error> {
        self.post(&format!("/api/approvals/{id}/reject"), reject)
            .await
    }

    /// Takes a request back; 403 unless this person owns the agent or it asks for them,
    /// 409 if it is no longer pending.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn withdraw(
        &self,
        id: ApprovalRequestId,
        withdraw: &Withdraw,
    ) -> Result<ApprovalView, Error> {
        self.post(&format!("/api/approvals/{id}/withdraw"), withdraw)
            .await
    }

    /// What policy set is in force, and what is wrong with the folder.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn policy_set_status(&self) -> Result<PolicySetStatus, Error> {
        self.get("/api/policy-set").await
    }

    /// The stored policy sets, newest first, without their sources.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn policy_sets(&self) -> Result<Vec<PolicySetView>, Error> {
        self.get("/api/policy-sets").await
    }

    /// One policy set with its sources; 404 if it was never stored.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn policy_set(&self, version: &PolicySetVersion) -> Result<PolicySetView, Error> {
        self.get(&format!("/api/policy-sets/{version}")).await
    }

    /// Has a policy set checked, stored, and put in force or beside it; 422 if it could
    /// not be enforced, 409 if it would lock the caller out.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn push_policy_set(&self, push: &PushPolicySet) -> Result<PolicySetChanged, Error> {
        self.post("/api/policy-sets", push).await
    }

    /// Puts a stored policy set in force.
    ///
    /// # Errors
    ///
    /// See [`Client::push_policy_set`].
    pub async fn activate_policy_set(
        &self,
        version: &PolicySetVersion,
        activate: &ActivatePolicySet,
    ) -> Result<PolicySetChanged, Error> {
        self.post(&format!("/api/policy-sets/{version}/activate"), activate)
            .await
    }

    /// Puts the policy set before in force again; 409 if there was none.
    ///
    /// # Errors
    ///
    /// See [`Client::push_policy_set`].
    pub async fn roll_back_policy_set(&self, back: &RollBack) -> Result<PolicySetChanged, Error> {
        self.post("/api/policy-set/rollback", back).await
    }

    /// Has a stored policy set, or none, evaluated beside the one in force.
    ///
    /// # Errors
    ///
    /// See [`Client::push_policy_set`].
    pub async fn shadow_policy_set(
        &self,
        shadow: &ShadowPolicySet,
    ) -> Result<PolicySetChanged, Error> {
        self.post("/api/policy-set/shadow", shadow).await
    }

    /// What was put in force when, and by whom, newest first.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn policy_activations(&self, limit: u32) -> Result<Vec<ActivationView>, Error> {
        self.get(&format!("/api/policy-activations?limit={limit}"))
            .await
    }

    /// Every gateway heard of lately, and what it enforces.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn gateways(&self) -> Result<Vec<GatewayView>, Error> {
        self.get("/api/gateways").await
    }

    /// The audit trail, oldest first, from after `after`; at most `limit` entries.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn audit(
        &self,
        after: i64,
        limit: u32,
        agent: Option<AgentId>,
    ) -> Result<Vec<AuditEntry>, Error> {
        let agent = agent
            .map(|agent| format!("&agent={agent}"))
            .unwrap_or_default();
        self.get(&format!("/api/audit?after={after}&limit={limit}{agent}"))
            .await
    }

    /// The audit trail, newest first: at most `limit` (1 to 1000) of the lines that `filter`
    /// wants, and the path of those before them, for [`Client::more_audit`].
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn search_audit(
        &self,
        filter: &AuditFilter,
        limit: u32,
    ) -> Result<(Vec<AuditEntry>, Option<String>), Error> {
        let filter =
            serde_json::to_value(filter).map_err(|error| Error::Malformed(error.to_string()))?;
        let mut path = format!("/api/audit?order=newest&limit={limit}");
        for (name, value) in filter.as_object().into_iter().flatten() {
            if let Some(value) = value.as_str() {
                path = format!("{path}&{name}={}", encoded(value));
            }
        }
        self.more_audit(&path).await
    }

    /// The lines before those of an earlier answer, as [`Client::search_audit`].
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn more_audit(&self, path: &str) -> Result<(Vec<AuditEntry>, Option<String>), Error> {
        let response = self.send(Method::GET, path, None).await?;
        let link = response.headers().get(header::LINK);
        let next = link
            .and_then(|link| link.to_str().ok()?.strip_prefix('<')?.split_once('>'))
            .map(|(next, _)| next.to_owned());
        let body = self.read(response).await?;
        let entries =
            serde_json::from_slice(&body).map_err(|error| Error::Malformed(error.to_string()))?;
        Ok((entries, next))
    }

    /// How far the stored journals were checked, by gateway.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn verification(&self) -> Result<Vec<Verification>, Error> {
        self.get("/api/audit/verification").await
    }

    /// Begins to check the stored journals, unless that is under way.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn verify(&self) -> Result<Vec<Verification>, Error> {
        self.call(Method::POST, "/api/audit/verification", None::<&()>)
            .await
    }

    /// Every service that a gateway carries commands out for.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn services(&self) -> Result<Vec<ServiceView>, Error> {
        self.get("/api/services").await
    }

    /// One service with its commands.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn service(&self, name: &ServiceName) -> Result<ServiceView, Error> {
        self.get(&format!("/api/services/{name}")).await
    }

    /// The tools of an MCP server, and who reviewed them.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn tools(&self, service: &ServiceName) -> Result<Vec<ToolView>, Error> {
        self.get(&format!("/api/services/{service}/tools")).await
    }

    /// One tool, with its definitions and what differs between them.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn tool(
        &self,
        service: &ServiceName,
        tool: &CommandName,
    ) -> Result<ToolDetails, Error> {
        self.get(&format!("/api/services/{service}/tools/{tool}"))
            .await
    }

    /// Has definitions taken as reviewed; answers with all tools as they are then.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`]; 409 if a definition is another by now.
    pub async fn approve_tools(
        &self,
        service: &ServiceName,
        approve: &ApproveTools,
    ) -> Result<Vec<ToolView>, Error> {
        self.post(&format!("/api/services/{service}/approve-tools"), approve)
            .await
    }

    /// Takes reviews back; answers with all tools as they are then.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn withdraw_tools(
        &self,
        service: &ServiceName,
        withdraw: &WithdrawTools,
    ) -> Result<Vec<ToolView>, Error> {
        self.post(&format!("/api/services/{service}/withdraw-tools"), withdraw)
            .await
    }

    /// What would come of a command, and why; nothing is carried out or recorded.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`]; 400 if the arguments do not fit the command.
    pub async fn explain(&self, command: &ExplainCommand) -> Result<ExplainAnswer, Error> {
        self.post("/api/explain", command).await
    }

    /// What happened lately, in numbers.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn overview(&self, range: Range) -> Result<Overview, Error> {
        self.get(&format!("/api/overview?range={}", range.as_str()))
            .await
    }

    /// How far the orchestrator has each gateway's journal, by gateway.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn journal_heads(&self) -> Result<Vec<JournalHead>, Error> {
        self.get("/api/audit/journals").await
    }

    /// Where notifications go, by name.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn notification_targets(&self) -> Result<Vec<TargetView>, Error> {
        self.get("/api/notifications/targets").await
    }

    /// One place where notifications go.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn notification_target(&self, name: &TargetName) -> Result<TargetView, Error> {
        self.get(&format!("/api/notifications/targets/{name}"))
            .await
    }

    /// Adds a place where notifications go; 409 if the name is taken.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn create_notification_target(
        &self,
        create: &CreateTarget,
    ) -> Result<CreatedTarget, Error> {
        self.post("/api/notifications/targets", create).await
    }

    /// Changes a place where notifications go.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn change_notification_target(
        &self,
        name: &TargetName,
        change: &ChangeTarget,
    ) -> Result<CreatedTarget, Error> {
        let path = format!("/api/notifications/targets/{name}");
        self.call(Method::PATCH, &path, Some(change)).await
    }

    /// Removes a place where notifications go, with what waits to be sent there.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn remove_notification_target(&self, name: &TargetName) -> Result<(), Error> {
        let path = format!("/api/notifications/targets/{name}");
        self.call(Method::DELETE, &path, None::<&()>).await
    }

    /// Sends a message there now, and says whether it arrived.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn test_notification_target(&self, name: &TargetName) -> Result<Tested, Error> {
        let path = format!("/api/notifications/targets/{name}/test");
        self.call(Method::POST, &path, None::<&()>).await
    }

    /// Which accounts of a target's are which people.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn notification_accounts(
        &self,
        target: &TargetName,
    ) -> Result<Vec<AccountView>, Error> {
        self.get(&format!("/api/notifications/targets/{target}/accounts"))
            .await
    }

    /// Makes an account of a target's a person's.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn link_notification_account(
        &self,
        target: &TargetName,
        link: &LinkAccount,
    ) -> Result<AccountView, Error> {
        self.post(
            &format!("/api/notifications/targets/{target}/accounts"),
            link,
        )
        .await
    }

    /// Makes an account of a target's nobody's.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn unlink_notification_account(
        &self,
        target: &TargetName,
        account: &str,
    ) -> Result<(), Error> {
        let path = format!(
            "/api/notifications/targets/{target}/accounts?account={}",
            encoded(account)
        );
        self.call(Method::DELETE, &path, None::<&()>).await
    }

    /// What was, or is to be, sent, newest first: to one target, of one status, or all.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn notification_messages(
        &self,
        target: Option<&TargetName>,
        status: Option<&str>,
        limit: u32,
    ) -> Result<Vec<MessageView>, Error> {
        let target = target
            .map(|target| format!("&target={target}"))
            .unwrap_or_default();
        let status = status
            .map(|status| format!("&status={}", encoded(status)))
            .unwrap_or_default();
        self.get(&format!(
            "/api/notifications/messages?limit={limit}{target}{status}"
        ))
        .await
    }

    /// Has a message sent once more.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn redeliver_notification(&self, id: MessageId) -> Result<MessageView, Error> {
        let path = format!("/api/notifications/messages/{id}/redeliver");
        self.call(Method::POST, &path, None::<&()>).await
    }

    /// Whether it is up: `GET /health`.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn health(&self) -> Result<serde_json::Value, Error> {
        self.get("/health").await
    }
}

/// A query's value: every byte but letters and digits is percent-encoded.
fn encoded(text: &str) -> String {
    use std::fmt::Write as _;
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// Whether an error says that the thing asked for does not exist.
#[must_use]
pub fn is_not_found(error: &Error) -> bool {
    error.status() == Some(StatusCode::NOT_FOUND)
}

/// Splits a streamed body into lines.
struct Lines {
    body: Body,
    buffer: Vec<u8>,
}

impl Lines {
    /// One line of the feed is at most so long.
    const MAX: usize = 64 * 1024;

    async fn next(&mut self) -> Result<Option<String>, Error> {
        loop {
            if let Some(end) = self.buffer.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                let line =
                    String::from_utf8(line).map_err(|error| Error::Malformed(error.to_string()))?;
                return Ok(Some(line.trim_end().to_owned()));
            }
            if self.buffer.len() > Self::MAX {
                return Err(Error::Malformed(
                    "a line of the feed is too long".to_owned(),
                ));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(Error::Unreachable(error)),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
            }
        }
    }
}
