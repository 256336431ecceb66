"""Database names: base and suffix make the name, and no environment may touch another's database."""

from __future__ import annotations

import pytest

from migrator import errors
from migrator.address import naming


@pytest.mark.parametrize(
    ("suffix", "name"),
    [("_dev", "analytics_db_dev"), ("_release", "analytics_db_release"), ("", "analytics_db")],
    ids=["dev", "release", "prod"],
)
def test_the_name_is_base_and_suffix(suffix: str, name: str) -> None:
    assert naming.database_name("analytics_db", suffix) == name
    assert naming.check("analytics_db", suffix, name) == name


@pytest.mark.parametrize("actual", ["analytics_db", "analytics_db_dev", "Analytics_db_release", "analytics_db_release ", ""])
def test_another_environments_database_is_refused(actual: str) -> None:
    with pytest.raises(errors.NotFound) as refusal:
        naming.check("analytics_db", "_release", actual)
    assert refusal.value.code == "wrong-database"
    assert refusal.value.exit_code == errors.ExitCode.NOT_FOUND
    assert "analytics_db_release" in refusal.value.describe()


@pytest.mark.parametrize(
    ("base", "suffix"), [("", "_dev"), ("db", "dev"), ("db", "_"), ("db_dev", "_dev"), ("d" * 60, "_dev"), ("é" * 31, "_d")]
)
def test_names_that_would_go_wrong_are_refused(base: str, suffix: str) -> None:
    with pytest.raises(errors.UsageError) as refusal:
        naming.database_name(base, suffix)
    assert refusal.value.code == "bad-name"
    assert refusal.value.hint
