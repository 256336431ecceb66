"""What an application of Argo CD means for a run, from shapes that a real one has given (argocd.md §3)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator import errors
from tasks.argocd import refusals, states, verdicts
from tasks.argocd.refusals import Refusal
from tasks.argocd.verdicts import Verdict, Wanted
from tasks.fleet import ArgoCD
from tests.unit.argocd_objects import COMMIT, DEPLOYMENT, RUN, application, asked, automated, hook, state

MINE = Wanted(run=RUN)
BROUGHT = Wanted(revision=COMMIT)
SETTINGS = ArgoCD(server="https://argocd.example", application="auth-service-dev")


def judged(found: dict[str, Any], wanted: Wanted = MINE) -> tuple[Verdict, str]:
    judgement = verdicts.judge(states.application(found), wanted)
    return judgement.verdict, judgement.why


RETRYING = "one or more synchronization tasks completed unsuccessfully. Retrying attempt #1 at 2026-11-30T17:32:25Z."

STATES: dict[str, tuple[dict[str, Any], Verdict]] = {
    "never synced": (application(), Verdict.ABSENT),
    "asked for, and not begun": (application(operation=asked()), Verdict.BEGINNING),
    "asked for, with the state of the one before": (application(state(asked("other")), asked()), Verdict.BEGINNING),
    "at work": (application(state(phase="Running", resources=[hook("Running")]), asked()), Verdict.RUNNING),
    "between two attempts": (
        application(state(phase="Running", message=RETRYING, finishedAt="2026-11-30T17:32:22Z", retryCount=1), asked()),
        Verdict.RETRYING,
    ),
    "the next attempt begins": (application(state(phase="Running", message="Retrying operation. Attempt #1"), asked()), Verdict.RETRYING),
    "held by a window": (application(state(phase="Running", message="Sync operation blocked by sync window"), asked()), Verdict.BLOCKED),
    "being terminated": (application(state(phase="Terminating"), asked()), Verdict.TERMINATING),
    "succeeded": (application(state()), Verdict.SUCCEEDED),
    "succeeded with a PreSync hook": (application(state(resources=[hook(type_="PreSync")])), Verdict.SUCCEEDED),
    "a dry run, whose hook is listed as Succeeded": (application(state(asked(dryRun=True))), Verdict.HOLLOW),
    "limited to some resources": (application(state(asked(resources=[{"kind": "ConfigMap", "name": "x"}]))), Verdict.HOLLOW),
    "without a hook": (application(state(resources=[DEPLOYMENT])), Verdict.HOLLOW),
    "with a plain Job": (application(state(resources=[{**hook(), "hookType": ""}])), Verdict.HOLLOW),
    "with a hook that is no Job": (application(state(resources=[hook(kind="Pod")])), Verdict.HOLLOW),
    "with a hook after the new code": (application(state(resources=[hook(type_="PostSync")])), Verdict.HOLLOW),
    "with a hook that has not run": (application(state(resources=[hook("")])), Verdict.HOLLOW),
    "failed": (application(state(phase="Failed", message="one or more synchronization tasks completed unsuccessfully")), Verdict.FAILED),
    "an error": (application(state(phase="Error", message="ComparisonError: rpc error")), Verdict.FAILED),
    "terminated": (application(state(phase="Failed", message="Operation terminated")), Verdict.TERMINATED),
    "another's at work": (application(state(asked("other"), phase="Running"), asked("other")), Verdict.ELSE),
    "another's, not begun": (application(state(asked("old")), asked("other")), Verdict.ELSE),
    "another's, over": (application(state(asked("other"))), Verdict.ABSENT),
    "somebody's without any info": (application(state(asked(""), phase="Running"), asked("")), Verdict.ELSE),
}


@pytest.mark.parametrize("name", STATES)
def test_a_state_of_an_application_has_one_meaning(name: str) -> None:
    found, verdict = STATES[name]
    assert judged(found)[0] is verdict


@given(st.sampled_from(sorted(STATES)), st.text(max_size=40))
def test_an_operation_that_lacks_the_runs_info_is_never_its_own(name: str, other: str) -> None:
    """Whatever it says of itself: not Succeeded, not Failed, not at work."""
    found, _ = STATES[name]
    if other == RUN:
        return
    assert judged(found, Wanted(run=f"{other}!"))[0] in (Verdict.ABSENT, Verdict.ELSE)


def test_a_run_that_follows_knows_an_automatic_sync_by_its_revision() -> None:
    """Auto-sync gives an operation no info."""
    assert judged(application(state(automated())), BROUGHT)[0] is Verdict.SUCCEEDED
    assert judged(application(state(automated(revision="f" * 40), syncResult={"revision": "f" * 40})), BROUGHT)[0] is Verdict.ABSENT
    assert judged(application(state(automated()), operation=automated()), Wanted())[0] is Verdict.ELSE


def test_several_sources_have_one_revision_of_all() -> None:
    found = application(state(automated(revision="", revisions=["a", "b"]), syncResult={"revisions": ["a", "b"], "resources": [hook()]}))
    found["status"]["sync"] = {"status": "Synced", "revisions": ["a", "b"]}
    read = states.application(found)
    assert (read.revision, judged(found, Wanted(revision=read.revision))[0]) == ("a,b", Verdict.SUCCEEDED)


def test_another_operation_is_named_with_who_started_it_and_what_for() -> None:
    found = application(state(asked("other"), phase="Running", message="waiting for completion of hook batch/Job/x"), asked("other"))
    why = judged(found)[1]
    assert "started by greylag for the run other of dev/auth-service" in why and "waiting for completion of hook" in why
    assert "Argo CD's auto-sync" in judged(application(operation=automated()))[1]


@pytest.mark.parametrize("found", [{}, {"metadata": {}}, {"metadata": {"name": "x"}}, application(state(phase="Unknown"))])
def test_bad_flow_an_answer_that_is_no_application(found: dict[str, Any]) -> None:
    with pytest.raises(errors.Unavailable) as caught:
        states.application(found)
    assert caught.value.code == "argocd-unexpected"


def test_the_pods_of_a_hook_are_found_in_the_resource_tree_and_no_other_pods() -> None:
    def node(name: str, *parents: tuple[str, str]) -> dict[str, Any]:
        refs = [{"kind": kind, "name": owner, "namespace": "dev"} for kind, owner in parents]
        return {"version": "v1", "kind": "Pod", "namespace": "dev", "name": name, "parentRefs": refs}

    tree = {
        "nodes": [
            {"group": "batch", "version": "v1", "kind": "Job", "namespace": "dev", "name": "auth-service-migrate"},
            node("auth-service-migrate-x", ("Job", "auth-service-migrate")),
            node("auth-service-y", ("ReplicaSet", "auth-service")),
            node("other", ("Job", "other")),
        ]
    }
    assert [pod.name for pod in states.pods(tree, ["auth-service-migrate"])] == ["auth-service-migrate-x"]
    assert states.pods({}, ["x"]) == ()


REFUSALS: dict[str, tuple[Refusal, str, bool]] = {
    "no session": (Refusal(401, 16, "no session information"), "argocd-login", False),
    "a right is missing": (Refusal(403, 7, "permission denied"), "argocd-forbidden", False),
    "no such application": (Refusal(404, 5, 'applications.argoproj.io "x" not found'), "argocd-no-application", False),
    "an unknown revision": (Refusal(400, 9, "error resolving repo revision: x: revision not found"), "argocd-refused", False),
    "automated": (Refusal(400, 9, "Cannot sync to x: auto-sync currently set to main"), "argocd-refused", False),
    "a wrong type": (Refusal(400, 3, "json: cannot unmarshal"), "argocd-refused", False),
    "a server in trouble": (Refusal(503, 14, "upstream connect error"), "argocd-unavailable", True),
    "too many requests": (Refusal(429, 8, "slow down"), "argocd-unavailable", True),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_has_a_code_of_its_own_and_says_what_to_type(name: str) -> None:
    refusal, code, transient = REFUSALS[name]
    error = refusals.explained(refusal, "starting a sync", SETTINGS)
    assert (error.code, error.transient) == (code, transient)
    assert error.hint and refusal.message in error.message


def test_a_busy_application_is_told_from_other_refusals_of_the_same_code() -> None:
    assert Refusal(400, 9, "another operation is already in progress").busy
    assert not Refusal(400, 9, "error resolving repo revision").busy
    assert Refusal(400, 3, "Unable to terminate operation. No operation is in progress").nothing_runs
