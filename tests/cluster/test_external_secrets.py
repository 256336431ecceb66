"""The freshness of an ExternalSecret on a real API server, with a real Vault, as the worker with exactly the printed rights. External Secrets is a double
(`external_secrets_double`): it can't be had as a Go module."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import SecretStr

from deployments.privileges import rendering
from migrator import errors
from sandbox.cluster.api import MERGE
from sandbox.vault import openbao_server
from tasks import settings
from tasks.fleet.models import Target
from tasks.job import freshness
from tasks.kubernetes import api as kubernetes_api
from tasks.request import Request
from tests import needs
from tests.cluster.external_secrets import external_secret
from tests.cluster.external_secrets_double import MISSING, ExternalSecretsDouble, VaultStore
from tests.cluster.job_stage import SECRET, JobStage

pytestmark = pytest.mark.cluster

PATH = "apps/dev/auth-service"
POLICY = f'path "secret/data/{PATH}" {{ capabilities = ["read"] }}'


class Place:
    """One service with an ExternalSecret, whose run is the worker."""

    def __init__(self, stage: JobStage, double: ExternalSecretsDouble, ask: Callable[..., None]) -> None:
        self.stage, self.double, self.ensure = stage, double, ask
        self.told: list[str] = []

    @property
    def path(self) -> str:
        return f"/apis/external-secrets.io/v1/namespaces/{self.stage.namespace.name}/externalsecrets"

    def held(self) -> str:
        """The password in the Secret."""
        import base64

        found = self.stage.namespace.get("secret", SECRET)
        return base64.b64decode(found["data"]["password"]).decode() if found else ""

    def refused(self, code: str, **given: Any) -> errors.GreylagError:
        with pytest.raises(errors.GreylagError) as caught:
            self.ensure(**given)
        assert caught.value.code == code, caught.value
        assert caught.value.hint
        return caught.value


@pytest.fixture
def place(stage: JobStage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A service whose Secret an ExternalSecret makes, of a real Vault's data."""
    from kubernetes.config import kube_config

    needs.openbao()
    stage.job["external_secret"] = SECRET
    namespace, target = stage.namespace, stage.target
    namespace.delete("secret", SECRET)
    with openbao_server.OpenBaoServer(tmp_path / "openbao") as vault, ExternalSecretsDouble(namespace.cluster, namespace.name) as double:
        double.store = VaultStore(vault)
        double.store[PATH] = {**stage.parts, "password": "first"}
        namespace.apply(external_secret(SECRET, PATH))
        printed = [rendering.kubernetes([target]), rendering.admission([target])]
        namespace.apply(*(found for text in printed for found in yaml.safe_load_all(text)))
        worker = namespace.cluster.service_account_kubeconfig(namespace.name, rendering.WORKER)
        monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(worker))
        vault.request("PUT", "sys/policies/acl/dev", {"policy": POLICY})
        login = {"vault_address": vault.url, "vault_token": SecretStr(vault.create_token("dev"))}

        def ask(*, patience: float = 30.0, changes: Callable[[Target], Target] = lambda found: found) -> None:
            chosen = settings.load().model_copy(update={**login, "job_patience_seconds": patience})
            request = Request(changes(stage.target), SecretStr(stage.dbstring), settings=chosen)
            freshness.ensure(request, lambda _, text: made.told.append(text), secret=SECRET)

        made = Place(stage, double, ask)
        namespace.wait("secret", SECRET, lambda _: True, "is made")
        yield made
    for found in yaml.safe_load_all(rendering.admission([target])):
        plural = "validatingadmissionpolicies" if found["kind"].endswith("Policy") else "validatingadmissionpolicybindings"
        namespace.cluster.api.delete(f"/apis/admissionregistration.k8s.io/v1/{plural}/{found['metadata']['name']}")


def test_a_password_that_was_changed_is_in_the_secret_before_the_job_and_what_keeps_it_out_is_named(place: Place) -> None:
    assert place.held() == "first"
    place.double.store[PATH] = {**place.stage.parts, "password": "second"}
    assert place.held() == "first"  # nothing happens by itself for an hour
    place.ensure()
    assert place.held() == "second" and "from version 2 of secret/" in place.told[-1]
    place.ensure()  # the value is the same, and it is synced anew nevertheless

    with place.double.away():
        place.double.store[PATH] = {**place.stage.parts, "password": "third"}
        stale = place.refused("secret-stale", patience=2.0)
        assert stale.transient and place.held() == "second"
    place.ensure()
    assert place.held() == "third"

    del place.double.store[PATH]
    gone = place.refused("secret-missing")  # the run's own login is asked first
    assert PATH in gone.message
    place.double.store[PATH] = {**place.stage.parts, "password": "fourth"}
    place.ensure()

    patch = {"spec": external_secret(SECRET, "apps/dev/absent")["spec"]}
    place.stage.namespace.cluster.api.patch(f"{place.path}/{SECRET}", patch, MERGE)
    failed = place.refused("external-secret-failed")
    assert MISSING in failed.message and "apps/dev/absent" in failed.message and not failed.transient
    assert place.held() == "fourth"

    place.double.store["apps/dev/moved"] = {**place.stage.parts, "password": "another"}
    patch = {"spec": external_secret(SECRET, "apps/dev/moved")["spec"]}
    place.stage.namespace.cluster.api.patch(f"{place.path}/{SECRET}", patch, MERGE)
    assert "it reads apps/dev/moved" in place.refused("external-secret-other").message
    pinned = external_secret(SECRET, PATH)["spec"]
    for item in pinned["data"]:
        item["remoteRef"]["version"] = "9"
    place.stage.namespace.cluster.api.patch(f"{place.path}/{SECRET}", {"spec": pinned}, MERGE)
    assert "pinned to version 9" in place.refused("external-secret-other").message

    place.stage.namespace.cluster.api.delete(f"{place.path}/{SECRET}")
    place.refused("external-secret-missing")


def test_the_worker_may_set_the_annotation_and_change_nothing_else(place: Place) -> None:
    from kubernetes import client
    from kubernetes.config import kube_config

    from sandbox.cluster import kubeconfigs

    api = kubernetes_api.connect(kubeconfigs.CONTEXT)
    name = place.stage.namespace.name
    api.force_sync(name, SECRET, "1")
    connection = client.CustomObjectsApi(kube_config.new_client_from_config(context=kubeconfigs.CONTEXT))

    def patch(body: Any) -> None:
        group, version = kubernetes_api.EXTERNAL_SECRETS
        connection.patch_namespaced_custom_object(group, version, name, "externalsecrets", SECRET, body)

    denied: list[tuple[Callable[[str], Any], str]] = [
        (lambda value: {"spec": {"refreshInterval": f"{value}h"}}, "changes nothing of what it reads"),
        (lambda value: {"metadata": {"labels": {"a": value}}}, "changes no label"),
        (lambda value: {"metadata": {"annotations": {"argocd.argoproj.io/sync-wave": value}}}, "the annotation force-sync, and no other"),
    ]
    attempts = iter(range(2, 10_000))  # a change each time: the server begins to ask a new policy after some seconds

    def is_denied(body: Any, words: str) -> bool:
        try:
            patch(body)
        except client.ApiException as refused:
            assert words in str(refused.body), refused.body
            return True
        return False

    for body, words in denied:
        place.stage.namespace.cluster.wait_until(lambda body=body, words=words: is_denied(body(str(next(attempts))), words), words, 60)
    api.force_sync(name, SECRET, "2")
    assert kubernetes_api.connect(kubeconfigs.CONTEXT).external_secret(name, SECRET) is not None
