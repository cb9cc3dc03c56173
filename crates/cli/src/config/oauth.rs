//! How clients of MCP get in with access tokens of an authorization server.

use authz::AgentRef;
use gateway::OAuthSettings;

use super::{
    ConfigError, Settings,
    value::{flag, names, pairs, text},
};

/// What the settings say; nothing where no authorization server is named.
pub(super) fn read(settings: &Settings) -> Result<Option<OAuthSettings>, ConfigError> {
    let issuer = settings.optional("oauth.issuer", text)?;
    // A slash at the end is the same address, and would not be the same resource.
    let url = settings.optional("oauth.url", |text| {
        Ok(text.trim_end_matches('/').to_owned())
    })?;
    let (issuer, url) = match (issuer, url) {
        (Some(issuer), Some(url)) => (issuer, url),
        (None, None) => return Ok(None),
        (Some(_), None) | (None, Some(_)) => {
            return Err(ConfigError::Missing(
                "CEDARGATE_OAUTH_ISSUER and CEDARGATE_OAUTH_URL go together: set both or neither"
                    .to_owned(),
            ));
        }
    };
    let agents: Vec<(String, AgentRef)> = settings
        .optional("oauth.agents", pairs)?
        .unwrap_or_default();
    let oauth = OAuthSettings {
        audiences: settings
            .optional("oauth.audiences", names)?
            .unwrap_or_default(),
        algorithms: settings.required("oauth.algorithms", names)?,
        agent_claim: settings.required("oauth.agent_claim", text)?,
        agents: agents.iter().cloned().collect(),
        scopes: settings.required("oauth.scopes", flag)?,
        issuer,
        url,
    };
    if oauth.agents.len() != agents.len() {
        return Err(ConfigError::Missing(
            "CEDARGATE_OAUTH_AGENTS: one value is two agents".to_owned(),
        ));
    }
    // Says here what is wrong, before a port opens.
    oauth
        .check()
        .map_err(|problem| ConfigError::Missing(format!("CEDARGATE_OAUTH_…: {problem}")))?;
    Ok(Some(oauth))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::Environment;

    fn load(variables: &[(&str, &str)]) -> Result<Option<OAuthSettings>, String> {
        let environment = Environment::of(variables.iter().copied());
        let settings = Settings::read(None, environment, BTreeMap::new()).unwrap();
        read(&settings).map_err(|error| error.to_string())
    }

    const LEAST: [(&str, &str); 2] = [
        ("CEDARGATE_OAUTH_ISSUER", "https://login.example/realms/x"),
        ("CEDARGATE_OAUTH_URL", "https://gate.example/"),
    ];

    fn with<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        LEAST.iter().chain(more).copied().collect()
    }

    #[test]
    fn without_an_authorization_server_there_is_no_oauth() {
        assert!(load(&[]).unwrap().is_none());
        let alone = [("CEDARGATE_OAUTH_SCOPES", "false")];
        assert!(load(&alone).unwrap().is_none());
    }

    #[test]
    fn what_is_not_said_is_the_safer_way() {
        let oauth = load(&LEAST).unwrap().unwrap();
        assert_eq!(oauth.url, "https://gate.example");
        assert_eq!(oauth.agent_claim, "sub");
        assert!(oauth.scopes && oauth.agents.is_empty() && oauth.audiences.is_empty());
        let oauth = load(&with(&[
            ("CEDARGATE_OAUTH_AGENTS", "auth0|1=ci , a=b=release-bot"),
            ("CEDARGATE_OAUTH_AGENT_CLAIM", "azp"),
            ("CEDARGATE_OAUTH_AUDIENCES", "api://gate, other"),
            ("CEDARGATE_OAUTH_SCOPES", "false"),
        ]))
        .unwrap()
        .unwrap();
        let agents: Vec<String> = oauth
            .agents
            .iter()
            .map(|(value, agent)| format!("{value}→{agent}"))
            .collect();
        assert_eq!(agents, ["a=b→release-bot", "auth0|1→ci"]);
        assert_eq!(oauth.audiences, ["api://gate", "other"]);
        assert!(!oauth.scopes && oauth.agent_claim == "azp");
    }

    #[test]
    fn halves_and_what_proves_nothing_are_refused() {
        for (variables, part) in [
            (vec![LEAST[0]], "go together"),
            (vec![LEAST[1]], "go together"),
            (
                vec![("CEDARGATE_OAUTH_ISSUER", "http://login.example"), LEAST[1]],
                "not an issuer",
            ),
            (
                vec![LEAST[0], ("CEDARGATE_OAUTH_URL", "http://gate.example")],
                "not where clients reach",
            ),
            (
                vec![
                    LEAST[0],
                    ("CEDARGATE_OAUTH_URL", "https://gate.example/path"),
                ],
                "without a path",
            ),
            (
                vec![LEAST[0], ("CEDARGATE_OAUTH_URL", "https://a@gate.example")],
                "not where clients reach",
            ),
            (
                with(&[("CEDARGATE_OAUTH_ALGORITHMS", "RS256,HS256")]),
                "HS256",
            ),
            (with(&[("CEDARGATE_OAUTH_ALGORITHMS", "none")]), "none"),
            (
                with(&[("CEDARGATE_OAUTH_ALGORITHMS", ",")]),
                "no way to sign",
            ),
            (
                with(&[("CEDARGATE_OAUTH_AGENTS", "a=ci,a=release-bot")]),
                "two agents",
            ),
            (
                with(&[("CEDARGATE_OAUTH_AGENTS", "a=not a name")]),
                "CEDARGATE_OAUTH_AGENTS",
            ),
            (with(&[("CEDARGATE_OAUTH_SCOPES", "perhaps")]), "SCOPES"),
        ] {
            let message = load(&variables).unwrap_err();
            assert!(message.contains(part), "{variables:?}: {message}");
        }
    }
}
