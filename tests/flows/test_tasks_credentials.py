"""Step 1 reads a secret: which keys and values it takes, where its own token comes from, and that nothing secret shows.

What Vault itself refuses is in test_vault_errors.py, the ways to log in are in test_vault_logins.py, both on a real OpenBao.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from migrator import errors
from sandbox.vault.secrets_server import SecretsServer
from tasks import credentials, fleet
from tasks.fleet.models import Target
from tasks.settings import Settings
from tests.flows.fake_proxy import FakeProxy

PASSWORD = "p%/:@#?&+ '\"\\$é漢"
SECRET: dict[str, Any] = {"host": "db.example", "port": 5432, "username": "auth", "password": PASSWORD, "database": "auth_db_dev"}


@pytest.fixture(scope="module")
def server() -> Iterator[SecretsServer]:
    with SecretsServer() as started:
        yield started


@pytest.fixture
def target(request: pytest.FixtureRequest) -> Target:
    """A target with a path of this test's own."""
    found = fleet.load().target("auth-service", "dev")
    return found.model_copy(update={"vault_path": f"apps/{abs(hash(request.node.nodeid)):x}/postgres"})


@pytest.fixture
def policy(server: SecretsServer, target: Target) -> str:
    """A policy that reads the target's secret."""
    name = "reader-" + target.vault_path.split("/")[1]
    server.create_policy(name, {f"secret/data/{target.vault_path}": ["read"]})
    return name


@pytest.fixture
def token(server: SecretsServer, policy: str) -> str:
    return server.create_token(policy)


def configured(server: SecretsServer, **options: Any) -> Settings:
    given = {"GREYLAG_VAULT_ADDRESS": server.url, "vault_timeout_seconds": 5.0, **options}
    if isinstance(given.get("token"), str):
        given["GREYLAG_VAULT_TOKEN"] = SecretStr(given.pop("token"))
    return Settings(**given)


def refused(target: Target, settings: Settings, kind: type[errors.GreylagError], code: str) -> errors.GreylagError:
    with pytest.raises(errors.GreylagError) as caught:
        credentials.fetch(target, settings)
    error = caught.value
    assert (type(error), error.code) == (kind, code), error.describe()
    assert error.hint
    assert error.__cause__ is None and (error.__suppress_context__ or error.__context__ is None)
    for secret in (PASSWORD, "hvs.", settings.vault_token.get_secret_value() if settings.vault_token else "hvs."):
        assert secret not in error.describe()
    return error


def test_credentials_come_back_and_the_password_does_not_show(server: SecretsServer, target: Target, token: str) -> None:
    server.write_secret(target.vault_path, SECRET)
    server.write_secret(target.vault_path, SECRET)
    found = credentials.fetch(target, configured(server, token=token))
    assert (found.host, found.port, found.username, found.database, found.version) == ("db.example", 5432, "auth", "auth_db_dev", 2)
    assert found.password.get_secret_value() == PASSWORD
    assert PASSWORD not in repr(found) + str(found.model_dump())


def test_a_token_file_may_end_with_a_line_break_and_the_shells_own_token_is_not_obeyed(
    server: SecretsServer, target: Target, token: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.write_secret(target.vault_path, SECRET)
    monkeypatch.setenv("VAULT_TOKEN", "hvs.of-the-shell")
    path = tmp_path / "token"
    path.write_text(token + "\n", encoding="utf-8")
    assert credentials.fetch(target, configured(server, vault_token_file=path)).username == "auth"


@pytest.mark.parametrize("content", ["", "\n", "two words", "a\nb"])
def test_bad_flow_a_token_file_without_a_token(server: SecretsServer, target: Target, tmp_path: Path, content: str) -> None:
    path = tmp_path / "token"
    path.write_text(content, encoding="utf-8")
    refused(target, configured(server, vault_token_file=path), errors.UsageError, "vault-token")


def test_bad_flow_a_token_file_that_is_not_there(server: SecretsServer, target: Target, tmp_path: Path) -> None:
    error = refused(target, configured(server, vault_token_file=tmp_path / "none"), errors.UsageError, "vault-token")
    assert "GREYLAG_VAULT_TOKEN_FILE" in error.hint


def test_bad_flow_a_token_with_a_character_that_no_header_holds(server: SecretsServer, target: Target) -> None:
    error = refused(target, configured(server, token="hvs.se\ncret"), errors.UsageError, "vault-token")
    assert "cret" not in error.message.replace("secret", "")


def test_approle_logs_in_and_gives_its_token_back(server: SecretsServer, target: Target, policy: str, tmp_path: Path) -> None:
    server.write_secret(target.vault_path, SECRET)
    role = server.create_role("deployer", policy)
    path = tmp_path / "secret-id"
    path.write_text(role.secret_id + "\n", encoding="utf-8")
    with FakeProxy(server.url) as proxy:
        settings = configured(server, GREYLAG_VAULT_ADDRESS=proxy.url, vault_role_id=role.role_id, vault_secret_id_file=path)
        assert credentials.fetch(target, settings).username == "auth"
        assert [request.partition("/v1/")[2] for request in proxy.requests] == [
            "auth/approle/login",
            f"secret/data/{target.vault_path}",
            "auth/token/revoke-self",
        ]


def test_bad_flow_no_login_is_configured(server: SecretsServer, target: Target) -> None:
    refused(target, configured(server), errors.UsageError, "vault-settings")


def test_bad_flow_a_missing_key_is_named_with_those_that_are_there(server: SecretsServer, target: Target, token: str) -> None:
    server.write_secret(target.vault_path, {key: value for key, value in SECRET.items() if key != "username"})
    error = refused(target, configured(server, token=token), errors.NotFound, "key-missing")
    assert 'lacks the key "username" (or user); present: database, host, password, port' in error.message
    assert "vault.keys.username" in error.hint


def test_aliases_of_keys_are_taken(server: SecretsServer, target: Target, token: str) -> None:
    renamed = {"user" if key == "username" else "dbname" if key == "database" else key: value for key, value in SECRET.items()}
    server.write_secret(target.vault_path, renamed)
    found = credentials.fetch(target, configured(server, token=token))
    assert (found.username, found.database) == ("auth", "auth_db_dev")


def test_a_port_from_fleet_yaml_stands_in_for_a_missing_one(server: SecretsServer, target: Target, token: str) -> None:
    server.write_secret(target.vault_path, {key: value for key, value in SECRET.items() if key != "port"})
    assert credentials.fetch(target.model_copy(update={"port": 6432}), configured(server, token=token)).port == 6432


@pytest.mark.parametrize("port", ["0", "65536", "54a2", "", "５４３２", "5_432", -1])
def test_bad_flow_a_port_that_is_none(server: SecretsServer, target: Target, token: str, port: Any) -> None:
    server.write_secret(target.vault_path, SECRET | {"port": port})
    refused(target, configured(server, token=token), errors.UsageError, "bad-port")


@pytest.mark.parametrize(("value", "words"), [(None, "null"), ([PASSWORD], "a list"), ({"a": 1}, "a mapping"), (True, "a boolean")])
def test_bad_flow_a_value_that_is_no_text_is_not_quoted(server: SecretsServer, target: Target, token: str, value: Any, words: str) -> None:
    server.write_secret(target.vault_path, SECRET | {"password": value})
    error = refused(target, configured(server, token=token), errors.UsageError, "bad-secret")
    assert words in error.message


def test_what_was_read_is_masked_in_every_later_log_line(server: SecretsServer, target: Target, token: str, tmp_path: Path) -> None:
    server.write_secret(target.vault_path, SECRET | {"password": "correct horse/battery"})
    log = tmp_path / "log"
    handler = logging.FileHandler(log, encoding="utf-8")
    logger = logging.getLogger("tasks")
    logger.addHandler(handler)
    try:
        credentials.fetch(target, configured(server, token=token))
        logger.error("raw %s, encoded %s", "correct horse/battery", "correct%20horse%2Fbattery")
        try:
            raise RuntimeError("inside: correct horse/battery")
        except RuntimeError:
            logger.exception("traceback")
    finally:
        logger.removeHandler(handler)
        handler.close()
    written = log.read_text(encoding="utf-8")
    assert "raw ***, encoded ***" in written
    assert "inside: ***" in written and "horse" not in written
