"""The sandbox's own secrets server answers hvac as OpenBao does, in all that the demo and the tests ask of it: every test runs against both."""

from __future__ import annotations

import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import hvac
import pytest
import requests
from hvac import exceptions

from migrator import errors
from sandbox import builds
from sandbox.vault import administration, openbao_server, secrets_server
from tests import needs

PATH = "apps/my-girok/dev/auth-service/postgres"
SECRET = {"host": "127.0.0.1", "port": 5432, "username": "auth", "password": "p%/:@#?&+ '\"\\$é漢", "database": "auth_db_dev"}
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module", params=["own", "openbao"])
def vault(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[administration.Administration]:
    if request.param == "own":
        with secrets_server.SecretsServer() as own:
            yield own
    else:
        needs.openbao()
        with openbao_server.OpenBaoServer(tmp_path_factory.mktemp("openbao")) as real:
            yield real


def client(server: administration.Administration, token: str | None = None) -> hvac.Client:
    return hvac.Client(url=server.url, token=token or server.root_token, timeout=10)


def kv(server: administration.Administration, token: str | None = None) -> Any:
    return client(server, token).secrets.kv.v2


def read(server: administration.Administration, path: str = PATH, token: str | None = None, **options: Any) -> Any:
    return kv(server, token).read_secret_version(path=path, raise_on_deleted_version=True, **options)["data"]


@pytest.fixture
def dev_token(vault: administration.Administration) -> str:
    """A token that may read dev's secrets alone; there is one."""
    vault.write_secret(PATH, SECRET)
    vault.create_policy("dev", {"secret/data/apps/my-girok/dev/*": ["read"]})
    return vault.create_token("dev")


def test_a_secret_comes_back_as_it_was_written_with_the_number_of_its_version(vault: administration.Administration) -> None:
    assert [vault.write_secret("counted", {"password": word}) for word in ("first", SECRET["password"])] == [1, 2]
    found = read(vault, "counted")
    assert found["data"] == {"password": SECRET["password"]}
    assert (found["metadata"]["version"], found["metadata"]["deletion_time"], found["metadata"]["destroyed"]) == (2, "", False)
    assert vault.read_secret("counted") == found["data"] and vault.read_secret("never/written") is None


def test_bad_flow_a_secret_that_is_not_there(vault: administration.Administration) -> None:
    vault.write_secret("short-lived", {"n": 1})
    kv(vault).delete_metadata_and_all_versions(path="short-lived")
    for path in ("short-lived", "never/written"):
        with pytest.raises(exceptions.InvalidPath) as caught:
            read(vault, path)
        assert caught.value.json == {"errors": []}
    with pytest.raises(exceptions.InvalidPath, match="no handler for route"):
        read(vault, mount_point="nowhere")
    with pytest.raises(exceptions.InvalidRequest, match="no data provided"):
        client(vault).adapter.post("/v1/secret/data/empty", json={})


def test_a_limited_token_reads_its_own_environment_and_nothing_else(vault: administration.Administration, dev_token: str) -> None:
    assert read(vault, token=dev_token)["data"] == SECRET
    own = kv(vault, dev_token)
    for attempt in (
        lambda: read(vault, PATH.replace("/dev/", "/prod/"), dev_token),
        lambda: read(vault, "apps/other", dev_token),
        lambda: read(vault, token=dev_token, mount_point="nowhere"),
        lambda: own.create_or_update_secret(path=PATH, secret={"a": "b"}),
        lambda: own.delete_metadata_and_all_versions(path=PATH),
        lambda: own.list_secrets(path="apps/my-girok/dev"),
        lambda: client(vault, dev_token).sys.create_or_update_policy("dev", {"path": {}}),
        lambda: client(vault, dev_token).auth.token.create(policies=["root"]),
    ):
        with pytest.raises(exceptions.Forbidden) as caught:
            attempt()
        assert caught.value.errors == ["1 error occurred:\n\t* permission denied\n\n"]


def test_the_more_specific_rule_and_deny_win(vault: administration.Administration) -> None:
    rules = {"secret/data/mixed/*": ["read"], "secret/data/mixed/closed": ["deny", "read"], "secret/data/mixed/written/*": ["create"]}
    vault.create_policy("mixed", rules)
    token = vault.create_token("mixed")
    for name in ("open", "closed", "written/a"):
        vault.write_secret(f"mixed/{name}", {"n": 1})
    assert read(vault, "mixed/open", token)["data"] == {"n": 1}
    for name in ("closed", "written/a"):
        with pytest.raises(exceptions.Forbidden):
            read(vault, f"mixed/{name}", token)


def test_bad_flow_a_token_that_nobody_made_or_that_was_given_back(vault: administration.Administration, dev_token: str) -> None:
    client(vault, dev_token).auth.token.revoke_self()
    for token in (dev_token, "s.never-issued", ""):
        asking = hvac.Client(url=vault.url, token="x", timeout=10)
        asking.token = token
        with pytest.raises(exceptions.Forbidden) as caught:
            asking.secrets.kv.v2.read_secret_version(path=PATH, raise_on_deleted_version=True)
        assert caught.value.errors == ["permission denied"]


def test_approle_logs_in_with_the_roles_policy(vault: administration.Administration, dev_token: str) -> None:
    role = vault.create_role("dev-worker", "dev", token_ttl="20m", token_max_ttl="1h")
    login = hvac.Client(url=vault.url, timeout=10)
    told = login.auth.approle.login(role_id=role.role_id, secret_id=role.secret_id)["auth"]
    assert (told["policies"], told["metadata"]) == (["default", "dev"], {"role_name": "dev-worker"})
    assert read(vault, token=login.token)["data"] == SECRET
    login.auth.token.revoke_self()
    with pytest.raises(exceptions.Forbidden):
        read(vault, token=told["client_token"])
    assert role.secret_id not in repr(role)
    for wrong in ("role_id", "secret_id"):
        with pytest.raises(exceptions.InvalidRequest) as caught:
            login.auth.approle.login(**{"role_id": role.role_id, "secret_id": role.secret_id} | {wrong: "no-such-id"})
        assert caught.value.errors == ["invalid role or secret ID"]


def test_health_needs_no_token(vault: administration.Administration) -> None:
    assert hvac.Client(url=vault.url, timeout=10).sys.read_health_status(method="GET")["sealed"] is False


def test_many_clients_at_once(vault: administration.Administration) -> None:
    vault.write_secret(PATH, SECRET)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda _: read(vault)["data"], range(40))) == [SECRET] * 40


# From here on our own server alone.


def test_bad_flow_what_it_lacks_is_refused_and_never_half_done() -> None:
    with secrets_server.SecretsServer() as own:
        for attempt in (
            lambda: own.create_token("dev", ttl="1h"),
            lambda: own.create_policy("plus", {"secret/data/+/x": ["read"]}),
            lambda: own.request("PUT", "sys/policies/acl/hcl", {"policy": 'path "a" { capabilities = ["read"] }'}),
            lambda: own.request("PUT", "sys/seal", {}),
            lambda: own.request("PUT", "secret/destroy/a", {"versions": [1]}),
        ):
            with pytest.raises(errors.Unavailable, match="the sandbox's own secrets server"):
                attempt()


def test_as_a_process_it_shows_no_token_on_its_command_line(tmp_path: Path) -> None:
    with secrets_server.SecretsProcess(tmp_path) as server:
        server.write_secret(PATH, SECRET)
        assert read(server)["data"] == SECRET
        listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, encoding="utf-8", check=True).stdout
        assert "sandbox.vault.secrets_server" in listed and server.root_token not in listed
        assert stat.S_IMODE((tmp_path / "server.log").stat().st_mode) == 0o600
    with pytest.raises(requests.exceptions.ConnectionError):
        read(server)


def test_bad_flow_the_process_needs_a_root_token() -> None:
    command = [sys.executable, "-m", "sandbox.vault.secrets_server", "--port", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 2 and "must hold the root token" in done.stderr


def test_the_demo_takes_openbao_where_it_is_built(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(builds, "binary", lambda name: tmp_path / name)
    assert isinstance(secrets_server.open_server(tmp_path), openbao_server.OpenBaoServer)
    monkeypatch.setattr(builds, "binary", lambda _: None)
    assert isinstance(secrets_server.open_server(tmp_path), secrets_server.SecretsProcess)
