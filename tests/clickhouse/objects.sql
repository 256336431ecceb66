-- Objects of many kinds, one statement a line; {database} stands for the connected database.
CREATE TABLE simple (id UInt64, name String) ENGINE = MergeTree ORDER BY id
CREATE TABLE a (id UInt64, name String DEFAULT 'x' COMMENT 'say', n Nullable(Int32), lc LowCardinality(String), d Decimal(10,2), e Enum8('a'=1,'b'=2), dt DateTime64(3,'UTC') DEFAULT now64(3), m Map(String,UInt8), arr Array(Tuple(x Int8, y String)), c1 UInt8 MATERIALIZED id % 7, c2 String ALIAS upper(name), c3 String CODEC(ZSTD(3)), ttlc String TTL dt + INTERVAL 1 DAY, INDEX ix1 name TYPE bloom_filter(0.01) GRANULARITY 4, INDEX ix2 (id, n) TYPE minmax, PROJECTION p1 (SELECT name, count() GROUP BY name), PROJECTION p2 (SELECT * ORDER BY name), CONSTRAINT k1 CHECK id > 0) ENGINE = MergeTree PARTITION BY toYYYYMM(dt) ORDER BY (id, name) SAMPLE BY id TTL toDateTime(dt) + INTERVAL 30 DAY DELETE WHERE id % 2 = 0 SETTINGS index_granularity = 1024 COMMENT 'all of it'
CREATE TABLE pk (id UInt64, v INT, w VARCHAR(10), PRIMARY KEY id) ENGINE = ReplacingMergeTree(v)
CREATE TABLE nest (id UInt64, n Nested(a Int8, b String)) ENGINE = MergeTree ORDER BY tuple()
CREATE TABLE agg (k UInt64, s AggregateFunction(sum, UInt64), u SimpleAggregateFunction(max, UInt64), uq AggregateFunction(uniq, String)) ENGINE = AggregatingMergeTree ORDER BY k
CREATE TABLE mem (id UInt8) ENGINE = Memory
CREATE TABLE lg (id UInt8) ENGINE = Log
CREATE TABLE nul (id UInt8) ENGINE = Null
CREATE TABLE js (id UInt8, j JSON, v Variant(String, UInt64), dy Dynamic) ENGINE = MergeTree ORDER BY id
CREATE TABLE dist AS mem ENGINE = Distributed('default', '{database}', 'mem', rand())
CREATE TABLE buf AS a ENGINE = Buffer('{database}', 'a', 1, 10, 100, 10000, 1000000, 10000000, 100000000)
CREATE TABLE mrg AS mem ENGINE = Merge('{database}', '^mem')
CREATE VIEW v1 AS SELECT id, name, if(n > 1 AND NOT (n = 5), 'x', 'y') AS z, (SELECT max(id) FROM a) AS mx FROM a WHERE id IN (1,2,3) AND -n < 3 ORDER BY id DESC LIMIT 5
CREATE VIEW v2 AS WITH q AS (SELECT * FROM a) SELECT q.id, b.v FROM q LEFT JOIN pk AS b ON q.id = b.id AND (b.v > 1 OR b.v < 0) UNION ALL SELECT 1, CAST('2' AS Int32)
CREATE VIEW v3 AS SELECT arrayMap(x -> x + 1, [1,2]) AS m, CASE WHEN id = 1 THEN 'a' ELSE 'b' END AS c, id::String AS s, toDate('2020-01-01') + INTERVAL 1 DAY AS d, name LIKE 'a%' AS l, id BETWEEN 1 AND 3 AS bt, name IS NULL AS nn, count() OVER (PARTITION BY name ORDER BY id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS w FROM a
CREATE MATERIALIZED VIEW mv1 TO agg AS SELECT id AS k, sumState(toUInt64(id)) AS s, max(id) AS u, uniqState(name) AS uq FROM a GROUP BY id
CREATE MATERIALIZED VIEW mv2 ENGINE = SummingMergeTree ORDER BY k AS SELECT id AS k, count() AS c FROM a GROUP BY id
CREATE MATERIALIZED VIEW mv3 REFRESH EVERY 1 HOUR (k UInt64) ENGINE = MergeTree ORDER BY k AS SELECT id AS k FROM a
CREATE DICTIONARY dct (id UInt64, name String DEFAULT '' EXPRESSION concat('a', name)) PRIMARY KEY id SOURCE(CLICKHOUSE(TABLE 'a' DB '{database}' USER 'default')) LIFETIME(MIN 1 MAX 10) LAYOUT(HASHED())
CREATE TABLE usesdict (id UInt64, nm String DEFAULT dictGet('{database}.dct', 'name', id)) ENGINE = MergeTree ORDER BY id
CREATE FUNCTION {database}_fn AS (x, y) -> if(x > y, x - y, y - x) * -1
CREATE TABLE ng (id UInt64, t String, INDEX ng t TYPE ngrambf_v1(3,256,2,0) GRANULARITY 1, INDEX tb t TYPE tokenbf_v1(256,2,0), INDEX st t TYPE set(100)) ENGINE = MergeTree ORDER BY id
ALTER TABLE a ADD COLUMN extra Tuple(Int8, String) AFTER id
ALTER TABLE a MODIFY COLUMN name String DEFAULT concat('y', toString(id))
ALTER TABLE a MODIFY TTL toDateTime(dt) + INTERVAL 60 DAY
ALTER TABLE a ADD CONSTRAINT k2 CHECK name != '' AND length(name) BETWEEN 1 AND 100
CREATE TABLE tt (d DateTime, x UInt8) ENGINE = MergeTree ORDER BY x TTL d + INTERVAL 1 MONTH GROUP BY x SET d = max(d), d + INTERVAL 1 YEAR TO DISK 'default'
CREATE TABLE eph (a UInt8 EPHEMERAL, b UInt8 DEFAULT a + 1, c DateTime DEFAULT now(), s String DEFAULT 'it''s \n "q"', i Int64 DEFAULT -1, f Float64 DEFAULT 1e10, g Float64 DEFAULT 0.1, dd Date DEFAULT '2020-01-01') ENGINE = MergeTree ORDER BY b
CREATE VIEW pv AS SELECT * FROM a WHERE id = {x:UInt64}
CREATE TABLE cn (id UInt64 NOT NULL, b Bool DEFAULT true, ip IPv4, u UUID DEFAULT generateUUIDv4(), fs FixedString(5), iv Int256, ts TIMESTAMP, dbl DOUBLE PRECISION, tx TEXT NULL) ENGINE = MergeTree ORDER BY id
CREATE VIEW v4 AS SELECT tuple(1, 'a') AS t, (1, 'b').1 AS t1, [1, 2][1] AS e, map('a', 1) AS mp, extract(year FROM now()) AS y, x.id FROM pk AS x FINAL
CREATE TABLE quoted (`we ird``col` String, `ключ` UInt8, `a.b` Int8, CONSTRAINT c ASSUME `ключ` > 1) ENGINE = MergeTree ORDER BY tuple() SETTINGS min_bytes_for_wide_part = 0
CREATE TABLE `a.b, (c)` (id UInt8 DEFAULT length('),(') COMMENT 'it''s (a, b)') ENGINE = Memory
