"""The chart's objects as kept after rendering: the Job is the one that a flow makes, names fit, nothing holds a secret."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployments.chart import values
from migrator import cli, errors
from migrator.goose import durations
from migrator.planning import files
from tasks import fleet
from tasks.fleet.job_section import Job
from tasks.fleet.models import Engine, Target
from tasks.job import manifest
from tests import chart_cases as cases
from tests.unit import job_objects

LIBRARY = cases.ROOT / "deployments" / "chart" / "greylag"
WITH_JOB = [case for case in cases.CASES if case.partition("-")[0] not in ("external", "disabled")]


def job(case: str) -> Any:
    return cases.one(cases.rendered(case), "Job")


def pod(case: str) -> Any:
    return job(case)["spec"]["template"]["spec"]


def environment(container: Any) -> dict[str, Any]:
    return {item["name"]: item.get("value", item.get("valueFrom")) for item in container["env"]}


def comparable(spec: Any) -> tuple[Any, dict[str, Any]]:
    """A Job's specification and its variables, without what a flow knows and a chart doesn't, and the other way round."""
    found = copy.deepcopy(spec)
    template = found["template"]
    for label in (manifest.PLAN, manifest.BUNDLE, manifest.RUN):
        template["metadata"]["annotations"].pop(label, None)
    assert template["metadata"]["labels"].pop(manifest.MANAGER) in ("greylag", "Helm")
    (container,) = template["spec"]["containers"]
    variables = environment(container)
    del container["env"]
    for name in (
        "GREYLAG_APPLIED_BY",  # the Job's name
        "GREYLAG_APPROVED_DIGEST",  # a flow makes the plan before its Job; the chart is told one
        "GREYLAG_BUNDLE",  # a flow has the checkout; the chart is told one
        "GREYLAG_CREDENTIALS_SOURCE",  # the chart makes the Secret
        "GREYLAG_CREDENTIALS_WAIT",
    ):
        variables.pop(name, None)
    for name in ("GREYLAG_LOCK_WAIT", "GREYLAG_STATEMENT_TIMEOUT"):
        variables[name] = durations.parse(variables[name])
    return found, variables


@pytest.mark.parametrize("service", cases.SERVICES)
def test_chart_and_flow_make_the_same_job_of_each_service(service: str) -> None:
    target = fleet.load().target(service, "dev")
    order = job_objects.order(target=target, image=target.image("1.4.2"), active_deadline_seconds=900.0)
    expected, variables = comparable(manifest.manifest(order)["spec"])
    assert "serviceAccountName" not in expected["template"]["spec"]
    expected["template"]["spec"]["serviceAccountName"] = f"{service}-migration"  # the chart makes one
    found, told = comparable(job(service)["spec"])
    assert found == expected
    assert told == variables


def test_chart_and_flow_make_the_same_job_with_everything_set() -> None:
    given = cases.EVERYTHING
    target = job_objects.target(
        service="auth",
        base="auth_db",
        protected=True,
        owner_role="auth_owner",
        port=5433,
        parameters=given["parameters"],
        env={name: str(value) for name, value in given["env"].items()},
        substitute_password=True,
        job=Job(
            image="registry.example/migrations",
            directory="/sql",
            secret="team-database",
            command=tuple(given["command"]),
            service_account="migrator",
            image_pull_secrets=("registry",),
            user=1000,
            resources=given["resources"],
            annotations=given["podAnnotations"],
            node_selector=given["nodeSelector"],
        ),
    )
    order = job_objects.order(
        target=target,
        image="registry.example/migrations@sha256:" + "a" * 64,
        backoff_limit=0,
        active_deadline_seconds=1800.0,
        lock_wait_seconds=30.0,
        statement_timeout_seconds=0.5,
    )
    expected, variables = comparable(manifest.manifest(order)["spec"])
    found, told = comparable(job("everything")["spec"])
    own = found["template"]["spec"]
    assert (own.pop("tolerations"), own.pop("affinity")) == (given["tolerations"], given["affinity"])
    assert own["containers"][0].pop("imagePullPolicy") == "Always"
    keys = own["volumes"][1]["secret"].pop("items")
    assert {item["path"]: item["key"] for item in keys} == {
        "host": "host",
        "port": "port",
        "username": "user",
        "password": "password",
        "database": "dbname",
    }
    expected |= {"ttlSecondsAfterFinished": 3600}
    expected["template"]["spec"]["terminationGracePeriodSeconds"] = 60
    assert found == expected
    assert told == variables
    variables = environment(pod("everything")["containers"][0])
    assert (variables["GREYLAG_APPROVED_DIGEST"], variables["GREYLAG_BUNDLE"]) == ("c" * 64, "b" * 64)


@pytest.mark.parametrize("case", WITH_JOB)
def test_permanent_errors_end_the_job_by_the_table_of_exit_codes(case: str) -> None:
    assert job(case)["spec"]["podFailurePolicy"]["rules"] == manifest.failure_rules()
    assert job(case)["spec"]["podFailurePolicy"]["rules"][2]["onExitCodes"]["values"] == sorted(int(code) for code in errors.PERMANENT)


@pytest.mark.parametrize("case", cases.CASES)
def test_every_name_and_label_fits(case: str) -> None:
    for item in cases.rendered(case):
        assert re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", item["metadata"]["name"]), item["kind"]
        template = item.get("spec", {}).get("template", {})
        labels = {**item["metadata"].get("labels", {}), **template.get("metadata", {}).get("labels", {})}
        assert all(len(value) <= 63 for value in labels.values())


def test_two_services_whose_names_are_cut_alike_have_different_objects() -> None:
    ending = cases.one(cases.rendered("long-name"), "Job")["metadata"]["name"]
    assert ending.endswith("-79197f-migration")  # of the whole name's digest


@pytest.mark.parametrize("case", cases.CASES)
def test_no_rendered_object_holds_a_secret(case: str) -> None:
    found = cases.rendered(case)
    assert not [item for item in found if item["kind"] == "Secret"]
    for text in re.findall(r'"name": "\w*PASSWORD\w*", ("value"[^}]*)', json.dumps(found)):
        assert text.startswith('"valueFrom": {"secretKeyRef"')
    assert "postgres://" not in json.dumps(found) and "clickhouse://" not in json.dumps(found)


@pytest.mark.parametrize("case", cases.CASES)
def test_the_services_selectors_do_not_match_the_migrations_pods(case: str) -> None:
    found = cases.rendered(case)
    selector = cases.one(found, "Service")["spec"]["selector"].items()
    assert selector <= cases.one(found, "Deployment")["spec"]["template"]["metadata"]["labels"].items()
    for item in found:
        if item["kind"] == "Job":
            labels = item["spec"]["template"]["metadata"]["labels"]
            assert labels["app.kubernetes.io/component"] == "migration"
            assert not selector <= labels.items()
            # nor does the usual selector of `helm create`
            assert labels["app.kubernetes.io/name"] != cases.one(found, "Deployment")["metadata"]["labels"]["app.kubernetes.io/name"]


@pytest.mark.parametrize("case", cases.CASES)
def test_pods_wait_for_their_schema_unless_that_is_switched_off(case: str) -> None:
    spec = cases.one(cases.rendered(case), "Deployment")["spec"]["template"]["spec"]
    waiting = [item["name"] for item in spec.get("initContainers", ())]
    assert waiting == ([] if case == "no-wait" else ["wait-for-migrations"])  # switched off by its own switch, not by `enabled`
    if waiting:
        (container,) = spec["initContainers"]
        assert container["command"][-1] == "wait"
        assert {item["name"] for item in container["volumeMounts"]} <= {item["name"] for item in spec["volumes"]}
        assert container["securityContext"]["readOnlyRootFilesystem"] and container["securityContext"]["runAsNonRoot"]
        if case in WITH_JOB:
            job_reads, pod_reads = environment(pod(case)["containers"][0]), environment(container)
            for name in ("GREYLAG_DRIVER", "GREYLAG_MIGRATION_DIR", "GREYLAG_BUNDLE", "GREYLAG_EXPECTED_DATABASE", "GREYLAG_PARAMETERS"):
                assert job_reads.get(name) == pod_reads.get(name)


@pytest.mark.parametrize("case", cases.CASES)
def test_job_and_secret_agree_on_where_the_secret_comes_from(case: str) -> None:
    found = cases.rendered(case)
    made = [item["spec"]["target"] for item in found if item["kind"] == "ExternalSecret"]
    said = {target["name"]: target["template"]["data"]["greylag-source"] for target in made}
    for target in made:
        assert {"host", "port", "username", "password", "database"} < set(target["template"]["data"])
    for item in found:
        if item["kind"] in ("Job", "Deployment"):
            spec = item["spec"]["template"]["spec"]
            volumes = [volume["secret"]["secretName"] for volume in spec.get("volumes", ()) if "secret" in volume]
            for container in [*spec.get("initContainers", ()), *(spec["containers"] if item["kind"] == "Job" else ())]:
                expected = said.get(volumes[0]) if said else None
                assert environment(container).get("GREYLAG_CREDENTIALS_SOURCE") == expected


def test_another_path_store_or_key_is_another_source() -> None:
    sources = {
        case: cases.one(cases.rendered(case), "ExternalSecret")["spec"]["target"]["template"]["data"]["greylag-source"]
        for case in ("auth-service", "audit-service", "analytics-service", "argo-sync-hook-postgres")
    }
    assert len(set(sources.values())) == 3  # the last one has the first one's path
    assert sources["auth-service"] == sources["argo-sync-hook-postgres"]


@pytest.mark.parametrize("case", [case for case in cases.CASES if "clickhouse" in case])
def test_the_bundle_of_a_configmap_is_the_digest_that_greylag_computes(case: str, tmp_path: Path) -> None:
    for item in cases.rendered(case):
        if item["kind"] == "ConfigMap":
            assert item["data"] == cases.FILES
            for name, text in item["data"].items():
                (tmp_path / name).write_bytes(text.encode())
            digest = files.load(tmp_path).digest()
            assert item["metadata"]["annotations"]["greylag/bundle"] == digest
            assert item["metadata"]["name"].endswith((f"-migrations-{digest[:12]}", "-migration-files"))
            assert "PruneLast=true" in item["metadata"]["annotations"]["argocd.argoproj.io/sync-options"]
            if case in WITH_JOB:
                assert environment(pod(case)["containers"][0])["GREYLAG_BUNDLE"] == digest


def test_a_job_without_a_hook_is_named_after_its_content_and_never_removed_by_itself() -> None:
    plain = [job(f"plain-{engine}") for engine in cases.ENGINES]
    for found in plain:
        assert re.fullmatch(r"auth-service-migration-[0-9a-f]{12}", found["metadata"]["name"])
        assert "ttlSecondsAfterFinished" not in found["spec"]
        assert "argocd.argoproj.io/hook" not in found["metadata"]["annotations"]
    assert plain[0]["metadata"]["name"] != plain[1]["metadata"]["name"]


def test_a_change_of_the_migration_alone_changes_the_deployment() -> None:
    """Hooks are not compared (kubernetes.md §3.2): without this an automated sync would not begin."""
    notes = [
        cases.one(cases.rendered(case), "Deployment")["metadata"]["annotations"]["greylag/migration"]
        for case in ("argo-sync-hook-postgres", "argo-sync-hook-clickhouse", "everything")
    ]
    assert len(set(notes)) == 3


@pytest.mark.parametrize("case", cases.CASES)
def test_digests_and_names_in_annotations_and_labels_are_quoted(case: str) -> None:
    """`greylag/migration: 495163444e68` is a number in YAML: Argo CD can't render such a release, and the API server refuses it."""
    text = (cases.RENDERED / f"{case}.yaml").read_text(encoding="utf-8")
    noted = re.findall(r"^ +((?:greylag/[a-z-]+|app\.kubernetes\.io/instance):(?! *$).*)$", text, re.MULTILINE)
    assert [line for line in noted if ': "' not in line] == []
    assert len(noted) > 1


@pytest.mark.parametrize("service", cases.SERVICES)
def test_the_services_values_are_what_the_command_writes(service: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["chart", "values", f"@dev/{service}"]) == 0
    assert (cases.CHART / "values" / f"{service}.yaml").read_text(encoding="utf-8") == capsys.readouterr().out


def test_values_exist_for_every_service_of_the_fleet() -> None:
    assert set(cases.SERVICES) == set(fleet.load().services)


def test_values_may_carry_the_sql_or_the_digest_of_the_image(capsys: pytest.CaptureFixture[str]) -> None:
    directory = fleet.load().target("audit-service", "dev").directory
    assert cli.main(["chart", "values", "@dev/audit-service", "-sql"]) == 0
    found = yaml.safe_load(capsys.readouterr().out)["migration"]["sql"]
    assert found == {
        "source": "configMap",
        "files": {path.name: path.read_text(encoding="utf-8") for path in sorted(Path(directory).glob("*.sql"))},
    }
    assert cli.main(["chart", "values", "@prod/audit-service", "-bundle", "-json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["values"]["migration"] == {
        "engine": "clickhouse",
        "environment": "prod",
        "database": "audit_db",
        "sql": {"bundle": files.load(directory).digest()},
        "externalSecret": {"path": "apps/my-girok/prod/audit-service/clickhouse"},
        "protected": True,
    }
    assert yaml.safe_load(told["text"]) == told["values"]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["everything", "@dev/auth-service"], "is no part of the chart"),
        (["values", "@dev/*"], "stands for 6 databases"),
        (["values", "@dev/auth-service", "-sql", "-bundle"], "exclude each other"),
    ],
)
def test_bad_flow_values_that_can_not_be_written(words: list[str], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["chart", *words]) == 2
    assert why in capsys.readouterr().err


def full(**more: Any) -> Target:
    return job_objects.target(**more)


def test_values_say_what_differs_from_the_charts_defaults_and_nothing_else() -> None:
    target = full(
        engine=Engine.CLICKHOUSE,
        port=9100,
        owner_role="owner",
        parameters={"secure": "true"},
        env={"A": "b"},
        substitute_password=True,
        protected=True,
        job=Job(
            image="registry.example/auth-service",
            directory="/elsewhere",
            secret="team-secret",
            command=("/opt/greylag",),
            service_account="migrator",
            image_pull_secrets=("registry",),
            user=1000,
            annotations={"a": "b"},
            node_selector={"c": "d"},
            resources={"limits": {"memory": "1Gi"}},
        ),
    )
    found = values.values(target)
    assert found["imagePullSecrets"] == ["registry"]
    assert found["migration"] == {
        "engine": "clickhouse",
        "environment": "dev",
        "database": "auth_db_dev",
        "sql": {"directory": "/elsewhere"},
        "externalSecret": {"path": "apps/dev/auth-service/postgres", "name": "team-secret"},
        "protected": True,
        "role": "owner",
        "port": 9100,
        "parameters": {"secure": "true"},
        "env": {"A": "b"},
        "substitutePassword": True,
        "command": ["/opt/greylag"],
        "imagePullSecrets": ["registry"],
        "serviceAccount": {"create": False, "name": "migrator"},
        "user": 1000,
        "resources": {"limits": {"memory": "1Gi"}},
        "podAnnotations": {"a": "b"},
        "nodeSelector": {"c": "d"},
    }
    defaults = yaml.safe_load((LIBRARY / "values.yaml").read_text(encoding="utf-8"))
    assert set(found["migration"]) <= set(defaults)


def test_the_charts_defaults_are_the_flows() -> None:
    defaults = yaml.safe_load((LIBRARY / "values.yaml").read_text(encoding="utf-8"))
    assert defaults["ttlSecondsAfterFinished"] == manifest.TIME_TO_LIVE
    assert defaults["terminationGracePeriodSeconds"] == manifest.GRACE_SECONDS
    assert defaults["resources"] == Job().resources and defaults["user"] == Job().user


@pytest.mark.parametrize("chart", ["greylag", "service"])
def test_the_charts_have_greylags_own_version(chart: str) -> None:
    own = re.search(r'^version = "(.+)"', (cases.ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    found = yaml.safe_load((cases.ROOT / "deployments" / "chart" / chart / "Chart.yaml").read_text(encoding="utf-8"))
    assert own is not None and found["version"] == found["appVersion"] == own[1]
    assert all(item["version"] == own[1] for item in found.get("dependencies", ()))


def test_sql_of_the_clickhouse_services_can_be_read_from_the_chart() -> None:
    for service in ("audit-service", "analytics-service"):
        assert sorted((cases.CHART / "migrations" / service).glob("*.sql"))
