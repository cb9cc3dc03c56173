//! Telling people, where they are, what waits for them: webhooks, Slack, e-mail.
//!
//! One process at a time reads the feed and works out who is to be told what and when
//! (`plan.rs`, by `rules.rs`), and puts it in the outbox, in one transaction with its place
//! in the feed. The same process sends what is due (`sender.rs`, `deliver.rs`), each target
//! apart from the others, and tries again what failed. What people answer comes back through
//! `callback.rs`, which ends in the same functions as every other verdict.

pub(crate) mod callback;
mod deliver;
mod email;
mod plan;
mod rules;
mod seal;
mod sender;
mod signature;
mod slack;
mod snapshot;
pub(crate) mod targets;
mod web;

pub(crate) use sender::{Sender, run};
pub(crate) use signature::Forged;

pub use email::{Smtp, SmtpError};

use secrecy::SecretString;

use self::{email::Mailer, seal::Seal, web::Web};

/// How notifications are set up. By default there is nothing to keep secrets with and no
/// SMTP server, so only what needs neither can be added: nothing.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The secrets of targets are encrypted with a key made of this; the same for every
    /// orchestrator on one database. Without it no target can be added.
    pub secrets_key: Option<SecretString>,
    /// Where e-mail is handed in.
    pub smtp: Option<Smtp>,
    /// Host names or addresses that may be private or without TLS, or `*` for all.
    pub private_hosts: Vec<String>,
}

/// What it takes to send.
#[derive(Debug)]
pub(crate) struct Notifier {
    /// Names this process among those that could send.
    holder: String,
    seal: Option<Seal>,
    web: Web,
    mailer: Option<Mailer>,
}

impl Notifier {
    /// # Errors
    ///
    /// In words: TLS cannot be set up, or the SMTP server's address or key is no good.
    pub(crate) fn new(settings: &Settings) -> Result<Self, String> {
        Ok(Self {
            holder: crate::credential::random_hex(),
            seal: settings.secrets_key.as_ref().map(Seal::new),
            web: Web::new(&settings.private_hosts)?,
            mailer: settings.smtp.as_ref().map(Mailer::new).transpose()?,
        })
    }
}
