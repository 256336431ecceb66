"""The results of the steps: plain data without secrets, fit for Prefect's database, for artifacts and for a person."""

from __future__ import annotations

import enum
from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict, Field

from migrator.planning import plans


class Outcome(BaseModel):
    """Base of all outcomes."""

    model_config = ConfigDict(frozen=True)


class Remark(Outcome):
    """A warning that came with a plan: stable code, message, hint."""

    code: str
    message: str
    hint: str = ""


def accepted(remarks: Iterable[Remark]) -> str:
    """Returns what was accepted and why, for a table's cell."""
    return "; ".join(item.message for item in remarks if item.code == plans.HAZARD_ACCEPTED)


class PlannedStep(Outcome):
    """One migration of a plan."""

    version: int
    name: str
    direction: str
    mode: str
    statements: int
    checksum: str


class PlanOutcome(Outcome):
    """The plan: `plan` is its digest, the one an approval is bound to; `bundle` is the directory's digest, `database` who the server says it is."""

    service: str
    environment: str
    bundle: str
    plan: str
    current: int
    database: str = ""
    steps: tuple[PlannedStep, ...] = ()
    remarks: tuple[Remark, ...] = ()


class AppliedMigration(Outcome):
    """One migration that this run recorded."""

    version: int
    name: str
    statements: int
    seconds: float


class MigrationOutcome(Outcome):
    """The result of step 3. `plan` is the digest of the executed plan; `current` the version that the database has now."""

    service: str
    environment: str
    bundle: str
    plan: str
    applied: tuple[AppliedMigration, ...] = ()
    current: int = 0
    seconds: float = 0.0
    remarks: tuple[Remark, ...] = ()

    @property
    def versions(self) -> tuple[int, ...]:
        """The versions that were applied, in order."""
        return tuple(item.version for item in self.applied)

    @property
    def statements(self) -> int:
        """The number of executed statements, all migrations together."""
        return sum(item.statements for item in self.applied)

    @property
    def changed(self) -> bool:
        """Tells whether anything was applied."""
        return bool(self.applied)


class VerificationOutcome(Outcome):
    """The result of step 4. Only a verification that succeeded has one; every other raises. `objects` tells the schema in digests (facts.md §5)."""

    service: str
    environment: str
    bundle: str
    current: int
    objects_checked: int
    database: str = ""
    remarks: tuple[str, ...] = ()
    objects: tuple[dict[str, str | int], ...] = Field(default=(), repr=False)


class RolloutState(enum.StrEnum):
    """The ends of step 5, other than failure."""

    HEALTHY = "healthy"
    SKIPPED = "skipped"


class RolloutOutcome(Outcome):
    """The result of step 5. `skipped` is reported with its reason, and does not mean that the rollout succeeded."""

    service: str
    environment: str
    state: RolloutState
    reason: str
    image: str = ""
    generation: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        return f"{self.state}: {self.reason}"
