//! Limits, as descriptions and an operator's own file say them: how fast something may be
//! used, and how much of it in a day. What they mean is the gateway's business.

use std::collections::BTreeMap;

use authz::{AgentRef, CommandName, ServiceName};
use serde::Deserialize;

use crate::{
    catalog::Catalog,
    description::{located, suggestion},
    nearest::nearest,
};

/// More at once is no limit, and beyond what the clock can count with an hour for each.
const MAX_BURST: u32 = 1_000_000;

/// How much of something may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Allowance {
    /// Calls in a second. Only one of `per_second`, `per_minute` and `per_hour` may be said.
    #[schemars(range(min = 1))]
    pub per_second: Option<u32>,
    /// Calls in a minute.
    #[schemars(range(min = 1))]
    pub per_minute: Option<u32>,
    /// Calls in an hour.
    #[schemars(range(min = 1))]
    pub per_hour: Option<u32>,
    /// So many calls at once, after a rest; by default as many as in the whole time.
    #[schemars(range(min = 1))]
    pub burst: Option<u32>,
    /// Calls in a day of UTC.
    #[schemars(range(min = 1))]
    pub calls_per_day: Option<u64>,
    /// Bytes of arguments and answers in a day of UTC.
    #[schemars(range(min = 1))]
    pub bytes_per_day: Option<u64>,
    /// Instead of the first three: not from a file.
    #[serde(skip)]
    #[schemars(skip)]
    pub paced: Option<Pace>,
}

/// How fast something may be used: so many calls in so many milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// How many.
    pub calls: u32,
    /// In how long, in milliseconds.
    pub window_ms: u64,
    /// How many at once.
    pub burst: u32,
}

/// What all agents may use together, and each of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Shares {
    /// All agents together.
    pub all: Option<Allowance>,
    /// Each agent.
    pub each_agent: Option<Allowance>,
}

/// The limits of one service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServiceLimits {
    /// All agents together.
    pub all: Option<Allowance>,
    /// Each agent.
    pub each_agent: Option<Allowance>,
    /// Of single commands, beside those of the service.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, Shares>")]
    pub commands: BTreeMap<CommandName, Shares>,
}

/// The limits of a gateway: an operator's own file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Each agent, over all services.
    pub each_agent: Option<Allowance>,
    /// Instead of that, for single agents: by name or id.
    #[serde(default)]
    pub agents: BTreeMap<String, Allowance>,
    /// Services, by their own names. What is said here goes before what descriptions say.
    #[serde(default)]
    pub services: BTreeMap<ServiceName, ServiceLimits>,
}

impl Allowance {
    /// How fast, if that is said.
    #[must_use]
    pub fn pace(&self) -> Option<Pace> {
        if self.paced.is_some() {
            return self.paced;
        }
        let (calls, window_ms) = match (self.per_second, self.per_minute, self.per_hour) {
            (Some(calls), ..) => (calls, 1_000),
            (_, Some(calls), _) => (calls, 60_000),
            (.., Some(calls)) => (calls, 3_600_000),
            (None, None, None) => return None,
        };
        Some(Pace {
            calls,
            window_ms,
            burst: self.burst.unwrap_or(calls),
        })
    }

    /// Whether there is a budget for the day.
    #[must_use]
    pub fn has_budget(&self) -> bool {
        self.calls_per_day.is_some() || self.bytes_per_day.is_some()
    }

    fn check(&self) -> Result<(), String> {
        let rates = [self.per_second, self.per_minute, self.per_hour];
        let numbers = rates
            .into_iter()
            .chain([self.burst])
            .map(|number| number.map(u64::from));
        let numbers = numbers.chain([self.calls_per_day, self.bytes_per_day]);
        if numbers.flatten().any(|number| number == 0) {
            return Err("0 is no limit: what nobody may use is for policy to forbid".to_owned());
        }
        if self.burst.is_some_and(|burst| burst > MAX_BURST) {
            return Err(format!("`burst` is at most {MAX_BURST}"));
        }
        match rates.iter().flatten().count() {
            0 if self.burst.is_some() => {
                Err("`burst` needs `per_second`, `per_minute` or `per_hour`".to_owned())
            }
            0 if !self.has_budget() => Err("it limits nothing".to_owned()),
            0 | 1 => Ok(()),
            _ => Err("only one of `per_second`, `per_minute` and `per_hour`".to_owned()),
        }
    }
}

impl ServiceLimits {
    /// # Errors
    ///
    /// What is wrong, and where.
    pub(crate) fn check(&self) -> Result<(), String> {
        let own = Shares {
            all: self.all,
            each_agent: self.each_agent,
        };
        own.check("")?;
        for (name, shares) in &self.commands {
            shares.check(&format!("commands.{name}."))?;
        }
        Ok(())
    }

    /// Itself where it says something, else what `others` say.
    #[must_use]
    pub fn over(&self, others: &Self) -> Self {
        let mut commands = others.commands.clone();
        for (name, own) in &self.commands {
            let below = commands.entry(name.clone()).or_default();
            *below = Shares {
                all: own.all.or(below.all),
                each_agent: own.each_agent.or(below.each_agent),
            };
        }
        Self {
            all: self.all.or(others.all),
            each_agent: self.each_agent.or(others.each_agent),
            commands,
        }
    }
}

impl Shares {
    fn check(&self, place: &str) -> Result<(), String> {
        for (name, allowance) in [("all", self.all), ("each_agent", self.each_agent)] {
            if let Some(allowance) = allowance {
                allowance
                    .check()
                    .map_err(|why| format!("`{place}{name}`: {why}"))?;
            }
        }
        Ok(())
    }
}

impl Limits {
    /// Reads and checks a file; `file` is for messages.
    ///
    /// # Errors
    ///
    /// A text that names the file, the line where it is known, and the nearest valid key.
    pub fn read(file: &str, text: &str) -> Result<Self, String> {
        let limits: Self = toml::from_str(text).map_err(|error| {
            let mut message = error.message().to_owned();
            if let Some(suggestion) = suggestion(&message) {
                message = format!("{message}; did you mean `{suggestion}`?");
            }
            located(file, text, error.span(), &message)
        })?;
        let wrong = |message: String| format!("{file}: {message}");
        if let Some(allowance) = limits.each_agent {
            allowance
                .check()
                .map_err(|why| wrong(format!("`each_agent`: {why}")))?;
        }
        for (name, allowance) in &limits.agents {
            name.parse::<AgentRef>().map_err(|error| {
                wrong(format!("`agents.{name}` is no agent's name or id: {error}"))
            })?;
            allowance
                .check()
                .map_err(|why| wrong(format!("`agents.{name}`: {why}")))?;
        }
        for (name, service) in &limits.services {
            service
                .check()
                .map_err(|why| wrong(format!("`services.{name}`: {why}")))?;
        }
        Ok(limits)
    }

    /// With what the catalog's descriptions say where this says nothing, for each service
    /// that has limits.
    ///
    /// # Errors
    ///
    /// When it names a service or command that there is not, with the nearest that there is.
    /// An MCP server may have any command.
    pub fn over(&self, catalog: &Catalog) -> Result<BTreeMap<ServiceName, ServiceLimits>, String> {
        let services = catalog.services();
        for (name, limits) in &self.services {
            let Some(known) = services.iter().find(|known| known.name == *name) else {
                let names = services.iter().map(|known| known.name.as_str());
                let message = format!("`services.{name}`: there is no such service");
                return Err(with_hint(message, nearest(name.as_str(), names)));
            };
            if catalog.mcp(name.as_str()).is_some() {
                continue;
            }
            for command in limits.commands.keys() {
                let mut names = known.commands.iter().map(|command| command.name.as_str());
                if !names.clone().any(|name| name == command.as_str()) {
                    let message = format!(
                        "`services.{name}.commands.{command}`: `{name}` has no such command"
                    );
                    return Err(with_hint(message, nearest(command.as_str(), &mut names)));
                }
            }
        }
        let own = |name: &ServiceName| self.services.get(name).cloned().unwrap_or_default();
        let all = services.iter().filter_map(|known| {
            let name = &known.name;
            let described = catalog.limits(name).cloned().unwrap_or_default();
            let limits = own(name).over(&described);
            (limits != ServiceLimits::default()).then(|| (name.clone(), limits))
        });
        Ok(all.collect())
    }
}

fn with_hint(message: String, near: Option<&str>) -> String {
    match near {
        Some(near) => format!("{message}; did you mean `{near}`?"),
        None => message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_and_its_mistakes_are_named() {
        let text = r"
[each_agent]
per_minute = 600
burst = 50
calls_per_day = 10000

[agents.ci-bot]
per_second = 20

[services.coolify]
all = { per_minute = 60, burst = 15 }
each_agent = { calls_per_day = 500, bytes_per_day = 1000000 }

[services.coolify.commands.deploy-application]
each_agent = { calls_per_day = 20 }
";
        let limits = Limits::read("limits.toml", text).unwrap();
        let agent = limits.each_agent.unwrap();
        let pace = Pace {
            calls: 600,
            window_ms: 60_000,
            burst: 50,
        };
        assert_eq!(agent.pace(), Some(pace));
        let bot = limits.agents["ci-bot"].pace().unwrap();
        assert_eq!((bot.calls, bot.window_ms, bot.burst), (20, 1_000, 20));
        assert!(
            limits
                .services
                .values()
                .next()
                .unwrap()
                .each_agent
                .unwrap()
                .has_budget()
        );

        let cases = [
            ("each_agent.per_minut = 5", "limits.toml:1:12"),
            ("each_agent.per_minut = 5", "did you mean `per_minute`?"),
            ("each_agent.per_minute = 0", "0 is no limit"),
            ("each_agent.per_minute = -1", "limits.toml:1"),
            ("each_agent.burst = 5", "`burst` needs"),
            (
                "each_agent = { per_hour = 1, burst = 1000001 }",
                "at most 1000000",
            ),
            ("each_agent = {}", "limits nothing"),
            (
                "each_agent = { per_minute = 5, per_hour = 9 }",
                "`each_agent`: only one of",
            ),
            ("agents.\"a b\".per_minute = 5", "no agent's name"),
            ("agents.bot.calls_per_day = 0", "`agents.bot`: 0 is"),
            ("services.X.all.per_minute = 5", "limits.toml"),
            (
                "services.coolify.commands.list-servers.all.burst = 5",
                "`services.coolify`: `commands.list-servers.all`: `burst` needs",
            ),
        ];
        for (text, expected) in cases {
            let error = Limits::read("limits.toml", text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn the_example_of_the_documentation_is_a_file_of_limits() {
        let text = include_str!("../../../docs/limits.md");
        let example = text.split("```toml\n").nth(1).unwrap();
        let example = example.split("```").next().unwrap();
        let limits = Limits::read("docs/limits.md", example).unwrap();
        let catalog = Catalog::load(&|_| None).unwrap();
        assert!(limits.over(&catalog).is_ok());
        assert_eq!(limits.agents.len(), 1);
    }

    #[test]
    fn what_an_operator_says_goes_before_descriptions_and_must_be_there() {
        let catalog = Catalog::load(&|_| None).unwrap();
        let read = |text: &str| Limits::read("l", text).unwrap().over(&catalog);
        let airtable: ServiceName = "airtable".parse().unwrap();
        let described = read("").unwrap();
        let all = described[&airtable].all.unwrap();
        assert_eq!(all.per_second, Some(5), "Airtable says so");

        let own = read(
            "services.airtable.all.per_second = 2\nservices.airtable.each_agent.calls_per_day = 9",
        )
        .unwrap();
        assert_eq!(own[&airtable].all.unwrap().per_second, Some(2));
        assert_eq!(own[&airtable].each_agent.unwrap().calls_per_day, Some(9));
        let beside = read("services.airtable.each_agent.calls_per_day = 9").unwrap();
        assert_eq!(beside[&airtable].all.unwrap().per_second, Some(5));

        let error = read("services.airtabel.all.per_second = 2").unwrap_err();
        assert!(error.contains("did you mean `airtable`?"), "{error}");
        let error = read("services.coolify.commands.list-server.all.per_second = 2").unwrap_err();
        assert!(error.contains("did you mean `list-servers`?"), "{error}");
    }
}
