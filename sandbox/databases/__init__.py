"""PostgreSQL and ClickHouse out of packages, one server or several nodes."""
