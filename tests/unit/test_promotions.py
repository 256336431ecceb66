"""Which promotion may go on, which proposal stands, and which approval still counts (pure)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks import promotions
from tasks.approval import Approval, ReleaseManifest
from tasks.promotions import Promotion, Proposal, Relation, Turn

OLD, NEW = {"auth": "a1", "audit": "b1"}, {"auth": "a2", "audit": "b1"}


def at(minute: float) -> datetime:
    return datetime(2026, 11, 30, 8, tzinfo=UTC) + timedelta(minutes=minute)


def promotion(run_id: str, minute: float, **more: Any) -> Promotion:
    return Promotion(**({"run_id": run_id, "name": f"promote {run_id}", "until": "prod", "since": at(minute)} | more))


def proposal(run_id: str, minute: float, bundles: dict[str, str], **more: Any) -> Proposal:
    manifest = ReleaseManifest(bundles=bundles, plans=dict.fromkeys(bundles, "plan"))
    return Proposal(**({"run_id": run_id, "run": f"promote {run_id}", "manifest": manifest, "made_at": at(minute)} | more))


def approval(minute: float, run_id: str = "yes") -> Approval:
    return Approval(environment="prod", bundle="", plan="", confirm="", approver="ada", run_id=run_id, given_at=at(minute))


@pytest.mark.parametrize(
    ("scheduled", "elder", "decided"),
    [
        (False, {}, Turn.LATER),
        (True, {}, Turn.LATER),
        (False, {"scheduled": True}, Turn.LATER),
        (True, {"scheduled": True}, Turn.NEVER),
        (True, {"scheduled": True, "until": "release"}, Turn.NOW),
        (True, {"scheduled": True, "waiting": True}, Turn.NOW),
        (True, {"scheduled": True, "alive": False}, Turn.NOW),
        (False, {"waiting": True}, Turn.NOW),
        (False, {"until": "release"}, Turn.NOW),
        (False, {"alive": False}, Turn.NOW),
    ],
)
def test_whose_turn_it_is_beside_one_that_is_there_longer(scheduled: bool, elder: dict[str, Any], decided: Turn) -> None:
    mine, other = promotion("me", 5, scheduled=scheduled), promotion("elder", 1, **elder)
    assert promotions.turn(mine, [mine, other]) == (decided, None if decided is Turn.NOW else other)


def test_good_flow_a_younger_one_is_not_waited_for() -> None:
    mine = promotion("me", 1)
    assert promotions.turn(mine, [mine, promotion("younger", 2)]) == (Turn.NOW, None)


def test_good_flow_the_one_that_is_there_longest_is_named() -> None:
    mine, others = promotion("me", 5), [promotion("b", 2), promotion("a", 1), promotion("c", 3)]
    assert promotions.turn(mine, others) == (Turn.LATER, others[1])


def test_good_flow_a_tick_waits_behind_a_person_unless_another_tick_waits_there_already() -> None:
    person, tick = promotion("person", 1), promotion("tick", 2, scheduled=True)
    assert promotions.turn(promotion("me", 3, scheduled=True), [person]) == (Turn.LATER, person)
    assert promotions.turn(promotion("me", 3, scheduled=True), [person, tick]) == (Turn.NEVER, tick)


def test_good_flow_an_approved_tick_stands_in_line_again_instead_of_giving_up() -> None:
    mine, other = promotion("me", 5, scheduled=True), promotion("other", 1, scheduled=True)
    assert promotions.turn(mine, [mine, other], returning=True) == (Turn.LATER, other)


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.sampled_from(["release", "prod"])), min_size=1, max_size=8))
def test_good_of_those_that_are_at_work_until_one_environment_exactly_one_may_work(given_ones: list[tuple[int, bool, str]]) -> None:
    line = [
        promotion(str(number), minute, scheduled=scheduled, until=until) for number, (minute, scheduled, until) in enumerate(given_ones)
    ]
    now = [item.until for item in line if promotions.turn(item, line)[0] is Turn.NOW]
    assert sorted(now) == sorted({item.until for item in line})


@pytest.mark.parametrize(
    ("bundles", "image", "earlier_image", "expected"),
    [
        (OLD, "", "", Relation.SAME),
        (OLD, "", "v1", Relation.SAME),  # a tick that names no image asks for nothing else
        (OLD, "v1", "v1", Relation.SAME),
        (OLD, "v2", "v1", Relation.SUPERSEDES),
        (NEW, "", "", Relation.SUPERSEDES),
        ({"auth": "a2"}, "", "", Relation.SUPERSEDES),
        ({"auth": "a1"}, "", "", Relation.UNRELATED),
        ({"letters": "c1"}, "", "", Relation.UNRELATED),
        (OLD | {"letters": "c1"}, "", "", Relation.UNRELATED),
    ],
)
def test_how_a_release_stands_to_what_was_proposed_before(
    bundles: dict[str, str], image: str, earlier_image: str, expected: Relation
) -> None:
    assert promotions.relation(bundles, image, proposal("a", 0, OLD, image=earlier_image)) is expected


def test_good_flow_the_same_release_waits_already() -> None:
    waiting, log = promotion("a", 1, waiting=True), [proposal("a", 0, OLD)]
    assert promotions.proposed(OLD, "", log, [waiting]) == waiting
    assert promotions.proposed(NEW, "", log, [waiting]) is None


@pytest.mark.parametrize("state", [{"waiting": False}, {"waiting": True, "alive": False}, {"waiting": True, "run_id": "another"}])
def test_bad_flow_a_proposal_whose_promotion_would_not_act_on_an_approval_is_made_again(state: dict[str, Any]) -> None:
    assert promotions.proposed(OLD, "", [proposal("a", 0, OLD)], [promotion("a", 1).model_copy(update=state)]) is None


def test_good_flow_the_newest_proposal_with_other_files_takes_the_place_of_one() -> None:
    log = [proposal("a", 0, OLD), proposal("b", 1, NEW), proposal("c", 2, {"auth": "a3"})]
    assert promotions.successor("a", log) == log[2]
    assert promotions.successor("c", log) is None


def test_good_flow_a_proposal_stands_beside_its_own_renewals_older_ones_and_other_services() -> None:
    log = [proposal("b", 0, NEW), proposal("a", 1, OLD), proposal("a", 2, OLD, approval="yes"), proposal("c", 3, {"letters": "c1"})]
    assert promotions.successor("a", log) is None
    assert promotions.successor("nobody", log) is None


def test_good_flow_one_that_was_thought_dead_gives_way_to_the_same_release_proposed_again() -> None:
    log = [proposal("a", 0, OLD), proposal("b", 1, OLD)]
    assert promotions.successor("a", log) == log[1]


@pytest.mark.parametrize("minute", [0.5, 2])
def test_bad_flow_an_approval_is_void_once_its_proposal_is_superseded_whenever_it_was_given(minute: float) -> None:
    log = [proposal("a", 0, OLD), proposal("b", 1, NEW)]
    assert promotions.voiding(OLD, log, approval(minute)) == log[1]
    assert promotions.voiding(OLD, log) == log[1]  # and none is to be given


def test_bad_flow_a_void_approval_does_not_revive_when_the_same_files_are_proposed_again() -> None:
    log = [proposal("a", 0, OLD), proposal("b", 1, NEW), proposal("c", 3, OLD)]
    assert promotions.voiding(OLD, log, approval(2)) == log[1]
    assert promotions.voiding(OLD, log, approval(4)) is None
    assert promotions.voiding(OLD, log) is None
    assert promotions.voiding(NEW, log, approval(2)) == log[2]


def test_good_flow_what_stands_can_be_approved_and_so_can_what_was_never_proposed() -> None:
    log = [proposal("a", 0, OLD), proposal("b", 1, NEW)]
    assert promotions.voiding(NEW, log, approval(2)) is None
    assert promotions.voiding(NEW, log) is None
    assert promotions.voiding({"auth": "a9"}, log, approval(2)) is None
    assert promotions.voiding({"auth": "a9"}, log) is None
    assert promotions.voiding({"auth": "a9"}, log, approval(0.5)) == log[1]
    assert promotions.voiding(OLD, [], approval(0)) is None


def test_good_flow_an_approval_holds_while_its_release_is_proposed_again_after_a_time_out() -> None:
    assert promotions.voiding(OLD, [proposal("a", 0, OLD), proposal("b", 2, OLD)], approval(1)) is None


def test_good_flow_an_environment_that_was_entered_may_be_finished_with_the_approval_that_opened_it() -> None:
    log = [proposal("a", 0, OLD), proposal("a", 2, OLD, approval="yes"), proposal("b", 3, NEW)]
    assert promotions.voiding(OLD, log, approval(1)) is None
    assert promotions.voiding(OLD, log, approval(1, "another")) == log[2]


def asked(minute: float, run_id: str, bundle: str, plan: str) -> Approval:
    return approval(minute, run_id).model_copy(update={"bundle": bundle, "plan": plan})


def test_an_approval_of_the_same_release_for_another_plan_is_heard_once() -> None:
    wanted = ReleaseManifest(bundles=OLD, plans={"auth": "p1", "audit": "p2"})
    matching = asked(1, "match", wanted.bundle, wanted.plan)
    other_plan, other_release = asked(2, "plan", wanted.bundle, "p9"), asked(3, "release", "b9", "p9")
    assert promotions.unheard([matching], wanted, set()) is None
    assert promotions.unheard([matching, other_plan, other_release], wanted, set()) == other_plan
    assert promotions.unheard([matching, other_plan, other_release], wanted, {"plan"}) == other_release
    assert promotions.unheard([matching, other_plan, other_release], wanted, {"plan", "release"}) is None


def test_what_has_changed_between_two_plans_is_told_by_service() -> None:
    assert promotions.changes({"auth": 2, "audit": 1}, {"auth": 1, "audit": 1}) == "auth: 2 migrations, now 1"
    assert promotions.changes({"auth": 2}, {"auth": 2}).startswith("the same number of migrations")
