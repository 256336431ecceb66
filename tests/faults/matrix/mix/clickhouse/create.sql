-- class: CREATE

-- file
CREATE TABLE s0 (id UInt64, v String) ENGINE = MergeTree ORDER BY id;

-- file
CREATE TABLE s1 (id UInt64, v String) ENGINE = MergeTree ORDER BY id;

-- file
CREATE TABLE s2 (id UInt64, v String) ENGINE = MergeTree ORDER BY id;

-- file
CREATE TABLE s3 (id UInt64, v String) ENGINE = MergeTree ORDER BY id;

-- file
CREATE TABLE s4 (id UInt64, v String) ENGINE = MergeTree ORDER BY id;
