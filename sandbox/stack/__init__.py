"""A Prefect server, its workers and everything that the demo promotes through."""
