"""A secret of one word in a file: a token, a secret id."""

from __future__ import annotations

from pathlib import Path

from migrator import errors
from tasks import redaction


def content(path: Path, variable: str) -> str:
    """A secret's text from its file, without the line break that editors and `echo` leave at its end; registered for redaction.

    Raises UsageError (`vault-token`) when the file can't be read, is empty or holds more than one word.
    """
    try:
        text = path.expanduser().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise errors.UsageError(f"{path} can't be read: {reason}", code="vault-token", hint=f"correct {variable}") from None
    redaction.register(text)
    if not text or len(text.split()) != 1:
        what = "is empty" if not text else "holds more than one word"
        raise errors.UsageError(f"{path} {what}", code="vault-token", hint=f"write the value alone into the file of {variable}")
    return text
