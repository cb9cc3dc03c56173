//! How the demo is told: steps, commands, answers.

use std::io::{self, IsTerminal, Write};

use serde_json::Value;

use super::{Stage, layout::lay_out};
use crate::output::{printable, printable_lines};

/// Prints the story.
pub(super) struct Narrator {
    colour: bool,
    steps: u32,
}

/// Select Graphic Rendition codes.
#[derive(Clone, Copy)]
enum Ink {
    Bold = 1,
    Dim = 2,
    Green = 32,
    Yellow = 33,
    Cyan = 36,
}

impl Narrator {
    pub(super) fn new() -> Self {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self {
            colour: io::stdout().is_terminal() && !set("NO_COLOR") && !dumb,
            steps: 0,
        }
    }

    fn ink(&self, ink: Ink, text: &str) -> String {
        if self.colour {
            format!("\u{1b}[{}m{text}\u{1b}[0m", ink as u8)
        } else {
            text.to_owned()
        }
    }

    fn say(text: &str) -> anyhow::Result<()> {
        let mut out = io::stdout().lock();
        writeln!(out, "{text}")?;
        out.flush()?;
        Ok(())
    }

    pub(super) fn opening(
        &self,
        stage: &Stage,
        coolify: &str,
        moved: &[u16],
    ) -> anyhow::Result<()> {
        let row = |name: &str, text: &str| {
            format!("  {}  {text}", self.ink(Ink::Bold, &format!("{name:12}")))
        };
        let title =
            "Cedargate: an agent asks for something that it may not do, and a person lets it";
        let mut lines = vec![
            String::new(),
            self.ink(Ink::Bold, title),
            String::new(),
            row(
                "gateway",
                &format!(
                    "{}  where agents send commands (metrics at {})",
                    stage.gateway, stage.metrics
                ),
            ),
            row(
                "orchestrator",
                &format!("{}  where people decide", stage.orchestrator),
            ),
            row("Coolify", coolify),
            row(
                "state",
                &format!("{}  removed at the end", stage.data.display()),
            ),
        ];
        if !moved.is_empty() {
            let ports: Vec<String> = moved.iter().map(ToString::to_string).collect();
            let note = format!(
                "  Taken by other programs, so free ones instead: {}",
                ports.join(", ")
            );
            lines.push(String::new());
            lines.push(self.ink(Ink::Yellow, &note));
        }
        lines.push(String::new());
        lines.push("To paste the commands below into another terminal, first:".to_owned());
        lines.push(String::new());
        lines.push(self.command(&format!(
            "export CEDARGATE_TOKEN=$(cat {})",
            stage.admin_token().display()
        )));
        Self::say(&lines.join("\n"))
    }

    /// Begins a step.
    pub(super) fn step(&mut self, title: &str) -> anyhow::Result<()> {
        self.steps += 1;
        Self::say(&format!(
            "\n{}",
            self.ink(Ink::Bold, &format!("{:2}. {title}", self.steps))
        ))
    }

    fn command(&self, text: &str) -> String {
        let lines: Vec<String> = text.lines().map(|line| self.ink(Ink::Cyan, line)).collect();
        format!("    {} {}", self.ink(Ink::Dim, "$"), lines.join("\n      "))
    }

    /// What a person would type.
    pub(super) fn type_command(&self, text: &str) -> anyhow::Result<()> {
        Self::say(&self.command(text))
    }

    /// What came back: a status and a body.
    pub(super) fn answer(&self, status: Option<u16>, body: &Value) -> anyhow::Result<()> {
        let body = printable_lines(&lay_out(body)).replace('\n', "\n      ");
        let status = status.map(|status| {
            let ink = if status < 400 {
                Ink::Green
            } else {
                Ink::Yellow
            };
            format!("{} ", self.ink(ink, &status.to_string()))
        });
        Self::say(&format!("      {}{body}", status.unwrap_or_default()))
    }

    /// What came back, as text.
    pub(super) fn text(text: &str) -> anyhow::Result<()> {
        let lines: Vec<String> = printable_lines(text)
            .lines()
            .map(|line| format!("      {line}"))
            .collect();
        Self::say(&lines.join("\n"))
    }

    /// What it means.
    pub(super) fn note(&self, text: &str) -> anyhow::Result<()> {
        Self::say(&format!(
            "    {} {}",
            self.ink(Ink::Green, "✔"),
            printable(text)
        ))
    }

    pub(super) fn verdict(&self) -> anyhow::Result<()> {
        let text = format!("All {} steps went as they should.", self.steps);
        Self::say(&format!("\n{}", self.ink(Ink::Green, &text)))
    }

    pub(super) fn closing(&self, stage: &Stage, link: &str, agent: &str) -> anyhow::Result<()> {
        let call = super::story::execute(stage, agent, "/mcp-coolify applications list");
        let text = [
            String::new(),
            "Everything stays up until Ctrl-C. Your turn: let the agent ask for something else …".to_owned(),
            String::new(),
            self.command(&call.as_curl()),
            String::new(),
            "… and decide on the approvals page. This link logs you in as admin, once, within an hour:".to_owned(),
            String::new(),
            format!("    {}", self.ink(Ink::Bold, link)),
        ];
        Self::say(&text.join("\n"))
    }
}
