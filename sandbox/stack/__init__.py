"""A Prefect server, its workers, and everything else that the demo needs for its promotion."""
