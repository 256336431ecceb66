-- +goose NO TRANSACTION
-- +goose Up

-- text_pattern_ops serves the prefix search of the support desk in every collation.
CREATE INDEX CONCURRENTLY IF NOT EXISTS profiles_full_name_idx ON profiles (lower(full_name) text_pattern_ops);

-- +goose Down
DROP INDEX CONCURRENTLY IF EXISTS profiles_full_name_idx;
