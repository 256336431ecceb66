"""What a link of the chain says, and how the chain is walked. Pure."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from deployments.doctor import troubles
from migrator import errors


class State(enum.StrEnum):
    """How a link is."""

    SOUND = "ok"
    BROKEN = "broken"
    UNKNOWN = "unknown"
    """It could not be looked at; whether it holds is not known."""
    ABSENT = "not used"
    """This installation has no such link: no cluster, no chart, no Argo CD."""


@dataclass(frozen=True)
class Finding:
    """What one link said.

    Args:
        evidence: how that is known: what was read, and where.
        cause, hint: of a broken link: the error's code or the doctor's own word for it, and what to type next.
    """

    link: str
    state: State
    evidence: str
    cause: str = ""
    hint: str = ""

    @property
    def trouble(self) -> troubles.Trouble | None:
        """The row of the troubleshooting table that this is; None for anything else."""
        return troubles.of(self.cause) if self.state is State.BROKEN else None

    def document(self) -> dict[str, str]:
        """Returns the finding as JSON-ready data."""
        row = self.trouble
        found = {"link": self.link, "state": str(self.state), "evidence": self.evidence}
        return found | ({"cause": self.cause, "hint": self.hint, "row": row.symptom if row else ""} if self.state is State.BROKEN else {})


Look = Callable[[], Iterable[Finding]]
"""Looks at one link or at several that are known together; may raise any error of greylag's own, which breaks the link."""


def sound(link: str, evidence: str) -> Finding:
    """Returns the finding of a link that holds."""
    return Finding(link, State.SOUND, evidence)


def unknown(link: str, evidence: str) -> Finding:
    """Returns the finding of a link that can't be looked at."""
    return Finding(link, State.UNKNOWN, evidence)


def absent(link: str, evidence: str) -> Finding:
    """Returns the finding of a link that this installation doesn't have."""
    return Finding(link, State.ABSENT, evidence)


def broken(link: str, evidence: str, *, cause: str, hint: str) -> Finding:
    """Returns the finding of a link that doesn't hold."""
    return Finding(link, State.BROKEN, evidence, cause, hint)


def of_error(link: str, error: errors.GreylagError) -> Finding:
    """Returns the finding that an error is."""
    place = f"{error.where}: " if error.where else ""
    return Finding(link, State.BROKEN, f"{place}{error.message}", error.code, error.hint or "")


def walk(chain: Iterable[tuple[str, Look]]) -> Iterator[Finding]:
    """Walks the links in their order and stops behind the first broken one: what comes after it depends on it."""
    for link, look in chain:
        try:
            for finding in look():
                yield finding
                if finding.state is State.BROKEN:
                    return
        except errors.GreylagError as error:
            yield of_error(link, error)
            return
