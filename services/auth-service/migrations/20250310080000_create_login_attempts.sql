-- +goose Up

-- Partitioned by quarter so that old attempts leave by dropping a partition, not by a DELETE that
-- autovacuum has to clean up after.
CREATE TABLE login_attempts (
    id TEXT NOT NULL DEFAULT uuid_generate_v7()::text,
    -- No foreign key: an attempt with an unknown address is the one that is worth keeping.
    email TEXT NOT NULL,
    user_id TEXT,
    succeeded BOOLEAN NOT NULL,
    failure_reason TEXT,
    ip_address INET,
    attempted_at TIMESTAMPTZ(6) NOT NULL DEFAULT now(),
    PRIMARY KEY (attempted_at, id),
    CONSTRAINT login_attempts_failure_has_reason CHECK (succeeded OR failure_reason IS NOT NULL)
) PARTITION BY RANGE (attempted_at);

CREATE TABLE login_attempts_2025_q1 PARTITION OF login_attempts
    FOR VALUES FROM ('2025-01-01 00:00:00+00') TO ('2025-04-01 00:00:00+00');
CREATE TABLE login_attempts_2025_q2 PARTITION OF login_attempts
    FOR VALUES FROM ('2025-04-01 00:00:00+00') TO ('2025-07-01 00:00:00+00');

-- The default partition catches what no quarter covers, so that a forgotten partition never stops a login.
CREATE TABLE login_attempts_default PARTITION OF login_attempts DEFAULT;

CREATE INDEX login_attempts_email_idx ON login_attempts (lower(email), attempted_at DESC);

-- +goose Down
DROP TABLE IF EXISTS login_attempts;
