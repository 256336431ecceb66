"""The rows of docs/benchmarks.md, one function each."""

from __future__ import annotations

import contextlib
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.benchmarks import measurement, pause, real_life, workloads
from tests.benchmarks.bench import Bench, Result


def apply_postgres(bench: Bench) -> Result:
    """1,000 migrations (table + index each) on loopback."""
    return _apply_postgres(bench, "apply 1,000 migrations, PostgreSQL on loopback", 0.85, None, bench.rounds)


def apply_postgres_far(bench: Bench) -> Result:
    """The same with 2 ms of round-trip time."""
    with real_life.delayed(bench, 2) as port:
        return _apply_postgres(bench, "the same with 2 ms round-trip time", 0.25, port, min(bench.rounds, 3))


def _apply_postgres(bench: Bench, work: str, bar: float, port: int | None, rounds: int) -> Result:
    directory = workloads.write(bench.folder / "apply", workloads.POSTGRES_FILE, 1000)
    found = measurement.interleave(
        {
            "greylag": lambda _: measurement.run(bench.greylag(directory, "postgres", bench.database(port)), bench.environment()),
            "goose": lambda _: measurement.run(bench.goose_command(directory, "postgres", bench.database(port)), bench.environment()),
        },
        rounds,
        bench.say,
    )
    return Result([measurement.Ratio(work, found["greylag"], found["goose"], bar).row()])


def apply_clickhouse(bench: Bench) -> Result:
    """200 ClickHouse migrations against goose and against a bare clickhouse-connect loop."""
    directory = workloads.write(bench.folder / "apply-clickhouse", workloads.CLICKHOUSE_FILE, 200)
    node = bench.clickhouse

    def bare(_: int) -> float:
        database = bench.clickhouse_database()[0].partition("?")[0].rpartition("/")[2]
        command = [sys.executable, "-m", "tests.benchmarks.bare_clickhouse", str(node.http_port), database, "200"]
        return measurement.run([*command, "admin", node.admin_password], bench.environment())

    found = measurement.interleave(
        {
            "greylag": lambda _: measurement.run(
                bench.greylag(directory, "clickhouse", bench.clickhouse_database()[0]), bench.environment()
            ),
            "goose": lambda _: measurement.run(
                bench.goose_command(directory, "clickhouse", bench.clickhouse_database()[1]), bench.environment()
            ),
            "bare loop": bare,
        },
        bench.rounds,
        bench.say,
    )
    work = "apply 200 ClickHouse migrations"
    return Result(
        [
            measurement.Ratio(work, found["greylag"], found["goose"], 1.10).row(),
            measurement.Ratio(work, found["greylag"], found["bare loop"], 1.15).row(),
        ]
    )


_FLOOR = "import sys, psycopg; c = psycopg.connect(sys.argv[1]); c.execute('SELECT 1').fetchone()"


def nothing_to_do(bench: Bench) -> Result:
    """`up` with nothing pending, against a bare Python that connects and selects once."""
    result = Result()
    for count, bar in ((1000, 1.25), (10_000, 1.6)):
        directory = workloads.write(bench.folder / f"noop-{count}", workloads.POSTGRES_FILE, count)
        url = bench.database()
        bench.say(f"  applying {count} files first")
        measurement.run(bench.greylag(directory, "postgres", url), bench.environment())
        found = measurement.interleave(
            {
                "greylag": lambda _, d=directory, u=url: measurement.run(bench.greylag(d, "postgres", u), bench.environment()),  # type: ignore[misc]
                "bare Python": lambda _, u=url: measurement.run([sys.executable, "-c", _FLOOR, u], bench.environment()),  # type: ignore[misc]
            },
            max(bench.rounds, 9),
            lambda _: None,
        )
        result.table.append(measurement.Ratio(f"nothing to do, {count:,} files", found["greylag"], found["bare Python"], bar).row())
        if count == 10_000:
            peak = _peak_memory(bench.greylag(directory, "postgres", url), bench.environment())
            verdict = "met" if peak <= 80 else "**missed**"
            result.table.append(f"| memory, nothing to do, 10,000 files | greylag, resident | {peak:.0f} MB | ≤ 80 MB | {verdict} | | |")
    return result


def _peak_memory(command: list[str], environment: dict[str, str]) -> float:
    """The peak resident size of a command in MB."""
    code = (
        "import resource, subprocess, sys; "
        "done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(done.returncode)"
    )
    done = subprocess.run([sys.executable, "-c", code, *command], env=environment, capture_output=True, text=True, check=True)
    return int(done.stdout) / 1024


def parse(bench: Bench) -> Result:
    """10,000 files (30,000 statements) on one core."""
    directory = workloads.write(bench.folder / "parse", workloads.PARSED_FILE, 10_000)
    code = (
        "import sys, time; from migrator.goose import annotations; from migrator.planning import files; found = files.load(sys.argv[1]); "
        "contents = [item.read() for item in found.migrations]; started = time.perf_counter(); "
        "count = sum(len(annotations.parse(text, 'up', {}).statements) for text in contents); "
        "print(time.perf_counter() - started, count)"
    )
    seconds = []
    for _ in range(bench.rounds):
        done = subprocess.run([sys.executable, "-c", code, str(directory)], capture_output=True, text=True, check=True)
        taken, count = done.stdout.split()
        seconds.append(float(taken))
        bench.say(f"  {count} statements in {seconds[-1]:.3f} s")
    series = measurement.Series("greylag", tuple(seconds))
    verdict = "met" if statistics.median(seconds) <= 1 else "**missed**"
    return Result([f"| parse 10,000 files (30,000 statements) | greylag | {series} | ≤ 1 s | {verdict} | | |"])


def large_file(bench: Bench) -> Result:
    """One 200 MB SQL file: applied, and the memory of client and backend together against the file's size."""
    directory = bench.folder / "large"
    directory.mkdir(exist_ok=True)
    path = directory / "00001_large.sql"
    _write_large(path, 200_000_000)
    size = path.stat().st_size
    url = bench.database()
    started = time.perf_counter()
    process = subprocess.Popen(
        bench.greylag(directory, "postgres", url), env=bench.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    peak = 0
    while process.poll() is None:
        peak = max(peak, _resident(process.pid) + sum(_resident(pid) for pid in _backends(url)))
        time.sleep(0.05)
    seconds = time.perf_counter() - started
    if process.returncode != 0:
        raise RuntimeError((process.stderr.read() if process.stderr else b"")[-2000:].decode())
    ratio = peak / size
    verdict = "met" if ratio <= 3 else "**missed**"
    path.unlink()
    return Result([f"| one 200 MB SQL file | client and backend / file size | {ratio:.2f} | ≤ 3.00 | {verdict} | {seconds:.1f} s | |"])


def _write_large(path: Path, size: int) -> None:
    """A table and one INSERT after another of about 1 kB each, as pg_dump --inserts writes them."""
    with path.open("w") as file:
        file.write("-- +goose Up\nCREATE TABLE large (id bigint, body text);\n")
        row, number = "x" * 1000, 0
        while file.tell() < size:
            for _ in range(1000):
                number += 1
                file.write(f"INSERT INTO large VALUES ({number}, '{row}');\n")
        file.write("\n-- +goose Down\nDROP TABLE large;\n")


def _backends(url: str) -> list[int]:
    """Server processes that work for the URL's database: PostgreSQL writes user, database and client into the process title."""
    database = url.partition("?")[0].rpartition("/")[2]
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                title = (folder / "cmdline").read_bytes()
                if title.startswith(b"postgres:") and f" {database} ".encode() in title:
                    found.append(int(folder.name))
    return found


def _resident(pid: int) -> int:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0
    return pages * resource.getpagesize()


def user_pause(bench: Bench) -> Result:
    """What a migration that waits for a lock does to everybody else, per statement shape."""
    result = Result()
    worst = {"greylag": 0.0, "goose": 0.0}
    lines = ["| shape | tool | longest stall | failed | done after the reader |", "|---|---|---|---|---|"]
    failed, slowest = 0, 0.0
    for number, (shape, statement) in enumerate(pause.SHAPES.items()):
        for tool in ("greylag", "goose"):
            directory = bench.folder / f"pause-{number}"
            directory.mkdir(exist_ok=True)
            (directory / "00001_pause.sql").write_text(f"-- +goose Up\n{statement}\n")
            url = bench.database()
            pause.prepare(url)
            command = (bench.greylag if tool == "greylag" else bench.goose_command)(directory, "postgres", url)
            found = pause.measure(url, shape, tool, command, bench.blocker_seconds, bench.say)
            worst[tool] = max(worst[tool], found.longest_stall)
            if tool == "greylag":
                failed, slowest = failed + found.failed, max(slowest, found.after_blocker)
            lines.append(f"| {shape} | {tool} | {found.longest_stall * 1000:.0f} ms | {found.failed} | {found.after_blocker:.2f} s |")
    met = worst["greylag"] <= 0.25 and failed == 0 and slowest <= 2
    result.table.append(
        f"| user pause, {len(pause.SHAPES)} shapes | greylag / goose | {worst['greylag'] * 1000:.0f} ms / {worst['goose'] * 1000:.0f} ms | "
        f"≤ 250 ms, 0 failed, ≤ 2 s | {'met' if met else '**missed**'} | {failed} failed, {slowest:.2f} s after | |"
    )
    result.notes += [
        "",
        f"## User pause, reader of {bench.blocker_seconds:.0f} s, {pause.QUERIES_PER_SECOND} queries per second",
        "",
        *lines,
    ]
    return result


ROWS: dict[str, Callable[[Bench], Result]] = {
    "parse": parse,
    "nothing-to-do": nothing_to_do,
    "apply-postgres": apply_postgres,
    "apply-postgres-far": apply_postgres_far,
    "apply-clickhouse": apply_clickhouse,
    "service-sets": real_life.service_sets,
    "many-statements": real_life.many_statements,
    "quarter-core": real_life.quarter_core,
    "large-file": large_file,
    "user-pause": user_pause,
}
