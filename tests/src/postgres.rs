//! A PostgreSQL server of a journey's own, which may go away and come back.

use std::path::{Path, PathBuf};

use anyhow::Context;
use tempfile::TempDir;
use tokio::process::Command;

/// One server. It ends with this.
pub struct Postgres {
    programs: PathBuf,
    folder: TempDir,
    port: u16,
    /// Of `postgres`, if it asks for passwords.
    password: Option<String>,
    /// PostgreSQL refuses to run as root.
    switches_user: bool,
}

impl Postgres {
    /// Makes one, and starts it.
    ///
    /// # Errors
    ///
    /// When PostgreSQL is not installed, or does not start.
    pub async fn start() -> anyhow::Result<Self> {
        Self::make(None).await
    }

    /// As [`Postgres::start`], but everybody needs a password, and this is that of `postgres`.
    ///
    /// # Errors
    ///
    /// As [`Postgres::start`].
    pub async fn start_with_passwords(password: &str) -> anyhow::Result<Self> {
        Self::make(Some(password.to_owned())).await
    }

    async fn make(password: Option<String>) -> anyhow::Result<Self> {
        let folder = TempDir::with_prefix("cedargate-postgres-")?;
        let switches_user = run(Command::new("id").arg("-u")).await?.trim() == "0";
        if switches_user {
            run(Command::new("chown").arg("postgres").arg(folder.path())).await?;
        }
        // Free a moment ago.
        let port = std::net::TcpListener::bind("127.0.0.1:0")?
            .local_addr()?
            .port();
        let server = Self {
            programs: programs()?,
            folder,
            port,
            password,
            switches_user,
        };
        let data = server.data();
        let mut arguments = vec!["-D", &data, "-U", "postgres", "--no-sync", "--no-locale"];
        arguments.extend(["-E", "UTF8", "-A"]);
        let file = server.folder.path().join("password");
        let shown = file.display().to_string();
        match &server.password {
            None => arguments.push("trust"),
            Some(password) => {
                std::fs::write(&file, password)?;
                if switches_user {
                    run(Command::new("chown").arg("postgres").arg(&file)).await?;
                }
                arguments.extend(["scram-sha-256", "--pwfile", &shown]);
            }
        }
        server.call("initdb", &arguments).await?;
        server.start_again().await?;
        Ok(server)
    }

    /// `postgres://…` of its only database.
    #[must_use]
    pub fn url(&self) -> String {
        let password = self.password.iter().map(|password| format!(":{password}"));
        let password: String = password.collect();
        format!(
            "postgres://postgres{password}@127.0.0.1:{}/postgres",
            self.port
        )
    }

    /// Where it listens, on the loopback address.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Ends it at once, as a crash does: nobody is told, and it recovers at the next start.
    ///
    /// # Errors
    ///
    /// When it is not running.
    pub async fn crash(&self) -> anyhow::Result<()> {
        self.call(
            "pg_ctl",
            &["-D", &self.data(), "-m", "immediate", "-w", "-s", "stop"],
        )
        .await
    }

    /// Starts it again where it was.
    ///
    /// # Errors
    ///
    /// When it does not start.
    pub async fn start_again(&self) -> anyhow::Result<()> {
        let options = format!(
            "-c listen_addresses=127.0.0.1 -c port={} -c unix_socket_directories={}",
            self.port,
            self.folder.path().display()
        );
        let log = self.folder.path().join("log").display().to_string();
        self.call(
            "pg_ctl",
            &[
                "-D",
                &self.data(),
                "-l",
                &log,
                "-w",
                "-s",
                "-o",
                &options,
                "start",
            ],
        )
        .await
    }

    fn data(&self) -> String {
        self.folder.path().join("data").display().to_string()
    }

    async fn call(&self, program: &str, arguments: &[&str]) -> anyhow::Result<()> {
        let program = self.programs.join(program);
        let mut command = if self.switches_user {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(&program);
            command
        } else {
            Command::new(&program)
        };
        command.args(arguments).current_dir(self.folder.path());
        run(&mut command).await.map(drop)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let stop = ["-D", &self.data(), "-m", "immediate", "-s", "stop"].map(str::to_owned);
        let program = self.programs.join("pg_ctl");
        let mut command = if self.switches_user {
            let mut command = std::process::Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(program);
            command
        } else {
            std::process::Command::new(program)
        };
        // It may be down already.
        let _ = command.args(stop).current_dir("/").output();
    }
}

/// Where the newest installed version has its programs.
fn programs() -> anyhow::Result<PathBuf> {
    let installed = std::fs::read_dir("/usr/lib/postgresql")
        .context("PostgreSQL is missing: `tests/run` installs it")?;
    installed
        .filter_map(|version| Some(version.ok()?.path()))
        .filter(|version| version.join("bin/initdb").exists())
        .max_by_key(|version| number(version))
        .map(|version| version.join("bin"))
        .context("PostgreSQL is missing: `tests/run` installs it")
}

fn number(version: &Path) -> Option<u32> {
    version.file_name()?.to_str()?.parse().ok()
}

async fn run(command: &mut Command) -> anyhow::Result<String> {
    // Not a pipe for what stays: the server would hold it open.
    let output = tempfile::tempfile()?;
    let status = command
        .stdin(std::process::Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output.try_clone()?)
        .status()
        .await
        .with_context(|| format!("{command:?} does not start"))?;
    let mut said = String::new();
    std::io::Seek::rewind(&mut &output)?;
    std::io::Read::read_to_string(&mut &output, &mut said)?;
    anyhow::ensure!(status.success(), "{command:?}: {said}");
    Ok(said)
}
