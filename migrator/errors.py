"""Error classes. Each class has one exit code, and the table in `migrator.codes` says for each code which one it has. The command, the Job's
podFailurePolicy, the flow's retry condition and the programs that follow a run use that table (promises.md §1).

Every error says what is wrong (`message`), has a stable kebab-case `code`, and a `hint` that says what to type next. A message never
holds a secret; a driver's errors are turned into these at the driver's edge with ``raise … from None``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from migrator.codes import CODES, PERMANENT, TRANSIENT, Code, ExitCode


@dataclass(frozen=True, slots=True)
class Location:
    """A place in a file; lines and columns count from 1."""

    path: str
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        parts = [self.path] + [str(number) for number in (self.line, self.column) if number is not None]
        return ":".join(parts)


class GreylagError(Exception):
    """Base of every error that greylag raises on purpose.

    Args:
        message: what is wrong and why, in words; never a secret.
        hint: what to do or type next.
        code: a stable kebab-case id from the table; each class has a default.
        where: the file and line that the error is about.
        detail: more lines for a person (an excerpt of the statement, the blocker), shown after the message.

    Raises LookupError for a code that the table lacks, TypeError for a code with another exit code than the class has: both are mistakes in code.
    """

    code = "error"
    exit_code = ExitCode.AS_GOOSE

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        code: str | None = None,
        where: Location | None = None,
        detail: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.where = where
        self.detail = detail
        if code is not None:
            self.code = code
        self._enter(CODES.get(self.code))

    def _enter(self, entry: Code | None) -> None:
        """Checks the code: raises LookupError when it is not in the table, and TypeError when it has another exit code than this class."""
        if entry is None:
            raise LookupError(f'"{self.code}" is no code of an error: add it to the table in migrator/codes.py and to docs/errors.md')
        if entry.exit_code is not self.exit_code:
            raise TypeError(
                f'"{self.code}" ends with {entry.exit_code}, {type(self).__name__} with {self.exit_code}: a code has one exit code'
            )

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, dict(self.__dict__))

    @property
    def transient(self) -> bool:
        """Tells whether another attempt may succeed without anybody changing anything."""
        return self.exit_code in TRANSIENT

    def describe(self) -> str:
        """Returns the error in full: place, message, code, detail, hint."""
        place = f"{self.where}: " if self.where else ""
        lines = [f"{place}{self.message} [{self.code}]"]
        if self.detail:
            lines.append(self.detail)
        if self.hint:
            lines.append(f"hint: {self.hint}")
        return "\n".join(lines)

    def document(self) -> dict[str, object]:
        """Returns the error as JSON-ready data."""
        return {
            "code": self.code,
            "exit_code": int(self.exit_code),
            "message": self.message,
            "hint": self.hint,
            "file": self.where.path if self.where else None,
            "line": self.where.line if self.where else None,
            "detail": self.detail or None,
            "transient": self.transient,
        }


def _rebuild(cls: type[GreylagError], message: str, state: dict[str, object]) -> GreylagError:
    error = cls(message)
    error.__dict__.update(state)
    return error


class UsageError(GreylagError):
    """The command line, a parameter or a setting can't be understood."""

    code = "usage"
    exit_code = ExitCode.USAGE


class FileError(GreylagError):
    """A directory or a file name breaks goose's rules: missing directory, bad name, duplicate version."""

    code = "bad-file"
    exit_code = ExitCode.FILE


class ParseError(FileError):
    """The text of a migration can't be split into statements; `str()` holds goose's own message."""

    code = "parse-error"


class PlanRefused(GreylagError):
    """The plan would do what must not be done: changed checksum, missing versions, lossy hazard, protected environment."""

    code = "plan-refused"
    exit_code = ExitCode.REFUSED


class LoginFailed(GreylagError):
    """The server doesn't accept the login, or doesn't allow it to do this."""

    code = "login-failed"
    exit_code = ExitCode.LOGIN


class NotFound(GreylagError):
    """A database, secret or key that was named does not exist, or is another environment's."""

    code = "not-found"
    exit_code = ExitCode.NOT_FOUND


class StatementRejected(GreylagError):
    """The database refused a statement of a migration."""

    code = "sql-rejected"
    exit_code = ExitCode.REJECTED


class NeedsAnswer(GreylagError):
    """A statement's outcome is unknown and can't be settled from the catalogue; the hint holds the command that answers."""

    code = "statement-unknown"
    exit_code = ExitCode.QUESTION


class VerificationFailed(GreylagError):
    """The objects that the files create are missing or not valid."""

    code = "verification-failed"
    exit_code = ExitCode.VERIFICATION


class LockUnavailable(GreylagError):
    """Another run holds the migration lock, or a statement could not get its lock within the budget."""

    code = "lock-held"
    exit_code = ExitCode.LOCK


class Unavailable(GreylagError):
    """A server can't be reached, or went away."""

    code = "unavailable"
    exit_code = ExitCode.UNAVAILABLE


class TimedOut(GreylagError):
    """A limit in time was reached."""

    code = "timeout"
    exit_code = ExitCode.TIMEOUT


class Interrupted(GreylagError):
    """A signal or a cancellation ended the run; nothing half-done was left unrecorded."""

    code = "interrupted"
    exit_code = ExitCode.INTERRUPTED


class NotYet(GreylagError):
    """What is awaited (a version, a rollout, an approval) has not happened yet."""

    code = "not-yet"
    exit_code = ExitCode.NOT_YET


class AsGoose(GreylagError):
    """An end that goose reports with exit code 1, with goose's own message."""

    code = "as-goose"
    exit_code = ExitCode.AS_GOOSE


class Relayed(GreylagError):
    """The failure of another process, a Job's pod or another flow's run: code and exit code are those of its error, of whatever class it was."""

    code = "run-failed"

    def _enter(self, entry: Code | None) -> None:
        if entry is not None:
            self.exit_code = entry.exit_code
        super()._enter(entry)


__all__ = [
    "CODES",
    "PERMANENT",
    "TRANSIENT",
    "AsGoose",
    "Code",
    "ExitCode",
    "FileError",
    "GreylagError",
    "Interrupted",
    "Location",
    "LockUnavailable",
    "LoginFailed",
    "NeedsAnswer",
    "NotFound",
    "NotYet",
    "ParseError",
    "PlanRefused",
    "Relayed",
    "StatementRejected",
    "TimedOut",
    "Unavailable",
    "UsageError",
    "VerificationFailed",
]
