"""What the real Helm makes of the charts: the kept renderings, lint, refusals, names of every length, the packaged chart, charts that were moved."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from migrator.planning import files
from sandbox import builds
from tests import chart_cases as cases
from tests.unit.test_moving import CHART as RECIPE
from tests.unit.test_moving import STEPS, patch

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(builds.binary(builds.CONTROLPLANE) is None, reason=builds.missing(builds.CONTROLPLANE)),
]

LIBRARY = cases.CHART.parent / "greylag"


@pytest.mark.parametrize("case", cases.CASES)
def test_what_is_kept_is_what_helm_renders(case: str) -> None:
    kept = (cases.RENDERED / f"{case}.yaml").read_text(encoding="utf-8")
    assert kept == cases.render(cases.CASES[case]), "python -m tests.chart_cases"


def test_nothing_else_is_kept() -> None:
    assert {path.stem for path in cases.RENDERED.iterdir()} == set(cases.CASES)


@pytest.mark.parametrize("service", cases.SERVICES)
def test_helm_lint_has_nothing_to_say_of_a_services_values(service: str) -> None:
    values = cases.CHART / "values" / f"{service}.yaml"
    done = cases.helm("lint", "--strict", str(cases.CHART), "--values", str(values), "--set", "image.tag=1.4.2")
    assert done.returncode == 0 and "[WARNING]" not in done.stdout and "[ERROR]" not in done.stdout, done.stdout
    assert cases.helm("lint", "--strict", str(LIBRARY)).returncode == 0


def test_digests_and_names_that_read_as_numbers_stay_texts() -> None:
    values = cases.base(environment="2024", service="7e5", sql={"bundle": "1" * 64})
    for found in yaml.safe_load_all(cases.render(values, release="12")):
        metadata = (found["metadata"], (found.get("spec") or {}).get("template", {}).get("metadata") or {})
        texts = [text for each in metadata for kind in ("labels", "annotations") for text in (each.get(kind) or {}).values()]
        assert [text for text in texts if not isinstance(text, str)] == []


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a misspelt value": ({"stratgy": "plain"}, "additional properties 'stratgy' not allowed"),
    "a misspelt value below": ({"wait": {"enable": False}}, "additional properties 'enable' not allowed"),
    "a strategy of Argo CD's words": ({"strategy": "presync"}, "value must be one of 'argo-sync-hook', 'argo-presync'"),
    "an unknown engine": ({"engine": "mysql"}, "value must be one of '', 'postgres', 'clickhouse'"),
    "no engine": ({"engine": ""}, "[engine-missing]"),
    "no database": ({"database": ""}, "keeps one environment's run from another one's database"),
    "two Secrets": ({"existingSecret": "s", "externalSecret": {"path": "a/b"}}, "[two-secrets]"),
    "no Secret": ({"externalSecret": {"enabled": False}}, "[no-secret]"),
    "no path": ({"externalSecret": {"path": ""}}, "[path-missing]"),
    "keys of an ExternalSecret": ({"secretKeys": {"username": "user"}}, "[keys-twice]"),
    "no account": ({"serviceAccount": {"create": False}}, "[account-missing]"),
    "an approval without a plan": ({"approval": "plan"}, "`greylag plan` prints its digest"),
    "a signed approval without approvers": ({"approval": "required"}, "which says whose signatures count"),
    "a signed approval of a tag": ({"approval": "required", "approvers": {"configMap": "a"}}, "a tag, which may move"),
    "a signed approval that nobody reads": ({"signedApproval": "eyJ9"}, "so nobody would look at it"),
    "a signed approval of something": ({"approval": "required", "signedApproval": "{yes}"}, "does not match pattern"),
    "an approval of something": ({"approvedPlan": "yes"}, "does not match pattern"),
    "a ConfigMap without files": ({"sql": {"source": "configMap", "glob": "nowhere/*.sql"}}, "no file that matches nowhere/*.sql"),
    "files in two places": ({"sql": {"files": cases.FILES}}, "[two-sources]"),
    "a tag that is a number": ({"image": {"tag": 1}}, "got number, want string"),
    "a tag in the repository's place": ({"image": {"digest": "1.4.2"}}, "does not match pattern"),
    "a duration in seconds": ({"lockWait": 30}, "got number, want string"),
    "too many attempts": ({"backoffLimit": 99}, "maximum: got 99, want 10"),
    "a grace period that is too short": ({"terminationGracePeriodSeconds": 5}, "minimum: got 5, want 10"),
    "root": ({"user": 0}, "minimum: got 0, want 1"),
    "a name that is none": ({"service": "Auth"}, "does not match pattern"),
    "a directory that is relative": ({"sql": {"directory": "migrations"}}, "does not match pattern"),
}


@pytest.mark.parametrize("why", REFUSED)
def test_bad_flow_values_are_refused_and_say_why(why: str) -> None:
    migration, said = REFUSED[why]
    done = cases.template(cases.tagged(cases.base(**{"engine": "postgres", **migration})))
    assert done.returncode != 0
    assert said in done.stderr
    assert done.stdout == ""


def test_bad_flow_no_image() -> None:
    values = cases.base()
    values["image"] = {"tag": "1"}
    assert "'/image/repository'" in cases.template(values).stderr


@pytest.mark.parametrize(("size", "taken"), [(990_000, True), (1_010_000, False)])
def test_a_configmap_near_its_limit_is_refused_before_kubernetes_does(size: int, taken: bool) -> None:
    text = "-- +goose Up\nSELECT 1;\n" + "-- a comment\n" * (size // 13)
    done = cases.template(cases.tagged(cases.base("clickhouse", sql={"source": "configMap", "files": {"00001_large.sql": text}})))
    assert (done.returncode == 0) is taken
    assert taken or "put the files into the image" in done.stderr


@pytest.mark.parametrize("service", ["audit-service", "analytics-service"])
def test_the_charts_own_files_have_the_digest_of_the_directory(service: str) -> None:
    values = cases.base("clickhouse", sql={"source": "configMap", "glob": f"migrations/{service}/*.sql"})
    found = cases.one(cases.objects(cases.render(values)), "ConfigMap")
    directory = cases.ROOT / "services" / service / "migrations"
    assert found["metadata"]["annotations"]["greylag/bundle"] == files.load(directory).digest()
    assert found["data"] == {path.name: path.read_text(encoding="utf-8") for path in directory.glob("*.sql")}


@pytest.mark.parametrize("length", [1, 20, 40, 44, 45, 52, 53, 60, 63])
@pytest.mark.parametrize("strategy", ["argo-presync", "plain"])
def test_names_of_every_length_fit(length: int, strategy: str) -> None:
    values = cases.base("clickhouse", strategy=strategy, networkPolicy={"enabled": True}, **cases.SQL) | {"fullnameOverride": "n" * length}
    found = cases.objects(cases.render(values))
    names = [(item["kind"], item["metadata"]["name"]) for item in found]
    assert all(re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", name) for _, name in names)
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("release", "chart_name", "expected"),
    [
        ("girok", "", "girok-service"),
        ("my-service", "", "my-service"),
        ("girok", "auth", "girok-auth"),
        ("r" * 53, "", "r" * 53 + "-service"),
    ],
)
def test_the_full_name_is_that_of_helm_create(release: str, chart_name: str, expected: str) -> None:
    values = cases.base() | {"fullnameOverride": "", "nameOverride": chart_name}
    found = cases.objects(cases.render(values, release=release))
    assert cases.one(found, "Deployment")["metadata"]["name"] == expected


def test_the_job_of_a_hook_keeps_its_name_and_the_plain_one_changes_with_its_content() -> None:
    def name(strategy: str, **more: Any) -> str:
        return str(cases.one(cases.objects(cases.render(cases.base(strategy=strategy, **more))), "Job")["metadata"]["name"])

    assert name("argo-sync-hook") == name("argo-sync-hook", lockWait="1m")
    assert name("plain") == name("plain")
    assert (
        len({name("plain"), name("plain", lockWait="1m"), name("plain", image={"tag": "2"}), name("plain", sql={"bundle": "a" * 64})}) == 4
    )


def test_a_packaged_chart_holds_the_library_and_renders_the_same(tmp_path: Path) -> None:
    done = cases.helm("package", str(cases.CHART), "--destination", str(tmp_path))
    assert done.returncode == 0, done.stderr
    (package,) = tmp_path.glob("*.tgz")
    values = cases.CASES["argo-sync-hook-postgres"]
    assert cases.template(cases.tagged(values), chart=package).stdout == cases.template(cases.tagged(values)).stdout


def test_notes_say_where_to_look() -> None:
    assert all(line in (cases.CHART / "templates" / "NOTES.txt").read_text(encoding="utf-8") for line in ("kubectl logs", "WARNING"))


@pytest.mark.parametrize("step", STEPS)
def test_a_recipes_chart_that_was_moved_renders(step: str, tmp_path: Path) -> None:
    moved = tmp_path / "chart"
    shutil.copytree(RECIPE, moved)
    for diff in STEPS[step][0]:
        patch(moved, diff)
    if (dependencies := yaml.safe_load((moved / "Chart.yaml").read_text(encoding="utf-8")).get("dependencies")) is not None:
        assert [item["name"] for item in dependencies] == ["greylag"]
        (moved / "charts").mkdir()
        subprocess.run(["cp", "-r", str(LIBRARY), str(moved / "charts" / "greylag")], check=True)
    done = cases.template({}, chart=moved, release="auth-service")
    assert done.returncode == 0, done.stderr
    found = cases.objects(done.stdout)
    job = cases.one(found, "Job")
    assert job["metadata"]["annotations"]["argocd.argoproj.io/hook"] == "Sync"
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert "greylag" in " ".join(container["command"]) and "goose" not in " ".join(container["command"])
    assert job["metadata"]["name"] == ("auth-service-migrate" if step == "the Job" else "auth-service-migration")
    deployment = cases.one(found, "Deployment")["spec"]["template"]["spec"]
    assert bool(deployment.get("initContainers")) is (step == "the library and the wait")
