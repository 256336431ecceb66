"""How many cases a generated test tries, from which seed, and what came of them: few in the suite, thousands in `make faults` (tests.faults.generated).

`GREYLAG_FUZZ_SCHEMAS=2000` and `GREYLAG_FUZZ_GROUPS=1000` say how many; `GREYLAG_FUZZ_SEED` draws other ones than the suite's; `GREYLAG_FUZZ_TALLY` is a
file that gets what was counted.
"""

from __future__ import annotations

import atexit
import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, seed, settings

TALLY: Counter[str] = Counter()
"""What the tests of this process have counted, by name."""


def drawn(variable: str, usual: int, *, shrinks: bool = False) -> Callable[[Any], Any]:
    """Returns the decorator of a test that draws `usual` cases, or as many as the variable says.

    Where a case costs much time on a server nothing is shrunk: the failure's report holds its files.
    """
    decorator = settings(
        max_examples=int(os.environ.get(variable, str(usual))),
        deadline=None,
        phases=[Phase.generate, Phase.shrink] if shrinks else [Phase.generate],
        suppress_health_check=list(HealthCheck),
        derandomize=True,
        database=None,
    )
    number = os.environ.get("GREYLAG_FUZZ_SEED")
    return decorator if number is None else lambda test: seed(int(number))(decorator(test))


def _write() -> None:
    place = os.environ.get("GREYLAG_FUZZ_TALLY")
    if place and TALLY:
        Path(place).write_text(json.dumps(TALLY), encoding="utf-8")


atexit.register(_write)
