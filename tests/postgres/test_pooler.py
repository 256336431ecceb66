"""Behind PgBouncer: a pool of sessions is fine; a pool of transactions or statements holds no lock and is refused."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from migrator import errors
from migrator.postgres import lock
from sandbox import ports
from tests.postgres.conftest import Playground

PGBOUNCER = shutil.which("pgbouncer", path=os.environ.get("PATH", "") + os.pathsep + "/usr/sbin")

pytestmark = pytest.mark.skipif(PGBOUNCER is None, reason="pgbouncer is not installed (Debian: apt-get install pgbouncer)")

_NOBODY = 65534  # PgBouncer refuses to run as root


@pytest.fixture
def pooled(playground: Playground, session_directory: Path) -> Iterator[Callable[[str], Playground]]:
    """The playground as seen through a PgBouncer with the given pool_mode."""
    running: list[subprocess.Popen[bytes]] = []

    def start(mode: str) -> Playground:
        server = urlsplit(playground.url)
        port = ports.free_port()
        directory = session_directory / f"pgbouncer-{port}"
        directory.mkdir()
        password = unquote(server.password or "").replace("'", "''")
        settings = {
            "listen_addr": "127.0.0.1",
            "listen_port": port,
            "unix_socket_dir": "",
            "auth_type": "any",
            "pool_mode": mode,
            "default_pool_size": 5,
            "logfile": directory / "log",
        }
        lines = [
            "[databases]",
            f"pooled = host={server.hostname} port={server.port} dbname={server.path[1:]} user={server.username} password='{password}'",
            "[pgbouncer]",
            *(f"{key} = {value}" for key, value in settings.items()),
        ]
        configuration = directory / "pgbouncer.ini"
        configuration.write_text("\n".join(lines) + "\n", encoding="utf-8")
        as_nobody = {"user": _NOBODY, "group": _NOBODY, "extra_groups": []} if os.getuid() == 0 else {}
        if as_nobody:
            for path in (directory, configuration):
                os.chown(path, _NOBODY, _NOBODY)
        process = subprocess.Popen([str(PGBOUNCER), "-q", str(configuration)], stderr=subprocess.DEVNULL, **as_nobody)  # type: ignore[call-overload]
        running.append(process)
        _until_open(port)
        return Playground(f"postgres://anybody@127.0.0.1:{port}/pooled?sslmode=disable", playground.directory)

    yield start
    for process in running:
        process.terminate()
        process.wait(10)


def _until_open(port: int) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            assert time.monotonic() < deadline, "pgbouncer did not start"
            time.sleep(0.05)


@pytest.mark.parametrize("mode", ["transaction", "statement"])
def test_a_pool_without_sessions_is_refused_with_the_remedy(playground: Playground, pooled: Callable[[str], Playground], mode: str) -> None:
    playground.write(1, "CREATE TABLE t (id int);")
    through = pooled(mode)
    with pytest.raises(errors.PlanRefused) as caught:
        through.run()
    assert caught.value.code == "transaction-pooler" and "direct address" in caught.value.hint
    assert not playground.exists("goose_db_version")
    assert playground.sql(f"SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = {lock.KEY}") == [(0,)]


def test_a_pool_of_sessions_is_fine(playground: Playground, pooled: Callable[[str], Playground]) -> None:
    playground.write(1, "CREATE TABLE t (id int);")
    pooled("session").run()
    assert playground.versions() == [0, 1]
