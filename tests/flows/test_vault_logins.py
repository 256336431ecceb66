"""The ways to log in to Vault, on a real OpenBao: what is read when, what is given back, what is never sent anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hvac
import pytest

from migrator import errors
from sandbox import certificates
from sandbox.vault import logins
from sandbox.vault.openbao_server import OpenBaoServer
from tasks import credentials
from tasks.credentials import LifetimeWatcher
from tasks.settings import Settings
from tests.flows.fake_proxy import FakeProxy, Fault
from tests.flows.vault_faults import wrapped_secret_id
from tests.flows.vault_stage import CLAIMS, SUBJECT, VaultStage, staged

READ = "GET /v1/secret/data/"
JWT_LOGIN = "POST /v1/auth/jwt/login"
APPROLE_LOGIN = "POST /v1/auth/approle/login"
REVOKE = "POST /v1/auth/token/revoke-self"


@pytest.fixture(scope="module")
def server_stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VaultStage]:
    with staged(tmp_path_factory.mktemp("vault-logins")) as found:
        yield found


@pytest.fixture
def stage(server_stage: VaultStage) -> VaultStage:
    server_stage.proxy.calm()
    return server_stage


def asked(stage: VaultStage) -> list[str]:
    """What was asked of Vault, without the secret's own path."""
    return [READ if item.startswith(READ) else item for item in stage.proxy.requests]


def living(stage: VaultStage) -> int:
    """How many tokens the server knows."""
    return len(stage.server.request("LIST", "auth/token/accessors")["data"]["keys"])


def test_a_signed_token_logs_in_and_the_token_of_the_run_is_dead_at_its_end(stage: VaultStage) -> None:
    settings, before = stage.jwt(stage.signed()), living(stage)
    assert credentials.fetch(stage.target(), settings).username == "auth"
    assert asked(stage) == [JWT_LOGIN, READ, REVOKE]
    assert living(stage) == before


def test_a_token_that_was_renewed_in_its_file_meanwhile_is_read_once_more(stage: VaultStage) -> None:
    path = stage.file(stage.signed(seconds=-600))

    def renew(request: str) -> None:
        if request == JWT_LOGIN:
            path.write_text(stage.signed(), encoding="utf-8")

    stage.proxy.on_request = renew  # what a kubelet does between our reading the file and Vault's answer
    settings = stage.settings(vault_jwt_role="reader", vault_jwt_file=path)
    assert credentials.fetch(stage.target(), settings).username == "auth"
    assert asked(stage) == [JWT_LOGIN, JWT_LOGIN, READ, REVOKE]


def test_bad_flow_an_expired_token_whose_file_stays_as_it_is_is_sent_once(stage: VaultStage) -> None:
    with pytest.raises(errors.LoginFailed):
        credentials.fetch(stage.target(), stage.jwt(stage.signed(seconds=-600)))
    assert asked(stage) == [JWT_LOGIN]


def test_bad_flow_a_token_for_another_audience_leaves_the_machine_never(stage: VaultStage) -> None:
    settings = stage.jwt(stage.signed(audience="https://kubernetes.default.svc"), vault_audience="vault")
    with pytest.raises(errors.UsageError) as caught:
        credentials.fetch(stage.target(), settings)
    assert caught.value.code == "vault-audience"
    assert asked(stage) == []


def test_a_token_file_is_read_again_when_its_token_is_dead(stage: VaultStage) -> None:
    path = stage.file(dead := stage.token())
    stage.server.request("POST", "auth/token/revoke", {"token": dead})

    def replace(request: str) -> None:
        path.write_text(stage.token() + "\n", encoding="utf-8")

    stage.proxy.on_request = replace
    assert credentials.fetch(stage.target(), stage.settings(vault_token_file=path)).username == "auth"
    assert asked(stage) == [READ, READ], "a token that is somebody else's is not revoked"


def test_bad_flow_a_missing_permission_is_asked_for_with_a_second_login_and_then_no_more(stage: VaultStage) -> None:
    target = stage.target(vault_path="prod/auth-service/postgres")
    with pytest.raises(errors.LoginFailed) as caught:
        credentials.fetch(target, stage.jwt(stage.signed()))
    assert caught.value.code == "vault-forbidden"
    assert asked(stage) == [JWT_LOGIN, READ, REVOKE, JWT_LOGIN, READ, REVOKE]


def wrapped(stage: VaultStage, name: str = "wrapped") -> Settings:
    role = stage.server.create_role(name, "reader")
    return stage.settings(vault_role_id=role.role_id, vault_wrapped_secret_id_file=stage.file(wrapped_secret_id(stage, name)))


def test_a_wrapped_secret_id_is_unwrapped_once_however_often_the_run_logs_in(stage: VaultStage) -> None:
    settings = wrapped(stage)
    stage.proxy.matching = lambda request: request.startswith(READ)
    stage.proxy.faults.append(Fault(403, '{"errors":["permission denied"]}'))  # as if the token had died at once
    assert credentials.fetch(stage.target(), settings).username == "auth"
    assert [item for item in asked(stage) if "unwrap" in item] == ["POST /v1/sys/wrapping/unwrap"]
    assert asked(stage).count(APPROLE_LOGIN) == 2


def test_the_services_of_one_run_share_what_was_unwrapped(stage: VaultStage) -> None:
    settings = wrapped(stage)
    for _ in range(3):
        assert credentials.fetch(stage.target(), settings).username == "auth"
    assert len([item for item in asked(stage) if "unwrap" in item]) == 1


def test_a_new_wrapping_token_in_the_file_is_taken(stage: VaultStage) -> None:
    settings = wrapped(stage)
    credentials.fetch(stage.target(), settings)
    assert settings.vault_wrapped_secret_id_file is not None
    settings.vault_wrapped_secret_id_file.write_text(wrapped_secret_id(stage, "wrapped"), encoding="utf-8")
    credentials.fetch(stage.target(), settings)
    assert len([item for item in asked(stage) if "unwrap" in item]) == 2


def test_bad_flow_a_wrapping_token_that_somebody_else_used(stage: VaultStage) -> None:
    settings = wrapped(stage)
    assert settings.vault_wrapped_secret_id_file is not None
    stolen = settings.vault_wrapped_secret_id_file.read_text(encoding="utf-8").strip()
    hvac.Client(url=stage.server.url, token=stolen, timeout=10).sys.unwrap()
    with pytest.raises(errors.LoginFailed) as caught:
        credentials.fetch(stage.target(), settings)
    assert caught.value.code == "vault-wrapping-used" and "somebody else did" in caught.value.hint
    assert stolen not in caught.value.describe()
    assert APPROLE_LOGIN not in asked(stage)


def test_a_namespace_has_logins_and_secrets_of_its_own(stage: VaultStage) -> None:
    stage.server.request("POST", "sys/namespaces/team-a", {})
    inside = hvac.Client(url=stage.server.url, token=stage.server.root_token, namespace="team-a", timeout=10)
    inside.sys.enable_secrets_engine("kv", path="secret", options={"version": "2"})
    inside.sys.enable_auth_method("approle")
    inside.sys.create_or_update_policy("reader", 'path "secret/data/*" { capabilities = ["read"] }')
    inside.auth.approle.create_or_update_approle("reader", token_policies=["reader"])
    role_id = inside.auth.approle.read_role_id("reader")["data"]["role_id"]
    secret_id = inside.auth.approle.generate_secret_id("reader")["data"]["secret_id"]
    target = stage.target()
    data = {"host": "db.team-a", "port": 1, "username": "a", "password": "b", "database": "auth_db_dev"}
    inside.secrets.kv.v2.create_or_update_secret(target.vault_path, data)
    own = {"vault_role_id": role_id, "vault_secret_id_file": stage.file(secret_id)}
    assert credentials.fetch(target, stage.settings(**own, GREYLAG_VAULT_NAMESPACE="team-a")).host == "db.team-a"
    with pytest.raises(errors.LoginFailed):
        credentials.fetch(target, stage.settings(**own))
    with pytest.raises(errors.GreylagError) as caught:
        credentials.fetch(target, stage.settings(**own, GREYLAG_VAULT_NAMESPACE="team-b"))
    assert not caught.value.transient


def test_bad_flow_no_variable_of_the_environment_makes_another_authority_trusted(
    stage: VaultStage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = certificates.Authority(tmp_path / "other", "another authority")
    with OpenBaoServer(tmp_path / "secure", tls=True) as secure:
        target = stage.target()
        secure.write_secret(target.vault_path, {"host": "h", "port": 1, "username": "u", "password": "p", "database": "auth_db_dev"})
        for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
            monkeypatch.setenv(name, str(secure.ca_file))
        given: dict[str, Any] = {"url": secure.url, "token": secure.root_token}
        for more in ({}, {"GREYLAG_VAULT_CA_FILE": other.certificate}):
            with pytest.raises(errors.LoginFailed) as caught:
                credentials.fetch(target, stage.settings(**given, **more))
            assert caught.value.code == "vault-certificate"
        assert credentials.fetch(target, stage.settings(**given, GREYLAG_VAULT_CA_FILE=secure.ca_file)).host == "h"


def test_a_proxy_of_the_environment_is_not_asked(stage: VaultStage, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert credentials.fetch(stage.target(), stage.settings()).username == "auth"


def test_bad_flow_neither_token_nor_signed_token_follows_a_redirect(stage: VaultStage) -> None:
    with FakeProxy(stage.server.url) as elsewhere:
        for settings in (stage.settings(), stage.jwt(stage.signed())):
            stage.proxy.faults.append(Fault(307, headers={"Location": f"{elsewhere.url}/v1/auth/jwt/login"}))
            with pytest.raises(errors.UsageError) as caught:
                credentials.fetch(stage.target(), settings)
            assert caught.value.code == "vault-address"
        assert elsewhere.requests == []


def test_bad_flow_two_ways_to_log_in_are_one_too_many(stage: VaultStage) -> None:
    settings = stage.jwt(stage.signed(), vault_role_id="x")
    with pytest.raises(errors.UsageError, match="GREYLAG_VAULT_JWT_ROLE and GREYLAG_VAULT_ROLE_ID are both set"):
        credentials.fetch(stage.target(), settings)


def test_a_role_needs_no_more_than_the_secrets_own_rule(stage: VaultStage) -> None:
    """Without the default policy the token can't even revoke itself: the read succeeds, and the token ends with its TTL."""
    target = stage.target()
    stage.server.create_policy("narrow", {f"secret/data/{target.vault_path}": ["read"]})
    logins.create_jwt_role(
        stage.server, "narrow", "narrow", audience="vault", subject=SUBJECT, token_no_default_policy=True, token_ttl="60s"
    )
    assert credentials.fetch(target, stage.jwt(stage.signed(**CLAIMS), role="narrow")).username == "auth"


def test_what_lies_still_is_read_once_in_a_run(stage: VaultStage) -> None:
    target = stage.target()
    with LifetimeWatcher(target, stage.settings()) as watcher:
        first = watcher.current()
        watcher.doubt()
        assert watcher.current() == first
        assert watcher.alive(first) and not watcher.superseded(first)
    assert asked(stage) == [READ]
