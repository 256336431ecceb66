"""The spellings of a secret that a program of the sequence may print: each is masked, whatever stands around it."""

from __future__ import annotations

import base64
import html
import json
import shlex
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator.address import redaction

SECRETS = st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF, exclude_categories=["Cs", "Cc", "Zs"]), min_size=10, max_size=40)

SPELLINGS: dict[str, Callable[[str], str]] = {
    "base64, as a Kubernetes Secret holds it": lambda secret: base64.b64encode(secret.encode()).decode(),
    "a Basic header": lambda secret: "Authorization: Basic " + base64.b64encode(f"migrator:{secret}".encode()).decode(),
    "base64 for URLs, with something before and behind": lambda secret: base64.urlsafe_b64encode(f"ab{secret}cde".encode()).decode(),
    "JSON": lambda secret: json.dumps({"password": secret}),
    "JSON that keeps letters": lambda secret: json.dumps({"password": secret}, ensure_ascii=False),
    "JSON within JSON": lambda secret: json.dumps({"body": json.dumps({"password": secret})}),
    "JSON of JavaScript's and PHP's": lambda secret: json.dumps(secret).replace("/", "\\/"),
    "HTML": lambda secret: html.escape(f"<td>{secret}</td>"),
    "HTML without quotes": lambda secret: html.escape(secret, quote=False),
    "a shell's quotes": lambda secret: f"psql {shlex.quote(secret)}",
    "a shell's backslashes": lambda secret: "".join(
        letter if letter.isascii() and letter.isalnum() else f"\\{letter}" for letter in secret
    ),
    "Python": lambda secret: repr({"password": secret}),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@given(secret=SECRETS)
def test_a_secret_is_masked_in_every_spelling(spelling: str, secret: str) -> None:
    text = SPELLINGS[spelling](secret)
    told = redaction.redact(f"before {text} behind", [secret])
    assert redaction.MASK in told
    assert secret not in told and text not in told
    assert told.startswith("before ") and told.endswith(" behind")


@given(secret=SECRETS)
def test_what_is_left_of_a_header_holds_at_most_the_letters_that_others_share(secret: str) -> None:
    encoded = base64.b64encode(f"migrator:{secret}".encode()).decode()
    left = redaction.redact(encoded, [secret]).replace(redaction.MASK, "")
    assert len(left.rstrip("=")) <= len(base64.b64encode(b"migrator:")) + 2
