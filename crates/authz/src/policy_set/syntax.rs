//! What a policy's expressions are made of.
//!
//! Read from Cedar's syntax tree for tools. `Policy::to_pst` would parse the policy's
//! text anew, which costs more than all the rest of loading; the tree that was parsed
//! already is given from one to the other.

use std::sync::Arc;

use cedar_policy::{
    Policy, PolicyId,
    pst::{
        self, ActionConstraint, BinaryOp, Clause, Expr, PrincipalConstraint, ResourceConstraint,
        Var,
    },
};

use crate::{
    entities::{Malformed, malformed},
    session::Parts,
};

/// How deep an expression may nest, in operators. Cedar gives up, mid-decision, on an
/// expression that does not fit the stack; this many fit 2 MiB of it, and 8 MiB in a
/// build without optimisation.
pub(super) const MAX_DEPTH: usize = 120;

/// Attributes that hold a person of whom a decision knows only who it is.
const PEOPLE: [&str; 4] = ["owner", "first", "second", "requester"];

/// The conditions of a policy, and what they are under.
#[derive(Debug)]
pub(super) struct Syntax(pst::Template);

impl Syntax {
    pub(super) fn of(policy: &Policy) -> Result<Self, Malformed> {
        let policy = pst::Policy::try_from(policy.as_ref().clone()).map_err(malformed)?;
        Ok(Self(policy.body().clone()))
    }

    fn conditions(&self) -> impl Iterator<Item = &Expr> {
        self.0.clauses().iter().map(|clause| match clause {
            Clause::When(condition) | Clause::Unless(condition) => &**condition,
        })
    }

    fn any(&self, what: &dyn Fn(&Expr) -> bool) -> bool {
        self.conditions()
            .any(|condition| holds_any(condition, what))
    }

    /// Whether its expressions are too deep to be evaluated safely.
    pub(super) fn is_too_deep(&self) -> bool {
        // Several `when` and `unless` become one chain.
        let conditions = self.0.clauses().len();
        self.conditions()
            .any(|condition| is_deeper(condition, MAX_DEPTH.saturating_sub(conditions)))
    }

    /// Whether it looks at an agent's grants.
    pub(super) fn looks_at_grants(&self) -> bool {
        self.any(&|expression| tag(expression).is_some())
    }

    /// What it may look at of the session that a call belongs to.
    pub(super) fn looks_at_session(&self) -> Parts {
        self.conditions()
            .map(looks_at_session)
            .fold(Parts::NONE, Parts::and)
    }

    /// Whether it looks at the context at all.
    pub(super) fn looks_at_context(&self) -> bool {
        self.any(&|expression| matches!(expression, Expr::Var(Var::Context)))
    }

    /// Whether it cannot apply without a grant under one of the command's own keys: a
    /// `when` demands one.
    pub(super) fn needs_own_grant(&self) -> bool {
        self.0
            .clauses()
            .iter()
            .any(|clause| matches!(clause, Clause::When(condition) if demands_own_grant(condition)))
    }

    /// Whether it may look at grants that do not cover the command that is asked for: it
    /// looks for one under another key than the command's own three.
    pub(super) fn looks_beyond_own_grants(&self) -> bool {
        self.any(&|expression| tag(expression).is_some_and(|key| !is_own_key(key)))
    }

    /// The attribute that holds a person whose attributes, tags or groups are asked for.
    pub(super) fn person_looked_into(&self) -> Option<String> {
        self.conditions().find_map(|condition| {
            condition.reduce(
                &|part| person_looked_into(part).map(Some),
                &Option::or,
                None,
            )
        })
    }

    /// The policy without its scope: the same, where the scope is known to match.
    pub(super) fn without_scope(&self, id: &PolicyId) -> Result<Policy, Malformed> {
        let id: &str = id.as_ref();
        let bare = pst::Template::new(
            pst::PolicyID(id.into()),
            self.0.effect,
            PrincipalConstraint::Any,
            ActionConstraint::Any,
            ResourceConstraint::Any,
        )
        .try_with_clauses(self.0.clauses().clone())
        .map_err(malformed)?;
        let bare = pst::StaticPolicy::try_from(bare).map_err(malformed)?;
        Policy::from_pst(pst::Policy::Static(bare)).map_err(malformed)
    }
}

/// Whether an expression is `principal.hasTag(…)` of an own key, or such and something
/// more.
fn demands_own_grant(expression: &Expr) -> bool {
    match expression {
        Expr::BinaryOp {
            op: BinaryOp::And,
            left,
            right,
        } => demands_own_grant(left) || demands_own_grant(right),
        Expr::BinaryOp {
            op: BinaryOp::HasTag,
            left,
            right,
        } => matches!(&**left, Expr::Var(Var::Principal)) && is_own_key(right),
        _ => false,
    }
}

/// Whether some part of an expression, or the whole of it, is such.
fn holds_any(expression: &Expr, what: &dyn Fn(&Expr) -> bool) -> bool {
    expression.reduce(
        &|part| what(part).then_some(true),
        &|one, other| one || other,
        false,
    )
}

/// What an expression looks at of `context.session`: all of it, where it holds that, or the
/// whole context, otherwise than to look at an attribute.
fn looks_at_session(expression: &Expr) -> Parts {
    let is_context = |part: &Expr| matches!(part, Expr::Var(Var::Context));
    expression.reduce(
        &|part| match part {
            Expr::GetAttr { expr, attr } if is_attribute(expr, &Var::Context, "session") => {
                Some(Parts::named(attr))
            }
            Expr::GetAttr { expr, attr } if is_context(expr) && attr != "session" => {
                Some(Parts::NONE)
            }
            part => is_context(part).then_some(Parts::ALL),
        },
        &Parts::and,
        Parts::NONE,
    )
}

/// Under which key an expression looks for a grant, if it does. What looks into the
/// arguments does not.
fn tag(expression: &Expr) -> Option<&Expr> {
    let Expr::BinaryOp {
        op: BinaryOp::HasTag | BinaryOp::GetTag,
        left,
        right,
    } = expression
    else {
        return None;
    };
    let of_arguments = matches!(&**left, Expr::GetAttr { expr, .. }
        if is_attribute(expr, &Var::Context, "args"));
    (!of_arguments).then_some(right)
}

/// The keys under which a grant covers the command that is asked for.
fn is_own_key(key: &Expr) -> bool {
    is_attribute(key, &Var::Context, "callKey")
        || is_attribute(key, &Var::Resource, "key")
        || is_attribute(key, &Var::Resource, "serviceKey")
}

fn is_attribute(expression: &Expr, of: &Var, name: &str) -> bool {
    matches!(expression, Expr::GetAttr { expr, attr }
        if attr == name && matches!(&**expr, Expr::Var(var) if var == of))
}

/// The attribute that holds a person whom this expression looks into.
fn person_looked_into(expression: &Expr) -> Option<String> {
    let (Expr::GetAttr { expr: into, .. }
    | Expr::HasAttr { expr: into, .. }
    | Expr::Is {
        expr: into,
        in_expr: Some(_),
        ..
    }
    | Expr::BinaryOp {
        op: BinaryOp::In | BinaryOp::HasTag | BinaryOp::GetTag,
        left: into,
        ..
    }) = expression
    else {
        return None;
    };
    match &**into {
        Expr::GetAttr { attr, .. } if PEOPLE.contains(&attr.as_str()) => Some(attr.to_string()),
        _ => None,
    }
}

/// Whether an expression nests deeper than `levels`. What Cedar may add one day, and
/// this does not know, counts as deeper.
fn is_deeper(expression: &Expr, levels: usize) -> bool {
    let Some(levels) = levels.checked_sub(1) else {
        return true;
    };
    let one = |expression: &Arc<Expr>| is_deeper(expression, levels);
    match expression {
        Expr::Literal(_) | Expr::Var(_) | Expr::Slot(_) | Expr::Unknown { .. } => false,
        Expr::UnaryOp { expr, .. }
        | Expr::GetAttr { expr, .. }
        | Expr::HasAttr { expr, .. }
        | Expr::Like { expr, .. } => one(expr),
        Expr::BinaryOp { left, right, .. } => one(left) || one(right),
        Expr::Is { expr, in_expr, .. } => one(expr) || in_expr.as_ref().is_some_and(one),
        Expr::IfThenElse {
            cond,
            then_expr,
            else_expr,
        } => one(cond) || one(then_expr) || one(else_expr),
        Expr::Set(items) => items.iter().any(one),
        Expr::Record(fields) => fields.values().any(one),
        _ => true,
    }
}
