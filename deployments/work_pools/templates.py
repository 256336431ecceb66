"""Base job templates of work pools. They fix everything that a run is started with, so that whoever starts a run can choose nothing of it.

In Prefect's own templates, command, environment and working directory are variables that every run may set: whoever reaches the API could then run
any command as the environment's worker, or have it log in to Vault at another address. In a closed template

- the schema has no variables and allows none, so that the server answers 422 when a deployment or its run carries job variables;
- nothing in the configuration is a placeholder, and `env` is absent. Prefect's worker fills in placeholders from whatever a run carries, and merges
a run's `env` into one that is there; and the server does not validate `POST /flow_runs/`.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Any

from migrator import errors

DIRECTORY = Path(__file__).resolve().parent

KINDS = ("process", "kubernetes")
"""Types of work pools that greylag has a closed template for."""

SETTING = re.compile(r"(?:GREYLAG|PREFECT)_[A-Z0-9_]+")
"""The allowed names of a pod's settings. Others (PATH, PYTHONPATH, LD_PRELOAD) could be used to run other code."""

_SECRET = re.compile(r"(?:PASSWORD|SECRET|SECRET_ID|TOKEN|AUTH_STRING|API_KEY)$")


def process(command: str = "") -> dict[str, Any]:
    """Returns the template of a process pool.

    Args:
        command: the command that starts the engine, for workers that share one Python; empty for the worker's own.
    """
    found = _read("process", {})
    if command:
        found["job_configuration"]["command"] = command
    return _checked(found)


def kubernetes(namespace: str, image: str, settings: Mapping[str, str]) -> dict[str, Any]:
    """Returns the template of a Kubernetes pool, whose runs are restricted pods.

    Args:
        namespace: the environment's.
        image: the worker image, best by digest.
        settings: further variables of the pods by name, e.g. GREYLAG_VAULT_ADDRESS; they override the template's own.

    Raises UsageError (`bad-setting`) for a name that is no setting or names a secret, and for a value that would stay a placeholder.
    """
    found = _read("kubernetes", {"namespace": namespace, "image": image})
    for name in settings:
        if not SETTING.fullmatch(name) or _SECRET.search(name):
            raise errors.UsageError(
                f"{name} can't be a setting of a work pool's pods",
                code="bad-setting",
                hint="settings begin with GREYLAG_ or PREFECT_ and are no secrets: those come from Vault, or from files that a setting names",
            )
    (main,) = found["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]["containers"]
    main["env"] = _listed({**{item["name"]: item["value"] for item in main["env"]}, **settings})
    return _checked(found)


def _checked(template: dict[str, Any]) -> dict[str, Any]:
    if names := free(template):
        raise errors.UsageError(
            f"the work pool would leave {', '.join(names)} to each run", code="bad-setting", hint="write values, no {{ placeholders }}"
        )
    return template


def _read(kind: str, words: Mapping[str, str]) -> dict[str, Any]:
    text = (DIRECTORY / f"{kind}.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(Template(text).substitute({name: json.dumps(word)[1:-1] for name, word in words.items()}))
    return found


def _listed(env: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"name": name, "value": value} for name, value in sorted(env.items())]


def free(template: Mapping[str, Any]) -> list[str]:
    """Returns the names of the variables that a run on a pool with this template can choose; empty for a closed one."""
    configuration, schema = template.get("job_configuration") or {}, template.get("variables") or {}
    if not configuration:  # the worker puts Prefect's own template there
        return ["command", "env", "working_dir"]
    found = {name.partition(".")[0] for name in _placeholders(configuration)}
    found |= {"env"} if isinstance(configuration.get("env"), dict) else set()
    found |= set(schema.get("properties") or {})
    if not found and schema.get("additionalProperties") is not False:
        found.add("anything that Prefect may read one day")
    return sorted(found)


def _placeholders(value: Any) -> set[str]:
    """Returns the names that Prefect fills in from job variables, but not those of its blocks and variables."""
    from prefect.utilities.templating import PlaceholderType, find_placeholders

    return {item.name for item in find_placeholders(value) if item.type is PlaceholderType.STANDARD}


def closed(template: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Returns the same template with each variable fixed to its default, for a pool that exists.

    Raises UsageError (`pool-not-closed`) when that would lose something: a type that is not among `KINDS`, a variable that must be given,
    an environment that a process pool can't hold.
    """
    if kind not in KINDS:
        raise _not_closed(f"greylag has no closed template for the type {kind}", "use a pool of the type process or kubernetes")
    schema, configuration = template.get("variables") or {}, copy.deepcopy(template.get("job_configuration") or {})
    properties = schema.get("properties") or {}
    defaults = {name: item["default"] for name, item in properties.items() if item.get("default") is not None}
    if missing := sorted(set(schema.get("required") or ()) - defaults.keys()):
        raise _not_closed(f"{', '.join(missing)} must be given by each run", "give the variable a default in the pool's base job template")
    own = configuration.get("env")
    env = {**(own if isinstance(own, dict) else {}), **(defaults.get("env") or {})}
    if kind == "process":
        if env:
            raise _not_closed(
                f"it sets {', '.join(sorted(env))} for its runs, which any run could set as well",
                "set these variables for the worker itself (its runs inherit them) and remove them from the pool",
            )
        return _fixed(configuration, defaults)
    return _fixed_pod(configuration, defaults, env)


def _fixed(configuration: dict[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    from prefect.utilities.templating import apply_values

    configuration.pop("env", None)
    configuration.pop("labels", None)
    configuration.pop("name", None)
    filled: Any = apply_values(configuration, {name: value for name, value in values.items() if name != "env"})
    empty = _read("process", {})
    return _checked({"job_configuration": {"stream_output": True, **filled}, "variables": empty["variables"]})


def _fixed_pod(configuration: dict[str, Any], values: Mapping[str, Any], env: Mapping[str, Any]) -> dict[str, Any]:
    try:
        pod = configuration["job_manifest"]["spec"]["template"]["spec"]
        (main, *_) = pod["containers"]
        held = main.get("env")
    except (KeyError, TypeError, ValueError):
        raise _not_closed("its template is no Job", "make the pool anew") from None
    metadata = configuration["job_manifest"].setdefault("metadata", {})
    metadata.pop("generateName", None)  # Prefect names the Job after the run
    if _placeholders(metadata.get("labels") or {}):
        metadata["labels"] = values.get("labels") or {}
    if main.get("args") == "{{ command }}" and "command" not in values:
        del main["args"]
    main["env"] = [*(held if isinstance(held, list) else []), *_listed(env)]
    return _fixed(configuration, values)


def _not_closed(message: str, hint: str) -> errors.UsageError:
    return errors.UsageError(message, code="pool-not-closed", hint=hint)
