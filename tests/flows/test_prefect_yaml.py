"""prefect.yaml, read strictly: Prefect ignores unknown keys, deploys flows that can't be imported and takes any parameter (prefect.md §7)."""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect import Flow
from prefect.cli.deploy import _models
from prefect.flows import load_flow_from_entrypoint
from prefect.utilities.callables import parameter_schema
from pydantic import BaseModel, ConfigDict

from flows import parameters
from tasks import fleet

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "prefect.yaml").read_text(encoding="utf-8")
FILE: dict[str, Any] = yaml.safe_load(TEXT)
DEPLOYMENTS: list[dict[str, Any]] = FILE["deployments"]
NAMES = [item["name"] for item in DEPLOYMENTS]
FLEET = fleet.load(fleet.DEFAULT_PATH)


class StrictPool(_models.WorkPoolConfig):
    model_config = ConfigDict(extra="forbid")


class StrictDeployment(_models.DeploymentConfig):
    model_config = ConfigDict(extra="forbid")

    work_pool: StrictPool | None = None


class StrictFile(_models.PrefectYamlModel):
    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    definitions: dict[str, Any] | None = None
    deployments: list[StrictDeployment]  # type: ignore[assignment]


for _model in (StrictPool, StrictDeployment, StrictFile):
    _model.model_rebuild(_types_namespace={**vars(_models), **globals()})  # Prefect's annotations are texts that name its module's imports


def imported(entrypoint: str) -> Flow[..., Any]:
    """The flow of an entrypoint, imported as a worker does it, but without Prefect's placeholder for a file that can't be imported."""
    with contextlib.chdir(ROOT):
        return load_flow_from_entrypoint(entrypoint, use_placeholder_flow=False)


def test_good_file_has_only_keys_that_prefect_knows() -> None:
    StrictFile.model_validate(FILE)


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.update(deploymnts=[]),
        lambda file: file["deployments"][0].update(concurency_limit=1),
        lambda file: file["deployments"][0]["work_pool"].update(job_vars={}),
        lambda file: file["deployments"][-2]["schedules"][0].update(activ=False),
    ],
)
def test_bad_file_with_a_misspelt_key_is_refused_by_this_test(damage: Any) -> None:
    file = yaml.safe_load(TEXT)
    damage(file)
    with pytest.raises(ValueError, match=r"[Ee]xtra"):
        StrictFile.model_validate(file)


def test_good_names_are_unique_because_automations_match_by_name_alone() -> None:
    assert len(NAMES) == len(set(NAMES))


def test_good_every_environment_of_the_fleet_has_its_deployments_in_its_own_pool() -> None:
    for environment in FLEET.environments:
        pool = FLEET.target(next(iter(FLEET.services)), environment).work_pool
        for kind in ("deploy-service", "deploy-environment", "verify-environment", "plan-environment"):
            found = DEPLOYMENTS[NAMES.index(f"{kind}-{environment}")]
            assert found["work_pool"]["name"] == pool
            assert found["parameters"] == {"environment": environment}
            assert f"environment:{environment}" in found["tags"]


def test_good_promotion_and_approval_run_in_a_pool_of_no_environment() -> None:
    pools = {FLEET.target(next(iter(FLEET.services)), environment).work_pool for environment in FLEET.environments}
    for name in ("promote", "approve"):
        assert DEPLOYMENTS[NAMES.index(name)]["work_pool"]["name"] not in pools


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=NAMES)
def test_good_entrypoint_imports_and_takes_the_parameters_of_deployment_and_schedules(deployment: dict[str, Any]) -> None:
    found = imported(deployment["entrypoint"])
    known = inspect.signature(found.fn).parameters
    for given in (deployment["parameters"], *(item.get("parameters", {}) for item in deployment.get("schedules", []))):
        assert set(given) <= set(known)
        required = {name for name, item in known.items() if item.default is inspect.Parameter.empty} - set(given)
        fill = {"environment": "dev", "service": "auth-service", "to": 0, "reason": "why"}
        if found.name != "approve-release":
            found.validate_parameters({**given, **{name: fill[name] for name in required}})


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=NAMES)
def test_good_form_describes_every_parameter_and_offers_the_fleet_as_dropdowns(deployment: dict[str, Any]) -> None:
    found = imported(deployment["entrypoint"])
    properties = parameter_schema(found).properties
    assert all(item.get("description") for item in properties.values()), [n for n, i in properties.items() if not i.get("description")]
    if "service" in properties:
        assert properties["service"]["enum"] == list(FLEET.services)
    if "environment" in properties and found.name != "approve-release":
        assert properties["environment"]["enum"] == [*FLEET.environments, *FLEET.aliases]


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=NAMES)
def test_good_no_parameter_can_hold_a_secret(deployment: dict[str, Any]) -> None:
    schema = str(parameter_schema(imported(deployment["entrypoint"])).model_dump())
    assert not re.search(r"password|token|secret[^/]|credential", schema, re.IGNORECASE)


def test_good_schedules_are_inactive_as_shipped() -> None:
    schedules = [schedule for deployment in DEPLOYMENTS for schedule in deployment.get("schedules", [])]
    assert schedules
    assert [schedule for schedule in schedules if schedule["active"] is not False] == []


def test_good_no_promotion_holds_a_slot_of_its_deployment_while_it_waits_for_an_approval() -> None:
    """Prefect crashes a run that holds one when the server restarts, and nothing newer could take the place of the one that waits."""
    assert [item["name"] for item in DEPLOYMENTS if "promote_release" in item["entrypoint"] and item.get("concurrency_limit")] == []


def schedules(kind: str) -> list[dict[str, Any]]:
    return [schedule for deployment in DEPLOYMENTS if kind in deployment["entrypoint"] for schedule in deployment.get("schedules", [])]


def test_good_every_schedule_of_a_promotion_says_until_where_it_promotes() -> None:
    assert {schedule["parameters"]["until"] for schedule in schedules("promote_release")} == {"release", "prod"}


def test_good_no_schedule_hangs_on_an_environment_it_could_enter_by_itself() -> None:
    assert {item["name"] for item in DEPLOYMENTS if item.get("schedules")} == {
        "promote",
        *(f"verify-environment-{environment}" for environment in FLEET.environments),
    }
    assert [schedule["parameters"] for schedule in schedules("verify_environment")] == [{"drift_only": True}] * len(FLEET.environments)


def test_good_file_names_no_path_of_a_machine() -> None:
    assert not re.search(r"(?<![\w.$}])/(home|root|work|tmp|opt|usr|Users)/", re.sub(r"#.*", "", TEXT))
    assert FILE["pull"] == [], "and no pull steps: without the line Prefect's command adds one"


def test_good_flow_files_shadow_no_installed_package() -> None:
    """Prefect puts flows/ first on sys.path (prefect.md §10)."""
    stems = {path.stem for path in (ROOT / "flows").glob("*.py")} - {"__init__"}
    taken = stems & set(sys.stdlib_module_names)
    for stem in stems - taken:
        found = importlib.util.find_spec(stem)
        if found is not None and found.origin and not Path(found.origin).is_relative_to(ROOT):
            taken.add(stem)
    assert taken == set()


def test_good_an_alias_of_an_environment_is_accepted_and_a_misspelt_one_is_explained() -> None:
    class Form(BaseModel):
        environment: parameters.Environment
        service: parameters.Service = "auth-service"

    assert Form(environment="production").environment == "prod"
    with pytest.raises(ValueError, match="unknown-environment"):
        Form(environment="prd")
    with pytest.raises(ValueError, match="unknown-service"):
        Form(environment="dev", service="auth")
