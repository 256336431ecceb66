"""Reads a rollout again and again until it has ended, and reports the end (`kubernetes.following` says why it is read and not watched)."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from migrator import errors
from tasks import kubernetes
from tasks.fleet.models import Target
from tasks.kubernetes import following, objects
from tasks.kubernetes.following import Clock, Sleep
from tasks.kubernetes.objects import Json
from tasks.outcomes import RolloutOutcome, RolloutState
from tasks.rollout import images, looking, releases
from tasks.rollout.looking import Cluster, Look
from tasks.rollout.releases import Before
from tasks.rollout.statuses import Progress, Verdict
from tasks.settings import Settings, load

OBSERVE_PATIENCE = 60.0
"""Seconds for which the look before a run retries while the API server does not answer; a failure later would cost the whole run."""

MISSING_LOOKS = 2
"""Looks that must find nothing before a workload counts as deleted. A replacement (`kubectl replace --force`, Argo CD's Replace) deletes and
creates it, and one look may fall in between."""


def observe(
    target: Target,
    settings: Settings | None = None,
    cluster: Cluster | None = None,
    *,
    sleep: Sleep = time.sleep,
    clock: Clock = time.monotonic,
) -> Before | None:
    """Returns the workload's state before a run, to be passed to `await_health`. None without a cluster.

    Raises:
        LoginFailed: `kube-forbidden`: the hint names the rule that is missing.
        Unavailable: the API server did not answer for `OBSERVE_PATIENCE`.
    """
    chosen = settings or load()
    cluster = cluster or kubernetes.connect(target, chosen)
    if cluster is None:
        return None
    every = chosen.rollout_poll_seconds
    workload = following.patiently(lambda: looking.read(target, cluster), OBSERVE_PATIENCE, every=every, sleep=sleep, clock=clock)
    return releases.snapshot(workload)


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
        image: this release's image, as the workload names it; or `:tag` or `@sha256:…` alone. before: what `observe` returned before the migration.
        listener: receives each new state in words. sleep, clock: the time in seconds, for tests.

    Raises:
        VerificationFailed: `rollout-failed`: ProgressDeadlineExceeded, a crash loop, a container that can't be made, a strategy that can't be
            awaited; the detail holds the container's last words.
        NotFound: `workload-deleted`: it existed and is gone.
        NotYet: `not-rolled-out`, `rollout-unfinished`: the time was up; `workload-recreated`: the next attempt watches the new object.
        LoginFailed: `kube-forbidden`. Unavailable: the API server did not answer when the time was up; until then it is asked again.
        UsageError: `bad-image`, `release-unknown`.
    """
    chosen = settings or load()
    cluster = cluster or kubernetes.connect(target, chosen)
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


@dataclass(slots=True)
class _Watch:
    """One attempt to watch a rollout."""

    target: Target
    cluster: Cluster
    image: str
    before: Before | None
    settings: Settings
    listener: Callable[[str], None]
    sleep: Sleep
    clock: Clock
    uid: str = ""
    missing: int = 0
    told: str = field(default="")

    def run(self) -> RolloutOutcome:
        """Looks at the rollout until it has ended."""
        started = self.clock()
        existed = self.before is not None and bool(self.before.uid)
        seen = Look(Verdict(Progress.NOT_YET, ""))
        for found in following.follow(
            self._look,
            every=self.settings.rollout_poll_seconds,
            limit=self.settings.rollout_timeout_seconds,
            sleep=self.sleep,
            clock=self.clock,
        ):
            seen = _unanswered(found) if isinstance(found, following.Unanswered) else found
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
        raise seen.fault or _too_late(_what(self.target), seen.verdict, self.settings)

    def _look(self) -> Look:
        return looking.look(self.target, self.cluster, image=self.image, before=self.before, now=datetime.now(UTC))

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
            words = looking.last_words(self.cluster, namespace, seen.ailment)
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


def _unanswered(found: following.Unanswered) -> Look:
    return Look(Verdict(Progress.WAITING, f"{found.fault.message}; asking again"), fault=found.fault)


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
