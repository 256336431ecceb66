"""Step 4: verifies that everything is there: the files' checksums as recorded, and every object as the versions made it."""

from __future__ import annotations

from migrator import verification
from tasks import migration
from tasks.outcomes import VerificationOutcome
from tasks.request import Request


def verify(request: Request) -> VerificationOutcome:
    """Verifies the target's database against the files; writes nothing.

    Raises:
        PlanRefused: `bundle-changed`.
        VerificationFailed: a version is pending, changed or unproven, an object is not as it was recorded.
    """
    target = request.target
    migrations = migration.load_bundle(target, request.bundle)
    way = request.access()
    with way.watched(), migration.opened(target, way.url(), request.settings) as database:
        found = verification.verify(database, migrations, drift_only=request.drift_only)
        identity = database.identity()
    found.raise_for_failure()
    return VerificationOutcome(
        service=target.service,
        environment=target.environment,
        bundle=found.bundle,
        current=found.current,
        objects_checked=found.checked,
        database=identity,
        remarks=tuple(found.remarks()),
    )
