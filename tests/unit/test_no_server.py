"""The guard of this directory: a test that starts a server, or asks a fixture for one, fails and is told where it belongs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sandbox.processes import ServerProcess
from sandbox.vault.secrets_server import SecretsServer
from tests.unit import conftest

REFUSED = "tests/unit starts no server, and this asks for {}: move the test"


def test_bad_flow_a_server_that_a_test_starts(tmp_path: Path) -> None:
    with pytest.raises(pytest.fail.Exception, match=REFUSED.format("sleeper")):
        ServerProcess("sleeper", ["sleep", "1"], log=tmp_path / "log").start()
    with pytest.raises(pytest.fail.Exception, match=REFUSED.format("a secrets server")), SecretsServer():
        pass


def test_bad_flow_a_fixture_that_starts_one() -> None:
    item: Any = SimpleNamespace(fixturenames=["tmp_path", "postgres_url", "new_postgres_url", "postgres_server"])
    with pytest.raises(pytest.fail.Exception, match=REFUSED.format("the fixture `postgres_server`")):
        conftest.pytest_runtest_setup(item)
    item.fixturenames.remove("postgres_server")
    conftest.pytest_runtest_setup(item)


def test_the_fixtures_that_it_names_are_there() -> None:
    source = (Path(__file__).parents[1] / "conftest.py").read_text(encoding="utf-8")
    assert [name for name in sorted(conftest.FIXTURES) if f"def {name}(" not in source] == []
