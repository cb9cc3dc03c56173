//! `cedargate services zones`: what people put into zones, at the orchestrator.

use contract::zones::{ZoneAssignments, ZoneMember};

use super::Context;
use crate::{
    arguments::{ZoneChange, Zones},
    client::Answer,
    output::{Output, time},
};

pub(super) async fn run(context: &Context, command: Zones) -> anyhow::Result<()> {
    let client = context.client();
    match command {
        Zones::List { service } => {
            let mut zones = client.zones().await.of(&context.remote)?;
            if let Some(service) = service {
                zones.assigned.retain(|one| one.member.service == service);
            }
            context.output.print(&zones, |output| table(output, &zones))
        }
        Zones::Add(change) => {
            let (member, revision) = wanted(change);
            let zones = client.add_zone_member(&member, revision).await;
            let zones = zones.of(&context.remote)?;
            context.output.print(&zones, |_| {
                format!("{} is in zone {}", what(&member), member.zone)
            })
        }
        Zones::Remove(change) => {
            let (member, revision) = wanted(change);
            let zones = client.remove_zone_member(&member, revision).await;
            let zones = zones.of(&context.remote)?;
            context.output.print(&zones, |_| {
                format!(
                    "nobody puts {} into zone {} any more",
                    what(&member),
                    member.zone
                )
            })
        }
    }
}

fn wanted(change: ZoneChange) -> (ZoneMember, Option<i64>) {
    let member = ZoneMember {
        service: change.what.service,
        command: change.what.command,
        zone: change.zone,
    };
    (member, change.if_revision)
}

/// As it is written on the command line.
fn what(member: &ZoneMember) -> String {
    match &member.command {
        Some(command) => format!("{}/{command}", member.service),
        None => member.service.to_string(),
    }
}

fn table(output: Output, zones: &ZoneAssignments) -> String {
    let revision = format!("revision {}", zones.revision);
    if zones.assigned.is_empty() {
        return format!("nobody put anything into a zone; {revision}");
    }
    let table = output.table(
        &["what", "zone", "by", "since"],
        zones.assigned.iter().map(|one| {
            vec![
                what(&one.member),
                one.member.zone.to_string(),
                one.by.clone(),
                time(one.at),
            ]
        }),
    );
    format!("{table}\n\n{revision}")
}
