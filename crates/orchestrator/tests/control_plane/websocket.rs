//! `/ws`, with a real client on a real socket.

use std::net::SocketAddr;

use contract::approvals::{Approve, Reject};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream,
    tungstenite::{Error, Message, client::IntoClientRequest, handshake::client::Request},
};
use tokio_util::sync::CancellationToken;

use crate::plane::{Plane, no_arguments};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

fn request(address: SocketAddr, query: &str, headers: &[(&'static str, &str)]) -> Request {
    let mut request = format!("ws://{address}/ws{query}")
        .into_client_request()
        .unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    request
}

async fn connect(address: SocketAddr, query: &str, headers: &[(&'static str, &str)]) -> Socket {
    tokio_tungstenite::connect_async(request(address, query, headers))
        .await
        .unwrap()
        .0
}

async fn next(socket: &mut Socket) -> Value {
    loop {
        match socket.next().await.unwrap().unwrap() {
            Message::Text(text) => return serde_json::from_str(&text).unwrap(),
            Message::Close(frame) => panic!("closed: {frame:?}"),
            _ => {}
        }
    }
}

#[tokio::test]
async fn requests_and_responses_arrive_and_a_returning_client_misses_nothing() {
    let plane = Plane::new().await;
    let address = plane.serve().await;
    let bearer = format!("Bearer {}", plane.admin_token);
    let mut socket = connect(address, "", &[("authorization", &bearer)]).await;
    let opening = next(&mut socket).await;
    assert_eq!(opening["type"], "connection_established");
    assert_eq!(opening["message"], "Connected to Orchestrator Backend");
    assert_eq!(opening["client_id"], "client_1");
    assert_eq!(opening["authenticated"], true);
    assert!(opening["timestamp"].is_string());
    assert_eq!(
        plane.call("GET", "/health", None, None).await.json()["websocket_connections"],
        1
    );

    let agent = plane.agent("test-agent", None).await.agent;
    let id = plane.asked(agent.id, no_arguments()).await;
    let asked = next(&mut socket).await;
    let expected = json!({
        "type": "mcp_permission_request", "request_id": id, "agent_id": agent.id, "agent_name": "test-agent",
        "service_name": "coolify", "command": "coolify/list-servers", "risk": "read",
        "reason": "to see what runs where", "approvals_needed": 1,
        "timestamp": plane.now(), "sequence": asked["sequence"],
    });
    assert_eq!(asked, expected);
    socket.close(None).await.unwrap();
    drop(socket);

    plane
        .admin
        .approve(
            id,
            &Approve {
                reason: "fine".to_owned(),
                ..Approve::default()
            },
        )
        .await
        .unwrap();
    let other = plane.asked(agent.id, json!({"n": 1})).await;
    plane.admin.reject(other, &Reject::default()).await.unwrap();

    let mut socket = connect(address, &format!("?after={}", asked["sequence"]), &[]).await;
    let opening = next(&mut socket).await;
    assert_eq!(
        (&opening["authenticated"], &opening["sequence"]),
        (&false.into(), &asked["sequence"])
    );
    let token = json!({"type": "authenticate", "token": plane.admin_token}).to_string();
    socket.send(Message::text(token)).await.unwrap();
    let answer = next(&mut socket).await;
    assert_eq!(
        (&answer["type"], &answer["user"]),
        (&"authenticated".into(), &"admin".into())
    );
    let approved = next(&mut socket).await;
    assert_eq!(approved["type"], "mcp_permission_response");
    assert_eq!(
        (
            &approved["request_id"],
            &approved["approved"],
            &approved["reason"]
        ),
        (&json!(id), &true.into(), &"fine".into())
    );
    assert!(approved["timestamp"].is_f64(), "epoch seconds: {approved}");
    assert_eq!(next(&mut socket).await["request_id"], json!(other));
    let rejected = next(&mut socket).await;
    assert_eq!(
        (&rejected["approved"], &rejected["reason"]),
        (&false.into(), &Value::Null)
    );
    assert!(approved["sequence"].as_i64() < rejected["sequence"].as_i64());
}

#[tokio::test]
async fn pages_of_other_sites_are_not_connected() {
    let plane = Plane::new().await;
    let address = plane.serve().await;
    let own = format!("http://{address}");
    for (origin, admitted) in [
        ("https://evil.example", false),
        ("null", false),
        ("https://admin.example", true),
        (own.as_str(), true),
    ] {
        let result =
            tokio_tungstenite::connect_async(request(address, "", &[("origin", origin)])).await;
        match result {
            Ok((mut socket, _)) => {
                assert!(admitted, "{origin}");
                assert_eq!(next(&mut socket).await["type"], "connection_established");
            }
            Err(Error::Http(response)) => {
                assert!(!admitted, "{origin}");
                assert_eq!(response.status(), 403, "{origin}");
            }
            Err(error) => panic!("{origin}: {error}"),
        }
    }
}

#[tokio::test]
async fn who_proves_nothing_gets_no_events() {
    let plane = Plane::new().await;
    let address = plane.serve().await;
    let agent = plane.agent("test-agent", None).await.agent;
    let agent_token = plane
        .admin
        .create_agent_token(
            &crate::plane::by_id(agent.id),
            &contract::agents::CreateToken::default(),
        )
        .await
        .unwrap();
    let (_, nobody) = plane.person("nobody", &[]).await;
    for token in [
        agent_token.token.as_str(),
        crate::plane::CONTROL,
        nobody.as_str(),
        "cgu_wrong",
    ] {
        let bearer = format!("Bearer {token}");
        let mut socket = connect(address, "?after=0", &[("authorization", &bearer)]).await;
        assert_eq!(next(&mut socket).await["authenticated"], false, "{token}");
        socket.send(Message::text("keep-alive")).await.unwrap();
        socket
            .send(Message::text(
                json!({"type": "authenticate", "token": token}).to_string(),
            ))
            .await
            .unwrap();
        let end = socket.next().await.unwrap().unwrap();
        let Message::Close(Some(frame)) = end else {
            panic!("{token}: {end}")
        };
        assert_eq!(u16::from(frame.code), 1008);
    }
}

#[tokio::test]
async fn a_session_is_enough_and_ends_with_its_credential_and_the_orchestrator() {
    let plane = Plane::new().await;
    let address = plane.serve().await;
    let (_, token) = plane.person("viewer", &["viewer"]).await;
    let session = crate::pages::log_in(&plane, &token).await;
    let token_as_session = format!("cedargate_session={token}");
    let mut socket = connect(address, "", &[("cookie", &token_as_session)]).await;
    assert_eq!(
        next(&mut socket).await["authenticated"],
        false,
        "a credential is no session"
    );
    let cookie = format!("other=1; {session}");
    let mut socket = connect(address, "", &[("cookie", &cookie)]).await;
    assert_eq!(next(&mut socket).await["authenticated"], true);
    let stop = CancellationToken::new();
    stop.cancel();
    plane.orchestrator.run(stop).await;
    let Message::Close(Some(frame)) = socket.next().await.unwrap().unwrap() else {
        panic!("closed")
    };
    assert_eq!(u16::from(frame.code), 1001);
}
