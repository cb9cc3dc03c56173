//! What happens in the demo: the deployment checklist's permission flow.

use std::{fs, time::Duration};

use anyhow::{Context, bail, ensure};
use contract::audit::AuditEntry;
use futures_util::{Stream, StreamExt};
use http::{Method, header};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{self, Message, client::IntoClientRequest};

use super::{Stage, narrator::Narrator};
use crate::commands::audit;

/// Whatever takes longer on one machine has gone wrong.
const PATIENCE: Duration = Duration::from_secs(20);

/// The journal is sent on in batches; this is how often the trail is read again.
const REREAD: Duration = Duration::from_millis(100);

/// The command that the story is about.
const COMMAND: &str = "/mcp-coolify servers list";

/// One HTTP request, to be sent and to be shown.
pub(super) struct Call<'a> {
    stage: &'a Stage,
    method: Method,
    url: String,
    /// With the admin's token.
    as_admin: bool,
    agent: Option<String>,
    body: Option<Value>,
    /// What the person would pipe the answer through.
    filter: Option<&'static str>,
}

impl<'a> Call<'a> {
    fn new(stage: &'a Stage, method: Method, url: String) -> Self {
        Self {
            stage,
            method,
            url,
            as_admin: false,
            agent: None,
            body: None,
            filter: None,
        }
    }

    fn by_admin(self) -> Self {
        Self {
            as_admin: true,
            ..self
        }
    }

    fn with(self, body: Value) -> Self {
        Self {
            body: Some(body),
            ..self
        }
    }

    /// The command line that does the same.
    pub(super) fn as_curl(&self) -> String {
        let mut parts = vec![match self.method {
            Method::GET => format!("curl -s '{}'", self.url),
            _ => format!("curl -s -X {} '{}'", self.method, self.url),
        }];
        if self.as_admin {
            parts.push("-H \"Authorization: Bearer $CEDARGATE_TOKEN\"".to_owned());
        }
        if let Some(agent) = &self.agent {
            parts.push(format!("-H 'X-Agent-Id: {agent}'"));
        }
        if let Some(body) = &self.body {
            parts.push("-H 'Content-Type: application/json'".to_owned());
            // Between single quotes, a shell needs only those written otherwise.
            parts.push(format!("-d '{}'", body.to_string().replace('\'', r"'\''")));
        }
        let mut text = parts.join(" \\\n  ");
        if let Some(filter) = self.filter {
            text = format!("{text} | jq '{filter}'");
        }
        text
    }

    async fn send(&self) -> anyhow::Result<(u16, Value)> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(PATIENCE)
            .build()?;
        let mut request = http.request(self.method.clone(), &self.url);
        if self.as_admin {
            request = request.bearer_auth(self.stage.token.expose_secret());
        }
        if let Some(agent) = &self.agent {
            request = request.header("X-Agent-Id", agent);
        }
        if let Some(body) = &self.body {
            request = request.json(body);
        }
        let response = request
            .send()
            .await
            .with_context(|| format!("no answer from {}", self.url))?;
        let status = response.status().as_u16();
        let text = response.text().await?;
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Ok((status, body))
    }
}

/// The agent sends a command.
pub(super) fn execute<'a>(stage: &'a Stage, agent: &str, command: &str) -> Call<'a> {
    let call = Call::new(stage, Method::POST, format!("{}/execute", stage.gateway));
    Call {
        agent: Some(agent.to_owned()),
        ..call
    }
    .with(json!({"command": command}))
}

/// Waits until the gateway has its policy set: the orchestrator hands it over just after start.
pub(super) async fn ready(stage: &Stage) -> anyhow::Result<()> {
    let ready = Call::new(stage, Method::GET, format!("{}/ready", stage.gateway));
    let wait = async {
        while ready.send().await?.0 != 200 {
            tokio::time::sleep(REREAD).await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(PATIENCE, wait)
        .await
        .context("the gateway does not become ready")?
}

/// Tells it all, and returns the id of the agent that it is about.
pub(super) async fn tell(stage: &Stage, narrator: &mut Narrator) -> anyhow::Result<String> {
    both_are_up(stage, narrator).await?;
    let agent = an_agent_comes(stage, narrator).await?;

    narrator.step("Someone watches: a WebSocket, as the approvals page has one")?;
    let mut events = watch(stage, narrator).await?;

    narrator.step("The agent asks Coolify for its servers, and is refused")?;
    let call = execute(stage, &agent, COMMAND);
    let (status, refusal) = told(narrator, &call).await?;
    ensure!(status == 403, "the refusal's status is {status}, not 403");
    ensure!(
        at(&refusal, "/error/code") == &json!(-32004),
        "the refusal's code is not -32004"
    );
    let request = text(&refusal, "/error/data/request_id")
        .context("the refusal names no approval request")?;
    narrator.note("refused, with the reason; people were asked; nothing was sent to Coolify")?;

    narrator.step("The watcher hears of it, and so does the log")?;
    let event = next(&mut events, "mcp_permission_request").await?;
    narrator.answer(None, &event)?;
    ensure!(
        text(&event, "/request_id").as_deref() == Some(&request),
        "the event is about another request"
    );
    log_has(stage, narrator, "mcp_permission_request", &request)?;

    narrator.step("A person approves: this call, for an hour")?;
    let approve = Call::new(
        stage,
        Method::POST,
        format!("{}/api/mcp/permission-respond", stage.orchestrator),
    )
    .by_admin()
    .with(json!({"request_id": request, "approved": true, "reason": "Testing approved"}));
    let (status, answer) = told(narrator, &approve).await?;
    ensure!(
        status == 200 && at(&answer, "/approved") == &json!(true),
        "the approval was not accepted"
    );
    let event = next(&mut events, "mcp_permission_response").await?;
    ensure!(
        at(&event, "/approved") == &json!(true),
        "the watcher heard of no approval"
    );
    narrator.note("the watcher hears of that, too: mcp_permission_response, approved")?;
    let _ = events.close(None).await;

    narrator.step("The agent sends the same command again, and has its answer")?;
    let (status, answer) = told(narrator, &call).await?;
    ensure!(
        status == 200,
        "the permitted command's status is {status}, not 200"
    );
    let servers = at(&answer, "/result/data/servers")
        .as_array()
        .context("the answer lists no servers")?;
    narrator.note(&format!(
        "permitted at once, no cache to wait for: {} servers",
        servers.len()
    ))?;

    what_was_recorded(stage, narrator, &agent).await?;
    Ok(agent)
}

async fn both_are_up(stage: &Stage, narrator: &mut Narrator) -> anyhow::Result<()> {
    narrator.step("Both planes are up")?;
    for plane in [&stage.gateway, &stage.orchestrator] {
        let (status, health) = told(
            narrator,
            &Call::new(stage, Method::GET, format!("{plane}/health")),
        )
        .await?;
        ensure!(
            status == 200 && at(&health, "/status") == &json!("healthy"),
            "{plane} is not healthy"
        );
    }

    narrator.step("The gateway knows Coolify")?;
    let catalog = Call {
        filter: Some(r#".services[] | select(.name=="coolify") | {name, version, status}"#),
        ..Call::new(stage, Method::GET, format!("{}/mcp/catalog", stage.gateway))
    };
    narrator.type_command(&catalog.as_curl())?;
    let (status, answer) = catalog.send().await?;
    let services = at(&answer, "/services")
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let coolify = services
        .iter()
        .find(|service| at(service, "/name") == "coolify");
    let coolify =
        coolify.with_context(|| format!("the catalog has no coolify; it answered {status}"))?;
    let shown: serde_json::Map<String, Value> = ["name", "version", "status"]
        .iter()
        .map(|key| ((*key).to_owned(), at(coolify, &format!("/{key}")).clone()))
        .collect();
    narrator.answer(Some(status), &Value::Object(shown))?;
    ensure!(
        at(coolify, "/status") == "active",
        "coolify is not active: {}",
        at(coolify, "/errorMessage")
    );
    Ok(())
}

async fn an_agent_comes(stage: &Stage, narrator: &mut Narrator) -> anyhow::Result<String> {
    narrator.step("Nobody is let in by name: an unknown agent is not found")?;
    let unknown = Call::new(
        stage,
        Method::GET,
        format!("{}/api/agent/test/mcp-permissions", stage.orchestrator),
    );
    let (status, _) = told(narrator, &unknown).await?;
    ensure!(
        status == 404,
        "an unknown agent's status is {status}, not 404"
    );

    narrator.step("The admin registers an agent that may use GitHub, and nothing else")?;
    let create = Call::new(
        stage,
        Method::POST,
        format!("{}/api/agents", stage.orchestrator),
    )
    .by_admin()
    .with(json!({"name": "test-agent", "allowed_mcps": ["github"]}));
    let (status, agent) = told(narrator, &create).await?;
    ensure!(status < 300, "the agent was not created");
    text(&agent, "/id").context("the new agent has no id")
}

type Socket =
    tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

async fn watch(stage: &Stage, narrator: &Narrator) -> anyhow::Result<Socket> {
    let url = format!("{}/ws", stage.orchestrator.replacen("http", "ws", 1));
    narrator.type_command(&format!(
        "websocat -H \"Authorization: Bearer $CEDARGATE_TOKEN\" {url}"
    ))?;
    let mut request = url.into_client_request()?;
    let bearer = format!("Bearer {}", stage.token.expose_secret());
    request
        .headers_mut()
        .insert(header::AUTHORIZATION, bearer.parse()?);
    let connect = tokio::time::timeout(PATIENCE, tokio_tungstenite::connect_async(request));
    let (mut socket, _) = connect.await.context("the WebSocket does not open")??;
    let event = next(&mut socket, "connection_established").await?;
    narrator.answer(None, &event)?;
    Ok(socket)
}

/// The next event of that type; heartbeats and others are passed over.
async fn next(
    events: &mut (impl Stream<Item = Result<Message, tungstenite::Error>> + Unpin),
    kind: &str,
) -> anyhow::Result<Value> {
    let found = async {
        while let Some(message) = events.next().await {
            let Message::Text(text) = message? else {
                continue;
            };
            let event: Value = serde_json::from_str(&text)?;
            if at(&event, "/type") == kind {
                return Ok(event);
            }
        }
        bail!("the WebSocket closed before `{kind}` came");
    };
    tokio::time::timeout(PATIENCE, found)
        .await
        .with_context(|| format!("no `{kind}` came"))?
}

fn log_has(stage: &Stage, narrator: &Narrator, event: &str, request: &str) -> anyhow::Result<()> {
    let log = &stage.log;
    narrator.type_command(&format!(
        "grep {event} {} | jq -c '{{level, message, request_id}}'",
        log.display()
    ))?;
    let text = fs::read_to_string(log).context("the log cannot be read")?;
    let line = text
        .lines()
        .find(|line| line.contains(event) && line.contains(request))
        .with_context(|| format!("the log has no `{event}` for {request}"))?;
    let line: Value = serde_json::from_str(line).context("the log's line is not JSON")?;
    let shown = json!({"level": at(&line, "/level"), "message": at(&line, "/message"), "request_id": at(&line, "/request_id")});
    Narrator::text(&shown.to_string())
}

async fn what_was_recorded(
    stage: &Stage,
    narrator: &mut Narrator,
    agent: &str,
) -> anyhow::Result<()> {
    narrator.step("All of it is on record")?;
    let trail = Call {
        filter: Some(".[] | {id, at, kind, user, command}"),
        ..Call::new(
            stage,
            Method::GET,
            format!("{}/api/audit?agent={agent}", stage.orchestrator),
        )
        .by_admin()
    };
    narrator.type_command(&trail.as_curl())?;
    let entries = tokio::time::timeout(PATIENCE, complete_trail(&trail))
        .await
        .context("the gateway's journal did not reach the orchestrator")??;
    Narrator::text(&trail_text(&entries, agent))?;

    narrator.type_command(&format!(
        "cedargate audit verify {}",
        stage.journal().display()
    ))?;
    let verified = gateway::journal::verify(&stage.journal(), None)?;
    narrator.note(&format!(
        "the journal's chain of {} lines is whole",
        verified.lines
    ))
}

/// One line for each entry.
fn trail_text(entries: &[AuditEntry], agent: &str) -> String {
    let names = agent
        .parse()
        .into_iter()
        .map(|agent| (agent, "test-agent".to_owned()))
        .collect();
    let line = |entry: &AuditEntry| {
        let time = entry.at.to_string();
        let time = time.get(11..23).unwrap_or(&time);
        let who = audit::who(entry, &names);
        let command = entry.command.as_deref().unwrap_or("-");
        let why: String = audit::why(&entry.entry).chars().take(40).collect();
        format!("{time}  {:15}  {who:10}  {command:20}  {why}", entry.kind)
            .trim_end()
            .to_owned()
    };
    // Each plane records by itself: in the trail, lines stand as they arrived.
    let mut entries: Vec<&AuditEntry> = entries.iter().collect();
    entries.sort_by_key(|entry| entry.at);
    entries.into_iter().map(line).collect::<Vec<_>>().join("\n")
}

/// The trail, once it has the refusal, the verdict and the outcome.
async fn complete_trail(trail: &Call<'_>) -> anyhow::Result<Vec<AuditEntry>> {
    loop {
        let (status, answer) = trail.send().await?;
        ensure!(status == 200, "the audit trail's status is {status}");
        let entries: Vec<AuditEntry> = serde_json::from_value(answer)?;
        let has = |kind: &str| entries.iter().any(|entry| entry.kind == kind);
        if ["refusal", "approved", "outcome"].into_iter().all(has) {
            return Ok(entries);
        }
        tokio::time::sleep(REREAD).await;
    }
}

/// Shows the call, sends it, shows the answer.
async fn told(narrator: &Narrator, call: &Call<'_>) -> anyhow::Result<(u16, Value)> {
    narrator.type_command(&call.as_curl())?;
    let (status, body) = call.send().await?;
    narrator.answer(Some(status), &body)?;
    Ok((status, body))
}

fn at<'a>(value: &'a Value, pointer: &str) -> &'a Value {
    value.pointer(pointer).unwrap_or(&Value::Null)
}

fn text(value: &Value, pointer: &str) -> Option<String> {
    at(value, pointer).as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_shown_as_a_shell_reads_it() {
        let stage = Stage {
            gateway: "http://127.0.0.1:1".to_owned(),
            metrics: String::new(),
            orchestrator: String::new(),
            data: "/nowhere".into(),
            log: "/nowhere".into(),
            token: "cgu_secret".into(),
        };
        let shown = execute(&stage, "some-agent", "it's").by_admin().as_curl();
        assert_eq!(
            shown,
            "curl -s -X POST 'http://127.0.0.1:1/execute' \\\n  -H \"Authorization: Bearer $CEDARGATE_TOKEN\" \\\n  \
             -H 'X-Agent-Id: some-agent' \\\n  -H 'Content-Type: application/json' \\\n  -d '{\"command\":\"it'\\''s\"}'"
        );
        assert!(
            !shown.contains("cgu_secret"),
            "the token stays in its variable"
        );
    }
}
