"""What the sandbox keeps between starts: passwords nobody else can read, addresses anybody may, one stack for each directory."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from migrator import errors
from sandbox import cache
from sandbox.stack import stack
from sandbox.stack import state as stack_state

ADDRESSES = stack_state.Addresses(
    pid=1,
    fleet="fleet.yaml",
    postgres_port=1,
    clickhouse_http_port=2,
    clickhouse_tcp_port=3,
    vault_url="http://127.0.0.1:4",
    vault_port=4,
    prefect_url="http://127.0.0.1:5",
    prefect_api_url="http://127.0.0.1:5/api",
    prefect_port=5,
    work_pools={"dev": "greylag-dev"},
)


def test_every_password_holds_every_awkward_character() -> None:
    words = {stack_state.awkward_password() for _ in range(200)}
    assert len(words) == 200
    for word in words:
        assert set(stack_state.AWKWARD_CHARACTERS) <= set(word)
        assert set("%/:@#?&+ '\"\\$") <= set(word) and not word.isascii()
        assert word == word.strip()


def test_passwords_are_made_once_and_kept_privately(tmp_path: Path) -> None:
    first = stack_state.Passwords(tmp_path)
    made = (first.password("auth-service-dev"), first.token("vault root"))
    assert first.password("auth-service-dev") == made[0] != first.password("auth-service-prod")
    first.save()
    again = stack_state.Passwords(tmp_path)
    assert (again.password("auth-service-dev"), again.token("vault root")) == made
    assert stat.S_IMODE((tmp_path / "passwords.json").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["passwords.json"]


def test_a_private_file_stays_private_when_it_is_written_again(tmp_path: Path) -> None:
    path = tmp_path / "credentials" / "secret-id"
    for text in ("first", "second"):
        stack_state.write_private(path, text)
        assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == (text, 0o600)


def test_addresses_are_recalled(tmp_path: Path) -> None:
    assert stack_state.recall(tmp_path) is None
    stack_state.remember(tmp_path, ADDRESSES)
    assert stack_state.recall(tmp_path) == ADDRESSES
    (tmp_path / "stack.json").write_text('{"pid": 1}')
    assert stack_state.recall(tmp_path) is None


def test_one_stack_for_each_directory(tmp_path: Path) -> None:
    directory = tmp_path / "sandbox"
    with stack_state.held(directory):
        stack_state.remember(directory, ADDRESSES)
        with pytest.raises(errors.Unavailable, match=r"already running in .* \(process 1\)"), stack_state.held(directory):
            pass
        assert stack_state.running(directory) == ADDRESSES
    with pytest.raises(errors.Unavailable, match="no sandbox is running"):
        stack_state.running(directory)
    with stack_state.held(directory):
        pass


def test_a_killed_stack_gives_its_directory_back(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path; from sandbox.stack import state as stack_state\n"
        "with stack_state.held(Path(sys.argv[1])): os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], cwd=Path(__file__).resolve().parents[2], check=False)
    assert done.returncode == -9
    with stack_state.held(tmp_path):
        pass


def test_bad_flow_no_sandbox_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(errors.Unavailable) as caught:
        stack_state.running(tmp_path / "none")
    assert caught.value.code == "no-sandbox"
    assert "make demo" in caught.value.hint


def test_the_cache_directory_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GREYLAG_CACHE", "/named")
    assert cache.directory() == Path("/named")
    monkeypatch.delenv("GREYLAG_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert cache.directory() == Path("/cache/greylag")


def test_bad_flow_an_unknown_environment_is_named(tmp_path: Path) -> None:
    with pytest.raises(errors.UsageError, match="no environment 'staging'") as caught:
        stack.client_environment(tmp_path, ADDRESSES, "staging")
    assert "dev" in caught.value.hint
