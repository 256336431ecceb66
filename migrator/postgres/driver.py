"""psycopg for a process that runs nothing else: imported without what only programs with an event loop use of it.

Half of the time that `import psycopg` takes goes into asyncio, `typing_extensions`, the reading of package metadata, ssl, and what these import in
turn; greylag's connections use none of it, and in a run with nothing to do that is a fifth of everything. So the `greylag` command, and only the command, has
psycopg imported beside stand-ins for them. They are there while psycopg is imported and gone afterwards: whoever imports asyncio later gets asyncio. A name
that a stand-in doesn't have (of another version of psycopg) is taken from the real module. What can't work is psycopg's own asyncio side, and says so.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
import threading
import typing
from collections.abc import Callable, Iterator
from types import ModuleType


def load() -> None:
    """Imports psycopg, where nobody has imported it yet. Does nothing in another thread than the main one, beside which others may be importing."""
    if "psycopg" not in sys.modules and threading.current_thread() is threading.main_thread():
        with _standing_in():
            import psycopg  # noqa: F401


@contextlib.contextmanager
def _standing_in() -> Iterator[None]:
    made = {name: _StandIn(name, make()) for name, make in _STAND_INS.items() if name not in sys.modules}
    sys.modules.update(made)
    if "ctypes.util" in made:
        ctypes.util = made["ctypes.util"]  # whoever asks it for something gets that of the real one
    try:
        yield
    finally:
        for name, module in made.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]


class _StandIn(ModuleType):
    """A module that has a few names itself and gets every other one from the real module."""

    def __init__(self, name: str, names: dict[str, object]) -> None:
        super().__init__(name)
        self.__dict__.update(names)

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):  # what the import system asks every module for
            raise AttributeError(name)
        from importlib import import_module

        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(import_module(self.__name__), name)


# --- what stands in ---------------------------------------------------------------------------------------------------------------


def _asyncio() -> dict[str, object]:
    def unusable(*_: object, **__: object) -> typing.NoReturn:
        raise RuntimeError("this process has psycopg without its asyncio side: `greylag` imports it so (migrator.postgres.driver)")

    class Unusable:
        """Stands where a class is named or inherited from; making one raises RuntimeError."""

        __init__ = unusable

        def __class_getitem__(cls, _: object) -> type:
            return cls

    class CancelledError(BaseException):
        """Is never raised: nothing runs that could be cancelled."""

    classes = dict.fromkeys(("Future", "Lock", "Queue", "Task"), Unusable)
    return {**classes, "CancelledError": CancelledError, "get_running_loop": unusable, "sleep": unusable}


def _typing_extensions() -> dict[str, object]:
    def type_variable(name: str, *constraints: type, default: object = None, **how: bool) -> object:
        """Makes a type variable without its default, which only type checkers read."""
        return typing.TypeVar(name, *constraints, **how)

    return {"TypeVar": type_variable}


def _metadata() -> dict[str, object]:
    def version(distribution: str) -> str:
        """Returns the version of psycopg or of its binary part, as the name of its metadata's directory tells it."""
        from os import scandir

        start = f"{distribution.replace('-', '_')}-"
        for place in sys.path:
            with contextlib.suppress(OSError), scandir(place or ".") as entries:
                for entry in entries:
                    if entry.name.startswith(start) and entry.name.endswith(".dist-info"):
                        return entry.name[len(start) : -len(".dist-info")]
        raise LookupError(distribution)

    return {"version": version, "PackageNotFoundError": LookupError}


_STAND_INS: dict[str, Callable[[], dict[str, object]]] = {
    "asyncio": _asyncio,
    "ctypes.util": dict,  # finds a libpq where psycopg's binary part is not installed
    "importlib.metadata": _metadata,
    "ssl": dict,  # imported for OpenSSL before 1.1, which two libraries in one process had to agree about
    "typing_extensions": _typing_extensions,
}
