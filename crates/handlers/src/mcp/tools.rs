//! Tools: what an upstream offers, judged by the operator's rules and by reviews.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use authz::{CommandKey, CommandName, Risk, Service, Target, ZoneName, command::ArgumentsDigest};

use super::definition::Definition;

/// Further tools of one service do not exist for us.
pub const MAX_TOOLS: usize = 2048;

/// Neither do those beyond so many bytes of definitions.
pub(crate) const MAX_BYTES: usize = 4 << 20;

/// Names that begin so are ours: what is no tool, such as reading a resource, is a command
/// of such a name. A tool that is called so cannot be used.
pub const RESERVED: &str = "mcp.";

/// Which definitions somebody reviewed: by tool.
pub type Reviews = BTreeMap<CommandName, ArgumentsDigest>;

/// What the operator says of an upstream's tools.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    /// Of tools that nobody judged.
    pub(crate) risk: Risk,
    pub(crate) tools: BTreeMap<CommandName, Verdict>,
    /// Tools that do not exist for agents; one that ends in `*` names all that begin so.
    pub(crate) hidden: Vec<String>,
}

/// What the operator says of one tool.
#[derive(Clone, Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) risk: Option<Risk>,
    pub(crate) zones: BTreeSet<ZoneName>,
}

impl Rules {
    /// Whether a tool does not exist for agents.
    pub(crate) fn hide(&self, tool: &str) -> bool {
        tool.starts_with(RESERVED)
            || self
                .hidden
                .iter()
                .any(|hidden| match hidden.strip_suffix('*') {
                    Some(start) => tool.starts_with(start),
                    None => hidden == tool,
                })
    }

    /// What policy is told of a tool.
    pub(crate) fn target(
        &self,
        service: &Arc<Service>,
        name: CommandName,
        hinted: Option<Risk>,
        pinned: bool,
    ) -> Arc<Target> {
        let verdict = self.tools.get(&name);
        let risk = verdict
            .and_then(|verdict| verdict.risk)
            .unwrap_or(self.risk);
        Arc::new(Target {
            key: CommandKey {
                service: service.name.clone(),
                name,
            },
            service: Arc::clone(service),
            risk: hinted.map_or(risk, |hinted| risk.max(hinted)),
            zones: verdict
                .map(|verdict| verdict.zones.clone())
                .unwrap_or_default(),
            pinned,
        })
    }
}

/// One tool, as it was seen last.
#[derive(Clone, Debug)]
pub struct Tool {
    /// As the upstream wrote it: to see at a glance that nothing changed.
    written: Box<str>,
    /// What it says.
    pub definition: Definition,
    /// What policy is told of it.
    pub target: Arc<Target>,
}

/// Every tool that was seen, by name, in the order of the upstream.
#[derive(Clone, Debug, Default)]
pub struct Tools {
    known: Vec<Arc<Tool>>,
    names: HashMap<String, usize>,
    /// How long all definitions together are.
    bytes: usize,
}

impl Tools {
    /// One of them.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<Tool>> {
        self.known.get(*self.names.get(name)?)
    }

    /// All of them, also hidden ones.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Tool>> {
        self.known.iter()
    }

    /// Whether `written` is what is known of its tool, letter by letter.
    pub(crate) fn knows(&self, name: &str, written: &str) -> bool {
        self.get(name).is_some_and(|tool| *tool.written == *written)
    }

    /// These with what was just seen, and without what was `lost`. `whole` says that
    /// nothing else exists.
    pub(crate) fn seen(
        &self,
        seen: Vec<(Box<str>, Definition)>,
        lost: &[String],
        whole: bool,
        judge: impl Fn(&Definition) -> Arc<Target>,
    ) -> Self {
        let mut next = Self::default();
        if !whole {
            let kept = self.known.iter();
            kept.filter(|tool| {
                !lost
                    .iter()
                    .any(|lost| lost == tool.definition.name().as_str())
            })
            .for_each(|tool| next.put(Arc::clone(tool)));
        }
        for (written, definition) in seen {
            let tool = match self.get(definition.name().as_str()) {
                Some(known) if known.written == written => Arc::clone(known),
                _ => Arc::new(Tool {
                    target: judge(&definition),
                    written,
                    definition,
                }),
            };
            next.put(tool);
        }
        next
    }

    /// These, judged anew.
    pub(crate) fn judged(&self, judge: impl Fn(&Definition) -> Arc<Target>) -> Self {
        let mut next = self.clone();
        for tool in &mut next.known {
            let target = judge(&tool.definition);
            if *tool.target != *target {
                *tool = Arc::new(Tool {
                    target,
                    ..Tool::clone(tool)
                });
            }
        }
        next
    }

    fn take(&mut self, name: &str) {
        let kept = std::mem::take(self).known.into_iter();
        kept.filter(|tool| tool.definition.name().as_str() != name)
            .for_each(|tool| self.put(tool));
    }

    fn put(&mut self, tool: Arc<Tool>) {
        let name = tool.definition.name().as_str();
        let place = self.names.get(name).copied();
        let before = place.and_then(|index| self.known.get(index));
        let before = before.map_or(0, |before| before.written.len());
        let bytes = self.bytes - before + tool.written.len();
        if bytes > MAX_BYTES || (place.is_none() && self.known.len() >= MAX_TOOLS) {
            tracing::warn!(tool = name, "an MCP server has more tools than are kept");
            // What it was before, it is no longer.
            self.take(name);
            return;
        }
        self.bytes = bytes;
        if let Some(known) = place.and_then(|index| self.known.get_mut(index)) {
            *known = tool;
        } else {
            self.names.insert(name.to_owned(), self.known.len());
            self.known.push(tool);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(name: &str, length: usize) -> (Box<str>, Definition) {
        let text = format!(
            r#"{{"name":"{name}","description":"{}"}}"#,
            "x".repeat(length)
        );
        let read = Definition::read(&text).unwrap();
        (text.into(), read)
    }

    fn judged(tools: &Tools, seen: Vec<(Box<str>, Definition)>) -> Tools {
        let rules = Rules {
            risk: Risk::Write,
            tools: BTreeMap::new(),
            hidden: Vec::new(),
        };
        let service = Arc::new(Service {
            name: "files".parse().unwrap(),
            env: authz::command::Environment::Prod,
            owners: None,
            zones: BTreeSet::new(),
        });
        tools.seen(seen, &[], false, |definition| {
            rules.target(&service, definition.name().clone(), None, true)
        })
    }

    /// A definition that does not fit must not leave the one before in its place.
    #[test]
    fn what_does_not_fit_is_not_there() {
        let long = super::super::MAX_DEFINITION_BYTES - 1_000;
        let first = vec![definition("one", 10), definition("two", 10)];
        let tools = judged(&Tools::default(), first);
        let many = (0..40)
            .map(|n| definition(&format!("t{n}"), long))
            .collect();
        let tools = judged(&tools, many);
        assert!(tools.iter().count() < 30, "there is a limit");
        let tools = judged(&tools, vec![definition("one", long)]);
        assert!(tools.get("one").is_none());
        assert!(tools.get("two").is_some() && tools.get("t3").is_some());
        let tools = judged(&tools, vec![definition("one", 10)]);
        assert!(tools.get("one").is_some());
    }
}
