"""What the steps hand back: plain data, no secret, fit for Prefect's database, for artifacts and for a person."""

from __future__ import annotations

import enum

from pydantic import BaseModel, ConfigDict


class Outcome(BaseModel):
    """Base of all outcomes."""

    model_config = ConfigDict(frozen=True)


class Remark(Outcome):
    """A warning that came with a plan: stable code, message, hint."""

    code: str
    message: str
    hint: str = ""


class PlannedStep(Outcome):
    """One migration of a plan."""

    version: int
    name: str
    direction: str
    mode: str
    statements: int
    checksum: str


class PlanOutcome(Outcome):
    """What would run: `plan` is its digest, the one an approval is bound to; `bundle` the directory's."""

    service: str
    environment: str
    bundle: str
    plan: str
    current: int
    steps: tuple[PlannedStep, ...] = ()
    remarks: tuple[Remark, ...] = ()


class AppliedMigration(Outcome):
    """One migration that this run recorded."""

    version: int
    name: str
    statements: int
    seconds: float


class MigrationOutcome(Outcome):
    """What step 3 did. `plan` is the digest of what was executed; `current` the version that the database has now."""

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
        """Statements executed, all migrations together."""
        return sum(item.statements for item in self.applied)

    @property
    def changed(self) -> bool:
        """Tells whether anything was applied."""
        return bool(self.applied)


class VerificationOutcome(Outcome):
    """What step 4 found; only a verification that succeeded has an outcome, all others raise."""

    service: str
    environment: str
    bundle: str
    current: int
    objects_checked: int
    not_checked: tuple[str, ...] = ()


class RolloutState(enum.StrEnum):
    """How step 5 ended, where it did not fail."""

    HEALTHY = "healthy"
    SKIPPED = "skipped"


class RolloutOutcome(Outcome):
    """What step 5 saw. `skipped` is said aloud, with its reason; it is not a success of the rollout."""

    service: str
    environment: str
    state: RolloutState
    reason: str
    image: str = ""
    generation: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        return f"{self.state}: {self.reason}"
