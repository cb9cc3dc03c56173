//! The inbox in a terminal: a real one, by `tmux`, with keys.

use std::{
    io::ErrorKind,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::{Context, ensure};
use cedargate_tests::{Layout, System, process::binary};
use serde_json::json;
use tempfile::TempDir;
use tokio::net::unix::pipe;

/// What is to be on the screen is there within so long, on a busy machine too.
const PATIENCE: Duration = Duration::from_mins(1);

journeys![an_inbox_with_keys];

/// A terminal of 80 × 24 with one program in it; it ends with the journey.
struct Terminal {
    socket: String,
    /// Everything that the program writes, as it writes it.
    written: pipe::Receiver,
    _folder: TempDir,
}

impl Terminal {
    fn start(system: &System, arguments: &str) -> anyhow::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = TempDir::with_prefix("cedargate-terminal-")?;
        let fifo = folder.path().join("written");
        let made = Command::new("mkfifo").arg(&fifo).status()?;
        ensure!(made.success(), "mkfifo: {made}");
        // Opened for both, so that it does not end before the first writer comes.
        let written = pipe::OpenOptions::new()
            .read_write(true)
            .open_receiver(&fifo)?;
        let terminal = Self {
            socket: format!("cedargate-{}-{number}", std::process::id()),
            written,
            _folder: folder,
        };
        // The shell shows how the program ended, and that the terminal is as it was.
        let program = format!(
            "CEDARGATE_URL={} CEDARGATE_TOKEN={} {} {arguments}; echo ended with $?; stty -a | grep -o ' -\\?icanon'; exec cat",
            system.orchestrator_url,
            system.admin,
            binary()?.display(),
        );
        terminal.tmux(&["new-session", "-d", "-x", "80", "-y", "24", &program])?;
        terminal.tmux(&["pipe-pane", &format!("exec cat > {}", fifo.display())])?;
        Ok(terminal)
    }

    fn tmux(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = Command::new("tmux")
            .args(["-L", &self.socket, "-f", "/dev/null"])
            .args(arguments)
            .output()
            .context("tmux is not installed: `tests/run` does that")?;
        ensure!(
            output.status.success(),
            "tmux {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn press(&self, keys: &[&str]) -> anyhow::Result<()> {
        let mut arguments = vec!["send-keys"];
        arguments.extend(keys);
        self.tmux(&arguments).map(drop)
    }

    /// Waits until the screen has all of this, and gives it back. It is looked at whenever
    /// the program has written something: tmux hands that on after it has drawn it.
    async fn shows(&self, parts: &[&str]) -> anyhow::Result<String> {
        let until = tokio::time::Instant::now() + PATIENCE;
        loop {
            let screen = self.tmux(&["capture-pane", "-p"])?;
            if parts.iter().all(|part| screen.contains(part)) {
                return Ok(screen);
            }
            match tokio::time::timeout_at(until, self.drawn()).await {
                Ok(drawn) => drawn?,
                Err(_) => anyhow::bail!("the screen never showed {parts:?}:\n{screen}"),
            }
        }
    }

    /// Until the program has written since this was asked last.
    async fn drawn(&self) -> anyhow::Result<()> {
        let mut bytes = vec![0; 64 * 1024];
        loop {
            self.written.readable().await?;
            match self.written.try_read(&mut bytes) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.tmux(&["kill-server"]);
    }
}

async fn an_inbox_with_keys(mut system: System) -> anyhow::Result<()> {
    let terminal = Terminal::start(&system, "approvals watch")?;
    terminal
        .shows(&["0 waiting", "live", "nothing waits for you"])
        .await?;

    let agent = system.create_agent(json!({"name": "deploy-bot"})).await?;
    let refused = system.execute(&agent, "/mcp-coolify servers list").await?;
    let first = refused.body["error"]["data"]["request_id"].clone();
    terminal
        .shows(&["1 waiting", "deploy-bot", "coolify/list-servers"])
        .await?;
    terminal.press(&["Enter"])?;
    let id = first.as_str().context("a request id")?;
    terminal
        .shows(&["deploy-bot asks for", id, "you may"])
        .await?;
    terminal.press(&["a"])?;
    terminal.shows(&["Approve", "‹ call ›", "‹ 1h ›"]).await?;
    terminal.press(&["-l", "release day"])?;
    terminal.shows(&["release day"]).await?;
    terminal.press(&["Enter"])?;
    terminal
        .shows(&["approved: coolify/list-servers", "0 waiting"])
        .await?;
    let reply = system.execute(&agent, "/mcp-coolify servers list").await?;
    assert_eq!(reply.status, 200, "{reply:?}");

    // A connection that breaks is made again, and shows what happened meanwhile.
    if system.layout() == Layout::TwoProcesses {
        let mut orchestrator = system.orchestrator.take().context("a process of its own")?;
        orchestrator.kill().await?;
        terminal.shows(&["not connected"]).await?;
        system.start_orchestrator_again().await?;
        terminal.shows(&["0 waiting", "live"]).await?;
    }
    system
        .execute(&agent, "/mcp-coolify applications list")
        .await?;
    terminal.shows(&["1 waiting", "list-applications"]).await?;
    // What was selected stays so, though it is decided: the first is another now.
    terminal.press(&["g", "r"])?;
    terminal.shows(&["Reject"]).await?;
    terminal.press(&["-l", "not today"])?;
    terminal.press(&["Enter"])?;
    terminal
        .shows(&["rejected: coolify/list-applications"])
        .await?;

    terminal.press(&["C-c"])?;
    let screen = terminal.shows(&["ended with 0", " icanon"]).await?;
    assert!(
        !screen.contains("waiting"),
        "the screen is as it was:\n{screen}"
    );
    Ok(())
}
