//! The engine against services on real sockets.

mod coolify;
mod misbehaving;
mod places;
mod server;
mod trouble;
mod written;

use std::net::SocketAddr;

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use self::server::{Raw, answer, read_request};
use super::*;
use crate::{Catalog, Parsed};

const TOKEN: &str = "7|s3cr3t-t0ken-of-ours";
const UUID: &str = "dg0ksw4ow8k4cs0wkk4kscwo";

fn coolify(address: SocketAddr, timeout: &str) -> Catalog {
    Catalog::load(&|name| match name {
        "COOLIFY_API_URL" => Some(format!("http://{address}")),
        "COOLIFY_API_TOKEN" => Some(TOKEN.to_owned()),
        "HTTP_TIMEOUT_MS" => Some(timeout.to_owned()),
        _ => None,
    })
    .unwrap()
}

async fn send(catalog: &Catalog, line: &str) -> Result<Value, HandlerError> {
    match catalog.parse_slash(line) {
        Ok(Parsed::Command(command)) => catalog.carry_out(&command).await.map(|answer| answer.data),
        other => panic!("{line}: {other:?}"),
    }
}

async fn ask(raw: &Raw, line: &str) -> Result<Value, HandlerError> {
    send(
        &coolify(raw.address, "10000"),
        &format!("/mcp-coolify {line}"),
    )
    .await
}

/// One command of kind `http`, with these keys.
fn sample(address: SocketAddr, keys: &str) -> Catalog {
    let text = format!(
        "name = \"sample\"\nversion = \"1\"\nkind = \"http\"\ndescription = \"For tests\"\naddress = {{ variable = \"SAMPLE_URL\" }}\n\n[[commands]]\nname = \"do-it\"\nphrase = \"it do\"\nsummary = \"Does it\"\nrisk = \"read\"\n{keys}\n"
    );
    Catalog::from_descriptions(&[("sample.toml", &text)], &|name| {
        (name == "SAMPLE_URL").then(|| format!("http://{address}"))
    })
    .unwrap()
}

#[test]
fn the_address_may_end_as_it_likes() {
    let with_suffix = |given: &str, suffix: &str| base(given, suffix).map(|(base, _)| base);
    for given in [
        "http://c:8000",
        "http://c:8000/",
        "http://c:8000/api/v1",
        "http://c:8000/api/v1/",
        " http://c:8000/api/v1 ",
    ] {
        assert_eq!(
            with_suffix(given.trim(), "/api/v1").as_deref(),
            Ok("http://c:8000/api/v1"),
            "{given}"
        );
    }
    assert_eq!(
        with_suffix("https://c/sub", "/api/v1").as_deref(),
        Ok("https://c/sub/api/v1")
    );
    assert_eq!(
        with_suffix("https://c/v4", "").as_deref(),
        Ok("https://c/v4")
    );
}

#[tokio::test]
async fn credentials_are_read_again_without_a_restart() {
    let fine = || answer("200 OK", "content-type: application/json", "[]");
    let raw = Raw::start(vec![fine(), fine()]).await;
    let address = raw.address;
    let with = |token: &'static str| {
        move |name: &str| match name {
            "COOLIFY_API_URL" => Some(format!("http://{address}")),
            "COOLIFY_API_TOKEN" => Some(token.to_owned()).filter(|token| !token.is_empty()),
            _ => None,
        }
    };
    let catalog = Catalog::load(&with("")).unwrap();
    assert!(send(&catalog, "/mcp-coolify servers list").await.is_err());
    for token in ["1|first-of-them", "2|second-of-them"] {
        let changed = catalog.refresh(&with(token));
        assert_eq!(changed.len(), 1, "{changed:?}");
        assert!(catalog.refresh(&with(token)).is_empty(), "nothing changed");
        send(&catalog, "/mcp-coolify servers list").await.unwrap();
        let expected = format!("authorization: bearer {token}");
        assert!(
            raw.last().headers.contains(&expected),
            "{:?}",
            raw.last().headers
        );
    }
}
