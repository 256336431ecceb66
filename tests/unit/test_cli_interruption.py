"""Signals become errors wherever they arrive."""

from __future__ import annotations

import os
import signal

import pytest

from migrator import errors
from migrator.cli import interruption


def _import_with_a_fallback() -> None:
    """As psycopg imports its implementations: whatever happens meanwhile counts as "not there"."""
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    except Exception:  # noqa: BLE001
        raise ImportError("no pq wrapper available") from None


def test_bad_flow_signal_that_a_library_took_for_its_own_failure_is_an_interruption() -> None:
    with pytest.raises(errors.Interrupted, match="SIGTERM received"), interruption.guard(0.0):
        _import_with_a_fallback()


def test_failure_without_a_signal_stays_what_it_is() -> None:
    with pytest.raises(ImportError, match="nothing was sent"), interruption.guard(0.0):
        raise ImportError("nothing was sent")


def test_what_the_engine_makes_of_an_interruption_stays_as_it_is() -> None:
    def body() -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except errors.Interrupted:
            raise errors.TimedOut("as the engine tells it", hint="") from None

    with pytest.raises(errors.TimedOut, match="as the engine tells it"), interruption.guard(0.0):
        body()


def test_good_flow_a_run_that_was_started_to_outlive_its_terminal_does() -> None:
    """`nohup` starts its command with SIGHUP ignored."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interruption.guard(0.0):
            os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    with pytest.raises(errors.Interrupted, match="SIGHUP received"), interruption.guard(0.0):
        os.kill(os.getpid(), signal.SIGHUP)
