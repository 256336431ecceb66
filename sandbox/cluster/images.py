"""What an image name stands for on a machine without containers: the host's own files, plus what the image adds.

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
        name: as manifests write it. With a tag or a digest it stands for exactly that; without, for every tag that has no image of its own.
        entrypoint: what runs unless the container says `command`.
        command: its arguments unless the container says `command` or `args`.
        environment: variables; PATH has the usual default.
        mounts: places in the container (absolute) and what lies there, files or directories of the host, read-only.
        working_directory: where it starts.
        user: uid that it runs as unless the manifest says otherwise.
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
        """Names the image's content, as a registry would."""
        return "sha256:" + hashlib.sha256(_encoded(self)).hexdigest()

    @property
    def identity(self) -> str:
        """What a pod's status calls `imageID`: repository and digest."""
        return f"{repository(self.name)}@{self.digest}"


def repository(name: str) -> str:
    """An image's name without its tag and digest."""
    plain = name.partition("@")[0]
    head, slash, last = plain.rpartition("/")
    return head + slash + last.partition(":")[0]


class Registry:
    """The images that a cluster knows: a directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def register(self, image: Image) -> None:
        """Adds an image, or replaces the one of this name. Containers that run keep what they have."""
        self._directory.mkdir(parents=True, exist_ok=True)
        place = self._place(image.name)
        unfinished = place.with_suffix(f".{os.getpid()}.unfinished")
        unfinished.write_bytes(_encoded(image))
        unfinished.replace(place)

    def find(self, name: str) -> Image | None:
        """The image of exactly this name, else that of the name without its tag and digest."""
        for candidate in dict.fromkeys((name, name.partition("@")[0], repository(name))):
            place = self._place(candidate)
            if place.exists():
                return _decoded(place.read_bytes())
        return None

    def _place(self, name: str) -> Path:
        # A name holds slashes and may be longer than a file name; the file itself says which it is.
        return self._directory / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.json"


def _encoded(image: Image) -> bytes:
    return json.dumps(dataclasses.asdict(image), sort_keys=True).encode()


def _decoded(text: bytes) -> Image:
    found = json.loads(text)
    return Image(**found | {"entrypoint": tuple(found["entrypoint"]), "command": tuple(found["command"])})


def machine(name: str) -> Image:
    """The machine itself as an image: a shell and whatever is installed."""
    return Image(name)


def checkout(
    name: str, root: Path, python: Path, mounts: Mapping[str, str] | None = None, environment: Mapping[str, str] | None = None
) -> Image:
    """A checkout of the project with its virtual environment as an image: `greylag` and `python` are on PATH.

    Args:
        name: the image's.
        root: the checkout; it keeps its place, because a virtual environment's programs name it.
        python: the virtual environment's interpreter (`sys.executable`).
        mounts: further places, e.g. a service's migrations (`Image.mounts`).
        environment: further variables.
    """
    # The virtual environment leads to the Python that made it, which may lie in somebody's home.
    places = {str(root), str(python.parent.parent), sys.base_prefix} - {"/usr", "/usr/local"}
    return Image(
        name,
        environment={"PATH": f"{python.parent}:{DEFAULT_PATH}", "PYTHONDONTWRITEBYTECODE": "1"} | dict(environment or {}),
        mounts={place: place for place in sorted(places)} | dict(mounts or {}),
        working_directory=str(root),
    )
