-- +goose Up
CREATE TABLE visits (id UInt64, amount Int64) ENGINE = MergeTree ORDER BY id;
CREATE TABLE ledger (visit_id UInt64, amount Int64) ENGINE = MergeTree ORDER BY visit_id;
CREATE TABLE totals (name String, amount Int64) ENGINE = MergeTree ORDER BY name;
INSERT INTO visits SELECT number, number * 3 FROM numbers(500);
INSERT INTO totals VALUES ('all', 0);
-- +goose Down
DROP TABLE totals;
DROP TABLE ledger;
DROP TABLE visits;
