"""Lossy hazards that are accepted one by one: per file and code, with a reason that the plan shows; every other one is still refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from migrator import cli, errors
from migrator.planning import files, plans
from migrator.planning.history import History
from migrator.planning.planner import plan
from migrator.targets import Engine, Target, Verb
from tasks import fleet, migration
from tasks.job import manifest

GLUED = "-- +goose Up\n-- +goose StatementBegin\nSELECT 1;\nSELECT 2;\n-- +goose StatementEnd\n"
"""Two commands in one block, which ClickHouse refuses."""
CUT = "-- +goose Up\nCREATE TABLE t (a text DEFAULT ';\n');\n"
REASON = "the second is meant for later: OPS-7"


def planned(directory: Path, *accepted: plans.Acceptance, engine: Engine = Engine.CLICKHOUSE, everything: bool = False) -> plans.Plan:
    policy = plans.Policy(accept_hazards=everything, accepted=accepted)
    return plan(files.load(directory), History(engine, exists=False), Target(Verb.UP), engine=engine, policy=policy)


def lossy(directory: Path, engine: Engine = Engine.CLICKHOUSE) -> str:
    with pytest.raises(errors.PlanRefused) as caught:
        planned(directory, engine=engine)
    return caught.value.code


def test_an_accepted_hazard_is_planned_and_told_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "00001_seed.sql").write_text(GLUED, encoding="utf-8")
    code = lossy(tmp_path)
    found = planned(tmp_path, plans.Acceptance("00001_seed.sql", code, REASON))
    assert [item.code for item in found.remarks] == ["hazard-accepted"]
    assert REASON in found.remarks[0].message and f"[{code}]" in found.remarks[0].message and "00001_seed.sql:" in found.remarks[0].message
    assert found.document()["steps"][0]["accepted"] == [{"hazard": code, "reason": REASON}]  # type: ignore[index]
    without = planned(tmp_path, everything=True)
    assert without.digest == found.digest, "what runs is the same"
    assert without.steps[0].accepted == (plans.Acceptance("00001_seed.sql", code, "-accept-hazards"),)


@pytest.mark.parametrize("engine", list(Engine))
def test_bad_flow_another_file_and_another_hazard_are_still_refused(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "00001_cut.sql").write_text(CUT, encoding="utf-8")
    (tmp_path / "00002_cut.sql").write_text(CUT, encoding="utf-8")
    code = lossy(tmp_path, engine)
    for accepted in (
        plans.Acceptance("00001_cut.sql", code, REASON),
        plans.Acceptance("00002_cut.sql", code, REASON),
        plans.Acceptance("00001_cut.sql", "own-transaction", REASON),
        plans.Acceptance("1_cut.sql", code, REASON),
    ):
        with pytest.raises(errors.PlanRefused) as caught:
            planned(tmp_path, accepted, engine=engine)
        assert caught.value.code == code
        assert f"-accept-hazard {Path(str(caught.value.where.path)).name}:{code}:REASON" in caught.value.hint  # type: ignore[union-attr]
    both = (plans.Acceptance(name, code, REASON) for name in ("00001_cut.sql", "00002_cut.sql"))
    assert len(planned(tmp_path, *both, engine=engine).steps) == 2


@pytest.mark.parametrize("text", ["00001_x.sql", "00001_x.sql:several-commands", "00001_x.sql:several-commands: ", "::why"])
def test_bad_flow_an_acceptance_without_a_reason_is_no_acceptance(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "00001_x.sql").write_text(GLUED, encoding="utf-8")
    assert cli.main(["-dir", str(tmp_path), "-accept-hazard", text, "postgres", "postgres://u@127.0.0.1:1/d", "plan"]) == 2
    assert "-accept-hazard takes FILE:CODE:REASON" in capsys.readouterr().err


FLEET = """
environments: {{dev: {{suffix: _dev}}}}
services:
  shop:
    engine: clickhouse
    database: shop
    migrations: m
    accepted_hazards:
      - {line}
"""


def written(tmp_path: Path, line: str) -> fleet.Fleet:
    path = tmp_path / "fleet.yaml"
    path.write_text(FLEET.format(line=line), encoding="utf-8")
    return fleet.load(path)


def test_fleet_yaml_accepts_per_file_and_every_run_of_a_flow_takes_it(tmp_path: Path) -> None:
    target = written(tmp_path, f"{{file: 00001_seed.sql, hazard: several-commands, reason: '{REASON}'}}").target("shop", "dev")
    policy = migration.policy_of(target, plans.ACCEPT_NOTHING)
    assert policy.acceptance("00001_seed.sql", "several-commands") == plans.Acceptance("00001_seed.sql", "several-commands", REASON)
    assert policy.acceptance("00002_seed.sql", "several-commands") is None
    assert manifest._acceptances(target) == ["-accept-hazard", f"00001_seed.sql:several-commands:{REASON}"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{file: seed.sql, hazard: several-commands, reason: x}", "no migration file's name"),
        ("{file: m/00001_seed.sql, hazard: several-commands, reason: x}", "00001_seed.sql"),
        ("{file: 00001_seed.sql, hazard: several-comands, reason: x}", "did you mean several-commands?"),
        ("{file: 00001_seed.sql, hazard: lock-budget, reason: x}", 'there is no hazard "lock-budget"'),
        ("{file: 00001_seed.sql, hazard: several-commands}", "reason"),
        ("{file: 00001_seed.sql, hazard: several-commands, reason: '  '}", "reason"),
        ("{file: 00001_seed.sql, hazard: several-commands, reason: x, until: 2027}", "until"),
    ],
)
def test_bad_flow_an_acceptance_that_means_nothing_is_refused_where_it_is_read(line: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(errors.UsageError) as caught:
        written(tmp_path, line)
    assert said in str(caught.value)
