"""Fixtures that stand for real servers: started once per session when the first test asks, stopped at its end.

The servers' own homes are `sandbox/`; here is only who shares what. Choices come from the environment:
GREYLAG_TEST_POSTGRES (major version, default 18), GREYLAG_TEST_GOOSE (path of a binary), GREYLAG_CACHE.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import hypothesis
import pytest

from sandbox import cache, processes
from sandbox.databases import clickhouse, clickhouse_releases, postgres
from sandbox.databases.clickhouse_releases import Release
from sandbox.stack.prefect_server import PrefectServer
from sandbox.vault.secrets_server import SecretsServer
from tests import demonstration

# No test asserts a timing: a busy machine must not fail a property.
hypothesis.settings.register_profile("greylag", deadline=None)
hypothesis.settings.load_profile("greylag")

GOOSE_VERSION = "v3.27.3"  # the version whose behaviour greylag promises (goose.md §1)

# Each of these has a meaning in a URL, in SQL, in a shell or in XML; the last are two and three bytes of UTF-8.
AWKWARD_PASSWORD = "p%/:@#?&+ '\"\\$=;{}é漢"


def _isolate_environment() -> None:
    """Removes what a developer's shell may hold and any test would silently obey; before Prefect is imported (prefect.md §4)."""
    kept = ("GREYLAG_TEST_", "GREYLAG_CACHE", "GREYLAG_FUZZ_")
    for name in list(os.environ):
        if name.startswith(("GOOSE_", "GREYLAG_", "VAULT_", "BAO_", "PREFECT_", "PG")) and not name.startswith(kept):
            del os.environ[name]
    os.environ.update(
        DO_NOT_TRACK="1",
        PREFECT_HOME=str(_session_directory() / "prefect-client"),
        PREFECT_SERVER_ANALYTICS_ENABLED="false",
        # A test that forgot its server fails at once instead of starting a hidden one.
        PREFECT_SERVER_ALLOW_EPHEMERAL_MODE="false",
    )


MEMORY = Path("/dev/shm")
ROOM = 4 << 30
"""Bytes that the servers of a few processes need at most. ClickHouse makes and deletes some hundred files per table, and a third of its CPU time went
into ext4's search for inodes that were not deleted a moment ago."""


def _roomy_memory() -> Path | None:
    """Returns the file system in memory, where there is one with room for the servers' files; None takes the usual directory."""
    try:
        return MEMORY if os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free >= ROOM else None
    except OSError:
        return None


_directory: Path | None = None


def _session_directory() -> Path:
    global _directory
    if _directory is None:
        _directory = Path(tempfile.mkdtemp(prefix="greylag-tests-", dir=_roomy_memory()))
        _directory.chmod(0o711)  # PostgreSQL's unprivileged user passes through it
    return _directory


_isolate_environment()
# A shell that starts the suite in the background has SIGINT ignored, `nohup` SIGHUP: what tests interrupt would inherit it.
for number, default in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, default)


ROOMS = ("cluster", "flows", "browser", "sandbox", "clickhouse", "postgres", "interop", "faults", "unit")
"""The rooms of tests/ from the longest to the shortest: what takes long starts first."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Orders the rooms."""
    items.sort(key=lambda item: ROOMS.index(room) if (room := item.path.parent.name) in ROOMS else len(ROOMS))


TOGETHER = ("tests/cluster/",), ("tests/flows/test_demo.py", "tests/browser/")
"""Files that share what takes minutes to start, and so run in one process: the one cluster; the demo, which promotes the whole fleet twice."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With `pytest -n`: a file's tests run in one process, because they share servers; so do those of some files together."""
    from xdist.scheduler import LoadScopeScheduling

    class Rooms(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return next((files[0] for files in TOGETHER if file.startswith(files)), file)

    return Rooms(config, log)


def pytest_unconfigure() -> None:
    """Stops what a broken session left running, then removes every server's files."""
    processes.stop_all()
    shutil.rmtree(_session_directory(), ignore_errors=True)


@pytest.fixture(scope="session")
def session_directory() -> Path:
    """Where the session's servers keep their files."""
    return _session_directory()


@pytest.fixture(scope="session")
def postgres_server(session_directory: Path) -> Iterator[postgres.PostgresServer]:
    """The session's PostgreSQL. A test that stops it starts it again."""
    version = int(os.environ.get("GREYLAG_TEST_POSTGRES", postgres.DEFAULT_VERSION))
    with postgres.PostgresServer(session_directory / "postgres", version=version) as server:
        yield server


@pytest.fixture
def new_postgres_url(postgres_server: postgres.PostgresServer) -> Iterator[Callable[[], str]]:
    """A maker of fresh databases, each with its own owner and an awkward password; gives the owner's goose DBSTRING."""
    names: list[str] = []

    def make() -> str:
        name = f"test_{secrets.token_hex(5)}"
        names.append(name)
        return postgres_server.create_database(name, owner=name, password=AWKWARD_PASSWORD)

    yield make
    if not postgres_server.running:
        postgres_server.start()
    for name in names:
        postgres_server.drop_database(name, owner=name)


@pytest.fixture
def postgres_url(new_postgres_url: Callable[[], str]) -> str:
    """A fresh PostgreSQL database as a goose DBSTRING with password."""
    return new_postgres_url()


class ClickHouses(Protocol):
    """Gives the session's ClickHouse of a release, with or without a query log."""

    def __call__(self, release: Release = ..., *, query_log: bool = ...) -> clickhouse.ClickHouseServer: ...


@pytest.fixture(scope="session")
def clickhouse_servers(session_directory: Path) -> Iterator[ClickHouses]:
    """The session's ClickHouse servers, each started when it is first asked for; skips where the release can't be had. Users beside `admin`, all with
    the awkward password: `migrator` may do everything, `selecting` only SELECT (code 497), `reader` is read-only (code 164). A test that stops a
    server starts it again."""
    users = [
        clickhouse.User("migrator", AWKWARD_PASSWORD),
        clickhouse.User("selecting", AWKWARD_PASSWORD, grants=("GRANT SELECT ON *.*",)),
        clickhouse.User("reader", AWKWARD_PASSWORD, readonly=True),
    ]
    started: dict[tuple[Release, bool], clickhouse.ClickHouseServer] = {}
    with contextlib.ExitStack() as stack:

        def of(release: Release = Release.CURRENT, *, query_log: bool = True) -> clickhouse.ClickHouseServer:
            if release is Release.LONG_TERM and clickhouse_releases.library() is None:
                pytest.skip(clickhouse_releases.missing())
            if (release, query_log) not in started:
                directory = session_directory / f"clickhouse-{release}{'' if query_log else '-without-log'}"
                server = clickhouse.ClickHouseServer(directory, users=users, release=release, query_log=query_log)
                started[release, query_log] = stack.enter_context(server)
            return started[release, query_log]

        yield of


@pytest.fixture(scope="session")
def clickhouse_server(clickhouse_servers: ClickHouses) -> clickhouse.ClickHouseServer:
    """The session's ClickHouse, of the current release."""
    return clickhouse_servers()


@pytest.fixture
def release() -> Release:
    """The ClickHouse release that the fixtures below are on; `on_each_release` chooses."""
    return Release.CURRENT


@pytest.fixture
def query_log() -> bool:
    """Whether the ClickHouse of the fixtures below keeps a query log; `without_query_log` chooses."""
    return True


on_each_release = pytest.mark.each_release
"""Runs a test, or those of a file that use the fixtures below, on each release of ClickHouse that the sandbox has."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrizes what `on_each_release` marks."""
    if "release" in metafunc.fixturenames and metafunc.definition.get_closest_marker("each_release"):
        metafunc.parametrize("release", list(Release), ids=str)


without_query_log = pytest.mark.parametrize("query_log", [False], ids=["no-query-log"])
"""Runs a test on a ClickHouse that keeps no query log."""


@pytest.fixture
def clickhouse_here(clickhouse_servers: ClickHouses, release: Release, query_log: bool) -> clickhouse.ClickHouseServer:
    """The server that the fixtures below lead to."""
    return clickhouse_servers(release, query_log=query_log)


@pytest.fixture
def new_clickhouse_database(clickhouse_here: clickhouse.ClickHouseServer) -> Iterator[Callable[[], str]]:
    """A maker of fresh databases; gives the name."""
    names: list[str] = []

    def make() -> str:
        name = f"test_{secrets.token_hex(5)}"
        names.append(name)
        clickhouse_here.create_database(name)
        return name

    yield make
    if not clickhouse_here.running:
        clickhouse_here.start()
    for name in names:
        clickhouse_here.drop_database(name)


@pytest.fixture
def clickhouse_database(new_clickhouse_database: Callable[[], str]) -> str:
    """The name of a fresh ClickHouse database; the URLs below lead to it."""
    return new_clickhouse_database()


@pytest.fixture
def clickhouse_url(clickhouse_here: clickhouse.ClickHouseServer, clickhouse_database: str) -> str:
    """A fresh ClickHouse database as `clickhouse://user:password@host:TCP/db?http_port=HTTP`."""
    return clickhouse_here.url("migrator", AWKWARD_PASSWORD, clickhouse_database)


@pytest.fixture
def clickhouse_native_url(clickhouse_here: clickhouse.ClickHouseServer, clickhouse_database: str) -> str:
    """The same database for goose over the native protocol: it refuses `http_port` (code 115, Unknown setting)."""
    return clickhouse_here.native_url("migrator", AWKWARD_PASSWORD, clickhouse_database)


@pytest.fixture
def clickhouse_http_url(clickhouse_here: clickhouse.ClickHouseServer, clickhouse_database: str) -> str:
    """The same database as `http://user:password@host:HTTP/db`, which goose accepts too."""
    return clickhouse_here.http_url("migrator", AWKWARD_PASSWORD, clickhouse_database)


@pytest.fixture(scope="session")
def goose_binary() -> Path:
    """The real goose: GREYLAG_TEST_GOOSE, or the cache, or built once by Go into the cache; skips where none of these is possible."""
    named = os.environ.get("GREYLAG_TEST_GOOSE")
    if named:
        return Path(named)
    programs = cache.directory() / "bin"
    binary = programs / "goose"
    if binary.exists():
        return binary
    if shutil.which("go") is None:
        pytest.skip(f"goose {GOOSE_VERSION} is not cached in {programs} and there is no Go to build it; GREYLAG_TEST_GOOSE may name one")
    built = subprocess.run(
        ["go", "install", f"github.com/pressly/goose/v3/cmd/goose@{GOOSE_VERSION}"],
        env=os.environ | {"GOBIN": str(programs)},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    if built.returncode != 0:
        pytest.skip(f"goose {GOOSE_VERSION} could not be built: {built.stderr.strip()[-400:]}")
    return binary


@pytest.fixture
def secrets_server() -> Iterator[SecretsServer]:
    """A fresh secrets server with Vault's API, in this process: `url`, `root_token`, `write_secret`, `create_policy`, `create_token`."""
    with SecretsServer() as server:
        yield server


@pytest.fixture(scope="session")
def prefect_server(session_directory: Path) -> Iterator[PrefectServer]:
    """The session's Prefect server, a real process; flows that tests call in this process, and processes that they start, report to it."""
    with PrefectServer(session_directory / "prefect") as server:
        from prefect.settings import PREFECT_API_URL, temporary_settings

        os.environ.update(server.environment())
        with temporary_settings({PREFECT_API_URL: server.api_url}):  # for Prefect, which may have been imported before
            yield server
        del os.environ["PREFECT_API_URL"]


@pytest.fixture(scope="session")
def first_demo(session_directory: Path) -> Iterator[demonstration.Demonstration]:
    """The demo on a fresh state directory, run to its end: the whole fleet promoted to prod. Nothing is built, as a newcomer finds it."""
    with demonstration.running(session_directory / "demo", **demonstration.newcomers_cache(session_directory / "newcomer")) as demo:
        assert demo.finish() == 0, demo.output
        yield demo


@pytest.fixture(scope="session")
def kept_demo(first_demo: demonstration.Demonstration) -> Iterator[demonstration.Demonstration]:
    """The demo's second run on the same state, with `--keep`: servers, workers and the UI stay until the session ends.

    It finds what is built on this machine, OpenBao where it is.
    """
    with demonstration.running(first_demo.state, "--keep") as demo:
        demo.wait_for(demonstration.READY)
        yield demo
