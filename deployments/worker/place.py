"""What a worker is: its environment, its pool, its kind, the checkout that its runs start from. From its own command line, settings and fleet.yaml."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from deployments.worker import catalogue
from migrator import errors
from tasks import fleet
from tasks.fleet import reading

ROOT = Path(__file__).resolve().parents[2]

PROMOTION = "promotion"
"""Stands for the environment of the pool that is no environment's: promotions and approvals run there."""

HEARTBEATS = "PREFECT_FLOWS_HEARTBEAT_FREQUENCY"

HEARTBEAT_SECONDS = 30
"""Seconds, the shortest that Prefect accepts: a run without a process is then known after three of them, not after nine minutes."""

UNPINNED = "none"
"""As a commit: run from the checkout as it stands, whatever is merged meanwhile."""


@dataclass(frozen=True)
class Place:
    """A worker's place. `commit` is what its runs are pinned to; empty where they take the checkout as it stands."""

    environment: str
    pool: str
    kind: catalogue.Kind
    protected: bool
    home: Path
    fleet_file: Path
    commit: str = ""

    def variables(self) -> dict[str, str]:
        """Returns what its runs' processes hold beside the worker's own variables."""
        heartbeats = os.environ.get(HEARTBEATS) or str(HEARTBEAT_SECONDS)
        return {"GREYLAG_HOME": str(self.home), "GREYLAG_FLEET": str(self.fleet_file), HEARTBEATS: heartbeats}


def of_environment(found: fleet.Fleet, name: str, pool: str = "") -> Place:
    """Returns the place of an environment's worker, or of the promotion's.

    Args:
        pool: another pool than fleet.yaml's.

    Raises UsageError (`unknown-environment`).
    """
    home = Path(os.environ.get("GREYLAG_HOME") or ROOT).resolve()
    file = reading.chosen_path().absolute()
    if name == PROMOTION:
        own = found.work_pool.replace("{environment}", PROMOTION)
        return Place(PROMOTION, pool or own, catalogue.Kind.PROMOTION, False, home, file)
    environment = found.environment_name(name)
    own = found.target(next(iter(found.services)), environment).work_pool
    return Place(environment, pool or own, catalogue.Kind.ENVIRONMENT, found.environment(environment).protected, home, file)


def of_pool(found: fleet.Fleet, pool: str) -> Place:
    """Returns the place of the worker of a pool, for one that Prefect's own command started by type and pool.

    Raises UsageError (`unknown-pool`) where fleet.yaml gives the pool to no environment, or to several.
    """
    places = [place for name in (*found.environments, PROMOTION) if (place := of_environment(found, name)).pool == pool]
    if len(places) != 1:
        raise errors.UsageError(
            f"{found.path.name} gives the work pool {pool} to {'several environments' if places else 'no environment'}",
            code="unknown-pool",
            hint="`greylag worker ENVIRONMENT -pool POOL` says whose worker it is",
        )
    return places[0]


@contextlib.contextmanager
def pinned(place: Place, commit: str) -> Iterator[Place]:
    """Yields the place with the files of one commit, copied aside: what is merged into the checkout meanwhile changes nothing for its runs.

    A home that is no git checkout (an image) is taken as it is: nothing is merged into it. A fleet file outside the checkout stays where it is.

    Args:
        commit: a name of git's; empty for a protected environment's HEAD and an unprotected one's checkout as it stands; `none` for the latter.

    Raises UsageError (`bad-commit`).
    """
    wanted = commit or ("HEAD" if place.protected else UNPINNED)
    if wanted == UNPINNED or (not commit and not (place.home / ".git").exists()):
        yield place
        return
    found = _git(place.home, "rev-parse", "--verify", "--end-of-options", f"{wanted}^{{commit}}").decode().strip()
    with tempfile.TemporaryDirectory(prefix=f"greylag-{place.environment}-{found[:12]}-") as name:
        with tarfile.open(fileobj=io.BytesIO(_git(place.home, "archive", "--format=tar", found))) as archive:
            archive.extractall(name, filter="data")
        home = Path(name).resolve()
        file = place.fleet_file
        with contextlib.suppress(ValueError):
            file = home / file.resolve().relative_to(place.home)
        yield replace(place, home=home, fleet_file=file, commit=found)


def _git(home: Path, *words: str) -> bytes:
    try:
        done = subprocess.run(["git", "-C", str(home), *words], capture_output=True, check=False)
    except OSError as error:
        raise _no_commit(home, f"git can't be run: {error.strerror}") from None
    if done.returncode:
        raise _no_commit(home, done.stderr.decode(errors="replace").strip())
    return done.stdout


def _no_commit(home: Path, reason: str) -> errors.UsageError:
    return errors.UsageError(
        f"{home} can't be pinned to a commit: {reason}",
        code="bad-commit",
        hint=f"-commit names one of that checkout; -commit {UNPINNED} takes the files as they stand",
    )
