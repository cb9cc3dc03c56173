//! The inbox without a terminal: what it knows, and what a key does.

use std::time::Duration;

use authz::{
    ApprovalRequestId, Timestamp,
    approval::{Choice, DURATIONS},
};
use contract::approvals::{ApprovalStatus, ApprovalView, Approve, Reject, Withdraw};
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::feed::{Request, Update};

/// Decided requests stay on the screen, at the end, up to so many.
const MAX_DECIDED: usize = 20;

/// The orchestrator takes no longer reason.
const MAX_REASON_CHARS: usize = 2_000;

/// What a key leads to.
#[derive(Debug)]
pub(super) enum Step {
    None,
    Leave,
    Send(Box<Request>),
}

/// What is in front.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// The list.
    List,
    /// One request, whole; scrolled down so many lines.
    Detail(u16),
    /// How far and how long, and why.
    Approving {
        id: ApprovalRequestId,
        /// Which of the choices.
        choice: usize,
        /// Which of the durations that it allows.
        duration: usize,
        reason: String,
    },
    /// Why not.
    Rejecting {
        id: ApprovalRequestId,
        reason: String,
    },
    /// Why it is no longer needed.
    Withdrawing {
        id: ApprovalRequestId,
        reason: String,
    },
    /// The keys.
    Help,
}

/// Whether what is shown is what is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Connection {
    Opening,
    Live,
    Lost,
}

/// What the screen shows.
#[derive(Debug)]
pub(super) struct Inbox {
    /// Who is asked.
    pub(super) user: String,
    /// Where the orchestrator is.
    pub(super) url: String,
    pub(super) connection: Connection,
    /// Pending ones, newest first, then decided ones.
    pub(super) requests: Vec<ApprovalView>,
    pub(super) selected: usize,
    pub(super) mode: Mode,
    /// What happened last.
    pub(super) said: String,
}

impl Inbox {
    pub(super) fn new(user: String, url: String) -> Self {
        Self {
            user,
            url,
            connection: Connection::Opening,
            requests: Vec::new(),
            selected: 0,
            mode: Mode::List,
            said: String::new(),
        }
    }

    /// The request that keys are about.
    pub(super) fn current(&self) -> Option<&ApprovalView> {
        self.requests.get(self.selected)
    }

    /// That request, wherever it stands.
    pub(super) fn find(&self, id: ApprovalRequestId) -> Option<&ApprovalView> {
        self.requests
            .iter()
            .find(|request| request.summary.id == id)
    }

    pub(super) fn waiting(&self) -> usize {
        self.requests
            .iter()
            .filter(|request| is_pending(request))
            .count()
    }

    /// Takes news in. What is selected stays selected, though it moves.
    pub(super) fn update(&mut self, update: Update) {
        let selected = self.current().map(|request| request.summary.id);
        match update {
            Update::All(pending) => {
                self.connection = Connection::Live;
                // What waited and does so no longer was decided while the line was cut: it
                // goes, for nothing is known of how.
                self.requests.retain(|request| !is_pending(request));
                self.requests.extend(pending);
            }
            Update::One(view) => self.put(*view),
            Update::Done(view) => {
                self.said = done(&view);
                self.put(*view);
            }
            Update::Failed(why) => self.said = why,
            Update::Lost => self.connection = Connection::Lost,
            // The screen is closed then.
            Update::Refused(_) => {}
        }
        self.sort();
        if let Some(place) = selected.and_then(|id| self.place(id)) {
            self.selected = place;
        }
        self.selected = self.selected.min(self.requests.len().saturating_sub(1));
        self.leave_what_is_decided();
    }

    fn put(&mut self, view: ApprovalView) {
        self.requests
            .retain(|request| request.summary.id != view.summary.id);
        self.requests.push(view);
    }

    fn sort(&mut self) {
        self.requests.sort_by_key(|request| {
            (
                !is_pending(request),
                std::cmp::Reverse(request.summary.opened),
                std::cmp::Reverse(request.summary.id),
            )
        });
        let keep = self.waiting().saturating_add(MAX_DECIDED);
        self.requests.truncate(keep);
    }

    fn place(&self, id: ApprovalRequestId) -> Option<usize> {
        self.requests
            .iter()
            .position(|request| request.summary.id == id)
    }

    /// Nobody goes on writing a reason for what someone else has decided.
    fn leave_what_is_decided(&mut self) {
        let id = match self.mode {
            Mode::Approving { id, .. }
            | Mode::Rejecting { id, .. }
            | Mode::Withdrawing { id, .. } => id,
            Mode::Detail(_) if self.requests.is_empty() => {
                self.mode = Mode::List;
                return;
            }
            Mode::List | Mode::Detail(_) | Mode::Help => return,
        };
        match self.find(id) {
            Some(request) if is_pending(request) => {}
            other => {
                self.said = other.map_or_else(
                    || "that request is gone".to_owned(),
                    |request| format!("that request is {} by now", request.summary.status.as_str()),
                );
                self.mode = Mode::List;
            }
        }
    }

    /// What a key does.
    pub(super) fn key(&mut self, key: KeyEvent, now: Timestamp) -> Step {
        if key.modifiers.contains(KeyModifiers::CONTROL) && matches!(key.code, KeyCode::Char('c')) {
            return Step::Leave;
        }
        match self.mode.clone() {
            Mode::List => self.list_key(key.code, now),
            Mode::Detail(scrolled) => self.detail_key(key.code, scrolled, now),
            Mode::Approving {
                id,
                choice,
                duration,
                reason,
            } => self.approving_key(key, id, choice, duration, reason),
            Mode::Rejecting { id, reason } => {
                let rejecting = |reason| Mode::Rejecting { id, reason };
                let reject = |reason| Request::Reject(id, Reject { reason });
                self.reason_key(key, reason, rejecting, reject)
            }
            Mode::Withdrawing { id, reason } => {
                let withdrawing = |reason| Mode::Withdrawing { id, reason };
                let withdraw = |reason| Request::Withdraw(id, Withdraw { reason });
                self.reason_key(key, reason, withdrawing, withdraw)
            }
            Mode::Help => {
                self.mode = Mode::List;
                Step::None
            }
        }
    }

    fn list_key(&mut self, code: KeyCode, now: Timestamp) -> Step {
        let last = self.requests.len().saturating_sub(1);
        match code {
            KeyCode::Char('q') | KeyCode::Esc => return Step::Leave,
            KeyCode::Down | KeyCode::Char('j') => {
                self.selected = self.selected.saturating_add(1).min(last);
            }
            KeyCode::Up | KeyCode::Char('k') => self.selected = self.selected.saturating_sub(1),
            KeyCode::Home | KeyCode::Char('g') => self.selected = 0,
            KeyCode::End | KeyCode::Char('G') => self.selected = last,
            KeyCode::Enter | KeyCode::Right | KeyCode::Char('l') if self.current().is_some() => {
                self.mode = Mode::Detail(0);
            }
            KeyCode::Char('?' | 'h') => self.mode = Mode::Help,
            code => self.decide_key(code, now),
        }
        Step::None
    }

    fn detail_key(&mut self, code: KeyCode, scrolled: u16, now: Timestamp) -> Step {
        match code {
            KeyCode::Char('q') | KeyCode::Esc | KeyCode::Left | KeyCode::Enter => {
                self.mode = Mode::List;
            }
            KeyCode::Down | KeyCode::Char('j') => {
                self.mode = Mode::Detail(scrolled.saturating_add(1));
            }
            KeyCode::Up | KeyCode::Char('k') => {
                self.mode = Mode::Detail(scrolled.saturating_sub(1));
            }
            code => self.decide_key(code, now),
        }
        Step::None
    }

    /// `a`, `r` and `w` begin to decide about the current request.
    fn decide_key(&mut self, code: KeyCode, now: Timestamp) {
        let KeyCode::Char(letter @ ('a' | 'r' | 'w')) = code else {
            return;
        };
        let Some(request) = self.current() else {
            return;
        };
        let id = request.summary.id;
        if !is_pending(request) || now >= request.summary.expires {
            "that request waits for nobody any more".clone_into(&mut self.said);
        } else if letter == 'r' {
            self.mode = Mode::Rejecting {
                id,
                reason: String::new(),
            };
        } else if letter == 'w' && request.withdrawable {
            self.mode = Mode::Withdrawing {
                id,
                reason: String::new(),
            };
        } else if letter == 'w' {
            "only those for whom it was asked take a request back; `r` rejects it"
                .clone_into(&mut self.said);
        } else if request.choices.is_empty() {
            "policy lets you approve nothing of this request".clone_into(&mut self.said);
        } else {
            let choice = usual(&request.choices);
            let duration = request.choices.get(choice).map_or(0, usual_duration);
            self.mode = Mode::Approving {
                id,
                choice,
                duration,
                reason: String::new(),
            };
        }
    }

    fn approving_key(
        &mut self,
        key: KeyEvent,
        id: ApprovalRequestId,
        mut choice: usize,
        mut duration: usize,
        mut reason: String,
    ) -> Step {
        let choices: Vec<Choice> = self
            .find(id)
            .map(|request| request.choices.clone())
            .unwrap_or_default();
        match key.code {
            KeyCode::Esc => {
                self.mode = Mode::List;
                return Step::None;
            }
            KeyCode::Enter => {
                self.mode = Mode::List;
                let Some(chosen) = choices.get(choice) else {
                    return Step::None;
                };
                let approve = Approve {
                    reach: Some(chosen.reach),
                    duration_seconds: durations(chosen).get(duration).map(Duration::as_secs),
                    reason,
                };
                "sending…".clone_into(&mut self.said);
                return Step::Send(Box::new(Request::Approve(id, approve)));
            }
            KeyCode::Right => choice = choice.saturating_add(1),
            KeyCode::Left => choice = choice.saturating_sub(1),
            KeyCode::Up => duration = duration.saturating_add(1),
            KeyCode::Down => duration = duration.saturating_sub(1),
            _ => write(&mut reason, key),
        }
        choice = choice.min(choices.len().saturating_sub(1));
        let longest = choices
            .get(choice)
            .map_or(0, |choice| durations(choice).len())
            .saturating_sub(1);
        self.mode = Mode::Approving {
            id,
            choice,
            duration: duration.min(longest),
            reason,
        };
        Step::None
    }

    /// A reason is written: for what `request` makes of it, while the mode is `writing`.
    fn reason_key(
        &mut self,
        key: KeyEvent,
        mut reason: String,
        writing: impl FnOnce(String) -> Mode,
        request: impl FnOnce(String) -> Request,
    ) -> Step {
        match key.code {
            KeyCode::Esc => {
                self.mode = Mode::List;
                Step::None
            }
            KeyCode::Enter => {
                self.mode = Mode::List;
                "sending…".clone_into(&mut self.said);
                Step::Send(Box::new(request(reason)))
            }
            _ => {
                write(&mut reason, key);
                self.mode = writing(reason);
                Step::None
            }
        }
    }
}

/// A line that is written: letters, and the key that takes them back.
fn write(line: &mut String, key: KeyEvent) {
    match key.code {
        KeyCode::Backspace => {
            line.pop();
        }
        KeyCode::Char('u') if key.modifiers.contains(KeyModifiers::CONTROL) => line.clear(),
        KeyCode::Char(letter)
            if !key
                .modifiers
                .intersects(KeyModifiers::CONTROL | KeyModifiers::ALT)
                && !letter.is_control()
                && line.chars().count() < MAX_REASON_CHARS =>
        {
            line.push(letter);
        }
        _ => {}
    }
}

pub(super) fn is_pending(request: &ApprovalView) -> bool {
    request.summary.status == ApprovalStatus::Pending
}

/// The durations that a choice allows, shortest first.
pub(super) fn durations(choice: &Choice) -> Vec<Duration> {
    let longest = Duration::from_secs(choice.longest_seconds);
    let mut allowed: Vec<Duration> = DURATIONS
        .iter()
        .copied()
        .filter(|duration| *duration <= longest)
        .collect();
    allowed.sort_unstable();
    allowed
}

/// Exactly what was asked, if one may; else the narrowest.
fn usual(choices: &[Choice]) -> usize {
    choices
        .iter()
        .position(|choice| choice.reach == authz::approval::Reach::Call)
        .unwrap_or(0)
}

/// An hour, or the longest below.
fn usual_duration(choice: &Choice) -> usize {
    durations(choice)
        .iter()
        .rposition(|duration| *duration <= Duration::from_hours(1))
        .unwrap_or(0)
}

fn done(view: &ApprovalView) -> String {
    let what = format!("{} of {}", view.summary.command, view.agent_name);
    match view.summary.status {
        ApprovalStatus::Pending => format!("your approval counts: {what}; one more must approve"),
        status => format!("{}: {what}", status.as_str()),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use authz::approval::Reach;
    use serde_json::json;

    use super::*;

    pub(in super::super) const NOON: Timestamp = Timestamp::from_millis(1_790_000_000_000);

    /// The nth request, opened n seconds after noon.
    pub(in super::super) fn asked(number: u64, status: &str) -> ApprovalView {
        let opened = NOON.plus(Duration::from_secs(number));
        serde_json::from_value(json!({
            "id": format!("apr_{number:032x}"),
            "agent": "00000000-0000-0000-0000-000000000000",
            "command": "coolify/deploy",
            "status": status,
            "approvals_needed": 1,
            "approvals_given": 0,
            "opened": opened,
            "expires": opened.plus(Duration::from_hours(24)),
            "agent_name": format!("bot-{number}"),
            "service": "coolify",
            "risk": "write",
            "arguments": {"uuid": format!("app-{number}")},
            "digest": "0".repeat(64),
            "reason": "the release is due",
            "policies": ["base.no-write"],
            "advice": ["ask the platform team"],
            "policy_set": "0".repeat(64),
            "joined": 0,
            "verdicts": [],
            "choices": [
                {"reach": "once", "longest_seconds": 900},
                {"reach": "call", "longest_seconds": 28_800},
                {"reach": "command", "longest_seconds": 3_600},
            ],
        }))
        .unwrap()
    }

    pub(in super::super) fn inbox(requests: impl IntoIterator<Item = ApprovalView>) -> Inbox {
        let mut inbox = Inbox::new("amy".to_owned(), "http://127.0.0.1:9403".to_owned());
        inbox.update(Update::All(requests.into_iter().collect()));
        inbox
    }

    fn press(inbox: &mut Inbox, keys: &[KeyCode]) -> Step {
        let mut step = Step::None;
        for key in keys {
            step = inbox.key(KeyEvent::new(*key, KeyModifiers::NONE), NOON);
        }
        step
    }

    fn letters(text: &str) -> Vec<KeyCode> {
        text.chars().map(KeyCode::Char).collect()
    }

    fn names(inbox: &Inbox) -> Vec<String> {
        inbox
            .requests
            .iter()
            .map(|request| format!("{} {}", request.agent_name, request.summary.status.as_str()))
            .collect()
    }

    #[test]
    fn pending_ones_come_first_and_what_is_selected_stays_so() {
        let mut inbox = inbox([asked(1, "pending"), asked(3, "pending")]);
        assert_eq!(names(&inbox), ["bot-3 pending", "bot-1 pending"]);
        press(&mut inbox, &[KeyCode::Down]);
        inbox.update(Update::One(Box::new(asked(4, "pending"))));
        assert_eq!(
            (inbox.selected, inbox.current().unwrap().agent_name.as_str()),
            (2, "bot-1")
        );
        inbox.update(Update::One(Box::new(asked(3, "approved"))));
        assert_eq!(
            names(&inbox),
            ["bot-4 pending", "bot-1 pending", "bot-3 approved"]
        );
        assert_eq!(inbox.current().unwrap().agent_name.as_str(), "bot-1");
        assert_eq!(inbox.waiting(), 2);
        inbox.update(Update::Lost);
        assert_eq!(inbox.connection, Connection::Lost);
        inbox.update(Update::All(vec![asked(4, "pending")]));
        assert_eq!(
            names(&inbox),
            ["bot-4 pending", "bot-3 approved"],
            "as it is"
        );
        assert!(inbox.connection == Connection::Live && inbox.selected <= 1);
        for number in 10..50 {
            inbox.update(Update::One(Box::new(asked(number, "rejected"))));
        }
        assert_eq!(inbox.requests.len(), 21, "old news goes");
    }

    #[test]
    fn approving_is_choosing_among_what_policy_allows() {
        let mut inbox = inbox([asked(1, "pending")]);
        press(&mut inbox, &[KeyCode::Char('a')]);
        assert!(
            matches!(inbox.mode, Mode::Approving { choice: 1, .. }),
            "exactly this call: {:?}",
            inbox.mode
        );
        let mut keys = vec![KeyCode::Right, KeyCode::Right, KeyCode::Right];
        keys.extend([KeyCode::Up; 9]);
        keys.extend(letters("quarterly ja"));
        keys.extend([KeyCode::Backspace, KeyCode::Enter]);
        let Step::Send(request) = press(&mut inbox, &keys) else {
            panic!("{:?}", inbox.mode)
        };
        let Request::Approve(id, approve) = *request else {
            panic!()
        };
        assert_eq!(id, inbox.requests[0].summary.id);
        assert_eq!(
            (
                approve.reach,
                approve.duration_seconds,
                approve.reason.as_str()
            ),
            (Some(Reach::Command), Some(3_600), "quarterly j")
        );
        assert_eq!(inbox.mode, Mode::List);

        let step = press(
            &mut inbox,
            &[
                KeyCode::Char('a'),
                KeyCode::Left,
                KeyCode::Left,
                KeyCode::Down,
                KeyCode::Down,
                KeyCode::Down,
                KeyCode::Enter,
            ],
        );
        let Step::Send(request) = step else { panic!() };
        let Request::Approve(_, approve) = *request else {
            panic!()
        };
        assert_eq!(
            (approve.reach, approve.duration_seconds),
            (Some(Reach::Once), Some(900))
        );
        inbox.update(Update::Failed("it is approved already".to_owned()));
        assert_eq!(inbox.said, "it is approved already");
    }

    #[test]
    fn the_usual_answer_is_this_call_for_an_hour() {
        let mut inbox = inbox([asked(1, "pending")]);
        let Step::Send(request) = press(&mut inbox, &[KeyCode::Char('a'), KeyCode::Enter]) else {
            panic!()
        };
        let Request::Approve(_, approve) = *request else {
            panic!()
        };
        assert_eq!(
            (approve.reach, approve.duration_seconds),
            (Some(Reach::Call), Some(3_600))
        );
    }

    #[test]
    fn rejecting_takes_a_reason_and_escape_takes_it_back() {
        let mut inbox = inbox([asked(1, "pending"), asked(2, "pending")]);
        let mut keys = vec![KeyCode::Down, KeyCode::Char('r')];
        keys.extend(letters("not on fridays"));
        press(&mut inbox, &keys);
        press(&mut inbox, &[KeyCode::Esc]);
        assert_eq!(inbox.mode, Mode::List);
        press(&mut inbox, &keys);
        let Step::Send(request) = press(&mut inbox, &[KeyCode::Enter]) else {
            panic!()
        };
        let Request::Reject(id, reject) = *request else {
            panic!()
        };
        assert_eq!(
            (id, reject.reason.as_str()),
            (asked(1, "pending").summary.id, "not on fridays")
        );
    }

    #[test]
    fn what_was_asked_for_oneself_can_be_taken_back() {
        let mut mine = asked(2, "pending");
        mine.withdrawable = true;
        let mut inbox = inbox([asked(1, "pending"), mine]);
        let mut keys = vec![KeyCode::Char('w')];
        keys.extend(letters("done by hand"));
        press(&mut inbox, &keys);
        assert!(matches!(inbox.mode, Mode::Withdrawing { .. }));
        let Step::Send(request) = press(&mut inbox, &[KeyCode::Enter]) else {
            panic!()
        };
        let Request::Withdraw(id, withdraw) = *request else {
            panic!()
        };
        assert_eq!(
            (id, withdraw.reason.as_str()),
            (asked(2, "pending").summary.id, "done by hand")
        );
        press(&mut inbox, &[KeyCode::Down, KeyCode::Char('w')]);
        assert_eq!(inbox.mode, Mode::List);
        assert!(inbox.said.contains("take a request back"), "{}", inbox.said);
    }

    #[test]
    fn nobody_decides_what_is_decided_or_what_they_may_not() {
        let mut inbox = inbox([asked(1, "pending")]);
        press(&mut inbox, &[KeyCode::Char('a')]);
        inbox.update(Update::One(Box::new(asked(1, "rejected"))));
        assert_eq!(
            (&inbox.mode, inbox.said.as_str()),
            (&Mode::List, "that request is rejected by now")
        );
        press(&mut inbox, &[KeyCode::Char('a')]);
        assert_eq!(inbox.mode, Mode::List);

        let mut none = asked(2, "pending");
        none.choices.clear();
        inbox.update(Update::One(Box::new(none)));
        inbox.selected = 0;
        press(&mut inbox, &[KeyCode::Char('a')]);
        assert!(inbox.said.contains("policy"), "{}", inbox.said);
        let later = NOON.plus(Duration::from_hours(25));
        inbox.key(KeyEvent::new(KeyCode::Char('r'), KeyModifiers::NONE), later);
        assert_eq!(
            inbox.mode,
            Mode::List,
            "it has expired, whether or not anybody said so"
        );
    }

    #[test]
    fn keys_lead_around_and_out() {
        let mut empty = inbox([]);
        for code in [
            KeyCode::Down,
            KeyCode::Up,
            KeyCode::End,
            KeyCode::Enter,
            KeyCode::Char('a'),
            KeyCode::Char('r'),
        ] {
            assert!(matches!(press(&mut empty, &[code]), Step::None), "{code:?}");
            assert_eq!((empty.selected, &empty.mode), (0, &Mode::List));
        }
        let mut inbox = inbox((0..5).map(|number| asked(number, "pending")));
        press(
            &mut inbox,
            &[KeyCode::Char('G'), KeyCode::Down, KeyCode::Char('k')],
        );
        assert_eq!(inbox.selected, 3);
        press(&mut inbox, &[KeyCode::Enter, KeyCode::Down, KeyCode::Down]);
        assert_eq!(inbox.mode, Mode::Detail(2));
        assert!(matches!(
            press(&mut inbox, &[KeyCode::Char('q')]),
            Step::None
        ));
        assert!(matches!(
            press(&mut inbox, &[KeyCode::Char('?'), KeyCode::Char('q')]),
            Step::None
        ));
        assert!(matches!(
            press(&mut inbox, &[KeyCode::Char('q')]),
            Step::Leave
        ));
        for mode in [
            KeyCode::Char('a'),
            KeyCode::Char('r'),
            KeyCode::Char('?'),
            KeyCode::Enter,
        ] {
            press(&mut inbox, &[mode]);
            let step = inbox.key(
                KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL),
                NOON,
            );
            assert!(matches!(step, Step::Leave), "{mode:?}");
            press(&mut inbox, &[KeyCode::Esc]);
        }
    }

    #[test]
    fn a_reason_has_an_end_and_no_controls() {
        let mut line = String::new();
        for _ in 0..3_000 {
            write(
                &mut line,
                KeyEvent::new(KeyCode::Char('ä'), KeyModifiers::NONE),
            );
        }
        assert_eq!(line.chars().count(), 2_000);
        write(
            &mut line,
            KeyEvent::new(KeyCode::Char('u'), KeyModifiers::CONTROL),
        );
        for key in [
            KeyEvent::new(KeyCode::Char('\u{1b}'), KeyModifiers::NONE),
            KeyEvent::new(KeyCode::Char('x'), KeyModifiers::ALT),
        ] {
            write(&mut line, key);
        }
        assert_eq!(line, "");
    }
}
