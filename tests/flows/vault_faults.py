"""How each row of vault.md §2's table comes about: on the real server wherever that is possible, else by the fake proxy before it."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import hvac
import requests

from migrator import errors
from sandbox import certificates, ports
from sandbox.vault import logins
from sandbox.vault.openbao_server import OpenBaoServer
from tasks import credentials
from tasks.credentials.dynamic import DatabaseLogin
from tasks.fleet.models import Target
from tasks.settings import Settings
from tests.flows.fake_proxy import FakeProxy, Fault
from tests.flows.vault_stage import VaultStage

Given = tuple[Target, Settings]
Provoke = Callable[[VaultStage], AbstractContextManager[Given]]


def simply(make: Callable[[VaultStage], Given]) -> Provoke:
    return lambda stage: nullcontext(make(stage))


def faulty(*faults: Fault) -> Provoke:
    """The fake proxy answers instead of the server."""

    def make(stage: VaultStage) -> Given:
        given = stage.target(), stage.settings()
        stage.proxy.faults += faults
        return given

    return simply(make)


# --- the kinds of 404 ------------------------------------------------------------------------------------------------------------------


def never_existed(stage: VaultStage) -> Given:
    return stage.target(written=False), stage.settings()


def metadata_deleted(stage: VaultStage) -> Given:
    target = stage.target()
    stage.server.request("DELETE", f"secret/metadata/{target.vault_path}")
    return target, stage.settings()


def deleted(stage: VaultStage) -> Given:
    target = stage.target()
    stage.server.request("DELETE", f"secret/data/{target.vault_path}")
    return target, stage.settings()


def destroyed(stage: VaultStage) -> Given:
    target = stage.target()
    stage.server.request("PUT", f"secret/destroy/{target.vault_path}", {"versions": [1]})
    return target, stage.settings()


DELETED_AS_DATA = '{"data": {"data": null, "metadata": {"version": 3, "deletion_time": "2026-01-01T00:00:00Z", "destroyed": false}}}'


def wrong_mount_as_root(stage: VaultStage) -> Given:
    return stage.target(vault_mount="nowhere"), stage.settings(token=stage.server.root_token)


def wrong_mount(stage: VaultStage) -> Given:
    return stage.target(vault_mount="nowhere"), stage.settings()


def wrong_path(stage: VaultStage) -> Given:
    return stage.target(vault_path="prod/auth-service/postgres"), stage.settings()


def v2_on_v1(stage: VaultStage) -> Given:
    if "kv1/" not in stage.server.request("GET", "sys/mounts")["data"]:
        stage.server.request("POST", "sys/mounts/kv1", {"type": "kv", "options": {"version": "1"}})
    return stage.target(vault_mount="kv1"), stage.settings(token=stage.server.root_token)


def v1_on_v2(stage: VaultStage) -> Given:
    source = DatabaseLogin(place="secret/creds/auth", host="db.example")
    return stage.target(source=source), stage.settings(token=stage.server.root_token)


def no_database_engine(stage: VaultStage) -> Given:
    source = DatabaseLogin(place="nowhere/creds/auth", host="db.example")
    return stage.target(source=source), stage.settings(token=stage.server.root_token)


def no_database_role(stage: VaultStage) -> Given:
    if "database/" not in stage.server.request("GET", "sys/mounts")["data"]:
        stage.server.request("POST", "sys/mounts/database", {"type": "database"})
    source = DatabaseLogin(place="database/creds/nobody", host="db.example")
    return stage.target(source=source), stage.settings(token=stage.server.root_token)


# --- tokens ----------------------------------------------------------------------------------------------------------------------------


def revoked(stage: VaultStage) -> Given:
    token = stage.token()
    stage.server.request("POST", "auth/token/revoke", {"token": token})
    return stage.target(), stage.settings(token=token)


@contextmanager
def expired(stage: VaultStage) -> Iterator[Given]:
    token = stage.token(ttl="1s", explicit_max_ttl="1s")
    deadline = datetime.datetime.now() + datetime.timedelta(seconds=60)
    while datetime.datetime.now() < deadline:
        try:
            stage.server.request("POST", "auth/token/lookup", {"token": token})
        except errors.GreylagError:
            break
    yield stage.target(), stage.settings(token=token)


def absent(stage: VaultStage) -> Given:
    return stage.target(), stage.settings(token="s.thatnobodymade")


def used_up(stage: VaultStage) -> Given:
    token, target = stage.token(num_uses=1), stage.target()
    assert credentials.fetch(target, stage.settings(token=token)).username == "auth"
    return target, stage.settings(token=token)


def jwt(make: Callable[[VaultStage], str], role: str = "reader") -> Provoke:
    return simply(lambda stage: (stage.target(), stage.jwt(make(stage), role)))


def wrong_secret_id(stage: VaultStage) -> Given:
    role = stage.server.create_role("deployer", "reader")
    return stage.target(), stage.settings(vault_role_id=role.role_id, vault_secret_id_file=stage.file("11111111-2222"))


def used_wrapping_token(stage: VaultStage) -> Given:
    role = stage.server.create_role("deployer", "reader")
    wrapping = wrapped_secret_id(stage, "deployer")
    hvac.Client(url=stage.server.url, token=wrapping, timeout=10).sys.unwrap()  # somebody else was first
    return stage.target(), stage.settings(vault_role_id=role.role_id, vault_wrapped_secret_id_file=stage.file(wrapping))


def foreign_wrapping_token(stage: VaultStage) -> Given:
    role = stage.server.create_role("deployer", "reader")
    wrapping = wrap(stage, "POST", "/v1/sys/wrapping/wrap", {"secret_id": "of somebody else"})
    return stage.target(), stage.settings(vault_role_id=role.role_id, vault_wrapped_secret_id_file=stage.file(wrapping))


def wrapped_secret_id(stage: VaultStage, role: str) -> str:
    return wrap(stage, "POST", f"/v1/auth/approle/role/{role}/secret-id", {})


def wrap(stage: VaultStage, method: str, path: str, body: dict[str, str]) -> str:
    headers = {"X-Vault-Token": stage.server.root_token, "X-Vault-Wrap-TTL": "60s"}
    answer = requests.request(method, stage.server.url + path, json=body, headers=headers, timeout=10).json()
    return str(answer["wrap_info"]["token"])


def kubernetes(token: Callable[[VaultStage], str], url: str = "https://127.0.0.1:1") -> Provoke:
    """A Kubernetes login; what the cluster itself says about tokens is in tests/cluster/test_vault_login.py."""

    def make(stage: VaultStage) -> Given:
        authority = certificates.Authority(stage.directory / "cluster")
        logins.trust_cluster(stage.server, url, authority.certificate, reviewer_token="x.y.z")
        logins.create_kubernetes_role(
            stage.server, "migration", "reader", service_accounts=["migration"], namespaces=["my-girok"], audience="vault"
        )
        settings = stage.settings(vault_kubernetes_role="migration", vault_kubernetes_token_file=stage.file(token(stage)))
        return stage.target(), settings

    return simply(make)


# --- the server ------------------------------------------------------------------------------------------------------------------------


@contextmanager
def sealed(stage: VaultStage) -> Iterator[Given]:
    given = stage.target(), stage.settings()
    stage.server.seal()
    try:
        yield given
    finally:
        stage.server.unseal()
        stage.server.wait_until_healthy()


@contextmanager
def uninitialised(stage: VaultStage) -> Iterator[Given]:
    fresh = OpenBaoServer(stage.directory / "fresh")
    try:
        fresh.start(sealed=True)
        yield stage.target(), stage.settings(url=fresh.url)
    finally:
        fresh.stop()


@contextmanager
def over_quota(stage: VaultStage) -> Iterator[Given]:
    target, settings = stage.target(), stage.settings()
    stage.server.request("POST", "sys/quotas/rate-limit/narrow", {"path": f"secret/data/{target.vault_path}", "rate": 1, "interval": "10m"})
    try:
        credentials.fetch(target, settings)
        yield target, settings
    finally:
        stage.server.request("DELETE", "sys/quotas/rate-limit/narrow")


def nobody_listens(stage: VaultStage) -> Given:
    return stage.target(), stage.settings(url=f"http://127.0.0.1:{ports.free_port()}")


def no_such_name(stage: VaultStage) -> Given:
    return stage.target(), stage.settings(url="http://vault.invalid:8200")


@contextmanager
def hang(stage: VaultStage) -> Iterator[Given]:
    stage.proxy.faults.append(Fault(200, delay=3.0))
    yield stage.target(), stage.settings(vault_timeout_seconds=0.3)


# --- transport -------------------------------------------------------------------------------------------------------------------------


@contextmanager
def secure(stage: VaultStage) -> Iterator[OpenBaoServer]:
    with OpenBaoServer(stage.directory / "secure", tls=True, hosts=("127.0.0.1",)) as server:
        yield server


@contextmanager
def unknown_authority(stage: VaultStage) -> Iterator[Given]:
    other = certificates.Authority(stage.directory / "other", "another authority")
    with secure(stage) as server:
        yield stage.target(), stage.settings(url=server.url, GREYLAG_VAULT_CA_FILE=other.certificate)


@contextmanager
def unknown_authority_of_the_system(stage: VaultStage) -> Iterator[Given]:
    with secure(stage) as server:
        yield stage.target(), stage.settings(url=server.url)


@contextmanager
def other_name(stage: VaultStage) -> Iterator[Given]:
    with secure(stage) as server:
        yield stage.target(), stage.settings(url=server.url.replace("127.0.0.1", "localhost"), GREYLAG_VAULT_CA_FILE=server.ca_file)


@contextmanager
def expired_certificate(stage: VaultStage) -> Iterator[Given]:
    authority = certificates.Authority(stage.directory / "expired")
    pair = authority.issue("server", "vault", hosts=("127.0.0.1",), lifetime=datetime.timedelta(hours=-1))
    with FakeProxy(stage.server.url, pair) as gateway:
        yield stage.target(), stage.settings(url=gateway.url, GREYLAG_VAULT_CA_FILE=authority.certificate)


@contextmanager
def missing_ca_file(stage: VaultStage) -> Iterator[Given]:
    with secure(stage) as server:
        yield stage.target(), stage.settings(url=server.url, GREYLAG_VAULT_CA_FILE=stage.directory / "none.pem")


@contextmanager
def http_to_https(stage: VaultStage) -> Iterator[Given]:
    with secure(stage) as server:
        yield stage.target(), stage.settings(url=server.url.replace("https", "http"))
