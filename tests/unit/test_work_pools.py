"""The shipped base job template of a Kubernetes work pool: what Prefect's worker makes of it is a Job as the design wants it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from prefect.utilities.templating import apply_values

FILE = Path(__file__).resolve().parents[2] / "deployments" / "work_pools" / "kubernetes.json"
TEMPLATE: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
PROPERTIES: dict[str, dict[str, Any]] = TEMPLATE["variables"]["properties"]


def job(**given: Any) -> dict[str, Any]:
    """The Job of a run, filled in as `BaseJobConfiguration.from_template_and_values` does it."""
    values = {name: found["default"] for name, found in PROPERTIES.items() if "default" in found}
    filled = apply_values(TEMPLATE["job_configuration"], values | {"namespace": "dev", "image": "registry.example/worker@sha256:0"} | given)
    manifest: dict[str, Any] = filled["job_manifest"]
    return manifest


def test_every_placeholder_is_a_variable_and_every_variable_is_used() -> None:
    used = set(re.findall(r"\{\{ (\w+) \}\}", json.dumps(TEMPLATE["job_configuration"])))
    assert used == set(PROPERTIES)
    assert set(TEMPLATE["variables"]["required"]) <= used


def test_kubernetes_never_starts_an_evicted_run_again() -> None:
    spec = job()["spec"]
    assert spec["backoffLimit"] == 0 == PROPERTIES["backoff_limit"]["maximum"]
    assert spec["template"]["spec"]["restartPolicy"] == "Never"
    assert "podFailurePolicy" not in spec, "Ignore on DisruptionTarget would start a second pod beside the one that Prefect schedules"


def test_an_evicted_run_is_ended_on_the_server_and_scheduled_again() -> None:
    assert PROPERTIES["env"]["default"]["PREFECT_FLOW_RUN_EXECUTE_SIGTERM_BEHAVIOR"] == "reschedule"
    assert job()["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] >= 30
    assert "command" not in {name for name, found in PROPERTIES.items() if "default" in found}, (
        "the worker's own: it hears of Cancel and of SIGTERM"
    )


def test_the_pod_is_restricted_and_its_token_for_vault_is_for_vault_alone() -> None:
    spec = job()["spec"]["template"]["spec"]
    (main,) = spec["containers"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert main["securityContext"] == {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    mounts = {item["name"]: item["mountPath"] for item in main["volumeMounts"]}
    assert set(mounts) == {item["name"] for item in spec["volumes"]}
    (source,) = next(item for item in spec["volumes"] if item["name"] == "vault-token")["projected"]["sources"]
    assert source["serviceAccountToken"]["audience"] == "vault"
    assert PROPERTIES["env"]["default"]["GREYLAG_VAULT_KUBERNETES_TOKEN_FILE"] == f"{mounts['vault-token']}/token"


def test_what_is_not_given_is_left_out_and_nothing_stays_a_placeholder() -> None:
    assert "{{" not in json.dumps(job())
    assert job(service_account_name="other")["spec"]["template"]["spec"]["serviceAccountName"] == "other"


def test_no_variable_of_the_template_is_a_secret() -> None:
    names = {*PROPERTIES, *PROPERTIES["env"]["default"]}
    assert not [name for name in names if re.search(r"(?i)password|secret|(?<!VAULT_KUBERNETES_)token(?!_FILE)", name)]
