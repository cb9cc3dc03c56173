//! Budgets.

use super::{Client, encoded};
use crate::{
    budgets::{BudgetView, BudgetsElsewhere, ReportBudgets},
    error::Error,
};

impl Client {
    /// Says what went through a gateway, and hears what went through others.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn report_budgets(&self, report: &ReportBudgets) -> Result<BudgetsElsewhere, Error> {
        self.post("/api/gateway/budgets", report).await
    }

    /// What is used today, of one agent (id or name) and of one service if they are named.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn budgets(
        &self,
        agent: Option<&str>,
        service: Option<&str>,
    ) -> Result<Vec<BudgetView>, Error> {
        let mut path = "/api/budgets".to_owned();
        let named = [("agent", agent), ("service", service)];
        let given = named
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)));
        for (at, (name, value)) in given.enumerate() {
            let value = encoded(value);
            path.push(if at == 0 { '?' } else { '&' });
            path.push_str(name);
            path.push('=');
            path.push_str(&value);
        }
        self.get(&path).await
    }
}
