"""The data that a stack keeps between its starts: its servers' addresses (readable by anybody) and its passwords (mode 0600)."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import random
import secrets
import string
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from migrator import errors

DEFAULT_DIRECTORY = Path(".sandbox")
# Each has a meaning in a URL, in SQL, in a shell or in XML. If a password with all of them works, every other one works, too.
AWKWARD_CHARACTERS = "%/:@#?&+ '\"\\$éß漢"
_ADDRESSES = "stack.json"
_PASSWORDS = "passwords.json"
_LOCK = "stack.lock"


@dataclasses.dataclass(frozen=True, slots=True)
class Addresses:
    """The addresses of a stack's servers on 127.0.0.1, and the names of its work pools. Holds no secret."""

    pid: int
    fleet: str
    postgres_port: int
    clickhouse_http_port: int
    clickhouse_tcp_port: int
    vault_url: str
    vault_port: int
    prefect_url: str
    prefect_api_url: str
    prefect_port: int
    work_pools: dict[str, str]

    def as_json(self) -> str:
        """Returns the state file's text."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"


class Passwords:
    """All passwords and tokens of a stack, made when first asked for and kept in one file."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / _PASSWORDS
        self._known: dict[str, str] = json.loads(self._path.read_text(encoding="utf-8")) if self._path.exists() else {}

    def password(self, name: str) -> str:
        """Returns the password of a login, with every awkward character in it."""
        return self._known.setdefault(name, awkward_password())

    def token(self, name: str) -> str:
        """Returns a random word of letters and digits."""
        return self._known.setdefault(name, secrets.token_hex(24))

    def save(self) -> None:
        """Writes the file, mode 0600, in one step."""
        write_private(self._path, json.dumps(self._known, indent=2, ensure_ascii=False) + "\n")


def awkward_password() -> str:
    """Returns a random password of 24 letters and digits, and every awkward character once; it neither begins nor ends with a space."""
    characters = [secrets.choice(string.ascii_letters + string.digits) for _ in range(24)]
    middle = characters[1:-1] + list(AWKWARD_CHARACTERS)
    random.SystemRandom().shuffle(middle)
    return "".join([characters[0], *middle, characters[-1]])


def write_private(path: Path, text: str) -> None:
    """Writes a file that only its owner may read, in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    draft.replace(path)


def remember(directory: Path, addresses: Addresses) -> None:
    """Writes the state file."""
    draft = directory / (_ADDRESSES + ".new")
    draft.write_text(addresses.as_json(), encoding="utf-8")
    draft.replace(directory / _ADDRESSES)


def recall(directory: Path) -> Addresses | None:
    """Reads the state file of a stack that runs or ran; returns None when there is none, or when another version of greylag wrote it."""
    try:
        document: dict[str, Any] = json.loads((directory / _ADDRESSES).read_text(encoding="utf-8"))
        return Addresses(**document)
    except (OSError, ValueError, TypeError):
        return None


def running(directory: Path = DEFAULT_DIRECTORY) -> Addresses:
    """Returns the addresses of the stack that runs in a directory now.

    Raises:
        Unavailable: none does.
    """
    addresses = recall(directory)
    if addresses is None or not _is_held(directory):
        raise errors.Unavailable(
            f"no sandbox is running in {directory}",
            code="no-sandbox",
            hint="`make demo` starts one; so does `python -m sandbox.stack.stack`",
        )
    return addresses


@contextmanager
def held(directory: Path) -> Iterator[None]:
    """Reserves the directory for one stack; the kernel frees it however this process ends.

    Raises:
        Unavailable: another stack runs in it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / _LOCK).open("a", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            other = recall(directory)
            who = f" (process {other.pid})" if other else ""
            raise errors.Unavailable(
                f"a sandbox is already running in {directory}{who}",
                code="sandbox-running",
                hint="stop it with Ctrl-C where it runs, or choose another directory",
            ) from None
        yield


def _is_held(directory: Path) -> bool:
    try:
        with (directory / _LOCK).open("a", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
