"""docs/moving.md: its diffs are those of a real chart, change at most five lines, and can be taken back."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "tests" / "moving" / "chart"
DIFFS = re.findall(r"^```diff\n(.*?)^```", (ROOT / "docs" / "moving.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
STEPS = {"the Job": (DIFFS[:1], 5), "the library": (DIFFS[1:2], 5), "the library and the wait": (DIFFS[1:], 7)}


def changed(diff: str) -> int:
    """How many lines a diff changes: in each run of changed lines, a line that replaces another one is one change."""
    count = 0
    for block in re.findall(r"(?:^[+-](?!--|\+\+).*\n)+", diff, re.MULTILINE):
        signs = [line[0] for line in block.splitlines()]
        count += max(signs.count("+"), signs.count("-"))
    return count


def patch(directory: Path, diff: str, *options: str) -> None:
    done = subprocess.run(["patch", "-p1", "--forward", *options], cwd=directory, input=diff, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "fuzz" not in done.stdout, done.stdout


def texts(directory: Path) -> dict[str, str]:
    return {str(path.relative_to(directory)): path.read_text(encoding="utf-8") for path in directory.rglob("*") if path.is_file()}


def test_there_is_a_diff_for_each_step() -> None:
    assert [changed(diff) for diff in DIFFS] == [4, 5, 2]


@pytest.mark.skipif(shutil.which("patch") is None, reason="needs `patch`")
@pytest.mark.parametrize("step", STEPS)
def test_a_step_changes_few_lines_and_goes_back(step: str, tmp_path: Path) -> None:
    diffs, limit = STEPS[step]
    moved = tmp_path / "chart"
    shutil.copytree(CHART, moved)
    for diff in diffs:
        patch(moved, diff)
    assert sum(map(changed, diffs)) <= limit
    assert texts(moved) != texts(CHART)
    for diff in reversed(diffs):
        subprocess.run(["patch", "-p1", "--reverse"], cwd=moved, input=diff, capture_output=True, text=True, check=True)
    assert texts(moved) == texts(CHART)


def test_what_is_moved_is_the_recipes_own_job() -> None:
    text = (CHART / "templates" / "migration-job.yaml").read_text(encoding="utf-8")
    for line in ("argocd.argoproj.io/hook: PreSync", "ttlSecondsAfterFinished: 300", "backoffLimit: 3", 'postgres "$DATABASE_URL" up'):
        assert line in text
