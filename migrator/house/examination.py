"""Files -> findings, by path and line. Raises nothing: a file that can't be read is refused by those who need it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from typing import Protocol

from migrator import errors
from migrator.house.sections import File, Found, Section, Source, read
from migrator.house_rules import RULES, Rule, Settings
from migrator.planning.plans import Plan
from migrator.targets import Direction, Engine

_CLICKHOUSE = re.compile(
    rb"\bENGINE\s*=|\bON\s+CLUSTER\b|\bMergeTree\b|\bLowCardinality\s*\(|\bDateTime64\s*\(|\bMODIFY\s+(?:TTL|COLUMN|SETTING)\b|\bCREATE\s+DICTIONARY\b",
    re.IGNORECASE,
)
_DEFINES = re.compile(rb"\bcreate\b[^;]{0,200}?\b(?:function|procedure|extension)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding; `line` is None where the whole file is meant."""

    rule: Rule
    path: str
    line: int | None
    message: str

    @property
    def place(self) -> str:
        """Returns path and line."""
        return f"{self.path}:{self.line}" if self.line else self.path

    @property
    def text(self) -> str:
        """Returns the message with the rule's name."""
        return f"{self.message} ({self.rule.name})"

    @property
    def hint(self) -> str:
        """Returns what to write instead, or how to except the file."""
        return f"{self.rule.hint}; where it is meant so: `-- greylag: ignore {self.rule.id} REASON`"


class Language(Protocol):
    """What an engine knows of its statements."""

    def check(self, section: Section) -> Iterator[Found]:
        """Yields what one statement has against the rules, except for the order of functions."""

    def functions_made(self, text: str) -> Iterator[str]:
        """Yields the names of the functions that a statement creates."""

    def calls(self, text: str, names: Set[str]) -> Iterator[tuple[str, int]]:
        """Yields which of these functions a statement calls while it is executed, and where (characters from 0)."""


def engine_of(sources: Sequence[Source]) -> Engine:
    """Returns the engine that a directory's files are written for, by ClickHouse's own words: `validate` has no database to ask."""
    return Engine.CLICKHOUSE if any(_CLICKHOUSE.search(source.data) for source in sources) else Engine.POSTGRES


def examine(
    sources: Iterable[Source], language: Language, settings: Settings, *, before: Callable[[], Iterable[bytes]] = tuple
) -> tuple[Finding, ...]:
    """Checks files in the order in which they are applied.

    Args:
        language: the engine's room `house`.
        settings: which rules are on.
        before: the texts of files that are applied already, which may have created functions; asked for only where that matters.
    """
    if not settings.on:
        return ()
    files = [file for source in sources if (file := read(source))]
    calls = _early_calls(files, language, before) if "H07" in settings.on else {}
    return tuple(
        finding
        for file in files
        for finding in _of_file(file, language, calls.get(file.path, []))
        if finding.rule.id in settings.on and finding.rule.id not in {item.rule for item in file.up.notes.ignored}
    )


def examine_plan(plan: Plan, language: Language, settings: Settings) -> tuple[Finding, ...]:
    """Checks the files of a plan's upward steps."""
    steps = [step for step in plan.steps if step.direction is Direction.UP]
    pending = {step.version for step in steps}

    def applied() -> Iterator[bytes]:
        for file in plan.migrations.migrations:
            if file.version not in pending and file.kind != "go":
                try:
                    text = file.read()
                except errors.FileError:  # an applied file that can't be read any more creates nothing
                    continue
                if _DEFINES.search(text):
                    yield text

    return examine((Source(step.path, step.down_text) for step in steps), language, settings, before=applied)


def _of_file(file: File, language: Language, calls: list[tuple[Section, Found]]) -> Iterator[Finding]:
    located = [(section, item) for section in file.sections() for item in (*language.check(section), *(section.fallbacks()))]
    said: set[tuple[str, int, str]] = set()
    for section, item in sorted([*located, *calls], key=lambda pair: (pair[0].direction is Direction.DOWN, _line(*pair), pair[1].rule)):
        key = (item.rule, _line(section, item), item.message)
        if key not in said:
            said.add(key)
            yield Finding(RULES[item.rule], file.path, _line(section, item), item.message)
    if file.up.statements and not file.down.statements:
        yield Finding(RULES["H04"], file.path, None, "no statement takes this migration back")


def _line(section: Section, item: Found) -> int:
    return section.statement.line_of(item.offset)


def _early_calls(files: list[File], language: Language, before: Callable[[], Iterable[bytes]]) -> dict[str, list[tuple[Section, Found]]]:
    """Returns by path the calls of functions that only a later statement creates."""
    statements = [(file, section) for file in files for section in file.sections() if section.direction is Direction.UP]
    made = [frozenset(language.functions_made(section.statement.text)) for _, section in statements]
    missing: set[str] = set().union(*made)
    found: list[tuple[str, Section, Found, str]] = []
    for (file, section), new in zip(statements, made, strict=True):
        missing -= new  # a function may call itself
        found += [
            (file.path, section, Found("H07", offset, f"{name}() is called before it is created"), name)
            for name, offset in (language.calls(section.statement.text, missing) if missing else ())
        ]
    if not found:
        return {}
    known = {
        name
        for text in before()
        if (applied := read(Source("", text)))
        for statement in applied.up.statements
        for name in language.functions_made(statement.text)
    }
    calls: dict[str, list[tuple[Section, Found]]] = {}
    for path, section, item, name in found:
        if name not in known:
            calls.setdefault(path, []).append((section, item))
    return calls
