//! Zones that people put services and commands into, besides those of the catalog: followed
//! like the policy set, and kept on disk for a start without the orchestrator.
//!
//! A zone that is missing could open a door: a policy that walls it off would not match. So
//! until something is known of zones nothing is permitted, and only a command in its zones,
//! a [`Placed`], has slices of policies by which it could be decided.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use authz::{CommandKey, Target};
use contract::zones::{AssignedZones, GatewayZones};
use moka::sync::Cache;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::{Notify, watch};

use crate::last_known_good::{Kept, LastKnownGood, Unusable};

/// So many commands with assigned zones are in memory; the catalog has some hundreds.
const MAX_COMMANDS: u64 = 100_000;

/// How soon zones that could not be fetched are asked for again.
const RETRY: Duration = Duration::from_millis(500);

/// A command with all of its zones: those of the catalog, and those that people put it into.
#[derive(Clone, Debug)]
pub(crate) struct Placed(Arc<Target>);

impl Placed {
    /// The same one for as long as neither the catalog nor its zones change.
    pub(crate) fn target(&self) -> &Arc<Target> {
        &self.0
    }
}

/// What is known, at one time.
#[derive(Debug)]
pub(crate) struct Known {
    revision: i64,
    assigned: AssignedZones,
    /// Which of all that were known since the start.
    generation: u64,
    placed: Cache<CommandKey, Made>,
}

/// A command as it was placed last.
#[derive(Clone, Debug)]
struct Made {
    generation: u64,
    base: Arc<Target>,
    target: Arc<Target>,
}

impl Known {
    /// Of how many changes by people it is.
    pub(crate) fn revision(&self) -> i64 {
        self.revision
    }

    /// A command of the catalog in all of its zones.
    ///
    /// It costs a look-up where people assigned none. Where they did, the same `Arc` is given
    /// for the same one, so that what was computed from it is found again.
    pub(crate) fn place(&self, base: &Arc<Target>) -> Placed {
        if !self.assigned.concern(&base.key.service) {
            return Placed(Arc::clone(base));
        }
        let made = self.placed.get(&base.key);
        if let Some(made) = &made
            && made.generation == self.generation
            && Arc::ptr_eq(&made.base, base)
        {
            return Placed(Arc::clone(&made.target));
        }
        let target = match self.assigned.added_to(base) {
            None => Arc::clone(base),
            Some(target) => match made {
                // What changed does not concern it.
                Some(made) if *made.target == target => made.target,
                _ => Arc::new(target),
            },
        };
        let made = Made {
            generation: self.generation,
            base: Arc::clone(base),
            target: Arc::clone(&target),
        };
        self.placed.insert(base.key.clone(), made);
        Placed(target)
    }
}

#[cfg(test)]
impl Known {
    /// As if the orchestrator had said so.
    pub(crate) fn of(zones: GatewayZones) -> Arc<Self> {
        Arc::new(Self {
            revision: zones.revision,
            assigned: zones.members.into_iter().collect(),
            generation: 0,
            placed: Cache::new(MAX_COMMANDS),
        })
    }
}

/// Zones as they are kept on disk: whoever edits them is noticed.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct KeptZones {
    zones: GatewayZones,
    /// SHA-256 of the zones as JSON, in hexadecimal.
    digest: String,
}

impl KeptZones {
    fn new(zones: GatewayZones) -> Self {
        Self {
            digest: digest(&zones),
            zones,
        }
    }
}

impl Kept for KeptZones {
    fn damage(&self) -> Option<&'static str> {
        (digest(&self.zones) != self.digest).then_some("the zones do not have their digest")
    }
}

fn digest(zones: &GatewayZones) -> String {
    // Names and a number always serialise; if not, an empty text is what everyone gets.
    let text = serde_json::to_vec(zones).unwrap_or_default();
    hex::encode(Sha256::digest(text))
}

/// Holds what is known of zones. Until the orchestrator or the disk said something that is
/// nothing.
#[derive(Debug)]
pub(crate) struct Zones {
    known: ArcSwapOption<Known>,
    /// It is from this gateway's disk, and the orchestrator has not yet said that it is right.
    unconfirmed: AtomicBool,
    generation: AtomicU64,
    placed: Cache<CommandKey, Made>,
    last_known: LastKnownGood<KeptZones>,
    wanted: Notify,
    /// How often others were put in force.
    swaps: watch::Sender<u64>,
}

impl Zones {
    pub(crate) fn new(last_known: LastKnownGood<KeptZones>) -> Self {
        Self {
            known: ArcSwapOption::empty(),
            unconfirmed: AtomicBool::new(false),
            generation: AtomicU64::new(0),
            placed: Cache::new(MAX_COMMANDS),
            last_known,
            wanted: Notify::new(),
            swaps: watch::Sender::new(0),
        }
    }

    /// What is known.
    pub(crate) fn current(&self) -> Option<Arc<Known>> {
        self.known.load_full()
    }

    /// Tells when others are in force.
    pub(crate) fn swaps(&self) -> watch::Receiver<u64> {
        self.swaps.subscribe()
    }

    /// Whether it is from this gateway's disk, unconfirmed.
    pub(crate) fn is_last_known(&self) -> bool {
        self.unconfirmed.load(Ordering::Acquire)
    }

    /// Has them fetched, as they may be others by now.
    pub(crate) fn want(&self) {
        self.wanted.notify_one();
    }

    /// Fetches them whenever they may be others, which is so whenever the feed is followed
    /// anew, until that succeeds. Until they can be had for the first time, those are used
    /// that were known last.
    pub(crate) async fn keep(&self, orchestrator: &contract::Client) {
        if let Err(reason) = self.fetch(orchestrator).await {
            tracing::warn!(reason, "the orchestrator's zones cannot be had yet");
            self.use_last_known().await;
        }
        loop {
            self.wanted.notified().await;
            let mut failed = false;
            while let Err(reason) = self.fetch(orchestrator).await {
                if !std::mem::replace(&mut failed, true) {
                    tracing::error!(
                        reason,
                        "zones may have changed and cannot be had; those known before stay"
                    );
                }
                tokio::time::sleep(RETRY).await;
            }
        }
    }

    async fn fetch(&self, orchestrator: &contract::Client) -> Result<(), String> {
        let zones = ask(orchestrator).await.map_err(|error| error.to_string())?;
        self.take(zones).await;
        Ok(())
    }

    /// Goes by what the orchestrator said from now on, and keeps it on disk.
    async fn take(&self, zones: GatewayZones) {
        let revision = zones.revision;
        let members = zones.members.len();
        let assigned: AssignedZones = zones.members.iter().cloned().collect();
        let known = self
            .current()
            .is_some_and(|known| known.revision == revision && known.assigned == assigned);
        let was_from_disk = self.is_last_known();
        if known && !was_from_disk {
            return;
        }
        self.swap(revision, assigned, false);
        tracing::info!(revision, members, "zones that people assigned are in force");
        let kept = {
            let last_known = self.last_known.clone();
            tokio::task::spawn_blocking(move || last_known.keep(&KeptZones::new(zones))).await
        };
        if let Ok(Err(error)) = kept {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                path = %self.last_known.path().display(),
                "the zones cannot be kept on disk: without the orchestrator, the next start would know none, or older ones"
            );
        }
    }

    /// Goes by what is kept on disk, if nothing is known.
    async fn use_last_known(&self) {
        if self.current().is_some() {
            return;
        }
        let last_known = self.last_known.clone();
        let path = last_known.path().display().to_string();
        match tokio::task::spawn_blocking(move || last_known.read()).await {
            Ok(Ok(kept)) => {
                let revision = kept.zones.revision;
                tracing::warn!(
                    revision,
                    path,
                    "the orchestrator's zones cannot be had: those known last are in force"
                );
                self.swap(revision, kept.zones.members.into_iter().collect(), true);
            }
            Ok(Err(Unusable::Nothing)) => tracing::warn!(
                path,
                "no last-known zones are kept: every command is refused until the orchestrator can be reached"
            ),
            Ok(Err(error)) => tracing::error!(
                error = &error as &dyn std::error::Error,
                path,
                "the last-known zones are not used: every command is refused until the orchestrator can be reached"
            ),
            Err(_) => {}
        }
    }

    fn swap(&self, revision: i64, assigned: AssignedZones, from_disk: bool) {
        let known = Known {
            revision,
            assigned,
            generation: self.generation.fetch_add(1, Ordering::AcqRel),
            placed: self.placed.clone(),
        };
        self.known.store(Some(Arc::new(known)));
        self.unconfirmed.store(from_disk, Ordering::Release);
        self.swaps.send_modify(|count| *count += 1);
    }
}

/// Asks the orchestrator. One that is older than zones, and has no such route, has none.
async fn ask(orchestrator: &contract::Client) -> Result<GatewayZones, contract::Error> {
    let missing = match orchestrator.gateway_zones().await {
        Err(error) if contract::client::is_not_found(&error) => error,
        answered => return answered,
    };
    tracing::debug!(%missing, "the orchestrator may not know of zones");
    // A proxy without an orchestrator behind it says the same: that is no answer.
    orchestrator.health().await?;
    match orchestrator.gateway_zones().await {
        Err(error) if contract::client::is_not_found(&error) => Ok(GatewayZones::default()),
        answered => answered,
    }
}

#[cfg(test)]
mod tests {
    use contract::zones::ZoneMember;

    use super::*;

    fn zones(revision: i64, members: &[(&str, Option<&str>, &str)]) -> GatewayZones {
        let members = members.iter().map(|(service, command, zone)| ZoneMember {
            service: service.parse().unwrap(),
            command: command.map(|command| command.parse().unwrap()),
            zone: zone.parse().unwrap(),
        });
        GatewayZones {
            revision,
            members: members.collect(),
        }
    }

    fn catalog() -> handlers::Catalog {
        handlers::Catalog::load(&|_| None).unwrap()
    }

    fn target(catalog: &handlers::Catalog, name: &str) -> Arc<Target> {
        let service = catalog.service("coolify").unwrap();
        let command = service.commands.iter().find(|one| one.name == name);
        Arc::clone(&command.unwrap().target)
    }

    fn in_folder(folder: &tempfile::TempDir) -> Zones {
        Zones::new(LastKnownGood::new(folder.path().join("state/zones.json")))
    }

    #[tokio::test]
    async fn a_command_is_the_same_one_until_something_about_it_changes() {
        let folder = tempfile::tempdir().unwrap();
        let zones_of = in_folder(&folder);
        let catalog = catalog();
        let (list, deploy) = (
            target(&catalog, "list-servers"),
            target(&catalog, "delete-server"),
        );
        let place = |base| Arc::clone(zones_of.current().unwrap().place(base).target());

        zones_of.take(zones(1, &[("github", None, "pci")])).await;
        assert!(
            Arc::ptr_eq(&place(&list), &list),
            "nothing is assigned to it"
        );

        zones_of
            .take(zones(2, &[("coolify", Some("list-servers"), "pci")]))
            .await;
        let placed = place(&list);
        assert_eq!(placed.zones.len(), list.zones.len() + 1);
        assert!(Arc::ptr_eq(&place(&list), &placed));
        assert!(Arc::ptr_eq(&place(&deploy), &deploy), "it is another's");

        // Of another service: this one is as it was.
        let both = [
            ("coolify", Some("list-servers"), "pci"),
            ("github", None, "pci"),
        ];
        zones_of.take(zones(3, &both)).await;
        assert!(Arc::ptr_eq(&place(&list), &placed));

        // The catalog was loaded anew: the same, and then another under the same name.
        let again = Arc::new(Target::clone(&list));
        assert!(Arc::ptr_eq(&place(&again), &placed));
        let other = Arc::new(Target {
            pinned: !list.pinned,
            ..Target::clone(&list)
        });
        assert_eq!(place(&other).pinned, other.pinned);
        assert_eq!(place(&other).zones, placed.zones);

        zones_of.take(zones(4, &[])).await;
        assert!(Arc::ptr_eq(&place(&list), &list));

        // An older answer is told from a newer one by its contents, not by its number.
        zones_of.take(zones(4, &[("coolify", None, "pci")])).await;
        assert_eq!(
            place(&list).service.zones.len(),
            list.service.zones.len() + 1
        );
    }

    #[tokio::test]
    async fn what_is_kept_is_used_once_if_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let first = in_folder(&folder);
        assert!(first.current().is_none());
        first.use_last_known().await;
        assert!(first.current().is_none(), "nothing was kept");
        first.take(zones(7, &[("coolify", None, "pci")])).await;
        assert!(!first.is_last_known());

        let again = in_folder(&folder);
        again.use_last_known().await;
        let known = again.current().unwrap();
        assert_eq!((known.revision(), again.is_last_known()), (7, true));
        assert!(known.assigned.concern(&"coolify".parse().unwrap()));
        // The orchestrator says that it is right.
        again.take(zones(7, &[("coolify", None, "pci")])).await;
        assert!(!again.is_last_known());
        // What is on disk is not gone back to.
        again.take(zones(8, &[])).await;
        again.use_last_known().await;
        assert_eq!(again.current().unwrap().revision(), 8);

        let path = folder.path().join("state/zones.json");
        first.take(zones(9, &[("coolify", None, "pci")])).await;
        let whole = std::fs::read_to_string(&path).unwrap();
        for damaged in [
            whole.replace("pci", "pc1"),
            whole.replace('9', "8"),
            "{}".to_owned(),
        ] {
            assert_ne!(damaged, whole);
            std::fs::write(&path, damaged).unwrap();
            let zones = in_folder(&folder);
            zones.use_last_known().await;
            assert!(zones.current().is_none());
        }
    }
}
