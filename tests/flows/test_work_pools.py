"""A work pool is closed: what somebody puts on a run through Prefect's API is refused by the server or ignored by the worker, never obeyed."""

from __future__ import annotations

import json
import secrets
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.workers.process import ProcessWorker

from deployments.console import deploy
from deployments.work_pools import templates
from migrator import cli, errors
from sandbox.stack.prefect_server import PrefectServer, PrefectWorker, create_work_pool
from tests.flows import prefect_api

POOL = "pool-closed"

FLOW = """
import json, os, pathlib
from prefect import flow

@flow
def look(place: str) -> None:
    pathlib.Path(place).write_text(json.dumps({"vault": os.environ.get("GREYLAG_VAULT_ADDRESS"), "extra": os.environ.get("EXTRA")}))
"""

OWN = "https://vault.example:8200"


@dataclass
class Stand:
    """A deployment in a pool with a worker."""

    server: PrefectServer
    directory: Path
    flow: str
    deployment: str

    def attack(self, path: str, job_variables: dict[str, Any], **more: Any) -> str:
        """Creates a run with these job variables; its id. `seen(id)` is what the flow saw, if it ran."""
        place = self.directory / secrets.token_hex(4)
        body = {"parameters": {"place": str(place)}, "job_variables": job_variables, "state": {"type": "SCHEDULED"}, **more}
        run = str(self.server.request("POST", path, body)["id"])
        (self.directory / run).symlink_to(place)
        return run

    def created(self, job_variables: dict[str, Any]) -> str:
        return self.attack(f"/deployments/{self.deployment}/create_flow_run", job_variables)

    def posted(self, job_variables: dict[str, Any]) -> str:
        """The same by the request that the server does not validate."""
        return self.attack("/flow_runs/", job_variables, flow_id=self.flow, deployment_id=self.deployment, work_pool_name=POOL)

    def seen(self, run: str) -> dict[str, Any] | None:
        """What the flow of a run that has ended wrote."""
        prefect_api.ended(self.server, run, 90)
        found = self.directory / run
        return dict(json.loads(found.read_text())) if found.exists() else None


@pytest.fixture(scope="module")
def stand(prefect_server: PrefectServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    directory = tmp_path_factory.mktemp("closed")
    (directory / "looking.py").write_text(FLOW)
    with PrefectWorker(prefect_server, POOL, environment={"GREYLAG_VAULT_ADDRESS": OWN}):
        flow = prefect_server.request("POST", "/flows/", {"name": "look"})["id"]
        steps = [{"prefect.deployments.steps.set_working_directory": {"directory": str(directory)}}]
        made = prefect_server.request(
            "POST",
            "/deployments/",
            {"name": "look", "flow_id": flow, "entrypoint": "looking.py:look", "work_pool_name": POOL, "pull_steps": steps, "path": "."},
        )
        yield Stand(prefect_server, directory, flow, made["id"])


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """What an attacker's shell line would leave behind."""
    return tmp_path / "taken"


def attacks(marker: Path) -> dict[str, dict[str, Any]]:
    evil = "http://evil.example:8200"
    return {
        "command": {"command": f"sh -c 'touch {marker}'"},
        "env": {"env": {"GREYLAG_VAULT_ADDRESS": evil, "EXTRA": "1"}},
        "dotted env": {"env.GREYLAG_VAULT_ADDRESS": evil, "env.EXTRA": "1"},
        "working directory": {"working_dir": str(marker.parent)},
        "something else": {"nonsense": 1},
    }


NAMES = list(attacks(Path()))


@pytest.mark.parametrize("name", NAMES)
def test_bad_flow_the_server_refuses_job_variables_of_a_run(stand: Stand, marker: Path, name: str) -> None:
    with pytest.raises(errors.Unavailable, match="422"):
        stand.created(attacks(marker)[name])


@pytest.mark.parametrize("name", NAMES)
def test_bad_flow_the_server_refuses_job_variables_of_a_deployment(stand: Stand, marker: Path, name: str) -> None:
    given = {"job_variables": attacks(marker)[name]}
    body = {"name": "evil", "flow_id": stand.flow, "entrypoint": "looking.py:look", "work_pool_name": POOL}
    with pytest.raises(errors.Unavailable, match=r"409|422"):
        stand.server.request("POST", "/deployments/", body | given)
    try:
        stand.server.request("PATCH", f"/deployments/{stand.deployment}", given)
    except errors.Unavailable as error:
        assert "422" in error.message or "409" in error.message
    else:  # taken by the server, and refused where a run is made
        with pytest.raises(errors.Unavailable, match="422"):
            stand.created({})
        stand.server.request("PATCH", f"/deployments/{stand.deployment}", {"job_variables": {}})


@pytest.mark.slow
def test_bad_flow_what_the_server_lets_pass_the_worker_does_not_obey(stand: Stand, marker: Path) -> None:
    runs = {name: stand.posted(given) for name, given in attacks(marker).items()}
    for name, run in runs.items():
        assert stand.seen(run) == {"vault": OWN, "extra": None}, name
    assert not marker.exists()


@pytest.mark.slow
def test_bad_flow_a_pool_that_somebody_opened_obeys_until_greylag_deploy_closes_it(
    stand: Stand, marker: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    opened = ProcessWorker.get_default_base_job_template()
    opened["variables"]["properties"]["command"]["default"] = f"{sys.executable} -m prefect.engine"
    stand.server.request("PATCH", f"/work_pools/{POOL}", {"base_job_template": opened})
    try:
        stand.created(attacks(marker)["command"])
        assert prefect_api.eventually(marker.exists, bool), "this test has something to show"
        marker.unlink()
        with get_client(sync_client=True) as client:
            assert not deploy.prepare_pool(client, POOL, templates.process(), deploy.Pools())
            told = capsys.readouterr().err
            assert (
                f"work pool {POOL} is open: whoever starts a run chooses its command, env, " in told
                and "greylag deploy -close-pools" in told
            )
            assert deploy.prepare_pool(client, POOL, templates.process(), deploy.Pools(close=True))
            assert deploy.prepare_pool(client, POOL, templates.process(), deploy.Pools())
        assert f"work pool {POOL}: closed" in capsys.readouterr().err
    finally:
        create_work_pool(stand.server, POOL)
    with pytest.raises(errors.Unavailable, match="422"):
        stand.created(attacks(marker)["command"])
    assert stand.seen(stand.posted(attacks(marker)["command"])) == {"vault": OWN, "extra": None}, (
        "the worker reads the template at each run"
    )
    assert not marker.exists()


def test_greylag_deploy_makes_closed_pools_and_names_the_open_ones(
    prefect_server: PrefectServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["deploy", "-close-pools"]) == 0
    pools = {item["name"]: item for item in prefect_server.request("POST", "/work_pools/filter", {})}
    names = ("greylag-dev", "greylag-release", "greylag-prod", "greylag-promotion")
    assert [templates.free(pools[name]["base_job_template"]) for name in names] == [[], [], [], []]
    opened = ProcessWorker.get_default_base_job_template()
    prefect_server.request("PATCH", "/work_pools/greylag-prod", {"base_job_template": opened})
    capsys.readouterr()
    assert cli.main(["deploy", "-json"]) == 0
    told = capsys.readouterr()
    assert "warning: work pool greylag-prod is open" in told.err and "greylag-dev is open" not in told.err
    assert json.loads(told.out)["open_work_pools"] == ["greylag-prod"]
    assert cli.main(["deploy", "-close-pools"]) == 0
    assert templates.free(prefect_server.request("GET", "/work_pools/greylag-prod")["base_job_template"]) == []


def test_a_pool_that_is_closed_can_be_given_another_command(prefect_server: PrefectServer, capsys: pytest.CaptureFixture[str]) -> None:
    command = f"{sys.executable} -m prefect.engine"
    try:
        assert cli.main(["deploy", "-close-pools", "-pool-command", command]) == 0
        found = prefect_server.request("GET", "/work_pools/greylag-dev")["base_job_template"]
        assert (found["job_configuration"]["command"], templates.free(found)) == (command, [])
        assert "work pool greylag-dev: closed, with what was given" in capsys.readouterr().err
    finally:
        prefect_server.request("PATCH", "/work_pools/greylag-dev", {"base_job_template": templates.process()})
