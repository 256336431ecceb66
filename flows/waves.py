"""Decides which service may start next: dependencies first, independent ones in parallel, and never one that depends on a failure (pure)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping


class Schedule:
    """The state of one environment's deployment.

    Args:
        needs: for each service the services that must have succeeded before it. A name that is no key here was not selected and is ignored.
    """

    def __init__(self, needs: Mapping[str, Iterable[str]]) -> None:
        self._needs = {name: frozenset(found) & needs.keys() for name, found in needs.items()}
        self._waiting = list(needs)
        self._succeeded: set[str] = set()
        self._failed: set[str] = set()

    def ready(self) -> list[str]:
        """Takes out the services that may start now, in the given order."""
        return self._take(lambda name: self._needs[name] <= self._succeeded)

    def blocked(self) -> dict[str, list[str]]:
        """Takes out the services that can't start any more, each with the failed services that it needs."""
        return {name: sorted(self._needs[name] & self._failed) for name in self._take(lambda name: bool(self._needs[name] & self._failed))}

    def finish(self, service: str, *, succeeded: bool) -> None:
        """Records the end of a service."""
        (self._succeeded if succeeded else self._failed).add(service)

    def _take(self, wanted: Callable[[str], bool]) -> list[str]:
        found = [name for name in self._waiting if wanted(name)]
        self._waiting = [name for name in self._waiting if name not in found]
        return found
