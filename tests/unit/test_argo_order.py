"""The order in which Argo CD applies things, held against the usual recipe and against every rendering of the chart."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from sandbox import argo_order
from sandbox.argo_order import Phase, Reference
from tests import chart_cases as cases

UNDER_ARGO = [case for case in cases.CASES if not case.startswith("helm-hook")]


def item(kind: str, name: str, wave: int | None = None, **notes: str) -> dict[str, Any]:
    annotations = {key.replace("__", "/").replace("_", "-"): value for key, value in notes.items()}
    if wave is not None:
        annotations[argo_order.WAVE] = str(wave)
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": "n", "annotations": annotations}, "spec": {}}


def hooked(found: dict[str, Any], hook: str) -> dict[str, Any]:
    found["metadata"]["annotations"][argo_order.HOOK] = hook
    return found


def names(*objects: Any) -> list[str]:
    return [task.name for task in argo_order.tasks(objects)]


RECIPE = """
{apiVersion: external-secrets.io/v1, kind: ExternalSecret, metadata: {name: s, annotations: {argocd.argoproj.io/sync-wave: "-5"}}, spec: {target: {name: s}}}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: sql, annotations: {argocd.argoproj.io/sync-wave: "-4"}}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: account, annotations: {argocd.argoproj.io/sync-wave: "-3"}}}
---
apiVersion: batch/v1
kind: Job
metadata: {name: migrate, annotations: {argocd.argoproj.io/hook: PreSync, argocd.argoproj.io/sync-wave: "-2"}}
spec:
  template:
    spec:
      serviceAccountName: account
      containers: [{name: migrate, env: [{name: H, valueFrom: {secretKeyRef: {name: s, key: host}}}]}]
      volumes: [{name: sql, configMap: {name: sql}}]
---
{apiVersion: apps/v1, kind: Deployment, metadata: {name: app}, spec: {template: {spec: {containers: []}}}}
"""
NEEDED = (Reference("ServiceAccount", "account"), Reference("ConfigMap", "sql"), Reference("Secret", "s"))


def recipe() -> list[Any]:
    return list(yaml.safe_load_all(RECIPE))


def test_bad_flow_the_usual_recipe_deadlocks_on_its_first_install() -> None:
    assert argo_order.steps(recipe())[0][1] == ("Job/migrate",)
    assert argo_order.unmet(recipe()) == {"migrate": NEEDED}


def test_bad_flow_the_usual_recipe_migrates_with_the_files_of_the_release_before() -> None:
    assert argo_order.unmet(recipe(), present=NEEDED) == {}
    assert argo_order.outdated(recipe(), present=NEEDED) == {"migrate": NEEDED}


def test_good_flow_one_word_mends_the_recipe() -> None:
    mended = recipe()
    mended[3]["metadata"]["annotations"]["argocd.argoproj.io/hook"] = "Sync"
    assert [step for step, _ in argo_order.steps(mended)] == [(Phase.SYNC, wave) for wave in (-5, -4, -3, -2, 0)]
    assert argo_order.unmet(mended) == {} and argo_order.outdated(mended, present=NEEDED) == {}


@pytest.mark.parametrize("case", UNDER_ARGO)
def test_everything_that_a_job_needs_is_there_before_it(case: str) -> None:
    found = cases.rendered(case)
    outside = {Reference("Secret", "team-database"), Reference("ServiceAccount", "migrator"), Reference("ConfigMap", "prod-approvers")}
    assert argo_order.unmet(found, present=outside) == {}
    everything = {made for each in found for made in argo_order._makes(each)} | outside
    assert argo_order.outdated(found, present=everything) == {}


@pytest.mark.parametrize("case", UNDER_ARGO)
def test_the_job_is_alone_in_its_wave_and_before_every_pod(case: str) -> None:
    found = argo_order.tasks(cases.rendered(case))
    for job in (task for task in found if task.kind == "Job"):
        assert [task for task in found if task.step == job.step] == [job]
        assert all(task.step > job.step for task in found if task.kind in ("Deployment", "Service"))


@pytest.mark.parametrize("case", [case for case in cases.CASES if case.startswith(("argo-sync-hook", "plain")) or case in cases.SERVICES])
def test_the_waves_are_those_that_the_recipe_promises(case: str) -> None:
    waves = {"ExternalSecret": -5, "ConfigMap": -4, "ServiceAccount": -3, "Job": -2, "Deployment": 0, "Service": 0}
    for task in argo_order.tasks(cases.rendered(case)):
        assert (task.phase, task.wave) == (Phase.SYNC, waves[task.kind])


@pytest.mark.parametrize("case", [case for case in cases.CASES if case.startswith(("argo-presync", "helm-hook"))])
def test_what_runs_early_shares_no_object_with_the_running_pods(case: str) -> None:
    """A hook is deleted and made anew at each sync: the Deployment's own Secret would go with it (kubernetes.md §3.1)."""
    found = argo_order.tasks(cases.rendered(case))
    early = {(task.kind, task.name) for task in found if task.hook}
    late = {(task.kind, task.name) for task in found if not task.hook}
    assert all(task.phase is Phase.PRE_SYNC for task in found if task.hook)
    assert not early & late
    deployment = cases.one(cases.rendered(case), "Deployment")
    made_early = {made for task in found if task.hook for made in argo_order._makes(task.object)}
    assert not made_early & set(argo_order.needs(deployment))


def test_phase_goes_before_wave_and_wave_before_kind_and_kind_before_name() -> None:
    late = hooked(item("ConfigMap", "early-in-numbers", -100), "PostSync")
    early = hooked(item("ConfigMap", "late-in-numbers", 100), "PreSync")
    objects = [
        late,
        item("Deployment", "b"),
        item("Deployment", "a"),
        item("Widget", "w"),
        item("Secret", "s"),
        item("Job", "j", -1),
        early,
    ]
    assert names(*objects) == ["late-in-numbers", "j", "s", "a", "b", "w", "early-in-numbers"]


def test_a_hook_may_belong_to_several_phases_or_to_none() -> None:
    assert names(hooked(item("Job", "twice"), "PreSync,PostSync"), item("Pod", "p")) == ["twice", "p", "twice"]
    assert names(hooked(item("Job", "never"), "Skip")) == []
    assert argo_order.tasks([hooked(item("Job", "unknown"), "Presync")])[0].phase is Phase.SYNC  # a misspelt hook is no hook


@pytest.mark.parametrize(
    ("helm", "phases"), [("pre-install,pre-upgrade", [Phase.PRE_SYNC]), ("post-install", [Phase.POST_SYNC]), ("test", [])]
)
def test_helms_hooks_are_translated(helm: str, phases: list[Phase]) -> None:
    found = item("Job", "j")
    found["metadata"]["annotations"] |= {argo_order.HELM_HOOK: helm, argo_order.HELM_WEIGHT: "-7"}
    assert [(task.phase, task.wave) for task in argo_order.tasks([found])] == [(phase, -7) for phase in phases]
    assert [task.phase for task in argo_order.tasks([hooked(found, "Sync")])] == [Phase.SYNC]  # Argo CD's own annotation wins


def test_a_namespace_and_a_definition_come_with_their_first_dependent() -> None:
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example"},
        "spec": {"group": "example", "names": {"kind": "Widget"}},
    }
    widget = {**item("Widget", "w", -9), "apiVersion": "example/v1"}
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}}
    assert [(task.kind, task.wave) for task in argo_order.tasks([widget, definition, space])] == [
        ("Namespace", -9),
        ("CustomResourceDefinition", -9),
        ("Widget", -9),
    ]
