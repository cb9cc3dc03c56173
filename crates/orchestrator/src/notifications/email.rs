//! E-mail: what it says, and how it is handed in.

use std::{
    net::IpAddr,
    time::{Duration, UNIX_EPOCH},
};

use askama::Template;
use authz::{MessageId, Timestamp};
use contract::notifications::{Data, Event};
use lettre::{
    Address, AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor,
    message::{
        Mailbox, MultiPart,
        header::{HeaderName, HeaderValue},
    },
    transport::smtp::{
        authentication::Credentials,
        client::{Certificate, Tls, TlsParameters},
    },
};
use percent_encoding::percent_decode_str;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::{
    snapshot::{headline, line},
    web::Failure,
};
use crate::approvals::visible;

/// How long handing in one message may take.
const TIMEOUT: Duration = Duration::from_secs(15);

/// A subject is at most so long.
const MAX_SUBJECT_CHARS: usize = 150;

/// The arguments of one request are shown up to this.
const MAX_ARGUMENTS_CHARS: usize = 4_000;

/// Where e-mail is handed in.
#[derive(Clone, Debug)]
pub struct Smtp {
    host: String,
    port: u16,
    security: Security,
    login: Option<(String, SecretString)>,
    from: Mailbox,
    /// PEM of certificates to believe besides those of the system.
    authority: Option<Vec<u8>>,
}

/// How the connection is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Security {
    /// TLS from the first byte.
    Implicit,
    /// TLS after `STARTTLS`, without which nothing is sent.
    StartTls,
    /// None: on this machine only.
    None,
}

/// Why an SMTP server is not one that can be used. Never repeats the address, which may
/// hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SmtpError {
    /// Not of the form that is expected.
    #[error(
        "expected smtp://[user:password@]host[:port] (STARTTLS; in the clear only for this machine) or smtps://…"
    )]
    Address,
    /// The sender's address is none.
    #[error(
        "expected the sender's address, such as `cedargate@example.com` or `Cedargate <cedargate@example.com>`"
    )]
    From,
    /// A password would be sent in the clear.
    #[error("a login without TLS is not supported; use smtps:// or a host with STARTTLS")]
    LoginInTheClear,
}

impl Smtp {
    /// Reads `smtp://…` or `smtps://…`, the sender's address, and perhaps the PEM of
    /// certificates to believe besides those of the system.
    ///
    /// # Errors
    ///
    /// See [`SmtpError`].
    pub fn parse(
        url: &SecretString,
        from: &str,
        authority: Option<Vec<u8>>,
    ) -> Result<Self, SmtpError> {
        let url = reqwest::Url::parse(url.expose_secret()).map_err(|_| SmtpError::Address)?;
        let host = url
            .host_str()
            .filter(|host| !host.is_empty())
            .ok_or(SmtpError::Address)?
            .trim_matches(['[', ']'])
            .to_owned();
        let bare =
            matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
        let local = host.eq_ignore_ascii_case("localhost")
            || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        let (security, port) = match url.scheme() {
            "smtps" => (Security::Implicit, 465),
            // On this machine there is nobody to hide from, and nobody to be verified.
            "smtp" if local => (Security::None, 25),
            "smtp" | "smtp+starttls" => (Security::StartTls, 587),
            _ => return Err(SmtpError::Address),
        };
        if !bare {
            return Err(SmtpError::Address);
        }
        let decoded = |text: &str| {
            percent_decode_str(text)
                .decode_utf8()
                .map(std::borrow::Cow::into_owned)
                .map_err(|_| SmtpError::Address)
        };
        let login = match (url.username(), url.password()) {
            ("", None) => None,
            ("", Some(_)) | (_, None) => return Err(SmtpError::Address),
            (user, Some(password)) => Some((decoded(user)?, decoded(password)?.into())),
        };
        if login.is_some() && security == Security::None {
            return Err(SmtpError::LoginInTheClear);
        }
        Ok(Self {
            port: url.port().unwrap_or(port),
            host,
            security,
            login,
            from: from.parse().map_err(|_| SmtpError::From)?,
            authority,
        })
    }
}

/// Hands messages in.
#[derive(Debug)]
pub(super) struct Mailer {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
}

/// What a message says: settled before it is first sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Letter {
    subject: String,
    text: String,
    html: String,
}

impl Mailer {
    /// # Errors
    ///
    /// When TLS cannot be set up with the certificates that are given.
    pub(super) fn new(smtp: &Smtp) -> Result<Self, String> {
        let tls = || {
            let mut parameters = TlsParameters::builder(smtp.host.clone());
            if let Some(pem) = &smtp.authority {
                parameters = parameters.add_root_certificate(Certificate::from_pem(pem).map_err(
                    |error| format!("the SMTP server's certificate authority: {error}"),
                )?);
            }
            parameters
                .build_rustls()
                .map_err(|error| format!("TLS for the SMTP server: {error}"))
        };
        let security = match smtp.security {
            Security::Implicit => Tls::Wrapper(tls()?),
            Security::StartTls => Tls::Required(tls()?),
            Security::None => Tls::None,
        };
        let mut transport =
            AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(smtp.host.clone())
                .port(smtp.port)
                .tls(security)
                .timeout(Some(TIMEOUT));
        if let Some((user, password)) = &smtp.login {
            transport = transport.credentials(Credentials::new(
                user.clone(),
                password.expose_secret().to_owned(),
            ));
        }
        Ok(Self {
            transport: transport.build(),
            from: smtp.from.clone(),
        })
    }

    /// Hands a letter in for these mailboxes. The same id is the same `Message-ID`, by
    /// which mailboxes know a message that comes twice.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub(super) async fn send(
        &self,
        id: MessageId,
        letter: &Letter,
        to: &[String],
        at: Timestamp,
    ) -> Result<(), Failure> {
        let message = self.message(id, letter, to, at).map_err(Failure::new)?;
        match tokio::time::timeout(TIMEOUT, self.transport.send(message)).await {
            Err(_) => Err(Failure::new(format!(
                "the SMTP server did not take it within {} s",
                TIMEOUT.as_secs()
            ))),
            Ok(Err(error)) => Err(Failure::new(in_words(&error))),
            Ok(Ok(_)) => Ok(()),
        }
    }

    fn message(
        &self,
        id: MessageId,
        letter: &Letter,
        to: &[String],
        at: Timestamp,
    ) -> Result<Message, String> {
        let millis = u64::try_from(at.as_millis()).unwrap_or(0);
        let mut message = Message::builder()
            .from(self.from.clone())
            .subject(&letter.subject)
            .message_id(Some(format!("<{id}@{}>", self.from.email.domain())))
            .date(UNIX_EPOCH + Duration::from_millis(millis))
            // Holiday notices are not for us.
            .raw_header(HeaderValue::new(
                HeaderName::new_from_ascii_str("Auto-Submitted"),
                "auto-generated".to_owned(),
            ));
        for address in to {
            message = message.to(Mailbox::new(None, mailbox(address)?));
        }
        message
            .multipart(MultiPart::alternative_plain_html(
                letter.text.clone(),
                letter.html.clone(),
            ))
            .map_err(|_| "the message cannot be put together".to_owned())
    }
}

/// One address, alone: no name, no list, nothing that could add a header.
///
/// # Errors
///
/// In words.
pub(super) fn mailbox(text: &str) -> Result<Address, String> {
    text.parse().map_err(|_| {
        format!(
            "`{}` is not a mailbox such as amy@example.com",
            visible(text)
        )
    })
}

/// The code that the server answered, never its words.
fn in_words(error: &lettre::transport::smtp::Error) -> String {
    if let Some(code) = error.status() {
        return format!("the SMTP server answered {code}");
    }
    if error.is_timeout() {
        return "the SMTP server did not answer in time".to_owned();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    format!("the SMTP server: {}", visible(&cause.to_string()))
}

/// What the HTML part shows.
#[derive(Template)]
#[template(path = "notification.html")]
struct Page<'a> {
    headline: &'a str,
    entries: Vec<Entry>,
    base: &'a str,
}

/// One event, as both parts show it.
struct Entry {
    line: String,
    facts: Vec<(&'static str, String)>,
    url: Option<String>,
}

impl Letter {
    pub(super) fn new(events: &[Event], base: &str) -> Self {
        let headline = visible(&headline(events));
        let entries: Vec<Entry> = events.iter().map(entry).collect();
        let subject = format!("[cedargate] {headline}")
            .chars()
            .map(|letter| if letter.is_control() { ' ' } else { letter })
            .take(MAX_SUBJECT_CHARS)
            .collect();
        let text = text(&headline, &entries, base);
        let page = Page {
            headline: &headline,
            entries,
            base,
        };
        Self {
            subject,
            text,
            // A template of ours over strings; the text part says the same.
            html: page.render().unwrap_or_default(),
        }
    }
}

fn text(headline: &str, entries: &[Entry], base: &str) -> String {
    let mut text = format!("{headline}\n");
    for entry in entries {
        text.push('\n');
        if entries.len() > 1 {
            text.push_str(&entry.line);
            text.push('\n');
        }
        for (name, value) in &entry.facts {
            text.push_str(name);
            text.push_str(": ");
            text.push_str(value);
            text.push('\n');
        }
        if let Some(url) = &entry.url {
            text.push_str(url);
            text.push('\n');
        }
    }
    text.push_str("\n-- \nSent by Cedargate, ");
    text.push_str(base);
    text.push('\n');
    text
}

fn entry(event: &Event) -> Entry {
    let mut facts = Vec::new();
    let mut url = None;
    match &event.data {
        Data::Request(request) => {
            facts.push(("Agent", request.agent_name.to_string()));
            facts.push(("Command", format!("{} ({})", request.command, request.risk)));
            if !request.reason.is_empty() {
                facts.push(("Why", visible(&request.reason)));
            }
            if !request.arguments.is_empty() {
                let arguments =
                    serde_json::to_string_pretty(&request.arguments).unwrap_or_default();
                let shown: String = arguments.chars().take(MAX_ARGUMENTS_CHARS).collect();
                facts.push(("With", visible(&shown)));
            }
            facts.push(("Status", request.status.as_str().to_owned()));
            facts.push((
                "Approvals",
                format!(
                    "{} of {}",
                    request.approvals_given, request.approvals_needed
                ),
            ));
            if !request.note.is_empty() {
                facts.push(("They said", visible(&request.note)));
            }
            facts.push(("Expires", request.expires.to_string()));
            url = Some(request.url.clone());
        }
        Data::Agent(agent) => {
            if let Some(owner) = &agent.owner {
                facts.push(("Answers for it", owner.to_string()));
            }
        }
        Data::Policy(policy) => {
            facts.push(("In force", policy.policy_set.to_string()));
            if !policy.by.is_empty() {
                facts.push(("By", visible(&policy.by)));
            }
            if !policy.note.is_empty() {
                facts.push(("Note", visible(&policy.note)));
            }
        }
        Data::Digest(_) | Data::Test(_) => {}
    }
    Entry {
        line: line(event),
        facts,
        url,
    }
}

#[cfg(test)]
mod tests {
    use contract::notifications::EventKind;

    use super::{super::snapshot::tests::request, *};

    fn smtp(url: &str) -> Result<Smtp, SmtpError> {
        Smtp::parse(&url.into(), "Cedargate <cedargate@example.com>", None)
    }

    #[test]
    fn a_server_is_reached_with_tls_unless_it_is_on_this_machine() {
        for (url, security, port) in [
            ("smtps://mail.example", Security::Implicit, 465),
            ("smtp://mail.example", Security::StartTls, 587),
            ("smtp://mail.example:25/", Security::StartTls, 25),
            ("smtp://10.0.0.5", Security::StartTls, 587),
            ("smtp://localhost", Security::None, 25),
            ("smtp://127.0.0.1:1025", Security::None, 1025),
            ("smtp://[::1]:1025", Security::None, 1025),
            ("smtp+starttls://localhost:2525", Security::StartTls, 2525),
            ("smtps://u:p%40ss@localhost:4650", Security::Implicit, 4650),
        ] {
            let smtp = smtp(url).unwrap();
            assert_eq!((smtp.security, smtp.port), (security, port), "{url}");
        }
        let login = smtp("smtps://u%40x:p%40ss@mail.example")
            .unwrap()
            .login
            .unwrap();
        assert_eq!((login.0.as_str(), login.1.expose_secret()), ("u@x", "p@ss"));
        for (url, expected) in [
            ("mail.example:25", SmtpError::Address),
            ("http://mail.example", SmtpError::Address),
            ("smtp://", SmtpError::Address),
            ("smtp://mail.example/x", SmtpError::Address),
            ("smtp://mail.example?tls=none", SmtpError::Address),
            ("smtp://user@mail.example", SmtpError::Address),
            ("smtp://user:secret@localhost", SmtpError::LoginInTheClear),
        ] {
            assert_eq!(smtp(url).unwrap_err(), expected, "{url}");
        }
        assert_eq!(
            Smtp::parse(&"smtp://localhost".into(), "nobody", None).unwrap_err(),
            SmtpError::From
        );
    }

    #[test]
    fn nothing_in_a_message_adds_a_header() {
        let mailer = Mailer::new(&smtp("smtp://localhost").unwrap()).unwrap();
        let mut event = request(EventKind::RequestDecided);
        let Data::Request(asked) = &mut event.data else {
            panic!()
        };
        asked.reason = "x\r\nBcc: evil@example.com\r\n\r\n<script>alert(1)</script>".to_owned();
        let mut letter = Letter::new(&[event], "https://gate.example");
        letter.subject.push_str("\r\nBcc: evil@example.com");
        let id = MessageId::generate(Timestamp::from_millis(0));
        let to = ["amy@example.com".to_owned()];
        let message = mailer
            .message(id, &letter, &to, Timestamp::from_millis(0))
            .unwrap();
        let text = String::from_utf8(message.formatted()).unwrap();
        let (head, _) = text.split_once("\r\n\r\n").unwrap();
        assert!(!head.contains("\nBcc:"), "{head}");
        assert!(
            head.contains(&format!("Message-ID: <{id}@example.com>")),
            "{head}"
        );
        assert!(!letter.html.contains("<script>") && letter.html.contains("script"));
        for odd in [
            "amy@example.com\r\nBcc: evil@example.com",
            "amy@example.com, ben@example.com",
            "Amy <amy@example.com>",
            "amy",
            "",
        ] {
            assert!(mailbox(odd).is_err(), "{odd}");
        }
    }
}
