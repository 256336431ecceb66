"""What a user may write on ClickHouse, read from the rows of system.grants: the narrowest row about a table counts."""

from __future__ import annotations

import pytest

from migrator.clickhouse import grants
from migrator.clickhouse.grants import Grant


def row(privilege: str, place: str = "*.*", *, user: str = "app", role: str = "", column: str = "", revoked: bool = False) -> Grant:
    database, _, table = place.partition(".")
    prefix = (place.endswith("*") and place not in ("*.*",) and not place.endswith(".*")) or (database != "*" and database.endswith("*"))
    return Grant(user, role, privilege, database.rstrip("*"), table.rstrip("*"), column, revoked, prefix)


def may(*given: Grant) -> list[str]:
    return [item.may for item in grants.writers(given, "shop", ("goose_db_version",))]


@pytest.mark.parametrize(
    ("given", "privileges"),
    [
        ([row("SELECT")], ""),
        ([row("INSERT", "bank.*")], ""),
        ([row("INSERT", "shop.users")], ""),
        ([row("INSERT", "shop.*")], "INSERT"),
        ([row("INSERT", "sho*.*")], "INSERT"),
        ([row("INSERT", "shop.goose*")], "INSERT"),
        ([row("INSERT", "shop.greylag*")], ""),
        ([row("INSERT", "shop.goose_db_version", column="version_id")], "INSERT"),
        ([row("ALTER TABLE", "shop.*")], "ALTER UPDATE, ALTER DELETE"),
        ([row("ALTER", "shop.*"), row("DROP", "shop.*")], "ALTER UPDATE, ALTER DELETE, DROP TABLE"),
        ([row("ALL", "shop.*")], "INSERT, ALTER UPDATE, ALTER DELETE, TRUNCATE, DROP TABLE"),
        ([row("INSERT", "shop.*"), row("INSERT", "shop.goose_db_version", revoked=True)], ""),
        ([row("INSERT", "shop.*"), row("INSERT", "shop.users", revoked=True)], "INSERT"),
        ([row("INSERT"), row("INSERT", "shop.*", revoked=True)], ""),
        ([row("INSERT"), row("INSERT", "shop.*", revoked=True), row("INSERT", "shop.goose_db_version")], "INSERT"),
        ([row("INSERT", "shop.*"), row("INSERT", "shop.goose_db_version", column="date", revoked=True)], "INSERT"),
        ([row("ALTER TABLE", "shop.*"), row("ALTER DELETE", "shop.goose_db_version", revoked=True)], "ALTER UPDATE"),
        ([row("ALTER DELETE", "shop.*"), row("ALTER TABLE", "shop.goose_db_version", revoked=True)], ""),
    ],
)
def test_the_narrowest_row_about_a_table_counts(given: list[Grant], privileges: str) -> None:
    assert may(*given) == ([f"{privileges} on goose_db_version"] if privileges else [])


def test_an_administrator_is_not_named_but_one_of_a_database_is() -> None:
    assert may(row("ALL")) == may(row("INSERT"), row("ACCESS MANAGEMENT")) == []
    assert may(row("ALL", "shop.*")) != []


def test_a_role_is_named_as_one() -> None:
    found = list(grants.writers([row("INSERT", "shop.*", user="", role="writers")], "shop", ("goose_db_version",)))
    assert [(item.name, item.remedy) for item in found] == [("role `writers`", "REVOKE INSERT ON `shop`.`goose_db_version` FROM `writers`")]
