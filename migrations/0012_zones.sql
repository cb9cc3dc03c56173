-- Zones that people put services and commands into, besides those that descriptions give.

-- One row: how often the members were changed, from 1. What `ETag` says of all of them.
CREATE TABLE zone_revision (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    revision BIGINT NOT NULL CHECK (revision >= 1)
);

INSERT INTO zone_revision (id, revision) VALUES (1, 1);

-- `command` is empty where the whole service is in the zone.
CREATE TABLE zone_members (
    service TEXT NOT NULL CHECK (service <> ''),
    command TEXT NOT NULL,
    zone TEXT NOT NULL CHECK (zone <> ''),
    added BIGINT NOT NULL,
    added_by TEXT NOT NULL CHECK (added_by <> ''),
    PRIMARY KEY (service, command, zone)
);
