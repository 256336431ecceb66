"""fleet.yaml's models: services, environments, and the settings of a service in an environment (`Target`).

Everything that names a database, a Vault path, a namespace or a work pool is derived here and nowhere else. Nothing in here is a secret.
The order of environments is the order of promotion. `tasks.fleet` reads the file.
"""

from __future__ import annotations

import difflib
import enum
import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PrivateAttr, field_validator, model_validator

from migrator import errors, house_rules, targets
from migrator.address import naming
from tasks.credentials import sources
from tasks.credentials.source import Keys, Source
from tasks.credentials.sources import AnySource
from tasks.fleet.argocd_section import ArgoCD
from tasks.fleet.job_section import Job
from tasks.fleet.rules_section import AcceptedHazard, ApprovalRules, Rules, SchemaDifferences

Engine = targets.Engine
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,51}[a-z0-9])?")
"""RFC 1123 label of at most 53 characters: names become Kubernetes objects with a suffix such as `-migration` (label limit 63)."""

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Model(BaseModel):
    """Base of the file's models: unknown keys are refused, and a model never changes after it was read."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)


def _label(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError(f'"{value}" is not a name: use lower-case letters, digits and "-", at most 53 characters')
    return value


def _relative(value: str) -> str:
    if "\0" in value or not value:
        raise ValueError("a directory must be named")
    return value


Label = Annotated[str, AfterValidator(_label)]


class WorkloadKind(enum.StrEnum):
    """The kinds of Kubernetes object whose rollout is awaited."""

    DEPLOYMENT = "Deployment"
    STATEFUL_SET = "StatefulSet"
    DAEMON_SET = "DaemonSet"
    ROLLOUT = "Rollout"


class Workload(Model):
    """The object whose rollout ends a release. An empty `name` stands for the service's, an empty `container` for the first container."""

    kind: WorkloadKind = WorkloadKind.DEPLOYMENT
    name: str = ""
    container: str = ""


class AfterMigrate(Model):
    """A command that runs after a migration that changed something, in the listed environments (in all, when none is listed).

    `{service}` and `{environment}` in its words are replaced. It sees DATABASE_URL in its environment, never in its arguments.
    """

    run: Annotated[tuple[str, ...], Field(min_length=1)]
    environments: tuple[str, ...] = ()


class Check(Model):
    """A command that must succeed before a migration. It gets references, never a password; `{service}` and `{environment}` are replaced."""

    run: Annotated[tuple[str, ...], Field(min_length=1)]


class VaultPaths(Model):
    """The place of the secrets: a KV version 2 mount and a path with {environment}, {service} and {store} in it."""

    mount: str = "secret"
    path: str = "{environment}/{service}/{store}"
    keys: Keys = Keys()

    @field_validator("mount")
    @classmethod
    def _as_the_command_takes_it(cls, value: str) -> str:
        mount = value.strip("/")
        if mount.endswith("/data"):
            own = mount.removesuffix("/data")
            raise ValueError(f"write {own}, as `vault kv get -mount={own}` takes it: data/ belongs to the API's paths")
        return mount


class Environment(Model):
    """One environment. `suffix` is the end of its databases' names; a protected one is entered only with an approval and never rolled back.
    `credentials` is the source for those of its services that name none themselves.

    `parameters` are added to the connection URL, per engine (`postgres: {sslmode: require}`). Each `preflight` command must succeed before
    a migration that would change something. `approval` tightens the policy of its worker. `schema_differences` says what becomes of a service whose
    schema differs from that of the environment before at the same bundle.
    """

    suffix: str = ""
    aliases: tuple[str, ...] = ()
    protected: bool = False
    namespace: str = ""
    work_pool: str = ""
    kube_context: str = ""
    parameters: Mapping[Engine, Mapping[str, str]] = {}
    preflight: tuple[Check, ...] = ()
    approval: ApprovalRules = ApprovalRules()
    schema_differences: SchemaDifferences = SchemaDifferences.WARN
    credentials: AnySource | None = None
    argocd: ArgoCD = ArgoCD()


class Service(Model):
    """One service and its database. `database` is the base name, without an environment's suffix.

    `port` is used when the secret has none; `owner_role` is taken with SET ROLE after login (PostgreSQL). `env` and the connection's own
    POSTGRES_* or CLICKHOUSE_* values are what `${NAME}` in a migration may name; the password is among them only with `substitute_password`.
    `credentials` is the source of the database's credentials; without it the environment's is used, else the fleet's.
    """

    engine: Engine
    database: str
    migrations: Annotated[str, AfterValidator(_relative)]
    depends_on: tuple[str, ...] = ()
    workload: Workload = Workload()
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    owner_role: str = ""
    parameters: Mapping[str, str] = {}
    env: Mapping[str, str] = {}
    substitute_password: bool = False
    after_migrate: tuple[AfterMigrate, ...] = ()
    credentials: AnySource | None = None
    job: Job = Job()
    argocd: ArgoCD = ArgoCD()
    accepted_hazards: tuple[AcceptedHazard, ...] = ()

    @model_validator(mode="after")
    def _names(self) -> Service:
        for name in self.env:
            if not _VARIABLE.fullmatch(name):
                raise ValueError(f'env: "{name}" is not a name of a variable')
        return self


class Target(BaseModel):
    """One service in one environment: everything that a step needs to know, and no secret. Equal targets are the same database."""

    model_config = ConfigDict(frozen=True)

    service: str
    environment: str
    engine: Engine
    base: str
    suffix: str
    vault_mount: str
    vault_path: str
    secret_keys: Keys  # not `keys`: Prefect walks parameters with dict(), which would call it
    namespace: str
    work_pool: str
    kube_context: str
    workload: Workload
    root: str
    directory: str
    protected: bool
    source: Source = sources.VAULT
    port: int | None = None
    owner_role: str = ""
    parameters: Mapping[str, str] = {}
    env: Mapping[str, str] = {}
    substitute_password: bool = False
    after_migrate: tuple[AfterMigrate, ...] = ()
    preflight: tuple[Check, ...] = ()
    job: Job = Job()
    argocd: ArgoCD = ArgoCD()
    rules: house_rules.Settings = house_rules.NONE
    accepted_hazards: tuple[AcceptedHazard, ...] = ()

    @property
    def database(self) -> str:
        """The database's name in this environment: `{base}{suffix}`."""
        return naming.database_name(self.base, self.suffix)

    @property
    def label(self) -> str:
        """The name as people write it: `dev/auth-service`."""
        return f"{self.environment}/{self.service}"

    def image(self, given: str) -> str:
        """Returns the release's image for a run's `image` (`job_section.Job.reference`)."""
        return self.job.reference(given)

    @property
    def secret(self) -> str:
        """The place of its credentials, as a reference: a Vault path, a directory, names of variables."""
        return self.source.reference(self)

    @property
    def limit(self) -> str:
        """The global concurrency limit that keeps one migration per database (prefect.md §3)."""
        return f"greylag-{self.service}-{self.environment}"


class Fleet(Model):
    """The whole file."""

    root: str = "."
    namespace: str = "{environment}"
    work_pool: str = "greylag-{environment}"
    vault: VaultPaths = VaultPaths()
    credentials: AnySource = sources.VAULT
    job: Job = Job()
    argocd: ArgoCD = ArgoCD()
    rules: Rules | None = None
    environments: Annotated[Mapping[Label, Environment], Field(min_length=1)]
    services: Annotated[Mapping[Label, Service], Field(min_length=1)]

    _path: Path = PrivateAttr(default=Path("fleet.yaml"))

    @property
    def path(self) -> Path:
        """The file that was read; directories are relative to its place."""
        return self._path

    def read_from(self, path: Path) -> Fleet:
        """Returns the same fleet, with `path` as the file that it came from."""
        found = self.model_copy()
        found._path = path
        return found

    @cached_property
    def aliases(self) -> dict[str, str]:
        """The environments' other names: alias -> name."""
        return {alias: name for name, item in self.environments.items() for alias in item.aliases}

    def environment_name(self, name: str) -> str:
        """Returns the environment's own name for a name or an alias (`production` is `prod`).

        Raises UsageError (`unknown-environment`).
        """
        found = self.aliases.get(name, name)
        if found in self.environments:
            return found
        raise _unknown("environment", "unknown-environment", name, [*self.environments, *self.aliases], self._path)

    def environment(self, name: str) -> Environment:
        """Returns an environment by name or alias. Raises UsageError (`unknown-environment`)."""
        return self.environments[self.environment_name(name)]

    def service(self, name: str) -> Service:
        """Returns a service by name. Raises UsageError (`unknown-service`)."""
        if name in self.services:
            return self.services[name]
        raise _unknown("service", "unknown-service", name, list(self.services), self._path)

    def previous(self, environment: str) -> str | None:
        """Returns the environment before this one in the order of promotion; None for the first."""
        names = list(self.environments)
        position = names.index(self.environment_name(environment))
        return names[position - 1] if position else None

    def before(self, environment: str) -> list[str]:
        """Returns the environments before this one in the order of promotion."""
        names = list(self.environments)
        return names[: names.index(self.environment_name(environment))]

    def prerequisites(self, service: str) -> frozenset[str]:
        """Returns every service that this one depends on, directly or not."""
        found: set[str] = set()
        waiting = list(self.service(service).depends_on)
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                waiting.extend(self.services[name].depends_on)
        return frozenset(found)

    def order(self, services: Iterable[str] = ()) -> tuple[tuple[str, ...], ...]:
        """Waves of services: each wave depends on earlier ones only, so its members may run side by side. None given means all.

        A dependency through a service that was not selected still counts.
        """
        selected = list(dict.fromkeys(services)) or list(self.services)
        needs = {name: self.prerequisites(name) & set(selected) for name in selected}
        waves: list[tuple[str, ...]] = []
        done: set[str] = set()
        while len(done) < len(selected):
            wave = tuple(name for name in self.services if name in needs and name not in done and needs[name] <= done)
            waves.append(wave)
            done.update(wave)
        return tuple(waves)

    def source(self, service: str, environment: str) -> Source:
        """Returns the source of a service's credentials in an environment, as it is written: the service's line, else the environment's, else the fleet's."""
        return self.service(service).credentials or self.environment(environment).credentials or self.credentials

    def target(self, service: str, environment: str) -> Target:
        """Returns a service in an environment. Raises UsageError (`unknown-service`, `unknown-environment`)."""
        found = self.service(service)
        place = self.environment(environment)
        name = self.environment_name(environment)
        words = {"environment": name, "service": service, "store": str(found.engine), "migrations": found.migrations.removeprefix("./")}
        workload = found.workload if found.workload.name else found.workload.model_copy(update={"name": service})
        return Target(
            service=service,
            environment=name,
            engine=found.engine,
            base=found.database,
            suffix=place.suffix,
            vault_mount=self.vault.mount,
            vault_path=_filled(self.vault.path, words),
            secret_keys=self.vault.keys,
            namespace=_filled(place.namespace or self.namespace, words),
            work_pool=_filled(place.work_pool or self.work_pool, words),
            kube_context=place.kube_context,
            workload=workload,
            root=str((self._path.parent / self.root).resolve()),
            directory=str((self._path.parent / self.root / found.migrations).resolve()),
            protected=place.protected,
            source=self.source(service, environment).filled(lambda text: _filled(text, words)),
            port=found.port,
            owner_role=_filled(found.owner_role, words),
            parameters={**place.parameters.get(found.engine, {}), **found.parameters},
            env=found.env,
            substitute_password=found.substitute_password,
            after_migrate=tuple(
                item.model_copy(update={"run": tuple(_filled(word, words) for word in item.run)})
                for item in found.after_migrate
                if not item.environments or name in map(self.environment_name, item.environments)
            ),
            preflight=tuple(Check(run=tuple(_filled(word, words) for word in item.run)) for item in place.preflight),
            job=self.job.overridden(found.job).filled(lambda text: _filled(text, words)),
            argocd=self.argocd.overridden(place.argocd).overridden(found.argocd).filled(lambda text: _filled(text, words)),
            rules=self.rules.settings if self.rules else house_rules.NONE,
            accepted_hazards=found.accepted_hazards,
        )

    def targets(self) -> tuple[Target, ...]:
        """Returns every service in every environment, in the order of promotion, dependencies first."""
        return tuple(self.target(name, place) for place in self.environments for wave in self.order() for name in wave)


_WORD = re.compile(r"\{(\w+)\}")


def _filled(template: str, words: Mapping[str, str]) -> str:
    """Replaces the words in braces as `str.format` does, but plain words only: other braces stay as they are."""
    return _WORD.sub(lambda found: words.get(found[1], found[0]), template)


def words_of(template: str) -> frozenset[str]:
    """Returns the names in braces of a template."""
    return frozenset(_WORD.findall(template))


def _unknown(what: str, code: str, name: str, known: list[str], path: Path) -> errors.UsageError:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f'did you mean "{near[0]}"?' if near else f"{path.name} has {', '.join(known)}"
    return errors.UsageError(f'there is no {what} "{name}" in {path.name}', code=code, hint=hint)
