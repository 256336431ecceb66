-- +goose Up

-- Keeps the way from an old identifier to the account that took it over, for other services' references.
CREATE TABLE account_merges (
    id TEXT PRIMARY KEY DEFAULT uuid_generate_v7()::text,
    source_account_id TEXT NOT NULL,
    target_account_id TEXT NOT NULL REFERENCES accounts (id) ON DELETE RESTRICT,
    reason TEXT NOT NULL DEFAULT '',
    merged_at TIMESTAMPTZ(6) NOT NULL DEFAULT now(),
    CONSTRAINT account_merges_source_key UNIQUE (source_account_id),
    CONSTRAINT account_merges_differ CHECK (source_account_id <> target_account_id)
);

CREATE INDEX account_merges_target_idx ON account_merges (target_account_id);

-- +goose StatementBegin
CREATE FUNCTION resolve_account(account TEXT)
RETURNS text
LANGUAGE sql
STABLE
AS $$
  WITH RECURSIVE chain (account_id, depth) AS (
    SELECT account, 0
    UNION ALL
    SELECT m.target_account_id, c.depth + 1
    FROM chain AS c
    JOIN account_merges AS m ON m.source_account_id = c.account_id
    WHERE c.depth < 16
  )
  SELECT account_id FROM chain ORDER BY depth DESC LIMIT 1;
$$;
-- +goose StatementEnd

-- +goose Down
DROP FUNCTION IF EXISTS resolve_account(TEXT);
DROP TABLE IF EXISTS account_merges;
