"""Copies this interpreter into a directory of its own, with the libraries that it is linked with: nothing of the image that takes it matters but its C library.

Runs in the build stage of migration.Dockerfile, with the base image's Python and without anything else: `python3 portable.py /opt/greylag`.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

# Parts that a command without a window, and without tests of Python's own, never imports.
_LEFT_OUT = (
    "test",
    "tests",
    "idlelib",
    "tkinter",
    "turtledemo",
    "ensurepip",
    "lib2to3",
    "site-packages",
    "__pycache__",
    "config-*",
    "_tkinter*",
    "_test*",
)

# They belong to the loader of the image that runs this: a second set beside it would not fit.
_OF_THE_C_LIBRARY = re.compile(
    r"(linux-vdso|ld-linux|ld-musl|libc\.|libm\.|libdl\.|libpthread\.|librt\.|libutil\.|libresolv\.|libnsl\.|libcrypt\.)"
)

_LAUNCHER = """#!/bin/sh
# Becomes greylag, so that it is process 1 of its container and hears SIGTERM.
export LD_LIBRARY_PATH={target}/lib
exec {target}/bin/python3 -I -m migrator.cli "$@"
"""


def main(target: Path) -> int:
    """Makes `target`/bin, `target`/lib and the launcher `target`/bin/greylag; packages go into `site_packages`."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    source = Path(sys.base_prefix) / "lib" / version
    shutil.copytree(source, target / "lib" / version, ignore=shutil.ignore_patterns(*_LEFT_OUT), symlinks=False)
    (target / "lib" / version / "site-packages").mkdir()
    (target / "bin").mkdir()
    interpreter = target / "bin" / "python3"
    shutil.copy2(Path(sys.base_prefix) / "bin" / version, interpreter)
    for library in {found for file in [interpreter, *source.glob("lib-dynload/*.so")] for found in _libraries(file)}:
        shutil.copy2(library, target / "lib" / library.name)
    launcher = target / "bin" / "greylag"
    launcher.write_text(_LAUNCHER.format(target=target), encoding="utf-8")
    launcher.chmod(0o755)
    return 0


def _libraries(file: Path) -> Iterator[Path]:
    """Yields the libraries that a file is linked with, under the names that it asks for."""
    if file.name.startswith(("_tkinter", "_test")):
        return
    said = subprocess.run(["ldd", str(file)], capture_output=True, encoding="utf-8", check=False).stdout
    for name, path in re.findall(r"^\s*(\S+) => (/\S+)", said, re.MULTILINE):
        if not _OF_THE_C_LIBRARY.match(name):
            yield Path(path).parent / name


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
