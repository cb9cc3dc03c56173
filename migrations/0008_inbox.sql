-- What the inbox groups, filters and sorts by, so that a page of it is read from indexes,
-- whatever the number of requests that wait or were decided.

ALTER TABLE approvals ADD COLUMN risk TEXT NOT NULL DEFAULT 'write'
    CHECK (risk IN ('read', 'write', 'destroy'));

-- Names of agents, services and people hold no quotes, so this is the target's risk.
UPDATE approvals SET risk = 'read' WHERE ask LIKE '%"risk":"read"%';
UPDATE approvals SET risk = 'destroy' WHERE ask LIKE '%"risk":"destroy"%';

-- `status` once more, so that SQLite need not look into the table for it.
CREATE INDEX approvals_waiting ON approvals (agent, command, opened, expires, risk, id, status)
    WHERE status = 'pending';
CREATE INDEX approvals_decided ON approvals (decided, id) WHERE status <> 'pending';
CREATE INDEX approvals_ended ON approvals (status, decided, id);
CREATE INDEX approvals_history ON approvals (agent, command, status, decided);
