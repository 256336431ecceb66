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
