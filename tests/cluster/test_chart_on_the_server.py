"""Every rendering through the real API server: what it refuses, what it does not know, and what Pod Security says of the pods."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sandbox.cluster.cluster import Cluster
from tests import chart_cases as cases
from tests.cluster.external_secrets import DEFINITION

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def restricted(cluster: Cluster) -> Iterator[Cluster]:
    """The cluster with the definition of ExternalSecret, and the renderings' namespace, which warns of every pod that is not restricted."""
    cluster.apply(DEFINITION)
    cluster.kubectl("wait", "--for=condition=Established", "crd/externalsecrets.external-secrets.io", "--timeout=30s")
    cluster.create_namespace(cases.NAMESPACE)
    cluster.kubectl("label", "namespace", cases.NAMESPACE, "pod-security.kubernetes.io/warn=restricted", "--overwrite")
    yield cluster
    cluster.delete_namespace(cases.NAMESPACE)


@pytest.mark.parametrize("case", cases.CASES)
def test_the_server_takes_what_is_rendered_and_finds_every_pod_restricted(restricted: Cluster, case: str) -> None:
    text = (cases.RENDERED / f"{case}.yaml").read_text(encoding="utf-8")
    done = restricted.kubectl("create", "--dry-run=server", "--validate=strict", "--filename", "-", stdin=text, check=False)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr  # an unknown field, an old version, a pod that may do too much
    assert len(done.stdout.splitlines()) == len(cases.rendered(case))


def test_the_server_takes_the_worker_of_an_environment_and_finds_its_pod_restricted(restricted: Cluster) -> None:
    text = (cases.ROOT / "deployments" / "kubernetes" / "worker.yaml").read_text(encoding="utf-8").replace("dev-my-girok", cases.NAMESPACE)
    done = restricted.kubectl("create", "--dry-run=server", "--validate=strict", "--filename", "-", stdin=text, check=False)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    assert len(done.stdout.splitlines()) == 5


def test_bad_flow_the_server_would_say_so(restricted: Cluster) -> None:
    text = (cases.RENDERED / "argo-sync-hook-postgres.yaml").read_text(encoding="utf-8")
    wrong = {
        "backoffLimit:": "backofLimit:",
        "creationPolicy:": "creationPolice:",
        "podReplacementPolicy: Failed": "podReplacementPolicy: TerminatingOrFailed",
    }
    for right, changed in wrong.items():
        done = restricted.kubectl(
            "create", "--dry-run=server", "--validate=strict", "--filename", "-", stdin=text.replace(right, changed), check=False
        )
        assert done.returncode != 0, changed
    loose = text.replace("allowPrivilegeEscalation: false", "allowPrivilegeEscalation: true")
    assert "would violate PodSecurity" in restricted.kubectl("create", "--dry-run=server", "--filename", "-", stdin=loose).stderr
