"""The session's Kubernetes cluster, started when the first test asks; each test has a namespace of its own.

Delays are shortened where Kubernetes allows: the Job controller's and the node's first back-off are one second instead of ten.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployments.sandbox.cluster import cluster as sandbox
from deployments.sandbox.cluster import images
from tests.cluster.workloads import Namespace


@pytest.fixture(scope="session")
def cluster(session_directory: Path) -> Iterator[sandbox.Cluster]:
    """A real control plane and a node that knows the image `machine` (a shell and what is installed)."""
    reason = sandbox.unavailable()
    if reason is not None:
        pytest.skip(reason)
    with sandbox.Cluster(session_directory / "cluster", job_backoff_seconds=1, restart_backoff_seconds=1) as running:
        running.register(images.machine("machine"))
        yield running


@pytest.fixture
def namespace(cluster: sandbox.Cluster) -> Iterator[Namespace]:
    """A fresh namespace with what tests do in it; deleted afterwards."""
    name = cluster.create_namespace(f"test-{secrets.token_hex(4)}")
    yield Namespace(cluster, name)
    cluster.delete_namespace(name)
