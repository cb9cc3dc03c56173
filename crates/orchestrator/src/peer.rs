//! From where a request comes: the address that connected, or, behind a proxy that the
//! operator named, the one that the proxy says.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use axum::{
    extract::ConnectInfo,
    http::{Extensions, HeaderMap},
};

/// Proxies write the chain of addresses here, each adding the one that it saw last.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// Addresses: one, or all that share their first bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

/// Why a text is no [`Network`].
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is neither an address nor a network such as 10.0.0.0/8")]
pub struct InvalidNetwork(String);

impl Network {
    /// Whether it holds `address`. An IPv4 address in IPv6 clothes is the IPv4 address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let shifted = |value: u128, width: u8| {
            let rest = u32::from(width.saturating_sub(self.bits));
            value.checked_shr(rest).unwrap_or(0)
        };
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                shifted(own.to_bits().into(), 32) == shifted(other.to_bits().into(), 32)
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                shifted(own.to_bits(), 128) == shifted(other.to_bits(), 128)
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

impl FromStr for Network {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, InvalidNetwork> {
        let invalid = || InvalidNetwork(text.to_owned());
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address = address
            .parse::<IpAddr>()
            .map_err(|_| invalid())?
            .to_canonical();
        let width = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits
            .map_or(Ok(width), str::parse)
            .ok()
            .filter(|&bits| bits <= width)
            .ok_or_else(invalid)?;
        Ok(Self { address, bits })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

/// Who sent a request. What a proxy says is believed only of those named; absent when
/// nobody connected: the caller is in this process.
pub(crate) fn address(
    extensions: &Extensions,
    headers: &HeaderMap,
    proxies: &[Network],
) -> Option<IpAddr> {
    let ConnectInfo(peer) = extensions.get::<ConnectInfo<SocketAddr>>()?;
    let peer = peer.ip().to_canonical();
    let named = |address: IpAddr| proxies.iter().any(|proxy| proxy.contains(address));
    if !named(peer) {
        return Some(peer);
    }
    // From the end: what comes before the last address that is not a named proxy's was
    // written by somebody else, who may write anything.
    let mut nearest = peer;
    for entry in headers
        .get_all(FORWARDED_FOR)
        .iter()
        .rev()
        .flat_map(|value| value.to_str().unwrap_or("?").rsplit(','))
    {
        let Ok(address) = entry.trim().parse::<IpAddr>() else {
            break;
        };
        nearest = address.to_canonical();
        if !named(nearest) {
            break;
        }
    }
    Some(nearest)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn networks_hold_what_shares_their_first_bits() {
        for (network, address, held) in [
            ("10.0.0.0/8", "10.255.1.2", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.0/8", "::ffff:10.1.1.1", true),
            ("192.168.1.7", "192.168.1.7", true),
            ("192.168.1.7", "192.168.1.8", false),
            ("0.0.0.0/0", "8.8.8.8", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "2001:db8::1", true),
            ("fd00::/8", "fdab::1", true),
            ("fd00::/8", "fe80::1", false),
        ] {
            let network: Network = network.parse().unwrap();
            assert_eq!(
                network.contains(address.parse().unwrap()),
                held,
                "{network} {address}"
            );
        }
        for text in [
            "",
            "10.0.0.0/33",
            "10.0.0/8",
            "::/129",
            "10.0.0.0/-1",
            "host/8",
        ] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }

    #[test]
    fn only_named_proxies_are_believed_and_only_for_what_they_saw() {
        let proxies: Vec<Network> = ["10.0.0.0/8", "192.168.0.1"]
            .map(|text| text.parse().unwrap())
            .into();
        let cases: [(&str, &[&str], &str); 7] = [
            ("203.0.113.5:1", &["198.51.100.1"], "203.0.113.5"),
            ("10.0.0.2:1", &[], "10.0.0.2"),
            ("10.0.0.2:1", &["198.51.100.1"], "198.51.100.1"),
            // The client wrote the first itself.
            ("10.0.0.2:1", &["127.0.0.1, 198.51.100.1"], "198.51.100.1"),
            (
                "10.0.0.2:1",
                &["127.0.0.1", "198.51.100.1, 192.168.0.1"],
                "198.51.100.1",
            ),
            ("10.0.0.2:1", &["198.51.100.1, rubbish"], "10.0.0.2"),
            ("10.0.0.2:1", &["10.0.0.9, 10.0.0.3"], "10.0.0.9"),
        ];
        for (peer, said, expected) in cases {
            let mut extensions = Extensions::new();
            extensions.insert(ConnectInfo(peer.parse::<SocketAddr>().unwrap()));
            let mut headers = HeaderMap::new();
            for value in said {
                headers.append(FORWARDED_FOR, HeaderValue::from_static(value));
            }
            assert_eq!(
                address(&extensions, &headers, &proxies),
                Some(expected.parse().unwrap()),
                "{peer} {said:?}"
            );
        }
        assert_eq!(
            address(&Extensions::new(), &HeaderMap::new(), &proxies),
            None,
            "within the process"
        );
    }
}
