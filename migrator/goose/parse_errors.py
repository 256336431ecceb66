"""The errors of splitting: goose's messages, byte for byte, plus the place and what to write, which goose does not say.

States print as goose prints them (goose.md §2.3). Messages quote the file's own text; only `splitting` with `reveal` passes expanded text.
"""

from __future__ import annotations

import re

from migrator import errors
from migrator.goose import gounicode, psql
from migrator.goose.goquote import quote

SEE = "see https://github.com/pressly/goose#sql-migrations"
ANNOTATIONS = ("Up", "Down", "StatementBegin", "StatementEnd", "NO TRANSACTION", "ENVSUB ON", "ENVSUB OFF")

_BOM = b"\xef\xbb\xbf"


def _error(message: str, code: str, where: errors.Location, hint: str) -> errors.ParseError:
    return errors.ParseError(message, code=code, where=where, hint=hint)


def bad_annotation(line: bytes, why: str, where: errors.Location) -> errors.ParseError:
    """Returns the error for a comment line that mentions +goose and is none of the seven annotations."""
    if "leading whitespace" in why:
        hint = "begin the line with --, without spaces or tabs before it"
    elif "multiple" in why:
        hint = "write one annotation a line"
    else:
        hint = f"write one of {', '.join('`-- +goose ' + name + '`' for name in ANNOTATIONS)} and nothing else on the line"
        hint += "; a comment that only speaks of it must not hold the text `+goose`"
    return _error(f"failed to parse annotation line {quote(line)}: {why}", "bad-annotation", where, hint)


def second_up(state: int, where: errors.Location) -> errors.ParseError:
    return _error(
        f"duplicate '-- +goose Up' annotations; stateMachine={state}, {SEE}",
        "duplicate-up",
        where,
        "a file has one Up section, at its beginning: delete this line",
    )


def misplaced_down(state: int, where: errors.Location) -> errors.ParseError:
    if state == 0:
        hint = "put `-- +goose Up` before it"
    elif state in (2, 5):
        hint = "put `-- +goose StatementEnd` before it: a StatementBegin is still open"
    else:
        hint = "a file has one Down section: delete this line"
    return _error(f"must start with '-- +goose Up' annotation, stateMachine={state}, {SEE}", "misplaced-down", where, hint)


def misplaced_begin(state: int, where: errors.Location) -> errors.ParseError:
    hint = "put `-- +goose Up` before it" if state == 0 else "put `-- +goose StatementEnd` before it: a StatementBegin is still open"
    return _error(
        f"'-- +goose StatementBegin' must be defined after '-- +goose Up' or '-- +goose Down' annotation, stateMachine={state}, {SEE}",
        "misplaced-statement-begin",
        where,
        hint,
    )


def misplaced_end(where: errors.Location) -> errors.ParseError:
    return _error(
        f"'-- +goose StatementEnd' must be defined after '-- +goose StatementBegin', {SEE}",
        "misplaced-statement-end",
        where,
        "put `-- +goose StatementBegin` before the statement that ends here, or delete this line",
    )


def no_up(where: errors.Location) -> errors.ParseError:
    return _error(
        f"failed to parse migration: must start with '-- +goose Up' annotation, {SEE}",
        "no-up-annotation",
        where,
        "write `-- +goose Up` (in this spelling: `+goose` in lower case) before the first statement",
    )


def text_before_up(line: str, raw: bytes, where: errors.Location) -> errors.ParseError:
    """Returns the error for text before Up: `line` is the text that goose quotes; `raw` is the line as the file has it."""
    if raw.startswith(_BOM):
        hint = "the file begins with a byte order mark: save it as UTF-8 without BOM"
    elif b"\0" in raw:
        hint = "the file seems to be UTF-16: save it as UTF-8 without BOM"
    else:
        hint = "write `-- +goose Up` above this line; only `--` comments may stand before it"
    return _error(f"failed to parse migration: unexpected state 0 on line {quote(line)}, {SEE}", "text-before-up", where, hint)


def no_statement_end(begun: errors.Location) -> errors.ParseError:
    return _error(
        "failed to parse migration: missing '-- +goose StatementEnd' annotation",
        "missing-statement-end",
        begun,
        "write `-- +goose StatementEnd` after the statement that begins here",
    )


def line_too_long(where: errors.Location) -> errors.ParseError:
    return _error(
        "failed to scan migration: bufio.Scanner: token too long",
        "line-too-long",
        where,
        "goose reads lines of up to 4194303 bytes: break the line",
    )


def substitution_failed(why: str, line: bytes, where: errors.Location) -> errors.ParseError:
    if why.startswith("$"):
        name = why[1:].partition(":")[0]
        hint = f"set {name} in the environment or in .env, or write ${{{name}:-default}}"
    else:
        hint = "write $$ for a dollar sign, or put `-- +goose ENVSUB OFF` before this line and `-- +goose ENVSUB ON` after it"
    return _error(f"variable substitution failed: {why}:\n{gounicode.decode(line)}", "substitution-failed", where, hint)


def unfinished(state: int, direction: str, shown: str, source: str, where: errors.Location) -> errors.ParseError:
    """Returns the error for a statement without a semicolon: `shown` is the text that goose quotes, `source` the file's own text, which begins at `where`."""
    message = f"failed to parse migration: state {state}, direction: {direction}: unexpected unfinished SQL query: {quote(shown)}: missing semicolon?"
    return _error(message, "missing-semicolon", where, _unfinished_hint(source, where.line or 1))


_HIDDEN = (
    (re.compile(r";--"), "goose takes `;--` for one word and misses the semicolon in line {line}: put a space before the comment"),
    (
        re.compile(r";[ \t]*(?:/\*|#)"),
        "goose sees a semicolon only at the end of a line or before a `--` comment: move the comment behind the one in line {line} away",
    ),
    (
        re.compile(r"(?<!\S)--[^\n]*;[ \t]*$", re.MULTILINE),
        "goose takes ` --` in line {line} for a comment even inside a string, and misses the semicolon behind it: "
        "put `-- +goose StatementBegin` before and `-- +goose StatementEnd` after the statement",
    ),
)


def _unfinished_hint(source: str, first_line: int) -> str:
    lines = source.split("\n")
    if all(line.strip() == "" or line.lstrip().startswith("--") for line in lines):
        return (
            f"goose takes a line that holds only spaces for the beginning of a statement: empty the line of spaces before line {first_line}, "
            "or delete the comments after it"
        )
    if source.startswith("/*") and source.endswith("*/") and source.count("/*") == 1:
        return "goose takes a block comment for the beginning of a statement: write it with `--`, or move it before a statement"
    meta_command = psql.find(source)
    if meta_command is not None:
        line = first_line + source.count("\n", 0, meta_command.offset)
        return f"{meta_command.name} in line {line} is a psql meta-command, not SQL: {meta_command.hint}"
    statement_lines = [index for index, line in enumerate(lines) if not line.lstrip().startswith("--")]
    for pattern, hint in _HIDDEN:
        for index in reversed(statement_lines):
            if pattern.search(lines[index]):
                return hint.format(line=first_line + index)
    return f"end the statement of line {first_line} with a semicolon, as the last character of its line"
