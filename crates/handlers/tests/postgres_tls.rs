//! Kind `postgres` over real TLS: a PostgreSQL of its own, with certificates made here.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[path = "permit/everything.rs"]
mod everything;

use std::{
    fs,
    net::TcpListener,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use everything::PermitEverything;
use handlers::{Catalog, HandlerError, Parsed};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};

const PASSWORD: &str = "p4ssw0rd-of-the-reader";

const DESCRIPTION: &str = r#"
name = "postgres"
version = "1"
kind = "postgres"
description = "For tests."

[postgres]
statement_timeout_ms = 8000
connect_timeout_ms = 8000

[postgres.databases.shop]
url = "SHOP_URL"
"#;

/// Who signs certificates.
struct Authority {
    parameters: CertificateParams,
    key: KeyPair,
    pem: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::new(vec![]).unwrap();
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = parameters.self_signed(&key).unwrap().pem();
        Self {
            parameters,
            key,
            pem,
        }
    }

    /// Certificate and key of a server of this name, in PEM.
    fn server(&self, name: &str) -> (String, String) {
        let issuer = Issuer::from_params(&self.parameters, &self.key);
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![name.to_owned()])
            .unwrap()
            .signed_by(&key, &issuer)
            .unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}

/// A server that is thrown away.
struct Server {
    folder: tempfile::TempDir,
    process: Child,
    bin: PathBuf,
    user: Option<(u32, u32)>,
    port: u16,
}

impl Server {
    /// One whose certificate is for `localhost`, and that lets nobody in who comes in clear.
    fn start(authority: &Authority) -> Self {
        let bin = bin();
        let folder = tempfile::tempdir().unwrap();
        let user = postgres_user();
        // PostgreSQL refuses to run as root.
        let own = |path: &Path| {
            if let Some((user, group)) = user {
                std::os::unix::fs::chown(path, Some(user), Some(group)).unwrap();
            }
        };
        own(folder.path());
        let (certificate, key) = authority.server("localhost");
        for (name, text) in [("server.crt", &certificate), ("server.key", &key)] {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            own(&path);
        }
        let data = folder.path().join("data");
        let mut init = as_user(&bin.join("initdb"), user);
        init.args([
            "-U",
            "postgres",
            "-A",
            "trust",
            "--no-sync",
            "--no-locale",
            "-E",
            "UTF8",
            "-D",
        ]);
        let done = init.arg(&data).stdout(Stdio::null()).status().unwrap();
        assert!(done.success());
        let access = "local all all trust\nhostssl all all all scram-sha-256\n";
        fs::write(data.join("pg_hba.conf"), access).unwrap();
        // Not on the command line, which nothing could change any more.
        fs::write(data.join("postgresql.auto.conf"), "ssl = on\n").unwrap();
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let at = folder.path().display();
        let settings = [
            "listen_addresses=localhost".to_owned(),
            format!("port={port}"),
            format!("unix_socket_directories={at}"),
            format!("ssl_cert_file={at}/server.crt"),
            format!("ssl_key_file={at}/server.key"),
            "fsync=off".to_owned(),
        ];
        let mut run = as_user(&bin.join("postgres"), user);
        run.arg("-D").arg(&data);
        for setting in &settings {
            run.args(["-c", setting]);
        }
        let process = run
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut server = Self {
            folder,
            process,
            bin,
            user,
            port,
        };
        while !server.is_ready() {
            let ended = server.process.try_wait().unwrap();
            assert!(ended.is_none(), "PostgreSQL did not start: {ended:?}");
        }
        server.run(&format!("CREATE ROLE reader LOGIN PASSWORD '{PASSWORD}'"));
        server
    }

    /// Waits for a second at most, and says whether it answers.
    fn is_ready(&self) -> bool {
        let mut ready = as_user(&self.bin.join("pg_isready"), self.user);
        ready
            .arg("-q")
            .args(["-t", "1", "-h"])
            .arg(self.folder.path());
        ready
            .arg("-p")
            .arg(self.port.to_string())
            .status()
            .unwrap()
            .success()
    }

    fn run(&self, sql: &str) -> String {
        let mut psql = as_user(&self.bin.join("psql"), self.user);
        psql.args(["-qAt", "-U", "postgres", "-v", "ON_ERROR_STOP=1", "-h"])
            .arg(self.folder.path());
        psql.arg("-p")
            .arg(self.port.to_string())
            .args(["-c", sql, "postgres"]);
        let output = psql.output().unwrap();
        assert!(output.status.success(), "{sql}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// From now on it speaks no TLS, and lets everybody in who has a password.
    fn stop_tls(&self) {
        let access = "local all all trust\nhost all all all scram-sha-256\n";
        fs::write(self.folder.path().join("data/pg_hba.conf"), access).unwrap();
        self.run("ALTER SYSTEM SET ssl = off");
        self.run("SELECT pg_reload_conf()");
        // New sessions have what the server has read by then.
        while self.run("SHOW ssl") != "off\n" {}
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Where `tests/run` finds it, too.
fn bin() -> PathBuf {
    let found = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let mut found: Vec<PathBuf> = found
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .filter(|bin| bin.join("initdb").exists())
        .collect();
    found.sort();
    found
        .pop()
        .expect("PostgreSQL is installed: `tests/run` does so")
}

/// User and group of PostgreSQL, if we are root.
fn postgres_user() -> Option<(u32, u32)> {
    let output = Command::new("id").arg("-u").output().unwrap();
    if output.stdout != b"0\n" {
        return None;
    }
    let accounts = fs::read_to_string("/etc/passwd").unwrap();
    let account = accounts
        .lines()
        .find_map(|line| line.strip_prefix("postgres:"));
    let mut fields = account
        .expect("there is a user postgres")
        .split(':')
        .skip(1);
    let mut next = || fields.next()?.parse().ok();
    Some((next()?, next()?))
}

fn as_user(program: &Path, user: Option<(u32, u32)>) -> Command {
    let mut command = Command::new(program);
    command.current_dir("/");
    if let Some((user, group)) = user {
        command.uid(user).gid(group);
    }
    command
}

/// Whether a command goes over TLS, by the server's own word; or why it does not go.
async fn encrypted(server: &Server, host: &str, more: &str) -> Result<bool, HandlerError> {
    let url = format!(
        "postgres://reader:{PASSWORD}@{host}:{}/postgres{more}",
        server.port
    );
    let catalog = Catalog::from_descriptions(&[("postgres.toml", DESCRIPTION)], &|name| {
        (name == "SHOP_URL").then(|| url.clone())
    })
    .unwrap();
    let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let Ok(Parsed::Command(command)) = catalog.command("postgres", "query", json!({"sql": sql}))
    else {
        panic!()
    };
    let answer = catalog
        .handle(PermitEverything::new().permit(command))
        .await;
    answer.map(|answer| match &answer.data["rows"][0]["ssl"] {
        Value::Bool(encrypted) => *encrypted,
        other => panic!("{other}"),
    })
}

#[tokio::test]
async fn whom_we_believe_is_as_the_mode_says() {
    let (ours, another) = (Authority::new("ours"), Authority::new("another"));
    let server = Server::start(&ours);
    let file = |name: &str, pem: &str| {
        let path = server.folder.path().join(name);
        fs::write(&path, pem).unwrap();
        format!("&sslrootcert={}", path.display())
    };
    let (right, wrong) = (
        file("ours.pem", &ours.pem),
        file("another.pem", &another.pem),
    );
    let nothing = file("nothing.pem", "");
    let missing = "&sslrootcert=/nowhere/ca.pem";

    // What its certificate says, and who signed it, checked or not.
    let believed = [
        ("localhost", "verify-full", right.as_str()),
        ("localhost", "verify-ca", &right),
        // Another name than the certificate's.
        ("127.0.0.1", "verify-ca", &right),
        ("localhost", "require", ""),
        ("127.0.0.1", "require", ""),
        // Who names an authority wants it asked.
        ("127.0.0.1", "require", &right),
        ("localhost", "prefer", ""),
        ("127.0.0.1", "prefer", &wrong),
    ];
    for (host, mode, authority) in believed {
        let encrypted = encrypted(&server, host, &format!("?sslmode={mode}{authority}")).await;
        assert!(
            encrypted.as_ref().is_ok_and(|yes| *yes),
            "{host} {mode}: {encrypted:?}"
        );
    }
    assert!(
        encrypted(&server, "localhost", "").await.unwrap(),
        "unless it is said: `prefer`"
    );

    let refused = [
        (
            "127.0.0.1",
            "verify-full",
            right.as_str(),
            "not valid for name",
        ),
        ("localhost", "verify-full", &wrong, "UnknownIssuer"),
        ("localhost", "verify-ca", &wrong, "UnknownIssuer"),
        ("localhost", "require", &wrong, "UnknownIssuer"),
        // Nobody but the authorities of the web.
        ("localhost", "verify-full", "", "UnknownIssuer"),
        ("localhost", "verify-ca", "", "UnknownIssuer"),
        ("localhost", "verify-full", &nothing, "UnknownIssuer"),
    ];
    for (host, mode, authority, says) in refused {
        let error = encrypted(&server, host, &format!("?sslmode={mode}{authority}")).await;
        let error = error.unwrap_err();
        assert!(
            matches!(&error, HandlerError::Unreachable { reason, .. }
                if reason.contains("no TLS with database `shop`") && reason.contains(says)),
            "{host} {mode} {authority}: {error:?}"
        );
        assert!(!format!("{error:?}").contains(PASSWORD), "{error:?}");
    }
    let error = encrypted(
        &server,
        "localhost",
        &format!("?sslmode=verify-full{missing}"),
    )
    .await;
    let error = error.unwrap_err();
    assert!(
        matches!(&error, HandlerError::Unreachable { .. }),
        "{error:?}"
    );

    // In clear nobody is let in here: the server says so, and never saw a password.
    for mode in ["disable", "allow"] {
        let error = encrypted(&server, "localhost", &format!("?sslmode={mode}"))
            .await
            .unwrap_err();
        assert!(
            matches!(&error, HandlerError::Credential { .. }),
            "{mode}: {error:?}"
        );
    }
}

#[tokio::test]
async fn a_server_without_tls_gets_nothing_that_asks_for_it() {
    let authority = Authority::new("ours");
    let server = Server::start(&authority);
    let path = server.folder.path().join("ours.pem");
    fs::write(&path, &authority.pem).unwrap();
    server.stop_tls();
    for mode in ["prefer", "allow", "disable"] {
        let encrypted = encrypted(&server, "localhost", &format!("?sslmode={mode}")).await;
        assert!(
            encrypted.as_ref().is_ok_and(|yes| !yes),
            "{mode}: {encrypted:?}"
        );
    }
    for mode in ["require", "verify-ca", "verify-full"] {
        let more = format!("?sslmode={mode}&sslrootcert={}", path.display());
        let error = encrypted(&server, "localhost", &more).await.unwrap_err();
        assert!(
            matches!(&error, HandlerError::Unreachable { reason, .. } if reason.contains("no TLS")),
            "{mode}: {error:?}"
        );
    }
}
