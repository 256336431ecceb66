-- +goose ENVSUB ON
-- +goose Up
-- +goose StatementBegin
CREATE TABLE IF NOT EXISTS ${CLICKHOUSE_DATABASE}.action_severities_local (
    action String,
    severity UInt8,
    description String DEFAULT '',
    updated_at DateTime64(3) DEFAULT now64(3)
) ENGINE = ReplacingMergeTree(updated_at)
ORDER BY action;
-- +goose StatementEnd

-- +goose StatementBegin
INSERT INTO ${CLICKHOUSE_DATABASE}.action_severities_local (action, severity, description) VALUES
    ('login.failed', 2, 'A password or a second factor was wrong'),
    ('role.granted', 3, 'Somebody may do more than before'),
    ('audit.exported', 4, 'Audit data left the platform; always worth a look');
-- +goose StatementEnd

-- A join, although a dictionary would be quicker: a dictionary logs in to its own server, and credentials have
-- no place in a file. GLOBAL reads the few severities once instead of on every shard.
-- +goose StatementBegin
CREATE VIEW IF NOT EXISTS ${CLICKHOUSE_DATABASE}.security_events AS
SELECT
    e.occurred_at AS occurred_at,
    e.tenant_id AS tenant_id,
    e.actor_id AS actor_id,
    e.action AS action,
    e.resource_type AS resource_type,
    e.resource_id AS resource_id,
    e.outcome AS outcome,
    greatest(s.severity, 1) AS severity
FROM ${CLICKHOUSE_DATABASE}.audit_events AS e
GLOBAL ANY LEFT JOIN ${CLICKHOUSE_DATABASE}.action_severities_local AS s ON s.action = e.action
WHERE s.severity >= 2 OR e.outcome = 'denied';
-- +goose StatementEnd

-- +goose Down
DROP VIEW IF EXISTS ${CLICKHOUSE_DATABASE}.security_events;
DROP TABLE IF EXISTS ${CLICKHOUSE_DATABASE}.action_severities_local;
