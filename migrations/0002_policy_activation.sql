-- Versions of policy sets apart from their activations: a version is stored once, and
-- may be in force several times, or only be evaluated beside the one in force.

CREATE TABLE policy_sets_2 (
    version TEXT PRIMARY KEY,
    sources TEXT NOT NULL,
    findings TEXT NOT NULL,
    stored BIGINT NOT NULL,
    stored_by TEXT NOT NULL,
    stored_via TEXT NOT NULL,
    active BIGINT NOT NULL CHECK (active IN (0, 1))
);

-- What is known of versions stored before: by whom they were last put in force.
INSERT INTO policy_sets_2 (version, sources, findings, stored, stored_by, stored_via, active)
    SELECT version, sources, findings, activated, activated_by, activated_by, active
    FROM policy_sets;

-- Every time that a version was put in force.
CREATE TABLE policy_activations (
    id BIGINT PRIMARY KEY CHECK (id >= 1),
    version TEXT NOT NULL REFERENCES policy_sets_2 (version),
    kind TEXT NOT NULL CHECK (kind IN ('activated', 'rolled_back')),
    activated BIGINT NOT NULL,
    activated_by TEXT NOT NULL,
    via TEXT NOT NULL,
    reason TEXT NOT NULL
);

INSERT INTO policy_activations (id, version, kind, activated, activated_by, via, reason)
    SELECT (SELECT COUNT(*) FROM policy_sets AS earlier
            WHERE earlier.activated < policy_sets.activated
               OR (earlier.activated = policy_sets.activated AND earlier.version <= policy_sets.version)),
           version, 'activated', activated, activated_by, activated_by, ''
    FROM policy_sets;

-- At most one row: the folder's version that was last put in force, or would have been
-- had it not been in force already. The folder acts again when it holds something else.
CREATE TABLE policy_folder (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    version TEXT NOT NULL,
    taken BIGINT NOT NULL
);

INSERT INTO policy_folder (id, version, taken)
    SELECT 1, version, activated FROM policy_sets
    WHERE active = 1 AND activated_by = 'folder';

DROP TABLE policy_sets;
ALTER TABLE policy_sets_2 RENAME TO policy_sets;

CREATE UNIQUE INDEX policy_sets_active ON policy_sets (active) WHERE active = 1;

-- At most one row: the version that gateways evaluate beside the one in force.
CREATE TABLE policy_shadow (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    version TEXT NOT NULL REFERENCES policy_sets (version),
    since BIGINT NOT NULL,
    set_by TEXT NOT NULL
);

-- What each gateway said last about what it enforces, as JSON.
CREATE TABLE gateways (
    name TEXT PRIMARY KEY,
    seen BIGINT NOT NULL,
    status TEXT NOT NULL
);
