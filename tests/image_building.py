"""Builds what a Dockerfile describes in a temporary root, without a container engine; its base image is this machine.

A double of `docker build` for the instructions that greylag's files use; any other one is an error. Each stage is an overlay over the machine's `/` whose
upper directory is what the stage made. Runs as a program in a mount namespace of its own (`build`), so that nothing is left mounted.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DIGEST = "machine@sha256:" + "0" * 64
"""What the build argument BASE is called unless a test says otherwise."""


@dataclass
class Stage:
    """One FROM: its overlay, and what its instructions set."""

    name: str
    upper: Path
    merged: Path
    environment: dict[str, str]
    directory: str = "/"
    shell: list[str] = field(default_factory=lambda: ["/bin/sh", "-c"])
    user: str = "0:0"
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    healthcheck: str = ""


def instructions(text: str) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile, with continued lines joined and comments left out."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(word.upper(), rest.strip()) for word, _, rest in (line.partition(" ") for line in joined.splitlines() if line.strip())]


class Builder:
    """Builds the stages one after the other; the last one is the image."""

    def __init__(self, scratch: Path, context: Path, base: str) -> None:
        self.scratch, self.context, self.base = scratch, context, base
        self.stages: list[Stage] = []

    def build(self, text: str) -> Stage:
        for word, rest in instructions(text):
            if word == "ARG" and not self.stages:
                continue  # BASE, which is this machine
            if word == "FROM":
                self._from(rest)
            else:
                getattr(self, f"_{word.lower()}")(self.stages[-1], rest)  # an unknown instruction is an AttributeError
        return self.stages[-1]

    def _from(self, rest: str) -> None:
        found = re.fullmatch(r"\$\{BASE\}(?: AS (\w+))?", rest)
        assert found is not None, rest
        place = self.scratch / str(len(self.stages))
        upper, work, merged = (place / name for name in ("upper", "work", "merged"))
        for directory in (upper, work, merged):
            directory.mkdir(parents=True)
        _mount("-t", "overlay", "overlay", "-o", f"lowerdir=/,upperdir={upper},workdir={work}", str(merged))
        for name in ("proc", "dev", "sys"):
            _mount("--rbind", f"/{name}", str(merged / name))
        # The machine's Python may lie in somebody's home.
        for parent in Path(sys.base_prefix).parents:
            (merged / str(parent).lstrip("/")).chmod(0o755)
        path = f"{sys.base_prefix}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        kept = {
            name: value for name, value in os.environ.items() if re.match(r"PIP_|HTTPS?_PROXY|NO_PROXY|SSL_|https?_proxy|no_proxy", name)
        }
        self.stages.append(Stage(found[1] or "", upper, merged, {"PATH": path, "HOME": "/root", **kept}))

    def _arg(self, stage: Stage, rest: str) -> None:
        assert rest == "BASE"
        stage.environment["BASE"] = self.base

    def _shell(self, stage: Stage, rest: str) -> None:
        stage.shell = json.loads(rest)

    def _workdir(self, stage: Stage, rest: str) -> None:
        (stage.merged / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
        stage.directory = rest

    def _env(self, stage: Stage, rest: str) -> None:
        for pair in shlex.split(rest):
            name, _, value = pair.partition("=")
            stage.environment[name] = value

    def _user(self, stage: Stage, rest: str) -> None:
        stage.user = rest

    def _entrypoint(self, stage: Stage, rest: str) -> None:
        stage.entrypoint = json.loads(rest)

    def _cmd(self, stage: Stage, rest: str) -> None:
        stage.command = json.loads(rest)

    def _healthcheck(self, stage: Stage, rest: str) -> None:
        stage.healthcheck = rest

    def _copy(self, stage: Stage, rest: str) -> None:
        words = rest.split()
        source, ignored = self.context, shutil.ignore_patterns("__pycache__")  # as .dockerignore has it
        if words[0].startswith("--from="):
            owner, ignored = words.pop(0).removeprefix("--from="), None
            source = next(other.merged for other in self.stages if other.name == owner)
        *names, target = words
        place = stage.merged / str(Path(stage.directory) / target).lstrip("/")
        for name in names:
            found = source / name.lstrip("/")
            if found.is_dir():
                # The contents of a directory; Docker keeps links as they are.
                shutil.copytree(found, place, symlinks=True, dirs_exist_ok=True, ignore=ignored)
            else:
                place.mkdir(parents=True, exist_ok=True)
                shutil.copy2(found, place)

    def _run(self, stage: Stage, rest: str) -> None:
        done = execute(stage, [*stage.shell, rest], user="0:0")
        if done.returncode != 0:
            raise SystemExit(f"RUN {rest[:100]}: exit code {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def execute(stage: Stage, command: Sequence[str], *, user: str) -> subprocess.CompletedProcess[str]:
    """Runs a program in a stage's root, with its variables and nothing else."""
    chroot = ["chroot", f"--userspec={user}", str(stage.merged), "env", "-i", f"--chdir={stage.directory}"]
    variables = [f"{name}={value}" for name, value in stage.environment.items()]
    return subprocess.run([*chroot, *variables, *command], capture_output=True, encoding="utf-8", check=False, stdin=subprocess.DEVNULL)


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def build(file: Path, scratch: Path, *, base: str = DIGEST, checks: Mapping[str, Sequence[str]] | None = None) -> dict[str, Any]:
    """Builds a Dockerfile with the checkout as context; returns what it says of the image, and the end of each check.

    A check is a program that runs in the finished image as its user, with a read-only root, an empty writable /tmp and without the machine's own Python.
    """
    order = {"file": str(file), "scratch": str(scratch), "base": base, "checks": checks or {}}
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", sys.executable, "-m", "tests.image_building"],
        input=json.dumps(order),
        capture_output=True,
        encoding="utf-8",
        cwd=ROOT,
        check=False,
    )
    if done.returncode != 0:
        return {"error": done.stderr}
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main() -> int:
    """Reads an order on standard input and writes the result to standard output."""
    order = json.loads(sys.stdin.read())
    scratch = Path(order["scratch"])
    _mount("-t", "tmpfs", "tmpfs", str(scratch))  # an overlay's upper directory can't lie on another overlay
    builder = Builder(scratch, ROOT, order["base"])
    stage = builder.build(Path(order["file"]).read_text(encoding="utf-8"))
    made = [path for path in stage.upper.rglob("*") if path.is_file() and not path.is_symlink()]
    _mount("-t", "tmpfs", "-o", "mode=1777", "tmpfs", str(stage.merged / "tmp"))
    keeps_python = any(word.startswith("/opt/venv") for word in stage.entrypoint)
    if not keeps_python:  # /opt/greylag has one of its own
        _mount("-t", "tmpfs", "tmpfs", str(stage.merged / sys.base_prefix.lstrip("/")))
    _mount("-o", "remount,ro", str(stage.merged))
    results = {}
    for name, command in order["checks"].items():
        done = execute(stage, command, user=stage.user)
        results[name] = {"code": done.returncode, "out": done.stdout[-4000:], "err": done.stderr[-4000:]}
    print(
        json.dumps(
            {
                "user": stage.user,
                "entrypoint": stage.entrypoint,
                "healthcheck": stage.healthcheck,
                "environment": stage.environment,
                "files": [str(path.relative_to(stage.upper)) for path in made],
                "bytes": sum(path.stat().st_size for path in made),
                "writable": [str(path.relative_to(stage.upper)) for path in made if path.stat().st_mode & 0o002 or path.stat().st_uid != 0],
                "checks": results,
            }
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
