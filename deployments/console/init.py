"""The first fleet file. `greylag init` calls it after goose's own `init`; an existing file is never touched."""

from __future__ import annotations

import os
from pathlib import Path

from migrator import errors
from tasks import fleet

FILE_NAME = "fleet.yaml"

TEMPLATE = """\
# The fleet: which services have which databases in which environments, and where their secrets lie. Holds no secret itself.
# `greylag fleet` prints how it is understood, `greylag targets` what its targets are.

namespace: "{{environment}}-{project}"       # Kubernetes namespace of an environment
work_pool: "greylag-{{environment}}"         # Prefect work pool of an environment

vault:
  mount: secret                            # a KV version 2 mount
  path: "apps/{project}/{{environment}}/{{service}}/{{store}}"   # {{store}} is postgres or clickhouse

environments:                              # in the order of promotion
  dev: {{suffix: _dev}}                      # databases are named {{base name}}{{suffix}}
  release: {{suffix: _release}}
  prod: {{aliases: [production], suffix: "", protected: true}}

services:
  {service}:
    engine: postgres                       # or clickhouse
    database: {database}                   # without an environment's suffix
    migrations: {migrations}
    # depends_on: [another-service]        # deployed before this one
"""


def fleet_path() -> Path:
    """Tells where a first fleet file goes: to GREYLAG_FLEET's place, else `fleet.yaml` in the working directory."""
    return Path(os.environ.get(fleet.ENVIRONMENT_VARIABLE) or FILE_NAME)


_NOT_TEXT = frozenset({"true", "false", "null"})
"""Words that YAML 1.2 does not read as text."""


def write_fleet(path: str | Path | None = None, migrations: str = "migrations") -> Path:
    """Writes a first fleet file with one service, named after the directory that it lies in.

    Args:
        path: the file, else `fleet_path()`.
        migrations: the service's directory, relative to the file.

    Raises FileError: `fleet-exists`, `not-created`.
    """
    chosen = Path(path or fleet_path())
    project = _label(chosen.resolve().parent.name)
    text = TEMPLATE.format(project=project, service=project, database=f"{project.replace('-', '_')}_db", migrations=_quoted(migrations))
    fleet.parse(text, chosen)  # what is written must be readable, whatever the directory's name is
    try:
        with chosen.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise errors.FileError(
            f"{chosen} exists already", code="fleet-exists", hint=f"edit it; `greylag fleet` shows how it is understood ({chosen})"
        ) from None
    except OSError as error:
        raise errors.FileError(
            f"{chosen} can't be written: {error.strerror}", code="not-created", hint="choose a writable place: GREYLAG_FLEET names it"
        ) from None
    return chosen


def _label(name: str) -> str:
    """Returns a directory's name as a name of a service."""
    words = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in name.lower())
    label = "-".join(part for part in words[:40].split("-") if part) or "app"
    # YAML must read it as text: neither a number nor one of its words
    return f"app-{label}" if not label[0].isalpha() or label in _NOT_TEXT else label


def _quoted(text: str) -> str:
    """Returns text as a YAML scalar."""
    import json

    return json.dumps(text)
