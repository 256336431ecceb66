"""What ClickHouse says when something fails, and which of greylag's errors it is (promises.md §1).

Exceptions of sockets and of urllib3 end here: nothing above this module sees one. `Refusal` is an answer of the server; `Lost` means that no
answer came that is proved whole, so that what was sent may have been executed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from migrator import errors

SYNTAX_ERROR = 62
NO_SUCH_COLUMN = 10
TABLE_EXISTS = 57
UNKNOWN_TABLE = 60
UNKNOWN_DATABASE = 81
UNKNOWN_SETTING = 115
UNKNOWN_ROLE = 511
TIMEOUT_EXCEEDED = 159
READONLY = 164
SAME_QUERY_RUNS = 216
UNFINISHED = 341
SESSION_NOT_FOUND = 372
SESSION_LOCKED = 373
BAD_SESSION_TIMEOUT = 374
KILLED = 394
SETTING_REFUSED = 452
ACCESS_DENIED = 497
KEEPER = 999
QUOTA_EXCEEDED = 201
MEMORY_LIMIT = 241
NOT_SUPPORTED = 48

_LOGIN = frozenset({192, 193, 194, 195, 516})
"""Unknown user, wrong password, password required, address not allowed, authentication failed."""

_DENIED = frozenset({READONLY, 291, ACCESS_DENIED})

_TIMED_OUT = frozenset({TIMEOUT_EXCEEDED, 160})

# fmt: off
_UNAVAILABLE = frozenset({
    3,         # a broken connection on the server's side: unexpected end of file
    202, 203,  # too many simultaneous queries, no free connection
    209, 210,  # time-out and error of the network between servers
    225, 242,  # no Keeper, replica is read-only
    243,       # not enough space on the disk
    252,       # too many parts: merges will catch up
    279, 285, 286, 289,  # replicas can't be reached, too few are alive, quorum not reached, replica too far behind
    319,       # unknown status of insert
    415, 425, 473, 517, 519, 521,  # all replicas lost, system error, deadlock avoided, alter in progress, all replicas stale
    KEEPER,
})
# fmt: on

TIMED_OUT = "timed out"
"""The reason of a request to which nothing was answered in time."""

_LONGEST_MESSAGE = 16384
"""Bytes: a message is masked and shown as a whole, a misdirected answer of megabytes isn't."""

_POSITION = re.compile(r"failed at position (\d+)")
_TRAILER = re.compile(r"\s*\(version [^()]*(?:\([^()]*\))?[^()]*\)\s*\Z")
_STACK = re.compile(r"\n\s*\n0\. .*\Z", re.DOTALL)
_NAME = re.compile(r"\. \([A-Z][A-Z0-9_]*\)\Z")
_INTERVAL = re.compile(r"Interval will end at (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)")
_RECEIVED = re.compile(r"\A(?:Code: (\d+)\. )?(?:DB::Exception: )?")


@dataclass(eq=False)
class Refusal(Exception):
    """The server's answer that it did not do, or did not finish, what it was asked. `message` is its own, without code and version;
    `written_rows`: how many rows it says it had written; `native`: whether the address names the native protocol, as goose would use it."""

    code: int
    message: str
    written_rows: int | None = None
    native: bool = False

    def __str__(self) -> str:
        """Prints it as clickhouse-go does, and so goose: the native protocol leaves out the code's name, which ends a message that came by HTTP."""
        return f"code: {self.code}, message: {_NAME.sub('', self.message) if self.native else self.message}"

    @property
    def offset(self) -> int | None:
        """Returns the position in the statement's bytes, from 1, where the server names it."""
        found = _POSITION.search(self.message)
        return int(found[1]) if found else None


@dataclass(eq=False)
class Lost(Exception):
    """No answer came that is proved whole: the connection could not be made (`sent` is False), broke or timed out, or somebody in between answered
    with `status`. `proxy`: where the proxy is that the address names."""

    reason: str
    sent: bool = True
    proxy: str = ""
    status: int = 0

    def __str__(self) -> str:
        return self.reason


def of_connection(error: Exception, proxy: str = "", *, sent: bool = True) -> Lost:
    """Turns an exception of a socket, or of urllib3 while it connects, into a lost request.

    Args:
        proxy: where the proxy is that the address names.
        sent: whether anything of the request may have been sent.
    """
    return Lost(_plain(_root(error)), sent, proxy)


def of_answer(status: int, code: str | None, body: bytes, proxy: str = "") -> Refusal | Lost:
    """Turns an HTTP answer that isn't a success into a refusal by ClickHouse, or a lost request if something in between answered.

    Args:
        code: the server's error code as its header gives it; a proxy may have dropped the header.
        proxy: where the proxy is that the answer came through.
    """
    text = _TRAILER.sub("", body[:_LONGEST_MESSAGE].decode("utf-8", "backslashreplace").strip())
    refusal = _refusal(int(code) if code and code.isdigit() else None, text)
    if refusal is not None:
        return refusal
    said = text.split("\n")[0].strip()[:200]
    return Lost(f"HTTP status {status}" + (f", server response: {said}" if said else ""), proxy=proxy, status=status)


def _refusal(code: int | None, text: str) -> Refusal | None:
    """Returns the server's refusal, by the code that came beside its text or that the text names; None for a text that is not ClickHouse's."""
    named = _RECEIVED.match(text)
    if code is None and named is not None and named[1]:
        code = int(named[1])
    if code is None:
        return None
    message = _STACK.sub("", _RECEIVED.sub("", text, count=1)).strip()
    return Refusal(code, _TRAILER.sub("", message))


def _root(error: BaseException) -> BaseException:
    """Returns the innermost exception that says something: urllib3 wraps the reason in several layers."""
    reason = getattr(error, "reason", None)
    following = reason if isinstance(reason, BaseException) else error.__cause__
    return _root(following) if following is not None and following is not error else error


def _plain(root: BaseException) -> str:
    said = str(root)
    for known in (
        "Connection refused",
        TIMED_OUT,
        "Name or service not known",
        "Temporary failure in name resolution",
        "CERTIFICATE_VERIFY_FAILED",
    ):
        if known in said:
            return known.lower() if known.startswith("Conn") else known
    return said.strip().split("\n")[0][:200] or type(root).__name__


def of_server(failure: Refusal | Lost, doing: str) -> errors.GreylagError:
    """Returns the error for a failure of a command of greylag's own; `doing` says what it was for ("to read the history")."""
    if isinstance(failure, Lost):
        return connection_lost(failure, doing)
    kind, code, hint = classify(failure)
    if failure.code == UNKNOWN_SETTING:  # greylag's own commands send none that the server doesn't know
        kind, code = errors.UsageError, "bad-address"
        hint = "correct the parameter of the address: what clickhouse-go doesn't know is sent as a setting of the server, as with goose"
    return kind(f"failed {doing}: {failure}", code=code, hint=hint)


def connection_lost(failure: Lost, doing: str) -> errors.GreylagError:
    """Returns the error of a server that does not answer."""
    through = f" through the proxy {failure.proxy}" if failure.proxy else ""
    if failure.reason == TIMED_OUT:
        return errors.TimedOut(
            f"ClickHouse did not answer in time{through} {doing}", hint="run the same command again when the server answers"
        )
    return errors.Unavailable(
        f"the connection to ClickHouse{through} was lost {doing}: {failure.reason}",
        code="connection-lost" if failure.sent else None,
        hint="run the same command again: it looks up what the server did with the last statement before it goes on",
    )


def classify(failure: Refusal) -> tuple[type[errors.GreylagError], str | None, str]:
    """Returns class, code and hint of a server's refusal, by its error code."""
    code = failure.code
    if code in _LOGIN:
        return errors.LoginFailed, None, "check user and password of the address; a password must be percent-encoded in a URL"
    if code == READONLY:
        return errors.LoginFailed, "permission-denied", "this user may only read (readonly in its settings): connect as one that may write"
    if code in _DENIED:
        return errors.LoginFailed, "permission-denied", "grant the user what the message names, or connect as one that has it"
    if code == UNKNOWN_ROLE:
        return (
            errors.NotFound,
            "role-missing",
            "correct -role, GREYLAG_ROLE or owner_role in fleet.yaml; or CREATE ROLE it, and GRANT it to the login",
        )
    if code == UNKNOWN_DATABASE:
        return errors.NotFound, "unknown-database", "create the database first, or name another one in the address"
    if code == SESSION_NOT_FOUND:
        return errors.LockUnavailable, "lock-lost", "the run stood still for longer than its lease: run the same command again"
    if code in (SAME_QUERY_RUNS, SESSION_LOCKED):
        return (
            errors.LockUnavailable,
            "still-running",
            "the server still works on a statement of this run: run it again when that has ended",
        )
    if code == KILLED:
        return errors.Interrupted, "cancelled", "somebody killed the query on the server; run it again"
    if code in _TIMED_OUT:
        return errors.TimedOut, "statement-timeout", "run it again: it first looks up what became of the statement"
    if code == QUOTA_EXCEEDED:
        ends = _INTERVAL.search(failure.message)
        return (
            errors.Unavailable,
            "server-busy",
            f"the quota's interval ends at {ends[1] if ends else 'a time that the server did not say'}: run it again then",
        )
    if code == MEMORY_LIMIT and "(total)" in failure.message:
        return errors.Unavailable, "server-busy", "the server as a whole is out of memory: run it again when it has some"
    if code in _UNAVAILABLE:
        return errors.Unavailable, "server-busy", "wait until the server is well again, then run the same command"
    return errors.StatementRejected, None, ""


def at_login(failure: Refusal | Lost, place: str, guessed: str, username: str, proxy: str = "") -> errors.GreylagError:
    """Returns the error of a connection that could not be opened. Never holds a password.

    Args:
        place: `host:port` as it was tried.
        guessed: the native port from which the HTTP port was guessed, as a sentence, or nothing.
        username: who wanted to log in.
        proxy: `host:port` of the proxy that the address names.
    """
    through = f" through the proxy {proxy}" if proxy else ""
    hint = f"{guessed}; name the HTTP port with ?http_port= in the address or CLICKHOUSE_HTTP_PORT" if guessed else ""
    if isinstance(failure, Refusal):
        kind, code, usual = classify(failure)
        if kind is errors.StatementRejected:
            kind, code = errors.Unavailable, "unexpected-answer"
        said = f'wrong user or password for "{username}"' if failure.code in _LOGIN else failure.message
        return kind(f"ClickHouse at {place}{through} refused the connection: code: {failure.code}, {said}", code=code, hint=usual or hint)
    check = "check host and port"
    if proxy:
        check = "check host and port, and the proxy that the address names with http_proxy="
    if failure.reason == TIMED_OUT:
        return errors.TimedOut(f"ClickHouse at {place} did not answer in time{through}", code="connect-timeout", hint=hint or check)
    if "WRONG_VERSION_NUMBER" in failure.reason:
        hint = "the server speaks no TLS on this port: drop secure=true (or https), or name the port that does (8443)"
    return errors.Unavailable(
        f"ClickHouse at {place} can't be reached{through}: {failure.reason}",
        hint=hint or f"{check}: greylag speaks HTTP (8123, TLS 8443)",
    )
