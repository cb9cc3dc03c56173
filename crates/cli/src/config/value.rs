//! How values are read. Each says what it expected; none repeats the value.

use std::{
    fmt::Display,
    net::{IpAddr, ToSocketAddrs},
    str::FromStr,
    time::Duration,
};

use super::LogFormat;

pub(super) fn host(text: &str) -> Result<IpAddr, String> {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    if let Ok(ip) = bare.parse() {
        return Ok(ip);
    }
    (text, 0_u16)
        .to_socket_addrs()
        .ok()
        .and_then(|mut addresses| addresses.next())
        .map(|address| address.ip())
        .ok_or_else(|| {
            "expected an address of this machine, such as 127.0.0.1 or 0.0.0.0".to_owned()
        })
}

pub(super) fn port(text: &str) -> Result<u16, String> {
    text.parse()
        .map_err(|_| "expected a port, 0 to 65535 (0 takes a free one)".to_owned())
}

pub(super) fn at_least_one<N: FromStr + PartialOrd + From<u8>>(text: &str) -> Result<N, String> {
    text.parse()
        .ok()
        .filter(|number| *number >= N::from(1))
        .ok_or_else(|| "expected a whole number from 1".to_owned())
}

pub(super) fn millis(text: &str) -> Result<Duration, String> {
    text.parse()
        .map(Duration::from_millis)
        .map_err(|_| "expected a whole number of milliseconds".to_owned())
}

pub(super) fn positive_millis(text: &str) -> Result<Duration, String> {
    millis(text)
        .ok()
        .filter(|span| !span.is_zero())
        .ok_or_else(|| "expected milliseconds, at least 1".to_owned())
}

pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    text.parse()
        .map(Duration::from_secs)
        .map_err(|_| "expected a whole number of seconds".to_owned())
}

pub(super) fn positive_seconds(text: &str) -> Result<Duration, String> {
    seconds(text)
        .ok()
        .filter(|span| !span.is_zero())
        .ok_or_else(|| "expected seconds, at least 1".to_owned())
}

pub(super) fn flag(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err("expected true or false".to_owned()),
    }
}

pub(super) fn gateway_name(text: &str) -> Result<String, String> {
    let valid = (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    if valid {
        Ok(text.to_owned())
    } else {
        Err("expected letters, digits, `-`, `_`, `.`; at most 64".to_owned())
    }
}

pub(super) fn level(text: &str) -> Result<String, String> {
    let text = text.to_ascii_lowercase();
    if ["error", "warn", "info", "debug", "trace"].contains(&text.as_str()) {
        Ok(text)
    } else {
        Err("expected error, warn, info, debug or trace".to_owned())
    }
}

pub(super) fn log_format(text: &str) -> Result<LogFormat, String> {
    match text.to_ascii_lowercase().as_str() {
        "json" => Ok(LogFormat::Json),
        "pretty" => Ok(LogFormat::Pretty),
        _ => Err("expected json or pretty".to_owned()),
    }
}

/// An address of a server, without the trailing slash.
pub(crate) fn http_url(text: &str) -> Result<String, String> {
    let expected = || "expected an http or https URL, such as http://127.0.0.1:9403".to_owned();
    let uri: http::Uri = text.parse().map_err(|_| expected())?;
    let known = matches!(uri.scheme_str(), Some("http" | "https"))
        && uri.host().is_some_and(|host| !host.is_empty());
    if uri
        .authority()
        .is_some_and(|authority| authority.as_str().contains('@'))
    {
        return Err("a URL must hold no user or password".to_owned());
    }
    if known && uri.query().is_none() {
        Ok(text.trim_end_matches('/').to_owned())
    } else {
        Err(expected())
    }
}

pub(super) fn networks(text: &str) -> Result<Vec<orchestrator::Network>, String> {
    text.split(',')
        .map(str::trim)
        .filter(|network| !network.is_empty())
        .map(|network| {
            network.parse().map_err(|_| {
                "expected addresses or networks such as 10.0.0.0/8, separated by commas".to_owned()
            })
        })
        .collect()
}

pub(super) fn origins(text: &str) -> Result<Vec<String>, String> {
    text.split(',')
        .map(str::trim)
        .filter(|origin| !origin.is_empty())
        .map(|origin| {
            if origin == "*" {
                return Ok(origin.to_owned());
            }
            let url = http_url(origin).ok();
            url.filter(|url| {
                url.split_once("://")
                    .is_some_and(|(_, rest)| !rest.contains('/'))
            })
            .ok_or_else(|| {
                "expected origins such as https://admin.example.com, separated by commas; or `*`"
                    .to_owned()
            })
        })
        .collect()
}

/// Origins without a wildcard: whatever page a person visits could use it.
pub(super) fn exact_origins(text: &str) -> Result<Vec<String>, String> {
    let origins = origins(text)?;
    if origins.iter().any(|origin| origin == "*") {
        return Err("`*` would let every page that a person visits use the gateway".to_owned());
    }
    Ok(origins)
}

/// Names as a `Host` header has them.
pub(super) fn hosts(text: &str) -> Result<Vec<String>, String> {
    let word = |byte: u8| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b':' | b'[' | b']' | b'_')
    };
    text.split(',')
        .map(str::trim)
        .filter(|host| !host.is_empty())
        .map(|host| {
            if host.bytes().all(word) {
                Ok(host.to_owned())
            } else {
                Err("expected names such as gateway.example.com, separated by commas".to_owned())
            }
        })
        .collect()
}

#[allow(
    clippy::unnecessary_wraps,
    reason = "settings are read by what may fail"
)]
pub(super) fn text(text: &str) -> Result<String, String> {
    Ok(text.to_owned())
}

pub(super) fn names(text: &str) -> Result<Vec<String>, String> {
    parsed(text)
}

/// A list of things, separated by commas.
pub(super) fn parsed<L: FromIterator<T>, T: FromStr<Err: Display>>(
    text: &str,
) -> Result<L, String> {
    text.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .map(|item| item.parse().map_err(|error: T::Err| error.to_string()))
        .collect()
}

/// `group=name`, separated by commas. A group may hold `=`; a name does not.
pub(super) fn pairs<T: FromStr<Err: Display>>(text: &str) -> Result<Vec<(String, T)>, String> {
    text.split(',')
        .map(str::trim)
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (group, name) = pair
                .rsplit_once('=')
                .ok_or("expected group=name, separated by commas")?;
            let name = name
                .trim()
                .parse()
                .map_err(|error: T::Err| error.to_string())?;
            Ok((group.trim().to_owned(), name))
        })
        .collect()
}
