"""The floor for ClickHouse: one CREATE TABLE and one history row per migration, with nothing around it.

python -m tests.benchmarks.bare_clickhouse HTTP_PORT DATABASE COUNT USER PASSWORD
"""

from __future__ import annotations

import sys

import clickhouse_connect


def main(port: int, database: str, count: int, user: str, password: str) -> None:
    client = clickhouse_connect.get_client(host="127.0.0.1", port=port, username=user, password=password, database=database)
    client.command(
        "CREATE TABLE IF NOT EXISTS goose_db_version (version_id Int64, is_applied UInt8, date Date default now(), "
        "tstamp DateTime default now()) ENGINE = MergeTree() ORDER BY (date)"
    )
    for number in range(1, count + 1):
        client.command(
            f"CREATE TABLE bench_{number} (id UInt64, name String, created_at DateTime DEFAULT now()) ENGINE = MergeTree ORDER BY id"
        )
        client.command(f"INSERT INTO goose_db_version (version_id, is_applied) VALUES ({number}, 1)")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4], sys.argv[5])
