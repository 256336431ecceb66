"""The sandbox's Go programs, built once and kept in the cache: `controlplane` (Kubernetes), `openbao` and `argocd`.

A binary's name holds a digest of its module's content: a change of go.mod, of a source file or of the linker's options leads to
another name, so that an old binary is never mistaken for a new one. Nothing here is needed to use greylag, to run its demo or most of its tests.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from migrator import errors
from sandbox import cache

CONTROLPLANE = "controlplane"
OPENBAO = "openbao"
ARGOCD = "argocd"

_HERE = Path(__file__).resolve().parent
_MODULE_FILES = {".go", ".mod", ".sum"}
_STRIP = "-s -w"  # no symbol table, no debugger's information: a third of the size
_DIGEST_LENGTH = 12
_REMINDER_SECONDS = 30.0  # Go prints nothing while it compiles; without any output for minutes a build seems to hang
_ENVIRONMENT = {
    "CGO_ENABLED": "0",
    "GOTOOLCHAIN": "auto",  # a module that asks for a newer Go than is installed gets it, from the module proxy
}
_NICENESS = 10  # a cold build keeps every core busy for minutes; other work goes first

Progress = Callable[[str], None]
"""Receives one sentence about each piece of work."""


@dataclasses.dataclass(frozen=True, slots=True)
class Companions:
    """Files of a Go module that are no Go: its path in go.mod, and the files' own paths in it."""

    module: str
    files: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Program:
    """A Go program of the sandbox.

    Attributes:
        name: the binary's name in the cache.
        module: the directory of its go.mod.
        summary: what it is, for messages.
        minutes: the time of a build without any compiled packages, on two cores.
        target: the target of the Makefile that builds it.
        companions: files of a module that it needs when it runs, kept beside the binary: the module cache may be emptied.
    """

    name: str
    module: Path
    summary: str
    minutes: int
    target: str = ""
    companions: Companions | None = None

    @property
    def linker_options(self) -> str:
        """The value of `-ldflags`. Kubernetes programs that don't know their version refuse each other, so they get the module's."""
        release = _kubernetes_release(self.module / "go.mod")
        if release is None:
            return _STRIP
        _, major, minor = re.split(r"v|\.", release)[:3]
        values = {"gitVersion": release, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
        packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
        return " ".join([_STRIP, *(f"-X {package}.{name}={value}" for package in packages for name, value in values.items())])

    @property
    def digest(self) -> str:
        """Returns a name for the module's content: every file that Go reads, with its path, the linker's options, and what is kept beside the binary."""
        sha = hashlib.sha256(self.linker_options.encode())
        if self.companions is not None:
            sha.update("\0".join(self.companions.files).encode())
        for path in sorted(_module_files(self.module)):
            sha.update(f"\0{path.relative_to(self.module).as_posix()}\0".encode())
            sha.update(path.read_bytes())
        return sha.hexdigest()[:_DIGEST_LENGTH]


_ARGOCD_FILES = Companions(
    "github.com/argoproj/argo-cd/v3",
    (
        "hack/git-verify-wrapper.sh",
        *(f"manifests/crds/{name}-crd.yaml" for name in ("application", "appproject")),
        *(
            f"manifests/base/config/argocd-{name}.yaml"
            for name in ("cm", "cmd-params-cm", "gpg-keys-cm", "rbac-cm", "secret", "ssh-known-hosts-cm", "tls-certs-cm")
        ),
    ),
)

PROGRAMS = {
    program.name: program
    for program in (
        Program(CONTROLPLANE, _HERE / "cluster" / "controlplane", "etcd, Kubernetes, kubectl and helm", minutes=16, target="cluster"),
        Program(OPENBAO, _HERE / "vault" / "openbao", "the OpenBao server", minutes=4, target="vault"),
        Program(
            ARGOCD,
            _HERE / "argocd" / "pieces",
            "Argo CD's controller, API server and repository server",
            minutes=12,
            target="argocd",
            companions=_ARGOCD_FILES,
        ),
    )
}


def _module_files(module: Path) -> Iterator[Path]:
    return (path for path in module.rglob("*") if path.suffix in _MODULE_FILES and path.is_file())


def _kubernetes_release(go_mod: Path) -> str | None:
    found = re.search(r"^\s*k8s\.io/kubernetes (v\d+\.\d+\.\d+)\s*$", go_mod.read_text(encoding="utf-8"), re.MULTILINE)
    return found[1] if found else None


def kubernetes_release() -> str:
    """Returns the Kubernetes release that `controlplane` is made of, e.g. `v1.37.2`."""
    found = _kubernetes_release(PROGRAMS[CONTROLPLANE].module / "go.mod")
    assert found is not None, "go.mod of the control plane names k8s.io/kubernetes"
    return found


@functools.cache
def _digest(name: str) -> str:
    return PROGRAMS[name].digest


def place(name: str) -> Path:
    """Returns the path of the binary for this module's present content, built or not."""
    return cache.directory() / "bin" / f"{name}-{_digest(name)}"


def companions(name: str) -> Path:
    """Returns the directory of the files that are kept beside a binary; they are there whenever the binary is."""
    path = place(name)
    return path.with_name(f"{path.name}.files")


def binary(name: str) -> Path | None:
    """Returns the cached binary; None while it is not built."""
    path = place(name)
    return path if os.access(path, os.X_OK) else None


def missing(name: str) -> str:
    """Says why `binary` has nothing, and how to change that; the reason of tests that skip."""
    program = PROGRAMS[name]
    return f"{program.summary}: not built (no {place(name)}); `make {program.target}` builds it, once"


def require(name: str) -> Path:
    """Returns the cached binary.

    Raises:
        NotFound: it is not built.
    """
    found = binary(name)
    if found is None:
        raise errors.NotFound(missing(name), code="sandbox-missing", hint=f"python -m sandbox.builds {name}")
    return found


def build(name: str, progress: Progress = lambda _: None) -> Path:
    """Returns the binary, built into the cache unless it is there.

    Args:
        name: a key of `PROGRAMS`.
        progress: receives a text when a build starts (with the time it may take), each half minute, and when it is done.

    Raises:
        NotFound: there is no Go.
        Unavailable: the build failed; the detail shows Go's last lines.
    """
    found = binary(name)
    if found is not None:
        return found
    program, wanted = PROGRAMS[name], place(name)
    go = shutil.which("go")
    if go is None:
        raise errors.NotFound(
            f"{program.summary} is not built yet, and there is no Go on PATH to build it",
            code="sandbox-missing",
            hint=f"install Go {_go_release(program)} or newer (https://go.dev/dl), or put a built binary at {wanted}",
        )
    progress(f"building {program.summary}: up to {program.minutes} minutes the first time, seconds once Go has compiled the packages")
    began = time.monotonic()
    wanted.parent.mkdir(parents=True, exist_ok=True)
    unfinished = wanted.with_name(f".{wanted.name}.{os.getpid()}")
    command = [*_nice(), go, "build", "-trimpath", "-ldflags", program.linker_options, "-o", str(unfinished), "."]
    returncode, said = _run(command, program.module, lambda: progress(f"still building: {time.monotonic() - began:.0f} s"))
    if returncode == 0 and program.companions is not None:
        returncode, said = _keep_companions(go, program, companions(name))
    if returncode != 0:
        unfinished.unlink(missing_ok=True)
        raise errors.Unavailable(
            f"{program.summary} could not be built in {program.module}",
            code="sandbox-build",
            hint="Go fetches the modules from GOPROXY (`go env GOPROXY`): it must be reachable",
            detail=said.strip()[-2000:],
        )
    unfinished.replace(wanted)
    progress(f"built {wanted} in {time.monotonic() - began:.0f} s")
    return wanted


def _run(command: list[str], directory: Path, remind: Callable[[], None]) -> tuple[int, str]:
    """Runs a program to its end; returns its exit code and its standard error."""
    environment = os.environ | _ENVIRONMENT
    with subprocess.Popen(
        command, cwd=directory, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, encoding="utf-8"
    ) as running:
        while True:
            try:
                _, said = running.communicate(timeout=_REMINDER_SECONDS)
                return running.returncode, said
            except subprocess.TimeoutExpired:
                remind()
            except BaseException:
                running.kill()
                raise


def _keep_companions(go: str, program: Program, directory: Path) -> tuple[int, str]:
    """Copies a program's companions out of the module cache, where the build has just left them. Returns as `_run`."""
    assert program.companions is not None
    command = [go, "list", "-m", "-f", "{{.Dir}}", program.companions.module]
    asked = subprocess.run(command, cwd=program.module, env=os.environ | _ENVIRONMENT, capture_output=True, encoding="utf-8", check=False)
    if asked.returncode != 0:
        return asked.returncode, asked.stderr
    unfinished = directory.with_name(f".{directory.name}.{os.getpid()}")
    for name in program.companions.files:
        kept = unfinished / name
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(Path(asked.stdout.strip()) / name, kept)  # without its mode: files of the module cache are read-only
    shutil.rmtree(directory, ignore_errors=True)
    unfinished.replace(directory)
    return 0, ""


def _go_release(program: Program) -> str:
    found = re.search(r"^go (\d+\.\d+)", (program.module / "go.mod").read_text(encoding="utf-8"), re.MULTILINE)
    return found[1] if found else "1.26"


def _nice() -> list[str]:
    return ["nice", "-n", str(_NICENESS)] if shutil.which("nice") else []


def main(arguments: list[str] | None = None) -> int:
    """Builds the named programs and prints their paths."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.builds", description="Builds the sandbox's Go programs, once.")
    parser.add_argument("program", nargs="+", choices=sorted(PROGRAMS))
    try:
        for name in parser.parse_args(arguments).program:
            print(build(name, lambda said: print(f"[build] {said}", file=sys.stderr, flush=True)))
    except errors.GreylagError as error:
        print(error.describe(), file=sys.stderr)
        return int(error.exit_code)
    return 0


if __name__ == "__main__":
    sys.exit(main())
