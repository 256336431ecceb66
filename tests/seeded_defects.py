"""Breaks central lines one at a time and sees the suite catch each: `python -m tests.seeded_defects [NAME ...]`.

Not part of the suite: it runs a part of it once per defect. Each defect is one line of the product changed in a copy of the checkout (what git
tracks, as it stands in the working tree), and the tests named beside it have to fail there and to pass without it. A line that is no longer
found once is an error: the table follows the code.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]


@dataclasses.dataclass(frozen=True, slots=True)
class Defect:
    """One line that is changed, and the tests that have to notice.

    Attributes:
        name: what the defect is called on the command line.
        harm: what would happen to a user.
        file, line, instead: where it is, the text to replace (found exactly once in the file), the defect.
        tests: files or directories of the suite.
    """

    name: str
    harm: str
    file: str
    line: str
    instead: str
    tests: tuple[str, ...]


DEFECTS = (
    Defect(
        "lock-key",
        "greylag and goose migrate one database at the same time",
        "migrator/postgres/lock.py",
        "KEY = 4097083626",
        "KEY = 4097083627",
        ("tests/postgres/test_locking.py",),
    ),
    Defect(
        "changed-file",
        "a file that was changed after it was applied is passed over in silence",
        "migrator/planning/refusals.py",
        "if not policy.accept_changed and not file.has(fact.checksum):",
        "if not policy.accept_changed and not file.has(fact.checksum) and not thorough:",
        ("tests/unit/test_planning.py", "tests/unit/test_contradictions.py"),
    ),
    Defect(
        "moved-plan",
        "a plan is applied to a database that somebody else has moved on",
        "migrator/planning/planner.py",
        "if all((step.version, step.direction) in rest for step in again.steps):",
        "if again.steps:",
        ("tests/unit/test_planning.py",),
    ),
    Defect(
        "line-limit",
        "a line that goose refuses is applied",
        "migrator/goose/splitting.py",
        "LINE_LIMIT = 4 * 1024 * 1024",
        "LINE_LIMIT = 4 * 1024 * 1024 + 1",
        ("tests/unit/test_annotations.py", "tests/unit/test_annotations_errors.py", "tests/interop/test_parser_against_goose.py"),
    ),
    Defect(
        "unencoded-password",
        "a password with a slash breaks the address, or is sent to another host",
        "migrator/address/addresses.py",
        'return quote(text, safe="")',
        'return quote(text, safe="/")',
        ("tests/unit/test_addresses.py",),
    ),
    Defect(
        "first-delay",
        "the attempts are not those of a Kubernetes Job",
        "tasks/backoff.py",
        "FIRST_DELAY = 10.0",
        "FIRST_DELAY = 5.0",
        ("tests/unit/test_backoff.py",),
    ),
    Defect(
        "old-release",
        "the health of the release before counts as this one's",
        "tasks/rollout/releases.py",
        "if generation > before.generation and _digest(objects.template(workload)) != before.template:",
        "if generation >= before.generation:",
        ("tests/unit/test_rollout_releases.py",),
    ),
    Defect(
        "other-bundle",
        "prod applies files that nobody approved",
        "flows/approvals.py",
        'for what, given, expected in (("bundle", bundle, manifest.bundles[service]), ("plan", plan, manifest.plans[service])):',
        'for what, given, expected in (("plan", plan, manifest.plans[service]),):',
        ("tests/flows/test_flow_approvals.py",),
    ),
    Defect(
        "takeover-before-the-fence",
        "two runs change one ClickHouse database at once after a pause",
        "migrator/clickhouse/lock.py",
        "return 2 * self.fence + _PUNCTUALITY",
        "return 0.0",
        ("tests/unit/test_clickhouse_shapes.py", "tests/clickhouse/test_locking.py"),
    ),
    Defect(
        "shown-secret",
        "a percent-encoded password appears in a log",
        "migrator/address/redaction.py",
        'encoded = [quote(secret, safe="", errors="replace"), quote_plus(secret, errors="replace"), quote(secret, errors="replace")]',
        "encoded: list[str] = []",
        ("tests/unit/test_addresses.py", "tests/unit/test_tasks_redaction.py"),
    ),
)


def _copy(target: Path) -> None:
    """Copies what git tracks, as it stands in the working tree, and lends the copy this checkout's packages."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=_ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    for name in filter(None, names):
        source = _ROOT / name
        if source.exists():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / name, follow_symlinks=False)


def _passes(checkout: Path, tests: tuple[str, ...]) -> bool:
    """Tells whether these tests pass in a checkout. Raises SystemExit when pytest could not run them at all."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-n", "0", "-m", "not cluster", *tests],
        cwd=checkout,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode not in (0, 1):
        raise SystemExit(f"pytest ended with {done.returncode}:\n{done.stdout[-2000:]}")
    return done.returncode == 0


def _try(defect: Defect, checkout: Path) -> bool:
    """Seeds one defect, runs its tests, takes it back. Returns whether they noticed."""
    file = checkout / defect.file
    sound = file.read_text(encoding="utf-8")
    if sound.count(defect.line) != 1:
        raise SystemExit(f"{defect.name}: {defect.file} holds its line {sound.count(defect.line)} times: mend the table")
    file.write_text(sound.replace(defect.line, defect.instead), encoding="utf-8")
    try:
        return not _passes(checkout, defect.tests)
    finally:
        file.write_text(sound, encoding="utf-8")


def main() -> int:
    """Seeds the defects that are named, or all; returns 1 when one went unnoticed."""
    parser = argparse.ArgumentParser(prog="python -m tests.seeded_defects", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *(defect.name for defect in DEFECTS)], help="defects to try (all)")
    chosen = [defect for defect in DEFECTS if defect.name in parser.parse_args().names] or list(DEFECTS)
    with tempfile.TemporaryDirectory(prefix="greylag-defects-") as folder:
        checkout = Path(folder)
        checkout.chmod(0o755)  # the servers' unprivileged users pass through it
        _copy(checkout)
        if not _passes(checkout, tuple(sorted({test for defect in chosen for test in defect.tests}))):
            print("the tests fail without any defect: mend that first", file=sys.stderr)
            return 1
        unnoticed = 0
        for defect in chosen:
            noticed = _try(defect, checkout)
            unnoticed += not noticed
            print(f"{'noticed  ' if noticed else 'UNNOTICED'}  {defect.name:20}  {defect.harm}", flush=True)
    return 1 if unnoticed else 0


if __name__ == "__main__":
    raise SystemExit(main())
