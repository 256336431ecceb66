-- +goose Up
ALTER TABLE totals UPDATE amount = amount + 1 WHERE 1;
INSERT INTO ledger SELECT id, amount FROM visits WHERE sleepEachRow(0.01) = 0 SETTINGS function_sleep_max_microseconds_per_block = 30000000;
-- +goose Down
SELECT 1;
