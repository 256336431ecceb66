"""Which promotion may go on: one at a time per last environment, and of two proposals for the same services the later one (pure).

A promotion is a run of the flow `promote-release`. It is *at work* from its start to its end, but for the time in which it waits for an approval.
What it waits for is its *proposal*: one release for one protected environment. Proposals are kept, newest last, as what they are: who proposed which
files when, and by which approval they were entered.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from pydantic import BaseModel, ConfigDict

from migrator import errors
from tasks.approval import Approval, ReleaseManifest

FLOW = "promote-release"
"""The promotion flow's name on the server."""

AWAITING_APPROVAL = "AwaitingApproval"
"""The name of a waiting promotion's state: a person finds it in the list of runs, and another promotion knows that it isn't at work."""


class Ending(enum.StrEnum):
    """How a promotion ends that has neither promoted nor failed: the name of its last state."""

    NOTHING_TO_DO = "NothingToDo"
    ALREADY_PROPOSED = "AlreadyProposed"
    SKIPPED = "Skipped"
    SUPERSEDED = "Superseded"


GAVE_WAY = frozenset({Ending.ALREADY_PROPOSED, Ending.SKIPPED, Ending.SUPERSEDED})
"""Endings in favour of another promotion: what this one was started for is not done."""


class Skipped(errors.NotYet):
    """A schedule started this promotion while another scheduled one was at work."""

    code = "promotion-skipped"


class AlreadyProposed(errors.NotYet):
    """Another promotion waits for an approval of this very release."""

    code = "already-proposed"


class Superseded(errors.PlanRefused):
    """Another proposal took the place of this promotion's."""

    code = "promotion-superseded"


class Promotion(BaseModel):
    """A run of the flow, as Prefect records it.

    `since` is when the server gave it its present state: its place in the line. `alive` is False where its process shows no sign of life.
    """

    model_config = ConfigDict(frozen=True)

    run_id: str
    name: str
    until: str
    since: datetime
    scheduled: bool = False
    waiting: bool = False
    alive: bool = True

    def __str__(self) -> str:
        return f"{self.name} ({self.run_id})"


class Turn(enum.StrEnum):
    """What a promotion does about those that are there already."""

    NOW = "now"
    LATER = "later"
    NEVER = "never"


def turn(mine: Promotion, others: Iterable[Promotion], *, returning: bool = False) -> tuple[Turn, Promotion | None]:
    """Whether a promotion may work now, and whose turn it is otherwise: of those that are at work until the same environment, the longest there.

    One that a person started waits. One that a schedule started never stands in line behind another scheduled one: the next tick will look
    again, and ticks must not pile up.

    Args:
        returning: it was at work before, and waited for its approval only: it stands in line again, whoever started it.
    """
    elders = sorted((other for other in others if _before(other, mine)), key=_place)
    if not elders:
        return Turn.NOW, None
    if mine.scheduled and not returning and (ticks := [elder for elder in elders if elder.scheduled]):
        return Turn.NEVER, ticks[0]
    return Turn.LATER, elders[0]


def _before(other: Promotion, mine: Promotion) -> bool:
    at_work = other.alive and not other.waiting
    return at_work and other.until == mine.until and other.run_id != mine.run_id and _place(other) < _place(mine)


def _place(promotion: Promotion) -> tuple[datetime, str]:
    return promotion.since, promotion.run_id


class Proposal(BaseModel):
    """One release that a promotion proposed for a protected environment. `approval` is the one by which it was entered, empty before."""

    model_config = ConfigDict(frozen=True)

    run_id: str
    run: str
    manifest: ReleaseManifest
    image: str = ""
    approval: str = ""
    made_at: datetime

    def __str__(self) -> str:
        return f"{self.run} ({self.run_id}) with bundle {self.manifest.bundle[:12]}"


class Relation(enum.StrEnum):
    """How a later release stands to an earlier one of the same environment."""

    SAME = "same"
    SUPERSEDES = "supersedes"
    UNRELATED = "unrelated"


def relation(bundles: Mapping[str, str], image: str, earlier: Proposal) -> Relation:
    """How a release with these bundles (and this image, where it names one) stands to an earlier proposal.

    It supersedes one that has other files of any of its services, or another image; releases of different services go beside each other.
    """
    if _conflicts(bundles, earlier.manifest.bundles):
        return Relation.SUPERSEDES
    if dict(bundles) != dict(earlier.manifest.bundles):
        return Relation.UNRELATED
    return Relation.SUPERSEDES if image and image != earlier.image else Relation.SAME


def _conflicts(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    return any(name in other and other[name] != digest for name, digest in one.items())


def proposed(bundles: Mapping[str, str], image: str, proposals: Sequence[Proposal], promotions: Iterable[Promotion]) -> Promotion | None:
    """The promotion that waits with this very release already; one that shows no sign of life doesn't count, nobody would act on its approval."""
    waiting = {item.run_id: item for item in promotions if item.waiting and item.alive}
    for run_id, promotion in waiting.items():
        own = _own(run_id, proposals)
        if own is not None and relation(bundles, image, own) is Relation.SAME:
            return promotion
    return None


def successor(run_id: str, proposals: Sequence[Proposal]) -> Proposal | None:
    """The newest proposal that took the place of a promotion's own; None while its own stands.

    That is one with other files, and also the same release proposed by another run, which then found no sign of life of the first.
    """
    own = _own(run_id, proposals)
    if own is None:
        return None
    later = [item for item in proposals if item.made_at > own.made_at and item.run_id != run_id]
    found = [item for item in later if relation(item.manifest.bundles, item.image, own) is not Relation.UNRELATED]
    return max(found, key=lambda item: item.made_at, default=None)


def _own(run_id: str, proposals: Iterable[Proposal]) -> Proposal | None:
    return max((item for item in proposals if item.run_id == run_id), key=lambda item: item.made_at, default=None)


def voiding(bundles: Mapping[str, str], proposals: Iterable[Proposal], given: Approval | None = None) -> Proposal | None:
    """The proposal with other files that makes an approval of these bundles void; None where the approval holds.

    An approval answers the newest proposal of its bundles before it. What was proposed instead of that, before the approval or after it, makes it
    void; it stays void when the same bundles are proposed once more. An approval by which an environment had been entered by then still covers
    what is left of its plan.

    Args:
        given: None for an approval that is to be given now, after everything that was proposed.
    """
    found = sorted(proposals, key=lambda item: item.made_at)
    same = [
        item.made_at for item in found if dict(item.manifest.bundles) == dict(bundles) and (given is None or item.made_at <= given.given_at)
    ]
    since = same[-1] if same else given.given_at if given is not None else None
    if since is None:  # it was never proposed: nothing can have taken its place
        return None
    entered = [item.made_at for item in found if given is not None and given.run_id and item.approval == given.run_id]
    newer = (item for item in found if item.made_at > since and _conflicts(item.manifest.bundles, bundles))
    first = next(newer, None)
    return None if first is not None and entered and entered[0] < first.made_at else first
