"""The doctor on real databases and a real secrets server: a sound chain is clean, and each breakage is named where it is."""

from __future__ import annotations

import json
from collections.abc import Callable

import psycopg
import pytest

from migrator import cli
from sandbox import ports
from sandbox.databases.postgres import PostgresServer
from tests.faults.conftest import Team


def links(team: Team) -> tuple[int, dict[str, str], dict[str, str]]:
    """The exit code, the state of each link, and the last one's document."""
    team.place.capture.readouterr()
    code = cli.main(["doctor", "@dev/shop-service", "-json"])
    out, err = team.place.capture.readouterr()
    document = json.loads(out)
    assert "Traceback" not in err
    return code, {item["link"]: item["state"] for item in document["links"]}, document["links"][-1]


def test_a_sound_chain_is_clean_before_and_after_the_migration(team: Team) -> None:
    team.write()
    code, states, _ = links(team)
    assert code == 0, states
    assert team.place.greylag("up", "@dev/shop-service").code == 0
    code, states, _ = links(team)
    assert (code, states["history"], states["lock"], states["cluster"]) == (0, "ok", "ok", "not used")


BODY = "-- +goose Up\nCREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN 1; END; $$;\n"

BREAKAGES: dict[str, tuple[Callable[[Team], object], str, str]] = {
    "no secret": (lambda team: None, "credentials", "ExternalSecret not found"),
    "a key that is missing": (lambda team: team.write(password=None), "credentials", ""),
    "another environment's database": (
        lambda team: team.write(database=team.place.database),
        "URL",
        "`unknown database` (ClickHouse)",
    ),
    "a host that there is not": (lambda team: team.write(host="nowhere.invalid"), "DNS", "`connection refused`"),
    "a port that is closed": (lambda team: team.write(port=ports.free_port(), http_port=ports.free_port()), "TCP", "`connection refused`"),
    "a wrong password": (lambda team: team.write(password="wrong"), "login and database", ""),
    "a body without StatementBegin": (
        lambda team: (
            team.write(),
            team.place.write(
                {"00003_f.sql": "-- +goose Up\nCREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN 1; END; $$;\n"}
            ),
        ),
        "migration files",
        "PL/pgSQL parse error",
    ),
}


@pytest.mark.parametrize("breakage", BREAKAGES)
def test_a_broken_link_is_named_with_the_row_of_the_recipe(team: Team, breakage: str) -> None:
    break_it, link, row = BREAKAGES[breakage]
    if breakage.startswith("a body") and team.place.driver == "clickhouse":
        pytest.skip("ClickHouse has no PL/pgSQL")
    break_it(team)
    code, states, last = links(team)
    assert code == 16
    assert (last["link"], last["state"], last["row"]) == (link, "broken", row), last
    assert last["hint"]
    assert list(states.values()).count("broken") == 1


def test_a_lock_that_is_held_is_told_with_its_holder_and_not_waited_for(team: Team, postgres_server: PostgresServer) -> None:
    if team.place.driver == "clickhouse":
        pytest.skip("the holder is a session of PostgreSQL here; tests/clickhouse/test_locking.py holds ClickHouse's")
    team.write()
    assert team.place.greylag("up", "@dev/shop-service").code == 0
    with psycopg.connect(postgres_server.superuser_url(team.database), autocommit=True) as holder:
        holder.execute("SELECT pg_advisory_lock(4097083626)")
        code, _, last = links(team)
    assert (code, last["link"], last["cause"]) == (16, "lock", "lock-held")
    assert "pid" in last["evidence"]
