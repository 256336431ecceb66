-- class: ALTER TYPE ADD VALUE

-- file
CREATE TYPE mood AS ENUM ('sad');
CREATE TABLE moods (m mood);

-- file: no transaction
ALTER TYPE mood ADD VALUE 'fine';
INSERT INTO moods VALUES ('fine');

-- file
CREATE TABLE after (id int PRIMARY KEY);
INSERT INTO after VALUES (1), (2);
