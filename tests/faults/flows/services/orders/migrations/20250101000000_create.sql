-- +goose Up
CREATE TABLE orders (id bigint PRIMARY KEY, amount bigint NOT NULL);
CREATE TABLE ledger (order_id bigint NOT NULL, amount bigint NOT NULL);
CREATE TABLE totals (name text PRIMARY KEY, amount bigint NOT NULL);
INSERT INTO orders SELECT n, n * 3 FROM generate_series(1, 500) AS n;
INSERT INTO totals VALUES ('all', 0);
-- +goose Down
DROP TABLE totals, ledger, orders;
