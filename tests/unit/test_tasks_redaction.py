"""The second wall: log records and exceptions leave the process without any secret that it knows."""

from __future__ import annotations

import logging
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator import errors
from migrator.address import redaction as masking
from tasks import backoff, redaction

SECRET = "tr0ub4dor&3 /ü"


@pytest.fixture(autouse=True)
def _known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masking, "_registered", set())
    redaction.register(SECRET)


def record(message: str, *arguments: object, error: BaseException | None = None) -> str:
    made = logging.LogRecord("x", logging.ERROR, "f.py", 1, message, arguments, (type(error), error, None) if error else None)
    assert redaction.Filter().filter(made)
    return logging.Formatter().format(made)


def test_a_secret_is_masked_raw_and_percent_encoded_and_in_arguments() -> None:
    assert record("connect to %s as %s", f"postgres://u:{quote(SECRET, safe='')}@h/d", SECRET) == "connect to postgres://u:***@h/d as ***"


def test_a_traceback_is_masked_the_cause_included() -> None:
    try:
        try:
            raise ValueError(SECRET)
        except ValueError as inner:
            raise RuntimeError("outside") from inner
    except RuntimeError as error:
        text = record("failed", error=error)
    assert "outside" in text and "***" in text
    assert SECRET not in text


def test_a_record_without_secrets_is_left_as_it_is() -> None:
    made = logging.LogRecord("x", logging.INFO, "f.py", 1, "%d of %s", (1, "two"), None)
    redaction.Filter().filter(made)
    assert (made.msg, made.args) == ("%d of %s", (1, "two"))


def test_a_record_with_a_wrong_number_of_arguments_passes() -> None:
    made = logging.LogRecord("x", logging.INFO, "f.py", 1, "%d of %d", (1,), None)
    assert redaction.Filter().filter(made)


def test_an_error_keeps_class_code_and_place_and_says_everything() -> None:
    error = errors.NotFound(
        f"about {SECRET}", code="wrong-database", hint=f"not {SECRET}", where=errors.Location("a.sql", 3), detail=SECRET
    )
    clean = redaction.sanitised(error)
    assert type(clean) is errors.NotFound
    assert str(clean) == "a.sql:3: about *** [wrong-database]\n***\nhint: not ***"
    assert (clean.code, clean.where, clean.transient) == ("wrong-database", errors.Location("a.sql", 3), False)


@pytest.mark.parametrize("error", [OSError(SECRET), KeyError(SECRET), TypeError(SECRET), UnicodeDecodeError("utf-8", b"x", 0, 1, SECRET)])
def test_a_foreign_error_becomes_one_with_the_same_verdict_on_retries(error: Exception) -> None:
    clean = redaction.sanitised(error)
    assert clean.code == ("internal" if backoff.permanent(error) else "unexpected")
    assert backoff.permanent(clean) is backoff.permanent(error)
    assert type(error).__name__ in str(clean) and SECRET not in str(clean)
    assert clean.__cause__ is None and clean.__context__ is None


@given(st.text(min_size=4, max_size=40), st.text(max_size=20), st.text(max_size=20))
def test_no_registered_secret_survives_in_any_text(secret: str, before: str, after: str) -> None:
    redaction.register(secret)
    if "*" in secret:  # the mask itself
        return
    assert secret not in redaction.clean(f"{before}{secret}{after}")


def test_handlers_are_filtered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    handler = logging.NullHandler()
    logger = logging.getLogger("tasks")
    logger.addHandler(handler)
    try:
        redaction.install()
        redaction.install()
        assert len(handler.filters) == 1
    finally:
        logger.removeHandler(handler)
