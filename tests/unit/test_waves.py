"""Which service may start when (pure)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flows.waves import Schedule

NEEDS = {"auth": [], "personal": ["auth"], "identity": ["auth"], "letters": ["personal"], "audit": []}


def test_good_flow_dependencies_come_first_and_independent_ones_together() -> None:
    schedule = Schedule(NEEDS)
    assert schedule.ready() == ["auth", "audit"]
    assert schedule.ready() == []
    schedule.finish("audit", succeeded=True)
    assert schedule.ready() == []
    schedule.finish("auth", succeeded=True)
    assert schedule.ready() == ["personal", "identity"]


def test_bad_flow_a_failure_blocks_its_dependents_and_nobody_else() -> None:
    schedule = Schedule({name: needs + (["auth"] if name == "letters" else []) for name, needs in NEEDS.items()})
    assert schedule.ready() == ["auth", "audit"]
    schedule.finish("auth", succeeded=False)
    assert schedule.blocked() == {"personal": ["auth"], "identity": ["auth"], "letters": ["auth"]}
    assert schedule.blocked() == {}
    assert schedule.ready() == []


def test_good_flow_a_dependency_that_was_not_selected_is_no_obstacle() -> None:
    assert Schedule({"personal": ["auth"]}).ready() == ["personal"]


@given(st.data(), st.integers(1, 8))
def test_good_every_service_ends_exactly_once_whatever_fails_in_whatever_order(data: st.DataObject, count: int) -> None:
    needs: dict[int, set[int]] = {}
    for number in range(count):
        direct = data.draw(st.sets(st.integers(0, number - 1))) if number else set()
        needs[number] = (
            direct.union(*(needs[other] for other in direct)) if direct else set()
        )  # with everything behind it, as the fleet gives it
    schedule = Schedule({str(name): [str(other) for other in found] for name, found in needs.items()})
    failed: set[str] = set()
    blocked: dict[str, list[str]] = {}
    ended: list[str] = []
    running = schedule.ready()
    while running:
        name = running.pop(data.draw(st.integers(0, len(running) - 1)))
        assert not {str(other) for other in needs[int(name)]} & (failed | set(running) | blocked.keys())
        succeeded = data.draw(st.booleans())
        schedule.finish(name, succeeded=succeeded)
        ended.append(name)
        if not succeeded:
            failed.add(name)
        blocked |= schedule.blocked()
        running += schedule.ready()
    assert sorted([*ended, *blocked]) == sorted(map(str, needs))
    for name, blockers in blocked.items():
        assert blockers and set(blockers) <= {str(other) for other in needs[int(name)]} & failed
