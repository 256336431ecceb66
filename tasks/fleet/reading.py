"""Reads fleet.yaml: the only module that finds the file, and that reports its faults with file, line and remedy."""

from __future__ import annotations

import difflib
import os
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from pydantic import BaseModel, ValidationError

from migrator import errors
from migrator.address import naming
from tasks.fleet import argocd_section, job_section
from tasks.fleet.job_section import Job
from tasks.fleet.models import Fleet, words_of

DEFAULT_PATH = Path(__file__).resolve().parents[2] / "deployments" / "fleet.yaml"
"""The fleet of this repository, used where GREYLAG_FLEET is not set."""

ENVIRONMENT_VARIABLE = "GREYLAG_FLEET"

KeyPath = tuple[str | int, ...]
"""The path to a value in the file: keys, and positions in lists."""

TEMPLATE_WORDS: dict[KeyPath, set[str]] = {
    ("namespace",): {"environment"},
    ("work_pool",): {"environment"},
    ("vault", "path"): {"environment", "service", "store"},
    **{("job", name): set(job_section.WORDS) for name in job_section.TEMPLATES},
    **{("argocd", name): set(argocd_section.WORDS) for name in argocd_section.TEMPLATES},
}
"""The words that may stand in braces, per template; a service's or an environment's section is known by its last two keys."""

SERVICE_WORDS = {"environment", "service", "store"}
"""The words that may stand in braces of a source of credentials."""


def chosen_path(path: str | Path | None = None) -> Path:
    """Returns the path of the fleet file: the given one, else GREYLAG_FLEET's, else this repository's."""
    return Path(path or os.environ.get(ENVIRONMENT_VARIABLE) or DEFAULT_PATH)


def load(path: str | Path | None = None) -> Fleet:
    """Reads a fleet file; `path` as in `chosen_path`.

    Raises UsageError: `no-fleet` (there is no such file), `bad-fleet` (it can't be understood; with file and line).
    """
    chosen = chosen_path(path)
    try:
        text = chosen.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise errors.UsageError(
            f"{chosen}: the fleet file can't be read: {reason}",
            code="no-fleet",
            hint=f"`greylag init` writes a first one; {ENVIRONMENT_VARIABLE} points at it",
        ) from None
    return parse(text, chosen)


def parse(text: str, path: Path) -> Fleet:
    """Returns the fleet in the text of its file; `path` is named in errors, and directories are relative to its place.

    Raises UsageError (`bad-fleet`).
    """
    document = _document(text, path)
    try:
        fleet = Fleet.model_validate(document).read_from(path)
    except ValidationError as error:
        _refuse(document, path, error)
    for place, message, hint in _contradictions(fleet):
        raise errors.UsageError(message, code="bad-fleet", where=_location(document, place, path), hint=hint)
    return fleet


def service_names() -> tuple[str, ...]:
    """Returns the services' names, for a form's drop-down."""
    return tuple(load().services)


def environment_names() -> tuple[str, ...]:
    """Returns the environments' names in the order of promotion, for a form's drop-down."""
    return tuple(load().environments)


def _document(text: str, path: Path) -> Any:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        document = YAML(typ="rt").load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = errors.Location(str(path), mark.line + 1, mark.column + 1) if mark else errors.Location(str(path))
        reason = (error.problem or "it is not YAML").splitlines()[0]
        raise errors.UsageError(reason, code="bad-fleet", where=where, hint="correct the YAML") from None
    except YAMLError:
        raise errors.UsageError("it is not YAML", code="bad-fleet", where=errors.Location(str(path)), hint="correct the YAML") from None
    if not isinstance(document, Mapping):
        raise errors.UsageError(
            "a fleet is a mapping with `environments` and `services`",
            code="bad-fleet",
            where=errors.Location(str(path), 1),
            hint="`greylag init` writes a first one to start from",
        )
    return document


def _location(document: Any, place: Sequence[str | int], path: Path) -> errors.Location:
    """Returns the line and column of a key or an item. A missing key is located at its nearest parent that exists."""
    line, column, node = 1, 1, document
    for part in place:
        try:
            if isinstance(part, int):
                at = node.lc.item(part)
            else:
                at = node.lc.key(part)
            line, column, node = at[0] + 1, at[1] + 1, node[part]
        except (AttributeError, KeyError, IndexError, TypeError):
            break
    return errors.Location(str(path), line, column)


def _refuse(document: Any, path: Path, error: ValidationError) -> NoReturn:
    """Turns pydantic's findings into one error at the first finding's line; the error's detail lists the others."""
    findings = []
    for item in error.errors(include_url=False, include_input=False):
        place = tuple(part for part in item["loc"] if part != "[key]")
        findings.append((_location(document, place, path), *_worded(item["type"], place, item["msg"])))
    # A misspelt key is reported as unknown and as missing: the first says what to correct.
    findings.sort(key=lambda found: (" lacks " in found[1], found[0].line or 0, found[0].column or 0))
    where, message, hint = findings[0]
    detail = "\n".join(f"{other}: {text}" for other, text, _ in findings[1:])
    raise errors.UsageError(message, code="bad-fleet", where=where, hint=hint, detail=detail) from None


def _worded(kind: str, place: KeyPath, message: str) -> tuple[str, str]:
    name = str(place[-1]) if place else ""
    inside = ".".join(str(part) for part in place[:-1]) or "the file"
    if kind == "extra_forbidden":
        known = _fields_at(place[:-1])
        near = difflib.get_close_matches(name, known, n=1)
        return f'{inside} has no "{name}"', f'did you mean "{near[0]}"?' if near else f"known here: {', '.join(known)}"
    if kind == "missing":
        return f'{inside} lacks "{name}"', f"add `{name}:`"
    if kind in ("tuple_type", "list_type", "frozen_set_type", "set_type"):
        return f"{'.'.join(map(str, place))} is a list", f"write `{name}: [value]`, with as many values as there are"
    return f"{'.'.join(map(str, place))}: {message.removeprefix('Value error, ')}", "correct the value"


def _fields_at(place: KeyPath) -> list[str]:
    """Returns the names that the model at a place in the file has."""
    found: Any = Fleet
    for part in place:
        if isinstance(found, type) and issubclass(found, BaseModel):
            field = found.model_fields.get(str(part))
            found = field.annotation if field else None
        else:
            found = typing.get_args(found)[-1 if typing.get_origin(found) is not tuple else 0] if typing.get_args(found) else None
        while typing.get_origin(found) in (typing.Annotated, types.UnionType):
            found = typing.get_args(found)[0]
    return list(found.model_fields) if isinstance(found, type) and issubclass(found, BaseModel) else []


def _contradictions(fleet: Fleet) -> Iterator[tuple[KeyPath, str, str]]:
    """Yields the faults that no single model can see: (place, message, hint)."""
    yield from _unknown_words(fleet)
    yield from _ambiguous_environments(fleet)
    for name, service in fleet.services.items():
        for index, other in enumerate(service.depends_on):
            if other not in fleet.services:
                near = difflib.get_close_matches(other, list(fleet.services), n=1)
                hint = f'did you mean "{near[0]}"?' if near else f"services: {', '.join(fleet.services)}"
                yield ("services", name, "depends_on", index), f'{name} depends on "{other}", which is not in this file', hint
        for index, command in enumerate(service.after_migrate):
            for place in command.environments:
                if place not in fleet.environments and place not in fleet.aliases:
                    yield (
                        ("services", name, "after_migrate", index),
                        f'there is no environment "{place}"',
                        f"environments: {', '.join(fleet.environments)}",
                    )
    for name in fleet.services:
        if (cycle := _cycle(fleet, name)) is not None:
            yield ("services", name, "depends_on"), f"services depend on each other in a circle: {' -> '.join(cycle)}", "remove one of them"
    yield from _bad_databases(fleet)
    yield from _bad_sources(fleet)


def _bad_sources(fleet: Fleet) -> Iterator[tuple[KeyPath, str, str]]:
    """Yields sources of credentials that don't fit their service, located where the source is written."""
    for name, service in fleet.services.items():
        for place, environment in fleet.environments.items():
            source = fleet.source(name, place)
            if service.credentials is not None:
                at: KeyPath = ("services", name, "credentials")
            else:
                at = ("credentials",) if environment.credentials is None else ("environments", place, "credentials")
            for word in sorted({word for text in source.texts for word in words_of(text)} - SERVICE_WORDS):
                yield (
                    at,
                    f'credentials: "{{{word}}}" means nothing',
                    f"known here: {', '.join(f'{{{item}}}' for item in sorted(SERVICE_WORDS))}",
                )
            for keys, message, hint in source.contradictions(
                name, engine=service.engine, owner_role=service.owner_role, substitute_password=service.substitute_password
            ):
                yield (at if keys is None else ("services", name, *keys)), message, hint


def _unknown_words(fleet: Fleet) -> Iterator[tuple[KeyPath, str, str]]:
    templates: dict[KeyPath, str] = {("namespace",): fleet.namespace, ("work_pool",): fleet.work_pool, ("vault", "path"): fleet.vault.path}
    sections: dict[KeyPath, Job] = {("job",): fleet.job, **{("services", name, "job"): item.job for name, item in fleet.services.items()}}
    templates |= {(*place, name): getattr(section, name) for place, section in sections.items() for name in job_section.TEMPLATES}
    for floor, items in (("environments", fleet.environments), ("services", fleet.services)):
        templates |= {
            (floor, name, "argocd", key): getattr(item.argocd, key) for name, item in items.items() for key in argocd_section.TEMPLATES
        }
    templates |= {("argocd", key): getattr(fleet.argocd, key) for key in argocd_section.TEMPLATES}
    for place, template in templates.items():
        allowed = TEMPLATE_WORDS[place if place in TEMPLATE_WORDS else place[-2:]]
        for word in sorted(words_of(template) - allowed):
            known = ", ".join(f"{{{item}}}" for item in sorted(allowed))
            yield place, f'{".".join(map(str, place))}: "{{{word}}}" means nothing', f"known here: {known}"


def _ambiguous_environments(fleet: Fleet) -> Iterator[tuple[KeyPath, str, str]]:
    seen: dict[str, str] = {name: name for name in fleet.environments}
    suffixes: dict[str, str] = {}
    for name, environment in fleet.environments.items():
        for alias in environment.aliases:
            if seen.setdefault(alias, name) != name:
                yield ("environments", name, "aliases"), f'"{alias}" already means {seen[alias]}', "choose another alias"
        other = suffixes.setdefault(environment.suffix, name)
        if other != name:
            yield (
                ("environments", name, "suffix"),
                f'{name} and {other} both have the suffix "{environment.suffix}": their databases would have the same names',
                "give each environment its own suffix",
            )


def _bad_databases(fleet: Fleet) -> Iterator[tuple[KeyPath, str, str]]:
    for name, service in fleet.services.items():
        for place, environment in fleet.environments.items():
            try:
                naming.database_name(service.database, environment.suffix)
            except errors.UsageError as error:
                at: KeyPath = (
                    ("environments", place, "suffix") if "is not an environment suffix" in error.message else ("services", name, "database")
                )
                yield at, error.message, error.hint


def _cycle(fleet: Fleet, start: str) -> list[str] | None:
    """Returns a path from a service back to itself; None when there is none."""
    waiting = [[start]]
    visited: set[str] = set()
    while waiting:
        path = waiting.pop()
        for name in fleet.services[path[-1]].depends_on:
            if name == start:
                return [*path, start]
            if name in fleet.services and name not in visited:
                visited.add(name)
                waiting.append([*path, name])
    return None
