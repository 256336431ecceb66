"""Step 1 against a secrets server with Vault's API: every row of vault.md §2 ends as one error with a remedy, and no secret in it."""

from __future__ import annotations

import datetime
import logging
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from migrator import errors
from sandbox import ports
from sandbox.vault import secrets_server as sandbox
from tasks import backoff, credentials, fleet
from tasks.fleet.models import Target
from tasks.settings import Settings

PASSWORD = "p%/:@#?&+ '\"\\$é漢"
SECRET: dict[str, Any] = {"host": "db.example", "port": 5432, "username": "auth", "password": PASSWORD, "database": "auth_db_dev"}


@pytest.fixture(scope="module")
def server() -> Iterator[sandbox.SecretsServer]:
    with sandbox.SecretsServer() as started:
        yield started


@pytest.fixture(autouse=True)
def _calm(server: sandbox.SecretsServer) -> Iterator[None]:
    yield
    server.faults.clear()


@pytest.fixture
def target(request: pytest.FixtureRequest) -> Target:
    """A target with a path of this test's own."""
    found = fleet.load().target("auth-service", "dev")
    return found.model_copy(update={"vault_path": f"apps/{abs(hash(request.node.nodeid)):x}/postgres"})


@pytest.fixture
def token(server: sandbox.SecretsServer, target: Target) -> str:
    server.create_policy("reader-" + target.vault_path.split("/")[1], {f"secret/data/{target.vault_path}": ["read"]})
    return server.create_token("reader-" + target.vault_path.split("/")[1])


def configured(server: sandbox.SecretsServer, **options: Any) -> Settings:
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


def test_credentials_come_back_and_the_password_does_not_show(server: sandbox.SecretsServer, target: Target, token: str) -> None:
    server.write_secret(target.vault_path, SECRET)
    server.write_secret(target.vault_path, SECRET)
    found = credentials.fetch(target, configured(server, token=token))
    assert (found.host, found.port, found.username, found.database, found.version) == ("db.example", 5432, "auth", "auth_db_dev", 2)
    assert found.password.get_secret_value() == PASSWORD
    assert PASSWORD not in repr(found) + str(found.model_dump())


def test_a_token_file_may_end_with_a_line_break(server: sandbox.SecretsServer, target: Target, token: str, tmp_path: Path) -> None:
    server.write_secret(target.vault_path, SECRET)
    path = tmp_path / "token"
    path.write_text(token + "\n", encoding="utf-8")
    assert credentials.fetch(target, configured(server, vault_token_file=path)).username == "auth"


@pytest.mark.parametrize("content", ["", "\n", "two words", "a\nb"])
def test_bad_flow_a_token_file_without_a_token(server: sandbox.SecretsServer, target: Target, tmp_path: Path, content: str) -> None:
    path = tmp_path / "token"
    path.write_text(content, encoding="utf-8")
    refused(target, configured(server, vault_token_file=path), errors.UsageError, "vault-token")


def test_bad_flow_a_token_file_that_is_not_there(server: sandbox.SecretsServer, target: Target, tmp_path: Path) -> None:
    error = refused(target, configured(server, vault_token_file=tmp_path / "none"), errors.UsageError, "vault-token")
    assert "GREYLAG_VAULT_TOKEN_FILE" in error.hint


def test_bad_flow_a_token_with_a_character_that_no_header_holds(server: sandbox.SecretsServer, target: Target) -> None:
    error = refused(target, configured(server, token="hvs.se\ncret"), errors.UsageError, "vault-token")
    assert "cret" not in error.message.replace("secret", "")


def test_approle_logs_in_and_gives_its_token_back(server: sandbox.SecretsServer, target: Target, token: str, tmp_path: Path) -> None:
    server.write_secret(target.vault_path, SECRET)
    role = server.create_role("deployer", "reader-" + target.vault_path.split("/")[1])
    path = tmp_path / "secret-id"
    path.write_text(role.secret_id + "\n", encoding="utf-8")
    found = credentials.fetch(target, configured(server, vault_role_id=role.role_id, vault_secret_id_file=path))
    assert found.username == "auth"
    assert server.requests[-1] == "POST /v1/auth/token/revoke-self"


def test_bad_flow_approle_with_a_wrong_secret_id(server: sandbox.SecretsServer, target: Target, token: str, tmp_path: Path) -> None:
    role = server.create_role("deployer", "reader-" + target.vault_path.split("/")[1])
    path = tmp_path / "secret-id"
    path.write_text("11111111-2222", encoding="utf-8")
    error = refused(target, configured(server, vault_role_id=role.role_id, vault_secret_id_file=path), errors.LoginFailed, "vault-login")
    assert "invalid role or secret ID" in error.message
    assert "11111111-2222" not in error.describe()


def test_bad_flow_no_login_is_configured(server: sandbox.SecretsServer, target: Target) -> None:
    refused(target, configured(server), errors.UsageError, "vault-settings")


def test_bad_flow_a_path_that_never_existed(server: sandbox.SecretsServer, target: Target, token: str) -> None:
    error = refused(target, configured(server, token=token), errors.NotFound, "secret-missing")
    assert f"secret/{target.vault_path}" in error.message
    assert "vault kv put" in error.hint


def test_bad_flow_a_deleted_secret_is_told_from_a_missing_one(server: sandbox.SecretsServer, target: Target, token: str) -> None:
    server.write_secret(target.vault_path, SECRET)
    server.request("DELETE", f"secret/data/{target.vault_path}")
    error = refused(target, configured(server, token=token), errors.NotFound, "secret-deleted")
    assert "vault kv undelete -versions=1" in error.hint


def test_bad_flow_a_destroyed_version_is_told_from_a_deleted_one(server: sandbox.SecretsServer, target: Target, token: str) -> None:
    server.write_secret(target.vault_path, SECRET)
    server.request("PUT", f"secret/destroy/{target.vault_path}", {"versions": [1]})
    error = refused(target, configured(server, token=token), errors.NotFound, "secret-destroyed")
    assert "version 1" in error.message


def test_bad_flow_a_mount_that_does_not_exist(server: sandbox.SecretsServer, target: Target) -> None:
    elsewhere = target.model_copy(update={"vault_mount": "nowhere"})
    error = refused(elsewhere, configured(server, token=server.root_token), errors.NotFound, "mount-missing")
    assert '"nowhere"' in error.message


def test_bad_flow_a_missing_permission_logs_in_once_more_and_then_stops(server: sandbox.SecretsServer, target: Target, token: str) -> None:
    other = target.model_copy(update={"vault_path": "apps/prod/other"})
    before = len(server.requests)
    error = refused(other, configured(server, token=token), errors.LoginFailed, "vault-forbidden")
    assert server.requests[before:] == ["GET /v1/secret/data/apps/prod/other"] * 2
    assert 'path "secret/data/apps/prod/other"' in error.hint


def test_an_expired_token_is_replaced_by_a_second_login(server: sandbox.SecretsServer, target: Target, token: str, tmp_path: Path) -> None:
    server.write_secret(target.vault_path, SECRET)
    role = server.create_role("deployer", "reader-" + target.vault_path.split("/")[1])
    path = tmp_path / "secret-id"
    path.write_text(role.secret_id, encoding="utf-8")
    server.faults.append(sandbox.Fault(200, '{"auth": {"client_token": "hvs.expired"}}'))  # the first login gives a dead token
    found = credentials.fetch(target, configured(server, vault_role_id=role.role_id, vault_secret_id_file=path))
    assert found.username == "auth"


def test_bad_flow_a_missing_key_is_named_with_those_that_are_there(server: sandbox.SecretsServer, target: Target, token: str) -> None:
    server.write_secret(target.vault_path, {key: value for key, value in SECRET.items() if key != "username"})
    error = refused(target, configured(server, token=token), errors.NotFound, "key-missing")
    assert 'lacks the key "username" (or user); present: database, host, password, port' in error.message
    assert "vault.keys.username" in error.hint


def test_aliases_of_keys_are_taken(server: sandbox.SecretsServer, target: Target, token: str) -> None:
    renamed = {"user" if key == "username" else "dbname" if key == "database" else key: value for key, value in SECRET.items()}
    server.write_secret(target.vault_path, renamed)
    found = credentials.fetch(target, configured(server, token=token))
    assert (found.username, found.database) == ("auth", "auth_db_dev")


def test_a_port_from_fleet_yaml_stands_in_for_a_missing_one(server: sandbox.SecretsServer, target: Target, token: str) -> None:
    server.write_secret(target.vault_path, {key: value for key, value in SECRET.items() if key != "port"})
    assert credentials.fetch(target.model_copy(update={"port": 6432}), configured(server, token=token)).port == 6432


@pytest.mark.parametrize("port", ["0", "65536", "54a2", "", "５４３２", "5_432", -1])
def test_bad_flow_a_port_that_is_none(server: sandbox.SecretsServer, target: Target, token: str, port: Any) -> None:
    server.write_secret(target.vault_path, SECRET | {"port": port})
    refused(target, configured(server, token=token), errors.UsageError, "bad-port")


@pytest.mark.parametrize(("value", "words"), [(None, "null"), ([PASSWORD], "a list"), ({"a": 1}, "a mapping"), (True, "a boolean")])
def test_bad_flow_a_value_that_is_no_text_is_not_quoted(
    server: sandbox.SecretsServer, target: Target, token: str, value: Any, words: str
) -> None:
    server.write_secret(target.vault_path, SECRET | {"password": value})
    error = refused(target, configured(server, token=token), errors.UsageError, "bad-secret")
    assert words in error.message


def test_a_sealed_server_is_worth_another_attempt(server: sandbox.SecretsServer, target: Target, token: str) -> None:
    server.seal()
    try:
        error = refused(target, configured(server, token=token), errors.Unavailable, "vault-sealed")
    finally:
        server.unseal()
    assert not backoff.permanent(error)


@pytest.mark.parametrize(
    ("fault", "kind", "code"),
    [
        (sandbox.Fault(429, sandbox.RATE_LIMITED), errors.Unavailable, "vault-rate-limited"),
        (sandbox.Fault(500, sandbox.NO_LEADER), errors.Unavailable, "vault-error"),
        (sandbox.Fault(502, "<html>Bad Gateway</html>", content_type="text/html"), errors.Unavailable, "vault-gateway"),
        (sandbox.Fault(504, "<html>Gateway Time-out</html>", content_type="text/html"), errors.Unavailable, "vault-unexpected"),
        (sandbox.Fault(412, '{"errors":["required index state not present"]}'), errors.Unavailable, "vault-unexpected"),
        (sandbox.Fault(501, '{"errors":["Vault is not initialized"]}'), errors.Unavailable, "vault-uninitialised"),
        (sandbox.Fault(0), errors.Unavailable, "vault-unreachable"),
        (sandbox.Fault(200, "<html>a portal</html>", content_type="text/html"), errors.UsageError, "vault-address"),
        (sandbox.Fault(307, headers={"Location": "http://127.0.0.1:1/v1/x"}), errors.UsageError, "vault-address"),
        (sandbox.Fault(400, "Client sent an HTTP request to an HTTPS server.\n"), errors.UsageError, "vault-address"),
    ],
    ids=["429", "500", "502", "504", "412", "501", "hang-up", "html", "redirect", "http-to-https"],
)
def test_bad_flow_answers_of_servers_and_proxies(
    server: sandbox.SecretsServer, target: Target, token: str, fault: sandbox.Fault, kind: type[errors.GreylagError], code: str
) -> None:
    server.faults.append(sandbox.Fault(**{name: getattr(fault, name) for name in fault.__dataclass_fields__}))
    error = refused(target, configured(server, token=token), kind, code)
    assert backoff.permanent(error) is (kind is errors.UsageError)
    assert "<html>" not in error.describe()


def test_a_hang_is_bounded(server: sandbox.SecretsServer, target: Target, token: str) -> None:
    server.faults.append(sandbox.Fault(200, delay=2.0))
    refused(target, configured(server, token=token, vault_timeout_seconds=0.3), errors.Unavailable, "vault-timeout")


def test_bad_flow_nobody_listens(target: Target) -> None:
    settings = Settings(GREYLAG_VAULT_ADDRESS=f"http://127.0.0.1:{ports.free_port()}", GREYLAG_VAULT_TOKEN=SecretStr("hvs.x1234"))
    refused(target, settings, errors.Unavailable, "vault-unreachable")


def test_the_token_is_not_sent_on_to_where_a_redirect_points(server: sandbox.SecretsServer, target: Target, token: str) -> None:
    with sandbox.SecretsServer() as other:
        server.faults.append(sandbox.Fault(307, headers={"Location": f"{other.url}/v1/secret/data/x"}))
        refused(target, configured(server, token=token), errors.UsageError, "vault-address")
        assert other.requests == []


def test_tls_with_its_own_authority(tmp_path: Path, target: Target) -> None:
    certificate, key = self_signed(tmp_path)
    with sandbox.SecretsServer(certificate=certificate, key=key) as secure:
        address = {"GREYLAG_VAULT_ADDRESS": secure.url, "GREYLAG_VAULT_TOKEN": SecretStr(secure.root_token)}
        with ssl_environment_unset():
            error = refused(target, Settings(**address), errors.LoginFailed, "vault-certificate")
            assert "GREYLAG_VAULT_CA_FILE" in error.hint
        refused(target, Settings(**address, GREYLAG_VAULT_CA_FILE=certificate), errors.NotFound, "secret-missing")
        refused(target, Settings(**address, GREYLAG_VAULT_CA_FILE=tmp_path / "none.pem"), errors.UsageError, "vault-ca-file")


def test_the_client_obeys_no_token_of_the_shell(
    server: sandbox.SecretsServer, target: Target, token: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server.write_secret(target.vault_path, SECRET)
    monkeypatch.setenv("VAULT_TOKEN", "hvs.of-the-shell")
    path = tmp_path / "token"
    path.write_text(token, encoding="utf-8")
    assert credentials.fetch(target, configured(server, vault_token_file=path)).username == "auth"


def test_what_was_read_is_masked_in_every_later_log_line(server: sandbox.SecretsServer, target: Target, token: str, tmp_path: Path) -> None:
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


def self_signed(directory: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that is its own authority."""
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "vault")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = directory / "vault.crt", directory / "vault.key"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    assert ssl.create_default_context(cafile=str(paths[0]))
    return paths


class ssl_environment_unset:  # noqa: N801 - reads as a statement
    """REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE would decide what requests trusts."""

    def __enter__(self) -> None:
        self._patch = pytest.MonkeyPatch()
        self._patch.delenv("REQUESTS_CA_BUNDLE", raising=False)
        self._patch.delenv("CURL_CA_BUNDLE", raising=False)

    def __exit__(self, *_: object) -> None:
        self._patch.undo()
