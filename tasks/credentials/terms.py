"""The lifetime of a token or a lease, and when it is to be renewed or replaced. Pure; times are seconds of one monotonic clock."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

RENEWED_AT = 2 / 3
"""The part of a lifetime after which it is renewed: a third is left to try again, and to finish what runs (vault.md §4)."""

WORN_AT = 1 / 2
"""A renewal that gives less than this part of the first lifetime has reached the maximum TTL: a fresh token or login is needed."""


@dataclass(frozen=True, slots=True)
class Term:
    """A lifetime, as Vault reported it last.

    Attributes:
        began: when Vault reported it.
        seconds: its length from then on; infinite when it never ends.
        renewable: whether Vault would prolong it.
        first: the seconds that it had at first.
    """

    began: float
    seconds: float
    renewable: bool
    first: float

    @classmethod
    def granted(cls, now: float, seconds: float, *, renewable: bool) -> Term:
        """Returns a lifetime that begins now; Vault writes "for ever" as 0 seconds."""
        given = seconds if seconds > 0 else math.inf
        return cls(now, given, renewable, given)

    @property
    def ends(self) -> float:
        return self.began + self.seconds

    @property
    def due(self) -> float:
        """The time at which it is to be renewed or replaced."""
        return self.began + self.seconds * RENEWED_AT

    @property
    def worn(self) -> bool:
        """Tells whether it is to be replaced rather than renewed: it can't be, or its last renewal was cut short by the maximum TTL."""
        return not self.renewable or self.seconds < self.first * WORN_AT

    def renewed(self, now: float, seconds: float) -> Term:
        """Returns the lifetime after Vault renewed it."""
        return replace(self, began=now, seconds=seconds if seconds > 0 else math.inf)

    def over(self, now: float) -> bool:
        return now >= self.ends
