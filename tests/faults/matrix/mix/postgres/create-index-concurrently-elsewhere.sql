-- class: CREATE INDEX CONCURRENTLY elsewhere

-- file
CREATE SCHEMA app;
CREATE TABLE app.t (id int, x int);
INSERT INTO app.t SELECT n, n FROM generate_series(1, 20000) AS n;

-- file: no transaction
SET search_path TO app, public;
CREATE INDEX CONCURRENTLY IF NOT EXISTS t_x ON t (x);

-- file
CREATE TABLE after (id int PRIMARY KEY);
INSERT INTO after VALUES (1), (2);
