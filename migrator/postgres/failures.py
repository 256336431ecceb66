"""What PostgreSQL says when something fails, and which of greylag's errors it is (promises.md §1).

The driver's exceptions end here: nothing above this module sees one, and no message of a failed login holds a password.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from psycopg import pq

from migrator import errors
from migrator.address import redaction

QUERY_CANCELED = "57014"
LOCK_NOT_AVAILABLE = "55P03"
DEADLOCK = "40P01"
SERIALIZATION = "40001"
NO_SUCH_STATEMENT = "26000"
INSUFFICIENT_PRIVILEGE = "42501"
INVALID_PARAMETER = "22023"
PROTOCOL_VIOLATION = "08P01"
DUPLICATE_TABLE = "42P07"
UNIQUE_VIOLATION = "23505"
UNDEFINED_TABLE = "42P01"
UNDEFINED_SCHEMA = "3F000"
_UNDEFINED_COLUMN = "42703"

CANT_END_TRANSACTION = "2D000"
NOT_IN_TRANSACTION = frozenset({"25001", CANT_END_TRANSACTION})
"""What the server answers to VACUUM and its like inside a transaction, and to a procedure that commits there."""

RETRIED = frozenset({LOCK_NOT_AVAILABLE, DEADLOCK, SERIALIZATION})
"""Failures that don't happen again when tried later; the transaction was rolled back as a whole, so it can simply be sent again."""

_GONE = frozenset({"57P01", "57P02", "57P03", "57P05", "08000", "08001", "08003", "08004", "08006"})
"""The server shuts down, starts up or dropped the connection. (08P01 is a fault of the statement: `$1` without a parameter.)"""


@dataclass(eq=False)
class ServerFailure(Exception):
    """An error that the server reported. `position` counts from 1; `index` is the message's position in its pipeline, from 0."""

    sqlstate: str
    severity: str
    message: str
    detail: str = ""
    hint: str = ""
    position: int | None = None
    context: str = ""
    index: int = 0

    def __str__(self) -> str:
        return f"{self.severity}: {self.message} (SQLSTATE {self.sqlstate})"

    def at(self, index: int) -> ServerFailure:
        return replace(self, index=index)

    def behind(self, characters: int) -> ServerFailure:
        """Returns a part's failure as a failure of the whole text, in which the part begins behind so many characters."""
        return self if self.position is None or not characters else replace(self, position=self.position + characters)


def from_result(result: pq.abc.PGresult) -> ServerFailure:
    """Reads the fields of an error result."""
    diagnostic = pq.DiagnosticField

    def text(which: pq.DiagnosticField) -> str:
        value = result.error_field(which)
        return value.decode("utf-8", "surrogateescape") if value else ""

    position = text(diagnostic.STATEMENT_POSITION)
    return ServerFailure(
        sqlstate=text(diagnostic.SQLSTATE) or "XX000",
        severity=text(diagnostic.SEVERITY) or "ERROR",
        message=text(diagnostic.MESSAGE_PRIMARY) or text_of(result),
        detail=text(diagnostic.MESSAGE_DETAIL),
        hint=text(diagnostic.MESSAGE_HINT),
        position=int(position) if position else None,
        context=text(diagnostic.CONTEXT),
    )


def is_of_libpq(result: pq.abc.PGresult) -> bool:
    """Tells whether libpq itself made an error result because no answer came: every error of a server has an SQLSTATE."""
    return result.error_field(pq.DiagnosticField.SQLSTATE) is None


def ends_session(result: pq.abc.PGresult) -> bool:
    """Tells whether the server closes the connection after this error (severity FATAL or PANIC; PostgreSQL documentation, "Message Severity Levels")."""
    wanted = (pq.DiagnosticField.SEVERITY_NONLOCALIZED, pq.DiagnosticField.SEVERITY)
    return any(result.error_field(field) in (b"FATAL", b"PANIC") for field in wanted)


def text_of(result: pq.abc.PGresult) -> str:
    """Returns libpq's own message about a result."""
    return (result.error_message or b"").decode("utf-8", "replace").strip()


def interrupted() -> errors.Interrupted:
    """Returns the error of a run that was told to stop."""
    return errors.Interrupted(
        "the run was cancelled", hint="run the same command again: what was finished is recorded, what was not was rolled back"
    )


_PARTING = {
    "57P01": "somebody ended the session (pg_terminate_backend), or the server was shut down: {again}",
    "57P02": "the server restarts because one of its processes crashed, its log says which: {again}",
    "57P03": "the server doesn't accept connections now: {again}",
    "57P04": "the database was dropped: create it, then run the same command again",
    "57P05": "the server ends sessions that are idle: raise idle_session_timeout for this role (ALTER ROLE … SET idle_session_timeout = 0); {again}",
    "25P03": "the server ends transactions that are idle: raise idle_in_transaction_session_timeout for this role (ALTER ROLE … SET …); {again}",
    "25P04": "the server limits a transaction's time: raise transaction_timeout for this role (ALTER ROLE … SET …), or split the file; {again}",
}
"""What to do about the error with which the server closed a session, by its SQLSTATE."""

_AGAIN = "run the same command again: what was finished is recorded, what was not was rolled back by the server"


def connection_lost(said: str, parting: ServerFailure | None = None) -> errors.Unavailable:
    """Returns the error of a session that ended under a run; `parting` is the error with which the server ended it, if it said one."""
    first = redaction.redact((str(parting) if parting else said).strip().split("\n")[0])
    return errors.Unavailable(
        f"the connection to PostgreSQL was lost: {first or 'no reason given'}",
        code="connection-lost",
        hint=_PARTING.get(parting.sqlstate if parting else "", "{again}").format(again=_AGAIN),
    )


def of_server(failure: ServerFailure, doing: str) -> errors.GreylagError:
    """Returns the error for a failure of a command of greylag's own; `doing` says what it was for ("to read the history")."""
    message = f"failed {doing}: {failure}"
    kind, code, hint = classify(failure)
    if failure.sqlstate == _UNDEFINED_COLUMN:  # the table was there before, and is not goose's
        hint = "a table of this name exists and lacks a column that goose's has: name another one with -table (GOOSE_TABLE)"
    return kind(message, code=code, hint=hint)


def classify(failure: ServerFailure) -> tuple[type[errors.GreylagError], str | None, str]:
    """Returns class, code and hint of a server's failure, by its SQLSTATE."""
    state = failure.sqlstate
    if state == INSUFFICIENT_PRIVILEGE:
        return errors.LoginFailed, "permission-denied", "grant the role what it needs, or name the owning role (owner_role) to SET ROLE to"
    if state in (LOCK_NOT_AVAILABLE, DEADLOCK, SERIALIZATION):
        return errors.LockUnavailable, "lock-timeout", "run it again when the blocking transaction has ended"
    if state == QUERY_CANCELED:
        return _cancelled(failure)
    if state in _GONE:
        return errors.Unavailable, None, "wait until the server is up, then run the same command again"
    if state.startswith("53"):
        return errors.Unavailable, "server-exhausted", "the server is out of connections, memory or disk: free some, then run it again"
    if state == "25006":
        return errors.Unavailable, "read-only", "this server takes no writes (a standby?): give the address of the primary"
    return errors.StatementRejected, None, failure.hint


def _cancelled(failure: ServerFailure) -> tuple[type[errors.GreylagError], str | None, str]:
    if "COPY" in failure.message:
        hint = "a migration has no data to send (goose waits for it forever): use INSERT, or COPY FROM a file on the server"
        return errors.StatementRejected, "copy-from-stdin", hint
    if "timeout" in failure.message:
        return (
            errors.TimedOut,
            "statement-timeout",
            "raise it for this file with `-- greylag: statement-timeout 10m`, or split the statement",
        )
    return errors.Interrupted, "cancelled", "somebody cancelled the statement on the server (pg_cancel_backend); run it again"


# --- connecting -------------------------------------------------------------------------------------------------------------------

_LOGIN = re.compile(
    r"password authentication failed|no password supplied|no pg_hba\.conf entry|role \"[^\n]*\" (?:does not exist|is not permitted)"
    r"|authentication failed|permission denied for database|pg_hba\.conf rejects|certificate|is not permitted to log in",
    re.IGNORECASE,
)
_NO_DATABASE = re.compile(r"database \"[^\n]*\" does not exist", re.IGNORECASE)
_MISUNDERSTOOD = re.compile(r"^invalid (?:\w+ value|connection option|integer value)|^could not match \d+ port numbers", re.IGNORECASE)
_PARAMETER = re.compile(r"unrecognized configuration parameter|invalid value for parameter|parameter \"[^\n]*\" cannot be", re.IGNORECASE)
_NO_TLS = re.compile(r"SSL was required", re.IGNORECASE)
_TIME_OUT = re.compile(r"timeout expired|timed out", re.IGNORECASE)
ENCODE = "a password with @ : / ? # % or a space must be percent-encoded in a URL (`greylag` never shows it)"


def said_without(raw: str, secrets: tuple[str, ...]) -> str:
    """Returns libpq's words in one line, without secrets."""
    lines = [line.strip() for line in redaction.redact(raw, secrets).splitlines() if line.strip()]
    return re.sub(r"^connection (?:failed|is bad): ", "", "; ".join(lines))


def of_connect(raw: str, hosts: str, database: str, secrets: tuple[str, ...]) -> errors.GreylagError:
    """Returns the error of a connection that was not made. libpq hands on the server's text only, without its SQLSTATE, so the text decides; an
    unknown text (a server that speaks another language) counts as unavailable, which a retry may cure."""
    text = said_without(raw, secrets)
    if _MISUNDERSTOOD.search(text):
        return errors.UsageError(f"the address is not understood: {text}", code="bad-address", hint="correct the parameter of the address")
    if _PARAMETER.search(text):
        hint = "correct the parameter of the address: what neither greylag nor libpq knows is set on the server, as with goose"
        return errors.UsageError(f"the server refused the address: {text}", code="bad-address", hint=hint)
    if _NO_DATABASE.search(text):
        hint = f"check the name of the database ({database or 'not given'}) at {hosts}; create it with `createdb`"
        return errors.NotFound(f"no such database: {text}", code="unknown-database", hint=hint)
    if _LOGIN.search(text):
        return errors.LoginFailed(f"the server refused the login: {text}", hint=f"check user and password; {ENCODE}")
    if _TIME_OUT.search(text):
        return errors.TimedOut(f"no answer from {hosts}: {text}", code="connect-timeout", hint="check host, port and network policy")
    hint = f"check that PostgreSQL listens at {hosts} and accepts connections; {ENCODE}"
    if _NO_TLS.search(text):
        hint = "the address asks for TLS (sslmode) and the server offers none: correct the one or the other"
    return errors.Unavailable(f"PostgreSQL can't be reached at {hosts}: {text}", hint=hint)
