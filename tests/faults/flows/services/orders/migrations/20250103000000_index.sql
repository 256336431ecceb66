-- +goose NO TRANSACTION
-- +goose Up
CREATE INDEX CONCURRENTLY ledger_amount ON ledger (amount);
INSERT INTO ledger SELECT id, -amount FROM orders;
-- +goose Down
DROP INDEX CONCURRENTLY ledger_amount;
