"""`greylag doctor` on a real cluster with a real Vault, real databases and a real Argo CD, as the worker with exactly the printed rights: a healthy system is
clean, each row of the recipe's troubleshooting table is provoked and named, and so is each of the further breakages, or it is said that it can't be known.

External Secrets is a double (`external_secrets_double`): it can't be had as a Go module.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from deployments.privileges import rendering
from migrator import cli
from sandbox import ports
from sandbox.argocd.installation import ArgoCD
from sandbox.argocd.repository import Repository
from sandbox.cluster.api import MERGE, Object
from sandbox.databases import clickhouse
from sandbox.databases.clickhouse import ClickHouseServer
from tests.cluster import manifests
from tests.cluster.external_secrets import external_secret
from tests.cluster.external_secrets_double import MISSING, ExternalSecretsDouble, VaultStore
from tests.cluster.fleet_stage import ENVIRONMENTS, RBAC, SERVE, FleetStage, become
from tests.cluster.workloads import Namespace, condition, configmap, container, deployment, job

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

SERVICE = "auth-service"
SECRET = "auth-service-postgres-credentials"
MIGRATE = "auth-service-migrate"
Told = Mapping[str, Any]
Broken = contextlib.AbstractContextManager[object]


@dataclass
class Clinic:
    """dev of a fleet, deployed and healthy, with an application of Argo CD."""

    stage: FleetStage
    argocd: ArgoCD
    repository: Repository
    clickhouse: ClickHouseServer
    capture: pytest.CaptureFixture[str] | None = None

    @property
    def namespace(self) -> Namespace:
        return self.stage.namespace()

    @property
    def application(self) -> str:
        return self.namespace.name

    @property
    def secrets(self) -> str:
        return f"/apis/external-secrets.io/v1/namespaces/{self.namespace.name}/externalsecrets"

    def doctor(self, service: str = SERVICE) -> tuple[int, list[Told]]:
        """What it says: the exit code, and each link."""
        assert self.capture is not None
        self.capture.readouterr()
        code = cli.main(["doctor", f"@dev/{service}", "-json"])
        out, err = self.capture.readouterr()
        assert "Traceback" not in err
        return code, json.loads(out)["links"]

    def release(self, *objects: Object) -> None:
        """Commits what the application consists of, beside a ConfigMap, and has Argo CD see it."""
        self.repository.commit({"app/all.yaml": manifests.text(configmap("settings", a="b"), *objects)})
        self.argocd.application(self.application, refresh=True)

    def settle(self) -> None:
        """Brings the application to its healthy state."""
        self.release()
        assert self.argocd.synced(self.application, prune=True)["phase"] == "Succeeded"
        self.argocd.application(self.application, refresh=True)

    def available(self) -> None:
        self.stage.deploy()
        self.namespace.wait("deployment", SERVICE, lambda found: condition(found, "Available") and not surplus(found), "is available")


def surplus(found: Object) -> bool:
    status = found.get("status") or {}
    whole = status.get("updatedReplicas") == status.get("replicas") == status.get("availableReplicas") == 1
    return not whole or status.get("observedGeneration") != found["metadata"]["generation"]


@pytest.fixture(scope="module")
def built(
    fleet_stage: FleetStage, argocd: ArgoCD, clickhouse_server: ClickHouseServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Clinic]:
    """The clinic's house: everything is installed, migrated by a Job, deployed and synced."""
    stage = fleet_stage
    path = stage.directory / "fleet.yaml"
    application = stage.namespace().name
    written = yaml.safe_load(path.read_text(encoding="utf-8"))
    written["job"]["external_secret"] = "{service}-{store}-credentials"
    written["argocd"] = {"server": argocd.url, "application": application}
    written["services"]["audit-service"] = {
        "engine": "clickhouse",
        "database": f"audit_{stage.tag}",
        "migrations": "services/audit-service/migrations",
    }
    path.write_text(yaml.safe_dump(written), encoding="utf-8")
    stage.write("20250101000000_events.sql", "-- +goose Up\nCREATE TABLE e (id String) ENGINE = MergeTree ORDER BY id;\n", "audit-service")
    repository = Repository(tmp_path_factory.mktemp("application") / "repository")
    made = Clinic(stage, argocd, repository, clickhouse_server)
    namespace, targets = stage.namespace(), [stage.target(), stage.target(service="audit-service")]
    for environment in ENVIRONMENTS:
        printed = [part([stage.target(environment)]) for part in (rendering.kubernetes, rendering.admission)]
        stage.namespace(environment).apply(*(found for text in printed for found in yaml.safe_load_all(text)))
    stage.policy("dev", rendering.vault(targets))
    with ExternalSecretsDouble(stage.cluster, namespace.name) as double:
        double.store = VaultStore(stage.vault)
        namespace.apply(external_secret(SECRET, stage.target().vault_path))
        made.available()
        repository.commit({"app/all.yaml": manifests.text(configmap("settings", a="b"))})
        argocd.create_application(application, repository, "app", namespace.name)
        made.settle()
        yield made
    argocd.delete_application(application)


@pytest.fixture(scope="module")
def token(built: Clinic) -> str:
    """The token of an account that may get and sync the one application."""
    rights = (f"applications, {verb}, default/{built.application}, allow" for verb in ("get", "sync"))
    return built.argocd.account(f"greylag-{built.application}", *rights).token


@pytest.fixture
def clinic(built: Clinic, token: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Clinic:
    """The clinic, this process being dev's worker; its first patient's migration is done by a Job."""
    become(monkeypatch, built.stage, "dev")
    monkeypatch.setenv("GREYLAG_ARGOCD_TOKEN", token)
    built.capture = capsys
    if not built.stage.versions():
        migrate(built)
    return built


def migrate(clinic: Clinic) -> None:
    from tasks import credentials, database_url, migration
    from tasks.job import freshness, running
    from tasks.request import Request

    target = clinic.stage.target()
    found = credentials.fetch(target)
    request = Request(target, database_url.encode(found, target), env=migration.substitutions(target, found), deadline=120.0)
    freshness.ensure(request, lambda *_: None, secret=target.job.secret)
    running.run(request, image=clinic.stage.image.name, tell=lambda *_: None)


def test_a_healthy_system_is_clean(clinic: Clinic, record_property: Callable[[str, object], None]) -> None:
    words = [str(Path(sys.executable).parent / "greylag"), "doctor", f"@dev/{SERVICE}"]
    began = time.monotonic()
    done = subprocess.run(words, capture_output=True, encoding="utf-8", check=False)
    record_property("seconds", round(time.monotonic() - began, 2))  # the promise is 5; docs/commands/doctor.md has what was measured
    assert (done.returncode, "broken" in done.stdout) == (0, False), done.stdout + done.stderr
    code, links = clinic.doctor()
    assert code == 0, links
    assert {item["link"]: item["state"] for item in links} == {
        **dict.fromkeys(("fleet entry", "migration files", "credentials", "URL", "DNS", "TCP", "login and database", "privileges"), "ok"),
        **dict.fromkeys(("lock", "history", "cluster", "ExternalSecret", "migration Job", "workload", "Argo CD application"), "ok"),
        **dict.fromkeys(("chart values", "ConfigMap"), "not used"),
    }


# --- what is broken, and taken back ------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def secret(clinic: Clinic, *without: str, **changes: object) -> Iterator[None]:
    """Vault's secret with other values, or without keys; External Secrets does not hear of it."""
    target = clinic.stage.target()
    data = {name: value for name, value in clinic.stage.secret(**changes).items() if name not in without}
    clinic.stage.vault.write_secret(target.vault_path, data)
    try:
        yield
    finally:
        clinic.stage.secret()


@contextlib.contextmanager
def file(clinic: Clinic, text: str, service: str = SERVICE, name: str = "20250102000000_more.sql") -> Iterator[None]:
    """A migration file that is there, or says something else than before."""
    path = clinic.stage.directory / "services" / service / "migrations" / name
    before = path.read_text(encoding="utf-8") if path.exists() else None
    path.write_text(text, encoding="utf-8")
    try:
        yield
    finally:
        path.unlink() if before is None else path.write_text(before, encoding="utf-8")


@contextlib.contextmanager
def variable(name: str, value: str) -> Iterator[None]:
    """A variable of the worker."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(name, value)
        yield


@contextlib.contextmanager
def sql(clinic: Clinic, broken: str, mended: str) -> Iterator[None]:
    """What an administrator does to the database."""
    clinic.stage.sql("dev", broken)
    try:
        yield
    finally:
        clinic.stage.sql("dev", mended)


@contextlib.contextmanager
def values(clinic: Clinic, text: str) -> Iterator[None]:
    """The service's values file in the checkout."""
    path = clinic.stage.directory / "deployments" / "chart" / "service" / "values" / f"{SERVICE}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    try:
        yield
    finally:
        path.unlink()


@contextlib.contextmanager
def reads(clinic: Clinic, path: str) -> Iterator[None]:
    """The ExternalSecret reads another path; there is nothing."""

    def patched(key: str) -> None:
        clinic.stage.cluster.api.patch(f"{clinic.secrets}/{SECRET}", {"spec": external_secret(SECRET, key)["spec"]}, MERGE)

    def ready() -> bool:
        return bool(condition(clinic.stage.cluster.api.find(f"{clinic.secrets}/{SECRET}"), "Ready"))

    patched(path)
    try:
        yield
    finally:
        patched(clinic.stage.target().vault_path)
        clinic.stage.cluster.wait_until(ready, "it is synced again")


@contextlib.contextmanager
def newest_job(clinic: Clinic, made: Object, **pod: Any) -> Iterator[None]:
    """A newer migration Job than the one that has migrated."""
    time.sleep(1.1)  # times of creation are whole seconds
    made["spec"]["template"]["spec"] |= pod
    clinic.namespace.create(made)
    try:
        yield
    finally:
        clinic.namespace.delete("job", made["metadata"]["name"], propagationPolicy="Foreground")
        clinic.namespace.gone("job", made["metadata"]["name"])


@contextlib.contextmanager
def deployed(clinic: Clinic, *containers: Object, **spec: Any) -> Iterator[None]:
    """Another release of the service's Deployment."""
    clinic.namespace.apply(deployment(SERVICE, *containers, **spec))
    try:
        yield
    finally:
        clinic.namespace.delete("deployment", SERVICE, propagationPolicy="Foreground")
        clinic.namespace.gone("deployment", SERVICE)
        clinic.available()


@contextlib.contextmanager
def released(clinic: Clinic, *objects: Object, gone: str = "", at_work: bool = False) -> Iterator[None]:
    """A release that Argo CD has synced, until it ends or for as long as it hangs."""
    clinic.release(*objects)
    if at_work:
        clinic.argocd.sync(clinic.application)
    else:
        clinic.argocd.synced(clinic.application)
    if gone:
        clinic.namespace.gone("job", gone)
        clinic.argocd.cluster.wait_until(lambda: status(clinic) == "OutOfSync", "the difference is seen")
    try:
        yield
    finally:
        if at_work:
            clinic.argocd.terminate(clinic.application)
            clinic.argocd.cluster.wait_until(lambda: "operation" not in clinic.argocd.application(clinic.application), "it is over")
        for name in (MIGRATE, "other"):
            with contextlib.suppress(Exception):
                clinic.namespace.delete("job", name, propagationPolicy="Background")
                clinic.namespace.gone("job", name)
        clinic.settle()


def status(clinic: Clinic) -> str:
    return str(clinic.argocd.application(clinic.application, refresh=True)["status"]["sync"]["status"])


@contextlib.contextmanager
def source_without_folder(clinic: Clinic) -> Iterator[None]:
    """The application's folder is gone from Git."""
    clinic.argocd.cluster.api.patch(
        f"/apis/argoproj.io/v1alpha1/namespaces/argocd/applications/{clinic.application}", {"spec": {"source": {"path": "nowhere"}}}, MERGE
    )
    clinic.argocd.application(clinic.application, refresh=True)
    try:
        yield
    finally:
        clinic.argocd.create_application(clinic.application, clinic.repository, "app", clinic.namespace.name)
        clinic.settle()


@contextlib.contextmanager
def without_rule(clinic: Clinic, resource: str) -> Iterator[None]:
    """The worker's Role without the rules about a resource."""
    path = f"{RBAC}/namespaces/{clinic.namespace.name}/roles/{rendering.WORKER}-jobs"
    role = clinic.stage.cluster.api.get(path)
    clinic.stage.cluster.api.patch(path, {"rules": [rule for rule in role["rules"] if resource not in rule["resources"]]}, MERGE)
    try:
        yield
    finally:
        clinic.stage.cluster.api.patch(path, {"rules": role["rules"]}, MERGE)
        clinic.stage.cluster.wait_until(lambda: all(item["state"] != "unknown" for item in clinic.doctor()[1]), "the rule is back")


@contextlib.contextmanager
def held_lock(clinic: Clinic) -> Iterator[None]:
    with psycopg.connect(clinic.stage.postgres.superuser_url(clinic.stage.target().database), autocommit=True) as holder:
        holder.execute("SELECT pg_advisory_lock(4097083626)")
        yield


@contextlib.contextmanager
def deleted_secret(clinic: Clinic) -> Iterator[None]:
    clinic.stage.vault.request("DELETE", f"secret/data/{clinic.stage.target().vault_path}")
    try:
        yield
    finally:
        clinic.stage.secret()


@contextlib.contextmanager
def policy(clinic: Clinic, text: str) -> Iterator[None]:
    targets = [clinic.stage.target(), clinic.stage.target(service="audit-service")]
    clinic.stage.policy("dev", text)
    try:
        yield
    finally:
        clinic.stage.policy("dev", rendering.vault(targets))


@contextlib.contextmanager
def audit(clinic: Clinic, text: str = "") -> Iterator[None]:
    """audit-service's secret, of a ClickHouse without its database; `text` is that of its file."""
    target, server = clinic.stage.target(service="audit-service"), clinic.clickhouse
    login = {"username": clickhouse.ADMIN, "password": server.admin_password, "database": target.database}
    data = {"host": server.host, "port": server.http_port, "http_port": server.http_port, **login}
    clinic.stage.vault.write_secret(target.vault_path, data)
    with file(clinic, text, "audit-service", "20250101000000_events.sql") if text else contextlib.nullcontext():
        yield


BODY = "-- +goose Up\nCREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN 1; END; $$;\n"
HARD_CODED = "-- +goose Up\nCREATE TABLE analytics_db.e (id String) ENGINE = MergeTree ORDER BY id;\n"
USERS = "20250101000000_create_users.sql"
OTHER = "-- +goose Up\nCREATE TABLE users (id bigint PRIMARY KEY);\n-- +goose Down\nDROP TABLE users;\n"
NOBODY = "registry.example/nobody/pushed:1"


def plain_job(script: str = "true", name: str = MIGRATE, hook: bool = False, **spec: Any) -> Object:
    made = job(name, script, **spec)
    if hook:
        made["metadata"]["annotations"] = {"argocd.argoproj.io/hook": "Sync", "argocd.argoproj.io/hook-delete-policy": "BeforeHookCreation"}
    return made


def with_pod(made: Object, **pod: Any) -> Object:
    made["spec"]["template"]["spec"] |= pod
    return made


def mounted(kind: str, source: Mapping[str, str]) -> dict[str, Any]:
    return {
        "containers": [container("true") | {"volumeMounts": [{"name": "it", "mountPath": "/it"}]}],
        "volumes": [{"name": "it", kind: dict(source)}],
    }


Case = tuple[Callable[[Clinic], Broken], str, str, str, str]
"""How it is broken; link, cause, the row of the recipe's table (empty for none), and a part of the evidence."""

ROWS: dict[str, Case] = {
    "Migration Job not created": (
        lambda c: values(c, "migration: {enabled: false}\n"),
        "chart values",
        "migration-disabled",
        "Migration Job not created",
        "migration.enabled is false",
    ),
    "ExternalSecret not found": (
        lambda c: reads(c, "apps/absent"),
        "ExternalSecret",
        "external-secret-failed",
        "ExternalSecret not found",
        MISSING,
    ),
    "invalid port": (lambda c: secret(c, port="54:32"), "credentials", "bad-port", "`invalid port` error", "not a number"),
    "connection refused": (
        lambda c: secret(c, port=ports.free_port()),
        "TCP",
        "port-closed",
        "`connection refused`",
        "Connection refused",
    ),
    "Job OutOfSync": (
        lambda c: released(c, plain_job(name="other", ttlSecondsAfterFinished=1), gone="other"),
        "Argo CD application",
        "application-job-gone",
        "Job OutOfSync in ArgoCD",
        "Job other is in Git and not in the cluster",
    ),
    "unknown database": (
        lambda c: audit(c),
        "login and database",
        "unknown-database",
        "`unknown database` (ClickHouse)",
        "does not exist",
    ),
    "PL/pgSQL parse error": (lambda c: file(c, BODY), "migration files", "bare-body", "PL/pgSQL parse error", "more.sql"),
    "hard-coded database": (
        lambda c: audit(c, HARD_CODED),
        "migration files",
        "hard-coded-database",
        "Hardcoded database name",
        "analytics_db",
    ),
}

BREAKAGES: dict[str, Case] = {
    "a key is missing": (lambda c: secret(c, "password"), "credentials", "key-missing", "", "password"),
    "another database": (
        lambda c: secret(c, database="postgres"),
        "URL",
        "wrong-database",
        "`unknown database` (ClickHouse)",
        "postgres",
    ),
    "a wrong password": (lambda c: secret(c, password="wrong"), "login and database", "login-failed", "", ""),
    "a host that there is not": (
        lambda c: secret(c, host="nowhere.invalid"),
        "DNS",
        "host-unknown",
        "`connection refused`",
        "nowhere.invalid",
    ),
    "the secret was deleted": (lambda c: deleted_secret(c), "credentials", "secret-deleted", "ExternalSecret not found", ""),
    "no right to read the secret": (
        lambda c: policy(c, 'path "secret/data/apps/else" { capabilities = ["read"] }'),
        "credentials",
        "vault-forbidden",
        "",
        "",
    ),
    "Vault is away": (
        lambda c: variable("GREYLAG_VAULT_ADDRESS", f"http://127.0.0.1:{ports.free_port()}"),
        "credentials",
        "vault-unreachable",
        "",
        "",
    ),
    "no right to connect": (
        lambda c: sql(
            c,
            f'REVOKE CONNECT ON DATABASE "{c.stage.target().database}" FROM PUBLIC, "{rendering.words(c.stage.target())["migrator"]}"',
            f'GRANT CONNECT ON DATABASE "{c.stage.target().database}" TO PUBLIC, "{rendering.words(c.stage.target())["migrator"]}"',
        ),
        "login and database",
        "login-failed",
        "",
        "CONNECT privilege",
    ),
    "the lock is held": (held_lock, "lock", "lock-held", "", "pid"),
    "an applied file was changed": (lambda c: file(c, OTHER, name=USERS), "history", "verification-failed", "", "20250101000000"),
    "a table was dropped by hand": (
        lambda c: sql(c, "ALTER TABLE users RENAME TO users_away", "ALTER TABLE users_away RENAME TO users"),
        "history",
        "verification-failed",
        "",
        "table public.users",
    ),
    "no such context": (lambda c: variable("GREYLAG_KUBE_CONTEXT", "elsewhere"), "cluster", "kube-context", "", "elsewhere"),
    "no ExternalSecret": (
        lambda c: other_name(c),
        "ExternalSecret",
        "external-secret-missing",
        "ExternalSecret not found",
        "there is no ExternalSecret",
    ),
    "the Job's image is missing": (
        lambda c: newest_job(c, plain_job(), containers=[container("true", image=NOBODY)]),
        "migration Job",
        "image-not-pulled",
        "",
        NOBODY,
    ),
    "the Job's ServiceAccount is missing": (
        lambda c: newest_job(c, plain_job(), serviceAccountName="nobody"),
        "migration Job",
        "pod-not-created",
        "",
        "nobody",
    ),
    "the Job's Secret is missing": (
        lambda c: newest_job(c, plain_job(), **mounted("secret", {"secretName": "no-such-secret"})),
        "migration Job",
        "",
        "",
        "no-such-secret",
    ),
    "the Job's ConfigMap is missing": (
        lambda c: newest_job(c, plain_job(), **mounted("configMap", {"name": "no-such-files"})),
        "migration Job",
        "",
        "",
        "no-such-files",
    ),
    "the Job failed": (
        lambda c: newest_job(c, plain_job("echo boom; exit 14", backoffLimit=0)),
        "migration Job",
        "migration-job-failed",
        "",
        "exit code 14;   | boom",
    ),
    "the Deployment's image is missing": (
        lambda c: deployed(c, container(SERVE, image=NOBODY)),
        "workload",
        "image-not-pulled",
        "",
        NOBODY,
    ),
    "the Deployment's ServiceAccount is missing": (
        lambda c: deployed(c, container(SERVE, image=c.stage.image.name), serviceAccountName="nobody"),
        "workload",
        "pod-not-created",
        "",
        "nobody",
    ),
    "the Deployment crashes": (
        lambda c: deployed(c, container("echo boom; exit 3", image=c.stage.image.name)),
        "workload",
        "crash-loop",
        "",
        "boom",
    ),
    "Argo CD's token is wrong": (
        lambda c: variable("GREYLAG_ARGOCD_TOKEN", "nonsense"),
        "Argo CD application",
        "argocd-login",
        "",
        "",
    ),
    "the application's folder is gone": (source_without_folder, "Argo CD application", "application-condition", "", "nowhere"),
    "the last sync failed": (
        lambda c: released(c, plain_job("exit 1", name="other", hook=True, backoffLimit=0)),
        "Argo CD application",
        "argocd-failed",
        "",
        "failed",
    ),
    "a hook is stuck": (
        lambda c: released(c, with_pod(plain_job(hook=True), serviceAccountName="nobody"), at_work=True),
        "migration Job",
        "pod-not-created",
        "",
        "nobody",
    ),
}


@contextlib.contextmanager
def other_name(clinic: Clinic) -> Iterator[None]:
    """fleet.yaml names an ExternalSecret that the cluster doesn't have, and the Role allows to read it."""
    path = clinic.stage.directory / "fleet.yaml"
    before = path.read_text(encoding="utf-8")
    path.write_text(before.replace("external_secret: '{service}", "external_secret: 'no-{service}"), encoding="utf-8")
    clinic.namespace.apply(*yaml.safe_load_all(rendering.kubernetes([clinic.stage.target()])))
    try:
        yield
    finally:
        path.write_text(before, encoding="utf-8")
        clinic.namespace.apply(*yaml.safe_load_all(rendering.kubernetes([clinic.stage.target()])))


def named(clinic: Clinic, case: Case) -> None:
    break_it, link, cause, row, words = case
    service = "audit-service" if "audit" in break_it.__code__.co_names else SERVICE
    with break_it(clinic):
        deadline = time.monotonic() + 45
        while True:  # the cluster's controllers take their time; what is asserted is what is said at last
            code, links = clinic.doctor(service)
            last = links[-1]
            if last["state"] == "broken" or time.monotonic() > deadline:
                break
            time.sleep(0.5)
        if record := os.environ.get("GREYLAG_TEST_TABLE"):
            with Path(record).open("a", encoding="utf-8") as written:
                written.write(json.dumps(last, ensure_ascii=False) + "\n")
        assert (code, last["link"], last["state"]) == (16, link, "broken"), last
        assert (last["row"], bool(last["hint"])) == (row, True), last
        assert words in last["evidence"] and (not cause or last["cause"] == cause), last
        assert clinic.stage.passwords["dev"] not in json.dumps(links, ensure_ascii=False)


@pytest.mark.parametrize("row", ROWS)
def test_each_row_of_the_recipes_table_is_provoked_and_named(clinic: Clinic, row: str) -> None:
    named(clinic, ROWS[row])


@pytest.mark.parametrize("breakage", BREAKAGES)
def test_a_breakage_is_named_at_its_link(clinic: Clinic, breakage: str) -> None:
    named(clinic, BREAKAGES[breakage])


@pytest.mark.parametrize(("resource", "link"), [("jobs", "migration Job"), ("externalsecrets", "ExternalSecret")])
def test_what_the_role_does_not_show_is_unknown_and_the_rule_is_named(clinic: Clinic, resource: str, link: str) -> None:
    with without_rule(clinic, resource):
        found: list[Told] = []

        def unseen() -> bool:
            found[:] = [item for item in clinic.doctor()[1] if item["link"] == link]
            return found[0]["state"] == "unknown"

        clinic.stage.cluster.wait_until(unseen, "the authorizer has seen the change")
        assert resource in found[0]["evidence"] and clinic.doctor()[0] == 0
