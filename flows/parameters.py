"""Types of the flows' parameters: references only, never a secret. In the UI's form they are dropdowns with the fleet's names at deploy time.

A parameter's description comes from its flow's docstring (`Args:`); `Annotated[..., Field(description=…)]` would lose it (prefect.md §6).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from migrator import errors
from tasks import approval, fleet
from tasks.rollout import images

_FLEET = fleet.load()
_PROTECTED = [name for name, item in _FLEET.environments.items() if item.protected]
_PROTECTED_NAMES = [*_PROTECTED, *(alias for alias, name in _FLEET.aliases.items() if name in _PROTECTED)]

FIRST_ENVIRONMENT = next(iter(_FLEET.environments))
LAST_ENVIRONMENT = list(_FLEET.environments)[-1]


def known_service(name: str) -> str:
    """Returns the name, if fleet.yaml has such a service; raises a ValueError, as pydantic wants it, otherwise."""
    try:
        fleet.load().service(name)
    except errors.GreylagError as error:
        raise ValueError(error.describe()) from None
    return name


def known_environment(name: str) -> str:
    """Returns the environment's own name for a name or an alias (`production` is `prod`); raises a ValueError when there is none."""
    try:
        return fleet.load().environment_name(name)
    except errors.GreylagError as error:
        raise ValueError(error.describe()) from None


def image_reference(text: str) -> str:
    """Returns the text, if it is an image reference, a tag, or empty; raises a ValueError otherwise, so that a typo is found before the migration."""
    try:
        if text:
            images.parse(text)
    except errors.GreylagError as error:
        if not images.is_tag(text):
            raise ValueError(error.describe()) from None
    return text


Service = Annotated[str, AfterValidator(known_service), Field(json_schema_extra={"enum": list(_FLEET.services)})]

# aliases are offered, too: the server itself refuses what isn't in the schema, from a form as over REST
Environment = Annotated[str, AfterValidator(known_environment), Field(json_schema_extra={"enum": [*_FLEET.environments, *_FLEET.aliases]})]

ProtectedEnvironment = Annotated[str, AfterValidator(known_environment), Field(json_schema_extra={"enum": _PROTECTED_NAMES})]

Confirmation = Annotated[str, Field(json_schema_extra={"enum": [approval.CONFIRMATION.format(environment=name) for name in _PROTECTED]})]

Digest = Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")]
"""A sha256 in hex, or nothing."""

RequiredDigest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

Image = Annotated[str, AfterValidator(image_reference)]
"""An image reference, a tag or a digest alone, or nothing."""

Envelope = Annotated[str, Field(pattern=r"^[A-Za-z0-9_=-]*$", max_length=1_000_000)]
"""A signed document on one line, or nothing."""

Words = Annotated[str, Field(min_length=1, max_length=1000)]

Version = Annotated[int, Field(ge=0)]
"""A migration's version; 0 is a database without any."""

Limit = Annotated[int, Field(ge=0, le=50)]
"""backoffLimit. Prefect takes at most 50 delays (prefect.md §2)."""

Seconds = Annotated[float, Field(ge=0)]

Mode = Literal["", "inline", "job", "argocd"]
"""The mode of step 3; empty leaves it to the settings, else takes a Job if a cluster is configured and the image is known."""
