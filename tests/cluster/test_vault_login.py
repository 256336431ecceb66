"""A worker's Kubernetes login: its projected token, Vault's real TokenReview in the real cluster, and what each refusal ends as (vault.md §2)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from migrator import errors
from sandbox.cluster import images
from tasks import credentials, fleet
from tasks.fleet.models import Target
from tasks.settings import Settings
from tests.cluster.reviewing import Vault, reviewed, trust
from tests.cluster.workloads import Namespace, pod

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """\
from tasks import credentials, fleet
found = credentials.fetch(fleet.load().target("auth-service", "dev"))
print("read", found.origin, "as", found.username)
"""


@pytest.fixture
def vault(namespace: Namespace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vault]:
    with reviewed(namespace, tmp_path_factory.mktemp("openbao")) as found:
        yield found


@pytest.fixture
def target() -> Target:
    return fleet.load(ROOT / "deployments" / "fleet.yaml").target("auth-service", "dev")


def worker(vault: Vault, directory: Path, token: str, role: str = "migration", **options: Any) -> Settings:
    """What a worker holds whose token file holds this."""
    path = directory / "token"
    path.write_text(token, encoding="utf-8")
    return Settings(GREYLAG_VAULT_ADDRESS=vault.server.url, vault_kubernetes_role=role, vault_kubernetes_token_file=path, **options)


def right(vault: Vault) -> str:
    return vault.namespace.cluster.token(vault.namespace.name, "migration", audience="vault")


def tokens(vault: Vault) -> int:
    return len(vault.server.request("LIST", "auth/token/accessors")["data"]["keys"])


def test_a_projected_token_logs_in_and_what_it_got_is_given_back(vault: Vault, tmp_path: Path, target: Target) -> None:
    before = tokens(vault)
    found = credentials.fetch(target, worker(vault, tmp_path, right(vault), vault_audience="vault"))
    assert (found.username, found.version) == ("auth", 1)
    assert tokens(vault) == before


def test_a_pod_reads_its_secret_with_the_token_that_its_kubelet_projects(vault: Vault, target: Target) -> None:
    namespace = vault.namespace
    image = images.checkout(f"registry.example/{namespace.name}-worker:1", ROOT, Path(sys.executable))
    namespace.cluster.register(image)
    variables = {
        "GREYLAG_VAULT_ADDRESS": vault.server.url,
        "GREYLAG_VAULT_KUBERNETES_ROLE": "migration",
        "GREYLAG_VAULT_KUBERNETES_TOKEN_FILE": "/var/run/secrets/vault/token",
        "GREYLAG_VAULT_AUDIENCE": "vault",
        "HOME": "/tmp",
    }
    main = {
        "name": "main",
        "image": image.name,
        "command": ["python", "-c", PROGRAM],
        "env": [{"name": name, "value": value} for name, value in variables.items()],
        "volumeMounts": [{"name": "vault-token", "mountPath": "/var/run/secrets/vault"}],
    }
    source = {"serviceAccountToken": {"path": "token", "audience": "vault", "expirationSeconds": 600}}
    volumes = [{"name": "vault-token", "projected": {"sources": [source]}}]
    namespace.create(pod("worker", main, serviceAccountName="migration", volumes=volumes))
    ended = namespace.wait("pod", "worker", lambda found: found["status"].get("phase") in ("Succeeded", "Failed"), "the worker has ended")
    said = namespace.said("worker")
    assert ended["status"]["phase"] == "Succeeded", said
    assert f"read version 1 of secret/{target.vault_path} as auth" in said
    assert "hunter2" not in said


@pytest.mark.parametrize(
    ("make", "role", "kind", "code", "says"),
    [
        (
            lambda n: n.cluster.token(n.name, "default", audience="vault"),
            "migration",
            errors.LoginFailed,
            "vault-login",
            "name not authorized",
        ),
        (lambda n: n.cluster.token(n.name, "migration", audience="vault"), "nobody", errors.LoginFailed, "vault-login", "nobody"),
        (lambda n: n.cluster.token(n.name, "migration", audience="elsewhere"), "migration", errors.LoginFailed, "vault-login", "audience"),
        (
            lambda n: n.cluster.token(n.name, "migration", audience="vault")[:-4] + "AAAA",
            "migration",
            errors.Unavailable,
            "vault-review",
            "",
        ),
    ],
    ids=["account", "role", "audience", "signature"],
)
def test_bad_flow_what_the_role_does_not_accept(
    vault: Vault,
    tmp_path: Path,
    target: Target,
    make: Callable[[Namespace], str],
    role: str,
    kind: type[errors.GreylagError],
    code: str,
    says: str,
) -> None:
    token = make(vault.namespace)
    with pytest.raises(errors.GreylagError) as caught:
        credentials.fetch(target, worker(vault, tmp_path, token, role))
    error = caught.value
    assert (type(error), error.code) == (kind, code), error.describe()
    assert says in error.message and "GREYLAG_VAULT_KUBERNETES_ROLE" in error.hint
    assert token not in error.describe()


def test_bad_flow_the_pods_default_token_is_not_even_sent(vault: Vault, tmp_path: Path, target: Target) -> None:
    default = vault.namespace.cluster.token(vault.namespace.name, "migration")
    with pytest.raises(errors.UsageError) as caught:
        credentials.fetch(target, worker(vault, tmp_path, default, vault_audience="vault"))
    assert caught.value.code == "vault-audience"


def test_bad_flow_a_review_that_is_denied_or_meets_no_api_server_is_worth_another_attempt(
    vault: Vault, tmp_path: Path, target: Target
) -> None:
    settings = worker(vault, tmp_path, right(vault))
    for change in ({"url": "https://127.0.0.1:1"}, {"reviewer": "migration"}):
        trust(vault, **change)
        with pytest.raises(errors.Unavailable) as caught:
            credentials.fetch(target, settings)
        assert caught.value.code == "vault-review" and "system:auth-delegator" in caught.value.hint
    trust(vault)
    assert credentials.fetch(target, settings).username == "auth"


def test_bad_flow_the_token_of_a_service_account_that_was_deleted(vault: Vault, tmp_path: Path, target: Target) -> None:
    settings = worker(vault, tmp_path, right(vault))
    vault.namespace.delete("serviceaccount", "migration")

    def refused() -> bool:  # the API server remembers for ten seconds that it knew the token
        try:
            credentials.fetch(target, settings)
        except errors.GreylagError as error:
            return error.code in ("vault-review", "vault-login")
        return False

    vault.namespace.cluster.wait_until(refused, "the token is dead")
