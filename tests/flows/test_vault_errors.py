"""Every row of vault.md §2's table, provoked: by the real server wherever it can be, else by the fake proxy; and what each ends as.

A row says how it comes about (`vault_faults`), which error it is, what the hint must name, and whether another attempt is made.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from migrator import errors
from sandbox.vault import logins
from tasks import backoff
from tasks.credentials import LifetimeWatcher
from tasks.settings import Settings
from tests.flows import vault_faults as faults
from tests.flows.fake_proxy import NO_LEADER, Fault
from tests.flows.vault_stage import CLAIMS, PASSWORD, VaultStage, staged


@dataclass(frozen=True)
class Row:
    """One row: how it comes about, and what it ends as. A code that ends in "-" is the beginning of one."""

    name: str
    provoke: faults.Provoke
    kind: type[errors.GreylagError]
    code: str
    hint: str
    message: str = ""

    @property
    def retried(self) -> bool:
        return self.kind is errors.Unavailable


HTML = "<html>a page</html>"
ROWS = [
    Row("path never existed", faults.simply(faults.never_existed), errors.NotFound, "secret-missing", "vault kv put secret/apps/"),
    Row("metadata deleted", faults.simply(faults.metadata_deleted), errors.NotFound, "secret-missing", "vault kv put secret/apps/"),
    Row("version deleted", faults.simply(faults.deleted), errors.NotFound, "secret-deleted", "vault kv undelete -versions=1 secret/apps/"),
    Row("version destroyed", faults.simply(faults.destroyed), errors.NotFound, "secret-destroyed", "vault kv put secret/apps/"),
    Row("deleted version as data", faults.faulty(Fault(200, faults.DELETED_AS_DATA)), errors.NotFound, "secret-deleted", "-versions=3"),
    Row("wrong mount, root token", faults.simply(faults.wrong_mount_as_root), errors.NotFound, "mount-missing", "vault.mount", '"nowhere"'),
    Row("wrong mount, limited token", faults.simply(faults.wrong_mount), errors.LoginFailed, "vault-forbidden", 'path "nowhere/data/apps/'),
    Row(
        "wrong path, limited token",
        faults.simply(faults.wrong_path),
        errors.LoginFailed,
        "vault-forbidden",
        'path "secret/data/prod/auth-service/postgres"',
    ),
    Row("token revoked", faults.simply(faults.revoked), errors.LoginFailed, "vault-forbidden", "its token must be alive"),
    Row("token expired", faults.expired, errors.LoginFailed, "vault-forbidden", "its token must be alive"),
    Row("token absent", faults.simply(faults.absent), errors.LoginFailed, "vault-forbidden", "its token must be alive"),
    Row("token used up", faults.simply(faults.used_up), errors.LoginFailed, "vault-forbidden", "its token must be alive"),
    Row(
        "JWT expired",
        faults.jwt(lambda s: s.signed(seconds=-600)),
        errors.LoginFailed,
        "vault-login",
        "GREYLAG_VAULT_JWT_FILE",
        "error validating token",
    ),
    Row("JWT audience", faults.jwt(lambda s: s.signed(audience="elsewhere")), errors.LoginFailed, "vault-login", "for which audience"),
    Row("JWT subject", faults.jwt(lambda s: s.signed(subject="somebody")), errors.LoginFailed, "vault-login", "GREYLAG_VAULT_JWT_FILE"),
    Row("JWT issuer", faults.jwt(lambda s: s.signed(iss="https://elsewhere")), errors.LoginFailed, "vault-login", "who signed it"),
    Row(
        "JWT key",
        faults.jwt(lambda s: logins.TokenIssuer(s.issuer.name).token("system:serviceaccount:my-girok:migration", "vault", **CLAIMS)),
        errors.LoginFailed,
        "vault-login",
        "who signed it",
    ),
    Row(
        "JWT role",
        faults.jwt(lambda s: s.signed(), "nobody"),
        errors.LoginFailed,
        "vault-login",
        "GREYLAG_VAULT_JWT_ROLE",
        'role "nobody" could not be found',
    ),
    Row(
        "AppRole secret id",
        faults.simply(faults.wrong_secret_id),
        errors.LoginFailed,
        "vault-login",
        "GREYLAG_VAULT_ROLE_ID",
        "invalid role or secret ID",
    ),
    Row(
        "wrapping token used",
        faults.simply(faults.used_wrapping_token),
        errors.LoginFailed,
        "vault-wrapping-used",
        "vault write -wrap-ttl",
        "used already",
    ),
    Row(
        "wrapping token foreign",
        faults.simply(faults.foreign_wrapping_token),
        errors.LoginFailed,
        "vault-wrapping-foreign",
        "who wrote that file",
    ),
    Row(
        "Kubernetes account",
        faults.kubernetes(
            lambda s: s.signed(**{"kubernetes.io": {"namespace": "my-girok", "serviceaccount": {"name": "default", "uid": "1"}}})
        ),
        errors.LoginFailed,
        "vault-login",
        "GREYLAG_VAULT_KUBERNETES_ROLE",
        "service account name not authorized",
    ),
    Row("Kubernetes API server down", faults.kubernetes(lambda s: s.signed()), errors.Unavailable, "vault-review", "system:auth-delegator"),
    Row(
        "v2 client, v1 mount", faults.simply(faults.v2_on_v1), errors.NotFound, "secret-missing", "vault kv put", "not a KV version 2 mount"
    ),
    Row(
        "v1 client, v2 mount",
        faults.simply(faults.v1_on_v2),
        errors.NotFound,
        "mount-kind",
        "{dynamic: database/creds/ROLE}",
        "KV version 2 mount",
    ),
    Row("no database engine", faults.simply(faults.no_database_engine), errors.NotFound, "mount-missing", "`credentials` in fleet.yaml"),
    Row("no database role", faults.simply(faults.no_database_role), errors.NotFound, "role-missing", "`credentials` in fleet.yaml"),
    Row("sealed", faults.sealed, errors.Unavailable, "vault-sealed", "vault status"),
    Row("uninitialised", faults.uninitialised, errors.Unavailable, "vault-", "vault status"),
    Row("quota", faults.over_quota, errors.Unavailable, "vault-rate-limited", "vault status"),
    Row("no leader", faults.faulty(NO_LEADER), errors.Unavailable, "vault-error", "vault status", "cluster node not found"),
    Row("server down", faults.simply(faults.nobody_listens), errors.Unavailable, "vault-unreachable", "vault status"),
    Row("DNS", faults.simply(faults.no_such_name), errors.Unavailable, "vault-unreachable", "vault status"),
    Row("hang", faults.hang, errors.Unavailable, "vault-timeout", "vault status", "within 0.3 s"),
    Row("hang-up", faults.faulty(Fault(0)), errors.Unavailable, "vault-unreachable", "vault status"),
    Row("TLS unknown authority", faults.unknown_authority, errors.LoginFailed, "vault-certificate", "GREYLAG_VAULT_CA_FILE"),
    Row(
        "TLS authority not the system's",
        faults.unknown_authority_of_the_system,
        errors.LoginFailed,
        "vault-certificate",
        "GREYLAG_VAULT_CA_FILE",
    ),
    Row("TLS other name", faults.other_name, errors.LoginFailed, "vault-certificate", "GREYLAG_VAULT_CA_FILE"),
    Row("TLS expired", faults.expired_certificate, errors.LoginFailed, "vault-certificate", "GREYLAG_VAULT_CA_FILE"),
    Row("CA file missing", faults.missing_ca_file, errors.UsageError, "vault-ca-file", "GREYLAG_VAULT_CA_FILE"),
    Row("http to https", faults.http_to_https, errors.UsageError, "vault-address", "https://"),
    Row("502", faults.faulty(Fault(502, HTML, content_type="text/html")), errors.Unavailable, "vault-gateway", "vault status"),
    Row("504", faults.faulty(Fault(504, HTML, content_type="text/html")), errors.Unavailable, "vault-unexpected", "vault status"),
    Row(
        "501",
        faults.faulty(Fault(501, '{"errors":["Vault is not initialized"]}')),
        errors.Unavailable,
        "vault-uninitialised",
        "vault status",
    ),
    Row(
        "412",
        faults.faulty(Fault(412, '{"errors":["required index state not present"]}')),
        errors.Unavailable,
        "vault-unexpected",
        "vault status",
    ),
    Row(
        "200 with HTML", faults.faulty(Fault(200, HTML, content_type="text/html")), errors.UsageError, "vault-address", "Vault's API itself"
    ),
    Row(
        "307",
        faults.faulty(Fault(307, headers={"Location": "http://127.0.0.1:1/v1/x"})),
        errors.UsageError,
        "vault-address",
        "never sent on",
    ),
]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VaultStage]:
    with staged(tmp_path_factory.mktemp("vault-errors")) as found:
        yield found


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_bad_flow(stage: VaultStage, row: Row) -> None:
    stage.proxy.calm()
    with (
        row.provoke(stage) as (target, settings),
        LifetimeWatcher(target, settings) as watcher,
        pytest.raises(errors.GreylagError) as caught,
    ):
        watcher.current()
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
