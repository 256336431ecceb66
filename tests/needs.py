"""What some tests need and a machine may lack: they are skipped and say how to get it."""

from __future__ import annotations

import pytest

from sandbox import builds


def openbao() -> None:
    """Skips whatever calls it, a test or a fixture, where OpenBao is not built; `.ci/run` builds it."""
    if builds.binary(builds.OPENBAO) is None:
        pytest.skip(builds.missing(builds.OPENBAO))
