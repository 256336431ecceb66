"""`validate`: checks files without running them, and without a database unless `-against` names some.

goose looks at annotations and at names one by one, and stops at the first error. Here everything is looked at, in both directions:
duplicate versions (on which goose panics at the next `up`), hazards, a Down section without statements, Go files.
"""

import contextlib
import os
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from migrator import databases, errors
from migrator.cli import invocation, output
from migrator.cli.engine_calls import EngineCall
from migrator.cli.findings import ERROR, WARNING, Finding
from migrator.goose import annotations, file_names, goquote, hazards
from migrator.house import examination, sections
from migrator.house_rules import RULES
from migrator.planning import files
from migrator.targets import Engine


@dataclass(frozen=True, slots=True)
class Row:
    """One line of goose's table."""

    kind: str
    transaction: bool
    up: int
    down: int
    name: str


def run(call: EngineCall) -> int:
    """Prints findings, and goose's table with `-v`.

    Raises FileError with goose's message when files have errors (10), PlanRefused when only a database of `-against` stands against them (11).
    """
    calls, later = _beside(call) if call.values.string("against") else ([call], [])
    checked = [_directory(item) for item in {item.invocation.directory: item for item in calls}.values()]
    paths = sum(count for count, _ in checked)
    found = [item for _, items in checked for item in items]
    call.document["files"] = paths
    call.document["findings"] = [item.document() for item in (*found, *later)]
    for item in (*found, *later):
        place = f"{item.path}:{item.line}" if item.line else item.path
        call.own(f"{item.level}: {place}: {item.message} [{item.code}]\nhint: {item.hint}")
    problems = [item for item in (*found, *later) if item.level == ERROR]
    if not problems:
        return 0
    of_files = [item for item in found if item.level == ERROR and item.code not in RULES]
    first = next((item for item in of_files if item.goose), (of_files or problems)[0])
    raise (errors.FileError if of_files else errors.PlanRefused)(
        first.goose or first.message,
        code=_code(first, of_files=bool(of_files)),
        where=errors.Location(first.path, first.line),
        hint=f"{len(problems)} error(s) in {paths} file(s), all listed above",
    )


def _code(first: Finding, *, of_files: bool) -> str:
    if first.code in RULES:
        return "house-rule"
    return "lossy-hazard" if of_files and errors.CODES[first.code].exit_code is errors.ExitCode.REFUSED else first.code


def _beside(call: EngineCall) -> tuple[list[EngineCall], list[Finding]]:
    """Returns a call for each of `-against`'s databases, and what was found in those."""
    from migrator.cli import against

    calls: list[EngineCall] = []
    found: list[Finding] = []
    for beside, items in against.find(call):
        calls.append(beside)
        found += items
        call.document.setdefault("against", []).append(beside.invocation.label)  # type: ignore[attr-defined]
    return calls, found


def _directory(call: EngineCall) -> tuple[int, list[Finding]]:
    """Returns the number of files and the findings of one directory; prints goose's table with `-v`."""
    paths = _paths(call.invocation.directory)
    rows: list[Row] = []
    found = list(_duplicates(paths))
    sources = _sources(paths)
    engine = _engine(call, sources)
    for path in paths:
        row, more = _check(path, engine)
        rows += [row] if row else []
        found += more
    if call.rules.on:
        if "H04" in call.rules.on:
            found = [item for item in found if item.code != "missing-down"]
        found += _house_rules(call, sources, engine)
    if call.values.boolean("v") and not call.json and not any(item.goose for item in found):
        output.out(_table(rows))
    return len(paths), found


def _house_rules(call: EngineCall, sources: list[sections.Source], engine: Engine) -> list[Finding]:
    """Returns what stands against the house rules."""
    return [
        Finding(ERROR if item.rule.id in call.rules.refused else WARNING, item.rule.id, item.path, item.line, item.text, item.hint)
        for item in databases.examine_files(sources, engine, call.rules)
    ]


def _sources(paths: list[str]) -> list[sections.Source]:
    """Returns the files that can be read, in the order in which they are applied."""
    readable: list[tuple[int, sections.Source]] = []
    for path in paths:
        with contextlib.suppress(ValueError, OSError):  # both are findings of their own
            if path.endswith(".sql"):
                readable.append((file_names.version_of(posixpath.basename(path)), sections.Source(path, Path(path).read_bytes())))
    return [source for _, source in sorted(readable)]


def _engine(call: EngineCall, sources: list[sections.Source]) -> Engine:
    """Returns the engine that the files are written for: the driver's, else the one whose words they use."""
    driver = call.invocation.driver or invocation.configured(os.environ, "DRIVER")
    if driver:
        return Engine.CLICKHOUSE if driver == "clickhouse" else Engine.POSTGRES
    return examination.engine_of(sources)


def _paths(given: str) -> list[str]:
    """Returns the files that goose looks at: of a directory its `.sql` and `.go` files, by path; a file is taken as it is."""
    if Path(given).is_file():
        return [given]
    try:
        names = os.listdir(given)  # noqa: PTH208
    except OSError as error:
        raise errors.FileError(
            f"stat {given}: {(error.strerror or '').lower()}", code="missing-directory", where=errors.Location(given), hint="check -dir"
        ) from None
    return sorted(posixpath.normpath(posixpath.join(given, name)) for name in names if name.endswith((".sql", ".go")))


def _duplicates(paths: list[str]) -> Iterator[Finding]:
    seen: dict[int, str] = {}
    for path in paths:
        name = posixpath.basename(path)
        try:
            version = file_names.version_of(name)
        except ValueError:
            continue
        if name.endswith("_test.go"):
            continue
        if version in seen:
            message = f"version {version} is also the version of {seen[version]}"
            yield Finding(ERROR, "duplicate-version", path, None, message, "give the newer of the two a version of its own")
        seen.setdefault(version, path)


def _check(path: str, engine: Engine) -> tuple[Row | None, list[Finding]]:
    name = posixpath.basename(path)
    try:
        file_names.version_of(name)
    except ValueError as error:
        if name.endswith(".go"):
            return None, []  # goose takes it for a helper
        goose = f"failed to get version from file {goquote.quote(path)}: {error}"
        return None, [Finding(ERROR, "bad-file-name", path, None, str(error), "name it VERSION_name.sql with a version above 0", goose)]
    if name.endswith(".go"):
        return None, [Finding(WARNING, "go-migration", path, None, "greylag runs SQL only", "port it to SQL, or apply it with goose")]
    return _check_sql(path, name, engine)


def _check_sql(path: str, name: str, engine: Engine) -> tuple[Row | None, list[Finding]]:
    found: dict[tuple[str, int], Finding] = {}
    counts: dict[str, int] = {}
    transaction = True
    for direction in ("up", "down"):
        try:
            parsed = annotations.parse(Path(path).read_bytes(), direction, path=path)
        except OSError as error:
            goose = files.failure(path, error)
            if isinstance(error, IsADirectoryError):
                goose = f"failed to parse file {goquote.quote(path)}: {goose}"
            hint = "migrations are files that may be read: correct it, or move it out of the directory"
            return None, [Finding(ERROR, "unreadable-file", path, None, error.strerror or "can't be read", hint, goose)]
        except errors.GreylagError as error:
            goose = f"failed to parse file {goquote.quote(path)}: {error.message}"
            line = error.where.line if error.where else None
            return None, [Finding(ERROR, error.code, path, line, error.message, error.hint, goose)]
        counts[direction] = len(parsed.statements)
        transaction = parsed.use_transaction
        for hazard in parsed.hazards:
            level = ERROR if hazard.kind is hazards.HazardKind.LOSSY else WARNING
            found.setdefault((hazard.code, hazard.line), Finding(level, hazard.code, path, hazard.line, hazard.message, hazard.hint))
        if transaction and engine is Engine.POSTGRES:
            for line, message, hint in databases.set_without_local(parsed.statements):
                found.setdefault(("set-without-local", line), Finding(WARNING, "set-without-local", path, line, message, hint))
    findings = sorted(found.values(), key=lambda item: item.line or 0)
    if counts["up"] and not counts["down"]:
        hint = "write what takes the change back; if nothing can, say so in a comment under `-- +goose Down`"
        findings.append(Finding(WARNING, "missing-down", path, None, "no statement takes this migration back", hint))
    return Row("sql", transaction, counts["up"], counts["down"], name), findings


def _table(rows: list[Row]) -> str:
    """goose's table: columns padded to their widest cell and three blanks, as Go's tabwriter sets them."""
    cells = [["Type", "Txn", "Up", "Down", "Name"], ["────", "───", "──", "────", "────"]]
    cells += [[row.kind, "✔" if row.transaction else "✘", str(row.up), str(row.down), row.name] for row in rows]
    widths = [max(len(line[column]) for line in cells) + 3 for column in range(5)]
    return "".join("".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + "\n" for line in cells)
