"""`greylag deploy` and work pools and deployments: what it makes, keeps, names, closes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from prefect.workers.process import ProcessWorker

from deployments.worker import pool
from migrator import cli
from sandbox.stack.prefect_server import PrefectServer

NAMES = ("greylag-dev", "greylag-release", "greylag-prod", "greylag-promotion")


def deployment(server: PrefectServer) -> dict[str, Any]:
    found: dict[str, Any] = server.request("GET", "/deployments/name/deploy-service/deploy-service-dev")
    return found


def bare(found: dict[str, Any]) -> bool:
    return not (found["pull_steps"] or found["path"] or found["job_variables"] or found["storage_document_id"])


def test_greylag_deploy_makes_pools_of_its_own_type_and_names_the_open_ones(
    prefect_server: PrefectServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["deploy", "-close-pools"]) == 0
    pools = {item["name"]: item for item in prefect_server.request("POST", "/work_pools/filter", {})}
    assert [(pools[name]["type"], pools[name]["base_job_template"]) for name in NAMES] == [("greylag", pool.template())] * 4
    prefect_server.request("PATCH", "/work_pools/greylag-prod", {"base_job_template": ProcessWorker.get_default_base_job_template()})
    capsys.readouterr()
    assert cli.main(["deploy", "-json"]) == 0
    told = capsys.readouterr()
    assert "warning: work pool greylag-prod is open" in told.err and "greylag-dev is open" not in told.err
    assert json.loads(told.out)["open_work_pools"] == ["greylag-prod"]
    assert cli.main(["deploy", "-close-pools"]) == 0
    assert prefect_server.request("GET", "/work_pools/greylag-prod")["base_job_template"] == pool.template()


def test_a_pool_of_another_type_is_kept_and_told(prefect_server: PrefectServer, capsys: pytest.CaptureFixture[str]) -> None:
    prefect_server.request("DELETE", "/work_pools/greylag-release")
    old = {"name": "greylag-release", "type": "process", "base_job_template": ProcessWorker.get_default_base_job_template()}
    prefect_server.request("POST", "/work_pools/", old)
    try:
        assert cli.main(["deploy", "-close-pools"]) == 0
        assert "warning: work pool greylag-release is of type process" in capsys.readouterr().err
        found = prefect_server.request("GET", "/work_pools/greylag-release")
        assert (found["type"], found["base_job_template"]) == ("process", pool.template())
    finally:
        prefect_server.request("DELETE", "/work_pools/greylag-release")
        assert cli.main(["deploy"]) == 0


def test_greylag_deploy_takes_from_deployments_what_somebody_put_there(prefect_server: PrefectServer) -> None:
    assert cli.main(["deploy"]) == 0
    found = deployment(prefect_server)
    assert bare(found) and found["entrypoint"] == "flows/deploy_service.py:deploy_service"
    evil = {
        "pull_steps": [{"prefect.deployments.steps.run_shell_script": {"script": "true"}}],
        "path": "/evil",
        "entrypoint": "evil.py:evil",
    }
    prefect_server.request("PATCH", f"/deployments/{found['id']}", evil)
    assert cli.main(["deploy"]) == 0
    mended = deployment(prefect_server)
    assert bare(mended) and mended["entrypoint"] == found["entrypoint"] and mended["tags"] == found["tags"]
