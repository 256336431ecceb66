"""`status` and `verify` of several targets: what the line of each says, and the last lines."""

from __future__ import annotations

from typing import Any

import pytest

from migrator.cli import abreast

STATUS: dict[str, Any] = {"current": 5, "pending": [], "changed": [], "not_in_directory": [], "half_applied": [], "exit_code": 0}

VERIFIED: dict[str, Any] = {"status": {"current": 5}, "objects_checked": 12, "exit_code": 0}

REFUSED: dict[str, Any] = {
    "error": {"code": "vault-forbidden", "message": "Vault refuses it\nand more", "hint": "ask for the policy"},
    "exit_code": 12,
}


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({}, "version 5  up to date"),
        ({"pending": [6, 7]}, "version 5  2 pending: 6, 7"),
        ({"pending": [6, 7, 8, 9, 10]}, "version 5  5 pending: 6, 7, 8 and 2 more"),
        ({"changed": [2], "not_in_directory": [1]}, "version 5  changed after they were applied: 2; not in the directory: 1"),
        ({"half_applied": [{"version": 6}]}, "version 5  half applied: 6"),
        ({"pending": [6], "exit_code": 3}, "version 5  1 pending: 6"),
    ],
)
def test_the_line_of_a_status_says_the_version_and_what_is_not_in_order(change: dict[str, Any], line: str) -> None:
    assert abreast.line("status", STATUS | change) == line


def test_the_line_of_a_verification_says_what_was_compared_or_what_is_wrong() -> None:
    wrong = {"error": {"code": "verification-failed", "message": "table t: missing"}, "exit_code": 16}
    assert abreast.line("verify", VERIFIED) == "version 5  verified, 12 object(s)"
    assert abreast.line("verify", VERIFIED | wrong) == "version 5  table t: missing [verification-failed]"


def test_a_target_that_could_not_be_asked_is_one_line_with_its_reason() -> None:
    assert abreast.line("status", REFUSED) == "Vault refuses it [vault-forbidden]"


def test_the_last_lines_count_and_say_each_hint_once() -> None:
    assert abreast.closing("verify", [VERIFIED, REFUSED, REFUSED]) == ["1 of 3 verified", "hint [vault-forbidden]: ask for the policy"]
    assert abreast.closing("status", [STATUS | {"pending": [6], "exit_code": 3}]) == ["1 of 1 answered"]
