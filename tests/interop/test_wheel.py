"""The wheel alone: built from this checkout, installed into an empty virtual environment, used as somebody uses it who has no checkout.

Two environments: `tested` holds the versions of constraints.txt, `lowest` the oldest that pyproject.toml allows.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pytest

from sandbox.databases import clickhouse, postgres
from tests.conftest import AWKWARD_PASSWORD

ROOT = Path(__file__).resolve().parents[2]
SERVICES = ROOT / "services"
AUTH = SERVICES / "auth-service/migrations"
AUDIT = SERVICES / "audit-service/migrations"

MOST_PACKAGES = 10
"""Beside greylag itself."""
MOST_BYTES = 40 * 1024 * 1024
"""With greylag itself, in `du`'s megabytes, without bytecode, which each Python writes for itself. Only the tested versions are measured: psycopg's
own libraries, for one, took 9 MB more from 3.3.0 to 3.3.8 than before and after."""

CHEAP = {
    # What a start may load: Python's own, small, most of it loaded by `site` or the console script anyway.
    "__future__", "abc", "collections", "contextlib", "copyreg", "enum", "functools", "importlib", "itertools", "keyword", "operator", "os", "re", "reprlib",
    "stat", "sys", "types", "typing", "warnings", "gc",
}  # fmt: skip


@dataclass(frozen=True)
class Installation:
    """A virtual environment that holds the wheel, and nothing of the checkout."""

    directory: Path
    tested: bool

    @property
    def python(self) -> Path:
        return self.directory / "bin/python"

    @property
    def packages(self) -> Path:
        return next(self.directory.glob("lib/python3.*/site-packages"))

    def run(self, command: Sequence[str | Path], **environ: str) -> subprocess.CompletedProcess[str]:
        """Runs a command in the environment's own directory, where no checkout can be imported from."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "GOOSE_", "GREYLAG_"))}
        return subprocess.run(command, cwd=self.directory, env=kept | environ, capture_output=True, encoding="utf-8", check=False)

    def greylag(self, *arguments: str | Path, **environ: str) -> subprocess.CompletedProcess[str]:
        return self.run([self.directory / "bin/greylag", *arguments], **environ)

    def distributions(self) -> set[str]:
        return {found.metadata["Name"].lower().replace("_", "-") for found in metadata.distributions(path=[str(self.packages)])}


def uv(*arguments: str | Path) -> None:
    """Runs uv; a registry that can't be reached is a skip, everything else that goes wrong a failure."""
    done = subprocess.run([sys.executable, "-m", "uv", "--quiet", *arguments], cwd=ROOT, capture_output=True, encoding="utf-8", check=False)
    if done.returncode != 0 and ("error sending request" in done.stderr or "dns error" in done.stderr):
        pytest.skip(f"the package registry can't be reached: {done.stderr.strip()[-300:]}")
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("dist")
    uv("build", "--wheel", "--python", sys.executable, "--out-dir", directory, ROOT)
    return next(directory.glob("greylag-*.whl"))


@pytest.fixture(scope="module", params=["tested", "lowest"])
def installation(request: pytest.FixtureRequest, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    found = Installation(tmp_path_factory.mktemp(f"wheel-{request.param}") / "venv", request.param == "tested")
    versions = {"tested": ("--constraints", "constraints.txt"), "lowest": ("--resolution", "lowest-direct")}[request.param]
    uv("venv", "--python", sys.executable, found.directory)
    uv("pip", "install", "--python", found.python, "--compile-bytecode", *versions, wheel)
    return found


def newest(directory: Path) -> int:
    return max(int(path.name.partition("_")[0]) for path in directory.glob("*.sql"))


def test_the_wheel_holds_the_engine_its_licence_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        licences = [name for name in names if name.endswith("/licenses/LICENSE")]
        assert len(licences) == 1
        assert archive.read(licences[0]) == (ROOT / "LICENSE").read_bytes()
        scripts = next(name for name in names if name.endswith("/entry_points.txt"))
        assert archive.read(scripts).decode().startswith("[console_scripts]\ngreylag = migrator.cli:main\n\n[greylag.fleet]\n")
    assert {name.partition("/")[0] for name in names} == {"migrator", f"greylag-{wheel.name.split('-')[1]}.dist-info"}
    assert not [name for name in names if name.startswith("migrator/") and not name.endswith((".py", "py.typed"))]


def test_the_wheel_brings_at_most_ten_packages_and_forty_megabytes(installation: Installation) -> None:
    needed = installation.distributions() - {"greylag"}
    files = [path for path in installation.packages.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    size = sum(path.stat().st_size for path in files)
    print(f"{len(needed)} packages, {size:,} bytes = {size / 2**20:.2f} MiB without bytecode: {', '.join(sorted(needed))}")
    assert len(needed) <= MOST_PACKAGES, sorted(needed)
    if installation.tested:
        assert size <= MOST_BYTES, f"{size:,} bytes"


def test_the_wheel_brings_no_second_way_to_clickhouse(installation: Installation) -> None:
    """What the engine says to ClickHouse it says itself; a driver would bring its own idea of a whole answer, compression and certificates."""
    known = {"greylag", "psycopg", "psycopg-binary", "postgast", "protobuf", "typing-extensions", "urllib3"}
    assert installation.distributions() <= known  # from Python 3.13 on psycopg needs no typing-extensions


def test_the_help_imports_only_what_is_cheap(installation: Installation) -> None:
    """Instead of a time, which a busy machine would break: the help takes 150 ms at most because these are all that it loads."""
    program = (
        "import sys; before = set(sys.modules); import migrator.cli; code = migrator.cli.main(['--help']);"
        " print(sorted(set(sys.modules) - before)); sys.exit(code)"
    )
    done = installation.run([installation.python, "-I", "-c", program])
    assert done.returncode == 0, done.stderr
    assert "Usage: greylag DRIVER DBSTRING" in done.stdout + done.stderr
    loaded = set(ast.literal_eval(done.stdout.splitlines()[-1]))
    foreign = {name for name in loaded if name.partition(".")[0].removeprefix("_") not in CHEAP | {"migrator", "sre"}} - CHEAP
    assert not foreign, f"the help loads {sorted(foreign)}"
    own = {name for name in loaded if name.startswith("migrator.")}
    assert {name for name in own if not name.startswith("migrator.cli")} == set(), sorted(own)
    installation.greylag("--help")
    best = min(_seconds(installation) for _ in range(5))
    print(f"greylag --help: {best * 1000:.0f} ms, the best of five (for information; nothing depends on it)")


def _seconds(installation: Installation) -> float:
    began = time.perf_counter()
    assert installation.greylag("--help").returncode == 0
    return time.perf_counter() - began


def test_the_library_works_without_any_optional_package(installation: Installation) -> None:
    absent = {"prefect", "pydantic", "hvac", "kubernetes", "pydantic-settings", "ruamel.yaml", "pyyaml", "chdb-core"}
    assert not absent & installation.distributions()
    program = (
        "import migrator\n"
        "for name in migrator.__all__: getattr(migrator, name)\n"
        "parsed = migrator.parse('-- +goose Up\\nSELECT 1;\\n', direction='up', env={})\n"
        "print(parsed.statements[0].text.strip())\n"
    )
    done = installation.run([installation.python, "-I", "-c", program])
    assert (done.returncode, done.stdout) == (0, "SELECT 1;\n"), done.stderr


def test_a_verb_of_the_checkout_is_refused_with_a_hint(installation: Installation) -> None:
    for arguments in (["deploy"], ["fleet"], ["status", "@dev/auth-service"]):
        done = installation.greylag(*arguments)
        assert done.returncode == 2, (arguments, done)
        assert "greylag: hint: " in done.stderr, (arguments, done.stderr)
        assert "needs a checkout" in done.stderr or "need a checkout" in done.stderr, (arguments, done.stderr)
        assert "Traceback" not in done.stderr


def test_the_installed_command_migrates_postgresql(
    installation: Installation, postgres_server: postgres.PostgresServer, postgres_url: str
) -> None:
    done = installation.greylag("-dir", AUTH, "postgres", postgres_url, "up")
    assert done.returncode == 0, done.stderr
    database = postgres_url.rpartition("/")[2].partition("?")[0]
    found = postgres_server.execute("SELECT max(version_id) FROM goose_db_version WHERE is_applied", database)
    assert int(found) == newest(AUTH)
    verified = installation.greylag("-dir", AUTH, "postgres", postgres_url, "verify")
    assert verified.returncode == 0, verified.stderr
    again = installation.greylag("-dir", AUTH, "postgres", postgres_url, "up")
    assert again.returncode == 0, again.stderr
    assert "no migrations to run" in again.stderr


def test_the_installed_command_migrates_clickhouse(
    installation: Installation, clickhouse_server: clickhouse.ClickHouseServer, clickhouse_url: str, clickhouse_database: str
) -> None:
    variables = {"CLICKHOUSE_DATABASE": clickhouse_database, "CLICKHOUSE_CLUSTER": clickhouse.CLUSTER}
    done = installation.greylag("-dir", AUDIT, "clickhouse", clickhouse_url, "up", **variables)
    assert done.returncode == 0, done.stderr
    assert AWKWARD_PASSWORD not in done.stdout + done.stderr
    found = clickhouse_server.execute(f"SELECT max(version_id) FROM {clickhouse_database}.goose_db_version WHERE is_applied")
    assert int(found) == newest(AUDIT)
    verified = installation.greylag("-dir", AUDIT, "clickhouse", clickhouse_url, "verify", **variables)
    assert verified.returncode == 0, verified.stderr
    again = installation.greylag("-dir", AUDIT, "clickhouse", clickhouse_url, "up", **variables)
    assert again.returncode == 0, again.stderr
    assert "no migrations to run" in again.stderr
