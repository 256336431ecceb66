"""Images on a machine without containers: the host's own files, plus those that the image adds.

A registered image is a JSON file in the cluster's `images/`; the kubelet reads it when it starts a container, so that an image can be
"pushed" while the cluster runs. A name that is not registered ends in ErrImagePull and ImagePullBackOff, as it does with a registry.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclasses.dataclass(frozen=True, slots=True)
class Image:
    """An image.

    Attributes:
        name: the name in manifests. With a tag or a digest it stands for exactly that image; without, for every tag that has no image of its own.
        entrypoint: the program, unless the container has a `command`.
        command: its arguments, unless the container has a `command` or `args`.
        environment: variables; PATH has the usual default.
        mounts: absolute path in the container -> file or directory of the host, read-only.
        working_directory: the program's working directory.
        user: its uid, unless the manifest has another.
    """

    name: str
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    mounts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    working_directory: str = "/"
    user: int = 0

    @property
    def digest(self) -> str:
        """A digest of the image's content, as a registry would compute it."""
        return "sha256:" + hashlib.sha256(_encoded(self)).hexdigest()

    @property
    def identity(self) -> str:
        """Returns a pod status's `imageID`: repository and digest."""
        return f"{repository(self.name)}@{self.digest}"


def repository(name: str) -> str:
    """Returns an image's name without its tag and digest."""
    plain = name.partition("@")[0]
    head, slash, last = plain.rpartition("/")
    return head + slash + last.partition(":")[0]


class Registry:
    """The images that a cluster knows: a directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def register(self, image: Image) -> None:
        """Adds an image, or replaces the one of this name. Running containers keep theirs."""
        self._directory.mkdir(parents=True, exist_ok=True)
        place = self._place(image.name)
        unfinished = place.with_suffix(f".{os.getpid()}.unfinished")
        unfinished.write_bytes(_encoded(image))
        unfinished.replace(place)

    def find(self, name: str) -> Image | None:
        """Returns the image of exactly this name, else the one without tag and digest."""
        for candidate in dict.fromkeys((name, name.partition("@")[0], repository(name))):
            place = self._place(candidate)
            if place.exists():
                return _decoded(place.read_bytes())
        return None

    def _place(self, name: str) -> Path:
        # A name holds slashes and may be longer than a file name; the file's content holds the name.
        return self._directory / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.json"


def _encoded(image: Image) -> bytes:
    return json.dumps(dataclasses.asdict(image), sort_keys=True).encode()


def _decoded(text: bytes) -> Image:
    found = json.loads(text)
    return Image(**found | {"entrypoint": tuple(found["entrypoint"]), "command": tuple(found["command"])})


def machine(name: str) -> Image:
    """Returns the machine itself as an image: a shell and everything that is installed."""
    return Image(name)


def checkout(
    name: str, root: Path, python: Path, mounts: Mapping[str, str] | None = None, environment: Mapping[str, str] | None = None
) -> Image:
    """Returns a checkout of the project with its virtual environment as an image: `greylag` and `python` are on PATH.

    Args:
        name: the image's.
        root: the checkout; it has the same path in the container, because a virtual environment's programs contain it.
        python: the virtual environment's interpreter (`sys.executable`).
        mounts: further files, e.g. a service's migrations (`Image.mounts`).
        environment: further variables.
    """
    # The virtual environment links to the Python that made it, which may be in somebody's home.
    places = {str(root), str(python.parent.parent), sys.base_prefix} - {"/usr", "/usr/local"}
    return Image(
        name,
        environment={"PATH": f"{python.parent}:{DEFAULT_PATH}", "PYTHONDONTWRITEBYTECODE": "1"} | dict(environment or {}),
        mounts={place: place for place in sorted(places)} | dict(mounts or {}),
        working_directory=str(root),
    )
