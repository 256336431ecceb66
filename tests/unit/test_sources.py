"""Where credentials come from: one line of fleet.yaml, read strictly, and what Kubernetes mounts."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from migrator import errors
from tasks import credentials, database_url, fleet
from tasks.credentials import mounted
from tasks.fleet.models import Target
from tasks.settings import Settings
from tasks.sources import Source, SourceKind

FLEET = """\
root: .
{fleet}
environments:
  dev: {{suffix: _dev{environment}}}
services:
  auth-service:
    engine: {engine}
    database: auth
    migrations: migrations
{service}
"""


def parsed(fleet_line: str = "", environment: str = "", service: str = "", engine: str = "postgres") -> fleet.Fleet:
    text = FLEET.format(fleet=fleet_line, environment=environment, engine=engine, service=textwrap.indent(service, "    "))
    return fleet.parse(text, Path("/fleet.yaml"))


def target(**given: str) -> Target:
    return parsed(**given).target("auth-service", "dev")


def test_without_a_line_credentials_come_from_vault() -> None:
    assert target().source == Source(kind=SourceKind.VAULT)
    assert target().secret == "secret/dev/auth-service/postgres"


def test_a_services_line_wins_over_the_environments_and_that_over_the_fleets() -> None:
    everywhere = "credentials: {files: '/run/{environment}/{service}/{store}'}"
    assert target(fleet_line=everywhere).secret == "/run/dev/auth-service/postgres"
    assert target(fleet_line=everywhere, environment=", credentials: variables").secret == "POSTGRES_*"
    assert target(fleet_line=everywhere, environment=", credentials: variables", service="credentials: vault").source.kind == "vault"


def test_a_short_lived_login_names_its_path_and_its_owner() -> None:
    line = "credentials: {dynamic: 'database/creds/{environment}-{service}', host: 'pg.{environment}'}\nowner_role: '{environment}_auth'"
    found = target(service=line)
    assert (found.source.kind, found.secret, found.source.host) == ("dynamic", "database/creds/dev-auth-service", "pg.dev")
    assert found.owner_role == "dev_auth"


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("credentials: valut", '"valut" is no source of credentials: did you mean vault? write vault, variables,'),
        ("credentials: {flies: /run}", "did you mean files?"),
        ("credentials: {}", "credentials have one source"),
        ("credentials: {vault: '', files: /run}", "credentials have one source"),
        ("credentials: 7", "Input should be a valid dictionary"),
        ("credentials: {files: run/secrets}", "an absolute directory"),
        ("credentials: {files: 7}", "what follows files is a text"),
        ("credentials: {dynamic: auth-role}", "write {dynamic: database/creds/ROLE}"),
        ("credentials: {dynamic: /database/creds/x}", "write {dynamic: database/creds/ROLE}"),
        ("credentials: {variables: 'a-b'}", "what their names begin with"),
        ("credentials: {vault: secret/x}", "vault takes nothing here"),
        ("credentials: {files: /run, host: db}", "host goes with dynamic"),
        ("credentials: {files: '/run/{region}'}", '"{region}" means nothing'),
    ],
)
def test_bad_flow_a_line_that_is_none_is_refused_with_its_place(line: str, part: str) -> None:
    with pytest.raises(errors.UsageError) as caught:
        parsed(service=line)
    assert caught.value.code == "bad-fleet" and caught.value.hint
    assert part in caught.value.message
    assert caught.value.where is not None and caught.value.where.line == 10


def test_bad_flow_short_lived_logins_are_postgresqls() -> None:
    with pytest.raises(errors.UsageError, match="PostgreSQL only") as caught:
        parsed(fleet_line="credentials: {dynamic: database/creds/x}", engine="clickhouse")
    assert str(caught.value.where) == "/fleet.yaml:2:1" and "credentials: vault" in caught.value.hint


def test_bad_flow_a_short_lived_login_without_an_owner() -> None:
    with pytest.raises(errors.UsageError, match="owner_role is missing"):
        parsed(service="credentials: {dynamic: database/creds/x}")


def test_bad_flow_a_short_lived_password_in_a_migration() -> None:
    with pytest.raises(errors.UsageError, match="means nothing in a migration") as caught:
        parsed(service="credentials: {dynamic: database/creds/x}\nowner_role: auth\nsubstitute_password: true")
    assert caught.value.where is not None and caught.value.where.line == 12


def mounted_secret(directory: Path, **keys: str) -> Target:
    for name, value in keys.items():
        (directory / name).write_bytes(value.encode())
    return target(service=f"credentials: {{files: {directory}}}")


@pytest.mark.parametrize(
    "names",
    [
        ("host", "port", "user", "password", "dbname"),
        ("POSTGRES_HOST", "POSTGRES_PORT", "POSTGRES_USER", "POSTGRES_PASSWORD", "POSTGRES_DATABASE"),
    ],
)
def test_a_mounted_secret_is_read_file_by_file(tmp_path: Path, names: tuple[str, ...]) -> None:
    values = ("db.example", "5432\n", "auth", " p%/:@é \n", "auth_dev\r\n")
    found = credentials.fetch(mounted_secret(tmp_path, **dict(zip(names, values, strict=True))))
    assert (found.host, found.port, found.username, found.database) == ("db.example", 5432, "auth", "auth_dev")
    assert found.password.get_secret_value() == " p%/:@é "
    assert found.origin == str(tmp_path)


def test_a_mounted_secret_may_be_links_as_a_kubelet_makes_them(tmp_path: Path) -> None:
    (tmp_path / "..data").mkdir()
    given = mounted_secret(tmp_path / "..data", host="h", port="1", username="u", password="p", database="auth_dev")
    for name in ("host", "port", "username", "password", "database"):
        (tmp_path / name).symlink_to(Path("..data") / name)
    assert mounted.read(given.model_copy(update={"source": Source(kind=SourceKind.FILES, place=str(tmp_path))})).host == "h"


def test_bad_flow_a_file_that_is_missing_is_named_with_those_that_are_there(tmp_path: Path) -> None:
    given = mounted_secret(tmp_path, host="h", port="1", username="u", token="never read")
    with pytest.raises(errors.NotFound) as caught:
        credentials.fetch(given)
    assert caught.value.code == "key-missing"
    assert f'{tmp_path} lacks the key "database"' in caught.value.message and "present: host, port, token, username" in caught.value.message
    assert f"mounted at {tmp_path}" in caught.value.hint


def test_bad_flow_a_directory_that_is_not_mounted(tmp_path: Path) -> None:
    with pytest.raises(errors.NotFound) as caught:
        credentials.fetch(target(service=f"credentials: {{files: {tmp_path}/none}}"))
    assert caught.value.code == "secret-missing" and str(tmp_path) in caught.value.hint


def test_bad_flow_a_file_that_is_no_text(tmp_path: Path) -> None:
    given = mounted_secret(tmp_path, host="h", port="1", username="u", database="auth_dev")
    (tmp_path / "password").write_bytes(b"\xff\xfe")
    with pytest.raises(errors.UsageError, match="is not UTF-8"):
        credentials.fetch(given)


def test_the_workers_variables_are_read_by_their_usual_names() -> None:
    environment = {
        "POSTGRES_HOST": "h",
        "POSTGRES_PORT": "5433",
        "POSTGRES_USER": "u",
        "POSTGRES_PASSWORD": "p",
        "POSTGRES_DB": "auth_dev",
        "X": "y",
    }
    found = mounted.read(target(service="credentials: variables"), environment)
    assert (found.host, found.port, found.username, found.database, found.origin) == ("h", 5433, "u", "auth_dev", "POSTGRES_*")


def test_variables_may_have_a_prefix_as_envfrom_gives_it() -> None:
    environment = {f"AUTH_CLICKHOUSE_{name}": "1" for name in ("HOST", "PORT", "HTTP_PORT", "USERNAME", "PASSWORD", "DATABASE")}
    found = mounted.read(target(service="credentials: {variables: AUTH_}", engine="clickhouse"), environment)
    assert (found.http_port, found.username) == (1, "1")


def test_bad_flow_a_variable_that_is_not_set_is_named() -> None:
    with pytest.raises(errors.NotFound) as caught:
        mounted.read(target(service="credentials: variables"), {"POSTGRES_HOST": "h", "POSTGRES_PASSWORD": "p"})
    assert 'POSTGRES_* lacks the key "POSTGRES_PORT"; present: POSTGRES_HOST, POSTGRES_PASSWORD' in caught.value.message
    assert caught.value.hint == "set POSTGRES_PORT=… for the worker"


def test_bad_flow_mounted_credentials_of_another_environment_are_refused(tmp_path: Path) -> None:
    given = mounted_secret(tmp_path, host="h", port="1", username="u", password="p", database="auth_release")
    with pytest.raises(errors.NotFound) as caught:
        database_url.encode(credentials.fetch(given, Settings()), given)
    assert caught.value.code == "wrong-database"
