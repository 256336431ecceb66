"""The user pause: what a migration that must wait for a lock does to everybody else.

A reader holds the table for some seconds, a migration wants a lock that the reader blocks, and beside them run short queries, 200 per second.
Reported per statement shape and tool: the longest stall of a bystander, bystanders that failed, and the time from the reader's end to
the migration's.
"""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import psycopg

SHAPES = {
    "add-column": "ALTER TABLE target ADD COLUMN added text;",
    "add-column-default": "ALTER TABLE target ADD COLUMN counted int NOT NULL DEFAULT 0;",
    "drop-column": "ALTER TABLE target DROP COLUMN spare;",
    "rename-column": "ALTER TABLE target RENAME COLUMN spare TO spared;",
    "set-default": "ALTER TABLE target ALTER COLUMN name SET DEFAULT '';",
    "set-not-null": "ALTER TABLE target ALTER COLUMN name SET NOT NULL;",
    "add-check-not-valid": "ALTER TABLE target ADD CONSTRAINT positive CHECK (id > 0) NOT VALID;",
    "add-foreign-key-not-valid": "ALTER TABLE target ADD CONSTRAINT owned FOREIGN KEY (owner_id) REFERENCES owners (id) NOT VALID;",
    "create-trigger": "CREATE TRIGGER touched BEFORE UPDATE ON target FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger();",
    "rename-table": "ALTER TABLE target RENAME TO renamed; ALTER TABLE renamed RENAME TO target;",
    "drop-index": "DROP INDEX target_name;",
    "lock-table": "LOCK TABLE target IN ACCESS EXCLUSIVE MODE;",
}

SCHEMA = """
CREATE TABLE owners (id bigint PRIMARY KEY);
CREATE TABLE target (id bigint PRIMARY KEY, name text, spare text, owner_id bigint);
INSERT INTO owners SELECT generate_series(1, 100);
INSERT INTO target SELECT n, 'name ' || n, 'spare', 1 + n % 100 FROM generate_series(1, 1000) n;
CREATE INDEX target_name ON target (name);
"""

QUERIES_PER_SECOND = 200
BYSTANDERS = 20  # connections: more than one, since a stalled one sends nothing


@dataclass
class Pause:
    """What one shape did under one tool; seconds."""

    shape: str
    tool: str
    longest_stall: float = 0.0
    failed: int = 0
    queries: int = 0
    after_blocker: float = 0.0
    errors: list[str] = field(default_factory=list)


def _bystand(url: str, stop: threading.Event, pause: Pause, guard: threading.Lock) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        while not stop.is_set():
            started = time.perf_counter()
            try:
                connection.execute("SELECT id FROM target WHERE id = 7")
            except psycopg.Error as error:
                with guard:
                    pause.failed += 1
                    pause.errors.append(str(error).splitlines()[0])
            stall = time.perf_counter() - started
            with guard:
                pause.queries += 1
                pause.longest_stall = max(pause.longest_stall, stall)
            stop.wait(max(0.0, BYSTANDERS / QUERIES_PER_SECOND - stall))


def measure(url: str, shape: str, tool: str, command: Sequence[str], blocker_seconds: float, progress: Callable[[str], None]) -> Pause:
    """Runs one shape under one tool against a database that holds `SCHEMA`; `command` applies the migration."""
    pause = Pause(shape, tool)
    stop, guard = threading.Event(), threading.Lock()
    threads = [threading.Thread(target=_bystand, args=(url, stop, pause, guard), daemon=True) for _ in range(BYSTANDERS)]
    with psycopg.connect(url) as blocker:
        blocker.execute("SELECT count(*) FROM target")
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        time.sleep(blocker_seconds)
        blocker.rollback()
        ended = time.perf_counter()
    _, stderr = process.communicate(timeout=120)
    pause.after_blocker = time.perf_counter() - ended
    stop.set()
    for thread in threads:
        thread.join()
    if process.returncode != 0:
        raise RuntimeError(f"{tool} failed on {shape}: {stderr[-2000:]}")
    progress(
        f"  {shape} {tool}: longest stall {pause.longest_stall * 1000:.0f} ms, {pause.failed} failed of {pause.queries}, "
        f"done {pause.after_blocker:.2f} s after the blocker"
    )
    return pause


def prepare(url: str) -> None:
    """Creates the tables that the shapes change."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(SCHEMA)
