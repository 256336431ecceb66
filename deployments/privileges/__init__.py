"""The privileges that each identity needs, as files: `kubernetes/`, `vault/`, `postgres/`, `clickhouse/`, with `${name}` for the fleet's values.

`rendering` fills them in for a fleet (`greylag privileges`). Tests prove that each line is needed, by removing it:
tests/cluster/test_least_privilege.py, tests/postgres/test_privileges.py, tests/clickhouse/test_privileges.py.
"""
