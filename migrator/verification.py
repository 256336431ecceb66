"""Verifies that what the versions made is really there: checksums, versions and objects, read back from the database (architecture.md §3.1).

It checks three things: every file has its history row; the recorded checksums digest to this directory's bundle; every object that a version
made is as it was then, by what was recorded of it and what is found (facts.md §3, §6). No statement is read for it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from migrator import errors
from migrator.databases import Database, Finding, SchemaCheck
from migrator.planning import contradictions, files
from migrator.planning.history import History


@dataclass(frozen=True)
class Verification:
    """The verdict. `bundle` is the directory's digest, `recorded` the digest of what the database recorded for the same versions. `strict`: objects that
    no version made count as findings. `drift_only`: files that wait are no problem, what was applied is looked at alone.
    `contradictions`: the files that can't be what was applied, by version."""

    bundle: str
    recorded: str
    current: int
    pending: tuple[int, ...]
    unproven: tuple[int, ...]
    changed: tuple[int, ...]
    schema: SchemaCheck
    strict: bool = False
    drift_only: bool = False
    contradictions: Mapping[int, errors.PlanRefused] = field(default_factory=dict)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Objects that aren't as they should be."""
        if not self.strict:
            return self.schema.findings
        return (*self.schema.findings, *(Finding(item, "foreign", "no version made it") for item in self.schema.foreign))

    @property
    def checked(self) -> int:
        """The number of objects that were compared."""
        return self.schema.checked

    def remarks(self) -> list[str]:
        """One line per thing worth knowing that is no problem."""
        lines = [f"note: {item}" for item in self.schema.notes]
        if self.schema.unproven:
            lines.append(
                f"unproven: {_listed(self.schema.unproven)}: what they made was not recorded; `greylag baseline` records what is there"
            )
        if self.schema.foreign and not self.strict:
            lines.append(f"foreign, no version made them: {_some(self.schema.foreign)}")
        if self.pending and self.drift_only:
            lines.append(f"not applied yet: {_listed(self.pending)}")
        return lines

    @property
    def succeeded(self) -> bool:
        """Tells whether all versions were applied from exactly these files, and every object that could be checked exists and is valid."""
        if self.unproven or self.changed or self.findings:
            return False
        return self.drift_only or (not self.pending and self.recorded == self.bundle)

    def problems(self) -> list[str]:
        """Returns one line per problem."""
        lines = [refusal.message for refusal in self.contradictions.values()]
        lines += [str(finding) for finding in self.findings]
        if self.pending and not self.drift_only:
            lines.append(f"not applied: {_listed(self.pending)}")
        if edited := tuple(version for version in self.changed if version not in self.contradictions):
            lines.append(f"applied from other content than the file has now: {_listed(edited)}")
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
            hint = _hint(self.findings)
        for refusal in self.contradictions.values():
            hint = refusal.hint
            break
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
            "findings": [item.document() for item in self.findings],
            "foreign": list(self.schema.foreign),
            "notes": list(self.schema.notes),
            "schema_unproven": list(self.schema.unproven),
        }


def _hint(findings: tuple[Finding, ...]) -> str:
    if all(item.state == "foreign" for item in findings):
        return "put them into a migration, drop them, or leave -strict away; `greylag baseline` records them as they are"
    if any(item.state == "failing" for item in findings):
        return "end the failing mutation with the KILL MUTATION that the finding names, then mend with a new migration what it should have done"
    if all(item.state in ("missing", "invalid") and not item.expected for item in findings):
        return "somebody changed the schema by hand, or an index build was broken off: mend it with a new migration"
    return "somebody changed the schema by hand: mend it with a new migration; `greylag baseline` records what is there instead"


def verify(database: Database, migrations: files.MigrationSet, *, strict: bool = False, drift_only: bool = False) -> Verification:
    """Compares history and catalogue with the files. Writes nothing.

    Args:
        strict: whether objects that no version made are findings.
        drift_only: whether files that are not applied yet are no problem.
    """
    history = database.read_history()
    applied = frozenset(history.applied)
    ours = [item for item in migrations.migrations if item.version in applied]
    return Verification(
        bundle=migrations.digest(),
        recorded=recorded_digest(history, migrations),
        current=history.current,
        pending=tuple(item.version for item in migrations.migrations if item.version not in applied),
        unproven=tuple(item.version for item in ours if item.version not in history.living_facts),
        changed=migrations.changed({version: fact for version, fact in history.living_facts.items() if version in applied}),
        schema=database.check_schema(),
        strict=strict,
        drift_only=drift_only,
        contradictions=contradictions.find(migrations, history),
    )


def recorded_digest(history: History, migrations: files.MigrationSet) -> str:
    """Returns the bundle digest of the checksums recorded for this directory's versions; equals `migrations.digest()` when nothing differs. A checksum that
    an earlier version recorded of other line ends counts as the file's."""
    lines = []
    for version, fact in history.living_facts.items():
        file = migrations.by_version(version)
        if file is not None:
            lines.append(f"{fact.name} {file.checksum() if file.has(fact.checksum) else fact.checksum}\n")
    return hashlib.sha256("".join(sorted(lines)).encode("utf-8", "surrogateescape")).hexdigest()


def _listed(versions: tuple[int, ...]) -> str:
    return ", ".join(str(version) for version in versions[:5]) + (", …" if len(versions) > 5 else "")


def _some(names: tuple[str, ...]) -> str:
    return "; ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
