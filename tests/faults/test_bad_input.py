"""Bad input: one clear error each, with a code and a hint, and nothing applied. Looked up by SQL past greylag, on both engines."""

from __future__ import annotations

import urllib.parse
from pathlib import Path
from typing import Any

import pytest

from migrator import errors
from sandbox import ports
from tasks import credentials, database_url, fleet, migration, settings
from tasks.request import Request
from tests.conftest import AWKWARD_PASSWORD
from tests.faults.conftest import Place, Said, Team

SPELLINGS = (AWKWARD_PASSWORD, urllib.parse.quote(AWKWARD_PASSWORD, safe=""), "not-the-" + AWKWARD_PASSWORD)


def refused(said: Said, exit_code: errors.ExitCode, code: str, *words: str) -> None:
    """One error, with this code and a hint, in words that name what is wrong; no password, no traceback."""
    assert said.code == exit_code, said.err
    assert [line for line in said.own if line.endswith(f"[{code}]")] and len([line for line in said.own if line.endswith("]")]) == 1, (
        said.err
    )
    assert len([line for line in said.own if line.startswith("hint: ") and len(line) > 12]) == 1, said.err
    assert not [word for word in words if word not in said.err], said.err
    assert "Traceback" not in said.err
    assert not [word for word in SPELLINGS if word in said.err + said.out]


VERBS = ["up", "up-by-one", "status", "plan", "verify"]


@pytest.mark.parametrize("verb", VERBS)
def test_bad_flow_a_directory_that_is_not_there(place: Place, verb: str) -> None:
    said = place.on(verb, directory=place.directory / "nowhere")
    refused(said, errors.ExitCode.FILE, "missing-directory", "nowhere", "-dir")
    assert place.tables() == []


@pytest.mark.parametrize("name", ["create_users.sql", "x1_create_users.sql", "00000_create_users.sql", "-5_create_users.sql", "1.sql"])
def test_bad_flow_a_file_without_a_version(place: Place, name: str) -> None:
    place.write({name: "-- +goose Up\nSELECT 1;\n"})
    refused(place.on("up"), errors.ExitCode.FILE, "bad-file-name", name, "VERSION_name.sql")
    assert place.tables() == []


def test_bad_flow_two_files_of_one_version(place: Place) -> None:
    place.write({"2_once_more.sql": "-- +goose Up\nSELECT 1;\n"})
    refused(place.on("up"), errors.ExitCode.FILE, "duplicate-version", "version 2", "2_once_more.sql", "00002_create_others.sql")
    assert place.tables() == []


@pytest.mark.parametrize("annotation", ["-- +goose Upp", "-- +goose", "-- +goose Up Down", " -- +goose Down", "-- +goose NO_TRANSACTION"])
def test_bad_flow_an_annotation_that_goose_does_not_know(place: Place, annotation: str) -> None:
    place.write({"00003_odd.sql": f"-- +goose Up\nSELECT 1;\n{annotation}\nSELECT 2;\n"})
    said = place.on("up")
    refused(said, errors.ExitCode.FILE, "bad-annotation", "00003_odd.sql")
    assert any("00003_odd.sql:3" in line for line in said.own), said.err
    shown = said.own.index(f"3 | {annotation}")
    assert said.own[shown - 1] == "2 | SELECT 1;" and said.own[shown + 1].endswith("^" * len(annotation.strip()))
    assert place.tables() == []


def test_bad_flow_the_error_is_a_document_too(place: Place) -> None:
    place.write({"00003_odd.sql": "-- +goose Up\nSELECT 1;\n-- +goose Upp\n"})
    error = place.on("up", "-json").document()["error"]
    assert (error["code"], error["exit_code"], error["line"], error["transient"]) == ("bad-annotation", 10, 3, False)
    assert error["file"].endswith("00003_odd.sql") and error["hint"] and "Upp" in error["message"]
    assert place.tables() == []


@pytest.mark.parametrize("verb", VERBS)
def test_bad_flow_a_host_where_nothing_listens(place: Place, verb: str) -> None:
    closed = ports.free_port()
    url = place.exchanged(port=closed, http_port=closed) if place.driver == "clickhouse" else place.exchanged(port=closed)
    refused(place.on(verb, url=url), errors.ExitCode.UNAVAILABLE, "unavailable", str(closed))
    assert place.tables() == []


def test_bad_flow_a_host_name_that_does_not_exist(place: Place) -> None:
    url = place.exchanged(host="no-such-host.invalid")
    refused(place.on("up", url=url), errors.ExitCode.UNAVAILABLE, "unavailable", "no-such-host.invalid")
    assert place.tables() == []


@pytest.mark.parametrize("verb", VERBS)
def test_bad_flow_a_wrong_password(place: Place, verb: str) -> None:
    said = place.on(verb, url=place.exchanged(password="not-the-" + AWKWARD_PASSWORD))
    refused(said, errors.ExitCode.LOGIN, "login-failed", place.parts["username"])
    assert place.tables() == []


def test_bad_flow_a_user_that_does_not_exist(place: Place) -> None:
    refused(place.on("up", url=place.exchanged(username="nobody_here")), errors.ExitCode.LOGIN, "login-failed", "nobody_here")
    assert place.tables() == []


@pytest.mark.parametrize("verb", VERBS)
def test_bad_flow_a_database_that_does_not_exist(place: Place, verb: str) -> None:
    said = place.on(verb, url=place.exchanged(database="no_such_database"))
    refused(said, errors.ExitCode.NOT_FOUND, "unknown-database", "no_such_database")
    assert place.tables() == []


@pytest.mark.parametrize("address", ["nonsense", "postgres://h:notaport/db", "clickhouse://h:99999/db", "mysql://u:p@h/db", ""])
def test_bad_flow_an_address_that_is_none(place: Place, address: str) -> None:
    said = place.on("up", url=address or " ")
    assert said.code in (errors.ExitCode.USAGE, errors.ExitCode.UNAVAILABLE, errors.ExitCode.NOT_FOUND), said.err
    assert "hint: " in said.err and "Traceback" not in said.err
    assert place.tables() == []


# --- through a fleet and its secrets ----------------------------------------------------------------------------------------------


def test_the_team_s_own_secret_leads_to_its_dev_database(team: Team) -> None:
    team.write()
    said = team.place.greylag("up", "@dev/shop-service")
    assert said.code == 0, said.err
    assert {"things", "others"} <= set(team.place.tables(team.database))
    assert team.place.tables() == []


def plain(team: Team) -> errors.GreylagError:
    """The error that the steps raise as plain functions, as a worker would meet it."""
    target = fleet.load().target("shop-service", "dev")
    with pytest.raises(errors.GreylagError) as caught:
        url = database_url.encode(credentials.fetch(target, settings.load()), target)
        migration.run(Request(target, url))
    assert caught.value.__cause__ is None
    assert not [word for word in SPELLINGS if word in caught.value.describe()]
    assert caught.value.hint
    return caught.value


def nothing_applied(team: Team) -> bool:
    return team.place.tables() == [] and team.place.tables(team.database) == []


@pytest.mark.parametrize("verb", ["up", "status", "plan", "verify"])
def test_bad_flow_a_secret_that_names_another_environment_s_database(team: Team, verb: str) -> None:
    team.write(database=team.place.database)
    said = team.place.greylag(verb, "@dev/shop-service")
    refused(said, errors.ExitCode.NOT_FOUND, "wrong-database", team.place.database, team.database)
    error = plain(team)
    assert (error.code, error.exit_code, error.transient) == ("wrong-database", 13, False)
    assert nothing_applied(team)


def test_bad_flow_a_secret_that_was_never_written(team: Team) -> None:
    refused(
        team.place.greylag("up", "@dev/shop-service"),
        errors.ExitCode.NOT_FOUND,
        "secret-missing",
        "secret/apps/dev/shop-service",
        "vault kv put",
    )
    error = plain(team)
    assert (error.code, error.exit_code, error.transient) == ("secret-missing", 13, False)
    assert nothing_applied(team)


@pytest.mark.parametrize("key", ["host", "username", "password", "database", "port"])
def test_bad_flow_a_secret_without_one_of_its_keys(team: Team, key: str) -> None:
    changes: dict[str, Any] = {key: None}
    team.write(**changes)
    refused(team.place.greylag("up", "@dev/shop-service"), errors.ExitCode.NOT_FOUND, "key-missing", f'"{key}"', "vault kv patch")
    error = plain(team)
    assert (error.code, error.exit_code, error.transient) == ("key-missing", 13, False)
    assert nothing_applied(team)


def test_bad_flow_a_secret_of_an_environment_that_this_login_may_not_read(team: Team) -> None:
    team.write("prod", database=team.place.database)
    refused(team.place.greylag("up", "@prod/shop-service"), errors.ExitCode.LOGIN, "vault-forbidden", "apps/prod/shop-service")
    assert nothing_applied(team)


def test_bad_flow_a_wrong_password_in_the_secret(team: Team) -> None:
    team.write(password="not-the-" + AWKWARD_PASSWORD)
    refused(team.place.greylag("up", "@dev/shop-service"), errors.ExitCode.LOGIN, "login-failed")
    error = plain(team)
    assert (error.code, error.exit_code, error.transient) == ("login-failed", 12, False)
    assert nothing_applied(team)


def test_bad_flow_a_database_in_the_secret_that_is_not_there_yet(team: Team, tmp_path: Path) -> None:
    base = f"{team.place.database}_other"
    path = tmp_path / "fleet.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace(f'"{team.place.database}"', f'"{base}"'), encoding="utf-8")
    team.write(database=f"{base}_dev")
    refused(team.place.greylag("up", "@dev/shop-service"), errors.ExitCode.NOT_FOUND, "unknown-database", f"{base}_dev")
    assert plain(team).code == "unknown-database"
    assert nothing_applied(team)


@pytest.mark.parametrize(
    ("target", "code", "hint"),
    [
        ("@dev/shop-servce", "unknown-service", 'did you mean "shop-service"?'),
        ("@dve/shop-service", "unknown-environment", 'did you mean "dev"?'),
        ("@dev/xyz", "unknown-service", "shop-service"),
        ("@staging/shop-service", "unknown-environment", "dev"),
    ],
)
def test_bad_flow_a_service_or_an_environment_that_the_fleet_does_not_have(team: Team, target: str, code: str, hint: str) -> None:
    team.write()
    refused(team.place.greylag("up", target), errors.ExitCode.USAGE, code, hint)
    environment, _, service = target.removeprefix("@").partition("/")
    with pytest.raises(errors.UsageError) as caught:
        fleet.load().target(service, environment)
    assert caught.value.code == code and hint in caught.value.hint
    assert nothing_applied(team)


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"service": "auth-servce", "environment": "dev"}, "unknown-service"),
        ({"service": "auth-service", "environment": "dve"}, "unknown-environment"),
    ],
)
def test_bad_flow_a_run_with_a_name_that_the_fleet_does_not_have_is_not_started(given: dict[str, str], code: str) -> None:
    from prefect.exceptions import ParameterTypeError

    from flows.deploy_service import deploy_service

    with pytest.raises(ParameterTypeError) as caught:
        deploy_service.validate_parameters(given)
    assert code in str(caught.value) and "did you mean" in str(caught.value)


# --- an older directory on a newer database: every rollback of an image -----------------------------------------------------------


@pytest.fixture
def newer(place: Place) -> Place:
    """The database has versions 1 and 2; the directory, as an older image has it, only 1."""
    assert place.on("up").code == 0
    (place.directory / "00002_create_others.sql").unlink()
    return place


def test_good_flow_up_with_an_older_directory_warns_and_ends_with_0(newer: Place) -> None:
    before = newer.tables()
    said = newer.on("up")
    assert said.code == 0, said.err
    assert "no migrations to run. current version: 2" in said.err
    assert [line for line in said.own if "2" in line and line.endswith("]") and "warning" in line], said.err
    assert newer.versions() == [1, 2]
    assert newer.tables() == before


def test_good_flow_wait_with_an_older_directory_ends_with_0(newer: Place) -> None:
    said = newer.on("wait", "-timeout", "5s")
    assert said.code == 0, said.err
    assert any("newer" in line for line in said.own), said.err
    assert newer.versions() == [1, 2]


def test_good_flow_status_of_an_older_directory_lists_what_only_the_database_knows(newer: Place) -> None:
    said = newer.on("status", "-exit-code")
    assert said.code == 0, said.err
    assert "00001_create_things.sql" in said.err
    assert any("2" in line for line in said.own), said.err


def test_bad_flow_wait_for_a_version_that_is_not_there_says_so(place: Place) -> None:
    said = place.on("wait", "-timeout", "1s")
    refused(said, errors.ExitCode.NOT_YET, "version-not-reached", "version 2")
    assert place.tables() == []
