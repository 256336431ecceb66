"""Which servers a plan is meant for: files that are written for a cluster are refused where nothing names it.

Without a cluster's name the history and the lock are one server's own. A run through each of two replicas then executes the same files twice, and
an INSERT in them as often as there are replicas:

    CREATE TABLE t ON CLUSTER main (…) ENGINE = ReplicatedMergeTree …;   -- on both servers, whoever sends it
    INSERT INTO t VALUES (1);                                            -- once per run, so twice

What counts is what is there, not what is declared: the stock configurations of older servers declare clusters (`test_shard_localhost` and its kin)
of hosts that are this very server or nobody, so the hosts of a cluster are asked who they are.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from migrator import errors
from migrator.clickhouse import failures
from migrator.clickhouse.reading import canonical, shapes
from migrator.clickhouse.session import Session, literal
from migrator.goose.statements import Statement
from migrator.planning.plans import Plan, Step

_WORDS = ("cluster", "replicated")
"""A statement for several servers holds one of these words, in whatever case; all others need not be sent to the server to be read."""


@dataclass(frozen=True, slots=True)
class Host:
    """A replica of a cluster as the server's configuration declares it."""

    name: str
    port: int
    address: str
    is_local: bool

    @property
    def elsewhere(self) -> bool:
        """Tells whether the host is another machine: a loopback address never is."""
        try:
            return not self.is_local and not ipaddress.ip_address(self.address).is_loopback
        except ValueError:  # a name that could not be resolved
            return not self.is_local


@dataclass(frozen=True, slots=True)
class Wanted:
    """A statement that is meant for several servers: the cluster that it names, or the engine that replicates."""

    step: Step
    statement: Statement
    cluster: str = ""
    engine: str = ""


def require_named(session: Session, plan: Plan) -> None:
    """Refuses a plan whose files are written for several servers, of which this one is one.

    Raises:
        PlanRefused: `cluster-unnamed`, with the parameter to add to the address.
        failures.Refusal, failures.Lost.
    """
    wanted = list(_wanted(session, plan.steps))
    if not wanted:
        return
    macros = {str(name): str(value) for name, value in session.rows("SELECT macro, substitution FROM system.macros")}
    own = _clusters_of_this_server(session) if any(item.engine for item in wanted) else []
    several: dict[str, list[Host]] = {}
    for item in wanted:
        named = re.sub(r"\{(\w+)\}", lambda found: macros.get(found[1], found[0]), item.cluster)
        usual = macros.get("cluster", "")
        candidates = [named] if named else []
        if item.engine:
            candidates += ([usual] if usual in own else []) + own
        for cluster in dict.fromkeys(candidates):
            if cluster not in several:
                several[cluster] = _hosts_if_several(session, cluster)
            if several[cluster]:
                raise _refusal(item, cluster, several[cluster])


def _wanted(session: Session, steps: Sequence[Step]) -> Iterator[Wanted]:
    found = [(step, item) for step in steps for item in step.statements if any(word in item.text.lower() for word in _WORDS)]
    lines = canonical.canonical(session, [statement.text for _, statement in found]) if found else []
    for (step, statement), line in zip(found, lines, strict=True):
        shape = shapes.read(line, session.database) if line else None
        if shape is not None and (shape.cluster or shape.engine.startswith("Replicated")):
            yield Wanted(step, statement, shape.cluster, shape.engine if shape.engine.startswith("Replicated") else "")


def _clusters_of_this_server(session: Session) -> list[str]:
    """Returns the clusters that declare this server as one of several replicas, the largest first."""
    rows = session.rows(
        "SELECT cluster FROM system.clusters GROUP BY cluster HAVING count() > 1 AND max(is_local) ORDER BY count() DESC, cluster"
    )
    return [str(row[0]) for row in rows]


def _hosts_if_several(session: Session, cluster: str) -> list[Host]:
    """Returns the hosts of a cluster that is more than one server; none where it is one server, or where the server knows no such cluster.

    The hosts are asked who they are. A host that does not answer is nobody if it would be on this machine, and somebody if it would be elsewhere.
    """
    rows = session.rows(
        f"SELECT host_name, port, host_address, is_local FROM system.clusters WHERE cluster = {literal(cluster)} ORDER BY shard_num, replica_num"
    )
    hosts = [Host(str(name), int(port), str(address), bool(local)) for name, port, address, local in rows]
    if len(hosts) < 2:
        return []
    try:
        answers = session.rows(
            f"SELECT serverUUID(), hostName(), tcpPort() FROM clusterAllReplicas({literal(cluster)}, system.one)",
            {"skip_unavailable_shards": 1},
        )
    except failures.Refusal:  # no right to ask: what is declared counts
        return [] if all(host.is_local for host in hosts) else hosts
    if len({tuple(answer) for answer in answers}) > 1:
        return hosts
    return hosts if len(answers) < len(hosts) and any(host.elsewhere for host in hosts) else []


def _refusal(wanted: Wanted, cluster: str, hosts: Sequence[Host]) -> errors.PlanRefused:
    said = f"says ON CLUSTER {wanted.cluster}" if wanted.cluster else f"makes a table of engine {wanted.engine}"
    listed = ", ".join(f"{host.name}:{host.port}" for host in hosts[:8]) + (", …" if len(hosts) > 8 else "")
    parameter = f"greylag_profile=on_cluster&greylag_cluster={quote(cluster, safe='')}"
    where = errors.Location(wanted.step.path, wanted.statement.first_line)
    return errors.PlanRefused(
        f"{wanted.step.name} {said}, and the cluster {cluster} is {len(hosts)} servers ({listed}), but the address names no cluster:"
        " history and lock would be this server's alone, and a run through another one would execute the same files again",
        code="cluster-unnamed",
        hint=f"add {parameter} to the address; or insist with greylag_profile=single, if every run goes through this one server",
        where=where,
    )
