"""`repair`: answers what only a person can answer. Writes to greylag's own tables, executes nothing of a file."""

from __future__ import annotations

from dataclasses import replace

from migrator import databases, errors
from migrator.cli import baseline, migrating
from migrator.cli.engine_calls import EngineCall
from migrator.planning import contradictions
from migrator.planning.history import Fact, History


def run(call: EngineCall) -> int:
    """Records the answers. Raises UsageError without an option, FileError and NotFound for a version that is not there."""
    answers = [(*_place(word), True) for word in call.values.strings("done")]
    answers += [(*_place(word), False) for word in call.values.strings("not-done")]
    twice = {answer[:2] for answer in answers if (*answer[:2], not answer[2]) in answers}
    if twice:
        version, index = min(twice)
        raise errors.UsageError(
            f"statement {index} of version {version} can't be both done and not done", hint="keep the one that is true: -done or -not-done"
        )
    checksums = [migrating.parse_version(word) for word in call.values.strings("checksum")]
    renamed = [_numbers(word) for word in call.values.strings("renamed")]
    if not answers and not checksums and not renamed:
        raise errors.UsageError(
            "repair needs to know what to repair",
            hint="-done VERSION:INDEX or -not-done VERSION:INDEX answers a question (exit code 15); "
            "-checksum VERSION records a harmless change of a file, -renamed OLD:NEW an applied file's new number",
        )
    with call.open() as database, database.lock(call.listen):
        for version, index, done in answers:
            database.answer(version, index, done=done)
            call.own(f"version {version} statement {index}: recorded as {'done' if done else 'not done'}")
        for old, new in renamed:
            fact = _renumbered(call, database.read_history(), old, new)
            database.renumber(old, fact)
            call.own(f"version {old}: recorded as version {new} ({fact.name}), nothing was executed")
        facts = _facts(call, database, checksums) if checksums else []
        database.record_facts(facts)
        for fact in facts:
            call.own(f"version {fact.version}: the present content of {fact.name} counts as applied (sha256 {fact.checksum[:12]})")
    call.document["answered"] = [{"version": version, "statement": index, "done": done} for version, index, done in answers]
    call.document["checksums"] = [{"version": fact.version, "checksum": fact.checksum} for fact in facts]
    call.document["renamed"] = [{"from": old, "to": new} for old, new in renamed]
    return 0


def _numbers(word: str) -> tuple[int, int]:
    old, colon, new = word.partition(":")
    if not (
        colon
        and all(part.isascii() and part.isdigit() and len(part) < 20 and int(part) > 0 for part in (old, new))
        and int(old) != int(new)
    ):
        raise errors.UsageError(f'"{word}" is not OLD:NEW', hint="for example 20260301120000:20260302090000 for a file that was renamed so")
    return int(old), int(new)


def _renumbered(call: EngineCall, history: History, old: int, new: int) -> Fact:
    """Returns the fact of the applied version under its new number. Raises unless the new file has the very content that was applied as the old version."""
    migrations = call.load()
    file = migrations.by_version(new)
    if file is None:
        raise errors.UsageError(f"no file has the version {new}", code="unknown-version", hint="check -dir and the number")
    fact = history.living_facts.get(old) if old in history.applied else None
    if fact is None:
        raise errors.NotFound(
            f"no file is recorded as applied for version {old}",
            code="not-applied",
            hint="`greylag DRIVER DBSTRING history` tells what is recorded",
        )
    if not file.has(fact.checksum):
        raise errors.PlanRefused(
            f"{file.name} is not what was applied as version {old} ({fact.name})",
            code="checksum-changed",
            where=errors.Location(file.path),
            hint="restore its content first; a change belongs into a new migration",
        )
    beside = migrations.by_version(old)
    if beside is not None and not contradictions.is_taken(beside, fact):
        raise errors.PlanRefused(
            f"{beside.name} is still there: {file.name} is a copy of it, not the renamed file",
            code="plan-refused",
            where=errors.Location(beside.path),
            hint=f"delete the one that is not meant; beside {beside.name}, `up` applies {file.name} as a migration of its own",
        )
    present = history.living_facts.get(new)
    if new in history.versions and (present is None or not file.has(present.checksum)):
        raise errors.PlanRefused(
            f"version {new} has a row in {history.table} already",
            code="version-taken",
            where=errors.Location(file.path),
            hint="give the file a number that the database does not know",
        )
    return replace(
        fact, version=new, name=file.name, checksum=file.checksum(), size=file.size, down_text=b"" if file.kind == "go" else file.read()
    )


def _place(word: str) -> tuple[int, int]:
    version, colon, index = word.partition(":")
    if not (colon and all(part.isascii() and part.isdigit() for part in (version, index)) and int(index) > 0):
        raise errors.UsageError(f'"{word}" is not VERSION:INDEX', hint="for example 20260301120000:3 for the third statement of that file")
    return int(version), int(index)


def _facts(call: EngineCall, database: databases.Database, versions: list[int]) -> list[Fact]:
    migrations = call.load()
    history = database.read_history()
    found = []
    for version in versions:
        file = migrations.by_version(version)
        if file is None:
            raise errors.UsageError(f"no file has the version {version}", code="unknown-version", hint="check -dir and the number")
        if version not in history.applied:
            raise errors.NotFound(
                f"version {version} is not applied, so no checksum is recorded", code="not-applied", hint="`up` applies and records it"
            )
        fact = history.living_facts.get(version)
        if fact is not None and contradictions.is_taken(file, fact):  # the record would make the file count as applied for ever
            raise contradictions.taken(file, fact, history)
        present = baseline.fact_of(history, file, migrations.digest(), databases.default_actor())
        found.append(_kept(present, history, version))
    return found


def _kept(present: Fact, history: History, version: int) -> Fact:
    """Keeps who applied the version, when, in which run, from which bundle: that stays what it was, only the content is another."""
    earlier = history.living_facts.get(version)
    if earlier is None:
        return present
    return replace(
        present,
        bundle=earlier.bundle,
        run_id=earlier.run_id,
        applied_by=earlier.applied_by,
        applied_at=earlier.applied_at,
        seconds=earlier.seconds,
    )
