"""`ArgoCD(cluster, directory)`: a whole Argo CD on the sandbox's cluster as a context manager."""

from __future__ import annotations

import base64
import contextlib
import json
import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from migrator import errors
from sandbox import builds
from sandbox.argocd import components
from sandbox.argocd.api import Api, ApiRefused, Object
from sandbox.argocd.repository import BRANCH, Repository
from sandbox.cluster import cluster as sandbox_cluster
from sandbox.cluster.api import MERGE

NAMESPACE = components.NAMESPACE
ADMINISTRATOR = "admin"
HERE = "https://kubernetes.default.svc"
"""The destination of an application that stands for the cluster on which Argo CD itself runs."""

_READY_SECONDS = 90.0
_TOKEN_SECONDS = 24 * 3600


def unavailable() -> str | None:
    """Says why this machine can't run Argo CD, or returns None; the reason of tests that skip."""
    reason = sandbox_cluster.unavailable()
    if reason is None and builds.binary(builds.ARGOCD) is None:
        return builds.missing(builds.ARGOCD)
    return reason


class ArgoCD:
    """An installation in the namespace `argocd`. Its applications survive `stop`, and a new object on the same cluster finds them.

    Args:
        cluster: runs already.
        directory: holds the processes' files and logs.
        wave_delay_seconds: the controller's pause between two waves of a sync; None leaves the released 2 s.
        port: the API server's wanted port.

    Raises:
        NotFound: the program is not built.
    """

    def __init__(
        self, cluster: sandbox_cluster.Cluster, directory: Path, *, wave_delay_seconds: int | None = None, port: int | None = None
    ) -> None:
        self.cluster, self.directory = cluster, directory.absolute()
        binary = builds.require(builds.ARGOCD)
        self._files = builds.companions(builds.ARGOCD)
        environment = {} if wave_delay_seconds is None else {"ARGOCD_SYNC_WAVE_DELAY": str(wave_delay_seconds)}
        chosen = components.Ports.choose(port)
        self.components = components.Components(
            self.directory, (binary, self._files), cluster.kubeconfig, cluster.programs, chosen, environment
        )
        self.url = f"http://127.0.0.1:{chosen.server}"
        self.api = Api(self.url)

    def __enter__(self) -> ArgoCD:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> ArgoCD:
        """Installs what is missing in the cluster, starts everything and returns once the administrator has logged in.

        Raises Unavailable: a component did not start; the detail shows its log's last lines.
        """
        self.cluster.create_namespace(NAMESPACE)
        crds, config = (self._files / "manifests" / name for name in ("crds", "base/config"))
        self._apply(crds, "--server-side", "--force-conflicts")
        if self.cluster.api.find(f"/api/v1/namespaces/{NAMESPACE}/secrets/argocd-secret") is None:  # accounts of an earlier start stay
            self._apply(config, "--namespace", NAMESPACE)
        self.components.start()
        server = self.components.processes["argocd-server"]
        try:
            server.wait_until(self._logged_in, _READY_SECONDS)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Stops the processes; applications and accounts stay in the cluster."""
        self.components.stop()

    @property
    def password(self) -> str:
        """The administrator's password, made at the first start."""
        found = self.cluster.api.get(f"/api/v1/namespaces/{NAMESPACE}/secrets/argocd-initial-admin-secret")
        return base64.b64decode(found["data"]["password"]).decode()

    def account(self, name: str, *rules: str) -> Api:
        """Returns the API as a local account that has a token and nothing but these rights.

        Args:
            name: the account's; it keeps the rights that it had.
            rules: `applications, get, default/*, allow` and the like.
        """
        lines = "".join(f"p, {name}, {rule}\n" for rule in rules)
        self._configure("argocd-cm", lambda _: {f"accounts.{name}": "apiKey"})
        self._configure("argocd-rbac-cm", lambda data: {"policy.csv": data.get("policy.csv", "") + lines})
        made: list[str] = []

        def has_token() -> bool:
            with contextlib.suppress(ApiRefused):  # the server hears of the account a moment after it was written
                body = {"expiresIn": _TOKEN_SECONDS, "id": secrets.token_hex(8)}
                made.append(str(self.api.request("POST", f"account/{name}/token", body)["token"]))
            return bool(made)

        self.cluster.wait_until(has_token, f"Argo CD knows the account {name}")
        return Api(self.url, made[0])

    def create_project(self, name: str, **spec: Any) -> None:
        """Creates a project, or replaces it; `spec` over one that may do everything, e.g. `syncWindows`."""
        whole = {
            "sourceRepos": ["*"],
            "destinations": [{"server": "*", "namespace": "*"}],
            "clusterResourceWhitelist": [{"group": "*", "kind": "*"}],
            **spec,
        }
        self.cluster.apply(
            {"apiVersion": "argoproj.io/v1alpha1", "kind": "AppProject", "metadata": {"name": name}, "spec": whole}, namespace=NAMESPACE
        )

    def create_application(
        self,
        name: str,
        repository: Repository,
        path: str,
        namespace: str,
        *,
        project: str = "default",
        policy: Mapping[str, Any] | None = None,
        helm: Mapping[str, Any] | None = None,
    ) -> None:
        """Creates an application, through Argo CD's API.

        Args:
            name: the application's.
            repository, path: the source, on the branch `main`.
            namespace: the destination, on this cluster.
            project: must exist.
            policy: `spec.syncPolicy`; None is synced by hand.
            helm: `spec.source.helm`, e.g. its `valueFiles`.
        """
        source: Object = {"repoURL": repository.url, "path": path, "targetRevision": BRANCH}
        spec: Object = {
            "project": project,
            "source": source | ({"helm": dict(helm)} if helm is not None else {}),
            "destination": {"server": HERE, "namespace": namespace},
        }
        if policy is not None:
            spec["syncPolicy"] = dict(policy)
        self.api.request("POST", "applications", {"metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec}, upsert="true")

    def application(self, name: str, project: str = "default", *, refresh: bool = False) -> Object:
        """Returns an application; `refresh` compares it with its source first."""
        query = {"refresh": "normal"} if refresh else {}
        return self.api.request("GET", f"applications/{name}", None, project=project, **query)

    def sync(self, name: str, **body: Any) -> Object:
        """Starts a sync; the body as Argo CD's API takes it. Returns the application as it was answered."""
        return self.api.request("POST", f"applications/{name}/sync", {"project": "default", **body})

    def synced(self, name: str, seconds: float = 120.0, **body: Any) -> Object:
        """Syncs and returns the state of that operation at its end (`status.operationState`), whatever its phase."""
        mark = f"{time.time_ns()}"
        infos = [*body.pop("infos", []), {"name": "sandbox", "value": mark}]
        self.sync(name, infos=infos, **body)
        return self.operation(name, lambda state: _ended(state) and _marked(state, mark), "the sync has ended", seconds)

    def operation(self, name: str, holds: Callable[[Object], bool], what: str, seconds: float = 120.0) -> Object:
        """Returns `status.operationState` once something is so of it, and the operation itself is over or not, as it is then."""
        kept: list[Object] = []

        def now() -> bool:
            found = self.application(name)
            state: Object = found.get("status", {}).get("operationState") or {}
            kept[:] = [state]
            return bool(state) and holds(state)

        try:
            self.cluster.wait_until(now, f"application {name}: {what}", seconds)
        except errors.Unavailable as late:
            state = kept[-1] if kept else {}
            raise errors.Unavailable(f"{late.message}; it is {state.get('phase')}: {state.get('message')}", code="sandbox-argocd") from None
        return kept[0]

    def terminate(self, name: str) -> None:
        """Terminates the operation that runs, as soon as it has begun."""

        def told() -> bool:
            try:
                self.api.request("DELETE", f"applications/{name}/operation", None, project="default")
            except ApiRefused as refused:
                if "No operation is in progress" not in refused.text:
                    raise
                return "operation" not in self.application(name)
            return True

        self.cluster.wait_until(told, f"the operation of {name} is terminated")

    def delete_application(self, name: str) -> None:
        """Deletes an application; what it made stays."""
        with contextlib.suppress(ApiRefused):
            self.terminate(name)
        with contextlib.suppress(ApiRefused):
            self.api.request("DELETE", f"applications/{name}", None, project="default", cascade="false")

    def _apply(self, directory: Path, *options: str) -> None:
        self.cluster.kubectl("apply", *options, "--filename", str(directory))

    def _configure(self, name: str, change: Callable[[Mapping[str, str]], Mapping[str, str]]) -> None:
        path = f"/api/v1/namespaces/{NAMESPACE}/configmaps/{name}"
        data = self.cluster.api.get(path).get("data") or {}
        self.cluster.api.patch(path, {"data": dict(change(data))}, MERGE)

    def _logged_in(self) -> bool:
        try:
            answer = Api(self.url).request("POST", "session", {"username": ADMINISTRATOR, "password": self.password})
        except errors.Unavailable:
            return False
        self.api = Api(self.url, str(answer["token"]))
        return True


def _ended(state: Mapping[str, Any]) -> bool:
    return state.get("phase") in ("Succeeded", "Failed", "Error")


def _marked(state: Mapping[str, Any], mark: str) -> bool:
    return mark in json.dumps((state.get("operation") or {}).get("info") or [])
