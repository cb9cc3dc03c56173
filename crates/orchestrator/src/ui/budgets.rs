//! What is used of today's budgets, as pages show it.

use authz::{AgentId, ServiceName};

use super::moment::Moment;
use crate::{Orchestrator, budgets, error::Error};

/// So many are shown of an agent or service: those of which most is used.
const SHOWN: usize = 50;

/// One budget.
pub(super) struct BudgetRow {
    /// `all services`, `coolify`, `coolify/deploy-application`.
    pub(super) of: String,
    /// The service's page, if it is of one.
    pub(super) service: Option<String>,
    /// Whose, if it is one agent's.
    pub(super) agent: Option<String>,
    /// `12 of 500`, or `12` where nothing limits it.
    pub(super) calls: String,
    pub(super) bytes: String,
    pub(super) spent: bool,
    pub(super) resets: Moment,
}

impl BudgetRow {
    /// Of one agent, or of one service.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub(super) async fn today(
        orchestrator: &Orchestrator,
        agent: Option<AgentId>,
        service: Option<&ServiceName>,
    ) -> Result<Vec<Self>, Error> {
        let now = orchestrator.now();
        let views = budgets::today(orchestrator, agent, service).await?;
        let rows = views.into_iter().take(SHOWN).map(|view| {
            let key = &view.used.key;
            let name = view.agent_name.map(|name| name.to_string());
            Self {
                of: key.to_string(),
                service: key.service.as_ref().map(ToString::to_string),
                agent: name.or_else(|| key.agent.map(|agent| agent.to_string())),
                calls: of_limit(view.used.calls, view.used.calls_limit, &grouped),
                bytes: of_limit(view.used.bytes, view.used.bytes_limit, &size),
                spent: view.spent,
                resets: Moment::until(view.resets, now),
            }
        });
        Ok(rows.collect())
    }
}

fn of_limit(used: u64, limit: Option<u64>, shown: &dyn Fn(u64) -> String) -> String {
    match limit {
        Some(limit) => format!("{} of {}", shown(used), shown(limit)),
        None => shown(used),
    }
}

/// `12,345`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1.5 MiB`.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1_024 {
        return format!("{bytes} B");
    }
    let (mut whole, mut tenths, mut unit) = (bytes, 0, "B");
    for next in UNITS {
        if whole < 1_024 {
            break;
        }
        (tenths, whole, unit) = (whole % 1_024 * 10 / 1_024, whole / 1_024, next);
    }
    format!("{whole}.{tenths} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shown_as_people_read_them() {
        assert_eq!(
            of_limit(1_234, Some(1_000_000), &grouped),
            "1,234 of 1,000,000"
        );
        assert_eq!(of_limit(5, None, &grouped), "5");
        for (bytes, shown) in [
            (0, "0 B"),
            (1_023, "1023 B"),
            (1_536, "1.5 KiB"),
            (1 << 20, "1.0 MiB"),
            (5_000_000_000, "4.6 GiB"),
            (u64::MAX, "16777215.9 TiB"),
        ] {
            assert_eq!(size(bytes), shown);
        }
    }
}
