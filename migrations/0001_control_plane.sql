-- What the control plane remembers. The same text runs on SQLite and PostgreSQL.
--
-- Ids are TEXT, times and durations BIGINT milliseconds, flags BIGINT 0 or 1, JSON is
-- TEXT. Every rule that the code relies on is a constraint as well: a second program,
-- or a mistake in ours, must not be able to approve twice.

-- One row. Every write begins by updating it: it is the lock and the order of all
-- writes, the head of the feed, and the head of the audit trail.
CREATE TABLE feed_head (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    sequence BIGINT NOT NULL CHECK (sequence >= 0),
    audit BIGINT NOT NULL CHECK (audit >= 0)
);

INSERT INTO feed_head (id, sequence, audit) VALUES (1, 0, 0);

CREATE TABLE feed (
    sequence BIGINT PRIMARY KEY,
    happened BIGINT NOT NULL,
    change TEXT NOT NULL
);

-- Gateways' journals and what people did, in one order. A journal line has a gateway,
-- its place in that gateway's chain and its hash; everything else has none of them.
CREATE TABLE audit (
    id BIGINT PRIMARY KEY,
    happened BIGINT NOT NULL,
    source TEXT NOT NULL CHECK (source IN ('gateway', 'orchestrator')),
    gateway TEXT,
    gateway_sequence BIGINT,
    hash TEXT,
    kind TEXT NOT NULL,
    agent TEXT,
    user_id TEXT,
    command TEXT,
    entry TEXT NOT NULL,
    CHECK ((source = 'gateway') = (gateway IS NOT NULL)),
    CHECK ((source = 'gateway') = (gateway_sequence IS NOT NULL)),
    CHECK ((source = 'gateway') = (hash IS NOT NULL))
);

CREATE UNIQUE INDEX audit_journal ON audit (gateway, gateway_sequence);
CREATE INDEX audit_agent ON audit (agent, id);
CREATE INDEX audit_command ON audit (command, id);
CREATE INDEX audit_happened ON audit (happened);

CREATE TABLE agents (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    owner TEXT,
    teams TEXT NOT NULL,
    roles TEXT NOT NULL,
    env TEXT NOT NULL CHECK (env IN ('dev', 'staging', 'prod')),
    trust BIGINT NOT NULL CHECK (trust BETWEEN 0 AND 255),
    suspended BIGINT NOT NULL CHECK (suspended IN (0, 1)),
    allowed_mcps TEXT NOT NULL,
    created BIGINT NOT NULL
);

CREATE TABLE users (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    teams TEXT NOT NULL,
    roles TEXT NOT NULL,
    active BIGINT NOT NULL CHECK (active IN (0, 1)),
    created BIGINT NOT NULL
);

-- Credentials of agents, credentials and sessions of users: the digest, never the secret.
CREATE TABLE tokens (
    id TEXT PRIMARY KEY,
    digest TEXT NOT NULL UNIQUE,
    agent TEXT REFERENCES agents (id),
    user_id TEXT REFERENCES users (id),
    label TEXT NOT NULL,
    created BIGINT NOT NULL,
    expires BIGINT,
    revoked BIGINT,
    last_used BIGINT,
    CHECK ((agent IS NULL) <> (user_id IS NULL))
);

CREATE INDEX tokens_agent ON tokens (agent, created);
CREATE INDEX tokens_user ON tokens (user_id, created);

CREATE TABLE policy_sets (
    version TEXT PRIMARY KEY,
    sources TEXT NOT NULL,
    findings TEXT NOT NULL,
    activated BIGINT NOT NULL,
    activated_by TEXT NOT NULL,
    active BIGINT NOT NULL CHECK (active IN (0, 1))
);

CREATE UNIQUE INDEX policy_sets_active ON policy_sets (active) WHERE active = 1;

CREATE TABLE approvals (
    id TEXT PRIMARY KEY,
    agent TEXT NOT NULL REFERENCES agents (id),
    command TEXT NOT NULL,
    digest TEXT NOT NULL,
    policy_set TEXT NOT NULL,
    ask TEXT NOT NULL,
    arguments TEXT NOT NULL,
    reason TEXT NOT NULL,
    policies TEXT NOT NULL,
    advice TEXT NOT NULL,
    workflow TEXT,
    opened BIGINT NOT NULL,
    expires BIGINT NOT NULL,
    status TEXT NOT NULL
        CHECK (status IN ('pending', 'approved', 'rejected', 'expired', 'withdrawn')),
    decided BIGINT,
    retry_at BIGINT,
    joined BIGINT NOT NULL CHECK (joined >= 0),
    grant_id TEXT,
    CHECK ((status = 'pending') = (decided IS NULL)),
    CHECK ((status = 'approved') = (grant_id IS NOT NULL)),
    CHECK ((status = 'rejected') = (retry_at IS NOT NULL))
);

CREATE UNIQUE INDEX approvals_pending ON approvals (agent, command, digest, policy_set)
    WHERE status = 'pending';
CREATE INDEX approvals_call ON approvals (agent, command, digest, status);
CREATE INDEX approvals_status ON approvals (status, opened);
CREATE INDEX approvals_opened ON approvals (opened);

-- One person decides once about one request.
CREATE TABLE verdicts (
    approval TEXT NOT NULL REFERENCES approvals (id),
    user_id TEXT NOT NULL REFERENCES users (id),
    place BIGINT NOT NULL CHECK (place >= 1),
    reach TEXT CHECK (reach IN ('once', 'call', 'command', 'service')),
    duration BIGINT CHECK (duration > 0),
    reason TEXT NOT NULL,
    decided BIGINT NOT NULL,
    PRIMARY KEY (approval, user_id),
    UNIQUE (approval, place),
    CHECK ((reach IS NULL) = (duration IS NULL))
);

CREATE TABLE grants (
    id TEXT PRIMARY KEY,
    agent TEXT NOT NULL REFERENCES agents (id),
    approval TEXT NOT NULL UNIQUE REFERENCES approvals (id),
    scope TEXT NOT NULL,
    risk TEXT NOT NULL CHECK (risk IN ('read', 'write', 'destroy')),
    issued BIGINT NOT NULL,
    expires BIGINT NOT NULL,
    first_user TEXT NOT NULL REFERENCES users (id),
    second_user TEXT REFERENCES users (id),
    single_use BIGINT NOT NULL CHECK (single_use IN (0, 1)),
    revoked BIGINT,
    spent BIGINT,
    spent_on TEXT,
    CHECK (issued < expires),
    CHECK (second_user IS NULL OR second_user <> first_user),
    CHECK (spent IS NULL OR single_use = 1),
    CHECK (spent IS NULL OR revoked IS NULL)
);

CREATE INDEX grants_agent ON grants (agent, expires);
