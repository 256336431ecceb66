"""What a step is asked for on one database: the one object that planning, migrating, verifying and a Job's run take.

It lives within a task: a task's own parameters stay what Prefect may show (`steps.py`), and this is made of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import SecretStr

from migrator.plans import ACCEPT_NOTHING, Policy
from tasks.credentials.session import Session
from tasks.fleet.models import Target
from tasks.settings import Settings, load


@dataclass(frozen=True)
class Request:
    """The database, the way into it, and what is wanted of it.

    Args:
        url: the way in where there is no session, or where its credentials have no life of their own.
        bundle: the digest that the files must have, and for a verification the database; empty takes the files as they are.
        plan: the digest of the plan that was approved; only that plan, or what is left of it, passes. Empty takes the plan as it is now.
        env: what ENVSUB reads (`migration.substitutions`); may hold the password.
        session: the run's credentials, where they are short-lived.
        run_id: how the run names itself to the server; empty makes one up.
        deadline: seconds for the whole attempt, of a Job for all of them (activeDeadlineSeconds); None sets no end, for a Job the settings'.
    """

    target: Target
    url: SecretStr
    bundle: str = ""
    plan: str = ""
    env: Mapping[str, str] | None = field(default=None, repr=False)
    policy: Policy = ACCEPT_NOTHING
    settings: Settings = field(default_factory=load)
    session: Session | None = field(default=None, repr=False)
    run_id: str = ""
    deadline: float | None = None
