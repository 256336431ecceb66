"""Holds the tests of this directory to what they promise: they start no server.

A fake in this process (`fake_api_server.py`) is none; what the sandbox starts is, whether a fixture or the test itself starts it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NoReturn

import pytest

from sandbox import processes
from sandbox.vault import secrets_server

FIXTURES = {"postgres_server", "clickhouse_server", "prefect_server", "secrets_server", "first_demo"}
"""The fixtures of tests/conftest.py that start a server; the others ask for these."""


def _refuse(what: str) -> NoReturn:
    pytest.fail(f"tests/unit starts no server, and this asks for {what}: move the test to the directory of what it needs (CONTRIBUTING.md)")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Refuses a test by the fixtures that it asks for, before the first of them is made: a server may be running already."""
    for name in sorted(FIXTURES & set(getattr(item, "fixturenames", ()))):
        _refuse(f"the fixture `{name}`")


@pytest.fixture(autouse=True, scope="module")
def _no_server() -> Iterator[None]:
    """Makes every start of a sandbox's server fail."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processes.ServerProcess, "start", lambda self: _refuse(self.name))
        patch.setattr(secrets_server.SecretsServer, "__enter__", lambda _: _refuse("a secrets server"))
        yield
