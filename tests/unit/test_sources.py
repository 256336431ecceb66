"""Where credentials come from: one line of fleet.yaml, read strictly, and what Kubernetes mounts."""

from __future__ import annotations

import ast
import inspect
import os
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployments.privileges import rendering
from migrator import errors, targets
from migrator.planning import files, history, planner
from migrator.targets import Engine
from tasks import commands, credentials, database_url, fleet, redaction
from tasks.credentials import source, sources
from tasks.credentials.dynamic import DatabaseLogin
from tasks.credentials.kv import VaultSecret
from tasks.credentials.mounted import MountedFiles
from tasks.credentials.source import Contradiction, Source, Wanted
from tasks.fleet.models import Check, Target
from tasks.settings import Settings

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
    assert target().source == VaultSecret()
    assert target().secret == "secret/dev/auth-service/postgres"


def test_a_services_line_wins_over_the_environments_and_that_over_the_fleets() -> None:
    everywhere = "credentials: {files: '/run/{environment}/{service}/{store}'}"
    assert target(fleet_line=everywhere).secret == "/run/dev/auth-service/postgres"
    assert target(fleet_line=everywhere, environment=", credentials: variables").secret == "POSTGRES_*"
    assert target(fleet_line=everywhere, environment=", credentials: variables", service="credentials: vault").source == VaultSecret()


def test_a_short_lived_login_names_its_path_and_its_owner() -> None:
    line = "credentials: {dynamic: 'database/creds/{environment}-{service}', host: 'pg.{environment}'}\nowner_role: '{environment}_auth'"
    found = target(service=line)
    assert found.source == DatabaseLogin(place="database/creds/dev-auth-service", host="pg.dev")
    assert found.secret == "database/creds/dev-auth-service"
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
    assert credentials.fetch(given.model_copy(update={"source": MountedFiles(place=str(tmp_path))})).host == "h"


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


def of_variables(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], **given: str) -> credentials.Credentials:
    """What a worker with these variables, and no others of an engine, reads."""
    for name in [name for name in os.environ if "POSTGRES_" in name or "CLICKHOUSE_" in name]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return credentials.fetch(target(**given), Settings())


def test_the_workers_variables_are_read_by_their_usual_names(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {
        "POSTGRES_HOST": "h",
        "POSTGRES_PORT": "5433",
        "POSTGRES_USER": "u",
        "POSTGRES_PASSWORD": "p",
        "POSTGRES_DB": "auth_dev",
        "X": "y",
    }
    found = of_variables(monkeypatch, environment, service="credentials: variables")
    assert (found.host, found.port, found.username, found.database, found.origin) == ("h", 5433, "u", "auth_dev", "POSTGRES_*")


def test_variables_may_have_a_prefix_as_envfrom_gives_it(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {f"AUTH_CLICKHOUSE_{name}": "1" for name in ("HOST", "PORT", "HTTP_PORT", "USERNAME", "PASSWORD", "DATABASE")}
    found = of_variables(monkeypatch, environment, service="credentials: {variables: AUTH_}", engine="clickhouse")
    assert (found.http_port, found.username) == (1, "1")


def test_bad_flow_a_variable_that_is_not_set_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(errors.NotFound) as caught:
        of_variables(monkeypatch, {"POSTGRES_HOST": "h", "POSTGRES_PASSWORD": "p"}, service="credentials: variables")
    assert 'POSTGRES_* lacks the key "POSTGRES_PORT"; present: POSTGRES_HOST, POSTGRES_PASSWORD' in caught.value.message
    assert caught.value.hint == "set POSTGRES_PORT=… for the worker"


def test_bad_flow_mounted_credentials_of_another_environment_are_refused(tmp_path: Path) -> None:
    given = mounted_secret(tmp_path, host="h", port="1", username="u", password="p", database="auth_release")
    with pytest.raises(errors.NotFound) as caught:
        database_url.encode(credentials.fetch(given, Settings()), given)
    assert caught.value.code == "wrong-database"


# --- another kind of source: its own file, and one name in the table -------------------------------------------------------------


class Toy(Source):
    """A source as somebody would add it: everything that the rest of the house asks of one is in here."""

    word = "toy"
    example = "{toy: BOX}"
    aliased = False

    def problem(self) -> str:
        return "" if self.place else "toy names its box: write {toy: BOX}"

    def contradictions(self, service: str, *, engine: Engine, owner_role: str, substitute_password: bool) -> Iterator[Contradiction]:
        if engine is Engine.CLICKHOUSE:
            yield None, f"{service}: the toy has PostgreSQL only", "write `credentials: vault`"

    def read(self, target: Wanted, settings: Settings, reader: source.SecretReader | None = None) -> credentials.Credentials:
        return source.credentials(
            {"host": "box", "port": "1", "username": "u", "password": "a toy box of its own", "database": self.place}, target
        )

    def remedy(self, target: Wanted, key: str, value: str = "…") -> str:
        return f"put {key} into {self.place}"

    def variables(self, target: Wanted) -> frozenset[str]:
        return frozenset({"TOY_PASSWORD"})

    @property
    def policies(self) -> tuple[str, ...]:
        return ("kv",)


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one line."""
    monkeypatch.setitem(sources.KINDS, Toy.word, Toy)


@pytest.mark.usefixtures("toy")
def test_another_kind_is_written_filled_in_and_read_by_one_line_of_the_table() -> None:
    found = target(service="credentials: {toy: 'auth_{environment}'}")
    assert (found.source, found.secret) == (Toy(place="auth_dev"), "auth_dev")
    read = credentials.fetch(found, Settings())
    assert (read.host, read.database, read.origin) == ("box", "auth_dev", "auth_dev")
    assert "toy box" not in redaction.clean("it is a toy box of its own")
    assert database_url.encode(read, found).get_secret_value().startswith("postgres://u:a%20toy%20box%20of%20its%20own@box:1/auth_dev")
    assert not credentials.LifetimeWatcher(found, Settings()).short_lived


@pytest.mark.usefixtures("toy")
def test_another_kind_is_known_to_the_privileges_and_to_the_commands(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TOY_PASSWORD", "a toy box of its own")
    seen = tmp_path / "seen"
    check = Check(run=(sys.executable, "-c", f"import os, pathlib; pathlib.Path({str(seen)!r}).write_text(' '.join(os.environ))"))
    found = target(service="credentials: {toy: auth_dev}").model_copy(update={"preflight": (check,), "root": str(tmp_path)})
    assert f"{found.vault_mount}/data/{found.vault_path}" in rendering.vault([found])
    (tmp_path / "1_x.sql").write_text("-- +goose Up\nSELECT 1;\n", encoding="utf-8")
    nothing = history.History(Engine.POSTGRES, exists=False)
    planned = planner.plan(files.load(tmp_path), nothing, targets.Target(targets.Verb.UP), engine=Engine.POSTGRES)
    commands.check(found, planned)
    assert "GREYLAG_PREFLIGHT_SECRET" in seen.read_text() and "TOY_PASSWORD" not in seen.read_text()


@pytest.mark.usefixtures("toy")
@pytest.mark.parametrize(
    ("given", "part"),
    [
        ({"service": "credentials: toy"}, "toy names its box: write {toy: BOX}"),
        (
            {"service": "credentials: tox"},
            "did you mean toy? write vault, variables, {dynamic: database/creds/ROLE}, {files: /DIRECTORY} or {toy: BOX}",
        ),
        ({"service": "credentials: {toy: x}", "engine": "clickhouse"}, "the toy has PostgreSQL only"),
        ({"service": "credentials: {toy: x, host: h}"}, "host goes with dynamic"),
    ],
)
def test_bad_flow_another_kind_is_refused_in_its_own_words(given: dict[str, str], part: str) -> None:
    with pytest.raises(errors.UsageError) as caught:
        target(**given)
    assert part in caught.value.message


@pytest.mark.usefixtures("toy")
def test_bad_flow_another_kinds_data_that_lack_a_key_name_its_remedy() -> None:
    with pytest.raises(errors.NotFound) as caught:
        source.credentials({"host": "h", "port": "1"}, target(service="credentials: {toy: box}"))
    assert caught.value.hint == "put database into box"


def test_only_a_sources_own_file_and_the_table_name_it() -> None:
    """Neither its class nor its word is named anywhere else in the product: the rest asks the source itself."""
    root = Path(__file__).resolve().parents[2]
    own = {kind: Path(inspect.getfile(kind)) for kind in sources.KINDS.values()}
    table = Path(str(sources.__file__))
    named = []
    for path in [path for floor in ("tasks", "flows", "deployments") for path in sorted((root / floor).rglob("*.py"))]:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} | {
            alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names
        }
        compared = {
            side.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Compare | ast.MatchValue)
            for side in ast.walk(node)
            if isinstance(side, ast.Constant) and isinstance(side.value, str)
        }
        for kind, home in own.items():
            if path not in (home, table) and (kind.__name__ in names or kind.word in compared):
                named.append(f"{path.relative_to(root)}: {kind.__name__}")
    assert named == []
