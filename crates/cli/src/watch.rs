//! `cedargate approvals watch` on a terminal: an inbox that lives, with keys.
//!
//! `model.rs` is what it knows and what a key does, without a terminal; `view.rs` draws it.
//! Here they meet the terminal, the feed and the orchestrator.

mod feed;
mod model;
mod view;

use std::{io::IsTerminal, time::Duration};

use authz::Clock;
use crossterm::event::{Event, EventStream, KeyEventKind};
use futures_util::StreamExt;
use tokio::sync::mpsc;

use self::{
    feed::{Update, follow},
    model::{Inbox, Step},
};
use crate::{client::Remote, signals};

/// How often the countdowns are drawn anew.
const TICK: Duration = Duration::from_secs(1);

/// Whether there is someone to press keys, and something to draw on.
#[must_use]
pub fn is_possible() -> bool {
    std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
}

/// Gives the terminal back as it was, however this ends.
struct Terminal(ratatui::DefaultTerminal);

impl Terminal {
    /// Takes the screen. A panic gives it back before it says anything.
    fn take() -> std::io::Result<Self> {
        ratatui::try_init().map(Self)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// Shows the inbox until it is left.
///
/// # Errors
///
/// When the terminal fails, or the orchestrator refuses for good.
pub async fn run(remote: &Remote, clock: &Clock) -> anyhow::Result<()> {
    let shutdown = signals::shutdown()?;
    // Before the screen is taken: what is wrong with the token is said plainly.
    let whoami = remote
        .client
        .whoami()
        .await
        .map_err(|error| remote.explain(error))?;
    let mut inbox = Inbox::new(whoami.user.id.to_string(), remote.url.clone());
    let (sender, mut updates) = mpsc::channel(64);
    let following = tokio::spawn(follow(remote.client.clone(), sender.clone()));

    let ended = {
        let mut terminal = Terminal::take()?;
        let mut keys = EventStream::new();
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            let now = clock.now();
            terminal.0.draw(|frame| view::draw(frame, &inbox, now))?;
            let step = tokio::select! {
                () = shutdown.cancelled() => Step::Leave,
                _ = ticks.tick() => Step::None,
                update = updates.recv() => match update {
                    // The sender here keeps it open.
                    None => Step::None,
                    Some(Update::Refused(error)) => break Err(remote.explain(error)),
                    Some(update) => {
                        inbox.update(update);
                        Step::None
                    }
                },
                event = keys.next() => match event {
                    None => Step::Leave,
                    Some(Err(error)) => break Err(error.into()),
                    Some(Ok(Event::Key(key))) if key.kind != KeyEventKind::Release => {
                        inbox.key(key, clock.now())
                    }
                    Some(Ok(_)) => Step::None,
                },
            };
            match step {
                Step::None => {}
                Step::Leave => break Ok(()),
                Step::Send(request) => {
                    let (client, sender) = (remote.client.clone(), sender.clone());
                    tokio::spawn(async move {
                        let update = feed::send(&client, *request).await;
                        // The screen may be closed by now.
                        let _ = sender.send(update).await;
                    });
                }
            }
        }
    };
    following.abort();
    ended
}
