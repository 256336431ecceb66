"""Runs as Kubernetes Jobs: from a template of the worker's own, into which only the flow's name and the run's id go. The manifest is made by pure functions."""

from __future__ import annotations

import copy
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from migrator import errors

if TYPE_CHECKING:
    from tasks.kubernetes.api import Api

Json = dict[str, Any]

TEMPLATE = Path(__file__).with_name("job.json")
"""The Job that is made unless the worker's settings name another template: a restricted pod that Kubernetes itself never starts twice."""

MODULE = "deployments.worker.pod"
"""What the pod begins with."""

POLL_SECONDS = 2.0

PATIENCE_SECONDS = 120.0
"""Seconds for which a pod may lack a node, an image or a container before its run is given up, as with Prefect's own Kubernetes worker."""

SETTING = re.compile(r"(?:GREYLAG|PREFECT)_[A-Z0-9_]+")
"""The allowed names of a pod's settings. Others (PATH, PYTHONPATH, LD_PRELOAD) could be used to run other code."""

_SECRET = re.compile(r"(?:PASSWORD|SECRET|SECRET_ID|TOKEN|AUTH_STRING|API_KEY)$")


@dataclass(frozen=True)
class JobSettings:
    """How Jobs are made: all of it from the worker's command line.

    Args:
        namespace: the environment's.
        image: the worker image, best by digest.
        settings: variables of the pods beside the template's, which they override.
        template: a Job as JSON or YAML; `TEMPLATE` unless given.
    """

    namespace: str
    image: str
    settings: Mapping[str, str] = field(default_factory=dict)
    template: Path = TEMPLATE


def checked(settings: Mapping[str, str]) -> Mapping[str, str]:
    """Returns the settings. Raises UsageError (`bad-setting`) for a name that is no setting or names a secret."""
    for name in settings:
        if not SETTING.fullmatch(name) or _SECRET.search(name):
            raise errors.UsageError(
                f"{name} can't be a setting of a run's pod",
                code="bad-setting",
                hint="settings begin with GREYLAG_ or PREFECT_ and are no secrets: those come from Vault, or a Secret that the template names",
            )
    return settings


def read(file: Path) -> Json:
    """Reads a template. Raises UsageError (`bad-setting`) where it is no Job with a container."""
    import yaml

    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
        _container(found)
    except (OSError, yaml.YAMLError, KeyError, TypeError, IndexError) as error:
        raise errors.UsageError(
            f"{file} is no Job: {type(error).__name__}", code="bad-setting", hint=f"start from a copy of {TEMPLATE.name}"
        ) from None
    return dict(found)


def manifest(template: Mapping[str, Any], job: JobSettings, words: tuple[str, ...], variables: Mapping[str, str]) -> Json:
    """Returns the Job of a run.

    Args:
        words: what the pod's program takes: the flow's name, the run's id, the worker's environment, pool and name.
        variables: the worker's own for this run. The template's and the settings' come after them.
    """
    found: Json = copy.deepcopy(dict(template))
    metadata = found.setdefault("metadata", {})
    metadata["namespace"] = job.namespace
    metadata["name"] = f"greylag-run-{words[1]}"
    metadata.setdefault("annotations", {})["greylag/flow"] = words[0]
    main = _container(found)
    main["image"] = job.image
    main["command"] = ["python", "-m", MODULE, *words]
    main.pop("args", None)
    held = [item for item in main.get("env") or [] if item["name"] not in job.settings]
    own = {name: value for name, value in variables.items() if name not in {item["name"] for item in held} | set(job.settings)}
    main["env"] = [*_listed(own), *held, *_listed(job.settings)]
    return found


def _container(found: Mapping[str, Any]) -> Json:
    container: Json = found["spec"]["template"]["spec"]["containers"][0]
    return container


def _listed(variables: Mapping[str, str]) -> list[Json]:
    return [{"name": name, "value": value} for name, value in sorted(variables.items())]


def finished(job: Mapping[str, Any]) -> str:
    """Returns `Complete` or `Failed` with the reason, empty while the Job goes on."""
    for item in (job.get("status") or {}).get("conditions") or []:
        if item.get("type") in ("Complete", "Failed") and item.get("status") == "True":
            reason = ": ".join(str(item[key]) for key in ("reason", "message") if item.get(key))
            return f"{item['type']} ({reason})" if reason and item["type"] == "Failed" else str(item["type"])
    return ""


def lacking(pods: list[Json]) -> str:
    """Returns why no container of these pods has begun; empty once one has."""
    for pod in pods:
        status = pod.get("status") or {}
        if status.get("phase") in ("Running", "Succeeded", "Failed"):
            return ""
        for item in status.get("containerStatuses") or []:
            waiting = (item.get("state") or {}).get("waiting") or {}
            if waiting.get("reason"):
                return ": ".join(str(waiting[key]) for key in ("reason", "message") if waiting.get(key))
        for item in status.get("conditions") or []:
            if item.get("status") == "False" and item.get("message"):
                return str(item["message"])
    return "no pod was made" if not pods else "the pod has not begun"


class Cluster:
    """Makes a run's Job and follows it to its end. All calls are blocking; the worker makes them in threads.

    Args:
        api: the cluster, as `tasks.kubernetes.api` connects to it.
    """

    def __init__(self, api: Api, job: JobSettings) -> None:
        self._api, self._job = api, job
        self._template = read(job.template)
        checked(job.settings)

    def create(self, words: tuple[str, ...], variables: Mapping[str, str]) -> Json:
        """Creates the Job. Its name is of its own each time: a run that is started again leaves the Job of its earlier attempt. Raises GreylagError."""
        wanted = manifest(self._template, self._job, words, variables)
        wanted["metadata"]["name"] += f"-{secrets.token_hex(3)}"
        made = self._api.create_job(self._job.namespace, wanted)
        if made is None:
            name = f"{self._job.namespace}/{wanted['metadata']['name']}"
            raise errors.NotFound(f"a Job {name} exists already", code="job-conflict", hint="use Retry")
        return made

    def look(self, job: Json) -> tuple[str, str]:
        """Returns how the Job ended (empty while it goes on) and why none of its pods has begun (empty once one has)."""
        metadata = job["metadata"]
        found = self._api.job(self._job.namespace, metadata["name"])
        if found is None or found["metadata"]["uid"] != metadata["uid"]:
            return "Failed (the Job is gone)", ""
        ended = finished(found)
        pods = [] if ended else self._api.pods(self._job.namespace, f"batch.kubernetes.io/controller-uid={metadata['uid']}")
        return ended, "" if ended else lacking(pods)

    def delete(self, job: Json) -> None:
        """Deletes a Job whose pod does not begin."""
        self._api.delete_job(self._job.namespace, job["metadata"]["name"], job["metadata"]["uid"])
