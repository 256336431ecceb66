"""A Vault that asks the session's cluster whose service-account token it was given."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sandbox.vault import logins, openbao_server
from tests import needs
from tests.cluster.workloads import Namespace

SECRET = "apps/my-girok/dev/auth-service/postgres"


@dataclasses.dataclass(frozen=True)
class Vault:
    """A server that asks the cluster who logs in."""

    server: openbao_server.OpenBaoServer
    namespace: Namespace


def account(namespace: Namespace, name: str) -> str:
    """A service account."""
    namespace.create({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}})
    return name


@contextmanager
def reviewed(namespace: Namespace, directory: Path) -> Iterator[Vault]:
    """A server with the role `migration` for the account of that name, and one that may review tokens; skips where OpenBao is not built."""
    needs.openbao()
    cluster = namespace.cluster
    account(namespace, "reviewer")
    account(namespace, "migration")
    namespace.apply(
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": f"reviewer-{namespace.name}"},
            "subjects": [{"kind": "ServiceAccount", "name": "reviewer", "namespace": namespace.name}],
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:auth-delegator"},
        }
    )
    with openbao_server.OpenBaoServer(directory) as server:
        trust(Vault(server, namespace))
        server.create_policy("dev", {"secret/data/apps/*": ["read"]})
        server.write_secret("apps/auth", {"password": "hunter2"})
        server.write_secret(SECRET, {"host": "db", "port": 5432, "username": "auth", "password": "hunter2", "database": "auth_db_dev"})
        logins.create_kubernetes_role(
            server, "migration", "dev", service_accounts=["migration"], namespaces=[namespace.name], audience="vault"
        )
        yield Vault(server, namespace)
    cluster.api.delete(f"/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/reviewer-{namespace.name}")


def trust(vault: Vault, url: str = "", reviewer: str = "reviewer") -> None:
    """Lets the server ask the cluster (or another address) with the token of this account."""
    cluster = vault.namespace.cluster
    token = cluster.token(vault.namespace.name, reviewer)
    logins.trust_cluster(vault.server, url or cluster.url, cluster.ca_file, reviewer_token=token)
