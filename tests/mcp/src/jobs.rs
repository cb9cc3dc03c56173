//! The tools that run as tasks, for clients that take tasks.
//!
//! None of them looks at a clock: what takes time goes on when somebody asks how far it is.

use rmcp::{
    ErrorData, RoleServer,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, ClientCapabilities,
        CreateTaskResult, InputRequest,
    },
    service::RequestContext,
    task_manager::{TaskContext, TaskExit, TaskOptions},
};
use serde_json::{Value, json};
use tokio::sync::broadcast;

use crate::{asked, message, server::Server, tools};

/// Answers, or starts a task, when it is one of these tools.
pub(crate) fn call(
    server: &Server,
    request: &CallToolRequestParams,
    context: &RequestContext<RoleServer>,
) -> Result<Option<CallToolResponse>, ErrorData> {
    let argument = |name: &str| request.arguments.as_ref()?.get(name).cloned();
    let declared = context.client_capabilities().unwrap_or_default();
    let tasks = declared.supports_tasks();
    let job = match &*request.name {
        "greet" => {
            let name = argument("name").unwrap_or_default();
            let name = name.as_str().unwrap_or("World").to_owned();
            let result: CallToolResult = message(tools::text(format!("Hello, {name}!")))?;
            return Ok(Some(result.into()));
        }
        "slow_compute" => {
            let seconds = argument("seconds").and_then(|seconds| seconds.as_u64());
            Job::Slow(seconds.unwrap_or(1))
        }
        "failing_job" => Job::Failing,
        "protocol_error_job" => Job::Broken,
        "confirm_delete" => {
            let file = argument("filename").unwrap_or_default();
            Job::Confirm(file.as_str().unwrap_or("everything").to_owned())
        }
        "multi_input" => Job::Two,
        "test_tool_with_task" => match asked::name(request, context)? {
            Ok(name) => Job::Greet(name),
            Err(question) => return Ok(Some(question)),
        },
        _ => return Ok(None),
    };
    if tasks {
        let options = TaskOptions::new().with_poll_interval_ms(100);
        // From before it exists, so that nobody asks unheard.
        let asked = server.asked.subscribe();
        let task = server.tasks.spawn(options, move |task| {
            Box::pin(async move { job.run(&task, asked).await })
        });
        return Ok(Some(CreateTaskResult::new(task).into()));
    }
    // Whoever takes no tasks cannot ask how far it is, and gets what would come of it.
    if let Job::Slow(_) = job {
        let result: CallToolResult = message(tools::text("Computed."))?;
        return Ok(Some(result.into()));
    }
    let needed = ClientCapabilities::builder().enable_tasks().build();
    Err(ErrorData::missing_required_client_capability(needed))
}

enum Job {
    /// It has to be asked for so often.
    Slow(u64),
    Failing,
    Broken,
    Confirm(String),
    Two,
    Greet(String),
}

impl Job {
    async fn run(
        self,
        task: &TaskContext,
        asked: broadcast::Receiver<String>,
    ) -> Result<CallToolResult, TaskExit> {
        let result = match self {
            Self::Slow(times) => {
                tokio::select! {
                    () = asked_for(task, asked, times) => {}
                    () = task.cancelled() => return Err(TaskExit::Cancelled),
                }
                tools::text("Computed.")
            }
            Self::Failing => {
                tokio::select! {
                    () = asked_for(task, asked, 1) => {}
                    () = task.cancelled() => return Err(TaskExit::Cancelled),
                }
                tools::failed("This job always fails.")
            }
            Self::Broken => {
                return Err(ErrorData::internal_error("this job always breaks", None).into());
            }
            Self::Confirm(file) => {
                let answer = task
                    .request_input("confirm", question(&format!("Delete {file}?"), "confirm")?)
                    .await?;
                if confirmed(&answer) {
                    tools::text(format!("Deleted {file}."))
                } else {
                    tools::text("Nothing was deleted.")
                }
            }
            Self::Two => {
                let (first, second) = tokio::join!(
                    task.request_input("first", question("The first?", "confirm")?),
                    task.request_input("second", question("The second?", "confirm")?),
                );
                tools::text(format!("{} {}", first?, second?))
            }
            Self::Greet(name) => tools::text(format!("Hello, {name}!")),
        };
        Ok(message(result)?)
    }
}

/// Until somebody has asked so often how far it is.
async fn asked_for(task: &TaskContext, mut asked: broadcast::Receiver<String>, times: u64) {
    let mut left = times;
    while left > 0 {
        match asked.recv().await {
            Ok(id) if id == task.task_id() => left -= 1,
            Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}

fn question(said: &str, property: &str) -> Result<InputRequest, ErrorData> {
    message(json!({"method": "elicitation/create", "params": {
        "mode": "form",
        "message": said,
        "requestedSchema": {
            "type": "object",
            "properties": {property: {"type": "boolean"}},
            "required": [property],
        },
    }}))
}

fn confirmed(answer: &Value) -> bool {
    answer.get("action").and_then(Value::as_str) == Some("accept")
        && answer.pointer("/content/confirm") != Some(&Value::Bool(false))
}
