//! The HTTP client for addresses that people typed in: it goes to public hosts only, or to
//! those that the operator named, follows no redirects, and does not read answers.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::http::{HeaderMap, StatusCode};
use reqwest::{
    Url,
    dns::{Addrs, Name, Resolve, Resolving},
};

/// How long a connection may take to open.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long one attempt may take.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);

/// `Retry-After` is believed up to this.
const MAX_RETRY_AFTER: Duration = Duration::from_hours(1);

/// No address is longer.
const MAX_URL_CHARS: usize = 2_000;

/// Sends to addresses that people typed in.
#[derive(Debug)]
pub(super) struct Web {
    client: reqwest::Client,
    hosts: Arc<Hosts>,
}

/// Why a request did not succeed; never what the other side said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) error: String,
    /// It asked to be left alone for so long.
    pub(super) retry_after: Option<Duration>,
    /// It said that it is gone for good.
    pub(super) gone: bool,
}

impl Failure {
    pub(super) fn new(error: impl Into<String>) -> Self {
        Self {
            error: error.into(),
            retry_after: None,
            gone: false,
        }
    }
}

impl Web {
    /// # Errors
    ///
    /// When TLS cannot be set up.
    pub(super) fn new(private_hosts: &[String]) -> Result<Self, String> {
        let hosts = Arc::new(Hosts {
            private: private_hosts
                .iter()
                .map(|host| bare(host).to_ascii_lowercase())
                .collect(),
        });
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TIMEOUT)
            .user_agent(concat!("cedargate/", env!("CARGO_PKG_VERSION")))
            .dns_resolver(Arc::new(Guarded(Arc::clone(&hosts))))
            .build()
            .map_err(|error| format!("the HTTP client cannot be made: {error}"))?;
        Ok(Self { client, hosts })
    }

    /// The address, if messages may go there.
    ///
    /// # Errors
    ///
    /// In words, without the address: its path may be a secret.
    pub(super) fn check(&self, text: &str) -> Result<Url, String> {
        if text.chars().count() > MAX_URL_CHARS {
            return Err(format!("at most {MAX_URL_CHARS} characters"));
        }
        let url = Url::parse(text)
            .map_err(|_| "expected an address such as https://host/path".to_owned())?;
        let host = url
            .host_str()
            .ok_or_else(|| "expected an address with a host".to_owned())?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err("a user or password in an address is not supported".to_owned());
        }
        match url.scheme() {
            "https" => {}
            "http" if self.hosts.is_private_allowed(host) => {}
            "http" => {
                return Err(format!(
                    "`{host}` must be reached with https, unless CEDARGATE_NOTIFICATION_PRIVATE_HOSTS names it"
                ));
            }
            _ => return Err("expected https".to_owned()),
        }
        if let Ok(ip) = bare(host).parse() {
            self.hosts.admit(host, ip)?;
        }
        Ok(url)
    }

    /// Posts JSON there.
    ///
    /// # Errors
    ///
    /// [`Failure`], unless the answer is 2xx.
    pub(super) async fn post(
        &self,
        url: &str,
        headers: HeaderMap,
        body: String,
    ) -> Result<(), Failure> {
        // Again: what may be reached can have changed since it was typed in.
        let url = self.check(url).map_err(Failure::new)?;
        let sent = self
            .client
            .post(url)
            .headers(headers)
            .header(reqwest::header::CONTENT_TYPE, "application/json")
            .body(body)
            .send()
            .await;
        let response = sent.map_err(|error| Failure::new(in_words(&error)))?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let mut error = format!("it answered {}", status.as_u16());
        if status.is_redirection() {
            error.push_str("; redirects are not followed");
        }
        let retry_after = response
            .headers()
            .get(reqwest::header::RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .map(|seconds| Duration::from_secs(seconds).min(MAX_RETRY_AFTER));
        Err(Failure {
            error,
            retry_after,
            gone: status == StatusCode::GONE,
        })
    }
}

/// What went wrong, by its deepest cause, which names a host at most.
fn in_words(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return format!("no answer within {} s", TIMEOUT.as_secs());
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    if error.is_connect() {
        format!("no connection: {cause}")
    } else {
        "the connection broke before an answer".to_owned()
    }
}

/// Which hosts may be private.
#[derive(Debug)]
struct Hosts {
    private: Vec<String>,
}

impl Hosts {
    fn is_private_allowed(&self, host: &str) -> bool {
        let host = bare(host);
        self.private
            .iter()
            .any(|allowed| allowed == "*" || allowed.eq_ignore_ascii_case(host))
    }

    fn admit(&self, host: &str, ip: IpAddr) -> Result<(), String> {
        if is_public(ip) || self.is_private_allowed(host) {
            return Ok(());
        }
        Err(format!(
            "`{host}` is, or leads to, an address that is not public; CEDARGATE_NOTIFICATION_PRIVATE_HOSTS may allow it"
        ))
    }
}

/// Without the brackets of IPv6.
fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

/// Resolves names, and refuses one that leads anywhere private: what is checked is what is
/// connected to, so an answer that changes in between changes nothing.
struct Guarded(Arc<Hosts>);

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let hosts = Arc::clone(&self.0);
        Box::pin(async move {
            let addresses: Vec<SocketAddr> =
                tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            for address in &addresses {
                hosts.admit(name.as_str(), address.ip())?;
            }
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// Whether an address is of the internet at large.
fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    !(ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_documentation()
        || a == 0
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (18..20).contains(&b))
        || a >= 224)
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let [a, b, ..] = ip.segments();
    let embedded = |at: usize| {
        let octets = ip.octets();
        let four = octets.get(at..at + 4)?;
        Some(Ipv4Addr::from(<[u8; 4]>::try_from(four).ok()?))
    };
    match (a, b) {
        // NAT64 leads to the IPv4 address at its end, 6to4 to the one at its beginning.
        (0x64, 0xff9b) => embedded(12).is_some_and(is_public_v4),
        (0x2002, _) => embedded(2).is_some_and(is_public_v4),
        // Teredo, documentation, benchmarks, ORCHID.
        (0x2001, b) if b == 0 || b == 0xdb8 || b == 2 || (0x10..0x30).contains(&b) => false,
        (0x3fff, b) if b < 0x1000 => false,
        // Global unicast; everything else is local, mapped, multicast or not given out.
        (a, _) => a & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_internet_at_large_is_public() {
        for (public, addresses) in [
            (
                true,
                &[
                    "1.1.1.1",
                    "93.184.216.34",
                    "172.15.0.1",
                    "172.32.0.1",
                    "100.63.0.1",
                    "2606:4700::1111",
                    "64:ff9b::101:101",
                    "2002:101:101::1",
                ][..],
            ),
            (
                false,
                &[
                    "127.0.0.1",
                    "127.9.9.9",
                    "10.1.2.3",
                    "172.16.0.1",
                    "172.31.255.255",
                    "192.168.0.1",
                    "169.254.169.254",
                    "0.0.0.0",
                    "0.1.2.3",
                    "100.64.0.1",
                    "100.127.255.255",
                    "192.0.0.8",
                    "192.0.2.1",
                    "192.88.99.1",
                    "198.18.0.1",
                    "198.51.100.1",
                    "203.0.113.1",
                    "224.0.0.1",
                    "240.0.0.1",
                    "255.255.255.255",
                    "::1",
                    "::",
                    "::ffff:10.0.0.1",
                    "::ffff:1.1.1.1",
                    "::127.0.0.1",
                    "fc00::1",
                    "fd12::1",
                    "fe80::1",
                    "fec0::1",
                    "ff02::1",
                    "64:ff9b::a00:1",
                    "2002:a00:1::1",
                    "2001::1",
                    "2001:db8::1",
                    "3fff::1",
                    "100::1",
                ],
            ),
        ] {
            for address in addresses {
                assert_eq!(is_public(address.parse().unwrap()), public, "{address}");
            }
        }
    }

    #[test]
    fn an_address_is_refused_before_anything_is_sent() {
        let web = Web::new(&["relay.internal".to_owned(), "[::1]".to_owned()]).unwrap();
        for good in [
            "https://hooks.slack.com/services/T/B/x",
            "https://hooks.example:8443/a?b=c",
            "http://relay.internal/x",
            "http://[::1]:8080/x",
            "https://1.1.1.1/",
        ] {
            assert!(web.check(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "hooks.example",
            "http://hooks.example/",
            "ftp://hooks.example/",
            "file:///etc/passwd",
            "https://user:pw@hooks.example/",
            "https://127.0.0.1/",
            "https://127.1/",
            "https://2130706433/",
            "https://0x7f000001/",
            "https://169.254.169.254/latest/meta-data",
            "https://[::ffff:169.254.169.254]/",
            "https://[fd00::1]/",
            "http://relay.internal.example/",
        ] {
            assert!(web.check(bad).is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_name_that_leads_inside_is_refused_when_it_is_resolved() {
        let web = Web::new(&[]).unwrap();
        let failure = web
            .post("https://localhost:1/", HeaderMap::new(), String::new())
            .await
            .unwrap_err();
        assert!(failure.error.contains("not public"), "{}", failure.error);
        let web = Web::new(&["localhost".to_owned()]).unwrap();
        let failure = web
            .post("http://localhost:1/", HeaderMap::new(), String::new())
            .await
            .unwrap_err();
        assert!(failure.error.contains("refused"), "{}", failure.error);
    }
}
