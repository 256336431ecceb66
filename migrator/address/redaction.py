"""Removes passwords from text before it is printed, logged or stored: the second of two safeguards (promises.md §3).

The first safeguard is that no secret gets into a message at all. This one recognises passwords by their place in a URL or a
connection string, and the secrets that a caller has registered.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus, unquote, unquote_plus

MASK = "***"

SHORTEST_SECRET = 4
"""Characters. A shorter registered secret is masked only in the place of a password: masking every "a" of a log would make the log unreadable,
and would itself reveal the secret."""

# Patterns stay texts: `re` compiles and caches them at first use, and most starts of the command redact nothing.
_AUTHORITY = r"([A-Za-z][A-Za-z0-9+.\-]*://)([^\n]*)"

_HOST_ONLY = r"(?:\[[^\]]*\]|[^\s:/?#@]*)(?::\d*)?(?:,[\w.\-\[\]]*(?::\d*)?)*(?:[/?#\"'`)\s;.]|$)"

_USER = r"(?!.*%3[aA])(?:[\w.+\-~]|%[0-9A-Fa-f]{2}){1,24}"
"""A text alone before the `@` that is a user's name and no secret. A longer one, or one with other characters, may be a token (`https://TOKEN@host`) or a
password that was not percent-encoded."""

_KEYWORD = (
    r"(?i)((?<![A-Za-z])(?:ssl)?password|PGPASSWORD|(?<![A-Za-z])passwd|(?<![A-Za-z])secret_id|(?<![A-Za-z])token)"
    r"(\s*=\s*|%3[dD])"
    r"('(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|(?:\\.|[^\s&\"'#])+)"
)


_ENCODED = r"(?i)([a-z][a-z0-9+.\-]*%3A%2F%2F)((?:(?!%40|%2F|%3A)[^\s/@])*)(%3A(?:(?!%2F)[^\s/@])*)?(?=%40)"
"""A URL inside another one, wholly percent-encoded: `postgres%3A%2F%2Fuser%3Apassword%40host`."""

_SHORTEST_LETTERS = 8
"""Letters of base64 that are taken for a secret within something longer; fewer would be found by chance."""

_registered: set[str] = set()

_spelled: dict[str, tuple[str, ...]] = {}
"""The spellings of each secret that was looked for: a log has many lines."""


def register(*secrets: str) -> None:
    """Registers values as secrets for the rest of the process."""
    _registered.update(value for value in secrets if value)


def known() -> Iterable[str]:
    """Returns the registered secrets."""
    return tuple(_registered)


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """Returns `text` without passwords: those in the userinfo of URLs (a user's name alone is shown), those after `password=` in connection strings and
    query strings, and every form (raw, percent-encoded, escaped in quotes) of the given secrets."""
    for secret in sorted({item for item in secrets if len(item) >= SHORTEST_SECRET}, key=len, reverse=True):
        for form in _forms(secret):
            text = text.replace(form, MASK)
    text = re.sub(_AUTHORITY, lambda found: found[1] + _without_userinfo(found[2]), text)
    text = re.sub(_ENCODED, lambda found: f"{found[1]}{found[2]}%3A{MASK}" if found[3] else f"{found[1]}{MASK}", text)
    return re.sub(_KEYWORD, lambda found: f"{found[1]}{found[2]}{MASK}", text)


def _forms(secret: str) -> tuple[str, ...]:
    """Returns the possible spellings of a secret in a message, longest first, so that no form is left half masked by a shorter one."""
    known_forms = _spelled.get(secret)
    if known_forms is None:
        made = {secret, *_in_urls(secret), *_in_quotes(secret), *_in_markup(secret), *_in_base64(secret)}
        known_forms = _spelled[secret] = tuple(sorted(made, key=len, reverse=True))
    return known_forms


def _in_urls(secret: str) -> Iterator[str]:
    encoded = (quote(secret, safe="", errors="replace"), quote_plus(secret, errors="replace"), quote(secret, errors="replace"))
    yield from encoded
    yield from (re.sub("%[0-9A-F]{2}", lambda found: found[0].lower(), item) for item in encoded)


def _in_quotes(secret: str) -> Iterator[str]:
    """Yields what SQL, Python, JSON (also within JSON) and a shell make of it."""
    from json import dumps

    escaped = secret.replace("\\", "\\\\")
    yield from (escaped, escaped.replace("'", "\\'"), escaped.replace('"', '\\"'), secret.replace("'", "''"), repr(secret)[1:-1])
    yield from (ascii(secret)[1:-1], repr(secret.encode("utf-8", "backslashreplace"))[2:-1])
    for inside in (dumps(secret)[1:-1], dumps(secret, ensure_ascii=False)[1:-1]):
        yield from (inside, inside.replace("/", "\\/"), dumps(inside)[1:-1], dumps(inside, ensure_ascii=False)[1:-1])
    yield from (secret.replace("'", "'\"'\"'"), secret.replace("'", "'\\''"))
    yield from (re.sub(specials, r"\\\1", secret) for specials in (r"([^A-Za-z0-9_@%+=:,./-])", r"([^A-Za-z0-9])", r"(?a:(\W))"))


def _in_markup(secret: str) -> Iterator[str]:
    from html import escape

    full = escape(secret)
    yield from (full, escape(secret, quote=False), full.replace("&#x27;", "&#39;"), full.replace("&#x27;", "&apos;"))


def _in_base64(secret: str) -> Iterator[str]:
    """Yields the letters that stand for it alone in base64, wherever it begins in what was encoded: a Kubernetes Secret, a header `Basic user:password`."""
    from base64 import b64encode, urlsafe_b64encode

    content = secret.encode("utf-8", "replace")
    for encode in (b64encode, urlsafe_b64encode):
        yield encode(content).decode()
        for before in range(3):
            letters = encode(bytes(before) + content).decode().rstrip("=")
            first = (before * 8 + 5) // 6  # letters that hold bits of what stands before it
            last = (before + len(content)) * 8 // 6  # and behind it
            if last - first >= _SHORTEST_LETTERS:
                yield letters[first:last]


def passwords(text: str) -> Iterator[str]:
    """Yields the passwords of the addresses in a text (URLs, `password=`), each as it is written and decoded."""
    for found in re.finditer(_AUTHORITY, text):
        end = _userinfo_end(found[2])
        yield from _spellings(found[2][:end].partition(":")[2] if end > 0 else "")
    _, scheme, rest = text.partition("://")
    if scheme and "\n" in rest:  # a password that holds a line break
        yield from _spellings(rest.rpartition("@")[0].partition(":")[2])
    for found in re.finditer(_KEYWORD, text):
        yield from _spellings(found[3].strip("'\""))


def _spellings(password: str) -> Iterator[str]:
    if password:
        yield from (password, unquote(password), unquote_plus(password))


def _userinfo_end(rest: str) -> int:
    """Returns where the userinfo ends in the text after `scheme://`; -1 without one.

    The password ends at the last `@` before white space, as Go reads a URL. When there is no such `@`, and the text isn't just a host and a port,
    the password holds a space: then it ends at the last `@` of the line.
    """
    word = re.match(r"\S*", rest)
    end = (word[0] if word else "").rfind("@")
    if end < 0 and not re.match(_HOST_ONLY, rest):
        end = rest.rfind("@")
    return end


def _without_userinfo(rest: str) -> str:
    """Masks the password in the rest of a line after `scheme://`."""
    following = re.search(r"[A-Za-z][A-Za-z0-9+.\-]*://", rest)
    if following:  # the next URL on the line is handled on its own
        head, tail = rest[: following.start()], rest[following.start() :]
        return _without_userinfo(head) + following[0] + _without_userinfo(tail[len(following[0]) :])
    end = _userinfo_end(rest)
    if end < 0:
        return rest
    user, colon, _ = rest[:end].partition(":")
    if colon:
        return f"{user}:{MASK}{rest[end:]}"
    return rest if re.fullmatch(_USER, user) else f"{MASK}{rest[end:]}"
