"""The delays as released, once: a database that stays away is tried after 10, 20 and 40 s, and not again."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest
from kubernetes.config import kube_config

from deployments.sandbox import ports
from deployments.sandbox.cluster import cluster as sandbox
from deployments.sandbox.postgres import PostgresServer
from migrator import errors
from tasks.fleet_models import Engine
from tasks.job_failures import JobFailed
from tasks.job_manifest import CONTAINER
from tests.cluster.job_stage import USERS, JobStage
from tests.cluster.workloads import Namespace, condition, state

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


def test_bad_flow_an_unreachable_database_is_tried_4_times_at_10_20_and_40_seconds(
    tmp_path: Path, postgres_server: PostgresServer, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reason = sandbox.unavailable()
    if reason is not None:
        pytest.skip(reason)
    (tmp_path / "migrations").mkdir()
    for place in (tmp_path, tmp_path / "migrations"):
        place.chmod(0o755)
    with sandbox.Cluster(tmp_path / "cluster") as released:
        monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(released.kubeconfig))
        namespace = Namespace(released, released.create_namespace("delays"))
        stage = JobStage(namespace, tmp_path, postgres_url, Engine.POSTGRES, postgres_server.execute)
        stage.write("00001_first.sql", USERS)
        stage.store_secret(port=str(ports.free_port()))
        with pytest.raises(JobFailed) as caught:
            stage.run(deadline=300.0)
        found, pods = stage.only_job(), stage.pods()
    assert (caught.value.code, caught.value.exit_code) == ("unavailable", errors.ExitCode.UNAVAILABLE)
    assert condition(found, "Failed")["reason"] == "BackoffLimitExceeded"
    assert len(pods) == 4
    ends = [state(pod, CONTAINER)["terminated"]["finishedAt"] for pod in pods]
    begins = [pod["metadata"]["creationTimestamp"] for pod in pods]
    ended, began = ([datetime.datetime.fromisoformat(str(moment)) for moment in moments] for moments in (ends, begins))
    delays = [(after - before).total_seconds() for before, after in zip(ended, began[1:], strict=False)]
    # Times are whole seconds: a delay may look one second shorter than it was.
    assert [delay >= least - 1 for delay, least in zip(delays, (10, 20, 40), strict=True)] == [True, True, True], delays
    print(f"delays between the four pods: {delays}")
