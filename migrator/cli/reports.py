"""The verbs that tell what is there and change nothing: `status`, `version`, `history`, `verify`, and `env`.

A database without goose's table keeps being one. For `@environment/service`, `verify` is the recipe's whole verification section: the migration Job
and its logs, the workload, the status, the tables.
"""

from __future__ import annotations

import os

from migrator import standing
from migrator.address import redaction
from migrator.cli import output, text, verbs
from migrator.cli.engine_calls import EngineCall
from migrator.cli.go_flags import TRUE
from migrator.cli.invocation import configured
from migrator.errors import ExitCode, GreylagError
from migrator.goose import durations, goquote
from migrator.planning import contradictions, journal, selection
from migrator.planning.files import MigrationSet
from migrator.planning.history import History


def status(call: EngineCall) -> int:
    """Prints the status. Returns 3 with `-exit-code` when migrations are pending, else 0."""
    call.error_prefix = "failed to collect migrations: "
    migrations = call.load()
    if call.values.boolean("no-versioning"):
        for line in text.STATUS_HEAD:
            call.log(line)
        for item in migrations.migrations:
            call.log(text.status_line("no versioning", item.name))
        call.document["migrations"] = [{"version": item.version, "name": item.name} for item in migrations.migrations]
        return 0
    call.error_prefix = "failed to ensure DB version: "
    with call.open() as database:
        history = database.read_history()
        entries = database.read_journal()
    selection.require_row(history)
    document = _show(call, history, migrations)
    left = journal.unfinished(entries, history.applied)
    for part in left:
        doubt = ", the next one may be" if part.unknown else ""
        call.own(f"half-way {part.direction}: version {part.version}, {part.done} statement(s) are done{doubt} [half-applied]")
    document["half_applied"] = [
        {"version": part.version, "direction": str(part.direction), "done": part.done, "unknown": part.unknown} for part in left
    ]
    call.document.update(document)
    return int(ExitCode.PENDING) if document["pending"] and call.values.boolean("exit-code") else 0


def version(call: EngineCall) -> int:
    """Prints the current version, as goose walks its table; with `-no-versioning` the newest file's."""
    if call.values.boolean("no-versioning"):
        call.error_prefix = "failed to collect migrations: "
        migrations = call.load()
        call.log(f"goose: file version {migrations.newest}")
        call.document["file_version"] = migrations.newest
        return 0
    with call.open() as database:
        history = database.read_history()
    selection.require_row(history)
    call.log(f"goose: version {history.current}")
    call.document.update({"current": history.current, "newest": history.newest, "table_exists": history.exists})
    return 0


def history(call: EngineCall) -> int:
    """Tells who applied what, when, how long it took, and from which bundle: one line per applied version, oldest first."""
    with call.open() as database:
        found, accepted = database.read_history(), database.read_accepted()
    entries: list[dict[str, object]] = []
    for version in sorted(found.applied, key=lambda item: (found.newest_rows[item].tstamp, item)):
        row = found.newest_rows[version]
        fact = found.living_facts.get(version)
        entries.append(
            {
                "version": version,
                "applied_at": row.tstamp,
                "name": fact.name if fact else None,
                "applied_by": fact.applied_by if fact else None,
                "seconds": fact.seconds if fact else None,
                "bundle": fact.bundle if fact else None,
                "checksum": fact.checksum if fact else None,
                "run_id": fact.run_id if fact else None,
                "accepted": accepted.get(version) if fact else None,
            }
        )
    call.document["history"] = entries
    if not call.json:
        _print_history(entries)
    return 0


def verify(call: EngineCall) -> int:
    """Checks that the files' checksums are recorded and that everything is as the versions made it.

    Raises VerificationFailed (16) with every problem. Where the database is as it should be, what was wrong around it is raised instead.
    """
    from migrator import verification

    migrations = call.load()
    problem = None
    if call.invocation.observe is not None:
        around = call.invocation.observe()
        call.document.update(around.document)
        for line in around.lines:
            call.own(line)
        problem = around.problem
    with call.open() as database:
        if call.invocation.label:
            call.document["status"] = _show(call, database.read_history(), migrations)
        found = verification.verify(database, migrations, strict=call.values.boolean("strict"), drift_only=call.values.boolean("drift"))
    call.document.update(found.document())
    for line in found.remarks():
        call.own(line)
    found.raise_for_failure()
    call.own(f"verified: version {found.current}, {found.checked} object(s) checked, bundle {found.bundle[:12]}")
    if problem is not None:
        raise problem
    return 0


_ENV_SECONDS = 2.0
"""For connecting: `env` is asked for settings, and a database that can't be reached is no reason to wait."""


def env(call: EngineCall) -> int:
    """Prints the settings in effect as goose does, and warns where others than its owner may write the history. An address is shown without its password;
    for a target, driver, address and directory are the target's. A database that can't be reached, or asked, is told and changes nothing."""
    item = call.invocation
    color = os.environ.get("NO_COLOR", "false") in TRUE
    shown = {
        "GOOSE_DRIVER": item.driver,
        "GOOSE_DBSTRING": redaction.redact(item.dbstring),
        "GOOSE_MIGRATION_DIR": item.directory if item.label else configured(os.environ, "MIGRATION_DIR") or ".",
        "GOOSE_TABLE": configured(os.environ, "TABLE"),
        "NO_COLOR": "true" if color else "false",
    }
    call.document["environment"] = shown
    if not call.json:
        for name, value in shown.items():
            output.out(f"{name}={goquote.quote(value)}\n")
    if item.dbstring and item.driver in verbs.DRIVERS:
        _warn_of_writers(call)
    return 0


def _warn_of_writers(call: EngineCall) -> None:
    try:
        with call.open(connect_timeout=_ENV_SECONDS) as database:
            writers = database.read_writers()
    except GreylagError as error:
        call.own(f"who may write the history is not known: {redaction.redact(error.message, tuple(call.secrets()))} [{error.code}]")
        return
    call.document["writers"] = [{"name": item.name, "may": item.may, "remedy": item.remedy} for item in writers]
    for item in writers:
        call.own(f"warning: {item.name} may write the history: {item.may} [history-writable]\nhint: {item.remedy}")


def _show(call: EngineCall, history: History, migrations: MigrationSet) -> dict[str, object]:
    """Prints goose's status lines and returns the same as JSON-ready data."""
    found = standing.status(history, migrations)
    for line in text.STATUS_HEAD:
        call.log(line)
    for entry in found:
        call.log(text.status_line(text.ansic(entry.applied_at) if entry.applied_at else "Pending", entry.name))
    foreign = sorted(set(history.applied) - {entry.version for entry in found})
    if foreign:
        call.own(f"applied, but not in this directory: {', '.join(map(str, foreign))}")
    facts = history.living_facts
    changed = migrations.changed(facts)
    contradicting = contradictions.find(migrations, history)
    for refusal in contradicting.values():
        call.own(f"warning: {refusal.message} [{refusal.code}]\nhint: {refusal.hint}")
    edited = [version for version in changed if version not in contradicting]
    if edited:
        call.own(f"changed after they were applied: {', '.join(map(str, edited))} [checksum-changed]")
    return {
        "current": history.current,
        "pending": [entry.version for entry in found if entry.applied_at is None],
        "not_in_directory": foreign,
        "changed": list(changed),
        "migrations": [
            {
                "version": entry.version,
                "name": entry.name,
                "state": "applied" if entry.applied_at else "pending",
                "applied_at": entry.applied_at,
                "recorded": entry.version in facts,
            }
            for entry in found
        ],
    }


def _print_history(entries: list[dict[str, object]]) -> None:
    head = ("VERSION", "APPLIED AT", "BY", "TOOK", "BUNDLE", "RUN", "FILE")
    lines = [head]
    for entry in entries:
        known = entry["name"] is not None
        lines.append(
            (
                str(entry["version"]),
                text.ansic(entry["applied_at"]),  # type: ignore[arg-type]
                str(entry["applied_by"]) if known else "(not recorded)",
                durations.format_rounded(float(str(entry["seconds"]))) if known else "-",
                str(entry["bundle"])[:12] if known else "-",
                str(entry["run_id"])[:12] if known else "-",
                str(entry["name"]) if known else "(applied by another tool: `greylag baseline` records it)",
            )
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(head) - 1)]
    reasons = ["", *(f"  (accepted: {entry['accepted']})" if entry["accepted"] else "" for entry in entries)]
    for line, reason in zip(lines, reasons, strict=True):
        cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=False)]
        output.out("  ".join([*cells, line[-1]]) + reason + "\n")
