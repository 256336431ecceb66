"""Rows from real life: sets of files as services have them, a file of many statements, and a run on a quarter of a core."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from sandbox import ports
from tests.benchmarks import measurement, workloads
from tests.benchmarks.bench import Bench, Result


def service_sets(bench: Bench) -> Result:
    """20 and 70 files shaped like a service's, on loopback and with 2 ms of round-trip time."""
    result = Result()
    with delayed(bench, 2) as far:
        for count in (20, 70):
            directory = workloads.write_service(bench.folder / f"service-{count}", count)
            for port, place in ((None, "loopback"), (far, "2 ms")):
                found = _against_goose(bench, directory, port)
                work = f"{count} files like a service's, {place}"
                if port is None:
                    result.table.append(measurement.Difference(work, found["greylag"], found["goose"], 0.20).row())
                elif count == 70:
                    result.table.append(measurement.Ratio(work, found["greylag"], found["goose"], 0.5).row())
    return result


def many_statements(bench: Bench) -> Result:
    """15,000 one-line INSERTs in one file."""
    directory = bench.folder / "many-statements"
    directory.mkdir()
    rows = "".join(f"INSERT INTO many VALUES ({number}, 'row {number}');\n" for number in range(15_000))
    (directory / "00001_many.sql").write_text(
        f"-- +goose Up\nCREATE TABLE many (id int, name text);\n{rows}\n-- +goose Down\nDROP TABLE many;\n"
    )
    found = _against_goose(bench, directory, None)
    return Result([measurement.Ratio("15,000 statements in one file", found["greylag"], found["goose"], 0.9).row()])


_FLOOR = "import sys, psycopg; c = psycopg.connect(sys.argv[1]); c.execute('SELECT 1').fetchone()"


def quarter_core(bench: Bench) -> Result:
    """`up` with nothing pending, against a bare psycopg that connects and selects once; on a whole core, and on a quarter of one as in a pod with 250m CPU."""
    directory = workloads.write_service(bench.folder / "nothing", 70)
    url = bench.database()
    measurement.run(bench.greylag(directory, "postgres", url), bench.environment())
    ours, bare = bench.greylag(directory, "postgres", url), [sys.executable, "-c", _FLOOR, url]
    result = Result()
    for cpu, place in ((None, ""), (0.25, " at 250m CPU")):
        with quota(cpu) as joined:
            found = measurement.interleave(
                {
                    "greylag": lambda _, j=joined: measurement.run([*j, *ours], bench.environment()),  # type: ignore[misc]
                    "bare psycopg": lambda _, j=joined: measurement.run([*j, *bare], bench.environment()),  # type: ignore[misc]
                },
                max(bench.rounds, 9),
                lambda _: None,
            )
        row = measurement.Ratio(f"nothing to do, 70 files{place}", found["greylag"], found["bare psycopg"], 1.15).row()
        result.table.append(row)
    return result


@contextlib.contextmanager
def quota(cpu: float | None) -> Iterator[list[str]]:
    """Gives the words to put before a command so that it has `cpu` of a core, by a control group of its own; none for a whole core.

    Raises RuntimeError where no control group can be made (it takes root and cgroup v1 or v2).
    """
    if cpu is None:
        yield []
        return
    period = 100_000  # microseconds: the kernel's default, and Kubernetes' own
    v1 = Path("/sys/fs/cgroup/cpu")
    group = (v1 if v1.is_dir() else Path("/sys/fs/cgroup")) / f"greylag-bench-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as problem:
        raise RuntimeError(f"no control group can be made: {problem}") from None
    try:
        if v1.is_dir():
            (group / "cpu.cfs_period_us").write_text(str(period))
            (group / "cpu.cfs_quota_us").write_text(str(int(period * cpu)))
        else:
            (group / "cpu.max").write_text(f"{int(period * cpu)} {period}")
        yield ["/bin/sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh"]
    finally:
        time.sleep(0.1)  # until the kernel has taken the last process out
        group.rmdir()


@contextlib.contextmanager
def delayed(bench: Bench, milliseconds: int) -> Iterator[int]:
    """Gives a port behind which PostgreSQL answers with this round-trip time."""
    port = ports.free_port()
    command = [sys.executable, "-m", "tests.benchmarks.delaying_proxy", str(port), str(bench.postgres.port), str(milliseconds)]
    with subprocess.Popen(command) as proxy:
        time.sleep(1.0)
        try:
            yield port
        finally:
            proxy.terminate()


def _against_goose(bench: Bench, directory: Path, port: int | None) -> dict[str, measurement.Series]:
    return measurement.interleave(
        {
            "greylag": lambda _: measurement.run(bench.greylag(directory, "postgres", bench.database(port)), bench.environment()),
            "goose": lambda _: measurement.run(bench.goose_command(directory, "postgres", bench.database(port)), bench.environment()),
        },
        max(bench.rounds, 7),
        bench.say,
    )
