//! The MCP server that everything under measurement forwards to: it does next to nothing.
//!
//! `bench-mcp-upstream 127.0.0.1:9001 500` has five hundred tools. A call of `echo` is
//! answered at once; one of `flood` with a stream of 64 MiB of events; `subscriptions/listen`
//! with a stream that says one thing and stays open.

use std::{convert::Infallible, fmt::Write, sync::Arc};

use anyhow::Context;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, value::RawValue};
use tokio::{net::TcpListener, sync::mpsc};

/// Of the stream that `flood` answers with: so many frames of so many bytes.
const FRAMES: usize = 4_096;
const FRAME_BYTES: usize = 16 * 1024;

type Body = BoxBody<Bytes, Infallible>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: bench-mcp-upstream <address> <tools>";
    let address = arguments.next().context(usage)?;
    let tools = Arc::new(tools(arguments.next().context(usage)?.parse()?));
    let listener = TcpListener::bind(&address)
        .await
        .with_context(|| format!("cannot listen on `{address}`"))?;
    loop {
        let (connection, _) = listener.accept().await?;
        connection.set_nodelay(true)?;
        let tools = Arc::clone(&tools);
        let service = service_fn(move |request| answer(Arc::clone(&tools), request));
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(connection), service));
    }
}

/// A list of tools as servers write it. Every tenth says of itself that it destroys.
fn tools(count: usize) -> String {
    let mut list = String::from(
        r#"[{"name":"echo","description":"Says it again.","inputSchema":{"type":"object","properties":{"text":{"type":"string"}}}},{"name":"flood","description":"Says much.","inputSchema":{"type":"object"}}"#,
    );
    for n in 2..count {
        let destroys = n % 10 == 0;
        let _ = write!(
            list,
            r#",{{"name":"tool_{n:04}","title":"Tool {n}","description":"Does the work number {n} on a record of the database, and gives back what it was before.","inputSchema":{{"type":"object","properties":{{"id":{{"type":"string","description":"Which one."}},"limit":{{"type":"integer","minimum":1}}}},"required":["id"]}},"annotations":{{"destructiveHint":{destroys}}}}}"#
        );
    }
    list.push(']');
    list
}

/// What it looks at of a request.
#[derive(serde::Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Option<&'a str>,
    #[serde(default)]
    params: Value,
}

async fn answer(
    tools: Arc<String>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let body = match request.into_body().collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => Bytes::new(),
    };
    let Ok(message) = serde_json::from_slice::<Message<'_>>(&body) else {
        return Ok(status(http::StatusCode::BAD_REQUEST));
    };
    let id = message.id.map_or("null", RawValue::get);
    let result = match message.method.unwrap_or_default() {
        "server/discover" => {
            r#"{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"ttlMs":1000,"cacheScope":"private"}"#
                .to_owned()
        }
        "tools/list" => format!(
            r#"{{"resultType":"complete","tools":{tools},"ttlMs":1000,"cacheScope":"private"}}"#
        ),
        "tools/call" if message.params.get("name").is_some_and(|name| name == "flood") => {
            return Ok(flood(id));
        }
        "tools/call" => {
            r#"{"resultType":"complete","content":[{"type":"text","text":"the same again"}]}"#
                .to_owned()
        }
        "subscriptions/listen" => return Ok(listen()),
        _ => return Ok(status(http::StatusCode::ACCEPTED)),
    };
    let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#);
    Ok(of("application/json", Full::new(Bytes::from(text)).boxed()))
}

fn of(kind: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let kind = HeaderValue::from_static(kind);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

fn status(status: http::StatusCode) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::new()).boxed());
    *response.status_mut() = status;
    response
}

/// Much, and the answer at the end.
fn flood(id: &str) -> Response<Body> {
    let line = "x".repeat(FRAME_BYTES - ": \n\n".len());
    let frame = Bytes::from(format!(": {line}\n\n"));
    let last = Bytes::from(format!(
        "data: {{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{{\"resultType\":\"complete\",\"content\":[]}}}}\n\n"
    ));
    let frames = std::iter::repeat_n(frame, FRAMES).chain([last]);
    let frames = frames.map(|frame| Ok(Frame::data(frame)));
    let body = StreamBody::new(futures_util::stream::iter(frames));
    of("text/event-stream", body.boxed())
}

/// One event, and then nothing.
fn listen() -> Response<Body> {
    let (sender, mut receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let event = "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/subscriptions/acknowledged\",\"params\":{}}\n\n";
        let frame: Result<Frame<Bytes>, Infallible> =
            Ok(Frame::data(Bytes::from_static(event.as_bytes())));
        if sender.send(frame).await.is_ok() {
            sender.closed().await;
        }
    });
    let frames = futures_util::stream::poll_fn(move |context| receiver.poll_recv(context));
    of("text/event-stream", StreamBody::new(frames).boxed())
}
