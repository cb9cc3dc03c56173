//! The real binary, running, with its log lines.

use std::{
    path::PathBuf,
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::Context;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    sync::watch,
};

/// The binary, beside the test that runs.
///
/// # Errors
///
/// When it was not built.
pub fn binary() -> anyhow::Result<PathBuf> {
    let test = std::env::current_exe()?;
    let profile = test
        .ancestors()
        .nth(2)
        .context("a test binary lies in target/<profile>/deps")?;
    let binary = profile.join("cedargate");
    anyhow::ensure!(
        binary.exists(),
        "build the binary first: `cargo build --bins` (`tests/run` does)"
    );
    Ok(binary)
}

/// One running process. It is killed when this is dropped.
pub struct Process {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    arrived: watch::Receiver<usize>,
}

impl Process {
    /// Starts the binary with exactly these variables, and PATH.
    ///
    /// # Errors
    ///
    /// When it does not start.
    pub fn start(arguments: &[&str], variables: &[(String, String)]) -> anyhow::Result<Self> {
        let mut child = Command::new(binary()?)
            .args(arguments)
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (arrive, arrived) = watch::channel(0);
        let arrive = Arc::new(arrive);
        let stdout = child.stdout.take().context("stdout is piped")?;
        let stderr = child.stderr.take().context("stderr is piped")?;
        collect(stdout, Arc::clone(&lines), Arc::clone(&arrive));
        collect(stderr, Arc::clone(&lines), arrive);
        Ok(Self {
            child,
            lines,
            arrived,
        })
    }

    /// Waits for a line that holds all of `parts`, among those of before, too.
    ///
    /// # Errors
    ///
    /// When the process ends first, or takes too long; with what it said instead.
    pub async fn line(&self, parts: &[&str]) -> anyhow::Result<String> {
        self.line_after(0, parts).await
    }

    /// How many lines it has said so far: a place to wait from.
    #[must_use]
    pub fn mark(&self) -> usize {
        *self.arrived.borrow()
    }

    /// Waits for a line after `mark` that holds all of `parts`.
    ///
    /// # Errors
    ///
    /// As [`Process::line`].
    pub async fn line_after(&self, mark: usize, parts: &[&str]) -> anyhow::Result<String> {
        let mut arrived = self.arrived.clone();
        let found = crate::soon(&format!("a line with {parts:?}"), async {
            let mut from = mark;
            loop {
                let upto = *arrived.borrow_and_update();
                if let Some(line) = self.find(parts, from) {
                    return Some(line);
                }
                from = upto;
                if arrived.changed().await.is_err() {
                    return self.find(parts, mark);
                }
            }
        })
        .await;
        match found {
            Ok(Some(line)) => Ok(line),
            Ok(None) => anyhow::bail!(
                "the process ended without a line with {parts:?}:\n{}",
                self.log()
            ),
            Err(error) => Err(error.context(self.log())),
        }
    }

    fn find(&self, parts: &[&str], from: usize) -> Option<String> {
        let lines = self.lines.lock().ok()?;
        lines
            .iter()
            .skip(from)
            .find(|line| parts.iter().all(|part| line.contains(part)))
            .cloned()
    }

    /// How much memory it holds, in KiB.
    ///
    /// # Errors
    ///
    /// When it has ended, or this is not Linux.
    pub fn resident_kib(&self) -> anyhow::Result<u64> {
        self.status_kib("VmRSS:")
    }

    /// The most memory that it ever held, in KiB.
    ///
    /// # Errors
    ///
    /// As [`Process::resident_kib`].
    pub fn peak_kib(&self) -> anyhow::Result<u64> {
        self.status_kib("VmHWM:")
    }

    fn status_kib(&self, name: &str) -> anyhow::Result<u64> {
        let id = self.child.id().context("it has ended already")?;
        let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .with_context(|| format!("`{name}`"))?;
        let number = line.split_whitespace().next().context("a number")?;
        Ok(number.parse()?)
    }

    /// How much CPU time it has used so far, to 10 ms.
    ///
    /// # Errors
    ///
    /// When it has ended, or this is not Linux.
    pub fn cpu_time(&self) -> anyhow::Result<Duration> {
        // What the kernel counts in, whatever the machine.
        const TICK: Duration = Duration::from_millis(10);
        let id = self.child.id().context("it has ended already")?;
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat"))?;
        // The name may hold spaces, and ends with the last bracket.
        let (_, fields) = stat.rsplit_once(')').context("a name in brackets")?;
        let mut ticks = 0;
        for field in fields.split_whitespace().skip(11).take(2) {
            ticks += field.parse::<u32>()?;
        }
        Ok(TICK * ticks)
    }

    /// By what the operating system knows it, until it has ended.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Everything that it said so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.lines
            .lock()
            .map(|lines| lines.join("\n"))
            .unwrap_or_default()
    }

    /// Kills it at once, as `kill -9` does, and waits until it is gone.
    ///
    /// # Errors
    ///
    /// When it cannot be waited for.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill().await.context("kill")
    }

    /// Asks it to end (SIGTERM), and waits until it has.
    ///
    /// # Errors
    ///
    /// When it does not end soon.
    pub async fn terminate(&mut self) -> anyhow::Result<std::process::ExitStatus> {
        self.signal("-TERM").await?;
        self.ended().await
    }

    /// Stops it in its tracks (SIGSTOP), or lets it go on (SIGCONT).
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub async fn pause(&mut self, stop: bool) -> anyhow::Result<()> {
        self.signal(if stop { "-STOP" } else { "-CONT" }).await
    }

    async fn signal(&self, signal: &str) -> anyhow::Result<()> {
        let id = self.child.id().context("it has ended already")?;
        let status = Command::new("kill")
            .args([signal, &id.to_string()])
            .status()
            .await?;
        anyhow::ensure!(status.success(), "kill {signal} failed");
        Ok(())
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    ///
    /// When it does not end soon.
    pub async fn ended(&mut self) -> anyhow::Result<std::process::ExitStatus> {
        crate::soon("the process ends", self.child.wait())
            .await?
            .context("wait")
    }
}

fn collect(
    from: impl tokio::io::AsyncRead + Unpin + Send + 'static,
    lines: Arc<Mutex<Vec<String>>>,
    arrive: Arc<watch::Sender<usize>>,
) {
    tokio::spawn(async move {
        let mut from = BufReader::new(from).lines();
        while let Ok(Some(line)) = from.next_line().await {
            if let Ok(mut lines) = lines.lock() {
                lines.push(line);
                let count = lines.len();
                drop(lines);
                arrive.send_replace(count);
            }
        }
    });
}
