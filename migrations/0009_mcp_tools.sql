-- The definitions of MCP servers' tools that somebody reviewed: a tool may be called while
-- its definition has this digest. What gateways see now stands in their catalogs.

CREATE TABLE mcp_tools (
    service TEXT NOT NULL,
    tool TEXT NOT NULL,
    digest TEXT NOT NULL,
    definition TEXT NOT NULL,
    reviewer TEXT NOT NULL,
    reviewed BIGINT NOT NULL,
    PRIMARY KEY (service, tool)
);
