//! Which limits a call meets.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use authz::{Agent, AgentId, CommandKey, CommandName, ServiceName, Timestamp};
use contract::budgets::BudgetKey;
use handlers::{
    Catalog,
    limits::{Allowance, Limits as Settings},
};

use super::{
    Why,
    budget::{Budget, Counter},
    rate::Rate,
    share::Share,
};
use crate::facts::Monotonic;

/// What a limit is of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Of {
    pub(super) service: Option<ServiceName>,
    pub(super) command: Option<CommandName>,
    /// Each agent has as much; otherwise all share it.
    pub(super) each: bool,
    /// A single agent, by name or id, that has another than the rest.
    single: Option<String>,
}

/// One limit.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) of: Of,
    pub(super) allowance: Allowance,
    pub(super) rate: Option<Rate>,
    /// Of a rate that all share.
    share: Option<Share>,
    pub(super) budget: Option<Budget>,
    monotonic: Monotonic,
}

/// Every limit, where a call finds it: nothing is searched for, whatever their number.
#[derive(Debug, Default)]
pub(super) struct Rules {
    each_agent: Option<Arc<Rule>>,
    /// By name or id.
    agents: HashMap<String, Arc<Rule>>,
    /// Of the service as such, the narrowest first.
    services: HashMap<ServiceName, Vec<Arc<Rule>>>,
    /// Of single commands and their service, the narrowest first.
    commands: HashMap<CommandKey, Vec<Arc<Rule>>>,
    has_budgets: bool,
}

impl Rules {
    /// # Errors
    ///
    /// When `settings` names what is not there.
    pub(super) fn new(
        settings: &Settings,
        catalog: &Catalog,
        monotonic: &Monotonic,
        before: Option<&Self>,
    ) -> Result<Self, String> {
        let services = settings.over(catalog)?;
        let before: HashMap<&Of, &Arc<Rule>> = before
            .into_iter()
            .flat_map(Self::all)
            .map(|rule| (&rule.of, rule))
            .collect();
        // A single agent's budget is counted with those of the others: it may become one.
        let agents = before
            .values()
            .filter(|rule| rule.of.service.is_none())
            .find_map(|rule| rule.budget.clone())
            .unwrap_or_else(|| Budget::Each(Arc::default()));
        let make = |of: Of, allowance: Option<Allowance>| {
            let allowance = allowance?;
            let old = before.get(&of).copied();
            if let Some(old) = old.filter(|old| old.allowance == allowance) {
                return Some(Arc::clone(old));
            }
            let shared = of.service.is_none().then_some(&agents);
            let budget = old.and_then(|old| old.budget.as_ref()).or(shared);
            Some(Arc::new(Rule::new(
                of,
                allowance,
                monotonic,
                budget.cloned(),
            )))
        };
        let agent = |single: Option<&str>| Of {
            service: None,
            command: None,
            each: true,
            single: single.map(str::to_owned),
        };
        let mut rules = Self {
            each_agent: make(agent(None), settings.each_agent),
            ..Self::default()
        };
        for (name, allowance) in &settings.agents {
            if let Some(rule) = make(agent(Some(name)), Some(*allowance)) {
                rules.agents.insert(name.clone(), rule);
            }
        }
        for (service, limits) in services {
            let of = |command: Option<&CommandName>, each| Of {
                service: Some(service.clone()),
                command: command.cloned(),
                each,
                single: None,
            };
            let own: Vec<_> = [
                make(of(None, true), limits.each_agent),
                make(of(None, false), limits.all),
            ]
            .into_iter()
            .flatten()
            .collect();
            for (name, shares) in &limits.commands {
                let narrow = [
                    make(of(Some(name), true), shares.each_agent),
                    make(of(Some(name), false), shares.all),
                ];
                let all = narrow.into_iter().flatten().chain(own.iter().cloned());
                let key = CommandKey {
                    service: service.clone(),
                    name: name.clone(),
                };
                rules.commands.insert(key, all.collect());
            }
            rules.services.insert(service, own);
        }
        let has_budgets = rules.all().any(|rule| rule.budget.is_some());
        rules.has_budgets = has_budgets;
        Ok(rules)
    }

    /// An agent's own, over all services.
    pub(super) fn agent(&self, agent: &Agent) -> Option<&Arc<Rule>> {
        if !self.agents.is_empty() {
            let named = self.agents.get(agent.name.as_str());
            if let Some(rule) = named.or_else(|| self.agents.get(&agent.id.to_string())) {
                return Some(rule);
            }
        }
        self.each_agent.as_ref()
    }

    /// Those of a command and its service, the narrowest first.
    pub(super) fn of_command(&self, command: &CommandKey) -> &[Arc<Rule>] {
        let rules = match self.commands.get(command) {
            Some(rules) => Some(rules),
            None => self.services.get(&command.service),
        };
        rules.map_or(&[], Vec::as_slice)
    }

    /// Each of them.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Rule>> {
        let own = self.commands.values().flat_map(|rules| {
            let narrow = rules.iter();
            narrow.filter(|rule| rule.of.command.is_some())
        });
        let agents = self.each_agent.iter().chain(self.agents.values());
        agents.chain(self.services.values().flatten()).chain(own)
    }

    /// The budget of this key, and what it allows.
    pub(super) fn budget(&self, key: &BudgetKey) -> Option<&Arc<Rule>> {
        let rules = match (&key.service, &key.command) {
            (None, _) => {
                let single = self.agents.values().find(|rule| rule.budget.is_some());
                return self
                    .each_agent
                    .as_ref()
                    .filter(|rule| rule.budget.is_some())
                    .or(single);
            }
            (Some(service), None) => self.services.get(service)?,
            (Some(service), Some(name)) => self.commands.get(&CommandKey {
                service: service.clone(),
                name: name.clone(),
            })?,
        };
        rules.iter().find(|rule| {
            rule.of.command == key.command
                && rule.of.each == key.agent.is_some()
                && rule.budget.is_some()
        })
    }

    /// Every counter of every budget.
    pub(super) fn counters(&self) -> BTreeMap<BudgetKey, Arc<Counter>> {
        let mut found = BTreeMap::new();
        for rule in self.all() {
            for (agent, counter) in rule.budget.iter().flat_map(Budget::counters) {
                let key = BudgetKey {
                    service: rule.of.service.clone(),
                    command: rule.of.command.clone(),
                    agent,
                };
                found.entry(key).or_insert(counter);
            }
        }
        found
    }

    /// Whether there is any budget.
    pub(super) fn has_budgets(&self) -> bool {
        self.has_budgets
    }

    /// Forgets what makes no difference any more.
    pub(super) fn sweep(&self, now: Timestamp) {
        for rule in self.all() {
            if let Some(rate) = &rule.rate {
                rate.sweep();
            }
            if let Some(share) = &rule.share {
                share.sweep(rule.monotonic.now());
            }
            if let Some(budget) = &rule.budget {
                budget.sweep(now);
            }
        }
    }
}

impl Rule {
    fn new(of: Of, allowance: Allowance, monotonic: &Monotonic, before: Option<Budget>) -> Self {
        let pace = allowance.pace();
        let budget = allowance.has_budget().then(|| {
            before.unwrap_or_else(|| {
                if of.each {
                    Budget::Each(Arc::default())
                } else {
                    Budget::All(Arc::default())
                }
            })
        });
        Self {
            rate: pace.map(|pace| {
                if of.each {
                    Rate::each(pace, monotonic)
                } else {
                    Rate::all(pace, monotonic)
                }
            }),
            share: pace.filter(|_| !of.each).map(|pace| Share::new(&pace)),
            budget,
            monotonic: monotonic.clone(),
            of,
            allowance,
        }
    }

    /// Takes one call of its rate.
    ///
    /// # Errors
    ///
    /// Why not, and how long until there may be one.
    pub(super) fn take_rate(&self, agent: AgentId) -> Result<(), (Why, Duration)> {
        let Some(rate) = &self.rate else {
            return Ok(());
        };
        if let Some(share) = &self.share {
            let now = self.monotonic.now();
            share
                .ask(agent, now)
                .map_err(|wait| (Why::Share(rate.pace), wait))?;
            return match rate.take(agent) {
                Ok(()) => {
                    share.took(agent);
                    Ok(())
                }
                Err(wait) => {
                    share.is_scarce(now);
                    Err((Why::Rate(rate.pace), wait))
                }
            };
        }
        rate.take(agent)
            .map_err(|wait| (Why::Rate(rate.pace), wait))
    }

    /// What it is of, for people.
    pub(super) fn name(&self, agent: &Agent) -> String {
        let of = match (&self.of.service, &self.of.command) {
            (None, _) => return format!("agent '{}'", agent.name),
            (Some(service), None) => format!("service '{service}'"),
            (Some(service), Some(command)) => format!("command '{service}/{command}'"),
        };
        if self.of.each {
            format!("agent '{}' at {of}", agent.name)
        } else {
            of
        }
    }

    /// What it is of, in a word, for metrics.
    pub(super) fn kind(&self) -> &'static str {
        match (&self.of.service, &self.of.command, self.of.each) {
            (None, ..) => "agent",
            (Some(_), None, true) => "service_agent",
            (Some(_), None, false) => "service",
            (Some(_), Some(_), true) => "command_agent",
            (Some(_), Some(_), false) => "command",
        }
    }

    #[cfg(test)]
    pub(super) fn share(&self) -> Option<&Share> {
        self.share.as_ref()
    }
}
