//! People at the door: how they log in, stay logged in, and prove that it is them.

pub(crate) mod login_limit;
pub mod oidc;
pub(crate) mod own_token;
pub(crate) mod second_factor;
pub(crate) mod session;

use std::time::Duration;

use self::{login_limit::LoginLimit, oidc::Provider};

/// How people log in.
#[derive(Clone, Debug)]
pub struct Config {
    /// A session that rests for so long ends. Default two hours.
    pub session_idle: Duration,
    /// A session ends after so long, whatever is done with it. Default twelve hours.
    pub session_lifetime: Duration,
    /// The provider of identities at which they may log in; by token alone if absent.
    pub oidc: Option<oidc::Config>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            session_idle: Duration::from_hours(2),
            session_lifetime: Duration::from_hours(12),
            oidc: None,
        }
    }
}

/// What this process knows of the door.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) limit: LoginLimit,
    pub(crate) provider: Option<Provider>,
}

impl State {
    pub(crate) fn new(config: &Config, public_url: &str) -> Result<Self, oidc::InvalidConfig> {
        Ok(Self {
            limit: LoginLimit::default(),
            provider: config
                .oidc
                .clone()
                .map(|oidc| Provider::new(oidc, public_url))
                .transpose()?,
        })
    }
}
