"""goose's splitter: annotation lines, the state machine, statement ends (goose.md §2.1 to §2.5), as in goose v3.27.3, errors included.

It keeps offsets, so that a large file is not copied line by line; where only the next `;` or the next `+goose` can matter, it jumps there
directly. `annotations.parse` is the function to call.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator, Mapping

from migrator import errors
from migrator.goose import envsub, gounicode, hazards, parse_errors
from migrator.goose.goquote import quote
from migrator.goose.statements import Statement, Substitution

LINE_LIMIT = 4 * 1024 * 1024
"""goose's buffer for one line and its end: lines of 4194303 bytes pass, of 4194304 do not."""

_MARK = b"+goose"


class Annotation(enum.Enum):
    """All annotations of goose v3.27; keywords are compared without regard to case."""

    UP = "Up"
    DOWN = "Down"
    STATEMENT_BEGIN = "StatementBegin"
    STATEMENT_END = "StatementEnd"
    NO_TRANSACTION = "NO TRANSACTION"
    ENVSUB_ON = "ENVSUB ON"
    ENVSUB_OFF = "ENVSUB OFF"


_KEYWORDS = {item.value.lower().encode(): item for item in Annotation}
_USUAL = {b"-- +goose " + item.value.encode(): item for item in Annotation}
_LONG_S = "\u017f".encode()
_WORDS = re.compile(f"[^{re.escape(gounicode.SPACE_CHARACTERS)}]+")

START, UP, BEGIN_UP, END_UP, DOWN, BEGIN_DOWN, END_DOWN = range(7)
"""States, numbered as goose prints them."""


def is_comment(line: bytes) -> bool:
    """Tells whether the trimmed line begins with `--`: goose knows no other comments."""
    first = line[:1]
    if first == b"-":
        return line.startswith(b"--")
    if b" " < first < b"\x80":
        return False
    return gounicode.trim(line).startswith(b"--")


def annotation_of(line: bytes) -> Annotation:
    """Returns the annotation of a comment line that holds `+goose` (goose.md §2.2).

    Raises:
        ValueError: its text is goose's reason.
    """
    if line in _USUAL:
        return _USUAL[line]
    if line.startswith((b" ", b"\t")):
        raise ValueError(f"{quote(line)} contains leading whitespace: invalid annotation")
    command = line.replace(b"--", b"").replace(_MARK, b"", 1)
    if _MARK in command:
        raise ValueError(f"{quote(command)} contains multiple '+goose' annotations: invalid annotation")
    command = gounicode.trim(command)
    if not command:
        raise ValueError("empty annotation")
    # Go's EqualFold: of the letters of the keywords only s has a partner outside ASCII, the long s
    found = _KEYWORDS.get(command.replace(_LONG_S, b"s").lower())
    if found is None:
        raise ValueError(f"{quote(command)} not supported: invalid annotation")
    return found


def ends_statement(line: bytes) -> bool:
    """Tells whether the last word before the first word that begins with `--` ends with `;` (goose.md §2.4)."""
    if b";" not in line:
        return False
    if b"--" not in line and len(line) < LINE_LIMIT:
        end = line.rstrip()
        return end.endswith(b";") or (end[-1:] > b"\x7f" and gounicode.trim(end).endswith(b";"))
    last = b""
    for word in line.split() if line.isascii() else map(gounicode.encode, _WORDS.findall(gounicode.decode(line))):
        # a word that does not fit into goose's buffer stops its scanner, and goose ignores the scanner's error
        if word.startswith(b"--") or len(word) >= LINE_LIMIT:
            break
        last = word
    return last.endswith(b";")


class Splitter:
    """Splits one file for one direction. To be used once: iterate over `split`, then read `use_transaction` and `trace`.

    Args:
        direction: "up" or "down".
        env: the variables for ENVSUB.
        path: the file's name in errors.
        reveal: whether errors quote substituted values, as goose does.
    """

    def __init__(self, direction: str, env: Mapping[str, str], *, path: str = "", reveal: bool = False) -> None:
        self.direction = str(direction)
        self.env = env
        self.path = path
        self.reveal = reveal
        self.use_transaction = True
        self.trace = hazards.Trace()
        self._up = self.direction == "up"
        self._state = START
        self._envsub = False
        self._line = 1
        self._data = b""
        self._returns = False
        self._begun = 0
        self._count = 0
        self._clear()

    def _clear(self) -> None:
        self._buffered = False
        self._piece = -1  # offset where the text that is taken unchanged begins; -1 for none
        self._piece_line = 0
        self._parts: list[_Part] = []
        self._substitutions: list[Substitution] = []

    def split(self, data: bytes) -> Iterator[Statement]:
        """Yields the statements of the file in order. Raises ParseError with goose's message when it reaches the error's place."""
        self._data = data
        self._returns = b"\r" in data
        yield from self._split()
        if self._buffered:
            self._close_piece(len(data))
        self._finish()

    def _split(self) -> Iterator[Statement]:
        data = self._data
        size = len(data)
        position = 0
        mark = -1
        while position < size:
            if mark < position:
                mark = data.find(_MARK, position)
                mark = size if mark < 0 else mark
            position = self._skip(position, mark)
            if position >= size:
                return
            end = data.find(b"\n", position)
            end = size if end < 0 else end
            if end - position >= LINE_LIMIT:
                raise parse_errors.line_too_long(self._where())
            line = data[position:end]
            if self._returns and line.endswith(b"\r"):
                line = line[:-1]
            statement = self._read(line, position, min(end + 1, size), mark < end)
            if statement is not None:
                yield statement
            self._line += 1
            position = end + 1

    def _skip(self, position: int, mark: int) -> int:
        """Returns the beginning of the next line that can change anything; the lines before it are skipped, or added to the statement as they are."""
        state = self._state
        if state == START or (self._envsub and state not in (END_UP, END_DOWN)):
            return position
        data = self._data
        target = mark
        if (state < DOWN) != self._up:
            if self._buffered:
                return position
        elif not self._buffered or state in (END_UP, END_DOWN) or self._piece < 0:
            return position
        elif state in (UP, DOWN):
            semicolon = data.find(b";", position, mark)
            target = mark if semicolon < 0 else semicolon
        start = len(data) if target == len(data) else data.rfind(b"\n", position, target) + 1
        if start <= position:
            return position
        if start - position >= LINE_LIMIT:
            self._require_short_lines(position, start)
        self._line += data.count(b"\n", position, start)
        return start

    def _require_short_lines(self, position: int, end: int) -> None:
        start = position
        while end - start >= LINE_LIMIT:
            newline = self._data.rfind(b"\n", start, start + LINE_LIMIT)
            if newline < 0:
                self._line += self._data.count(b"\n", position, start)
                raise parse_errors.line_too_long(self._where())
            start = newline + 1

    def _read(self, line: bytes, start: int, end: int, marked: bool) -> Statement | None:
        """Reads one line, as goose's loop does. `start` and `end` are its offsets, line end included."""
        if self._state == START and not gounicode.trim(line):
            return None
        annotated = marked and is_comment(line)
        if annotated and self._annotate(line, start) is not Annotation.STATEMENT_END:
            return None
        if not self._buffered and (line == b"" or is_comment(line)):
            if b"\r" in line and not annotated:
                self._note_hidden(line)
            return None
        state = self._state
        ended = state in (END_UP, END_DOWN)
        text = line
        if not ended:
            text = self._append(line, start)
        if state == START:
            raise parse_errors.text_before_up(gounicode.decode(text if self.reveal else line), line, self._where())
        if (state < DOWN) != self._up:
            self._clear()
            return None
        if ended:
            return self._emit_block(line, start)
        if state in (UP, DOWN) and ends_statement(text):
            return self._emit(end)
        return None

    def _append(self, line: bytes, start: int) -> bytes:
        """Adds the line to the statement, and returns it as it was added."""
        text = line
        if self._envsub:
            try:
                expansion = envsub.interpolate(line, self.env, reveal=self.reveal)
            except envsub.ExpansionError as error:
                raise parse_errors.substitution_failed(str(error), line, self._where()) from None
            text = expansion.line
            self._substitutions += [Substitution(name, value) for name, value in expansion.substitutions]
        self._buffered = True
        if text is line or text == line:
            if self._piece < 0:
                self._piece, self._piece_line = start, self._line
        else:
            self._close_piece(start)
            self._parts.append(_Part(gounicode.decode(text) + "\n", gounicode.decode(line) + "\n", self._line))
        return text

    def _annotate(self, line: bytes, start: int) -> Annotation:
        try:
            annotation = annotation_of(line)
        except ValueError as error:
            raise parse_errors.bad_annotation(line, str(error), self._where()) from None
        state = self._state
        if annotation is not Annotation.STATEMENT_END:
            self._close_piece(start)  # the line itself never becomes text
        if annotation is Annotation.UP:
            if state != START:
                raise parse_errors.second_up(state, self._where())
            self._state = UP
        elif annotation is Annotation.DOWN:
            if state not in (UP, END_UP):
                raise parse_errors.misplaced_down(state, self._where())
            self._require_finished()
            self._state = DOWN
        elif annotation is Annotation.STATEMENT_BEGIN:
            if state not in (UP, END_UP, DOWN, END_DOWN):
                raise parse_errors.misplaced_begin(state, self._where())
            self._begin_block()
        elif annotation is Annotation.STATEMENT_END:
            if state not in (BEGIN_UP, BEGIN_DOWN):
                raise parse_errors.misplaced_end(self._where())
            self._state = state + 1
        elif annotation is Annotation.NO_TRANSACTION:
            self.use_transaction = False
        else:
            self._envsub = annotation is Annotation.ENVSUB_ON
        return annotation

    def _begin_block(self) -> None:
        self._state = BEGIN_UP if self._state < DOWN else BEGIN_DOWN
        self._begun = self._line
        if self._buffered and any(part.text.strip(gounicode.SPACE_CHARACTERS) for part in self._parts):
            self.trace.glued[self._count] = self._line

    def _note_hidden(self, line: bytes) -> None:
        """Records a dropped comment line with a carriage return: PostgreSQL ends the comment there, and reads the rest as text."""
        if self._state != START and (self._state < DOWN) == self._up:
            self.trace.dropped.append(hazards.Dropped(hazards.Cause.CARRIAGE_RETURN, self._line, gounicode.decode(line)))

    def _emit_block(self, line: bytes, start: int) -> Statement:
        """Returns a block's statement at its StatementEnd; after an empty block, an empty statement at the next line, which goose swallows."""
        self._state = UP if self._state == END_UP else DOWN
        self.trace.blocks.add(self._count)
        if not self._buffered:
            self.trace.dropped.append(
                hazards.Dropped(hazards.Cause.EMPTY_BLOCK, self._line, gounicode.decode(line), self._count, self._begun)
            )
            self._count += 1
            return Statement("", "", self._line, self._line)
        return self._emit(start)

    def _emit(self, end: int) -> Statement:
        """Returns the statement in the buffer; `end` is the offset up to which text is taken unchanged."""
        self._count += 1
        if self._parts:
            self._close_piece(end)
            statement = _joined(self._parts, tuple(self._substitutions))
        else:
            data = self._data
            start, stop = gounicode.trim_bounds(data, self._piece, end)
            text = self._text(start, stop)
            first = self._piece_line + (data.count(b"\n", self._piece, start) if start > self._piece else 0)
            statement = Statement(text, text, first, first + text.count("\n"), tuple(self._substitutions))
        self._clear()
        return statement

    def _text(self, start: int, end: int) -> str:
        if self._returns and self._data.find(b"\r\n", start, end) >= 0:
            return gounicode.decode(self._data[start:end].replace(b"\r\n", b"\n"))
        return str(memoryview(self._data)[start:end], "utf-8", "surrogateescape")

    def _close_piece(self, end: int) -> None:
        if self._piece >= 0:
            part = self._text(self._piece, end)
            self._parts.append(_Part(part, part, self._piece_line))
            self._piece = -1

    def _require_finished(self) -> None:
        """Raises ParseError when text is left that no `;` ended."""
        if not self._buffered:
            return
        left = _joined(self._parts, ())
        if left.text:
            shown = left.text if self.reveal else left.source
            where = errors.Location(self.path, left.first_line)
            raise parse_errors.unfinished(self._state, self.direction, shown, left.source, where)

    def _finish(self) -> None:
        if self._state == START:
            raise parse_errors.no_up(errors.Location(self.path, 1))
        if self._state in (BEGIN_UP, BEGIN_DOWN):
            raise parse_errors.no_statement_end(errors.Location(self.path, self._begun))
        self._require_finished()

    def _where(self) -> errors.Location:
        return errors.Location(self.path, self._line)


class _Part:
    """Some lines of a statement: the text to send, the file's own text, and the file's line in which both begin."""

    __slots__ = ("line", "source", "text")

    def __init__(self, text: str, source: str, line: int) -> None:
        self.text = text
        self.source = source
        self.line = line


def _joined(parts: list[_Part], substitutions: tuple[Substitution, ...]) -> Statement:
    """Joins several parts to one statement."""
    text, leading = _trimmed([part.text for part in parts])
    expanded = any(part.source is not part.text for part in parts)
    source = _trimmed([part.source for part in parts])[0] if expanded else text
    anchors: list[tuple[int, int]] = []
    index = -leading
    for part in parts:
        if not anchors or part.line - index != anchors[-1][1] - anchors[-1][0]:
            anchors.append((index, part.line))
        index += part.text.count("\n")
    last_index = text.count("\n")
    first = max(anchor for anchor in anchors if anchor[0] <= 0)
    last = max(anchor for anchor in anchors if anchor[0] <= last_index)
    later = tuple(anchor for anchor in anchors if 0 < anchor[0] <= last_index)
    return Statement(text, source, first[1] - first[0], last[1] + last_index - last[0], substitutions, later)


def _trimmed(texts: list[str]) -> tuple[str, int]:
    """Joins and trims the texts; returns the number of line ends trimmed before them as well. It trims first, so that a large text is copied once."""
    spaces = gounicode.SPACE_CHARACTERS
    leading = 0
    for index, text in enumerate(texts):
        kept = text.lstrip(spaces)
        leading += text.count("\n", 0, len(text) - len(kept))
        texts[index] = kept
        if kept:
            break
    for index in range(len(texts) - 1, -1, -1):
        texts[index] = texts[index].rstrip(spaces)
        if texts[index]:
            break
    return "".join(texts), leading
