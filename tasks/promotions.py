"""Decides which promotion may go on: one at a time per last environment, and of two proposals for the same services the later one (pure).

A promotion is a run of the flow `promote-release`. It is *at work* from its start to its end, except while it waits for an approval.
It then waits with its *proposal*: one release for one protected environment. Every proposal is kept, newest last, with its run, its files,
its time, and the approval by which the environment was entered.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime

from pydantic import BaseModel, ConfigDict

from migrator import errors
from tasks.approval import Approval, ReleaseManifest

FLOW = "promote-release"
"""The promotion flow's name on the server."""

AWAITING_APPROVAL = "AwaitingApproval"
"""The name of a waiting promotion's state: people find it in the list of runs, and other promotions see that it isn't at work."""


class Ending(enum.StrEnum):
    """The ends of a promotion that has neither promoted nor failed: the name of its last state."""

    NOTHING_TO_DO = "NothingToDo"
    ALREADY_PROPOSED = "AlreadyProposed"
    SKIPPED = "Skipped"
    SUPERSEDED = "Superseded"


GAVE_WAY = frozenset({Ending.ALREADY_PROPOSED, Ending.SKIPPED, Ending.SUPERSEDED})
"""Ends in favour of another promotion: this one did not do what it was started for."""


class Skipped(errors.NotYet):
    """A schedule started this promotion while another scheduled one was at work."""

    code = "promotion-skipped"


class AlreadyProposed(errors.NotYet):
    """Another promotion waits for an approval of this very release."""

    code = "already-proposed"


class Superseded(errors.PlanRefused):
    """Another proposal has replaced this promotion's."""

    code = "promotion-superseded"


class Promotion(BaseModel):
    """A run of the flow, as Prefect records it.

    `since` is the server's time of its present state, and decides its place in the line. `alive` is False when its process shows no sign of life.
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
    """The ways in which a promotion deals with those that are there already."""

    NOW = "now"
    LATER = "later"
    NEVER = "never"


def turn(mine: Promotion, others: Iterable[Promotion], *, returning: bool = False) -> tuple[Turn, Promotion | None]:
    """Tells whether a promotion may work now; if not, also which one it waits for: of those at work until the same environment, the longest there.

    A promotion that a person started waits. One that a schedule started never waits for another scheduled one: the next tick will look
    again, and ticks must not pile up.

    Args:
        returning: whether it was at work before, and waited only for its approval: then it waits in line again, no matter who started it.
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
    """One release that a promotion proposed for a protected environment. `approval` is the one by which it was entered, empty before that."""

    model_config = ConfigDict(frozen=True)

    run_id: str
    run: str
    manifest: ReleaseManifest
    image: str = ""
    approval: str = ""
    made_at: datetime

    def __str__(self) -> str:
        return f"{self.run} ({self.run_id}) with release {self.manifest.bundle[:12]}"


class Relation(enum.StrEnum):
    """The relation of a later release to an earlier one of the same environment."""

    SAME = "same"
    SUPERSEDES = "supersedes"
    UNRELATED = "unrelated"


def relation(bundles: Mapping[str, str], image: str, earlier: Proposal) -> Relation:
    """Returns the relation of a release with these bundles (and this image, if any) to an earlier proposal.

    It supersedes one that has other files of any of its services, or another image; releases of different services don't affect each other.
    """
    if _conflicts(bundles, earlier.manifest.bundles):
        return Relation.SUPERSEDES
    if dict(bundles) != dict(earlier.manifest.bundles):
        return Relation.UNRELATED
    return Relation.SUPERSEDES if image and image != earlier.image else Relation.SAME


def _conflicts(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    return any(name in other and other[name] != digest for name, digest in one.items())


def proposed(bundles: Mapping[str, str], image: str, proposals: Sequence[Proposal], promotions: Iterable[Promotion]) -> Promotion | None:
    """Returns the promotion that already waits with this very release. One without a sign of life doesn't count, because it would not act on its approval."""
    waiting = {item.run_id: item for item in promotions if item.waiting and item.alive}
    for run_id, promotion in waiting.items():
        own = _own(run_id, proposals)
        if own is not None and relation(bundles, image, own) is Relation.SAME:
            return promotion
    return None


def successor(run_id: str, proposals: Sequence[Proposal]) -> Proposal | None:
    """Returns the newest proposal that has replaced a promotion's own; None while its own is valid.

    A replacement has other files; or it is the same release, proposed by another run that found no sign of life of the first.
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
    """Returns the proposal with other files that makes an approval of these bundles void; None when the approval is valid.

    An approval answers the newest proposal of its bundles before it. A proposal with other files after that one, before the approval or later, makes it
    void; it stays void when the same bundles are proposed once more. If an environment had been entered by the approval before that, it still covers
    the rest of its plan.

    Args:
        given: None for an approval that is to be given now, after all proposals.
    """
    found = sorted(proposals, key=lambda item: item.made_at)
    same = [
        item.made_at for item in found if dict(item.manifest.bundles) == dict(bundles) and (given is None or item.made_at <= given.given_at)
    ]
    since = same[-1] if same else given.given_at if given is not None else None
    if since is None:  # it was never proposed, so nothing can have replaced it
        return None
    entered = [item.made_at for item in found if given is not None and given.run_id and item.approval == given.run_id]
    newer = (item for item in found if item.made_at > since and _conflicts(item.manifest.bundles, bundles))
    first = next(newer, None)
    return None if first is not None and entered and entered[0] < first.made_at else first


def unheard(given: Iterable[Approval], wanted: ReleaseManifest, heard: Collection[str]) -> Approval | None:
    """Returns the newest approval that has come since and is for something else than what is waited for; None when there is none.

    One of the same release for another plan comes before one of another release.

    Args:
        heard: the ids of approvals that were looked at before.
    """
    others = [item for item in given if item.run_id not in heard and (item.bundle, item.plan) != (wanted.bundle, wanted.plan)]
    return max(others, key=lambda item: (item.bundle == wanted.bundle, item.given_at), default=None)


def changes(before: Mapping[str, int], after: Mapping[str, int]) -> str:
    """Tells how the numbers of migrations have changed, service by service."""
    names = [name for name in {**before, **after} if before.get(name, 0) != after.get(name, 0)]
    found = [f"{name}: {before.get(name, 0)} migrations, now {after.get(name, 0)}" for name in names]
    return "; ".join(found) or "the same number of migrations, of other files or on other databases"
