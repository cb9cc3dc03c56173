//! The inbox in a terminal: a real one, by `tmux`, with keys.

use std::{
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::{Context, ensure};
use cedargate_tests::{Layout, System, process::binary};
use serde_json::json;

journeys![an_inbox_with_keys];

/// A terminal of 80 × 24 with one program in it; it ends with the journey.
struct Terminal {
    socket: String,
}

impl Terminal {
    fn start(system: &System, arguments: &str) -> anyhow::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let terminal = Self {
            socket: format!("cedargate-{}-{number}", std::process::id()),
        };
        // The shell shows how the program ended, and that the terminal is as it was.
        let program = format!(
            "CEDARGATE_URL={} CEDARGATE_TOKEN={} {} {arguments}; echo ended with $?; stty -a | grep -o ' -\\?icanon'; exec cat",
            system.orchestrator_url,
            system.admin,
            binary()?.display(),
        );
        terminal.tmux(&["new-session", "-d", "-x", "80", "-y", "24", &program])?;
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

    /// Waits until the screen has all of this, and gives it back. A terminal tells nobody
    /// when it is drawn on, so it is looked at again and again.
    async fn shows(&self, parts: &[&str]) -> anyhow::Result<String> {
        let mut screen = String::new();
        for _ in 0..300 {
            screen = self.tmux(&["capture-pane", "-p"])?;
            if parts.iter().all(|part| screen.contains(part)) {
                return Ok(screen);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        anyhow::bail!("the screen never showed {parts:?}:\n{screen}")
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
