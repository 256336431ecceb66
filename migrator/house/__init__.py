"""Checks migration files against the house rules (`migrator.house_rules`): of a directory for `validate`, of a plan's upward steps for a plan.

What an engine's files are asked is a room of that engine (`migrator.postgres.house`, `migrator.clickhouse.house`); `migrator.databases` puts the two together.
"""
