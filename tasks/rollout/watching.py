"""Looks at a rollout again and again until it is over, and what is said then.

It polls: a look is three or four small requests, nothing can be missed between two of them (each reads the whole state), and there is no
connection that could hang half open or history that could be compacted away (kubernetes.md §1.5). Many services are awaited at once, each in a
thread of its own; a little chance in the pauses keeps them from asking in step.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from migrator import errors
from tasks.fleet.models import Target
from tasks.kubernetes import objects
from tasks.kubernetes.objects import Json
from tasks.outcomes import RolloutOutcome, RolloutState
from tasks.rollout import images, last_words, looking, releases
from tasks.rollout.looking import Cluster, Look
from tasks.rollout.releases import Before
from tasks.rollout.verdicts import Progress, Verdict
from tasks.settings import Settings, load

LONGEST_PAUSE = 30.0
"""Seconds between two looks while the API server does not answer: its own restarts take about that long."""

SPREAD = 0.2
"""Share of a pause that is left to chance."""

OBSERVE_PATIENCE = 60.0
"""Seconds for which the look before a run rides out an API server that does not answer; a later one would cost the whole run."""

SETTLING = 15.0
"""Seconds after an absence, or after the same was allowed, in which a refusal is not believed: an API server that has just started answers before
its authorizer has read the Roles, and then refuses what it will allow in a moment (seen with 1.37). The absence itself need not have been seen:
the client asks again by itself where a connection was refused."""

MISSING_LOOKS = 2
"""Looks that must find nothing before a workload counts as deleted: a replacement (`kubectl replace --force`, Argo CD's Replace) deletes and
creates it, and one look may fall in between."""

Sleep = Callable[[float], None]
Clock = Callable[[], float]


def observe(
    target: Target,
    settings: Settings | None = None,
    cluster: Cluster | None = None,
    *,
    sleep: Sleep = time.sleep,
    clock: Clock = time.monotonic,
) -> Before | None:
    """What the workload is before a run; to be handed to `await_health`. None without a cluster.

    Raises:
        LoginFailed: `kube-forbidden`: the hint names the rule that is missing.
        Unavailable: the API server did not answer for `OBSERVE_PATIENCE`.
    """
    chosen = settings or load()
    cluster = cluster or connect(target, chosen)
    if cluster is None:
        return None
    started, faults = clock(), 0
    while True:
        try:
            return releases.snapshot(looking.read(target, cluster))
        except errors.Unavailable:
            if clock() - started >= OBSERVE_PATIENCE:
                raise
            faults += 1
            sleep(_pause(chosen, faults))


def await_health(
    target: Target,
    *,
    image: str = "",
    before: Before | None = None,
    settings: Settings | None = None,
    cluster: Cluster | None = None,
    listener: Callable[[str], None] = lambda text: None,
    sleep: Sleep = time.sleep,
    clock: Clock = time.monotonic,
) -> RolloutOutcome:
    """Watches the rollout until this release's code runs everywhere, no older code runs, and the app's schema gate has passed.

    Without a configured cluster the outcome is `skipped`, and says so.

    Args:
        image: this release's image, as the workload names it; or `:tag` or `@sha256:…` alone. before: what `observe` saw before the migration.
        listener: is told each new state in words. sleep, clock: the time in seconds, for tests.

    Raises:
        VerificationFailed: `rollout-failed`: ProgressDeadlineExceeded, a crash loop, a container that can't be made, a strategy that can't be
            awaited; the detail holds the container's last words.
        NotFound: `workload-deleted`: it was there and is gone.
        NotYet: `not-rolled-out`, `rollout-unfinished`: the time was up; `workload-recreated`: the next attempt watches the new object.
        LoginFailed: `kube-forbidden`. Unavailable: the API server did not answer when the time was up; until then it is asked again.
        UsageError: `bad-image`, `release-unknown`.
    """
    chosen = settings or load()
    cluster = cluster or connect(target, chosen)
    if cluster is None:
        reason = "no cluster configured (GREYLAG_KUBE_CONTEXT)"
        return RolloutOutcome(service=target.service, environment=target.environment, state=RolloutState.SKIPPED, reason=reason)
    if image:
        images.parse(image)  # refused at once, not after the first look
    elif before is None:
        raise errors.UsageError(
            f"{_what(target)}: neither this release's image nor what was there before the run is known, so its rollout can't be told from an older one",
            code="release-unknown",
            hint="give the image, or look at the workload before the migration (`rollout.observe`)",
        )
    return _Watch(target, cluster, image, before, chosen, listener, sleep, clock).run()


def connect(target: Target, settings: Settings) -> Cluster | None:
    """The configured cluster, None where none is. The environment's kube context wins over the worker's."""
    context = target.kube_context or settings.kube_context
    if not context:
        return None
    from tasks.kubernetes import api as kubernetes_api

    return kubernetes_api.connect(context)


@dataclass(slots=True)
class _Watch:
    """One attempt."""

    target: Target
    cluster: Cluster
    image: str
    before: Before | None
    settings: Settings
    listener: Callable[[str], None]
    sleep: Sleep
    clock: Clock
    uid: str = ""
    faults: int = 0
    unsettled: float | None = None  # when nobody answered, or everything was allowed, for the last time
    missing: int = 0
    told: str = field(default="")

    def run(self) -> RolloutOutcome:
        """Looks until it is over."""
        started = self.clock()
        existed = self.before is not None and bool(self.before.uid)
        while True:
            seen = self._look()
            if seen.workload is not None:
                existed = True
                self._require_same(seen.workload)
            elif existed and seen.fault is None:
                self._count_missing()
            if seen.verdict.progress is Progress.FAILED:
                raise self._failure(seen)
            if seen.verdict.progress is Progress.DONE and seen.workload is not None:
                return self._healthy(seen.verdict, seen.workload, self.clock() - started)
            self._tell(seen.verdict)
            left = self.settings.rollout_timeout_seconds - (self.clock() - started)
            if left <= 0:
                raise seen.fault or _too_late(_what(self.target), seen.verdict, self.settings)
            self.sleep(min(_pause(self.settings, self.faults), left))

    def _look(self) -> Look:
        try:
            found = looking.look(self.target, self.cluster, image=self.image, before=self.before, now=datetime.now(UTC))
        except errors.Unavailable as error:
            self.unsettled = self.clock()
            return self._unanswered(error)
        except errors.LoginFailed as error:
            if self.unsettled is None or self.clock() - self.unsettled > SETTLING:
                raise
            return self._unanswered(error)
        self.unsettled = self.clock()
        self.faults = 0
        return found

    def _unanswered(self, error: errors.GreylagError) -> Look:
        self.faults += 1
        return Look(Verdict(Progress.WAITING, f"{error.message}; asking again"), fault=error)

    def _require_same(self, workload: Json) -> None:
        self.missing = 0
        uid = str(workload["metadata"].get("uid", ""))
        if objects.deleting(workload):
            raise self._deleted("is being deleted")
        if self.uid and uid != self.uid:
            raise errors.NotYet(
                f"{_what(self.target)} was deleted and created again while its rollout was watched",
                code="workload-recreated",
                hint="the next attempt watches the new object",
            )
        self.uid = uid

    def _count_missing(self) -> None:
        self.missing += 1
        if self.missing >= MISSING_LOOKS:
            raise self._deleted("was deleted")

    def _deleted(self, words: str) -> errors.NotFound:
        return errors.NotFound(
            f"{_what(self.target)} {words}",
            code="workload-deleted",
            hint="somebody removed it: deploy the release again, then run this again",
        )

    def _failure(self, seen: Look) -> errors.VerificationFailed:
        kind, namespace = self.target.workload.kind, self.target.namespace
        detail = ""
        if seen.ailment is not None:
            words = last_words.told(self.cluster, namespace, seen.ailment)
            reasons = [seen.ailment.reason] if seen.ailment.reason != seen.verdict.reason else []
            detail = "\n".join([*reasons, *([words] if words else [])])
        return errors.VerificationFailed(
            f"{_what(self.target)}: {seen.verdict.reason}",
            code="rollout-failed",
            detail=detail,
            hint=f"`kubectl -n {namespace} describe {str(kind).lower()} {self.target.workload.name}`; "
            "the database is migrated already: roll forward, or roll the image back",
        )

    def _tell(self, verdict: Verdict) -> None:
        if verdict.reason != self.told:
            self.told = verdict.reason
            self.listener(f"{_what(self.target)}: {verdict.reason}")

    def _healthy(self, verdict: Verdict, workload: Json, seconds: float) -> RolloutOutcome:
        return RolloutOutcome(
            service=self.target.service,
            environment=self.target.environment,
            state=RolloutState.HEALTHY,
            reason=verdict.reason,
            image=releases.carried(workload, self.image, self.target.workload.container),
            generation=objects.generation(workload),
            seconds=round(seconds, 1),
        )


def _what(target: Target) -> str:
    return f"{target.workload.kind} {target.namespace}/{target.workload.name}"


def _pause(settings: Settings, faults: int) -> float:
    """Seconds until the next look: the setting's, doubled with each look in a row that got no answer."""
    seconds = min(settings.rollout_poll_seconds * 2.0 ** min(faults, 8), max(LONGEST_PAUSE, settings.rollout_poll_seconds))
    return seconds * random.uniform(1 - SPREAD, 1 + SPREAD)


def _too_late(what: str, verdict: Verdict, settings: Settings) -> errors.NotYet:
    seconds = f"{settings.rollout_timeout_seconds:g} s"
    if verdict.progress is Progress.NOT_YET:
        return errors.NotYet(
            f"{what}: not rolled out yet after {seconds}: {verdict.reason}",
            code="not-rolled-out",
            hint="greylag does not move images itself: sync or deploy the release, the next attempt looks again",
        )
    return errors.NotYet(
        f"{what}: the rollout is unfinished after {seconds}: {verdict.reason}",
        code="rollout-unfinished",
        hint="GREYLAG_ROLLOUT_TIMEOUT_SECONDS watches longer",
    )
