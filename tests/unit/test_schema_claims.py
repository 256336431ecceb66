"""What the next environment's worker takes for the previous one's schema (flows.schemas): the table that was signed, and no other."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from flows import gates, remote_runs, reports, schemas
from migrator import errors
from migrator.planning import schema_environments
from migrator.planning.schema_comparison import Schema
from migrator.planning.schema_facts import SchemaFact
from tasks.fleet.rules_section import SchemaDifferences
from tasks.outcomes import VerificationOutcome

RUN, OTHER = UUID(int=1), UUID(int=2)
TABLE = SchemaFact("table", "public.t", "public", version=1)
FOREIGN = SchemaFact("table", "public.u", "public")


def rows(*found: SchemaFact) -> list[dict[str, str | int]]:
    return schema_environments.digested(
        Schema((TABLE,), found, at_home=True), "b", "postgres", "18.4", schema_environments.Substitutions()
    ).rows()


@pytest.fixture
def compare(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Compares prod's own `TABLE` with what release's artifacts hold (a fake API), of which run 1's was signed as `signed`."""

    def compared(published: list[tuple[UUID, list[Any]]], signed: list[Any] | None, how: SchemaDifferences = SchemaDifferences.WARN) -> str:
        given = None if signed is None else (RUN, schema_environments.digest(signed))
        monkeypatch.setattr(gates, "proven_objects", lambda *_: given)
        monkeypatch.setattr(remote_runs, "publications", lambda *_: [(run, datetime.now(UTC), table) for run, table in published])

        def table_of(run_id: UUID, _: str) -> list[Any]:
            found = [table for run, table in published if run == run_id]
            if not found:
                raise errors.NotFound("run published no table", code="no-artifact", hint="")
            return found[0]

        monkeypatch.setattr(remote_runs, "table", table_of)
        monkeypatch.setattr(reports, "publish_table", lambda *_: None)
        monkeypatch.setattr(schemas, "_emit", lambda *_: None)
        environment = SimpleNamespace(schema_differences=how)
        gate: Any = SimpleNamespace(
            environment="prod", fleet=SimpleNamespace(previous=lambda _: "release", environment=lambda _: environment)
        )
        target: Any = SimpleNamespace(environment="prod", service="s", label="prod/s")
        verified = VerificationOutcome(
            service="s", environment="prod", bundle="b", current=1, objects_checked=1, objects=tuple(rows(TABLE))
        )
        return schemas.compare(gate, target, verified)

    return compared


def test_the_signed_table_counts_and_newer_ones_do_not(compare: Any) -> None:
    good, forged = rows(TABLE), rows(TABLE, FOREIGN)
    assert compare([(OTHER, forged), (RUN, good)], good) == "as in release, 1 objects"
    assert "public.u: in release alone" in compare([(OTHER, good), (RUN, forged)], forged)


def test_a_table_that_was_exchanged_or_deleted_is_said_and_fails_where_differences_do(compare: Any) -> None:
    good, forged = rows(TABLE), rows(TABLE, FOREIGN)
    for published in ([(RUN, forged)], []):
        assert "is not the one that release's worker has signed" in compare(published, good)
        with pytest.raises(errors.VerificationFailed) as caught:
            compare(published, good, SchemaDifferences.FAIL)
        assert caught.value.code == "environments-differ"


def test_without_a_signature_the_newest_table_of_the_bundle_counts(compare: Any) -> None:
    other_bundle = schema_environments.digested(
        Schema((TABLE,), (TABLE,), at_home=True), "b2", "postgres", "18.4", schema_environments.Substitutions()
    ).rows()
    assert "public.u" in compare([(OTHER, other_bundle), (OTHER, rows(TABLE, FOREIGN)), (RUN, rows(TABLE))], None)
    assert compare([(OTHER, other_bundle)], None, SchemaDifferences.FAIL) == (
        "not compared with release: release has told nothing of its schema at this bundle"
    )
    with pytest.raises(errors.VerificationFailed):
        compare([(OTHER, rows(TABLE, FOREIGN))], None, SchemaDifferences.FAIL)
