"""What the catalogue says of everything that a plan touches, before anything of it is executed, and what a person should know of that.

A run reads it into its journal's plan; `plan` reads it to tell beforehand what the run would.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from dataclasses import dataclass

from migrator.clickhouse import snapshots
from migrator.clickhouse.reading import subjects
from migrator.clickhouse.session import Session
from migrator.clickhouse.snapshots import Snapshot
from migrator.planning.plans import Remark, Step


@dataclass(frozen=True)
class Outlook:
    """What is there. `about` is what each step is about, in the plan's order; `remarks` are worth a warning."""

    snapshot: Snapshot
    about: tuple[subjects.Subjects, ...]
    remarks: tuple[Remark, ...]


def read(session: Session, steps: Sequence[Step]) -> Outlook:
    """Looks at the objects of these steps in one request (a second one where a right is missing). Raises failures.Refusal, failures.Lost."""
    about = tuple(subjects.of_texts([statement.text for statement in step.statements], session.database) for step in steps)
    everything = functools.reduce(operator.or_, about, subjects.Subjects())
    found = snapshots.read(session, everything)
    return Outlook(found.snapshot, about, (*map(_denied, found.denied, found.denied.values()), *_failing(found.snapshot)))


def _denied(table: str, words: str) -> Remark:
    return Remark(
        "recovery-rights",
        f"this user may not read {table}, which is asked after an accident: a broken run would have to be answered for by hand ({words[:200]})",
        "`greylag privileges` prints the grants",
    )


def _failing(snapshot: Snapshot) -> list[Remark]:
    return [
        Remark("mutation-fails", f"{mutation}; later mutations of the table wait behind it", f"it ends with: {mutation.kill}")
        for mutation in snapshot.failing()
    ]
