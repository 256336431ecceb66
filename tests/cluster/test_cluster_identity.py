"""Who may do what: service accounts, their tokens, RBAC, and Vault's Kubernetes login by the real TokenReview."""

from __future__ import annotations

from collections.abc import Iterator

import hvac
import pytest

from sandbox.cluster.api import Api, ApiRefused, Login, Object
from sandbox.cluster.cluster import Cluster
from sandbox.vault import logins
from tests.cluster.reviewing import Vault, account, reviewed
from tests.cluster.workloads import Namespace, container, pod

pytestmark = pytest.mark.cluster


def role(namespace: Namespace, name: str, *rules: Object) -> None:
    """A Role and its binding to the service account of the same name."""
    meta = {"name": name}
    subject = {"kind": "ServiceAccount", "name": name, "namespace": namespace.name}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}
    namespace.apply(
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": meta, "rules": list(rules)},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": meta,
            "subjects": [subject],
            "roleRef": reference,
        },
    )


def review(cluster: Cluster, token: str, *audiences: str) -> Object:
    spec = {"token": token} | ({"audiences": list(audiences)} if audiences else {})
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": spec}
    return dict(cluster.api.create("/apis/authentication.k8s.io/v1/tokenreviews", body)["status"])


def test_a_service_account_may_do_what_its_role_says_and_nothing_else(namespace: Namespace) -> None:
    cluster, name = namespace.cluster, account(namespace, "migrator")
    limited = Api(cluster.url, cluster.ca_file, Login(token=cluster.token(namespace.name, name)))
    jobs = f"/apis/batch/v1/namespaces/{namespace.name}/jobs"
    with pytest.raises(ApiRefused) as caught:
        limited.get(jobs)
    assert caught.value.status == 403
    assert 'cannot list resource "jobs"' in caught.value.message
    role(namespace, name, {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["list"]})

    def allowed() -> bool:
        try:
            return limited.get(jobs)["items"] == []
        except ApiRefused:
            return False

    cluster.wait_until(allowed, "the authorizer has seen the role")
    with pytest.raises(ApiRefused, match='cannot list resource "secrets"'):
        limited.get(f"/api/v1/namespaces/{namespace.name}/secrets")


def test_a_service_accounts_kubeconfig_is_that_account(namespace: Namespace) -> None:
    path = namespace.cluster.service_account_kubeconfig(namespace.name, account(namespace, "worker"))
    told = namespace.cluster.kubectl("auth", "whoami", "--kubeconfig", str(path), "--output", "jsonpath={.status.userInfo.username}")
    assert told.stdout == f"system:serviceaccount:{namespace.name}:worker"
    assert path.stat().st_mode & 0o077 == 0


def test_a_token_is_for_its_audience_alone(namespace: Namespace) -> None:
    token = namespace.cluster.token(namespace.name, "default", audience="vault")
    status = review(namespace.cluster, token, "vault")
    assert status["authenticated"] is True
    assert status["user"]["username"] == f"system:serviceaccount:{namespace.name}:default"
    assert not review(namespace.cluster, token).get("authenticated")
    assert not review(namespace.cluster, token, "elsewhere").get("authenticated")


def test_a_pods_token_dies_with_its_pod(namespace: Namespace) -> None:
    volume = {"name": "token", "projected": {"sources": [{"serviceAccountToken": {"path": "vault", "audience": "vault"}}]}}
    main = container("cat /token/vault; echo; sleep 600", volumeMounts=[{"name": "token", "mountPath": "/token"}])
    namespace.create(pod("login", main, volumes=[volume], terminationGracePeriodSeconds=0))
    namespace.cluster.wait_until(lambda: namespace.said("login").count(".") == 2, "the token is printed")
    token = namespace.said("login").strip()
    assert review(namespace.cluster, token, "vault")["authenticated"] is True
    namespace.delete("pod", "login", gracePeriodSeconds=0)
    namespace.gone("pod", "login")
    # The API server remembers for ten seconds that it knew the token.
    namespace.cluster.wait_until(lambda: not review(namespace.cluster, token, "vault").get("authenticated"), "the token is dead")


def test_the_node_reads_no_secret_that_none_of_its_pods_refers_to(namespace: Namespace) -> None:
    namespace.create({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "private"}, "stringData": {"word": "x"}})
    cluster = namespace.cluster
    pair = cluster.control_plane.authority.issue("kubelet", "system:node:node1")
    node = Api(cluster.url, cluster.ca_file, Login(pair.certificate, pair.key))
    with pytest.raises(ApiRefused, match="no relationship found between node"):
        node.get(f"/api/v1/namespaces/{namespace.name}/secrets/private")


@pytest.fixture
def vault(namespace: Namespace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vault]:
    with reviewed(namespace, tmp_path_factory.mktemp("openbao")) as found:
        yield found


def test_vault_knows_a_pods_service_account(vault: Vault) -> None:
    token = vault.namespace.cluster.token(vault.namespace.name, "migration", audience="vault")
    auth = vault.login(token)["auth"]
    assert auth["metadata"]["service_account_name"] == "migration"
    reader = hvac.Client(url=vault.server.url, token=auth["client_token"], timeout=10)
    assert reader.secrets.kv.v2.read_secret_version("apps/auth", raise_on_deleted_version=True)["data"]["data"] == {"password": "hunter2"}


def test_bad_flow_vault_refuses_other_accounts_audiences_and_roles(vault: Vault) -> None:
    cluster, name = vault.namespace.cluster, vault.namespace.name
    assert "service account name not authorized" in vault.refused(cluster.token(name, "default", audience="vault"))
    assert vault.refused(cluster.token(name, "migration", audience="elsewhere")).startswith("Forbidden")
    right = cluster.token(name, "migration", audience="vault")
    assert 'invalid role name "nobody"' in vault.refused(right, role="nobody")
    cluster.create_namespace(f"{name}-b")
    try:
        Namespace(cluster, f"{name}-b").create({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "migration"}})
        assert "namespace not authorized" in vault.refused(cluster.token(f"{name}-b", "migration", audience="vault"))
    finally:
        cluster.delete_namespace(f"{name}-b")


def test_bad_flow_a_denied_review_and_an_absent_api_server_look_alike(vault: Vault) -> None:
    cluster, name = vault.namespace.cluster, vault.namespace.name
    token = cluster.token(name, "migration", audience="vault")
    powerless = cluster.token(name, "migration")
    logins.trust_cluster(vault.server, cluster.url, cluster.ca_file, reviewer_token=powerless)
    denied = vault.refused(token)
    logins.trust_cluster(vault.server, "https://127.0.0.1:1", cluster.ca_file, reviewer_token=powerless)
    assert vault.refused(token) == denied
    assert denied.startswith("Forbidden: permission denied")
