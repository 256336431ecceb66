"""One Job per plan, whoever asks: what is done about the Jobs that are there, and that nobody's Job is touched by mistake."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest

from migrator import errors
from tasks.job import adoption, manifest
from tasks.job.adoption import Course
from tasks.kubernetes import objects
from tests.unit.job_objects import Json, job, order

NAME = manifest.name(order())
COMPLETE, FAILED = (("Complete", "CompletionsReached"),), (("Failed", "BackoffLimitExceeded"),)


def chosen(*jobs: Json, idle: bool = False, covers: Callable[[str], bool] = lambda digest: digest == "a" * 64) -> Course:
    return adoption.choose(order(), jobs, covers, idle=idle).course


def deleted(found: Json) -> Json:
    return {**found, "metadata": {**found["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}}


def test_without_a_job_one_is_made() -> None:
    assert chosen() is Course.CREATE
    assert chosen(job(order(plan="c" * 64), conditions=FAILED)) is Course.CREATE


def test_a_job_at_work_on_this_plan_is_adopted() -> None:
    assert chosen(job()) is Course.ADOPT


def test_a_job_at_work_is_adopted_when_what_is_left_is_part_of_its_plan() -> None:
    larger = job(order(plan="c" * 64))
    assert chosen(larger, covers=lambda digest: digest == "c" * 64) is Course.ADOPT
    assert chosen(larger) is Course.BUSY


def test_bad_flow_a_job_at_work_on_another_bundle_is_not_adopted() -> None:
    assert chosen(job(order(bundle="c" * 64)), covers=lambda digest: True) is Course.BUSY


def test_a_job_that_has_done_it_all_is_enough_when_nothing_is_left() -> None:
    assert chosen(job(order(plan="c" * 64), conditions=COMPLETE), idle=True) is Course.SETTLED
    assert chosen(job(order(plan="c" * 64, image="registry.example/auth-service:1"), conditions=COMPLETE), idle=True) is Course.CREATE
    assert chosen(job(order(bundle="c" * 64), conditions=COMPLETE), idle=True) is Course.CREATE


def test_a_finished_job_of_the_same_plan_is_replaced_when_there_is_work_again() -> None:
    assert chosen(job(conditions=COMPLETE)) is Course.REPLACE
    assert chosen(job(conditions=FAILED)) is Course.REPLACE


def test_a_job_that_is_going_away_is_waited_for() -> None:
    assert chosen(deleted(job())) is Course.AWAIT_END
    assert chosen(job(conditions=(("FailureTarget", "BackoffLimitExceeded"),))) is Course.AWAIT_END


class ScriptedJobs:
    """Stands for the API server's Jobs, with faults that a real one makes only now and then. Real adoption: tests/cluster."""

    def __init__(self, *jobs: Json) -> None:
        self.kept = {found["metadata"]["name"]: found for found in jobs}
        self.calls: list[str] = []
        self.lost_answers = 0
        self.before_create: Callable[[], None] = lambda: None

    def create_job(self, namespace: str, manifest: Json) -> Json | None:
        self.calls.append("create")
        self.before_create()
        name = manifest["metadata"]["name"]
        if name in self.kept:
            return None
        made = copy.deepcopy(manifest)
        made["metadata"]["uid"] = f"made-{len(self.calls)}"
        self.kept[name] = made
        if self.lost_answers:
            self.lost_answers -= 1
            raise errors.Unavailable("the connection was lost")
        return made

    def job(self, namespace: str, name: str) -> Json | None:
        return self.kept.get(name)

    def jobs(self, namespace: str, selector: str = "") -> list[Json]:
        wanted = dict(item.split("=") for item in selector.split(","))
        return [found for found in self.kept.values() if wanted.items() <= (found["metadata"].get("labels") or {}).items()]

    def delete_job(self, namespace: str, name: str, uid: str) -> None:
        self.calls.append(f"delete {uid}")
        if self.kept.get(name, {"metadata": {"uid": ""}})["metadata"]["uid"] == uid:
            del self.kept[name]


def place(api: ScriptedJobs, *, idle: bool = False, prepare: Callable[[], None] = lambda: None) -> adoption.Choice:
    def tell(level: str, text: str) -> None:
        assert level and text

    return adoption.place(api, order(), lambda digest: digest == "a" * 64, lambda: idle, prepare, tell, sleep=lambda seconds: None)


def test_good_flow_a_lost_answer_to_the_creation_finds_its_own_job() -> None:
    api = ScriptedJobs()
    api.lost_answers = 1
    found = place(api)
    assert found.course is Course.ADOPT
    assert list(api.kept) == [NAME]


def test_good_flow_somebody_is_quicker_and_their_job_is_adopted() -> None:
    api = ScriptedJobs()
    api.before_create = lambda: api.kept.setdefault(NAME, job(order(run_id="e" * 32)))
    found = place(api)
    assert found.course is Course.ADOPT
    assert found.job is not None and objects.annotation(found.job, manifest.RUN) == "e" * 32


def test_good_flow_a_failed_job_is_deleted_by_its_uid_and_made_anew() -> None:
    api = ScriptedJobs(job(uid="failed-before", conditions=FAILED))
    found = place(api)
    assert found.course is Course.CREATE
    assert api.calls == ["delete failed-before", "create"]


def test_good_flow_a_complete_job_is_looked_at_again_before_it_is_replaced() -> None:
    api = ScriptedJobs(job(uid="done", conditions=COMPLETE))
    assert place(api, idle=True).course is Course.SETTLED
    assert api.calls == []
    assert place(api, idle=False).course is Course.CREATE
    assert api.calls == ["delete done", "create"]


def test_bad_flow_a_job_of_this_name_that_greylag_did_not_make_is_left_alone() -> None:
    foreign = job(uid="foreign")
    foreign["metadata"]["labels"] = {"app": "somebody's"}
    api = ScriptedJobs(foreign)
    with pytest.raises(errors.NotFound) as caught:
        place(api)
    assert caught.value.code == "job-conflict"
    assert api.kept[NAME]["metadata"]["uid"] == "foreign"


def test_bad_flow_another_releases_job_is_waited_for_in_further_attempts() -> None:
    with pytest.raises(errors.LockUnavailable) as caught:
        place(ScriptedJobs(job(order(bundle="c" * 64))))
    assert (caught.value.code, caught.value.transient) == ("job-running", True)


def test_bad_flow_a_preflight_that_refuses_leaves_no_job() -> None:
    api = ScriptedJobs()

    def refuse() -> None:
        raise errors.PlanRefused("no backup", code="preflight-failed")

    with pytest.raises(errors.PlanRefused):
        place(api, prepare=refuse)
    assert api.kept == {}


def test_bad_flow_two_who_delete_each_others_jobs_come_to_an_end() -> None:
    api = ScriptedJobs()

    def steal() -> None:
        api.kept[NAME] = job(uid="other", conditions=FAILED)

    api.before_create = steal
    with pytest.raises(errors.LockUnavailable, match="again and again"):
        place(api)


def test_only_this_very_job_is_waited_for() -> None:
    api = ScriptedJobs(job(uid="new"))
    assert adoption.await_gone(api, job(uid="old"), 0.0, sleep=lambda seconds: None)
    assert not adoption.await_gone(api, job(uid="new"), 0.0, sleep=lambda seconds: None)
    assert api.calls == []
