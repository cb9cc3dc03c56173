//! Reviews of tools: which definitions of MCP servers' tools people approved.
//!
//! What is not reviewed is not called, so they are kept over restarts: a gateway that cannot
//! have the orchestrator's goes on with those that it knew last.

use std::{
    fs::File,
    io::{self, Read},
    path::PathBuf,
    sync::Arc,
};

use contract::tools::ToolReviews;
use handlers::Catalog;

use crate::last_known_good::replace;

/// A hundred thousand reviews are some megabytes.
const MAX_BYTES: u64 = 64 * 1024 * 1024;

/// Puts reviews in force, and keeps them.
#[derive(Debug)]
pub(crate) struct Reviews {
    catalog: Arc<Catalog>,
    path: PathBuf,
}

impl Reviews {
    /// Kept at `path`.
    pub(crate) fn new(catalog: Arc<Catalog>, path: PathBuf) -> Self {
        Self { catalog, path }
    }

    /// Whether there is anything to review.
    pub(crate) fn needed(&self) -> bool {
        self.catalog.mcp_services().next().is_some()
    }

    /// Uses those that were known last.
    pub(crate) fn use_last_known(&self) {
        match self.read() {
            Ok(Some(reviews)) => self.apply(&reviews),
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(%error, path = %self.path.display(), "the reviews of tools that were kept cannot be used");
            }
        }
    }

    /// Puts them in force, then keeps them.
    pub(crate) fn put_in_force(&self, reviews: &ToolReviews) {
        self.apply(reviews);
        let kept = serde_json::to_vec(reviews)
            .map_err(io::Error::from)
            .and_then(|text| replace(&self.path, &text));
        if let Err(error) = kept {
            tracing::warn!(%error, path = %self.path.display(), "the reviews of tools cannot be kept: after a restart without the orchestrator, older ones are used");
        }
    }

    fn apply(&self, reviews: &ToolReviews) {
        let none = std::collections::BTreeMap::new();
        for service in self.catalog.mcp_services() {
            let reviewed = reviews.services.get(&service.service().name);
            service.review(reviewed.unwrap_or(&none));
        }
    }

    fn read(&self) -> io::Result<Option<ToolReviews>> {
        let file = match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let mut text = Vec::new();
        file.take(MAX_BYTES).read_to_end(&mut text)?;
        Ok(Some(serde_json::from_slice(&text)?))
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
