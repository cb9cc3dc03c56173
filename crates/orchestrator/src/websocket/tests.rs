//! What takes long on a socket, at a pace for tests.

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc};

use authz::{
    ApprovalRequestId, Arguments, Risk, Service, Target, approval::Ask, command::Environment,
};
use axum::{Router, routing::get};
use futures_util::StreamExt;
use serde_json::Map;
use store::approvals::NewApproval;
use tokio::{net::TcpSocket, sync::mpsc};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message as Frame, client::IntoClientRequest},
};

use super::*;
use crate::testing::{NOW, actor, admin, agent, orchestrator};

/// Never, as far as a test is concerned.
const NEVER: Duration = Duration::from_hours(1);

const PATIENT: Pace = Pace {
    heartbeat: NEVER,
    unauthenticated: NEVER,
    stalled: NEVER,
    recovery: NEVER,
};

/// Serves `/ws` at this pace, with small buffers; says when a socket has ended.
fn serve(orchestrator: &Orchestrator, pace: Pace) -> (SocketAddr, mpsc::UnboundedReceiver<()>) {
    let (ended, ends) = mpsc::unbounded_channel();
    let route = get(
        async move |State(orchestrator): State<Orchestrator>,
                    Parameters(from): Parameters<From>,
                    headers: HeaderMap,
                    upgrade: WebSocketUpgrade| {
            let (session, open) = admit(orchestrator, &from, &headers, pace).await?;
            Ok::<_, Error>(limited(upgrade).on_upgrade(move |socket| async move {
                session(socket).run().await;
                drop(open);
                let _ = ended.send(());
            }))
        },
    );
    let router = Router::new()
        .route("/ws", route)
        .with_state(orchestrator.clone());
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_send_buffer_size(4_096).unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(8).unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    (address, ends)
}

async fn connect(
    address: SocketAddr,
    query: &str,
    token: &str,
) -> WebSocketStream<tokio::net::TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let stream = socket.connect(address).await.unwrap();
    let mut request = format!("ws://{address}/ws{query}")
        .into_client_request()
        .unwrap();
    request
        .headers_mut()
        .insert("authorization", format!("Bearer {token}").parse().unwrap());
    tokio_tungstenite::client_async(request, stream)
        .await
        .unwrap()
        .0
}

fn words(frame: &Frame) -> Value {
    serde_json::from_str(frame.to_text().unwrap()).unwrap()
}

/// Opens this many requests with long reasons.
async fn open_requests(orchestrator: &Orchestrator, count: usize) {
    let (actor, agent) = (actor(), agent("test-agent"));
    orchestrator
        .store()
        .create_agent(&agent, &actor)
        .await
        .unwrap();
    for n in 0..count {
        let arguments = Arguments::new([("n".to_owned(), n.into())].into_iter().collect());
        let new = NewApproval {
            id: ApprovalRequestId::generate(NOW),
            ask: Ask {
                agent: agent.clone(),
                target: Target {
                    key: "coolify/list-servers".parse().unwrap(),
                    service: Arc::new(Service {
                        name: "coolify".parse().unwrap(),
                        env: Environment::Prod,
                        owners: None,
                        zones: BTreeSet::new(),
                    }),
                    risk: Risk::Read,
                    zones: BTreeSet::new(),
                    pinned: true,
                },
                digest: arguments.digest().clone(),
                requester: None,
                approved_by: Vec::new(),
                approvals: 1,
            },
            arguments: Map::new(),
            reason: "x".repeat(2_000),
            policies: Vec::new(),
            advice: Vec::new(),
            workflow: None,
            policy_set: orchestrator.in_force().set.version().clone(),
            expires: NOW.plus(Duration::from_hours(1)),
        };
        orchestrator
            .store()
            .open_approval(new, 1_000, &actor)
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_socket_without_a_credential_is_closed_after_a_while() {
    let (orchestrator, _folder) = orchestrator().await;
    let pace = Pace {
        unauthenticated: Duration::from_millis(20),
        ..PATIENT
    };
    let (address, _ends) = serve(&orchestrator, pace);
    let mut socket = connect(address, "", "cgu_wrong").await;
    assert_eq!(
        words(&socket.next().await.unwrap().unwrap())["authenticated"],
        false
    );
    let Frame::Close(Some(frame)) = socket.next().await.unwrap().unwrap() else {
        panic!("a close frame")
    };
    assert_eq!(u16::from(frame.code), 1008);
}

#[tokio::test]
async fn a_heartbeat_counts_the_open_sockets() {
    let (orchestrator, _folder) = orchestrator().await;
    let token = admin(&orchestrator).await;
    let pace = Pace {
        heartbeat: Duration::from_millis(20),
        ..PATIENT
    };
    let (address, mut ends) = serve(&orchestrator, pace);
    let mut socket = connect(address, "", &token).await;
    socket.next().await.unwrap().unwrap();
    let beat = words(&socket.next().await.unwrap().unwrap());
    assert_eq!(
        beat,
        json!({"type": "heartbeat", "timestamp": NOW, "active_connections": 1})
    );
    drop(socket);
    ends.recv().await.unwrap();
    assert_eq!(orchestrator.inner.sockets.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_let_go_and_finds_everything_on_return() {
    let (orchestrator, _folder) = orchestrator().await;
    let token = admin(&orchestrator).await;
    open_requests(&orchestrator, 60).await;
    let pace = Pace {
        stalled: Duration::from_millis(100),
        ..PATIENT
    };
    let (address, mut ends) = serve(&orchestrator, pace);
    let mut socket = connect(address, "?after=0", &token).await;
    // It reads only when the orchestrator has given it up.
    ends.recv().await.unwrap();
    let mut seen = Vec::new();
    while let Some(Ok(Frame::Text(text))) = socket.next().await {
        let event: Value = serde_json::from_str(&text).unwrap();
        if event["type"] == "mcp_permission_request" {
            seen.push(event["sequence"].as_i64().unwrap());
        }
    }
    assert!(seen.len() < 60, "it was let go in between");

    let after = seen.last().copied().unwrap_or(0);
    let (address, _ends) = serve(&orchestrator, PATIENT);
    let mut socket = connect(address, &format!("?after={after}"), &token).await;
    while seen.len() < 60 {
        let event = words(&socket.next().await.unwrap().unwrap());
        if event["type"] == "mcp_permission_request" {
            seen.push(event["sequence"].as_i64().unwrap());
        }
    }
    let first = seen[0];
    assert_eq!(seen, (first..first + 60).collect::<Vec<_>>());
}
