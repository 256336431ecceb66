"""The sandbox's secrets server answers hvac as OpenBao does: every row of vault.md §2 that it can produce.

Each test of the API runs against our own server and, where a binary is at hand, against a real OpenBao or Vault.
"""

from __future__ import annotations

import datetime
import ssl
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hvac
import pytest
import requests
from hvac import exceptions

from sandbox import builds
from sandbox.vault import administration, openbao_server, secrets_server

PATH = "apps/my-girok/dev/auth-service/postgres"
SECRET = {"host": "127.0.0.1", "port": 5432, "username": "auth", "password": "p%/:@#?&+ '\"\\$é漢", "database": "auth_db_dev"}


@pytest.fixture(scope="module")
def own() -> Iterator[secrets_server.SecretsServer]:
    with secrets_server.SecretsServer() as server:
        yield server


@pytest.fixture(scope="module", params=["own", "openbao"])
def vault(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[administration.Administration]:
    if request.param == "own":
        with secrets_server.SecretsServer() as server:
            yield server
    elif secrets_server.openbao_binary() is not None:
        with secrets_server.OpenBaoServer(tmp_path_factory.mktemp("openbao")) as server:
            yield server
    elif builds.binary(builds.OPENBAO) is not None:
        with openbao_server.OpenBaoServer(tmp_path_factory.mktemp("openbao")) as server:
            yield server
    else:
        pytest.skip(f"no `bao` or `vault` on PATH, GREYLAG_TEST_VAULT names none, and {builds.missing(builds.OPENBAO)}")


def client(server: administration.Administration, token: str | None = None) -> hvac.Client:
    return hvac.Client(url=server.url, token=token or server.root_token, timeout=10)


def kv(server: administration.Administration, token: str | None = None) -> Any:
    return client(server, token).secrets.kv.v2


def read(server: administration.Administration, path: str, token: str | None = None, **options: Any) -> Any:
    return kv(server, token).read_secret_version(path=path, raise_on_deleted_version=options.pop("raise_on_deleted", True), **options)


@pytest.fixture
def path(vault: administration.Administration, request: pytest.FixtureRequest) -> str:
    """A path of this test's own with one version."""
    name = f"tests/{request.node.name.replace('[', '-').replace(']', '')}"
    vault.write_secret(name, SECRET)
    return name


@pytest.fixture
def dev_token(vault: administration.Administration) -> str:
    """A token that may read dev's secrets alone."""
    vault.write_secret(PATH, SECRET)
    vault.create_policy("dev", {"secret/data/apps/my-girok/dev/*": ["read"]})
    return vault.create_token("dev")


def test_a_secret_comes_back_as_it_was_written(vault: administration.Administration, path: str) -> None:
    answer = read(vault, path)["data"]
    assert answer["data"] == SECRET
    assert answer["metadata"]["version"] == 1
    assert answer["metadata"]["deletion_time"] == "" and answer["metadata"]["destroyed"] is False


def test_older_versions_stay_readable(vault: administration.Administration, path: str) -> None:
    assert vault.write_secret(path, {"password": "new"}) == 2
    assert read(vault, path)["data"]["data"] == {"password": "new"}
    assert read(vault, path, version=1)["data"]["data"] == SECRET
    metadata = kv(vault).read_secret_metadata(path=path)["data"]
    assert (metadata["current_version"], sorted(metadata["versions"])) == (2, ["1", "2"])


def test_only_the_last_ten_versions_are_kept(vault: administration.Administration, path: str) -> None:
    for number in range(2, 13):
        vault.write_secret(path, {"n": number})
    with pytest.raises(exceptions.InvalidPath):
        read(vault, path, version=2)
    assert read(vault, path, version=3)["data"]["data"] == {"n": 3}


def test_bad_flow_a_path_that_never_existed(vault: administration.Administration) -> None:
    with pytest.raises(exceptions.InvalidPath) as caught:
        read(vault, "never/written")
    assert caught.value.errors == []
    assert caught.value.json == {"errors": []}


def test_bad_flow_a_version_that_never_existed(vault: administration.Administration, path: str) -> None:
    with pytest.raises(exceptions.InvalidPath) as caught:
        read(vault, path, version=9)
    assert caught.value.json == {"errors": []}


def test_bad_flow_a_path_whose_metadata_is_deleted(vault: administration.Administration, path: str) -> None:
    kv(vault).delete_metadata_and_all_versions(path=path)
    with pytest.raises(exceptions.InvalidPath) as caught:
        read(vault, path)
    assert caught.value.json == {"errors": []}


def test_bad_flow_a_soft_deleted_version(vault: administration.Administration, path: str) -> None:
    kv(vault).delete_latest_version_of_secret(path=path)
    with pytest.raises(exceptions.InvalidPath) as caught:
        read(vault, path)
    assert caught.value.errors is None
    data = caught.value.json["data"]
    assert data["data"] is None
    assert data["metadata"]["deletion_time"] != "" and data["metadata"]["destroyed"] is False
    assert read(vault, path, raise_on_deleted=False)["data"]["data"] is None
    kv(vault).undelete_secret_versions(path=path, versions=[1])
    assert read(vault, path)["data"]["data"] == SECRET


def test_bad_flow_a_destroyed_version(vault: administration.Administration, path: str) -> None:
    kv(vault).destroy_secret_versions(path=path, versions=[1])
    kv(vault).undelete_secret_versions(path=path, versions=[1])
    with pytest.raises(exceptions.InvalidPath) as caught:
        read(vault, path)
    assert caught.value.json["data"]["data"] is None
    assert caught.value.json["data"]["metadata"]["destroyed"] is True


def test_a_write_after_a_soft_delete_makes_the_next_version(vault: administration.Administration, path: str) -> None:
    kv(vault).delete_secret_versions(path=path, versions=[1])
    assert vault.write_secret(path, {"password": "again"}) == 2
    assert read(vault, path)["data"]["data"] == {"password": "again"}


def test_check_and_set(vault: administration.Administration, path: str) -> None:
    assert kv(vault).create_or_update_secret(path=path, secret={"n": 2}, cas=1)["data"]["version"] == 2
    with pytest.raises(exceptions.InvalidRequest, match="check-and-set parameter did not match the current version"):
        kv(vault).create_or_update_secret(path=path, secret={"n": 3}, cas=1)
    kv(vault).update_metadata(path=path, cas_required=True)
    with pytest.raises(exceptions.InvalidRequest, match="check-and-set parameter required for this call"):
        kv(vault).create_or_update_secret(path=path, secret={"n": 3})


def test_check_and_set_zero_only_creates(vault: administration.Administration, path: str) -> None:
    with pytest.raises(exceptions.InvalidRequest, match="did not match"):
        kv(vault).create_or_update_secret(path=path, secret={}, cas=0)
    assert kv(vault).create_or_update_secret(path=path + "-new", secret={"n": 1}, cas=0)["data"]["version"] == 1


def test_patch_replaces_single_keys(vault: administration.Administration, path: str) -> None:
    merge = {"headers": {"Content-Type": "application/merge-patch+json"}}  # hvac's own patch() reads and writes instead
    client(vault).adapter.request("PATCH", f"/v1/secret/data/{path}", json={"data": {"password": "new", "port": None}}, **merge)
    expected = {key: value for key, value in SECRET.items() if key != "port"} | {"password": "new"}
    assert read(vault, path)["data"]["data"] == expected
    with pytest.raises(exceptions.InvalidPath):
        client(vault).adapter.request("PATCH", "/v1/secret/data/never/written", json={"data": {"a": "b"}}, **merge)


def test_paths_are_listed_folder_by_folder(vault: administration.Administration) -> None:
    for name in ("listing/a", "listing/b/c", "listing/b/d"):
        vault.write_secret(name, {"n": 1})
    assert kv(vault).list_secrets(path="listing")["data"]["keys"] == ["a", "b/"]
    assert kv(vault).list_secrets(path="listing/b")["data"]["keys"] == ["c", "d"]
    with pytest.raises(exceptions.InvalidPath) as caught:
        kv(vault).list_secrets(path="listing/nothing")
    assert caught.value.errors == []


def test_bad_flow_a_write_without_data(vault: administration.Administration) -> None:
    with pytest.raises(exceptions.InvalidRequest, match="no data provided"):
        client(vault).adapter.post("/v1/secret/data/empty", json={})


def test_bad_flow_a_wrong_mount_as_root(vault: administration.Administration) -> None:
    with pytest.raises(exceptions.InvalidPath, match="no handler for route"):
        read(vault, PATH, mount_point="nowhere")


def test_a_limited_token_reads_its_own_environment(vault: administration.Administration, dev_token: str) -> None:
    assert read(vault, PATH, dev_token)["data"]["data"] == SECRET


@pytest.mark.parametrize("mount, where", [("secret", PATH.replace("/dev/", "/prod/")), ("secret", "apps/other"), ("nowhere", PATH)])
def test_bad_flow_a_limited_token_reads_nothing_else(vault: administration.Administration, dev_token: str, mount: str, where: str) -> None:
    with pytest.raises(exceptions.Forbidden) as caught:
        read(vault, where, dev_token, mount_point=mount)
    assert caught.value.errors == ["1 error occurred:\n\t* permission denied\n\n"]


def test_bad_flow_a_limited_token_writes_and_lists_nothing(vault: administration.Administration, dev_token: str) -> None:
    with pytest.raises(exceptions.Forbidden):
        kv(vault, dev_token).create_or_update_secret(path=PATH, secret={"a": "b"})
    with pytest.raises(exceptions.Forbidden):
        kv(vault, dev_token).list_secrets(path="apps/my-girok/dev")
    with pytest.raises(exceptions.Forbidden):
        kv(vault, dev_token).delete_latest_version_of_secret(path=PATH)
    with pytest.raises(exceptions.Forbidden):
        client(vault, dev_token).sys.list_policies()


def test_capabilities_tell_create_from_update(vault: administration.Administration) -> None:
    vault.create_policy("creator", {"secret/data/made/*": ["create"]})
    token = vault.create_token("creator")
    name = f"made/{time.monotonic_ns()}"
    kv(vault, token).create_or_update_secret(path=name, secret={"n": 1})
    with pytest.raises(exceptions.Forbidden):
        kv(vault, token).create_or_update_secret(path=name, secret={"n": 2})


def test_deny_and_the_more_specific_rule_win(vault: administration.Administration) -> None:
    vault.create_policy(
        "mixed", {"secret/data/mixed/*": ["read"], "secret/data/mixed/closed": ["deny"], "secret/data/mixed/+/deep": ["deny"]}
    )
    token = vault.create_token("mixed")
    for name in ("mixed/open", "mixed/closed", "mixed/a/deep"):
        vault.write_secret(name, {"n": 1})
    assert read(vault, "mixed/open", token)["data"]["data"] == {"n": 1}
    for name in ("mixed/closed", "mixed/a/deep"):
        with pytest.raises(exceptions.Forbidden):
            read(vault, name, token)


@pytest.mark.parametrize("token", ["s.never-issued", ""])
def test_bad_flow_an_unknown_or_absent_token(vault: administration.Administration, token: str) -> None:
    anonymous = hvac.Client(url=vault.url, token="x", timeout=10)
    anonymous.token = token or None
    with pytest.raises(exceptions.Forbidden) as caught:
        anonymous.secrets.kv.v2.read_secret_version(path=PATH, raise_on_deleted_version=True)
    assert caught.value.errors == ["permission denied"]


def test_bad_flow_a_revoked_token(vault: administration.Administration, dev_token: str) -> None:
    client(vault, dev_token).auth.token.revoke_self()
    with pytest.raises(exceptions.Forbidden) as caught:
        read(vault, PATH, dev_token)
    assert caught.value.errors == ["permission denied"]


def test_a_revoked_token_takes_its_children_along(vault: administration.Administration) -> None:
    vault.create_policy("parent", {"auth/token/create": ["update"], "secret/data/apps/*": ["read"]})
    vault.write_secret(PATH, SECRET)
    parent = vault.create_token("parent")
    child = client(vault, parent).auth.token.create(policies=["parent"])["auth"]["client_token"]
    assert read(vault, PATH, child)["data"]["data"] == SECRET
    client(vault).auth.token.revoke(parent)
    with pytest.raises(exceptions.Forbidden):
        read(vault, PATH, child)


def test_bad_flow_a_token_can_not_give_more_than_it_has(vault: administration.Administration) -> None:
    vault.create_policy("maker", {"auth/token/create": ["update"]})
    token = vault.create_token("maker")
    with pytest.raises(exceptions.InvalidRequest, match="child policies must be subset of parent"):
        client(vault, token).auth.token.create(policies=["root"])


def test_bad_flow_a_used_up_token(vault: administration.Administration, dev_token: str) -> None:
    once = vault.create_token("dev", num_uses=1)
    assert read(vault, PATH, once)["data"]["data"] == SECRET
    with pytest.raises(exceptions.Forbidden) as caught:
        read(vault, PATH, once)
    assert caught.value.errors == ["permission denied"]


def test_bad_flow_an_expired_token(vault: administration.Administration, dev_token: str) -> None:
    short = vault.create_token("dev", ttl="1s")
    assert read(vault, PATH, short)["data"]["data"] == SECRET
    time.sleep(1.3)
    with pytest.raises(exceptions.Forbidden) as caught:
        read(vault, PATH, short)
    assert caught.value.errors == ["permission denied"]


def test_lookup_and_renewal_of_a_token_by_itself(vault: administration.Administration, dev_token: str) -> None:
    token = vault.create_token("dev", ttl="60s")
    found = client(vault, token).auth.token.lookup_self()["data"]
    assert found["policies"] == ["default", "dev"]
    assert 0 < found["ttl"] <= 60 and found["creation_ttl"] == 60 and found["renewable"] is True
    assert found["orphan"] is False and found["type"] == "service" and found["id"] == token
    renewed = client(vault, token).auth.token.renew_self(increment="120s")["auth"]
    assert 60 < renewed["lease_duration"] <= 120
    root = client(vault).auth.token.lookup_self()["data"]
    assert (root["ttl"], root["expire_time"], root["policies"]) == (0, None, ["root"])


def test_renewal_stops_at_the_maximum(vault: administration.Administration, dev_token: str) -> None:
    token = vault.create_token("dev", ttl="30s", explicit_max_ttl="60s")
    renewed = client(vault, token).auth.token.renew_self(increment="600s")["auth"]
    assert renewed["lease_duration"] <= 60


def test_approle_login_gives_a_token_with_the_roles_policy(vault: administration.Administration, dev_token: str) -> None:
    role = vault.create_role("dev-worker", "dev", token_ttl="20m", token_max_ttl="1h")
    login = hvac.Client(url=vault.url, timeout=10)
    answer = login.auth.approle.login(role_id=role.role_id, secret_id=role.secret_id)["auth"]
    assert answer["policies"] == ["default", "dev"]
    assert (answer["lease_duration"], answer["renewable"], answer["metadata"]) == (1200, True, {"role_name": "dev-worker"})
    assert login.token == answer["client_token"]
    assert read(vault, PATH, login.token)["data"]["data"] == SECRET
    assert role.secret_id not in repr(role)


@pytest.mark.parametrize("wrong", ["role_id", "secret_id"])
def test_bad_flow_a_wrong_role_or_secret_id(vault: administration.Administration, dev_token: str, wrong: str) -> None:
    role = vault.create_role("dev-worker", "dev")
    ids = {"role_id": role.role_id, "secret_id": role.secret_id} | {wrong: "no-such-id"}
    with pytest.raises(exceptions.InvalidRequest) as caught:
        hvac.Client(url=vault.url, timeout=10).auth.approle.login(**ids)
    assert caught.value.errors == ["invalid role or secret ID"]


def test_bad_flow_a_secret_id_is_used_up(vault: administration.Administration, dev_token: str) -> None:
    role = vault.create_role("one-shot", "dev", secret_id_num_uses=1)
    login = hvac.Client(url=vault.url, timeout=10).auth.approle
    login.login(role_id=role.role_id, secret_id=role.secret_id)
    with pytest.raises(exceptions.InvalidRequest, match="invalid role or secret ID"):
        login.login(role_id=role.role_id, secret_id=role.secret_id)


@pytest.fixture
def plain_mount(vault: administration.Administration) -> str:
    """A KV v1 mount."""
    if "plain/" not in client(vault).sys.list_mounted_secrets_engines()["data"]:
        client(vault).sys.enable_secrets_engine("kv", path="plain", options={"version": "1"})
    return "plain"


def test_a_v1_mount_keeps_one_value(vault: administration.Administration, plain_mount: str) -> None:
    v1 = client(vault).secrets.kv.v1
    v1.create_or_update_secret(path="a/b", secret={"n": "1"}, mount_point=plain_mount)
    assert v1.read_secret(path="a/b", mount_point=plain_mount)["data"] == {"n": "1"}
    assert v1.list_secrets(path="a", mount_point=plain_mount)["data"]["keys"] == ["b"]
    v1.delete_secret(path="a/b", mount_point=plain_mount)
    with pytest.raises(exceptions.InvalidPath):
        v1.read_secret(path="a/b", mount_point=plain_mount)


def test_bad_flow_a_v2_client_on_a_v1_mount(vault: administration.Administration, plain_mount: str) -> None:
    with pytest.raises(exceptions.InvalidPath) as caught:
        read(vault, "never/written", mount_point=plain_mount)
    assert caught.value.json == {"errors": []}
    kv(vault).create_or_update_secret(path="wrapped", secret={"n": "1"}, mount_point=plain_mount)
    stored = client(vault).secrets.kv.v1.read_secret(path="data/wrapped", mount_point=plain_mount)["data"]
    assert stored["data"] == {"n": "1"}


def test_bad_flow_a_v1_client_on_a_v2_mount(vault: administration.Administration) -> None:
    with pytest.raises(exceptions.InvalidPath, match="Invalid path for a versioned K/V secrets engine"):
        client(vault).secrets.kv.v1.read_secret(path="apps/x", mount_point="secret")


def test_policies_are_kept_listed_and_deleted(vault: administration.Administration) -> None:
    system = client(vault).sys
    system.create_or_update_policy("written-in-hcl", 'path "secret/data/hcl/*" { capabilities = ["read", "list"] } # ours\n')
    assert "written-in-hcl" in system.list_policies()["data"]["policies"]
    vault.write_secret("hcl/a", {"n": 1})
    assert read(vault, "hcl/a", vault.create_token("written-in-hcl"))["data"]["data"] == {"n": 1}
    system.delete_policy("written-in-hcl")
    with pytest.raises(exceptions.InvalidPath):
        system.read_policy("written-in-hcl")


def test_bad_flow_a_policy_with_an_unknown_capability_is_refused(vault: administration.Administration) -> None:
    with pytest.raises(exceptions.InvalidRequest):
        client(vault).sys.create_or_update_policy("wrong", 'path "secret/*" { capabilities = ["reed"] }')
    with pytest.raises(exceptions.InvalidRequest):
        client(vault).sys.create_or_update_policy("wrong", "path secret")


def test_health_needs_no_token(vault: administration.Administration) -> None:
    anonymous = hvac.Client(url=vault.url, timeout=10)
    assert anonymous.sys.is_sealed() is False
    assert anonymous.sys.read_health_status(method="GET")["sealed"] is False


def test_administration_reads_what_it_wrote(vault: administration.Administration, path: str) -> None:
    assert vault.read_secret(path) == SECRET
    assert vault.read_secret("never/written") is None


# From here on only our own server: what a dev server can't be made to do.


def test_bad_flow_a_sealed_server(own: secrets_server.SecretsServer) -> None:
    own.write_secret(PATH, SECRET)
    own.seal()
    try:
        with pytest.raises(exceptions.VaultDown, match="Vault is sealed"):
            read(own, PATH)
        assert client(own).sys.is_sealed() is True
        assert client(own).sys.read_health_status(method="GET").status_code == 503
    finally:
        own.unseal()
    assert read(own, PATH)["data"]["data"] == SECRET


def test_a_client_seals_and_unseals(own: secrets_server.SecretsServer) -> None:
    client(own).sys.seal()
    assert client(own).sys.is_sealed() is True
    client(own).sys.submit_unseal_key("not the key")
    assert client(own).sys.is_sealed() is True
    client(own).sys.submit_unseal_key(own.unseal_key)
    assert client(own).sys.is_sealed() is False


@pytest.mark.parametrize(
    "fault, expected, message",
    [
        (
            secrets_server.Fault(429, secrets_server.RATE_LIMITED, headers={"Retry-After": "1"}),
            exceptions.RateLimitExceeded,
            "quota exceeded",
        ),
        (secrets_server.Fault(500, secrets_server.NO_LEADER), exceptions.InternalServerError, "active cluster node not found"),
        (secrets_server.Fault(502, "<html>Bad Gateway</html>", content_type="text/html"), exceptions.BadGateway, "Bad Gateway"),
        (secrets_server.Fault(504, "<html>too late</html>", content_type="text/html"), exceptions.UnexpectedError, "too late"),
        (secrets_server.Fault(200, "<html>a login page</html>", content_type="text/html"), TypeError, "not subscriptable"),
        (secrets_server.Fault(0), requests.exceptions.ConnectionError, None),
        (secrets_server.Fault(200, "{}", delay=1.5), requests.exceptions.ReadTimeout, None),
    ],
    ids=["quota", "no leader", "502", "504", "HTML", "hang-up", "hang"],
)
def test_bad_flow_faults_on_demand(
    own: secrets_server.SecretsServer, fault: secrets_server.Fault, expected: type[Exception], message: str | None
) -> None:
    own.write_secret(PATH, SECRET)
    own.faults.append(fault)
    impatient = hvac.Client(url=own.url, token=own.root_token, timeout=0.7)
    with pytest.raises(expected, match=message):
        impatient.secrets.kv.v2.read_secret_version(path=PATH, raise_on_deleted_version=True)["data"]["data"]
    assert read(own, PATH)["data"]["data"] == SECRET


def test_bad_flow_a_redirect_is_not_followed(own: secrets_server.SecretsServer) -> None:
    own.faults.append(secrets_server.Fault(307, headers={"Location": "http://127.0.0.1:1/v1/secret/data/x"}))
    careful = hvac.Client(url=own.url, token=own.root_token, allow_redirects=False, timeout=5)
    assert isinstance(careful.secrets.kv.v2.read_secret_version(path=PATH, raise_on_deleted_version=True), requests.Response)


def test_bad_flow_a_stopped_server_refuses_connections_and_keeps_its_secrets() -> None:
    server = secrets_server.SecretsServer().start()
    server.write_secret(PATH, SECRET)
    server.stop()
    with pytest.raises(requests.exceptions.ConnectionError):
        read(server, PATH)
    server.start()
    assert read(server, PATH)["data"]["data"] == SECRET
    server.stop()


def test_tokens_expire_by_the_servers_clock() -> None:
    now = [1_000_000.0]
    with secrets_server.SecretsServer(clock=lambda: now[0]) as server:
        server.write_secret(PATH, SECRET)
        server.create_policy("dev", {"secret/data/apps/*": ["read"]})
        token = server.create_token("dev", ttl="1h")
        now[0] += 3599
        assert read(server, PATH, token)["data"]["data"] == SECRET
        now[0] += 2
        with pytest.raises(exceptions.Forbidden):
            read(server, PATH, token)


def certificate(directory: Path) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1 and its key."""
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "secrets server")])
    today = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today - datetime.timedelta(days=1))
        .not_valid_after(today + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (directory / "tls.crt").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (directory / "tls.key").write_bytes(private)
    return directory / "tls.crt", directory / "tls.key"


def test_tls_with_a_known_and_an_unknown_authority(tmp_path: Path) -> None:
    crt, key = certificate(tmp_path)
    with secrets_server.SecretsServer(certificate=crt, key=key) as server:
        trusting = hvac.Client(url=server.url, token=server.root_token, verify=str(crt), timeout=10)
        trusting.secrets.kv.v2.create_or_update_secret(path=PATH, secret=SECRET)
        with pytest.raises(requests.exceptions.SSLError):
            read(server, PATH)
        with pytest.raises(OSError, match="Could not find a suitable TLS CA certificate bundle"):
            hvac.Client(url=server.url, token="x", verify=str(tmp_path / "none.crt")).sys.read_health_status()
        assert ssl.get_server_certificate(("127.0.0.1", server.port)).startswith("-----BEGIN")


@pytest.mark.parametrize("parallel", [8])
def test_many_clients_at_once(own: secrets_server.SecretsServer, parallel: int) -> None:
    from concurrent.futures import ThreadPoolExecutor

    own.write_secret(PATH, SECRET)
    with ThreadPoolExecutor(parallel) as pool:
        answers = list(pool.map(lambda _: read(own, PATH)["data"]["data"], range(parallel * 5)))
    assert answers == [SECRET] * (parallel * 5)


def test_the_server_as_a_process_shows_no_token_on_its_command_line(tmp_path: Path) -> None:
    with secrets_server.SecretsProcess(tmp_path) as server:
        server.write_secret(PATH, SECRET)
        assert read(server, PATH)["data"]["data"] == SECRET
        listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, encoding="utf-8", check=True).stdout
        assert "sandbox.vault.secrets_server" in listed
        assert server.root_token not in listed
        assert stat.S_IMODE((tmp_path / "server.log").stat().st_mode) == 0o600
    with pytest.raises(requests.exceptions.ConnectionError):
        read(server, PATH)


def test_bad_flow_the_process_needs_a_root_token() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sandbox.vault.secrets_server", "--port", "1"],
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 2
    assert "must hold the root token" in done.stderr


def test_the_named_binary_is_preferred(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GREYLAG_TEST_VAULT", "/opt/bin/bao")
    assert isinstance(secrets_server.open_server(tmp_path), secrets_server.OpenBaoServer)
    monkeypatch.delenv("GREYLAG_TEST_VAULT")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(builds, "binary", lambda name: tmp_path / name)
    assert isinstance(secrets_server.open_server(tmp_path), openbao_server.OpenBaoServer)
    monkeypatch.setattr(builds, "binary", lambda _: None)
    assert type(secrets_server.open_server(tmp_path)) is secrets_server.SecretsProcess
