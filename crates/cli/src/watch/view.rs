//! The inbox, drawn. Everything that someone else wrote passes [`printable`].

use authz::{Risk, Timestamp};
use contract::approvals::{ApprovalStatus, ApprovalView};
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Block, Borders, Cell, Clear, Paragraph, Row, Table, TableState, Wrap},
};

use super::model::{Connection, Inbox, Mode, durations, is_pending};
use crate::output::{printable, span, time};

const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
const DIM: Style = Style::new().add_modifier(Modifier::DIM);

/// Draws all of it.
pub(super) fn draw(frame: &mut Frame<'_>, inbox: &Inbox, now: Timestamp) {
    let [top, middle, bottom] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Min(0),
        Constraint::Length(2),
    ])
    .areas(frame.area());
    frame.render_widget(heading(inbox), top);
    match &inbox.mode {
        Mode::Detail(scrolled) => detail(frame, middle, inbox, *scrolled, now),
        Mode::List
        | Mode::Approving { .. }
        | Mode::Rejecting { .. }
        | Mode::Withdrawing { .. }
        | Mode::Help => {
            list(frame, middle, inbox, now);
        }
    }
    frame.render_widget(footer(inbox), bottom);
    match &inbox.mode {
        Mode::Approving { .. } | Mode::Rejecting { .. } | Mode::Withdrawing { .. } => {
            dialog(frame, middle, inbox);
        }
        Mode::Help => help(frame, middle),
        Mode::List | Mode::Detail(_) => {}
    }
}

fn heading(inbox: &Inbox) -> Line<'static> {
    let (word, style) = match inbox.connection {
        Connection::Opening => ("connecting", DIM),
        Connection::Live => ("live", Style::new().fg(Color::Green)),
        Connection::Lost => (
            "not connected, trying again",
            Style::new().fg(Color::Red).add_modifier(Modifier::BOLD),
        ),
    };
    Line::from(vec![
        Span::styled(" cedargate ", Style::new().add_modifier(Modifier::REVERSED)),
        Span::raw(format!("  {} waiting  ", inbox.waiting())),
        Span::styled(word, style),
        Span::styled(
            format!("  {} at {}", printable(&inbox.user), printable(&inbox.url)),
            DIM,
        ),
    ])
}

fn footer(inbox: &Inbox) -> Paragraph<'static> {
    let keys = match inbox.mode {
        Mode::List => "↑↓ select  Enter open  a approve  r reject  w withdraw  ? keys  q quit",
        Mode::Detail(_) => "↑↓ scroll  a approve  r reject  w withdraw  Esc back",
        Mode::Approving { .. } => "←→ how far  ↑↓ how long  type a reason  Enter approve  Esc back",
        Mode::Rejecting { .. } => "type a reason  Enter reject  Esc back",
        Mode::Withdrawing { .. } => "type a reason  Enter withdraw  Esc back",
        Mode::Help => "any key goes back",
    };
    Paragraph::new(vec![
        Line::from(printable(&inbox.said)),
        Line::styled(keys, DIM),
    ])
}

fn list(frame: &mut Frame<'_>, area: Rect, inbox: &Inbox, now: Timestamp) {
    if inbox.requests.is_empty() {
        let text = match inbox.connection {
            Connection::Live => "nothing waits for you",
            Connection::Opening | Connection::Lost => "",
        };
        frame.render_widget(Paragraph::new(text).centered().style(DIM), area);
        return;
    }
    let rows = inbox.requests.iter().map(|request| {
        let summary = &request.summary;
        let (state, style) = if is_pending(request) {
            (left(request, now), Style::new())
        } else {
            (summary.status.as_str().to_owned(), DIM)
        };
        Row::new(vec![
            Cell::from(state),
            Cell::from(Span::styled(request.risk.to_string(), risk(request.risk))),
            Cell::from(printable(request.agent_name.as_str())),
            Cell::from(printable(&summary.command.to_string())),
            Cell::from(format!(
                "{}/{}",
                summary.approvals_given, summary.approvals_needed
            )),
            Cell::from(printable(&request.reason)),
        ])
        .style(style)
    });
    let widest = |of: fn(&ApprovalView) -> String, most: usize| {
        let widest = inbox.requests.iter().map(|request| of(request).len()).max();
        Constraint::Length(u16::try_from(widest.unwrap_or(0).clamp(7, most)).unwrap_or(7))
    };
    let widths = [
        Constraint::Length(9),
        Constraint::Length(7),
        widest(|request| request.agent_name.to_string(), 18),
        widest(|request| request.summary.command.to_string(), 30),
        Constraint::Length(3),
        Constraint::Min(8),
    ];
    let table = Table::new(rows, widths)
        .header(Row::new(["LEFT", "RISK", "AGENT", "COMMAND", "OK", "WHY"]).style(DIM))
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED))
        .column_spacing(1);
    let mut state = TableState::default().with_selected(inbox.selected);
    frame.render_stateful_widget(table, area, &mut state);
}

/// How long someone can still decide.
fn left(request: &ApprovalView, now: Timestamp) -> String {
    let left = request.summary.expires.since(now).as_secs();
    if left == 0 {
        ApprovalStatus::Expired.as_str().to_owned()
    } else {
        span(left)
    }
}

fn risk(risk: Risk) -> Style {
    match risk {
        Risk::Read => Style::new().fg(Color::Green),
        Risk::Write => Style::new().fg(Color::Yellow),
        Risk::Destroy => Style::new().fg(Color::Red).add_modifier(Modifier::BOLD),
    }
}

fn detail(frame: &mut Frame<'_>, area: Rect, inbox: &Inbox, scrolled: u16, now: Timestamp) {
    let Some(request) = inbox.current() else {
        return;
    };
    let lines = lines(request, now);
    let height = u16::try_from(lines.len()).unwrap_or(u16::MAX);
    // Long lines wrap, so the end may be a little further; never past the last line.
    let scrolled = scrolled.min(height.saturating_sub(1));
    let text = Paragraph::new(lines)
        .wrap(Wrap { trim: false })
        .scroll((scrolled, 0));
    frame.render_widget(text, area);
}

fn lines(request: &ApprovalView, now: Timestamp) -> Vec<Line<'static>> {
    let summary = &request.summary;
    let field = |name: &'static str, value: String| {
        Line::from(vec![
            Span::styled(format!("{name:<12}"), DIM),
            Span::raw(printable(&value)),
        ])
    };
    let state = if is_pending(request) {
        format!("pending, {} left", left(request, now))
    } else {
        summary.status.as_str().to_owned()
    };
    let mut lines = vec![
        Line::from(vec![
            Span::styled(printable(request.agent_name.as_str()), BOLD),
            Span::raw(" asks for "),
            Span::styled(printable(&summary.command.to_string()), BOLD),
            Span::raw(" "),
            Span::styled(request.risk.to_string(), risk(request.risk)),
        ]),
        Line::default(),
        field("status", state),
        field("why", request.reason.clone()),
    ];
    for (name, value) in &request.arguments {
        let value = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        lines.push(field("with", format!("{name} = {value}")));
    }
    lines.extend([
        field("refused by", request.policies.join(", ")),
        field("advice", request.advice.join(" ")),
        field(
            "approved",
            format!(
                "{} of {}",
                summary.approvals_given, summary.approvals_needed
            ),
        ),
        field(
            "asked",
            format!("{} times", request.joined.saturating_add(1)),
        ),
        field("opened", time(summary.opened)),
        field("expires", time(summary.expires)),
        field("id", summary.id.to_string()),
    ]);
    for verdict in &request.verdicts {
        let said = if verdict.approved {
            "approved"
        } else {
            "rejected"
        };
        let text = format!("{said} by {}: {}", verdict.user, verdict.reason);
        lines.push(field("verdict", text));
    }
    let choices: Vec<String> = request
        .choices
        .iter()
        .map(|choice| {
            format!(
                "{} up to {}",
                choice.reach.as_str(),
                span(choice.longest_seconds)
            )
        })
        .collect();
    if !choices.is_empty() {
        lines.push(field("you may", choices.join(", ")));
    }
    lines
}

fn dialog(frame: &mut Frame<'_>, area: Rect, inbox: &Inbox) {
    let (title, mut lines, reason, id) = match &inbox.mode {
        Mode::Approving {
            id,
            choice,
            duration,
            reason,
        } => {
            let choices = inbox.find(*id).map(|request| request.choices.as_slice());
            let chosen = choices.and_then(|choices| choices.get(*choice));
            let reach = chosen.map_or("", |choice| choice.reach.as_str());
            let length = chosen
                .and_then(|choice| durations(choice).get(*duration).copied())
                .map_or(String::new(), |duration| span(duration.as_secs()));
            let lines = vec![
                Line::from(vec![
                    Span::styled("how far   ", DIM),
                    Span::styled(format!("‹ {reach} ›"), BOLD),
                    Span::styled(format!("  {}", meaning(reach)), DIM),
                ]),
                Line::from(vec![
                    Span::styled("how long  ", DIM),
                    Span::styled(format!("‹ {length} ›"), BOLD),
                ]),
            ];
            (" Approve ", lines, reason, *id)
        }
        Mode::Rejecting { id, reason } => (" Reject ", Vec::new(), reason, *id),
        Mode::Withdrawing { id, reason } => (" Withdraw ", Vec::new(), reason, *id),
        Mode::List | Mode::Detail(_) | Mode::Help => return,
    };
    let what = inbox.find(id).map_or(String::new(), |request| {
        printable(&format!(
            "{} of {}",
            request.summary.command, request.agent_name
        ))
    });
    lines.insert(0, Line::styled(what, BOLD));
    // The end of what is written is what one looks at.
    let shown: String = {
        let width = usize::from(area.width.saturating_sub(16));
        let letters: Vec<char> = printable(reason).chars().collect();
        let skip = letters.len().saturating_sub(width);
        letters.into_iter().skip(skip).collect()
    };
    lines.push(Line::from(vec![
        Span::styled("reason    ", DIM),
        Span::raw(shown),
        Span::styled(" ", Style::new().add_modifier(Modifier::REVERSED)),
    ]));
    boxed(frame, area, title, lines);
}

/// What a reach covers.
fn meaning(reach: &str) -> &'static str {
    match reach {
        "once" => "this call, one time",
        "call" => "this call, with these arguments",
        "command" => "this command, any arguments",
        "service" => "all of the service, up to this risk",
        _ => "",
    }
}

fn help(frame: &mut Frame<'_>, area: Rect) {
    let lines = [
        "↑ ↓  k j   select; scroll in an open request",
        "Home End   first, last",
        "Enter      open a request",
        "a          approve: how far, how long, why",
        "r          reject: why; the agent is told",
        "w          take back what was asked for you or an agent of yours",
        "Esc        back",
        "q Ctrl-C   quit",
    ]
    .map(Line::from)
    .to_vec();
    boxed(frame, area, " Keys ", lines);
}

fn boxed(frame: &mut Frame<'_>, area: Rect, title: &'static str, lines: Vec<Line<'static>>) {
    let height = u16::try_from(lines.len())
        .unwrap_or(u16::MAX)
        .saturating_add(2)
        .min(area.height);
    let width = area.width.saturating_sub(4).min(76);
    let place = Rect {
        x: area.x + area.width.saturating_sub(width) / 2,
        y: area.y + area.height.saturating_sub(height) / 2,
        width,
        height,
    };
    frame.render_widget(Clear, place);
    let block = Block::default().borders(Borders::ALL).title(title);
    frame.render_widget(Paragraph::new(lines).block(block), place);
}

#[cfg(test)]
mod tests {
    use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
    use ratatui::{Terminal, backend::TestBackend};

    use super::{
        super::{
            feed::Update,
            model::tests::{NOON, asked, inbox},
        },
        *,
    };

    fn drawn(inbox: &Inbox, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, inbox, NOON)).unwrap();
        let buffer = terminal.backend().buffer().clone();
        buffer
            .content()
            .chunks(usize::from(width))
            .map(|row| {
                row.iter()
                    .map(ratatui::buffer::Cell::symbol)
                    .collect::<String>()
                    .trim_end()
                    .to_owned()
            })
            .collect::<Vec<_>>()
            .join("\n")
    }

    fn press(inbox: &mut Inbox, code: KeyCode) {
        inbox.key(KeyEvent::new(code, KeyModifiers::NONE), NOON);
    }

    #[test]
    fn an_inbox_fits_a_small_terminal() {
        let mut inbox = inbox([asked(1, "pending"), asked(2, "pending")]);
        inbox.update(Update::One(Box::new(asked(3, "rejected"))));
        let screen = drawn(&inbox, 80, 24);
        for part in [
            "2 waiting",
            "live",
            "bot-1",
            "bot-2",
            "coolify/deploy",
            "write",
            "1d",
            "the release is",
            "rejected",
            "a approve",
        ] {
            assert!(screen.contains(part), "{part}:\n{screen}");
        }
        press(&mut inbox, KeyCode::Enter);
        let screen = drawn(&inbox, 80, 24);
        for part in [
            "bot-2 asks for coolify/deploy",
            "uuid = app-2",
            "base.no-write",
            "once up to 15m",
        ] {
            assert!(screen.contains(part), "{part}:\n{screen}");
        }
        press(&mut inbox, KeyCode::Char('a'));
        press(&mut inbox, KeyCode::Char('x'));
        let screen = drawn(&inbox, 80, 24);
        for part in [
            "Approve",
            "‹ call ›",
            "‹ 1h ›",
            "reason    x",
            "with these arguments",
        ] {
            assert!(screen.contains(part), "{part}:\n{screen}");
        }
    }

    #[test]
    fn it_draws_at_any_size_in_any_mode() {
        let mut inbox = inbox((0..200).map(|number| asked(number, "pending")));
        inbox.update(Update::Lost);
        for mode in [
            KeyCode::End,
            KeyCode::Enter,
            KeyCode::Char('a'),
            KeyCode::Esc,
            KeyCode::Char('r'),
            KeyCode::Esc,
            KeyCode::Char('?'),
        ] {
            press(&mut inbox, mode);
            for (width, height) in [(1, 1), (5, 2), (20, 4), (80, 24), (300, 100)] {
                drawn(&inbox, width, height);
            }
        }
        assert!(
            drawn(&super::super::model::tests::inbox([]), 80, 24).contains("nothing waits for you")
        );
    }

    #[test]
    fn nothing_that_a_terminal_acts_on_is_drawn() {
        let hostile = "a\u{1b}[31mred\u{1b}]0;title\u{7}\u{9b}2J\u{202e}drawkcab\u{200b}\nroot#";
        let mut request = asked(1, "pending");
        request.reason = hostile.to_owned();
        request.advice = vec![hostile.to_owned()];
        request.arguments.insert(hostile.to_owned(), hostile.into());
        let mut inbox = inbox([request]);
        inbox.said = hostile.to_owned();
        for code in [KeyCode::Null, KeyCode::Enter, KeyCode::Char('r')] {
            press(&mut inbox, code);
            let screen = drawn(&inbox, 160, 40);
            for letter in screen.chars().filter(|&letter| letter != '\n') {
                assert!(
                    !letter.is_control() && !matches!(letter, '\u{202e}' | '\u{200b}'),
                    "{letter:?}"
                );
            }
        }
    }
}
