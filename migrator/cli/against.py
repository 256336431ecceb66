"""`validate --against @environment/*`: the directory's files beside what databases have applied of them. Reads only.

A merge may bring a file that is older than what is applied already: nobody notices before the deployment stops. This asks beforehand.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from migrator import errors
from migrator.cli import invocation
from migrator.cli.engine_calls import EngineCall
from migrator.cli.findings import ERROR, WARNING, Finding
from migrator.planning import contradictions

if TYPE_CHECKING:
    from migrator.planning import files, history


def find(call: EngineCall) -> Iterator[tuple[EngineCall, list[Finding]]]:
    """Yields for each database the call that it would have had, with the directory that belongs to it, and what was found.

    With `-dir` or a target the directory is the given one; else each service's own of the fleet.

    Raises UsageError for a target that does not fit, and whatever opening a database raises.
    """
    expression = _narrowed(call)
    alone = _own_directory(call)
    some = False
    for item in invocation.located(expression):
        some = True
        directory = alone or item.directory
        found = replace(
            call.invocation,
            driver=item.driver,
            dbstring=item.dbstring,
            owner_role=item.owner_role,
            label=item.label,
            directory=directory,
            rules=item.rules,
        )
        beside = EngineCall(found)
        yield beside, _of_database(beside, item.label, accept_older=call.values.boolean("allow-missing"))
    if not some:
        raise errors.UsageError(f"{expression} names no service", code="no-target", hint="fleet.yaml lists environments and services")


def _own_directory(call: EngineCall) -> str:
    chosen = call.invocation
    return chosen.directory if chosen.label or chosen.directory != invocation.DEFAULT_DIRECTORY else ""


def _narrowed(call: EngineCall) -> str:
    """Returns the target, for the one service that the directory belongs to."""
    expression = call.values.string("against")
    if not expression.startswith("@"):
        raise errors.UsageError(
            f'"{expression}" is not a target', code="bad-target", hint="-against @environment/service, or @environment/*"
        )
    place, _, service = expression.partition("/")
    if call.invocation.label and service in ("", "*"):
        return f"{place}/{call.invocation.service}"
    several = service in ("", "*") or any(letter in service for letter in "*?[")
    if several and _own_directory(call):
        raise errors.UsageError(
            f"{call.invocation.directory} is the directory of one service, {expression} are several",
            code="bad-target",
            hint=f"-against {place}/SERVICE, or leave out -dir: each service is then checked with its own directory",
        )
    return expression


def _of_database(call: EngineCall, label: str, *, accept_older: bool) -> list[Finding]:
    try:
        migrations = call.load()
    except errors.FileError as error:
        if error.code in ("no-migration-files", "missing-directory"):
            raise
        return []  # bad names and duplicates are listed by the check of the files themselves
    try:
        with call.open() as database:
            found = database.read_history()
    except errors.GreylagError as error:
        error.message = f"{label}: {error.message}"
        raise
    return compare(migrations, found, label, accept_older=accept_older)


def compare(migrations: files.MigrationSet, found: history.History, label: str, *, accept_older: bool = False) -> list[Finding]:
    """Tells what a deployment of these files to this database would meet; pure but for reading the files of applied versions."""
    applied = set(found.applied)
    newest = max(applied, default=0)
    findings: list[Finding] = []
    contradicting = contradictions.find(migrations, found)
    if (refusal := contradicting.get(0)) is not None:
        findings.append(Finding(ERROR, str(refusal.code), migrations.directory, None, f"{label}: {refusal.message}", refusal.hint))
    for file in migrations.migrations:
        if (refusal := contradicting.get(file.version)) is not None:
            findings.append(Finding(ERROR, str(refusal.code), file.path, 1, f"{label}: {refusal.message}", refusal.hint))
            continue
        if file.version not in applied:
            if file.version < newest:
                findings.append(_older(file, newest, label, WARNING if accept_older else ERROR))
            continue
        fact = found.living_facts.get(file.version)
        if fact is not None and file.kind != "go" and not file.has(fact.checksum):
            message = f"it changed after {label} applied it (recorded sha256 {fact.checksum[:12]}, now {file.checksum()[:12]})"
            hint = "restore the file and put the change into a new migration"
            findings.append(Finding(ERROR, "checksum-changed", file.path, 1, message, hint))
    known = {file.version for file in migrations.migrations}
    foreign = sorted(applied - known)
    if foreign:
        listed = ", ".join(str(version) for version in foreign[:5]) + (", …" if len(foreign) > 5 else "")
        message = f"{label} has applied {len(foreign)} version(s) that this directory lacks: {listed}"
        hint = "bring the branch up to date; expected where another branch is deployed"
        findings.append(Finding(WARNING, "unknown-version", migrations.directory, None, message, hint))
    return findings


def _older(file: files.MigrationFile, newest: int, label: str, level: str) -> Finding:
    message = f"version {file.version} is pending in {label}, which is at {newest} already: `up` refuses it"
    hint = f"give the file a version above {newest}; or deploy with -allow-missing, if the order does not matter"
    return Finding(level, "missing-versions", file.path, 1, message, hint)
