"""Step 4: is everything there? The files' checksums as recorded, and every object that they leave behind, read back from the database."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import SecretStr

from migrator import verification
from tasks import access, migration
from tasks.credentials.session import Session
from tasks.fleet_models import Target
from tasks.outcomes import VerificationOutcome
from tasks.settings import Settings, load


def verify(
    target: Target,
    url: SecretStr,
    *,
    bundle: str = "",
    env: Mapping[str, str] | None = None,
    settings: Settings | None = None,
    session: Session | None = None,
) -> VerificationOutcome:
    """Reads back what the target's database holds; writes nothing.

    Args:
        bundle: the digest that files and database must have; empty takes the files as they are.
        session: the run's credentials; `url` is used where there is none, or its source is not dynamic.

    Raises:
        PlanRefused: `bundle-changed`.
        VerificationFailed: a version is pending, changed or unproven, an object is missing or invalid.
    """
    migrations = migration.load_bundle(target, bundle)
    way = access.Access(target, url, session)
    with way.watched(), migration.opened(target, way.url(), settings or load()) as database:
        found = verification.verify(database, migrations, env)
    found.raise_for_failure()
    return VerificationOutcome(
        service=target.service,
        environment=target.environment,
        bundle=found.bundle,
        current=found.current,
        objects_checked=found.checked,
        not_checked=found.not_checked,
    )
