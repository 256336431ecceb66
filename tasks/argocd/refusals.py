"""What Argo CD's refusals mean: an HTTP status and a gRPC code become greylag's error, with what to type. Pure."""

from __future__ import annotations

from typing import NamedTuple

from migrator import errors
from tasks import redaction
from tasks.fleet.argocd_section import ArgoCD

BUSY = "another operation is already in progress"
NOTHING_RUNS = "No operation is in progress"
WINDOW = "blocked by sync window"
"""Argo CD's own words. Each stands for a code that others share; `client.Client` asks for the fact behind them where there is one."""


class Refusal(NamedTuple):
    """A refused request: the HTTP status, the gRPC code of the body, and the message."""

    status: int
    grpc: int
    message: str

    @property
    def busy(self) -> bool:
        """Tells whether another operation is at work (400 code 9, as an unknown revision is)."""
        return self.status == 400 and BUSY in self.message

    @property
    def nothing_runs(self) -> bool:
        """Tells whether there is nothing to terminate; said right after a sync was asked for, too, until the controller has begun it."""
        return self.status == 400 and NOTHING_RUNS in self.message

    @property
    def gone(self) -> bool:
        """Tells whether an object of the application is not there any more (404; 400 code 3 while the tree still shows it)."""
        return self.status == 404 or (self.status == 400 and "not found" in self.message.lower())


def explained(refusal: Refusal, what: str, settings: ArgoCD) -> errors.GreylagError:
    """Returns the error for a refusal.

    Args:
        what: what was asked, e.g. `starting a sync of auth-service-dev`.
        settings: the target's, for the hint.
    """
    said = redaction.clean(refusal.message)
    name, project = settings.application, settings.project
    if refusal.status == 401:
        return errors.LoginFailed(
            f"{what}: Argo CD does not accept the token: {said}",
            code="argocd-login",
            hint=f"a token of a local account: `argocd account generate-token --account ACCOUNT --server {_host(settings)}` into the file "
            "that GREYLAG_ARGOCD_TOKEN_FILE names; it may have expired",
        )
    if refusal.status == 403:
        return errors.LoginFailed(
            f"{what}: Argo CD does not allow it: {said}",
            code="argocd-forbidden",
            hint=f"the account needs `applications, get, {project}/{name}, allow` and `applications, sync, {project}/{name}, allow` "
            "(policy.csv of argocd-rbac-cm, or a role of the project); a project or application that the account may not see is refused the same way",
        )
    if refusal.status == 404:
        return errors.NotFound(
            f"{what}: there is no application {name} in project {project}: {said}",
            code="argocd-no-application",
            hint=f"argocd.application and argocd.project of fleet.yaml; `argocd app get {name} --server {_host(settings)}` shows what there is",
        )
    if refusal.status >= 500 or refusal.status == 429:
        return errors.Unavailable(
            f"{what}: Argo CD can't answer now: {refusal.status}: {said}", code="argocd-unavailable", hint="it is tried again"
        )
    return errors.PlanRefused(
        f"{what}: Argo CD refuses it: {said}",
        code="argocd-refused",
        hint=f"the message is Argo CD's own; `argocd app get {name} --server {_host(settings)}` shows the application",
    )


def window(what: str, settings: ArgoCD, windows: str) -> errors.NotYet:
    """Returns the error for a sync that a window of the project forbids now; `windows` are those that are active or assigned, in words."""
    return errors.NotYet(
        f"{what}: a sync window of project {settings.project} forbids it now ({windows})",
        code="argocd-window",
        hint=f"wait for the window's end, or let somebody who may edit it: `argocd proj windows list {settings.project}`, "
        f"`argocd proj windows enable-manual-sync {settings.project} ID`",
    )


def _host(settings: ArgoCD) -> str:
    return settings.server.partition("://")[2] or "ARGOCD"
