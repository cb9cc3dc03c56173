//! How people log in: sessions, and the provider of identities.

use std::collections::BTreeSet;

use orchestrator::people::{Config, oidc};

use super::{
    ConfigError, Settings,
    value::{flag, names, pairs, parsed, positive_seconds, text},
};

/// What the settings say.
pub(super) fn read(settings: &Settings) -> Result<Config, ConfigError> {
    Ok(Config {
        session_idle: settings.required("orchestrator.session_idle_seconds", positive_seconds)?,
        session_lifetime: settings
            .required("orchestrator.session_lifetime_seconds", positive_seconds)?,
        oidc: provider(settings)?,
    })
}

fn provider(settings: &Settings) -> Result<Option<oidc::Config>, ConfigError> {
    let issuer = settings.optional("oidc.issuer", text)?;
    let client_id = settings.optional("oidc.client_id", text)?;
    let (issuer, client_id) = match (issuer, client_id) {
        (Some(issuer), Some(client_id)) => (issuer, client_id),
        (None, None) => return Ok(None),
        (Some(_), None) | (None, Some(_)) => {
            return Err(ConfigError::Missing(
                "CEDARGATE_OIDC_ISSUER and CEDARGATE_OIDC_CLIENT_ID go together: set both or neither"
                    .to_owned(),
            ));
        }
    };
    let host = issuer
        .split_once("://")
        .map_or(issuer.as_str(), |(_, rest)| rest)
        .split('/')
        .next()
        .unwrap_or_default()
        .to_owned();
    let list = |key| -> Result<Vec<String>, ConfigError> {
        Ok(settings.optional(key, names)?.unwrap_or_default())
    };
    let config = oidc::Config {
        client_secret: settings.secret("oidc.client_secret_file")?,
        name: settings.optional("oidc.name", text)?.unwrap_or(host),
        scopes: settings.required("oidc.scopes", |text| {
            Ok(text.split_whitespace().map(str::to_owned).collect())
        })?,
        algorithms: settings.required("oidc.algorithms", names)?,
        create_users: settings.required("oidc.create_users", flag)?,
        link_by_email: settings.required("oidc.link_by_email", flag)?,
        user_claim: settings.required("oidc.user_claim", text)?,
        roles_claim: settings.optional("oidc.roles_claim", text)?,
        roles: settings.optional("oidc.roles", pairs)?.unwrap_or_default(),
        teams_claim: settings.optional("oidc.teams_claim", text)?,
        teams: settings.optional("oidc.teams", pairs)?.unwrap_or_default(),
        default_roles: settings
            .optional("oidc.default_roles", parsed::<BTreeSet<_>, _>)?
            .unwrap_or_default(),
        mfa_acr: list("oidc.mfa_acr")?,
        mfa_amr: list("oidc.mfa_amr")?,
        issuer,
        client_id,
    };
    for (claim, given, key) in [
        (&config.roles_claim, !config.roles.is_empty(), "ROLES"),
        (&config.teams_claim, !config.teams.is_empty(), "TEAMS"),
    ] {
        if claim.is_some() != given {
            return Err(ConfigError::Missing(format!(
                "CEDARGATE_OIDC_{key} and CEDARGATE_OIDC_{key}_CLAIM go together: set both or neither"
            )));
        }
    }
    // Says here what is wrong, before a port opens.
    config
        .check()
        .map_err(|error| ConfigError::Missing(format!("CEDARGATE_OIDC_…: {error}")))?;
    Ok(Some(config))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use secrecy::ExposeSecret;

    use super::*;
    use crate::config::Environment;

    fn load(variables: &[(&str, &str)]) -> Result<Config, String> {
        let environment = Environment::of(variables.iter().copied());
        let settings = Settings::read(None, environment, BTreeMap::new()).unwrap();
        read(&settings).map_err(|error| error.to_string())
    }

    const LEAST: [(&str, &str); 2] = [
        ("CEDARGATE_OIDC_ISSUER", "https://login.example/realms/x"),
        ("CEDARGATE_OIDC_CLIENT_ID", "cedargate"),
    ];

    fn with<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        LEAST.iter().chain(more).copied().collect()
    }

    #[test]
    fn without_a_provider_there_is_none() {
        let config = load(&[("CEDARGATE_SESSION_IDLE_SECONDS", "600")]).unwrap();
        assert!(config.oidc.is_none());
        assert_eq!(config.session_idle.as_secs(), 600);
        assert_eq!(config.session_lifetime.as_secs(), 43_200);
    }

    #[test]
    fn a_provider_refuses_whom_nobody_knows_unless_told_otherwise() {
        let oidc = load(&LEAST).unwrap().oidc.unwrap();
        assert_eq!(oidc.name, "login.example");
        assert_eq!(oidc.scopes, ["openid", "email", "profile"]);
        assert!(!oidc.create_users && !oidc.link_by_email && oidc.mfa_amr.is_empty());
        let oidc = load(&with(&[
            ("CEDARGATE_OIDC_CLIENT_SECRET", "hunter2"),
            ("CEDARGATE_OIDC_ROLES_CLAIM", "groups"),
            ("CEDARGATE_OIDC_ROLES", "cn=sec=security , ops = approver"),
            ("CEDARGATE_OIDC_DEFAULT_ROLES", "viewer"),
            ("CEDARGATE_OIDC_MFA_AMR", "otp, hwk"),
        ]))
        .unwrap()
        .oidc
        .unwrap();
        let roles: Vec<String> = oidc
            .roles
            .iter()
            .map(|(group, role)| format!("{group}→{role}"))
            .collect();
        assert_eq!(roles, ["cn=sec→security", "ops→approver"]);
        assert_eq!(oidc.mfa_amr, ["otp", "hwk"]);
        assert_eq!(
            oidc.client_secret.as_ref().unwrap().expose_secret(),
            "hunter2"
        );
        assert!(!format!("{oidc:?}").contains("hunter2"));
    }

    #[test]
    fn halves_and_what_proves_nothing_are_refused() {
        for (variables, part) in [
            (vec![LEAST[0]], "go together"),
            (vec![LEAST[1]], "go together"),
            (with(&[("CEDARGATE_OIDC_ROLES", "a=viewer")]), "go together"),
            (
                with(&[("CEDARGATE_OIDC_TEAMS_CLAIM", "groups")]),
                "go together",
            ),
            (
                with(&[("CEDARGATE_OIDC_ALGORITHMS", "RS256,HS256")]),
                "HS256",
            ),
            (with(&[("CEDARGATE_OIDC_ALGORITHMS", "none")]), "none"),
            (
                with(&[("CEDARGATE_OIDC_CREATE_USERS", "perhaps")]),
                "CREATE_USERS",
            ),
            (
                vec![("CEDARGATE_OIDC_ISSUER", "http://login.example"), LEAST[1]],
                "not an issuer",
            ),
            (
                vec![("CEDARGATE_SESSION_IDLE_SECONDS", "0")],
                "SESSION_IDLE",
            ),
        ] {
            let message = load(&variables).unwrap_err();
            assert!(message.contains(part), "{variables:?}: {message}");
        }
    }
}
