"""Hazards: the places where goose's splitting silently changes what a file means (goose.md §2.4, §2.5).

*Lossy*: goose drops text; or the server would reject what goose sends, though the file as a whole may be right; or a transactional file ends its own
transaction and more commands follow, or rolls it back. *Merged*: goose sends two commands as one statement, and the server executes both;
or a file's own COMMIT is its last command, so that only the history row is written outside of the transaction. Verdicts differ by engine: PostgreSQL
executes several commands in one message, ClickHouse refuses them; PostgreSQL accepts an empty statement, ClickHouse does not. A file that goose
applies faithfully is never lossy. What the server is certain to refuse by itself (VACUUM in a transaction, psql's meta-commands) is a warning, too: it is
said before anything runs, and the server decides.
"""

from __future__ import annotations

import enum
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from migrator.goose import gounicode, lexer, psql, transactions
from migrator.goose.statements import Statement, masked
from migrator.targets import Engine


class HazardKind(enum.StrEnum):
    """LOSSY stops a plan, MERGED is a warning."""

    LOSSY = "lossy"
    MERGED = "merged"


@dataclass(frozen=True, slots=True)
class Hazard:
    """One finding: a stable code, what happens and why, the line of the file, and what to write instead."""

    kind: HazardKind
    code: str
    message: str
    line: int
    hint: str


class Cause(enum.Enum):
    """The reason why goose left a line out."""

    EMPTY_BLOCK = "empty StatementBegin/StatementEnd block"
    CARRIAGE_RETURN = "carriage return inside a comment line"


@dataclass(frozen=True, slots=True)
class Dropped:
    """A line that goose left out. `index` is the empty statement sent in its place (-1: none), `begun` the line of the empty block."""

    cause: Cause
    line: int
    text: str
    index: int = -1
    begun: int = 0


@dataclass(slots=True)
class Trace:
    """The splitter's observations that the statements do not show.

    Args:
        blocks: indexes of the statements that a StatementEnd ended.
        glued: index of a statement that was unfinished at a StatementBegin -> line of that StatementBegin.
        dropped: lines left out.
    """

    blocks: set[int] = field(default_factory=set)
    glued: dict[int, int] = field(default_factory=dict)
    dropped: list[Dropped] = field(default_factory=list)


_BLOCK_HINT = "put `-- +goose StatementBegin` on a line before line {first} and `-- +goose StatementEnd` on a line after line {last}"
_ESCAPES_OFF = re.compile(r"standard_conforming_strings\W+(?:to\s+|is_local\s+)?\W*(?:off|false|0|no)\b", re.IGNORECASE)
_BLOCK = ("several-commands", "", "give every command a StatementBegin/StatementEnd block of its own, or none")
_NAMES = {Engine.POSTGRES: "PostgreSQL", Engine.CLICKHOUSE: "ClickHouse"}
_ENDS_TRANSACTION = frozenset({"COMMIT", "END", "ROLLBACK", "ABORT"})


def find(statements: Sequence[Statement], trace: Trace, engine: Engine, *, use_transaction: bool) -> tuple[Hazard, ...]:
    """Returns the hazards of one direction of one file on one engine, by line.

    Args:
        statements: as goose sends them.
        trace: the splitter's further observations.
        engine: the engine whose rules decide.
        use_transaction: False under NO TRANSACTION.
    """
    found = [*_dropped(trace, engine), *_Reading(statements, trace, engine, use_transaction).hazards()]
    return tuple(sorted(found, key=lambda hazard: hazard.line))


def find_on_any(statements: Sequence[Statement], trace: Trace, *, use_transaction: bool) -> tuple[Hazard, ...]:
    """Returns the hazards when the engine is unknown: those that are lossy on both engines are lossy; those that one engine accepts are merged."""
    on_postgres, on_clickhouse = (find(statements, trace, engine, use_transaction=use_transaction) for engine in Engine)
    both = {(hazard.code, hazard.line) for hazard in on_postgres if hazard.kind is HazardKind.LOSSY} & {
        (hazard.code, hazard.line) for hazard in on_clickhouse if hazard.kind is HazardKind.LOSSY
    }
    merged: dict[tuple[str, int], Hazard] = {}
    for hazard in (*on_postgres, *on_clickhouse):
        key = (hazard.code, hazard.line)
        merged.setdefault(key, hazard if key in both else replace(hazard, kind=HazardKind.MERGED))
    return tuple(sorted(merged.values(), key=lambda hazard: hazard.line))


def _dropped(trace: Trace, engine: Engine) -> Iterator[Hazard]:
    for item in trace.dropped:
        if not _holds_text(item.text, engine):
            continue  # ClickHouse ends a comment at a newline only, as goose does; for PostgreSQL a carriage return ends it too
        if item.cause is Cause.CARRIAGE_RETURN:
            yield Hazard(
                HazardKind.LOSSY,
                "dropped-after-carriage-return",
                f"goose drops line {item.line} as a comment, but a carriage return inside it ends the comment for PostgreSQL",
                item.line,
                "save the file with LF or CRLF line ends",
            )
        else:
            yield Hazard(
                HazardKind.LOSSY,
                "swallowed-line",
                f"goose drops line {item.line}: after a StatementBegin block without statement (line {item.begun}) the next line is swallowed",
                item.line,
                f"delete the empty block that begins in line {item.begun}, or put its statement into it",
            )


def _holds_text(line: str, engine: Engine) -> bool:
    """Tells whether the line holds more than white space and whole comments."""
    read = lexer.scan(line, engine)
    return bool(read.commands or read.open)


class _Reading:
    """Reads the statements in order. A construct that one statement leaves open is followed into the next ones, so that it is reported once."""

    def __init__(self, statements: Sequence[Statement], trace: Trace, engine: Engine, use_transaction: bool) -> None:
        self.statements = statements
        self.trace = trace
        self.engine = engine
        self.use_transaction = use_transaction
        self.escapes = engine is Engine.POSTGRES and any(_ESCAPES_OFF.search(item.text) for item in statements)

    def hazards(self) -> Iterator[Hazard]:
        commands: list[tuple[Statement, lexer.Command]] = []
        cut: tuple[int, lexer.Open] | None = None
        rest: lexer.Open | None = None
        for index, statement in enumerate(self.statements):
            resumed = rest is not None
            if resumed or self.escapes:
                read = lexer.scan(statement.text, self.engine, rest, escapes=self.escapes)
            else:
                read = statement.outline(self.engine).scan(statement.text)
            rest = read.open
            if read.continued:
                continue
            if cut:
                yield self._cut(*cut, last=index)
            cut = (index, read.open) if read.open else None
            commands += [(statement, command) for command in read.commands]
            if self.engine is Engine.POSTGRES and not self.escapes and "\\" in statement.text:
                yield from self._meta_command(index, statement)
            yield from self._commands(index, statement, read)
            if self.engine is Engine.CLICKHOUSE and not (read.commands or resumed or self._is_swallowed(index)):
                yield self._empty(statement)
            if read.stray_dollar is not None and statement.text != statement.source:
                yield self._stray_dollar(statement, read.stray_dollar)
        if cut:
            yield self._cut(*cut, last=None)
        if self.use_transaction:
            yield from self._own_transaction(commands)
        if self.engine is Engine.POSTGRES:
            yield from self._in_transaction(commands)

    def _cut(self, index: int, opened: lexer.Open, *, last: int | None) -> Hazard:
        """Returns the hazard of a statement that ends inside of a construct; `last` is the statement that holds the construct's end."""
        statement = self.statements[index]
        begins = statement.line_of(opened.offset)
        if last is None:
            return Hazard(
                HazardKind.LOSSY,
                "unclosed",
                f"the {opened.construct} that begins in line {begins} has no end: {_NAMES[self.engine]} would reject the statement",
                begins,
                "close it" + (f" with {opened.tag}" if opened.tag else ""),
            )
        ends = self.statements[last].last_line
        hint = _BLOCK_HINT.format(first=statement.first_line, last=ends)
        if index in self.trace.blocks:
            hint = f"move `-- +goose StatementEnd` to a line after line {ends}"
        return Hazard(
            HazardKind.LOSSY,
            "cut-statement",
            f"goose ends the statement of line {statement.first_line} in line {statement.last_line}, inside the {opened.construct} that begins "
            f"in line {begins}: {_NAMES[self.engine]} would reject it",
            statement.first_line,
            hint,
        )

    def _commands(self, index: int, statement: Statement, read: lexer.Scan) -> Iterator[Hazard]:
        if index in self.trace.glued:
            yield self._glued(index, statement, len(read.commands))
        elif len(read.commands) > 1 and not read.open:
            yield from self._together(index, statement, read.commands)

    def _empty(self, statement: Statement) -> Hazard:
        return Hazard(
            HazardKind.LOSSY,
            "empty-statement",
            f"goose sends a statement without text for line {statement.first_line}: ClickHouse would reject it",
            statement.first_line,
            "delete the empty statement or block",
        )

    def _is_swallowed(self, index: int) -> bool:
        return any(item.index == index and _holds_text(item.text, self.engine) for item in self.trace.dropped)

    def _together(self, index: int, statement: Statement, commands: Sequence[lexer.Command]) -> Iterator[Hazard]:
        """Yields the hazards of several commands in one statement."""
        if self.engine is Engine.POSTGRES and not self.use_transaction:
            for command in commands:
                if transactions.refused(command.words, statement.text[command.start : command.end]):
                    line = statement.line_of(command.start)
                    yield Hazard(
                        HazardKind.LOSSY,
                        "not-alone",
                        f"goose sends the command of line {line} together with others in one message, which is a transaction block: "
                        "PostgreSQL would reject it",
                        line,
                        "give it a statement of its own: `;` as the last character of the line, outside of StatementBegin/StatementEnd with others",
                    )
                    return
        asked = index in self.trace.blocks  # by the author, with StatementBegin and StatementEnd
        if asked and self.engine is Engine.POSTGRES:
            return
        seen: set[str] = set()
        for command, follower in itertools.pairwise(commands):
            code, why, hint = _BLOCK if asked else _why_together(statement.text, command, follower)
            if code not in seen:
                seen.add(code)
                begins, follows = statement.line_of(command.start), statement.line_of(follower.start)
                whose = f"both commands of line {begins}" if begins == follows else f"the commands of lines {begins} and {follows}"
                message = f"goose sends {whose} as one statement{why}"
                yield self._merged(code, message, statement.line_of(command.end), hint)

    def _glued(self, index: int, statement: Statement, commands: int) -> Hazard:
        line = self.trace.glued[index]
        message = f"goose glues the unfinished statement of line {statement.first_line} to the block that begins in line {line}"
        hint = f"end the statement with a semicolon as the last character of its line, or move StatementBegin before line {statement.first_line}"
        if commands > 1:
            return self._merged("glued-block", message, line, hint)
        return Hazard(HazardKind.MERGED, "glued-block", message, line, hint)

    def _merged(self, code: str, message: str, line: int, hint: str) -> Hazard:
        if self.engine is Engine.POSTGRES:
            return Hazard(HazardKind.MERGED, code, f"{message}; PostgreSQL executes both", line, hint)
        return Hazard(HazardKind.LOSSY, code, f"{message}; ClickHouse takes one query at a time and would reject it", line, hint)

    def _own_transaction(self, commands: Sequence[tuple[Statement, lexer.Command]]) -> Iterator[Hazard]:
        """Yields the hazards of commands that end the transaction in which the file is applied, at most one for each statement."""
        told: Statement | None = None
        for number, (statement, command) in enumerate(commands, start=1):
            if statement is told or not ends_transaction(command.words):
                continue
            told = statement
            last = self.engine is Engine.POSTGRES and all(_is_idle(follower.words) for _, follower in commands[number:])
            yield _own_transaction(command.words, statement.line_of(command.start), last=last)
            if last:
                return

    def _in_transaction(self, commands: Sequence[tuple[Statement, lexer.Command]]) -> Iterator[Hazard]:
        """Yields the hazards of commands that PostgreSQL refuses inside a transaction, though it executes them outside of one."""
        block = transactions.Block(inside=self.use_transaction)
        for statement, command in commands:
            if not (command.words and block.concerns(command.words[0])):
                continue
            line = statement.line_of(command.start)
            text = statement.text[command.start : command.end]
            found = block.enter(command.words, text, line, ends=ends_transaction(command.words))
            if found is not None:
                yield Hazard(HazardKind.MERGED, found.code, f"{found.message} (line {line})", line, found.hint)

    def _meta_command(self, index: int, statement: Statement) -> Iterator[Hazard]:
        r"""Yields the hazard of psql's own commands, as pg_dump writes \restrict, and of the data lines of a COPY."""
        found = psql.find(statement.text)
        if found is None:
            return
        line = statement.line_of(found.offset)
        if index and psql.takes_data(self.statements[index - 1].text):
            why = f"the lines from {statement.first_line} on are data for psql (COPY … FROM stdin), not SQL: PostgreSQL would reject them"
            yield Hazard(HazardKind.MERGED, "psql-command", why, line, psql.COPY_HINT)
            return
        name = masked(found.name, statement.substitutions)
        why = f"{name} in line {line} is a psql meta-command, not SQL: PostgreSQL would reject it"
        yield Hazard(HazardKind.MERGED, "psql-command", why, line, found.hint)

    def _stray_dollar(self, statement: Statement, offset: int) -> Hazard:
        line = statement.line_of(offset)
        return Hazard(
            HazardKind.LOSSY,
            "stray-dollar",
            f"ENVSUB leaves a single $ in line {line} (it turns $$ into $): {_NAMES[self.engine]} would reject it",
            line,
            "put `-- +goose ENVSUB OFF` before the dollar-quoted text and `-- +goose ENVSUB ON` after it",
        )


def ends_transaction(words: Sequence[str]) -> bool:
    """Tells whether a command, given by its first words in capitals, ends the transaction in which it is executed."""
    if not words:
        return False
    if words[0] == "PREPARE":
        return words[1:2] == ("TRANSACTION",)
    to_savepoint = words[0] == "ROLLBACK" and "TO" in words[1:3]
    return words[0] in _ENDS_TRANSACTION and not to_savepoint


def _is_idle(words: Sequence[str]) -> bool:
    """Tells whether a command outside of a transaction does nothing but cause a warning."""
    chained = "CHAIN" in words and "NO" not in words
    return ends_transaction(words) and words[0] != "PREPARE" and words[1:2] != ("PREPARED",) and not chained


def _own_transaction(words: Sequence[str], line: int, *, last: bool) -> Hazard:
    """Returns the hazard of a command that ends the file's transaction; `last`: nothing that could fail follows it."""
    code, hint = (
        "own-transaction",
        "delete it and its BEGIN, or write `-- +goose NO TRANSACTION` if the file must manage its own transactions",
    )
    if words[1:2] == ("PREPARED",):
        why = f"{words[0]} PREPARED in line {line} can't be executed inside the transaction in which the file is applied"
        return Hazard(HazardKind.LOSSY, code, why, line, "write `-- +goose NO TRANSACTION` at the beginning of the file")
    ends = f"{words[0]} in line {line} ends the transaction in which the file is applied"
    if not last:
        return Hazard(HazardKind.LOSSY, code, f"{ends}: a later error would leave it half applied", line, hint)
    if words[0] not in ("COMMIT", "END"):
        why = f"{ends} without committing it: nothing before it stays, yet the version would be recorded as applied"
        return Hazard(HazardKind.LOSSY, code, why, line, hint)
    why = f"{ends}: its history row is written behind it, by itself, and a run that is killed in between applies the file again"
    return Hazard(HazardKind.MERGED, code, why, line, "delete it and its BEGIN: the file is committed together with its history row then")


def _why_together(text: str, command: lexer.Command, follower: lexer.Command) -> tuple[str, str, str]:
    """Returns code, reason and hint for two commands that goose did not separate."""
    end = text.find("\n", command.end)
    end = len(text) if end < 0 else end
    rest = text[command.end + 1 : end]
    if rest.startswith("--"):
        return "glued-comment", ": it takes `;--` for one word", "put a space between the semicolon and the comment"
    if follower.start < end:
        return "several-commands", "", "write one command a line"
    if rest.strip(gounicode.SPACE_CHARACTERS).startswith(("/*", "#")):
        return "comment-after-semicolon", ": it sees no semicolon before such a comment", "write the comment with `--`, or on its own line"
    return (
        "hidden-semicolon",
        ": it takes ` --` for a comment even inside a string, and misses the semicolon behind it",
        "put `-- +goose StatementBegin` on a line before the first command and `-- +goose StatementEnd` on a line after its semicolon",
    )
