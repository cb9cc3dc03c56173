//! What the server answers to each method.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{
        CallToolRequestParams, CallToolResponse, CancelTaskParams, CompleteRequestParams,
        CompleteResult, GetPromptRequestParams, GetPromptResponse, GetPromptResult, GetTaskParams,
        GetTaskResult, ListPromptsResult, ListResourceTemplatesResult, ListResourcesResult,
        ListToolsResult, LoggingLevel, PaginatedRequestParams, ReadResourceRequestParams,
        ReadResourceResponse, ReadResourceResult, ServerConfig, SetLevelRequestParams,
        SubscribeRequestParams, SubscriptionFilter, Tool, UnsubscribeRequestParams,
        UpdateTaskParams,
    },
    service::{RequestContext, SubscriptionContext},
    task_manager::TaskManager,
    transport::streamable_http_server::session::local::LocalSessionManager,
};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, broadcast};

use crate::{RED_DOT, asked, message, tools};

/// What changed, for those who subscribed.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Tools,
    Prompts,
    Resource(String),
}

/// How fast a tool goes that says how far it is.
#[derive(Debug)]
pub(crate) struct Pace {
    by_step: AtomicBool,
    steps: Semaphore,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            by_step: AtomicBool::new(false),
            steps: Semaphore::new(0),
        }
    }
}

impl Pace {
    /// From now on it waits after each step.
    pub(crate) fn by_step(&self) {
        self.by_step.store(true, Ordering::SeqCst);
    }

    /// It may go on.
    pub(crate) fn go_on(&self) {
        self.steps.add_permits(1);
    }

    pub(crate) async fn step(&self) {
        if self.by_step.load(Ordering::SeqCst)
            && let Ok(step) = self.steps.acquire().await
        {
            step.forget();
        }
    }
}

/// The server, as one client sees it. Clients share tasks and changes.
#[derive(Clone)]
pub struct Server {
    definitions: Arc<Value>,
    pub(crate) tasks: TaskManager,
    pub(crate) changes: broadcast::Sender<Change>,
    /// The tasks that somebody asked about.
    pub(crate) asked: broadcast::Sender<String>,
    pub(crate) sessions: Option<Arc<LocalSessionManager>>,
    /// The sessions whose clients came back to a stream that had ended.
    pub(crate) returned: broadcast::Sender<String>,
    pub(crate) pace: Arc<Pace>,
    /// The least severe messages that this client wants (older revisions only).
    level: Arc<Mutex<Option<LoggingLevel>>>,
    /// The resources that this client watches (older revisions only).
    pub(crate) watched: Arc<Mutex<Vec<String>>>,
}

impl Default for Server {
    fn default() -> Self {
        // The file lies beside this one: a test would not build with a broken one.
        let definitions = serde_json::from_str(include_str!("definitions.json"));
        Self {
            definitions: Arc::new(definitions.unwrap_or_default()),
            tasks: TaskManager::new(),
            changes: broadcast::channel(64).0,
            asked: broadcast::channel(64).0,
            sessions: None,
            returned: broadcast::channel(64).0,
            pace: Arc::default(),
            level: Arc::default(),
            watched: Arc::default(),
        }
    }
}

impl Server {
    /// One whose calls may close the streams of these sessions, and wait until it is told
    /// that their clients came back.
    pub(crate) fn with_sessions(
        sessions: Arc<LocalSessionManager>,
        returned: broadcast::Sender<String>,
        pace: Arc<Pace>,
    ) -> Self {
        Self {
            sessions: Some(sessions),
            returned,
            pace,
            ..Self::default()
        }
    }

    /// The same server for another client.
    pub(crate) fn for_client(&self) -> Self {
        Self {
            level: Arc::default(),
            watched: Arc::default(),
            ..self.clone()
        }
    }

    fn list(&self, what: &str, field: &str) -> Value {
        let items = self.definitions.get(what).cloned().unwrap_or_default();
        json!({"resultType": "complete", field: items})
    }

    /// Whether this request wants messages of level `info`.
    pub(crate) fn logs(&self, context: &RequestContext<RoleServer>) -> bool {
        let modern = context.meta.protocol_version().is_some();
        let level = if modern {
            context.meta.log_level()
        } else {
            self.level.lock().ok().and_then(|level| *level)
        };
        match level {
            Some(level) => matches!(level, LoggingLevel::Debug | LoggingLevel::Info),
            // Older revisions leave it to the server; this one logs.
            None => !modern,
        }
    }
}

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        let info = json!({
            "protocolVersion": "2025-11-25",
            "capabilities": {
                "tools": {"listChanged": true},
                "prompts": {"listChanged": true},
                "resources": {"subscribe": true, "listChanged": true},
                "completions": {},
                "logging": {},
                "extensions": {"io.modelcontextprotocol/tasks": {}},
            },
            "serverInfo": {"name": "cedargate-mcp-fixture", "version": env!("CARGO_PKG_VERSION")},
            "instructions": "A server for tests.",
        });
        serde_json::from_value(info).unwrap_or_default()
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        message(self.list("tools", "tools"))
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        let list: ListToolsResult = message(self.list("tools", "tools")).ok()?;
        list.tools.into_iter().find(|tool| tool.name == name)
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        tools::call(self, request, context).await
    }

    async fn list_prompts(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        message(self.list("prompts", "prompts"))
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        if request.name == "test_input_required_result_prompt" {
            return asked::prompt(&request, &context);
        }
        let result: GetPromptResult = message(prompt(&request)?)?;
        Ok(result.into())
    }

    async fn list_resources(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        message(self.list("resources", "resources"))
    }

    async fn list_resource_templates(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        message(self.list("templates", "resourceTemplates"))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let uri = request.uri;
        let content = match uri.as_str() {
            "test://static-text" => json!({"uri": uri, "mimeType": "text/plain",
                "text": "This is the content of the static text resource."}),
            "test://static-binary" => json!({"uri": uri, "mimeType": "image/png", "blob": RED_DOT}),
            "test://watched-resource" => json!({"uri": uri, "mimeType": "text/plain",
                "text": "Somebody may be watching this."}),
            other => {
                let id = other
                    .strip_prefix("test://template/")
                    .and_then(|rest| rest.strip_suffix("/data"));
                let Some(id) = id else {
                    let data = json!({"uri": uri});
                    return Err(ErrorData::resource_not_found(
                        "Resource not found",
                        Some(data),
                    ));
                };
                let data =
                    json!({"id": id, "templateTest": true, "data": format!("Data for ID: {id}")});
                json!({"uri": uri, "mimeType": "application/json", "text": data.to_string()})
            }
        };
        let result: ReadResourceResult =
            message(json!({"resultType": "complete", "contents": [content]}))?;
        Ok(result.into())
    }

    async fn complete(
        &self,
        request: CompleteRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        let values: Vec<&str> = ["paris", "park", "party", "test"]
            .into_iter()
            .filter(|value| value.starts_with(&request.argument.value))
            .collect();
        message(json!({
            "resultType": "complete",
            "completion": {"values": values, "total": values.len(), "hasMore": false},
        }))
    }

    async fn set_level(
        &self,
        request: SetLevelRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        if context.meta.protocol_version().is_some() {
            return Err(ErrorData::method_not_found::<
                rmcp::model::SetLevelRequestMethod,
            >());
        }
        if let Ok(mut level) = self.level.lock() {
            *level = Some(request.level);
        }
        Ok(())
    }

    async fn subscribe(
        &self,
        request: SubscribeRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        if let Ok(mut watched) = self.watched.lock() {
            watched.push(request.uri);
        }
        Ok(())
    }

    async fn unsubscribe(
        &self,
        request: UnsubscribeRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        if let Ok(mut watched) = self.watched.lock() {
            watched.retain(|uri| *uri != request.uri);
        }
        Ok(())
    }

    fn accepted_subscription_filter(
        &self,
        requested: &SubscriptionFilter,
    ) -> Option<SubscriptionFilter> {
        Some(requested.clone())
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        let mut changes = self.changes.subscribe();
        loop {
            let change = tokio::select! {
                () = context.cancelled() => return Ok(()),
                change = changes.recv() => change,
            };
            let sink = context.sink();
            let accepted = context.accepted();
            let sent = match change {
                Ok(Change::Tools) if accepted.tools_list_changed == Some(true) => {
                    sink.notify_tool_list_changed().await
                }
                Ok(Change::Prompts) if accepted.prompts_list_changed == Some(true) => {
                    sink.notify_prompt_list_changed().await
                }
                Ok(Change::Resource(uri))
                    if accepted
                        .resource_subscriptions
                        .as_ref()
                        .is_some_and(|uris| uris.contains(&uri)) =>
                {
                    sink.notify_resource_updated(uri).await
                }
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => Ok(()),
                Err(broadcast::error::RecvError::Closed) => return Ok(()),
            };
            if sent.is_err() {
                return Ok(());
            }
        }
    }

    async fn get_task(
        &self,
        request: GetTaskParams,
        _: RequestContext<RoleServer>,
    ) -> Result<GetTaskResult, ErrorData> {
        let task = GetTaskResult::new(self.tasks.get_task(&request.task_id)?);
        // Nobody may be waiting for it.
        let _ = self.asked.send(request.task_id);
        Ok(task)
    }

    async fn update_task(
        &self,
        request: UpdateTaskParams,
        _: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.tasks
            .update_task(&request.task_id, request.input_responses)
    }

    async fn cancel_task(
        &self,
        request: CancelTaskParams,
        _: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.tasks.cancel_task(&request.task_id)
    }
}

fn prompt(request: &GetPromptRequestParams) -> Result<Value, ErrorData> {
    let argument = |name: &str| {
        let arguments = request.arguments.as_ref();
        let value = arguments.and_then(|arguments| arguments.get(name)?.as_str());
        value.map(str::to_owned).ok_or_else(|| {
            ErrorData::invalid_params(format!("the argument `{name}` is missing"), None)
        })
    };
    let text = |text: String| json!({"role": "user", "content": {"type": "text", "text": text}});
    let messages = match request.name.as_str() {
        "test_simple_prompt" => vec![text("This is a simple prompt for testing.".to_owned())],
        "test_prompt_with_arguments" => vec![text(format!(
            "Prompt with arguments: arg1='{}', arg2='{}'",
            argument("arg1")?,
            argument("arg2")?
        ))],
        "test_prompt_with_embedded_resource" => vec![
            json!({"role": "user", "content": {"type": "resource", "resource": {
                "uri": argument("resourceUri")?, "mimeType": "text/plain",
                "text": "Embedded resource content for testing.",
            }}}),
            text("Please process the embedded resource above.".to_owned()),
        ],
        "test_prompt_with_image" => vec![
            json!({"role": "user", "content": {"type": "image", "data": RED_DOT, "mimeType": "image/png"}}),
            text("Please analyze the image above.".to_owned()),
        ],
        other => {
            return Err(ErrorData::invalid_params(
                format!("there is no prompt `{other}`"),
                None,
            ));
        }
    };
    Ok(json!({"resultType": "complete", "messages": messages}))
}
