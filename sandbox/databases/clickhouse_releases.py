"""Which ClickHouse a node of the sandbox is: the current release, which is installed, or the long-term one, fetched into the cache once (servers.md §2).

The long-term release is the wheel chdb 3.7.2. It exports the server's own main, so a node of it *is* clickhouse-server: ON CLUSTER, replicated tables and
users in a writable storage work. It is unpacked beside the environment and never installed, because chdb-core owns the package's name there.
"""

from __future__ import annotations

import argparse
import enum
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from migrator import errors
from sandbox import cache

_CHDB = "3.7.2"
_SERVER = Path("chdb") / "_chdb.abi3.so"
_FETCH_SECONDS = 600.0  # 180 MB, over a slow line


class Release(enum.StrEnum):
    """The releases that the sandbox can start."""

    CURRENT = "26.9"
    LONG_TERM = "25.8"


def place() -> Path:
    """Returns where the long-term release's library lies, fetched or not."""
    return cache.directory() / f"chdb-{_CHDB}" / _SERVER


def library() -> Path | None:
    """Returns the long-term release's library; None while it isn't fetched."""
    return place() if place().is_file() else None


def missing() -> str:
    """Says why `library` has nothing, and how to change that; the reason of tests that skip."""
    return f"ClickHouse {Release.LONG_TERM} is not fetched (no {place()}); `make install` fetches it, once"


def fetch() -> Path:
    """Fetches the long-term release into the cache, unless it is there; 180 MB to load, 830 MB unpacked. Returns the library.

    Raises:
        NotFound: the package index doesn't answer, or has no such wheel for this machine.
    """
    wanted = place()
    if wanted.is_file():
        return wanted
    home = cache.directory()
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="chdb-", dir=home) as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:"]
        try:
            subprocess.run(
                [*command, "--dest", folder, f"chdb=={_CHDB}"], check=True, timeout=_FETCH_SECONDS, capture_output=True, encoding="utf-8"
            )
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired, OSError) as problem:
            detail = str(getattr(problem, "stderr", "") or problem)
            raise errors.NotFound(
                f"ClickHouse {Release.LONG_TERM} can't be fetched",
                code="sandbox-missing",
                hint="pip must reach a package index, and the machine must be one that chdb has a wheel for (Linux or macOS, x86_64 or arm64)",
                detail=detail[-2000:],
            ) from None
        unpacked = Path(folder) / "unpacked"
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(unpacked)
        if not wanted.is_file():  # another process may have been first
            shutil.rmtree(wanted.parents[1], ignore_errors=True)
            unpacked.rename(wanted.parents[1])
    return wanted


def main() -> int:
    """Fetches the long-term release and prints where it is."""
    argparse.ArgumentParser(
        prog="python -m sandbox.databases.clickhouse_releases",
        description=f"Fetches ClickHouse {Release.LONG_TERM} for the tests, once (180 MB).",
    ).parse_args()
    try:
        print(fetch())
    except errors.GreylagError as error:
        print(error.describe(), file=sys.stderr)
        return int(error.exit_code)
    return 0


if __name__ == "__main__":
    sys.exit(main())
