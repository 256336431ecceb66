"""The base job templates of work pools: closed, and what Prefect's workers make of them."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import pytest
from prefect.utilities.templating import apply_values
from prefect.workers.base import BaseJobConfiguration
from prefect.workers.process import ProcessJobConfiguration, ProcessWorker

from deployments.console import deploy
from deployments.work_pools import templates
from migrator import errors
from tasks import fleet

SETTINGS = {"GREYLAG_VAULT_ADDRESS": "https://vault.example:8200", "GREYLAG_VAULT_KUBERNETES_ROLE": "greylag-dev"}

HOSTILE = {
    "command": "touch /tmp/taken",
    "args": ["touch"],
    "env": {"GREYLAG_VAULT_ADDRESS": "http://evil.example"},
    "env.GREYLAG_VAULT_ADDRESS": "http://evil.example",
    "job_manifest": {"kind": "DaemonSet"},
    "job_manifest.spec.template.spec.containers": [],
    "working_dir": "/evil",
    "image": "evil.example/x:1",
    "namespace": "evil",
    "service_account_name": "evil",
    "name": "evil",
    "labels": {"evil": "yes"},
    "stream_output": False,
    "backoff_limit": 9,
}


def template() -> dict[str, Any]:
    return templates.kubernetes("dev-my-girok", "registry.example/worker@sha256:0", SETTINGS)


def job() -> dict[str, Any]:
    """The Job of a run on which somebody has put job variables that the server did not refuse, filled in as Prefect's worker does it."""
    filled = apply_values(template()["job_configuration"], HOSTILE)
    manifest: dict[str, Any] = filled["job_manifest"]
    return manifest


def container() -> dict[str, Any]:
    (main,) = job()["spec"]["template"]["spec"]["containers"]
    assert isinstance(main, dict)
    return main


def variables() -> dict[str, str]:
    return {item["name"]: item["value"] for item in container()["env"]}


@pytest.mark.parametrize("made", [templates.process(), templates.process("/venv/bin/python -m prefect.engine"), template()])
def test_nothing_of_a_template_is_free_and_the_schema_admits_no_variable(made: dict[str, Any]) -> None:
    assert templates.free(made) == []
    assert (made["variables"]["properties"], made["variables"]["additionalProperties"]) == ({}, False)
    assert "{{" not in json.dumps(made) and "$" not in json.dumps(made)
    assert not isinstance(made["job_configuration"].get("env"), dict), "Prefect's worker would merge a run's own into it"


@pytest.mark.parametrize("command", ["", "/venv/bin/python -m prefect.engine"])
def test_bad_flow_prefects_worker_obeys_no_job_variable_that_the_server_let_pass(command: str) -> None:
    found = asyncio.run(ProcessJobConfiguration.from_template_and_values(templates.process(command), dict(HOSTILE), client=object()))
    assert (found.command, found.env, found.working_dir, found.name, found.labels) == (command or None, {}, None, None, {})


def test_bad_flow_a_fixed_environment_in_the_configuration_would_be_open() -> None:
    """Why `env` is absent: this is what Prefect's worker does, schema or not."""
    fixed = templates.process()
    fixed["job_configuration"]["env"] = {"GREYLAG_VAULT_ADDRESS": "https://vault.example:8200"}
    found = asyncio.run(
        ProcessJobConfiguration.from_template_and_values(fixed, {"env": {"GREYLAG_VAULT_ADDRESS": "http://evil.example"}}, client=object())
    )
    assert found.env == {"GREYLAG_VAULT_ADDRESS": "http://evil.example"}
    assert templates.free(fixed) == ["env"]


def test_bad_flow_no_job_variable_changes_a_pods_job() -> None:
    assert job() == template()["job_configuration"]["job_manifest"]
    found = asyncio.run(BaseJobConfiguration.from_template_and_values(template(), dict(HOSTILE), client=object()))
    assert (found.command, found.env, found.labels) == (None, {}, {})


def test_kubernetes_never_starts_an_evicted_run_again() -> None:
    spec = job()["spec"]
    assert spec["backoffLimit"] == 0
    assert spec["template"]["spec"]["restartPolicy"] == "Never"
    assert "podFailurePolicy" not in spec, "Ignore on DisruptionTarget would start a second pod beside the one that Prefect schedules"


def test_an_evicted_run_is_ended_on_the_server_and_scheduled_again() -> None:
    assert variables()["PREFECT_FLOW_RUN_EXECUTE_SIGTERM_BEHAVIOR"] == "reschedule"
    assert job()["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] >= 30
    assert not {"args", "command"} & container().keys(), "the worker's own: it hears of Cancel and of SIGTERM"


def test_the_pod_is_restricted_and_its_token_for_vault_is_for_vault_alone() -> None:
    spec = job()["spec"]["template"]["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert container()["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    mounts = {item["name"]: item["mountPath"] for item in container()["volumeMounts"]}
    assert set(mounts) == {item["name"] for item in spec["volumes"]}
    (source,) = next(item for item in spec["volumes"] if item["name"] == "vault-token")["projected"]["sources"]
    assert source["serviceAccountToken"]["audience"] == "vault"
    assert variables()["GREYLAG_VAULT_KUBERNETES_TOKEN_FILE"] == f"{mounts['vault-token']}/token"


def test_what_an_environment_needs_is_filled_in_once() -> None:
    assert job()["metadata"]["namespace"] == "dev-my-girok" == template()["job_configuration"]["namespace"]
    assert container()["image"] == "registry.example/worker@sha256:0"
    assert variables().items() >= SETTINGS.items()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GREYLAG_VAULT_SECRET_ID", "x"),
        ("GREYLAG_VAULT_TOKEN", "x"),
        ("PREFECT_API_KEY", "x"),
        ("PREFECT_API_AUTH_STRING", "x"),
        ("POSTGRES_PASSWORD", "x"),
        ("LD_PRELOAD", "x"),
        ("PYTHONPATH", "x"),
        ("", "x"),
        ("GREYLAG_FLEET", "{{ command }}"),
    ],
)
def test_bad_flow_a_secret_foreign_code_or_a_placeholder_as_a_setting(name: str, value: str) -> None:
    with pytest.raises(errors.UsageError) as caught:
        templates.kubernetes("dev", "image", {name: value})
    assert caught.value.code == "bad-setting"


def test_no_variable_of_the_pods_is_a_secret() -> None:
    assert not [name for name in variables() if re.search(r"(?i)password|secret|(?<!VAULT_KUBERNETES_)token(?!_FILE)", name)]


# --- pools that exist -------------------------------------------------------------------------------------------------------------------


def test_prefects_own_template_is_open_and_says_in_what() -> None:
    assert {"command", "env", "working_dir"} <= set(templates.free(ProcessWorker.get_default_base_job_template()))
    assert {"command", "env"} <= set(templates.free({})), "the worker puts Prefect's own there"


def test_a_schema_without_variables_does_not_hide_a_placeholder() -> None:
    """`POST /flow_runs/` is not validated: what the worker fills in is what counts."""
    hidden = templates.process()
    hidden["job_configuration"]["command"] = "{{ command }}"
    assert templates.free(hidden) == ["command"]


def test_an_open_pool_is_closed_as_it_is() -> None:
    opened = ProcessWorker.get_default_base_job_template()
    opened["variables"]["properties"]["command"]["default"] = "/venv/bin/python -m prefect.engine"
    opened["variables"]["properties"]["working_dir"]["default"] = "/srv"
    made = templates.closed(opened, "process")
    assert templates.free(made) == []
    assert made["job_configuration"] == {"command": "/venv/bin/python -m prefect.engine", "working_dir": "/srv", "stream_output": True}


def test_bad_flow_a_pool_that_sets_its_runs_environment_is_not_closed_silently() -> None:
    opened = ProcessWorker.get_default_base_job_template()
    opened["variables"]["properties"]["env"]["default"] = {"GREYLAG_VAULT_ADDRESS": "https://vault.example"}
    with pytest.raises(errors.UsageError, match="GREYLAG_VAULT_ADDRESS") as caught:
        templates.closed(opened, "process")
    assert caught.value.code == "pool-not-closed"
    with pytest.raises(errors.UsageError, match="no closed template for the type docker"):
        templates.closed(opened, "docker")


def open_pods(**defaults: Any) -> dict[str, Any]:
    """A Kubernetes pool as operators have it: variables for image, namespace, env and command."""
    names = ("image", "namespace", "env", "command", "labels", "name", "service_account_name")
    pod = {
        "serviceAccountName": "{{ service_account_name }}",
        "containers": [{"name": "prefect-job", "image": "{{ image }}", "args": "{{ command }}", "env": "{{ env }}"}],
    }
    manifest = {
        "metadata": {"namespace": "{{ namespace }}", "labels": "{{ labels }}", "generateName": "{{ name }}-"},
        "spec": {"template": {"spec": pod}},
    }
    configuration = {name: f"{{{{ {name} }}}}" for name in ("command", "env", "labels", "name", "namespace")} | {"job_manifest": manifest}
    properties = {name: {"default": defaults[name]} if name in defaults else {} for name in names}
    return {"job_configuration": configuration, "variables": {"type": "object", "required": ["image"], "properties": properties}}


def test_an_open_kubernetes_pool_keeps_what_it_gave_its_pods() -> None:
    opened = open_pods(image="worker:1", namespace="dev", env={"GREYLAG_HOME": "/opt/greylag"}, service_account_name="greylag-worker")
    made = templates.closed(opened, "kubernetes")
    pod = made["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    assert templates.free(made) == [] and "env" not in made["job_configuration"]
    assert pod == {
        "serviceAccountName": "greylag-worker",
        "containers": [{"name": "prefect-job", "image": "worker:1", "env": [{"name": "GREYLAG_HOME", "value": "/opt/greylag"}]}],
    }
    with pytest.raises(errors.UsageError, match="image must be given"):
        templates.closed(open_pods(), "kubernetes")


# --- greylag deploy ---------------------------------------------------------------------------------------------------------------------


def test_each_environments_pods_are_in_its_namespace_and_the_promotions_hear_nothing_of_vault() -> None:
    found = fleet.load()
    settings = {"GREYLAG_VAULT_KUBERNETES_ROLE": "greylag-{environment}", "GREYLAG_FLEET": "/stage/fleet.yaml"}
    given = deploy.Pools("kubernetes", image="worker@sha256:0", settings=settings)
    made = {pool: deploy._template(f"greylag-{pool}", found, given)["job_configuration"] for pool in ("dev", "prod", "promotion")}
    assert {pool: item["namespace"] for pool, item in made.items()} == {name: f"{name}-my-girok" for name in made}
    roles = {
        pool: {env["name"]: env["value"] for env in item["job_manifest"]["spec"]["template"]["spec"]["containers"][0]["env"]}
        for pool, item in made.items()
    }
    assert roles["dev"]["GREYLAG_VAULT_KUBERNETES_ROLE"] == "greylag-dev"
    assert "GREYLAG_VAULT_KUBERNETES_ROLE" not in roles["promotion"] and "GREYLAG_FLEET" in roles["promotion"]


@pytest.mark.parametrize(
    "given",
    [
        deploy.Pools("process", image="x"),
        deploy.Pools("process", settings={"GREYLAG_FLEET": "x"}),
        deploy.Pools("kubernetes"),
        deploy.Pools("kubernetes", image="x", command="y"),
    ],
)
def test_bad_flow_what_a_type_of_pool_cant_be_given(given: deploy.Pools) -> None:
    with pytest.raises(errors.UsageError):
        deploy._template("greylag-dev", fleet.load(), given)
