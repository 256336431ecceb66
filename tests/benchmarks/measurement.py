"""Interleaved timing: candidates take turns, so that a slow minute of the machine falls on all of them; results are ratios with their spread."""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Candidate = Callable[[int], float]
"""Runs one round (its number is given) and returns the seconds that count."""


@dataclass(frozen=True)
class Series:
    """All rounds of one candidate, in seconds."""

    name: str
    seconds: tuple[float, ...]

    def __str__(self) -> str:
        return f"{statistics.median(self.seconds):.3f} s [{min(self.seconds):.3f}–{max(self.seconds):.3f}]"


@dataclass(frozen=True)
class Ratio:
    """A candidate against a baseline: the median of the rounds' own ratios, and their spread."""

    work: str
    candidate: Series
    baseline: Series
    bar: float

    @property
    def rounds(self) -> list[float]:
        return [ours / theirs for ours, theirs in zip(self.candidate.seconds, self.baseline.seconds, strict=True)]

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)

    @property
    def verdict(self) -> str:
        return "met" if self.median <= self.bar else "**missed**"

    def row(self) -> str:
        """One line of the table in docs/benchmarks.md."""
        spread = f"[{min(self.rounds):.2f}–{max(self.rounds):.2f}]"
        names = f"{self.candidate.name} / {self.baseline.name}"
        return f"| {self.work} | {names} | {self.median:.2f} {spread} | ≤ {self.bar:.2f} | {self.verdict} | {self.candidate} | {self.baseline} |"


@dataclass(frozen=True)
class Difference:
    """A candidate against a baseline: the median of the rounds' own differences in seconds, and their spread."""

    work: str
    candidate: Series
    baseline: Series
    bar: float

    @property
    def rounds(self) -> list[float]:
        return [ours - theirs for ours, theirs in zip(self.candidate.seconds, self.baseline.seconds, strict=True)]

    def row(self) -> str:
        """Returns one line of the table in docs/benchmarks.md."""
        median = statistics.median(self.rounds)
        spread = f"[{min(self.rounds):+.2f} to {max(self.rounds):+.2f}]"
        names = f"{self.candidate.name} − {self.baseline.name}"
        verdict = "met" if median <= self.bar else "**missed**"
        return (
            f"| {self.work} | {names} | {median:+.2f} s {spread} | ≤ {self.bar:+.2f} s | {verdict} | {self.candidate} | {self.baseline} |"
        )


def interleave(candidates: Mapping[str, Candidate], rounds: int, progress: Callable[[str], None]) -> dict[str, Series]:
    """Runs every candidate once per round, in turn, the order rotating so that nobody always goes first."""
    names = list(candidates)
    found: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        start = number % len(names)
        for name in names[start:] + names[:start]:
            seconds = candidates[name](number)
            found[name].append(seconds)
            progress(f"  round {number + 1}/{rounds} {name}: {seconds:.3f} s")
    return {name: Series(name, tuple(values)) for name, values in found.items()}


def run(command: Sequence[str], environment: Mapping[str, str] | None = None) -> float:
    """Runs a command to its end and returns its wall-clock seconds. Raises RuntimeError with its output when it fails."""
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    seconds = time.perf_counter() - started
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return seconds
