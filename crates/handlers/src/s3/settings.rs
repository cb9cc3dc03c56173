//! Settings: where the objects are and what agents may do, as it is configured now.

use reqwest::Url;
use secrecy::SecretString;

use super::{key::Buckets, sign::Signer, types::Types};
use crate::{
    description::{S3Table, Setting},
    http::scrub::Scrubber,
    variables::{Values, Variables},
};

/// No URL is good for longer: S3 itself allows a week.
const LONGEST_PRESIGN: u64 = 7 * 24 * 3600;

/// As many parts as S3 allows, each no longer than is held in memory, make more; in MiB.
const LARGEST_UPLOAD: u64 = 64 << 10;

/// How objects are addressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// `host/bucket/key`.
    Path,
    /// `bucket.host/key`.
    Host,
}

/// Where a server is: scheme, host and port.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    scheme: String,
    /// With its port, unless that is the scheme's own.
    authority: String,
}

/// What is needed to reach it.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) origin: Origin,
    /// Where agents reach it.
    pub(super) public: Origin,
    pub(super) style: Style,
    pub(super) key: Signer,
    pub(super) buckets: Buckets,
    pub(super) types: Types,
    /// In bytes.
    pub(super) max_upload: u64,
    pub(super) presign_seconds: u64,
    pub(super) scrubber: Scrubber,
    /// What it was made of, to see whether that changed.
    made_of: Values,
}

impl PartialEq for Ready {
    fn eq(&self, other: &Self) -> bool {
        self.made_of == other.made_of
    }
}

impl Origin {
    fn read(given: &str) -> Result<Self, String> {
        let url = Url::parse(given).map_err(|error| format!("is not an address: {error}"))?;
        let host = url.host_str().filter(|host| !host.is_empty());
        let (true, Some(host)) = (matches!(url.scheme(), "http" | "https"), host) else {
            return Err("is not an http:// or https:// address".to_owned());
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(
                "holds a user or password; the keys have variables of their own".to_owned(),
            );
        }
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            return Err("has a path; buckets have their own setting".to_owned());
        }
        let authority = url
            .port()
            .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        Ok(Self {
            scheme: url.scheme().to_owned(),
            authority,
        })
    }

    /// The host of a request, and what its path begins with.
    pub(super) fn of(&self, style: Style, bucket: Option<&str>) -> (String, String) {
        match (style, bucket) {
            (_, None) => (self.authority.clone(), String::new()),
            (Style::Path, Some(bucket)) => (self.authority.clone(), format!("/{bucket}")),
            (Style::Host, Some(bucket)) => (format!("{bucket}.{}", self.authority), String::new()),
        }
    }

    pub(super) fn url(&self, host: &str, path: &str) -> String {
        format!("{}://{host}{path}", self.scheme)
    }
}

impl Ready {
    /// Reads what is configured.
    ///
    /// # Errors
    ///
    /// What to set.
    pub(super) fn new(
        table: &S3Table,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, String> {
        let variables = Variables::new(variable);
        let read = |name: &str| variables.read(name);
        let optional = |name: Option<&String>| name.and_then(|name| read(name));
        let given = |setting: &Setting| {
            optional(setting.variable.as_ref()).or_else(|| setting.default.clone())
        };
        let mut missing: Vec<&str> = Vec::new();
        let access_key = read(&table.access_key_variable);
        let secret_key = read(&table.secret_key_variable);
        let session_token = optional(table.session_token_variable.as_ref());
        if access_key.is_none() {
            missing.push(&table.access_key_variable);
        }
        if secret_key.is_none() {
            missing.push(&table.secret_key_variable);
        }
        let buckets = given(&table.buckets).unwrap_or_default();
        let buckets = Buckets::read(&buckets).map_err(|reason| named(&table.buckets, &reason))?;
        if buckets.is_empty() {
            missing.push(table.buckets.variable.as_deref().unwrap_or("buckets"));
        }
        let address = given(&table.address);
        if address.is_none() {
            missing.push(table.address.variable.as_deref().unwrap_or("address"));
        }
        let (Some(access_key), Some(secret_key), Some(address), true) =
            (access_key, secret_key, address, missing.is_empty())
        else {
            return Err(format!("set `{}`", missing.join("` and `")));
        };

        let port = optional(table.port_variable.as_ref());
        let tls = optional(table.tls_variable.as_ref());
        let whole = whole_address(&address, port.as_deref(), tls.as_deref())
            .map_err(|reason| named(&table.address, &reason))?;
        let origin = Origin::read(&whole).map_err(|reason| named(&table.address, &reason))?;
        let public = match &table.public_address {
            Some(setting) => given(setting)
                .map(|public| Origin::read(&public).map_err(|reason| named(setting, &reason)))
                .transpose()?,
            None => None,
        };
        let style = match given(&table.style).as_deref() {
            Some("path") => Style::Path,
            Some("host") => Style::Host,
            _ => return Err(named(&table.style, "is neither `path` nor `host`")),
        };
        let region = given(&table.region).unwrap_or_default();
        if !is_word(&region) {
            return Err(named(&table.region, "is not a region such as `us-east-1`"));
        }
        let number = |setting: &Setting, most: u64, unit: &str| {
            let text = given(setting).unwrap_or_default();
            let number = text
                .parse()
                .ok()
                .filter(|number| (1..=most).contains(number));
            number.ok_or_else(|| {
                named(
                    setting,
                    &format!("is not a number of {unit} from 1 to {most}"),
                )
            })
        };
        let max_upload: u64 = number(&table.max_upload_mib, LARGEST_UPLOAD, "MiB")?;
        let presign_seconds = number(&table.presign_seconds, LONGEST_PRESIGN, "seconds")?;
        let types = given(&table.types).unwrap_or_default();
        let types = Types::read(&types).map_err(|reason| named(&table.types, &reason))?;

        check_keys(table, &access_key, session_token.as_deref())?;
        let mut scrubber = Scrubber::default();
        let secrets = [Some(&access_key), Some(&secret_key), session_token.as_ref()];
        for secret in secrets.into_iter().flatten() {
            scrubber.add(secret);
        }
        Ok(Self {
            public: public.unwrap_or_else(|| origin.clone()),
            origin,
            style,
            key: Signer {
                access_key,
                secret_key: SecretString::from(secret_key),
                session_token: session_token.map(SecretString::from),
                region,
            },
            buckets,
            types,
            max_upload: max_upload << 20,
            presign_seconds,
            scrubber,
            made_of: variables.into_values(),
        })
    }
}

/// Whether the keys can be sent.
fn check_keys(
    table: &S3Table,
    access_key: &str,
    session_token: Option<&str>,
) -> Result<(), String> {
    if !is_word(access_key) {
        return Err(format!(
            "`{}` holds characters that no access key has",
            table.access_key_variable
        ));
    }
    if let (Some(token), Some(name)) = (session_token, &table.session_token_variable)
        && http::HeaderValue::try_from(token).is_err()
    {
        return Err(format!("`{name}` holds characters that no header may"));
    }
    Ok(())
}

/// A setting by the name under which people find it.
fn named(setting: &Setting, reason: &str) -> String {
    match &setting.variable {
        Some(name) => format!("`{name}`: {reason}"),
        None => reason.to_owned(),
    }
}

/// An address, also of one that comes in three parts.
fn whole_address(address: &str, port: Option<&str>, tls: Option<&str>) -> Result<String, String> {
    if address.contains("://") {
        return Ok(address.to_owned());
    }
    let scheme = match tls.map(str::to_ascii_lowercase).as_deref() {
        None | Some("false" | "0" | "no") => "http",
        Some("true" | "1" | "yes") => "https",
        Some(_) => return Err("whether it uses TLS is neither `true` nor `false`".to_owned()),
    };
    let has_port = address
        .rsplit_once(':')
        .is_some_and(|(_, port)| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()));
    // Where MinIO listens.
    let port = match port {
        _ if has_port => String::new(),
        None => ":9000".to_owned(),
        Some(port) => {
            let port: u16 = port
                .parse()
                .map_err(|_| "its port is not a port".to_owned())?;
            format!(":{port}")
        }
    };
    Ok(format!("{scheme}://{address}{port}"))
}

/// What may stand in a credential's scope.
fn is_word(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_in_one_part_or_in_three() {
        let whole = |address: &str, port: Option<&str>, tls: Option<&str>| {
            let origin = Origin::read(&whole_address(address, port, tls)?)?;
            Ok::<_, String>(origin.url(&origin.authority, ""))
        };
        for (address, port, tls, expected) in [
            ("localhost", None, None, "http://localhost:9000"),
            ("minio", Some("9001"), Some("true"), "https://minio:9001"),
            ("minio:9002", Some("9001"), None, "http://minio:9002"),
            (
                "s3.example.com",
                Some("443"),
                Some("true"),
                "https://s3.example.com",
            ),
            (
                "https://s3.example.com/",
                Some("9000"),
                None,
                "https://s3.example.com",
            ),
            ("http://[::1]:9000", None, None, "http://[::1]:9000"),
        ] {
            assert_eq!(whole(address, port, tls).as_deref(), Ok(expected));
        }
        for (address, port, tls) in [
            ("ftp://x", None, None),
            ("https://u:p@x", None, None),
            ("https://x/path", None, None),
            ("https://x?y", None, None),
            ("x", Some("99999"), None),
            ("x", None, Some("maybe")),
            ("a b", None, None),
        ] {
            assert!(whole(address, port, tls).is_err(), "{address}");
        }
    }

    #[test]
    fn a_bucket_stands_in_the_path_or_in_the_host() {
        let origin = Origin::read("https://s3.example.com:8443").unwrap();
        assert_eq!(
            origin.of(Style::Path, Some("assets")),
            ("s3.example.com:8443".to_owned(), "/assets".to_owned())
        );
        assert_eq!(
            origin.of(Style::Host, Some("assets")),
            ("assets.s3.example.com:8443".to_owned(), String::new())
        );
    }
}
