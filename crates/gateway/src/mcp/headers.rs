//! What the headers of a request must say, and what they may not.
//!
//! Policy never sees them. They are compared with the body, because others on the way may
//! have believed them.

use base64::{Engine, prelude::BASE64_STANDARD};
use handlers::jsonrpc::{Kind, META_CAPABILITIES, Message};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, uri::Authority};
use serde_json::{Map, Value, json};

use super::{
    Settings,
    fault::{Fault, HEADER_MISMATCH, INVALID_PARAMS, INVALID_REQUEST, UNSUPPORTED_VERSION},
    method::{Era, LEGACY_VERSIONS, MODERN_VERSIONS},
};
use crate::authenticate::{is_local_name, is_loopback_origin};

pub(crate) const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
pub(crate) const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
pub(crate) const LAST_EVENT: HeaderName = HeaderName::from_static("last-event-id");
const METHOD: HeaderName = HeaderName::from_static("mcp-method");
const NAME: HeaderName = HeaderName::from_static("mcp-name");

/// Refuses web pages that are not ours, and names that are not this machine's.
///
/// A page on the web may have its name point here; its browser then says so in `Host`, and
/// in `Origin` whenever it sends a body.
pub(crate) fn admit(settings: &Settings, local: bool, headers: &HeaderMap) -> Result<(), Fault> {
    for origin in headers.get_all(header::ORIGIN) {
        let known = origin.to_str().is_ok_and(|origin| {
            is_loopback_origin(origin)
                || settings
                    .origins
                    .iter()
                    .any(|known| known.eq_ignore_ascii_case(origin))
        });
        if !known {
            return Err(Fault::http(
                StatusCode::FORBIDDEN,
                "this origin may not use the gateway",
            ));
        }
    }
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next().and_then(|host| host.to_str().ok());
    let known = match host {
        _ if hosts.next().is_some() => false,
        Some(host) if settings.hosts.is_empty() => !local || is_local_name(host),
        Some(host) => is_local_name(host) || settings.hosts.iter().any(|known| names(known, host)),
        // HTTP/1.1 has one always; what has none was not sent by a browser.
        None => true,
    };
    if known {
        Ok(())
    } else {
        Err(Fault::http(
            StatusCode::FORBIDDEN,
            "the gateway is not known by this name",
        ))
    }
}

/// Whether a name, with or without a port, is that of a `Host`.
fn names(known: &str, host: &str) -> bool {
    let bare = host.parse::<Authority>();
    known.eq_ignore_ascii_case(host)
        || bare.is_ok_and(|authority| authority.host().eq_ignore_ascii_case(known))
}

/// The media types that a client takes must hold these.
pub(crate) fn accepts(headers: &HeaderMap, wanted: &[&str]) -> Result<(), Fault> {
    let offered = |wanted: &str| {
        let (kind, _) = wanted.split_once('/').unwrap_or((wanted, ""));
        headers
            .get_all(header::ACCEPT)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|range| {
                let mut parts = range.split(';');
                let essence = parts.next().unwrap_or_default().trim();
                let refused = parts.any(|parameter| {
                    let quality = parameter.trim().strip_prefix("q=");
                    quality.is_some_and(|quality| quality.parse() == Ok(0.0))
                });
                !refused
                    && (essence.eq_ignore_ascii_case(wanted)
                        || essence == "*/*"
                        || essence
                            .strip_suffix("/*")
                            .is_some_and(|any| any.eq_ignore_ascii_case(kind)))
            })
    };
    if wanted.iter().all(|wanted| offered(wanted)) {
        Ok(())
    } else {
        Err(Fault::http(
            StatusCode::NOT_ACCEPTABLE,
            format!("`Accept` must offer {}", wanted.join(" and ")),
        ))
    }
}

/// A header's one value as text.
fn single(headers: &HeaderMap, name: &HeaderName) -> Result<Option<String>, Fault> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(mismatch(format!("header `{name}` is given more than once")));
    }
    match value.to_str() {
        Ok(text) => Ok(Some(text.to_owned())),
        Err(_) => Err(mismatch(format!(
            "header `{name}` holds characters that are not visible ASCII"
        ))),
    }
}

fn mismatch(message: impl Into<String>) -> Fault {
    Fault::new(StatusCode::BAD_REQUEST, HEADER_MISMATCH, message)
}

fn unsupported(version: &str) -> Fault {
    let supported: Vec<&str> = MODERN_VERSIONS
        .iter()
        .chain(LEGACY_VERSIONS.iter().rev())
        .copied()
        .collect();
    let requested: String = version.chars().take(64).collect();
    Fault {
        data: json!({"supported": supported, "requested": requested}),
        ..Fault::new(
            StatusCode::BAD_REQUEST,
            UNSUPPORTED_VERSION,
            "Unsupported protocol version",
        )
    }
}

/// Which era a message belongs to, its version being one that there is and the same in
/// header and body.
pub(crate) fn era(headers: &HeaderMap, message: &Message<'_>) -> Result<Era, Fault> {
    let said = single(headers, &VERSION)?;
    let body = message
        .version()
        .map_err(|error| Fault::new(StatusCode::BAD_REQUEST, INVALID_PARAMS, error.to_string()))?;
    let Some(body) = body else {
        let asks = matches!(&message.kind, Kind::Request { method, .. } if method != "initialize");
        return match said.as_deref() {
            Some(said) if MODERN_VERSIONS.contains(&said) && !asks => match &message.kind {
                Kind::Notification { .. } | Kind::Response { .. } => Ok(Era::Modern),
                Kind::Request { .. } => Ok(Era::Legacy),
            },
            Some(said) if MODERN_VERSIONS.contains(&said) => Err(Fault::new(
                StatusCode::BAD_REQUEST,
                INVALID_PARAMS,
                format!("since {said} every request names its version in `params._meta`"),
            )),
            Some(said) if !LEGACY_VERSIONS.contains(&said) && !MODERN_VERSIONS.contains(&said) => {
                Err(unsupported(said))
            }
            _ => Ok(Era::Legacy),
        };
    };
    match said.as_deref() {
        None => Err(mismatch("header `mcp-protocol-version` is missing")),
        Some(said) if said != body => Err(mismatch(
            "header `mcp-protocol-version` is not the version of the body",
        )),
        Some(said) if !MODERN_VERSIONS.contains(&said) => Err(unsupported(said)),
        Some(_) => {
            let capabilities = message.meta.raw(META_CAPABILITIES);
            if capabilities.is_some_and(|raw| raw.starts_with('{')) {
                Ok(Era::Modern)
            } else {
                Err(Fault::new(
                    StatusCode::BAD_REQUEST,
                    INVALID_PARAMS,
                    format!("`params._meta` needs `{META_CAPABILITIES}`"),
                ))
            }
        }
    }
}

/// The version of a request that has no body.
pub(crate) fn legacy_only(headers: &HeaderMap) -> Result<(), Fault> {
    match single(headers, &VERSION)?.as_deref() {
        None => Ok(()),
        Some(said) if LEGACY_VERSIONS.contains(&said) => Ok(()),
        Some(said) if MODERN_VERSIONS.contains(&said) => Err(Fault::not_allowed()),
        Some(said) => Err(unsupported(said)),
    }
}

/// The session that a request belongs to.
pub(crate) fn session(headers: &HeaderMap) -> Result<Option<String>, Fault> {
    let wrong = || {
        Fault::new(
            StatusCode::BAD_REQUEST,
            INVALID_REQUEST,
            "header `mcp-session-id` must be given once, in visible ASCII",
        )
    };
    let session = single(headers, &SESSION).map_err(|_| wrong())?;
    match &session {
        Some(id) if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_graphic()) => {
            Err(wrong())
        }
        _ => Ok(session),
    }
}

/// Compares what headers repeat of the body (since 2026-07-28). `name` is the member that
/// `Mcp-Name` repeats, if the method has one.
pub(crate) fn mirrors(
    headers: &HeaderMap,
    message: &Message<'_>,
    name: Option<&'static str>,
) -> Result<(), Fault> {
    let method = single(headers, &METHOD)?;
    match (method.as_deref(), message.method()) {
        (None, _) => return Err(mismatch("header `mcp-method` is missing")),
        (said, body) if said != body => {
            return Err(mismatch(
                "header `mcp-method` is not the method of the body",
            ));
        }
        _ => {}
    }
    let Some(member) = name else {
        return Ok(());
    };
    let body = message
        .params
        .text(member)
        .map_err(|error| Fault::new(StatusCode::BAD_REQUEST, INVALID_PARAMS, error.to_string()))?;
    let said = single(headers, &NAME)?
        .map(|said| decoded(&NAME, &said))
        .transpose()?;
    match (said, body) {
        (None, Some(_)) => Err(mismatch("header `mcp-name` is missing")),
        (said, body) if said.as_deref() != body.as_deref() => Err(mismatch(format!(
            "header `mcp-name` is not `params.{member}`"
        ))),
        _ => Ok(()),
    }
}

/// Compares `Mcp-Param-*` with the arguments, for those that the tool's schema wants
/// repeated. Others are passed on unread.
pub(crate) fn parameters(
    headers: &HeaderMap,
    schema: &Value,
    arguments: &Map<String, Value>,
) -> Result<(), Fault> {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
        return Ok(());
    };
    for (name, property) in properties {
        let argument = arguments.get(name);
        if let Some(header) = property.get("x-mcp-header").and_then(Value::as_str) {
            parameter(headers, header, argument)?;
        }
        if property.get("properties").is_some() {
            let empty = Map::new();
            let inner = argument.and_then(Value::as_object).unwrap_or(&empty);
            parameters(headers, property, inner)?;
        }
    }
    Ok(())
}

fn parameter(headers: &HeaderMap, header: &str, argument: Option<&Value>) -> Result<(), Fault> {
    // A header that cannot be is none that a client could send.
    let Ok(name) = HeaderName::try_from(format!("mcp-param-{header}")) else {
        return Ok(());
    };
    let said = single(headers, &name)?
        .map(|said| decoded(&name, &said))
        .transpose()?;
    let expected = argument.filter(|argument| !argument.is_null());
    match (said, expected) {
        (None, None) => Ok(()),
        (None, Some(_)) => Err(mismatch(format!("header `{name}` is missing"))),
        (Some(said), Some(expected)) if repeats(&said, expected) => Ok(()),
        (Some(_), _) => Err(mismatch(format!("header `{name}` is not the argument"))),
    }
}

fn repeats(said: &str, argument: &Value) -> bool {
    match argument {
        Value::String(text) => said == text,
        Value::Bool(flag) => said == if *flag { "true" } else { "false" },
        Value::Number(number) => {
            said == number.to_string()
                || said.parse::<f64>().is_ok_and(|said| {
                    number.as_f64().is_some_and(|number| {
                        said.is_finite() && (said - number).abs() < f64::EPSILON
                    })
                })
        }
        Value::Null | Value::Array(_) | Value::Object(_) => false,
    }
}

/// The value that a header stands for.
fn decoded(name: &HeaderName, said: &str) -> Result<String, Fault> {
    let encoded = said
        .strip_prefix("=?base64?")
        .and_then(|rest| rest.strip_suffix("?="));
    let Some(encoded) = encoded else {
        return Ok(said.to_owned());
    };
    BASE64_STANDARD
        .decode(encoded)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| mismatch(format!("header `{name}` is not base64 of UTF-8")))
}

/// The same headers in memory of their own. Those of a request lie in what its connection was
/// read into, all of which something that lasts would keep.
pub(super) fn apart(headers: &HeaderMap) -> HeaderMap {
    let mut apart = HeaderMap::with_capacity(headers.keys_len());
    for (name, value) in headers {
        // What was a header's value is one again.
        if let Ok(mut copy) = HeaderValue::from_bytes(value.as_bytes()) {
            copy.set_sensitive(value.is_sensitive());
            apart.append(name, copy);
        }
    }
    apart
}

/// What goes on to an upstream: everything of the protocol, nothing that says who asks.
pub(crate) fn onward(headers: &HeaderMap, era: Era) -> HeaderMap {
    let mut onward = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers {
        let of_protocol = name.as_str().starts_with("mcp-");
        // There are no sessions any more: one that is named is not this agent's to use.
        let session = era == Era::Modern && (*name == SESSION || *name == LAST_EVENT);
        if !session
            && (of_protocol
                || matches!(*name, header::ACCEPT | header::CONTENT_TYPE)
                || *name == LAST_EVENT)
        {
            onward.append(name, value.clone());
        }
    }
    onward
}

/// Whether this gateway answers to this machine only.
pub(crate) fn is_local(address: std::net::SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}
