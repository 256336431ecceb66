"""What a file is certain to leave in its session, by its commands' own words: for the warnings of `validate` and `plan`.

    SET search_path TO app;                          search_path
    SET search_path TO app; … RESET search_path;     nothing
    CREATE TEMP TABLE stage (a int);                 the temporary table stage

Whether a file *may* leave something is another question, which decides what is taken away in front of the next one (`readings`): there a function is taken to
do anything, here it is taken to do nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from migrator.goose.statements import Statement, masked
from migrator.targets import Engine

_LARGEST = 1 << 20
"""Characters of a statement that is looked at: what is larger is data."""


@dataclass(frozen=True, slots=True)
class Change:
    """Something that lasts.

    Args:
        kind: `setting`, `role`, `temporary`, `prepared`, `cursor` or `channel`.
        name: of the setting or the object, in small letters.
        words: how a person is told: `SET search_path`, `CREATE TEMP TABLE stage`.
        line: of the file, from 1.
        called: whether it is set by set_config(…), whose LOCAL is its last argument.
    """

    kind: str
    name: str
    words: str
    line: int
    called: bool = False


_GAP = r"(?:\s|--[^\n]*\n|/\*.*?\*/)+"
_NAME = r'((?:"(?:[^"]|"")+"|[\w$]+)(?:\s*\.\s*(?:"(?:[^"]|"")+"|[\w$]+))*)'
_HOW = re.IGNORECASE | re.DOTALL
"""Every expression below is compiled with these when the first command comes that it is about: most files have none."""

_SET = rf"set{_GAP}(?:session{_GAP}(?!authorization\b|characteristics\b))?{_NAME}(?:{_GAP}(\w+))?"
_DEFAULT = r"(?:=|\bto\b)\s*default\s*\Z|\brole\s+none\s*\Z|\bauthorization\s+default\s*\Z"
_RESET = rf"(?:reset|deallocate{_GAP}prepare|deallocate|close|unlisten|discard){_GAP}({_NAME}|\*)"
_CALL = r"\bset_config\s*\(\s*'([^']+)'\s*,(?:[^()]|\((?:[^()]|\([^()]*\))*\))*,\s*(?:is_local\s*=>\s*)?(?:false|'f(?:alse)?'|'off'|'no'|'0')\s*\)"
_TEMPORARY = (
    rf"create{_GAP}(?:or{_GAP}replace{_GAP})?(?:(?:global|local){_GAP})?temp(?:orary)?{_GAP}(?:recursive{_GAP})?"
    rf"(table|view|sequence){_GAP}(?:if{_GAP}not{_GAP}exists{_GAP})?{_NAME}"
)
_INTO = rf"\binto{_GAP}temp(?:orary)?{_GAP}(?:table{_GAP})?{_NAME}"
_ON_COMMIT_DROP = r"\bon\s+commit\s+drop\b"
_DROP = rf"drop{_GAP}(?:table|view|sequence){_GAP}(?:if{_GAP}exists{_GAP})?{_NAME}"
_PREPARE = rf"prepare{_GAP}(?!transaction\b){_NAME}"
_HOLD = rf"declare{_GAP}{_NAME}.*?\bwith{_GAP}hold\b"
_LISTEN = rf"listen{_GAP}{_NAME}"

_SPELT = {"time": "timezone", "names": "client_encoding", "schema": "search_path", "xml": "xmloption"}
_ENDED_BY = {
    "RESET": ("setting", "role"),
    "DEALLOCATE": ("prepared",),
    "CLOSE": ("cursor",),
    "UNLISTEN": ("channel",),
    "DISCARD": ("temporary",),
}
_ENDS_ALL = {"RESET": "all", "DEALLOCATE": "all", "CLOSE": "all", "UNLISTEN": "*", "DISCARD": "temp"}


def of(statements: Iterable[Statement]) -> tuple[Change, ...]:
    """Returns what is left when the file ends, in the order in which it was made."""
    left: dict[tuple[str, str], Change] = {}
    for statement in statements:
        if len(statement.text) > _LARGEST:
            continue
        size = len(statement.text)
        for start, behind, words in statement.outline(Engine.POSTGRES).commands:
            command = statement.text[start : size - behind]
            for kind, name in _ended(words[:1], command, left):
                left.pop((kind, name), None)
            for change in _made(words[:1], command, statement.line_of(start)):
                left[change.kind, change.name] = replace(change, words=masked(change.words, statement.substitutions))
    return tuple(left.values())


def relied_on(statements: Sequence[Statement]) -> tuple[Change, int] | None:
    """Returns the first object of the session that a later statement names, and that statement's line: what the one makes is gone for the other where
    a run ends between them."""
    for index, statement in enumerate(statements):
        if len(statement.text) > _LARGEST:
            continue
        size = len(statement.text)
        for start, behind, words in statement.outline(Engine.POSTGRES).commands:
            for change in _made(words[:1], statement.text[start : size - behind], statement.line_of(start)):
                if change.kind not in ("temporary", "prepared", "cursor"):
                    continue
                named = re.compile(rf"(?<![\w$]){re.escape(change.name)}(?![\w$])", re.IGNORECASE)
                for later in statements[index + 1 :]:
                    if len(later.text) <= _LARGEST and named.search(later.text):
                        return replace(change, words=masked(change.words, statement.substitutions)), later.first_line
    return None


def _made(first: tuple[str, ...], command: str, line: int) -> Iterator[Change]:
    word = first[0] if first else ""
    if word == "SET":
        yield from _set(command, line)
    elif word == "CREATE" and (found := re.match(_TEMPORARY, command, _HOW)) and not re.search(_ON_COMMIT_DROP, command, _HOW):
        yield Change("temporary", _plain(found[2]), f"CREATE TEMP {found[1].upper()} {found[2]}", line)
    elif word == "PREPARE" and (found := re.match(_PREPARE, command, _HOW)):
        yield Change("prepared", _plain(found[1]), f"PREPARE {found[1]}", line)
    elif word == "DECLARE" and (found := re.match(_HOLD, command, _HOW)):
        yield Change("cursor", _plain(found[1]), f"DECLARE {found[1]} … WITH HOLD", line)
    elif word == "LISTEN" and (found := re.match(_LISTEN, command, _HOW)):
        yield Change("channel", _plain(found[1]), f"LISTEN {found[1]}", line)
    elif word in ("SELECT", "WITH", "VALUES"):
        for found in re.finditer(_CALL, command, _HOW):
            name = found[1].lower()
            yield Change(
                "role" if name in ("role", "session_authorization") else "setting", name, f"set_config('{found[1]}', …, false)", line, True
            )
        if found := re.search(_INTO, command, _HOW):
            yield Change("temporary", _plain(found[1]), f"SELECT … INTO TEMP {found[1]}", line)


def _set(command: str, line: int) -> Iterator[Change]:
    found = re.match(_SET, command, _HOW)
    if found is None or re.search(_DEFAULT, command.rstrip(), _HOW):
        return
    name, second = _plain(found[1]), (found[2] or "").upper()
    if name in ("local", "transaction", "constraints"):
        return
    if name == "session" and second in ("AUTHORIZATION", "CHARACTERISTICS"):
        kind = "role" if second == "AUTHORIZATION" else "setting"
        yield Change(kind, f"session_{second.lower()}", f"SET SESSION {second}", line)
    elif name == "role":
        yield Change("role", "role", "SET ROLE", line)
    else:
        written = f"SET {found[1]} {second}" if name in ("time", "xml") else f"SET {found[1]}"
        yield Change("setting", _SPELT.get(name, name), written, line)


def _ended(first: tuple[str, ...], command: str, left: dict[tuple[str, str], Change]) -> list[tuple[str, str]]:
    """Returns the keys of what a command ends."""
    word = first[0] if first else ""
    if word == "DROP" and (found := re.match(_DROP, command, _HOW)):
        return [("temporary", _plain(found[1]))]
    if word == "SET":
        if not re.search(_DEFAULT, command.rstrip(), _HOW):
            return []
        return [key for key in left if key[0] in ("setting", "role") and _names(command, key[1])]
    if word not in _ENDED_BY or (found := re.match(_RESET, command, _HOW)) is None:
        return []
    name = found[1].lower()
    if word == "DISCARD" and name == "all":
        return list(left)
    kinds = _ENDED_BY[word]
    if name == _ENDS_ALL[word] or (word == "DISCARD" and name == "temporary"):
        return [key for key in left if key[0] in kinds and key[0] != "role"]
    return [key for key in left if key[0] in kinds and (key[1] == _plain(name) or _names(command, key[1]))]


def _names(command: str, name: str) -> bool:
    words = re.sub(r"\W+", "_", command.lower()).strip("_")
    return f"_{name}" in words.replace("time_zone", "timezone")


def _plain(name: str) -> str:
    """Returns a name as it is compared: its last part, without quotes, in small letters."""
    last = re.findall(r'"(?:[^"]|"")+"|[\w$]+', name)
    whole = (
        name
        if "." in name and not name.startswith('"') and len(last) > 1 and last[0].lower() != "pg_temp"
        else (last[-1] if last else name)
    )
    return whole.strip('"').lower()
