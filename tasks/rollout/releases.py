"""Decides whether a workload belongs to this release at all. Pure.

A finished rollout of the previous release looks exactly like a finished rollout of this one: only the image, or the workload's state before the run,
distinguishes them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from migrator import errors
from tasks.kubernetes import objects
from tasks.kubernetes.objects import Json
from tasks.rollout import images
from tasks.rollout.images import Match
from tasks.rollout.statuses import Progress, Verdict


@dataclass(frozen=True, slots=True)
class Before:
    """A workload's state before the migration ran. `template` is a digest of its pod template, because scaling makes a new generation but no new
    release. The defaults mean that there was no workload.
    """

    uid: str = ""
    generation: int = 0
    template: str = ""


def snapshot(workload: Json | None) -> Before:
    """Returns the state of a workload that is to be remembered before a run."""
    if workload is None:
        return Before()
    return Before(str(workload["metadata"].get("uid", "")), objects.generation(workload), _digest(objects.template(workload)))


def belongs(workload: Json, image: str, container: str, before: Before | None) -> Verdict:
    """Tells whether the workload is this release's: DONE, NOT_YET, or WAITING when only its pods can tell (`proven`).

    With an image, the image decides. Without one, the pod template must be newer than before the run. With neither, releases can't be
    distinguished, and the answer is NOT_YET.

    Args:
        image: this release's (`images.parse`); empty when it is not known. container: the container whose image counts; empty for any.
    Raises:
        UsageError: `bad-image`.
    """
    if image:
        return _by_image(workload, image, container)
    if before is None:
        return Verdict(
            Progress.NOT_YET, "nothing tells this release from the one before: neither its image nor what was there before is known"
        )
    if str(workload["metadata"].get("uid", "")) != before.uid:
        return Verdict(Progress.DONE, "was created since the run began")
    generation = objects.generation(workload)
    if generation > before.generation and _digest(objects.template(workload)) != before.template:
        return Verdict(Progress.DONE, f"generation {generation} is newer than {before.generation}, seen before the run")
    return Verdict(Progress.NOT_YET, f"still has the pod template of generation {before.generation}, seen before the run")


def _by_image(workload: Json, image: str, container: str) -> Verdict:
    wanted = images.parse(image)
    present = objects.images(workload, container)
    matches = {item: _compared(wanted, item) for item in present}
    if Match.SAME in matches.values():
        return Verdict(Progress.DONE, f"carries {image}")
    unproven = next((item for item, match in matches.items() if match is Match.UNPROVEN), "")
    if unproven and wanted.digest:
        return Verdict(Progress.WAITING, f"carries {unproven}; no pod tells yet whether that is {wanted.digest}")
    if unproven:
        return Verdict(
            Progress.NOT_YET, f"carries {unproven}, which does not say whether it is {image}: give this release's digest, or tag and digest"
        )
    hint = f" (a tag alone is written :{image})" if images.is_tag(image) and _fits(f":{image}", present) else ""
    return Verdict(Progress.NOT_YET, f"carries {', '.join(present) or 'no such container'}, not {image}{hint}")


def proven(workload: Json, image: str, container: str, pods: Sequence[Json]) -> Verdict:
    """Tells whether the release's pods run the wanted digest, when the workload names a tag: the runtime's `imageID` decides.

    Args:
        pods: those of the workload's newest revision.
    """
    wanted = images.parse(image)
    names = {
        item["name"] for item in objects.containers(workload, container) if _compared(wanted, str(item.get("image", ""))) is not Match.OTHER
    }
    running = {images.digest_of(identity) for identity in _identities(pods, names)}
    if running == {wanted.digest}:
        return Verdict(Progress.DONE, f"runs {wanted.digest}")
    if running - {wanted.digest, ""}:
        return Verdict(Progress.NOT_YET, f"runs {', '.join(sorted(running - {''}))}, not {wanted.digest}")
    return Verdict(Progress.WAITING, f"no pod tells yet whether it runs {wanted.digest}")


def carried(workload: Json, image: str, container: str) -> str:
    """Returns the release's image as the workload names it: the first one that fits `image`."""
    found = objects.images(workload, container)
    if image:
        wanted = images.parse(image)
        found = [item for item in found if _compared(wanted, item) is not Match.OTHER]
    return found[0] if found else ""


def _identities(pods: Sequence[Json], names: set[str]) -> Iterable[str]:
    for pod in pods:
        for item in (pod.get("status") or {}).get("containerStatuses") or ():
            if item.get("name") in names:
                yield str(item.get("imageID") or "")


def _fits(image: str, present: Sequence[str]) -> bool:
    return any(_compared(images.parse(image), item) is Match.SAME for item in present)


def _compared(wanted: images.Reference, carried: str) -> Match:
    try:
        return images.compare(wanted, images.parse(carried))
    except errors.UsageError:  # a name that no node will pull is not this release's
        return Match.OTHER


def _digest(template: Json) -> str:
    return hashlib.sha256(json.dumps(template, sort_keys=True, default=str).encode()).hexdigest()
