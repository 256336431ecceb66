"""The real OpenBao of the sandbox: seal, restart, TLS, JWT logins, wrapping, namespaces and quotas, each as hvac shows it (vault.md §2).

What our own secrets server has too is in test_secrets_server.py, which runs against both.
"""

from __future__ import annotations

import datetime
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hvac
import pytest
import requests
from hvac import exceptions

from sandbox import builds, certificates
from sandbox.vault import logins, openbao_server, secrets_server

SUBJECT = "system:serviceaccount:my-girok:migration"
AUDIENCE = "vault"
CLAIMS = {"kubernetes.io": {"namespace": "my-girok", "serviceaccount": {"name": "migration"}}}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[openbao_server.OpenBaoServer]:
    if builds.binary(builds.OPENBAO) is None:
        pytest.skip(builds.missing(builds.OPENBAO))
    with openbao_server.OpenBaoServer(tmp_path_factory.mktemp("openbao")) as running:
        running.create_policy("reader", {"secret/data/apps/*": ["read"]})
        running.write_secret("apps/auth", {"password": "hunter2"})
        yield running


def client(server: openbao_server.OpenBaoServer, token: str | None = None, **options: Any) -> Any:
    return hvac.Client(url=server.url, token=token or server.root_token, timeout=10, **options)


def read(server: openbao_server.OpenBaoServer, token: str | None = None, **options: Any) -> Any:
    found = client(server, token, **options).secrets.kv.v2.read_secret_version("apps/auth", raise_on_deleted_version=True)
    return found["data"]["data"]


def test_bad_flow_a_sealed_server_is_down_until_it_is_unsealed(server: openbao_server.OpenBaoServer) -> None:
    server.seal()
    with pytest.raises(exceptions.VaultDown, match="Vault is sealed"):
        read(server)
    assert not server.healthy()
    server.unseal()
    assert read(server) == {"password": "hunter2"}


def test_tokens_and_secrets_survive_a_restart(server: openbao_server.OpenBaoServer) -> None:
    token = server.create_token("reader")
    server.stop()
    with pytest.raises(requests.exceptions.ConnectionError):
        read(server, token)
    server.start()
    assert read(server, token) == {"password": "hunter2"}


def test_bad_flow_a_restarted_server_is_sealed_before_it_is_up(server: openbao_server.OpenBaoServer) -> None:
    server.restart(sealed=True)
    with pytest.raises(exceptions.VaultDown, match="Vault is sealed"):
        read(server)
    server.unseal()
    server.wait_until_healthy()
    assert read(server) == {"password": "hunter2"}


def test_what_was_written_survives_a_crash(server: openbao_server.OpenBaoServer) -> None:
    server.write_secret("apps/kept", {"n": 1})
    server.crash()
    server.start()
    assert server.read_secret("apps/kept") == {"n": 1}


def test_bad_flow_a_server_that_was_never_initialised(server: openbao_server.OpenBaoServer, tmp_path: Path) -> None:
    fresh = openbao_server.OpenBaoServer(tmp_path)
    try:
        fresh.start(sealed=True)
        with pytest.raises(exceptions.VaultError) as caught:
            read(fresh, "hvs.anything")
        assert isinstance(caught.value, exceptions.VaultDown | exceptions.VaultNotInitialized)
        assert client(fresh, "hvs.anything").sys.is_initialized() is False
    finally:
        fresh.stop()


def test_a_second_object_on_the_directory_finds_the_data_and_keeps_the_token(tmp_path: Path, server: openbao_server.OpenBaoServer) -> None:
    with openbao_server.OpenBaoServer(tmp_path, root_token="root-1") as first:
        assert first.root_token == "root-1"
        first.write_secret("apps/auth", {"password": "x"})
    with openbao_server.OpenBaoServer(tmp_path) as second:
        assert second.root_token == "root-1"
        assert read(second) == {"password": "x"}
    for name in ("keys.json", "root-token", "server.log"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    assert "root-1" not in (tmp_path / "server.log").read_text(encoding="utf-8")


def test_no_token_is_on_a_command_line(server: openbao_server.OpenBaoServer) -> None:
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, encoding="utf-8", check=True).stdout
    assert str(builds.place(builds.OPENBAO)) in listed
    assert server.root_token not in listed and server.unseal_key not in listed


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory, server: openbao_server.OpenBaoServer) -> Iterator[openbao_server.OpenBaoServer]:
    with openbao_server.OpenBaoServer(tmp_path_factory.mktemp("openbao-tls"), tls=True, hosts=("127.0.0.1",)) as running:
        running.write_secret("apps/auth", {"password": "hunter2"})
        yield running


def test_tls_with_the_servers_own_authority(secure: openbao_server.OpenBaoServer) -> None:
    assert secure.url.startswith("https://")
    assert read(secure, verify=str(secure.ca_file)) == {"password": "hunter2"}


def test_bad_flow_tls_with_an_unknown_authority(secure: openbao_server.OpenBaoServer, tmp_path: Path) -> None:
    other = certificates.Authority(tmp_path, "another authority")
    with pytest.raises(requests.exceptions.SSLError):
        read(secure, verify=str(other.certificate))


def test_bad_flow_tls_under_a_name_that_the_certificate_lacks(secure: openbao_server.OpenBaoServer) -> None:
    elsewhere = hvac.Client(url=secure.url.replace("127.0.0.1", "localhost"), verify=str(secure.ca_file), timeout=10)
    with pytest.raises(requests.exceptions.SSLError, match=r"is not valid for|doesn't match"):
        elsewhere.sys.read_health_status()


def test_bad_flow_a_certificate_that_has_expired(tmp_path: Path) -> None:
    authority = certificates.Authority(tmp_path)
    pair = authority.issue("server", "vault", hosts=("127.0.0.1",), lifetime=datetime.timedelta(hours=-1))
    with secrets_server.SecretsServer(certificate=pair.certificate, key=pair.key) as expired:
        reader = hvac.Client(url=expired.url, token="hvs.x", verify=str(authority.certificate), timeout=10)
        with pytest.raises(requests.exceptions.SSLError, match="certificate has expired"):
            reader.sys.read_health_status()


def test_bad_flow_a_missing_ca_file(secure: openbao_server.OpenBaoServer, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="Could not find a suitable TLS CA certificate bundle"):
        read(secure, verify=str(tmp_path / "none.pem"))


def test_bad_flow_http_to_the_https_port(secure: openbao_server.OpenBaoServer) -> None:
    plain = hvac.Client(url=secure.url.replace("https", "http"), token="hvs.x", timeout=10)
    with pytest.raises(exceptions.InvalidRequest, match="Client sent an HTTP request to an HTTPS server"):
        plain.secrets.kv.v2.read_secret_version("apps/auth", raise_on_deleted_version=True)


@pytest.fixture(scope="module")
def issuer(server: openbao_server.OpenBaoServer) -> logins.TokenIssuer:
    """Stands for the cluster that signs projected service-account tokens."""
    found = logins.TokenIssuer("https://kubernetes.default.svc.cluster.local")
    logins.trust_issuer(server, found)
    logins.create_jwt_role(
        server,
        "migration",
        "reader",
        audience=AUDIENCE,
        subject=SUBJECT,
        claims={"/kubernetes.io/namespace": "my-girok"},
        token_ttl="5m",
    )
    return found


def jwt_login(server: openbao_server.OpenBaoServer, token: str, role: str = "migration") -> Any:
    return hvac.Client(url=server.url, timeout=10).auth.jwt.jwt_login(role=role, jwt=token)


def test_a_signed_token_logs_in(server: openbao_server.OpenBaoServer, issuer: logins.TokenIssuer) -> None:
    auth = jwt_login(server, issuer.token(SUBJECT, AUDIENCE, **CLAIMS))["auth"]
    assert auth["lease_duration"] == 300
    assert read(server, auth["client_token"]) == {"password": "hunter2"}


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda issuer: issuer.token(SUBJECT, AUDIENCE, seconds=-600, **CLAIMS), "error validating token"),
        (lambda issuer: issuer.token(SUBJECT, "elsewhere", **CLAIMS), "error validating"),
        (lambda issuer: issuer.token("system:serviceaccount:my-girok:default", AUDIENCE, **CLAIMS), "error validating"),
        (lambda issuer: issuer.token(SUBJECT, AUDIENCE, **CLAIMS | {"iss": "https://elsewhere"}), "error validating token"),
        (lambda issuer: issuer.token(SUBJECT, AUDIENCE, **{"kubernetes.io": {"namespace": "other"}}), "error validating claims"),
        (lambda issuer: logins.TokenIssuer(issuer.name).token(SUBJECT, AUDIENCE, **CLAIMS), "error validating token"),
        (lambda issuer: "no.token.atall", "error"),
    ],
    ids=["expired", "audience", "subject", "issuer", "namespace", "key", "malformed"],
)
def test_bad_flow_a_token_that_the_role_does_not_accept(
    server: openbao_server.OpenBaoServer,
    issuer: logins.TokenIssuer,
    make: Callable[[logins.TokenIssuer], str],
    says: str,
) -> None:
    token = make(issuer)
    with pytest.raises(exceptions.InvalidRequest, match=says) as caught:
        jwt_login(server, token)
    assert token not in str(caught.value)


def test_bad_flow_a_role_that_does_not_exist(server: openbao_server.OpenBaoServer, issuer: logins.TokenIssuer) -> None:
    with pytest.raises(exceptions.InvalidRequest, match='role "nobody" could not be found'):
        jwt_login(server, issuer.token(SUBJECT, AUDIENCE, **CLAIMS), role="nobody")


def test_a_wrapped_secret_id_is_unwrapped_once(server: openbao_server.OpenBaoServer) -> None:
    role = server.create_role("wrapped", "reader")
    root = client(server)
    wrapped = root.adapter.post("/v1/auth/approle/role/wrapped/secret-id", wrap_ttl="60s")
    word = wrapped["wrap_info"]["token"]
    secret_id = client(server, word).sys.unwrap()["data"]["secret_id"]
    found = hvac.Client(url=server.url, timeout=10)
    found.auth.approle.login(role.role_id, secret_id)
    assert read(server, found.token) == {"password": "hunter2"}
    with pytest.raises(exceptions.InvalidRequest, match="wrapping token is not valid or does not exist"):
        client(server, word).sys.unwrap()


def test_a_namespace_has_secrets_of_its_own(server: openbao_server.OpenBaoServer) -> None:
    server.request("POST", "sys/namespaces/team-a", {})
    inside = client(server, namespace="team-a")
    inside.sys.enable_secrets_engine("kv", path="secret", options={"version": "2"})
    inside.secrets.kv.v2.create_or_update_secret("apps/auth", {"password": "of team a"})
    assert read(server, namespace="team-a") == {"password": "of team a"}
    assert read(server) == {"password": "hunter2"}


def test_bad_flow_a_namespace_that_does_not_exist(server: openbao_server.OpenBaoServer) -> None:
    with pytest.raises(exceptions.VaultError) as caught:
        read(server, namespace="team-b")
    assert isinstance(caught.value, exceptions.InvalidPath | exceptions.Forbidden)


def test_bad_flow_a_quota_limits_the_rate(server: openbao_server.OpenBaoServer) -> None:
    server.write_secret("apps/limited", {"n": 1})
    server.request("POST", "sys/quotas/rate-limit/narrow", {"path": "secret/data/apps/limited", "rate": 1, "interval": "1m"})
    try:
        limited = client(server).secrets.kv.v2
        with pytest.raises(exceptions.RateLimitExceeded):
            for _ in range(3):
                limited.read_secret_version("apps/limited", raise_on_deleted_version=True)
    finally:
        server.request("DELETE", "sys/quotas/rate-limit/narrow")


def test_the_audit_device_shows_no_secret(server: openbao_server.OpenBaoServer, tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    server.request("PUT", "sys/audit/file", {"type": "file", "options": {"file_path": str(log)}})
    try:
        read(server)
    finally:
        server.request("DELETE", "sys/audit/file")
    text = log.read_text(encoding="utf-8")
    assert "secret/data/apps/auth" in text
    assert "hunter2" not in text and server.root_token not in text


def test_make_vault_prints_how_to_use_it(server: openbao_server.OpenBaoServer, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sandbox.vault.openbao_server", "--state", str(tmp_path), "--port", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8") as started:
        assert started.stdout is not None
        said = [started.stdout.readline() for _ in range(3)]
        started.terminate()
        assert started.wait(20) == 128 + 15
    assert "KV v2 at secret/" in said[0]
    assert f'VAULT_TOKEN="$(cat {tmp_path / "root-token"})"' in said[2]
