//! The service that everything under measurement forwards to: it answers every request
//! at once with the same small list of servers, as Coolify's `GET /api/v1/servers` would.
//!
//! `bench-upstream 127.0.0.1:9001`

use std::convert::Infallible;

use anyhow::Context;
use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

const SERVERS: &str = r#"[{"uuid":"sample0server0000000001","name":"sample-web","description":"a sample","ip":"192.0.2.10","port":22,"user":"root","is_reachable":true,"is_usable":true},{"uuid":"sample0server0000000002","name":"sample-build","description":"a sample","ip":"192.0.2.11","port":22,"user":"root","is_reachable":true,"is_usable":true}]"#;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let address = std::env::args()
        .nth(1)
        .context("usage: bench-upstream <address>")?;
    let listener = TcpListener::bind(&address)
        .await
        .with_context(|| format!("cannot listen on `{address}`"))?;
    loop {
        let (connection, _) = listener.accept().await?;
        connection.set_nodelay(true)?;
        tokio::spawn(
            http1::Builder::new().serve_connection(TokioIo::new(connection), service_fn(answer)),
        );
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    // The connection is kept only if the body was read to its end.
    let _ = request.into_body().collect().await;
    let mut response = Response::new(Full::new(Bytes::from_static(SERVERS.as_bytes())));
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        http::HeaderValue::from_static("application/json"),
    );
    Ok(response)
}
