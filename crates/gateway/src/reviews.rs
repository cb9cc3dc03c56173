//! Reviews of tools: which definitions of MCP servers' tools people approved.
//!
//! What is not reviewed is not called, so they are kept over restarts: a gateway that cannot
//! have the orchestrator's goes on with those that it knew last.

use std::{path::PathBuf, sync::Arc};

use contract::tools::ToolReviews;
use handlers::Catalog;

use crate::last_known_good::{Kept, LastKnownGood, Unusable};

impl Kept for ToolReviews {
    /// A digest with a damage is that of no tool.
    fn damage(&self) -> Option<&'static str> {
        None
    }
}

/// Puts reviews in force, and keeps them.
#[derive(Debug)]
pub(crate) struct Reviews {
    catalog: Arc<Catalog>,
    last_known: LastKnownGood<ToolReviews>,
}

impl Reviews {
    /// Kept at `path`.
    pub(crate) fn new(catalog: Arc<Catalog>, path: PathBuf) -> Self {
        Self {
            catalog,
            last_known: LastKnownGood::new(path),
        }
    }

    /// Whether there is anything to review.
    pub(crate) fn needed(&self) -> bool {
        self.catalog.mcp_services().next().is_some()
    }

    /// Uses those that were known last.
    pub(crate) fn use_last_known(&self) {
        match self.last_known.read() {
            Ok(reviews) => self.apply(&reviews),
            Err(Unusable::Nothing) => {}
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    path = %self.last_known.path().display(),
                    "the reviews of tools that were kept cannot be used"
                );
            }
        }
    }

    /// Puts them in force, then keeps them.
    pub(crate) fn put_in_force(&self, reviews: &ToolReviews) {
        self.apply(reviews);
        if let Err(error) = self.last_known.keep(reviews) {
            tracing::warn!(
                %error,
                path = %self.last_known.path().display(),
                "the reviews of tools cannot be kept: after a restart without the orchestrator, older ones are used"
            );
        }
    }

    fn apply(&self, reviews: &ToolReviews) {
        let none = std::collections::BTreeMap::new();
        for service in self.catalog.mcp_services() {
            let reviewed = reviews.services.get(&service.service().name);
            service.review(reviewed.unwrap_or(&none));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: &str = r#"
name = "files"
version = "1"
kind = "mcp"
description = "For tests."

[mcp]
url = "http://127.0.0.1:1/mcp"
"#;

    fn catalog() -> Arc<Catalog> {
        Arc::new(Catalog::from_descriptions(&[("files.toml", SERVER)], &|_| None).unwrap())
    }

    fn pinned(catalog: &Catalog) -> bool {
        catalog.mcp("files").unwrap().target("read").unwrap().pinned
    }

    #[test]
    fn reviews_are_kept_and_damage_is_no_review() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state/tool-reviews.json");
        let tool = r#"{"name":"read"}"#;
        let digest = contract::tools::digest(&serde_json::from_str(tool).unwrap()).unwrap();
        let told = ToolReviews {
            services: [(
                "files".parse().unwrap(),
                [("read".parse().unwrap(), digest)].into(),
            )]
            .into(),
        };
        let seen = |catalog: &Catalog| {
            catalog.mcp("files").unwrap().observe([("read", tool)]);
        };
        let first = catalog();
        let reviews = Reviews::new(Arc::clone(&first), path.clone());
        assert!(reviews.needed());
        reviews.use_last_known();
        seen(&first);
        assert!(!pinned(&first), "nobody reviewed it");
        reviews.put_in_force(&told);
        assert!(pinned(&first));

        let second = catalog();
        Reviews::new(Arc::clone(&second), path.clone()).use_last_known();
        assert!(!pinned(&second), "nobody saw it");
        seen(&second);
        assert!(pinned(&second));
        reviews.put_in_force(&ToolReviews::default());
        assert!(!pinned(&first), "taken back");

        std::fs::write(&path, "{").unwrap();
        let third = catalog();
        Reviews::new(Arc::clone(&third), path).use_last_known();
        seen(&third);
        assert!(!pinned(&third));
    }
}
