//! Credentials: how the gateway proves itself to a service.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::RequestLine;

/// One credential of the gateway's. It stands in exactly one place: `header`, `query` or
/// the password of basic authentication.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Credential {
    /// The environment variable that holds it.
    pub(crate) variable: String,
    /// The header that carries it.
    pub(crate) header: Option<String>,
    /// The query parameter that carries it: only where the service knows no header, as
    /// servers and proxies write addresses into their logs.
    pub(crate) query: Option<String>,
    /// What stands before it, such as `Bearer `.
    #[serde(default)]
    pub(crate) prefix: String,
    /// It is the password of basic authentication, and this is the user.
    pub(crate) basic_user: Option<String>,
    /// The same, with the user in this environment variable.
    pub(crate) basic_user_variable: Option<String>,
    /// Without it the service works, too.
    #[serde(default)]
    pub(crate) optional: bool,
    /// When the variable is not set: a key with which the gateway signs for tokens.
    pub(crate) app: Option<App>,
}

/// A registered application: it signs a JWT with its own key (RS256) and gets a token for
/// it, which is cached and renewed before it expires. The times in the JWT are by the
/// service's own clock, so that a wrong clock of ours does not matter.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct App {
    /// The environment variable with the application's id: `iss` of the JWT.
    pub(crate) issuer_variable: String,
    /// The environment variable with its private key, in PEM.
    pub(crate) key_variable: String,
    /// What else the request's path names: placeholder = environment variable.
    #[serde(default)]
    pub(crate) variables: BTreeMap<String, String>,
    /// What gives a token for the JWT.
    #[schemars(with = "String")]
    pub(crate) request: RequestLine,
    /// Where the token is in its answer.
    pub(crate) token: String,
    /// Where it says until when, as RFC 3339 has it.
    pub(crate) expires: String,
}

impl Credential {
    /// What is wrong with it.
    pub(super) fn check(&self) -> Result<(), String> {
        let basic = self.basic_user.is_some() || self.basic_user_variable.is_some();
        let places = [self.header.is_some(), self.query.is_some(), basic];
        if places.iter().filter(|&&given| given).count() != 1 {
            return Err(format!(
                "credential `{}` needs exactly one of `header`, `query` and `basic_user`",
                self.variable
            ));
        }
        if self.basic_user.is_some() && self.basic_user_variable.is_some() {
            return Err(format!(
                "credential `{}` has both `basic_user` and `basic_user_variable`",
                self.variable
            ));
        }
        if let Some(app) = &self.app
            && let Some(name) = app
                .request
                .placeholders()
                .find(|name| !app.variables.contains_key(*name))
        {
            return Err(format!(
                "`{{{name}}}` in the app's request is none of its `variables`"
            ));
        }
        Ok(())
    }
}
