-- How often an agent or a user was changed, from 1: what `ETag` says and `If-Match` asks for,
-- so that of two people who change one at once the second is told instead of undoing the first.

ALTER TABLE agents ADD COLUMN revision BIGINT NOT NULL DEFAULT 1 CHECK (revision >= 1);
ALTER TABLE users ADD COLUMN revision BIGINT NOT NULL DEFAULT 1 CHECK (revision >= 1);
