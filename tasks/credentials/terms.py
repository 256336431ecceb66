"""How long a token or a lease lives, and when something is to be done about it. Pure; times are seconds of one monotonic clock."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

RENEWED_AT = 2 / 3
"""The part of a life after which it is renewed: a third is left to try again, and to finish what runs (vault.md §4)."""

WORN_AT = 1 / 2
"""A renewal that gives less than this part of the first life has met the maximum TTL: time for something fresh."""


@dataclass(frozen=True, slots=True)
class Term:
    """A life as Vault told it last.

    Attributes:
        began: when that was.
        seconds: from then on; infinite for what never ends.
        renewable: whether Vault would prolong it.
        first: the seconds that it was given first.
    """

    began: float
    seconds: float
    renewable: bool
    first: float

    @classmethod
    def granted(cls, now: float, seconds: float, *, renewable: bool) -> Term:
        """A life that begins; 0 seconds are how Vault writes "for ever"."""
        given = seconds if seconds > 0 else math.inf
        return cls(now, given, renewable, given)

    @property
    def ends(self) -> float:
        return self.began + self.seconds

    @property
    def due(self) -> float:
        """When it is to be renewed or replaced."""
        return self.began + self.seconds * RENEWED_AT

    @property
    def worn(self) -> bool:
        """Tells whether it is to be replaced rather than renewed: it can't be, or its last renewal was cut short by the maximum TTL."""
        return not self.renewable or self.seconds < self.first * WORN_AT

    def renewed(self, now: float, seconds: float) -> Term:
        """The life after Vault prolonged it."""
        return replace(self, began=now, seconds=seconds if seconds > 0 else math.inf)

    def over(self, now: float) -> bool:
        return now >= self.ends
