-- People: the sessions of their browsers, second factors, who they are elsewhere.

-- When whoever holds the credential last proved a second factor with it.
ALTER TABLE tokens ADD COLUMN confirmed BIGINT;

-- A browser's session: the digest of its cookie, never the cookie. One that a credential
-- opened is as good as that credential, and no longer.
CREATE TABLE sessions (
    id TEXT PRIMARY KEY,
    digest TEXT NOT NULL UNIQUE,
    user_id TEXT NOT NULL REFERENCES users (id),
    method TEXT NOT NULL CHECK (method IN ('token', 'oidc', 'bootstrap')),
    token TEXT REFERENCES tokens (id),
    address TEXT,
    browser TEXT NOT NULL,
    created BIGINT NOT NULL,
    expires BIGINT NOT NULL,
    idle BIGINT NOT NULL CHECK (idle > 0),
    last_used BIGINT NOT NULL,
    confirmed BIGINT,
    ended BIGINT,
    CHECK ((method = 'token') = (token IS NOT NULL))
);

CREATE INDEX sessions_user ON sessions (user_id, created);

-- Who a person is at a provider of identities. Each is one user of ours, and a user is
-- one person there.
CREATE TABLE identities (
    issuer TEXT NOT NULL,
    subject TEXT NOT NULL,
    user_id TEXT NOT NULL REFERENCES users (id),
    linked BIGINT NOT NULL,
    PRIMARY KEY (issuer, subject),
    UNIQUE (issuer, user_id)
);

-- At most one device that shows codes, and perhaps the one that is to replace it.
CREATE TABLE second_factors (
    user_id TEXT PRIMARY KEY REFERENCES users (id),
    secret TEXT,
    enrolled BIGINT,
    step BIGINT NOT NULL,
    pending TEXT,
    pending_since BIGINT,
    CHECK ((secret IS NULL) = (enrolled IS NULL)),
    CHECK ((pending IS NULL) = (pending_since IS NULL))
);

CREATE TABLE recovery_codes (
    user_id TEXT NOT NULL REFERENCES users (id),
    digest TEXT NOT NULL,
    used BIGINT,
    PRIMARY KEY (user_id, digest)
);

-- Wrong codes, counted by what the login began with: whoever guesses with a stolen
-- credential does not stand in the way of the same person elsewhere.
CREATE TABLE wrong_codes (
    user_id TEXT NOT NULL REFERENCES users (id),
    origin TEXT NOT NULL,
    failures BIGINT NOT NULL CHECK (failures >= 1),
    blocked_until BIGINT NOT NULL,
    PRIMARY KEY (user_id, origin)
);
