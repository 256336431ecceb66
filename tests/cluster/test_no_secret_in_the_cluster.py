"""Nothing that a cluster, its node's processes or Prefect hold has a secret in it, except the Secret itself: markers are planted, good and failing
runs of both modes are made, then everything is read."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox.cluster.cluster import Cluster
from sandbox.stack.prefect_server import PrefectServer
from tests import leaks
from tests.cluster.fleet_stage import FleetStage
from tests.flows import prefect_api

pytestmark = pytest.mark.cluster

REJECTED = """\
-- +goose Up
SELECT 'not a number'::integer;
-- +goose Down
SELECT 1;
"""

MORE = "-- +goose Up\nCREATE TABLE more (id integer);\n-- +goose Down\nDROP TABLE more;\n"

PAUSE_SECONDS = 0.05


class Processes(threading.Thread):
    """Reads what `ps` shows, over and over: every process's arguments, and the variables of those outside of the pods."""

    def __init__(self) -> None:
        super().__init__(name="processes", daemon=True)
        self.arguments: set[bytes] = set()
        self.variables: set[bytes] = set()
        self.in_pods = 0
        self._own = Path("/proc/self/ns/pid").stat().st_ino
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(PAUSE_SECONDS):
            for path in Path("/proc").glob("[0-9]*"):
                try:
                    self.arguments.add((path / "cmdline").read_bytes())
                    if (path / "ns" / "pid").stat().st_ino == self._own:
                        self.variables.add((path / "environ").read_bytes())
                    else:
                        self.in_pods += 1
                except OSError:  # it has ended
                    continue

    def places(self) -> Iterator[leaks.Place]:
        """What was seen, once."""
        self._ended.set()
        self.join()
        yield "arguments of processes", b"\n".join(self.arguments)
        yield "variables of processes outside of pods", b"\n".join(self.variables)


def objects(cluster: Cluster) -> Iterator[tuple[dict[str, Any], leaks.Place]]:
    """Every object of every kind in every namespace, Events included."""
    groups = [f"/apis/{version['groupVersion']}" for group in cluster.api.get("/apis")["groups"] for version in group["versions"]]
    for base in ["/api/v1", *groups]:
        for kind in cluster.api.get(base)["resources"]:
            if "list" in kind["verbs"]:
                for found in cluster.api.get(f"{base}/{kind['name']}")["items"]:
                    metadata = found["metadata"]
                    name = f"{kind['kind']} {metadata.get('namespace', '')}/{metadata['name']}"
                    yield {"kind": kind["kind"], **metadata}, (name, json.dumps(found, ensure_ascii=False).encode())


def logs(cluster: Cluster) -> Iterator[leaks.Place]:
    """Every container's log."""
    for pod in cluster.api.get("/api/v1/pods")["items"]:
        metadata = pod["metadata"]
        told = cluster.kubectl("logs", "--namespace", metadata["namespace"], metadata["name"], "--all-containers", check=False)
        yield f"log of {metadata['namespace']}/{metadata['name']}", (told.stdout + told.stderr).encode()


def markers(stage: FleetStage) -> dict[str, str]:
    """What must be found nowhere, by name."""
    found = {f"password of {environment}": password.partition("%")[0] for environment, password in stage.passwords.items()}
    for environment in ("dev", "release"):
        found[f"Vault token of {environment}"] = (stage.directory / f"token-{environment}").read_text(encoding="utf-8").strip()
        kubeconfig = json.loads(stage.kubeconfig(environment).read_text(encoding="utf-8"))
        found[f"service account token of {environment}"] = kubeconfig["users"][0]["user"]["token"]
    return found | {"Vault's root token": stage.vault.root_token, "wrong password": "marker-wrong"}


def deploy(stage: FleetStage, **given: Any) -> Any:
    from flows.deploy_service import deploy_service

    return deploy_service(
        service="auth-service",
        environment="dev",
        image=stage.image.name,
        backoff_limit=1,
        active_deadline_seconds=120,
        **given,
        return_state=True,
    )


def test_good_flow_no_value_is_anywhere_but_in_the_secret_itself(
    worker: FleetStage, prefect_server: PrefectServer, capfd: pytest.CaptureFixture[str]
) -> None:
    secret = worker.credentials_secret()
    worker.deploy()
    processes = Processes()
    processes.start()
    states: dict[str, Any] = {"inline": deploy(worker, mode="inline")}
    worker.undo()
    states["job"] = deploy(worker, mode="job")
    rejected = worker.write("20250301000000_rejected.sql", REJECTED)
    states |= {f"rejected, {mode}": deploy(worker, mode=mode) for mode in ("inline", "job")}
    rejected.unlink()
    worker.write("20250401000000_more.sql", MORE)  # another plan: the good Job and its pods stay
    worker.credentials_secret(password="marker-wrong")
    states["wrong password, job"] = deploy(worker, mode="job")
    worker.secret("dev", password="marker-wrong")
    states["wrong password, inline"] = deploy(worker, mode="inline")
    worker.secret("dev")
    output = capfd.readouterr()

    assert {kind: state.is_completed() for kind, state in states.items()} == {kind: kind in ("inline", "job") for kind in states}
    last = str(states["wrong password, inline"].state_details.flow_run_id)
    wanted = {"logs": {"flow_run_id": {"any_": [last]}}, "limit": 200}

    def logged(found: list[dict[str, Any]]) -> bool:
        return any("Finished in state Failed" in item["message"] and item["task_run_id"] is None for item in found)

    assert logged(prefect_api.eventually(lambda: prefect_server.request("POST", "/logs/filter", wanted), logged))

    everything = list(objects(worker.cluster))
    held = [place for about, place in everything if (about["kind"], about["name"]) == ("Secret", secret)]
    rest = [place for about, place in everything if (about["kind"], about["name"]) != ("Secret", secret)]
    assert leaks.found(markers(worker), held), "the scan finds what is there"
    kinds = {about["kind"] for about, _ in everything}
    assert {"Job", "Pod", "Event", "Deployment", "ReplicaSet", "ConfigMap", "Role"} <= kinds
    pods = list(logs(worker.cluster))
    assert any(b"successfully migrated" in content for _, content in pods)
    shown = [
        ("output", (output.out + output.err).encode()),
        *((f"message of {kind}", str(state.message).encode()) for kind, state in states.items()),
    ]
    seen = list(processes.places())
    assert processes.in_pods > 0 and any(b"greylag" in content for _, content in seen)
    assert leaks.found(markers(worker), [*rest, *pods, *shown, *seen, *leaks.stored(prefect_server)]) == []
