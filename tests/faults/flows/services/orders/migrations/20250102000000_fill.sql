-- +goose Up
UPDATE totals SET amount = amount + 1;
INSERT INTO ledger SELECT id, amount FROM orders WHERE pg_sleep(0.01) IS NOT NULL;
UPDATE totals SET amount = amount + (SELECT sum(amount) FROM ledger);
-- +goose Down
SELECT 1;
