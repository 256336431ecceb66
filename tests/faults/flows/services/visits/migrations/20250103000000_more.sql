-- +goose Up
INSERT INTO ledger SELECT id, -amount FROM visits;
ALTER TABLE totals UPDATE amount = amount + 100 WHERE 1;
ALTER TABLE ledger ADD COLUMN seen UInt8 DEFAULT 1;
-- +goose Down
ALTER TABLE ledger DROP COLUMN seen;
