"""The house rules: the recipe's DO and DON'T (docs/recipe.md) as a table, and which of them are on. `migrator.house` checks files against them.

A rule warns; it refuses only where fleet.yaml says so (`rules:`). A file is excepted by `-- greylag: ignore H02 REASON` (`goose.notes`).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: its stable id, its name, and what to write instead."""

    id: str
    name: str
    hint: str


RULES: dict[str, Rule] = {
    rule.id: rule
    for rule in (
        Rule("H01", "uuid-v4-default", "DEFAULT uuid_generate_v7() (ClickHouse: generateUUIDv7()), whose values are ordered by time"),
        Rule("H02", "uuid-column", "TEXT, with DEFAULT uuid_generate_v7()::text where the column makes its values"),
        Rule("H03", "timestamp", "TIMESTAMPTZ(6)"),
        Rule("H04", "missing-down", "write below `-- +goose Down` what takes the change back"),
        Rule("H05", "bare-body", "`-- +goose StatementBegin` on a line before it and `-- +goose StatementEnd` on a line after it"),
        Rule(
            "H06",
            "hard-coded-database",
            "leave the name out, or take it from the environment: `-- +goose ENVSUB ON` and ${CLICKHOUSE_DATABASE} or ${POSTGRES_DATABASE}; "
            "PostgreSQL: format('… %I', current_database())",
        ),
        Rule("H07", "function-before-definition", "create the function, or its extension, in an earlier statement or file"),
    )
}
"""Every rule, by id; the ids are a series of their own beside the rules for risky statements (`P01` and on)."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The ids of the rules that are `on`, and of those that are `refused`: a plan with such a finding is not applied."""

    on: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()

    def with_all_on(self) -> Settings:
        """Returns the settings with every rule on (`-rules`)."""
        return Settings(tuple(RULES), self.refused)


NONE = Settings()
