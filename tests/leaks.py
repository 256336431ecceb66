"""Looks for planted markers in whatever is stored or shown, in every spelling that a program may give them."""

from __future__ import annotations

import base64
import contextlib
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from sandbox.stack.prefect_server import PrefectServer

Place = tuple[str, bytes]
"""Where something is, and what is there."""

_AROUND = 120  # characters before a find, to see what it is


def spellings(marker: str) -> list[bytes]:
    """A marker as text, and inside base64 at each of the three places where it may begin (a persisted result is a pickle in base64)."""
    raw = marker.encode()
    encoded = [base64.b64encode(b"\0" * shift + raw)[4 if shift else 0 :] for shift in range(3)]
    return [raw, *(item.rstrip(b"=")[: -4 or None] for item in encoded)]


def found(markers: Mapping[str, str], places: Iterable[Place]) -> list[str]:
    """Every find: which marker, where, and what stands before it.

    Args:
        markers: by name. Of a password its plain part is enough: percent-encoding leaves it as it is.
    """
    return [
        f"{name} in {place}: …{content[max(content.find(spelling) - _AROUND, 0) : content.find(spelling) + 10]!r}"
        for place, content in places
        for name, marker in markers.items()
        for spelling in spellings(marker)
        if spelling in content
    ]


def stored(server: PrefectServer) -> Iterator[Place]:
    """Everything that Prefect keeps: each file of the server's and the clients' homes, and each row of the database (a file's page may cut a text)."""
    for root in (server.directory, Path(os.environ["PREFECT_HOME"])):
        for path in sorted(root.rglob("*")):
            if path.is_file():
                with contextlib.suppress(FileNotFoundError):
                    yield str(path), path.read_bytes()
    with contextlib.closing(sqlite3.connect(f"file:{server.home / 'prefect.db'}?mode=ro", uri=True)) as database:
        for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            rows = database.execute(f'SELECT * FROM "{table}"').fetchall()
            yield f"table {table}", "\n".join(str(row) for row in rows).encode("utf-8", "surrogatepass")
