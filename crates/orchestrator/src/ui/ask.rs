//! A request for approval as people see it, in the inbox and on its own page.

use std::time::Duration;

use authz::{
    ApprovalRequestId, Risk, Timestamp,
    approval::{Choice, DURATIONS, Reach, is_service_access},
};
use serde_json::Value;
use store::{
    approvals::{Status, StoredApproval},
    inbox::History,
};

use super::moment::{Moment, span};
use crate::{
    Orchestrator,
    approvals::{self, Offered},
    authenticate::Person,
};

/// A request, and what the person who looks at it may do about it.
pub(crate) struct Asked {
    pub(crate) id: ApprovalRequestId,
    pub(crate) agent: String,
    pub(crate) agent_path: String,
    pub(crate) owner: String,
    pub(crate) env: &'static str,
    pub(crate) command: String,
    pub(crate) risk: Risk,
    pub(crate) reason: String,
    pub(crate) arguments: Vec<(String, String)>,
    pub(crate) policies: Vec<String>,
    pub(crate) advice: Vec<String>,
    pub(crate) needed: u8,
    pub(crate) approved_by: Vec<String>,
    pub(crate) opened: Moment,
    pub(crate) expires: Moment,
    /// How often the refused call was repeated since.
    pub(crate) joined: u64,
    pub(crate) status: &'static str,
    /// This person has approved it already.
    pub(crate) mine: bool,
    pub(crate) offers: Vec<Offer>,
    pub(crate) rejectable: bool,
    /// Saying yes takes a second factor first.
    pub(crate) step_up: bool,
    /// Why this person may not decide; empty if they may.
    pub(crate) why_not: String,
}

/// One reach, with the durations that policy lets this person choose.
pub(crate) struct Offer {
    reach: Reach,
    pub(crate) name: &'static str,
    /// What it would allow, in one sentence.
    pub(crate) means: String,
    pub(crate) options: Vec<Opt>,
}

/// One button.
pub(crate) struct Opt {
    /// `reach:seconds`.
    pub(crate) value: String,
    pub(crate) name: String,
    /// The one that stands out.
    pub(crate) usual: bool,
}

impl Asked {
    /// As this person sees it.
    pub(crate) fn new(
        orchestrator: &Orchestrator,
        person: &Person,
        stored: &StoredApproval,
        now: Timestamp,
    ) -> Self {
        let new = &stored.new;
        let ask = &new.ask;
        let pending = stored.status == Status::Pending;
        let Offered { choices, step_up } = approvals::offered(orchestrator, person, stored);
        let may_reject = approvals::may_reject_of(orchestrator, person, stored);
        let rejectable = pending && may_reject.is_ok();
        let why_not = match may_reject {
            Err(why) if pending && choices.is_empty() => why.advice.join(" "),
            _ => String::new(),
        };
        Self {
            id: new.id,
            agent: ask.agent.name.to_string(),
            agent_path: format!("/agents/{}", ask.agent.id),
            owner: ask
                .agent
                .owner
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
            env: ask.agent.env.as_str(),
            command: ask.target.key.to_string(),
            risk: ask.target.risk,
            reason: new.reason.clone(),
            arguments: new
                .arguments
                .iter()
                .map(|(name, value)| (name.clone(), text(value)))
                .collect(),
            policies: new.policies.clone(),
            advice: new.advice.clone(),
            needed: ask.approvals,
            approved_by: ask.approved_by.iter().map(ToString::to_string).collect(),
            opened: Moment::past(stored.opened, now),
            expires: Moment::until(new.expires, now),
            joined: stored.joined,
            status: word(stored.status),
            mine: pending && ask.approved_by.contains(&person.user.id),
            step_up,
            offers: offers(stored, &choices),
            rejectable,
            why_not,
        }
    }

    /// This person may approve or reject it.
    pub(crate) fn decidable(&self) -> bool {
        !self.offers.is_empty() || self.rejectable
    }

    /// What the inbox offers at once: this call, for as long as one chooses; what destroys,
    /// once. Everything else is on the request's own page.
    pub(crate) fn quick(&self) -> Option<&Offer> {
        let wanted = if self.destroys() {
            Reach::Once
        } else {
            Reach::Call
        };
        self.offers
            .iter()
            .find(|offer| offer.reach == wanted)
            .or(self.offers.first())
    }

    pub(crate) fn destroys(&self) -> bool {
        self.risk == Risk::Destroy
    }

    /// What is told of the approvals that it needs.
    pub(crate) fn needs(&self) -> String {
        match (self.needed, self.approved_by.as_slice()) {
            (1, _) => "needs one approval".to_owned(),
            (needed, []) => format!("needs {needed} approvals"),
            (needed, by) => format!("{} of {needed} approvals: {}", by.len(), by.join(", ")),
        }
    }
}

fn offers(stored: &StoredApproval, choices: &[Choice]) -> Vec<Offer> {
    let usual = usual(stored.new.ask.target.risk, choices);
    choices
        .iter()
        .map(|choice| offer(stored, *choice, usual))
        .collect()
}

/// The choice to stand out: the narrowest that is of use for more than a moment, for at
/// most an hour; of what destroys, once, for the shortest time.
fn usual(risk: Risk, choices: &[Choice]) -> Option<(Reach, u64)> {
    let (wanted, longest) = if risk == Risk::Destroy {
        (Reach::Once, 15 * 60)
    } else {
        (Reach::Call, 60 * 60)
    };
    let choice = choices
        .iter()
        .find(|choice| choice.reach == wanted)
        .or_else(|| choices.first())?;
    Some((choice.reach, choice.longest_seconds.min(longest)))
}

fn offer(stored: &StoredApproval, choice: Choice, usual: Option<(Reach, u64)>) -> Offer {
    let ask = &stored.new.ask;
    let (agent, command) = (&ask.agent.name, &ask.target.key);
    let (name, means) = match choice.reach {
        Reach::Once => (
            "Once",
            format!("{agent} may run {command} with exactly these arguments, one time."),
        ),
        Reach::Call => (
            "This call",
            format!("{agent} may run {command} with exactly these arguments, any number of times."),
        ),
        Reach::Command => (
            "This command",
            format!("{agent} may run {command} with any arguments."),
        ),
        Reach::Service => {
            let (_, risk, _) = ask.scope(Reach::Service);
            let what = if is_service_access(command) || risk != Risk::Read {
                "reads or writes"
            } else {
                "reads"
            };
            let service = &command.service;
            (
                "This service",
                format!(
                    "{agent} may run every command of {service} that {what}, with any arguments."
                ),
            )
        }
    };
    let options = DURATIONS
        .iter()
        .map(Duration::as_secs)
        .filter(|&seconds| seconds <= choice.longest_seconds)
        .map(|seconds| Opt {
            value: format!("{}:{seconds}", choice.reach.as_str()),
            name: span(Duration::from_secs(seconds)),
            usual: usual == Some((choice.reach, seconds)),
        });
    Offer {
        reach: choice.reach,
        name,
        means,
        options: options.collect(),
    }
}

/// What became of earlier requests like this, in one sentence.
pub(crate) fn told(history: &History, now: Timestamp) -> String {
    let total = history.total();
    if total == 0 {
        return "Asked for the first time.".to_owned();
    }
    let times = if total == 1 {
        "once".to_owned()
    } else {
        format!("{total} times")
    };
    let parts: Vec<String> = [
        (history.approved, "approved"),
        (history.rejected, "rejected"),
        (history.expired, "expired"),
        (history.withdrawn, "withdrawn"),
    ]
    .into_iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, word)| format!("{count} {word}"))
    .collect();
    let last = history.last.map_or_else(String::new, |(at, approved)| {
        let word = if approved { "approved" } else { "rejected" };
        format!("; last {word} {}", Moment::past(at, now).text)
    });
    format!("Asked {times} before: {}{last}.", parts.join(", "))
}

pub(crate) const fn word(status: Status) -> &'static str {
    match status {
        Status::Pending => "pending",
        Status::Approved => "approved",
        Status::Rejected => "rejected",
        Status::Expired => "expired",
        Status::Withdrawn => "withdrawn",
    }
}

/// An argument's value for people: texts as they are, the rest as JSON.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => serde_json::to_string_pretty(other).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_is_one_sentence() {
        let now = Timestamp::from_millis(1_780_000_000_000);
        let mut history = History::default();
        assert_eq!(told(&history, now), "Asked for the first time.");
        history.expired = 1;
        assert_eq!(told(&history, now), "Asked once before: 1 expired.");
        history.approved = 5;
        history.last = Some((now.minus(Duration::from_hours(2)), true));
        assert_eq!(
            told(&history, now),
            "Asked 6 times before: 5 approved, 1 expired; last approved 2 h ago."
        );
    }

    #[test]
    fn what_stands_out_is_narrow_and_short() {
        let choices = [Reach::Once, Reach::Call, Reach::Command].map(|reach| Choice {
            reach,
            longest_seconds: 28_800,
        });
        assert_eq!(usual(Risk::Write, &choices), Some((Reach::Call, 3_600)));
        assert_eq!(usual(Risk::Destroy, &choices), Some((Reach::Once, 900)));
        let short = [Choice {
            reach: Reach::Service,
            longest_seconds: 900,
        }];
        assert_eq!(usual(Risk::Read, &short), Some((Reach::Service, 900)));
        assert_eq!(usual(Risk::Read, &[]), None);
    }
}
