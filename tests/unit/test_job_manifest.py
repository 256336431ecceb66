"""The migration Job's manifest: what it is called, who may retry, what it may do, and that no secret is in it."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator import errors
from migrator.goose import durations
from tasks.fleet.job_section import Job
from tasks.fleet.models import Engine
from tasks.job import manifest
from tests.unit.job_objects import order, target

_names = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,51}[a-z0-9])?", fullmatch=True)
_digests = st.text("0123456789abcdef", min_size=64, max_size=64)


def spec(**more: Any) -> dict[str, Any]:
    found: dict[str, Any] = manifest.manifest(order(**more))["spec"]
    return found


def container(**more: Any) -> dict[str, Any]:
    found: dict[str, Any] = spec(**more)["template"]["spec"]["containers"][0]
    return found


def variables(**more: Any) -> dict[str, Any]:
    return {item["name"]: item.get("value", item.get("valueFrom")) for item in container(**more)["env"]}


@given(_names, _digests, _digests)
def test_a_name_is_a_label_of_at_most_63_characters(service: str, bundle: str, plan: str) -> None:
    name = manifest.name(order(target=target(service=service), bundle=bundle, plan=plan))
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", name)
    assert len(name) <= 63
    assert "-migration-" in name


@given(_digests, _digests)
def test_the_name_is_the_same_for_the_same_plan_and_another_for_another(plan: str, other: str) -> None:
    first = manifest.name(order(plan=plan))
    assert first == manifest.name(order(plan=plan, image="another:1", run_id="another", backoff_limit=0))
    assert (first == manifest.name(order(plan=other))) == (plan == other)
    assert first != manifest.name(order(plan=plan, bundle="c" * 64))


def test_two_services_whose_names_are_cut_alike_have_different_jobs() -> None:
    names = {manifest.name(order(target=target(service="a" * 45 + ending))) for ending in ("x", "y")}
    assert len(names) == 2


def test_retries_belong_to_the_job_and_follow_the_table_of_exit_codes() -> None:
    found = spec(backoff_limit=3, active_deadline_seconds=900.2)
    assert (found["backoffLimit"], found["activeDeadlineSeconds"], found["podReplacementPolicy"]) == (3, 901, "Failed")
    assert found["template"]["spec"]["restartPolicy"] == "Never"
    assert found["ttlSecondsAfterFinished"] >= 86_400
    rules = found["podFailurePolicy"]["rules"]
    assert [rule["action"] for rule in rules] == ["Ignore", "Ignore", "FailJob"]
    assert rules[0]["onPodConditions"][0]["type"] == "DisruptionTarget"
    permanent = set(rules[2]["onExitCodes"]["values"])
    assert permanent == {int(code) for code in errors.PERMANENT} == {2, 10, 11, 12, 13, 14, 15, 16}
    assert not permanent & {int(code) for code in errors.TRANSIENT}


@pytest.mark.parametrize("deadline", [0.0, 0.4, 1.0])
def test_a_deadline_is_a_whole_second_at_least(deadline: float) -> None:
    assert spec(active_deadline_seconds=deadline)["activeDeadlineSeconds"] == 1


def test_the_pod_is_restricted() -> None:
    pod = spec()["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] == 65532
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["terminationGracePeriodSeconds"] == 120
    assert container()["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container()["terminationMessagePolicy"] == "FallbackToLogsOnError"
    assert {item["mountPath"] for item in container()["volumeMounts"]} == {"/tmp", manifest.CREDENTIALS}


def test_the_secret_is_referred_to_and_never_copied() -> None:
    volumes = {item["name"]: item for item in spec()["template"]["spec"]["volumes"]}
    assert volumes["credentials"]["secret"] == {"secretName": "auth-service-postgres-credentials", "defaultMode": 0o440}
    assert "POSTGRES_PASSWORD" not in variables()
    asked = variables(target=target(substitute_password=True))
    assert asked["POSTGRES_PASSWORD"] == {"secretKeyRef": {"name": "auth-service-postgres-credentials", "key": "password"}}


def test_the_command_is_told_what_it_is_bound_to() -> None:
    found = variables(lock_wait_seconds=300, statement_timeout_seconds=0.5)
    assert container()["command"] == ["greylag", "up"]
    assert found["GREYLAG_DRIVER"] == "postgres"
    assert found["GREYLAG_MIGRATION_DIR"] == "/app/services/auth-service/migrations"
    assert found["GREYLAG_EXPECTED_DATABASE"] == "auth_db_dev"
    assert (found["GREYLAG_BUNDLE"], found["GREYLAG_APPROVED_DIGEST"]) == ("b" * 64, "a" * 64)
    assert durations.parse(found["GREYLAG_LOCK_WAIT"]) == 300
    assert durations.parse(found["GREYLAG_STATEMENT_TIMEOUT"]) == 0.5
    assert found["GREYLAG_TERMINATION_LOG"] == "/dev/termination-log"
    assert not {"GREYLAG_ROLE", "GREYLAG_PROTECTED", "GREYLAG_PARAMETERS", "GREYLAG_PORT"} & set(found)
    assert variables(approved="e" * 64)["GREYLAG_APPROVED_DIGEST"] == "e" * 64


def test_what_the_fleet_says_of_the_database_reaches_the_command() -> None:
    found = variables(
        target=target(
            engine=Engine.CLICKHOUSE,
            protected=True,
            owner_role="owner",
            port=9100,
            parameters={"secure": "true", "a": "b c"},
            env={"TENANT": "$(X)$(Y)"},
        )
    )
    assert (found["GREYLAG_DRIVER"], found["GREYLAG_PROTECTED"], found["GREYLAG_ROLE"], found["GREYLAG_PORT"]) == (
        "clickhouse",
        "true",
        "owner",
        "9100",
    )
    assert found["GREYLAG_PARAMETERS"] == "a=b+c&secure=true"
    assert found["TENANT"] == "$$(X)$$(Y)"  # Kubernetes would fill in its own $(X)


def test_the_labels_are_not_those_of_the_services_pods() -> None:
    found = manifest.manifest(order())
    labels = found["metadata"]["labels"]
    assert labels == found["spec"]["template"]["metadata"]["labels"]
    assert labels["app.kubernetes.io/component"] == "migration"
    assert labels["app.kubernetes.io/name"] == "auth-service-migration"
    assert all(re.fullmatch(r"[a-zA-Z0-9]([-\w.]{0,61}[a-zA-Z0-9])?", value) for value in labels.values())
    assert found["metadata"]["annotations"] == {"greylag/plan": "a" * 64, "greylag/bundle": "b" * 64, "greylag/run": "f" * 32}
    assert manifest.selector(target()) == ",".join(f"{key}={value}" for key, value in labels.items())


def test_the_fleets_wishes_for_the_pod_are_heeded() -> None:
    wished = Job(
        secret="s",
        command=("/opt/greylag/bin/greylag",),
        service_account="migrator",
        image_pull_secrets=("registry",),
        user=1000,
        resources={"limits": {"memory": "1Gi"}},
        annotations={"sidecar.istio.io/inject": "false"},
        node_selector={"pool": "batch"},
    )
    found = spec(target=target(job=wished))["template"]
    assert found["spec"]["serviceAccountName"] == "migrator"
    assert found["spec"]["imagePullSecrets"] == [{"name": "registry"}]
    assert found["spec"]["nodeSelector"] == {"pool": "batch"}
    assert found["spec"]["securityContext"]["runAsUser"] == 1000
    assert found["spec"]["containers"][0]["command"] == ["/opt/greylag/bin/greylag", "up"]
    assert found["spec"]["containers"][0]["resources"] == {"limits": {"memory": "1Gi"}}
    assert found["metadata"]["annotations"]["sidecar.istio.io/inject"] == "false"


def test_the_manifest_is_json_that_the_clients_own_model_takes() -> None:
    from kubernetes import client

    found = json.loads(json.dumps(manifest.manifest(order(target=target(substitute_password=True)))))
    model = client.V1Job.from_dict(found)
    assert client.ApiClient(client.Configuration()).sanitize_for_serialization(model) == found


@pytest.mark.parametrize(
    ("image", "runnable"), [("", False), (":2", False), ("@sha256:ab", False), ("app", True), ("registry.example/app@sha256:ab", True)]
)
def test_a_tag_alone_is_no_image(image: str, runnable: bool) -> None:
    assert manifest.runnable(image) is runnable
