//! What Cedar offers beneath its stable interface, and only what a decision cannot be
//! fast without.
//!
//! `cedar-policy-core` is what `cedar-policy` is made of, in the very same version, and
//! may change with every one; what is used of it is here, and nowhere else. Two things:
//!
//! - The name of an extension function, parsed once. The stable constructors of dates
//!   and addresses parse it anew for every value, a fifth of a decision.
//! - Entities of which it is known that their ancestors are complete. The stable way
//!   to add one computes all ancestors again, another fifth.

use std::sync::{Arc, LazyLock};

use cedar_policy::{Entities, Entity, EntityUid, RestrictedExpression};
use cedar_policy_core::{
    ast,
    entities::{Entities as Core, NoEntitiesSchema, TCComputation},
    extensions::Extensions,
};

use crate::entities::{Malformed, malformed};

/// A function that makes a value of its text.
pub(crate) struct Constructor(Result<ast::Name, Malformed>);

impl Constructor {
    fn new(name: &str) -> Self {
        Self(
            name.parse()
                .map(ast::Name::unqualified_name)
                .map_err(malformed),
        )
    }

    /// The value that it makes of `text`, or `stable` if Cedar has no such function.
    pub(crate) fn of(
        &self,
        text: String,
        stable: fn(String) -> RestrictedExpression,
    ) -> RestrictedExpression {
        match &self.0 {
            Ok(name) => {
                let text = ast::RestrictedExpr::val(text);
                ast::RestrictedExpr::call_extension_fn(name.clone(), [text]).into()
            }
            Err(_) => stable(text),
        }
    }
}

pub(crate) static DATETIME: LazyLock<Constructor> = LazyLock::new(|| Constructor::new("datetime"));
pub(crate) static IP: LazyLock<Constructor> = LazyLock::new(|| Constructor::new("ip"));

/// An entity that is shared, not copied, by the stores that it is put into.
#[derive(Clone, Debug)]
pub(crate) struct Shared(Arc<ast::Entity>);

impl Shared {
    /// Of what it is in.
    pub(crate) fn ancestors(&self) -> impl Iterator<Item = EntityUid> {
        self.0.ancestors().cloned().map(Into::into)
    }
}

impl From<Entity> for Shared {
    fn from(entity: Entity) -> Self {
        Self(Arc::new(entity.as_ref().clone()))
    }
}

/// Entities whose ancestors are complete.
#[derive(Clone, Debug)]
pub(crate) struct Complete(Core);

impl Complete {
    /// Completes the ancestors of these.
    pub(crate) fn new(entities: impl IntoIterator<Item = Entity>) -> Result<Self, Malformed> {
        let entities = Entities::from_entities(entities, None).map_err(malformed)?;
        Ok(Self(entities.as_ref().clone()))
    }

    /// Whether the same is known of the same entities.
    pub(crate) fn same(&self, other: &Self) -> bool {
        self.0.deep_eq(&other.0)
    }

    /// These and more. Neither is `more` in any of these, nor these in any of `more`,
    /// and what `more` are in is not among them: so nobody's ancestors change.
    pub(crate) fn with<'a>(
        &self,
        more: impl IntoIterator<Item = &'a Shared>,
    ) -> Result<Entities, Malformed> {
        let more = more.into_iter().map(|entity| Arc::clone(&entity.0));
        self.0
            .clone()
            .add_entities(
                more,
                None::<&NoEntitiesSchema>,
                TCComputation::AssumeAlreadyComputed,
                Extensions::none(),
            )
            .map(Entities::from)
            .map_err(malformed)
    }
}
