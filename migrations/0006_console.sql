-- What the pages for operators read: catalogs of gateways, an audit trail that can be
-- searched, and counters, so that looking at a week does not mean reading its journals.

-- What each gateway can carry out, as it said last.
CREATE TABLE gateway_catalogs (
    gateway TEXT PRIMARY KEY,
    digest TEXT NOT NULL,
    said BIGINT NOT NULL,
    catalog TEXT NOT NULL
);

-- The service of a line's command; its decision's id; what was decided (permitted,
-- refused, pending, rejected) or how it ended (success, error, unknown).
ALTER TABLE audit ADD COLUMN service TEXT;
ALTER TABLE audit ADD COLUMN decision TEXT;
ALTER TABLE audit ADD COLUMN outcome TEXT;

-- A command is `service/name`. Of older lines no more can be told without reading JSON,
-- which SQL does differently in each database: they have no decision, and an outcome only
-- where their kind says it.
UPDATE audit
    SET service = RTRIM(RTRIM(command, REPLACE(command, '/', '')), '/')
    WHERE command LIKE '%/%';
UPDATE audit SET outcome = 'permitted' WHERE kind = 'intent' AND source = 'gateway';

-- People read the trail by time, newest first; each way to look at it has an index that
-- gives this order. What most lines have in common is found without one.
DROP INDEX audit_happened;
CREATE INDEX audit_time ON audit (happened, id);
CREATE INDEX audit_agent_time ON audit (agent, happened, id) WHERE agent IS NOT NULL;
CREATE INDEX audit_command_time ON audit (command, happened, id) WHERE command IS NOT NULL;
CREATE INDEX audit_service_time ON audit (service, happened, id) WHERE service IS NOT NULL;
CREATE INDEX audit_user_time ON audit (user_id, happened, id) WHERE user_id IS NOT NULL;
CREATE INDEX audit_kind_time ON audit (kind, happened, id) WHERE source = 'orchestrator';
CREATE INDEX audit_outcome_time ON audit (outcome, happened, id)
    WHERE outcome IS NOT NULL AND outcome <> 'permitted' AND outcome <> 'success';
CREATE INDEX audit_decision ON audit (decision) WHERE decision IS NOT NULL;

-- How often something happened in a minute, in ten minutes, in an hour: each time counts
-- in all three. Written with the journal lines that it is counted from.
CREATE TABLE activity (
    measure TEXT NOT NULL,
    slot BIGINT NOT NULL CHECK (slot > 0),
    begins BIGINT NOT NULL,
    name TEXT NOT NULL,
    times BIGINT NOT NULL CHECK (times > 0),
    PRIMARY KEY (measure, slot, begins, name)
);

CREATE INDEX activity_age ON activity (slot, begins);

-- The grants that are good now.
CREATE INDEX grants_expires ON grants (expires) WHERE revoked IS NULL AND spent IS NULL;
