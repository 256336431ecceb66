"""Credentials in parts: from files, from variables, in which order, and never before a DBSTRING that is written out."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator import errors
from migrator.address import addresses
from migrator.cli import credentials, flags, go_flags, invocation

PASSWORD = "p%/:@#?&+ '\"\\$é漢"
POSTGRES = {"POSTGRES_HOST": "h", "POSTGRES_USER": "u", "POSTGRES_PASSWORD": PASSWORD, "POSTGRES_DATABASE": "d"}
CLICKHOUSE = {
    "CLICKHOUSE_HOST": "h",
    "CLICKHOUSE_PORT": "9440",
    "CLICKHOUSE_USERNAME": "u",
    "CLICKHOUSE_PASSWORD": PASSWORD,
    "CLICKHOUSE_DATABASE": "d",
}


def resolve(*words: str, **environ: str) -> invocation.Invocation:
    (found,) = invocation.resolve(go_flags.parse(list(words), flags.ALL), environ)
    return found


def secret(directory: Path, **values: str) -> Path:
    for name, value in values.items():
        (directory / name).write_text(value, encoding="utf-8")
    return directory


def test_the_recipes_own_variables_make_the_address() -> None:
    found = resolve("-dir", "m", "postgres", "up", **POSTGRES)
    parsed = addresses.parse_postgres(found.dbstring, {})
    assert (found.driver, found.verb.name, found.directory) == ("postgres", "up", "m")
    assert (parsed.hosts, parsed.user, parsed.password, parsed.database) == ("h:5432", "u", PASSWORD, "d")
    clickhouse = addresses.parse_clickhouse(resolve("clickhouse", "up", **CLICKHOUSE).dbstring, {})
    assert (clickhouse.hosts, clickhouse.username, clickhouse.password, clickhouse.database) == ((("h", 9440),), "u", PASSWORD, "d")
    assert clickhouse.secure


def test_the_driver_may_come_from_the_environment_as_in_goose() -> None:
    assert resolve("up", GOOSE_DRIVER="postgres", **POSTGRES).driver == "postgres"
    assert resolve("up-to", "5", GREYLAG_DRIVER="pgx", **POSTGRES).arguments == ("5",)


def test_an_address_that_is_written_out_goes_before_all_parts() -> None:
    assert resolve("postgres", "postgres://other/x", "up", **POSTGRES).dbstring == "postgres://other/x"
    assert resolve("postgres", "up", GOOSE_DBSTRING="postgres://other/x", **POSTGRES).dbstring == "postgres://other/x"
    assert resolve("status", "postgres", "postgres://other/x", **POSTGRES).dbstring == "postgres://other/x"


def test_each_driver_reads_its_own_variables() -> None:
    with pytest.raises(errors.UsageError, match="too few words"):
        resolve("clickhouse", "up", **POSTGRES)
    assert "@h:9440/" in resolve("clickhouse", "up", **POSTGRES, **CLICKHOUSE).dbstring


def test_a_mounted_secret_goes_before_variables(tmp_path: Path) -> None:
    secret(tmp_path, host="files\n", port="6432\n", username="u", password=PASSWORD + "\n", database="d\n", extra="x")
    environ = {"GREYLAG_CREDENTIALS_DIRECTORY": str(tmp_path), "GREYLAG_HOST": "variables", **POSTGRES}
    parsed = addresses.parse_postgres(resolve("postgres", "up", **environ).dbstring, {})
    assert (parsed.hosts, parsed.password, parsed.database) == ("files:6432", PASSWORD, "d")


def test_a_mounted_secret_may_use_the_other_usual_names(tmp_path: Path) -> None:
    secret(tmp_path, host="h", user="u", password="p", dbname="d", http_port="8124")
    found = resolve("clickhouse", "up", GREYLAG_CREDENTIALS_DIRECTORY=str(tmp_path), GREYLAG_PORT="9100")
    assert found.dbstring == "clickhouse://u:p@h:9100/d?http_port=8124"


def test_parameters_are_added_to_the_address(tmp_path: Path) -> None:
    given = {"GREYLAG_PARAMETERS": "sslmode=verify-full&application_name=a%26b"}
    assert resolve("postgres", "up", **POSTGRES, **given).dbstring.endswith("/d?sslmode=verify-full&application_name=a%26b")
    secret(tmp_path, host="h", username="u", password="p", database="d", http_port="1")
    found = resolve("clickhouse", "up", GREYLAG_CREDENTIALS_DIRECTORY=str(tmp_path), GREYLAG_PARAMETERS="http_port=2")
    assert found.dbstring.endswith("?http_port=2")


def test_envsub_may_name_the_parts_but_not_the_password(tmp_path: Path) -> None:
    secret(tmp_path, host="h", username="u", password="p4ssw0rd", database="d")
    env = resolve("postgres", "up", GREYLAG_CREDENTIALS_DIRECTORY=str(tmp_path), TENANT="girok").env or {}
    shown = {name: env.get(name) for name in ("POSTGRES_HOST", "POSTGRES_PORT", "POSTGRES_USER", "POSTGRES_DATABASE", "TENANT")}
    assert shown == {"POSTGRES_HOST": "h", "POSTGRES_PORT": "5432", "POSTGRES_USER": "u", "POSTGRES_DATABASE": "d", "TENANT": "girok"}
    assert "p4ssw0rd" not in env.values()
    assert resolve("postgres", "postgres://h/d", "up").env is None


def test_bad_flow_a_secret_without_a_key_says_which_and_what_is_there(tmp_path: Path) -> None:
    secret(tmp_path, host="h", username="u", pasword="p4ssw0rd", database="")
    (tmp_path / "..data").mkdir()
    with pytest.raises(errors.NotFound) as caught:
        resolve("postgres", "up", GREYLAG_CREDENTIALS_DIRECTORY=str(tmp_path))
    assert (caught.value.code, caught.value.exit_code) == ("key-missing", 13)
    assert caught.value.message.endswith("lacks password, database; it has database, host, pasword, username")
    assert "p4ssw0rd" not in caught.value.describe()


def test_bad_flow_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(errors.NotFound) as caught:
        resolve("postgres", "up", GREYLAG_CREDENTIALS_DIRECTORY=str(tmp_path / "absent"))
    assert (caught.value.code, caught.value.hint) == (
        "secret-missing",
        "mount the Secret there, or correct GREYLAG_CREDENTIALS_DIRECTORY",
    )


def test_bad_flow_a_file_that_is_not_utf8_is_refused_without_its_content(tmp_path: Path) -> None:
    secret(tmp_path, host="h", username="u", database="d")
    (tmp_path / "password").write_bytes(b"\xff\xfesecret")
    with pytest.raises(errors.UsageError) as caught:
        resolve("postgres", "up", GREYLAG_CREDENTIALS_DIRECTORY=str(tmp_path))
    assert caught.value.code == "bad-secret"
    assert "secret" not in caught.value.message.replace("secret-", "")


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1), st.sampled_from(["postgres", "clickhouse"]))
def test_every_password_survives_the_way_into_an_address(password: str, driver: str) -> None:
    dbstring = credentials.Parts("h", "9000", "u", password, "d").dbstring(driver)
    encoded = dbstring.partition("://u:")[2].rpartition("@")[0]
    assert unquote(encoded) == password
    assert not set(encoded) & set(":/?#@ ")


def test_good_flow_a_secret_of_the_right_source_is_taken_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = secret(tmp_path, host="h", username="u", password="p", database="d", **{"greylag-source": "abc\n"})
    found = credentials.find("postgres", {credentials.DIRECTORY: str(place), credentials.SOURCE: "abc"})
    assert found is not None and found.host == "h"
    assert not capsys.readouterr().err


@pytest.mark.parametrize("said", ["before", None])
def test_bad_flow_a_secret_of_another_source_is_waited_for_and_never_used(tmp_path: Path, said: str | None) -> None:
    more = {} if said is None else {"greylag-source": said}
    place = secret(tmp_path, host="h", username="u", password="p", database="d", **more)
    with pytest.raises(errors.NotYet, match="is not of this release after 0 s") as caught:
        credentials.find("postgres", {credentials.DIRECTORY: str(place), credentials.SOURCE: "abc", credentials.WAIT: "0s"})
    assert (caught.value.code, int(caught.value.exit_code)) == ("secret-stale", 24)
    assert (said or "nothing") in caught.value.message


def test_good_flow_a_secret_that_is_synced_meanwhile_comes_with_its_own_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A double of the kubelet: it swaps all files while greylag sleeps."""
    place = secret(tmp_path, host="old", username="u", password="old", database="d", **{"greylag-source": "before"})
    monkeypatch.setattr(credentials.time, "sleep", lambda _: secret(place, host="new", password="new", **{"greylag-source": "abc"}))
    found = credentials.find("postgres", {credentials.DIRECTORY: str(place), credentials.SOURCE: "abc"})
    assert found is not None and (found.host, found.password) == ("new", "new")


def test_bad_flow_a_signal_ends_the_wait_for_a_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = secret(tmp_path, host="h", username="u", password="p", database="d")
    monkeypatch.setattr(credentials.time, "sleep", lambda _: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(errors.Interrupted, match="SIGTERM"):
        credentials.find("postgres", {credentials.DIRECTORY: str(place), credentials.SOURCE: "abc"})
