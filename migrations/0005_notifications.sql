-- Notifications: where they go, what waits to be sent, and which accounts elsewhere are
-- which people here.

-- `settings` is what may be shown. `sealed` is what may not: encrypted before it comes here.
CREATE TABLE notification_targets (
    name TEXT PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind IN ('webhook', 'slack', 'email')),
    settings TEXT NOT NULL,
    sealed TEXT NOT NULL,
    enabled BIGINT NOT NULL CHECK (enabled IN (0, 1)),
    created BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    failures BIGINT NOT NULL CHECK (failures >= 0),
    open_until BIGINT,
    last_error TEXT,
    last_delivered BIGINT
);

-- The outbox. A message is added to as long as it is waiting and has no body yet: its
-- body is made at the first attempt, and is the same at every further one.
CREATE TABLE notification_messages (
    id TEXT PRIMARY KEY,
    place BIGINT NOT NULL UNIQUE,
    target TEXT NOT NULL REFERENCES notification_targets (name),
    bucket TEXT NOT NULL,
    items TEXT NOT NULL,
    body TEXT,
    created BIGINT NOT NULL,
    due BIGINT NOT NULL,
    attempts BIGINT NOT NULL CHECK (attempts >= 0),
    status TEXT NOT NULL CHECK (status IN ('waiting', 'delivered', 'dropped', 'dead')),
    last_error TEXT,
    ended BIGINT,
    CHECK ((status = 'waiting') = (ended IS NULL))
);

CREATE INDEX notification_messages_due ON notification_messages (status, target, due, place);

-- One row: which process plans and sends, until when, and how far in the feed it is.
CREATE TABLE notification_sender (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    holder TEXT NOT NULL,
    held_until BIGINT NOT NULL,
    planned BIGINT NOT NULL
);

INSERT INTO notification_sender (id, holder, held_until, planned)
    SELECT 1, '', 0, sequence FROM feed_head;

-- What was said already, so that it is not said again.
CREATE TABLE notification_marks (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL,
    marked BIGINT NOT NULL
);

-- Which account of a target's is which person here.
CREATE TABLE notification_accounts (
    target TEXT NOT NULL REFERENCES notification_targets (name),
    account TEXT NOT NULL,
    user_id TEXT NOT NULL REFERENCES users (id),
    linked BIGINT NOT NULL,
    linked_by TEXT NOT NULL,
    PRIMARY KEY (target, account)
);

-- Callbacks that were taken: each is good once.
CREATE TABLE notification_callbacks (
    digest TEXT PRIMARY KEY,
    taken BIGINT NOT NULL
);

CREATE INDEX notification_callbacks_taken ON notification_callbacks (taken);
