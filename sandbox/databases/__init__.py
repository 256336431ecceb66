"""PostgreSQL and ClickHouse from Python packages, as one server or as several nodes."""
