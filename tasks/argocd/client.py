"""A thin client of Argo CD's API for one application. JSON in, states out; each method raises as `refusals.explained`, and Unavailable.

What it may: `get` and `sync` on the application, nothing else. It reads the application, its sync windows and its resource tree, starts a sync and
terminates an operation.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from migrator import errors
from tasks import redaction
from tasks.argocd import refusals, states
from tasks.argocd.refusals import Refusal
from tasks.fleet.argocd_section import ArgoCD
from tasks.fleet.models import Target
from tasks.settings import Settings

if TYPE_CHECKING:
    import httpx


Json = dict[str, Any]


JSON = {"Content-Type": "application/json"}
"""Sent with every request: Argo CD refuses one that changes something without it (415), also one without a body (argocd.md §3)."""


class Refused(Exception):
    """A refusal that the caller has to understand first."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


class Client:
    """One application on one Argo CD.

    Args:
        settings: where it is, and its names.
        connection: an `httpx.Client` with base address and token.
    """

    def __init__(self, settings: ArgoCD, connection: httpx.Client) -> None:
        self.settings = settings
        self._connection = connection

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def application(self, *, refresh: bool = False) -> states.Application:
        """Returns the application; `refresh` makes Argo CD compare it with its source first."""
        query = {"refresh": "normal"} if refresh else {}
        return states.application(self._ask("GET", "", f"reading application {self.settings.application}", query=query))

    def sync(self, infos: Mapping[str, str]) -> states.Application | None:
        """Starts a sync of everything, to the revision that the application tracks; None while another operation is at work.

        Args:
            infos: name-value pairs that stay with the operation.

        Raises NotYet (`argocd-window`), PlanRefused (`argocd-refused`).
        """
        what = f"starting a sync of application {self.settings.application}"
        body = {
            "project": self.settings.project,
            "prune": self.settings.prune,
            "infos": [{"name": name, "value": value} for name, value in infos.items()],
        }
        if self.settings.namespace:
            body["appNamespace"] = self.settings.namespace
        try:
            return states.application(self._send("POST", "/sync", what, body=body))
        except Refused as refused:
            if refused.refusal.busy:
                return None
            if refused.refusal.status == 403:
                windows = self._windows()
                if windows:
                    raise refusals.window(what, self.settings, windows) from None
            raise refusals.explained(refused.refusal, what, self.settings) from None

    def terminate(self) -> bool:
        """Ends the operation at work; False when there is none, or when Argo CD's controller has not begun it yet."""
        what = f"terminating the operation of application {self.settings.application}"
        try:
            self._send("DELETE", "/operation", what)
        except Refused as refused:
            if refused.refusal.nothing_runs:
                return False
            raise refusals.explained(refused.refusal, what, self.settings) from None
        return True

    def pods(self, jobs: Sequence[str]) -> list[Json]:
        """Returns the pods of these Jobs (by name), as the cluster has them now; those that are being deleted are among them."""
        tree = self._ask("GET", "/resource-tree", f"reading the resources of application {self.settings.application}")
        found = (self.live(node) for node in states.pods(tree, jobs))
        return [pod for pod in found if pod is not None]

    def live(self, node: states.Node) -> Json | None:
        """Returns an object of the application as the cluster has it now; None when it is gone."""
        what = f"reading {node.kind} {node.namespace}/{node.name}"
        query = {"namespace": node.namespace, "resourceName": node.name, "kind": node.kind, "group": node.group, "version": node.version}
        try:
            found = self._send("GET", "/resource", what, query=query)
        except Refused as refused:
            if refused.refusal.gone:
                return None
            raise refusals.explained(refused.refusal, what, self.settings) from None
        manifest = json.loads(found.get("manifest") or "null")
        return manifest if isinstance(manifest, dict) else None

    def job(self, hook: states.Hook) -> Json | None:
        """Returns the Job of a hook; None when it is gone."""
        return self.live(states.Node(group="batch", version="v1", kind=hook.kind, namespace=hook.namespace, name=hook.name))

    def events(self, found: Json) -> list[Json]:
        """Returns the events about an object of the application."""
        metadata = found["metadata"]
        query = {
            "resourceNamespace": str(metadata.get("namespace", "")),
            "resourceName": str(metadata["name"]),
            "resourceUID": str(metadata.get("uid", "")),
        }
        listed = self._ask("GET", "/events", f"reading the events of {metadata['name']}", query=query)
        return [dict(item) for item in listed.get("items") or ()]

    def _windows(self) -> str:
        """Returns the windows of an application that may not be synced now, in words; empty when no window forbids it, or when nobody says."""
        try:
            found = self._ask("GET", "/syncwindows", "reading the sync windows")
        except errors.GreylagError:
            return ""
        if found.get("canSync", False):
            return ""
        listed = found.get("activeWindows") or found.get("assignedWindows") or ()
        return ", ".join(f"{item.get('kind')} {item.get('schedule')} for {item.get('duration')}" for item in listed)

    def _ask(self, method: str, path: str, what: str, *, query: Mapping[str, str] | None = None) -> Json:
        try:
            return self._send(method, path, what, query=query)
        except Refused as refused:
            raise refusals.explained(refused.refusal, what, self.settings) from None

    def _send(
        self, method: str, path: str, what: str, *, body: Mapping[str, Any] | None = None, query: Mapping[str, str] | None = None
    ) -> Json:
        import httpx

        place = f"/api/v1/applications/{quote(self.settings.application, safe='')}{path}"
        # Without the project an unknown application is refused as a forbidden one is, to an administrator too (argocd.md §3).
        given = {"project": self.settings.project, **({"appNamespace": self.settings.namespace} if self.settings.namespace else {})}
        try:
            answer = self._connection.request(method, place, params={**given, **(query or {})}, json=body, headers=JSON)
        except httpx.HTTPError as error:
            raise errors.Unavailable(
                f"{what}: Argo CD at {self.settings.server} does not answer: {type(error).__name__}: {redaction.clean(str(error))}",
                code="argocd-unavailable",
                hint="argocd.server of fleet.yaml; GREYLAG_ARGOCD_CA_FILE for a CA of your own",
            ) from None
        return self._read(answer, what)

    def _read(self, answer: httpx.Response, what: str) -> Json:
        try:
            found = answer.json()
        except ValueError:
            found = None
        if answer.is_success and isinstance(found, dict):
            return found
        if answer.is_success or answer.is_redirect:
            raise errors.Unavailable(
                f"{what}: {self.settings.server} answers with {answer.status_code} and no JSON",
                code="argocd-unexpected",
                hint="argocd.server of fleet.yaml has to be Argo CD's own API, and no proxy's login page",
            )
        told = found if isinstance(found, dict) else {}
        message = str(told.get("message") or told.get("error") or answer.reason_phrase)
        raise Refused(Refusal(answer.status_code, int(told.get("code") or 0), message))


def connect(target: Target, settings: Settings) -> Client:
    """Returns a client for the target's application. Raises UsageError (`no-argocd`) when fleet.yaml or the worker's settings lack something."""
    import httpx

    place = target.argocd
    if not place.server:
        raise errors.UsageError(
            f"{target.label}: mode argocd needs Argo CD's address, and fleet.yaml has none",
            code="no-argocd",
            hint="`argocd: {server: https://…, application: …}` for the fleet, the environment or the service",
        )
    headers = {"Authorization": f"Bearer {_token(target, settings)}"}
    verify = str(settings.argocd_ca_file) if settings.argocd_ca_file else True
    try:
        made = httpx.Client(
            base_url=place.server,
            headers=headers,
            verify=_context(verify),
            timeout=settings.argocd_timeout_seconds,
            trust_env=False,  # the token goes to that address and to no proxy of the environment
        )
    except OSError as error:
        raise errors.UsageError(
            f"GREYLAG_ARGOCD_CA_FILE: {error.strerror or 'it holds no certificate'}", code="no-argocd", hint="name a PEM file, or unset it"
        ) from None
    return Client(place, made)


def _context(verify: str | bool) -> Any:
    import ssl

    return ssl.create_default_context(cafile=verify if isinstance(verify, str) else None)


def _token(target: Target, settings: Settings) -> str:
    if settings.argocd_token_file is not None:
        try:
            token = settings.argocd_token_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not text"
            raise errors.UsageError(
                f"{target.label}: Argo CD's token can't be read from {settings.argocd_token_file}: {reason}",
                code="no-argocd",
                hint="GREYLAG_ARGOCD_TOKEN_FILE has to name a file with the token alone",
            ) from None
    else:
        token = settings.argocd_token.get_secret_value().strip() if settings.argocd_token else ""
    if not token or not token.isprintable() or " " in token:
        raise errors.UsageError(
            f"{target.label}: mode argocd needs a token of Argo CD, and there is {'no usable one' if token else 'none'}",
            code="no-argocd",
            hint="GREYLAG_ARGOCD_TOKEN_FILE names a file with the token of an account that may `get` and `sync` the application",
        )
    redaction.register(token)
    return token
