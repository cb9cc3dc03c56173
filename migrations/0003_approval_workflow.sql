-- Who may never decide, as a rule of the tables; requests that are taken back; expiry
-- that stays when a clock goes back.

-- Empty where there is nobody. `owner` is the agent's owner where policy kept owners from
-- deciding when the request was opened. `asked` is JSON: what deciding the call again
-- needs; absent for requests from before this migration.
ALTER TABLE approvals ADD COLUMN requester TEXT NOT NULL DEFAULT '';
ALTER TABLE approvals ADD COLUMN owner TEXT NOT NULL DEFAULT '';
ALTER TABLE approvals ADD COLUMN asked TEXT;
-- Withdrawn: by which user, if it was not the agent itself, and why.
ALTER TABLE approvals ADD COLUMN withdrawn_by TEXT REFERENCES users (id);
ALTER TABLE approvals ADD COLUMN withdrawn_reason TEXT;

CREATE UNIQUE INDEX approvals_barred ON approvals (id, requester, owner);

-- One person decides once about one request, and neither the requester nor the owner does:
-- a verdict repeats who they are, as its request has it, so that a CHECK can say it.
CREATE TABLE verdicts_2 (
    approval TEXT NOT NULL,
    user_id TEXT NOT NULL REFERENCES users (id),
    place BIGINT NOT NULL CHECK (place >= 1),
    reach TEXT CHECK (reach IN ('once', 'call', 'command', 'service')),
    duration BIGINT CHECK (duration > 0),
    reason TEXT NOT NULL,
    decided BIGINT NOT NULL,
    requester TEXT NOT NULL,
    owner TEXT NOT NULL,
    -- How, and under which policy set; empty for verdicts from before this migration.
    via TEXT NOT NULL,
    policy_set TEXT NOT NULL,
    PRIMARY KEY (approval, user_id),
    UNIQUE (approval, place),
    FOREIGN KEY (approval, requester, owner) REFERENCES approvals (id, requester, owner),
    CHECK (user_id <> requester),
    CHECK (user_id <> owner),
    CHECK ((reach IS NULL) = (duration IS NULL))
);

INSERT INTO verdicts_2
    (approval, user_id, place, reach, duration, reason, decided, requester, owner, via, policy_set)
    SELECT approval, user_id, place, reach, duration, reason, decided, '', '', '', ''
    FROM verdicts;

DROP TABLE verdicts;
ALTER TABLE verdicts_2 RENAME TO verdicts;

-- Since when a grant is known to have expired: from then on whatever any clock says.
ALTER TABLE grants ADD COLUMN ended BIGINT;

CREATE INDEX grants_ending ON grants (expires)
    WHERE ended IS NULL AND revoked IS NULL AND spent IS NULL;
