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

-- Severities are looked up for every row that is shown: a dictionary keeps them in memory. It reads from
-- its own server and therefore holds no password.
-- +goose StatementBegin
CREATE DICTIONARY IF NOT EXISTS ${CLICKHOUSE_DATABASE}.action_severity (
    action String,
    severity UInt8 DEFAULT 1
)
PRIMARY KEY action
SOURCE(CLICKHOUSE(DB '${CLICKHOUSE_DATABASE}' TABLE 'action_severities_local'))
LAYOUT(COMPLEX_KEY_HASHED())
LIFETIME(MIN 300 MAX 600);
-- +goose StatementEnd

-- +goose StatementBegin
CREATE VIEW IF NOT EXISTS ${CLICKHOUSE_DATABASE}.security_events AS
SELECT *, dictGet('${CLICKHOUSE_DATABASE}.action_severity', 'severity', action) AS severity
FROM ${CLICKHOUSE_DATABASE}.audit_events
WHERE severity >= 2 OR outcome = 'denied';
-- +goose StatementEnd

-- +goose Down
DROP VIEW IF EXISTS ${CLICKHOUSE_DATABASE}.security_events;
DROP DICTIONARY IF EXISTS ${CLICKHOUSE_DATABASE}.action_severity;
DROP TABLE IF EXISTS ${CLICKHOUSE_DATABASE}.action_severities_local;
