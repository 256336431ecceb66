"""A mounted Secret as the kubelet leaves it: its links, its swaps, and what belongs to a value."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator import errors
from migrator.address import mounted_secret


def read(directory: Path, *wanted: str) -> dict[str, str]:
    return mounted_secret.read(directory, wanted, name="the directory", hint="mount it")


class Kubelet:
    """Writes a Secret's states as the kubelet's atomic writer does: a directory per state, `..data` swapped by a rename, one link per key."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._states = itertools.count()

    def write(self, **keys: str) -> None:
        state = self._directory / f"..{next(self._states)}"
        state.mkdir()
        for key, value in keys.items():
            (state / key).write_bytes(value.encode())
        data, fresh = self._directory / "..data", self._directory / "..data_tmp"
        before = data.resolve() if data.is_symlink() else None
        fresh.symlink_to(state.name)
        fresh.rename(data)
        for key in keys:
            if not (self._directory / key).is_symlink():
                (self._directory / key).symlink_to(Path("..data") / key)
        if before is not None:
            for item in before.iterdir():
                item.unlink()
            before.rmdir()


def test_links_of_a_kubelet_are_keys_and_hidden_names_are_not(tmp_path: Path) -> None:
    Kubelet(tmp_path).write(username="u", password="p", token="never read")
    (tmp_path / "folder").mkdir()
    (tmp_path / ".hidden").write_text("x")
    assert read(tmp_path, "username", "password", "absent", ".hidden", "..data") == {"username": "u", "password": "p", "token": ""}


def test_a_secret_that_changes_meanwhile_is_read_as_one_state(tmp_path: Path) -> None:
    kubelet, over = Kubelet(tmp_path), threading.Event()
    kubelet.write(username="0", password="0")

    def swap() -> None:
        for number in itertools.count(1):
            if over.wait(0.001):
                return
            kubelet.write(username=str(number), password=str(number))

    swapping = threading.Thread(target=swap)
    swapping.start()
    try:
        seen = [read(tmp_path, "username", "password") for _ in range(300)]
    finally:
        over.set()
        swapping.join()
    assert all(found["username"] == found["password"] for found in seen)
    assert len({found["username"] for found in seen}) > 1


def test_a_key_that_is_removed_meanwhile_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kubelet, real = Kubelet(tmp_path), Path.read_bytes
    kubelet.write(extra="x", password="old")
    swaps = iter(["new"])

    def read_bytes(path: Path) -> bytes:
        for value in swaps:
            kubelet.write(password=value)
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    assert read(tmp_path, "extra", "password") == {"password": "new"}


@pytest.mark.parametrize(
    ("content", "value"),
    [
        ("p", "p"),
        ("p\n", "p"),
        ("p\r\n", "p"),
        ("p\n\n", "p\n"),
        ("p\r\n\r\n", "p\r\n"),
        ("p\r", "p\r"),
        (" p \t\n", " p \t"),
        ("\n", ""),
        ("", ""),
    ],
)
def test_exactly_one_line_end_is_dropped(tmp_path: Path, content: str, value: str) -> None:
    (tmp_path / "password").write_bytes(content.encode())
    assert read(tmp_path, "password") == {"password": value}


@given(st.text(st.characters(codec="utf-8")), st.sampled_from(["\n", "\r\n"]))
def test_every_value_survives_with_a_line_end_behind_it(tmp_path_factory: pytest.TempPathFactory, value: str, end: str) -> None:
    directory = tmp_path_factory.mktemp("secret")
    (directory / "password").write_bytes((value + end).encode())
    expected = value if end == "\r\n" or not value.endswith("\r") else value[:-1]
    assert read(directory, "password") == {"password": expected}


def test_bad_flow_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(errors.NotFound, match="the directory can't be read: no such file or directory") as caught:
        read(tmp_path / "absent", "password")
    assert (caught.value.code, caught.value.hint) == ("secret-missing", "mount it")


def test_bad_flow_a_file_that_is_not_utf8_is_refused_without_its_content(tmp_path: Path) -> None:
    (tmp_path / "password").write_bytes(b"\xff\xfep4ssw0rd")
    with pytest.raises(errors.UsageError) as caught:
        read(tmp_path, "password")
    assert (caught.value.code, caught.value.message) == ("bad-secret", f"{tmp_path}/password is not UTF-8")
    assert "p4ssw0rd" not in caught.value.describe()


def test_bad_flow_a_file_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "password").write_text("p")

    def read_bytes(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    with pytest.raises(errors.NotFound, match="password can't be read: permission denied") as caught:
        read(tmp_path, "password")
    assert caught.value.code == "key-missing"
