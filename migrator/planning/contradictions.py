"""Finds what a history and a directory say that can't both be true: two files of one version, an applied file under another
number, an empty place while another schema has the history (pure).

A file is known by the checksum that was recorded when it ran. Only facts that were recorded count: of a version that goose applied nothing is known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from migrator import errors

if TYPE_CHECKING:
    from migrator.planning import files
    from migrator.planning.history import Elsewhere, Fact, History

TAKEN = "version-taken"
RENAMED = "file-renamed"
ELSEWHERE = "history-elsewhere"


def find(migrations: files.MigrationSet, history: History) -> dict[int, errors.PlanRefused]:
    """Returns the refusal of each file that contradicts the history, by the file's version; 0 stands for all files. Reads contents only of files whose
    name is not the recorded one and, while an applied version has no file here, of pending ones.

    Raises FileError when such a file can't be read.
    """
    found: dict[int, errors.PlanRefused] = {}
    if not history.exists:
        theirs = next((item for item in history.elsewhere if item.versions and not _is_of_others(migrations, item)), None)
        return {0: _moved(history, theirs)} if theirs else {}
    homeless = {version: fact for version, fact in history.living_facts.items() if version in history.applied}
    for file in migrations.migrations:
        fact = homeless.get(file.version)
        if fact is None:
            continue
        if is_taken(file, fact):
            found[file.version] = taken(file, fact, history)
        else:
            del homeless[file.version]
    if homeless:
        for file in migrations.migrations:
            if file.version not in history.versions and (fact := _origin(file, homeless)) is not None:
                found[file.version] = _renamed(file, fact)
    return found


def require_none(migrations: files.MigrationSet, history: History) -> None:
    """Raises PlanRefused (`version-taken`, `file-renamed`, `history-elsewhere`) for the first file that contradicts the history."""
    for refusal in find(migrations, history).values():
        raise refusal


def is_taken(file: files.MigrationFile, fact: Fact) -> bool:
    """Tells whether a version was applied from another file than the one that has its number here: another name and another content. A file of the same
    name has only changed, and one of the same content is only called otherwise."""
    return _description(file.name) != _description(fact.name) and not file.has(fact.checksum)


def taken(file: files.MigrationFile, fact: Fact, history: History) -> errors.PlanRefused:
    """Returns the refusal of a file whose version was applied from another file."""
    origin = _origin(file, history.living_facts)
    if origin is not None:
        return errors.PlanRefused(
            f"version {file.version} was applied from {fact.name}; {file.name} is what was applied as version {origin.version} ({origin.name})",
            code=TAKEN,
            where=errors.Location(file.path),
            hint=f"rename {file.name} back to {origin.name}, and bring {fact.name} back",
        )
    return errors.PlanRefused(
        f"version {file.version} was applied from {fact.name}; {file.name} never ran: give it a new number",
        code=TAKEN,
        where=errors.Location(file.path),
        hint=f"rename {file.name} to a version of its own, and bring {fact.name} back beside it; two services on one database need a version table each "
        f"(-table). If it is {fact.name} itself, renamed and changed, rename it back first",
    )


def _is_of_others(migrations: files.MigrationSet, elsewhere: Elsewhere) -> bool:
    """Tells whether what was recorded there proves that other files were applied than these: two services may share a database, each with its schema. What
    goose applied proves nothing."""
    if not elsewhere.versions <= elsewhere.checksums.keys():
        return False
    return not any(file.version in elsewhere.versions and file.has(elsewhere.checksums[file.version]) for file in migrations.migrations)


def _moved(history: History, elsewhere: Elsewhere) -> errors.PlanRefused:
    return errors.PlanRefused(
        f"there is no {history.table} in the search path, and {elsewhere.table} has {len(elsewhere.versions)} applied version(s) up to "
        f"{max(elsewhere.versions)}: all files would be applied again",
        code=ELSEWHERE,
        hint=f"-table {elsewhere.table} (GOOSE_TABLE) names it, or correct the search_path of the address, the role or the database; if a second history is "
        f"meant, name its place: -table SCHEMA.{history.table}",
    )


def _renamed(file: files.MigrationFile, fact: Fact) -> errors.PlanRefused:
    return errors.PlanRefused(
        f"{file.name} was applied already, as version {fact.version} ({fact.name}): as version {file.version} it would run again",
        code=RENAMED,
        where=errors.Location(file.path),
        hint=f"rename it back to {fact.name}; or, if the new number is meant, `greylag DRIVER DBSTRING repair -renamed {fact.version}:{file.version}` "
        "records it and executes nothing. If the same text is to run a second time, bring the old file back, too, or put a comment into the new one",
    )


def _origin(file: files.MigrationFile, facts: dict[int, Fact]) -> Fact | None:
    """Returns the fact of another version that was applied from this very content."""
    return next((fact for version, fact in sorted(facts.items()) if version != file.version and file.has(fact.checksum)), None)


def _description(name: str) -> str:
    """Returns a file's name without its number, which may be written with or without zeros, and without `.sql` or `.go`: a Go migration may be ported."""
    return name.partition("_")[2].rpartition(".")[0]
