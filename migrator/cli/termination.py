"""The last words of a run in a pod: its outcome as compact JSON in the file that the kubelet puts into the pod's status.

`GREYLAG_TERMINATION_LOG` names the file (`/dev/termination-log`). Kubernetes keeps 4096 bytes of it, and they can be read by whoever may read
pods, also when the pod's log is gone (kubernetes.md §1.6).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

LARGEST = 4096
"""Bytes that a kubelet reads of a termination message."""

FORMAT = 1
"""The value of the key `greylag`, by which a reader knows that this is an outcome and not the end of some log."""

CUT = " … "

LONGEST_PARTS = (3000, 1500, 700, 300, 100)
"""Characters that message and detail may keep, tried in order until the whole fits."""

_EXCESS = "left_out"


def outcome(
    document: Mapping[str, Any], exit_code: int, applied: Iterable[tuple[int, int, float]], *, bundle: str = "", plan: str = ""
) -> dict[str, Any]:
    """Makes the outcome out of a verb's document (`-json`'s), and what was recorded: (version, statements, seconds) per migration."""
    found: dict[str, Any] = {"greylag": FORMAT, "verb": document.get("verb", ""), "exit_code": exit_code}
    if error := document.get("error"):
        found["error"] = {key: error[key] for key in ("code", "message", "hint", "file", "line", "detail") if error.get(key)}
    found["applied"] = [[version, statements, round(seconds, 3)] for version, statements, seconds in applied]
    found.update({key: document[key] for key in ("seconds", "current") if key in document})
    found.update({key: value for key, value in (("bundle", bundle), ("plan", plan)) if value})
    return found


def encode(found: Mapping[str, Any], largest: int = LARGEST) -> bytes:
    """Encodes the outcome as ASCII JSON of at most `largest` bytes. What is too long is cut: texts in their middle, of the applied versions those after
    the first ones but for the last, and how many are left out is said.
    """
    text = _dump(found)
    for longest in LONGEST_PARTS:
        if len(text) <= largest:
            return text
        text = _dump(_cut(found, longest, 10_000))
    for kept in (100, 50, 20, 5, 1):
        if len(text) <= largest:
            return text
        text = _dump(_cut(found, LONGEST_PARTS[-1], kept))
    return text


def write(found: Mapping[str, Any], path: str) -> str:
    """Writes the outcome; returns why that failed, empty where it did not. A run never fails for want of it."""
    try:
        Path(path).write_bytes(encode(found))  # in place: the kubelet mounts this one file, so nothing could be renamed over it
    except OSError as error:
        return (error.strerror or type(error).__name__).lower()
    return ""


def _dump(found: Mapping[str, Any]) -> bytes:
    return json.dumps(found, separators=(",", ":"), default=str).encode("ascii")


def _cut(found: Mapping[str, Any], longest: int, kept: int) -> dict[str, Any]:
    copy = dict(found)
    if error := copy.get("error"):
        copy["error"] = {key: _shortened(value, longest) if isinstance(value, str) else value for key, value in error.items()}
    applied = list(copy.get("applied") or ())
    if len(applied) > kept + 1:
        copy["applied"] = [*applied[:kept], applied[-1]]
        copy[_EXCESS] = len(applied) - kept - 1
    return copy


def _shortened(text: str, longest: int) -> str:
    """Returns the text with its middle left out so that its JSON has at most `longest` characters, escapes included."""
    if len(json.dumps(text)) <= longest:
        return text
    half = max((longest - 2 * len(json.dumps(CUT))) // 2, 1)
    head, tail = text[:half], text[-half:]
    while len(json.dumps(head)) > half + 2 and len(head) > 1:
        head = head[: len(head) * 3 // 4]
    while len(json.dumps(tail)) > half + 2 and len(tail) > 1:
        tail = tail[-(len(tail) * 3 // 4) :]
    return head + CUT + tail
