//! Against scripted processes: shell scripts that misbehave as real ones do.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use authz::AgentId;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use super::{Children, SESSION};
use crate::{HandlerError, description::McpTable, mcp::upstream::Body};

/// A server of both eras, in a language that every machine has. It answers `slow` with
/// progress first, `ask` with a question, `env` with its environment, `die` by ending.
const SERVER: &str = r#"
say() { printf '%s\n' "$1"; }
while IFS= read -r line; do
  id=$(printf '%s' "$line" | sed -n 's/.*"id": *\([^,} ]*\).*/\1/p')
  case "$line" in
    *'"initialize"'*) say '{"jsonrpc":"2.0","id":'"$id"',"result":{"protocolVersion":"2025-11-25","capabilities":{}}}' ;;
    *'"slow"'*)
      token=$(printf '%s' "$line" | sed -n 's/.*"progressToken": *\([^,} ]*\).*/\1/p')
      say 'this is no message'
      say '{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":'"$token"',"progress":1}}'
      say '{"jsonrpc":"2.0","id":'"$id"',"result":{"slow":true}}' ;;
    *'"ask"'*)
      say '{"jsonrpc":"2.0","id":"q1","method":"sampling/createMessage","params":{}}'
      IFS= read -r answer
      say '{"jsonrpc":"2.0","id":'"$id"',"result":{"said":'"$answer"'}}' ;;
    *'"env"'*) say '{"jsonrpc":"2.0","id":'"$id"',"result":{"env":"'"$(env | cut -d= -f1 | sort | tr '\n' ' ')"'","token":"'"$API_TOKEN"'"}}' ;;
    *'"pid"'*) say '{"jsonrpc":"2.0","id":'"$id"',"result":{"pid":'"$$"'}}' ;;
    *'"fork"'*) sleep 1000 & say '{"jsonrpc":"2.0","id":'"$id"',"result":{"pid":'"$!"'}}' ;;
    *'"stubborn"'*) trap '' TERM; say '{"jsonrpc":"2.0","id":'"$id"',"result":{"pid":'"$$"'}}'; while :; do sleep 1; done ;;
    *'"flood"'*)
      for count in 1019 100000 3000000; do head -c $count /dev/zero | tr '\0' x >&2; echo "$API_TOKEN" >&2; done
      i=0; while [ $i -lt 5000 ]; do echo "noise $i $API_TOKEN" >&2; i=$((i+1)); done; say '{"jsonrpc":"2.0","id":'"$id"',"result":{}}' ;;
    *'"babble"'*)
      head -c 20000 /dev/urandom; say ''; printf '\377\376 \000\n'; say 'null'; say '[]'; say '{"jsonrpc":"2.0"}'
      say '[{"jsonrpc":"2.0","id":'"$id"',"result":{"in":"a batch"}}]'
      say '{"jsonrpc":"2.0","id":'"$id"',"id":'"$id"',"result":{"id":"twice"}}'
      say '{"jsonrpc":"2.0","id":'"$id"',"result":{"after":"noise"}}' ;;
    *'"twice"'*)
      say '{"jsonrpc":"2.0","id":999999,"result":{"whose":"nobody"}}'
      say '{"jsonrpc":"2.0","id":'"$id"',"result":{"time":1}}'
      say '{"jsonrpc":"2.0","id":'"$id"',"result":{"time":2}}' ;;
    *'"never"'*) : ;;
    *'"half"'*) say '{"jsonrpc":"2.0","method":"notifications/message","params":{}}'; exit 3 ;;
    *'"die"'*) exit 3 ;;
    *'"id"'*) say '{"jsonrpc":"2.0","id":'"$id"',"result":{"echo":'"$line"'}}' ;;
    *'"bye"'*) say '{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}' ;;
  esac
done
"#;

fn children_of(command: &[&str], limit: usize, timeout: Duration) -> Result<Children, String> {
    let table: McpTable = toml::from_str(&format!(
        "command = {}\nenvironment = [\"API_TOKEN\"]\nmax_answer_bytes = {limit}",
        json!(command)
    ))
    .unwrap();
    let variables = HashMap::from([
        ("PATH", std::env::var("PATH").unwrap()),
        ("API_TOKEN", "s3cr3t-t0ken".to_owned()),
        ("OTHER", "x".to_owned()),
    ]);
    Children::new("files", &table, timeout, &|name| {
        variables.get(name).cloned()
    })
}

fn children() -> Children {
    children_of(&["sh", "-c", SERVER], 100_000, Duration::from_secs(20)).unwrap()
}

const BOT: Option<AgentId> = Some(AgentId::LOCAL);

fn request(method: Method, session: Option<&str>, body: &str) -> Request<Bytes> {
    let mut request = Request::builder().method(method).uri("/");
    if let Some(session) = session {
        request = request.header(SESSION, session);
    }
    request.body(Bytes::from(body.to_owned())).unwrap()
}

async fn post(
    children: &Children,
    agent: Option<AgentId>,
    session: Option<&str>,
    body: &Value,
) -> Result<Response<Body>, HandlerError> {
    // Over several lines, as a client may write it.
    let text = serde_json::to_string_pretty(body).unwrap();
    children
        .send(agent, request(Method::POST, session, &text))
        .await
}

fn call(id: impl Into<Value>, method: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": id.into(), "method": method, "params": {"_meta": {"progressToken": "t-1"}}})
}

fn modern(id: impl Into<Value>, method: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": id.into(), "method": method, "params": {"_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}}})
}

async fn text(response: Response<Body>) -> String {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

async fn read(response: Response<Body>) -> Value {
    assert_eq!(response.headers()["content-type"], "application/json");
    serde_json::from_str(&text(response).await).unwrap()
}

async fn begin(children: &Children, agent: Option<AgentId>) -> String {
    let response = post(children, agent, None, &call(1, "initialize"))
        .await
        .unwrap();
    let session = response.headers()[SESSION].to_str().unwrap().to_owned();
    assert_eq!(
        read(response).await["result"]["protocolVersion"],
        "2025-11-25"
    );
    session
}

fn is_alive(pid: &Value) -> bool {
    let pid = i32::try_from(pid.as_i64().unwrap()).unwrap();
    rustix::process::test_kill_process(rustix::process::Pid::from_raw(pid).unwrap()).is_ok()
}

async fn gone(pid: &Value) {
    let gone = async {
        while is_alive(pid) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_session_has_a_process_of_its_own() {
    let children = children();
    let (one, two) = (begin(&children, BOT).await, begin(&children, BOT).await);
    let pid = |session: String| async {
        let session = session;
        let response = post(&children, BOT, Some(&session), &call("a", "pid"))
            .await
            .unwrap();
        read(response).await["result"]["pid"].clone()
    };
    let (first, second) = (pid(one.clone()).await, pid(two.clone()).await);
    assert_ne!(first, second);
    assert_eq!(first, pid(one.clone()).await);

    // The client's own id and token come back, whatever stands between.
    let response = post(&children, BOT, Some(&one), &call("x\ny", "slow"))
        .await
        .unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    assert_eq!(
        text(response).await,
        "event: message\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{\"progressToken\":\"t-1\",\"progress\":1}}\n\n\
         event: message\ndata: {\"jsonrpc\":\"2.0\",\"id\":\"x\\ny\",\"result\":{\"slow\":true}}\n\n"
    );
    // It is nobody else's, and ends when it is told to.
    let stranger = Some(AgentId::generate(authz::Timestamp::from_millis(1)));
    for agent in [stranger, None] {
        let response = post(&children, agent, Some(&one), &call(1, "pid"))
            .await
            .unwrap();
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
    }
    let response = post(&children, BOT, None, &call(1, "pid")).await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    let ended = children
        .send(BOT, request(Method::DELETE, Some(&one), ""))
        .await
        .unwrap();
    assert_eq!(ended.status(), StatusCode::OK);
    gone(&first).await;
    let response = post(&children, BOT, Some(&one), &call(1, "pid"))
        .await
        .unwrap();
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
    drop(children);
    gone(&second).await;
}

#[tokio::test]
async fn a_server_asks_its_client_and_tells_who_listens() {
    let children = children();
    let session = begin(&children, BOT).await;
    let response = post(&children, BOT, Some(&session), &call(7, "ask"))
        .await
        .unwrap();
    let mut body = response.into_body();
    let asked = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(String::from_utf8_lossy(&asked).contains("\"id\":\"q1\""));
    let answer = json!({"jsonrpc": "2.0", "id": "q1", "result": {"n": 1}});
    let told = post(&children, BOT, Some(&session), &answer).await.unwrap();
    assert_eq!(told.status(), StatusCode::ACCEPTED);
    let rest = body.collect().await.unwrap().to_bytes();
    assert!(String::from_utf8_lossy(&rest).contains("\"id\":7"));

    let listening = children
        .send(BOT, request(Method::GET, Some(&session), ""))
        .await
        .unwrap();
    let second = children
        .send(BOT, request(Method::GET, Some(&session), ""))
        .await
        .unwrap();
    assert_eq!(second.status(), StatusCode::CONFLICT);
    let bye = json!({"jsonrpc": "2.0", "method": "bye"});
    post(&children, BOT, Some(&session), &bye).await.unwrap();
    let heard = listening
        .into_body()
        .frame()
        .await
        .unwrap()
        .unwrap()
        .into_data()
        .unwrap();
    assert!(String::from_utf8_lossy(&heard).contains("list_changed"));
}

#[tokio::test]
async fn clients_without_sessions_share_a_process_and_not_their_ids() {
    let children = children();
    let pid = |agent| {
        let children = &children;
        async move {
            read(
                post(children, agent, None, &modern(1, "pid"))
                    .await
                    .unwrap(),
            )
            .await
        }
    };
    let (one, two) = tokio::join!(pid(BOT), pid(None));
    assert_eq!((&one, &one["id"]), (&two, &json!(1)));
    let echo = read(
        post(&children, BOT, None, &modern("one", "echo"))
            .await
            .unwrap(),
    )
    .await;
    assert_eq!(echo["id"], "one");
    assert!(
        echo["result"]["echo"]["id"].is_u64(),
        "it never sees their ids"
    );

    // It dies: who waits is told, and the next has another, after a pause.
    let error = post(&children, BOT, None, &modern(1, "die"))
        .await
        .unwrap_err();
    assert!(matches!(error, HandlerError::Broken { .. }), "{error}");
    gone(&one["result"]["pid"]).await;
    let error = post(&children, BOT, None, &modern(1, "pid"))
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("not started again yet"),
        "{error}"
    );
    children.state().pause_until = None;
    assert_ne!(pid(BOT).await["result"]["pid"], one["result"]["pid"]);
}

#[tokio::test]
async fn it_sees_what_is_named_and_says_no_secret() {
    let children = children();
    let answer = text(post(&children, BOT, None, &modern(1, "env")).await.unwrap()).await;
    assert!(answer.contains("API_TOKEN") && answer.contains("PATH") && !answer.contains("OTHER"));
    assert!(
        answer.contains("************") && !answer.contains("s3cr3t"),
        "{answer}"
    );
    let missing: McpTable = toml::from_str("command = [\"x\"]\nenvironment = [\"A\"]").unwrap();
    let error = Children::new("x", &missing, Duration::from_secs(1), &|_| None).unwrap_err();
    assert_eq!(error, "set `A`");
}

#[tokio::test]
async fn what_it_started_ends_with_it_and_so_does_who_will_not() {
    for method in ["fork", "stubborn"] {
        let children = children();
        let session = begin(&children, BOT).await;
        let pid = read(
            post(&children, BOT, Some(&session), &call(1, method))
                .await
                .unwrap(),
        )
        .await;
        let pid = pid["result"]["pid"].clone();
        assert!(is_alive(&pid), "{method}");
        children
            .send(BOT, request(Method::DELETE, Some(&session), ""))
            .await
            .unwrap();
        gone(&pid).await;
    }
}

#[tokio::test]
async fn noise_silence_and_half_answers_are_survived() {
    let children = children();
    let after = post(&children, BOT, None, &modern(1, "babble")).await;
    assert_eq!(
        read(after.unwrap()).await["result"],
        json!({"after": "noise"})
    );
    let quick = children_of(&["sh", "-c", SERVER], 100_000, Duration::from_millis(300)).unwrap();
    let error = post(&quick, BOT, None, &modern(1, "never"))
        .await
        .unwrap_err();
    assert!(matches!(error, HandlerError::Timeout { .. }), "{error}");
    assert!(
        quick.shared().unwrap().idle_since().is_some(),
        "nothing waits any more"
    );

    let session = begin(&children, BOT).await;
    let half = post(&children, BOT, Some(&session), &call(1, "half"))
        .await
        .unwrap();
    let error = half.into_body().collect().await.unwrap_err();
    assert!(matches!(error, HandlerError::Broken { .. }), "{error}");

    let long = "while read -r line; do head -c 100000 /dev/zero | tr '\\0' x; done";
    let endless = children_of(&["sh", "-c", long], 1000, Duration::from_secs(20)).unwrap();
    let error = post(&endless, BOT, None, &modern(1, "x"))
        .await
        .unwrap_err();
    assert!(matches!(error, HandlerError::Broken { .. }), "{error}");

    let absent = children_of(&["/nowhere/at-all"], 1000, Duration::from_secs(1)).unwrap();
    let error = post(&absent, BOT, None, &modern(1, "x")).await.unwrap_err();
    assert!(
        matches!(&error, HandlerError::Unreachable { .. }),
        "{error}"
    );
}

#[tokio::test]
async fn an_agent_has_so_many_sessions_and_no_more() {
    let children = children();
    let first = begin(&children, BOT).await;
    for _ in 0..super::SESSIONS_PER_AGENT {
        begin(&children, BOT).await;
    }
    assert_eq!(children.state().sessions.len(), super::SESSIONS_PER_AGENT);
    let response = post(&children, BOT, Some(&first), &call(1, "pid"))
        .await
        .unwrap();
    assert_eq!(
        response.status(),
        StatusCode::NOT_FOUND,
        "the oldest made room"
    );
}

/// What is logged while this lives, in this thread.
fn logged() -> (tracing::subscriber::DefaultGuard, Arc<Mutex<Vec<u8>>>) {
    let kept = Arc::new(Mutex::new(Vec::new()));
    let writer = Arc::clone(&kept);
    let subscriber = tracing_subscriber::fmt()
        .json()
        .with_writer(move || Kept(Arc::clone(&writer)))
        .finish();
    (tracing::subscriber::set_default(subscriber), kept)
}

struct Kept(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A process that writes without end to its stderr is read, so that it goes on; little of it
/// is logged, and nothing of a credential, not even where a long line is cut.
#[tokio::test]
async fn a_flood_of_errors_is_read_and_not_kept() {
    let (_logging, logged) = logged();
    let children = children();
    let session = begin(&children, BOT).await;
    let flood = post(&children, BOT, Some(&session), &call(1, "flood")).await;
    assert_eq!(read(flood.unwrap()).await["result"], json!({}));
    let end = request(Method::DELETE, Some(&session), "");
    children.send(BOT, end).await.unwrap();
    let lines = || {
        let text = String::from_utf8(logged.lock().unwrap().clone()).unwrap();
        let lines = text.lines().map(serde_json::from_str::<Value>);
        lines.map(Result::unwrap).collect::<Vec<_>>()
    };
    let says = |line: &Value, what: &str| line["fields"]["message"] == what;
    let ended = async {
        let over = |line: &Value| says(line, "an MCP server's process ended");
        while !lines().iter().any(over) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), ended)
        .await
        .unwrap();
    let lines = lines();
    let said: Vec<_> = lines
        .iter()
        .filter(|line| says(line, "an MCP server says"))
        .map(|line| line["fields"]["said"].as_str().unwrap())
        .collect();
    assert_eq!(said.len(), 50);
    assert!(said.iter().all(|said| said.len() <= 1024));
    assert!(said[0].ends_with("x*****"), "{}", said[0]);
    assert!(said[3].ends_with("noise 0 ************"), "{}", said[3]);
    let text = json!(lines).to_string();
    assert!(!text.contains("s3cr3t") && !text.contains("xs3"), "{text}");
}

/// What answers nothing that was asked, or answers it again, reaches nobody.
#[tokio::test]
async fn an_answer_too_many_is_nobodys() {
    let children = children();
    let session = begin(&children, BOT).await;
    for session in [Some(session.as_str()), None] {
        let asked = |id: u32, method: &str| match session {
            Some(_) => call(id, method),
            None => modern(id, method),
        };
        let first = post(&children, BOT, session, &asked(1, "twice")).await;
        assert_eq!(read(first.unwrap()).await["result"], json!({"time": 1}));
        let next = post(&children, BOT, session, &asked(2, "pid")).await;
        let next = read(next.unwrap()).await;
        assert!(
            next["id"] == 2 && next["result"]["pid"].is_number(),
            "{next}"
        );
    }
}
