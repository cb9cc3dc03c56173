//! Failures: what PostgreSQL and the driver say, in our words.

use std::time::Duration;

use sqlx::postgres::{PgDatabaseError, PgErrorPosition};

use crate::{HandlerError, http::scrub::Scrubber};

/// Longer messages are cut, in characters: a server may repeat whole values.
const LONGEST_MESSAGE: usize = 500;

/// Why a command gave no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// Of the server or the driver, while a statement of ours was carried out.
    Sqlx(sqlx::Error),
    /// As [`Failure::Sqlx`], about the agent's own statement, which begins so many characters
    /// after what we put before it.
    Statement(sqlx::Error, usize),
    /// About one parameter, counted from one.
    Parameter(sqlx::Error, usize),
    /// What was asked for does not exist.
    NotFound(String),
    /// The command is wrong.
    Refused(String),
    /// The driver does not know a type in the agent's statement.
    Type,
    /// No connection opened.
    Connect(sqlx::Error),
    /// The role may do too much.
    Role(String),
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Sqlx(error)
    }
}

impl Failure {
    fn error(&self) -> Option<&sqlx::Error> {
        match self {
            Self::Sqlx(error)
            | Self::Statement(error, _)
            | Self::Parameter(error, _)
            | Self::Connect(error) => Some(error),
            Self::NotFound(_) | Self::Refused(_) | Self::Type | Self::Role(_) => None,
        }
    }

    /// What the server said, if it was the server.
    pub(super) fn server(&self) -> Option<&PgDatabaseError> {
        match self.error()? {
            sqlx::Error::Database(error) => error.try_downcast_ref(),
            _ => None,
        }
    }

    /// Whether the connection is as good as before: the server said no, nothing else.
    pub(super) fn leaves_connection(&self) -> bool {
        match self {
            Self::NotFound(_) | Self::Refused(_) => true,
            Self::Connect(_) | Self::Type | Self::Role(_) => false,
            other => other.server().is_some_and(|error| {
                // `57P0x`: it is going; `08`: the connection is not as it should be.
                !error.code().starts_with("57P") && !error.code().starts_with("08")
            }),
        }
    }

    /// Whether the database is not well, in one word; as opposed to what was asked of it.
    pub(super) fn of_the_database(&self) -> Result<(), &'static str> {
        match self {
            Self::NotFound(_) | Self::Refused(_) | Self::Type | Self::Role(_) => Ok(()),
            Self::Connect(_) => Err("unreachable"),
            other => match other.server() {
                None => match other.error() {
                    Some(sqlx::Error::Io(_) | sqlx::Error::Tls(_)) => Err("broken"),
                    // What an agent can bring about at will, such as `COPY`, says nothing of it.
                    _ => Ok(()),
                },
                Some(error) => {
                    let class = error.code().get(..2).unwrap_or_default();
                    let ill = matches!(class, "08" | "53" | "58" | "XX")
                        || matches!(error.code(), "57P01" | "57P02" | "57P03");
                    if ill { Err("failed") } else { Ok(()) }
                }
            },
        }
    }

    /// In our words.
    pub(super) fn told(&self, to: &Told<'_>) -> HandlerError {
        let service = to.service.to_owned();
        match self {
            Self::NotFound(message) => HandlerError::NotFound {
                service,
                message: message.clone(),
            },
            Self::Refused(message) => to.rejected(400, message.clone()),
            Self::Type => to.rejected(
                400,
                "a column or a parameter has a type that the gateway does not know; cast it to text"
                    .to_owned(),
            ),
            Self::Role(reason) => HandlerError::NotConfigured {
                service,
                reason: reason.clone(),
            },
            _ => match (self.server(), self.error()) {
                (Some(error), _) => self.of_server(error, to),
                (None, Some(error)) => self.of_driver(error, to),
                (None, None) => to.failed("it failed"),
            },
        }
    }

    fn of_driver(&self, error: &sqlx::Error, to: &Told<'_>) -> HandlerError {
        let service = to.service.to_owned();
        let connecting = matches!(self, Self::Connect(_));
        match error {
            sqlx::Error::Io(error) if connecting || !to.writes => HandlerError::Unreachable {
                service,
                reason: match error.get_ref() {
                    // Whom we do not believe, it tells, and what we should.
                    Some(why) if why.is::<rustls::Error>() => {
                        to.clean(&format!("no TLS with database `{}`: {why}", to.database))
                    }
                    _ => format!(
                        "the connection to database `{}` {}: {}",
                        to.database,
                        if connecting { "does not open" } else { "broke" },
                        error.kind()
                    ),
                },
            },
            sqlx::Error::Io(error) => HandlerError::Broken {
                service,
                reason: format!("the connection broke: {}", error.kind()),
            },
            sqlx::Error::Tls(error) => HandlerError::Unreachable {
                service,
                reason: to.clean(&format!("no TLS with database `{}`: {error}", to.database)),
            },
            sqlx::Error::Encode(error) => to.rejected(
                400,
                to.clean(&format!("a parameter cannot be sent: {error}")),
            ),
            sqlx::Error::Configuration(_) => HandlerError::NotConfigured {
                service,
                reason: format!("the address of database `{}` cannot be used", to.database),
            },
            // What else the driver finds is about the protocol: `COPY`, for example, which
            // it has not asked for.
            _ if to.writes => HandlerError::Broken {
                service,
                reason: "its answer is not understood".to_owned(),
            },
            _ => to.failed("its answer is not understood"),
        }
    }

    fn of_server(&self, error: &PgDatabaseError, to: &Told<'_>) -> HandlerError {
        let service = to.service.to_owned();
        let code = error.code();
        let class = code.get(..2).unwrap_or_default();
        match (class, code) {
            (_, "57014" | "25P03" | "25P04") => HandlerError::Timeout {
                service,
                after: to.timeout,
            },
            (_, "53300") => HandlerError::TooMany {
                service,
                retry_after: Some(Duration::from_secs(1)),
            },
            (_, "57P01" | "57P02" | "57P03" | "57P05") | ("08", _) => HandlerError::Unreachable {
                service,
                reason: format!("database `{}` is shutting down or starting", to.database),
            },
            ("28", _) => HandlerError::Credential {
                service,
                reason: to.clean(error.message()),
            },
            (_, "3D000") => HandlerError::NotConfigured {
                service,
                reason: to.clean(error.message()),
            },
            (_, "55P03") => to.rejected(
                409,
                format!(
                    "{}: somebody else holds it for too long",
                    self.message(error, to)
                ),
            ),
            ("23" | "40", _) => to.rejected(409, self.message(error, to)),
            (_, "42501") => to.rejected(403, self.message(error, to)),
            (_, "25006") => to.rejected(
                403,
                format!("{}; this command only reads", self.message(error, to)),
            ),
            ("53" | "58" | "XX", _) => to.failed(&self.message(error, to)),
            // What the statement or its values are; raised by a function; too complex.
            _ => to.rejected(400, self.message(error, to)),
        }
    }

    /// What the server said, and where in the agent's statement; never its details, which
    /// repeat rows.
    fn message(&self, error: &PgDatabaseError, to: &Told<'_>) -> String {
        let mut message = error.message().to_owned();
        match self {
            Self::Parameter(_, number) => message = format!("parameter {number}: {message}"),
            Self::Statement(_, before) => {
                if let Some(PgErrorPosition::Original(position)) = error.position()
                    && let Some(position) = position.checked_sub(*before)
                {
                    message = format!("{message} at character {}", position.max(1));
                }
            }
            _ => {}
        }
        if let Some(hint) = error.hint() {
            message = format!("{message} ({hint})");
        }
        if !error.code().is_empty() {
            message = format!("{message} [{}]", error.code());
        }
        to.clean(&message)
    }
}

/// Of whom and to whom errors tell.
pub(super) struct Told<'a> {
    pub(super) service: &'a str,
    pub(super) database: &'a str,
    pub(super) scrubber: Scrubber,
    pub(super) timeout: Duration,
    /// Whether something may have been changed.
    pub(super) writes: bool,
}

impl Told<'_> {
    pub(super) fn failed(&self, message: &str) -> HandlerError {
        HandlerError::Failed {
            service: self.service.to_owned(),
            message: message.to_owned(),
        }
    }

    fn rejected(&self, status: u16, message: String) -> HandlerError {
        HandlerError::Rejected {
            service: self.service.to_owned(),
            status,
            message,
        }
    }

    /// One line without secrets, not too long.
    fn clean(&self, text: &str) -> String {
        let text = self.scrubber.text(text);
        let plain = |letter: char| if letter.is_control() { ' ' } else { letter };
        text.chars().map(plain).take(LONGEST_MESSAGE).collect()
    }
}
