"""Directories of migrations that the benchmarks apply."""

from __future__ import annotations

from pathlib import Path

POSTGRES_FILE = """-- +goose Up
CREATE TABLE bench_{number} (
    id bigint PRIMARY KEY,
    name text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX bench_{number}_name ON bench_{number} (name);

-- +goose Down
DROP TABLE bench_{number};
"""

CLICKHOUSE_FILE = """-- +goose Up
CREATE TABLE bench_{number} (id UInt64, name String, created_at DateTime DEFAULT now()) ENGINE = MergeTree ORDER BY id;

-- +goose Down
DROP TABLE bench_{number};
"""

PARSED_FILE = """-- +goose Up
CREATE TABLE parsed_{number} (id bigint PRIMARY KEY, name text NOT NULL);
CREATE INDEX parsed_{number}_name ON parsed_{number} (name); -- an index
-- +goose StatementBegin
CREATE FUNCTION parsed_{number}_touch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.name := trim(NEW.name);
  RETURN NEW;
END;
$$;
-- +goose StatementEnd

-- +goose Down
DROP TABLE parsed_{number};
"""


def write(directory: Path, template: str, count: int, first: int = 1) -> Path:
    """Writes `count` numbered files and returns the directory."""
    directory.mkdir(parents=True, exist_ok=True)
    for number in range(first, first + count):
        (directory / f"{number:05d}_bench_{number}.sql").write_text(template.format(number=number))
    return directory


_SERVICE = (
    # a table with its indexes and comments, one command a statement
    """CREATE TABLE entity_{number} (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name varchar(200) NOT NULL,
    status varchar(20) NOT NULL DEFAULT 'active',
    created_at timestamptz(6) NOT NULL DEFAULT now(),
    CONSTRAINT entity_{number}_status CHECK (status IN ('active', 'closed'))
);
CREATE INDEX entity_{number}_created ON entity_{number} (created_at DESC);
COMMENT ON TABLE entity_{number} IS 'One of the service''s entities';
""",
    # a chunk of several commands
    """-- +goose StatementBegin
CREATE TABLE part_{number} (id bigint PRIMARY KEY, note text);
CREATE INDEX part_{number}_note ON part_{number} (note);
INSERT INTO part_{number} SELECT n, 'note ' || n FROM generate_series(1, 50) AS n;
-- +goose StatementEnd
""",
    # a function and its trigger
    """CREATE TABLE touched_{number} (id int PRIMARY KEY, updated_at timestamptz);
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION touch_{number}() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at := now();
    RETURN NEW;
END;
$$;
-- +goose StatementEnd
CREATE TRIGGER touched_{number} BEFORE UPDATE ON touched_{number} FOR EACH ROW EXECUTE FUNCTION touch_{number}();
""",
    # data, row by row
    "CREATE TABLE seed_{number} (id int PRIMARY KEY, name text NOT NULL);\n"
    + "".join(f"INSERT INTO seed_{{number}} (id, name) VALUES ({row}, 'row {row}');\n" for row in range(20)),
    # a change of what an earlier file made, and a view on it
    """CREATE TABLE changed_{number} (id int PRIMARY KEY, amount int);
ALTER TABLE changed_{number} ADD COLUMN note text NOT NULL DEFAULT '';
ALTER TABLE changed_{number} ALTER COLUMN amount TYPE bigint;
CREATE VIEW totals_{number} AS SELECT count(*) AS rows, sum(amount) AS amount FROM changed_{number};
""",
    # a block
    """-- +goose StatementBegin
DO $$
BEGIN
    CREATE TABLE made_{number} (id int PRIMARY KEY);
    INSERT INTO made_{number} SELECT n FROM generate_series(1, 10) AS n;
END;
$$;
-- +goose StatementEnd
""",
)
"""What a service's files hold, one kind after another."""


def write_service(directory: Path, count: int) -> Path:
    """Writes `count` files shaped like a service's and returns the directory."""
    directory.mkdir(parents=True, exist_ok=True)
    for number in range(1, count + 1):
        up = _SERVICE[number % len(_SERVICE)].format(number=number)
        (directory / f"{20250100000000 + number}_step_{number}.sql").write_text(f"-- +goose Up\n{up}\n-- +goose Down\nSELECT {number};\n")
    return directory
