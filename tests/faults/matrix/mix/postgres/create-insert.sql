-- class: CREATE, INSERT

-- file
CREATE TABLE s0 (id int PRIMARY KEY, v text);
INSERT INTO s0 VALUES (1, 'a'), (2, 'b');

-- file
CREATE TABLE s1 (id int PRIMARY KEY, v text);
INSERT INTO s1 VALUES (1, 'a'), (2, 'b');

-- file
CREATE TABLE s2 (id int PRIMARY KEY, v text);
INSERT INTO s2 VALUES (1, 'a'), (2, 'b');

-- file
CREATE TABLE s3 (id int PRIMARY KEY, v text);
INSERT INTO s3 VALUES (1, 'a'), (2, 'b');

-- file
CREATE TABLE s4 (id int PRIMARY KEY, v text);
INSERT INTO s4 VALUES (1, 'a'), (2, 'b');

-- file
CREATE TABLE s5 (id int PRIMARY KEY, v text);
INSERT INTO s5 VALUES (1, 'a'), (2, 'b');
