"""What a worker decides without a server: the flows that it knows, what it refuses, its place, the Jobs that it makes."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from deployments.worker import admission, catalogue, jobs, place, pool, refusals
from migrator import codes, errors
from tasks import fleet

ROOT = Path(__file__).resolve().parents[2]
HOME = "/opt/greylag"
ENVIRONMENT, PROMOTION = catalogue.Kind.ENVIRONMENT, catalogue.Kind.PROMOTION
GOOD = admission.Asked("deploy-service", deployment="deploy-service-dev", entrypoint="flows/deploy_service.py:deploy_service")


def test_every_deployment_of_prefect_yaml_is_a_flow_that_a_worker_starts() -> None:
    entrypoints = {item["entrypoint"] for item in yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]}
    assert entrypoints == {entry.entrypoint for entry in catalogue.ENTRIES.values()}
    for name, entry in catalogue.ENTRIES.items():
        assert entry.load().name == name


def test_good_a_deployment_as_greylag_makes_it_is_admitted() -> None:
    assert admission.refusal(GOOD, ENVIRONMENT, HOME) == ""
    for path in ("", ".", HOME):
        assert admission.refusal(admission.Asked("deploy-service", deployment="d", path=path), ENVIRONMENT, HOME) == ""


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"job_variables": {"command": "x"}}, "job_variables of the run"),
        ({"deployment_job_variables": {"env": {}}}, "job_variables of the deployment"),
        ({"pull_steps": ({},)}, "pull_steps"),
        ({"path": "/opt/greylag/../evil"}, 'the path "/opt/greylag/../evil"'),
        ({"entrypoint": "flows/deploy_environment.py:deploy_environment"}, 'the entrypoint "flows/deploy_environment'),
        ({"entrypoint": "./flows/deploy_service.py:deploy_service"}, 'the entrypoint "./flows'),
        ({"storage": True}, "a storage document"),
        ({"infrastructure": True}, "an infrastructure document"),
        ({"deployment": ""}, "belongs to no deployment"),
        ({"flow": "evil"}, 'a flow named "evil"'),
        ({"flow": "promote-release"}, "another kind of pool"),
        ({"flow": "Deploy-Service"}, 'a flow named "Deploy-Service"'),
    ],
)
def test_bad_flow_whatever_a_run_carries_besides_is_refused(more: dict[str, Any], reason: str) -> None:
    given = {"flow": "deploy-service", "deployment": "d", **more}
    told = admission.refusal(admission.Asked(**given), ENVIRONMENT, HOME)
    assert reason in told


def named(name: str) -> str:
    if name not in ("dev", "prod", "production"):
        raise ValueError(name)
    return "prod" if name == "production" else name


@given(st.dictionaries(st.text(max_size=8), st.none() | st.integers() | st.text(max_size=8)))
def test_only_parameters_of_the_flow_for_this_environment_are_admitted(parameters: dict[str, Any]) -> None:
    told = admission.parameters_refusal(parameters, ("environment", "service"), ENVIRONMENT, "dev", named)
    assert (told == "") == (set(parameters) <= {"environment", "service"} and parameters.get("environment") == "dev")


def test_an_alias_is_the_environment_itself() -> None:
    assert admission.parameters_refusal({"environment": "production"}, ("environment",), ENVIRONMENT, "prod", named) == ""
    assert "for prod" in admission.parameters_refusal({"environment": "production"}, ("environment",), ENVIRONMENT, "dev", named)
    assert admission.parameters_refusal({"environment": "prod"}, ("environment",), PROMOTION, "promotion", named) == ""


def test_a_refusal_carries_its_cause_as_a_failed_run_does() -> None:
    assert refusals.labels(3, "dev") == {
        "greylag.code": "run-refused",
        "greylag.exit-code": int(codes.CODES["run-refused"].exit_code),
        "greylag.target": "dev",
        "greylag.attempt": 3,
    }


# --- pools ------------------------------------------------------------------------------------------------------------------------------


def test_a_pool_has_a_schema_without_properties_and_admits_none() -> None:
    assert pool.free(pool.template()) == []
    assert pool.changes("greylag", pool.template()) == []
    assert (pool.template()["variables"]["properties"], pool.template()["variables"]["additionalProperties"]) == ({}, False)


def test_what_somebody_changed_in_a_pool_is_told() -> None:
    opened = pool.template()
    opened["variables"]["additionalProperties"] = True
    assert pool.free(opened) == ["anything"] and pool.free({}) == ["anything"]
    assert pool.changes("process", opened) == ["its type is process", "its base job template is another one"]
    opened["variables"]["properties"] = {"command": {}, "env": {}}
    assert pool.free(opened) == ["command", "env"]


# --- place ------------------------------------------------------------------------------------------------------------------------------


def test_a_pool_tells_whose_worker_it_is() -> None:
    found = fleet.load(fleet.DEFAULT_PATH)
    own = place.of_pool(found, "greylag-prod")
    assert (own.environment, own.kind, own.protected) == ("prod", ENVIRONMENT, True)
    assert place.of_pool(found, "greylag-promotion").kind is PROMOTION
    assert place.of_environment(found, "production").pool == "greylag-prod"
    with pytest.raises(errors.UsageError) as caught:
        place.of_pool(found, "default")
    assert caught.value.code == "unknown-pool"
    with pytest.raises(errors.UsageError):
        place.of_environment(found, "nowhere")


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with one commit, and a change that nobody committed."""
    home = tmp_path / "checkout"
    (home / "flows").mkdir(parents=True)
    (home / "flows" / "a.py").write_text("A = 1\n")
    (home / "fleet.yaml").write_text((ROOT / "deployments" / "fleet.yaml").read_text(encoding="utf-8"))
    git(home, "init", "-q")
    git(home, "add", ".")
    git(home, "-c", "user.name=a", "-c", "user.email=a@example.com", "commit", "-q", "-m", "one")
    (home / "flows" / "a.py").write_text("A = 2\n")
    monkeypatch.setenv("GREYLAG_HOME", str(home))
    monkeypatch.setenv("GREYLAG_FLEET", str(home / "fleet.yaml"))
    return home


def git(home: Path, *words: str) -> str:
    return subprocess.run(["git", "-C", str(home), *words], check=True, capture_output=True, encoding="utf-8").stdout.strip()


def test_a_protected_environment_runs_from_its_commit_whatever_is_merged(checkout: Path) -> None:
    found = fleet.load()
    with place.pinned(place.of_environment(found, "prod"), "") as own:
        assert own.commit == git(checkout, "rev-parse", "HEAD")
        assert (own.home / "flows" / "a.py").read_text() == "A = 1\n" and own.home != checkout
        assert own.fleet_file == own.home / "fleet.yaml" and own.fleet_file.exists()
        (checkout / "flows" / "a.py").write_text("A = 3\n")
        git(checkout, "-c", "user.name=a", "-c", "user.email=a@example.com", "commit", "-q", "-a", "-m", "two")
        assert (own.home / "flows" / "a.py").read_text() == "A = 1\n"
        before = own
    assert not before.home.exists()


def test_others_run_from_the_checkout_as_it_stands_unless_a_commit_is_given(checkout: Path) -> None:
    dev = place.of_environment(fleet.load(), "dev")
    with place.pinned(dev, "") as own:
        assert own == dev and own.home == checkout
    with place.pinned(dev, "HEAD") as own:
        assert own.commit
    with place.pinned(place.of_environment(fleet.load(), "prod"), place.UNPINNED) as own:
        assert own.home == checkout and not own.commit


@pytest.mark.parametrize("commit", ["no-such", "--output=/tmp/x", "HEAD~5"])
def test_bad_flow_a_commit_that_there_is_not(checkout: Path, commit: str) -> None:
    with pytest.raises(errors.UsageError) as caught, place.pinned(place.of_environment(fleet.load(), "prod"), commit):
        pass
    assert caught.value.code == "bad-commit"


def test_a_fleet_file_outside_the_checkout_stays_where_it_is(checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outside = tmp_path / "fleet.yaml"
    outside.write_text((checkout / "fleet.yaml").read_text(encoding="utf-8"))
    monkeypatch.setenv("GREYLAG_FLEET", str(outside))
    with place.pinned(place.of_environment(fleet.load(), "prod"), "") as own:
        assert own.fleet_file == outside and own.variables()["GREYLAG_FLEET"] == str(outside)


# --- Jobs -------------------------------------------------------------------------------------------------------------------------------

SETTINGS = {"GREYLAG_VAULT_ADDRESS": "https://vault.example:8200", "GREYLAG_VAULT_KUBERNETES_ROLE": "greylag-dev"}
WORDS = ("deploy-service", "0b5c2d1e-0000-0000-0000-000000000000", "dev", "greylag-dev", "worker")


def job() -> dict[str, Any]:
    own = {"PREFECT_API_URL": "http://prefect.example/api", "PREFECT_HOME": "/root", "PREFECT__FLOW_RUN_ID": WORDS[1]}
    settings = jobs.JobSettings("dev-my-girok", "registry.example/worker@sha256:0", SETTINGS)
    return jobs.manifest(jobs.read(jobs.TEMPLATE), settings, WORDS, own)


def container() -> dict[str, Any]:
    (main,) = job()["spec"]["template"]["spec"]["containers"]
    assert isinstance(main, dict)
    return main


def variables() -> dict[str, str]:
    names = [item["name"] for item in container()["env"]]
    assert len(names) == len(set(names))
    return {item["name"]: item["value"] for item in container()["env"]}


def test_a_runs_job_is_the_template_with_a_name_an_image_and_the_runs_words() -> None:
    assert job()["metadata"]["namespace"] == "dev-my-girok" and WORDS[1] in job()["metadata"]["name"]
    assert container()["image"] == "registry.example/worker@sha256:0"
    assert container()["command"] == ["python", "-m", "deployments.worker.pod", *WORDS] and "args" not in container()
    assert variables().items() >= SETTINGS.items()
    assert (variables()["PREFECT_HOME"], variables()["PREFECT__FLOW_RUN_ID"]) == ("/tmp/prefect", WORDS[1])


def test_kubernetes_never_starts_an_evicted_run_again() -> None:
    spec = job()["spec"]
    assert (spec["backoffLimit"], spec["template"]["spec"]["restartPolicy"]) == (0, "Never")
    assert "podFailurePolicy" not in spec, "Ignore on DisruptionTarget would start a second pod beside the one that Prefect schedules"
    assert spec["template"]["spec"]["terminationGracePeriodSeconds"] >= 30


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


@pytest.mark.parametrize(
    "name",
    [
        "GREYLAG_VAULT_SECRET_ID",
        "GREYLAG_VAULT_TOKEN",
        "PREFECT_API_KEY",
        "PREFECT_API_AUTH_STRING",
        "POSTGRES_PASSWORD",
        "LD_PRELOAD",
        "PYTHONPATH",
        "",
    ],
)
def test_bad_flow_a_secret_or_foreign_code_as_a_setting(name: str) -> None:
    with pytest.raises(errors.UsageError) as caught:
        jobs.checked({name: "x"})
    assert caught.value.code == "bad-setting"


def test_no_variable_of_the_pods_is_a_secret() -> None:
    assert not [name for name in variables() if re.search(r"(?i)password|secret|(?<!VAULT_KUBERNETES_)token(?!_FILE)", name)]


@pytest.mark.parametrize("text", ["", "- 1", "kind: Job", "spec: {template: {spec: {containers: []}}}", "{", "spec: 3"])
def test_bad_flow_a_template_that_is_no_job(tmp_path: Path, text: str) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(text)
    with pytest.raises(errors.UsageError) as caught:
        jobs.read(file)
    assert caught.value.code == "bad-setting"


def test_the_end_of_a_job_and_a_pod_that_does_not_begin_are_read_from_their_status() -> None:
    assert jobs.finished({"status": {"active": 1}}) == ""
    assert jobs.finished({"status": {"conditions": [{"type": "Complete", "status": "True"}]}}) == "Complete"
    failed = {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "m"}
    assert (
        jobs.finished({"status": {"conditions": [{"type": "FailureTarget", "status": "True"}, failed]}})
        == "Failed (BackoffLimitExceeded: m)"
    )
    waiting = {"status": {"phase": "Pending", "containerStatuses": [{"state": {"waiting": {"reason": "ErrImagePull", "message": "no"}}}]}}
    assert jobs.lacking([waiting]) == "ErrImagePull: no"
    assert jobs.lacking([{"status": {"phase": "Running"}}]) == ""
    assert jobs.lacking([]) == "no pod was made"
    assert jobs.lacking([{"status": {"phase": "Pending", "conditions": [{"status": "False", "message": "0/1 nodes"}]}}]) == "0/1 nodes"
