"""The table of the kinds of source. A source is one line of fleet.yaml, for a service, an environment or the whole fleet.

Another kind of source is a class in a file of its own, beside these, and one more name in `KINDS`.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, ValidationError

from tasks.credentials.dynamic import DatabaseLogin
from tasks.credentials.kv import VaultSecret
from tasks.credentials.mounted import MountedFiles, Variables
from tasks.credentials.source import Source

KINDS: dict[str, type[Source]] = {kind.word: kind for kind in (VaultSecret, DatabaseLogin, MountedFiles, Variables)}
"""The words of fleet.yaml, and the kinds they stand for."""

VAULT = VaultSecret()
"""The source of credentials when fleet.yaml names none."""


def written(value: Any) -> Any:
    """Reads a source's two forms: a word, or a mapping of one word to its place, with the other options of its kind.

    Raises ValueError with a text that fits a message about fleet.yaml.
    """
    if isinstance(value, str):
        value = {value: ""}
    if not isinstance(value, Mapping):
        return value
    words = [word for word in value if word in KINDS]
    options = {name: kind.word for kind in KINDS.values() for name in kind.model_fields if name != "place"}
    strange = [str(word) for word in value if word not in words and word not in options]
    if strange or len(words) != 1:
        near = difflib.get_close_matches(strange[0], list(KINDS), n=1) if strange else []
        what = f'"{strange[0]}" is no source of credentials' if strange else "credentials have one source"
        raise ValueError(f"{what}: {f'did you mean {near[0]}? ' if near else ''}write {_examples()}")
    kind, given = KINDS[words[0]], {"place": value[words[0]] or "", **{name: value[name] for name in options if name in value}}
    if not all(isinstance(text, str) for text in given.values()):
        raise ValueError(f"what follows {kind.word} is a text: write {_examples()}")
    for name in given.keys() - kind.model_fields.keys():
        raise ValueError(f"{name} goes with {options[name]}: the other sources hold it themselves")
    try:
        return kind(**{name: text.strip() for name, text in given.items()})
    except ValidationError as error:
        raise ValueError(error.errors()[0]["msg"].removeprefix("Value error, ")) from None


AnySource = Annotated[Source, BeforeValidator(written)]
"""A source as a field of fleet.yaml's models."""


def _examples() -> str:
    """Lists the kinds as they are written, first those of a single word, then those with a place."""
    found = sorted((kind.example for kind in KINDS.values()), key=lambda example: example.startswith("{"))
    return f"{', '.join(found[:-1])} or {found[-1]}"
