"""Every row of vault.md §2's table, provoked: by the real server wherever it can be, else by the fake proxy; and what each ends as.

A row says how it comes about, which error it is, what the hint must name, and whether another attempt is made.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import hvac
import pytest
import requests

from deployments.sandbox import ports, secrets_server, vault_logins
from deployments.sandbox.cluster import certificates
from deployments.sandbox.openbao_server import OpenBaoServer
from deployments.sandbox.secrets_server import Fault
from migrator import errors
from tasks import backoff, credentials
from tasks.credentials import Session
from tasks.fleet_models import Target
from tasks.settings import Settings
from tasks.sources import Source, SourceKind
from tests.flows.vault_stage import CLAIMS, PASSWORD, VaultStage, staged

Given = tuple[Target, Settings]
Provoke = Callable[[VaultStage], AbstractContextManager[Given]]


@dataclass(frozen=True)
class Row:
    """One row: how it comes about, and what it ends as. A code that ends in "-" is the beginning of one."""

    name: str
    provoke: Provoke
    kind: type[errors.GreylagError]
    code: str
    hint: str
    message: str = ""

    @property
    def retried(self) -> bool:
        return self.kind is errors.Unavailable


def simply(make: Callable[[VaultStage], Given]) -> Provoke:
    return lambda stage: nullcontext(make(stage))


def faulty(*faults: Fault) -> Provoke:
    """The fake proxy answers instead of the server."""

    def make(stage: VaultStage) -> Given:
        given = stage.target(), stage.settings()
        stage.proxy.faults += [Fault(**{name: getattr(fault, name) for name in Fault.__dataclass_fields__}) for fault in faults]
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
    source = Source(kind=SourceKind.DYNAMIC, place="secret/creds/auth", host="db.example")
    return stage.target(source=source), stage.settings(token=stage.server.root_token)


def no_database_engine(stage: VaultStage) -> Given:
    source = Source(kind=SourceKind.DYNAMIC, place="nowhere/creds/auth", host="db.example")
    return stage.target(source=source), stage.settings(token=stage.server.root_token)


def no_database_role(stage: VaultStage) -> Given:
    if "database/" not in stage.server.request("GET", "sys/mounts")["data"]:
        stage.server.request("POST", "sys/mounts/database", {"type": "database"})
    source = Source(kind=SourceKind.DYNAMIC, place="database/creds/nobody", host="db.example")
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
    """A Kubernetes login; what the cluster itself says about tokens is in tests/cluster/test_cluster_vault_login.py."""

    def make(stage: VaultStage) -> Given:
        authority = certificates.Authority(stage.directory / "cluster")
        vault_logins.trust_cluster(stage.server, url, authority.certificate, reviewer_token="x.y.z")
        vault_logins.create_kubernetes_role(
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
    with secrets_server.SecretsServer(certificate=pair.certificate, key=pair.key) as server:
        yield stage.target(), stage.settings(url=server.url, GREYLAG_VAULT_CA_FILE=authority.certificate)


@contextmanager
def missing_ca_file(stage: VaultStage) -> Iterator[Given]:
    with secure(stage) as server:
        yield stage.target(), stage.settings(url=server.url, GREYLAG_VAULT_CA_FILE=stage.directory / "none.pem")


@contextmanager
def http_to_https(stage: VaultStage) -> Iterator[Given]:
    with secure(stage) as server:
        yield stage.target(), stage.settings(url=server.url.replace("https", "http"))


HTML = "<html>a page</html>"
NO_LEADER = secrets_server.NO_LEADER

ROWS = [
    Row("path never existed", simply(never_existed), errors.NotFound, "secret-missing", "vault kv put secret/apps/"),
    Row("metadata deleted", simply(metadata_deleted), errors.NotFound, "secret-missing", "vault kv put secret/apps/"),
    Row("version deleted", simply(deleted), errors.NotFound, "secret-deleted", "vault kv undelete -versions=1 secret/apps/"),
    Row("version destroyed", simply(destroyed), errors.NotFound, "secret-destroyed", "vault kv put secret/apps/"),
    Row("deleted version as data", faulty(Fault(200, DELETED_AS_DATA)), errors.NotFound, "secret-deleted", "-versions=3"),
    Row("wrong mount, root token", simply(wrong_mount_as_root), errors.NotFound, "mount-missing", "vault.mount", '"nowhere"'),
    Row("wrong mount, limited token", simply(wrong_mount), errors.LoginFailed, "vault-forbidden", 'path "nowhere/data/apps/'),
    Row(
        "wrong path, limited token",
        simply(wrong_path),
        errors.LoginFailed,
        "vault-forbidden",
        'path "secret/data/prod/auth-service/postgres"',
    ),
    Row("token revoked", simply(revoked), errors.LoginFailed, "vault-forbidden", "its token must be alive"),
    Row("token expired", expired, errors.LoginFailed, "vault-forbidden", "its token must be alive"),
    Row("token absent", simply(absent), errors.LoginFailed, "vault-forbidden", "its token must be alive"),
    Row("token used up", simply(used_up), errors.LoginFailed, "vault-forbidden", "its token must be alive"),
    Row(
        "JWT expired",
        jwt(lambda s: s.signed(seconds=-600)),
        errors.LoginFailed,
        "vault-login",
        "GREYLAG_VAULT_JWT_FILE",
        "error validating token",
    ),
    Row("JWT audience", jwt(lambda s: s.signed(audience="elsewhere")), errors.LoginFailed, "vault-login", "for which audience"),
    Row("JWT subject", jwt(lambda s: s.signed(subject="somebody")), errors.LoginFailed, "vault-login", "GREYLAG_VAULT_JWT_FILE"),
    Row("JWT issuer", jwt(lambda s: s.signed(iss="https://elsewhere")), errors.LoginFailed, "vault-login", "who signed it"),
    Row(
        "JWT key",
        jwt(lambda s: vault_logins.TokenIssuer(s.issuer.name).token("system:serviceaccount:my-girok:migration", "vault", **CLAIMS)),
        errors.LoginFailed,
        "vault-login",
        "who signed it",
    ),
    Row(
        "JWT role",
        jwt(lambda s: s.signed(), "nobody"),
        errors.LoginFailed,
        "vault-login",
        "GREYLAG_VAULT_JWT_ROLE",
        'role "nobody" could not be found',
    ),
    Row(
        "AppRole secret id",
        simply(wrong_secret_id),
        errors.LoginFailed,
        "vault-login",
        "GREYLAG_VAULT_ROLE_ID",
        "invalid role or secret ID",
    ),
    Row(
        "wrapping token used",
        simply(used_wrapping_token),
        errors.LoginFailed,
        "vault-wrapping-used",
        "vault write -wrap-ttl",
        "used already",
    ),
    Row("wrapping token foreign", simply(foreign_wrapping_token), errors.LoginFailed, "vault-wrapping-foreign", "who wrote that file"),
    Row(
        "Kubernetes account",
        kubernetes(lambda s: s.signed(**{"kubernetes.io": {"namespace": "my-girok", "serviceaccount": {"name": "default", "uid": "1"}}})),
        errors.LoginFailed,
        "vault-login",
        "GREYLAG_VAULT_KUBERNETES_ROLE",
        "service account name not authorized",
    ),
    Row("Kubernetes API server down", kubernetes(lambda s: s.signed()), errors.Unavailable, "vault-review", "system:auth-delegator"),
    Row("v2 client, v1 mount", simply(v2_on_v1), errors.NotFound, "secret-missing", "vault kv put", "not a KV version 2 mount"),
    Row("v1 client, v2 mount", simply(v1_on_v2), errors.NotFound, "mount-kind", "{dynamic: database/creds/ROLE}", "KV version 2 mount"),
    Row("no database engine", simply(no_database_engine), errors.NotFound, "mount-missing", "`credentials` in fleet.yaml"),
    Row("no database role", simply(no_database_role), errors.NotFound, "role-missing", "`credentials` in fleet.yaml"),
    Row("sealed", sealed, errors.Unavailable, "vault-sealed", "vault status"),
    Row("uninitialised", uninitialised, errors.Unavailable, "vault-", "vault status"),
    Row("quota", over_quota, errors.Unavailable, "vault-rate-limited", "vault status"),
    Row("no leader", faulty(Fault(500, NO_LEADER)), errors.Unavailable, "vault-error", "vault status", "cluster node not found"),
    Row("server down", simply(nobody_listens), errors.Unavailable, "vault-unreachable", "vault status"),
    Row("DNS", simply(no_such_name), errors.Unavailable, "vault-unreachable", "vault status"),
    Row("hang", hang, errors.Unavailable, "vault-timeout", "vault status", "within 0.3 s"),
    Row("hang-up", faulty(Fault(0)), errors.Unavailable, "vault-unreachable", "vault status"),
    Row("TLS unknown authority", unknown_authority, errors.LoginFailed, "vault-certificate", "GREYLAG_VAULT_CA_FILE"),
    Row(
        "TLS authority not the system's", unknown_authority_of_the_system, errors.LoginFailed, "vault-certificate", "GREYLAG_VAULT_CA_FILE"
    ),
    Row("TLS other name", other_name, errors.LoginFailed, "vault-certificate", "GREYLAG_VAULT_CA_FILE"),
    Row("TLS expired", expired_certificate, errors.LoginFailed, "vault-certificate", "GREYLAG_VAULT_CA_FILE"),
    Row("CA file missing", missing_ca_file, errors.UsageError, "vault-ca-file", "GREYLAG_VAULT_CA_FILE"),
    Row("http to https", http_to_https, errors.UsageError, "vault-address", "https://"),
    Row("502", faulty(Fault(502, HTML, content_type="text/html")), errors.Unavailable, "vault-gateway", "vault status"),
    Row("504", faulty(Fault(504, HTML, content_type="text/html")), errors.Unavailable, "vault-unexpected", "vault status"),
    Row(
        "412", faulty(Fault(412, '{"errors":["required index state not present"]}')), errors.Unavailable, "vault-unexpected", "vault status"
    ),
    Row("200 with HTML", faulty(Fault(200, HTML, content_type="text/html")), errors.UsageError, "vault-address", "Vault's API itself"),
    Row("307", faulty(Fault(307, headers={"Location": "http://127.0.0.1:1/v1/x"})), errors.UsageError, "vault-address", "never sent on"),
]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VaultStage]:
    with staged(tmp_path_factory.mktemp("vault-errors")) as found:
        yield found


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_bad_flow(stage: VaultStage, row: Row) -> None:
    stage.proxy.calm()
    with row.provoke(stage) as (target, settings), Session(target, settings) as session, pytest.raises(errors.GreylagError) as caught:
        session.current()
    error = caught.value
    assert type(error) is row.kind, error.describe()
    assert error.code.startswith(row.code) if row.code.endswith("-") else error.code == row.code, error.describe()
    assert row.hint in error.hint and row.message in error.message, error.describe()
    assert backoff.permanent(error) is not row.retried
    assert error.__cause__ is None and (error.__suppress_context__ or error.__context__ is None)
    for secret in (PASSWORD, stage.server.root_token, *known_secrets(settings)):
        assert secret not in error.describe()


def known_secrets(settings: Settings) -> list[str]:
    files = [
        settings.vault_jwt_file,
        settings.vault_secret_id_file,
        settings.vault_wrapped_secret_id_file,
        settings.vault_kubernetes_token_file,
    ]
    found = [path.read_text(encoding="utf-8").strip() for path in files if path is not None and Path(path).exists()]
    return [*found, *([settings.vault_token.get_secret_value()] if settings.vault_token else [])]


def test_every_row_of_the_table_has_its_own_name() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS)
