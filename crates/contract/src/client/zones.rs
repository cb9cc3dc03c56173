//! Zones that people put services and commands into.

use http::Method;

use super::Client;
use crate::{
    error::Error,
    zones::{GatewayZones, ZoneAssignments, ZoneMember},
};

impl Client {
    /// What gateways add to what they describe themselves; 404 from an orchestrator that
    /// does not know of it.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn gateway_zones(&self) -> Result<GatewayZones, Error> {
        self.get("/api/gateway/zones").await
    }

    /// Everything that people put into zones.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn zones(&self) -> Result<ZoneAssignments, Error> {
        self.get("/api/zones").await
    }

    /// Puts a service or a command into a zone; what is there already stays. With a
    /// revision only if zones are at it still, else 412.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`]; 404 if no gateway has told of it.
    pub async fn add_zone_member(
        &self,
        member: &ZoneMember,
        revision: Option<i64>,
    ) -> Result<ZoneAssignments, Error> {
        self.call_if(Method::PUT, &member.path(), None::<&()>, revision)
            .await
    }

    /// Takes a service or a command out of a zone, in the same way; what is not there is
    /// no error.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`]; 409 if it is there for another reason.
    pub async fn remove_zone_member(
        &self,
        member: &ZoneMember,
        revision: Option<i64>,
    ) -> Result<ZoneAssignments, Error> {
        self.call_if(Method::DELETE, &member.path(), None::<&()>, revision)
            .await
    }
}
