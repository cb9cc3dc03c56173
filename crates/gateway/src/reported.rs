//! The catalog as the orchestrator is told of it.

use contract::catalog::{CatalogCommand, CatalogService, GatewayCatalog};
use handlers::{
    Catalog,
    catalog::{CommandInfo, ServiceInfo},
};
use sha2::{Digest, Sha256};

/// What `gateway` can carry out, and the digest that names it.
pub(crate) fn catalog(catalog: &Catalog, gateway: &str) -> GatewayCatalog {
    let services: Vec<_> = catalog
        .services()
        .iter()
        .map(|info| service(catalog, info))
        .collect();
    // Text, numbers and JSON always serialise; if not, an empty text names it as well.
    let text = serde_json::to_vec(&services).unwrap_or_default();
    GatewayCatalog {
        gateway: gateway.to_owned(),
        digest: hex::encode(Sha256::digest(text)),
        services,
    }
}

fn service(catalog: &Catalog, info: &ServiceInfo) -> CatalogService {
    let server = catalog.mcp(info.name.as_str());
    let definition = |command: &CommandInfo| {
        let tool = server?.tool(&command.name)?;
        Some(tool.definition.value().clone().into())
    };
    CatalogService {
        service: info.service.as_ref().clone(),
        kind: info.kind.to_owned(),
        version: info.version.clone(),
        description: info.description.clone(),
        status: info.status.clone(),
        problem: info.error_message.clone(),
        aliases: info.aliases.clone(),
        commands: info
            .commands
            .iter()
            .map(|info| CatalogCommand {
                definition: definition(info),
                ..command(info)
            })
            .collect(),
    }
}

fn command(info: &CommandInfo) -> CatalogCommand {
    CatalogCommand {
        name: info.target.key.name.clone(),
        summary: info.description.clone(),
        risk: info.target.risk,
        zones: info.target.zones.clone(),
        pinned: info.target.pinned,
        arguments: info.arguments.clone(),
        usage: info.usage.clone(),
        example: info.example.clone(),
        definition: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_catalog_says_what_policy_is_told_and_no_address() {
        let variable = |name: &str| match name {
            "COOLIFY_API_URL" => Some("https://coolify.internal.example".to_owned()),
            "COOLIFY_API_TOKEN" => Some("a-secret".to_owned()),
            _ => None,
        };
        let known = Catalog::load(&variable).unwrap();
        let told = catalog(&known, "edge");
        let info = known.service("coolify").unwrap();
        let coolify = told
            .services
            .iter()
            .find(|service| service.service.name.as_str() == "coolify")
            .unwrap();
        assert_eq!(coolify.commands.len(), info.commands.len());
        for (command, info) in coolify.commands.iter().zip(&info.commands) {
            assert_eq!(coolify.target(command), *info.target);
        }
        let text = serde_json::to_string(&told).unwrap();
        assert!(!text.contains("internal.example") && !text.contains("a-secret"));

        let nowhere = catalog(&Catalog::load(&|_| None).unwrap(), "edge");
        assert_ne!(nowhere.digest, told.digest, "its status is part of it");
        assert!(
            nowhere
                .services
                .iter()
                .any(|service| service.problem.is_some())
        );
        assert_eq!(catalog(&known, "other").digest, told.digest);
    }
}
