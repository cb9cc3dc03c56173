//! The same call asked for many times at once: few of them write.
//!
//! One of this process leads; those that come while it is at work form the next group, of
//! which again one leads, and asks the store once for all of them. So an agent in a loop
//! costs two writes at a time, however many of its calls arrive together. The store makes
//! sure that there is one request; this makes sure that it is cheap.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use authz::{AgentId, CommandKey, PolicySetVersion, command::ArgumentsDigest};
use store::approvals::{NewApproval, StoredApproval};
use tokio::sync::oneshot;

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

/// Calls that are being put before people at this moment, each with those that wait.
#[derive(Clone, Debug, Default)]
pub(crate) struct Opening(Arc<Mutex<HashMap<Key, Waiting>>>);

type Waiting = Vec<oneshot::Sender<Part>>;

/// What one call of a group has to do.
#[derive(Debug)]
pub(crate) enum Part {
    /// Ask the store, for those who follow as well.
    Lead(Leader),
    /// Nothing: whoever led was told this.
    Follow(Box<StoredApproval>),
    /// Ask the store for itself: whoever led has failed.
    Alone,
}

impl Opening {
    /// Waits for whoever is at the same, if anybody is, and says what is to be done then.
    pub(crate) async fn join(&self, key: Key) -> Part {
        let told = {
            let mut open = self.lock();
            let Some(waiting) = open.get_mut(&key) else {
                open.insert(key.clone(), Vec::new());
                return Part::Lead(Leader {
                    opening: self.clone(),
                    key,
                    followers: Vec::new(),
                });
            };
            let (tell, told) = oneshot::channel();
            waiting.push(tell);
            told
        };
        told.await.unwrap_or(Part::Alone)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Waiting>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets those that wait form the next group; nobody is left behind, whoever gives up.
    fn next(&self, key: &Key) {
        let leader = {
            let mut open = self.lock();
            let waiting = open.get_mut(key).map(std::mem::take).unwrap_or_default();
            let mut present = waiting.into_iter().filter(|tell| !tell.is_closed());
            let Some(first) = present.next() else {
                open.remove(key);
                return;
            };
            (first, present.collect())
        };
        let (tell, followers) = leader;
        // Whoever gives up just now drops this, and so the next is called.
        let _ = tell.send(Part::Lead(Leader {
            opening: self.clone(),
            key: key.clone(),
            followers,
        }));
    }
}

/// Asks the store for a group. When it is dropped the next group's turn comes.
#[derive(Debug)]
pub(crate) struct Leader {
    opening: Opening,
    key: Key,
    followers: Waiting,
}

impl Leader {
    /// How many calls it asks for, its own among them.
    pub(crate) fn calls(&self) -> u64 {
        u64::try_from(self.followers.len())
            .unwrap_or(u64::MAX)
            .saturating_add(1)
    }

    /// Tells the others what came of it. Dropped without this, they ask for themselves.
    pub(crate) fn tell(mut self, stored: &StoredApproval) {
        for follower in self.followers.drain(..) {
            // Who gave up need not know.
            let _ = follower.send(Part::Follow(Box::new(stored.clone())));
        }
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        self.opening.next(&self.key);
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

    fn leads(part: Option<Part>) -> Leader {
        match part {
            Some(Part::Lead(leader)) => leader,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn those_that_come_meanwhile_are_one_group() {
        let opening = Opening::default();
        let first = leads(opening.join(key("coolify/deploy")).now_or_never());
        assert_eq!(first.calls(), 1);
        let mut group: Vec<_> = (0..5)
            .map(|_| Box::pin(opening.join(key("coolify/deploy"))))
            .collect();
        for one in &mut group {
            assert!(poll!(one).is_pending());
        }
        let other = leads(opening.join(key("coolify/restart")).now_or_never());
        assert_eq!(other.calls(), 1, "another call does not wait");
        // One gives up before its turn.
        drop(group.remove(2));
        drop(first);
        let second = leads(group.remove(0).now_or_never());
        assert_eq!(second.calls(), 4);
        // It fails: the others are not left waiting, and ask for themselves.
        drop(second);
        for one in group {
            assert!(matches!(one.now_or_never(), Some(Part::Alone)));
        }
        drop(other);
        assert!(opening.lock().is_empty(), "nothing is kept");
    }

    #[tokio::test]
    async fn who_is_called_and_gives_up_calls_the_next() {
        let opening = Opening::default();
        let first = leads(opening.join(key("coolify/deploy")).now_or_never());
        let mut second = Box::pin(opening.join(key("coolify/deploy")));
        assert!(poll!(&mut second).is_pending());
        drop(first);
        // It leads by now, and does not know yet.
        let mut third = Box::pin(opening.join(key("coolify/deploy")));
        assert!(poll!(&mut third).is_pending());
        drop(second);
        assert_eq!(leads(third.now_or_never()).calls(), 1);
        assert!(opening.lock().is_empty(), "nothing is kept");
    }
}
