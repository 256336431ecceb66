"""A run's last words in a pod: complete where they fit, cut where they don't, always readable, never more than a kubelet keeps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator.cli import main, termination

FILE = "-- +goose Up\nCREATE TABLE t (id int);\n"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the outcome is asked for; the command runs beside a directory `m` of one file."""
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "1_t.sql").write_text(FILE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GREYLAG_TERMINATION_LOG", str(tmp_path / "termination-log"))
    return tmp_path / "termination-log"


def read(place: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(place.read_bytes())
    return found


def test_a_success_is_told_with_what_it_did() -> None:
    document = {"verb": "up", "seconds": 1.5, "current": 2, "finished": ["long"], "remarks": []}
    found = termination.outcome(document, 0, [(1, 3, 0.51239), (2, 1, 1.0)], bundle="b" * 64, plan="p" * 64)
    assert json.loads(termination.encode(found)) == {
        "greylag": 1,
        "verb": "up",
        "exit_code": 0,
        "applied": [[1, 3, 0.512], [2, 1, 1.0]],
        "seconds": 1.5,
        "current": 2,
        "bundle": "b" * 64,
        "plan": "p" * 64,
    }


def test_bad_flow_other_files_than_the_bundle_end_with_11(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["-dir", "m", "postgres", "postgres://u:s3cr3t@127.0.0.1:1/d", "up", "-bundle", "0" * 64]) == 11
    error = read(place)["error"]
    assert (error["code"], read(place)["exit_code"]) == ("bundle-changed", 11)
    assert error["hint"] and error["message"].endswith("asked for is bundle 000000000000")
    assert "[bundle-changed]" in capfd.readouterr().err


def test_bad_flow_an_error_before_there_is_a_run_is_told_too(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["-dir", "m", "postgres", "postgres://u:s3cr3t@h/d", "upp"]) == 2
    assert (read(place)["exit_code"], read(place)["error"]["code"]) == (2, "unknown-command")
    assert main(["-dir", "m", "mysql", "root:s3cr3t@/d", "up"]) == 2
    assert read(place)["error"]["code"] == "unknown-driver"
    assert b"s3cr3t" not in place.read_bytes()
    assert "s3cr3t" not in capfd.readouterr().err


def test_bad_flow_a_place_that_can_not_be_written_fails_nothing(
    place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GREYLAG_TERMINATION_LOG", str(place / "absent" / "file"))
    assert main(["-dir", "m", "validate"]) == 0
    assert "[no-termination-message]" in capfd.readouterr().err


_text = st.text(max_size=9000)
_error = st.fixed_dictionaries(
    {"code": st.text(max_size=40), "message": _text, "hint": _text, "detail": _text, "file": _text, "line": st.integers(1)}
)


@given(st.one_of(st.none(), _error), st.lists(st.tuples(st.integers(1, 2**63), st.integers(0, 10**6), st.floats(0, 10**6)), max_size=400))
def test_no_outcome_is_larger_than_a_kubelet_keeps_and_every_one_can_be_read(error: dict[str, Any] | None, applied: list[Any]) -> None:
    document = {"verb": "up", "seconds": 1.0, "current": 1, **({"error": error} if error else {})}
    encoded = termination.encode(termination.outcome(document, 14, applied, bundle="b" * 64, plan="p" * 64))
    assert len(encoded) <= termination.LARGEST
    found = json.loads(encoded)
    assert (found["greylag"], found["exit_code"], found["bundle"], found["plan"]) == (1, 14, "b" * 64, "p" * 64)
    assert len(found["applied"]) + found.get("left_out", 0) == len(applied)
    if applied:
        assert [found["applied"][0][0], found["applied"][-1][0]] == [applied[0][0], applied[-1][0]]
    for key, value in (error or {}).items():
        if value and len(json.dumps(value)) < 90:
            assert found["error"][key] == value


def test_a_long_statement_keeps_its_beginning_and_what_the_server_said() -> None:
    message = "ERROR 1_t.sql: failed to execute SQL query " + "x" * 9000 + ': relation "absent" does not exist'
    found = json.loads(
        termination.encode(termination.outcome({"verb": "up", "error": {"code": "sql-rejected", "message": message}}, 14, ()))
    )
    assert found["error"]["message"].startswith("ERROR 1_t.sql: failed")
    assert found["error"]["message"].endswith(': relation "absent" does not exist')
