"""The files for Prefect in a cluster: greylag's worker may do what it does and no more, and starts the Job that the checkout's template describes."""

from __future__ import annotations

import json
import re
from typing import Any

import yaml

from deployments.worker import jobs
from migrator.cli import flags, go_flags
from tests.flows.stage import ROOT

FILES = ROOT / "deployments" / "kubernetes"
OBJECTS: dict[str, Any] = {item["kind"]: item for item in yaml.safe_load_all((FILES / "worker.yaml").read_text(encoding="utf-8"))}
CONTAINER: dict[str, Any] = OBJECTS["Deployment"]["spec"]["template"]["spec"]["containers"][0]
LOGIN = {"name": "PREFECT_API_AUTH_STRING", "valueFrom": {"secretKeyRef": {"name": "prefect-auth", "key": "auth-string"}}}


def test_the_jobs_template_is_the_checkouts_with_the_servers_login() -> None:
    given = yaml.safe_load(OBJECTS["ConfigMap"]["data"]["job.yaml"])
    expected = json.loads(jobs.TEMPLATE.read_text(encoding="utf-8"))
    expected["spec"]["template"]["spec"]["containers"][0]["env"].append(LOGIN)
    assert given == expected


def test_the_worker_may_start_jobs_and_see_how_they_end_and_nothing_else() -> None:
    rules = [(rule["resources"], rule["verbs"]) for rule in OBJECTS["Role"]["rules"]]
    assert rules == [(["jobs"], ["create", "get", "list", "delete"]), (["pods"], ["list"]), (["events"], ["list"])]
    account = OBJECTS["ServiceAccount"]["metadata"]["name"]
    run = yaml.safe_load(OBJECTS["ConfigMap"]["data"]["job.yaml"])["spec"]["template"]["spec"]["serviceAccountName"]
    assert OBJECTS["Deployment"]["spec"]["template"]["spec"]["serviceAccountName"] == account != run, (
        "a run logs in to Vault, the worker doesn't"
    )


def test_its_command_line_is_one_that_the_worker_takes() -> None:
    from deployments.console import worker

    values = go_flags.parse([*CONTAINER["command"][1:], *CONTAINER["args"]], (*flags.ALL, *worker.VERB.flags))
    assert values.words == ["worker", "dev"]
    assert values.string("image") == CONTAINER["image"] and "@sha256:" in CONTAINER["image"]
    settings = dict(item.split("=", 1) for item in values.strings("setting"))
    assert jobs.checked(settings) == settings
    assert values.string("job-template").startswith(CONTAINER["volumeMounts"][1]["mountPath"])


def test_neither_file_holds_a_password_and_the_server_is_the_version_that_is_tested() -> None:
    values = yaml.safe_load((FILES / "prefect-server.values.yaml").read_text(encoding="utf-8"))
    assert values["server"]["basicAuth"] == {"enabled": True, "existingSecret": "prefect-auth"}
    assert values["secret"] == {"create": False, "name": "prefect-database"}
    pinned = re.search(r"^prefect==(\S+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert pinned is not None
    assert values["global"]["prefect"]["image"]["prefectTag"].startswith(f"{pinned[1]}-")
    assert [item["value"] for item in CONTAINER["env"] if re.search("AUTH|PASSWORD|TOKEN", item["name"]) and "value" in item] == []
