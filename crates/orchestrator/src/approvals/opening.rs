//! The same call asked for many times at once: one of them writes, the others join.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use authz::{AgentId, CommandKey, PolicySetVersion, command::ArgumentsDigest};
use store::approvals::NewApproval;
use tokio::sync::OwnedMutexGuard;

/// What makes two calls one request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    agent: AgentId,
    command: CommandKey,
    digest: ArgumentsDigest,
    policy_set: PolicySetVersion,
}

impl Key {
    pub(crate) fn of(new: &NewApproval) -> Self {
        Self {
            agent: new.ask.agent.id,
            command: new.ask.target.key.clone(),
            digest: new.ask.digest.clone(),
            policy_set: new.policy_set.clone(),
        }
    }
}

type Turn = Arc<tokio::sync::Mutex<()>>;

/// Which calls are being put before people at this moment.
///
/// Without it each of forty calls at once would find nothing to join and begin a write of
/// its own, one after the other, only to find there that the first has opened the request.
/// The store alone makes sure that there is one; this makes sure that it is cheap.
#[derive(Debug, Default)]
pub(crate) struct Opening(Mutex<HashMap<Key, Turn>>);

impl Opening {
    /// Waits until nobody else of this process opens, or joins, the same.
    pub(crate) async fn turn(&self, key: Key) -> MyTurn<'_> {
        let turn = {
            let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(turns.entry(key.clone()).or_default())
        };
        // Before waiting: whoever stops waiting must tidy up as well.
        let mut mine = MyTurn {
            of: self,
            key,
            guard: None,
        };
        mine.guard = Some(turn.lock_owned().await);
        mine
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

/// Held while opening; lets the next one go when dropped.
pub(crate) struct MyTurn<'a> {
    of: &'a Opening,
    key: Key,
    guard: Option<OwnedMutexGuard<()>>,
}

impl Drop for MyTurn<'_> {
    fn drop(&mut self) {
        // First, as it holds the turn, too.
        self.guard = None;
        let mut turns = self.of.0.lock().unwrap_or_else(PoisonError::into_inner);
        if turns
            .get(&self.key)
            .is_some_and(|turn| Arc::strong_count(turn) == 1)
        {
            turns.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use authz::Arguments;
    use futures_util::{FutureExt, poll};
    use serde_json::{Map, json};

    use super::*;

    fn key(command: &str) -> Key {
        Key {
            agent: AgentId::LOCAL,
            command: command.parse().unwrap(),
            digest: Arguments::new(Map::new()).digest().clone(),
            policy_set: serde_json::from_value(json!("0".repeat(64))).unwrap(),
        }
    }

    #[tokio::test]
    async fn the_same_waits_and_another_does_not() {
        let opening = Opening::default();
        let first = opening.turn(key("coolify/deploy")).await;
        let mut second = Box::pin(opening.turn(key("coolify/deploy")));
        assert!(poll!(&mut second).is_pending());
        let other = opening.turn(key("coolify/restart")).now_or_never();
        drop(other.expect("another call does not wait"));
        drop(first);
        let second = second.now_or_never().expect("the first is done");
        assert_eq!(opening.len(), 1);
        drop(second);
        assert_eq!(opening.len(), 0, "nothing is kept");
    }

    #[tokio::test]
    async fn who_gives_up_leaves_nothing() {
        let opening = Opening::default();
        let first = opening.turn(key("coolify/deploy")).await;
        let mut second = Box::pin(opening.turn(key("coolify/deploy")));
        assert!(poll!(&mut second).is_pending());
        drop(first);
        drop(second);
        assert_eq!(opening.len(), 0);
    }
}
