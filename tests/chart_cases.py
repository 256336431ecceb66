"""The charts' cases: values, and what they render to, kept in tests/unit/rendered/ because Helm is only in the control plane's binary.

`python -m tests.chart_cases` writes those files anew; tests/cluster/test_chart_rendering.py compares them with what the real Helm renders.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from sandbox import builds

Values = dict[str, Any]
Object = dict[str, Any]

ROOT = Path(__file__).resolve().parents[1]
CHART = ROOT / "deployments" / "chart" / "service"
RENDERED = ROOT / "tests" / "unit" / "rendered"

STRATEGIES = ("argo-sync-hook", "argo-presync", "helm-hook", "plain", "external")
ENGINES = ("postgres", "clickhouse")
SERVICES = tuple(sorted(path.stem for path in (CHART / "values").glob("*.yaml")))

NAMESPACE = "dev-my-girok"
RELEASE = "girok"
FILES = {
    "00001_first.sql": "-- +goose Up\nCREATE TABLE events (id String) ENGINE = MergeTree ORDER BY id;",
    "00002_second.sql": "-- +goose Up\nALTER TABLE events ADD COLUMN kind String;\r\n",
    "00003_third.sql": "\n  -- Grüße\t{{ .Values }} $(X) ${Y}\n-- +goose Up\nALTER TABLE events ADD COLUMN more String;\n\n\n",
    "00004_fourth.sql": "-- +goose Up\nALTER TABLE events ADD COLUMN last String;\n",
}


def base(engine: str = "postgres", **migration: Any) -> Values:
    """The least that a service must say."""
    return {
        "fullnameOverride": "auth-service",
        "image": {"repository": "registry.example/my-girok/auth-service", "tag": "1.4.2"},
        "migration": {
            "engine": engine,
            "environment": "dev",
            "database": "auth_db_dev",
            **({} if "existingSecret" in migration else {"externalSecret": {"path": f"apps/my-girok/dev/auth-service/{engine}"}}),
            **migration,
        },
    }


OWN_SECRET: Values = {"existingSecret": "team-database", "externalSecret": {"enabled": False}}

EVERYTHING: Values = {
    **OWN_SECRET,
    "secretKeys": {"username": "user", "database": "dbname"},
    "service": "auth",
    "image": {"repository": "registry.example/migrations", "digest": "sha256:" + "a" * 64, "pullPolicy": "Always"},
    "imagePullSecrets": ["registry"],
    "command": ["/opt/greylag/bin/greylag"],
    "sql": {"directory": "/sql", "bundle": "b" * 64},
    "approval": "plan",
    "approvedPlan": "c" * 64,
    "protected": True,
    "role": "auth_owner",
    "port": 5433,
    "parameters": {"sslmode": "verify-full", "a": "b c"},
    "env": {"TENANT": "$(X)", "SHARDS": 3},
    "substitutePassword": True,
    "lockWait": "30s",
    "statementTimeout": "500ms",
    "backoffLimit": 0,
    "activeDeadlineSeconds": 1800,
    "ttlSecondsAfterFinished": 3600,
    "terminationGracePeriodSeconds": 60,
    "serviceAccount": {"create": False, "name": "migrator"},
    "user": 1000,
    "resources": {"requests": {"cpu": "250m", "memory": "128Mi"}, "limits": {"memory": "1Gi"}},
    "podAnnotations": {"sidecar.istio.io/inject": "false"},
    "nodeSelector": {"pool": "batch"},
    "tolerations": [{"key": "batch", "operator": "Exists"}],
    "affinity": {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchExpressions": [{"key": "batch", "operator": "Exists"}]}]
            }
        }
    },
    "networkPolicy": {"enabled": True, "egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}]},
    "wait": {"timeout": "2m", "existingSecret": "team-readers"},
}

SIGNED: Values = {
    "approval": "required",
    "signedApproval": "eyJkb2N1bWVudCI6IiJ9",
    "approvers": {"configMap": "prod-approvers", "minimum": 2},
    "image": {"digest": "sha256:" + "a" * 64, "repository": "registry.example/my-girok/auth-service"},
}

SQL: Values = {"sql": {"source": "configMap", "files": FILES}}

CASES: dict[str, Values] = {
    **{f"{strategy}-postgres": base(strategy=strategy) for strategy in STRATEGIES},
    **{f"{strategy}-clickhouse": base("clickhouse", strategy=strategy, **SQL) for strategy in STRATEGIES},
    **{f"{strategy}-existing-secret": base(strategy=strategy, **OWN_SECRET) for strategy in ("argo-presync", "helm-hook")},
    "disabled": base(enabled=False),
    "disabled-clickhouse": base("clickhouse", enabled=False, **SQL),
    "no-wait": base("clickhouse", wait={"enabled": False}, **SQL),
    "network-policy": base("clickhouse", networkPolicy={"enabled": True}),
    "everything": base(**EVERYTHING),
    "signed-approval": base(**SIGNED),
    "long-name": base("clickhouse", **SQL) | {"fullnameOverride": "a-service-whose-name-is-as-long-as-a-name-can-be-in-kubernetes1"},
    "long-name-plain": base(strategy="plain") | {"fullnameOverride": "a-service-whose-name-is-as-long-as-a-name-can-be-in-kubernetes1"},
    **{service: yaml.safe_load((CHART / "values" / f"{service}.yaml").read_text(encoding="utf-8")) for service in SERVICES},
}
"""Values by the case's name."""


def tagged(values: Values) -> Values:
    """The same values with a release's tag, which the services' files leave to the release."""
    return {**values, "image": {"tag": "1.4.2", **values["image"]}}


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the real Helm without a cluster."""
    with tempfile.TemporaryDirectory() as home:
        program = Path(home) / "helm"
        program.symlink_to(builds.require(builds.CONTROLPLANE))
        environment = {"HOME": home, "PATH": os.environ["PATH"], "HELM_NO_PLUGINS": "1"}
        return subprocess.run([str(program), *arguments], capture_output=True, encoding="utf-8", env=environment, check=False, cwd=ROOT)


def template(values: Values, *arguments: str, chart: Path = CHART, release: str = RELEASE) -> subprocess.CompletedProcess[str]:
    """Runs `helm template` on values."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "values.yaml"
        file.write_text(json.dumps(values), encoding="utf-8")
        return helm("template", release, str(chart), "--namespace", NAMESPACE, "--values", str(file), *arguments)


def render(values: Values, *arguments: str, release: str = RELEASE) -> str:
    """Renders the application chart; raises AssertionError with Helm's words."""
    done = template(tagged(values), *arguments, release=release)
    assert done.returncode == 0, done.stderr
    return re.sub(r"^# Source: .*\n", "", done.stdout, flags=re.MULTILINE)


def objects(text: str) -> list[Object]:
    """The objects of a rendered text."""
    return [item for item in yaml.safe_load_all(text) if item]


def rendered(case: str) -> list[Object]:
    """The objects of a case, as they are kept."""
    return objects((RENDERED / f"{case}.yaml").read_text(encoding="utf-8"))


def one(found: list[Object], kind: str, ending: str = "") -> Object:
    """The only object of a kind whose name ends so."""
    (item,) = [item for item in found if item["kind"] == kind and item["metadata"]["name"].endswith(ending)]
    return item


def main() -> int:
    """Writes what every case renders to."""
    for stale in RENDERED.glob("*.yaml"):
        stale.unlink()
    for case, values in CASES.items():
        (RENDERED / f"{case}.yaml").write_text(render(values), encoding="utf-8")
    print(f"{len(CASES)} cases in {RENDERED}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
