//! A permitted command through the crate's public door, against a small Coolify.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[path = "permit/everything.rs"]
mod everything;

use axum::{Json, Router, http::HeaderMap, routing::get};
use everything::PermitEverything;
use handlers::{Catalog, Parsed};
use serde_json::{Value, json};
use tokio::net::TcpListener;

async fn servers(headers: HeaderMap) -> Json<Value> {
    assert_eq!(headers["authorization"], "Bearer 1|token");
    Json(
        json!([{"uuid": "s1", "name": "localhost", "ip": "127.0.0.1", "port": 22, "user": "root"}]),
    )
}

#[tokio::test]
async fn a_permitted_command_is_carried_out() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = Router::new().route("/api/v1/servers", get(servers));
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });

    let catalog = Catalog::load(&|name| match name {
        "COOLIFY_API_URL" => Some(format!("http://{address}/api/v1")),
        "COOLIFY_API_TOKEN" => Some("1|token".to_owned()),
        _ => None,
    })
    .unwrap();
    let Ok(Parsed::Command(command)) = catalog.parse_slash("/mcp-coolify servers list") else {
        panic!()
    };
    let answer = catalog
        .handle(PermitEverything::new().permit(command))
        .await
        .unwrap();
    assert_eq!(
        answer.data,
        json!({
            "operation": "list_servers",
            "count": 1,
            "servers": [{"uuid": "s1", "name": "localhost", "ip": "127.0.0.1", "port": 22, "user": "root"}],
        })
    );
}
