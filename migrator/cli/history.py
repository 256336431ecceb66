"""`history`: who applied what, when, how long it took, and from which bundle. Reads only."""

from __future__ import annotations

from migrator.cli import output, text
from migrator.cli.session import Session
from migrator.goose import durations


def run(session: Session) -> int:
    """Prints one line per applied version, oldest first, on standard output."""
    with session.open() as database:
        history = database.read_history()
    entries: list[dict[str, object]] = []
    for version in sorted(history.applied, key=lambda item: (history.newest_rows[item].tstamp, item)):
        row = history.newest_rows[version]
        fact = history.living_facts.get(version)
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
            }
        )
    session.document["history"] = entries
    if not session.json:
        _print(entries)
    return 0


def _print(entries: list[dict[str, object]]) -> None:
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
    for line in lines:
        cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=False)]
        output.out("  ".join([*cells, line[-1]]) + "\n")
