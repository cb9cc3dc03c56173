//! Addresses: where a database is, and as whom the gateway comes, from the configuration.

use std::{str::FromStr as _, time::Duration};

use sqlx::{
    ConnectOptions as _,
    postgres::{PgConnectOptions, PgSslMode},
};

use crate::{
    description::DatabaseTable,
    http::scrub::Scrubber,
    variables::{Values, Variables},
};

/// Everything that a connection takes for granted. It is sent as the connection opens, so
/// that resetting a session brings it back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) statement: Duration,
    pub(super) lock: Duration,
    pub(super) connect: Duration,
    pub(super) idle: Duration,
}

/// What a role may do there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Reader,
    Writer,
}

/// How often the server looks whether the gateway is still there while a statement runs:
/// closing the connection is how a statement is cancelled.
const CLIENT_CHECK: Duration = Duration::from_millis(500);

/// An address, ready to be used.
pub(super) struct Address {
    pub(super) options: PgConnectOptions,
    pub(super) scrubber: Scrubber,
    /// What it was made of, to see whether that changed.
    made_of: Values,
}

impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Address").finish_non_exhaustive()
    }
}

impl PartialEq for Address {
    fn eq(&self, other: &Self) -> bool {
        self.made_of == other.made_of
    }
}

impl Address {
    /// Reads the address of one role of one database; or says what to set.
    pub(super) fn read(
        table: &DatabaseTable,
        role: Role,
        (service, database): (&str, &str),
        limits: Limits,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, String> {
        let variables = Variables::new(variable);
        let mut scrubber = Scrubber::default();
        let read = |name: &Option<String>| variables.read(name.as_deref()?);
        let (url, password) = match role {
            Role::Reader => (&table.url, &table.password),
            Role::Writer => (&table.write_url, &table.write_password),
        };
        let secret = read(password);
        let mut options = match (read(url), role) {
            (Some(value), _) => {
                let name = url.as_deref().unwrap_or_default();
                of_url(&value, &mut scrubber).map_err(|reason| format!("`{name}` {reason}"))?
            }
            (None, Role::Writer) => return Err(missing([url])),
            (None, Role::Reader) => {
                let parts = [&table.host, &table.database, &table.user];
                let [Some(host), Some(name), Some(user)] = parts.map(&read) else {
                    let parts = [&table.host, &table.database, &table.user];
                    return Err(match url {
                        Some(_) => missing([url]),
                        None => missing(parts),
                    });
                };
                let port = match read(&table.port) {
                    None => 5432,
                    Some(port) => port.parse().map_err(|_| {
                        let name = table.port.as_deref().unwrap_or_default();
                        format!("`{name}` is not a port")
                    })?,
                };
                PgConnectOptions::new_without_pgpass()
                    .host(&host)
                    .port(port)
                    .database(&name)
                    .username(&user)
            }
        };
        if let Some(secret) = secret {
            options = options.password(&secret);
            scrubber.add(&secret);
        }
        Ok(Self {
            options: configured(
                options,
                role,
                &format!("cedargate {service}/{database}"),
                limits,
            ),
            scrubber,
            made_of: variables.into_values(),
        })
    }

    /// As whom the gateway comes, and where, without the password.
    pub(super) fn shown(&self) -> String {
        let options = &self.options;
        let host = options.get_socket().map_or_else(
            || options.get_host().to_owned(),
            |socket| socket.display().to_string(),
        );
        let (user, port) = (options.get_username(), options.get_port());
        let name = options.get_database().unwrap_or(user);
        self.scrubber.text(&format!("{user}@{host}:{port}/{name}"))
    }

    /// Whether what is said to the server, the password too, can be read on the way.
    pub(super) fn is_plain(&self) -> bool {
        let options = &self.options;
        let here = ["localhost", "127.0.0.1", "::1", "[::1]"].contains(&options.get_host())
            || options.get_host().starts_with('/')
            || options.get_socket().is_some();
        let plain = matches!(
            options.get_ssl_mode(),
            PgSslMode::Disable | PgSslMode::Allow | PgSslMode::Prefer
        );
        plain && !here
    }
}

fn missing<'a>(names: impl IntoIterator<Item = &'a Option<String>>) -> String {
    let names: Vec<&str> = names.into_iter().filter_map(Option::as_deref).collect();
    format!("set `{}`", names.join("` and `"))
}

/// Errors never repeat the value.
fn of_url(value: &str, scrubber: &mut Scrubber) -> Result<PgConnectOptions, &'static str> {
    let url = reqwest::Url::parse(value).map_err(|_| "is not an address")?;
    if !matches!(url.scheme(), "postgres" | "postgresql") {
        return Err("is not a postgres:// address");
    }
    scrubber.add(value);
    let in_query = url.query_pairs();
    let in_query = in_query.filter(|(name, _)| name == "password");
    for (_, password) in in_query {
        scrubber.add(&password);
    }
    if let Some(password) = url.password() {
        scrubber.add(password);
        scrubber.add(&percent_encoding::percent_decode_str(password).decode_utf8_lossy());
    }
    let named = !url.username().is_empty() || url.query_pairs().any(|(name, _)| name == "user");
    if !named {
        return Err("names no user");
    }
    // Its error may repeat parts of the value.
    let options =
        PgConnectOptions::from_str(value).map_err(|_| "is not an address that PostgreSQL knows")?;
    // As PostgreSQL's own clients have it: who names an authority wants it asked.
    let authority = url
        .query_pairs()
        .any(|(name, _)| matches!(&*name, "sslrootcert" | "ssl-root-cert" | "ssl-ca"));
    Ok(match options.get_ssl_mode() {
        PgSslMode::Require if authority => options.ssl_mode(PgSslMode::VerifyCa),
        _ => options,
    })
}

fn configured(
    options: PgConnectOptions,
    role: Role,
    application: &str,
    limits: Limits,
) -> PgConnectOptions {
    let millis = |limit: Duration| limit.as_millis().to_string();
    let read_only = match role {
        Role::Reader => "on",
        Role::Writer => "off",
    };
    let settings = [
        ("default_transaction_read_only", read_only.to_owned()),
        ("statement_timeout", millis(limits.statement)),
        ("lock_timeout", millis(limits.lock)),
        (
            "idle_in_transaction_session_timeout",
            millis(limits.statement + limits.connect),
        ),
        // If the gateway is gone without a word.
        ("idle_session_timeout", millis(limits.idle * 2)),
        ("client_connection_check_interval", millis(CLIENT_CHECK)),
        // Notices are for nobody here, and agents' functions can raise any.
        ("client_min_messages", "error".to_owned()),
        ("bytea_output", "hex".to_owned()),
    ];
    options
        .application_name(application)
        // Sessions are reset after each command, and prepared statements with them.
        .statement_cache_capacity(0)
        .options(settings)
        // Statements are agents' own words.
        .disable_statement_logging()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        statement: Duration::from_secs(10),
        lock: Duration::from_secs(1),
        connect: Duration::from_secs(5),
        idle: Duration::from_secs(10),
    };

    fn read(role: Role, variables: &[(&str, &str)]) -> Result<Address, String> {
        let name = |name: &str| Some(name.to_owned());
        let table = DatabaseTable {
            url: name("URL"),
            host: name("HOST"),
            port: name("PORT"),
            database: name("NAME"),
            user: name("USER"),
            password: name("PASSWORD"),
            write_url: name("WRITE"),
            ..DatabaseTable::default()
        };
        let variable = |wanted: &str| {
            let found = variables.iter().find(|(name, _)| *name == wanted);
            found.map(|(_, value)| (*value).to_owned())
        };
        Address::read(&table, role, ("postgres", "main"), LIMITS, &variable)
    }

    #[test]
    fn an_address_is_a_url_or_its_parts() {
        let url = "postgres://reader:p%40ss@db.example:5433/shop?sslmode=verify-full";
        let address = read(Role::Reader, &[("URL", url)]).unwrap();
        let options = &address.options;
        assert_eq!(
            (
                options.get_host(),
                options.get_port(),
                options.get_username(),
                options.get_database()
            ),
            ("db.example", 5433, "reader", Some("shop"))
        );
        assert!(matches!(options.get_ssl_mode(), PgSslMode::VerifyFull));
        assert!(!address.is_plain());
        assert!(
            options
                .get_options()
                .unwrap()
                .contains("default_transaction_read_only=on")
        );
        let parts = [("HOST", "db.example"), ("NAME", "shop"), ("USER", "reader")];
        let address = read(Role::Reader, &parts).unwrap();
        assert_eq!(
            (address.options.get_port(), address.is_plain()),
            (5432, true)
        );
        let writer = read(Role::Writer, &[("WRITE", "postgres://w@localhost/shop")]).unwrap();
        assert!(
            writer
                .options
                .get_options()
                .unwrap()
                .contains("read_only=off")
        );
        assert!(!writer.is_plain());
    }

    #[test]
    fn what_is_missing_is_named_and_no_value_repeated() {
        let cases: [(&[(&str, &str)], &str); 5] = [
            (&[], "set `URL`"),
            (&[("URL", "s3cret nonsense")], "`URL` is not an address"),
            (
                &[("URL", "http://u:s3cret@h/d")],
                "`URL` is not a postgres:// address",
            ),
            (
                &[("URL", "postgres://h/d?password=s3cret")],
                "`URL` names no user",
            ),
            (
                &[
                    ("HOST", "h"),
                    ("NAME", "d"),
                    ("USER", "u"),
                    ("PORT", "s3cret"),
                ],
                "`PORT` is not a port",
            ),
        ];
        for (variables, expected) in cases {
            assert_eq!(read(Role::Reader, variables).unwrap_err(), expected);
        }
        assert_eq!(read(Role::Writer, &[]).unwrap_err(), "set `WRITE`");
        let bad = "postgres://u:s3cret@h/d?sslmode=s3cret";
        let error = read(Role::Reader, &[("URL", bad)]).unwrap_err();
        assert!(!error.contains("s3cret"), "{error}");
    }

    #[test]
    fn the_password_is_scrubbed_however_it_is_written() {
        let url = "postgres://reader:p%40ssw%2Frd@db.example/shop";
        let address = read(Role::Reader, &[("URL", url), ("PASSWORD", "0therSecret")]).unwrap();
        for text in [url, "p@ssw/rd", "p%40ssw%2Frd", "0therSecret"] {
            let clean = address.scrubber.text(&format!("it says {text} here"));
            assert!(
                !clean.contains("ssw") && !clean.contains("0ther"),
                "{clean}"
            );
        }
        assert!(!format!("{address:?}").contains("0ther"));
    }

    #[test]
    fn an_authority_that_is_named_is_asked() {
        let mode = |more: &str| {
            let url = format!("postgres://u@h/d?{more}");
            let address = read(Role::Reader, &[("URL", &url)]).unwrap();
            format!("{:?}", address.options.get_ssl_mode())
        };
        assert_eq!(mode("sslmode=require"), "Require");
        assert_eq!(mode("sslmode=require&sslrootcert=/ca.pem"), "VerifyCa");
        assert_eq!(mode("sslrootcert=/ca.pem&sslmode=require"), "VerifyCa");
        assert_eq!(
            mode("sslmode=verify-full&sslrootcert=/ca.pem"),
            "VerifyFull"
        );
        assert_eq!(mode("sslmode=prefer&sslrootcert=/ca.pem"), "Prefer");
    }

    #[test]
    fn another_password_is_another_address() {
        let of = |password| {
            let parts = [
                ("HOST", "h"),
                ("NAME", "d"),
                ("USER", "u"),
                ("PASSWORD", password),
            ];
            read(Role::Reader, &parts).unwrap()
        };
        assert!(of("one") == of("one") && of("one") != of("two"));
    }
}
