use std::sync::atomic::AtomicU64;

use super::*;

const NOON: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const IDLE: u64 = 1_800;

/// Sessions, and the seconds that have passed.
fn sessions(room: usize) -> (Sessions, Arc<AtomicU64>) {
    let seconds = Arc::new(AtomicU64::new(5));
    let clock = Arc::clone(&seconds);
    let monotonic = Monotonic::new(move || Duration::from_secs(clock.load(Ordering::SeqCst)));
    let sessions = Sessions::with_room(Duration::from_secs(IDLE), monotonic, room);
    (sessions, seconds)
}

fn agent(n: u8) -> AgentId {
    format!("6f1b8a52-9f0d-4a4e-8f11-1d2c3b4a5e{n:02x}")
        .parse()
        .unwrap()
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "as callers have it, who may give none"
)]
fn name(text: &str) -> Option<SessionName> {
    Some(SessionName::new(text).unwrap())
}

#[test]
fn names_are_short_and_visible() {
    let longest = "x".repeat(128);
    for text in ["a", "~", "3f2b-1.x_y:z", "{\"a\":1}", &longest] {
        assert!(SessionName::new(text).is_ok(), "{text}");
    }
    let longer = "x".repeat(129);
    for text in ["", " ", "a b", "a\tb", "a\u{7f}", "é", &longer] {
        assert!(SessionName::new(text).is_err(), "{text:?}");
    }
}

#[test]
fn calls_belong_to_the_session_that_they_name() {
    let (sessions, seconds) = sessions(8);
    let (bot, other) = (agent(1), agent(2));
    let implicit = sessions.enter(bot, None, NOON);
    assert_eq!(
        (implicit.started, implicit.calls, implicit.tainted),
        (NOON, 0, false)
    );
    let one = sessions.enter(bot, name("one").as_ref(), NOON);
    let two = sessions.enter(bot, name("two").as_ref(), NOON);
    assert!(implicit.id != one.id && one.id != two.id);

    // The same name is another session for another agent.
    let of_other = sessions.enter(other, name("one").as_ref(), NOON);
    assert_ne!(of_other.id, one.id);
    sessions.permitted(other, one.id);
    sessions.permitted(bot, one.id);
    sessions.permitted(bot, one.id);
    seconds.store(60, Ordering::SeqCst);
    let later = NOON.plus(Duration::from_mins(1));
    let again = sessions.enter(bot, name("one").as_ref(), later);
    assert_eq!((again.id, again.started, again.calls), (one.id, NOON, 2));
    assert_eq!(sessions.enter(other, name("one").as_ref(), later).calls, 0);
    assert_eq!(sessions.enter(bot, name("two").as_ref(), later).calls, 0);
    assert_eq!(sessions.enter(bot, None, later).id, implicit.id);
}

#[test]
fn a_session_ends_when_nothing_is_called_in_it() {
    let (sessions, seconds) = sessions(8);
    let bot = agent(1);
    let named = name("one");
    let first = sessions.enter(bot, named.as_ref(), NOON);
    sessions.permitted(bot, first.id);
    // Each call keeps it.
    for n in 1..4 {
        seconds.store(5 + n * (IDLE - 1), Ordering::SeqCst);
        assert_eq!(sessions.enter(bot, named.as_ref(), NOON).id, first.id);
    }
    // The agent's other session does not.
    for _ in 0..2 {
        seconds.fetch_add(IDLE / 2, Ordering::SeqCst);
        sessions.enter(bot, None, NOON);
    }
    let later = NOON.plus(Duration::from_secs(9 * IDLE));
    let anew = sessions.enter(bot, named.as_ref(), later);
    assert_ne!(anew.id, first.id);
    assert_eq!((anew.started, anew.calls), (later, 0));
    // What was permitted in the one that ended is not counted in the next.
    sessions.permitted(bot, first.id);
    assert_eq!(sessions.enter(bot, named.as_ref(), later).calls, 0);
}

#[test]
fn another_session_does_not_wash_a_taint_off() {
    let (sessions, seconds) = sessions(8);
    let bot = agent(1);
    sessions.enter(bot, name("one").as_ref(), NOON);
    sessions.taint(bot);
    for session in [None, name("one"), name("two"), name("three")] {
        assert!(sessions.enter(bot, session.as_ref(), NOON).tainted);
    }
    assert!(!sessions.enter(agent(2), name("one").as_ref(), NOON).tainted);

    // Not while any of its sessions goes on, though the one that read it has ended.
    for n in 0..5 {
        seconds.fetch_add(IDLE - 1, Ordering::SeqCst);
        let session = name(&format!("new-{n}"));
        assert!(sessions.enter(bot, session.as_ref(), NOON).tainted, "{n}");
    }
    seconds.fetch_add(IDLE, Ordering::SeqCst);
    assert!(!sessions.enter(bot, name("one").as_ref(), NOON).tainted);
}

/// A command may take long: what counts is when its answer came.
#[test]
fn a_taint_begins_when_the_answer_leaves() {
    let (sessions, seconds) = sessions(8);
    let bot = agent(1);
    sessions.enter(bot, None, NOON);
    seconds.fetch_add(2 * IDLE, Ordering::SeqCst);
    sessions.taint(bot);
    seconds.fetch_add(IDLE - 1, Ordering::SeqCst);
    assert!(sessions.enter(bot, None, NOON).tainted);
}

#[test]
fn many_sessions_are_bounded_and_stay_tainted() {
    let (sessions, seconds) = sessions(8);
    let bot = agent(1);
    let kept = sessions.enter(bot, name("kept").as_ref(), NOON);
    sessions.taint(bot);
    for n in 0..10 * MAX_SESSIONS {
        seconds.fetch_add(1, Ordering::SeqCst);
        assert!(
            sessions
                .enter(bot, name(&format!("n{n}")).as_ref(), NOON)
                .tainted
        );
        assert_eq!(sessions.enter(bot, name("kept").as_ref(), NOON).id, kept.id);
    }
    let shard = sessions.shard(bot);
    assert_eq!(shard[&bot].sessions.len(), MAX_SESSIONS);
}

#[test]
fn who_is_forgotten_for_want_of_room_is_not_clean_when_it_returns() {
    let (sessions, seconds) = sessions(1);
    let agents: Vec<AgentId> = (0..=255).map(agent).collect();
    for agent in &agents {
        sessions.enter(*agent, None, NOON);
        assert!(sessions.shard(*agent).len() <= 1);
    }
    // Nobody was tainted, so nobody need be taken to be.
    assert!(!sessions.enter(agents[0], None, NOON).tainted);

    sessions.taint(agents[0]);
    for agent in &agents {
        sessions.enter(*agent, None, NOON);
    }
    assert!(sessions.enter(agents[0], None, NOON).tainted);
    // As are others who may have been forgotten, for as long as one could remember.
    seconds.fetch_add(IDLE + 1, Ordering::SeqCst);
    assert!(!sessions.enter(agents[0], None, NOON).tainted);
}

#[test]
fn a_restart_washes_nobody() {
    let (sessions, seconds) = sessions(8);
    sessions.remember(Ok(vec![agent(1)]));
    assert!(sessions.enter(agent(1), name("new").as_ref(), NOON).tainted);
    assert!(!sessions.enter(agent(2), None, NOON).tainted);

    // If it cannot be known who was tainted, everybody may have been.
    sessions.remember(Err(std::io::Error::other("unreadable")));
    assert!(sessions.enter(agent(3), None, NOON).tainted);
    seconds.fetch_add(IDLE + 1, Ordering::SeqCst);
    assert!(!sessions.enter(agent(4), None, NOON).tainted);
    assert!(!sessions.enter(agent(3), None, NOON).tainted);
}
