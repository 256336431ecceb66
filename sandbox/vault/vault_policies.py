"""Vault's ACL policies as pure data: parsing (HCL's `path` blocks or JSON) and the decision which rule governs a path.

The rules of precedence are those of Vault's documentation ("Policies", priority matching): the most specific pattern wins, rules of
several policies for the same pattern are joined, and `deny` beats everything beside it.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping

CAPABILITIES = frozenset({"create", "read", "update", "patch", "delete", "list", "sudo", "deny", "recover", "scan"})

DEFAULT_POLICY = """
path "auth/token/lookup-self" { capabilities = ["read"] }
path "auth/token/renew-self" { capabilities = ["update"] }
path "auth/token/revoke-self" { capabilities = ["update"] }
"""

_BLOCK = re.compile(r'path\s+"(?P<path>[^"]+)"\s*\{(?P<body>[^{}]*)\}')
_LIST = re.compile(r"capabilities\s*=\s*\[(?P<items>[^\]]*)\]")
_COMMENT = re.compile(r"(?m)(?:#|//).*$")


class BadPolicy(ValueError):
    """The text is not a policy; the message says why."""


@dataclasses.dataclass(frozen=True, slots=True)
class Policy:
    """Path patterns (`*` at the end, `+` for one segment) and what they allow."""

    rules: Mapping[str, frozenset[str]]


def parse(text: str) -> Policy:
    """Reads a policy.

    Raises:
        BadPolicy: not HCL or JSON of this kind, or an unknown capability.
    """
    stripped = text.strip()
    pairs = _json_rules(stripped) if stripped.startswith("{") else _hcl_rules(stripped)
    rules: dict[str, frozenset[str]] = {}
    for path, names in pairs:
        unknown = sorted(names - CAPABILITIES)
        if unknown:
            raise BadPolicy(f'path "{path}": invalid capability "{unknown[0]}"')
        rules[path.strip("/") if path != "*" else path] = names
    return Policy(rules)


def _json_rules(text: str) -> list[tuple[str, frozenset[str]]]:
    try:
        paths = json.loads(text).get("path", {})
        return [(path, frozenset(rule["capabilities"])) for path, rule in paths.items()]
    except (ValueError, AttributeError, KeyError, TypeError):
        raise BadPolicy("failed to parse policy: not a JSON policy") from None


def _hcl_rules(text: str) -> list[tuple[str, frozenset[str]]]:
    plain = _COMMENT.sub("", text)
    if _BLOCK.sub("", plain).strip():
        raise BadPolicy('failed to parse policy: only `path "…" { capabilities = […] }` blocks are understood')
    rules = []
    for block in _BLOCK.finditer(plain):
        listed = _LIST.search(block["body"])
        items = re.findall(r'"([^"]*)"', listed["items"]) if listed else []
        rules.append((block["path"], frozenset(items)))
    return rules


def capabilities(policies: Iterable[Policy], path: str) -> frozenset[str]:
    """What the policies together allow on a path without a leading slash; empty means nothing."""
    best: tuple[tuple[float, bool, int, int, str], str] | None = None
    joined: dict[str, frozenset[str]] = {}
    for policy in policies:
        for pattern, names in policy.rules.items():
            if not _matches(pattern, path):
                continue
            joined[pattern] = joined.get(pattern, frozenset()) | names
            rank = (_rank(pattern), pattern)
            if best is None or rank > best:
                best = rank
    allowed = joined[best[1]] if best else frozenset()
    return frozenset() if "deny" in allowed else allowed


def _matches(pattern: str, path: str) -> bool:
    body, star = (pattern[:-1], True) if pattern.endswith("*") else (pattern, False)
    expression = "[^/]+".join(re.escape(part) for part in body.split("+"))
    return re.fullmatch(expression + (".*" if star else ""), path) is not None


def _rank(pattern: str) -> tuple[float, bool, int, int, str]:
    """Higher is more specific: a later first wildcard, no `*` at the end, fewer `+`, longer, later in the alphabet."""
    first = min((position for position in (pattern.find("+"), pattern.find("*")) if position >= 0), default=float("inf"))
    return first, not pattern.endswith("*"), -pattern.count("+"), len(pattern), pattern
