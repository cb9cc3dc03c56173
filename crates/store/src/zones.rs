//! Zones that people put services and commands into.
//!
//! All of them have one revision: two people who change zones at once may each rely on what
//! they saw, and a gateway that has a revision has everything of it.

use authz::{CommandKey, CommandName, ServiceName, ZoneName, time::Timestamp};
use serde_json::json;

use crate::{
    Actor, Store, StoreError,
    column::{parsed, row, statements},
    database::{on, within},
    feed::Change,
    write::{Record, Write},
};

/// Something that is in a zone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ZoneMember {
    /// The service.
    pub service: ServiceName,
    /// One command of it; absent for the whole service.
    pub command: Option<CommandName>,
    /// The zone.
    pub zone: ZoneName,
}

impl std::fmt::Display for ZoneMember {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            service,
            command,
            zone,
        } = self;
        match command {
            Some(command) => write!(f, "command `{service}/{command}` in zone `{zone}`"),
            None => write!(f, "service `{service}` in zone `{zone}`"),
        }
    }
}

/// A member, and who made it one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneAssignment {
    /// What is in which zone.
    pub member: ZoneMember,
    /// The person, or how it came to be.
    pub by: String,
    /// Since when.
    pub at: Timestamp,
}

/// All members of all zones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneAssignments {
    /// How often they were changed, from 1.
    pub revision: i64,
    /// By service, command and zone; whole services first.
    pub assigned: Vec<ZoneAssignment>,
}

impl ZoneAssignments {
    /// Whether it is there.
    #[must_use]
    pub fn has(&self, member: &ZoneMember) -> bool {
        self.assigned
            .binary_search_by(|one| one.member.cmp(member))
            .is_ok()
    }
}

statements! {
    // One statement, so that revision and members are of one moment.
    ALL = "
        SELECT r.revision, m.service, m.command, m.zone, m.added, m.added_by
        FROM zone_revision r LEFT JOIN zone_members m ON r.id = 1
        WHERE r.id = 1";
    INSERT = "
        INSERT INTO zone_members (service, command, zone, added, added_by)
        VALUES ($1, $2, $3, $4, $5)";
    DELETE = "DELETE FROM zone_members WHERE service = $1 AND command = $2 AND zone = $3";
    RAISE = "UPDATE zone_revision SET revision = revision + 1 WHERE id = 1 RETURNING revision";
}

row! {
    /// The revision beside one member, if there is any.
    MemberRow {
        revision: i64,
        service: Option<String>,
        command: Option<String>,
        zone: Option<String>,
        added: Option<i64>,
        added_by: Option<String>,
    }
}

impl MemberRow {
    fn assignment(self) -> Result<Option<ZoneAssignment>, StoreError> {
        let (Some(service), Some(command), Some(zone), Some(added), Some(by)) = (
            self.service,
            self.command,
            self.zone,
            self.added,
            self.added_by,
        ) else {
            return Ok(None);
        };
        let command = match command.as_str() {
            "" => None,
            name => Some(parsed("member of a zone", name)?),
        };
        Ok(Some(ZoneAssignment {
            member: ZoneMember {
                service: parsed("member of a zone", &service)?,
                command,
                zone: parsed("member of a zone", &zone)?,
            },
            by,
            at: Timestamp::from_millis(added),
        }))
    }
}

fn gather(rows: Vec<MemberRow>) -> Result<ZoneAssignments, StoreError> {
    let revision = rows.first().map(|row| row.revision);
    let revision = revision.ok_or_else(|| StoreError::Corrupt {
        what: "revision of the zones",
        why: "there is none".to_owned(),
    })?;
    let mut assigned = Vec::new();
    for row in rows {
        assigned.extend(row.assignment()?);
    }
    // Here, since the engines order text differently.
    assigned.sort_by(|one, other| one.member.cmp(&other.member));
    Ok(ZoneAssignments { revision, assigned })
}

/// All of them, read within a write.
pub(crate) async fn find(write: &mut Write) -> Result<ZoneAssignments, StoreError> {
    let rows: Vec<MemberRow> = within!(write, |c| sqlx::query_as(ALL).fetch_all(c).await?);
    gather(rows)
}

/// What is done about a member.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    There,
    Gone,
}

impl Store {
    /// All members of all zones.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn zones(&self) -> Result<ZoneAssignments, StoreError> {
        let rows: Vec<MemberRow> = on!(self, |pool| sqlx::query_as(ALL).fetch_all(pool).await?);
        gather(rows)
    }

    /// Puts a service or a command into a zone, unless it is there; gives back all members.
    /// Nothing happens if `permitted`, which gets them as they are under the lock, refuses.
    /// Event: `ZonesChanged`, if it was not there.
    ///
    /// # Errors
    ///
    /// When the database fails, and those of `permitted`.
    pub async fn add_zone_member<E: From<StoreError>>(
        &self,
        member: &ZoneMember,
        actor: &Actor,
        permitted: impl FnOnce(&ZoneAssignments) -> Result<(), E> + Send,
    ) -> Result<ZoneAssignments, E> {
        self.change_zones(member, Wanted::There, actor, permitted)
            .await
    }

    /// Takes a service or a command out of a zone, if it is there, in the same way.
    ///
    /// # Errors
    ///
    /// As [`Store::add_zone_member`].
    pub async fn remove_zone_member<E: From<StoreError>>(
        &self,
        member: &ZoneMember,
        actor: &Actor,
        permitted: impl FnOnce(&ZoneAssignments) -> Result<(), E> + Send,
    ) -> Result<ZoneAssignments, E> {
        self.change_zones(member, Wanted::Gone, actor, permitted)
            .await
    }

    async fn change_zones<E: From<StoreError>>(
        &self,
        member: &ZoneMember,
        wanted: Wanted,
        actor: &Actor,
        permitted: impl FnOnce(&ZoneAssignments) -> Result<(), E> + Send,
    ) -> Result<ZoneAssignments, E> {
        let mut write = self.write(actor).await?;
        let before = find(&mut write).await?;
        if let Err(error) = permitted(&before) {
            write.abandon().await?;
            return Err(error);
        }
        if before.has(member) == (wanted == Wanted::There) {
            write.abandon().await?;
            return Ok(before);
        }
        Ok(save(write, before, member, wanted).await?)
    }
}

async fn save(
    mut write: Write,
    before: ZoneAssignments,
    member: &ZoneMember,
    wanted: Wanted,
) -> Result<ZoneAssignments, StoreError> {
    let ZoneAssignments { mut assigned, .. } = before;
    let command = member.command.as_ref().map_or("", CommandName::as_str);
    match wanted {
        Wanted::There => {
            let (by, at) = (write.by().to_owned(), write.at());
            within!(write, |c| sqlx::query(INSERT)
                .bind(member.service.as_str())
                .bind(command)
                .bind(member.zone.as_str())
                .bind(at.as_millis())
                .bind(&by)
                .execute(c)
                .await
                .map(drop)?);
            let place = assigned.partition_point(|one| one.member < *member);
            let member = member.clone();
            assigned.insert(place, ZoneAssignment { member, by, at });
        }
        Wanted::Gone => {
            within!(write, |c| sqlx::query(DELETE)
                .bind(member.service.as_str())
                .bind(command)
                .bind(member.zone.as_str())
                .execute(c)
                .await
                .map(drop)?);
            assigned.retain(|one| one.member != *member);
        }
    }
    let (revision,): (i64,) = within!(write, |c| sqlx::query_as(RAISE).fetch_one(c).await?);
    write.announce(&Change::ZonesChanged { revision }).await?;
    let key = member.command.as_ref().map(|name| CommandKey {
        service: member.service.clone(),
        name: name.clone(),
    });
    let record = Record {
        kind: match wanted {
            Wanted::There => "zone_added",
            Wanted::Gone => "zone_removed",
        },
        agent: None,
        command: key.as_ref(),
        details: json!({
            "service": member.service, "zone": member.zone, "revision": revision,
        }),
    };
    write.record_of(Some(&member.service), record).await?;
    write.commit().await?;
    Ok(ZoneAssignments { revision, assigned })
}

#[cfg(test)]
mod tests;
