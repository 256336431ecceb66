"""Reads the files of a mounted Kubernetes Secret: one file per key, named after it. The meaning of the keys is the caller's business.

The kubelet keeps the files of one version of the Secret in a hidden directory, to which the link `..data` points, and swaps that link when the Secret
changes. So names that begin with a dot are no keys, and if `..data` changed during a read, all is read again: a new password never comes with an old user.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from migrator import errors


def read(directory: Path, wanted: Collection[str], *, name: str, hint: str) -> dict[str, str]:
    """Returns the text of every key: UTF-8, without the one line end (`\\n` or `\\r\\n`) that editors and `echo` leave at the end. Everything
    else belongs to the value. A key that is not wanted gets an empty text, and its file isn't read.

    Args:
        name: the directory's name in messages.
        hint: what to do when there is no such directory.

    Raises NotFound: `secret-missing` (the directory can't be read), `key-missing` (a file can't). UsageError: `bad-secret` (it is not UTF-8).
    """
    while True:  # repeats only after a change by the kubelet, which makes at most one in a minute
        state = _state(directory)
        try:
            found = {key: _text(directory / key) if key in wanted else "" for key in _keys(directory, name, hint)}
        except errors.GreylagError:
            if state == _state(directory):
                raise
        else:
            if state == _state(directory):
                return found


def _state(directory: Path) -> Path | None:
    """Returns the target of the link `..data`; None when the files are not a kubelet's."""
    try:
        return (directory / "..data").readlink()
    except OSError:
        return None


def _keys(directory: Path, name: str, hint: str) -> list[str]:
    try:
        return sorted(item.name for item in directory.iterdir() if not item.name.startswith(".") and item.is_file())
    except OSError as error:
        raise errors.NotFound(f"{name} can't be read: {(error.strerror or '').lower()}", code="secret-missing", hint=hint) from None


def _text(path: Path) -> str:
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        raise errors.UsageError(
            f"{path} is not UTF-8", code="bad-secret", hint=f"write {path.name} anew into its Secret, as UTF-8"
        ) from None
    except OSError as error:
        raise errors.NotFound(
            f"{path} can't be read: {(error.strerror or '').lower()}",
            code="key-missing",
            hint="the user that runs this must be allowed to read it",
        ) from None
    return text.removesuffix("\r\n") if text.endswith("\r\n") else text.removesuffix("\n")
