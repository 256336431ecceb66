"""Verifies that the database has what the files say: checksums, versions and objects, read back from the database (architecture.md §3.1).

It checks three things: every file has its history row; the recorded checksums digest to this directory's bundle; every object that the
files create exists and is valid. Objects that only dynamic SQL creates can't be known from the text: they are listed as *not checked*, and never
counted as valid.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from migrator import errors
from migrator.databases import Database, Finding
from migrator.goose.annotations import parse
from migrator.planning import files, objects
from migrator.planning.history import History
from migrator.targets import Direction


@dataclass(frozen=True)
class Verification:
    """The verdict. `bundle` is the directory's digest, `recorded` the digest of what the database recorded for the same versions."""

    bundle: str
    recorded: str
    current: int
    pending: tuple[int, ...]
    unproven: tuple[int, ...]
    changed: tuple[int, ...]
    findings: tuple[Finding, ...]
    checked: int
    not_checked: tuple[str, ...]

    @property
    def succeeded(self) -> bool:
        """Tells whether all versions were applied from exactly these files, and every object that could be checked exists and is valid."""
        return not (self.pending or self.unproven or self.changed or self.findings) and self.recorded == self.bundle

    def problems(self) -> list[str]:
        """Returns one line per problem."""
        lines = [f"{finding.subject}: {finding.state}: {finding.reason}" for finding in self.findings]
        if self.pending:
            lines.append(f"not applied: {_listed(self.pending)}")
        if self.changed:
            lines.append(f"applied from other content than the file has now: {_listed(self.changed)}")
        if self.unproven:
            lines.append(f"applied by another tool, so no checksum is recorded: {_listed(self.unproven)}")
        return lines

    def raise_for_failure(self) -> None:
        """Raises VerificationFailed with every problem, the first one in the message."""
        if self.succeeded:
            return
        problems = self.problems() or ["the recorded checksums don't digest to this bundle"]
        only_unproven = bool(self.unproven) and not (self.pending or self.changed or self.findings)
        hint = (
            "`greylag baseline` records the present files as what was applied"
            if only_unproven
            else "`greylag plan` shows what is left to run"
        )
        if self.changed and not self.pending:
            first = self.changed[0]
            hint = (
                "restore the file and put the change into a new migration; if the change is harmless, "
                f"`greylag DRIVER DBSTRING repair -checksum {first}` records the new content"
            )
        if self.findings:
            hint = "somebody changed the schema by hand, or an index build was broken off: mend it with a new migration"
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise errors.VerificationFailed(
            f"{problems[0]}{more}", code="unproven" if only_unproven else None, hint=hint, detail="\n".join(problems) if more else ""
        )

    def document(self) -> dict[str, object]:
        """Returns the verdict as JSON-ready data."""
        return {
            "verified": self.succeeded,
            "bundle": self.bundle,
            "recorded": self.recorded,
            "current": self.current,
            "pending": list(self.pending),
            "unproven": list(self.unproven),
            "changed": list(self.changed),
            "objects_checked": self.checked,
            "findings": [{"subject": item.subject, "state": item.state, "reason": item.reason} for item in self.findings],
            "not_checked": list(self.not_checked),
        }


def verify(database: Database, migrations: files.MigrationSet, env: Mapping[str, str] | None = None) -> Verification:
    """Compares history and catalogue with the files. Writes nothing.

    Args:
        env: the variables for ENVSUB, as they were when the files were applied.
    """
    history = database.read_history()
    applied = frozenset(history.applied)
    ours = [item for item in migrations.migrations if item.version in applied]
    expected, not_checked = _expected(database, _in_applied_order(ours, history), env)
    return Verification(
        bundle=migrations.digest(),
        recorded=recorded_digest(history, migrations),
        current=history.current,
        pending=tuple(item.version for item in migrations.migrations if item.version not in applied),
        unproven=tuple(item.version for item in ours if item.version not in history.living_facts),
        changed=migrations.changed({version: fact for version, fact in history.living_facts.items() if version in applied}),
        findings=tuple(database.inspect(expected)),
        checked=len(expected),
        not_checked=tuple(not_checked),
    )


def recorded_digest(history: History, migrations: files.MigrationSet) -> str:
    """Returns the bundle digest of the checksums recorded for this directory's versions; equals `migrations.digest()` when nothing differs."""
    known = {item.version for item in migrations.migrations}
    lines = sorted(f"{fact.name} {fact.checksum}\n" for version, fact in history.living_facts.items() if version in known)
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def _in_applied_order(ours: list[files.MigrationFile], history: History) -> list[files.MigrationFile]:
    """Sorts files in the order in which they ran, in which effects must be folded. (PostgreSQL's list is newest first, ClickHouse's knows versions only.)"""
    order = {version: position for position, version in enumerate(reversed(history.applied))}
    return sorted(ours, key=lambda item: order[item.version])


def _expected(
    database: Database, ours: list[files.MigrationFile], env: Mapping[str, str] | None
) -> tuple[frozenset[objects.ObjectName], list[str]]:
    places: list[str] = []
    texts: list[str] = []
    for file in ours:
        if file.kind == "go":
            continue
        for statement in parse(file.read(), Direction.UP, env, path=file.path).statements:
            places.append(f"{file.path}:{statement.first_line}")
            texts.append(statement.text)
    effects: list[objects.Effect] = []
    not_checked: list[str] = [f"{file.path}: a Go migration" for file in ours if file.kind == "go"]
    for place, found in zip(places, database.effects(texts), strict=True):
        if found is None:
            not_checked.append(f"{place}: dynamic SQL")
        else:
            effects.extend(found)
    return objects.fold(effects), not_checked


def _listed(versions: tuple[int, ...]) -> str:
    return ", ".join(str(version) for version in versions[:5]) + (", …" if len(versions) > 5 else "")
