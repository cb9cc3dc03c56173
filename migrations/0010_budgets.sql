-- How much of the day's budgets went through each gateway. A run of a gateway counts from
-- nothing, so each has its own rows, and the day's use is the sum of all.

CREATE TABLE budget_use (
    -- Days of UTC since 1970-01-01.
    day BIGINT NOT NULL,
    gateway TEXT NOT NULL CHECK (gateway <> ''),
    run TEXT NOT NULL CHECK (run <> ''),
    -- Empty: all services, all commands, all agents together.
    service TEXT NOT NULL,
    command TEXT NOT NULL,
    agent TEXT NOT NULL,
    calls BIGINT NOT NULL CHECK (calls >= 0),
    bytes BIGINT NOT NULL CHECK (bytes >= 0),
    calls_limit BIGINT,
    bytes_limit BIGINT,
    -- When it was said last, in milliseconds since 1970.
    said BIGINT NOT NULL,
    PRIMARY KEY (day, gateway, run, service, command, agent)
);

CREATE INDEX budget_use_by_agent ON budget_use (day, agent);
CREATE INDEX budget_use_by_service ON budget_use (day, service);
