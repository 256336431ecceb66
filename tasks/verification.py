"""Step 4: verifies that everything is there: the files' checksums as recorded, and every object that they create, read back from the database."""

from __future__ import annotations

from migrator import verification
from tasks import migration
from tasks.outcomes import VerificationOutcome
from tasks.request import Request


def verify(request: Request) -> VerificationOutcome:
    """Verifies the target's database against the files; writes nothing.

    Raises:
        PlanRefused: `bundle-changed`.
        VerificationFailed: a version is pending, changed or unproven, an object is missing or invalid.
    """
    target = request.target
    migrations = migration.load_bundle(target, request.bundle)
    way = request.access()
    with way.watched(), migration.opened(target, way.url(), request.settings) as database:
        found = verification.verify(database, migrations, request.env)
        identity = database.identity()
    found.raise_for_failure()
    return VerificationOutcome(
        service=target.service,
        environment=target.environment,
        bundle=found.bundle,
        current=found.current,
        objects_checked=found.checked,
        database=identity,
        not_checked=found.not_checked,
    )
