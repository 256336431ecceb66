"""What each identity must be allowed, as files: `kubernetes/`, `vault/`, `postgres/`, `clickhouse/`, with `${name}` where the fleet decides.

`rendering` fills them in for a fleet (`greylag privileges`). That each line is needed is proven by taking it away:
tests/cluster/test_least_privilege.py, tests/postgres/test_privileges.py, tests/clickhouse/test_privileges.py.
"""
